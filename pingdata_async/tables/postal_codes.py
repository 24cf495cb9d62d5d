"""Postal codes that a spreadsheet took for numbers, made texts again (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any

import msgspec

from pingdata_async.location_batches import Columns

_SUSPECT = re.compile(r"\s*(\d{3,4}|\d{7,8}|\d+(?=\.0))(?:\.0+)?\s*", re.ASCII)
_LARGEST = 10**12  # a float up to here is a code, if anything

_US_COUNTRIES = frozenset(
    {
        *("", "us", "usa", "united states", "united states of america", "the united states"),
        # What the United States count as states, lists of countries have as well.
        *("pr", "pri", "puerto rico", "vi", "vir", "us virgin islands", "gu", "guam"),
        *("as", "american samoa", "mp", "northern mariana islands"),
    }
)
_STATE_CODES = """
al ak az ar ca co ct de dc fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny
nc nd oh ok or pa ri sc sd tn tx ut vt va wa wv wi wy pr vi gu as mp aa ae ap
"""
_STATE_NAMES = """
alabama, alaska, arizona, arkansas, california, colorado, connecticut, delaware,
district of columbia, florida, georgia, hawaii, idaho, illinois, indiana, iowa, kansas, kentucky,
louisiana, maine, maryland, massachusetts, michigan, minnesota, mississippi, missouri, montana,
nebraska, nevada, new hampshire, new jersey, new mexico, new york, north carolina, north dakota,
ohio, oklahoma, oregon, pennsylvania, rhode island, south carolina, south dakota, tennessee, texas,
utah, vermont, virginia, washington, west virginia, wisconsin, wyoming, puerto rico,
virgin islands, us virgin islands, guam, american samoa, northern mariana islands
"""
_US_STATES = frozenset(_STATE_CODES.split()) | {state.strip() for state in _STATE_NAMES.split(",")}

_ZIP_DIGITS = 5
_ZIP_PLUS_4_DIGITS = 9
_SHORT_LENGTHS = frozenset({3, 4, 7, 8})
_PLAIN_LENGTHS = frozenset({0, 5, 6, 10})  # 6: Canada's without its space, 10: ZIP+4


def mended(
    postal: Sequence[Any], state: Sequence[Any] | None, country: Sequence[Any] | None
) -> tuple[Sequence[Any], int]:
    """Postal codes as the texts that they are.

    33139.0 becomes "33139". Where a row is of the United States (its country says so or is
    blank, and so is its state), a code of three or four digits is given back its leading
    zeros, "2134" becomes "02134". Where the row says by either that it is, one of seven or
    eight digits, "21345678", becomes "02134-5678". All others stay as they are.

    Args:
        postal: A code for each row; of any type.
        state: The state of each; None where there is no such column.
        country: The country of each, likewise.

    Returns:
        The codes, the same object where all were fine, and how many were given zeros back.
    """
    if are_plain(postal):
        return postal, 0
    suspects = [
        place
        for place, code in enumerate(postal)
        if not isinstance(code, str) or _SUSPECT.fullmatch(code)
    ]
    codes: list[Any] | None = None
    zeros = 0
    for place in suspects:
        digits = _digits(postal[place])
        if digits is None:
            continue
        in_state = _plain(state[place]) if state is not None else ""
        in_country = _plain(country[place]) if country is not None else ""
        whole = _with_zeros(digits, in_state, in_country)
        if whole is not None or digits != postal[place]:
            codes = codes or list(postal)
            codes[place] = whole or digits
            zeros += whole is not None
    return codes or postal, zeros


def are_plain(postal: Sequence[Any]) -> bool:
    """Whether one look at all codes tells that they are fine; most are."""
    kinds = set(map(type, postal))
    if kinds == {str, NoneType}:
        postal, kinds = [code for code in postal if code is not None], {str}
    if kinds == {NoneType}:
        return True
    if kinds != {str} or not _PLAIN_LENGTHS.issuperset(map(len, postal)):
        return False
    together = "".join(postal)
    return ".0" not in together and len(together.split()) <= 1


def mended_columns(columns: Columns) -> tuple[Columns, int]:
    """The same for the postal codes of a batch; see `mended()`."""
    if "postal_code" not in columns.names:
        return columns, 0
    by_name = dict(zip(columns.names, columns.columns, strict=True))
    postal, zeros = mended(by_name["postal_code"], by_name.get("state"), by_name.get("country"))
    if postal is by_name["postal_code"]:
        return columns, 0
    by_name["postal_code"] = postal
    return msgspec.structs.replace(columns, columns=list(by_name.values())), zeros


def mend_rows(rows: Sequence[dict[str, Any]]) -> int:
    """The same for the postal codes of rows, which are changed; returns how many got zeros."""
    postal = [row.get("postal_code") for row in rows]
    if are_plain(postal):
        return 0
    state, country = ([row.get(name) for row in rows] for name in ("state", "country"))
    codes, zeros = mended(postal, state, country)
    if codes is not postal:
        for row, code in zip(rows, codes, strict=True):
            if code is not None:
                row["postal_code"] = code
    return zeros


def _digits(code: Any) -> str | None:
    """A code that is a number, of whatever type; None for all others."""
    if isinstance(code, float):
        return str(int(code)) if code.is_integer() and 0 <= code < _LARGEST else None
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code) if code >= 0 else None
    if isinstance(code, str) and (number := _SUSPECT.fullmatch(code)):
        return number[1]
    return None


def _with_zeros(digits: str, state: str, country: str) -> str | None:
    """A code of the United States with its leading zeros; None for any other."""
    if len(digits) not in _SHORT_LENGTHS or country not in _US_COUNTRIES:
        return None
    if state and state not in _US_STATES:
        return None
    if len(digits) < _ZIP_DIGITS:
        return digits.zfill(_ZIP_DIGITS)
    if not state and not country:
        return None  # other countries have codes so long
    whole = digits.zfill(_ZIP_PLUS_4_DIGITS)
    return f"{whole[:_ZIP_DIGITS]}-{whole[_ZIP_DIGITS:]}"


def _plain(name: Any) -> str:
    """The name of a state or country, so that "U.S.A." is "usa"; "" for what is no text."""
    return name.replace(".", "").strip().lower() if isinstance(name, str) else ""
