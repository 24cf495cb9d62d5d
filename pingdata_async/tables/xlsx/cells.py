"""Values to cells of an XLSX sheet, as XML, and the names of cells (pure).

A value that Excel would change is written as text: integers and decimals with more than 15 digits,
infinities and NaN, times before 1900, negative durations, and times finer than a millisecond. Null
and an empty text both become an empty cell.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Final
from xml.sax.saxutils import escape

from pingdata_async.tables.schema.inference import AnswerColumn
from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell

GENERAL: Final = ""
"""The number format that leaves the display to Excel."""

MAX_CELL_UNITS: Final = 32_767  # of UTF-16
LARGEST_INTEGER: Final = 10**15 - 1  # Excel rounds larger ones

_DATE: Final = "yyyy-mm-dd"
_TIME: Final = "hh:mm:ss"
_DURATION: Final = "[h]:mm:ss"
_THOUSANDTHS: Final = ".000"
_SIGNIFICANT_DIGITS: Final = 15
_CUT: Final = "... [cut: {} characters]"

# Characters that XML text cannot contain; blanks at an end, which would be lost; and texts that
# look like Excel's escapes of such characters, which would be read as one.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f]")
_NOT_XML: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")
_LIKE_ESCAPED: Final = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_SEPARATOR: Final = "|"
_UNUSUAL: Final = re.compile(
    "[&<>\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_x|^\\s|\\s$|\\|\\s|\\s\\|"
)

_EPOCH: Final = dt.date(1899, 12, 30)
_EPOCH_1904: Final = dt.date(1904, 1, 1)
_FIRST_DAY: Final = dt.date(1900, 1, 1)
_AFTER_FEBRUARY: Final = dt.date(1900, 3, 1)  # for Excel, 1900 has a 29 February
_DAY_S: Final = 86_400

Style = Callable[[str], str]
"""Returns the attribute of a cell for a number format, with a blank before it; "" for none."""


class Cells:
    """Makes cells from values.

    Args:
        style: Returns their styles.
        is_from_1904: Whether the workbook counts days from 1904.

    Attributes:
        cut: The number of texts that were too long, and end with a note that says so.
    """

    def __init__(self, style: Style, *, is_from_1904: bool = False) -> None:
        self._style = style
        self._first_day = _EPOCH_1904 if is_from_1904 else _FIRST_DAY
        self._is_from_1904 = is_from_1904
        general = style(GENERAL)
        self._general = general
        self._nothing = f"{general}/>" if general else None
        self._of_type: dict[type, Callable[[Any], str | None]] = {
            NoneType: lambda _: self._nothing,
            str: self._text,
            bool: lambda cell: f'{general} t="b"><v>{cell:d}</v></c>',
            int: self._integer,
            float: self._number,
            decimal.Decimal: self._decimal,
            dt.date: self._date,
            dt.datetime: self._datetime,
            dt.time: self._time,
            dt.timedelta: self._duration,
        }
        self.cut = 0

    def column(self, letters: str, rows: Sequence[int], values: Values) -> list[str]:
        """The cells of a column in some rows; "" for a row without one.

        Args:
            letters: The name of the column.
            rows: The numbers of the rows, from 1.
            values: The values of the column in these rows.
        """
        return [
            "" if rest is None else f'<c r="{letters}{row}"{rest}'
            for row, rest in zip(rows, self._rests(values), strict=True)
        ]

    def _rests(self, values: Values) -> list[str | None]:
        """The rest of each cell behind its place: attributes and content."""
        general, nothing = self._general, self._nothing
        kinds = set(map(type, values))
        kinds.discard(NoneType)
        # Mostly, all values are of one type, and none is unusual.
        if kinds == {str} and not _UNUSUAL.search(_SEPARATOR.join(filter(None, values))):
            most = MAX_CELL_UNITS // 2
            return [
                f'{general} t="inlineStr"><is><t>{value}</t></is></c>'
                if value and len(value) <= most
                else self._text(value or "")
                for value in values
            ]
        if kinds == {float} and math.isfinite(sum(filter(None, values))):
            return [
                nothing if value is None else f"{general}><v>{value!r}</v></c>" for value in values
            ]
        return [self._of_type[type(value)](value) for value in values]

    def _text(self, text: str) -> str | None:
        if not text:
            return self._nothing
        text = _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
        if len(text) > MAX_CELL_UNITS // 2:
            text = self._fitting(text)
        space = "" if text == text.strip() else ' xml:space="preserve"'
        text = _LIKE_ESCAPED.sub("_x005F_", text)
        text = _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", escape(text))
        return f'{self._general} t="inlineStr"><is><t{space}>{text}</t></is></c>'

    def _fitting(self, text: str) -> str:
        units = text.encode("utf-16-le")
        if len(units) // 2 <= MAX_CELL_UNITS:
            return text
        self.cut += 1
        note = _CUT.format(f"{len(text):,}")
        return units[: 2 * (MAX_CELL_UNITS - len(note))].decode("utf-16-le", "ignore") + note

    def _integer(self, cell: int) -> str | None:
        if abs(cell) > LARGEST_INTEGER:
            return self._text(str(cell))
        return f"{self._general}><v>{cell}</v></c>"

    def _number(self, cell: float) -> str | None:
        if not math.isfinite(cell):
            return self._text(str(cell))
        return f"{self._general}><v>{cell!r}</v></c>"

    def _decimal(self, cell: decimal.Decimal) -> str | None:
        exponent = cell.as_tuple().exponent
        places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
        if not cell.is_finite() or len(cell.as_tuple().digits) > _SIGNIFICANT_DIGITS:
            return self._text(text_of_cell(cell))
        # Its decimal places are part of it: 12.50 is shown as such.
        form = f"0.{'0' * places}" if places else GENERAL
        return f"{self._style(form)}><v>{float(cell)!r}</v></c>"

    def _date(self, cell: dt.date) -> str | None:
        if cell < self._first_day:
            return self._text(text_of_cell(cell))
        return f"{self._style(_DATE)}><v>{self._day(cell)}</v></c>"

    def _datetime(self, cell: dt.datetime) -> str | None:
        day = cell.date()
        if day < self._first_day or cell.tzinfo or cell.microsecond % 1000:
            return self._text(text_of_cell(cell))
        return self._of_day(self._day(day), cell.time(), f"{_DATE} {_TIME}")

    def _time(self, cell: dt.time) -> str | None:
        if cell.tzinfo or cell.microsecond % 1000:
            return self._text(text_of_cell(cell))
        return self._of_day(0, cell, _TIME)

    def _of_day(self, days: int, time: dt.time, form: str) -> str:
        seconds = 60 * (60 * time.hour + time.minute) + time.second
        return self._span(days, seconds, time.microsecond, form)

    def _duration(self, cell: dt.timedelta) -> str | None:
        if cell < dt.timedelta() or cell.microseconds % 1000:
            return self._text(text_of_cell(cell))
        return self._span(cell.days, cell.seconds, cell.microseconds, _DURATION)

    def _span(self, days: int, seconds: int, microseconds: int, form: str) -> str:
        value = days + (seconds + microseconds / 1_000_000) / _DAY_S
        style = self._style(form + _THOUSANDTHS if microseconds else form)
        return f"{style}><v>{value!r}</v></c>"

    def _day(self, date: dt.date) -> int:
        if self._is_from_1904:
            return (date - _EPOCH_1904).days
        return (date - _EPOCH).days - (date < _AFTER_FEBRUARY)


# -- The values of a column as cells ------------------------------------------------------------

_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d{1,3})?)?", re.ASCII)
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)  # not a code such as 01970
_DATE_LENGTH: Final = len("2026-01-31")


def _read(text: str, *, is_number: bool) -> Any:
    if is_number and _DECIMAL.fullmatch(text):
        return decimal.Decimal(text)
    if text[4:5] != "-" or not _ISO.fullmatch(text):
        return text
    try:
        if len(text) == _DATE_LENGTH:
            return dt.date.fromisoformat(text)
        return dt.datetime.fromisoformat(text)
    except ValueError:  # not a date of the calendar
        return text


def cell_values(values: Values, column: Column) -> Values:
    """The values of a column as values of cells.

    JSON has no dates, and the API sends decimals as strings, so the strings of answers are parsed.
    """
    if isinstance(column, AnswerColumn) and column.type is ColumnType.TEXT:
        return [value and _read(value, is_number=column.is_number) for value in values]
    if column.arrow_field is None:
        return values
    import pyarrow as pa  # noqa: PLC0415 - optional

    from pingdata_async.tables.schema.arrow import objects_in, python_values  # noqa: PLC0415 - optional

    if pa.types.is_decimal(column.arrow_field.type):
        return objects_in(values)
    return python_values(values, column.type)


def column_number(letters: str) -> int:
    """The number of a column, from 1: A is 1, AA is 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_letters(number: int) -> str:
    """The name of a column by its number, from 1."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_name(row: int, column: int) -> str:
    """The name of a cell by its row and column, from 0: B7."""
    return f"{column_letters(column + 1)}{row + 1}"
