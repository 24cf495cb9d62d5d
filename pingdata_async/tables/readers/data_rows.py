"""Which rows of a table are data: no totals, footnotes, repeated headers or second tables (pure).

A row is judged by itself, with two exceptions: a footnote is known by the total above it, and
another table goes on until the headers of the first one are repeated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import LOOKUP_FIELDS
from pingdata_async.tables.mapping.columns import ColumnMapping
from pingdata_async.tables.mapping.headers import (
    HeaderRow,
    header_text,
    is_empty_cell,
    is_label,
    key_of,
    known_headers,
)
from pingdata_async.tables.mapping.synonyms import HOUSE_NUMBER, UNIT
from pingdata_async.util.text import counted

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


TOTAL = "total row"
FOOTNOTE = "footnote"
HEADER = "repeated header"

_FEWEST_COLUMNS_BESIDE_NOTES = 3
_STREET_LINE = re.compile(r"\s*\d+[-/\d]*[A-Za-z]?\s+\w+\s+\w")
_FOOTNOTE = re.compile(
    r"\s*(?:[*\u2020\u2021]|\(?\d{1,2}\)\s|(?:notes?|disclaimer|source)\s*[:.]|prepared by\b)",
    re.IGNORECASE,
)
_LONGEST_HEADER = 60  # characters of one in a table below
_FEWEST_HEADERS = 2
_LABEL_AND_VALUE = 2


class DataRows:
    """Tells the rows of data from the others, one after the other.

    Args:
        header: The table's own.
        mapping: What is made of its columns.

    Attributes:
        left_out: How many rows are no data, by what they are.
        other_table: The row in which another table began, from 1; None where there was none.
        other_table_rows: How many rows were of such a table.
    """

    def __init__(self, header: HeaderRow, mapping: ColumnMapping) -> None:
        self.left_out = Counter[str]()
        self.other_table: int | None = None
        self.other_table_rows = 0
        self._places = row_places(mapping)
        self._headers = [list(map(key_of, cells)) for cells in header.cells]
        self._width = sum(map(bool, header.headers))
        # The longest header is the least likely to be in a cell.
        longest = max(header.cells[-1], key=len, default="")
        self._longest = longest.strip().casefold()
        self._longest_at = header.cells[-1].index(longest) if longest else 0
        self._is_below_total = self._is_below_gap = self._is_below_title = False
        self._is_in_other_table = False

    @property
    def has_ended(self) -> bool:
        """Whether a total, or another table, was the last that came."""
        return self._is_below_total or self._is_in_other_table

    def note_gap(self) -> None:
        """Take notice of an empty row."""
        self._is_below_gap = True
        self._is_below_title = False

    def are_all_data(self, columns: Sequence[Sequence[str]]) -> bool:
        """Whether that is certain for rows of texts at a glance; if not, ask for each."""
        if self.has_ended:
            return False
        if self._longest and self._longest in "\n".join(columns[self._longest_at]).casefold():
            return False
        for column in columns:  # up to where each row has its first text
            texts = "\n".join(column).casefold()
            if "total" in texts or "sum" in texts:
                return False
            if all(column):
                break
        return True

    def is_data(self, cells: Sequence[Any], row: int) -> bool:
        """Whether a row that is not empty is one of the table; counts it if not.

        Args:
            cells: As many as there are headers, or more.
            row: Its number, from 1.
        """
        if self._is_header(cells):
            self._is_below_total = self._is_below_gap = self._is_below_title = False
            self._is_in_other_table = False
            self.left_out[HEADER] += 1
            return False
        if not self._is_in_other_table and is_total_row(cells, self._places):
            self._is_below_total = True
            self.left_out[TOTAL] += 1
            return False
        if not self._is_in_other_table and self._begins_another_table(cells):
            self._is_in_other_table = True
            self.other_table = self.other_table or row
        if self._is_in_other_table:
            self.other_table_rows += 1
            return False
        given = [place for place, cell in enumerate(cells) if not is_empty_cell(cell)]
        self._is_below_title = len(given) == 1 and self._is_below_gap
        if self._is_below_total and self._is_footnote(cells, given):
            self.left_out[FOOTNOTE] += 1
            return False
        self._is_below_total = self._is_below_gap = False
        return True

    def notes(self, where: str) -> list[str]:
        """What is to be said of another table; `where` is "row" or "line"."""
        if self.other_table is None:
            return []
        rows = counted(self.other_table_rows, "row")
        begin = f"another table begins in {where} {self.other_table}"
        return [f"{begin}, and is left out ({rows}); to send it, put it into a file of its own"]

    def _is_header(self, cells: Sequence[Any]) -> bool:
        if not self._longest or len(cells) <= self._longest_at:
            return False
        return any(self._equals(cells, keys) for keys in self._headers)

    def _equals(self, cells: Sequence[Any], keys: Sequence[str]) -> bool:
        first = next((place for place, key in enumerate(keys) if key), None)
        if first is None or not isinstance(cells[first], str):
            return False
        if key_of(cells[first]) != keys[first]:
            return False
        return all(key_of(header_text(cell)) == key for cell, key in zip(cells, keys, strict=False))

    def _begins_another_table(self, cells: Sequence[Any]) -> bool:
        """Whether a row is the header of a table below: several words, and no number."""
        if not (self._is_below_total or self._is_below_gap or self._is_below_title):
            return False
        given = [cell for cell in cells if not is_empty_cell(cell)]
        are_words = all(
            isinstance(cell, str)
            and len(cell) <= _LONGEST_HEADER
            and not any(map(str.isdigit, cell))
            for cell in given
        )
        if len(given) < _FEWEST_HEADERS or not are_words:
            return False
        known = known_headers(given)
        if not known:  # a row of data fills more of the columns
            return self._is_below_total and self._is_below_title and len(given) * 2 <= self._width
        if not (self._is_below_total or self._is_below_title):
            return known * 2 >= max(len(given), 3)
        # "Street" is a town as well, in a row that fills more of the columns.
        return known * 2 >= len(given) or len(given) * 2 <= self._width

    def _is_located(self, cells: Sequence[Any], given: Sequence[int]) -> bool:
        """Whether a row that begins like a note has an address: "*Star Cafe", "4 Elm St", "Reno".

        The commas of a note that is not quoted spread it over columns as well.
        """
        beside = [cells[place] for place in given[1:] if place in self._places.lookup]
        return len(beside) > 1 or any(any(map(str.isdigit, cell)) for cell in beside)

    def _is_footnote(self, cells: Sequence[Any], given: Sequence[int]) -> bool:
        """Whether a row below a total is a text beside the table, or a label with its value."""
        if self._width < _FEWEST_COLUMNS_BESIDE_NOTES:
            return False
        text = cells[given[0]]
        if not isinstance(text, str):
            return False
        if _FOOTNOTE.match(text) and all(isinstance(cells[place], str) for place in given):
            return not self._is_located(cells, given)
        if len(given) == 1:
            return given[0] not in self._places.lookup or not _STREET_LINE.match(text)
        return len(given) == _LABEL_AND_VALUE and is_label(text)
