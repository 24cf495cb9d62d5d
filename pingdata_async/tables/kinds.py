"""From values to the kind of the column that holds them all (pure).

What is found is gathered as flags: in any order, and in any number of parts, they come to the
same kind.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Callable
from types import NoneType
from typing import Any, Final

import msgspec

from pingdata_async.tables.schema import Kind, Values

EXACT_IN_A_DOUBLE: Final = 2**53
LARGEST_64_BITS: Final = 2**63 - 1

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding JSON may raise."""


class Found(enum.IntFlag):
    """What was found among the values of a column, null apart."""

    BOOLEAN = enum.auto()
    INTEGER = enum.auto()  # one that a double holds exactly
    LONG_INTEGER = enum.auto()  # larger, up to 64 bits
    HUGE_INTEGER = enum.auto()  # larger than that
    NUMBER = enum.auto()
    TEXT = enum.auto()
    DATE = enum.auto()
    DATETIME = enum.auto()
    TIME = enum.auto()
    DURATION = enum.auto()
    LIST = enum.auto()
    OBJECT = enum.auto()  # kept whole, as JSON
    NO_MEMBERS = enum.auto()  # an empty object
    ODD = enum.auto()  # JSON that Python has nothing for: 1e400, half a surrogate pair


NOTHING: Final = Found(0)

_FITTING: Final = (
    (Kind.NOTHING, NOTHING),
    (Kind.BOOLEAN, Found.BOOLEAN),
    (Kind.INTEGER, Found.INTEGER | Found.LONG_INTEGER),
    (Kind.NUMBER, Found.INTEGER | Found.NUMBER),
    (Kind.DATE, Found.DATE),
    (Kind.DATETIME, Found.DATE | Found.DATETIME),
    (Kind.TIME, Found.TIME),
    (Kind.DURATION, Found.DURATION),
)


def kind_of(found: Found) -> Kind:
    """The narrowest kind that holds everything found, and loses nothing of it."""
    return next((kind for kind, fitting in _FITTING if not found & ~fitting), Kind.TEXT)


# -- What the API declares -----------------------------------------------------------------

_WORD: Final = re.compile("[a-z]+")
_DECLARED: Final = {
    **dict.fromkeys(("bool", "boolean"), Found.BOOLEAN),
    **dict.fromkeys(("int", "integer", "long", "bigint"), Found.INTEGER),
    **dict.fromkeys(("number", "float", "decimal", "double", "numeric", "real"), Found.NUMBER),
    **dict.fromkeys(("str", "string", "text", "char", "varchar"), Found.TEXT),
    # JSON has only texts for them, and a text is not read as anything else.
    **dict.fromkeys(("date", "datetime", "timestamp", "time"), Found.TEXT),
    **dict.fromkeys(("list", "array", "tuple", "set"), Found.LIST),
    **dict.fromkeys(("dict", "object", "map", "json"), Found.OBJECT),
}
_SCALAR: Final = Found.BOOLEAN | Found.INTEGER | Found.NUMBER | Found.TEXT


def widened(found: Found, declared: str | None) -> Found:
    """What was found, and what the API says there can be.

    Args:
        found: The first.
        declared: The second: the type of an output field, such as "float" or "list[str]". Its
            words are not documented; those not known mean nothing. Lists and objects count only
            where nothing was found: a scalar shows that the word was meant in another way.
    """
    said = NOTHING
    for word in _WORD.findall((declared or "").lower()):
        said |= _DECLARED.get(word, NOTHING)
    return found | (said & _SCALAR) if found else said


def declares_number(declared: str | None) -> bool:
    """Whether the API says that a field is a number and nothing else."""
    return widened(NOTHING, declared) in {Found.INTEGER, Found.NUMBER}


# -- JSON values ----------------------------------------------------------------------------

_decode: Final = msgspec.json.Decoder().decode
_BY_TYPE: Final[dict[type, Found]] = {
    NoneType: NOTHING,
    bool: Found.BOOLEAN,
    float: Found.NUMBER,
    str: Found.TEXT,
}


def found_in_json(raw: bytes) -> Found:
    """What a JSON value is that is no object, or kept whole."""
    if raw[:1] == b"[":
        return Found.LIST
    if raw[:1] == b"{":
        return Found.OBJECT
    try:
        value = _decode(raw)
    except UNREADABLE:
        return Found.ODD if raw else NOTHING
    return _of_integer(value) if type(value) is int else _BY_TYPE[type(value)]


def text_of_json(raw: bytes) -> str | None:
    """A JSON value in a column of texts: a text is itself, anything else as it came.

    None for null. Bytes that are no UTF-8 are shown with a backslash, as Python shows them.
    """
    if raw == b"null" or not raw:
        return None
    if raw[:1] == b'"':
        try:
            text: str = _decode(raw)
        except UNREADABLE:
            pass
        else:
            return text
    return raw.decode("utf-8", "backslashreplace")


def _of_integer(value: int) -> Found:
    if abs(value) <= EXACT_IN_A_DOUBLE:
        return Found.INTEGER
    is_long = -LARGEST_64_BITS - 1 <= value <= LARGEST_64_BITS
    return Found.LONG_INTEGER if is_long else Found.HUGE_INTEGER


# -- Cells ----------------------------------------------------------------------------------

_BY_CELL_TYPE: Final = _BY_TYPE | {
    dt.date: Found.DATE,
    dt.datetime: Found.DATETIME,
    dt.time: Found.TIME,
    dt.timedelta: Found.DURATION,
}


def found_in_cells(cells: Values) -> Found:
    """What there is among the cells of a workbook."""
    found = NOTHING
    for kind in set(map(type, cells)):
        if kind is int:
            integers = [cell for cell in cells if type(cell) is int]
            # Of both ends, as -2**63 is one of 64 bits and 2**63 is not.
            found |= _of_integer(min(integers)) | _of_integer(max(integers))
        else:
            found |= _BY_CELL_TYPE[kind]
    return found


def cells_of_kind(cells: Values, kind: Kind) -> Values:
    """The cells as what their column holds."""
    convert = _CONVERSIONS.get(kind)
    if convert is None:
        return cells
    return [None if cell is None else convert(cell) for cell in cells]


def whole_number(value: Any) -> Any:
    """A number as people write it: 5.0 is 5. Anything else is itself."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_IN_A_DOUBLE:
        return int(value)
    return value


def text_of_cell(cell: Any) -> str:
    """A cell that is not empty, as text.

    Numbers as Python shows them, true and false, dates and times in ISO 8601 form, durations
    as hours, minutes and seconds (26:30:00).
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, dt.timedelta):
        return _text_of_duration(cell)
    return str(cell)


def _text_of_duration(duration: dt.timedelta) -> str:
    sign = "-" if duration < dt.timedelta() else ""
    duration = abs(duration)
    minutes, seconds = divmod(duration.days * 86_400 + duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{duration.microseconds:06d}" if duration.microseconds else ""
    return f"{sign}{hours}:{minutes:02d}:{seconds:02d}{fraction}"


def _as_datetime(cell: dt.date) -> dt.datetime:
    return cell if isinstance(cell, dt.datetime) else dt.datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001 - cells have no time zone


_CONVERSIONS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.NUMBER: float,
    Kind.TEXT: text_of_cell,
    Kind.DATETIME: _as_datetime,
}
