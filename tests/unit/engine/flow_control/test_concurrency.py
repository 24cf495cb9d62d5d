"""Job slots: the cap, taking turns, and what those who share a client cannot do to each other."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter, ConcurrencyShare
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.exceptions import ConfigurationError, RateLimitError
from pingdata_async.models import EnhancedLocation
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import addresses
from tests.support.sweeps import sampled

VIRTUAL: dict[str, object] = {"loop_factory": VirtualLoop}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", VIRTUAL


def enhancer_on(
    client: SimulatedClient, *, max_jobs: int = 16, chunk_size: int = 10
) -> BulkEnhancer:
    return BulkEnhancer(
        client, ["PG"], chunk_size=chunk_size, max_jobs=max_jobs, rng=random.Random(0)
    )


async def test_two_enhancers_on_one_client_share_its_cap_and_take_turns() -> None:
    """Together they stay below the cap, and neither waits for the other to end."""
    api = SimulatedAPI(workers=8, locations_per_s=5.0)
    ended: dict[str, float] = {}

    async def enhance(client: SimulatedClient, name: str) -> None:
        results = await enhancer_on(client, max_jobs=4).enhance(addresses(1_000))
        assert [result.row for result in results] == list(range(1_000))
        ended[name] = anyio.current_time()

    began = anyio.current_time()
    async with SimulatedClient(api) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(enhance, client, "a")
        tasks.start_soon(enhance, client, "b")
    assert api.counts.peak_in_flight == 4
    took = [at - began for at in ended.values()]
    assert max(took) / min(took) < 1.1


async def test_the_largest_cap_in_use_counts_and_each_keeps_its_own() -> None:
    """An enhancer with a small cap beside one with a large cap does not add to it."""
    api = SimulatedAPI(workers=8, locations_per_s=5.0)
    async with SimulatedClient(api) as client, anyio.create_task_group() as tasks:
        for max_jobs in (2, 6):
            tasks.start_soon(enhancer_on(client, max_jobs=max_jobs).enhance, addresses(600))
    assert api.counts.peak_in_flight == 6


async def test_one_enhancer_used_twice_at_once_keeps_its_cap() -> None:
    """Two streams of one enhancer have one cap, not one each."""
    api = SimulatedAPI(workers=8, locations_per_s=5.0)
    async with SimulatedClient(api) as client, anyio.create_task_group() as tasks:
        enhancer = enhancer_on(client, max_jobs=3)
        for _ in range(3):
            tasks.start_soon(enhancer.enhance, addresses(300))
    assert api.counts.peak_in_flight == 3


@pytest.mark.parametrize("max_jobs", sampled([2, 1, 8], 1))
async def test_enhancing_inside_the_loop_over_a_stream_does_not_lock_up(max_jobs: int) -> None:
    """Results that wait for their consumer hold no slot that the consumer needs."""
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = enhancer_on(client, max_jobs=max_jobs)
        rows = 0
        with anyio.fail_after(36_000):
            async for result in enhancer.stream(addresses(200)):
                if result.row % 10 == 0:
                    rows += len(await enhancer.enhance(addresses(30)))
        assert rows == 20 * 30


@pytest.mark.parametrize("max_jobs", sampled([2, 1, 8], 1))
async def test_streams_that_feed_each_other_do_not_lock_up(max_jobs: int) -> None:
    """PG first, then PH for what came of it, then once more: a chain on one client."""

    async def again(
        results: AsyncIterator[EnhancedLocation],
    ) -> AsyncIterator[dict[str, str | None]]:
        async for result in results:
            yield {"id": result.id, "address": "the same"}

    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = enhancer_on(client, max_jobs=max_jobs)
        first = enhancer.stream(addresses(500))
        second = enhancer.stream(again(first))
        with anyio.fail_after(36_000):
            third = await enhancer.enhance(again(second))
    assert {result.id for result in third} == set(map(str, range(500)))


async def test_a_consumer_that_stops_keeps_nobody_else_from_enhancing() -> None:
    """One slow reader of a web application must not freeze all the others."""
    async with SimulatedClient(SimulatedAPI()) as client:
        stopped = enhancer_on(client).stream(addresses(5_000))
        await anext(stopped)
        await anyio.sleep(3_600)
        with anyio.fail_after(3_600):
            assert len(await enhancer_on(client).enhance(addresses(500))) == 500
        await stopped.aclose()


async def test_an_input_that_pauses_holds_no_slot() -> None:
    """A stream that waits for its next row leaves the client's slots to others."""

    async def pausing() -> AsyncIterator[str]:
        yield "1 Main St"
        await anyio.sleep_forever()

    async with (
        SimulatedClient(SimulatedAPI()) as client,
        enhancer_on(client, max_jobs=1, chunk_size=1).stream(pausing()) as stream,
    ):
        await anext(stream)
        with anyio.fail_after(60):
            assert len(await enhancer_on(client, max_jobs=1).enhance(addresses(30))) == 30


async def test_an_input_that_fails_waits_for_nobody_elses_slot() -> None:
    """Another stream has all the slots for minutes; the error comes as soon as it is there."""

    class InputFailedError(Exception):
        """Of a user's own code."""

    def failing() -> Iterator[str]:
        yield from addresses(15)
        raise InputFailedError

    api = SimulatedAPI(delays_s=dict.fromkeys(range(10), 600.0))
    async with SimulatedClient(api) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(enhancer_on(client, max_jobs=2).enhance, addresses(100))
        await anyio.sleep(30.0)
        began = anyio.current_time()
        with pytest.raises(InputFailedError):
            await enhancer_on(client, max_jobs=2).enhance(failing())
        assert anyio.current_time() - began < 1.0
    assert api.counts.jobs == 10


# -- jobs that are abandoned --------------------------------------------------------------


@pytest.mark.parametrize("leaves", ["cancels", "breaks"])
async def test_who_gives_up_again_and_again_has_no_more_jobs_in_flight(leaves: str) -> None:
    """The API cannot cancel jobs: those that were abandoned count until they have likely ended."""
    api = SimulatedAPI(workers=99, delays_s=dict.fromkeys(range(99), 50.0))
    async with SimulatedClient(api) as client:
        enhancer = enhancer_on(client, max_jobs=4, chunk_size=1)
        for _ in range(5):
            with anyio.move_on_after(5.0):
                if leaves == "cancels":
                    await enhancer.enhance(addresses(100))
                async for _ in enhancer.stream(addresses(100)):
                    break
        assert len(await enhancer.enhance(addresses(8))) == 8
    assert api.counts.peak_in_flight == 4


async def test_an_abandoned_job_is_waited_for_as_long_as_such_jobs_take() -> None:
    """Of one length, as far as is known: no longer, whatever others wait for at most."""
    api = SimulatedAPI(workers=99, delays_s=dict.fromkeys(range(999), 10.0))
    async with SimulatedClient(api) as client:
        enhancer = enhancer_on(client, max_jobs=4, chunk_size=1)
        await enhancer.enhance(addresses(40))
        with anyio.move_on_after(3.0):
            await enhancer.enhance(addresses(40))
        began = anyio.current_time()
        await enhancer.enhance(addresses(1))
        assert anyio.current_time() - began < 2 * 15.0
    assert api.counts.peak_in_flight == 4


async def test_an_abandoned_job_that_never_ends_is_not_waited_for_for_ever() -> None:
    """Nobody knows its length, and it has the only slot."""
    api = SimulatedAPI(delays_s={0: 1e9})
    async with SimulatedClient(api) as client:
        enhancer = enhancer_on(client, max_jobs=1)
        with anyio.move_on_after(2_000.0):
            await enhancer.enhance(addresses(10))
        with anyio.fail_after(1_000.0):
            assert len(await enhancer.enhance(addresses(10))) == 10


async def test_who_waits_already_when_a_job_is_abandoned_gets_its_slot_in_time() -> None:
    """It is the time that frees the slot, and nobody else is there to tell."""
    slots = ConcurrencyLimiter()
    leaving, waiting = slots.share(1), slots.share(1)
    await leaving.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.acquire)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        leaving.abandon("job", began + 30.0)
        assert slots.in_flight == leaving.in_flight == 1
    assert anyio.current_time() - began == pytest.approx(30.0)
    assert (leaving.in_flight, waiting.in_flight) == (0, 1)


async def test_waiting_for_abandoned_jobs_alone_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call that does nothing for a minute says why; one that has jobs of its own does not."""
    slots = ConcurrencyLimiter()
    share = slots.share(2)
    began = anyio.current_time()
    await share.acquire()
    await share.acquire()
    share.abandon("job-1", began + 30.0)
    with anyio.move_on_after(5.0):
        await share.acquire()
    assert not caplog.records
    share.abandon("job-2", began + 60.0)
    await share.acquire()
    await share.acquire()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "nothing is submitted now: 2 abandoned jobs count as in flight until they have likely "
        "ended (the first of them in 25 s), and at most 2 may be in flight"
    )


async def test_who_takes_up_an_abandoned_job_gets_its_slot_at_once() -> None:
    """A run that is resumed on the same client does not wait for its own jobs."""
    slots = ConcurrencyLimiter()
    before, after = slots.share(1), slots.share(1)
    await before.acquire()
    before.abandon("job-1", anyio.current_time() + 900.0)
    began = anyio.current_time()
    await after.acquire("job-1")
    assert anyio.current_time() == began
    assert (before.in_flight, after.in_flight, slots.in_flight) == (0, 1, 1)
    after.release()
    assert slots.in_flight == 0


# -- the slots themselves ----------------------------------------------------------------


@pytest.mark.parametrize("max_jobs", [0, -1])
def test_a_cap_below_one_is_refused(max_jobs: int) -> None:
    """Nothing could ever be sent."""
    with pytest.raises(ConfigurationError):
        ConcurrencyLimiter().share(max_jobs)


async def test_who_waits_longest_is_served_first() -> None:
    """A newcomer does not overtake those who wait."""
    share = ConcurrencyLimiter().share(1)
    await share.acquire()
    order: list[int] = []

    async def take(number: int) -> None:
        await share.acquire()
        order.append(number)
        share.release()

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(take, number)
        await anyio.wait_all_tasks_blocked()
        share.release()
    assert order == list(range(5))


async def test_who_is_at_its_cap_is_passed_over() -> None:
    """A free slot goes to the next who may take it."""
    slots = ConcurrencyLimiter()
    small, large = slots.share(1), slots.share(3)
    await small.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(small.acquire)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(120):
            await large.acquire()
        small.release()
    assert (small.in_flight, large.in_flight) == (1, 1)


async def test_being_cancelled_the_moment_a_slot_is_granted_loses_none() -> None:
    """A slot granted to a task that is cancelled before it wakes goes on to the next."""
    share = ConcurrencyLimiter().share(1)
    await share.acquire()
    doomed, next_one = (asyncio.create_task(share.acquire()) for _ in range(2))
    await anyio.wait_all_tasks_blocked()
    share.release()
    doomed.cancel()  # asyncio's own, which also reaches a task that is about to wake
    with pytest.raises(asyncio.CancelledError):
        await doomed
    with anyio.fail_after(120):
        await next_one
    assert share.in_flight == 1


class _Model:
    """Tasks that take and give back slots at random, and what must hold meanwhile."""

    def __init__(self, caps: list[int]) -> None:
        self.slots = ConcurrencyLimiter()
        self.shares = [self.slots.share(cap) for cap in caps]
        self.held: list[ConcurrencyShare] = []
        self.waiting: list[tuple[ConcurrencyShare, anyio.CancelScope]] = []
        self.cap = max(caps)

    async def take(self, share: ConcurrencyShare) -> None:
        with anyio.CancelScope() as scope:
            entry = (share, scope)
            self.waiting.append(entry)
            try:
                await share.acquire()
                self.held.append(share)
            finally:
                self.waiting.remove(entry)

    def check(self) -> None:
        for share in self.shares:
            assert share.in_flight == self.held.count(share) <= share.max_jobs
        assert len(self.held) <= self.cap
        for share, _ in self.waiting:  # nobody waits without a reason
            in_use = max(each.max_jobs for each in (*self.held, *(w for w, _ in self.waiting)))
            assert len(self.held) >= in_use or share.in_flight == share.max_jobs


@given(
    caps=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "give", "cancel"]), st.integers(0, 9)), max_size=40
    ),
)
def test_slots_are_never_lost_nor_given_twice(
    caps: list[int], steps: list[tuple[str, int]]
) -> None:
    """Whoever comes, goes or is cancelled in whatever order: caps hold, nobody starves."""

    async def main() -> None:
        model = _Model(caps)
        async with anyio.create_task_group() as tasks:
            for step, number in steps:
                if step == "take":
                    tasks.start_soon(model.take, model.shares[number % len(caps)])
                elif step == "give" and model.held:
                    model.held.pop(number % len(model.held)).release()
                elif step == "cancel" and model.waiting:
                    model.waiting[number % len(model.waiting)][1].cancel()
                if number % 2:  # sometimes several things happen at once
                    await anyio.wait_all_tasks_blocked()
                    model.check()
            await anyio.wait_all_tasks_blocked()
            model.check()
            tasks.cancel_scope.cancel()
        for share in model.held:
            share.release()
        assert not model.slots._in_flight
        assert not model.slots._waiting

    anyio.run(main, backend_options=VIRTUAL)


async def test_a_429_of_one_enhancer_holds_back_the_others_on_the_client() -> None:
    """It is one account: what one is told, all heed."""
    sent: list[float] = []

    class Refusing(SimulatedAPI):
        refused_at: float | None = None

        async def submit_body(self, body: bytes) -> str:
            now = anyio.current_time()
            sent.append(now)
            if self.refused_at is None and len(sent) == 3:
                self.refused_at = now
                raise RateLimitError("429", status_code=429, retry_after_s=60.0)
            return await super().submit_body(body)

    api = Refusing()
    async with SimulatedClient(api) as client:
        enhancers = [BulkEnhancer(client, ["PG"], chunk_size=10) for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for enhancer in enhancers:
                tasks.start_soon(enhancer.enhance, addresses(40))
    assert api.refused_at is not None
    assert len(sent) > 12
    assert min(at for at in sent if at > api.refused_at) >= api.refused_at + 60.0
