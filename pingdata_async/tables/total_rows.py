"""Rows of a table that add up the others, which are no locations (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from pingdata_async.coordinates import COORDINATES
from pingdata_async.locations import LOOKUP_FIELDS
from pingdata_async.tables.columns import ColumnMapping
from pingdata_async.tables.header_row import is_empty_cell
from pingdata_async.tables.header_words import HOUSE_NUMBER, UNIT

_TOTALS = frozenset({"total", "totals", "subtotal", "subtotals", "sum", "sums"})
_BESIDE_TOTALS = frozenset({
    "a", "account", "all", "amount", "amounts", "and", "bi", "bldg", "bldgs", "bpp",
    "building", "buildings", "business", "campus", "combined", "contents", "count", "cov",
    "coverage", "exposure", "exposures", "for", "grand", "group", "income", "insurable",
    "insured", "limit", "limits", "loc", "location", "locations", "locs", "no", "number", "of",
    "overall", "page", "pd", "policy", "portfolio", "premium", "premises", "program",
    "properties", "property", "report", "reported", "s", "schedule", "scheduled", "section",
    "sheet", "site", "sites", "sov", "statement", "sub", "sum", "summary", "the", "this",
    "tiv", "usd", "value", "values",
})  # fmt: skip
# What follows says of what.
_TOTAL_OF = re.compile(
    r"\s*(sub[\s-]*totals?\b|grand\s+totals?\b|totals?\s*(for|of|by|in)\b|totals?\s*[:\u2013-])",
    re.IGNORECASE,
)
_NOT_ENOUGH = frozenset({HOUSE_NUMBER, UNIT})  # beside "Total" they are how many there are
_WORD = re.compile(r"[^\W\d_]+")


class RowPlaces(msgspec.Struct, frozen=True):
    """Where a row has what is looked up.

    Attributes:
        lookup: Places of cells, one of which is enough.
        coordinates: Places of cells, all of which are needed; empty where there are none.
    """

    lookup: frozenset[int]
    coordinates: frozenset[int]


def row_places(mapping: ColumnMapping) -> RowPlaces:
    """Where the rows of a table have what is looked up."""
    by_field = {
        column.field: tuple(
            place
            for place, part in zip_longest(column.places, column.parts)
            if part not in _NOT_ENOUGH
        )
        for column in mapping.columns
    }
    coordinates = [by_field.get(field, ()) for field in COORDINATES]
    return RowPlaces(
        frozenset(place for field in LOOKUP_FIELDS for place in by_field.get(field, ())),
        frozenset(place for places in coordinates for place in places)
        if all(coordinates)
        else frozenset(),
    )


def is_total_row(cells: Sequence[Any], places: RowPlaces) -> bool:
    """Whether a row adds up others: its first text says so, and it has nothing to look up.

    "Total Wine" is a name, and "Total" with a street or a city is as well.
    """
    first = next(
        (place for place, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()), None
    )
    if first is None or not says_total(cells[first]):
        return False
    given = {place for place, cell in enumerate(cells) if not is_empty_cell(cell)} - {first}
    has_coordinates = bool(places.coordinates) and given >= places.coordinates
    return not has_coordinates and given.isdisjoint(places.lookup)


def says_total(text: str) -> bool:
    """Whether a text is "Total", "Subtotal TX", "Total of 12 locations" and the like."""
    if _TOTAL_OF.match(text):
        return True
    words = _WORD.findall(text.casefold())
    return not _TOTALS.isdisjoint(words) and _TOTALS.union(_BESIDE_TOTALS).issuperset(words)
