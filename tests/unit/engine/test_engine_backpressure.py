"""Nobody gets ahead of anybody: a slow consumer, a slow input, a time-out while waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import pytest

from pingdata_async.engine.context import FinishedChunk, MemoryStore
from pingdata_async.engine.engine import FETCH_WORKERS, MAX_DECODED_OUTPUTS
from pingdata_async.engine.requests import Requests
from pingdata_async.engine.stream import ResultChannel, ResultStream
from pingdata_async.engine.task import ChunkTask, Downloaded
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import JobAbandoned, RequestSent
from pingdata_async.exceptions import RunError, ServerError
from pingdata_async.models import EnhancedLocation, JobOutput, RowStatus, RunSummary
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import START_S, VirtualLoop
from tests.support.engine_harness import Observed, addresses, run


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


class Counted:
    """An endless input that knows how far it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        for n in itertools.count():
            assert n < 10_000, "nobody stops the reading"
            self.read = n + 1
            yield f"{n} Main Street"


@pytest.mark.parametrize("max_jobs", [1, 3, 16])
async def test_a_consumer_that_stops_stops_the_reading(max_jobs: int) -> None:
    """At most `max_jobs` chunks are read ahead, however long it lasts; then it goes on."""
    rows = Counted()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = BulkEnhancer(client, ["PG"], chunk_size=10, max_jobs=max_jobs)
        async with enhancer.stream(rows) as stream:
            for consumed in range(1, 6):
                for _ in range(10):
                    await anext(stream)
                await anyio.sleep(600)
                assert rows.read <= 10 * (consumed + max_jobs)
            assert rows.read == 10 * (5 + max_jobs)


async def test_an_input_that_is_slow_holds_back_nobody() -> None:
    """What was read is delivered while the input is still waiting for its next row."""

    async def slow() -> AsyncIterator[str]:
        for address in addresses(30):
            yield address
        await anyio.sleep(36_000)
        yield "the last"

    began = anyio.current_time()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = BulkEnhancer(client, ["PG"], chunk_size=10)
        times = [anyio.current_time() - began async for _ in enhancer.stream(slow())]
    assert all(at < 60 for at in times[:30])
    assert times[30] > 36_000


async def test_few_outputs_are_at_hand_while_others_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was inflated is large: the next one waits, as it came, until there is room."""
    checks: list[float] = []
    original = Requests.check

    async def noted(self: Requests, task: ChunkTask, fetched: Downloaded) -> object:
        checks.append(anyio.current_time())
        return await original(self, task, fetched)

    class Slow(Observed):
        """Takes a minute to keep an answer."""

        async def deliver(self, finished: FinishedChunk) -> None:
            await anyio.sleep(60)
            await super().deliver(finished)

    monkeypatch.setattr(Requests, "check", noted)
    seen = await run(SimulatedAPI(), 200, observed=Slow())
    assert seen.rows == list(range(200))
    first_kept_at = seen.chunks[0][0]
    fetches = seen.times(RequestSent, kind="fetch")
    assert sum(at < first_kept_at for at in checks) == MAX_DECODED_OUTPUTS
    assert sum(at < first_kept_at for at in fetches) == FETCH_WORKERS


async def test_an_idle_stream_sends_nothing() -> None:
    """With the consumer stopped and every chunk done, the API is left in peace."""
    api = SimulatedAPI()
    async with (
        SimulatedClient(api) as client,
        BulkEnhancer(client, ["PG"], chunk_size=10).stream(Counted()) as stream,
    ):
        await anext(stream)
        await anyio.sleep(3_600)
        sent = api.counts.requests.total()
        await anyio.sleep(36_000)
        # At most the polls of jobs that wait behind the outputs being handed over.
        assert api.counts.requests.total() == sent


def _finished(row: int) -> list[EnhancedLocation]:
    return [EnhancedLocation(str(row), row, RowStatus.OK)]


async def test_a_time_out_the_moment_results_arrive_loses_none() -> None:
    """A task can be cancelled when it is about to wake; what it was to get stays for later."""
    rows: list[int] = []
    timed_out = 0

    async def work(channel: ResultChannel) -> None:
        for row in range(60):
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.deliver, _finished(row))
                for _ in range(row % 6):  # sooner or later on the way to its waking
                    await anyio.lowlevel.checkpoint()
                consumer.cancel()

    async def consume(stream: ResultStream) -> None:
        nonlocal timed_out
        task = asyncio.current_task()
        assert task is not None
        while len(rows) < 60:
            try:
                rows.append((await anext(stream)).row)
            except asyncio.CancelledError:  # as `asyncio.timeout` does it
                task.uncancel()
                timed_out += 1

    async with anyio.create_task_group() as tasks:
        stream = ResultStream(lambda: tasks, work, MemoryStore(lambda: 0, RunSummary()))
        consumer = asyncio.create_task(consume(stream))
        with anyio.fail_after(60):
            await consumer
    assert rows == list(range(60))
    assert timed_out > 50  # the last may find it done


async def test_time_outs_around_each_result_lose_none() -> None:
    """Whoever looks in now and then still gets every row once."""
    rows: list[int] = []
    async with SimulatedClient(SimulatedAPI()) as client:
        stream = BulkEnhancer(client, ["PG"], chunk_size=5, max_jobs=3).stream(addresses(500))
        for number in itertools.count():
            try:
                async with asyncio.timeout(0.01 * (number % 7)):
                    rows.append((await anext(stream)).row)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert sorted(rows) == list(range(500))


async def test_what_was_finished_before_an_error_is_given_before_it() -> None:
    """Results that wait for a slow consumer when the run fails were paid for."""
    async with anyio.create_task_group() as tasks:

        async def work(channel: ResultChannel) -> None:
            async with anyio.create_task_group() as workers:
                workers.start_soon(channel.deliver, _finished(0))
                workers.start_soon(channel.deliver, _finished(1))
                await anyio.sleep(10)
                workers.cancel_scope.cancel()
            raise RunError("too late")

        stream = ResultStream(lambda: tasks, work, MemoryStore(lambda: 0, RunSummary()))
        assert (await anext(stream)).row == 0
        await anyio.sleep(60)
        assert (await anext(stream)).row == 1
        with pytest.raises(RunError, match="too late"):
            await anext(stream)


async def test_two_tasks_may_share_a_stream() -> None:
    """Each result goes to one of them, and both see the end."""
    rows: list[int] = []

    async def consume(stream: ResultStream) -> None:
        async for result in stream:
            rows.append(result.row)
            await anyio.sleep(0.01)

    async with SimulatedClient(SimulatedAPI()) as client, anyio.create_task_group() as tasks:
        stream = BulkEnhancer(client, ["PG"], chunk_size=5).stream(addresses(100))
        tasks.start_soon(consume, stream)
        tasks.start_soon(consume, stream)
    assert sorted(rows) == list(range(100))


async def test_time_spent_waiting_for_a_slow_consumer_is_no_time_of_failing() -> None:
    """A download that failed twice, half an hour apart, is tried again and not paid again."""

    class Slow(Observed):
        async def deliver(self, finished: FinishedChunk) -> None:
            if anyio.current_time() < START_S + 100.0:
                await anyio.sleep(1800.0)
            await super().deliver(finished)

    class FailsTwiceAtTheEnds(SimulatedAPI):
        fails_late = True

        async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
            is_late = anyio.current_time() > START_S + 100.0
            if job_id == "job-0" and (not is_late or self.fails_late):
                self.fails_late = not is_late
                raise ServerError("500", status_code=500)
            return await super().fetch_output(job_id, output)

    api = FailsTwiceAtTheEnds()
    seen = await run(api, 200, max_jobs=10, observed=Slow())
    assert not api.fails_late
    assert not seen.of(JobAbandoned)
    assert api.counts.jobs == 20
    assert len(seen.rows) == 200
