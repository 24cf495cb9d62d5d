"""Cells of a workbook that have no value to send, and merged cells (pure).

The library that reads values gives nothing for a formula that nothing has calculated and for a cell
with an error, as if they were empty, and does not tell which rows are hidden. So the XML of a sheet
is read for that (`workbook_limits`), what it says is kept in `SheetMarks`, and `LostCells` counts
what is lost of each column. A date in a column of addresses, postal codes or ids is lost as well:
it is what a spreadsheet made of "1-2".
"""

from __future__ import annotations

import datetime as dt
import io
import re
import shutil
import zipfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import IO, Any, Final

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import LOOKUP_FIELDS, READERS, read_text
from pingdata_async.tables.mapping.columns import ColumnMapping
from pingdata_async.tables.mapping.headers import shown_header
from pingdata_async.tables.xlsx.cells import cell_name, column_letters, column_number
from pingdata_async.value_notes import NotedValue, ValueKind, ValueNotes

# -- What the XML of a sheet says beside its values ---------------------------------------------

MAX_MARKS = 1_000_000
"""Cells with a mark in a sheet, and its merged cells; measured: 100 bytes each."""

_COLUMNS = 2**32  # more than a sheet has
_REFERENCE = re.compile(
    r"""("[^"]*"|'[^']*')|(\$?)\b([A-Za-z]{1,3})(\$?)([1-9]\d{0,6})\b(?![(!.\w])"""
)


class TooManyMarksError(ValueError):
    """Raised for a sheet with more than `MAX_MARKS`."""


class FormulaText(str):
    """Stands for a cell: its formula, for which no value is stored."""

    __slots__ = ()


class ZeroFormulaText(str):
    """Stands for a cell with 0: its formula, which a program may have left to be calculated."""

    __slots__ = ()


class ErrorText(str):
    """Stands for a cell: the error that is its value, such as #N/A."""

    __slots__ = ()


MarkedText = FormulaText | ZeroFormulaText | ErrorText
MARKED = frozenset({FormulaText, ZeroFormulaText, ErrorText})


class SheetMarks:
    """What is said of the cells of a sheet; rows and columns count from 0.

    Attributes:
        hidden: Rows that are not shown, by hand or by a filter.
        spans: Cells that are merged with those below them: the first row, the last one, and the
            first column.
        last_row: The last one with a mark; -1 where there is none.
        last_column: Likewise.
        errors: Those that its cells hold, such as #N/A.
    """

    def __init__(self) -> None:
        self.hidden: set[int] = set()
        self.spans: list[tuple[int, int, int]] = []
        self.last_row = self.last_column = -1
        self.errors: set[str] = set()
        self._places = array("Q")
        self._texts: list[MarkedText] = []
        self._is_sorted = True

    def mark(self, row: int, column: int, text: MarkedText) -> None:
        """Note what stands for a cell."""
        self._check_room()
        place = row * _COLUMNS + column
        self._is_sorted = self._is_sorted and (not self._places or place > self._places[-1])
        self._places.append(place)
        self._texts.append(text)
        if isinstance(text, ErrorText):
            self.errors.add(str(text))
        self.last_row = max(self.last_row, row)
        self.last_column = max(self.last_column, column)

    def merge(self, first_row: int, last_row: int, column: int) -> None:
        """Note a merged cell."""
        if last_row > first_row:
            self._check_room()
            self.spans.append((first_row, last_row, column))

    def by_row(self) -> Iterator[tuple[int, list[tuple[int, MarkedText]]]]:
        """The rows with marks in their order, each with its columns and what stands there."""
        if not self._is_sorted:  # nobody writes such a sheet, but it can be read
            pairs = sorted(zip(self._places, self._texts, strict=True), key=itemgetter(0))
            self._places = array("Q", map(itemgetter(0), pairs))
            self._texts = list(map(itemgetter(1), pairs))
            self._is_sorted = True
        row, cells = -1, list[tuple[int, MarkedText]]()
        for place, text in zip(self._places, self._texts, strict=True):
            if place // _COLUMNS != row:
                if cells:
                    yield row, cells
                row, cells = place // _COLUMNS, []
            cells.append((place % _COLUMNS, text))
        if cells:
            yield row, cells

    def _check_room(self) -> None:
        if len(self._texts) + len(self.spans) == MAX_MARKS:
            raise TooManyMarksError


def moved_formula(formula: str, rows: int, columns: int) -> str:
    """A formula as it is when it is copied so many rows down and columns to the right.

    Spreadsheets write a formula that a block of cells shares in the first of them alone.
    """

    def moved(found: re.Match[str]) -> str:
        quoted, fixed_column, letters, fixed_row, number = found.groups()
        if quoted:
            return str(quoted)
        if not fixed_column:
            letters = column_letters(column_number(letters) + columns)
        if not fixed_row:
            number = str(int(number) + rows)
        return f"{fixed_column}{letters}{fixed_row}{number}"

    return _REFERENCE.sub(moved, formula)


# -- Errors that the library does not know ------------------------------------------------------

KNOWN_ERRORS: Final = frozenset(
    {"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"}
)

_KNOWN: Final = frozenset(error.encode() for error in KNOWN_ERRORS)
_ANY_KNOWN: Final = b"#VALUE!"
_SHEETS: Final = "xl/worksheets/"
_COPIED_AT_ONCE_BYTES: Final = 1024 * 1024
_LONGEST_ROW_BYTES: Final = 16 * 1024 * 1024
_COMPRESSION_LEVEL: Final = 1
_ROW_END: Final = b"row>"
_ERROR_CELL: Final = re.compile(
    rb"""(<(?:\w+:)?c\s[^<>]*\bt=["']e["'][^<>]*>\s*"""
    rb"""(?:<(?:\w+:)?f\b[^<>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*)?<(?:\w+:)?v\b[^<>]*>)([^<]+)"""
)


def with_known_errors(content: bytes, keep_waiting: Callable[[], None]) -> bytes:
    """A workbook with errors of newer Excels, such as #SPILL!, as one that the library knows.

    The library refuses a whole sheet for one of them. Nothing is lost: it gives no value for a
    cell with an error, and `SheetMarks` has what the error was.

    Args:
        content: A workbook that is a zip archive, and may be held in memory.
        keep_waiting: Called now and then; may raise to end the reading.
    """
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as given,
        zipfile.ZipFile(
            changed, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL
        ) as archive,
    ):
        for about in given.infolist():
            with given.open(about) as part, archive.open(about.filename, "w") as out:
                if about.filename.replace("\\", "/").lower().startswith(_SHEETS):
                    for rows in _whole_rows(part):
                        keep_waiting()
                        out.write(_ERROR_CELL.sub(_known, rows))
                else:
                    shutil.copyfileobj(part, out)
    return changed.getvalue()


def _whole_rows(part: IO[bytes]) -> Iterator[bytes]:
    """Blocks of a sheet that end between two cells, but where a row is very long."""
    rest = b""
    while block := part.read(_COPIED_AT_ONCE_BYTES):
        rest += block
        last = rest.rfind(_ROW_END)
        if last >= 0 or len(rest) > _LONGEST_ROW_BYTES:
            end = len(rest) if last < 0 else last + len(_ROW_END)
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _known(cell: re.Match[bytes]) -> bytes:
    return cell[0] if cell[2].strip() in _KNOWN else cell[1] + _ANY_KNOWN


# -- What is lost ---------------------------------------------------------------------------------

ADDRESS_FIELDS = frozenset(
    {*LOOKUP_FIELDS, *COORDINATES, "address_line_2", "state", "county", "country"}
)
"""Fields that together are the address; without one of them, it is another one."""

_TIMES = (dt.date, dt.time, dt.timedelta)
_ADVICE = (
    "Open it in Excel, let it calculate, correct the errors and save it; or send these rows "
    "without the values: --allow-missing-values"
)

_FORMULA = "formulas that nothing has calculated"
_ERROR = "cells with an error"
_DATE = "dates"
_MERGED = "merged cells"


class TakenRow(msgspec.Struct, frozen=True):
    """A row of data as it was taken from a sheet.

    Attributes:
        number: Its place in the sheet, from 0.
        cells: What is in it.
        merged: By column, the value of a merged cell that covers it.
    """

    number: int
    cells: list[Any]
    merged: Mapping[int, Any]


class _Count(msgspec.Struct):
    """How many cells of a column are of a kind, and which is the first."""

    cells: int
    first: str


class LostCells:
    """Tells what is kept and what is sent of the cells of a sheet, and counts what is lost.

    Args:
        name: The input, for messages.
        headers: Of its columns.
        mapping: What is sent of them.
        first_column: The place in the sheet of the first of them, from 0.
        values: Where values are counted that are not sent.
        is_allowed: Whether rows may be sent without a part of their address.
    """

    def __init__(
        self,
        name: str,
        headers: Sequence[str],
        mapping: ColumnMapping,
        first_column: int,
        values: ValueNotes,
        *,
        is_allowed: bool,
    ) -> None:
        self._name = name
        self._headers = headers
        self._first_column = first_column
        self._values = values
        self._is_allowed = is_allowed
        self._used = {place for column in mapping.columns for place in column.places}
        self._address = _places(mapping, ADDRESS_FIELDS)
        self._texts = _places(mapping, {"id"} | {name for name in READERS if _is_text(name)})
        self._joined = [column.places for column in mapping.columns if len(column.places) > 1]
        self._counts: dict[str, dict[int, _Count]] = {}
        self._first_row = 0  # of the batch, among the records
        self._rows = 0  # that lost a part of their address

    @property
    def is_refused(self) -> bool:
        """Whether an address so far has lost a part of it, and that is not allowed."""
        if self._is_allowed:
            return False
        lost = {*self._counts.get(_FORMULA, ()), *self._counts.get(_ERROR, ())}
        return not lost.isdisjoint(self._address)

    def refusal(self) -> InputError:
        """The error for that, with what is known by now."""
        told = [self._told(kind, self._address) for kind in (_FORMULA, _ERROR)]
        shown = "; ".join(filter(None, told))
        return InputError(f"{self._name} has addresses without values: {shown}. {_ADVICE}")

    def notes(self) -> list[str]:
        """What the user should know of them, a sentence each."""
        notes = []
        if self._rows:
            rows = "1 row lacks" if self._rows == 1 else f"{self._rows:,} rows lack"
            notes.append(f"{rows} a part of the address, as its cell has no value that can be sent")
        for kind, what in (
            (_FORMULA, "not sent, and kept as their text"),
            (_ERROR, "not sent, and kept as their text"),
            (_DATE, "not sent, as a spreadsheet makes them of texts such as 1-2"),
            (_MERGED, "hold for all rows that they cover"),
        ):
            told = self._told(kind)
            if told:
                notes.append(f"{told}: {what}")
        return notes

    def _told(self, kind: str, places: frozenset[int] | None = None) -> str:
        counts = [
            f"{shown_header(self._headers[place])} ({count.cells:,}, first {count.first})"
            for place, count in sorted(self._counts.get(kind, {}).items())
            if places is None or place in places
        ]
        return f"{kind} in {', '.join(counts)}" if counts else ""

    def taken(
        self, first_row: int, rows: Sequence[TakenRow]
    ) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
        """The columns of some rows: as they are kept, and what is looked up.

        Args:
            first_row: How many records are before them.
            rows: The rows.

        Returns:
            All columns twice. Those of which nothing is looked up are empty the second time.
        """
        self._first_row = first_row
        columns = list(zip(*(row.cells for row in rows), strict=True))
        covered = any(row.merged for row in rows)
        lost: dict[int, set[int]] = {}
        kept: list[Sequence[Any]] = []
        sent: list[Sequence[Any]] = []
        for place, column in enumerate(columns):
            kinds = set(map(type, column))
            is_marked = not MARKED.isdisjoint(kinds)
            kept.append(self._kept(place, column) if is_marked else column)
            if place not in self._used:
                if is_marked:
                    self._count_marked(place, column, rows)
                sent.append(())
                continue
            values: Sequence[Any] = column
            if covered:
                values = self._filled(place, column, rows)
                kinds = set(map(type, values))
            if any(issubclass(kind, _TIMES) for kind in kinds) or not MARKED.isdisjoint(kinds):
                values = self._readable(place, values, rows, lost.setdefault(place, set()))
            sent.append(values)
        self._empty_joined(sent, lost)
        in_address = [rows for place, rows in lost.items() if place in self._address]
        self._rows += len(set().union(*in_address))
        return kept, sent

    def _kept(self, place: int, column: Sequence[Any]) -> list[Any]:
        is_zero = place not in self._address
        return [
            cell
            if type(cell) not in MARKED
            else 0
            if is_zero and type(cell) is ZeroFormulaText
            else str(cell)
            for cell in column
        ]

    def _filled(self, place: int, column: Sequence[Any], rows: Sequence[TakenRow]) -> Sequence[Any]:
        """A column with the values of merged cells in all rows that they cover."""
        if not any(place in row.merged for row in rows):
            return column
        filled = list(column)
        for number, row in enumerate(rows):
            if place in row.merged and filled[number] is None:
                filled[number] = row.merged[place]
                self._count(_MERGED, place, row)
        return filled

    def _readable(
        self, place: int, column: Sequence[Any], rows: Sequence[TakenRow], lost: set[int]
    ) -> list[Any]:
        """A column without what cannot be sent; dates and times as texts, as the API has them."""
        values: list[Any] = []
        for number, cell in enumerate(column):
            kind = self._kind(place, cell)
            if kind is not None:
                self._count(kind, place, rows[number])
                lost.add(number)
                noted = NotedValue(self._headers[place], ValueKind.NO_VALUE, str(cell))
                self._values.add(self._first_row + number, noted)
                values.append(None)
            elif isinstance(cell, ZeroFormulaText):
                values.append(0)
            elif isinstance(cell, _TIMES):
                values.append(_text(cell))
            else:
                values.append(cell)
        return values

    def _kind(self, place: int, cell: Any) -> str | None:
        """Why a cell has no value that can be sent; None where it has."""
        if isinstance(cell, ErrorText):
            return _ERROR
        if isinstance(cell, FormulaText):
            return _FORMULA
        if isinstance(cell, ZeroFormulaText):
            return _FORMULA if place in self._address else None
        return _DATE if isinstance(cell, _TIMES) and place in self._texts else None

    def _empty_joined(self, sent: list[Sequence[Any]], lost: Mapping[int, set[int]]) -> None:
        """Send nothing of what is joined where a part of it is lost: half of it is another one."""
        for places in self._joined:
            rows = set().union(*(lost.get(place, ()) for place in places))
            if rows:
                for place in places:
                    sent[place] = [
                        None if number in rows else cell for number, cell in enumerate(sent[place])
                    ]

    def _count_marked(self, place: int, column: Sequence[Any], rows: Sequence[TakenRow]) -> None:
        for number, cell in enumerate(column):
            kind = self._kind(place, cell) if type(cell) in MARKED else None
            if kind is not None:
                self._count(kind, place, rows[number])

    def _count(self, kind: str, place: int, row: TakenRow) -> None:
        counts = self._counts.setdefault(kind, {})
        if place in counts:
            counts[place].cells += 1
        else:
            counts[place] = _Count(1, cell_name(row.number, self._first_column + place))


def _places(mapping: ColumnMapping, fields: frozenset[str] | set[str]) -> frozenset[int]:
    return frozenset(
        place for column in mapping.columns if column.field in fields for place in column.places
    )


def _is_text(field: str) -> bool:
    return READERS[field] is read_text


def _text(value: Any) -> str:
    return str(value) if isinstance(value, dt.timedelta) else str(value.isoformat())
