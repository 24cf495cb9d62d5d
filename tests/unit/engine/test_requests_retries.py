"""What is tried again, when, how often, and what ends a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Iterator

import anyio
import msgspec
import pytest

from pingdata_async.engine.engine import SUBMIT_WORKERS
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import (
    ChunkFinished,
    JobAbandoned,
    JobKept,
    JobSubmitted,
    RequestRetried,
    RequestSent,
    RunStopping,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    JobFailedError,
    NotFoundError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import JobOutput, JobStatus, Reason, RowStatus
from tests.simulation.faults import Fault, Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, addresses, make_runner, run
from tests.support.sweeps import sampled

REQUESTS = (Moment.SUBMIT, Moment.POLL, Moment.FETCH)
REJECTED = RequestRejectedError("400: no", status_code=400)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def api_with(
    *faults: Fault | PingDataError | None, at: Moment, always: Fault | PingDataError | None = None
) -> SimulatedAPI:
    return SimulatedAPI(
        faults=ScriptedFaults({at: faults}, always={} if always is None else {at: always})
    )


@pytest.mark.parametrize("moment", REQUESTS)
async def test_a_retry_after_is_waited_for_and_not_much_longer(moment: Moment) -> None:
    """Nobody sends before the time that a Retry-After named, whatever the request."""
    api = api_with(Fault.RATE_LIMIT, Fault.RATE_LIMIT, at=moment)
    seen = await run(api, 10)
    kind = moment.name.lower()
    refused = seen.times(RequestRetried, kind=kind)
    sent = [at for at in seen.times(RequestSent, kind=kind) if at > refused[0]]
    assert len(refused) == 2
    for at in refused:
        assert 5.0 <= min(later for later in sent if later > at) - at <= 6.0
    assert [result.status for result in seen.results] == [RowStatus.OK] * 10


@pytest.mark.parametrize("moment", REQUESTS)
@pytest.mark.parametrize(
    "fault", [Fault.BARE_RATE_LIMIT, Fault.UNAVAILABLE, Fault.REFUSED], ids=lambda f: f.name
)
async def test_without_one_the_wait_doubles_up_to_a_ceiling(moment: Moment, fault: Fault) -> None:
    """Back-off is exponential with jitter, between half of a delay and the whole of it."""
    policy = RetryPolicy(first_contact_s=900)
    seen = await run(api_with(*[fault] * 9, at=moment), 10, policy=policy)
    delays = [event.delay_s for event in seen.of(RequestRetried)]
    assert len(delays) == 9
    for number, delay_s in enumerate(delays):
        ceiling = min(30.0, 0.5 * 2**number)
        assert ceiling / 2 <= delay_s <= ceiling
    times = seen.times(RequestRetried)
    assert all(
        b - a >= delay for (a, b), delay in zip(itertools.pairwise(times), delays, strict=False)
    )
    assert seen.rows == list(range(10))


async def test_requests_in_a_row_are_counted_anew_after_a_success() -> None:
    """A job that was asked about once more without trouble starts again at the shortest wait."""
    faults = [Fault.ERROR, Fault.ERROR, None, Fault.ERROR]
    api = SimulatedAPI(faults=ScriptedFaults({Moment.POLL: faults}), delays_s={0: 60.0})
    seen = await run(api, 10)
    assert [event.attempt for event in seen.of(RequestRetried)] == [1, 2, 1]


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP, Fault.DROP_AFTER, Fault.ERROR, Fault.ERROR_AFTER, Fault.GARBAGE],
    ids=lambda fault: fault.name,
)
async def test_a_submission_in_doubt_is_sent_again_three_times_at_most(fault: Fault) -> None:
    """The chunk then fails as in doubt, every doubt is told, and the others go on."""
    api = api_with(*[None] * 2, *[fault] * 4, at=Moment.SUBMIT)
    seen = await run(api, 30, max_jobs=1)
    assert [result.reason for result in seen.results] == [None] * 20 + [Reason.IN_DOUBT] * 10
    doubts = seen.of(SubmissionInDoubt)
    assert len(doubts) == 4
    assert [doubt.charged_before for doubt in doubts] == [False, True, True, True]
    assert {doubt.locations for doubt in doubts} == {10}
    assert seen.of(ChunkFinished)[-1].job_id is None


async def test_a_doubt_that_ends_well_is_counted_as_charged_before() -> None:
    """The accepted job says that its locations may be charged a second time."""
    seen = await run(api_with(*[Fault.DROP] * 3, at=Moment.SUBMIT), 10)
    assert len(seen.of(SubmissionInDoubt)) == 3
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [True]
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_what_surely_was_not_sent_is_not_in_doubt() -> None:
    """A refused connection, a 429 and a 503 leave no doubt, however often they come."""
    faults = [Fault.REFUSED, Fault.RATE_LIMIT, Fault.BARE_RATE_LIMIT, Fault.UNAVAILABLE] * 2
    seen = await run(api_with(*faults, at=Moment.SUBMIT), 10)
    assert not seen.of(SubmissionInDoubt)
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [False]


@pytest.mark.parametrize(
    "fate",
    [Fault.FAILED_JOB, Fault.FAILED_RESULT],
    ids=lambda fault: fault.name,
)
async def test_a_failed_job_is_submitted_again_and_then_in_halves(fate: Fault) -> None:
    """A chunk gets `job_attempts` jobs whole; then each half has one of its own."""
    api = api_with(*[fate] * 2, at=Moment.JOB)
    seen = await run(api, 13, max_jobs=1)
    submitted = seen.of(JobSubmitted)
    assert [event.locations for event in submitted] == [10, 10, 5, 5, 3]
    assert [event.charged_before for event in submitted] == [False, True, True, True, False]
    assert [event.will_resubmit for event in seen.of(JobAbandoned)] == [True, True]
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_forgotten_job_is_submitted_again_and_then_given_up() -> None:
    """A chunk gets `forgotten_attempts` jobs; then its rows fail, and the run goes on."""
    api = api_with(*[Fault.FORGOTTEN] * 3, at=Moment.JOB)
    seen = await run(api, 20, max_jobs=1)
    assert api.counts.jobs == 4
    assert [result.reason for result in seen.results] == [Reason.JOB_FAILED] * 10 + [None] * 10
    assert [event.will_resubmit for event in seen.of(JobAbandoned)] == [True, True, False]
    submitted = [event.charged_before for event in seen.of(JobSubmitted)]
    assert submitted == [False, True, True, False]


async def test_the_message_of_a_failed_job_reaches_the_rows() -> None:
    """Who reads the output learns what the API said."""
    api = SimulatedAPI(troubles=Troubles(poisoned_for_jobs={7}))
    seen = await run(api, 20)
    assert [result.row for result in seen.results if result.reason is Reason.JOB_FAILED] == [7]
    assert "out of luck" in str(seen.results[7].error)


@pytest.mark.parametrize("fate", [Fault.LATE, Fault.LATE_OUTPUT], ids=lambda fault: fault.name)
async def test_what_is_only_late_is_waited_for(fate: Fault) -> None:
    """A job unknown at first, or without its output at first, is not paid for twice."""
    api = api_with(fate, at=Moment.JOB)
    seen = await run(api, 10)
    assert api.counts.jobs == 1
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_refusal_of_the_first_submission_is_looked_into() -> None:
    """Where its halves pass, nothing was wrong with the rows, and all goes on."""
    seen = await run(api_with(REJECTED, at=Moment.SUBMIT), 20, max_jobs=1)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert {event.charged_before for event in seen.of(JobSubmitted)} == {False}


async def test_a_row_that_is_refused_carries_the_words_of_the_api() -> None:
    """It alone fails, and it is not sent again."""
    api = SimulatedAPI(troubles=Troubles(poisoned={13}))
    seen = await run(api, 30, max_jobs=1)
    assert [result.row for result in seen.results if result.reason] == [13]
    assert (seen.results[13].reason, seen.results[13].error) == (
        Reason.REJECTED,
        "400: bad location",
    )
    assert set(api.counts.submissions.values()) == {1}


STOPS = [
    AuthenticationError("401", status_code=401),
    AccessDeniedError("403", status_code=403),
    QuotaExceededError("402", status_code=402),
    UnexpectedRedirectError("redirected"),
]


@pytest.mark.parametrize("error", STOPS, ids=lambda error: type(error).__name__)
async def test_a_submission_that_cannot_pass_ends_the_run_after_what_is_paid_for(
    error: PingDataError,
) -> None:
    """Nothing more is sent, but the answers of jobs in flight are brought home."""
    faults = ScriptedFaults({Moment.SUBMIT: [None] * 12}, always={Moment.SUBMIT: error})
    api, seen = SimulatedAPI(faults=faults, locations_per_s=0.5), Observed()
    policy = RetryPolicy(late_after_s=0.1)
    with pytest.raises(type(error)) as caught:
        await run(api, 300, observed=seen, max_jobs=4, policy=policy)
    assert caught.value is error
    assert len(seen.rows) == 10 * api.counts.jobs == 120
    assert {result.status for result in seen.results} == {RowStatus.OK}
    told = [event for _, event in seen.events]
    (stopping,) = seen.of(RunStopping)
    before = told[: told.index(stopping)]
    accepted = sum(isinstance(event, JobSubmitted) for event in before)
    ended = sum(isinstance(event, ChunkFinished) for event in before)
    assert ended > 0
    assert stopping.jobs_in_flight == accepted - ended > 0


UNAUTHORIZED = AuthenticationError("401", status_code=401)
FORBIDDEN = AccessDeniedError("403", status_code=403)


async def test_a_token_that_was_never_accepted_ends_the_run_at_once() -> None:
    """Nothing is tried again, nothing sent after it, be it a submission or a question."""
    api, seen = api_with(at=Moment.SUBMIT, always=UNAUTHORIZED), Observed()
    with pytest.raises(AuthenticationError):
        await run(api, 100, observed=seen)
    assert api.counts.requests == {Moment.SUBMIT: 1}
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.POLL: UNAUTHORIZED}))
    builder = ChunkBuilder(chunk_size=10, sources=("PG",))
    [chunk] = builder.add_batch(0, addresses(10), {})

    async def taken_up() -> AsyncIterator[ChunkTask]:
        yield ChunkTask(chunk, job_id="job-0")

    with pytest.raises(AuthenticationError):
        await make_runner(api, seen).run(taken_up())
    assert api.counts.requests == {Moment.POLL: 1}


class _LockedOut(SimulatedAPI):
    """Its token check is out of order for a while, after some requests of a kind."""

    def __init__(self, moment: Moment, after: int, for_s: float, error: PingDataError) -> None:
        super().__init__(locations_per_s=5.0)
        self._locks = moment
        self._after, self._for_s = after, for_s
        self._refusal = error
        self.locked_at = math.inf
        self.unlocked_at = math.inf
        self.accepted_meanwhile = 0

    async def _arrive(self, moment: Moment) -> Fault | None:
        kind = self._locks
        fault = await super()._arrive(moment)
        now = anyio.current_time()
        if (
            moment is kind
            and self.counts.requests[moment] > self._after
            and math.isinf(self.locked_at)
        ):
            self.locked_at, self.unlocked_at = now, now + self._for_s
        is_locked = self.locked_at <= now < self.unlocked_at
        if is_locked and moment in {kind, Moment.POLL}:
            raise self._refusal
        self.accepted_meanwhile += is_locked and moment is Moment.SUBMIT
        return fault


@pytest.mark.parametrize("moment", [Moment.SUBMIT, Moment.POLL, Moment.FETCH])
@pytest.mark.parametrize("error", sampled([UNAUTHORIZED, FORBIDDEN], 1))
async def test_a_token_that_is_refused_for_a_while_costs_nothing(
    moment: Moment, error: PingDataError
) -> None:
    """It was accepted before: all is asked again, and nothing is paid for meanwhile."""
    api = _LockedOut(moment, 7, 45.0, error)
    seen = await run(api, 300, max_jobs=6)
    assert seen.rows == list(range(300))
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 30
    # Those on their way when the first question was refused, at most.
    assert api.accepted_meanwhile <= SUBMIT_WORKERS
    assert sum(api.locked_at < at < api.unlocked_at for at in seen.times(RequestSent)) < 200


@pytest.mark.parametrize("moment", [Moment.POLL, Moment.FETCH])
async def test_a_token_that_is_refused_for_good_ends_the_run_after_a_minute(
    moment: Moment,
) -> None:
    """With that error; nothing is sent after it."""
    api, seen = _LockedOut(moment, 7, 1e9, UNAUTHORIZED), Observed()
    with pytest.raises(AuthenticationError):
        await run(api, 300, observed=seen, max_jobs=6)
    assert 60 <= anyio.current_time() - api.locked_at <= 150
    sent = api.counts.requests.total()
    await anyio.sleep(1_000)
    assert api.counts.requests.total() == sent


class _JobsRefused(SimulatedAPI):
    """Whoever asks about some jobs is refused."""

    def __init__(self, *job_ids: str, error: PingDataError, delays_s: dict[int, float]) -> None:
        super().__init__(delays_s=delays_s)
        self._refused, self._refusal = job_ids, error

    async def status(self, job_id: str) -> JobStatus:
        if job_id in self._refused:
            raise self._refusal
        return await super().status(job_id)


async def _with_jobs_of_earlier_runs(jobs: int, chunks: int) -> AsyncIterator[ChunkTask]:
    """Tasks as `resume` gives them: the jobs are called old-0, old-1 and so on."""
    builder = ChunkBuilder(chunk_size=10, sources=("PG",))
    for chunk in builder.add_batch(0, addresses(10 * chunks), {}):
        old = chunk.index < jobs
        yield ChunkTask(chunk, jobs=int(old), job_id=f"old-{chunk.index}" if old else "")


@pytest.mark.parametrize("max_jobs", [1, 4])
@pytest.mark.parametrize("jobs", [1, 4])
async def test_jobs_that_may_not_be_asked_about_keep_no_others_from_being_sent(
    jobs: int, max_jobs: int
) -> None:
    """A new token may not see the jobs of an old one: they are kept, and all others go on."""
    old = [f"old-{number}" for number in range(jobs)]
    api, seen = _JobsRefused(*old, error=FORBIDDEN, delays_s={0: 100.0}), Observed()
    seen.states = dict.fromkeys(range(jobs), "submitted")
    runner = make_runner(api, seen, max_jobs=max_jobs)
    began = anyio.current_time()
    with pytest.raises(JobFailedError, match=r"cannot be fetched now; .* job old-\d: 403"):
        with anyio.fail_after(600):
            await runner.run(_with_jobs_of_earlier_runs(jobs, 30))
    assert seen.rows == list(range(10 * jobs, 300))
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert sorted(event.job_id for event in seen.of(JobKept)) == old
    are_sent_at_once = seen.times(JobSubmitted)[0] - began < 10
    assert are_sent_at_once == (jobs < max_jobs)  # else when the first of them leaves its slot


@pytest.mark.parametrize(("pause_s", "asked"), [(20.0, 5), (100.0, 2), (3_600.0, 1)])
async def test_a_pause_for_one_job_that_is_refused_is_kept_and_holds_up_no_other(
    pause_s: float, asked: int
) -> None:
    """The job is asked about no sooner than said, and given up as without a pause."""
    error = AccessDeniedError("403", status_code=403, retry_after_s=pause_s)
    api, seen = _JobsRefused("old-0", error=error, delays_s={}), Observed(states={0: "submitted"})
    began = anyio.current_time()
    with pytest.raises(JobFailedError, match=r"cannot be fetched now; .* job old-0: 403"):
        with anyio.fail_after(600):
            await make_runner(api, seen, max_jobs=4).run(_with_jobs_of_earlier_runs(1, 30))
    assert seen.rows == list(range(10, 300))
    polls = seen.times(RequestSent, kind="poll", job_id="old-0")
    assert min(2, asked) <= len(polls) <= asked
    assert all(later - earlier >= pause_s for earlier, later in itertools.pairwise(polls))
    [kept_at] = seen.times(JobKept)
    assert kept_at - began <= 60 + 1.2 * pause_s * (asked > 1)


async def test_a_run_to_which_all_is_refused_ends_after_a_minute() -> None:
    """Questions about a job of an earlier run, and submissions: that is the token."""
    refusals = {Moment.SUBMIT: FORBIDDEN, Moment.POLL: FORBIDDEN}
    faults = ScriptedFaults({Moment.SUBMIT: [None]}, always=refusals)  # it was right once
    api, seen = SimulatedAPI(faults=faults), Observed(states={0: "submitted"})
    began = anyio.current_time()
    with pytest.raises(AccessDeniedError):
        await make_runner(api, seen, max_jobs=4).run(_with_jobs_of_earlier_runs(1, 30))
    assert 60 <= anyio.current_time() - began <= 150
    assert api.counts.jobs == 1


async def test_a_token_that_may_submit_and_not_ask_pays_for_few_jobs() -> None:
    """As many as there are slots, and then two; they are kept."""
    api, seen = api_with(at=Moment.POLL, always=FORBIDDEN), Observed()
    began = anyio.current_time()
    with pytest.raises(AccessDeniedError):
        await run(api, 1_000, observed=seen, max_jobs=64)
    assert anyio.current_time() - began <= 200
    assert api.counts.jobs <= 10


async def test_a_job_that_is_left_for_a_refusal_does_not_keep_others_from_being_sent() -> None:
    """It is asked about no more, and no other one is at work: nothing says that all is well."""

    async def locations() -> AsyncIterator[str]:
        for number, address in enumerate(addresses(50)):
            if number == 30:
                await anyio.sleep(200.0)  # the refused job is given up meanwhile, alone at work
            yield address

    api = _JobsRefused("job-1", error=UNAUTHORIZED, delays_s={2: 40.0})
    seen = Observed()
    with pytest.raises(JobFailedError, match="job job-1: 401"):
        await run(api, locations(), observed=seen)
    assert len(seen.rows) == 40


async def test_a_refusal_at_the_end_of_an_outage_is_not_the_last_word() -> None:
    """The minute is counted from the first refusal, not from the first error."""
    lost = TransportError("no connection", maybe_sent=False)
    api = api_with(*[lost] * 14, UNAUTHORIZED, at=Moment.POLL)
    seen = await run(api, 10, max_jobs=1)
    down_s = max(seen.times(RequestRetried)) - min(seen.times(RequestRetried))
    assert down_s > 60
    assert {result.status for result in seen.results} == {RowStatus.OK}


@pytest.mark.parametrize("moment", [Moment.POLL, Moment.FETCH])
@pytest.mark.parametrize("error", STOPS[1:], ids=lambda error: type(error).__name__)
async def test_one_refused_question_costs_nothing(moment: Moment, error: PingDataError) -> None:
    """A firewall's mistake about one request does not end a run, nor drop a paid job."""
    api = api_with(None, error, at=moment)
    seen = await run(api, 100, max_jobs=4)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert api.counts.jobs == 10


@pytest.mark.parametrize("moment", [Moment.POLL, Moment.FETCH])
async def test_refused_questions_end_the_run_after_a_minute(moment: Moment) -> None:
    """Where access is refused for good, the run says so in time, and of which job."""
    began = anyio.current_time()
    with pytest.raises(JobFailedError, match="job job-0: 403") as caught:
        await run(api_with(at=moment, always=FORBIDDEN), 10)
    assert caught.value.__cause__ is FORBIDDEN
    assert 60 <= anyio.current_time() - began <= 120


class _OneBroken(SimulatedAPI):
    """Everything works, but one job's output never can be had."""

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        if job_id == "job-1":
            raise ServerError("500", status_code=500)
        return await super().fetch_output(job_id, output)


async def test_one_broken_job_does_not_end_the_run() -> None:
    """While others succeed, patience ends for that job alone: it is kept, none is sent for it."""
    api, seen = _OneBroken(locations_per_s=1.0), Observed()
    with pytest.raises(JobFailedError, match=r"1 paid job with 10 locations .* job job-1: 500"):
        await run(api, 3_000, max_jobs=4, observed=seen)
    assert len(seen.rows) == 2_990
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert [event.job_id for event in seen.of(JobKept)] == ["job-1"]
    assert api.counts.jobs == 300


async def test_a_429_holds_back_every_request() -> None:
    """Nobody sends before the time it named, whichever request it answered."""
    api = SimulatedAPI(faults=ScriptedFaults({Moment.POLL: [None, None, Fault.RATE_LIMIT]}))
    seen = await run(api, 200, max_jobs=8)
    (refused,) = seen.times(RequestRetried, status_code=429)
    under_way_s = 0.05  # what had been sent before the refusal was known
    sent = [at for at in seen.times(RequestSent) if refused + under_way_s < at]
    assert min(sent) - refused >= 5.0


async def test_a_retry_after_of_nothing_is_no_licence_to_hammer() -> None:
    """0 seconds names no time: the pauses grow as they would without it."""
    error = RateLimitError("429", status_code=429, retry_after_s=0.0)
    api = api_with(at=Moment.SUBMIT, always=error)
    with pytest.raises(RateLimitError):
        await run(api, 10)
    assert api.counts.requests[Moment.SUBMIT] < 60


async def test_an_output_that_leaves_out_rows_is_fetched_again() -> None:
    """Fetching is free, and the rest may only be late."""
    fetches = itertools.count()

    class Late(SimulatedAPI):
        async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
            body = await super().fetch_output(job_id, output)
            if next(fetches):
                return body
            return msgspec.json.encode(dict(list(msgspec.json.decode(body).items())[:5]))

    seen = await run(Late(), 10)
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_submission_that_is_cut_off_is_in_doubt() -> None:
    """A POST under way when the run is cancelled may have been accepted, and is reported."""
    seen = Observed()
    with anyio.move_on_after(1.0):
        await run(api_with(at=Moment.SUBMIT, always=Fault.HANG), 10, observed=seen)
    (doubt,) = seen.of(SubmissionInDoubt)
    assert doubt.locations == 10


async def test_a_first_chunk_of_invalid_rows_holds_nothing_up() -> None:
    """The chunk that goes first is the first that has anything to send."""
    seen = await run(SimulatedAPI(), [""] * 10 + ["1 Main St"] * 20)
    assert [result.reason for result in seen.results] == [Reason.INVALID_INPUT] * 10 + [None] * 20


async def test_everything_refused_is_soon_enough() -> None:
    """A request that is at fault itself is refused a few times, one after the other."""
    api = api_with(at=Moment.SUBMIT, always=REJECTED)
    with pytest.raises(RequestRejectedError):
        await run(api, 1_000, max_jobs=32, observed=(seen := Observed()))
    assert api.counts.requests[Moment.SUBMIT] <= 30
    assert [event.jobs_in_flight for event in seen.of(RunStopping)] == [0]
    assert not seen.chunks


async def test_an_input_that_fails_costs_no_paid_answers() -> None:
    """What was submitted before the user's own iterable raised is delivered."""

    def rows() -> Iterator[str]:
        yield from addresses(50)
        raise KeyError("theirs")

    seen = Observed()
    with pytest.raises(KeyError, match="theirs"):
        await run(SimulatedAPI(), rows(), observed=seen, max_jobs=2)
    assert seen.rows == list(range(10 * len(seen.of(JobSubmitted))))


async def test_no_such_path_at_submission_ends_the_run() -> None:
    """A 404 to a POST means a wrong address, not a forgotten job."""
    with pytest.raises(NotFoundError):
        await run(api_with(NotFoundError("404", status_code=404), at=Moment.SUBMIT), 10)


@pytest.mark.parametrize("moment", REQUESTS)
async def test_a_run_gives_up_on_an_api_that_stays_down(moment: Moment) -> None:
    """After `give_up_after_s` of nothing but failures its error is raised, not much later."""
    api = api_with(always=Fault.UNAVAILABLE, at=moment)
    began = anyio.current_time()
    with pytest.raises(ServerError):
        await run(api, 10, policy=RetryPolicy(give_up_after_s=300))
    assert 300 <= anyio.current_time() - began <= 340


async def test_an_address_that_never_answered_is_given_up_sooner() -> None:
    """Before the first answer the address is probably wrong: a minute is enough."""
    began = anyio.current_time()
    with pytest.raises(TransportError):
        await run(api_with(always=Fault.REFUSED, at=Moment.SUBMIT), 10)
    assert 60 <= anyio.current_time() - began <= 95


async def test_a_retry_after_beyond_all_patience_ends_the_run_at_once() -> None:
    """Waiting until tomorrow is not what anyone expects of a run."""
    error = RateLimitError("429", status_code=429, retry_after_s=86_400.0)
    began = anyio.current_time()
    with pytest.raises(APIStatusError):
        await run(api_with(error, at=Moment.SUBMIT), 10)
    assert anyio.current_time() - began < 1


async def test_less_patience_than_for_a_first_contact_is_heeded() -> None:
    """Whoever asks for three seconds does not get a minute."""
    began = anyio.current_time()
    api = api_with(always=Fault.REFUSED, at=Moment.SUBMIT)
    with pytest.raises(TransportError):
        await run(api, 10, policy=RetryPolicy(give_up_after_s=3))
    assert 3 <= anyio.current_time() - began <= 10
