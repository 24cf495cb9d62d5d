"""Workbooks to batches of records: Excel's of all kinds, and OpenDocument's.

A workbook cannot be streamed: it is opened whole, and takes memory for each cell of the sheet
(`workbook_limits` says how much, and what is refused). Everything here blocks, and runs in a
worker thread.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.location_batches import BATCH_ROWS
from pingdata_async.tables.columns import map_columns
from pingdata_async.tables.header_row import (
    SEARCHED_ROWS,
    HeaderRow,
    find_header,
    is_empty_cell,
)
from pingdata_async.tables.input_reader import InputReader, counted
from pingdata_async.tables.inputs import Batch, CellColumns, ReadOptions
from pingdata_async.tables.kinds import whole_number
from pingdata_async.tables.sources import Fingerprint, HashingStream, PeekableStream
from pingdata_async.tables.total_rows import is_total_row, row_places
from pingdata_async.tables.workbook_limits import ADVICE, MAX_FILE_BYTES, check_archive

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0"

_LOCKED = "EncryptedPackage".encode("utf-16-le")  # what holds the workbook then
_LOCKED_HINT = "is locked with a password; save it without one"
_INSTALL_HINT = 'is a workbook, which needs python-calamine: pip install "pingdata-async[excel]"'
_KNOWN_IN_A_TABLE = 3  # headers, where none of them can be looked up yet
_TIMES = (dt.date, dt.time, dt.timedelta)
_BLOCK_BYTES = 1024 * 1024


class _Table(msgspec.Struct, frozen=True):
    """A sheet, its first rows, those behind them, and the headers among the first ones."""

    name: str
    first: list[list[Any]]
    rest: Iterator[list[Any]]
    header: HeaderRow


class WorkbookReader(InputReader):
    """Records of a sheet of a workbook; see `InputReader`.

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
        self._empty_rows = 0
        self._total_rows = 0

    def fingerprint(self) -> Fingerprint:
        """Of the whole file, once the first batch was read."""
        return self._source.fingerprint()

    def _counted(self) -> list[str]:
        rows = {"empty row": self._empty_rows, "total row": self._total_rows}
        shown = [counted(number, what) for what, number in rows.items() if number]
        return [f"{' and '.join(shown)} left out"] if shown else []

    def _batches(self) -> Iterator[Batch]:
        workbook = self._opened(self._read())
        try:
            table = _chosen(self.name, workbook, self.options)
        finally:
            workbook.close()
        self._take_up(table)
        rows: list[list[Any]] = []
        for row in self._records(table):
            rows.append(row)
            if len(rows) == BATCH_ROWS:
                yield self._batch(rows)
                rows = []
                self._keep_waiting()
        if rows:
            yield self._batch(rows)

    def _read(self) -> bytes:
        content = bytearray()
        while block := self._content.read(_BLOCK_BYTES):
            self._keep_waiting()
            content += block
            if len(content) > MAX_FILE_BYTES:
                raise InputError(
                    f"{self.name} is too large for a workbook, with more than "
                    f"{MAX_FILE_BYTES:,} bytes; {ADVICE}"
                )
        return bytes(content)

    def _opened(self, content: bytes) -> CalamineWorkbook:
        try:
            import python_calamine  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ConfigurationError(f"{self.name} {_INSTALL_HINT}") from error
        if content.startswith(OLE_MAGIC) and _LOCKED in content:
            raise InputError(f"{self.name} {_LOCKED_HINT}")
        if content.startswith(ZIP_MAGIC):
            check_archive(self.name, content, self._keep_waiting)
        try:
            with _told_in_one_line(self.name):
                return python_calamine.load_workbook(io.BytesIO(content))
        except python_calamine.PasswordError as error:
            raise InputError(f"{self.name} {_LOCKED_HINT}") from error

    def _take_up(self, table: _Table) -> None:
        header = table.header
        self.headers = header.headers
        self.mapping = map_columns(
            self.name,
            self.headers,
            given=self.options.mapping,
            id_column=self.options.id_column,
        )
        first = header.place + 2 - header.rows
        where = f"row {first}" if header.rows == 1 else f"rows {first} and {first + 1}"
        above = f"; {counted(first - 1, 'row')} above left out" if first > 1 else ""
        self._notes.append(f"sheet {table.name!r}, headers in {where}{above}")

    def _records(self, table: _Table) -> Iterator[list[Any]]:
        """The rows of data that are no totals."""
        places = row_places(self.mapping)
        for given in chain(islice(table.first, table.header.place + 1, None), table.rest):
            if all(map(is_empty_cell, given)):
                self._empty_rows += 1
                continue
            row = list(map(_cell, given))
            if is_total_row(row, places):
                self._total_rows += 1
                continue
            yield row

    def _batch(self, rows: list[list[Any]]) -> Batch:
        columns = tuple(zip(*rows, strict=True))
        used = {place for column in self.mapping.columns for place in column.places}
        looked_up = [
            _as_fields(column) if place in used else () for place, column in enumerate(columns)
        ]
        return Batch(self._located(looked_up, are_texts=False), CellColumns(columns))


# -- Sheets ----------------------------------------------------------------------------------


def _chosen(name: str, workbook: CalamineWorkbook, options: ReadOptions) -> _Table:
    """The sheet that was named, or the only one that holds a table."""
    if options.sheet is not None:
        title = _named_sheet(name, workbook.sheet_names, options.sheet)
        table = _table(name, workbook, title, options)
        if table is None:
            raise InputError(f"{name}, sheet {title!r} is empty")
        return table
    filled: list[str] = []
    tables: list[str] = []
    first: _Table | None = None
    for title in _visible(workbook):
        found = _table(name, workbook, title, options)
        if found is None:
            continue
        filled.append(title)
        is_table = _is_table(found.header, options)
        if first is None or (is_table and not tables):
            first = found
        if is_table:
            tables.append(title)
    if first is None:
        raise InputError(f"{name} is empty")
    if len(tables) > 1:
        raise InputError(f"{name} has several sheets with a table; {_advice(tables)}")
    if not tables and len(filled) > 1:
        raise InputError(f"{name} has no sheet with a column to look up; {_advice(filled)}")
    return first


def _advice(titles: Sequence[str]) -> str:
    return f"--sheet NAME says which one: {', '.join(map(repr, titles))}"


def _visible(workbook: CalamineWorkbook) -> list[str]:
    """Sheets of cells that are shown; hidden ones hold lists and old versions."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum  # noqa: PLC0415 - optional

    return [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.typ == SheetTypeEnum.WorkSheet and sheet.visible == SheetVisibleEnum.Visible
    ]


def _named_sheet(name: str, titles: Sequence[str], wanted: str) -> str:
    alike = [title for title in titles if title.casefold() == wanted.strip().casefold()]
    if wanted in titles:
        return wanted
    if alike:
        return alike[0]
    if wanted.isdecimal() and 0 < int(wanted) <= len(titles):
        return titles[int(wanted) - 1]
    raise ConfigurationError(
        f"{name} has no sheet {wanted!r}. It has: {', '.join(map(repr, titles))}"
    )


def _table(
    name: str, workbook: CalamineWorkbook, title: str, options: ReadOptions
) -> _Table | None:
    """A sheet's rows; None where it has no text."""
    rows = _rows(name, workbook, title)
    first = list(islice(rows, SEARCHED_ROWS))
    header = find_header(first, options)
    return None if header is None else _Table(title, first, rows, header)


def _rows(name: str, workbook: CalamineWorkbook, title: str) -> Iterator[list[Any]]:
    """A sheet's rows from its first one, as wide as the widest of them."""
    with _told_in_one_line(f"{name}, sheet {title!r}"):
        sheet: CalamineSheet = workbook.get_sheet_by_name(title)
    return iter(sheet.iter_rows())


def _is_table(header: HeaderRow, options: ReadOptions) -> bool:
    if header.known >= _KNOWN_IN_A_TABLE:
        return True
    try:
        map_columns("", header.headers, given=options.mapping, id_column=options.id_column)
    except InputError:
        return False
    return True


@contextlib.contextmanager
def _told_in_one_line(where: str) -> Iterator[None]:
    """Translates what the library raises."""
    from python_calamine import PasswordError  # noqa: PLC0415 - optional

    try:
        yield
    except PasswordError:
        raise
    except BaseException as error:
        # A bug in the library is of a class that has no name to catch it by.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            told = " ".join(str(error).split())
            raise InputError(f"{where} cannot be read as a workbook: {told}") from error
        raise


# -- Cells -----------------------------------------------------------------------------------


def _cell(value: Any) -> Any:
    """A cell as it is kept; a workbook has no integers, and shows 5.0 as 5."""
    return None if value == "" else whole_number(value)


def _as_fields(column: Sequence[Any]) -> Sequence[Any]:
    """A column with dates and times as texts, which is what the API takes."""
    if not any(isinstance(value, _TIMES) for value in column):
        return column
    return [_text(value) if isinstance(value, _TIMES) else value for value in column]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, dt.timedelta) else str(value.isoformat())
