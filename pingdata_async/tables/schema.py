"""What the columns of a flat table hold (pure)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa


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
        name: Its header, unlike that of any other where `is_unique` names are asked for.
        kind: What it holds.
        arrow_type: The type that it has in Arrow, where it came from there; its values are
            Arrow arrays then.
    """

    name: str
    kind: Kind
    arrow_type: pa.DataType | None = None


Values = Sequence[Any]
"""A column's values in some rows: Python objects of its kind, None for null; or an Arrow array."""
