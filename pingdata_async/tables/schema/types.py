"""Columns and their types: inferred, promoted, named and selected (pure).

Types are collected as flags, so neither the order of rows nor their division into batches matters.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from types import NoneType
from typing import Any, Final

import msgspec


class ColumnType(enum.StrEnum):
    """The type of a column."""

    NOTHING = "nothing"  # all values are null
    BOOLEAN = "boolean"
    INTEGER = "integer"  # 64 bits
    NUMBER = "number"  # a double
    TEXT = "text"
    DATE = "date"
    DATETIME = "datetime"  # without a time zone
    TIME = "time"
    DURATION = "duration"


class Column(msgspec.Struct, frozen=True):
    """A column of a flat table."""

    # The header. Headers of an input may be empty or repeated; formats that allow neither use
    # `unique_names()`.
    name: str
    type: ColumnType  # the type of its values
    # The pyarrow.Field of a column that came from Arrow, whose values are Arrow arrays; None for
    # all others.
    arrow_field: Any = None  # not pyarrow.Field: msgspec resolves the types of a Struct


Values = Sequence[Any]
"""The values of a column in some rows: Python objects, with None for null, or an Arrow array."""


def free_name(name: str, taken: Container[str]) -> str:
    """The name itself, or the first free one of name_2, name_3 and so on."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, made unique and not empty.

    The second of two equal names becomes name_2, unless another column has that name; an empty
    name in the fifth place becomes column_5.
    """
    given = [name or f"column_{place}" for place, name in enumerate(names, 1)]
    counts = Counter(given)
    taken = set(given)
    seen: set[str] = set()
    unique = []
    for name in given:
        if counts[name] > 1 and name in seen:
            name = free_name(name, taken)  # noqa: PLW2901 - the same column's
            taken.add(name)
        seen.add(name)
        unique.append(name)
    return unique


class Choice(msgspec.Struct, frozen=True):
    """The columns that patterns select."""

    places: list[int]  # their places among all columns, in the order of the patterns
    unmatched: list[str]  # the patterns that match no column


def choose(columns: Sequence[Column], patterns: Iterable[str]) -> Choice:
    """Select columns, as `--columns` does.

    Patterns are names, with `*` for any characters (`pg_*`); a name that contains a star matches
    itself. A column that several patterns match comes once, at the first of them.
    """
    names = [column.name for column in columns]
    places: dict[int, None] = {}
    unmatched = []
    for pattern in patterns:
        found = [place for place, name in enumerate(names) if name == pattern]
        if not found and "*" in pattern:
            matches = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
            found = [place for place, name in enumerate(names) if matches(name)]
        if not found:
            unmatched.append(pattern)
        places.update(dict.fromkeys(found))
    return Choice(list(places), unmatched)


EXACT_IN_A_DOUBLE: Final = 2**53
LARGEST_64_BITS: Final = 2**63 - 1

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The errors that decoding JSON may raise."""


class TypeSet(enum.IntFlag):
    """The types found among the values of a column; null does not count."""

    BOOLEAN = enum.auto()
    INTEGER = enum.auto()  # exact as a double
    LONG_INTEGER = enum.auto()  # up to 64 bits
    HUGE_INTEGER = enum.auto()
    NUMBER = enum.auto()
    TEXT = enum.auto()
    DATE = enum.auto()
    DATETIME = enum.auto()
    TIME = enum.auto()
    DURATION = enum.auto()
    LIST = enum.auto()
    OBJECT = enum.auto()  # kept whole, as JSON
    NO_MEMBERS = enum.auto()  # an empty object
    ODD = enum.auto()  # JSON that Python cannot represent: 1e400, half a surrogate pair


NOTHING: Final = TypeSet(0)

_FITTING: Final = (
    (ColumnType.NOTHING, NOTHING),
    (ColumnType.BOOLEAN, TypeSet.BOOLEAN),
    (ColumnType.INTEGER, TypeSet.INTEGER | TypeSet.LONG_INTEGER),
    (ColumnType.NUMBER, TypeSet.INTEGER | TypeSet.NUMBER),
    (ColumnType.DATE, TypeSet.DATE),
    (ColumnType.DATETIME, TypeSet.DATE | TypeSet.DATETIME),
    (ColumnType.TIME, TypeSet.TIME),
    (ColumnType.DURATION, TypeSet.DURATION),
)


def narrowest_type(found: TypeSet) -> ColumnType:
    """The narrowest type that holds all of these without loss."""
    return next((type_ for type_, fitting in _FITTING if not found & ~fitting), ColumnType.TEXT)


# -- What the API declares -----------------------------------------------------------------

_WORD: Final = re.compile("[a-z]+")
_DECLARED: Final = {
    **dict.fromkeys(("bool", "boolean"), TypeSet.BOOLEAN),
    **dict.fromkeys(("int", "integer", "long", "bigint"), TypeSet.INTEGER),
    **dict.fromkeys(("number", "float", "decimal", "double", "numeric", "real"), TypeSet.NUMBER),
    **dict.fromkeys(("str", "string", "text", "char", "varchar"), TypeSet.TEXT),
    # JSON has only strings for these, and a string is not parsed as anything else.
    **dict.fromkeys(("date", "datetime", "timestamp", "time"), TypeSet.TEXT),
    **dict.fromkeys(("list", "array", "tuple", "set"), TypeSet.LIST),
    **dict.fromkeys(("dict", "object", "map", "json"), TypeSet.OBJECT),
}
_SCALAR: Final = TypeSet.BOOLEAN | TypeSet.INTEGER | TypeSet.NUMBER | TypeSet.TEXT


def promoted(found: TypeSet, declared: str | None) -> TypeSet:
    """The types found, with those that the API declares, such as "float" or "list[str]".

    Its vocabulary is not documented; unknown words mean nothing. Lists and objects count only if
    nothing was found, since a scalar shows that the word meant something else.
    """
    said = NOTHING
    for word in _WORD.findall((declared or "").lower()):
        said |= _DECLARED.get(word, NOTHING)
    return found | (said & _SCALAR) if found else said


def declares_number(declared: str | None) -> bool:
    """Whether the API declares a field as a number and nothing else."""
    return promoted(NOTHING, declared) in {TypeSet.INTEGER, TypeSet.NUMBER}


# -- JSON values ----------------------------------------------------------------------------

_decode: Final = msgspec.json.Decoder().decode
_BY_TYPE: Final[dict[type, TypeSet]] = {
    NoneType: NOTHING,
    bool: TypeSet.BOOLEAN,
    float: TypeSet.NUMBER,
    str: TypeSet.TEXT,
}


def types_in_json(raw: bytes) -> TypeSet:
    """The type of a JSON value; objects are kept whole."""
    if raw[:1] == b"[":
        return TypeSet.LIST
    if raw[:1] == b"{":
        return TypeSet.OBJECT
    try:
        value = _decode(raw)
    except UNREADABLE:
        return TypeSet.ODD if raw else NOTHING
    return _of_integer(value) if type(value) is int else _BY_TYPE[type(value)]


def text_of_json(raw: bytes) -> str | None:
    """A JSON value in a text column: a string itself, anything else as JSON; None for null.

    Bytes that are not UTF-8 are escaped with a backslash, as Python shows them.
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


def _of_integer(value: int) -> TypeSet:
    if abs(value) <= EXACT_IN_A_DOUBLE:
        return TypeSet.INTEGER
    is_long = -LARGEST_64_BITS - 1 <= value <= LARGEST_64_BITS
    return TypeSet.LONG_INTEGER if is_long else TypeSet.HUGE_INTEGER


# -- Cells ----------------------------------------------------------------------------------

_BY_CELL_TYPE: Final = _BY_TYPE | {
    dt.date: TypeSet.DATE,
    dt.datetime: TypeSet.DATETIME,
    dt.time: TypeSet.TIME,
    dt.timedelta: TypeSet.DURATION,
}


def types_in_cells(cells: Values) -> TypeSet:
    """The types of the cells of a workbook."""
    found = NOTHING
    for kind in set(map(type, cells)):
        if kind is int:
            integers = [cell for cell in cells if type(cell) is int]
            # Both extremes: -2**63 fits into 64 bits, 2**63 does not.
            found |= _of_integer(min(integers)) | _of_integer(max(integers))
        else:
            found |= _BY_CELL_TYPE[kind]
    return found


def cells_of_type(cells: Values, type_: ColumnType) -> Values:
    """The cells, converted to the type of their column."""
    convert = _CONVERSIONS.get(type_)
    if convert is None:
        return cells
    return [None if cell is None else convert(cell) for cell in cells]


def whole_number(value: Any) -> Any:
    """A whole float as an integer (5.0 as 5); any other value unchanged."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT_IN_A_DOUBLE:
        return int(value)
    return value


def text_of_cell(cell: Any) -> str:
    """A non-empty cell as text: dates and times in ISO 8601, durations as hours (26:30:00)."""
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


_CONVERSIONS: Final[dict[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.NUMBER: float,
    ColumnType.TEXT: text_of_cell,
    ColumnType.DATETIME: _as_datetime,
}
