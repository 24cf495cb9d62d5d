"""A live source, of which rows come now and then: they do not wait for a full chunk."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import JobSubmitted
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, addresses

FOREVER_S = 10_000.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def rows_with(pauses_s: Iterable[float]) -> AsyncIterator[str]:
    """A row after each pause."""
    for number, pause_s in enumerate(pauses_s):
        await anyio.sleep(pause_s)
        yield f"{number} Main St, Boston, MA"


async def jobs_of(
    pauses_s: Iterable[float], flush_after_s: float | None, *, until_row: int | None = None
) -> list[int]:
    """How many rows each job had, in the order of submission; ends after this row's result."""
    seen = Observed()
    rows = []
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, on_event=seen.hear)
        async with enhancer.stream(rows_with(pauses_s), flush_after_s=flush_after_s) as results:
            async for result in results:
                rows.append(result.row)
                if result.row == until_row:
                    break
    if until_row is None:
        assert sorted(rows) == list(range(len(rows)))
    return [event.locations for event in seen.of(JobSubmitted)]


async def test_rows_do_not_wait_for_others_that_do_not_come() -> None:
    """Three rows are answered although the fourth comes much later; then the reading goes on."""
    assert await jobs_of([0.0, 0.1, 0.1, FOREVER_S], 1.0, until_row=2) == [3]
    assert await jobs_of([0.0, 0.1, 0.1, 500.0, 0.2], 1.0) == [3, 2]


async def test_a_row_waits_no_longer_than_asked() -> None:
    """Also where others keep coming: of a row every 0.4 s, three make a job."""
    assert await jobs_of([0.4] * 9, 1.0) == [3, 3, 3]


async def test_full_chunks_are_sent_at_once() -> None:
    """Rows that come fast fill their chunks, and only the last one is flushed."""
    assert await jobs_of([0.001] * 25 + [FOREVER_S], 1.0, until_row=24) == [10, 10, 5]


async def test_chunks_fill_if_there_is_time() -> None:
    """Without an end to the wait, only full chunks are sent, and the rest at the end."""
    assert await jobs_of([5.0] * 25, None) == [10, 10, 5]


@pytest.mark.parametrize("seed", range(20))
async def test_every_row_comes_once_whenever_it_comes(seed: int) -> None:
    """Pauses drawn at random: no row is lost or doubled, and no job is too large."""
    rng = random.Random(seed)
    pauses_s = [rng.choice((0.0, 0.0, 0.05, 0.3, 1.0, 7.0)) for _ in range(120)]
    sizes = await jobs_of(pauses_s, rng.choice((0.1, 0.5, 1.0)))
    assert sum(sizes) == 120
    assert max(sizes) <= 10


async def test_a_list_and_a_file_are_never_flushed() -> None:
    """A sync source has its rows at hand, however long they take to be read."""
    seen = Observed()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, on_event=seen.hear)
        stream = enhancer.stream(addresses(25), flush_after_s=0.001)
        assert len([result async for result in stream]) == 25
    assert sorted(event.locations for event in seen.of(JobSubmitted)) == [5, 10, 10]


@pytest.mark.parametrize("is_live", [True, False])
async def test_rows_do_not_wait_while_nobody_asks_for_them(*, is_live: bool) -> None:
    """Rows that did not fit into a chunk, cut by its bytes, begin a full one after any pause."""

    async def live() -> AsyncIterator[str]:
        for row in rows:
            yield row

    rows = [f"{number} Main St {'x' * (number * 7 % 90)}" for number in range(2000)]
    seen = Observed()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(
            client, "PG", max_chunk_bytes=40_000, max_jobs=1, on_event=seen.hear
        )
        stream = enhancer.stream(live() if is_live else rows)
        assert sorted([result.row async for result in stream]) == list(range(2000))
    assert min([event.locations for event in seen.of(JobSubmitted)][:-1]) > 400


async def test_an_error_after_a_flush_arrives_as_itself() -> None:
    """When the rows before it have been answered."""

    async def broken() -> AsyncIterator[str]:
        yield "1 Main St, Boston, MA"
        await anyio.sleep(5.0)
        raise LookupError("no more")

    async with SimulatedClient(SimulatedAPI()) as client:
        results = ping.BulkEnhancer(client, "PG").stream(broken())
        assert (await anext(results)).row == 0
        with pytest.raises(LookupError, match="no more"):
            await anext(results)


@pytest.mark.parametrize("is_closed", [True, False])
async def test_leaving_while_a_row_is_awaited(*, is_closed: bool) -> None:
    """The source is closed, whichever way the stream is left; nothing complains afterwards."""
    closed = anyio.Event()

    async def live() -> AsyncIterator[str]:
        try:
            yield "1 Main St, Boston, MA"
            await anyio.sleep(FOREVER_S)
        finally:
            closed.set()

    async with SimulatedClient(SimulatedAPI()) as client:
        results = ping.BulkEnhancer(client, "PG").stream(live())
        assert (await anext(results)).row == 0
        if is_closed:
            await results.aclose()
        del results
        await closed.wait()


@pytest.mark.parametrize("flush_after_s", [0.0, -1.0, float("nan"), "1"])
async def test_times_that_make_no_sense(flush_after_s: float) -> None:
    """They are refused at once."""
    async with SimulatedClient(SimulatedAPI()) as client:
        with pytest.raises(ping.ConfigurationError, match="flush_after_s"):
            ping.BulkEnhancer(client, "PG").stream([], flush_after_s=flush_after_s)
