"""Flat tables to new XLSX workbooks of one sheet, or into the workbook that was the input.

Cells are written here and not by a library: those take 8 us a cell and more, this module about 1.
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
from itertools import repeat
from pathlib import Path
from typing import IO, BinaryIO, Final
from xml.sax.saxutils import escape, quoteattr

from pingdata_async.tables.formats import OutputFormat, check_format
from pingdata_async.tables.rows import Fingerprint, SheetPlace
from pingdata_async.tables.schema.types import Column, Values
from pingdata_async.tables.writers.base import TableRows, TableWriter
from pingdata_async.tables.writers.sheet_editing import NewColumns, edit_sheet, scan_sheet
from pingdata_async.tables.xlsx import (
    MAX_CELL_UNITS,
    PANE,
    ArchiveWriter,
    Cells,
    Styles,
    WorkbookParts,
    cell_values,
    column_letters,
    column_number,
    column_widths,
)
from pingdata_async.util.text import counted

SHEET: Final = "enhanced"

_HEADER: Final = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_TYPES: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_FIRST_FORMAT: Final = 164  # of those that are no built-in ones

_LEAST_WIDTH: Final = 9
_MOST_WIDTH: Final = 60
_WIDTH_ROWS: Final = 100  # looked at


class XLSXWriter(TableWriter):
    """Writes a flat table as a sheet, with its header frozen and filtered.

    Args:
        file: The output.
        columns: The columns.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._letters = [column_letters(place + 1) for place in range(len(columns))]
        self._forms: dict[str, int] = {"": 0}
        self._cells = Cells(self._style)
        self._archive = ArchiveWriter(file)
        self._part: IO[bytes] | None = None
        self._rows = 0

    @property
    def notes(self) -> list[str]:
        """A note on texts that were cut, if any."""
        return cut_notes(self._cells.cut)

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`. A ConfigurationError if the sheet is full."""
        check_format(OutputFormat.XLSX, rows=max(self._rows - 1, 0) + rows.count)
        cells = list(map(cell_values, rows.values, self._columns))
        if self._part is None:
            self._begin(cells)
        self._write_rows(cells, rows.count)

    def close(self) -> None:
        """Write what is behind the rows, and the other parts."""
        if self._part is None:
            self._begin([])
        assert self._part is not None  # noqa: S101 - for type checkers
        self._part.write(b"</sheetData>" + self._filter() + b"</worksheet>")
        self._part.close()
        self._part = None
        for name, content in _parts(list(self._forms)).items():
            with self._archive.part(name) as part:
                part.write(_HEADER + content.encode())
        self._archive.close()

    def abandon(self) -> None:
        """Release the file."""
        self._archive.abandon(self._part)

    def _style(self, form: str) -> str:
        number = self._forms.setdefault(form, len(self._forms))
        return f' s="{number}"' if number else ""

    def _begin(self, cells: Sequence[Values]) -> None:
        self._part = self._archive.begin_part("xl/worksheets/sheet1.xml")
        names = [column.name for column in self._columns]
        shown = cells or repeat((), len(names))
        widths = [width_of([name, *values]) for name, values in zip(names, shown, strict=False)]
        self._part.write(
            _HEADER
            + (
                f'<worksheet xmlns="{_MAIN}"><sheetViews><sheetView tabSelected="1" '
                f'workbookViewId="0">{PANE.format(rows=1, below=2)}</sheetView></sheetViews>'
                '<sheetFormatPr defaultRowHeight="15"/>'
                f"<cols>{column_widths(widths)}</cols><sheetData>"
            ).encode()
        )
        self._write_rows([[name] for name in names], 1)

    def _write_rows(self, cells: Sequence[Values], rows: int) -> None:
        numbers = range(self._rows + 1, self._rows + 1 + rows)
        self._rows += rows
        columns = map(self._cells.column, self._letters, repeat(numbers), cells)
        written = map("".join, zip(*columns, strict=True))
        assert self._part is not None  # noqa: S101 - for type checkers
        self._part.write(
            "".join(
                f'<row r="{number}">{row}</row>'
                for number, row in zip(numbers, written, strict=True)
            ).encode()
        )

    def _filter(self) -> bytes:
        return f'<autoFilter ref="A1:{self._letters[-1]}{self._rows}"/>'.encode()


def width_of(values: Values) -> int:
    """The width of a column for its header and its first values, in characters."""
    longest = max(
        (len(str(value)) for value in values[:_WIDTH_ROWS] if value is not None), default=0
    )
    return min(max(longest + 2, _LEAST_WIDTH), _MOST_WIDTH)


def cut_notes(cut: int) -> list[str]:
    """The notes on texts that were cut."""
    if not cut:
        return []
    note = (
        f"{counted(cut, 'cell')} cut, as a note at the end says: an XLSX cell holds "
        f"{MAX_CELL_UNITS:,} characters"
    )
    return [note]


def _parts(forms: Sequence[str]) -> dict[str, str]:
    """The parts of the workbook besides its sheet."""
    formats = "".join(
        f'<numFmt numFmtId="{_FIRST_FORMAT + number}" formatCode={quoteattr(form)}/>'
        for number, form in enumerate(forms[1:])
    )
    styles = "".join(
        f'<xf numFmtId="{_FIRST_FORMAT + number}" fontId="0" fillId="0" borderId="0" xfId="0" '
        'applyNumberFormat="1"/>'
        for number in range(len(forms) - 1)
    )
    plain = '<xf numFmtId="0" fontId="0" fillId="0" borderId="0"'
    return {
        "[Content_Types].xml": (
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
            '<Override PartName="/xl/worksheets/sheet1.xml" '
            f'ContentType="{_TYPES}.worksheet+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/></Types>'
        ),
        "_rels/.rels": _relations(("officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": (
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}">'
            "<bookViews><workbookView/></bookViews><sheets>"
            f'<sheet name="{SHEET}" sheetId="1" r:id="rId1"/></sheets></workbook>'
        ),
        "xl/_rels/workbook.xml.rels": _relations(
            ("worksheet", "worksheets/sheet1.xml"), ("styles", "styles.xml")
        ),
        "xl/styles.xml": (
            f'<styleSheet xmlns="{_MAIN}">'
            + (f'<numFmts count="{len(forms) - 1}">{formats}</numFmts>' if formats else "")
            + '<fonts count="1"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font>'
            '</fonts><fills count="2"><fill><patternFill patternType="none"/></fill>'
            '<fill><patternFill patternType="gray125"/></fill></fills><borders count="1">'
            "<border><left/><right/><top/><bottom/><diagonal/></border></borders>"
            f'<cellStyleXfs count="1">{plain}/></cellStyleXfs>'
            f'<cellXfs count="{len(forms)}">{plain} xfId="0"/>{styles}</cellXfs>'
            '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
            "</styleSheet>"
        ),
    }


def _relations(*relations: tuple[str, str]) -> str:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{_DOCUMENT}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(relations, 1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>'


# -- The input workbook ------------------------------------------------------------------------

_MOST_COLUMNS: Final = 16_384
_LOOKED_AT_ROWS: Final = 1000  # for the columns' widths
_FRAME: Final = struct.Struct("<II")  # a row's number, and how many bytes its cells take
_LIKE_HEADER: Final = "\0h\0"
_CONTENT_TYPES: Final = "[Content_Types].xml"
_RANGE: Final = re.compile(r"([A-Z]+)(\d+):([A-Z]+)(\d+)")


class GivenWorkbook:
    """A workbook that was an input, and can be written with more columns.

    Args:
        file: The workbook.
        fingerprint: Its fingerprint when its rows were read.
        place: Where its headers and records are.

    Raises:
        ValueError: It cannot be written with more columns; the message says why.
    """

    def __init__(
        self, file: io.BufferedReader, fingerprint: Fingerprint, place: SheetPlace
    ) -> None:
        if hashlib.file_digest(file, "sha256").hexdigest() != fingerprint.sha256:
            raise ValueError("it has changed since it was read")
        try:
            self.archive = zipfile.ZipFile(file)
            if _CONTENT_TYPES not in self.archive.namelist():
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
        """Raise a ValueError if so many more columns do not fit."""
        if self.form.width + columns > _MOST_COLUMNS:
            raise ValueError(f"its sheet has no room for {columns} more columns")


@contextlib.contextmanager
def opened_workbook(
    paths: Sequence[Path], fingerprint: Fingerprint, place: SheetPlace
) -> Iterator[GivenWorkbook]:
    """Open the workbook that was an input; arguments and errors are those of `GivenWorkbook`.

    `paths` are where it may be.
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
    """Writes the input workbook with the answers as new columns of its sheet.

    Everything in it but the new cells is copied as it is: values, formulas, formats, other sheets,
    pictures, charts. Titles, totals and empty rows stay where they are. The new cells are kept in a
    temporary file until all are known.

    Args:
        file: The output.
        workbook: The input workbook.
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
        # Last, as the styles in use are known once the sheet is written.
        with self._archive.part(given.parts.styles) as part:
            part.write(given.styles.content())
        self._archive.close()
        self._kept.close()

    def abandon(self) -> None:
        """Release the files."""
        self._archive.abandon(self._part)
        self._kept.close()

    # -- Cells -------------------------------------------------------------------------------

    def _style(self, form: str) -> str:
        """A placeholder for a style until the cell beside it is known; no text has a NUL."""
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
        """The range that can be filtered with the answers; "" to leave it to the sheet."""
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
        types = parts.read(_CONTENT_TYPES)
        if _MACRO_TYPE in types or _TEMPLATE_TYPE.search(types) or parts.macros:
            changed[_CONTENT_TYPES] = _without_macros(types)
            relations = parts.relations_of(parts.workbook)
            changed[relations] = _MACROS.sub(b"", parts.read(relations))
        return changed

    def _with_filter(self, workbook: bytes, filtered: str) -> bytes:
        """The workbook part with the range under the name by which Excel knows it as well."""
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
        """An Excel table that ends where the new columns begin, with these in it."""
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
    """The content types of an .xlsx; under that name, Excel opens nothing else."""
    types = _TEMPLATE_TYPE.sub(_PLAIN_TYPE, types.replace(_MACRO_TYPE, _PLAIN_TYPE))
    return _MACRO_PARTS.sub(b"", types)


def _fixed(place: str) -> str:
    return re.sub(r"([A-Z]+)(\d+)", r"$\1$\2", place)


def _temporary_for(file: BinaryIO) -> IO[bytes]:
    """A temporary file beside an output, where the disk has room for it."""
    name = getattr(file, "name", None)
    folder = Path(name).parent if isinstance(name, str) else None
    return tempfile.TemporaryFile(dir=folder)
