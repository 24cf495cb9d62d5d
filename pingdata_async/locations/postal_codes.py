"""Leading zeros of US postal codes that a spreadsheet took (pure).

A code gets its zeros back only if it surely lost them: its row is in the United States, and the
row's state has such codes. Other rows do not matter, so the same row is always sent in the same
way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pingdata_async.locations.fields import id_text
from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.words import US, country_of, is_a_name, says_nothing, us_state_of
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind

POSTAL_CODE = "postal_code"

_SUSPECT = re.compile(r"\s*(?:(\d{3,4}-\d{4})|(\d{3,4}|\d{7,8}|\d+(?=\.0))(?:\.0+)?)\s*", re.ASCII)
_LARGEST = 10**12  # a float up to here is a code, if anything

_FIRST_DIGITS = """
MA 010-027 055; RI 028-029; NH 030-038; ME 039-049; VT 050-054 056-059; CT 060-069; NJ 070-089;
NY 005 063; PR 006-007 009; VI 008; AE 090-098
"""
"""The first three digits of ZIP codes that begin with a zero, by state, as the Postal Service
gives them. 055 is one town in Massachusetts, 063 has an island of New York among Connecticut."""

_ARMED_FORCES = {"AE", "AP", "AA"}

_NO_CODES = frozenset({"0", "00000", "99999", "00000-0000", "99999-9999", "000000000", "999999999"})
"""Texts for an unknown ZIP code, none of which is one."""

_ZIP_DIGITS = 5
_PLUS_4_DIGITS = 4
_SHORT_LENGTHS = frozenset({3, 4})
_PLAIN_LENGTHS = frozenset({0, 5, 6, 10})  # 6: Canada's without its space, 10: ZIP+4


def restore_leading_zeros(
    postal: Sequence[Any],
    state: Sequence[Any] | None,
    country: Sequence[Any] | None,
    *,
    may_be_plus_4: bool = False,
) -> tuple[Sequence[Any], NotedBatch]:
    """Turn postal codes into texts, with their leading zeros.

    33139.0 becomes "33139". If the row's country is the United States, or is blank and its state is
    one of theirs, "2134" becomes "02134" and "21345678" becomes "02134-5678", but only in a state
    that has such codes; a country is enough if no state is known. Others stay as they are: 6000
    beside "WA" is Perth, and 8001 alone may be Zurich.

    Args:
        postal: The code of each row, of any type.
        state: The state of each row; None if there is no such column.
        country: The country of each row, likewise.
        may_be_plus_4: Whether the column is headed "ZIP+4" or the like: four digits in it are the
            end of a code, and are left out.

    Returns:
        The codes (the same object if all were fine), and notes of those that got zeros back, are
            left
        out, as 00000 is, or are too short for the United States although their rows name no other
        country.
    """
    noted = NotedBatch()
    if are_plain(postal):
        return postal, noted
    codes: list[Any] | None = None
    for place, code in enumerate(postal):
        digits = _digits(code)
        if digits is None and (not isinstance(code, str) or code.strip() not in _NO_CODES):
            continue
        digits = code.strip() if digits is None else digits
        zip_code, plus_4 = _parts(digits)
        if digits in _NO_CODES:
            in_state, in_country = (each[place] if each else None for each in (state, country))
            if _prefixes(in_state, in_country) is None:  # that is for other countries to say
                continue
            noted.add(place, NotedValue(POSTAL_CODE, ValueKind.SAYS_NOTHING, code))
            digits = ""
        elif may_be_plus_4 and len(digits) <= _PLUS_4_DIGITS:
            noted.add(place, NotedValue(POSTAL_CODE, ValueKind.UNREADABLE, code))
            digits = ""
        elif len(zip_code) in _SHORT_LENGTHS:
            prefixes = _prefixes(
                state[place] if state else None, country[place] if country else None
            )
            whole = zip_code.zfill(_ZIP_DIGITS)
            if whole[:3] in (prefixes or ()):
                digits = f"{whole}-{plus_4}" if plus_4 else whole
                noted.add(place, NotedValue(POSTAL_CODE, ValueKind.ZEROS_GIVEN_BACK, code))
            elif prefixes is not None and not plus_4:
                noted.add(place, NotedValue(POSTAL_CODE, ValueKind.SHORT_POSTAL_CODE, code))
        if digits != code:
            codes = codes or list(postal)
            codes[place] = digits
    return codes or postal, noted


def are_plain(postal: Sequence[Any]) -> bool:
    """Whether a quick look at all codes together tells that they are fine; usually it does."""
    try:
        together = "".join(postal)
    except TypeError:  # numbers, or no code
        postal = [code for code in postal if code is not None]
        if set(map(type, postal)) - {str}:
            return False
        together = "".join(postal)
    if not _PLAIN_LENGTHS.issuperset(map(len, postal)):
        return False
    if "00000" in together or "99999" in together:
        return False
    return ".0" not in together and len(together.split()) <= 1


def restore_leading_zeros_in(
    columns: Columns, *, may_be_plus_4: bool = False
) -> tuple[Columns, NotedBatch]:
    """As `restore_leading_zeros()`, for the postal codes of a batch."""
    if POSTAL_CODE not in columns.names:
        return columns, NotedBatch()
    by_name = dict(zip(columns.names, columns.columns, strict=True))
    postal, noted = restore_leading_zeros(
        by_name[POSTAL_CODE],
        by_name.get("state"),
        by_name.get("country"),
        may_be_plus_4=may_be_plus_4,
    )
    if postal is by_name[POSTAL_CODE]:
        return columns, noted
    by_name[POSTAL_CODE] = postal
    return msgspec.structs.replace(columns, columns=list(by_name.values())), noted


def restore_leading_zeros_of(rows: Sequence[Any]) -> NotedBatch:
    """As `restore_leading_zeros()`, for rows, which are changed in place; only dicts have codes."""
    postal = [row.get(POSTAL_CODE) if isinstance(row, dict) else None for row in rows]
    if are_plain(postal):
        return NotedBatch()
    state, country = (
        [row.get(name) if isinstance(row, dict) else None for row in rows]
        for name in ("state", "country")
    )
    codes, noted = restore_leading_zeros(postal, state, country)
    if codes is not postal:
        for row, code in zip(rows, codes, strict=True):
            if code is not None:
                row[POSTAL_CODE] = code
    return noted


def _digits(code: Any) -> str | None:
    """The digits of a code that is a number of whatever type; None for all others."""
    if isinstance(code, float):
        return str(int(code)) if code.is_integer() and 0 <= code < _LARGEST else None
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code) if code >= 0 else None
    if isinstance(code, str) and (number := _SUSPECT.fullmatch(code)):
        return number[1] or number[2]
    return None


def _parts(digits: str) -> tuple[str, str]:
    """A code's ZIP code and its four further digits, with or without a dash between them."""
    zip_code, _, plus_4 = digits.partition("-")
    if not plus_4 and len(digits) - _PLUS_4_DIGITS in _SHORT_LENGTHS:
        return digits[:-_PLUS_4_DIGITS], digits[-_PLUS_4_DIGITS:]
    return zip_code, plus_4


def _prefixes(state: Any, country: Any) -> frozenset[str] | None:
    """How codes of a row's state begin; None if the row is in another country."""
    row = {
        name: id_text(value) if isinstance(value, str | int | float) else None
        for name, value in (("state", state), ("country", country))
    }
    in_state, in_country = (_known(name, row) for name in row)
    if in_country and country_of(in_country) != US:
        return None
    own = _state_of(in_state) or _state_of(in_country)
    if own is not None:
        return _prefixes_by_state.get(own, frozenset())
    if in_country:
        return _all_prefixes
    return None if in_state else frozenset()


def _known(name: str, row: Mapping[str, str | None]) -> str:
    """A row's value; "" if it is a word for nothing."""
    text = (row[name] or "").strip()
    return text if not says_nothing(text) or is_a_name(name, text, row) else ""


def _state_of(text: str) -> str | None:
    code = text.strip().upper()
    return code if code in _ARMED_FORCES else us_state_of(text)


def _read_prefixes() -> Iterator[tuple[str, frozenset[str]]]:
    for entry in _FIRST_DIGITS.split(";"):
        state, *ranges = entry.split()
        numbers = (map(int, (each.split("-") * 2)[:2]) for each in ranges)
        yield (
            state,
            frozenset(f"{n:03}" for first, last in numbers for n in range(first, last + 1)),
        )


_prefixes_by_state: Mapping[str, frozenset[str]] = dict(_read_prefixes())
_all_prefixes = frozenset().union(*_prefixes_by_state.values())
