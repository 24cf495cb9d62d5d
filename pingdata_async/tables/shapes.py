"""What there is in JSON objects, found out over all of them (pure).

What has been seen so far is made into a type for the JSON decoder. A value that fits it adds
nothing, and costs no more than being decoded: only those that do not fit are looked at closely.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec

from pingdata_async.tables.kinds import (
    EXACT_IN_A_DOUBLE,
    LARGEST_64_BITS,
    NOTHING,
    UNREADABLE,
    Found,
    found_in_json,
)

MAX_LEVELS: Final = 12
"""How many objects within each other are opened; what is deeper is kept whole, as JSON."""

MAX_MEMBERS: Final = 1000
"""A member with more names than that in it, over all rows, is no record: it is kept whole."""

KEPT_WHOLE: Final = frozenset({"raw_response"})
"""Members that are kept whole if they are objects: what other services said, of any form."""

_LEARN_ROWS = 100  # after so many a new type is made, if there was anything new
_SPECIAL: Final = frozenset('"\\') | frozenset(map(chr, range(0x20)))

_EXACT: Final = Annotated[int, msgspec.Meta(ge=-EXACT_IN_A_DOUBLE, le=EXACT_IN_A_DOUBLE)]
_LONG: Final = Annotated[int, msgspec.Meta(ge=-LARGEST_64_BITS - 1, le=LARGEST_64_BITS)]
_INTEGERS: Final[tuple[tuple[Found, Any], ...]] = (
    (Found.HUGE_INTEGER, int),
    (Found.LONG_INTEGER, _LONG),
    # The decoder would make any integer a float where it is not told which ones it may.
    (Found.INTEGER | Found.NUMBER, _EXACT),
)
_OTHERS: Final[tuple[tuple[Found, Any], ...]] = (
    (Found.NUMBER, float),
    (Found.BOOLEAN, bool),
    (Found.TEXT, str),
    (Found.LIST, list[msgspec.Raw]),
)
_open: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def opened(raw: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object; None for anything else, and for names that are no text."""
    if raw[:1] != b"{":
        return None
    try:
        return _open(raw)
    except UNREADABLE:
        return None


def struct_of(members: Mapping[str, Any], *, is_closed: bool) -> Any:
    """A type of record for the decoder.

    Args:
        members: The type of each member. Any may be missing, and is None then.
        is_closed: Whether other members are an error.
    """
    # Names can be anything; those of attributes cannot.
    attributes = {f"m{place}": name for place, name in enumerate(members)}
    fields = [(attribute, members[name], None) for attribute, name in attributes.items()]
    # Nothing in it can refer to itself, so the garbage collector need not know of it.
    return msgspec.defstruct(
        "Members", fields, rename=attributes, forbid_unknown_fields=is_closed, gc=False
    )


def can_be_decoded(name: str) -> bool:
    """Whether a record can have a member of that name; otherwise it must be opened."""
    return _SPECIAL.isdisjoint(name)


class Shape:
    """What was found in one place of many JSON values.

    Attributes:
        found: Values that are not opened.
        members: The members of the objects, as they were first seen.
    """

    __slots__ = ("found", "is_whole", "members")

    def __init__(self) -> None:
        self.found = NOTHING
        self.members: dict[str, Shape] = {}
        self.is_whole = False

    def learn(self, raw: bytes, levels: int) -> bool:
        """Take in one more value.

        Args:
            raw: It, without white space around it.
            levels: How many objects within each other may be opened.

        Returns:
            Whether there was anything new.
        """
        members = opened(raw) if levels and not self.is_whole else None
        if members is None:
            found = found_in_json(raw)
            if levels and not self.is_whole and found is Found.OBJECT:
                found = Found.ODD  # it could not be opened
        else:
            found = NOTHING if members else Found.NO_MEMBERS
        is_new = bool(found & ~self.found)
        if is_new:
            self.found |= found
        for name, value in (members or {}).items():
            shape = self.members.get(name)
            if shape is None:
                shape, is_new = self.members.setdefault(name, Shape()), True
            is_new |= shape.learn(bytes(value), 0 if name in KEPT_WHOLE else levels - 1)
            if len(shape.members) > MAX_MEMBERS:
                shape.keep_whole()
        return is_new

    def keep_whole(self) -> None:
        """Open no object here any more, nor those of before."""
        self.members.clear()
        self.is_whole = True
        self.found |= Found.OBJECT

    def as_type(self) -> Any:
        """What the decoder takes if, and only if, it adds nothing to what was found."""
        kinds = [kind for flag, kind in _OTHERS if self.found & flag]
        kinds += [kind for flag, kind in _INTEGERS if self.found & flag][:1]
        if self.found & Found.OBJECT:
            kinds.append(dict[str, msgspec.Raw])
        elif self.members or self.found & Found.NO_MEMBERS:
            known = {
                name: shape.as_type()
                for name, shape in self.members.items()
                if can_be_decoded(name)
            }
            kinds.append(struct_of(known, is_closed=True))
        return functools.reduce(operator.or_, kinds, None)


class ShapeScan:
    """Finds out the shape of many JSON values.

    Args:
        levels: How many objects within each other are opened.

    Attributes:
        shape: As far as it is known.
    """

    def __init__(self, levels: int) -> None:
        self.shape = Shape()
        self._levels = levels
        self._decode = msgspec.json.Decoder(self.shape.as_type()).decode

    def add(self, values: Iterable[bytes | memoryview | msgspec.Raw]) -> None:
        """Take in more values; nothing in them is an error."""
        learnt, is_new = 0, False
        for raw in values:
            try:
                self._decode(raw)
            except UNREADABLE:
                is_new |= self.shape.learn(bytes(raw).strip(), self._levels)
                learnt += 1
                if is_new and not learnt % _LEARN_ROWS:
                    self._renew()
                    is_new = False
        if is_new:
            self._renew()

    def _renew(self) -> None:
        self._decode = msgspec.json.Decoder(self.shape.as_type()).decode
