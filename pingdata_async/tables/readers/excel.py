"""Workbooks of Excel and OpenDocument to batches of rows.

A workbook cannot be streamed: it is opened whole, and takes memory for each cell of the sheet
(`workbook_limits` says how much, and what is refused). Everything here blocks, and runs in a
worker thread.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import LOOKUP_FIELDS
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.mapping.columns import map_columns
from pingdata_async.tables.mapping.headers import (
    SEARCHED_ROWS,
    HeaderRow,
    find_header,
    is_empty_cell,
    is_label,
)
from pingdata_async.tables.readers.base import (
    HashingStream,
    InputReader,
    PeekableStream,
    left_out_note,
)
from pingdata_async.tables.readers.data_rows import DataRows
from pingdata_async.tables.readers.look_alikes import LOCKED, ZIP_MAGIC, told_of_workbook
from pingdata_async.tables.readers.lost_cells import (
    KNOWN_ERRORS,
    LostCells,
    SheetMarks,
    TakenRow,
    with_known_errors,
)
from pingdata_async.tables.readers.workbook_limits import ADVICE, MAX_FILE_BYTES, check_archive
from pingdata_async.tables.rows import (
    SKIP,
    Batch,
    CellColumns,
    ReadOptions,
    SheetPlace,
)
from pingdata_async.tables.schema.types import whole_number
from pingdata_async.util.text import counted

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook


_INSTALL_HINT = 'is a workbook, which needs python-calamine: pip install "pingdata-async[excel]"'
_KNOWN_IN_A_TABLE = 3  # headers, where none of them can be looked up yet
_NO_TABLE, _PERHAPS_A_TABLE, _SURELY_A_TABLE = range(3)
_STREETS = frozenset({"address", "address_line_1"})
_NOTHING: Mapping[int, Any] = MappingProxyType({})
_BLOCK_BYTES = 1024 * 1024


class _Table(msgspec.Struct, frozen=True):
    """A sheet, its first rows, those behind them, and the headers among the first ones.

    Attributes:
        name: The sheet's.
        first: Its first rows.
        rest: Those behind them.
        header: The headers among the first ones.
        hidden: Rows that are not shown.
        spans: Merged cells, by their first row: the last one, and the column.
        first_column: The one that rows begin with, from 0.
        others: Sheets with something in them that are not read.
    """

    name: str
    first: list[list[Any]]
    rest: Iterator[list[Any]]
    header: HeaderRow
    hidden: AbstractSet[int]
    spans: dict[int, list[tuple[int, int]]]
    first_column: int
    others: tuple[str, ...] = ()


class WorkbookReader(InputReader):
    """Records of a sheet of a workbook; see `InputReader`.

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
        self._content = content
        self._keep_waiting = keep_waiting
        self._empty_rows = 0
        self._hidden_rows = 0
        self._data: DataRows | None = None
        self._lost: LostCells | None = None

    def _counted(self) -> list[str]:
        notes = []
        left_out = Counter({"empty row": self._empty_rows})
        if self.options.hidden_rows == SKIP:
            left_out["hidden row"] = self._hidden_rows
        elif self._hidden_rows:
            notes.append(
                f"{counted(self._hidden_rows, 'hidden row')} sent like the others; "
                "--hidden-rows skip leaves them out"
            )
        if self._data is not None:
            left_out += self._data.left_out
            notes += self._data.notes("row")
        shown = left_out_note(left_out)
        if shown:
            notes.insert(0, shown)
        return notes if self._lost is None else [*self._lost.notes(), *notes]

    def _batches(self) -> Iterator[Batch]:
        workbook, marks = self._opened(self._read())
        try:
            table = _chosen(self.name, workbook, self.options, marks)
        finally:
            workbook.close()
        self._take_up(table)
        self._lost = lost = LostCells(
            self.name,
            self.headers,
            self.mapping,
            table.first_column,
            self.values,
            is_allowed=self.options.allow_missing_values,
        )
        records = self._records(table)
        while rows := list(islice(records, BATCH_ROWS)):
            self._keep_waiting()
            kept, sent = lost.taken(self.rows, rows)
            if not lost.is_refused:  # else all of them are counted
                located = self._located(sent, are_texts=False, unused=kept.__getitem__)
                yield Batch(located, CellColumns(kept))
        if lost.is_refused:
            raise lost.refusal()

    def _read(self) -> bytes:
        content = io.BytesIO()  # gives its bytes away without a copy, which a bytearray does not
        while block := self._content.read(_BLOCK_BYTES):
            self._keep_waiting()
            content.write(block)
            if content.tell() > MAX_FILE_BYTES:
                raise InputError(
                    f"{self.name} is too large for a workbook, with more than "
                    f"{MAX_FILE_BYTES:,} bytes; {ADVICE}"
                )
        return content.getvalue()

    def _opened(self, content: bytes) -> tuple[CalamineWorkbook, dict[str, SheetMarks]]:
        """A workbook, and what is known of each sheet beside its values."""
        try:
            import python_calamine  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ConfigurationError(f"{self.name} {_INSTALL_HINT}") from error
        told = told_of_workbook(content)
        if told is not None:
            raise InputError(f"{self.name} {told}")
        marks: dict[str, SheetMarks] = {}
        if content.startswith(ZIP_MAGIC):
            marks = check_archive(self.name, content, self._keep_waiting)
            if any(each.errors - KNOWN_ERRORS for each in marks.values()):
                content = with_known_errors(content, self._keep_waiting)
        else:
            self._note_unknown()
        try:
            with _told_in_one_line(self.name):
                return python_calamine.load_workbook(io.BytesIO(content)), marks
        except python_calamine.PasswordError as error:
            raise InputError(f"{self.name} {LOCKED}") from error

    def _note_unknown(self) -> None:
        """Say what cannot be known of a workbook of before 2007."""
        if self.options.hidden_rows == SKIP:
            raise InputError(
                f"{self.name}: which rows are hidden is not known of an .xls; save it as .xlsx"
            )
        self._notes.append(
            "of an .xls it is not known which cells hold an error, and which rows are hidden; "
            "saved as .xlsx, it is"
        )

    def _take_up(self, table: _Table) -> None:
        header = table.header
        self._map_headers(header.headers)
        first = header.place + 2 - header.rows
        where = f"row {first}" if header.rows == 1 else f"rows {first} and {first + 1}"
        above = f"; {counted(first - 1, 'row')} above left out" if first > 1 else ""
        self._notes.append(f"sheet {table.name!r}, headers in {where}{above}")
        if table.others:
            shown = ", ".join(map(repr, table.others))
            self._notes.append(f"not read: {shown}; --sheet NAME says which sheet is")

    def _records(self, table: _Table) -> Iterator[TakenRow]:
        """The rows of data."""
        begin = table.header.place + 1
        self._data = data = DataRows(table.header, self.mapping)
        self.sheet_place = place = SheetPlace(table.name, begin, table.header.rows)
        is_skipping = self.options.hidden_rows == SKIP
        merged = _MergedCells(table.spans)
        rows = chain(islice(table.first, begin, None), table.rest)
        for number, given in enumerate(rows, begin):
            cells = list(map(_cell, given))
            covered = merged.covering(number, cells)
            if all(map(is_empty_cell, cells)):
                self._empty_rows += 1
                data.note_gap()
                continue
            if not data.is_data(cells, number + 1):
                continue
            if number in table.hidden:
                self._hidden_rows += 1
                if is_skipping:
                    continue
            place.add(number + 1)
            yield TakenRow(number, cells, covered)


class _MergedCells:
    """Gives each row the values of the cells above that are merged with its own.

    Args:
        spans: By the first row of merged cells, the last one, and the column.
    """

    def __init__(self, spans: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        self._spans = spans
        self._open: dict[int, tuple[int, Any]] = {}  # by column, up to which row, and the value

    def covering(self, row: int, cells: Sequence[Any]) -> Mapping[int, Any]:
        """By column, the values for a row; rows are asked for one after the other."""
        if not self._open and row not in self._spans:
            return _NOTHING
        self._open = {column: each for column, each in self._open.items() if each[0] >= row}
        covering = {column: value for column, (_, value) in self._open.items()}
        for last, column in self._spans.get(row, ()):
            if 0 <= column < len(cells) and cells[column] is not None:
                self._open[column] = last, cells[column]
        return covering


# -- Sheets ----------------------------------------------------------------------------------


def _chosen(
    name: str,
    workbook: CalamineWorkbook,
    options: ReadOptions,
    marks: Mapping[str, SheetMarks],
) -> _Table:
    """The sheet that was named, or the only one that holds a table."""

    def table_of(title: str) -> _Table | None:
        return _table(name, workbook, title, options, marks.get(title) or SheetMarks())

    if options.sheet is not None:
        title = _named_sheet(name, workbook.sheet_names, options.sheet)
        table = table_of(title)
        if table is None:
            raise InputError(f"{name}, sheet {title!r} is empty")
        return table
    best: _Table | None = None
    by_rank: dict[int, list[str]] = {}
    for title in _visible(workbook):
        found = table_of(title)
        if found is None:
            continue
        rank = _rank(found.header, options)
        if not by_rank or rank > max(by_rank):
            best = found  # the others are let go of at once
        by_rank.setdefault(rank, []).append(title)
    if best is None:
        raise InputError(f"{name} is empty")
    likeliest = max(by_rank)
    titles = by_rank[likeliest]
    if len(titles) > 1 and likeliest == _NO_TABLE:
        raise InputError(f"{name} has no sheet with a column to look up; {_advice(titles)}")
    if len(titles) > 1:
        raise InputError(f"{name} has several sheets with a table; {_advice(titles)}")
    others = [title for each in by_rank.values() for title in each if title != best.name]
    return msgspec.structs.replace(best, others=tuple(others))


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
    name: str, workbook: CalamineWorkbook, title: str, options: ReadOptions, marks: SheetMarks
) -> _Table | None:
    """A sheet's rows; None where it has no text."""
    with _told_in_one_line(f"{name}, sheet {title!r}"):
        sheet: CalamineSheet = workbook.get_sheet_by_name(title)
        spans = _spans(sheet, marks)
    first_column = sheet.start[1] if sheet.start else 0
    rows = _marked(sheet, marks, first_column)
    first = list(islice(rows, SEARCHED_ROWS))
    header = find_header(first, options)
    if header is None:
        return None
    below: dict[int, list[tuple[int, int]]] = {}
    for first_row, last_row, column in spans:
        if first_row > header.place:
            below.setdefault(first_row, []).append((last_row, column - first_column))
    return _Table(title, first, rows, header, marks.hidden, below, first_column)


def _spans(sheet: CalamineSheet, marks: SheetMarks) -> list[tuple[int, int, int]]:
    """Cells that are merged downwards: their first row, the last one, and the first column."""
    if marks.spans:
        return marks.spans
    return [
        (first_row, last_row, column)
        for (first_row, column), (last_row, _) in sheet.merged_cell_ranges or ()
        if last_row > first_row
    ]


def _marked(sheet: CalamineSheet, marks: SheetMarks, first_column: int) -> Iterator[list[Any]]:
    """A sheet's rows from its first one, as wide as the widest of them.

    What stands for cells that have no value is in their places.
    """
    width = max(sheet.width, marks.last_column + 1 - first_column)
    beyond: list[Any] = [""] * (width - sheet.width)
    by_row = marks.by_row()
    marked_row, marked = next(by_row, (-1, []))
    number = -1
    for number, read in enumerate(sheet.iter_rows()):
        cells: list[Any] = [*read, *beyond] if beyond else read
        if number == marked_row:
            _put(marked, cells, first_column)
            marked_row, marked = next(by_row, (-1, []))
        yield cells
    for row in range(number + 1, marks.last_row + 1):  # the library ends with the last value
        cells = [""] * width
        if row == marked_row:
            _put(marked, cells, first_column)
            marked_row, marked = next(by_row, (-1, []))
        yield cells


def _put(marked: Sequence[tuple[int, Any]], cells: list[Any], first_column: int) -> None:
    for column, text in marked:
        if column >= first_column:
            cells[column - first_column] = text


def _rank(header: HeaderRow, options: ReadOptions) -> int:
    """How likely a sheet holds the table of locations, by its headers."""
    try:
        mapping = map_columns(
            "",
            header.headers,
            given=options.mapping,
            is_complete=False,
        )
    except InputError:  # it is not clear which column is which: that is for the user to say
        return _SURELY_A_TABLE if header.known >= _KNOWN_IN_A_TABLE else _NO_TABLE
    fields = {column.field for column in mapping.columns}
    has_point = fields.issuperset(COORDINATES)
    # A cover sheet has labels, each with what it says beside it; a summary has no streets.
    is_located = has_point or not fields.isdisjoint(_STREETS)
    if header.named or (header.known >= _KNOWN_IN_A_TABLE and is_located and not _is_form(header)):
        return _SURELY_A_TABLE
    is_looked_up = has_point or not fields.isdisjoint(LOOKUP_FIELDS)
    return _PERHAPS_A_TABLE if is_looked_up or header.known >= _KNOWN_IN_A_TABLE else _NO_TABLE


def _is_form(header: HeaderRow) -> bool:
    """Whether a row that may be a header has labels, each with what it says beside it."""
    labels = sum(map(is_label, header.headers))
    return labels * 2 >= sum(map(bool, header.headers))


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
