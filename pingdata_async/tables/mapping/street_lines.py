"""Street lines joined from columns, in the order of the country (pure).

The meaning of a column decides its place in the line, not its position in the table. A part that
the street's own column repeats is not added twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from pingdata_async.locations.words import country_of
from pingdata_async.tables.mapping.synonyms import STREET_PARTS, Part

STREETS_REMEMBERED = 2**12
"""Registers are sorted by street; few hold more of them in a batch."""

_WHERE_THE_NUMBER_FOLLOWS = """
AL AR AT BA BE BG BO BR BY CH CL CO CR CU CY CZ DE DK DO EC EE ES FI GR GT HN HR HU IS IT LI LT LV
MD ME MK MX NI NL NO PA PE PL PT PY RO RS RU SE SI SK SM SV TR UA UY VA VE XK
"""
_WHERE_THE_KIND_LEADS = """
AR BO BR CL CO CR CU DO EC ES FR GT HN IT MC MX NI PA PE PL PT PY RO SM SV UY VE
"""
_KINDS_OF_STREETS = """
alley aly ave avenue av blvd boulevard cir circle court crescent ct dr drive highway hwy lane ln
loop parkway pkwy pl place plaza rd road route sq square st str street terrace ter trail trl way
strasse stra\u00dfe straat
"""
_KINDS_OF_UNITS = """
# apartment apt bldg building fl flat floor lot no rm room space spc ste suite trlr unit
"""
_REMARKS_ON_NUMBERS = "and bis front half nos number quater rear ter through thru"
_NUMBERS_IN_WORDS = "one two three four five six seven eight nine ten"

_NUMBER_FOLLOWS = frozenset(_WHERE_THE_NUMBER_FOLLOWS.split())
_KIND_LEADS = frozenset(_WHERE_THE_KIND_LEADS.split())  # "Calle Mayor"
_UNIT_AFTER_A_SLASH = frozenset({"AT", "CZ", "HU", "PL", "SK"})
_KINDS = frozenset(_KINDS_OF_STREETS.split())
_UNIT_WORDS = frozenset(_KINDS_OF_UNITS.split())
_NUMBER_REMARKS = frozenset(_REMARKS_ON_NUMBERS.split())
_NUMBER_WORDS = frozenset(_NUMBERS_IN_WORDS.split())

# A spreadsheet turns 12 into "12.0", and a register of fixed width into "0012".
_WHOLE_NUMBER = re.compile(r"0*(\d*?)(?:\.0*)?", re.ASCII)
_AS_FLOAT = re.compile(r"(\d+)\.0+", re.ASCII)
_BARE_UNIT = re.compile(r"[a-z]{1,2}|[a-z]?-?\d{1,5}-?[a-z]?", re.IGNORECASE | re.ASCII)
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[a-z]", re.IGNORECASE | re.ASCII)
_BEHIND_A_NUMBER = re.compile(r"\d+/\d+|[a-z\u00bc-\u00be]|bis|ter|quater", re.IGNORECASE)
_WORD_OF_A_NAME = re.compile(r"[^\W\d_]{3,}")
_LEADING_NUMBER = re.compile(r"(\d+)[a-z]?(?:[-/ ]\d+(?:/\d+)?)?\s+([^\W_]+)", re.IGNORECASE)
_WORDS = re.compile(r"[^\s,]+")


class StreetLines(NamedTuple):
    """Street lines, or whole addresses."""

    lines: list[str]  # the line of each row
    without_street: dict[int, str]  # the parts that are left out, by row, as they have no street


def street_lines(
    parts: Sequence[str],
    columns: Sequence[Sequence[str]],
    countries: Sequence[object] | None,
    *,
    number_follows: bool,
) -> StreetLines:
    """Join the line, or the whole address, of each row.

    A house number, a unit or a direction without a street is half an address, and left out. The
    name of a house stays, and so does a number in countries where it stands behind the street, as
    villages without streets have such numbers there.

    Args:
        parts: The part that each column holds.
        columns: Their cells.
        countries: The country of each row in any spelling; None if there is no such column.
        number_follows: Whether the house number stands behind the street in rows of an unknown
            country.
    """
    by_part = {part: _cleaned(part, column) for part, column in zip(parts, columns, strict=True)}
    _settle_suffix(by_part)
    rows = len(columns[0])
    codes = _codes(countries, rows)
    follows = (
        [number_follows] * rows
        if countries is None
        else [number_follows if code is None else code in _NUMBER_FOLLOWS for code in codes]
    )
    numbers = _numbers(by_part)
    without_street = _without_street(by_part, numbers, follows)
    if numbers is not None and without_street:
        numbers = ["" if row in without_street else each for row, each in enumerate(numbers)]
    if Part.LINE in by_part:
        lines = by_part[Part.LINE]
        if numbers is not None:
            lines = list(map(_completed, numbers, lines, follows))
    else:
        lines = _names(by_part, codes)
        if numbers is not None:
            lines = _all_numbered(numbers, lines, follows)
    if Part.UNIT in by_part:
        lines = [
            _with_unit(line, unit, is_behind, code) if unit else line
            for line, unit, is_behind, code in zip(
                lines, by_part[Part.UNIT], follows, codes, strict=True
            )
        ]
    if Part.SUB_BUILDING in by_part:
        lines = list(map(_with_sub_building, lines, by_part[Part.SUB_BUILDING]))
    behind = [by_part[part] for part in (Part.SECOND_LINE, Part.CITY, Part.TAIL) if part in by_part]
    if behind:
        lines = [", ".join(filter(None, row)) for row in zip(lines, *behind, strict=True)]
    return StreetLines(lines, without_street)


def lines_as_given(
    columns: Sequence[Sequence[str]], countries: Sequence[object] | None
) -> StreetLines:
    """Join the columns that the user named, in that order.

    A number without a street is left out, as in `street_lines()`.
    """
    lines = list(map(plainly_joined, zip(*columns, strict=True)))
    numbers = [row for row, line in enumerate(lines) if line and not any(map(str.isalpha, line))]
    if not numbers:
        return StreetLines(lines, {})
    codes = _codes(countries, len(lines))
    found = {
        row: lines[row]
        for row in numbers
        if codes[row] not in _NUMBER_FOLLOWS and not all(column[row].strip() for column in columns)
    }
    return StreetLines(["" if row in found else line for row, line in enumerate(lines)], found)


def plainly_joined(row: Sequence[str]) -> str:
    """Join texts in order, none of them twice."""
    joined = ""
    for text in filter(None, map(str.strip, row)):
        whole = _AS_FLOAT.fullmatch(text)
        text = text if whole is None else whole[1]  # noqa: PLW2901
        if joined and _begins_with(text, joined):
            joined = text  # the street's own column holds the house number as well
        else:
            joined = f"{joined} {text}" if joined else text
    return joined


def leads_with_another_number(number: str, street: str) -> bool:
    """Whether a street begins with a house number other than the one beside it."""
    number = _number(number)
    leading = _LEADING_NUMBER.match(street.strip())
    return (
        number != ""
        and leading is not None
        and leading[1] != number
        and leading[2].casefold() not in _KINDS
    )


def _codes(countries: Sequence[object] | None, rows: int) -> Sequence[str | None]:
    if countries is None:
        return [None] * rows
    names = [name if isinstance(name, str) else "" for name in countries]
    return list(map({name: country_of(name) for name in set(names)}.__getitem__, names))


def _cleaned(part: str, column: Sequence[str]) -> list[str]:
    """Clean each distinct cell once: most occur many times in a column."""
    clean = _CLEAN.get(part)
    if clean is None:
        return list(map(str.strip, column))
    if part == Part.HOUSE_NUMBER and _are_plain_numbers(column):
        return list(column)
    return list(map({cell: clean(cell) for cell in set(column)}.__getitem__, column))


# -- Parts -----------------------------------------------------------------------------------


def _number(text: str) -> str:
    """A house number; "" for 0, which means that there is none."""
    text = text.strip()
    if text.isdecimal() and text[0] != "0":
        return text
    whole = _WHOLE_NUMBER.fullmatch(text)
    return text if whole is None else whole[1]


def _are_plain_numbers(column: Sequence[str]) -> bool:
    """Whether all house numbers are digits, without blanks or leading zeros."""
    digits = "".join(column)
    return min(column, default="") >= "1" and digits.isascii() and digits.isdecimal()


def _unit(text: str) -> str:
    text = _AS_FLOAT.sub(r"\1", text.strip())
    return text if text.strip("0") else ""


_CLEAN: Mapping[str, Callable[[str], str]] = {
    Part.HOUSE_NUMBER: _number,
    Part.UNIT: _unit,
    Part.SUB_BUILDING: _unit,
}


def _settle_suffix(by_part: dict[str, list[str]]) -> None:
    """Split a "Suffix", row by row, into the "1/2" of a house number and the "St" of a street."""
    suffixes = by_part.pop(Part.ANY_SUFFIX, None)
    if suffixes is None:
        return
    are_of_number = [_BEHIND_A_NUMBER.fullmatch(suffix) is not None for suffix in suffixes]
    for part, wanted in ((Part.NUMBER_SUFFIX, True), (Part.STREET_KIND, False)):
        by_part.setdefault(
            part,
            [
                suffix if is_of_number is wanted else ""
                for suffix, is_of_number in zip(suffixes, are_of_number, strict=True)
            ],
        )


def _numbers(by_part: Mapping[str, list[str]]) -> list[str] | None:
    """House numbers with their prefixes and suffixes; None if no column holds them."""
    numbers = by_part.get(Part.HOUSE_NUMBER)
    if numbers is None:
        return None
    if Part.NUMBER_PREFIX in by_part:
        numbers = [
            f"{prefix}{number}" if number else ""
            for prefix, number in zip(by_part[Part.NUMBER_PREFIX], numbers, strict=True)
        ]
    for part in (Part.NUMBER_LETTER, Part.NUMBER_SUFFIX):
        if part in by_part:
            numbers = list(map(_with_suffix, numbers, by_part[part]))
    return numbers


def _without_street(
    by_part: Mapping[str, list[str]], numbers: Sequence[str] | None, follows: Sequence[bool]
) -> dict[int, str]:
    """The parts of rows without a street that are no address alone, by row."""
    streets = by_part[Part.LINE if Part.LINE in by_part else Part.STREET]
    beside = [by_part[part] for part in STREET_PARTS if part in by_part]
    if not beside or all(streets):
        return {}
    found = {}
    for row, street in enumerate(streets):
        number = numbers[row] if numbers is not None and not street else ""
        if street or (number and (follows[row] or _is_name_of_house(number))):
            continue
        given = " ".join(filter(None, (column[row] for column in beside)))
        if given:
            found[row] = given
    return found


def _is_name_of_house(number: str) -> bool:
    """Whether a house number contains a name, such as "2 Rose Cottages"."""
    words = map(str.casefold, _WORD_OF_A_NAME.findall(number))
    return any(word not in _UNIT_WORDS and word not in _NUMBER_REMARKS for word in words)


def _with_suffix(number: str, suffix: str) -> str:
    if not number or not suffix or number.endswith(suffix):
        return number
    if _LETTER.fullmatch(suffix):
        return f"{number}{suffix}"
    if suffix.isdecimal():
        return f"{number}-{suffix}"
    return f"{number}{suffix}" if suffix.startswith(("-", "/")) else f"{number} {suffix}"


def _names(by_part: Mapping[str, list[str]], codes: Sequence[str | None]) -> list[str]:
    """Streets with their directions and types."""
    streets = by_part[Part.STREET]
    if Part.STREET_KIND in by_part:
        kinds = by_part[Part.STREET_KIND]
        leading = list(map(_KIND_LEADS.__contains__, codes))
        if any(leading):
            before = [kind if leads else "" for kind, leads in zip(kinds, leading, strict=True)]
            streets = list(map(_after, before, streets))
            kinds = ["" if leads else kind for kind, leads in zip(kinds, leading, strict=True)]
        streets = list(map(_before, streets, kinds))
    for part in (Part.PRE_SEPARATOR, Part.PRE_KIND, Part.PRE_DIRECTION, Part.PRE_MODIFIER):
        if part in by_part:
            streets = list(map(_after, by_part[part], streets))
    for part in (Part.POST_DIRECTION, Part.POST_MODIFIER):
        if part in by_part:
            streets = list(map(_before, streets, by_part[part]))
    return streets


@lru_cache(maxsize=STREETS_REMEMBERED)
def _after(part: str, street: str) -> str:
    if not part or not street or _begins_with(street, part):
        return street
    return f"{part} {street}"


@lru_cache(maxsize=STREETS_REMEMBERED)
def _before(street: str, part: str) -> str:
    if not part or not street or _ends_with(street, part):
        return street
    return f"{street} {part}"


def _begins_with(text: str, part: str) -> bool:
    return text[: len(part) + 1].casefold() in (f"{part} ".casefold(), f"{part},".casefold())


def _ends_with(text: str, part: str) -> bool:
    return text[-len(part) - 1 :].casefold() == f" {part}".casefold()


# -- Lines -----------------------------------------------------------------------------------


def _all_numbered(
    numbers: Sequence[str], streets: Sequence[str], follows: Sequence[bool]
) -> list[str]:
    if (
        all(streets)
        and not any(follows)
        and _are_plain_numbers(numbers)
        and not _DIGIT.search(" ".join(streets))
    ):
        return list(map("%s %s".__mod__, zip(numbers, streets, strict=True)))
    return list(map(_numbered, numbers, streets, follows))


def _numbered(number: str, street: str, follows: bool) -> str:
    """Join a street and its number."""
    if not number or not street:
        return street or number
    if number in street and _holds(street, number, follows=follows):
        return street
    if follows:
        return f"{street} {number}"
    if number.isdecimal() or any(map(str.isdigit, number)):
        return f"{number} {street}"
    return f"{number}, {street}"  # the name of a house


def _holds(street: str, number: str, *, follows: bool) -> bool:
    """Whether a street already holds the number; "5 Avenue" is a name."""
    if follows:
        rest = street[: -len(number) - 1] if _ends_with(street, number) else ""
    else:
        rest = street[len(number) + 1 :] if _begins_with(street, number) else ""
    rest = rest.strip(" ,")
    return rest != "" and rest.casefold() not in _KINDS


def _completed(number: str, line: str, follows: bool) -> str:
    """A line with the number, unless it has one."""
    if not number or not line:
        return line or number
    words = _WORDS.findall(line)
    end = words[-1 if follows else 0]
    if number in words or any(map(str.isdigit, end)) or end.casefold() in _NUMBER_WORDS:
        return line
    return _numbered(number, line, follows)


def _with_unit(line: str, unit: str, follows: bool, code: str | None) -> str:
    if not line:
        return line
    is_bare = _is_bare(unit)
    if line[-len(unit) :].casefold() == unit.casefold() and _has_unit(line, unit, is_bare=is_bare):
        return line
    if not follows:
        return f"{line} Unit {unit}" if is_bare else f"{line} {unit}"
    return f"{line}/{unit}" if is_bare and code in _UNIT_AFTER_A_SLASH else f"{line}, {unit}"


@lru_cache(maxsize=STREETS_REMEMBERED)
def _is_bare(unit: str) -> bool:
    return _BARE_UNIT.fullmatch(unit) is not None


def _has_unit(line: str, unit: str, *, is_bare: bool) -> bool:
    """Whether a line that ends like the unit holds it; "Highway 4" has no unit 4."""
    before = line[: -len(unit)].casefold().replace("#", " # ").split()
    return not is_bare or (bool(before) and before[-1].rstrip(".") in _UNIT_WORDS)


def _with_sub_building(line: str, name: str) -> str:
    """Put the name of a flat before the house, as in Great Britain."""
    if not name or not line or _begins_with(line, name):
        return line
    return f"Flat {name}, {line}" if _is_bare(name) else f"{name}, {line}"
