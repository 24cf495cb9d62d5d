"""Numbers as people write them, with units and words, to what is sent (pure).

Only a text that can mean just one number is read, for a guess may be a thousand times too large: a
unit must be the field's own, and "1.200" is read only if it cannot be both 1,200 and 1.2.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

YEAR = "const__bldg_year_built"
AREA = "const__bldg_area"

_LARGEST_INTEGER: Final = 2**53  # up to here a float holds every integer as it is

_LONGEST = 60
"""Characters; a longer text is no number."""


class Quantity(msgspec.Struct, frozen=True):
    """What a field's numbers count."""

    least: float = -math.inf  # the least number that is no code for "unknown"
    most: float = math.inf  # the largest such number
    # Words without blanks and dots that may stand beside the number, such as its unit.
    words: frozenset[str] = frozenset()
    has_multiples: bool = False  # whether "1.2 million" is allowed
    is_whole: bool = False  # whether it is sent as an integer
    is_rounded: bool = False  # whether fractions are rounded

    def holds(self, number: float) -> bool:
        """Whether a number can be one of these."""
        is_whole = not self.is_whole or self.is_rounded or number.is_integer()
        return self.least <= number <= self.most and is_whole


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABOUT = "about approx approximately appx around c ca circa est estimated ~ \u2248 \u00b1 +/-"
_STORIES = _words(
    "story stories storey storeys floor floors fl flr flrs level levels sty stry st "
    "geschosse geschoss stockwerke stockwerk etagen etage \u00e9tages \u00e9tage pisos piso "
    "plantas planta"
)
_MONEY = Quantity(
    least=0.0, words=_words(f"$ us$ usd $us dollars dollar {_ABOUT}"), has_multiples=True
)
QUANTITIES: Mapping[str, Quantity] = {
    YEAR: Quantity(
        least=1000,
        most=2100,
        words=_words(f"built in blt constructed year yr erected ad {_ABOUT}"),
        is_whole=True,
    ),
    "const__num_stories": Quantity(least=1, most=200, words=_STORIES, is_whole=True),
    "const__num_stories_below_gnd": Quantity(least=0, most=50, words=_STORIES, is_whole=True),
    AREA: Quantity(
        least=1,
        most=_LARGEST_INTEGER,
        words=_words(
            "sf sqft sqf sft gsf squarefeet squarefoot sqfeet sqfoot ft2 ft\u00b2 feet2 feet\u00b2 "
            f"sq square ft feet foot gross total {_ABOUT}"
        ),
        has_multiples=True,
        is_whole=True,
        is_rounded=True,
    ),
    **{f"limits__{name}_limit": _MONEY for name in ("building", "bpp", "bi", "signs_and_other")},
    "dtc_include_coastline_within_miles": Quantity(least=0.0, words=_words("mi mile miles")),
}
"""The quantity of each field; the numbers of other fields may be anything."""

ANY_QUANTITY = Quantity()

_LENGTH_ALONE = _words("ft feet foot square")
"""Words that make an area only together with another."""

CODES_FOR_UNKNOWN = frozenset({0, 1, 9, 99, 999, 9999, 99999, -1, -2, -3, -9, -99, -999, -9999})
"""Numbers that programs write where nothing is known, in fields that cannot have them."""

_MULTIPLES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mm": 1e6, "mn": 1e6, "mln": 1e6, "mio": 1e6} | {
    "million": 1e6, "millions": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9,
}  # fmt: skip
_THOUSAND_OR_MILLION = 1000  # "1,200 M" may be of either

_SPELLED = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009", " ")
    | dict.fromkeys("\u200a\u202f\u205f\u3000\t\n\r", " ")
    | dict.fromkeys("\u2018\u2019\u02bc\u00b4\u2032", "'")
)
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII)
_WITH_WORDS = re.compile(
    r"(?P<before>[^\d+-]*?(?:\+/-)?) ?(?P<sign>[+-]?) ?(?P<unit>(?:us|usd)?\$?) ?"
    r"(?P<number>\d(?:[\d.,' ]*\d)?|(?<![a-z])[.,]\d+) ?(?P<after>[^\d]*2?)",
    re.ASCII,
)
_ACCOUNTING = re.compile(r"\(([^()]*\d[^()]*)\)")
_BESIDE_WORDS = re.compile(r"[()\[\],:]|-(?=[a-z])")
_NO_CENTS = re.compile(r"(?<=\d)([.,]) ?-{1,2}$")  # "500.-", "1.200,--"
_GROUPED = re.compile(
    r"(?P<comma>\d{1,3}(?:,\d{3})+(?:\.\d*)?)"
    r"|(?P<lakh>\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?)"
    r"|(?P<dot>\d{1,3}(?:\.\d{3}){2,}(?:,\d*)?|\d{1,3}\.\d{3},\d*)"
    r"|(?P<other>\d{1,3}(?:([ '])\d{3})(?:\5\d{3})*(?:[.,]\d*)?)",
    re.ASCII,
)
_DECIMAL = re.compile(r"\d*[.,]\d+|\d+\.", re.ASCII)
_ONE_OR_A_THOUSAND = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII)
_IN_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}[.,]\d{3}\s*", re.ASCII)
_SWAPPED = str.maketrans(".,", ",.")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?:[t ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?(?:z| ?[+-]\d{2}:?\d{2})?)?"
_DATES = (
    re.compile(rf"(?P<y>\d{{4}})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}}){_CLOCK}"),
    re.compile(rf"(?P<d>\d{{1,2}})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<y>\d{{4}}){_CLOCK}"),
    re.compile(r"(?P<m>\d{1,2})[-/.](?P<y>\d{4})"),
    re.compile(r"(?P<y>\d{4})[-/](?P<m>\d{2})"),
    re.compile(rf"(?P<d>\d{{1,2}})[- .]+(?P<w>[a-z]{{3,9}})[-, .]+(?P<y>\d{{4}}){_CLOCK}"),
    re.compile(rf"(?P<w>[a-z]{{3,9}})[-. ]+(?:(?P<d>\d{{1,2}})[-, ]+)?(?P<y>\d{{4}}){_CLOCK}"),
)
_YEARS_AS_DAYS = (dt.date(1904, 12, 4), dt.date(1905, 9, 30))
"""Days 1800 to 2100 of a spreadsheet: a year whose cell was given the format of a date."""


def number_of(field: str, text: str) -> float | None:
    """The number that a stripped text means in a field; None if that is not sure."""
    text = text.casefold()
    if _PLAIN.fullmatch(text) and not _ONE_OR_A_THOUSAND.fullmatch(text.lstrip("+-")):
        return float(text)
    if len(text) > _LONGEST:
        return None
    quantity = QUANTITIES.get(field, ANY_QUANTITY)
    text = " ".join(text.translate(_SPELLED).split())
    if field == YEAR:
        year = _year_of_date(text)
        if year is not None:
            return year
    text = _NO_CENTS.sub(r"\g<1>0", text)
    negative = _ACCOUNTING.fullmatch(text)
    found = _WITH_WORDS.fullmatch(negative[1] if negative else text)
    if found is None:
        return None
    multiple = _multiple(quantity, [found["before"], found["unit"], found["after"]])
    if multiple is None or (negative and found["sign"]):
        return None
    readings = [each * multiple for each in _readings(found["number"])]
    if multiple == _MULTIPLES["m"] and max(readings, default=0) >= _THOUSAND_OR_MILLION * multiple:
        return None
    sign = -1.0 if negative or found["sign"] == "-" else 1.0
    possible = {sign * each for each in readings}
    if len(possible) > 1:
        possible = {each for each in possible if quantity.holds(each)}
    return possible.pop() if len(possible) == 1 else None


def _readings(number: str) -> list[float]:
    """The numbers that digits with their separators may mean."""
    if number.isdigit():
        return [float(number)]
    grouped = _GROUPED.fullmatch(number)
    if grouped is not None and not number.startswith("0"):
        kind = grouped.lastgroup
        if kind in {"comma", "lakh"}:
            return [float(number.replace(",", ""))]
        whole = re.sub("[ ']" if kind == "other" else r"\.", "", number)
        return [float(whole.replace(",", "."))]
    if not _DECIMAL.fullmatch(number):
        return []
    decimal = float(number.replace(",", "."))
    if _ONE_OR_A_THOUSAND.fullmatch(number):
        return [decimal, float(number.replace(".", ""))]
    return [decimal]


def _multiple(quantity: Quantity, beside: Sequence[str]) -> float | None:
    """The factor that the words beside a number make; None if they say something else."""
    multiple = 1.0
    words: set[str] = set()
    for place, text in enumerate(beside):
        for word in _apart(text, quantity):
            if word in quantity.words:
                words.add(word)
            elif quantity.has_multiples and word in _MULTIPLES and multiple == 1.0 and place:
                multiple = _MULTIPLES[word]
            else:
                return None
    if words & _LENGTH_ALONE and not _is_area(words, quantity):
        return None
    return multiple


def _apart(text: str, quantity: Quantity) -> list[str]:
    """The words of a text; "$" and "~" are words even without blanks beside them."""
    text = _BESIDE_WORDS.sub(" ", text.replace(". ", " ").replace(".", "")).strip()
    if text.replace(" ", "") in quantity.words:
        return [text.replace(" ", "")]
    return text.replace("~", " ~ ").replace("$", "$ ").split()


def _is_area(words: set[str], quantity: Quantity) -> bool:
    return quantity is not QUANTITIES[AREA] or bool(
        words & {"sq", "square"} and words & {"ft", "feet", "foot"}
    )


def _year_of_date(text: str) -> float | None:
    """The year of a date in any form; whether day or month comes first does not matter."""
    for form in _DATES:
        found = form.fullmatch(text)
        if found is None:
            continue
        parts = found.groupdict()
        if parts.get("w") is not None:
            if parts["w"][:3] not in _MONTHS:
                return None
            month = _MONTHS.index(parts["w"][:3]) + 1
        else:
            month = int(parts["m"])
        year, day = int(parts["y"]), int(parts.get("d") or 1)
        if month > len(_MONTHS):
            month, day = day, month
        try:
            date = dt.date(year, month, day)
        except ValueError:
            return None
        first, last = _YEARS_AS_DAYS
        return None if first <= date <= last and (month, day) != (1, 1) else float(year)
    return None


def with_decimal_commas(field: str, text: str) -> str | None:
    """A number of a table with decimal commas, with a decimal point instead; other texts unchanged.

    "1.200" is 1,200 there. "1,200" is not sure, as a program that separates thousands by commas may
    have written it nevertheless: None.
    """
    if not _IN_THOUSANDS.fullmatch(text):
        return text
    swapped = text.translate(_SWAPPED)
    return None if number_of(field, swapped.strip()) is None else swapped
