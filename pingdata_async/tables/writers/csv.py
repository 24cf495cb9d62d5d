"""Flat tables to CSV and TSV.

UTF-8 without a byte order mark, which many readers take for a part of the first header; lines end
in a line feed alone. Null and an empty text are both an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, Final

import msgspec

from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell
from pingdata_async.tables.writers.base import TableRows, TableWriter

# What a spreadsheet takes for the beginning of a formula, or of a command to another program (|),
# in every width; and what it skips before one, with and without a width of its own.
_FORMULA: Final = re.compile(
    r"[\t\r\n]|[\s\ufeff\u200b-\u200d\u2060\u00ad]*"
    r"[=+\-@|\uff1d\uff0b\uff0d\uff20\uff5c\ufe66\ufe62\ufe63\ufe6b]"
)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_encode: Final = msgspec.json.Encoder().encode


class CSVWriter(TableWriter):
    """Writes a flat table as delimited text.

    Args:
        file: The output.
        columns: The columns.
        delimiter: The delimiter.
        is_safe: Whether to put an apostrophe before texts, headers included, that a spreadsheet
            would run as formulas. Plain numbers such as -5 stay as they are. Whoever reads the
            output as data finds the apostrophe in it.
    """

    def __init__(
        self, file: BinaryIO, columns: Sequence[Column], delimiter: str, *, is_safe: bool
    ) -> None:
        self._file = file
        self._columns = columns
        self._delimiter = delimiter
        self._special = (delimiter, '"', "\n", "\r")
        self._is_safe = is_safe
        self._write([self._quoted([column.name]) for column in columns])

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`."""
        if rows.count:
            self._write(list(map(self._texts, rows.values, self._columns)))

    def _write(self, columns: list[Sequence[str]]) -> None:
        if len(columns) == 1:  # a line of nothing would be no row
            columns = [[text or '""' for text in columns[0]]]
        lines = map(self._delimiter.join, zip(*columns, strict=True))
        text = "\n".join([*lines, ""])
        self._file.write(text.encode("utf-8", "backslashreplace"))

    def _texts(self, values: Values, column: Column) -> Sequence[str]:
        if column.arrow_field is not None:
            from pingdata_async.tables.schema.arrow import python_values  # noqa: PLC0415 - optional

            values = python_values(values, column.type)
        match column.type:
            case ColumnType.TEXT:
                return self._quoted([text or "" for text in values])
            case ColumnType.BOOLEAN | ColumnType.INTEGER:
                return _json_texts(values)
            case ColumnType.NUMBER:
                return _number_texts(values)
            case _:
                return ["" if value is None else text_of_cell(value) for value in values]

    def _quoted(self, texts: Sequence[str]) -> Sequence[str]:
        """The texts, in quotes where they need them."""
        if self._is_safe:
            texts = [f"'{text}" if text and _is_formula(text) else text for text in texts]
        together = "".join(texts)
        if not any(map(together.__contains__, self._special)):  # as in most columns
            return texts
        delimiter = self._delimiter
        return [
            '"' + text.replace('"', '""') + '"'
            if '"' in text
            else f'"{text}"'
            if delimiter in text or "\n" in text or "\r" in text
            else text
            for text in texts
        ]


def _json_texts(values: Values) -> list[str]:
    """Booleans and integers, whose texts are those of JSON; all at once."""
    return _encode(values)[1:-1].decode().replace("null", "").split(",")


def _number_texts(values: Values) -> list[str]:
    """Doubles as Python shows them."""
    encoded = _encode(values)[1:-1].decode()
    # JSON shows them in the same way, but for the very small and large, and those not finite.
    if "0.0000" in encoded or "e" in encoded or encoded.count("null") > values.count(None):
        return ["" if value is None else repr(value) for value in values]
    return encoded.replace("null", "").split(",")


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
