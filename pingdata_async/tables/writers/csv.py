"""Flat tables to CSV and TSV.

UTF-8 without a byte order mark, which many readers take for a part of the first header; lines
end in a bare line feed. Null and an empty text are both an empty cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell
from pingdata_async.tables.writers.base import TableRows, TableWriter

_SLICE_ROWS: Final = 1000
_AS_THEY_ARE: Final = {
    ColumnType.TEXT,
    ColumnType.INTEGER,
    ColumnType.NUMBER,
    ColumnType.NOTHING,
}  # csv does these itself

# What a spreadsheet takes for the beginning of a formula, or of a command to another program (|),
# in every width; and what it skips before one, with and without a width of its own.
_FORMULA: Final = re.compile(
    r"[\t\r\n]|[\s\ufeff\u200b-\u200d\u2060\u00ad]*"
    r"[=+\-@|\uff1d\uff0b\uff0d\uff20\uff5c\ufe66\ufe62\ufe63\ufe6b]"
)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class CSVWriter(TableWriter):
    """Writes a flat table as delimited text.

    Args:
        file: Where to.
        columns: Its columns.
        delimiter: What stands between the cells.
        is_safe: Whether texts that a spreadsheet would run as a formula get an apostrophe before
            them, headers too. Plain numbers, such as -5, stay as they are. Whoever reads the
            output as data finds the apostrophe in it.
    """

    def __init__(
        self, file: BinaryIO, columns: Sequence[Column], delimiter: str, *, is_safe: bool
    ) -> None:
        self._file = file
        self._columns = columns
        self._delimiter = delimiter
        self._is_safe = is_safe
        headers: list[str] = [column.name for column in columns]
        self._write_rows([self._safe(headers)])

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`."""
        texts = map(self._texts, rows.values, self._columns)
        lines = zip(*texts, strict=True)
        while some := list(islice(lines, _SLICE_ROWS)):
            self._write_rows(some)

    def _texts(self, values: Values, column: Column) -> Values:
        if column.arrow_field is not None:
            from pingdata_async.tables.schema.arrow import python_values  # noqa: PLC0415 - optional

            values = python_values(values, column.type)
        if column.type not in _AS_THEY_ARE:
            return [None if value is None else text_of_cell(value) for value in values]
        return self._safe(values) if column.type is ColumnType.TEXT else values

    def _safe(self, texts: Values) -> Values:
        if not self._is_safe:
            return texts
        return [f"'{text}" if text and _is_formula(text) else text for text in texts]

    def _write_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerows(rows)
        if "\r" in text.getvalue():
            # Not every Python quotes a cell for that alone, and readers take it for a line's end.
            text = io.StringIO(newline="")
            csv.writer(
                text, delimiter=self._delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
            ).writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
