"""Which rows of a table are what: the headers, and the data below them (pure).

The header row is searched for by what its words mean. Below it, totals, footnotes, repeated headers
and second tables are not data. A row is judged by itself, with two exceptions: a footnote is known
by the total above it, and a second table goes on until the first headers are repeated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import zip_longest
from typing import Any

import msgspec

from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import LOOKUP_FIELDS
from pingdata_async.tables.mapping.columns import ColumnMapping
from pingdata_async.tables.mapping.headers import key_of, known_headers, meaning_of
from pingdata_async.tables.mapping.synonyms import ANGLE_PARTS, Part
from pingdata_async.tables.rows import ReadOptions
from pingdata_async.util.text import counted

# -- The header row -----------------------------------------------------------------------------

SEARCHED_ROWS = 50  # title pages are shorter

# Title rows contain a word or two that are headers elsewhere, and group titles stand just above the
# headers; far below a row with several headers, there is only data.
_KNOWN_IN_A_LIKELY_HEADER = 3
_ROWS_BEHIND_A_LIKELY_HEADER = 10
_PARTS_OF_ANGLES = frozenset().union(*ANGLE_PARTS.values())
_LONGEST_HEADER = 200  # characters; a longer text is about the table


class HeaderRow(msgspec.Struct, frozen=True):
    """The row, or the two rows, with the headers."""

    place: int  # the row, from 0; the lower one of two
    headers: tuple[str, ...]  # the header of each column; "" if it has none
    cells: tuple[tuple[str, ...], ...]  # the texts of each row
    named: int  # the number of headers that the user named
    known: int  # the number of headers that have a meaning, or that the user named

    @property
    def rows(self) -> int:
        """The number of rows: one or two."""
        return len(self.cells)


def find_header(rows: Sequence[Sequence[Any]], options: ReadOptions) -> HeaderRow | None:
    """Find the headers among the first rows of a table; None if no row has a text.

    The best row has the most headers that the user named, then the most that have a meaning; two
    rows count as one if more is understood that way. If nothing is understood, it is the first row
    with the most different texts.
    """
    named = _named(options)
    best: HeaderRow | None = None
    for place, row in enumerate(rows[:SEARCHED_ROWS]):
        is_likely = best is not None and best.known >= _KNOWN_IN_A_LIKELY_HEADER
        if best is not None and is_likely and place > best.place + _ROWS_BEHIND_A_LIKELY_HEADER:
            break
        for found in _candidates(rows, place, row, named):
            if best is None or _rank(found) > _rank(best):
                best = found
    if best is not None and best.known:
        return best
    widest = max(rows[:SEARCHED_ROWS], key=_distinct_texts, default=())
    if not _distinct_texts(widest):
        return None
    place = next(place for place, row in enumerate(rows) if row is widest)
    titles = list(map(header_text, widest))
    return _as_header(place, titles, [titles], named)


def header_text(value: Any) -> str:
    """A cell of the header row as text."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a year in a spreadsheet
    return str(value)


def is_empty_cell(value: Any) -> bool:
    """Whether a cell is empty or blank."""
    return value is None or (isinstance(value, str) and not value.strip())


def _candidates(
    rows: Sequence[Sequence[Any]], place: int, row: Sequence[Any], named: frozenset[str]
) -> list[HeaderRow]:
    titles = list(map(header_text, row))
    found = [_as_header(place, titles, [titles], named)]
    if place and not any(map(is_label, rows[place - 1])) and not _is_mostly_numbers(row):
        both = _padded(rows[place - 1], row)
        found.append(_as_header(place, _together(*both), both, named))
    return found


def _rank(found: HeaderRow) -> tuple[float, ...]:
    if found.known < _KNOWN_IN_A_LIKELY_HEADER:
        return found.named, found.known
    # "City:" and "State:" may stand above the table as well, beside their values.
    return found.named, found.known, found.known / sum(map(bool, found.headers))


def _as_header(
    place: int, titles: list[str], rows: Sequence[Sequence[str]], named: frozenset[str]
) -> HeaderRow:
    keys = [key_of(title) if len(title) <= _LONGEST_HEADER else "" for title in titles]
    beside = frozenset(keys)
    of_user = [key in named for key in keys]
    known = sum(
        is_named or (key != "" and meaning_of(title, beside) is not None)
        for title, key, is_named in zip(titles, keys, of_user, strict=True)
    )
    return HeaderRow(place, tuple(titles), tuple(map(tuple, rows)), sum(of_user), known)


def _padded(upper: Sequence[Any], lower: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Two rows as texts, of the same width."""
    width = max(len(upper), len(lower))
    above, below = ([*map(header_text, row), *[""] * (width - len(row))] for row in (upper, lower))
    return above, below


def _together(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    """The headers of two rows: for each column, the words that are understood best."""
    beside = frozenset(map(key_of, lower))
    headers = []
    title = ""
    for above, below in zip(upper, lower, strict=True):
        title = above if above.strip() else title
        # "Latitude" above "Deg", "Min" and "Sec" is in the first of these columns only.
        in_group = meaning_of(f"{title} {below}", beside) if below.strip() else None
        is_part = in_group is not None and in_group.name in _PARTS_OF_ANGLES
        headers.append(f"{title} {below}" if is_part else _joined(above, below, beside))
    return headers


def _joined(above: str, below: str, beside: AbstractSet[str]) -> str:
    both = f"{above} {below}".strip()
    # The title of a group of columns: "Limits" above "Building" adds meaning, "Location" above
    # "City" does not.
    if below and meaning_of(both, beside) is None and meaning_of(below, beside) is not None:
        return below
    return both


def is_label(value: Any) -> bool:
    """Whether a cell is the label of the cell beside it."""
    return isinstance(value, str) and value.rstrip().endswith(":")


def _distinct_texts(row: Sequence[Any]) -> int:
    texts = {cell.strip() for cell in row if isinstance(cell, str)}
    return sum(1 for text in texts if text and not _is_number(text))


def _is_mostly_numbers(row: Sequence[Any]) -> bool:
    """Whether a row is data: "12" below "BI Months" is not part of that header."""
    texts = [text for text in map(header_text, row) if text.strip()]
    return 2 * sum(map(_is_number, texts)) > len(texts)


def _is_number(text: str) -> bool:
    return not any(map(str.isalpha, text))


def _named(options: ReadOptions) -> frozenset[str]:
    return frozenset(map(key_of, options.mapping.values())) - {""}


# -- Rows of data -------------------------------------------------------------------------------

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
# What follows is what it is the total of.
_TOTAL_OF = re.compile(
    r"\s*(sub[\s-]*totals?\b|grand\s+totals?\b|totals?\s*(for|of|by|in)\b|totals?\s*[:\u2013-])",
    re.IGNORECASE,
)
_NOT_ENOUGH = frozenset({Part.HOUSE_NUMBER, Part.UNIT})  # counts, beside "Total"
_WORD = re.compile(r"[^\W\d_]+")


class RowPlaces(msgspec.Struct, frozen=True):
    """The cells of a row that can be looked up."""

    lookup: frozenset[int]  # the places of cells of which one suffices
    # The places of cells that are needed together; empty if there are none.
    coordinates: frozenset[int]


def row_places(mapping: ColumnMapping) -> RowPlaces:
    """The cells of a table's rows that can be looked up."""
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
    """Whether a row holds totals: its first text says so, and it has nothing to look up.

    "Total Wine" is a name, and so is "Total" beside a street or a city.
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
_LONGEST_LOWER_HEADER = 60  # characters, in a second table
_FEWEST_HEADERS = 2
_LABEL_AND_VALUE = 2


class DataRows:
    """Tells rows of data from other rows, from top to bottom.

    Attributes:
        left_out: The number of rows that are not data, by kind.
        other_table: The row in which a second table began, from 1; None if there is none.
        other_table_rows: The number of rows in other tables.
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
        """Whether the last row was a total, or in another table."""
        return self._is_below_total or self._is_in_other_table

    def note_gap(self) -> None:
        """Note an empty row."""
        self._is_below_gap = True
        self._is_below_title = False

    def are_all_data(self, columns: Sequence[Sequence[str]]) -> bool:
        """Whether all rows of texts are certainly data; if not, each has to be judged."""
        if self.has_ended:
            return False
        if self._longest and self._longest in "\n".join(columns[self._longest_at]).casefold():
            return False
        for column in columns:  # until each row has had its first text
            texts = "\n".join(column).casefold()
            if "total" in texts or "sum" in texts:
                return False
            if all(column):
                break
        return True

    def is_data(self, cells: Sequence[Any], row: int) -> bool:
        """Whether a row that is not empty is data; counts it if not.

        It has a cell for each header at least. `row` is its number, from 1.
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
        """A note about other tables, if any; `where` is "row" or "line"."""
        if self.other_table is None:
            return []
        rows = counted(self.other_table_rows, "row")
        begin = f"another table begins in {where} {self.other_table} and is left out ({rows})"
        return [f"{begin}; to send it, put it into a separate file"]

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
        """Whether a row is the header of a second table: several words, and no number."""
        if not (self._is_below_total or self._is_below_gap or self._is_below_title):
            return False
        given = [cell for cell in cells if not is_empty_cell(cell)]
        are_words = all(
            isinstance(cell, str)
            and len(cell) <= _LONGEST_LOWER_HEADER
            and not any(map(str.isdigit, cell))
            for cell in given
        )
        if len(given) < _FEWEST_HEADERS or not are_words:
            return False
        known = known_headers(given)
        if not known:  # a row of data would fill more of the columns
            return self._is_below_total and self._is_below_title and len(given) * 2 <= self._width
        if not (self._is_below_total or self._is_below_title):
            return known * 2 >= max(len(given), 3)
        # "Street" is also a town, but a row of data would fill more of the columns.
        return known * 2 >= len(given) or len(given) * 2 <= self._width

    def _is_located(self, cells: Sequence[Any], given: Sequence[int]) -> bool:
        """Whether a row that begins like a note has an address: "*Star Cafe", "4 Elm St", "Reno".

        A note with commas that is not quoted fills several columns as well.
        """
        beside = [cells[place] for place in given[1:] if place in self._places.lookup]
        return len(beside) > 1 or any(any(map(str.isdigit, cell)) for cell in beside)

    def _is_footnote(self, cells: Sequence[Any], given: Sequence[int]) -> bool:
        """Whether a row below a total is a note, or a label with its value."""
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


def left_out_notes(others: Counter[str], data: DataRows | None, where: str) -> list[str]:
    """Notes such as "2 empty rows, 1 total row and 1 footnote left out".

    Args:
        others: The number of other rows that are left out, by the name of one.
        data: Judges the rows; None if there are none yet.
        where: "row" or "line", for other tables.
    """
    notes = []
    if data is not None:
        others += data.left_out
        notes = data.notes(where)
    shown = [counted(number, what) for what, number in others.items() if number]
    if shown:
        *first, last = shown
        notes.insert(0, f"{', '.join(first)}{' and ' if first else ''}{last} left out")
    return notes
