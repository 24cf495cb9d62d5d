"""However a run ends: nothing new is sent, what is paid for is kept, every slot is free."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import anyio
import pytest

from pingdata_async.engine.context import FinishedChunk
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import JobAbandoned, JobSubmitted, RequestSent, SubmissionInDoubt
from pingdata_async.exceptions import QuotaExceededError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import Reason, RowStatus
from tests.simulation.faults import Fault, Moment, ScriptedFaults, SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers, Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.chunks import body_of
from tests.support.engine_harness import Observed, check_bookkeeping, make_runner, run
from tests.support.sweeps import sampled


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def cut(api: SimulatedAPI, seen: Observed, after_s: float) -> float:
    """Cancel a run after that time; says how long it took to end."""
    slots = ConcurrencyLimiter()
    with anyio.move_on_after(after_s) as scope:
        await run(api, 1_000, observed=seen, slots=slots.share(4))
    assert scope.cancelled_caught
    assert not slots._in_flight
    assert not slots._waiting
    return anyio.current_time() - scope.deadline


async def test_a_durable_run_waits_for_answers_to_what_it_sent() -> None:
    """The job ids of submissions on the wire reach the store, and nothing more is sent."""
    api = SimulatedAPI(latency_s=10.0)
    seen = Observed(is_durable=True)
    took_s = await cut(api, seen, 22.0)
    states = list(seen.states.values())
    assert 0 < took_s <= 15
    assert "submitting" not in states
    assert states.count("submitted") >= 3
    assert len(seen.of(JobSubmitted)) == api.counts.jobs
    assert not seen.of(SubmissionInDoubt)
    sent = api.counts.requests.total()
    await anyio.sleep(1_000)
    assert api.counts.requests.total() == sent
    assert max(seen.times(RequestSent)) <= anyio.current_time() - 1_000 - took_s


@pytest.mark.parametrize("linger_s", [5.0, 30.0])
async def test_but_not_for_ever(linger_s: float) -> None:
    """An answer that does not come in time is in doubt: the intent is all that is known."""
    faults = ScriptedFaults({Moment.SUBMIT: [None]}, always={Moment.SUBMIT: Fault.HANG})
    seen = Observed(is_durable=True)
    slots = ConcurrencyLimiter()
    with anyio.move_on_after(20.0) as scope:
        policy = RetryPolicy(linger_s=linger_s)
        await run(
            SimulatedAPI(faults=faults), 1_000, observed=seen, slots=slots.share(4), policy=policy
        )
    assert anyio.current_time() - scope.deadline == pytest.approx(linger_s, abs=0.01)
    assert list(seen.states.values()).count("submitting") == len(seen.of(SubmissionInDoubt)) == 4
    assert not slots._in_flight


@pytest.mark.parametrize("latency_s", [0.05, 10.0])
async def test_in_memory_it_ends_at_once(latency_s: float) -> None:
    """Answers would be of no use to anyone; what was on the wire is in doubt."""
    api = SimulatedAPI(latency_s=latency_s)
    seen = Observed()
    assert await cut(api, seen, 3 + latency_s) == pytest.approx(0, abs=0.001)
    assert len(seen.of(SubmissionInDoubt)) == list(seen.states.values()).count("submitting")


# The sample is from the whole of the run.
CUTS = [*range(1, 200, 30), *(n for n in range(1, 200, 7) if n % 30 != 1)]


@pytest.mark.parametrize("after_s", sampled([0.01 * n for n in CUTS], 7))
async def test_cut_anywhere_a_store_is_told_nothing_that_cannot_be(after_s: float) -> None:
    """With all kinds of trouble, at any moment: legal steps, free slots, no lost job id."""
    api = _troubled(7)
    seen = Observed(is_durable=True)
    await cut(api, seen, after_s)
    check_bookkeeping(seen, api)


def _troubled(seed: int) -> SimulatedAPI:
    return SimulatedAPI(
        faults=SeededFaults(seed, 0.03),
        troubles=Troubles(poisoned={15, 333}, poisoned_for_jobs={44}),
        outputs=SpottyAnswers(seed=seed, left_out=0.02, passing=0.02),
        seed=seed,
    )


METHODS = [
    "next_index", "submitting", "refused", "submitted", "doubted", "completed", "job_lost",
    "split", "batched", "deliver",
]  # fmt: skip


@pytest.mark.parametrize(
    ("times", "durable"), sampled([(1, True), (0, False), (0, True), (1, False)], 2)
)
@pytest.mark.parametrize("method", METHODS)
async def test_a_store_that_fails_ends_the_run_as_itself(
    method: str, durable: bool, times: int
) -> None:
    """A full disk, say, at whichever step: it is what is raised, and all slots are free."""
    seen = Observed(is_durable=durable)
    before, calls = getattr(seen, method), itertools.count()

    def fail() -> None:
        if next(calls) >= times:
            raise OSError(28, method)

    async def fails(*args: object, **named: object) -> None:
        fail()
        await before(*args, **named)

    def fails_now() -> object:
        fail()
        return before()

    setattr(seen, method, fails_now if method == "next_index" else fails)
    slots = ConcurrencyLimiter()
    with anyio.fail_after(36_000), pytest.raises(OSError, match=method):
        await run(_troubled(3), 1_000, observed=seen, slots=slots.share(4))
    assert not slots._in_flight
    assert not slots._waiting


async def _given(*tasks: ChunkTask) -> AsyncIterator[ChunkTask]:
    for task in tasks:
        yield task


def _chunk(index: int, rows: int = 10) -> Chunk:
    numbers = list(range(index * rows, (index + 1) * rows))
    return Chunk(index, numbers, [None] * rows, body_of(numbers))


async def test_what_has_a_job_is_asked_about_and_not_submitted() -> None:
    """Jobs of an earlier run hold slots like others, and their answers come home."""
    api = SimulatedAPI()
    body = b'{"locations":[%b],"sources":["PG"]}'
    ids = [
        await api.submit_body(body % b",".join(b'{"id":"%d"}' % row for row in _chunk(n).rows))
        for n in range(3)
    ]
    seen = Observed(states=dict.fromkeys(range(3), "submitted"))
    slots = ConcurrencyLimiter()
    resumed = [ChunkTask(_chunk(n), job_id=ids[n], jobs=1) for n in range(3)]
    runner = make_runner(api, seen, slots=slots.share(2))
    await runner.run(_given(*resumed, ChunkTask(_chunk(3)), ChunkTask(_chunk(4), in_doubt=1)))
    assert seen.rows == list(range(50))
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert [event.chunk for event in seen.of(JobSubmitted)] == [3, 4]
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [False, True]
    assert not slots._in_flight


async def test_a_resumed_job_that_is_forgotten_is_submitted_again_and_counted() -> None:
    """Its locations may be charged twice, and the event says so."""
    seen = Observed(states={0: "submitted"})
    api = SimulatedAPI()
    await make_runner(api, seen).run(_given(ChunkTask(_chunk(0), job_id="job-77", jobs=1)))
    assert seen.rows == list(range(10))
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [True]


@pytest.mark.parametrize(("others", "least_s", "most_s"), [(0, 60, 90), (4, 10, 40)])
async def test_a_forgotten_job_is_believed_sooner_where_others_are_known(
    others: int, least_s: float, most_s: float
) -> None:
    """Ten seconds while other questions are answered, a minute where none is."""
    fates = [Fault.FORGOTTEN, *[None] * 1_000]
    delays = dict.fromkeys(range(1, 1 + others), 300.0)
    api = SimulatedAPI(faults=ScriptedFaults({Moment.JOB: fates}), delays_s=delays)
    seen = await run(api, 10 * (1 + others), max_jobs=8)
    (lost,) = seen.times(JobAbandoned)
    submitted = seen.times(JobSubmitted)
    assert least_s <= lost - submitted[0] <= most_s
    check_bookkeeping(seen, api, 10 * (1 + others))


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("after", sampled([12, 24, 39, *range(15, 24, 3), *range(27, 39, 3)], 3))
async def test_stopped_while_rows_are_asked_again(after: int, durable: bool) -> None:
    """No credit left: in memory the answers so far come out; one on disk keeps them for later."""
    error = QuotaExceededError("402", status_code=402)
    api = SimulatedAPI(
        faults=ScriptedFaults({Moment.SUBMIT: [None] * after}, always={Moment.SUBMIT: error}),
        troubles=Troubles(poisoned={15, 333}),
        outputs=SpottyAnswers(seed=after, source_left_out=0.2),
    )
    seen = Observed(is_durable=durable)
    slots = ConcurrencyLimiter()
    sources = ("PG", "PH")
    with pytest.raises(QuotaExceededError):
        await run(api, 1_000, observed=seen, slots=slots.share(4), sources=sources)
    check_bookkeeping(seen, api)
    assert not slots._in_flight
    paid_for = {int(wire_id) for wire_id in api.counts.submissions}
    if durable:
        assert set(seen.rows) <= paid_for | {15, 333}
        assert set(seen.rows) | seen._waiting >= paid_for - _in_parts(seen)
    else:
        assert paid_for <= set(seen.rows)
        for result in seen.results:
            assert result.reason in {None, Reason.MISSING, Reason.REJECTED}


def _in_parts(seen: Observed) -> set[int]:
    """Rows of chunks that the store knows as still to be submitted."""
    planned = [index for index, state in seen.states.items() if state == "planned"]
    return {row for index in planned for row in seen.rows_of[index]}


async def test_results_that_are_not_taken_do_not_outlive_the_run() -> None:
    """A store that never returns is cut off by a cancellation."""

    class Stuck(Observed):
        async def deliver(self, finished: FinishedChunk) -> None:  # noqa: ARG002
            await anyio.sleep_forever()

    seen = Stuck()
    assert await cut(SimulatedAPI(), seen, 60.0) == pytest.approx(0, abs=0.001)
