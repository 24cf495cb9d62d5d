"""Coordinates to degrees, however people write them (pure).

Only a text that can mean just one angle is read, for a guess is the answer for another place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LATITUDE, LONGITUDE = COORDINATES = ("latitude", "longitude")

LARGEST: Mapping[str, float] = {LATITUDE: 90.0, LONGITUDE: 180.0}
"""Degrees, in either direction."""

NOWHERE = (0.0, -1.0, -9.0)
"""Degrees that mean "unknown" if both coordinates have them: these three places are open sea.
Other codes for it, such as -999 and 9999, are not on the globe."""

_SIXTY = 60  # minutes a degree, seconds a minute

_LONGEST = 100
"""Characters; a longer text is no coordinate."""

_MISSING = "?"
"""Stands for a missing part, and makes the whole unreadable."""

_HEMISPHERES = {"N": (LATITUDE, 1), "S": (LATITUDE, -1), "E": (LONGITUDE, 1), "W": (LONGITUDE, -1)}

_WORDS = {
    spelling: meant
    for meant, spellings in {
        # "O" is east in German and west in French, and so is not read.
        "N": "n north northern nord norte",
        "S": "s south southern sud süd sur",
        "E": "e east eastern est este ost",
        "W": "w west western ouest oeste ovest",
        "\u00b0": "d deg degree degrees grad",
        "'": "min mins minute minutes",
        '"': "sec secs second seconds",
        "lat": "lat latitude",
        "lon": "lon long lng longitude",
    }.items()
    for spelling in spellings.split()
}

_MARKS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
    | dict.fromkeys("\u00ba\u02da\u2070", "\u00b0")
    | dict.fromkeys("`\u00b4\u02b9\u02bc\u02c8\u2018\u2019\u2032\u2035\uff07", "'")
    | dict.fromkeys("\u02ba\u02dd\u201c\u201d\u201f\u2033\u2036\uff02", '"')
    | {"\u00a0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " ", "\u200b": None, "\ufeff": None}
)
_MISREAD_DEGREE = "\u00c2\u00b0"  # a degree sign in UTF-8, read as cp1252
_WORD = re.compile(r"([^\W\d_]+)\.?")
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ANGLE = re.compile(
    r"""
    (?: (?:lat|lon) \s*[:=]?\s* )?
    (?P<before>[NSEW]?) \s*
    (?P<sign>[+-]?) \s*
    (?P<degrees> \d{1,3}(?:[.,]\d+)? | [.,]\d+ )
    (?:
        (?: \s*\u00b0-? \s* | \s*:\s* | (?P<dash>-) | \s+ )
        (?P<minutes> \d{1,2}(?:[.,]\d+)? )
        (?:
            (?: \s*'-? \s* | \s*:\s* | - | \s+ )
            (?P<seconds> \d{1,2}(?:[.,]\d+)? ) (?: \s*" )?
        |
            (?: \s*' )?
        )
    |
        (?: \s*\u00b0 )?
    )
    \s* (?P<after>[NSEW]?)
    (?: \s*(?:lat|lon) )?
    [\s,;]*
    """,
    re.ASCII | re.VERBOSE,
)
_DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_ONE_OR_TWO = re.compile(r"[+-]?\d+,\d+", re.ASCII)  # "48,85": a comma may be a decimal one
_PLAIN_PAIR = re.compile(
    rf"[(\[]?\s*({_DECIMAL})(?:\s*[,;/|]\s*|\s+)({_DECIMAL})\s*[)\]]?", re.ASCII
)
_POINT = re.compile(  # well-known text has the longitude first, whatever the header says
    rf"(?:SRID\s*=\s*4326\s*;\s*)?POINT\s*(?:ZM?|M)?\s*"
    rf"\(\s*({_DECIMAL})\s+({_DECIMAL})(?:\s+{_DECIMAL}){{0,2}}\s*\)",
    re.ASCII | re.IGNORECASE,
)
_BRACKETS = re.compile(r"[(\[{](.*)[)\]}]", re.DOTALL)
_WORDS_OF_PAIRS = (2, 4, 6)  # degrees, minutes, seconds
_AXIS = re.compile(r"lat|lon|[NSEW]")


# -- One coordinate --------------------------------------------------------------------------


def degrees_of(field: str, value: object) -> float | None:
    r"""The degrees that a value stands for; None if that is not sure.

    Args:
        field: "latitude" or "longitude"; a value with a hemisphere of the other stands for nothing.
        value: A number, or a text such as 40.446, 40,446, 40.446 N or 40\u00b0 26\u2032 46\u2033 N.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _PLAIN.fullmatch(text) else _angle(field, text)
    try:
        return float(value)  # type: ignore[arg-type]  # float() itself refuses other types
    except (TypeError, ValueError, OverflowError):
        return None


def west_or_south(field: str, value: Any) -> Any:
    """A coordinate below a header that says west or south, where plain numbers lack the sign."""
    if isinstance(value, str):
        text = value.strip()
        degrees = degrees_of(field, text)
        if degrees is None or degrees <= 0 or _axis_of(_spelled(text)) is not None:
            return value  # nothing, or it says for itself where it is
        return f"-{text.removeprefix('+')}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return -value if is_number and value > 0 else value


def is_on_the_globe(field: str, degrees: float) -> bool:
    """Whether a latitude or longitude can be so large."""
    return abs(degrees) <= LARGEST[field]  # a NaN is not


def is_nowhere(latitude: float, longitude: float, *, has_address: bool = False) -> bool:
    """Whether a pair of coordinates means that nothing is known.

    Beside an address one coordinate of exactly 0 is enough: it is seldom on the equator or the
    meridian, and often half a pair.
    """
    if has_address and 0 in (latitude, longitude):
        return True
    return latitude == longitude and latitude in NOWHERE


def _angle(field: str, text: str) -> float | None:
    found = _ANGLE.fullmatch(_spelled(text)) if len(text) <= _LONGEST else None
    if found is None or _axis_of(found[0]) not in {None, field}:
        return None
    sign = found["sign"]
    hemisphere = found["before"] + found["after"]
    if len(hemisphere) > 1 or (found["dash"] and not hemisphere):
        return None  # "40-26-46" alone may be a date
    direction = _HEMISPHERES[hemisphere][1] if hemisphere else -1 if sign == "-" else 1
    if sign and (sign == "-") != (direction < 0):
        return None
    parts = [_decimal(part) for part in found.group("degrees", "minutes", "seconds") if part]
    if not all(map(float.is_integer, parts[:-1])) or max(parts[1:], default=0.0) > _SIXTY:
        return None  # just 60 is what rounding makes of 59.999
    return direction * math.fsum(part / _SIXTY**place for place, part in enumerate(parts))


def _decimal(text: str) -> float:
    # Below 1,000 no comma is one of thousands.
    return float(text.replace(",", "."))


def _spelled(text: str) -> str:
    """The text with one spelling for each mark, hemisphere and word."""
    text = text.replace(_MISREAD_DEGREE, "\u00b0").translate(_MARKS).replace("''", '"')
    return _WORD.sub(lambda word: _WORDS.get(word[1].casefold(), _MISSING), text).strip()


def _axis_of(text: str) -> str | None:
    """The coordinate that a text names; "" if it names both."""
    said = {
        _HEMISPHERES[each][0] if each in _HEMISPHERES else LATITUDE if each == "lat" else LONGITUDE
        for each in _AXIS.findall(text)
    }
    return None if not said else said.pop() if len(said) == 1 else ""


# -- An angle in several columns -------------------------------------------------------------


def joined_angle(parts: Sequence[str]) -> str:
    """Degrees, minutes, seconds and a hemisphere from separate columns, as one text.

    It is empty if all are missing but the hemisphere, which may stand in any row. If another one is
    missing, it is no coordinate: degrees without their minutes are another place.
    """
    given = list(map(str.strip, parts))
    if not any(part and _WORDS.get(part.casefold()) not in _HEMISPHERES for part in given):
        return ""
    if "" in given:
        first = given.index("")
        whole = given[:first]
        # Nothing can follow a fraction but the hemisphere, which a sign says as well.
        if whole and whole[0].startswith("-") and re.search(r"[.,]\d*[1-9]", whole[-1]):
            given = [*whole, *filter(None, given[first:])]
    return " ".join(part or _MISSING for part in given)


# -- Two coordinates in one cell -------------------------------------------------------------


def split_pair(cell: str, *, longitude_first: bool) -> tuple[str, str] | None:
    """The latitude and the longitude of a cell that holds both, for `degrees_of()`.

    Args:
        cell: Such as "40.446, -79.982", "48,8566; 2,3522", or "POINT (-79.982 40.446)".
        longitude_first: The order that its header says; hemispheres and the like overrule it.

    Returns:
        None if it is not sure what is what, or it is no place.
    """
    pair = _pair(cell.strip(), longitude_first=longitude_first)
    if pair is None:
        return None
    latitude, longitude = map(degrees_of, COORDINATES, pair)
    if latitude is None or longitude is None or is_nowhere(latitude, longitude):
        return None
    is_place = is_on_the_globe(LATITUDE, latitude) and is_on_the_globe(LONGITUDE, longitude)
    return pair if is_place else None


def _pair(cell: str, *, longitude_first: bool) -> tuple[str, str] | None:
    if _ONE_OR_TWO.fullmatch(cell):
        return None
    plain = _PLAIN_PAIR.fullmatch(cell)
    if plain is not None:
        return (plain[2], plain[1]) if longitude_first else (plain[1], plain[2])
    point = _POINT.fullmatch(cell)
    if point is not None:
        return point[2], point[1]
    if len(cell) > 2 * _LONGEST:
        return None
    text = _spelled(cell)
    in_brackets = _BRACKETS.fullmatch(text)
    halves = _halves(in_brackets[1].strip() if in_brackets is not None else text)
    if halves is None:
        return None
    first, second = (half.strip(" \t,") for half in halves)
    axes = _axis_of(first), _axis_of(second)
    if axes == (None, None):
        return (second, first) if longitude_first else (first, second)
    if axes in {(LATITUDE, LONGITUDE), (LATITUDE, None), (None, LONGITUDE)}:
        return first, second
    if axes in {(LONGITUDE, LATITUDE), (LONGITUDE, None), (None, LATITUDE)}:
        return second, first
    return None


def _halves(text: str) -> tuple[str, str] | None:
    """A cell cut where its first coordinate ends; None if that is not sure."""
    for separator in ";|/\n\t":
        if separator in text:
            return _both(text.split(separator))
    for marks in ("lat|lon", "[NSEW]"):
        match list(re.finditer(marks, text)):
            case [one, other]:
                leads = not re.search(r"\d", text[: one.start()])
                place = other.start() if leads else one.end()
                return text[:place], text[place:]
    apart = _both(re.split(r",\s+|\s+,", text))
    if apart is not None:
        return apart  # any other comma is a decimal one
    match text.split(","):
        case [first, second] if len(first.split()) == len(second.split()):
            return first, second
        case [a, b, c, d] if not re.search(r"\s", text):
            return f"{a},{b}", f"{c},{d}"
        case [_] | [_, _, _]:
            words = text.split()
            middle = len(words) // 2
            if len(words) in _WORDS_OF_PAIRS:
                return " ".join(words[:middle]), " ".join(words[middle:])
    return None


def _both(parts: Sequence[str]) -> tuple[str, str] | None:
    match parts:
        case [first, second]:
            return first, second
    return None
