"""The plan: the input, read once and written down as chunks.

One file of chunks in MessagePack, one behind the other; where each begins is kept in
memory (8 bytes a chunk). From here on the input is not needed any more.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread
import msgspec
from anyio.from_thread import check_cancelled

from pingdata_async.bulk.chunking import Chunk, ChunkBuilder
from pingdata_async.locations import user_id
from pingdata_async.tables.readers import InputReader, open_input

WRITE_BUFFER_BYTES = 1024 * 1024
ROWS_BETWEEN_CHECKS = 1000  # a few milliseconds

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


class Plan:
    """A plan on disk, and what it amounts to.

    Attributes:
        path: Where it is.
        rows: Data records of the input.
        locations: Rows that are to be sent.
        chunks: Chunks they were split into.
        unused_columns: Columns that mean nothing to the API.
        values_left_out: Optional values that were unreadable, and are not sent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = array("Q", [0])
        self._file: int | None = None
        self.rows = 0
        self.locations = 0
        self.unused_columns: tuple[str, ...] = ()
        self.values_left_out = 0

    @property
    def chunks(self) -> int:
        """Chunks in the plan."""
        return len(self._offsets) - 1

    async def make(self, source: str | Path, builder: ChunkBuilder) -> None:
        """Read the input through and write the plan. Cancelled, it stops at once.

        Raises:
            InputError: When the input cannot be used.
            OSError: When the plan cannot be written.
        """
        await anyio.to_thread.run_sync(self._make, source, builder)

    def _make(self, source: str | Path, builder: ChunkBuilder) -> None:
        with (
            open_input(source, check_cancelled) as reader,
            self.path.open("xb", WRITE_BUFFER_BYTES) as file,
        ):
            for chunk in _chunks(reader, builder):
                self.rows += chunk.total_rows
                self.locations += len(chunk.rows)
                encoded = _encoder.encode(chunk)
                file.write(encoded)
                self._offsets.append(self._offsets[-1] + len(encoded))
            self.unused_columns = reader.unused_columns
            self.values_left_out = builder.values_left_out

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
        """One chunk of the plan; blocks, so call it in a thread."""
        if self._file is None:
            raise RuntimeError("a plan is read inside its `with` block")
        begin, end = self._offsets[index], self._offsets[index + 1]
        return _decoder.decode(os.pread(self._file, end - begin, begin))

    async def iter_chunks(self) -> AsyncGenerator[Chunk, None]:
        """Every chunk, in order, each read when it is asked for."""
        for index in range(self.chunks):
            yield await anyio.to_thread.run_sync(self.read, index)


def _chunks(reader: InputReader, builder: ChunkBuilder) -> Iterator[Chunk]:
    for row, record in enumerate(reader):
        if row % ROWS_BETWEEN_CHECKS == 0:
            check_cancelled()
        if record.error is None:
            chunk = builder.add(row, record.location)
        else:
            own_id = user_id(record.location)
            chunk = builder.add_invalid(row, own_id, record.error, record.location)
        if chunk is not None:
            yield chunk
    rest = builder.rest()
    if rest is not None:
        yield rest
