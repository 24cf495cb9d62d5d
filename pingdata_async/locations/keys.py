"""The key that makes two locations the same (pure).

A location's key is a line of JSON: every field that is sent, in the order in which they are sent,
the text of an address without regard to case and white space, everything else exactly: an id or
a code in another case may be another one. What is no address has its ASCII letters in the other
case, which loses nothing: an encoded line whose codes are all capitals, as they mostly are, only
has to be put into small letters as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import msgspec

FOLDED_FIELDS = frozenset({"address", "address_line_1", "address_line_2", "city", "county"})
"""Fields that are the text of an address."""

_BETWEEN = "`"  # printable, and hardly ever in an address
_OTHER_CASE = str.maketrans(ascii_lowercase + ascii_uppercase, ascii_uppercase + ascii_lowercase)

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
        fields: What is sent of it, in that order.
    """
    return _encoder.encode({name: _canonical(name, value) for name, value in fields.items()})


def _canonical(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return fold(value) if name in FOLDED_FIELDS else value.translate(_OTHER_CASE)
    if not isinstance(value, Mapping):
        return value
    sent = _encoder.encode(value)
    try:
        return msgspec.Raw(_sorting_encoder.encode(msgspec.json.decode(sent)))
    except (msgspec.MsgspecError, RecursionError):  # a number that is too large, and the like
        return msgspec.Raw(sent)


def keys_of(columns: Mapping[str, Sequence[Any]], lines: bytes) -> list[bytes]:
    """The same of many locations, which have neither sources nor settings of their own.

    Args:
        columns: What is sent of them, by field and in that order; None where nothing is.
        lines: The same, as `encode_rows()` makes it.
    """
    # Neither blanks in a row, nor what is escaped: there is no other white space but spaces.
    is_plain = lines.isascii() and b"  " not in lines and b"\\" not in lines
    if is_plain and all(map(_is_small_as_a_key, columns, columns.values())):
        return split_lines(lines.lower())
    return split_lines(
        encode_rows(
            {
                name: fold_column(column)
                if name in FOLDED_FIELDS
                else [_canonical(name, value) for value in column]
                for name, column in columns.items()
            }
        )
    )


def _is_small_as_a_key(name: str, column: Sequence[Any]) -> bool:
    """Whether all there is of a column is as it is in keys, once it is in small letters."""
    # A column is of texts throughout, or holds none.
    if name in FOLDED_FIELDS or not isinstance(next(filter(None, column), None), str):
        return True
    texts = "".join(filter(None, column))
    return texts == texts.upper()


def encode_rows(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Columns to a line of JSON for each row, in the order of the columns, without what is None."""
    return _encoder.encode_lines(list(map(_row_type(tuple(columns)), *columns.values())))


def split_lines(lines: bytes) -> list[bytes]:
    """Each of these lines by itself."""
    # A newline in a text is escaped: those between the lines are the only ones.
    each = lines.split(b"\n")
    each.pop()
    return each


@lru_cache(maxsize=64)  # an input has a few orders of columns; making a type takes 0.1 ms
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    # Nothing in it can refer to itself, so the garbage collector need not know of it.
    return msgspec.defstruct(
        "Row", [(name, Any, None) for name in names], omit_defaults=True, gc=False
    )
