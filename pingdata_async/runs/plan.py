"""The plan: the input, read once and written down as chunks.

One file of zstd frames, one for each chunk, in MessagePack. The last frame says where each
of them begins and what it all amounts to; a trailer behind it says how long that frame is,
and shows that the plan is whole. From here on the input is not needed any more.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio.to_thread
import msgspec
from anyio.from_thread import check_cancelled

from pingdata_async.bulk.chunking import Chunk, ChunkBuilder
from pingdata_async.exceptions import RunError
from pingdata_async.runs.compression import DamagedFrameError, compress, decompress
from pingdata_async.runs.filesystem import open_private, sync_file, sync_folder
from pingdata_async.tables.input_reader import InputReader
from pingdata_async.tables.inputs import ReadOptions
from pingdata_async.tables.readers import open_input
from pingdata_async.tables.sources import Fingerprint

WRITE_BUFFER_BYTES = 1024 * 1024

_TRAILER = struct.Struct("<Q8s")  # the last frame's length, and what this file is
_MAGIC = b"PINGPLN"
_FORMAT = b"1"  # changes with any change of what the frames hold

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


class _Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The last frame."""

    rows: int
    locations: int
    chunk_size: int
    body_bytes: int
    unused_columns: tuple[str, ...]
    values_left_out: int
    fingerprint: Fingerprint
    offsets: bytes  # 8 bytes each, little-endian


_totals = msgspec.msgpack.Decoder(_Totals)


class Plan:
    """A plan on disk, and what it amounts to; `make()` or `open()` tell that.

    Attributes:
        path: Where it is.
        rows: Data records of the input.
        locations: Rows that are to be sent.
        chunks: Chunks they were split into.
        chunk_size: Locations in the largest chunk.
        body_bytes: All locations as they will be sent, without their ids.
        unused_columns: Columns that mean nothing to the API.
        values_left_out: Optional values that were unreadable, and are not sent.
        fingerprint: Which input it was made of; None before it is made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = array("Q", [0])  # 8 bytes a chunk are all that is kept in memory
        self._file: int | None = None
        self.rows = 0
        self.locations = 0
        self.chunk_size = 0
        self.body_bytes = 0
        self.unused_columns: tuple[str, ...] = ()
        self.values_left_out = 0
        self.fingerprint: Fingerprint | None = None

    @property
    def chunks(self) -> int:
        """Chunks in the plan."""
        return len(self._offsets) - 1

    def exists(self) -> bool:
        """Whether a plan is there; under its name there is only ever a whole one. Blocks."""
        return self.path.exists()

    async def make(self, source: str | Path, builder: ChunkBuilder) -> None:
        """Read the input through and write the plan. Cancelled, it stops at once.

        It is there under its name only when it is whole and on the disk. Use a new object
        after a failure.

        Raises:
            InputError: When the input cannot be used.
            RunError: When there is a plan already.
            OSError: When the plan cannot be written.
        """
        await anyio.to_thread.run_sync(self._make, source, builder)

    def _make(self, source: str | Path, builder: ChunkBuilder) -> None:
        if self.exists():
            raise RunError(f"{self.path} exists already")  # answers may belong to it
        part = self.path.with_name(f"{self.path.name}.part")  # an old one is overwritten
        try:
            with (
                open_input(source, check_cancelled, ReadOptions()) as reader,
                open(part, "wb", WRITE_BUFFER_BYTES, opener=open_private) as file,
            ):
                self._write(file, reader, builder)
                file.flush()
                sync_file(file.fileno())
            part.rename(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        sync_folder(self.path.parent)

    def _write(self, file: BinaryIO, reader: InputReader, builder: ChunkBuilder) -> None:
        for chunk in _chunks(reader, builder):
            self.rows += chunk.total_rows
            self.locations += len(chunk.rows)
            self.chunk_size = max(self.chunk_size, len(chunk.rows))
            self.body_bytes += sum(map(len, chunk.locations))
            frame = compress(_encoder.encode(chunk))
            file.write(frame)
            self._offsets.append(self._offsets[-1] + len(frame))
        self.unused_columns = reader.unused_columns
        self.values_left_out = builder.values_left_out
        self.fingerprint = reader.fingerprint()
        totals = _Totals(
            rows=self.rows,
            locations=self.locations,
            chunk_size=self.chunk_size,
            body_bytes=self.body_bytes,
            unused_columns=self.unused_columns,
            values_left_out=self.values_left_out,
            fingerprint=self.fingerprint,
            offsets=_little_endian(self._offsets).tobytes(),
        )
        last = compress(_encoder.encode(totals))
        file.write(last)
        file.write(_TRAILER.pack(len(last), _MAGIC + _FORMAT))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take up a plan that was made before, without its input. Blocks.

        Raises:
            RunError: When it is missing, damaged, or of another version of this package.
        """
        plan = cls(path)
        try:
            with path.open("rb") as file:
                totals = plan._read_totals(file)
        except OSError as error:
            raise RunError(f"the plan {path} cannot be read: {error.strerror or error}") from error
        plan.rows, plan.locations = totals.rows, totals.locations
        plan.chunk_size, plan.body_bytes = totals.chunk_size, totals.body_bytes
        plan.unused_columns = totals.unused_columns
        plan.values_left_out = totals.values_left_out
        plan.fingerprint = totals.fingerprint
        return plan

    def _read_totals(self, file: BinaryIO) -> _Totals:
        size = file.seek(0, os.SEEK_END)
        if size < _TRAILER.size:
            raise self._damaged("it is cut short")
        file.seek(size - _TRAILER.size)
        length, magic = _TRAILER.unpack(file.read(_TRAILER.size))
        begin = size - _TRAILER.size - length
        if not magic.startswith(_MAGIC) or begin < 0:
            raise self._damaged("its end is missing")
        if magic != _MAGIC + _FORMAT:
            raise RunError(f"the plan {self.path} is of another version of pingdata-async")
        file.seek(begin)
        try:
            totals = _totals.decode(decompress(file.read(length)))
        except (DamagedFrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(f"its table of contents: {error}") from error
        self._offsets = _offsets(totals.offsets)
        if self._offsets[-1] != begin:
            raise self._damaged("its length is not what its table of contents says")
        return totals

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, index: int) -> Chunk:
        """One chunk of the plan; blocks, so call it in a thread.

        Raises:
            RunError: When it is damaged or cannot be read.
        """
        if self._file is None:
            raise RuntimeError("a plan is read inside its `with` block")
        begin, end = self._offsets[index], self._offsets[index + 1]
        try:
            return _decoder.decode(decompress(os.pread(self._file, end - begin, begin)))
        except OSError as error:
            raise RunError(
                f"the plan {self.path} cannot be read: {error.strerror or error}"
            ) from error
        except (DamagedFrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(f"chunk {index}: {error}") from error

    def _damaged(self, what: str) -> RunError:
        return RunError(
            f"the plan {self.path} is damaged ({what}). Restore it from a copy of the run "
            "directory, if there is one; else begin a new run"
        )


def _chunks(reader: InputReader, builder: ChunkBuilder) -> Iterator[Chunk]:
    row = 0
    for batch in reader:
        check_cancelled()
        yield from builder.add_batch(row, batch.locations, batch.errors)
        row += len(batch.locations)
    rest = builder.rest()
    if rest is not None:
        yield rest


def _offsets(content: bytes) -> array[int]:
    offsets = array("Q")
    offsets.frombytes(content)
    return _little_endian(offsets)


def _little_endian(offsets: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return offsets
    swapped = array("Q", offsets)
    swapped.byteswap()
    return swapped
