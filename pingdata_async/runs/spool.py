"""The spool: each chunk's answer on disk, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.bulk.checking import Failure

CHUNKS_A_FOLDER = 1000  # folders of millions of files are slow on many file systems

_failure = msgspec.json.Decoder(Failure)


class Spool:
    """Answers by chunk, in sharded folders: a body as it came, or why there is none.

    Args:
        folder: Where; made when the first chunk is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.chunks = 0

    async def keep(self, index: int, answer: bytes | Failure) -> None:
        """Keep a chunk's answer. Under its final name there is only ever a whole one.

        Not cancelled half-way: an answer that is being written was paid for, and whoever
        counts chunks must count this one.

        Raises:
            OSError: When it cannot be written; then nothing is left under its name.
        """
        with anyio.CancelScope(shield=True):
            # One visit to a thread for all of it; aiofiles would make four.
            await anyio.to_thread.run_sync(self._keep, index, answer)
        self.chunks += 1

    def _keep(self, index: int, answer: bytes | Failure) -> None:
        if isinstance(answer, bytes):
            path, content = self._body_path(index), answer
        else:
            path, content = self._failure_path(index), msgspec.json.encode(answer)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        try:
            # Addresses and answers are the user's own: for the owner alone.
            with open(part, "wb", opener=_private) as file:
                file.write(content)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def read(self, index: int) -> bytes | Failure | None:
        """A chunk's answer; None where there is none. Blocks, so call it in a thread."""
        with contextlib.suppress(FileNotFoundError):
            return self._body_path(index).read_bytes()
        with contextlib.suppress(FileNotFoundError):
            return _failure.decode(self._failure_path(index).read_bytes())
        return None

    def _body_path(self, index: int) -> Path:
        return self._folder / f"{index // CHUNKS_A_FOLDER:06d}" / f"{index:09d}.json"

    def _failure_path(self, index: int) -> Path:
        return self._body_path(index).with_suffix(".failed")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
