"""A stream can be left in any way at any time: no task, request, slot or warning stays."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.engine.stream import ResultChannel
from pingdata_async.sandbox import SandboxServer
from tests.support.engine_harness import addresses, until
from tests.unit.engine.conftest import Traces, make_enhancer


def endless() -> Iterator[str]:
    return (f"{n} Main Street" for n in itertools.count())


async def _drain(stream: ping.ResultStream) -> int:
    return len([result async for result in stream])


class OwnError(Exception):
    """Of a user's own code."""


async def test_break(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """A bare `async for` over an endless input may be left by break."""
    rows = []
    async for result in enhancer.stream(endless()):
        rows.append(result.row)
        if len(rows) == 35:
            break
    assert len(set(rows)) == 35
    await traces.are_gone(enhancer)


async def test_raise_in_the_loop_body(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """The body's error arrives as it is, and ends the stream."""

    async def consume() -> None:
        async for result in enhancer.stream(endless()):
            if result.row:
                raise OwnError

    with pytest.raises(OwnError):
        await consume()
    await traces.are_gone(enhancer)


async def test_the_consuming_task_is_cancelled(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """Also by asyncio itself, in the middle of waiting or of the body."""
    seen = asyncio.Event()

    async def consume() -> None:
        async for _ in enhancer.stream(endless()):
            seen.set()

    task = asyncio.create_task(consume())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await traces.are_gone(enhancer)


async def test_enhance_is_cancelled(
    enhancer: ping.BulkEnhancer, traces: Traces, sandbox: SandboxServer
) -> None:
    """A scope around `enhance()` ends it at once, with nothing left to clean up."""
    with anyio.CancelScope() as scope:

        async def rows() -> AsyncIterator[str]:
            for address in endless():
                if sandbox.stats.outputs_served >= 5:
                    scope.cancel()
                await asyncio.sleep(0)
                yield address

        await enhancer.enhance(rows())
    assert scope.cancelled_caught
    await traces.are_gone(enhancer)


async def test_what_comes_in_the_moment_of_a_cancellation_is_carried(
    enhancer: ping.BulkEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that is handed over when `enhance()` is cancelled already was paid for, too."""
    deliver = ResultChannel.deliver

    async def deliver_too_late(self: ResultChannel, results: list[ping.EnhancedLocation]) -> None:
        task.cancel()
        await deliver(self, results)

    monkeypatch.setattr(ResultChannel, "deliver", deliver_too_late)
    task = asyncio.create_task(enhancer.enhance(endless()))
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    results = vars(caught.value)["results"]
    assert len(results) == results.summary.rows > 0


async def test_garbage(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """A stream that nobody refers to any more ends."""
    stream = enhancer.stream(endless())
    await anext(stream)
    del stream
    await traces.are_gone(enhancer)


async def test_garbage_in_a_cycle(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """Also where only the cyclic collector finds it."""
    holder: list[object] = []
    stream = enhancer.stream(endless())
    await anext(stream)
    holder += [holder, stream]
    del holder, stream
    gc.collect()
    await traces.are_gone(enhancer)


async def test_garbage_collected_in_another_thread(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """The collector runs in whichever thread it likes."""
    box = [enhancer.stream(endless())]
    await anext(box[0])
    await anyio.to_thread.run_sync(box.clear)
    await traces.are_gone(enhancer)


async def test_the_client_is_closed_before_the_iterator(sandbox: SandboxServer) -> None:
    """Whoever iterates on gets what had arrived, then a clear error, then the end."""
    traces = Traces(sandbox)
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client:
        stream = make_enhancer(client).stream(endless())
        await anext(stream)
    with pytest.raises(ping.ClientClosedError):
        await _drain(stream)
    assert await _drain(stream) == 0
    await traces.are_gone()


async def test_the_client_is_closed_while_somebody_waits(sandbox: SandboxServer) -> None:
    """Another task that waits for results is told, instead of waiting for ever."""
    traces = Traces(sandbox)
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client:
        task = asyncio.create_task(make_enhancer(client).enhance(endless()))
        await until(lambda: sandbox.stats.outputs_served > 2)
    with pytest.raises(ping.ClientClosedError) as caught:
        await task
    assert caught.value.results
    await traces.are_gone()


async def test_an_iterator_that_is_never_started(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """Nothing was begun, so nothing is left; the input is not even looked at."""
    looked: list[str] = []

    def untouched() -> Iterator[str]:
        looked.append("at the first row")
        yield "1 Main Street"

    enhancer.stream(untouched())
    await enhancer.stream(untouched()).aclose()
    assert not looked
    await traces.are_gone(enhancer)


async def test_leaving_async_with_ends_everything_at_once(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """When the block is left no task is running any more, without any waiting."""
    before = asyncio.all_tasks()
    async with enhancer.stream(endless()) as results:
        async for _ in results:
            break
    names = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not any("pingdata_async" in name for name in names)
    assert [result async for result in results] == []
    await traces.are_gone(enhancer)


async def test_closing_twice(enhancer: ping.BulkEnhancer, traces: Traces) -> None:
    """The second time does nothing, also at the same time as the first, and after the end."""
    stream = enhancer.stream(endless())
    await anext(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.aclose)
        tasks.start_soon(stream.aclose)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    finished = enhancer.stream(addresses(5))
    assert len([result async for result in finished]) == 5
    await finished.aclose()
    await traces.are_gone(enhancer)


async def test_closing_while_another_task_waits(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """Who waits for the next result sees the end, not an error."""

    async def slow() -> AsyncIterator[str]:
        yield "1 Main Street"
        await anyio.sleep_forever()

    stream = enhancer.stream(slow())
    task = asyncio.create_task(anext(stream, None))
    await until(lambda: stream._channel is not None)
    await stream.aclose()
    assert await task is None
    await traces.are_gone(enhancer)


@pytest.mark.parametrize("way", ["break", "aclose", "error", "end"])
async def test_the_users_async_generator_is_closed(
    enhancer: ping.BulkEnhancer, traces: Traces, way: str
) -> None:
    """Its `finally` runs however the stream ends: files in it are closed."""
    closed = asyncio.Event()

    async def rows() -> AsyncIterator[str]:
        try:
            for address in addresses(30) if way == "end" else endless():
                yield address
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def consume() -> None:
        stream = enhancer.stream(rows())
        async for _ in stream:
            if way == "break":
                break
            if way == "error":
                raise OwnError
            if way == "aclose":
                await stream.aclose()

    if way == "error":
        with pytest.raises(OwnError):
            await consume()
    else:
        await consume()
    with anyio.fail_after(120):
        await closed.wait()
    await traces.are_gone(enhancer)


async def test_an_error_of_the_input_leaves_nothing(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """Jobs in flight are abandoned, and everything works again."""

    def broken() -> Iterator[str]:
        yield from addresses(25)
        raise OwnError

    with pytest.raises(OwnError):
        [result async for result in enhancer.stream(broken())]
    await traces.are_gone(enhancer)


async def test_a_client_opened_in_another_task(sandbox: SandboxServer) -> None:
    """As in a web application's lifespan: requests come and go in tasks of their own."""
    traces = Traces(sandbox)
    opened: asyncio.Future[ping.PingDataClient] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def lifespan() -> None:
        async with ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client:
            opened.set_result(client)
            await stop.wait()

    async def request(enhancer: ping.BulkEnhancer) -> int:
        async for result in enhancer.stream(endless()):
            if result.row >= 20:
                break
        async with enhancer.stream(addresses(30)) as results:
            return len([result async for result in results])

    application = asyncio.create_task(lifespan())
    enhancer = make_enhancer(await opened)
    assert await asyncio.gather(*(request(enhancer) for _ in range(3))) == [30] * 3
    stop.set()
    await application
    await traces.are_gone()


def test_a_stream_that_outlives_its_event_loop() -> None:
    """Collected when no loop is left, finished or not, it warns of nothing."""
    kept: list[ping.ResultStream] = []

    async def main() -> None:
        async with (
            SandboxServer(locations_per_s=math.inf) as sandbox,
            ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client,
        ):
            for rows in (endless(), iter(addresses(3))):
                stream = make_enhancer(client).stream(rows)
                await anext(stream)
                kept.append(stream)
            kept.append(make_enhancer(client).stream(endless()))

    anyio.run(main)
    kept.clear()
    gc.collect()
