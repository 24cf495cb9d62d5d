"""A file that takes its name only when it is whole, written through aiofiles.

Apart from the client, as only those who download need aiofiles.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedWriter, FileIO
from pathlib import Path

import anyio
from aiofiles.threadpool import wrap
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from pingdata_async.util.files import sync_file, sync_folder

BUFFER_BYTES = 1024 * 1024


@contextlib.asynccontextmanager
async def open_whole(to: str | Path) -> AsyncIterator[AsyncBufferedIOBase]:
    """Open a file for writing that replaces `to` when the block ends, whole and on the disk.

    Until then it has a temporary name beside it, which an error or a cancellation removes; what
    was under the name `to` stays as it was.

    Raises:
        OSError: When it cannot be written.
    """
    loop, part = asyncio.get_running_loop(), _Part(to)
    # One thread: what tidies up after a cancellation waits there for what is still going on.
    executor = ThreadPoolExecutor(1, thread_name_prefix="pingdata-download")
    try:
        file = await loop.run_in_executor(executor, part.open)
        yield wrap(file, loop=loop, executor=executor)
        await loop.run_in_executor(executor, part.finish)
    except BaseException:
        discarded = executor.submit(part.discard)
        with anyio.CancelScope(shield=True):
            await asyncio.wrap_future(discarded)
        raise
    finally:
        executor.shutdown(wait=False)


class _Part:
    """The file under its temporary name; every method blocks."""

    def __init__(self, to: str | Path) -> None:
        self._to = to
        self._file: BufferedWriter[FileIO] | None = None

    def open(self) -> BufferedWriter[FileIO]:
        self._path = Path(os.path.realpath(self._to))  # behind a link, the file itself is replaced
        if self._path.is_dir():  # told before anything is downloaded
            raise IsADirectoryError(f"{self._path} is a folder, not a file")
        name = f".{self._path.name}.{secrets.token_hex(8)}.part"
        self._part = self._path.with_name(name)
        self._file = BufferedWriter(FileIO(self._part, "xb"), BUFFER_BYTES)
        return self._file

    def finish(self) -> None:
        if self._file is not None:
            self._file.flush()
            sync_file(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)
