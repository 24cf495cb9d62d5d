"""What separates the cells of a text (pure)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice

import msgspec

from pingdata_async.tables.header_row import SEARCHED_ROWS, HeaderRow, find_header
from pingdata_async.tables.inputs import ReadOptions
from pingdata_async.tables.spaced_quotes import meant_rows

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
"""Those that are looked for, the likeliest first, and what several of them are called."""


class Layout(msgspec.Struct, frozen=True):
    """How a delimited text is laid out.

    Attributes:
        delimiter: What separates its cells.
        header: Where its headers are; None where they are not among the first rows.
    """

    delimiter: str
    header: HeaderRow | None

    @property
    def is_one_column(self) -> bool:
        """Whether nothing separates its headers."""
        return self.header is not None and len(self.header.headers) == 1


def find_layout(
    sample: str, *, is_whole: bool, delimiter: str | None, options: ReadOptions
) -> Layout:
    """Find out how a text is laid out.

    The delimiter is that under which most headers are understood, then that under which most
    rows are as wide as the header, then that which makes most columns.

    Args:
        sample: Its beginning.
        is_whole: Whether that is all of it.
        delimiter: What separates its cells, where that is known.
        options: The headers that the user named.
    """
    tried: list[tuple[tuple[float, ...], Layout]] = []
    for each in [delimiter] if delimiter else DELIMITERS:
        rows = sample_rows(sample, each, is_whole=is_whole)
        header = find_header(rows, options)
        tried.append((_likelihood(rows, header), Layout(each, header)))
    best = max(tried, key=lambda pair: pair[0])[1]  # the first of equals
    if delimiter is None and best.is_one_column:
        return _one_column(sample, is_whole, best)
    return best


def sample_rows(sample: str, delimiter: str, *, is_whole: bool) -> list[list[str]]:
    """The first rows of a text, up to where it is cut or not well-formed."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(islice(meant_rows(reader, [], delimiter), SEARCHED_ROWS))
    except csv.Error:
        return rows
    if not is_whole and len(rows) < SEARCHED_ROWS:
        return rows[:-1]
    return rows


def _likelihood(rows: Sequence[Sequence[str]], header: HeaderRow | None) -> tuple[float, ...]:
    if header is None or len(header.headers) == 1:
        return (0, 0, 0, 0)
    width = len(header.headers)
    behind = [row for row in rows[header.place + 1 :] if row]
    alike = sum(len(row) == width for row in behind) / len(behind) if behind else 1
    return header.named, header.known, alike, width


def _one_column(sample: str, is_whole: bool, layout: Layout) -> Layout:
    """Commas in a column of its own are part of an address, as long as that can be read."""
    rows = sample_rows(sample, ",", is_whole=is_whole)
    if all(len(row) <= 1 for row in rows):
        return layout
    by_tabs = sample_rows(sample, "\t", is_whole=is_whole)
    is_readable = len(by_tabs) == len(rows) and all(len(row) <= 1 for row in by_tabs)
    return Layout("\t", layout.header) if is_readable else layout
