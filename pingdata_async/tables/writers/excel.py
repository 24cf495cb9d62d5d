"""Flat tables to new XLSX workbooks of one sheet.

Written here and not by a library: those there are take 8 us a cell and more, this one about 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import IO, BinaryIO, Final
from xml.sax.saxutils import quoteattr

from pingdata_async.tables.formats import OutputFormat, check_format
from pingdata_async.tables.schema.types import Column, Values
from pingdata_async.tables.writers.base import TableRows, TableWriter
from pingdata_async.tables.xlsx import (
    MAX_CELL_UNITS,
    ArchiveWriter,
    Cells,
    cell_values,
    column_letters,
)

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
        file: Where to.
        columns: Its columns.
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
        """That texts were cut, if some were."""
        return cut_notes(self._cells.cut)

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`.

        Raises:
            ConfigurationError: When the sheet is full.
        """
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
        """Let go of the file, which is of no use."""
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


PANE: Final = (
    '<pane ySplit="{rows}" topLeftCell="A{below}" activePane="bottomLeft" state="frozen"/>'
)
"""What a sheet's view has in it where the first rows stay in sight."""


def column_widths(widths: Sequence[int], first: int = 1) -> str:
    """What a sheet says of the width of columns.

    Args:
        widths: How wide each is, in characters.
        first: The number of the first, from 1.
    """
    return "".join(
        f'<col min="{number}" max="{number}" width="{width}" customWidth="1"/>'
        for number, width in enumerate(widths, first)
    )


def width_of(values: Values) -> int:
    """How wide a column is to be for its header and its first values, in characters."""
    longest = max(
        (len(str(value)) for value in values[:_WIDTH_ROWS] if value is not None), default=0
    )
    return min(max(longest + 2, _LEAST_WIDTH), _MOST_WIDTH)


def cut_notes(cut: int) -> list[str]:
    """What is said of texts that were cut."""
    if not cut:
        return []
    note = (
        f"{cut} cells end in a note that they were cut: an XLSX cell holds "
        f"{MAX_CELL_UNITS:,} characters"
    )
    return [note]


def _parts(forms: Sequence[str]) -> dict[str, str]:
    """The parts of the workbook beside its sheet."""
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
