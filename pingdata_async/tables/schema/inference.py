"""Nested JSON to flat columns, in two passes (pure).

The first pass infers the schema of all answers and the second extracts the values, so a column's
type never depends on the first rows alone. The schema so far is compiled into a type for the JSON
decoder: a value that fits costs no more than decoding, and only one that does not is examined.

`{"PG": {"a": 1, "b": {"c": 2}, "d": [3]}}` becomes the columns `pg_a`, `pg_b_c` and `pg_d`. Lists
are kept as JSON text, and so are objects that are empty in every row. A field that is an object in
some rows only has columns for both: `pg_b` beside `pg_b_c`. A source whose answer is not an object
has a column of its own (`pg`), and an answer that is not an object of sources goes to
`enhance_data`. Of repeated names in an object the last one counts; numbers are doubles unless they
are integers.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import astuple

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
    narrowest_type,
    promoted,
    text_of_json,
    types_in_json,
)

MAX_LEVELS: Final = 12
"""Levels of nested objects that become columns; deeper ones are kept whole, as JSON."""

MAX_MEMBERS: Final = 1000
"""An object with more different names over all rows is not a record, and is kept whole."""

KEPT_WHOLE: Final = frozenset({"raw_response"})
"""Members that are kept whole: replies of other services, in any form."""

_LEARN_ROWS = 100  # unfit values after which the decoder is renewed, if the schema grew
_SPECIAL: Final = frozenset('"\\') | frozenset(map(chr, range(0x20)))

_EXACT: Final = Annotated[int, msgspec.Meta(ge=-EXACT_IN_A_DOUBLE, le=EXACT_IN_A_DOUBLE)]
_LONG: Final = Annotated[int, msgspec.Meta(ge=-LARGEST_64_BITS - 1, le=LARGEST_64_BITS)]
_INTEGERS: Final[tuple[tuple[TypeSet, Any], ...]] = (
    (TypeSet.HUGE_INTEGER, int),
    (TypeSet.LONG_INTEGER, _LONG),
    # Without bounds, the decoder would turn any integer into a float.
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
    """The members of a JSON object; None for other values, and for names that are not text."""
    if raw[:1] != b"{":
        return None
    try:
        return _open(raw)
    except UNREADABLE:
        return None


def struct_of(members: Mapping[str, Any], *, is_closed: bool) -> Any:
    """A record type for the decoder, with optional members; if closed, others are an error."""
    # A member can have any name; an attribute cannot.
    attributes = {f"m{place}": name for place, name in enumerate(members)}
    fields = [(attribute, members[name], None) for attribute, name in attributes.items()]
    # It cannot hold references to itself, so the garbage collector need not track it.
    return msgspec.defstruct(
        "Members", fields, rename=attributes, forbid_unknown_fields=is_closed, gc=False
    )


def can_be_decoded(name: str) -> bool:
    """Whether a record can have a member of this name; if not, the object must be opened."""
    return _SPECIAL.isdisjoint(name)


class SchemaNode:
    """The schema of one place in many JSON values.

    Attributes:
        found: The types of values that are not opened.
        members: The members of objects, in the order in which they were first seen.
        is_whole: Whether objects are kept whole.
    """

    __slots__ = ("found", "is_whole", "members")

    def __init__(self) -> None:
        self.found = NOTHING
        self.members: dict[str, SchemaNode] = {}
        self.is_whole = False

    def learn(self, raw: bytes, levels: int) -> bool:
        """Add a value, without white space around it; returns whether the schema grew.

        `levels` is how many levels of nested objects to open.
        """
        members = opened(raw) if levels and not self.is_whole else None
        if members is None:
            found = types_in_json(raw)
            if levels and not self.is_whole and found is TypeSet.OBJECT:
                found = TypeSet.ODD  # it cannot be opened
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
        """Keep all objects whole from now on, and those before."""
        self.members.clear()
        self.is_whole = True
        self.found |= TypeSet.OBJECT

    def as_type(self, *, with_objects: bool = True) -> Any:
        """The type that the decoder accepts for exactly the values that fit the schema."""
        types = [type_ for flag, type_ in _OTHERS if self.found & flag]
        types += [type_ for flag, type_ in _INTEGERS if self.found & flag][:1]
        if not with_objects:
            pass
        elif self.found & TypeSet.OBJECT:
            types.append(dict[str, msgspec.Raw])
        elif self.members or self.found & TypeSet.NO_MEMBERS:
            known = {
                name: node.as_type() for name, node in self.members.items() if can_be_decoded(name)
            }
            types.append(struct_of(known, is_closed=True))
        return functools.reduce(operator.or_, types, None)


class SchemaInference:
    """Infers the schema of many JSON values, opening so many levels of nested objects.

    Attributes:
        root: The schema so far.
    """

    def __init__(self, levels: int) -> None:
        self.root = SchemaNode()
        self._levels = levels
        self._decode = msgspec.json.Decoder(self.root.as_type()).decode

    def add(self, values: Iterable[bytes | memoryview | msgspec.Raw]) -> bool:
        """Add values, of which none is an error; returns whether the schema grew."""
        learnt, is_new, grew = 0, False, False
        for raw in values:
            try:
                self._decode(raw)
            except UNREADABLE:
                is_new |= self.root.learn(bytes(raw).strip(), self._levels)
                learnt += 1
                if is_new and not learnt % _LEARN_ROWS:
                    self._renew()
                    is_new, grew = False, True
        if is_new:
            self._renew()
        return grew or is_new

    def _renew(self) -> None:
        self._decode = msgspec.json.Decoder(self.root.as_type()).decode


_DECODED_AS: Final[dict[ColumnType, Any]] = {
    ColumnType.BOOLEAN: bool,
    ColumnType.INTEGER: int,
    ColumnType.NUMBER: float,
    ColumnType.TEXT: str,
}


class JSONColumn(msgspec.Struct, frozen=True, kw_only=True):
    """Where to find the values of a column."""

    path: tuple[str, ...]  # the names of the nested members that lead to them
    type: ColumnType  # their type
    is_mixed: bool = False  # whether values of other types are kept as their JSON text
    # Whether the same place also holds objects, whose members are columns.
    is_beside_members: bool = False

    @property
    def decoded_as(self) -> Any:
        """The Python type of its values, if they are not mixed."""
        return _DECODED_AS.get(self.type, Any) | None

    def read(self, raw: bytes) -> Any:
        """Decode a value; null is None."""
        if self.is_mixed:
            return text_of_json(raw)
        return msgspec.json.decode(raw, type=self.decoded_as)


class SchemaGrewError(DecodeError):
    """Raised when values add to a schema that columns were made of; it holds them now."""


class _Place:
    """A place in the objects: a column, members, or both."""

    def __init__(self) -> None:
        self.column: JSONColumn | None = None
        self.number = 0
        self.members: dict[str, _Place] = {}
        self.struct: Any = None
        self.nothing: Any = None
        self.decoded: list[_Place] = []  # in the order of the struct's fields

    def prepare(self, schema: SchemaNode | None) -> Any:
        """Make the types of this place and those below for the decoder; returns its own.

        The decoder accepts what was found in this place (`schema`) and nothing else, but for what
        `_texts()` looks at; if None, whatever the columns hold.
        """
        for name in schema.members if schema else ():
            self.members.setdefault(name, _Place())
        if not self.members:
            if self.column is not None and self.column.is_mixed:
                return msgspec.Raw
            if schema is not None:
                return schema.as_type(with_objects=self.column is None)
            return Any if self.column is None else self.column.decoded_as
        types = {
            name: place.prepare(schema and schema.members[name])
            for name, place in self.members.items()
        }
        known = {name: type_ for name, type_ in types.items() if can_be_decoded(name)}
        # An object with a member that cannot be decoded has to fail here, to be opened.
        self.struct = struct_of(known, is_closed=schema is not None or len(known) < len(types))
        self.nothing = self.struct()
        self.decoded = list(map(self.members.__getitem__, known))
        return self.struct | None


class JSONColumns:
    """Extracts the values of columns from JSON objects.

    Args:
        columns: The columns, with types that all objects fit.
        inference: The schema that they were made of: objects that add to it are refused, so they
            need not be added before. None if all objects were.
    """

    def __init__(
        self, columns: Sequence[JSONColumn], inference: SchemaInference | None = None
    ) -> None:
        self._columns = columns
        self._inference = inference
        self._root = _Place()
        for number, column in enumerate(columns):
            place = self._root
            for name in column.path:
                place = place.members.setdefault(name, _Place())
            place.column, place.number = column, number
        self._root.prepare(None if inference is None else inference.root)
        struct = self._root.struct
        self._decode: Callable[[Any], Any] = (
            msgspec.json.Decoder(struct).decode if struct else _cannot_decode
        )

    def values(self, objects: Sequence[bytes | msgspec.Raw]) -> list[Values]:
        """The values of each column, one for each object.

        A DecodeError if a value does not fit its column, a SchemaGrewError if objects add to the
        schema.
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
        self._check_known(unfit.values())
        columns: list[Values] = [[None] * len(decoded) for _ in self._columns]
        if decoded and not _spread(self._root, decoded, columns):
            self._check_known(objects)
        for place, raw in unfit.items():
            self._read(place, raw, columns)
        return columns

    def _check_known(self, objects: Iterable[bytes | msgspec.Raw]) -> None:
        if self._inference is not None and self._inference.add(objects):
            raise SchemaGrewError("the answers hold something new")

    def _read(self, row: int, raw: bytes, columns: list[Values]) -> None:
        """Open an object that the decoder did not accept, and set its values."""
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


def _spread(place: _Place, objects: Sequence[Any], columns: list[Values]) -> bool:
    """Set the values of decoded objects; returns whether all of them surely fit the schema."""
    if not place.decoded:
        return True
    nothing = place.nothing
    if None in objects:
        objects = [nothing if each is None else each for each in objects]
    are_known = True
    for member, values in zip(place.decoded, zip(*map(astuple, objects), strict=True), strict=True):
        if member.members:
            are_known &= _spread(member, values, columns)
        elif member.column is None:
            continue
        elif member.column.is_mixed:
            columns[member.number], holds_no_object = _texts(values, member.column)
            are_known &= holds_no_object
        elif member.column.type is ColumnType.NUMBER:
            columns[member.number] = [None if value is None else float(value) for value in values]
        else:
            columns[member.number] = values
    return are_known


def _texts(values: Sequence[msgspec.Raw | None], column: JSONColumn) -> tuple[Values, bool]:
    """The values as JSON text, and whether no object is among them: anything else fits."""
    if not column.is_beside_members:
        try:
            texts = [None if raw is None else str(raw, "utf-8") for raw in values]
        except UnicodeDecodeError:
            pass
        else:
            begins = {text[0] for text in texts if text}
            if begins <= {"[", "n"}:  # lists and nulls, as in most
                return [None if text == "null" else text for text in texts], True
            return [text and text_of_json(text.encode()) for text in texts], "{" not in begins
    raws = [b"" if raw is None else bytes(raw) for raw in values]
    if column.is_beside_members:
        raws = [b"" if opened(raw) is not None else raw for raw in raws]
    return list(map(text_of_json, raws)), False


def _set(columns: list[Values], number: int, row: int, value: Any) -> None:
    values = columns[number]
    if not isinstance(values, list):
        columns[number] = values = list(values)
    values[row] = value


def _cannot_decode(_: object) -> Any:
    raise msgspec.ValidationError


ODD_ANSWERS: Final = "enhance_data"
"""The column of answers that are not an object of sources, as JSON text; made only if needed."""


class AnswerColumn(Column, frozen=True, kw_only=True):
    """A column of a flat table that holds a field of a source."""

    origin: JSONColumn  # where in the answers its values are; the first name is the source's code
    is_number: bool = False  # whether the API declares numbers, though some values are strings


class AnswerScan(SchemaInference):
    """The first pass: infers the fields of answers, and their types.

    Args:
        sources: The codes of the requested sources, in order.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__(MAX_LEVELS)
        self._sources = sources

    def columns(
        self, declared: Mapping[str, Mapping[str, str]], taken_names: Iterable[str]
    ) -> list[AnswerColumn]:
        """The columns of all answers that were added.

        Requested sources come first, in their order; other sources, and fields, in the order in
        which they were first seen.

        Args:
            declared: The type that the API declares, by source and flat name of the field; a column
                is at least as wide.
            taken_names: The names of the columns before these. A name that is taken, here or by
                another field, becomes name_2, name_3 and so on; case does not count, as in many
                databases.
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
            type_ = narrowest_type(promoted(found, said))
            columns.append(
                AnswerColumn(
                    _free_name(name, taken),
                    type_,
                    is_number=type_ is ColumnType.TEXT and declares_number(said),
                    origin=JSONColumn(
                        path=path,
                        type=type_,
                        is_mixed=type_ is ColumnType.TEXT and bool(found & ~TypeSet.TEXT),
                        is_beside_members=not found & TypeSet.OBJECT
                        and (bool(node.members) or not fields),
                    ),
                )
            )
        return columns

    def _in_order(self) -> Iterator[tuple[tuple[str, ...], SchemaNode]]:
        """Every place in the answers, by source in the order requested."""
        ranks = {source.casefold(): rank for rank, source in enumerate(self._sources)}
        codes = sorted(self.root.members, key=lambda code: ranks.get(code.casefold(), len(ranks)))
        for code in codes:
            yield from _places((code,), self.root.members[code])
        yield (), self.root


class AnswerColumns:
    """The second pass: extracts the values of columns; the scan need not have seen all answers.

    Attributes:
        all: All columns, of which `choose()` selects some.
    """

    def __init__(
        self,
        scan: AnswerScan,
        declared: Mapping[str, Mapping[str, str]],
        taken_names: Sequence[str],
    ) -> None:
        self._scan = scan
        self._made_of = declared, taken_names
        self.all = scan.columns(*self._made_of)
        self.choose(range(len(self.all)))

    def choose(self, places: Sequence[int]) -> None:
        """Extract these columns alone, by their places in `all`."""
        self._chosen = places
        origins = [self.all[place].origin for place in places]
        self._columns = JSONColumns(origins, self._scan)

    def values(self, results: Sequence[EnhancedLocation]) -> list[Values]:
        """The values of each chosen column in these rows.

        A SchemaGrewError if, with these answers, which the scan has now, there are other columns.
        """
        objects = [result.data for result in results]
        while True:
            try:
                return self._columns.values(objects)
            except SchemaGrewError:
                if self._scan.columns(*self._made_of) != self.all:
                    raise
                self.choose(self._chosen)


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
