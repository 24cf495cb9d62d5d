"""The event loop's time, and a thread beside it for CPU-bound work."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import anyio
import anyio.lowlevel

from pingdata_async.util.files import Closing

T = TypeVar("T")


def loop_time() -> float:
    """The event loop's time in seconds, which a simulation can make its own.

    It is `anyio.current_time()` at a tenth of its cost.
    """
    return get_running_loop().time()


class SingleThreadExecutor(Closing):
    """Runs what takes milliseconds of CPU in one thread, one after the other; a context manager.

    Always the same thread: the C library gives each thread memory of its own, and keeps what it
    once used. Outputs of some megabytes, read now in this and now in that thread of a pool, came
    to hundreds of megabytes. For the same reason outputs are inflated in a thread that makes
    nothing else: small things left between them keep their place from being used again.

    The thread is made when it is first needed.

    Args:
        name: Shown by debuggers.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The executor itself, for what takes one."""
        return self._executor

    def close(self) -> None:
        """End the thread when it has done its present work."""
        # Without waiting: where work is still going on, its task is gone.
        self._executor.shutdown(wait=False, cancel_futures=True)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run it there; `result()` of what is returned blocks, so call that in a thread."""
        return self._executor.submit(work)

    async def run(self, work: Callable[[], T]) -> T:
        """Run it there; returns what it returns, and raises what it raises.

        Cancelled before, it does nothing; a cancellation meanwhile waits for its end, as with
        `anyio.to_thread.run_sync()`.
        """
        # Whoever has one thing after the other done here would never notice a cancellation else.
        await anyio.lowlevel.checkpoint_if_cancelled()
        with anyio.CancelScope(shield=True):
            return await get_running_loop().run_in_executor(self._executor, work)
        raise AssertionError("a shielded scope is not cancelled")
