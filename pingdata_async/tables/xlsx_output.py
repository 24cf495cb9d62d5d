"""Flat tables to XLSX workbooks; needs XlsxWriter.

What Excel would change is written as text: integers of more than 15 digits, numbers that are
none, times before 1900 or below nothing. Null and an empty text are both an empty cell.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError

from pingdata_async.tables.geometry import Point
from pingdata_async.tables.kinds import text_of_cell
from pingdata_async.tables.outputs import OutputFormat, check_format
from pingdata_async.tables.schema import FlatColumn, Values

SHEET: Final = "enhanced"
MAX_CELL_UNITS: Final = 32_767  # of UTF-16
LARGEST_INTEGER: Final = 10**15 - 1  # Excel rounds what is larger

_CUT: Final = "... [cut: {} characters]"
_NOT_XML: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")  # what it cannot even escape
_FIRST_YEAR: Final = 1900


class XLSXWriter:
    """Writes a flat table as a sheet, with its header frozen.

    Rows go to temporary files beside the output, and to the output at the end.

    Args:
        file: Where to.
        columns: Its columns.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[FlatColumn]) -> None:
        self._columns = columns
        # Of its own: XlsxWriter leaves files behind where it fails.
        self._temporary = _folder_for(file)
        self._file = _LastingFile(file)
        self._workbook = xlsxwriter.Workbook(
            self._file, {"constant_memory": True, "tmpdir": self._temporary.name}
        )
        self._workbook.use_zip64()
        self._sheet: Any = self._workbook.add_worksheet(SHEET)
        self._sheet.freeze_panes(1, 0)
        self._formats = {
            dt.date: self._format("yyyy-mm-dd"),
            dt.datetime: self._format("yyyy-mm-dd hh:mm:ss"),
            dt.time: self._format("hh:mm:ss"),
            dt.timedelta: self._format("[h]:mm:ss"),
        }
        self._plain = self._workbook.add_format()
        self._writers: dict[type, Callable[[int, int, Any], None]] = {
            str: self._write_text,
            bool: self._write_boolean,
            int: self._write_integer,
            float: self._write_number,
            dt.date: self._write_date,
            dt.datetime: self._write_date,
            dt.time: self._write_time,
            dt.timedelta: self._write_duration,
        }
        self._row = 0
        self._cut_cells = 0
        self._write_row([column.name for column in columns])

    @property
    def notes(self) -> list[str]:
        """That texts were cut, if some were."""
        if not self._cut_cells:
            return []
        note = (
            f"{self._cut_cells} cells end in a note that they were cut: an XLSX cell holds "
            f"{MAX_CELL_UNITS:,} characters"
        )
        return [note]

    def write(
        self,
        values: Sequence[Values],
        rows: int,
        points: Sequence[Point | None] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> None:
        """Add some rows; see `TableWriter`.

        Raises:
            ConfigurationError: When the sheet is full.
        """
        del points, ids
        check_format(OutputFormat.XLSX, rows=self._row - 1 + rows)
        for row in zip(*map(self._cells, values, self._columns), strict=True):
            self._write_row(row)

    def close(self) -> None:
        """Make the workbook of the rows."""
        try:
            self._workbook.close()
        except FileCreateError as error:
            raise error.args[0] from error  # what it was made of
        self._temporary.cleanup()

    def abandon(self) -> None:
        """Remove the temporary files; nothing more is written to the output."""
        self._file.give_up()
        self._workbook.fileclosed = True  # or it would write itself when it is forgotten
        with contextlib.suppress(OSError):  # what it still holds may have no room on the disk
            self._sheet.row_data_fh.close()
        self._temporary.cleanup()

    def _format(self, shape: str) -> Any:
        return self._workbook.add_format({"num_format": shape})

    @staticmethod
    def _cells(values: Values, column: FlatColumn) -> Values:
        if column.arrow_field is None:
            return values
        from pingdata_async.tables.arrow import python_values  # noqa: PLC0415 - optional

        return python_values(values, column.kind)

    def _write_row(self, cells: Sequence[Any]) -> None:
        row = self._row
        for place, cell in enumerate(cells):
            if cell is not None:
                self._writers[type(cell)](row, place, cell)
        self._row += 1

    def _write_text(self, row: int, column: int, text: str) -> None:
        if not text.isascii():
            text = _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
        if len(text) > MAX_CELL_UNITS // 2:
            text = self._fitting(text)
        if text.startswith("<r>") and text.endswith("</r>"):
            # XlsxWriter takes that for text with formats in it, and would not escape it.
            self._sheet.write_rich_string(row, column, text[:3], self._plain, text[3:])
        elif text:
            self._sheet.write_string(row, column, text)

    def _fitting(self, text: str) -> str:
        units = text.encode("utf-16-le")
        if len(units) // 2 <= MAX_CELL_UNITS:
            return text
        self._cut_cells += 1
        note = _CUT.format(f"{len(text):,}")
        return units[: 2 * (MAX_CELL_UNITS - len(note))].decode("utf-16-le", "ignore") + note

    def _write_boolean(self, row: int, column: int, cell: bool) -> None:
        self._sheet.write_boolean(row, column, cell)

    def _write_integer(self, row: int, column: int, cell: int) -> None:
        if abs(cell) > LARGEST_INTEGER:
            self._sheet.write_string(row, column, str(cell))
        else:
            self._sheet.write_number(row, column, cell)

    def _write_number(self, row: int, column: int, cell: float) -> None:
        if math.isfinite(cell):
            self._sheet.write_number(row, column, _Exact(cell))
        else:
            self._sheet.write_string(row, column, str(cell))

    def _write_date(self, row: int, column: int, cell: dt.date) -> None:
        moment = cell if isinstance(cell, dt.datetime) else None
        if cell.year < _FIRST_YEAR or (moment and moment.tzinfo):
            self._sheet.write_string(row, column, text_of_cell(cell))
        else:
            self._sheet.write_datetime(row, column, cell, self._formats[type(cell)])

    def _write_time(self, row: int, column: int, cell: dt.time) -> None:
        self._sheet.write_datetime(row, column, cell, self._formats[dt.time])

    def _write_duration(self, row: int, column: int, cell: dt.timedelta) -> None:
        if cell < dt.timedelta():
            self._sheet.write_string(row, column, text_of_cell(cell))
        else:
            self._sheet.write_datetime(row, column, cell, self._formats[dt.timedelta])


def _folder_for(file: BinaryIO) -> tempfile.TemporaryDirectory[str]:
    """For what is to become a file; beside it, where the disk has room for that."""
    name = getattr(file, "name", None)
    if not isinstance(name, str):
        return tempfile.TemporaryDirectory(prefix=".xlsx-")
    path = Path(name)
    # Named after it: what a killed process left of both is found together.
    prefix = f".{path.name.removeprefix('.')}-"
    return tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent)


class _LastingFile:
    """A file for `zipfile`, which tries to end its archive even when it is forgotten.

    That may be after an error, and after the file was closed; it must not be heard of then.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | _Nowhere = file

    def give_up(self) -> None:
        """Write nowhere from now on."""
        self._file = _Nowhere()

    def write(self, block: bytes) -> int:
        return self._file.write(block)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()


class _Nowhere:
    """Keeps its place, and nothing else.

    No file of `io`'s: those are closed as soon as they are forgotten, which may be before the
    archive is.
    """

    def __init__(self) -> None:
        self._place = 0

    def write(self, block: bytes) -> int:
        self._place += len(block)
        return len(block)

    def seek(self, offset: int, _: int = 0) -> int:
        self._place = offset
        return offset

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """There is nothing to be written."""


class _Exact(float):
    """A number that XlsxWriter writes with all of its digits: those it keeps otherwise are 16."""

    def __format__(self, _: str, /) -> str:
        return float.__repr__(self)
