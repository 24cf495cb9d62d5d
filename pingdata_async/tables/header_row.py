"""The row of a table that says what its columns hold, below titles and blank rows (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from pingdata_async.tables.header_words import ANGLE_PARTS
from pingdata_async.tables.headers import key_of, meaning_of
from pingdata_async.tables.inputs import ReadOptions

SEARCHED_ROWS = 50  # title pages are shorter

# Title rows hold a word or two that are headers elsewhere, and titles of groups of columns are
# just above the headers; what is far below a row of several is data.
_KNOWN_IN_A_LIKELY_HEADER = 3
_ROWS_BEHIND_A_LIKELY_HEADER = 10
_PARTS_OF_ANGLES = frozenset().union(*ANGLE_PARTS.values())
_LONGEST_HEADER = 200  # characters; what is longer is a text about the table


class HeaderRow(msgspec.Struct, frozen=True):
    """Where the headers are.

    Attributes:
        place: The row they are in, from 0; the second one where they are in two.
        headers: As they stand there; "" where there is none.
        cells: The texts of the row, or of the two rows, that they are made of.
        named: How many of them the user named.
        known: How many of them mean something to the API; with those that were named.
    """

    place: int
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    named: int
    known: int

    @property
    def rows(self) -> int:
        """How many rows they are in: one or two."""
        return len(self.cells)


def find_header(rows: Sequence[Sequence[Any]], options: ReadOptions) -> HeaderRow | None:
    """Find the headers among the first rows of a table.

    They are the row that has most of the headers that the user named, then most of those that
    mean something to the API; two rows together where that understands more. Where none means
    anything, the first of those with most texts.

    Args:
        rows: The first rows of the table, with the empty ones.
        options: The headers that the user named.

    Returns:
        None where there is no row with a text.
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
    titles = list(map(shown_header, widest))
    return _as_header(place, titles, [titles], named)


def shown_header(value: Any) -> str:
    """A cell of the header as text."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # years, as a spreadsheet holds them
    return str(value)


def is_empty_cell(value: Any) -> bool:
    """Whether there is nothing in a cell, or only blanks."""
    return value is None or (isinstance(value, str) and not value.strip())


def _candidates(
    rows: Sequence[Sequence[Any]], place: int, row: Sequence[Any], named: frozenset[str]
) -> list[HeaderRow]:
    titles = list(map(shown_header, row))
    found = [_as_header(place, titles, [titles], named)]
    if place and not any(map(is_label, rows[place - 1])) and not _is_mostly_numbers(row):
        both = _padded(rows[place - 1], row)
        found.append(_as_header(place, _together(*both), both, named))
    return found


def _rank(found: HeaderRow) -> tuple[float, ...]:
    if found.known < _KNOWN_IN_A_LIKELY_HEADER:
        return found.named, found.known
    # "City:" and "State:" are above the table as well, each beside what they are.
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


def known_headers(titles: Sequence[str]) -> int:
    """How many of some headers mean something to the API."""
    beside = frozenset(map(key_of, titles))
    return sum(meaning_of(title, beside) is not None for title in titles)


def _padded(upper: Sequence[Any], lower: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Two rows as texts, of one width."""
    width = max(len(upper), len(lower))
    above, below = ([*map(shown_header, row), *[""] * (width - len(row))] for row in (upper, lower))
    return above, below


def _together(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    """Headers in two rows: of each column, the words that are understood best."""
    beside = frozenset(map(key_of, lower))
    headers = []
    title = ""
    for above, below in zip(upper, lower, strict=True):
        title = above if above.strip() else title
        # "Latitude" above "Deg", "Min" and "Sec" stands in the first of them only.
        in_group = meaning_of(f"{title} {below}", beside) if below.strip() else None
        is_part = in_group is not None and in_group.name in _PARTS_OF_ANGLES
        headers.append(f"{title} {below}" if is_part else _joined(above, below, beside))
    return headers


def _joined(above: str, below: str, beside: AbstractSet[str]) -> str:
    both = f"{above} {below}".strip()
    # A group's title stands above all of its columns: "Limits" above "Building" says more,
    # "Location" above "City" does not.
    if below and meaning_of(both, beside) is None and meaning_of(below, beside) is not None:
        return below
    return both


def is_label(value: Any) -> bool:
    """Whether a cell says what stands beside it, not below it."""
    return isinstance(value, str) and value.rstrip().endswith(":")


def _distinct_texts(row: Sequence[Any]) -> int:
    texts = {cell.strip() for cell in row if isinstance(cell, str)}
    return sum(1 for text in texts if text and not _is_number(text))


def _is_mostly_numbers(row: Sequence[Any]) -> bool:
    """Whether it is data: "12" below "BI Months" is no second half of that header."""
    texts = [text for text in map(shown_header, row) if text.strip()]
    return 2 * sum(map(_is_number, texts)) > len(texts)


def _is_number(text: str) -> bool:
    return not any(map(str.isalpha, text))


def _named(options: ReadOptions) -> frozenset[str]:
    titles = [*options.mapping.values(), options.id_column or ""]
    return frozenset(map(key_of, titles)) - {""}
