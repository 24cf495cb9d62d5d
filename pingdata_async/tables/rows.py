"""Input rows as they came (text, cells, JSON, Arrow), and where they came from."""

from __future__ import annotations

import math
import os
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from pingdata_async.locations.fields import AnyLocation
from pingdata_async.locations.normalize import Columns

STDIN = "-"

SEND: Final = "send"
SKIP: Final = "skip"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is to be understood, where that is not left to be found out.

    Attributes:
        mapping: By field of a location, the header of the column that holds it.
        encoding: Of a text file; None to find it.
        sheet: The name of a workbook's sheet, or its number from 1; None for the only one that
            holds a table.
        hidden_rows: Whether rows that a workbook hides, or a filter in it, are "send" or "skip".
        allow_missing_values: Whether a workbook may have formulas without a stored value, and
            errors, in columns of the address. Its rows are sent without that part then.
    """

    mapping: Mapping[str, str] = {}
    encoding: str | None = None
    sheet: str | None = None
    hidden_rows: Literal["send", "skip"] = SEND
    allow_missing_values: bool = False


class TextColumns(msgspec.Struct, frozen=True, tag="text", array_like=True):
    """Rows of a delimited text: by column, each cell as it was, "" where there was nothing."""

    columns: Sequence[Sequence[str]]


class CellColumns(msgspec.Struct, frozen=True, tag="cells", array_like=True):
    """Rows of a workbook: by column, each cell's value.

    A cell is a str, int, float, bool, date, datetime, time or timedelta; None where it is empty.
    """

    columns: Sequence[Sequence[Any]]


class JSONRows(msgspec.Struct, frozen=True, tag="json", array_like=True):
    """Rows of JSONL, or of Python objects: one JSON value each, an object or a text."""

    rows: Sequence[bytes]


class ArrowRows(msgspec.Struct, frozen=True, tag="arrow", array_like=True):
    """Rows of Parquet or of a data frame: an Arrow IPC stream of one record batch or several."""

    stream: bytes


InputRows = TextColumns | CellColumns | JSONRows | ArrowRows
"""Rows as they came; an input has one kind of them."""


class Batch(msgspec.Struct, frozen=True):
    """Some data records of an input that follow each other.

    Attributes:
        locations: What is looked up: their fields, or plain addresses.
        input_rows: As many rows, as they came.
        errors: By place in them, why some cannot be sent.
    """

    locations: Columns | Sequence[AnyLocation]
    input_rows: InputRows
    errors: Mapping[int, str] = {}


class SheetPlace(msgspec.Struct):
    """A sheet, and which of its rows are what; all numbers from 1, as people see them.

    Attributes:
        sheet: Its name.
        header_row: The row with the headers; the lower one where they take two.
        header_rows: How many they take.
        runs: Of the rows with records, the first of those that follow each other and how many
            they are. Titles, totals and empty rows are in between.
    """

    sheet: str
    header_row: int
    header_rows: int = 1
    runs: list[tuple[int, int]] = []

    def add(self, row: int) -> None:
        """Take a record's row, below those before."""
        if self.runs:
            first, count = self.runs[-1]
            if first + count == row:
                self.runs[-1] = (first, count + 1)
                return
        self.runs.append((row, 1))

    def rows(self) -> Iterator[int]:
        """The row of each record, in their order."""
        for first, count in self.runs:
            yield from range(first, first + count)

    def with_headers(self) -> Iterator[int]:
        """The rows of the headers, and that of each record."""
        first = self.header_row - self.header_rows + 1
        return chain(range(first, self.header_row + 1), self.rows())

    def is_in(self, first: int, last: int) -> bool:
        """Whether headers or a record stand in some rows."""
        if first <= self.header_row and last > self.header_row - self.header_rows:
            return True
        behind = bisect(self.runs, (last, math.inf))
        return behind > 0 and sum(self.runs[behind - 1]) > first


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What tells an input from any other.

    Attributes:
        sha256: Of its bytes, in hexadecimal, as `sha256sum FILE` prints it.
        size_bytes: How many there were.
        given: The path as it was given; "-" for standard input.
        path: The absolute path; None for standard input.
        mtime_ns: When the file was last changed, before it was read; None for standard
            input and pipes.
    """

    sha256: str
    size_bytes: int
    given: str
    path: str | None = None
    mtime_ns: int | None = None

    def is_same_file(self, source: str | Path) -> bool:
        """Whether a source is this very file, by path, size and time, without reading it.

        False says nothing: the content may be the same all the same.
        """
        if self.mtime_ns is None or self.path != absolute_path(source):
            return False
        try:
            now = Path(source).stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def is_gone(self) -> bool:
        """Whether it was a file, and there is none of that name any more."""
        return self.path is not None and not os.path.lexists(self.path)

    def is_of(self, source: str | Path) -> bool:
        """Whether it was made of a source of this name."""
        return self.path is not None and self.path == absolute_path(source)


def absolute_path(source: str | Path) -> str | None:
    """The absolute path of an input, as text; None for standard input."""
    return None if str(source) == STDIN else path_text(Path(source).absolute())


def path_text(path: str | Path) -> str:
    """A path as text that can be written down, whatever its bytes."""
    # Names that are not UTF-8 cannot be written down as they are; these stay different.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
