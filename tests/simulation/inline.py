"""One thread, one clock, one order: what makes a simulation the same every time.

While `everything_inline()` lasts, work that is given to threads is done in the event loop, in
simulated time; the wall clock of the durable part is the loop's own; and sets that decide who
is cancelled first keep the order in which they were filled, not that of addresses in memory.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import types
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from unittest import mock

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio._backends import _asyncio

from pingdata_async.api import transport
from pingdata_async.engine import submission as submitting
from pingdata_async.runs import resume as resuming
from pingdata_async.runs.journal import journal
from pingdata_async.util.loop import SingleThreadExecutor
from tests.simulation import virtual_loop

T = TypeVar("T")
Errand = Callable[[Callable[[], Any]], Awaitable[Any]]


class _OrderedSet(dict[Any, None]):
    """As much of a set as is needed."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]

    def discard(self, item: Any) -> None:
        self.pop(item, None)


async def at_once(work: Callable[[], Any]) -> Any:
    """Let others have a turn, then do it."""
    await anyio.lowlevel.checkpoint()
    return work()


class Threads:
    """Where work for threads goes.

    Attributes:
        errand: Does it; whoever simulates may put something else here.
    """

    def __init__(self) -> None:
        self.errand: Errand = at_once

    async def run_sync(
        self,
        func: Callable[..., T],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: object = None,
    ) -> T:
        """In the place of `anyio.to_thread.run_sync()`: as hard to cancel as that."""
        del limiter
        with anyio.CancelScope(shield=not abandon_on_cancel):
            done: T = await self.errand(lambda: func(*args))
        return done


def _submitted(_self: SingleThreadExecutor, work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
    return future


@functools.cache
def _tls_context(_settings: object) -> ssl.SSLContext:
    """Never used, as there are no connections; reading certificates takes 50 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextlib.contextmanager
def everything_inline() -> Iterator[Threads]:
    """Let everything happen in one thread, by one clock and in one order."""
    threads = Threads()
    clock = types.SimpleNamespace(time=anyio.current_time)
    with contextlib.ExitStack() as stack:
        for target, name, value in (
            (anyio.to_thread, "run_sync", threads.run_sync),
            (SingleThreadExecutor, "run", lambda _self, work: threads.run_sync(work)),
            (SingleThreadExecutor, "submit", _submitted),
            (journal, "time", clock),
            (resuming, "time", clock),
            (transport, "tls_context", lambda _settings: _tls_context(None)),
            (virtual_loop, "STUCK_AFTER_S", 0.0),  # no thread will wake the loop
            (virtual_loop, "MOST_TURNS_AT_ONCE", 50_000),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        for module in (_asyncio, submitting):
            stack.enter_context(mock.patch.object(module, "set", _OrderedSet, create=True))
        yield threads
