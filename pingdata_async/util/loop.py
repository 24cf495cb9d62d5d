"""The event loop's time, and a thread beside it for CPU-bound work.

A thread for what takes milliseconds of CPU: one thing after the other, always the same thread.

The C library gives each thread memory of its own, and keeps what it once used: outputs of some
megabytes, read now in this and now in that one of a pool's threads, came to hundreds of megabytes.
For the same reason outputs are inflated in a thread that makes nothing else: small things left
between them keep their place from being used by the next one.

The time that a run goes by: that of the event loop, which a simulation can make its own.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import anyio

from pingdata_async.util.files import Closing

T = TypeVar("T")


class SingleThreadExecutor(Closing):
    """A context manager; the thread is made when it is first needed.

    Args:
        name: Shown by debuggers.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def close(self) -> None:
        """End the thread when it has done its present work."""
        # Without waiting: where something is at work still, its task was torn away from it.
        self._executor.shutdown(wait=False, cancel_futures=True)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done there; `result()` of what is returned blocks, so call it in a thread."""
        return self._executor.submit(work)

    async def run(self, work: Callable[[], T]) -> T:
        """Do it there; returns what it returns, and raises what it raises.

        Being cancelled waits for the end of it, as with `anyio.to_thread.run_sync()`.
        """
        with anyio.CancelScope(shield=True):
            return await get_running_loop().run_in_executor(self._executor, work)
        raise AssertionError("a shielded scope is not cancelled")


def loop_time() -> float:
    """The present time in seconds; as `anyio.current_time()`, at a tenth of its cost."""
    return get_running_loop().time()
