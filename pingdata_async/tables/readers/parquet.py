"""Parquet files to batches of rows, as a stream.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.readers.arrow import (
    ArrowReader,
    in_types,
    load_pyarrow,
    one_line,
    spread_bytes,
)
from pingdata_async.tables.readers.base import HASH_BLOCK_BYTES, HashingStream, PeekableStream
from pingdata_async.tables.rows import Batch, ReadOptions

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"

_READ_BUFFER_BYTES = 64 * 1024  # of each column; without it a column is read a row group at once
_MAX_BATCH_BYTES = 4 * 1024 * 1024  # rows that are larger than most must not pile up in memory
_ROWS_READ_AT_ONCE = 8 * BATCH_ROWS  # each time, Arrow makes the dictionaries anew
_ROWS_OF_SHARED_TEXTS = 32  # one that takes from the one before may have any size
_ITEM_BYTES = 8  # a number, or where a text begins

MAX_RATIO = 100
"""Of all that is in a file to the file itself; real tables are up to 20."""

BYTES_EACH_CELL = 40
"""What is free beside that: short texts and numbers are repeated for millions of rows."""

MAX_SPREAD_BYTES = 32 * 1024 * 1024
"""And of a file as a whole."""


class ParquetReader(ArrowReader):
    """Records of a Parquet file; see `InputReader`.

    The file is hashed first, and read a second time then. What comes from a pipe is kept in an
    unnamed temporary file meanwhile: the end of a Parquet file has to be read first.

    Args:
        name: The input, for messages.
        source: The stream that hashes the input.
        content: Its bytes.
        options: How it is to be understood.
        keep_waiting: Called now and then; may raise to end the reading.
    """

    def __init__(
        self,
        name: str,
        source: HashingStream,
        content: PeekableStream,
        options: ReadOptions,
        keep_waiting: Callable[[], None],
    ) -> None:
        super().__init__(name, source, options)
        self._source = source
        self._content = content
        self._keep_waiting = keep_waiting

    def _batches(self) -> Iterator[Batch]:
        pa = load_pyarrow(f"{self.name} is a Parquet file, which")
        with contextlib.ExitStack() as stack:
            file = self._hashed(stack)
            try:
                yield from self._read(file)
            except (pa.ArrowException, OSError) as error:
                raise InputError(
                    f"{self.name} is damaged, or no Parquet file: {one_line(error)}"
                ) from error
            if self._has_changed():
                raise InputError(f"{self.name} was changed while it was read; give it again")

    def _hashed(self, stack: contextlib.ExitStack) -> IO[bytes] | io.FileIO:
        """The file, at any place of which can be read; it is hashed now."""
        file = self._source.file
        if file is None:
            spooled = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack's
            shutil.copyfileobj(self._content, spooled, HASH_BLOCK_BYTES)
            return spooled
        buffer = bytearray(HASH_BLOCK_BYTES)
        while self._content.readinto(buffer):
            self._keep_waiting()
        return file

    def _has_changed(self) -> bool:
        file, found = self._source.file, self._source.fingerprint()
        if file is None:
            return False
        now = os.fstat(file.fileno())
        return (now.st_size, now.st_mtime_ns) != (found.size_bytes, found.mtime_ns)

    def _read(self, file: Any) -> Iterator[Batch]:
        from pyarrow import parquet  # noqa: PLC0415 - optional

        open_ = functools.partial(
            parquet.ParquetFile, file, pre_buffer=False, buffer_size=_READ_BUFFER_BYTES
        )
        opened = open_()
        metadata, schema = opened.metadata, opened.schema_arrow
        self._take_up(schema)
        self._check_size(metadata)
        rows = _rows_at_once(metadata)
        # A dictionary has each text once; only pieces of a bounded size are spread out.
        texts = _with_dictionaries(metadata)
        opened = open_(metadata=metadata, read_dictionary=texts)
        batches = opened.iter_batches(batch_size=rows, use_threads=False)
        yield from self._pieces(self._spread_out(batches, schema), min(rows, BATCH_ROWS))

    def _spread_out(self, batches: Iterable[Any], schema: Any) -> Iterator[Any]:
        """The same rows in their own types, so many at once as memory holds."""
        left_bytes = MAX_SPREAD_BYTES + MAX_RATIO * self._source.size_bytes
        for batch in batches:
            left_bytes += BYTES_EACH_CELL * batch.num_rows * batch.num_columns
            for piece, size_bytes in _pieces(batch):
                left_bytes -= size_bytes
                if left_bytes < 0:
                    raise self._too_large()
                yield in_types(piece, schema)

    def _check_size(self, metadata: Any) -> None:
        """A page is decompressed whole, so what the file says of itself is looked at before."""
        said_bytes = sum(metadata.row_group(n).total_byte_size for n in _groups(metadata))
        cells = metadata.num_rows * metadata.num_columns
        most_bytes = MAX_SPREAD_BYTES + MAX_RATIO * self._source.size_bytes
        if said_bytes > most_bytes + BYTES_EACH_CELL * cells:
            raise self._too_large()

    def _too_large(self) -> InputError:
        return InputError(
            f"{self.name} becomes more than {MAX_RATIO} times as large as it is, as long texts "
            "are in it many times; leave their columns out"
        )


def _pieces(batch: Any) -> Iterator[tuple[Any, int]]:
    """Parts of a batch that are small once they are spread out, or single rows; how large."""
    size_bytes = sum(map(spread_bytes, batch.columns))
    if size_bytes <= _MAX_BATCH_BYTES or batch.num_rows == 1:
        yield batch, size_bytes
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _with_dictionaries(metadata: Any) -> list[str]:
    """The columns of texts of which a part at least is kept as a dictionary."""
    return sorted(
        {
            column.path_in_schema
            for column in _chunks(metadata)
            if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page
        }
    )


def _groups(metadata: Any) -> range:
    return range(metadata.num_row_groups)


def _chunks(metadata: Any) -> Iterator[Any]:
    for group in map(metadata.row_group, _groups(metadata)):
        yield from map(group.column, range(group.num_columns))


def _rows_at_once(metadata: Any) -> int:
    """As many rows as are best read together, unless they are large."""
    largest = max(map(_row_bytes, map(metadata.row_group, _groups(metadata))), default=0)
    shares_texts = any("DELTA_BYTE_ARRAY" in column.encodings for column in _chunks(metadata))
    most = _ROWS_OF_SHARED_TEXTS if shares_texts else _ROWS_READ_AT_ONCE
    return max(1, min(most, int(_MAX_BATCH_BYTES / max(largest, 1))))


def _row_bytes(group: Any) -> float:
    """About how large a row is in memory. Equal items of lists take nothing in a file."""
    items = sum(group.column(n).num_values for n in range(group.num_columns))
    size_bytes: int = max(group.total_byte_size, _ITEM_BYTES * items)
    return size_bytes / (group.num_rows or 1)
