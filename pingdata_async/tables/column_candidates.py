"""What each column of an input may be, by what its header and those beside it say (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from pingdata_async.coordinates import COORDINATES
from pingdata_async.exceptions import InputError
from pingdata_async.locations import FIELDS
from pingdata_async.tables.header_words import (
    ADDRESS,
    HOUSE_NUMBER,
    LAT_LONG,
    STREET,
    STREET_PARTS,
    WORDS,
)
from pingdata_async.tables.headers import OWN_NAME, field_named, key_of, meaning_of
from pingdata_async.tables.shown_headers import map_option, shown_parts

_ADDRESS_PARTS = ("city", "state", "postal_code")


class Candidate(msgspec.Struct, frozen=True):
    """A column, or several, that may be a field.

    Attributes:
        name: Of the field, or what else `WORDS` names while that is not known.
        headers: As they stand in the input.
        places: Theirs among the columns, from 0.
        rank: Of two for the same field, the one with the lower rank is taken.
        half: 0 or 1 for the first or second coordinate of two in the column; None for all of it.
    """

    name: str
    headers: tuple[str, ...]
    places: tuple[int, ...]
    rank: int = OWN_NAME
    half: int | None = None


_ByName = dict[str, list[Candidate]]


def candidates_for(
    headers: Sequence[str], given: Mapping[str, Candidate], closed: Collection[str]
) -> list[Candidate]:
    """What the columns that were not given may be.

    Args:
        headers: Of all columns, in order.
        given: By field, those that were given.
        closed: Fields for which nothing is looked for any more; those of `given` and others.
    """
    taken = {place for candidate in given.values() for place in candidate.places}
    beside = frozenset(map(key_of, headers))
    spelled = {header.strip() for header in headers}
    by_name: _ByName = {}
    for place, header in enumerate(headers):
        meaning = None if place in taken else meaning_of(header, beside)
        if meaning is not None:
            # "City" beside the API's own "city" is the same word, and may be meant as well.
            is_same = meaning.name in spelled and field_named(header) == meaning.name
            rank = OWN_NAME if is_same else meaning.rank
            candidate = Candidate(meaning.name, (header,), (place,), rank)
            by_name.setdefault(meaning.name, []).append(candidate)
    _settle_streets(by_name)
    _settle_addresses(by_name, given)
    _settle_pairs(by_name, closed)
    return [
        candidate
        for name, candidates in by_name.items()
        if (name == "id" or name in FIELDS) and name not in closed
        for candidate in candidates
    ]


def _settle_streets(by_name: _ByName) -> None:
    """A "Street" is the name of one beside a house number, else the whole line."""
    streets = by_name.pop(STREET, [])
    if not streets:
        return
    lines = by_name.setdefault("address_line_1", [])
    if HOUSE_NUMBER not in by_name:
        lines += [_renamed(street, "address_line_1") for street in streets]
        return
    parts = [streets if part == STREET else by_name.get(part, []) for part in STREET_PARTS]
    # Where a part is there twice, there are as many lines: which one is meant is not guessed.
    for turn in range(max(map(len, parts))):
        chosen = [each[min(turn, len(each) - 1)] for each in parts if each]
        lines.append(
            Candidate(
                "address_line_1",
                tuple(part.headers[0] for part in chosen),
                tuple(part.places[0] for part in chosen),
                OWN_NAME + 1 + len(WORDS["address_line_1"]),  # a line that is whole is better
            )
        )


def _settle_addresses(by_name: _ByName, given: Mapping[str, Candidate]) -> None:
    """An "Address" beside a city, a state or a postal code is the street line."""
    beside = [
        *(given[field] for field in _ADDRESS_PARTS if field in given),
        *(each for field in _ADDRESS_PARTS for each in by_name.get(field, [])),
    ]
    addresses = by_name.pop(ADDRESS, [])
    # Spelled as the API does, it is the API's own; but not among words of other people, for
    # a table of "address", "city" and "zip" has its street there.
    if any(header.strip() != each.name for each in beside for header in each.headers):
        addresses += [each for each in by_name.get("address", []) if each.rank == OWN_NAME]
        by_name["address"] = [each for each in by_name.get("address", []) if each.rank > OWN_NAME]
    field = "address_line_1" if beside else "address"
    by_name.setdefault(field, []).extend(
        msgspec.structs.replace(each, name=field, rank=OWN_NAME + 1) for each in addresses
    )


def _settle_pairs(by_name: _ByName, closed: Collection[str]) -> None:
    """A "Lat/Long" is split, unless there is a column for either."""
    pairs = by_name.pop(LAT_LONG, [])
    if any(by_name.get(field) or field in closed for field in COORDINATES):
        return
    for half, field in enumerate(COORDINATES):
        by_name[field] = [msgspec.structs.replace(pair, name=field, half=half) for pair in pairs]


def _renamed(candidate: Candidate, field: str) -> Candidate:
    return msgspec.structs.replace(candidate, name=field)


def unambiguous(
    name: str, headers: Sequence[str], candidates: Iterable[Candidate]
) -> list[Candidate]:
    """The candidate of the first rank for each field.

    The API's own name and the first rank of what others call it say the same.

    Args:
        name: The input, for messages.
        headers: Of all columns.
        candidates: For any fields.

    Raises:
        InputError: When there are several; for all such fields, with what settles it.
    """
    by_field: _ByName = {}
    for candidate in candidates:
        by_field.setdefault(candidate.name, []).append(candidate)
    found: list[Candidate] = []
    doubts: list[str] = []
    for field, several in by_field.items():
        first = min(candidate.rank for candidate in several)
        same = max(first, OWN_NAME + 1)
        best = [candidate for candidate in several if candidate.rank <= same]
        if len(best) == 1:
            found += best
        else:
            doubts.append(_doubt(field, best, headers))
    if doubts:
        raise InputError(f"{name}: {'; '.join(doubts)}")
    return found


def _doubt(field: str, candidates: Sequence[Candidate], headers: Sequence[str]) -> str:
    """What is said of columns that may all be a field, with the option that settles it."""
    if len({candidate.headers for candidate in candidates}) == 1:
        return (
            f"{len(candidates)} columns are headed {shown_parts(candidates[0].headers)}, for "
            f"{field}; rename all but one, or send none with {map_option(field, '')}"
        )
    shown = " or ".join(shown_parts(candidate.headers) for candidate in candidates)
    if any(len(candidate.headers) > 1 for candidate in candidates):
        return f"{field} may be {shown}; rename the column that is no part of it"
    # An option has to name one that can be told apart by its header. None is put first: what
    # is typed without a thought may be the address of somebody's office.
    apart = [candidate for candidate in candidates if headers.count(candidate.headers[0]) == 1]
    options = " or ".join(
        map_option(field, candidate.headers[0]) for candidate in apart or candidates
    )
    return f"{field} may be {shown}; say which with {options}"
