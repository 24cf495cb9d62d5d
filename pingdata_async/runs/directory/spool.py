"""`spool/`: each chunk's output as it came, whole or not at all.

What came compressed is kept as it came: that costs nothing, and gzip has a checksum. Lines that
need only be joined for the output would save the export half its work, but take ten times the
disk, for as long as the run is kept (`benchmarks/README.md` has the figures).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.util.compression import (
    MAX_PACKED_BYTES,
    DamagedFrameError,
    compress,
    decompress,
    unpacked_at_most,
)
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.files import make_private_folder, open_regular, sync_folder, write_whole
from pingdata_async.util.redaction import holds_secret, masked

_AS_IT_CAME, _PACKED_HERE = ".json.gz", ".json.zst"
UNREADABLE = ".unreadable-"  # as it came, whatever that is
MAX_UNREADABLE_BYTES = 64 * 1024 * 1024  # of one output
PIECE_BYTES = 1024 * 1024  # looked through at a time for secrets
OVERLAP_BYTES = 4096  # longer than a secret, however it is escaped
CHUNKS_A_FOLDER = 1000  # folders of millions of files are slow on many file systems


class Spool:
    """Bodies by chunk, in sharded folders.

    Args:
        folder: Where; made when the first body is kept.

    Attributes:
        chunks: Bodies kept by this object.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._safe_folders: set[Path] = set()
        self._making_folders = threading.Lock()
        self.chunks = 0

    async def keep(self, index: int, body: EncodedBody) -> None:
        """Keep a chunk's answers. Under its final name there is only ever a whole one.

        When this returns they survive a power cut. Not cancelled half-way: what is being
        written was paid for, and whoever counts chunks must count this one. What a killed
        process left half-written is overwritten.

        Raises:
            OSError: When it cannot be written.
        """
        with anyio.CancelScope(shield=True):
            # One visit to a thread for all of it.
            await anyio.to_thread.run_sync(self._keep, index, body)
        self.chunks += 1

    def _keep(self, index: int, body: EncodedBody) -> None:
        path, other = self._path(index, _AS_IT_CAME), self._path(index, _PACKED_HERE)
        content = body.raw
        if not body.is_gzip:
            path, other = other, path
            content = compress(body.content())
        self._make_folder(path.parent)
        other.unlink(missing_ok=True)  # of an answer whose chunk was never said to be kept
        write_whole(path, content)

    async def keep_unreadable(self, index: int, bodies: Sequence[EncodedBody]) -> Path:
        """Keep what came for a chunk and is no answer; returns where the first is.

        As it came, unless it holds a secret: it is no answer, but perhaps a page that quotes our
        request, for a person to look at.

        Raises:
            OSError: When it cannot be written.
        """
        return await anyio.to_thread.run_sync(self._keep_unreadable, index, bodies)

    def _keep_unreadable(self, index: int, bodies: Sequence[EncodedBody]) -> Path:
        paths = [self._path(index, f"{UNREADABLE}{number}") for number in range(len(bodies))]
        self._make_folder(paths[0].parent)
        for path, body in zip(paths, bodies, strict=True):
            write_whole(path, _to_be_looked_at(body))
        return paths[0]

    def _make_folder(self, folder: Path) -> None:
        # Under a lock: nobody may go on in a folder whose own name is not on the disk yet.
        with self._making_folders:
            if folder in self._safe_folders:
                return
            # Addresses and answers are the user's own: for the owner alone.
            make_private_folder(self._folder, exist_ok=True)
            make_private_folder(folder, exist_ok=True)
            sync_folder(self._folder)
            sync_folder(self._folder.parent)
            self._safe_folders.add(folder)

    def read(self, index: int) -> bytes | None:
        """A chunk's answers; None where there are none. Blocks, so call it in a thread.

        Raises:
            RunError: When the file is damaged or cannot be read.
        """
        path = self.path_of(index)
        try:
            with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                if os.fstat(file.fileno()).st_size > MAX_PACKED_BYTES:
                    raise DamagedFrameError("its size is wrong")
                content = file.read()
            if path.name.endswith(_AS_IT_CAME):
                return _inflated(content)
            return decompress(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(
                f"{path}, the answers to chunk {index}, cannot be read: {error.strerror or error}"
            ) from error
        except DamagedFrameError as error:
            raise RunError(
                f"{path}, the answers to chunk {index}, is damaged ({error}). Restore it from "
                "a copy of the run directory, if there is one; else its rows must be asked, "
                "and paid, for again in a new run. The other chunks' answers are not affected"
            ) from error

    def path_of(self, index: int) -> Path:
        """Where a chunk's answers are; where there are none, where they probably would be."""
        path = self._path(index, _PACKED_HERE)
        return path if path.exists() else self._path(index, _AS_IT_CAME)

    def _path(self, index: int, suffix: str) -> Path:
        return self._folder / f"{index // CHUNKS_A_FOLDER:06d}" / f"{index:09d}{suffix}"


def _to_be_looked_at(body: EncodedBody) -> bytes:
    try:
        content = body.content()
    except DecodeError:  # what cannot be inflated cannot be looked through
        content = body.raw
    content = content[:MAX_UNREADABLE_BYTES]
    pieces = range(0, len(content), PIECE_BYTES)
    if any(holds_secret(_text(content[at : at + PIECE_BYTES + OVERLAP_BYTES])) for at in pieces):
        return masked(_text(content)).encode("latin-1")
    return body.raw[:MAX_UNREADABLE_BYTES]


def _text(content: bytes) -> str:
    return content.decode("latin-1")  # any bytes, and back again


def _inflated(content: bytes) -> bytes:
    if not content:
        raise DamagedFrameError("it is empty")
    body = EncodedBody(content, "gzip", "a file of the spool", unpacked_at_most(len(content)))
    try:
        return body.content()
    except DecodeError as error:
        raise DamagedFrameError(str(error)) from error
