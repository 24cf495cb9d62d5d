"""Nested JSON to flat columns, in two passes (pure).

The first pass infers the schema of all answers, the second one takes the values out: a column's
type never depends on the first rows alone. What has been seen so far is compiled into a type for
the JSON decoder, so a value that adds nothing costs no more than decoding it; only values that do
not fit are looked at closely.

`{"PG": {"a": 1, "b": {"c": 2}, "d": [3]}}` becomes the columns `pg_a`, `pg_b_c` and `pg_d`. Lists
are kept as JSON text, and so are objects that are empty in every row. A field that is an object in
some rows and something else in others has columns for both: `pg_b` beside `pg_b_c`. A source that
gives something other than an object has a column of its own (`pg`); answers that are no object of
sources at all go to `enhance_data`. Of members with the same name the last one counts, as for any
reader of JSON, and numbers are doubles unless they are integers.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.schema.types import (
    EXACT_IN_A_DOUBLE,
    LARGEST_64_BITS,
    NOTHING,
    UNREADABLE,
    Column,
    ColumnType,
    TypeSet,
    Values,
    declares_number,
    free_name,
    kind_of,
    promoted,
    text_of_json,
    types_in_json,
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
_INTEGERS: Final[tuple[tuple[TypeSet, Any], ...]] = (
    (TypeSet.HUGE_INTEGER, int),
    (TypeSet.LONG_INTEGER, _LONG),
    # The decoder would make any integer a float where it is not told which ones it may.
    (TypeSet.INTEGER | TypeSet.NUMBER, _EXACT),
)
_OTHERS: Final[tuple[tuple[TypeSet, Any], ...]] = (
    (TypeSet.NUMBER, float),
    (TypeSet.BOOLEAN, bool),
    (TypeSet.TEXT, str),
    (TypeSet.LIST, list[msgspec.Raw]),
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


class SchemaNode:
    """What was found in one place of many JSON values.

    Attributes:
        found: Values that are not opened.
        members: The members of the objects, as they were first seen.
    """

    __slots__ = ("found", "is_whole", "members")

    def __init__(self) -> None:
        self.found = NOTHING
        self.members: dict[str, SchemaNode] = {}
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
            found = types_in_json(raw)
            if levels and not self.is_whole and found is TypeSet.OBJECT:
                found = TypeSet.ODD  # it could not be opened
        else:
            found = NOTHING if members else TypeSet.NO_MEMBERS
        is_new = bool(found & ~self.found)
        if is_new:
            self.found |= found
        for name, value in (members or {}).items():
            node = self.members.get(name)
            if node is None:
                node, is_new = self.members.setdefault(name, SchemaNode()), True
            is_new |= node.learn(bytes(value), 0 if name in KEPT_WHOLE else levels - 1)
            if len(node.members) > MAX_MEMBERS:
                node.keep_whole()
        return is_new

    def keep_whole(self) -> None:
        """Open no object here any more, nor those of before."""
        self.members.clear()
        self.is_whole = True
        self.found |= TypeSet.OBJECT

    def as_type(self) -> Any:
        """What the decoder takes if, and only if, it adds nothing to what was found."""
        kinds = [kind for flag, kind in _OTHERS if self.found & flag]
        kinds += [kind for flag, kind in _INTEGERS if self.found & flag][:1]
        if self.found & TypeSet.OBJECT:
            kinds.append(dict[str, msgspec.Raw])
        elif self.members or self.found & TypeSet.NO_MEMBERS:
            known = {
                name: node.as_type() for name, node in self.members.items() if can_be_decoded(name)
            }
            kinds.append(struct_of(known, is_closed=True))
        return functools.reduce(operator.or_, kinds, None)


class SchemaInference:
    """Infers the schema of many JSON values.

    Args:
        levels: How many objects within each other are opened.

    Attributes:
        root: The schema so far.
    """

    def __init__(self, levels: int) -> None:
        self.root = SchemaNode()
        self._levels = levels
        self._decode = msgspec.json.Decoder(self.root.as_type()).decode

    def add(self, values: Iterable[bytes | memoryview | msgspec.Raw]) -> None:
        """Take in more values; nothing in them is an error."""
        learnt, is_new = 0, False
        for raw in values:
            try:
                self._decode(raw)
            except UNREADABLE:
                is_new |= self.root.learn(bytes(raw).strip(), self._levels)
                learnt += 1
                if is_new and not learnt % _LEARN_ROWS:
                    self._renew()
                    is_new = False
        if is_new:
            self._renew()

    def _renew(self) -> None:
        self._decode = msgspec.json.Decoder(self.root.as_type()).decode


_DECODED_AS: Final[dict[ColumnType, Any]] = {
    ColumnType.BOOLEAN: bool,
    ColumnType.INTEGER: int,
    ColumnType.NUMBER: float,
    ColumnType.TEXT: str,
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
    kind: ColumnType
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


ODD_ANSWERS: Final = "enhance_data"
"""The column of answers that are no object of sources, as their JSON text; only if there are."""


class AnswerColumn(Column, frozen=True, kw_only=True):
    """A column of a flat table that holds a field of a source.

    Attributes:
        origin: Where in the answers its values are; the first name is the source's code.
        is_number: Whether the API says that they are numbers, though some came as texts.
    """

    origin: JSONColumn
    is_number: bool = False


class AnswerScan:
    """The first pass: finds out which fields there are, and what their values are.

    Args:
        sources: The codes of the sources that were asked, in their order.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._scan = SchemaInference(MAX_LEVELS)

    def add(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """Take in what the API said of more rows. Nothing in it is an error."""
        self._scan.add(answers)

    def columns(
        self, declared: Mapping[str, Mapping[str, str]], taken_names: Iterable[str]
    ) -> list[AnswerColumn]:
        """The columns of all rows that were taken in.

        Sources come in the order in which they were asked, others as they were met; fields as
        they were met in the rows, in the order in which these were given.

        Args:
            declared: By source and field, the type that the API says it has. A column is at
                least as wide; nested fields are looked up under their flat name.
            taken_names: Those of the columns that come before. A column whose name is among
                them, or is that of another field, is called name_2, or name_3 and so on; upper
                and lower case count as the same here, as they do in many databases.
        """
        taken = {name.casefold() for name in taken_names}
        columns = []
        for path, node in self._in_order():
            source, *fields = path or ("",)
            found = node.found
            if node.members or len(path) < 2:  # noqa: PLR2004 - a source and its field
                found &= ~TypeSet.NO_MEMBERS
            if not found and (node.members or not fields):
                continue
            name = "_".join([source.lower(), *fields]) if path else ODD_ANSWERS
            said = declared.get(source, {}).get("_".join(fields)) if fields else None
            kind = kind_of(promoted(found, said))
            columns.append(
                AnswerColumn(
                    _free_name(name, taken),
                    kind,
                    is_number=kind is ColumnType.TEXT and declares_number(said),
                    origin=JSONColumn(
                        path=path,
                        kind=kind,
                        is_mixed=kind is ColumnType.TEXT and bool(found & ~TypeSet.TEXT),
                        is_beside_members=not found & TypeSet.OBJECT
                        and (bool(node.members) or not fields),
                    ),
                )
            )
        return columns

    def _in_order(self) -> Iterator[tuple[tuple[str, ...], SchemaNode]]:
        """Every place in the answers, those of the sources first that were asked first."""
        ranks = {source.casefold(): rank for rank, source in enumerate(self._sources)}
        root = self._scan.root
        codes = sorted(root.members, key=lambda code: ranks.get(code.casefold(), len(ranks)))
        for code in codes:
            yield from _places((code,), root.members[code])
        yield (), root


class AnswerColumns:
    """The second pass: takes the values of columns out of the answers.

    Args:
        columns: Those that are wanted, of `AnswerScan.columns()`.
    """

    def __init__(self, columns: Sequence[AnswerColumn]) -> None:
        self._columns = JSONColumns([column.origin for column in columns])

    def values(self, results: Iterable[EnhancedLocation]) -> list[Values]:
        """The values of each column in some of the rows.

        Raises:
            DecodeError: For an answer that was not among those of the first pass, and does not
                fit.
        """
        return self._columns.values([result.data for result in results])


def _places(
    path: tuple[str, ...], node: SchemaNode
) -> Iterator[tuple[tuple[str, ...], SchemaNode]]:
    yield path, node
    for name, member in node.members.items():
        yield from _places((*path, name), member)


def _free_name(name: str, taken: set[str]) -> str:
    free = free_name(name.casefold(), taken)
    taken.add(free)
    return name + free[len(name.casefold()) :]
