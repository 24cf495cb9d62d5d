"""A thread of its own for what takes a while."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from pingdata_async.util.loop import SingleThreadExecutor


async def test_all_is_done_in_one_thread_in_order() -> None:
    """However many ask: one after the other, never in the event loop's own thread."""
    done: list[tuple[int, str]] = []
    with SingleThreadExecutor("worker") as thread:

        async def ask(number: int) -> None:
            await thread.run(lambda: done.append((number, threading.current_thread().name)))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, number)
    assert done == [(number, "worker_0") for number in range(20)]


async def test_an_error_is_raised_to_who_asked() -> None:
    """By waiting in the event loop, and by waiting in another thread."""
    with SingleThreadExecutor("worker") as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0)
        future = thread.submit(lambda: 1 // 0)
        error = await thread.run(future.exception)  # it is done by then
        assert isinstance(error, ZeroDivisionError)


async def test_cancelling_waits_for_the_end() -> None:
    """What was begun is not left behind half done."""
    began, may_end = threading.Event(), threading.Event()
    happened: list[str] = []

    def work() -> None:
        began.set()
        may_end.wait(10)
        happened.append("ended")

    with SingleThreadExecutor("worker") as thread:

        async def ask() -> None:
            try:
                await thread.run(work)
            finally:
                happened.append("left")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(began.wait, 10)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):  # time for it to leave, if it would
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
            happened.append("may end")
            may_end.set()
    assert happened == ["may end", "ended", "left"]
