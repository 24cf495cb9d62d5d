"""`spool/`: each chunk's output as it came, one behind the other in large files.

A segment is appended to by one process alone, and the journal knows where in it each output is.
What a killed process appended without a word in the journal is nobody's answer: the next process
begins a segment of its own. It is not cut off there, as the journal may be an older copy.

What came compressed is kept as it came: that costs nothing, and gzip has a checksum. `zcat` reads a
segment of such outputs, `zstdcat` one of the others. Lines that need only be joined for the output
would save the export half its work, but take ten times the disk, for as long as the run is kept
(`benchmarks/README.md` has the figures).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.runs.journal.records import PackedOutput, SpoolPlace
from pingdata_async.util.compression import (
    MAX_PACKED_BYTES,
    DamagedFrameError,
    compress,
    decompress,
    unpacked_at_most,
)
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.files import (
    Closing,
    is_under,
    make_private_folder,
    open_private,
    open_regular,
    sync_content,
    sync_folder,
    write_at,
    write_whole,
)
from pingdata_async.util.redaction import holds_secret, masked

_AS_IT_CAME, _PACKED_HERE = ".json.gz", ".json.zst"
SEGMENT_NAME = r"\d{6}\.json\.(gz|zst)"
MAX_SEGMENT_BYTES = 256 * 1024 * 1024  # a new one is begun behind that
UNREADABLE = ".unreadable-"  # as it came, whatever that is
MAX_UNREADABLE_BYTES = 64 * 1024 * 1024  # of one output
PIECE_BYTES = 1024 * 1024  # looked through at a time for secrets
OVERLAP_BYTES = 4096  # longer than a secret, however it is escaped


class _Segment:
    """A file that outputs are appended to.

    Attributes:
        path: Where it is.
        end: Where the next output begins.
        synced: How far it is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Addresses and answers are the user's own: for the owner alone.
        self._file = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.end = self.synced = 0

    def append(self, content: bytes) -> SpoolPlace:
        try:
            write_at(self._file, content, self.end)
        except OSError:
            self._cut_at(self.end)
            raise
        place = SpoolPlace(self.path.name, self.end, len(content))
        self.end += len(content)
        return place

    def sync(self) -> None:
        try:
            if not is_under(self._file, self.path):
                raise RunError(
                    f"{self.path} was moved or removed while the run wrote in it, so nothing more "
                    "is sent; put it back, then resume"
                )
            sync_content(self._file)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror or error}; make room if the disk "
                "is full, then resume"
            ) from error
        self.synced = self.end

    def undo(self) -> None:
        self._cut_at(self.synced)

    def _cut_at(self, size: int) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, size)

    def close(self) -> None:
        os.close(self._file)


class Spool(Closing):
    """Outputs in segments: appended, synced together, and read by their place.

    What is appended is for the journal's writer, one thread at a time. It blocks.

    Args:
        folder: Where; made when the first output is kept.

    Attributes:
        folder: The same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segments: list[_Segment] = []  # those that are written now
        self._next_number: int | None = None
        self._has_folder = False
        self._making_folder = threading.Lock()

    # -- writing -------------------------------------------------------------------------

    def append(self, output: PackedOutput) -> SpoolPlace:
        """Append an output. It survives a power cut only after `sync()`.

        Raises:
            OSError: When it cannot be written; then nothing was appended.
        """
        for segment in self._segments:
            if segment.path.name.endswith(output.suffix) and segment.end < MAX_SEGMENT_BYTES:
                return segment.append(output.content)
        return self._begun(output.suffix).append(output.content)

    def sync(self) -> None:
        """Sync appended outputs to disk.

        Raises:
            RunError: When that cannot be done.
        """
        for segment in self._unsynced():
            segment.sync()
        self._drop([each for each in self._segments if each.end >= MAX_SEGMENT_BYTES])

    def undo(self) -> None:
        """Remove what was appended since `sync()`: the journal has no record of it.

        Nothing is appended behind what a failed write may have left.
        """
        undone = self._unsynced()
        for segment in undone:
            segment.undo()
        self._drop(undone)

    def close(self) -> None:
        """Close the segments; later outputs begin new ones."""
        self._drop(self._segments.copy())

    def _unsynced(self) -> list[_Segment]:
        return [each for each in self._segments if each.end != each.synced]

    def _drop(self, segments: Sequence[_Segment]) -> None:
        for segment in segments:
            self._segments.remove(segment)
            segment.close()

    def _begun(self, suffix: str) -> _Segment:
        """A new segment, whose name is on the disk."""
        self._make_folder()
        if self._next_number is None:
            names = (path.name for path in self.folder.iterdir())
            numbers = [int(name[:6]) for name in names if re.fullmatch(SEGMENT_NAME, name)]
            self._next_number = max(numbers, default=-1) + 1
        segment = _Segment(self.folder / f"{self._next_number:06d}{suffix}")
        self._next_number += 1
        try:
            sync_folder(self.folder)
        except BaseException:
            segment.close()
            raise
        self._segments.append(segment)
        return segment

    async def keep_unreadable(self, index: int, bodies: Sequence[EncodedBody]) -> Path:
        """Keep what came for a chunk and is no answer; returns where the first is.

        As it came, unless it holds a secret: it is no answer, but perhaps a page that quotes our
        request, for a person to look at.

        Raises:
            OSError: When it cannot be written.
        """
        return await anyio.to_thread.run_sync(self._keep_unreadable, index, bodies)

    def _keep_unreadable(self, index: int, bodies: Sequence[EncodedBody]) -> Path:
        paths = [self.folder / f"{index:09d}{UNREADABLE}{number}" for number in range(len(bodies))]
        self._make_folder()
        for path, body in zip(paths, bodies, strict=True):
            write_whole(path, _to_be_looked_at(body))
        return paths[0]

    def _make_folder(self) -> None:
        # Under a lock: nobody may go on in a folder whose own name is not on the disk yet.
        with self._making_folder:
            if not self._has_folder:
                make_private_folder(self.folder, exist_ok=True)
                sync_folder(self.folder.parent)
                self._has_folder = True

    def clear(self) -> None:
        """Remove all outputs; raises OSError."""
        self.close()
        if self.folder.exists():
            for path in self.folder.iterdir():
                if re.fullmatch(SEGMENT_NAME, path.name):
                    path.unlink()

    # -- reading -------------------------------------------------------------------------

    def read(self, index: int, place: SpoolPlace) -> bytes:
        """The output of a chunk, inflated. Blocks, so call it in a thread.

        Raises:
            RunError: When it is missing or damaged, or cannot be read.
        """
        shown = self.shown(index, place)
        restore = "Restore it from a copy of the run directory, if there is one"
        try:
            content = self._read(place)
            return (
                _inflated(content) if place.segment.endswith(_AS_IT_CAME) else decompress(content)
            )
        except FileNotFoundError as error:
            raise RunError(f"{shown}, is missing, though it was kept there. {restore}") from error
        except OSError as error:
            raise RunError(f"{shown}, cannot be read: {error.strerror or error}") from error
        except DamagedFrameError as error:
            raise RunError(
                f"{shown}, is damaged there ({error}). {restore}; else its rows must be asked, and "
                "paid, for again in a new run. The other chunks' answers are not affected"
            ) from error

    def shown(self, index: int, place: SpoolPlace) -> str:
        """Where a chunk's answers are, for messages."""
        path = self.folder / place.segment
        return f"{path}, with the answers to chunk {index} from byte {place.begin:,}"

    def _read(self, place: SpoolPlace) -> bytes:
        if not re.fullmatch(SEGMENT_NAME, place.segment) or place.begin < 0:
            raise DamagedFrameError("its place is wrong")
        if not 0 < place.size <= MAX_PACKED_BYTES:
            raise DamagedFrameError("its size is wrong")
        file = open_regular(self.folder / place.segment, os.O_RDONLY)
        try:
            if place.begin + place.size > os.fstat(file).st_size:
                raise DamagedFrameError("the file ends before it")
            return os.pread(file, place.size, place.begin)
        finally:
            os.close(file)


def packed_output(body: EncodedBody) -> PackedOutput:
    """An output as it is kept: as it came, or packed here where it came in no gzip. Blocks."""
    if body.is_gzip:
        return PackedOutput(_AS_IT_CAME, body.raw)
    return PackedOutput(_PACKED_HERE, compress(body.content()))


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
