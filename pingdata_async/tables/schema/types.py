"""Types of columns: how they are found, promoted, named and chosen (pure).

Types are collected as flags, so that the order of rows and the way they are split make no
difference.
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
    """What the values of a column are."""

    NOTHING = "nothing"  # all of them are null
    BOOLEAN = "boolean"
    INTEGER = "integer"  # of 64 bits
    NUMBER = "number"  # a double
    TEXT = "text"
    DATE = "date"
    DATETIME = "datetime"  # without a time zone
    TIME = "time"
    DURATION = "duration"


class Column(msgspec.Struct, frozen=True):
    """A column of a flat table.

    Attributes:
        name: Its header. Those of an input may be empty or repeat; `unique_names()` is for the
            formats that do not have that.
        kind: What it holds.
        arrow_field: The pyarrow.Field that it is in Arrow (type, nullability, metadata), where it
            came from there; its values are Arrow arrays then. None otherwise.
    """

    name: str
    kind: ColumnType
    arrow_field: Any = None  # no pyarrow.Field: types of Structs are looked up at run time


Values = Sequence[Any]
"""A column's values in some rows: Python objects of its kind, None for null; or an Arrow array."""


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or where it is taken, the first free one of name_2, name_3 and so on."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, made unlike each other and not empty.

    Of equal ones the first keeps its name, the second becomes name_2 unless another column has
    that; an empty one becomes column_5 in the fifth place.
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
    """Columns that were chosen.

    Attributes:
        places: Where they are among all columns, in the order that was asked for.
        unmatched: What was asked for and is not there.
    """

    places: list[int]
    unmatched: list[str]


def choose(columns: Sequence[Column], patterns: Iterable[str]) -> Choice:
    """Find the columns that `--columns` asks for.

    Args:
        columns: All columns of the table.
        patterns: Names, or parts of names with `*` for the rest (`pg_*`). A name that has a star
            itself can be given as it is. A column that several ask for comes once, where it is
            asked for first.
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
"""What decoding JSON may raise."""


class TypeSet(enum.IntFlag):
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


def kind_of(found: TypeSet) -> ColumnType:
    """The narrowest kind that holds everything found, and loses nothing of it."""
    return next((kind for kind, fitting in _FITTING if not found & ~fitting), ColumnType.TEXT)


# -- What the API declares -----------------------------------------------------------------

_WORD: Final = re.compile("[a-z]+")
_DECLARED: Final = {
    **dict.fromkeys(("bool", "boolean"), TypeSet.BOOLEAN),
    **dict.fromkeys(("int", "integer", "long", "bigint"), TypeSet.INTEGER),
    **dict.fromkeys(("number", "float", "decimal", "double", "numeric", "real"), TypeSet.NUMBER),
    **dict.fromkeys(("str", "string", "text", "char", "varchar"), TypeSet.TEXT),
    # JSON has only texts for them, and a text is not read as anything else.
    **dict.fromkeys(("date", "datetime", "timestamp", "time"), TypeSet.TEXT),
    **dict.fromkeys(("list", "array", "tuple", "set"), TypeSet.LIST),
    **dict.fromkeys(("dict", "object", "map", "json"), TypeSet.OBJECT),
}
_SCALAR: Final = TypeSet.BOOLEAN | TypeSet.INTEGER | TypeSet.NUMBER | TypeSet.TEXT


def promoted(found: TypeSet, declared: str | None) -> TypeSet:
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
    """What a JSON value is that is no object, or kept whole."""
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


def cells_of_kind(cells: Values, kind: ColumnType) -> Values:
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


_CONVERSIONS: Final[dict[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.NUMBER: float,
    ColumnType.TEXT: text_of_cell,
    ColumnType.DATETIME: _as_datetime,
}
