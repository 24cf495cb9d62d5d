"""Jobs that are paid for, and whose answers cannot be had, or cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import JobAbandoned, JobKept, JobOverdue, JobSubmitted, RunStopping
from pingdata_async.exceptions import (
    DecodeError,
    JobFailedError,
    NotFoundError,
    OutputUnavailableError,
    PingDataError,
    ServerError,
)
from pingdata_async.models import JobOutput, JobStatus, Reason, RowStatus
from pingdata_async.util.encoding import EncodedBody, too_large
from tests.simulation.faults import Fault, Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, run

COMPLETE = JobStatus(
    status="COMPLETE", result_status="SUCCESS", outputs=(JobOutput("/0", "output-0.json"),)
)
FAILED = JobStatus(status="FAILED")
AT_WORK = JobStatus(status="IN_PROGRESS")
UNKNOWN = NotFoundError("404", status_code=404)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def unavailable(*, said: JobStatus | None = COMPLETE) -> OutputUnavailableError:
    error = OutputUnavailableError("no way leads to it", status_code=403)
    error.job_status, error.is_job_unknown = said, said is None
    return error


class _Storage(SimulatedAPI):
    """Gives the outputs of some jobs as a test wants them.

    Args:
        gives: Makes an output of what it should be, or raises, from a time on.
        of: The jobs; None for all.
        for_s: For how long.
    """

    def __init__(
        self,
        gives: Callable[[bytes], bytes],
        *,
        of: Sequence[str] | None = ("job-1",),
        for_s: float = 1e9,
        delays_s: Mapping[int, float] | None = None,
        outputs: SpottyAnswers | None = None,
    ) -> None:
        super().__init__(delays_s=delays_s, outputs=outputs)
        self._gives = gives
        self._of = of
        self._until = anyio.current_time() + for_s
        self.fetches = 0

    async def fetch_body(self, job_id: str, output: JobOutput) -> EncodedBody:
        content = await self.fetch_output(job_id, output)
        if anyio.current_time() < self._until and (self._of is None or job_id in self._of):
            self.fetches += 1
            content = self._gives(content)
        return EncodedBody(content)


def raises(error: PingDataError) -> Callable[[bytes], bytes]:
    def give(_content: bytes) -> bytes:
        raise error

    return give


def rows_of(seen: Observed, job_id: str) -> list[int]:
    [chunk] = [event.chunk for event in seen.of(JobSubmitted) if event.job_id == job_id]
    return seen.rows_of[chunk]


def rows_but(seen: Observed, job_id: str) -> list[int]:
    return sorted(set(range(100)) - set(rows_of(seen, job_id)))


def is_always(what: bytes) -> Callable[[bytes], bytes]:
    return lambda _content: what


@pytest.mark.parametrize("durable", [False, True])
async def test_an_output_that_cannot_be_had_is_no_unknown_job(durable: bool) -> None:
    """What the API calls complete is asked for until patience ends, and no job is sent for it."""
    api, seen = _Storage(raises(unavailable())), Observed(is_durable=durable)
    began = anyio.current_time()
    with pytest.raises(JobFailedError, match="job job-1: no way leads to it"):
        await run(api, 100, observed=seen)
    assert seen.rows == rows_but(seen, "job-1")
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 10
    (kept_at,), (said_at,) = seen.times(JobKept), seen.times(JobOverdue)
    assert 10 <= said_at - began < 100
    assert 900 <= kept_at - began < 1_000
    [kept] = seen.of(JobKept)
    assert seen.states[kept.chunk] == "complete"  # so the next run asks about it
    assert not seen.of(JobAbandoned)


async def test_a_storage_that_is_back_in_time() -> None:
    """An outage of ten minutes costs ten minutes."""
    api = _Storage(raises(unavailable()), of=None, for_s=600.0)
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 10


async def test_a_storage_that_stays_away() -> None:
    """The run stops when nothing was to be had for so long; nothing was paid twice."""
    api, seen = _Storage(raises(unavailable()), of=None), Observed(is_durable=True)
    began = anyio.current_time()
    with pytest.raises(OutputUnavailableError):
        await run(api, 1_000, observed=seen, policy=RetryPolicy(give_up_after_s=300.0))
    assert 300 <= anyio.current_time() - began <= 400
    assert api.counts.jobs <= 4  # no more than there was room for
    assert max(api.counts.submissions.values()) == 1
    assert not seen.of(JobAbandoned)


@pytest.mark.parametrize("durable", [False, True])
async def test_jobs_at_work_are_brought_home_from_a_run_that_stops(durable: bool) -> None:
    """An output that cannot be had, while no other job is done: those at work are waited for."""
    api = _Storage(
        raises(unavailable()), of=["job-0"], delays_s=dict.fromkeys(range(1, 4), 2_000.0)
    )
    seen = Observed(is_durable=durable)
    with pytest.raises(OutputUnavailableError):
        await run(api, 40, observed=seen)
    assert len(seen.rows) == 30
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 4


async def test_neither_the_job_nor_its_output_is_known_any_more() -> None:
    """It was complete, and so is paid for: it is kept, and no other one is sent unasked."""
    api, seen = _Storage(raises(unavailable(said=None)), of=["job-1"]), Observed(is_durable=True)
    with pytest.raises(JobFailedError, match="called job job-1 complete, and no longer knows it"):
        await run(api, 100, observed=seen)
    assert seen.rows == rows_but(seen, "job-1")
    assert api.counts.jobs == 10
    [kept] = seen.of(JobKept)
    assert seen.states[kept.chunk] == "complete"
    assert not seen.of(JobAbandoned)


async def test_a_job_that_is_unknown_only_for_a_while() -> None:
    """Minutes without the output, and one answer "unknown job": that one is not believed."""
    said = iter([COMPLETE] * 12 + [None] + [COMPLETE] * 2)

    def give(content: bytes) -> bytes:
        for each in said:
            raise unavailable(said=each)
        return content

    api = _Storage(give)
    seen = await run(api, 100)
    assert (api.counts.jobs, len(seen.of(JobAbandoned))) == (10, 0)


@pytest.mark.parametrize("between", [[COMPLETE], []], ids=["complete", "none"])
async def test_one_word_that_it_has_failed_is_not_believed(between: list[JobStatus]) -> None:
    """Nor a second one, where it was called complete in between: another job would be paid for."""
    said = iter([FAILED, *between * 2, *[FAILED] * bool(between)])

    def give(content: bytes) -> bytes:
        for each in said:
            raise unavailable(said=each)
        return content

    api = _Storage(give)
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, len(seen.of(JobAbandoned))) == (10, 0)


async def test_an_output_with_holes_that_comes_late() -> None:
    """What it holds is taken, however long it was refused before, and no row of it is lost."""
    api = _Storage(raises(unavailable()), for_s=895.0, outputs=SpottyAnswers(left_out=0.3))
    seen = await run(api, 100)
    assert seen.rows == list(range(100))


async def test_a_complete_job_that_failed_after_all() -> None:
    """The API's last word holds."""
    api = _Storage(raises(unavailable(said=JobStatus(status="FAILED", message="oh no"))))
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert [event.error for event in seen.of(JobAbandoned)] == ["job job-1 failed: oh no"]


# -- outputs that cannot be read ---------------------------------------------------------


@pytest.mark.parametrize(
    "gives",
    [is_always(b"not JSON"), is_always(b"[1, 2]"), is_always(b'{"77": {}}')],
    ids=["no JSON", "no object", "no location of ours"],
)
async def test_the_same_useless_output_each_time(gives: Callable[[bytes], bytes]) -> None:
    """It is fetched eight times, then its rows fail; no job is sent for it."""
    api = _Storage(gives)
    seen = await run(api, 100)
    assert (api.counts.jobs, api.fetches) == (10, 8)
    bad = [result for result in seen.results if result.status is not RowStatus.OK]
    assert [result.row for result in bad] == rows_of(seen, "job-1")
    assert {result.reason for result in bad} == {Reason.UNREADABLE}
    assert "job job-1" in str(bad[0].error)
    assert "the hand of whoever watches chunk" in str(bad[0].error)
    assert list(seen.kept_unreadable.values()) == [[gives(b"")]]


async def test_an_output_that_is_too_large() -> None:
    """Three times: to see that it is large, and twice alone. Nothing of it can be kept."""
    api = _Storage(raises(too_large("GET it", 1_000)))
    seen = await run(api, 100)
    assert (api.counts.jobs, api.fetches, seen.kept_unreadable) == (10, 3, {})
    assert sum(result.reason is Reason.UNREADABLE for result in seen.results) == 10


async def test_useless_outputs_alone_stop_the_run() -> None:
    """Where none can be read, no row fails: the jobs are kept, and the first is named."""
    api, seen = _Storage(is_always(b"not JSON"), of=None), Observed(is_durable=True)
    with pytest.raises(JobFailedError, match=r"output of job job-.*kept in the hand of"):
        await run(api, 1_000, observed=seen)
    assert not seen.results
    assert max(api.counts.submissions.values()) == 1
    assert set(seen.states.values()) == {"complete"}
    assert seen.of(RunStopping)


@pytest.mark.parametrize(
    "gives",
    [
        raises(DecodeError("the answer was cut off")),
        is_always(b" <!DOCTYPE html><title>Maintenance</title>"),
        is_always(b'<?xml version="1.0"?><Error/>'),
    ],
    ids=["cut off", "HTML", "XML"],
)
async def test_what_may_be_well_another_time_fails_no_row(
    gives: Callable[[bytes], bytes],
) -> None:
    """A page in its place, or half of it: it is fetched until patience ends, and kept."""
    api, seen = _Storage(gives), Observed()
    with pytest.raises(JobFailedError, match="job job-1"):
        await run(api, 100, observed=seen)
    assert seen.rows == rows_but(seen, "job-1")
    assert (api.counts.jobs, len(seen.of(JobKept))) == (10, 1)
    api = _Storage(gives, for_s=300.0)
    assert {result.status for result in (await run(api, 100)).results} == {RowStatus.OK}
    assert api.counts.jobs == 10


async def test_a_broken_output_that_is_whole_the_eighth_time() -> None:
    """Downloading costs nothing, another job does."""
    faults = ScriptedFaults({Moment.FETCH: [Fault.CORRUPT] * 7})
    api = SimulatedAPI(faults=faults)
    seen = await run(api, 10)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, api.counts.requests[Moment.FETCH]) == (1, 8)


async def test_a_complete_job_that_never_names_an_output() -> None:
    """It is paid for: after a minute its rows fail, and no job is sent for it."""
    fates = [None, Fault.NO_OUTPUT, *[None] * 100]
    api = SimulatedAPI(faults=ScriptedFaults({Moment.JOB: fates}))
    seen = await run(api, 100)
    assert api.counts.jobs == 10
    bad = [result for result in seen.results if result.status is not RowStatus.OK]
    assert [result.row for result in bad] == rows_of(seen, "job-1")
    assert {result.reason for result in bad} == {Reason.UNREADABLE}
    assert "job job-1 is complete, but names no output" in str(bad[0].error)
    assert [event.job_id for event in seen.of(JobOverdue)] == ["job-1"]


# -- odd statuses ------------------------------------------------------------------------


class _Odd(SimulatedAPI):
    """Says of its second job what a test wants; None for the truth."""

    def __init__(
        self, *says: JobStatus | PingDataError | None, then: JobStatus | None = None
    ) -> None:
        super().__init__()
        self._says = iter(says)
        self._then = then
        self.is_asked = 0

    async def status(self, job_id: str) -> JobStatus:
        truth = await super().status(job_id)
        if job_id != "job-1":
            return truth
        self.is_asked += 1
        said = next(self._says, self._then)
        if isinstance(said, PingDataError):
            raise said
        return said or truth


@pytest.mark.parametrize(
    ("status", "least_s", "most_s"),
    [("CANCELED", 60, 150), ("ERROR", 60, 150), ("EXPIRED", 60, 150), ("ON_HOLD", 900, 1_100)],
)
async def test_a_status_that_is_neither_known_nor_an_end(
    status: str, least_s: float, most_s: float
) -> None:
    """It is said soon; later, and for a word that may mean work much later, the job is lost."""
    api = _Odd(then=JobStatus(status=status))
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 11
    assert f"job job-1 is {status}, without a result" in seen.of(JobAbandoned)[0].error
    assert [event.job_id for event in seen.of(JobOverdue)] == ["job-1"]
    assert least_s <= seen.times(JobAbandoned)[0] - seen.events[0][0] <= most_s


async def test_an_unknown_status_with_progress_is_work() -> None:
    """As long as counts go up, nobody loses patience."""
    says = [JobStatus(status="CRUNCHING", num_completed=n // 5) for n in range(400)]
    api, began = _Odd(*says), anyio.current_time()
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, len(seen.of(JobAbandoned))) == (10, 0)
    assert anyio.current_time() - began > 1_000


@pytest.mark.parametrize(
    "says",
    [
        [FAILED, None],
        [FAILED, AT_WORK, FAILED, None],
        [JobStatus(status="CANCELED"), AT_WORK, None],
        [JobStatus(status="COMPLETE"), AT_WORK, None],
        [JobStatus(status="COMPLETE"), UNKNOWN, UNKNOWN, None],
        [JobStatus(status="COMPLETE", result_status="FAILED"), JobStatus(status="QUEUED"), None],
    ],
    ids=lambda says: "-".join(getattr(each, "status", "404") for each in says if each),
)
async def test_a_server_that_changes_its_mind(says: list[JobStatus | None]) -> None:
    """One answer that another takes back costs no job."""
    api = _Odd(*says)
    seen = await run(api, 100)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, len(seen.of(JobAbandoned))) == (10, 0)


class _Restarting(SimulatedAPI):
    """Says of its second job something else until each time; others are at work meanwhile."""

    def __init__(self, *until: tuple[float, JobStatus | PingDataError]) -> None:
        super().__init__(delays_s={0: 200.0})
        self._until = until
        self._began: float | None = None

    async def status(self, job_id: str) -> JobStatus:
        truth = await super().status(job_id)
        if job_id != "job-1":
            return truth
        now = anyio.current_time()
        self._began = now if self._began is None else self._began
        said = next((said for until, said in self._until if now < self._began + until), None)
        if isinstance(said, PingDataError):
            raise said
        return said or truth


@pytest.mark.parametrize(
    "until",
    [
        [(5.0, UNKNOWN), (120.0, ServerError("502", status_code=502)), (124.0, UNKNOWN)],
        [(60.0, JobStatus(status="COMPLETE")), (72.0, UNKNOWN)],
    ],
    ids=["out of order", "complete"],
)
async def test_only_unknown_again_and_again_is_forgotten(
    until: list[tuple[float, JobStatus | PingDataError]],
) -> None:
    """While the API says something else in between, or nothing, no other job is paid for."""
    api = _Restarting(*until)
    seen = await run(api, 20)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, len(seen.of(JobAbandoned))) == (2, 0)


class _Forgetful(SimulatedAPI):
    """Does not know its first job, and every third question about it gets lost."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    async def status(self, job_id: str) -> JobStatus:
        truth = await super().status(job_id)
        if job_id != "job-0":
            return truth
        self._asked += 1
        raise UNKNOWN if self._asked % 3 else ServerError("502", status_code=502)


async def test_a_forgotten_job_among_errors() -> None:
    """Where a part of the answers gets lost, the others add up: it is sent again, and soon."""
    api = _Forgetful()
    began = anyio.current_time()
    seen = await run(api, 10, max_jobs=1)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert (api.counts.jobs, len(seen.of(JobKept))) == (2, 0)
    assert anyio.current_time() - began < 300.0


@pytest.mark.parametrize("late", [False, True])
async def test_less_patience_than_for_forgotten_jobs(late: bool) -> None:
    """Whoever gives up soon believes sooner that a job is forgotten: it is sent again."""
    fates = [Fault.LATE] if late else [Fault.FORGOTTEN] * 2
    api = SimulatedAPI(faults=ScriptedFaults({Moment.JOB: fates}))
    seen = await run(api, 20, policy=RetryPolicy(give_up_after_s=5.0), max_jobs=2)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == (2 if late else 4)


class _OneUnreadableStatus(SimulatedAPI):
    """Everything works, but what is said of one job never can be read."""

    async def status(self, job_id: str) -> JobStatus:
        status = await super().status(job_id)
        if job_id == "job-1":
            raise DecodeError("not a status")
        return status


async def test_a_kept_job_frees_its_slot_at_once() -> None:
    """It was asked about for as long as anything is: others are not kept waiting any longer."""
    api, seen = _OneUnreadableStatus(locations_per_s=1.0), Observed()
    with pytest.raises(JobFailedError, match="not a status"):
        await run(api, 2_000, max_jobs=2, observed=seen)
    [kept_at] = seen.times(JobKept)
    after = [at for at in seen.times(JobSubmitted) if kept_at < at <= kept_at + 100.0]
    before = [at for at in seen.times(JobSubmitted) if kept_at - 100.0 < at <= kept_at]
    assert len(after) > 1.5 * len(before) > 0
