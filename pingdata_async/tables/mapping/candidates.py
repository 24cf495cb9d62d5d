"""Which fields each column may hold, by its header and its neighbours (pure)."""

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
    ADDRESS,
    ANGLE_PARTS,
    BELOW_DEGREES,
    CITY,
    HOUSE_NUMBER,
    LAT_LONG,
    LINE,
    LONG_LAT,
    NUMBER_FOLLOWS,
    NUMBER_SUFFIX,
    ONE_LINE,
    PARTS_OF_STREETS,
    POST_DIRECTION,
    PRE_DIRECTION,
    SECOND_LINE,
    STREET,
    STREET_KIND,
    STREET_PARTS,
    SUB_BUILDING,
    TAIL,
    TAILS,
    THIRD_LINE,
    UNIT,
    WORDS,
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
_BESIDE_NAMES_OF_STREETS = (NUMBER_SUFFIX, PRE_DIRECTION, STREET_KIND, POST_DIRECTION)


class Candidate(msgspec.Struct, frozen=True):
    """A column, or several, that may be a field.

    Attributes:
        name: Of the field, or what else `WORDS` names while that is not known.
        headers: As they stand in the input.
        places: Theirs among the columns, from 0.
        rank: Of two for the same field, the one with the lower rank is taken.
        half: 0 or 1 for the first or second coordinate of two in the column; None for all of it.
        parts: What each column is a part of an address as; empty where that does not matter.
        number_follows: Whether a house number stands behind its street, by the language of the
            headers.
    """

    name: str
    headers: tuple[str, ...]
    places: tuple[int, ...]
    rank: int = OWN_NAME
    half: int | None = None
    parts: tuple[str, ...] = ()
    number_follows: bool = False


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
    """What "St" and "Building Number" mean where house numbers and streets are."""
    streets = by_name.get(STREET, [])
    if streets and HOUSE_NUMBER not in by_name and _has_names_of_streets(by_name, beside):
        _move(by_name, "id", HOUSE_NUMBER, _BUILDING_NUMBERS)
    if HOUSE_NUMBER not in by_name:
        return
    if not streets:
        _move(by_name, "state", STREET, _ST)
    elif len(by_name.get("state", [])) > 1 and STREET_KIND not in by_name:
        _move(by_name, "state", STREET_KIND, _ST)


def _has_names_of_streets(by_name: _ByName, beside: frozenset[str]) -> bool:
    """Whether a "Building Number" is that of a street, and no number in a list of buildings."""
    return (
        not _ROYAL_MAIL.isdisjoint(beside)
        or any(part in by_name for part in _BESIDE_NAMES_OF_STREETS)
        or any("name" in key_of(street.headers[0]) for street in by_name[STREET])
    )


def _move(by_name: _ByName, name: str, to: str, keys: frozenset[str]) -> None:
    """Take candidates with such a header for something else."""
    moved = [each for each in by_name.get(name, []) if key_of(each.headers[0]) in keys]
    if moved:
        by_name[name] = [each for each in by_name[name] if each not in moved]
        by_name.setdefault(to, []).extend(_renamed(each, to) for each in moved)


def _settle_streets(by_name: _ByName, *, number_follows: bool) -> None:
    """Street lines of what stands in columns of their own.

    A line that is whole is better; a house number beside one is for rows where it has none.
    """
    found = {part: _best(by_name.pop(part, [])) for part in STREET_PARTS}
    _settle_names_of_streets(found)
    streets = found[STREET]
    whole = by_name.setdefault("address_line_1", [])
    is_made = any(found[part] for part in STREET_PARTS if part not in (STREET, UNIT))
    beside_whole = (*(() if streets else (HOUSE_NUMBER, NUMBER_SUFFIX)), UNIT, SUB_BUILDING)
    lines = [
        line
        for each in whole
        for line in _joined(found, beside_whole, LINE, [each], rank=each.rank)
    ]
    # A street by itself is a line; made of parts it is none where there is one that is whole.
    rank = OWN_NAME + 1 + (len(WORDS["address_line_1"]) if is_made else 0)
    lines += _joined(found, STREET_PARTS, STREET, streets, rank=rank)
    by_name["address_line_1"] = [
        msgspec.structs.replace(line, number_follows=number_follows and bool(line.parts))
        for line in lines
    ]


def _settle_names_of_streets(found: _ByName) -> None:
    """A "Street" beside a "Street Name" and its kind is made of them."""
    if not any(found[part] for part in PARTS_OF_STREETS):
        return
    streets = found[STREET]
    whole = [each for each in streets if "name" not in key_of(each.headers[0])]
    if 0 < len(whole) < len(streets):
        found[STREET] = whole
        for part in PARTS_OF_STREETS:
            found[part] = []


def _joined(
    found: _ByName, parts: Sequence[str], main: str, lines: Sequence[Candidate], *, rank: int
) -> Iterator[Candidate]:
    """Lines with the parts beside them.

    Where a part is there twice, there are as many lines: which one is meant is not guessed.
    """
    if not lines:
        return
    several = {part: found[part] for part in parts if found.get(part)} | {main: list(lines)}
    in_order = [main if part == STREET else part for part in STREET_PARTS]
    in_order = [part for part in in_order if part in several]
    for turn in range(max(map(len, several.values()))):
        chosen = [several[part][min(turn, len(several[part]) - 1)] for part in in_order]
        if len(chosen) == 1:
            yield msgspec.structs.replace(chosen[0], name="address_line_1", rank=rank)
            continue
        yield Candidate(
            "address_line_1",
            tuple(each.headers[0] for each in chosen),
            tuple(each.places[0] for each in chosen),
            rank,
            parts=tuple(in_order),
        )


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    first = min((candidate.rank for candidate in candidates), default=OWN_NAME)
    return [candidate for candidate in candidates if candidate.rank == first]


def _settle_third_lines(by_name: _ByName) -> None:
    """The API has two lines: a third one goes behind the second."""
    thirds = by_name.pop(THIRD_LINE, [])
    if not thirds:
        return
    seconds = _best(by_name.get("address_line_2", []))
    if not seconds:
        by_name["address_line_2"] = [_renamed(each, "address_line_2") for each in thirds]
        return
    by_name["address_line_2"] = [
        _together("address_line_2", (second, third), (LINE, SECOND_LINE), rank=second.rank)
        for second in seconds
        for third in thirds
    ]


def _settle_tails(
    by_name: _ByName, given: Mapping[str, Candidate], closed: Collection[str]
) -> None:
    """A "City, ST Zip" completes the street line to a one-line address."""
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
    cities = [] if CITY in TAILS[name] or CITY in closed else _best(by_name.get(CITY, []))
    by_name["address"] = [
        _together(
            "address",
            (line, *seconds[:1], *cities[:1], tail),
            (LINE, *[SECOND_LINE] * bool(seconds), *[CITY] * bool(cities), TAIL),
            rank=OWN_NAME + 1,
        )
        for line in lines
        for tail in tails[name]
    ]
    taken = ["address_line_1", *["address_line_2"] * bool(seconds), *[CITY] * bool(cities)]
    for field in taken:
        by_name[field] = []


def _together(
    name: str, candidates: Sequence[Candidate], parts: Sequence[str], *, rank: int
) -> Candidate:
    """A field that is made of several; those that are made of parts keep them."""
    return Candidate(
        name,
        tuple(header for each in candidates for header in each.headers),
        tuple(place for each in candidates for place in each.places),
        rank,
        parts=tuple(
            part
            for each, alone in zip(candidates, parts, strict=True)
            for part in each.parts or (alone,)
        ),
        number_follows=any(each.number_follows for each in candidates),
    )


def _settle_addresses(by_name: _ByName, given: Mapping[str, Candidate]) -> None:
    """An "Address" beside a city, a state or a postal code is the street line."""
    beside = [
        *(given[field] for field in _ADDRESS_PARTS if field in given),
        *(each for field in (*_ADDRESS_PARTS, *TAILS) for each in by_name.get(field, [])),
    ]
    addresses = by_name.pop(ADDRESS, [])
    # Spelled as the API does, it is the API's own; but not among words of other people, for
    # a table of "address", "city" and "zip" has its street there.
    if any(header.strip() != each.name for each in beside for header in each.headers):
        addresses += [each for each in by_name.get("address", []) if each.rank == OWN_NAME]
        by_name["address"] = [each for each in by_name.get("address", []) if each.rank > OWN_NAME]
    # Beside "Address 1" it is all lines in one, as in the registers of energy performance.
    is_numbered = any(
        key_of(each.headers[0]).endswith("1") for each in by_name.get("address_line_1", [])
    )
    field = "address_line_1" if beside and not is_numbered else "address"
    by_name.setdefault(field, []).extend(
        msgspec.structs.replace(each, name=field, rank=OWN_NAME + 1) for each in addresses
    )


def _settle_one_lines(by_name: _ByName, given: Mapping[str, Candidate]) -> None:
    """Of a one-line address and its parts, one is sent; but for the API's own names."""
    if by_name.get("address_line_1") or "address_line_1" in given:
        by_name["address"] = [
            each if each.parts or each.rank == OWN_NAME else _as_one_line(each)
            for each in by_name.get("address", [])
        ]


def _as_one_line(candidate: Candidate) -> Candidate:
    return msgspec.structs.replace(candidate, parts=(ONE_LINE,))


def _settle_angles(by_name: _ByName, beside: frozenset[str]) -> None:
    """Degrees beside minutes are a part of a coordinate, without them all of it.

    A coordinate in one column is better than its parts. It is never sent without its hemisphere,
    nor degrees without their minutes: beside a "Min" that may be of either, they are not sent.
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
            _put_together(field, chosen, each.rank)
            for each in whole
            for chosen in _choices([[each], hemispheres])
        ]
        if minutes and degrees:
            rank = OWN_NAME + 1 + len(WORDS[field])
            parts = [degrees, minutes, seconds, hemispheres]
            found += [_put_together(field, chosen, rank) for chosen in _choices(parts)]
        if found:
            by_name[field] = found


def _choices(parts: Sequence[Sequence[Candidate]]) -> Iterator[list[Candidate]]:
    """One candidate for each part that there is.

    Where a part is there twice, there are as many choices: which one is meant is not guessed.
    """
    for turn in range(max(map(len, parts))):
        yield [each[min(turn, len(each) - 1)] for each in parts if each]


def _put_together(name: str, parts: Sequence[Candidate], rank: int) -> Candidate:
    return Candidate(
        name,
        tuple(header for part in parts for header in part.headers),
        tuple(place for part in parts for place in part.places),
        rank,
    )


def _settle_pairs(by_name: _ByName, closed: Collection[str]) -> None:
    """A "Lat/Long" is split, unless there is a column for either."""
    pairs = [(0, pair) for pair in by_name.pop(LAT_LONG, [])]
    pairs += [(1, pair) for pair in by_name.pop(LONG_LAT, [])]
    if any(by_name.get(field) or field in closed for field in COORDINATES):
        return
    for place, field in enumerate(COORDINATES):
        by_name[field] = [
            msgspec.structs.replace(pair, name=field, half=abs(place - first))
            for first, pair in pairs
        ]


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
            best.sort(key=lambda candidate: min(candidate.places))
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
    # An option has to name those that can be told apart by their headers. None is put first: what
    # is typed without a thought may be the address of somebody's office.
    apart = [
        candidate
        for candidate in candidates
        if all(headers.count(header) == 1 for header in candidate.headers)
    ]
    options = " or ".join(
        map_option(field, "+".join(candidate.headers)) for candidate in apart or candidates
    )
    return f"{field} may be {shown}; say which with {options}"
