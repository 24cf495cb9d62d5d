"""Cells of a workbook without a value that can be sent, and merged cells (pure).

`workbook_scan` marks formulas without a stored value and cells with an error; `LostCells` counts
what is lost from each column. A date in a column of addresses, postal codes or ids is lost as well:
it is what a spreadsheet made of "1-2".
"""

from __future__ import annotations

import datetime as dt
import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import IO, Any, Final, NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import PLACE_FIELDS, READERS, read_text
from pingdata_async.tables.mapping.candidates import MappedColumn
from pingdata_async.tables.mapping.headers import shown_header
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.workbook_scan import (
    MARKED,
    ErrorText,
    FormulaText,
    ZeroFormulaText,
)
from pingdata_async.tables.xlsx import cell_name
from pingdata_async.util.text import counted
from pingdata_async.value_notes import NotedValue, ValueKind

_TIMES = (dt.date, dt.time, dt.timedelta)
_ADVICE = (
    "Open it in Excel, recalculate it, correct the errors and save it; or send these rows without "
    "the values with --allow-missing-values"
)

_FORMULA = "formulas without a stored value"
_ERROR = "cells with an error"
_DATE = "dates"
_MERGED = "merged cells"


class SheetRow(NamedTuple):
    """A record in a sheet."""

    number: int  # its row, from 0
    cells: list[Any]  # its cells
    # The values of merged cells above that cover cells of the row, by column.
    merged: Mapping[int, Any]


class _Count(msgspec.Struct):
    """The number of cells of a kind in a column, and the first of them."""

    cells: int
    first: str


class LostCells:
    """Splits the cells of a sheet into what is kept and what is sent; counts what is lost.

    Args:
        reader: Reads the sheet, and knows its columns.
        first_column: The place of the first column in the sheet, from 0.
    """

    def __init__(self, reader: InputReader, first_column: int) -> None:
        self._reader = reader
        self._first_column = first_column
        mapped = reader.mapping.columns
        self._used = {place for column in mapped for place in column.places}
        # Without one of these, it is another address.
        self._address = _places(mapped, PLACE_FIELDS)
        self._texts = _places(mapped, {"id"} | {name for name in READERS if _is_text(name)})
        self._joined = [column.places for column in mapped if len(column.places) > 1]
        self._counts: dict[str, dict[int, _Count]] = {}
        self._rows = 0  # that lack a part of their address

    @property
    def is_refused(self) -> bool:
        """Whether any address so far lacks a part, and that is not allowed."""
        if self._reader.options.allow_missing_values:
            return False
        lost = {*self._counts.get(_FORMULA, ()), *self._counts.get(_ERROR, ())}
        return not lost.isdisjoint(self._address)

    def refusal(self) -> InputError:
        """The error for such addresses, with the counts so far."""
        told = [self._told(kind, self._address) for kind in (_FORMULA, _ERROR)]
        shown = "; ".join(filter(None, told))
        return InputError(f"{self._reader.name} has addresses without values: {shown}. {_ADVICE}")

    def notes(self) -> list[str]:
        """What the user should know about lost cells, a sentence each."""
        notes = []
        if self._rows:
            notes.append(
                f"{counted(self._rows, 'row')} sent without a part of the address, whose cell has "
                "no value"
            )
        for kind, what in (
            (_FORMULA, "not sent, and kept as their text"),
            (_ERROR, "not sent, and kept as their text"),
            (_DATE, "not sent, as spreadsheets turn texts such as 1-2 into dates"),
            (_MERGED, "sent for every row that they cover"),
        ):
            told = self._told(kind)
            if told:
                notes.append(f"{told}: {what}")
        return notes

    def _told(self, kind: str, places: frozenset[int] | None = None) -> str:
        counts = [
            f"{shown_header(self._reader.headers[place])} ({count.cells:,}, first {count.first})"
            for place, count in sorted(self._counts.get(kind, {}).items())
            if places is None or place in places
        ]
        return f"{kind} in {', '.join(counts)}" if counts else ""

    def taken(self, rows: Sequence[SheetRow]) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
        """The columns of the reader's next rows as they are kept, and as they are sent.

        The second time, a column that is not sent is empty.
        """
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

    def _filled(self, place: int, column: Sequence[Any], rows: Sequence[SheetRow]) -> Sequence[Any]:
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
        self, place: int, column: Sequence[Any], rows: Sequence[SheetRow], lost: set[int]
    ) -> list[Any]:
        """A column without values that cannot be sent; dates and times as text, as in the API."""
        values: list[Any] = []
        for number, cell in enumerate(column):
            kind = self._kind(place, cell)
            if kind is not None:
                self._count(kind, place, rows[number])
                lost.add(number)
                noted = NotedValue(self._reader.headers[place], ValueKind.NO_VALUE, str(cell))
                self._reader.values.add(self._reader.rows + number, noted)
                values.append(None)
            elif isinstance(cell, ZeroFormulaText):
                values.append(0)
            elif isinstance(cell, _TIMES):
                values.append(_text(cell))
            else:
                values.append(cell)
        return values

    def _kind(self, place: int, cell: Any) -> str | None:
        """Why a cell has no value that can be sent; None if it has."""
        if isinstance(cell, ErrorText):
            return _ERROR
        if isinstance(cell, FormulaText):
            return _FORMULA
        if isinstance(cell, ZeroFormulaText):
            return _FORMULA if place in self._address else None
        return _DATE if isinstance(cell, _TIMES) and place in self._texts else None

    def _empty_joined(self, sent: list[Sequence[Any]], lost: Mapping[int, set[int]]) -> None:
        """Send nothing of joined columns if a part is lost: half an address is another address."""
        for places in self._joined:
            rows = set().union(*(lost.get(place, ()) for place in places))
            if rows:
                for place in places:
                    sent[place] = [
                        None if number in rows else cell for number, cell in enumerate(sent[place])
                    ]

    def _count_marked(self, place: int, column: Sequence[Any], rows: Sequence[SheetRow]) -> None:
        for number, cell in enumerate(column):
            kind = self._kind(place, cell) if type(cell) in MARKED else None
            if kind is not None:
                self._count(kind, place, rows[number])

    def _count(self, kind: str, place: int, row: SheetRow) -> None:
        counts = self._counts.setdefault(kind, {})
        if place in counts:
            counts[place].cells += 1
        else:
            counts[place] = _Count(1, cell_name(row.number, self._first_column + place))


def _places(columns: Iterable[MappedColumn], fields: AbstractSet[str]) -> frozenset[int]:
    return frozenset(
        place for column in columns if column.field in fields for place in column.places
    )


def _is_text(field: str) -> bool:
    return READERS[field] is read_text


def _text(value: Any) -> str:
    return str(value) if isinstance(value, dt.timedelta) else str(value.isoformat())


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
    """A workbook with errors of newer versions of Excel, such as #SPILL!, as #VALUE!.

    The library refuses a whole sheet for one of them. Nothing is lost: it returns no value for a
    cell with an error, and `SheetMarks` keeps the error.
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
    """Blocks of a sheet that end between two rows, unless a row is very long."""
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
