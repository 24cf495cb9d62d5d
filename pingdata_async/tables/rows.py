"""Input rows in their original form (text, cells, JSON, Arrow), and which input they are from."""

from __future__ import annotations

import math
import os
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from pingdata_async.locations.fields import AnyLocation
from pingdata_async.locations.normalize import Columns

if TYPE_CHECKING:
    import pyarrow as pa

STDIN = "-"
IN_MEMORY: Final = "rows in memory"
"""The name of Python objects in messages and fingerprints."""

SEND: Final = "send"
SKIP: Final = "skip"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to read an input, where detection is not to decide.

    Attributes:
        mapping: The header of the column that holds a field, by field.
        encoding: The encoding of a text file; None to detect it.
        sheet: The name of a workbook's sheet, or its number from 1; None for the only sheet that
            holds a table.
        hidden_rows: What to do with rows that a workbook or its filter hides: "send" or "skip".
        allow_missing_values: Whether to send rows of a workbook without a part of the address
            where its cell holds an error, or a formula without a stored value.
    """

    mapping: Mapping[str, str] = {}
    encoding: str | None = None
    sheet: str | None = None
    hidden_rows: Literal["send", "skip"] = SEND
    allow_missing_values: bool = False


# -- Rows ---------------------------------------------------------------------------------------


class TextColumns(msgspec.Struct, frozen=True, tag="text", array_like=True):
    """Rows of delimited text, by column; an empty cell is ""."""

    columns: Sequence[Sequence[str]]


class CellColumns(msgspec.Struct, frozen=True, tag="cells", array_like=True):
    """Rows of a workbook, by column.

    A cell is a str, int, float, bool, date, datetime, time or timedelta; None if it is empty.
    """

    columns: Sequence[Sequence[Any]]


class JSONRows(msgspec.Struct, frozen=True, tag="json", array_like=True):
    """Rows of JSONL or of Python objects: one JSON value each, an object or a string."""

    rows: Sequence[bytes]


class ArrowRows(msgspec.Struct, frozen=True, tag="arrow", array_like=True):
    """Rows of Parquet or of a data frame, as an Arrow IPC stream."""

    stream: bytes


InputRows = TextColumns | CellColumns | JSONRows | ArrowRows
"""Input rows in their original form; all rows of an input are of the same class."""


class Batch(msgspec.Struct, frozen=True):
    """Consecutive records of an input."""

    # What to look up: the fields of locations, or plain addresses.
    locations: Columns | Sequence[AnyLocation]
    input_rows: InputRows  # as many rows, in their original form
    errors: Mapping[int, str] = {}  # why a row cannot be sent, by its place among them


def rows_in(input_rows: InputRows) -> int:
    """The number of rows."""
    if isinstance(input_rows, JSONRows):
        return len(input_rows.rows)
    if isinstance(input_rows, ArrowRows):
        return read_stream(input_rows.stream).num_rows
    return len(input_rows.columns[0]) if input_rows.columns else 0


def sliced(input_rows: InputRows, begin: int, end: int) -> InputRows:
    """The rows from one place up to another."""
    if isinstance(input_rows, JSONRows):
        return JSONRows(input_rows.rows[begin:end])
    if isinstance(input_rows, ArrowRows):
        return ArrowRows(write_stream(read_stream(input_rows.stream)[begin:end]))
    return type(input_rows)([column[begin:end] for column in input_rows.columns])


def joined(parts: Sequence[InputRows]) -> InputRows:
    """The rows of all parts, which are of the same class and have the same columns."""
    first: Any = parts[0]
    others: Sequence[Any] = parts  # the same class
    if len(parts) == 1:
        return parts[0]
    if isinstance(first, JSONRows):
        return JSONRows([row for part in others for row in part.rows])
    if isinstance(first, ArrowRows):
        import pyarrow as pa  # noqa: PLC0415 - optional

        tables = [read_stream(part.stream) for part in others]
        return ArrowRows(write_stream(pa.concat_tables(tables)))
    columns = zip(*(part.columns for part in others), strict=True)
    kind: type[TextColumns | CellColumns] = type(first)
    return kind([[cell for cells in column for cell in cells] for column in columns])


def read_stream(stream: bytes) -> pa.Table:
    """Read an Arrow IPC stream."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return reader.read_all()


def write_stream(rows: pa.Table | pa.RecordBatch) -> bytes:
    """Write rows as an Arrow IPC stream."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return sink.getvalue().to_pybytes()


# -- Where they are from ------------------------------------------------------------------------


class SheetPlace(msgspec.Struct):
    """Which rows of a sheet hold headers and records; rows count from 1, as in Excel."""

    sheet: str  # the name of the sheet
    header_row: int  # the row with the headers; the lower one if they take two
    header_rows: int = 1  # how many rows the headers take
    # Runs of consecutive rows with records: the first row and the number of rows. Titles, totals
    # and empty rows lie between them.
    runs: list[tuple[int, int]] = []

    def add(self, row: int) -> None:
        """Add the row of a record, which is below all others."""
        if self.runs:
            first, count = self.runs[-1]
            if first + count == row:
                self.runs[-1] = (first, count + 1)
                return
        self.runs.append((row, 1))

    def rows(self) -> Iterator[int]:
        """The row of each record, in order."""
        for first, count in self.runs:
            yield from range(first, first + count)

    def with_headers(self) -> Iterator[int]:
        """The rows of the headers, then the row of each record."""
        first = self.header_row - self.header_rows + 1
        return chain(range(first, self.header_row + 1), self.rows())

    def is_in(self, first: int, last: int) -> bool:
        """Whether any of these rows holds headers or a record."""
        if first <= self.header_row and last > self.header_row - self.header_rows:
            return True
        behind = bisect(self.runs, (last, math.inf))
        return behind > 0 and sum(self.runs[behind - 1]) > first


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies an input."""

    sha256: str  # the SHA-256 of its bytes in hexadecimal, as `sha256sum FILE` prints it
    size_bytes: int  # its size
    given: str  # the path as it was given; "-" for standard input
    path: str | None = None  # the absolute path; None for standard input
    # When the file was last modified, as seen before it was read; None for standard input and
    # pipes.
    mtime_ns: int | None = None

    def is_same_file(self, source: str | Path) -> bool:
        """Whether a source is this very file, by path, size and time, without reading it.

        If not, its content may still be the same.
        """
        if self.mtime_ns is None or self.path != absolute_path(source):
            return False
        try:
            now = Path(source).stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def is_gone(self, source: str | Path) -> bool:
        """Whether the input was the file of this path, where no file is any more."""
        is_its_path = self.path is not None and self.path == absolute_path(source)
        return is_its_path and not os.path.lexists(source)


def absolute_path(source: str | Path) -> str | None:
    """The absolute path of an input as text; None for standard input."""
    return None if str(source) == STDIN else path_text(Path(source).absolute())


def path_text(path: str | Path) -> str:
    """A path as text that can be stored, whatever its bytes."""
    # A name that is not UTF-8 cannot be stored as it is; escaped, it stays unlike any other.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
