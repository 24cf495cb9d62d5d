"""The input workbook with the answers as new columns of its sheet.

Everything in it that is not the sheet's new cells is copied as it is: values, formulas, formats,
other sheets, pictures, charts. What was a title, a total or an empty row stays where it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shutil
import struct
import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Final
from xml.sax.saxutils import escape, quoteattr

from pingdata_async.tables.rows import Fingerprint, SheetPlace
from pingdata_async.tables.schema.types import Column, Values
from pingdata_async.tables.writers.base import TableRows, TableWriter
from pingdata_async.tables.writers.excel import cut_notes, width_of
from pingdata_async.tables.writers.sheet_editing import NewColumns, edit_sheet, scan_sheet
from pingdata_async.tables.xlsx import (
    ArchiveWriter,
    Cells,
    Styles,
    WorkbookParts,
    cell_values,
    column_letters,
    column_number,
)

_MOST_COLUMNS: Final = 16_384
_LOOKED_AT_ROWS: Final = 1000  # for the columns' widths
_FRAME: Final = struct.Struct("<II")  # a row's number, and how many bytes its cells take
_LIKE_HEADER: Final = "\0h\0"
_TYPES: Final = "[Content_Types].xml"
_RANGE: Final = re.compile(r"([A-Z]+)(\d+):([A-Z]+)(\d+)")


class GivenWorkbook:
    """A workbook that was an input, and can be written with more columns.

    Args:
        file: It.
        fingerprint: What it was when its rows were read.
        place: Where in it these stand.

    Raises:
        ValueError: Saying why it cannot.
    """

    def __init__(
        self, file: io.BufferedReader, fingerprint: Fingerprint, place: SheetPlace
    ) -> None:
        if hashlib.file_digest(file, "sha256").hexdigest() != fingerprint.sha256:
            raise ValueError("it has changed since it was read")
        try:
            self.archive = zipfile.ZipFile(file)
            if _TYPES not in self.archive.namelist():
                raise ValueError("it is no .xlsx or .xlsm")
            self.parts = WorkbookParts(self.archive, place.sheet)
            if not self.parts.sheet.endswith(".xml"):
                raise ValueError("it is no .xlsx or .xlsm")
            self.styles = Styles(self.parts.read(self.parts.styles))
            with self.archive.open(self.parts.sheet) as sheet:
                self.form = scan_sheet(sheet, place)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"it is no .xlsx or .xlsm: {error}") from error
        self.place = place
        self.first = self.form.width + 1

    def check_room(self, columns: int) -> None:
        """Make sure that so many more columns find room.

        Raises:
            ValueError: When they do not.
        """
        if self.form.width + columns > _MOST_COLUMNS:
            raise ValueError(f"its sheet has no room for {columns} more columns")


@contextlib.contextmanager
def opened_workbook(
    paths: Sequence[Path], fingerprint: Fingerprint, place: SheetPlace
) -> Iterator[GivenWorkbook]:
    """Open the workbook that was an input.

    Args:
        paths: Where it may be.
        fingerprint: What it was when its rows were read.
        place: Where in it these stand.

    Raises:
        ValueError: Saying why it cannot be written with more columns.
    """
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError("it is not there any more")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from error
        yield GivenWorkbook(file, fingerprint, place)


class WorkbookWriter(TableWriter):
    """Writes a workbook with new columns.

    The cells of the rows are kept in a temporary file until all are known.

    Args:
        file: Where to.
        workbook: The workbook.
        columns: The new columns.
    """

    def __init__(self, file: BinaryIO, workbook: GivenWorkbook, columns: Sequence[Column]) -> None:
        self._workbook = workbook
        self._columns = columns
        self._letters = [
            column_letters(number)
            for number in range(workbook.first, workbook.first + len(columns))
        ]
        self._names = [column.name for column in columns]
        self._widths = [width_of([name]) for name in self._names]
        self._sheet_rows = array("I", workbook.place.rows())
        self._forms: dict[str, str] = {}
        self._cells = Cells(self._style, is_from_1904=workbook.parts.is_from_1904)
        self._rows = 0
        self._is_beside_query = any(map(self._is_filled_from_elsewhere, workbook.parts.tables))
        self._kept = _temporary_for(file)
        self._archive = ArchiveWriter(file)
        self._part: IO[bytes] | None = None
        self._write_header()

    @property
    def notes(self) -> list[str]:
        """Where the answers are, and what could not be kept."""
        sheet = self._workbook.place.sheet
        where = f"columns {self._letters[0]} to {self._letters[-1]}"
        notes = [f'The answers are in {where} of sheet "{sheet}"; all else in it is as it was.']
        if self._is_beside_query:
            notes.append(
                "They stand beside its table and not in it, as a query fills that: "
                "after a refresh they may stand in other rows than what they are about."
            )
        if self._workbook.parts.macros:
            notes.append("Its macros are left out: an .xlsx holds none.")
        return notes + cut_notes(self._cells.cut)

    def write(self, rows: TableRows) -> None:
        """Add the answers of some rows; see `TableWriter`."""
        where = [self._sheet_rows[number] for number in rows.numbers or range(rows.count)]
        cells = list(map(cell_values, rows.values, self._columns))
        if self._rows < _LOOKED_AT_ROWS:
            self._widths = list(map(max, self._widths, map(width_of, cells)))
        self._rows += rows.count
        self._keep(where, cells, self._cells)

    def close(self) -> None:
        """Write the workbook."""
        given, archive = self._workbook, self._workbook.archive
        changed = self._changed_parts()
        for about in archive.infolist():
            path = about.filename
            if path in given.parts.macros or path == given.parts.styles:
                continue
            self._part = part = self._archive.begin_part(path)
            if path in changed:
                part.write(changed[path])
            else:
                with archive.open(about) as content:
                    if path == given.parts.sheet:
                        edit_sheet(content, part, given.form, self._new_columns())
                    else:
                        shutil.copyfileobj(content, part)
            part.close()
            self._part = None
        # At last: which styles are wanted is known from the sheet.
        with self._archive.part(given.parts.styles) as part:
            part.write(given.styles.content())
        self._archive.close()
        self._kept.close()

    def abandon(self) -> None:
        """Let go of the files, which are of no use."""
        self._archive.abandon(self._part)
        self._kept.close()

    # -- Cells -------------------------------------------------------------------------------

    def _style(self, form: str) -> str:
        """What stands for a style until the cell beside it is known; no text has a NUL."""
        return self._forms.setdefault(form, f"\0{len(self._forms)}\0")

    def _write_header(self) -> None:
        place = self._workbook.place
        like_header = Cells(lambda _: _LIKE_HEADER)
        for row in range(place.header_row - place.header_rows + 1, place.header_row):
            self._keep([row], [[None] for _ in self._names], like_header)
        self._keep([place.header_row], [[name] for name in self._names], like_header)

    def _keep(self, rows: Sequence[int], values: Sequence[Values], cells: Cells) -> None:
        columns = [
            cells.column(letters, rows, each)
            for letters, each in zip(self._letters, values, strict=True)
        ]
        for row, parts in zip(rows, zip(*columns, strict=True), strict=True):
            content = "".join(parts).encode()
            self._kept.write(_FRAME.pack(row, len(content)) + content)

    def _kept_rows(self) -> Iterator[tuple[int, bytes]]:
        self._kept.seek(0)
        while frame := self._kept.read(_FRAME.size):
            row, size_bytes = _FRAME.unpack(frame)
            yield row, self._kept.read(size_bytes)

    def _styled(self, cells: bytes, style: int) -> bytes:
        """Cells in the style of the cell before them."""
        like = self._workbook.styles.like
        cells = cells.replace(_LIKE_HEADER.encode(), b' s="%d"' % style)
        for form, token in self._forms.items():
            if token.encode() in cells:
                cells = cells.replace(token.encode(), b' s="%d"' % like(style, form))
        return cells

    # -- The other parts ---------------------------------------------------------------------

    def _new_columns(self) -> NewColumns:
        return NewColumns(
            first=self._workbook.first,
            widths=self._widths,
            rows=self._kept_rows(),
            style=self._styled,
            header_row=self._workbook.place.header_row,
            filtered=self._filtered(),
        )

    def _filtered(self) -> str:
        """The range that can be filtered by the answers too; "" to leave that to the sheet."""
        form, place = self._workbook.form, self._workbook.place
        if self._workbook.parts.tables:  # which have filters of their own
            return ""
        begin, end = form.header_begin or 1, max([place.header_row, *self._sheet_rows[-1:]])
        if form.filtered:
            found = _RANGE.fullmatch(form.filtered)
            if found is None or int(found[2]) != place.header_row:
                return ""
            begin, end = column_number(found[1]), int(found[4])
        return f"{column_letters(begin)}{place.header_row}:{self._letters[-1]}{end}"

    def _changed_parts(self) -> dict[str, bytes]:
        parts = self._workbook.parts
        changed = {path: self._with_columns(parts.read(path)) for path in parts.tables}
        filtered = self._filtered()
        if filtered:
            changed[parts.workbook] = self._with_filter(parts.read(parts.workbook), filtered)
        types = parts.read(_TYPES)
        if _MACRO_TYPE in types or _TEMPLATE_TYPE.search(types) or parts.macros:
            changed[_TYPES] = _without_macros(types)
            relations = parts.relations_of(parts.workbook)
            changed[relations] = _MACROS.sub(b"", parts.read(relations))
        return changed

    def _with_filter(self, workbook: bytes, filtered: str) -> bytes:
        """The range under the name by which Excel knows it as well."""
        sheet = self._workbook.place.sheet.replace("'", "''")
        begin, end = filtered.split(":")
        where = f"'{sheet}'!{_fixed(begin)}:{_fixed(end)}"
        index = self._workbook.parts.sheet_index
        for found in _DEFINED_FILTER.finditer(workbook):
            if re.search(rb"""\blocalSheetId=["']%d["']""" % index, found[1]):
                return (
                    workbook[: found.start(2)] + escape(where).encode() + workbook[found.end(2) :]
                )
        prefix = _ROOT.search(workbook)
        name = prefix[1] if prefix else b""
        defined = (
            b'<%bdefinedName name="_xlnm._FilterDatabase" localSheetId="%d" hidden="1">%b'
            b"</%bdefinedName>" % (name, index, escape(where).encode(), name)
        )
        end_of_names = _DEFINED_NAMES_END.search(workbook)
        if end_of_names is not None:
            return workbook[: end_of_names.start()] + defined + workbook[end_of_names.start() :]
        names = b"<%bdefinedNames>%b</%bdefinedNames>" % (name, defined, name)
        next_part = _BEHIND_DEFINED_NAMES.search(workbook)
        at = next_part.start() if next_part else len(workbook)
        return workbook[:at] + names + workbook[at:]

    def _is_filled_from_elsewhere(self, path: str) -> bool:
        """Whether a table is filled from elsewhere, as by Power Query.

        Its columns have to be the fields of what fills it, else Excel repairs the workbook.
        """
        opening = _TABLE.search(self._workbook.parts.read(path))
        return opening is not None and _FILLED.search(opening[0]) is not None

    def _with_columns(self, table: bytes) -> bytes:
        """A table of Excel's that ends where the new columns begin, with these in it."""
        place, first = self._workbook.place, self._workbook.first
        opening = _TABLE.search(table)
        columns = _TABLE_COLUMNS.search(table)
        area = opening and _REF.search(opening[0])
        found = area and _RANGE.fullmatch(area[1].decode())
        if not opening or not columns or not found or _FILLED.search(opening[0]):
            return table
        if int(found[2]) != place.header_row or column_number(found[3]) != first - 1:
            return table
        ids = list(map(int, _TABLE_COLUMN_ID.findall(columns[3])))
        prefix = columns[1]
        added = b"".join(
            b'<%btableColumn id="%d" name=%b/>' % (prefix, id_, quoteattr(name).encode())
            for id_, name in enumerate(self._names, max(ids, default=0) + 1)
        )
        count = b' count="%d"' % (len(ids) + len(self._names))
        begin = table[: columns.start(2)] + count + b">" + columns[3] + added
        extended = begin + table[columns.end(3) :]
        last = self._letters[-1].encode()

        def wider(ref: re.Match[bytes]) -> bytes:
            area = _RANGE.fullmatch(ref[1].decode())
            if area is None or column_number(area[3]) != first - 1:
                return ref[0]
            return b' ref="%b%b:%b%b"' % (
                area[1].encode(), area[2].encode(), last, area[4].encode()
            )  # fmt: skip

        return _REF.sub(wider, extended)


_ROOT: Final = re.compile(rb"<((?:\w+:)?)workbook\b")
_DEFINED_FILTER: Final = re.compile(
    rb"""<(?:\w+:)?definedName\b([^>]*\bname=["']_xlnm\._FilterDatabase["'][^>]*)>([^<]*)<"""
)
_DEFINED_NAMES_END: Final = re.compile(rb"</(?:\w+:)?definedNames>")
_BEHIND_DEFINED_NAMES: Final = re.compile(
    rb"<(?:\w+:)?(?:calcPr|oleSize|customWorkbookViews|pivotCaches|smartTagPr|smartTagTypes|"
    rb"webPublishing|fileRecoveryPr|webPublishObjects|extLst)\b|</(?:\w+:)?workbook>"
)
_TABLE: Final = re.compile(rb"<(?:\w+:)?table\b[^>]*>")
_FILLED: Final = re.compile(rb"""\stableType=["'](?!worksheet["'])""")
_REF: Final = re.compile(rb"""\sref=["']([^"']*)["']""")
_TABLE_COLUMNS: Final = re.compile(
    rb"<((?:\w+:)?)tableColumns\b([^>]*>)"
    rb"((?:(?!<(?:\w+:)?tableColumns\b).)*?)(?=</(?:\w+:)?tableColumns>)",
    re.DOTALL,
)
_TABLE_COLUMN_ID: Final = re.compile(rb"""<(?:\w+:)?tableColumn\b[^>]*?\sid=["'](\d+)["']""")
_MACRO_TYPE: Final = b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
_PLAIN_TYPE: Final = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
_TEMPLATE_TYPE: Final = re.compile(
    rb"application/vnd\.(?:ms-excel\.template\.macroEnabled|"
    rb"openxmlformats-officedocument\.spreadsheetml\.template)\.main\+xml"
)
_MACRO_PARTS: Final = re.compile(
    rb"""<(?:\w+:)?(?:Override|Default)\b[^>]*application/vnd\.ms-office\.vbaProject[^>]*/>"""
)
_MACROS: Final = re.compile(rb"""<(?:\w+:)?Relationship\b[^>]*/vbaProject["'][^>]*/>""")


def _without_macros(types: bytes) -> bytes:
    """The types of the parts of an .xlsx; Excel opens no other one under that name."""
    types = _TEMPLATE_TYPE.sub(_PLAIN_TYPE, types.replace(_MACRO_TYPE, _PLAIN_TYPE))
    return _MACRO_PARTS.sub(b"", types)


def _fixed(place: str) -> str:
    return re.sub(r"([A-Z]+)(\d+)", r"$\1$\2", place)


def _temporary_for(file: BinaryIO) -> IO[bytes]:
    """For what is to become a file; beside it, where the disk has room for that."""
    name = getattr(file, "name", None)
    folder = Path(name).parent if isinstance(name, str) else None
    return tempfile.TemporaryFile(dir=folder)
