"""Standard output, which may be anything; whoever reads it may take any time."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

LOOK_UP_AFTER_MS = 100  # whether it is cancelled


class StandardOutput(io.RawIOBase):
    """Writes to a stream, and waits for its reader no longer than until it is cancelled.

    A thread in the middle of a write to a full pipe does not end before the reader goes on, and the
    process not before its thread. So each write is one that need not wait.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._room: select.poll | None = None  # where a write may have to wait
        self._is_cancelled = False
        with contextlib.suppress(io.UnsupportedOperation):  # no file: a stand-in
            if os.name == "posix" and not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                stream.flush()
                self._room = select.poll()
                self._room.register(stream.fileno(), select.POLLOUT)

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, block: Any) -> int:
        """Write all of it; blocks.

        Raises:
            OSError: When that fails, or it is cancelled.
        """
        if self._room is None:
            self._stream.write(block)
            return memoryview(block).nbytes
        left = memoryview(block).cast("B")
        while left:
            while not self._room.poll(LOOK_UP_AFTER_MS):
                if self._is_cancelled:
                    raise InterruptedError(errno.EINTR, "nobody reads it")
            left = left[os.write(self._stream.fileno(), left[: select.PIPE_BUF]) :]
        return memoryview(block).nbytes

    def flush(self) -> None:
        """Write what the stream itself may hold; blocks."""
        if self._room is None:
            self._stream.flush()

    def close(self) -> None:
        """Leave the stream as it is, for others; Python calls this when nobody uses it any more."""

    async def watch(self, *, task_status: TaskStatus[None]) -> None:
        """Wait until this is cancelled, and have nobody waited for then."""
        try:
            task_status.started()
            await anyio.sleep_forever()
        finally:
            self._is_cancelled = True


@contextlib.asynccontextmanager
async def open_standard_output(stream: BinaryIO) -> AsyncIterator[StandardOutput]:
    """Standard output for a block; once that is cancelled, what is being written in a thread fails.

    Args:
        stream: Where to.
    """
    errors: list[Exception] = []
    output = await anyio.to_thread.run_sync(StandardOutput, stream)
    async with anyio.create_task_group() as tasks:
        await tasks.start(output.watch)
        try:
            yield output
        except Exception as error:  # noqa: BLE001 - the group would wrap it
            errors.append(error)
        tasks.cancel_scope.cancel()
    if errors:
        await anyio.lowlevel.checkpoint_if_cancelled()  # of which it may be the consequence
        raise errors[0]
