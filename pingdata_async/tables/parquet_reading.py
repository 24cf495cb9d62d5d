"""Parquet files to batches of records, streaming.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import BATCH_ROWS
from pingdata_async.tables.arrow_batches import ArrowReader, load_pyarrow, one_line
from pingdata_async.tables.inputs import Batch, ReadOptions
from pingdata_async.tables.sources import (
    HASH_BLOCK_BYTES,
    Fingerprint,
    HashingStream,
    PeekableStream,
)

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"

_READ_BUFFER_BYTES = 64 * 1024  # of each column; without it a column is read a row group at once
_MAX_BATCH_BYTES = 4 * 1024 * 1024  # rows that are larger than most must not pile up in memory


class ParquetReader(ArrowReader):
    """Records of a Parquet file; see `InputReader`.

    The file is hashed first, and read a second time then. What comes from a pipe is kept in an
    unnamed temporary file meanwhile: the end of a Parquet file has to be read first.

    Args:
        name: The input, for messages.
        source: What is hashed.
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
        super().__init__(name, options)
        self._source = source
        self._content = content
        self._keep_waiting = keep_waiting

    def fingerprint(self) -> Fingerprint:
        """Of the whole file, once the first batch was read."""
        return self._source.fingerprint()

    def __iter__(self) -> Iterator[Batch]:
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

        opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BUFFER_BYTES)
        self._take_up(opened.schema_arrow)
        rows = _rows_at_once(opened.metadata)
        batches = opened.iter_batches(batch_size=rows, use_threads=False)
        yield from self._batches(batches, rows)


def _rows_at_once(metadata: Any) -> int:
    """As many rows as are best looked at together, unless they are large."""
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size / (group.num_rows or 1) for group in groups), default=0)
    return max(1, min(BATCH_ROWS, int(_MAX_BATCH_BYTES / max(largest, 1))))
