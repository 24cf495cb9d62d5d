"""What makes two locations the same (pure).

A location's key is its canonical JSON: every field that is sent, by name, the text of an address
without regard to case and white space, everything else exactly as it is sent: an id or a code in
another case may be another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

FOLDED_FIELDS = frozenset({"address", "address_line_1", "address_line_2", "city", "county"})
"""Fields that are the text of an address."""

_BETWEEN = "`"  # printable, and hardly ever in an address

_encoder = msgspec.json.Encoder()
_sorting_encoder = msgspec.json.Encoder(order="sorted")


def fold(text: str) -> str:
    """The text of an address without regard to case and white space."""
    return " ".join(text.casefold().split())


def fold_column(column: Sequence[str | None]) -> Sequence[str | None]:
    """The same of each text of a column, far cheaper; None stays None.

    Args:
        column: Texts as they are sent: not empty, and without white space around them.
    """
    has_gaps = None in column
    texts: Sequence[Any] = [text or "" for text in column] if has_gaps else column
    joined = _BETWEEN.join(texts)
    folded: list[str] = []
    # All white space but the space itself is not printable.
    if joined.isprintable() and "  " not in joined:
        folded = joined.casefold().split(_BETWEEN)
    if len(folded) != len(texts):
        folded = list(map(fold, texts))
    return [text or None for text in folded] if has_gaps else folded


def key_of(fields: Mapping[str, Any]) -> bytes:
    """The key of one location.

    Args:
        fields: What is sent of it.
    """
    return _encoder.encode({name: _canonical(name, fields[name]) for name in sorted(fields)})


def _canonical(name: str, value: Any) -> Any:
    if name in FOLDED_FIELDS:
        return fold(value)
    if not isinstance(value, Mapping):
        return value
    sent = _encoder.encode(value)
    try:
        return msgspec.Raw(_sorting_encoder.encode(msgspec.json.decode(sent)))
    except (msgspec.MsgspecError, RecursionError):  # a number that is too large, and the like
        return msgspec.Raw(sent)


def keys_of(columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
    """The same of many locations, which have neither sources nor settings of their own.

    Args:
        columns: What is sent of them, by field; None where nothing is.
    """
    names = sorted(columns)
    return encode_rows(
        {
            name: fold_column(columns[name]) if name in FOLDED_FIELDS else columns[name]
            for name in names
        }
    )


def encode_rows(columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
    """Columns to a JSON object for each row, in the order of the columns, without what is None."""
    # A newline in a text is escaped: those between the lines are the only ones.
    lines = _encoder.encode_lines(list(map(_row_type(tuple(columns)), *columns.values())))
    encoded = lines.split(b"\n")
    encoded.pop()
    return encoded


@lru_cache(maxsize=64)  # an input has a few orders of columns; making a type takes 0.1 ms
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    # Nothing in it can refer to itself, so the garbage collector need not know of it.
    return msgspec.defstruct(
        "Row", [(name, Any, None) for name in names], omit_defaults=True, gc=False
    )
