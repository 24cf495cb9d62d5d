"""JSON objects to columns whose kinds are known (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.tables.kinds import UNREADABLE, text_of_json
from pingdata_async.tables.schema import Kind, Values
from pingdata_async.tables.shapes import can_be_decoded, opened, struct_of

_DECODED_AS: Final[dict[Kind, Any]] = {
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.NUMBER: float,
    Kind.TEXT: str,
}


class JSONColumn(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values of a column are.

    Attributes:
        path: The names of the members within each other that lead to them.
        kind: What they are.
        is_mixed: Whether they are texts to which others are added as their JSON text.
        is_beside_members: Whether objects are in the same place, whose members are columns.
    """

    path: tuple[str, ...]
    kind: Kind
    is_mixed: bool = False
    is_beside_members: bool = False

    @property
    def decoded_as(self) -> Any:
        """The type of its values, where they are not mixed."""
        return _DECODED_AS.get(self.kind, Any) | None

    def read(self, raw: bytes) -> Any:
        """A value, as the column holds it; None for null."""
        if self.is_mixed:
            return text_of_json(raw)
        return msgspec.json.decode(raw, type=self.decoded_as)


class _Place:
    """A place in the objects: a column, or members, or both."""

    def __init__(self) -> None:
        self.column: JSONColumn | None = None
        self.number = 0
        self.members: dict[str, _Place] = {}
        self.struct: Any = None
        self.nothing: Any = None
        self.decoded: list[tuple[_Place, Callable[[Any], Any]]] = []

    def prepare(self) -> Any:
        """Make the decoder's types from here on; returns that of this place."""
        if not self.members:
            if self.column is None:
                return Any
            return msgspec.Raw if self.column.is_mixed else self.column.decoded_as
        types = {name: place.prepare() for name, place in self.members.items()}
        known = {name: kind for name, kind in types.items() if can_be_decoded(name)}
        # Where a member cannot be decoded, objects that have it are made to fail, and are opened.
        self.struct = struct_of(known, is_closed=len(known) < len(types))
        self.nothing = self.struct()
        getters = map(attrgetter, self.struct.__struct_fields__)
        self.decoded = list(zip(map(self.members.__getitem__, known), getters, strict=True))
        return self.struct | None


class JSONColumns:
    """Takes the values of columns out of JSON objects.

    Args:
        columns: Those that are wanted, with kinds that are wide enough for all objects there
            will be.
    """

    def __init__(self, columns: Sequence[JSONColumn]) -> None:
        self._columns = columns
        self._root = _Place()
        for number, column in enumerate(columns):
            place = self._root
            for name in column.path:
                place = place.members.setdefault(name, _Place())
            place.column, place.number = column, number
        self._root.prepare()
        struct = self._root.struct
        self._decode: Callable[[Any], Any] = (
            msgspec.json.Decoder(struct).decode if struct else _cannot_decode
        )

    def values(self, objects: Iterable[bytes | msgspec.Raw]) -> list[Values]:
        """The columns' values, one of each object.

        Raises:
            DecodeError: When one does not fit its column.
        """
        decoded: list[Any] = []
        unfit: dict[int, bytes] = {}
        decode, nothing = self._decode, self._root.nothing
        for place, raw in enumerate(objects):
            try:
                decoded.append(decode(raw))
            except UNREADABLE:
                unfit[place] = bytes(raw).strip()
                decoded.append(nothing)
        columns: list[Values] = [[None] * len(decoded) for _ in self._columns]
        if decoded:
            _spread(self._root, decoded, columns)
        for place, raw in unfit.items():
            self._read(place, raw, columns)
        return columns

    def _read(self, row: int, raw: bytes, columns: list[Values]) -> None:
        """Open an object that the decoder did not take, and put its values in their places."""
        pending = [(self._root, raw)]
        while pending:
            place, raw = pending.pop()
            column = place.column
            if place.members or (column and column.is_beside_members):
                members = opened(raw)
                if members is not None:
                    pending += [
                        (place.members[name], bytes(value))
                        for name, value in members.items()
                        if name in place.members
                    ]
                    continue
            if column is None:
                continue
            try:
                value = column.read(raw)
            except UNREADABLE as error:
                where = ".".join(column.path)
                raise DecodeError(f"{where} does not fit its column: {error}") from error
            if value is not None:
                _set(columns, place.number, row, value)


def _spread(place: _Place, objects: Sequence[Any], columns: list[Values]) -> None:
    """Put the values of decoded objects into their columns."""
    if not place.decoded:
        return
    nothing = place.nothing
    if None in objects:
        objects = [nothing if each is None else each for each in objects]
    # One attribute at a time: a tuple for each object would be work for the garbage collector.
    for member, get in place.decoded:
        values = list(map(get, objects))
        if member.members:
            _spread(member, values, columns)
        elif member.column is None:
            continue
        elif not member.column.is_mixed:
            columns[member.number] = values
        else:
            columns[member.number] = _texts(values, member.column)


def _texts(values: Sequence[msgspec.Raw | None], column: JSONColumn) -> Values:
    raws = [b"" if raw is None else bytes(raw) for raw in values]
    if column.is_beside_members:
        raws = [b"" if opened(raw) is not None else raw for raw in raws]
    return list(map(text_of_json, raws))


def _set(columns: list[Values], number: int, row: int, value: Any) -> None:
    values = columns[number]
    if not isinstance(values, list):
        columns[number] = values = list(values)
    values[row] = value


def _cannot_decode(_: object) -> Any:
    raise msgspec.ValidationError
