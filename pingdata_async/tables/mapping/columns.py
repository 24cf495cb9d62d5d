"""Which column holds which field: by its header, or as given by the user (pure).

Nothing is guessed silently: the mapping is shown, unused headers are listed, and if two headers may
mean the same field, the user has to choose.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.coordinates import (
    COORDINATES,
    LATITUDE,
    LONGITUDE,
    joined_angle,
    split_pair,
    west_or_south,
)
from pingdata_async.locations.fields import (
    FIELDS,
    LOOKUP_FIELDS,
    READERS,
    id_text,
    nearest_fields,
    read_description,
    read_text,
)
from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.words import says_nothing
from pingdata_async.tables.formats import FAILURE_NOTES
from pingdata_async.tables.mapping.candidates import (
    MappedColumn,
    candidates_for,
    unambiguous,
)
from pingdata_async.tables.mapping.headers import (
    field_named,
    key_of,
    map_option,
    meaning_of,
    shown_header,
    shown_headers,
    shown_parts,
    words_of,
)
from pingdata_async.tables.mapping.street_lines import lines_as_given, plainly_joined, street_lines
from pingdata_async.tables.mapping.synonyms import Part
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind

_FIELDS_OF_WORDS: Mapping[str, str] = {Part.ADDRESS: "address", Part.STREET: "address_line_1"}

JOINED_BY = "+"

_CUTOFF = 0.5  # similarity, from 0 to 1, of a header that is suggested


def choices(given: Mapping[str, str]) -> dict[str, str]:
    """The header that the user gave for each field; "" to send nothing.

    A ConfigurationError if a field does not exist or is given twice.
    """
    chosen: dict[str, str] = {}
    for title, header in given.items():
        field = field_named(title)
        if field is None:
            raise ConfigurationError(f"--map {title}: no such field; {_nearest_fields(title)}")
        if field in chosen:
            raise ConfigurationError(f"--map {field} is given twice")
        chosen[field] = header.strip()
    return chosen


def _nearest_fields(title: str) -> str:
    meaning = meaning_of(title, frozenset())  # of a word that headers use for a field
    name = None if meaning is None else _FIELDS_OF_WORDS.get(meaning.name, meaning.name)
    return nearest_fields(title, name)


def places_of(name: str, field: str, header: str, headers: Sequence[str]) -> tuple[int, ...]:
    """The places of the columns that the user gave for a field; () if any is missing.

    The spelling of a header need not be exact. "+" joins several headers, unless one contains it.

    Raises:
        InputError: A header matches more than one column.
        ConfigurationError: Columns are joined for a field that is neither text nor a coordinate.
    """
    place = _place_of(name, field, header, headers)
    if place is not None:
        return (place,)
    pieces = header.split(JOINED_BY)
    for many in range(1, len(pieces)):
        first = JOINED_BY.join(pieces[:many]).strip()
        place = _place_of(name, field, first, headers) if first else None
        if place is None:
            continue
        rest = places_of(name, field, JOINED_BY.join(pieces[many:]).strip(), headers)
        if rest:
            if not is_text(field) and field not in COORDINATES:
                raise ConfigurationError(
                    f"{map_option(field, header)}: columns cannot be joined for {field}, which is "
                    "not text"
                )
            return (place, *rest)
    return ()


def is_text(field: str) -> bool:
    """Whether a field, or "id", is text."""
    return field == "id" or READERS[field] in (read_text, read_description)


def _place_of(name: str, field: str, header: str, headers: Sequence[str]) -> int | None:
    key = key_of(header)
    alike: tuple[Callable[[str], bool], ...] = (
        lambda each: each == header,
        lambda each: each.strip() == header,
        lambda each: key_of(each) == key != "" and JOINED_BY not in header,
    )
    for is_it in alike:
        places = [place for place, each in enumerate(headers) if is_it(each)]
        if len(places) > 1:
            raise InputError(
                f"{name}: {map_option(field, header)} may be any of "
                f"{shown_headers(headers[place] for place in places)}; rename all but one"
            )
        if places:
            return places[0]
    return None


def missing(name: str, field: str, header: str, headers: Sequence[str]) -> InputError:
    """The error for a given header that no column has, with similar ones."""
    by_key = {key_of(each): each for each in headers if each.strip()}
    near = difflib.get_close_matches(key_of(header), by_key, cutoff=_CUTOFF)
    if near:
        hint = f"did you mean {' or '.join(shown_header(by_key[key]) for key in near)}?"
    else:
        hint = f"found: {shown_headers(by_key.values())}"
    return InputError(
        f"{name} has no column {shown_header(header)}, as in {map_option(field, header)}; {hint}"
    )


_LINES = frozenset({"address", "address_line_1"})

_WEST_OR_SOUTH = {LATITUDE: {"south"}, LONGITUDE: {"w", "west"}}
"""The last words of headers whose unsigned numbers are negative, by coordinate."""


class ColumnMapping(msgspec.Struct, frozen=True):
    """Which column of an input holds which field of a location."""

    # The fields that are sent, in the order of the input's columns.
    columns: tuple[MappedColumn, ...]
    unused: tuple[str, ...]  # the headers of the columns that are not sent, in order

    @property
    def is_as_named(self) -> bool:
        """Whether the fields are exactly the headers that are names of fields.

        Rows by name can then be used as they are.
        """
        return all(column.headers == (column.field,) for column in self.columns) and not any(
            header == "id" or header in FIELDS for header in self.unused
        )

    def located(
        self,
        columns: Sequence[Sequence[Any]],
        *,
        are_texts: bool,
        noted: NotedBatch | None = None,
    ) -> Columns:
        """The fields of some rows.

        Args:
            columns: All columns of the input.
            are_texts: Whether all cells are texts, with "" for an empty one; otherwise None and NaN
                are empty as well.
            noted: Filled with what is left out of lines without a street, by field.
        """
        countries = next(
            (columns[each.places[0]] for each in self.columns if each.field == "country"), None
        )
        noted = NotedBatch() if noted is None else noted
        fields: dict[str, Sequence[Any]] = {}
        for each in self.columns:
            if each.half is None:
                fields[each.field] = _cells(each, columns, countries, noted, are_texts=are_texts)
            elif each.field not in fields:  # the other half was split with it
                cells = columns[each.places[0]]
                longitude_first = each.half != COORDINATES.index(each.field)
                fields |= _split_cells(cells, longitude_first=longitude_first)
        if any(each.parts == (Part.ONE_LINE,) for each in self.columns):
            _send_one_of_each(fields)
        return Columns(tuple(fields), list(fields.values()), are_texts=are_texts)


def _cells(
    mapped: MappedColumn,
    columns: Sequence[Sequence[Any]],
    countries: Sequence[Any] | None,
    noted: NotedBatch,
    *,
    are_texts: bool,
) -> Sequence[Any]:
    if len(mapped.places) == 1:
        cells = columns[mapped.places[0]]
        if mapped.field in COORDINATES and _is_west_or_south(mapped.field, mapped.headers[0]):
            return [west_or_south(mapped.field, cell) for cell in cells]
        return cells
    parts: list[Sequence[str]] = [
        columns[place] if are_texts else [id_text(cell) or "" for cell in columns[place]]
        for place in mapped.places
    ]
    if mapped.parts or mapped.field in _LINES:
        lines, without_street = (
            street_lines(mapped.parts, parts, countries, number_follows=mapped.number_follows)
            if mapped.parts
            else lines_as_given(parts, countries)
        )
        for place, given in without_street.items():
            noted.add(place, NotedValue(mapped.field, ValueKind.PART_OF_A_STREET, given))
        return lines
    join = joined_angle if mapped.field in COORDINATES else plainly_joined
    return list(map(join, zip(*parts, strict=True)))


@lru_cache  # called for each batch
def _is_west_or_south(field: str, header: str) -> bool:
    return not _WEST_OR_SOUTH[field].isdisjoint(words_of(header)[-1:])


def _split_cells(cells: Sequence[Any], *, longitude_first: bool) -> dict[str, Sequence[str]]:
    """The latitudes and longitudes of cells that hold both."""
    pairs = []
    for cell in map(id_text, cells):
        pair = split_pair(cell, longitude_first=longitude_first) if cell else None
        # A cell that is not a pair is noted once, as a whole.
        pairs.append(pair or (cell or "", ""))
    return dict(zip(COORDINATES, map(list, zip(*pairs, strict=True)), strict=True))


def _send_one_of_each(fields: dict[str, Sequence[Any]]) -> None:
    """Send either the one-line address or the street line of each row.

    The street line says more if the row has a city or a postal code.
    """
    addresses, lines = list(fields["address"]), list(fields["address_line_1"])
    beside = [fields[name] for name in ("city", "postal_code") if name in fields]
    for place, (address, line) in enumerate(zip(addresses, lines, strict=True)):
        if _is_given(address) and _is_given(line):
            is_whole = any(_is_given(column[place]) for column in beside)
            (addresses if is_whole else lines)[place] = ""
    fields["address"], fields["address_line_1"] = addresses, lines


def _is_given(cell: Any) -> bool:
    text = id_text(cell)
    return text is not None and text.strip() != "" and not says_nothing(text.strip())


# -- Headers to fields -----------------------------------------------------------------------


def map_columns(
    name: str,
    headers: Sequence[str],
    *,
    given: Mapping[str, str] = {},
    is_complete: bool = True,
) -> ColumnMapping:
    """Map the columns of an input to fields.

    Args:
        name: The input, for messages.
        headers: All headers, in order; blank ones have no meaning.
        given: The header of the column for a field, which takes precedence; "" to send nothing
            for the field.
        is_complete: Whether no headers may follow. If some may, the caller calls
            `check_complete()` at the end.

    Raises:
        InputError: A field may be several columns, a given header is missing, or nothing can be
            looked up; the message says what to do.
        ConfigurationError: `given` names an unknown field, or a field twice.
    """
    chosen = choices(given)
    settled: dict[str, MappedColumn] = {}
    for field, header in chosen.items():
        places = places_of(name, field, header, headers) if header else ()
        if places:
            settled[field] = MappedColumn(field, tuple(headers[place] for place in places), places)
    _split_pair(settled)
    found = unambiguous(name, headers, candidates_for(headers, settled, chosen))
    columns = sorted((*settled.values(), *found), key=lambda column: min(column.places))
    used = {place for column in columns for place in column.places}
    unused = [
        header for place, header in enumerate(headers) if place not in used and header.strip()
    ]
    if FAILURE_NOTES.issubset(unused):  # a file of failures, used as an input
        unused = [header for header in unused if header not in FAILURE_NOTES]
    mapping = ColumnMapping(tuple(columns), tuple(unused))
    if is_complete:
        check_complete(name, mapping, headers, given=given)
    return mapping


def _split_pair(settled: dict[str, MappedColumn]) -> None:
    """Split a column that the user gave for both coordinates."""
    pair = [settled[field] for field in COORDINATES if field in settled]
    if (
        len(pair) == len(COORDINATES)
        and pair[0].places == pair[1].places
        and len(pair[0].places) == 1
    ):
        for half, each in enumerate(pair):
            settled[each.field] = msgspec.structs.replace(each, half=half)


def map_more_columns(
    name: str,
    before: ColumnMapping,
    headers: Sequence[str],
    *,
    given: Mapping[str, str] = {},
) -> ColumnMapping:
    """Map again with new headers behind those of an earlier mapping.

    The arguments and errors are those of `map_columns()`. It is an error as well if an earlier
    column would change its meaning, as rows would be treated differently.
    """
    mapping = map_columns(name, headers, given=given, is_complete=False)
    after = {column.field: column for column in mapping.columns}
    for column in before.columns:
        now = after.get(column.field)
        if now is not None and (now.places == column.places or _only_adds(column, now)):
            continue
        meanings = dict.fromkeys((column.field, *_meanings_of(mapping, column.places)))
        options = " or ".join(map_option(field, column.headers[0]) for field in meanings)
        raise InputError(
            f"{name}: {shown_parts(column.headers)} was read as {column.field} before other "
            f"columns appeared; settle it with {options}"
        )
    return mapping


def _only_adds(before: MappedColumn, now: MappedColumn) -> bool:
    """Whether a line has only gained parts, which earlier rows do not have."""
    is_the_same = before.number_follows == now.number_follows or len(before.parts) <= 1
    return bool(now.parts) and is_the_same and set(before.places) < set(now.places)


def _meanings_of(mapping: ColumnMapping, places: tuple[int, ...]) -> list[str]:
    return [column.field for column in mapping.columns if column.places == places]


def check_complete(
    name: str,
    mapping: ColumnMapping,
    headers: Sequence[str],
    *,
    given: Mapping[str, str] = {},
    has_addresses: bool = False,
) -> None:
    """Check that an input lacks no column, now that all are known; if it does, an InputError.

    The arguments are those of `map_columns()`; `has_addresses` says whether some rows are plain
    addresses, without columns.
    """
    for field, header in choices(given).items():
        if header and not places_of(name, field, header, headers):
            raise missing(name, field, header, headers)
    fields = {column.field for column in mapping.columns}
    if has_addresses or not fields.isdisjoint(LOOKUP_FIELDS) or fields.issuperset(COORDINATES):
        return
    if FAILURE_NOTES.issubset(headers):
        return  # a file of failures, whose rows are refused one by one
    found = [header for header in headers if header.strip()]
    hint = ""
    if len(found) == 1 and (";" in found[0] or "\t" in found[0]):
        hint = ". Its columns must be separated by commas (by tabs in a .tsv)"
    elif any(" " in header and any(map(str.isdigit, header)) for header in found):
        hint = ". If it has no header, add one; a .txt may have an address a line instead"
    raise InputError(
        f"{name} has no column to look up. Found: {shown_headers(found)}. Needed: one of "
        f"{', '.join(LOOKUP_FIELDS)}, or latitude and longitude; name the column, "
        f"as in {map_option('address', 'Its Header')}{hint}"
    )


def why_unused(
    mapping: ColumnMapping, headers: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Why each column that is not sent is not; the arguments are those of `map_columns()`."""
    beside = frozenset(map(key_of, headers))
    columns = {column.field: shown_parts(column.headers) for column in mapping.columns}
    chosen = choices(given)
    told = {}
    for header in mapping.unused:
        meaning = meaning_of(header, beside)
        field = "" if meaning is None else _FIELDS_OF_WORDS.get(meaning.name, meaning.name)
        if not field:
            told[header] = "the header means no field of the API"
        elif chosen.get(field) == "":
            told[header] = f"--map {field}= sends nothing for the field"
        elif field in columns:
            told[header] = f"{field} is read from {columns[field]}"
        else:
            told[header] = "it makes no field by itself"
    return told


# -- The mapping, for people -----------------------------------------------------------------


def mapping_lines(
    mapping: ColumnMapping,
    samples: Mapping[str, Sequence[str]] = {},
    *,
    unused_at_most: int | None = None,
) -> list[str]:
    """The mapping as lines of text: `city <- "Town": Boston | Miami`, then unused headers.

    `samples` are values that are sent, by field. At most `unused_at_most` unused headers are
    listed.
    """
    halves = {None: "", 0: ", its first half", 1: ", its second half"}
    lines = [
        f"{column.field} <- {shown_parts(column.headers)}{halves[column.half]}"
        f"{_shown_samples(samples.get(column.field, ()))}"
        for column in mapping.columns
    ]
    if mapping.unused:
        shown = shown_headers(
            mapping.unused, len(mapping.unused) if unused_at_most is None else unused_at_most
        )
        lines.append(f"not used: {shown}")
    return lines


def _shown_samples(samples: Sequence[str]) -> str:
    return f": {' | '.join(samples)}" if samples else ""
