"""Which fields a column may hold, by its header and those beside it (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import FIELDS
from pingdata_async.tables.mapping.headers import (
    OWN_NAME,
    field_named,
    key_of,
    map_option,
    meaning_of,
    shown_parts,
)
from pingdata_async.tables.mapping.synonyms import (
    ANGLE_PARTS,
    BELOW_DEGREES,
    NUMBER_FOLLOWS,
    PARTS_OF_STREETS,
    STREET_PARTS,
    TAILS,
    WORDS,
    Part,
)

_ADDRESS_PARTS = ("city", "state", "postal_code")
_ST = frozenset({"st"})
_BUILDING_NUMBERS = frozenset(
    f"{building}{number}"
    for building in ("building", "bldg", "bldng", "bld")
    for number in ("number", "no", "num", "nbr")
)
_ROYAL_MAIL = frozenset(
    {
        *("posttown", "postcode", "thoroughfare", "thoroughfarename", "dependentlocality"),
        *("dependentthoroughfare", "subbuildingname", "saon", "uprn"),
    }
)
_BESIDE_NAMES_OF_STREETS = (
    Part.NUMBER_SUFFIX,
    Part.PRE_DIRECTION,
    Part.STREET_KIND,
    Part.POST_DIRECTION,
)


class MappedColumn(msgspec.Struct, frozen=True):
    """A field, and the column or columns that hold it, or may hold it.

    As long as the field is not known, it is another key of `WORDS`.
    """

    field: str  # "id", or one of `locations.FIELDS`
    headers: tuple[str, ...]  # the header of each column, in the order in which they are joined
    places: tuple[int, ...]  # the place of each column in the input, from 0
    # 0 or 1 for the first or second coordinate in a column of pairs ("Lat/Long"); None for all
    # other fields.
    half: int | None = None
    # The part of an address that each column holds; empty if that does not matter.
    parts: tuple[str, ...] = ()
    # Whether the house number stands behind the street in rows without a country, by the language
    # of the headers.
    number_follows: bool = False
    rank: int = OWN_NAME  # of several for a field, the lowest rank wins


_ByName = dict[str, list[MappedColumn]]  # by field, or other key of `WORDS`


def candidates_for(
    headers: Sequence[str], given: Mapping[str, MappedColumn], closed: Collection[str]
) -> list[MappedColumn]:
    """The candidates for all columns that the user did not map.

    Args:
        headers: The headers of all columns.
        given: The columns that the user mapped, by field.
        closed: The fields that the user mapped to columns, or to nothing.
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
            candidate = MappedColumn(meaning.name, (header,), (place,), rank=rank)
            by_name.setdefault(meaning.name, []).append(candidate)
    _settle_short_words(by_name, beside)
    _settle_addresses(by_name, given)
    _settle_streets(by_name, number_follows=not NUMBER_FOLLOWS.isdisjoint(beside))
    _settle_third_lines(by_name)
    _settle_tails(by_name, given, closed)
    _settle_one_lines(by_name, given)
    _settle_angles(by_name, beside)
    _settle_pairs(by_name, closed)
    return [
        candidate
        for name, candidates in by_name.items()
        if (name == "id" or name in FIELDS) and name not in closed
        for candidate in candidates
    ]


def _settle_short_words(by_name: _ByName, beside: frozenset[str]) -> None:
    """Settle what "St" and "Building Number" mean beside house numbers and streets."""
    streets = by_name.get(Part.STREET, [])
    if streets and Part.HOUSE_NUMBER not in by_name and _has_names_of_streets(by_name, beside):
        _move(by_name, "id", Part.HOUSE_NUMBER, _BUILDING_NUMBERS)
    if Part.HOUSE_NUMBER not in by_name:
        return
    if not streets:
        _move(by_name, "state", Part.STREET, _ST)
    elif len(by_name.get("state", [])) > 1 and Part.STREET_KIND not in by_name:
        _move(by_name, "state", Part.STREET_KIND, _ST)


def _has_names_of_streets(by_name: _ByName, beside: frozenset[str]) -> bool:
    """Whether a "Building Number" is a house number, not a number in a list of buildings."""
    return (
        not _ROYAL_MAIL.isdisjoint(beside)
        or any(part in by_name for part in _BESIDE_NAMES_OF_STREETS)
        or any("name" in key_of(street.headers[0]) for street in by_name[Part.STREET])
    )


def _move(by_name: _ByName, name: str, to: str, keys: frozenset[str]) -> None:
    """Give candidates with one of these keys another meaning."""
    moved = [each for each in by_name.get(name, []) if key_of(each.headers[0]) in keys]
    if moved:
        by_name[name] = [each for each in by_name[name] if each not in moved]
        by_name.setdefault(to, []).extend(_renamed(each, to) for each in moved)


def _settle_streets(by_name: _ByName, *, number_follows: bool) -> None:
    """Make street lines of the columns that hold parts of them.

    A whole line is better; a house number beside one is for rows that have none in the line.
    """
    found: _ByName = {part: _best(by_name.pop(part, [])) for part in STREET_PARTS}
    _settle_names_of_streets(found)
    streets = found[Part.STREET]
    whole = by_name.setdefault("address_line_1", [])
    is_made = any(found[part] for part in STREET_PARTS if part not in {Part.STREET, Part.UNIT})
    beside_whole = (
        *(() if streets else (Part.HOUSE_NUMBER, Part.NUMBER_SUFFIX)),
        Part.UNIT,
        Part.SUB_BUILDING,
    )
    lines = [
        line
        for each in whole
        for line in _joined(found, beside_whole, Part.LINE, [each], rank=each.rank)
    ]
    # A street alone is a line; one that is made of parts yields to a whole line.
    rank = OWN_NAME + 1 + (len(WORDS["address_line_1"]) if is_made else 0)
    lines += _joined(found, STREET_PARTS, Part.STREET, streets, rank=rank)
    by_name["address_line_1"] = [
        msgspec.structs.replace(line, number_follows=number_follows and bool(line.parts))
        for line in lines
    ]


def _settle_names_of_streets(found: _ByName) -> None:
    """Take a "Street" beside a "Street Name" and its type for the whole of them."""
    if not any(found[part] for part in PARTS_OF_STREETS):
        return
    streets = found[Part.STREET]
    whole = [each for each in streets if "name" not in key_of(each.headers[0])]
    if 0 < len(whole) < len(streets):
        found[Part.STREET] = whole
        for part in PARTS_OF_STREETS:
            found[part] = []


def _joined(
    found: _ByName, parts: Sequence[str], main: str, lines: Sequence[MappedColumn], *, rank: int
) -> Iterator[MappedColumn]:
    """Join lines with the parts beside them.

    If there are two columns for a part, there are two lines: the user has to choose.
    """
    if not lines:
        return
    several = {part: found[part] for part in parts if found.get(part)} | {main: list(lines)}
    in_order = [main if part == Part.STREET else part for part in STREET_PARTS]
    in_order = [part for part in in_order if part in several]
    for turn in range(max(map(len, several.values()))):
        chosen = [several[part][min(turn, len(several[part]) - 1)] for part in in_order]
        if len(chosen) == 1:
            yield msgspec.structs.replace(chosen[0], field="address_line_1", rank=rank)
            continue
        yield MappedColumn(
            "address_line_1",
            tuple(each.headers[0] for each in chosen),
            tuple(each.places[0] for each in chosen),
            rank=rank,
            parts=tuple(in_order),
        )


def _best(candidates: Sequence[MappedColumn]) -> list[MappedColumn]:
    first = min((candidate.rank for candidate in candidates), default=OWN_NAME)
    return [candidate for candidate in candidates if candidate.rank == first]


def _settle_third_lines(by_name: _ByName) -> None:
    """Join a third line to the second, as the API has only two."""
    thirds = by_name.pop(Part.THIRD_LINE, [])
    if not thirds:
        return
    seconds = _best(by_name.get("address_line_2", []))
    if not seconds:
        by_name["address_line_2"] = [_renamed(each, "address_line_2") for each in thirds]
        return
    by_name["address_line_2"] = [
        _together(
            "address_line_2", (second, third), (Part.LINE, Part.SECOND_LINE), rank=second.rank
        )
        for second in seconds
        for third in thirds
    ]


def _settle_tails(
    by_name: _ByName, given: Mapping[str, MappedColumn], closed: Collection[str]
) -> None:
    """Complete the street line with a "City, ST Zip" to a one-line address."""
    tails = {name: by_name.pop(name, []) for name in TAILS}
    lines = _best(by_name.get("address_line_1", []))
    if not lines or "address_line_1" in closed or "address" in closed or by_name.get("address"):
        return
    known = {*given, *(name for name, each in by_name.items() if each)}
    name = max(
        (name for name, fields in TAILS.items() if tails[name] and not fields <= known),
        key=lambda name: len(TAILS[name]),
        default=None,
    )
    if name is None:
        return
    seconds = [] if "address_line_2" in closed else _best(by_name.get("address_line_2", []))
    cities = (
        [] if Part.CITY in TAILS[name] or Part.CITY in closed else _best(by_name.get(Part.CITY, []))
    )
    by_name["address"] = [
        _together(
            "address",
            (line, *seconds[:1], *cities[:1], tail),
            (
                Part.LINE,
                *[Part.SECOND_LINE] * bool(seconds),
                *[Part.CITY] * bool(cities),
                Part.TAIL,
            ),
            rank=OWN_NAME + 1,
        )
        for line in lines
        for tail in tails[name]
    ]
    taken = ["address_line_1", *["address_line_2"] * bool(seconds), *[Part.CITY] * bool(cities)]
    for field in taken:
        by_name[field] = []


def _together(
    field: str, candidates: Sequence[MappedColumn], parts: Sequence[str] = (), *, rank: int
) -> MappedColumn:
    """A field that several columns make up; a candidate with parts of its own keeps them."""
    return MappedColumn(
        field,
        tuple(header for each in candidates for header in each.headers),
        tuple(place for each in candidates for place in each.places),
        rank=rank,
        parts=tuple(
            part
            for each, alone in zip(candidates, parts, strict=False)
            for part in each.parts or (alone,)
        ),
        number_follows=any(each.number_follows for each in candidates),
    )


def _settle_addresses(by_name: _ByName, given: Mapping[str, MappedColumn]) -> None:
    """Take an "Address" beside a city, a state or a postal code for the street line."""
    beside = [
        *(given[field] for field in _ADDRESS_PARTS if field in given),
        *(each for field in (*_ADDRESS_PARTS, *TAILS) for each in by_name.get(field, [])),
    ]
    addresses = by_name.pop(Part.ADDRESS, [])
    # Beside the API's own names, "address" is the API's own; but in a table with "address", "city"
    # and "zip", it is the street.
    if any(header.strip() != each.field for each in beside for header in each.headers):
        addresses += [each for each in by_name.get("address", []) if each.rank == OWN_NAME]
        by_name["address"] = [each for each in by_name.get("address", []) if each.rank > OWN_NAME]
    # Beside "Address 1" it is the whole address, as in registers of energy performance.
    is_numbered = any(
        key_of(each.headers[0]).endswith("1") for each in by_name.get("address_line_1", [])
    )
    field = "address_line_1" if beside and not is_numbered else "address"
    by_name.setdefault(field, []).extend(
        msgspec.structs.replace(each, field=field, rank=OWN_NAME + 1) for each in addresses
    )


def _settle_one_lines(by_name: _ByName, given: Mapping[str, MappedColumn]) -> None:
    """Mark one-line addresses beside street lines, of which each row sends only one.

    The API's own names are both sent.
    """
    if by_name.get("address_line_1") or "address_line_1" in given:
        by_name["address"] = [
            each
            if each.parts or each.rank == OWN_NAME
            else msgspec.structs.replace(each, parts=(Part.ONE_LINE,))
            for each in by_name.get("address", [])
        ]


def _settle_angles(by_name: _ByName, beside: frozenset[str]) -> None:
    """Join degrees, minutes, seconds and hemisphere; degrees alone are the coordinate.

    A coordinate in one column is better than its parts. None is sent without its hemisphere, nor
    degrees without their minutes: beside a "Min" that may belong to either, neither is sent.
    """
    for field, names in ANGLE_PARTS.items():
        degrees, minutes, seconds, hemispheres = (by_name.pop(name, []) for name in names)
        whole = by_name.pop(field, [])
        if not minutes and not seconds:
            if BELOW_DEGREES.isdisjoint(beside):
                whole += [_renamed(each, field) for each in degrees]
            degrees = []
        elif not degrees:
            whole, degrees = [], whole
        found = [
            _together(field, chosen, rank=each.rank)
            for each in whole
            for chosen in _choices([[each], hemispheres])
        ]
        if minutes and degrees:
            rank = OWN_NAME + 1 + len(WORDS[field])
            parts = [degrees, minutes, seconds, hemispheres]
            found += [_together(field, chosen, rank=rank) for chosen in _choices(parts)]
        if found:
            by_name[field] = found


def _choices(parts: Sequence[Sequence[MappedColumn]]) -> Iterator[list[MappedColumn]]:
    """One candidate for each part; if there are two for a part, two choices."""
    for turn in range(max(map(len, parts))):
        yield [each[min(turn, len(each) - 1)] for each in parts if each]


def _settle_pairs(by_name: _ByName, closed: Collection[str]) -> None:
    """Split a "Lat/Long", unless either coordinate has a column."""
    pairs = [(0, pair) for pair in by_name.pop(Part.LAT_LONG, [])]
    pairs += [(1, pair) for pair in by_name.pop(Part.LONG_LAT, [])]
    if any(by_name.get(field) or field in closed for field in COORDINATES):
        return
    for place, field in enumerate(COORDINATES):
        by_name[field] = [
            msgspec.structs.replace(pair, field=field, half=abs(place - first))
            for first, pair in pairs
        ]


def _renamed(candidate: MappedColumn, field: str) -> MappedColumn:
    return msgspec.structs.replace(candidate, field=field)


def unambiguous(
    name: str, headers: Sequence[str], candidates: Iterable[MappedColumn]
) -> list[MappedColumn]:
    """The candidate with the lowest rank for each field.

    The API's own name and the first rank of other words count as equal. If a field has several, the
    InputError names them and the options that settle it.
    """
    by_field: _ByName = {}
    for candidate in candidates:
        by_field.setdefault(candidate.field, []).append(candidate)
    found: list[MappedColumn] = []
    doubts: list[str] = []
    for field, several in by_field.items():
        first = min(candidate.rank for candidate in several)
        same = max(first, OWN_NAME + 1)
        best = [candidate for candidate in several if candidate.rank <= same]
        if len(best) == 1:
            found += best
        else:
            best.sort(key=lambda candidate: min(candidate.places))
            doubts.append(_doubt(field, best, headers))
    if doubts:
        raise InputError(f"{name}: {'; '.join(doubts)}")
    return found


def _doubt(field: str, candidates: Sequence[MappedColumn], headers: Sequence[str]) -> str:
    """The message about columns that may all be a field, with the options that settle it."""
    if len({candidate.headers for candidate in candidates}) == 1:
        return (
            f"{len(candidates)} columns for {field} have the header "
            f"{shown_parts(candidates[0].headers)}; rename all but one, or send none with "
            f"{map_option(field, '')}"
        )
    shown = " or ".join(shown_parts(candidate.headers) for candidate in candidates)
    # Offer only columns that their headers tell apart. None is recommended: typed without thought,
    # it may be the address of an office.
    apart = [
        candidate
        for candidate in candidates
        if all(headers.count(header) == 1 for header in candidate.headers)
    ]
    options = " or ".join(
        map_option(field, "+".join(candidate.headers)) for candidate in apart or candidates
    )
    return f"{field} may be {shown}; choose with {options}"
