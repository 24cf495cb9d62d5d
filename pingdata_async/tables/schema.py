"""What the columns of a flat table hold, and what they are called (pure)."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import Any

import msgspec


class Kind(enum.StrEnum):
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


class FlatColumn(msgspec.Struct, frozen=True):
    """A column of a flat table.

    Attributes:
        name: Its header. Those of an input may be empty or repeat; `unique_names()` is for the
            formats that do not have that.
        kind: What it holds.
        arrow_field: The pyarrow.Field that it is in Arrow (type, nullability, metadata), where it
            came from there; its values are Arrow arrays then. None otherwise.
    """

    name: str
    kind: Kind
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


def choose(columns: Sequence[FlatColumn], patterns: Iterable[str]) -> Choice:
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
