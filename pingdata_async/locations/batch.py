"""Many locations at once: what `normalize()` makes of each, far cheaper (pure).

They are looked at column by column, by what Python does in C: a check or two tell that a
whole column is plain. What `normalize()` says of a row is the definition, and whatever looks
unusual is left to it: a row where only that is at fault, or else the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

import msgspec

from pingdata_async.locations.coordinates import (
    COORDINATES,
    LARGEST,
    LATITUDE,
    LONGITUDE,
    NOWHERE,
    is_nowhere,
)
from pingdata_async.locations.keys import encode_rows, keys_of, split_lines
from pingdata_async.locations.missing_values import (
    FIELDS_OF_NAMES,
    all_say_something,
    is_a_name,
    says_nothing,
)
from pingdata_async.locations.normalize import (
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
from pingdata_async.models import Location
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind

BATCH_ROWS = 300
"""Rows that are best looked at together.

Measured: from 400 on their objects set off the garbage collector (700 of them do), and fall
out of the processor's caches; below 100 it shows what each batch costs.
"""

_SCALARS = {str, int, float, bool, NoneType}
_WITH_RULES_OF_THEIR_OWN = {"sources", "datasource_config"}
_EMPTY = {None, ""}
_READERS_OF_FLOATS = {read_number, read_coordinate}
_READERS_OF_TEXTS = {read_text, read_description}
_READERS_OF_NUMBERS = {*_READERS_OF_FLOATS, read_integer}
_MAY_BE_NOWHERE = frozenset((None, *NOWHERE))

RowOf = Callable[[int], Mapping[str, Any]]
"""Gives the row at a place of a batch, as it came."""


class Columns(msgspec.Struct, frozen=True):
    """Rows of a table, side by side; a sequence of locations as well.

    Attributes:
        names: The field that each column holds; "id" or one of `locations.FIELDS`, each once.
        columns: Its cells, "" or None where there is nothing; all columns have as many, at
            least one.
        are_texts: Whether every cell is a str.
    """

    names: tuple[str, ...]
    columns: Sequence[Sequence[Any]]
    are_texts: bool = True

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
    """Locations as they will be sent, but for their ids. Lists and places are by row.

    Attributes:
        ids: The user's own ids; None where there is none.
        encoded: The fields as JSON objects.
        refused: Places of rows that have nothing to look up.
        noted: Values that are not sent as they stand, by field and place; also of rows that are
            refused.
        fields: By field, what is sent of each; None where nothing is.
        keys: Their keys; empty where these are not wanted.
    """

    ids: list[str | None]
    encoded: list[bytes]
    refused: list[int]
    noted: NotedBatch
    fields: dict[str, Sequence[Any]]
    keys: list[bytes] = []


class _UnusualError(ValueError):
    """The rows have to be prepared one by one."""


def normalize_batch(
    locations: Columns | Sequence[AnyLocation], *, with_keys: bool = False
) -> NormalizedBatch | None:
    """Make locations ready to be sent; None where each has to be prepared by itself.

    No location has sources of its own where it is not None.

    Args:
        locations: The locations.
        with_keys: Whether their keys are wanted too.
    """
    try:
        if isinstance(locations, Columns):
            return _normalize(
                locations.names,
                locations.columns,
                are_texts=locations.are_texts,
                with_keys=with_keys,
            )
        return _normalize(*_columns_of(locations), are_texts=False, with_keys=with_keys)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None  # it is not known here which row is at fault, and what is wrong with it


def _normalize(
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
    *,
    are_texts: bool,
    with_keys: bool,
) -> NormalizedBatch:
    if not names:
        raise _UnusualError
    rows = len(columns[0])
    ids: list[str | None] = [None] * rows
    fields: dict[str, Sequence[Any]] = {}
    noted = NotedBatch()

    def row_of(place: int) -> Mapping[str, Any]:
        return {name: column[place] for name, column in zip(names, columns, strict=True)}

    for name, column in zip(names, columns, strict=True):
        kinds: set[type] = {str} if are_texts else set(map(type, column))
        if name in _WITH_RULES_OF_THEIR_OWN:
            if not _EMPTY.issuperset(column):
                raise _UnusualError
        elif not kinds <= _SCALARS:
            raise _UnusualError
        elif name == "id":
            ids = _ids(column, kinds)
        else:
            fields[name] = _read_column(name, column, kinds, noted, row_of)
    _leave_out_half_pairs(fields, dict(zip(names, columns, strict=True)), noted)
    fields = in_order(fields)
    lines = encode_rows(fields)
    return NormalizedBatch(
        ids,
        split_lines(lines),
        _without_lookup(fields, rows),
        noted,
        fields,
        keys_of(fields, lines) if with_keys else [],
    )


# -- Rows to columns -----------------------------------------------------------------------


def _columns_of(
    locations: Sequence[Any],
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """The names of the fields in use, and their values; None where a row has none."""
    kinds = set(map(type, locations))
    if kinds == {str}:
        return ["address"], [locations]
    if kinds == {Location}:
        return _columns_of_structs(locations)
    if str in kinds:
        locations = [{"address": each} if type(each) is str else each for each in locations]
        kinds.remove(str)
    if kinds != {dict}:  # other mappings may behave in any way
        raise _UnusualError
    used = set[str]().union(*set(map(tuple, locations)))
    names = [name for name in ("id", *READERS) if name in used]
    return names, [[row.get(name) for row in locations] for name in names]


def _columns_of_structs(
    locations: Sequence[Any],
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    columns = zip(*map(msgspec.structs.astuple, locations), strict=True)
    nothing = (None,) * len(locations)
    used = {
        name: column
        for name, column in zip(Location.__struct_fields__, columns, strict=True)
        if column != nothing
    }
    return tuple(used), tuple(used.values())


# -- Columns ---------------------------------------------------------------------------------


def _ids(column: Sequence[Any], kinds: set[type]) -> list[str | None]:
    if kinds == {str}:
        return list(column) if all(column) else [value or None for value in column]
    return [id_text(value) for value in column]


def _read_column(
    name: str, column: Sequence[Any], kinds: set[type], noted: NotedBatch, row_of: RowOf
) -> Sequence[Any]:
    """What is sent of a column; None where nothing is."""
    reader = READERS[name]
    if kinds == {str, NoneType}:
        column, kinds = [value or "" for value in column], {str}
    if kinds == {str}:
        if reader in _READERS_OF_TEXTS:
            stripped = list(map(str.strip, column))
            if reader is read_description and not all(map(is_in_words, set(stripped) - {""})):
                return _read_one_by_one(name, column, noted, row_of)
            if not all_say_something(stripped):
                return _without_words_for_nothing(name, stripped, column, noted, row_of)
            return stripped if all(stripped) else [text or None for text in stripped]
        if reader in _READERS_OF_NUMBERS:
            numbers = _plain_numbers(name, column)
            if numbers is not None:
                return numbers
    elif reader in _READERS_OF_FLOATS and kinds <= {float, NoneType}:
        given = [number for number in column if number is not None]
        if _are_within(given, *_bounds(name)):
            return column
    return _read_one_by_one(name, column, noted, row_of)


def _plain_numbers(name: str, column: Sequence[str]) -> Sequence[float | None] | None:
    """Numbers of texts, None where one is empty; None where not all of them are plain."""
    letters = "".join(column)
    if "_" in letters or not letters.isascii():
        return None  # float() reads "1_000" and the digits of every script, `read_number()` not
    given = list(filter(None, column))
    try:
        numbers = list(map(float, given))
    except ValueError:
        return None  # a thousands separator, a "$", a word
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


def _bounds(name: str) -> tuple[float, float]:
    if name in LARGEST:
        return -LARGEST[name], LARGEST[name]
    quantity = QUANTITIES.get(name, ANY_QUANTITY)
    return quantity.least, quantity.most


def _are_within(numbers: Sequence[float], least: float, most: float) -> bool:
    """Whether all are finite and within bounds; may say no where their sum is not finite."""
    return not numbers or (
        # The sum shows whether there is a NaN, with which no comparison can be trusted.
        math.isfinite(sum(numbers)) and min(numbers) >= least and max(numbers) <= most
    )


def _without_words_for_nothing(
    name: str, stripped: Sequence[str], column: Sequence[str], noted: NotedBatch, row_of: RowOf
) -> list[str | None]:
    read: list[str | None] = []
    for place, text in enumerate(stripped):
        if text and says_nothing(text) and not is_a_name(name, text, row_of(place)):
            noted.add(place, NotedValue(name, ValueKind.SAYS_NOTHING, column[place]))
            read.append(None)
        else:
            read.append(text or None)
    return read


def _read_one_by_one(
    name: str, column: Sequence[Any], noted: NotedBatch, row_of: RowOf
) -> list[Any]:
    read: list[Any] = []
    for place, value in enumerate(column):
        row = row_of(place) if name in FIELDS_OF_NAMES else {}
        try:
            read.append(read_field(name, value, row))
        except UnreadableError as error:
            noted.add(place, NotedValue(name, error.kind, value))
            read.append(None)
    return read


def _leave_out_half_pairs(
    fields: dict[str, Sequence[Any]], given: Mapping[str, Sequence[Any]], noted: NotedBatch
) -> None:
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
    for place, (latitude, longitude) in enumerate(zip(latitudes, longitudes, strict=True)):
        if latitude is None or longitude is None:
            if latitude is longitude:
                continue
            name = LONGITUDE if latitude is None else LATITUDE
            noted.add(place, NotedValue(name, ValueKind.HALF_OF_A_PAIR, given[name][place]))
        elif is_nowhere(
            latitude, longitude, has_address=any(column[place] for column in addresses)
        ):
            for name in COORDINATES:
                noted.add(place, NotedValue(name, ValueKind.NO_COORDINATES, given[name][place]))
        else:
            continue
        bad.append(place)
    for name in present if bad else ():
        column = list(fields[name])
        for place in bad:
            column[place] = None
        fields[name] = column


def _without_lookup(fields: dict[str, Sequence[Any]], rows: int) -> list[int]:
    """The places of rows that have nothing to look up."""
    texts = [fields[name] for name in LOOKUP_FIELDS if name in fields]
    if any(map(all, texts)):
        return []
    nothing = [None] * rows
    has_pair = [degrees is not None for degrees in fields.get(LATITUDE, nothing)]
    each = zip(has_pair, *texts, strict=True)
    return [place for place, given in enumerate(each) if not any(given)]
