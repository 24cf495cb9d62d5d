"""Workbooks of Excel and OpenDocument to batches of rows.

A workbook cannot be streamed: it is opened whole, and takes memory for each cell of the sheet
(`workbook_scan` says how much, and what is refused). Only code that has made sure that
python-calamine is installed imports this module. Everything here blocks, and runs in a worker
thread.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice, zip_longest
from types import MappingProxyType
from typing import Any

import msgspec
import python_calamine
from python_calamine import (
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import LOOKUP_FIELDS
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.mapping.columns import map_columns
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.readers.base import OLE_MAGIC, ZIP_MAGIC, FileInput, InputReader
from pingdata_async.tables.readers.lost_cells import (
    KNOWN_ERRORS,
    LostCells,
    SheetRow,
    with_known_errors,
)
from pingdata_async.tables.readers.table_rows import (
    SEARCHED_ROWS,
    DataRows,
    HeaderRow,
    find_header,
    is_empty_cell,
    is_label,
    left_out_notes,
)
from pingdata_async.tables.readers.workbook_scan import (
    ADVICE,
    MAX_FILE_BYTES,
    SheetMarks,
    scan_workbook,
)
from pingdata_async.tables.readers.xls_scan import check_xls
from pingdata_async.tables.rows import SKIP, Batch, CellColumns, ReadOptions, SheetPlace
from pingdata_async.tables.schema.types import whole_number
from pingdata_async.util.text import counted

_KNOWN_IN_A_TABLE = 3  # headers, even if none of them can be looked up
_NO_TABLE, _PERHAPS_A_TABLE, _SURELY_A_TABLE = range(3)
_STREETS = frozenset({"address", "address_line_1"})
_NOTHING: Mapping[int, Any] = MappingProxyType({})
_BLOCK_BYTES = 1024 * 1024


class _Table(msgspec.Struct, frozen=True):
    """A sheet with headers."""

    name: str  # the name of the sheet
    first: list[list[Any]]  # its first rows
    rest: Iterator[list[Any]]  # the rows below them
    header: HeaderRow  # the headers among the first rows
    hidden: AbstractSet[int]  # the rows that are hidden
    # The last row and the column of merged cells, by first row.
    spans: dict[int, list[tuple[int, int]]]
    first_column: int  # the first column of its rows, from 0
    others: tuple[str, ...] = ()  # the other sheets that are not empty


class WorkbookReader(InputReader):
    """Reads the records of a sheet of a workbook; see `InputReader`."""

    def __init__(self, file: FileInput, options: ReadOptions) -> None:
        super().__init__(file.name, file.source, options)
        self._content = file.content
        self._keep_waiting = file.keep_waiting
        self._empty_rows = 0
        self._hidden_rows = 0
        self._data: DataRows | None = None
        self._lost: LostCells | None = None

    def _counted(self) -> list[str]:
        notes = [] if self._lost is None else self._lost.notes()
        left_out = Counter({"empty row": self._empty_rows})
        if self.options.hidden_rows == SKIP:
            left_out["hidden row"] = self._hidden_rows
        elif self._hidden_rows:
            hidden = counted(self._hidden_rows, "hidden row")
            notes.append(f"{hidden} sent like the others; leave them out with --hidden-rows skip")
        return [*notes, *left_out_notes(left_out, self._data, "row")]

    def _batches(self) -> Iterator[Batch]:
        workbook, marks = self._opened(self._read())
        try:
            table = _chosen(self.name, workbook, self.options, marks)
        finally:
            workbook.close()
        self._take_up(table)
        self._lost = lost = LostCells(self, table.first_column)
        records = self._records(table)
        while rows := list(islice(records, BATCH_ROWS)):
            self._keep_waiting()
            kept, sent = lost.taken(rows)
            if not lost.is_refused:  # if it is, the rest is only counted
                located = self._located(sent, are_texts=False, unused=kept.__getitem__)
                yield Batch(located, CellColumns(kept))
        if lost.is_refused:
            raise lost.refusal()

    def _read(self) -> bytes:
        content = io.BytesIO()  # returns its bytes without a copy, unlike a bytearray
        while block := self._content.read(_BLOCK_BYTES):
            self._keep_waiting()
            content.write(block)
            if content.tell() > MAX_FILE_BYTES:
                raise InputError(
                    f"{self.name} is too large for a workbook: more than {MAX_FILE_BYTES:,} bytes; "
                    f"{ADVICE}"
                )
        return content.getvalue()

    def _opened(self, content: bytes) -> tuple[CalamineWorkbook, dict[str, SheetMarks]]:
        """The workbook, and the marks of each sheet."""
        told = _told_of_look_alike(content)
        if told is not None:
            raise InputError(f"{self.name} {told}")
        marks: dict[str, SheetMarks] = {}
        if content.startswith(ZIP_MAGIC):
            marks = scan_workbook(self.name, content, self._keep_waiting)
            if any(each.errors - KNOWN_ERRORS for each in marks.values()):
                content = with_known_errors(content, self._keep_waiting)
        else:
            self._note_old_workbook()
            check_xls(self.name, content, self._keep_waiting)
        try:
            with _told_in_one_line(self.name):
                return python_calamine.load_workbook(io.BytesIO(content)), marks
        except PasswordError as error:
            raise InputError(f"{self.name} {_LOCKED}") from error

    def _note_old_workbook(self) -> None:
        """Tell what cannot be read from a workbook of before 2007."""
        if self.options.hidden_rows == SKIP:
            raise InputError(
                f"{self.name}: hidden rows cannot be told apart in an .xls; save it as .xlsx"
            )
        self._notes.append(
            "an .xls does not show which cells hold an error and which rows are hidden; save it as "
            ".xlsx to see them"
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
            self._notes.append(f"not read: {shown}; choose a sheet with --sheet NAME")

    def _records(self, table: _Table) -> Iterator[SheetRow]:
        """The records."""
        begin = table.header.place + 1
        self._data = data = DataRows(table.header, self.mapping)
        self.sheet_place = place = SheetPlace(table.name, begin, table.header.rows)
        is_skipping = self.options.hidden_rows == SKIP
        merged = _MergedCells(table.spans)
        rows = chain(islice(table.first, begin, None), table.rest)
        for number, given in enumerate(rows, begin):
            cells = [None if value == "" else whole_number(value) for value in given]
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
            yield SheetRow(number, cells, covered)


class _MergedCells:
    """Finds the values of merged cells for the rows below their first.

    `spans` holds the last row and the column of merged cells, by first row.
    """

    def __init__(self, spans: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        self._spans = spans
        self._open: dict[int, tuple[int, Any]] = {}  # last row and value, by column

    def covering(self, row: int, cells: Sequence[Any]) -> Mapping[int, Any]:
        """The values of merged cells that cover a row, by column; called row by row."""
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
    """The sheet that the user named, or the only one that holds a table."""

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
            best = found  # only one sheet is kept in memory
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
    return f"choose one with --sheet NAME: {', '.join(map(repr, titles))}"


def _visible(workbook: CalamineWorkbook) -> list[str]:
    """The visible sheets of cells; hidden ones hold lists and old versions."""
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
        f"{name} has no sheet {wanted!r}; it has {', '.join(map(repr, titles))}"
    )


def _table(
    name: str, workbook: CalamineWorkbook, title: str, options: ReadOptions, marks: SheetMarks
) -> _Table | None:
    """A sheet with its headers; None if it has no text."""
    with _told_in_one_line(f"{name}, sheet {title!r}"):
        sheet = workbook.get_sheet_by_name(title)
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
    """Cells that are merged downwards: first row, last row, first column."""
    if marks.spans:
        return marks.spans
    return [
        (first_row, last_row, column)
        for (first_row, column), (last_row, _) in sheet.merged_cell_ranges or ()
        if last_row > first_row
    ]


def _marked(sheet: CalamineSheet, marks: SheetMarks, first_column: int) -> Iterator[list[Any]]:
    """The rows of a sheet, all of the same width, with the marks in place of missing values."""
    width = max(sheet.width, marks.last_column + 1 - first_column)
    beyond: list[Any] = [""] * (width - sheet.width)
    by_row = marks.by_row()
    marked_row, marked = next(by_row, (-1, []))
    nothing = [""] * sheet.width  # the library stops at the last value
    rows = zip_longest(sheet.iter_rows(), range(marks.last_row + 1), fillvalue=nothing)
    for number, (read, _) in enumerate(rows):
        cells: list[Any] = [*read, *beyond]
        if number == marked_row:
            for column, text in marked:
                if column >= first_column:
                    cells[column - first_column] = text
            marked_row, marked = next(by_row, (-1, []))
        yield cells


def _rank(header: HeaderRow, options: ReadOptions) -> int:
    """How likely a sheet holds the table of locations, by its headers."""
    try:
        mapping = map_columns("", header.headers, given=options.mapping, is_complete=False)
    except InputError:  # columns are ambiguous, which the user has to settle
        return _SURELY_A_TABLE if header.known >= _KNOWN_IN_A_TABLE else _NO_TABLE
    fields = {column.field for column in mapping.columns}
    has_point = fields.issuperset(COORDINATES)
    # A cover sheet has labels with values beside them; a summary has no streets.
    is_located = has_point or not fields.isdisjoint(_STREETS)
    if header.named or (header.known >= _KNOWN_IN_A_TABLE and is_located and not _is_form(header)):
        return _SURELY_A_TABLE
    is_looked_up = has_point or not fields.isdisjoint(LOOKUP_FIELDS)
    return _PERHAPS_A_TABLE if is_looked_up or header.known >= _KNOWN_IN_A_TABLE else _NO_TABLE


def _is_form(header: HeaderRow) -> bool:
    """Whether a row that may be a header has labels, with values beside them."""
    labels = sum(map(is_label, header.headers))
    return labels * 2 >= sum(map(bool, header.headers))


@contextlib.contextmanager
def _told_in_one_line(where: str) -> Iterator[None]:
    """Translate the errors of the library."""
    try:
        yield
    except PasswordError:
        raise
    except BaseException as error:
        # A panic in the library has a class that cannot be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            told = " ".join(str(error).split())
            raise InputError(f"{where} cannot be read as a workbook: {told}") from error
        raise


# -- Look-alikes --------------------------------------------------------------------------------

_NEEDED = "a table is needed, such as CSV or a workbook"
_LOCKED = "is locked with a password; save it without one"

_LARGEST_MANIFEST_BYTES = 1024 * 1024
_SHOWN_NAMES = 3

# The container of a workbook with a password, and the record that follows the first one in a
# workbook of before 2007 with a password.
_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_OLD_LOCKED = re.compile(
    rb"(?:\x09\x08\x10\x00\x00\x06.{14}|\x09\x08\x08\x00\x00\x05.{6})(?:\x86\x00\x00\x00)?\x2f\x00",
    re.DOTALL,
)
_WORD_DOCUMENT = "WordDocument".encode("utf-16-le")


def _told_of_look_alike(content: bytes) -> str | None:
    """What a file is instead of a workbook, and what to do; None if it may be one."""
    if content.startswith(OLE_MAGIC):
        if _PACKAGE in content or _OLD_LOCKED.search(content):
            return _LOCKED
        if _WORD_DOCUMENT in content:
            return f"is a Word document; {_NEEDED}"
        return None
    if not content.startswith(ZIP_MAGIC):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _told_of_archive(archive)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OSError):
        return None  # the scan says what is wrong


def _told_of_archive(archive: zipfile.ZipFile) -> str | None:
    names = [name.replace("\\", "/") for name in archive.namelist()]
    plain = set(map(str.lower, names))
    if "encrypted-package" in plain or _is_locked_document(archive, plain):
        return _LOCKED
    if any(name.startswith("xl/") for name in plain) or "content.xml" in plain:
        return None
    if any(name.startswith("word/") for name in plain):
        return f"is a Word document; {_NEEDED}"
    if any(name.startswith("ppt/") for name in plain):
        return f"is a presentation; {_NEEDED}"
    if any(name.endswith(".iwa") for name in plain):
        return "is an Apple Numbers document; export it as .xlsx or CSV"
    files = [name for name in names if not name.endswith("/")]
    held = shown_headers(files, _SHOWN_NAMES) if files else "nothing"
    return f"is a zip archive without a workbook; unpack it. It holds {held}"


def _is_locked_document(archive: zipfile.ZipFile, plain: set[str]) -> bool:
    """Whether it is an OpenDocument file whose parts are encrypted."""
    if "content.xml" not in plain or "META-INF/manifest.xml" not in archive.namelist():
        return False
    with archive.open("META-INF/manifest.xml") as manifest:
        return b":encryption-data" in manifest.read(_LARGEST_MANIFEST_BYTES)
