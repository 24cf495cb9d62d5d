"""An input is read and closed in one task, and what it raises then hides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support.engine_harness import addresses, until
from tests.unit.engine.conftest import Traces, make_enhancer
from tests.unit.engine.test_stream_leaving import endless

span = contextvars.ContextVar("span", default="none")
WAYS = ["break", "aclose", "error", "garbage"]


class OwnError(Exception):
    """Of a user's own code."""


async def leave(stream: ping.ResultStream, way: str) -> None:
    """Take one result, and leave the rest in one of the ways."""
    await anext(stream)
    if way == "aclose":
        await stream.aclose()
    elif way == "error":
        with contextlib.suppress(OwnError):
            async with stream:
                raise OwnError
    elif way == "break":
        async for _ in stream:
            break


@contextlib.contextmanager
def in_span(log: list[str]) -> Iterator[None]:
    """As a tracer does it: whoever leaves it in another context gets a ValueError."""
    token = span.set("open")
    try:
        yield
    finally:
        log.append(span.get())
        span.reset(token)


@pytest.mark.parametrize("way", WAYS)
async def test_a_task_group_across_yields_is_left_where_it_was_entered(
    enhancer: ping.BulkEnhancer,
    traces: Traces,
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    """A task group, a time-out and a context variable of an async generator, however it is left."""
    log: list[str] = []

    async def rows() -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks, asyncio.timeout(3600):
            with in_span(log), anyio.fail_after(3600):
                tasks.start_soon(anyio.sleep, 0)
                for address in endless():
                    yield address
            tasks.cancel_scope.cancel()

    stream = enhancer.stream(rows())
    await leave(stream, way)
    del stream
    await until(lambda: log == ["open"])
    await traces.are_gone(enhancer)
    assert not caplog.records


@pytest.mark.parametrize("way", WAYS)
async def test_a_plain_generator_is_closed_in_its_context(
    enhancer: ping.BulkEnhancer, traces: Traces, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Not whenever the collector comes by, in whatever context that is."""
    log: list[str] = []

    def rows() -> Iterator[str]:
        with in_span(log):
            yield from endless()

    stream = enhancer.stream(rows())
    await leave(stream, way)
    del stream
    await until(lambda: log == ["open"])
    await traces.are_gone(enhancer)
    assert not caplog.records


async def test_the_clean_up_of_an_input_may_await(
    enhancer: ping.BulkEnhancer, traces: Traces
) -> None:
    """Also where it is interrupted in the middle of waiting for a row."""
    steps: list[str] = []

    async def rows() -> AsyncIterator[str]:
        try:
            for address in addresses(20):
                yield address
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            steps.append("closed")

    stream = enhancer.stream(rows())
    async with stream:
        await anext(stream)
    assert steps == ["closed"]
    await traces.are_gone(enhancer)


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_the_runs_own_error_wins(
    client: ping.PingDataClient, sandbox: SandboxServer, *, is_waiting: bool
) -> None:
    """What the input raises when it is closed is a note of it; the results are there."""

    async def rows() -> AsyncIterator[str]:
        try:
            for address in addresses(30):
                yield address
            await until(lambda: sandbox.stats.outputs_served >= 2)
            object.__setattr__(sandbox, "token", "another")
            for address in addresses(100):
                yield address
            if is_waiting:
                await asyncio.Event().wait()
        finally:
            raise OwnError("cursor is gone")

    with pytest.raises(ping.AuthenticationError) as caught:
        await make_enhancer(client, late_after_s=0.1).enhance(rows())
    assert len(caught.value.results) >= 20
    assert caught.value.__notes__[:1] == ["The input failed as well: OwnError: cursor is gone"]


async def test_an_input_that_fails_when_nobody_wants_it_is_logged(
    enhancer: ping.BulkEnhancer, traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever left has no error that it could be a note of."""

    async def rows() -> AsyncIterator[str]:
        try:
            for address in endless():
                yield address
        finally:
            raise OwnError("cursor is gone")

    async with enhancer.stream(rows()) as stream:
        await anext(stream)
    assert [record.getMessage() for record in caplog.records] == [
        "the input failed when it was closed: cursor is gone"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    await traces.are_gone(enhancer)


async def test_an_input_that_is_not_to_be_stopped_is_left_behind(
    enhancer: ping.BulkEnhancer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A clean-up that hangs is cancelled, and one that refuses even that is given up."""
    monkeypatch.setattr("pingdata_async.engine.stream.CLOSE_INPUT_WITHIN_S", 0.05)
    released = asyncio.Event()

    async def rows() -> AsyncIterator[str]:
        try:
            for address in endless():
                yield address
        finally:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

    with anyio.fail_after(120):
        async with enhancer.stream(rows()) as stream:
            await anext(stream)
    assert "did not close in time" in caplog.text
    released.set()


@pytest.mark.parametrize("way", ["task group", "time-out"])
async def test_an_input_that_fails_between_two_chunks_ends_the_run(
    enhancer: ping.BulkEnhancer, traces: Traces, way: str
) -> None:
    """What cancels the task of a generator that nobody has asked just now is no hang."""
    given = asyncio.Event()

    async def fail() -> None:
        await given.wait()
        raise OwnError

    async def failing() -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            for address in endless():
                yield address

    async def late() -> AsyncIterator[str]:
        async with asyncio.timeout(None) as timeout:
            for address in endless():
                if given.is_set():
                    timeout.reschedule(0)
                yield address

    stream = enhancer.stream(failing() if way == "task group" else late())
    await anext(stream)
    given.set()
    expected = ExceptionGroup if way == "task group" else ping.InputError
    with anyio.fail_after(120), pytest.raises(expected) as caught:
        [result async for result in stream]
    if isinstance(caught.value, ExceptionGroup):
        assert caught.group_contains(OwnError)
    await traces.are_gone(enhancer)
