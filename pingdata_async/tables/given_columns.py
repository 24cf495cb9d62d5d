"""What the user says of columns: by field, the header of the column that holds it (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from pingdata_async.coordinates import COORDINATES
from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations import FIELDS, READERS, read_description, read_text
from pingdata_async.tables.header_words import ADDRESS, STREET
from pingdata_async.tables.headers import field_named, key_of, meaning_of
from pingdata_async.tables.shown_headers import map_option, shown_header, shown_headers

_FIELDS_OF_WORDS = {ADDRESS: "address", STREET: "address_line_1"}

JOINED_BY = "+"

_CUTOFF = 0.5  # of likeness, from 0 to 1, for a name that may have been meant


def choices(given: Mapping[str, str], id_column: str | None) -> dict[str, str]:
    """By field, the header that was given for it; "" for none.

    Raises:
        ConfigurationError: When a field does not exist, or is given twice.
    """
    chosen: dict[str, str] = {}
    for title, header in given.items():
        field = field_named(title)
        if field is None:
            raise ConfigurationError(f"--map {title}: no such field; {nearest_fields(title)}")
        if field in chosen:
            raise ConfigurationError(f"--map {field} is given twice")
        chosen[field] = header.strip()
    if id_column is not None:
        id_column = id_column.strip()
        if chosen.setdefault("id", id_column) != id_column:
            raise ConfigurationError("--id-column and --map id name two columns; give one of them")
    return chosen


def nearest_fields(title: str) -> str:
    """The fields that a name may have been meant for, as the end of a sentence."""
    meaning = meaning_of(title, frozenset())  # "zip" is a word for one
    name = "" if meaning is None else _FIELDS_OF_WORDS.get(meaning.name, meaning.name)
    fields = ["id", *sorted(FIELDS)]
    near = [name] if name in fields else []
    near = near or difflib.get_close_matches(title.strip().lower(), fields, cutoff=_CUTOFF)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"


def places_of(name: str, field: str, header: str, headers: Sequence[str]) -> tuple[int, ...]:
    """The places of what was given for a field, among the headers of an input.

    A header may be given as it stands there, or written in another way. Several are joined by
    "+"; one that has a "+" itself is taken as it stands.

    Returns:
        Nothing where it is not there, or not all of it.

    Raises:
        InputError: When a header is there more than once.
        ConfigurationError: When columns are joined for a field that is neither a text nor a
            coordinate.
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
                    f"{map_option(field, header)}: {field} is no text, so its columns cannot be "
                    "joined"
                )
            return (place, *rest)
    return ()


def is_text(field: str) -> bool:
    """Whether a field, or "id", is a text."""
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
    """The error that says that a given header is not there, and which was meant perhaps."""
    by_key = {key_of(each): each for each in headers if each.strip()}
    near = difflib.get_close_matches(key_of(header), by_key, cutoff=_CUTOFF)
    if near:
        hint = f"did you mean {' or '.join(shown_header(by_key[key]) for key in near)}?"
    else:
        hint = f"found: {shown_headers(by_key.values())}"
    return InputError(
        f"{name} has no column {shown_header(header)}, as {map_option(field, header)} says; {hint}"
    )
