"""Locations to the fields that are sent, column by column; keys of equal locations (pure).

The fast path checks a whole column at once, by what Python does in C. The slow path reads it value
by value, and is the definition (`fields.py`).

An optional value that cannot be read is left out and counted, and so are both coordinates if either
is not known: half a pair is another place. A location that cannot be sent is refused with one
sentence, and costs nothing.

A location's key is the end of its line of JSON: all fields that are sent, in order. The text of an
address counts without regard to case and white space, everything else exactly: an id in another
case may be another id. To make keys in C, everything that is not the text of an address has the
case of its ASCII letters swapped, which loses nothing: a line whose codes are all capitals, as most
are, only has to be lowered as a whole.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from string import ascii_lowercase, ascii_uppercase
from types import NoneType
from typing import Any

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.coordinates import (
    COORDINATES,
    LARGEST,
    LATITUDE,
    NOWHERE,
    degrees_of,
    is_nowhere,
)
from pingdata_async.locations.fields import (
    ADDRESS_FIELDS,
    LOOKUP_FIELDS,
    READERS,
    AnyLocation,
    UnreadableError,
    id_text,
    in_order,
    is_in_words,
    read_coordinate,
    read_description,
    read_field,
    read_integer,
    read_number,
    read_text,
)
from pingdata_async.locations.numbers import ANY_QUANTITY, QUANTITIES
from pingdata_async.locations.words import (
    FIELDS_OF_NAMES,
    all_say_something,
    is_a_name,
    says_nothing,
)
from pingdata_async.models import Location
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind

BATCH_ROWS = 300
"""Rows that are best normalized together.

Measured: from 400 on their objects set off the garbage collector (700 of them do), and fall
out of the processor's caches; below 100 it shows what each batch costs.
"""

FOLDED_FIELDS = frozenset({"address", "address_line_1", "address_line_2", "city", "county"})
"""Fields that are the text of an address."""

_NAMES = ("id", *READERS)
_SETTINGS = frozenset({"sources", "datasource_config"})
_READERS_OF_FLOATS = {read_number, read_coordinate}
_READERS_OF_TEXTS = {read_text, read_description}
_READERS_OF_NUMBERS = {*_READERS_OF_FLOATS, read_integer}
_MAY_BE_NOWHERE = frozenset((None, *NOWHERE))
_LONGEST_SHOWN = 40

_NOT_JSON = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for what no JSON can hold."""

_BETWEEN = "`"  # printable, and hardly ever in an address
_OTHER_CASE = str.maketrans(ascii_lowercase + ascii_uppercase, ascii_uppercase + ascii_lowercase)

_encoder = msgspec.json.Encoder()
_sorting_encoder = msgspec.json.Encoder(order="sorted")
_decode_floats = msgspec.json.Decoder(list[float]).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


class Columns(msgspec.Struct, frozen=True):
    """Rows of a table, column by column; also a sequence of locations."""

    names: tuple[str, ...]  # the field that each column holds, or "id"; each once
    # Its cells, "" or None if they are empty. There is at least one column, and all have the
    # same length.
    columns: Sequence[Sequence[Any]]
    are_texts: bool = True  # whether every cell is a str

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int) -> dict[str, Any]:
        cells = [column[place] for column in self.columns]
        return {
            name: cell
            for name, cell in zip(self.names, cells, strict=True)
            if cell is not None and cell != ""
        }


class NormalizedBatch(msgspec.Struct, frozen=True):
    """Locations as they will be sent, but for their ids. Lists and places are by row."""

    ids: list[str | None]  # the user's own ids; None for none
    # The fields as JSON objects, with the numbers of the rows as ids if these are given.
    encoded: list[bytes]
    refused: dict[int, str]  # by place, why a row cannot be sent
    noted: NotedBatch  # by place, values that are not sent as they stand; also of refused rows
    fields: dict[str, Sequence[Any]]  # the values sent, by field; None for no value
    sources: dict[int, tuple[str, ...]]  # by place, the sources of locations that have their own
    keys: list[bytes]  # their keys; empty unless asked for

    def row(self, place: int) -> dict[str, Any]:
        """The fields that are sent of one location."""
        return _row(self.fields, place)


class NormalizedLocation(msgspec.Struct, frozen=True):
    """A location as it will be sent, but for its id."""

    id: str | None  # the user's own id; None for none
    fields: dict[str, Any]  # what is sent, in the order in which it is sent
    sources: tuple[str, ...] | None  # the location's own sources; None for those of the run
    encoded: bytes  # the fields as a JSON object


def normalize(location: AnyLocation) -> NormalizedLocation:
    """Make one location ready to be sent; the InputError of one that cannot be sent says why."""
    batch = normalize_batch([location])
    if batch.refused:
        raise InputError(batch.refused[0])
    return NormalizedLocation(batch.ids[0], batch.row(0), batch.sources.get(0), batch.encoded[0])


def normalize_batch(
    locations: Columns | Sequence[AnyLocation],
    *,
    first_row: int | None = None,
    with_keys: bool = False,
) -> NormalizedBatch:
    """Make locations ready to be sent.

    Args:
        locations: Each a `Location`, a mapping with its fields (other names are ignored), or an
            address.
        first_row: The number of the first row, if the rows are to be encoded with ids.
        with_keys: Whether to make their keys as well.
    """
    refused: dict[int, str] = {}
    if isinstance(locations, Columns):
        given = dict(zip(locations.names, locations.columns, strict=True))
        reader = _ColumnReader(given, refused, are_texts=locations.are_texts)
    else:
        reader = _ColumnReader(_columns_of(locations, refused), refused)
    ids, fields = reader.read(len(locations))
    numbers: dict[str, Sequence[Any]] = {}
    if first_row is not None:
        numbers["id"] = list(map(str, range(first_row, first_row + len(locations))))
    try:
        lines = _encode_rows(numbers | fields)
    except _NOT_JSON:
        fields = _refuse_what_is_not_json(fields, refused)
        lines = _encode_rows(numbers | fields)
    own = fields.get("sources", ())
    return NormalizedBatch(
        ids,
        _split_lines(lines),
        refused,
        reader.noted,
        fields,
        {place: tuple(codes) for place, codes in enumerate(own) if codes is not None},
        _keys_of(fields, lines, numbers.get("id", ())) if with_keys else [],
    )


# -- Rows to columns -------------------------------------------------------------------------


def _columns_of(locations: Sequence[Any], refused: dict[int, str]) -> dict[str, Sequence[Any]]:
    """The values of each field in use; None if a row has none."""
    kinds = set(map(type, locations))
    if kinds == {str}:
        return {"address": locations}
    if kinds == {Location}:
        return _columns_of_structs(locations)
    rows: Sequence[dict[str, Any]] = locations
    if kinds != {dict}:
        rows = []
        for place, location in enumerate(locations):
            try:
                rows.append(_as_dict(location))
            except InputError as error:
                refused[place] = str(error)
                rows.append({})
    used = set[str]().union(*set(map(tuple, rows)))
    return {name: [row.get(name) for row in rows] for name in filter(used.__contains__, _NAMES)}


def _as_dict(location: object) -> dict[str, Any]:
    if isinstance(location, str):
        return {"address": location}
    if isinstance(location, Location):
        return msgspec.structs.asdict(location)
    if isinstance(location, Mapping):
        return dict(location)
    raise InputError(
        f"a location is a Location, a mapping or an address, not {type(location).__name__}"
    )


def _columns_of_structs(locations: Sequence[Location]) -> dict[str, Sequence[Any]]:
    columns = zip(*map(msgspec.structs.astuple, locations), strict=True)
    nothing = (None,) * len(locations)

    def is_used(column: tuple[Any, ...]) -> bool:
        try:
            return column != nothing
        except ValueError:  # an array, whose comparison is one as well
            return True

    by_name = zip(Location.__struct_fields__, columns, strict=True)
    return {name: column for name, column in by_name if is_used(column)}


def _row(columns: Mapping[str, Sequence[Any]], place: int) -> dict[str, Any]:
    """The values of one row, without those that are None."""
    values = [(name, column[place]) for name, column in columns.items()]
    return {name: value for name, value in values if value is not None}


# -- Columns ---------------------------------------------------------------------------------


class _ColumnReader:
    """Reads the columns of a batch.

    Args:
        given: The values of each field as they came.
        refused: Filled with why rows cannot be sent, by place; one sentence each.
        are_texts: Whether every value is a str.
    """

    def __init__(
        self,
        given: Mapping[str, Sequence[Any]],
        refused: dict[int, str],
        *,
        are_texts: bool = False,
    ) -> None:
        self._given = given
        self._refused = refused
        self._are_texts = are_texts
        self.noted = NotedBatch()

    def read(self, rows: int) -> tuple[list[str | None], dict[str, Sequence[Any]]]:
        """The ids of the rows, and what is sent, by field and in order; None for no value."""
        ids: list[str | None] = [None] * rows
        fields: dict[str, Sequence[Any]] = {}
        for name, column in self._given.items():
            kinds: set[type] = {str} if self._are_texts else set(map(type, column))
            if name == "id":
                ids = _ids(column, kinds)
                continue
            read = self._read_column(name, column, kinds)
            if name not in _SETTINGS or any(read):
                fields[name] = read
        self._leave_out_half_pairs(fields)
        fields = in_order(fields) or {LOOKUP_FIELDS[0]: [None] * rows}
        for place in _without_lookup(fields, rows):
            self._refused.setdefault(place, _nothing_to_look_up(_row(self._given, place)))
        return ids, fields

    def _read_column(self, name: str, column: Sequence[Any], kinds: set[type]) -> Sequence[Any]:
        """What is sent of a column; None for no value."""
        reader = READERS[name]
        given = column
        if kinds == {str, NoneType}:
            given, kinds = [value or "" for value in column], {str}
        if kinds == {str}:
            if reader in _READERS_OF_TEXTS:
                return self._read_texts(name, given)
            if reader in _READERS_OF_NUMBERS:
                numbers = _plain_numbers(name, given)
                if numbers is not None:
                    return numbers
            elif not any(given):
                return [None] * len(given)
        elif (
            reader in _READERS_OF_FLOATS
            and kinds <= {float, NoneType}
            and _are_within([each for each in column if each is not None], *_bounds(name))
        ):
            return column
        return self._read_one_by_one(name, column)

    def _read_texts(self, name: str, column: Sequence[str]) -> Sequence[str | None]:
        stripped = list(map(str.strip, column))
        if READERS[name] is read_description and not all(map(is_in_words, set(stripped) - {""})):
            return self._read_one_by_one(name, column)
        if all_say_something(stripped):
            return stripped if all(stripped) else [text or None for text in stripped]
        read: list[str | None] = []
        for place, text in enumerate(stripped):
            if text and says_nothing(text) and not is_a_name(name, text, self._row(place)):
                self.noted.add(place, NotedValue(name, ValueKind.SAYS_NOTHING, column[place]))
                read.append(None)
            else:
                read.append(text or None)
        return read

    def _read_one_by_one(self, name: str, column: Sequence[Any]) -> list[Any]:
        read: list[Any] = []
        for place, value in enumerate(column):
            found = None
            try:
                row = self._row(place) if name in FIELDS_OF_NAMES else {}
                found = read_field(name, value, row)
            except UnreadableError as error:
                self.noted.add(place, NotedValue(name, error.kind, value))
            except InputError as error:
                self._refused.setdefault(place, str(error))
            read.append(found)
        return read

    def _row(self, place: int) -> dict[str, Any]:
        return _row(self._given, place)

    def _leave_out_half_pairs(self, fields: dict[str, Sequence[Any]]) -> None:
        """Drop the coordinates of places that are not known."""
        present = [name for name in COORDINATES if name in fields]
        if not present:
            return
        nothing = [None] * len(fields[present[0]])
        latitudes, longitudes = (fields.get(name, nothing) for name in COORDINATES)
        if _MAY_BE_NOWHERE.isdisjoint(latitudes) and _MAY_BE_NOWHERE.isdisjoint(longitudes):
            return
        addresses = [fields[name] for name in ADDRESS_FIELDS if name in fields]
        bad: list[int] = []
        for place, pair in enumerate(zip(latitudes, longitudes, strict=True)):
            if _MAY_BE_NOWHERE.isdisjoint(pair):
                continue
            has_address = any(column[place] for column in addresses)
            kind = fault_of_pair(*pair, has_address=has_address)
            if kind is None:
                continue
            bad.append(place)
            for name, degrees in zip(COORDINATES, pair, strict=True):
                if degrees is not None:
                    self.noted.add(place, NotedValue(name, kind, self._given[name][place]))
        if bad:
            fields.update(_without_values({name: fields[name] for name in present}, bad))


def fault_of_pair(
    latitude: float | None, longitude: float | None, *, has_address: bool
) -> ValueKind | None:
    """Why neither of two coordinates can be sent; None if they can, or both are missing.

    `has_address` says whether the location has an address as well.
    """
    if latitude is None or longitude is None:
        return None if latitude is longitude else ValueKind.HALF_OF_A_PAIR
    if is_nowhere(latitude, longitude, has_address=has_address):
        return ValueKind.NO_COORDINATES
    return None


def _ids(column: Sequence[Any], kinds: set[type]) -> list[str | None]:
    if kinds == {str}:
        return list(column) if all(column) else [value or None for value in column]
    return [id_text(value) for value in column]


def _plain_numbers(name: str, column: Sequence[str]) -> Sequence[float | None] | None:
    """The numbers of texts, None for an empty one; None if not all of them are plain."""
    given = list(filter(None, column))
    letters = ",".join(given)
    if "_" in letters or not letters.isascii():
        return None  # float() reads "1_000" and the digits of every script, `read_number()` not
    numbers = _floats(given, letters)
    if numbers is None:
        return None
    # Nor does it take a NaN or an infinity.
    if not _are_within(numbers, *_bounds(name)):
        return None
    if "." in letters and name not in LARGEST and any(text[-4:-3] == "." for text in given):
        return None  # "1.200" may be 1,200
    if READERS[name] is read_integer:
        if QUANTITIES[name].is_rounded:
            numbers = list(map(round, numbers))
        elif not all(map(float.is_integer, numbers)):
            return None
        numbers = list(map(int, numbers))
    if len(given) == len(column):
        return numbers
    found = iter(numbers)
    return [next(found) if text else None for text in column]


def _floats(texts: Sequence[str], joined: str) -> list[float] | None:
    """Texts as `float()` reads them; None if it does not. `joined` has commas between them."""
    if "-0" not in joined:  # which JSON takes for the integer
        with contextlib.suppress(msgspec.MsgspecError):
            numbers = _decode_floats(f"[{joined}]")  # far quicker, if all are as in JSON
            if len(numbers) == len(texts):
                return numbers
    try:
        return list(map(float, texts))
    except ValueError:
        return None  # a thousands separator, a "$", a word


def _bounds(name: str) -> tuple[float, float]:
    if name in LARGEST:
        return -LARGEST[name], LARGEST[name]
    quantity = QUANTITIES.get(name, ANY_QUANTITY)
    return quantity.least, quantity.most


def _are_within(numbers: Sequence[float], least: float, most: float) -> bool:
    """Whether all are finite and within bounds; may say no if their sum is not finite."""
    return not numbers or (
        # The sum shows whether there is a NaN, with which no comparison can be trusted.
        math.isfinite(sum(numbers)) and min(numbers) >= least and max(numbers) <= most
    )


def _without_values(
    columns: Mapping[str, Sequence[Any]], places: Iterable[int]
) -> dict[str, Sequence[Any]]:
    """Columns without the values of these rows."""
    without = {name: list(column) for name, column in columns.items()}
    for column in without.values():
        for place in places:
            column[place] = None
    return dict(without)


def _without_lookup(fields: Mapping[str, Sequence[Any]], rows: int) -> list[int]:
    """The places of rows that have nothing to look up."""
    texts = [fields[name] for name in LOOKUP_FIELDS if name in fields]
    if any(map(all, texts)):
        return []
    nothing = [None] * rows
    has_pair = [degrees is not None for degrees in fields.get(LATITUDE, nothing)]
    each = zip(has_pair, *texts, strict=True)
    return [place for place, given in enumerate(each) if not any(given)]


def _nothing_to_look_up(given: Mapping[str, Any]) -> str:
    """The sentence for a row that names no place."""
    pair = [_shown(given.get(name)) for name in COORDINATES]
    coordinates = "no pair of coordinates"
    if any(pair):
        is_alone = degrees_of(LATITUDE, pair[0] or pair[1]) is not None
        shown = [degrees or ("missing" if is_alone else "") for degrees in pair]
        coordinates = f"its coordinates ({', '.join(filter(None, shown))}) are no place"
    return (
        "nothing to look up: no address, street line, city, postal code or Lightbox reference, "
        f"and {coordinates}"
    )


def _shown(value: Any) -> str:
    """A value for a message; "" for none."""
    is_nan = isinstance(value, float) and math.isnan(value)
    text = "" if value is None or is_nan else str(value).strip()
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# -- Columns to lines of JSON ----------------------------------------------------------------


def _encode_rows(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A line of JSON for each row, with the columns in their order, without null values."""
    return _encoder.encode_lines(list(map(_row_type(tuple(columns)), *columns.values())))


def _split_lines(lines: bytes) -> list[bytes]:
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


def _refuse_what_is_not_json(
    fields: dict[str, Sequence[Any]], refused: dict[int, str]
) -> dict[str, Sequence[Any]]:
    """Refuse rows that JSON cannot hold, such as texts that are not Unicode; returns the others."""
    bad: list[int] = []
    for place, values in enumerate(zip(*fields.values(), strict=True)):
        try:
            _encoder.encode(values)
        except _NOT_JSON as error:
            refused.setdefault(place, f"cannot be sent as JSON: {error}")
            bad.append(place)
    return _without_values(fields, bad)


# -- Keys ------------------------------------------------------------------------------------


def _keys_of(
    columns: Mapping[str, Sequence[Any]], lines: bytes, numbers: Sequence[str]
) -> list[bytes]:
    """The keys of locations.

    Args:
        columns: What is sent of them, by field and in that order; None for no value.
        lines: The same, encoded.
        numbers: The ids in these lines; empty if they have none.
    """
    begin = len('{"id":"",') + len(numbers[0]) if numbers else 1
    if numbers and len(numbers[0]) != len(numbers[-1]):
        lines, begin = _encode_rows(columns), 1
    # Neither blanks in a row, nor what is escaped: there is no other white space but spaces.
    is_plain = lines.isascii() and b"  " not in lines and b"\\" not in lines
    if is_plain and all(map(_is_small_as_a_key, columns, columns.values())):
        return list(map(itemgetter(slice(begin, None)), _split_lines(lines.lower())))
    folded = {
        name: fold_column(column)
        if name in FOLDED_FIELDS
        else [_canonical(value) for value in column]
        for name, column in columns.items()
    }
    return [line[1:] for line in _split_lines(_encode_rows(folded))]


def sent_key(location: bytes) -> bytes:
    """What tells a location from others; equal if the keys of the rows are.

    `location` is a location as it is sent, without the row's number.
    """
    try:
        fields = _decode_fields(location)
        for name in FOLDED_FIELDS & fields.keys():
            fields[name] = fold(fields[name])
        return _sorting_encoder.encode(fields)
    except (msgspec.MsgspecError, RecursionError):  # a number that is too large, and the like
        return location


def _is_small_as_a_key(name: str, column: Sequence[Any]) -> bool:
    """Whether lowering its line makes a column what it is in keys."""
    if name in _SETTINGS:
        return False
    # A column is of texts throughout, or holds none.
    if name in FOLDED_FIELDS or not isinstance(next(filter(None, column), None), str):
        return True
    texts = "".join(filter(None, column))
    return texts == texts.upper()


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return value.translate(_OTHER_CASE)
    if not isinstance(value, Mapping):
        return value
    sent = _encoder.encode(value)
    try:
        return msgspec.Raw(_sorting_encoder.encode(msgspec.json.decode(sent)))
    except (msgspec.MsgspecError, RecursionError):  # a number that is too large, and the like
        return msgspec.Raw(sent)


def fold(text: str) -> str:
    """The text of an address without regard to case and white space."""
    return " ".join(text.casefold().split())


def fold_column(column: Sequence[str | None]) -> Sequence[str | None]:
    """Fold each text of a column, far cheaper than one by one; None stays None.

    Texts are neither empty nor have white space around them.
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
