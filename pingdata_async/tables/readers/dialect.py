"""The dialect of a delimited text: its delimiter, and quotes behind blanks (pure).

People write quoted cells behind a blank (`1, "5 Main St, Unit 4"`). The `csv` module takes such a
cell for an unquoted one, and cuts it at the delimiters and line ends in it; `meant_row()` puts it
together again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from pingdata_async.tables.mapping.headers import SEARCHED_ROWS, HeaderRow, find_header
from pingdata_async.tables.rows import ReadOptions

_BEGIN = re.compile(r'[ \t]+"')
_END = re.compile(r'(?<!")"(?:"")*[ \t]*$')
_WHOLE = re.compile(r'[ \t]+"((?:[^"]|"")*)"[ \t]*')
_OPEN = re.compile(r'[ \t]+"(?:[^"]|"")*')
_LONE = re.compile(r'(?<!")"(?:"")*(?!")')  # a quote, and not only doubled ones
_MOST_PARTS = 100  # of a cell with delimiters in it
_MOST_ROWS = 100  # of the `csv` module, that a cell with ends of lines in it makes
_MOST_CHARACTERS = 64 * 1024  # of as many


class MeantRow(NamedTuple):
    """A row as it is meant.

    Attributes:
        cells: Its cells; of several rows where a cell goes on over ends of lines.
        rows: How many rows of the `csv` module it is made of.
        unclosed: None; or how many rows, from this one on, cannot be told apart, since a cell opens
            a quote that is never closed as it should be. The row is then as it came.
    """

    cells: list[str]
    rows: int = 1
    unclosed: int | None = None


class _Joined(NamedTuple):
    cells: list[str]
    open_at: int | None  # place of the cell whose quote is not closed; it is as it came
    has_lone_quote: bool  # in a cell that is as it came


def meant_rows(
    rows: Iterator[list[str]], ahead: list[list[str]], delimiter: str
) -> Iterator[list[str]]:
    """Rows as they are meant, where it is not known yet how many cells they should have.

    Args:
        rows: As the `csv` module reads them.
        ahead: Those that were read before; always holds what was read and not handed out.
        delimiter: What separates their cells.
    """
    while True:
        if not ahead:
            ahead.extend(islice(rows, 1))
        if not ahead:
            return
        row = meant_row(ahead, 0, rows, delimiter, width=None)
        del ahead[: row.rows]
        yield row.cells


def meant_row(
    read: list[list[str]],
    place: int,
    more: Iterator[list[str]],
    delimiter: str,
    *,
    width: int | None,
) -> MeantRow:
    """The row that begins at a place.

    Args:
        read: Rows as the `csv` module reads them; grows by those that have to be looked at.
        place: Where among them.
        more: Those behind them.
        delimiter: What separates their cells.
        width: How many cells a row should have, where that is known.
    """
    first = so_far = _joined(read[place], delimiter)
    open_at = first.open_at
    if open_at is None:
        return MeantRow(first.cells)
    cells = list(read[place])
    is_clear = True  # whether no row behind it may be one of its own
    for number, row in enumerate(_rows_behind(read, place, more), 1):
        behind = _joined(row, delimiter)
        is_clear = is_clear and not _stands_alone(behind, width)
        cells[-1] += "\n" + (row[0] if row else "")
        cells += row[1:]
        if not behind.has_lone_quote:
            continue
        found = _joined(cells, delimiter)
        if found.cells[open_at].startswith(so_far.cells[open_at]):  # no quoted cell, as it came
            break
        so_far, open_at = found, found.open_at
        if open_at is None:
            if width is not None and any(map(str.strip, found.cells[width:])):
                break
            if is_clear:
                return MeantRow(found.cells, number + 1)
            return MeantRow(first.cells, unclosed=number + 1)
    if width is None:
        return MeantRow(first.cells)
    unclosed = 1
    for row in _rows_behind(read, place, more):
        behind = _joined(row, delimiter)
        if behind.open_at is not None or _stands_alone(behind, width):
            break
        unclosed += 1
    return MeantRow(first.cells, unclosed=unclosed)


def _rows_behind(
    read: list[list[str]], place: int, more: Iterator[list[str]]
) -> Iterator[list[str]]:
    """Those that may be part of the row at a place."""
    size = 0
    for at in range(place + 1, place + _MOST_ROWS):
        if at == len(read):
            read.extend(islice(more, 1))
        if at == len(read) or size > _MOST_CHARACTERS:
            return
        size += sum(map(len, read[at]))
        yield read[at]


def _stands_alone(row: _Joined, width: int | None) -> bool:
    """Whether it may be a row of its own, and no part of a cell."""
    return width is not None and len(row.cells) >= width and not row.has_lone_quote


def joined_cells(cells: list[str], delimiter: str) -> list[str]:
    """The cells of a row as they are meant; the same list where no cell is quoted behind a blank.

    What cannot be such a cell is left as it is.
    """
    return _joined(cells, delimiter).cells


def _joined(cells: list[str], delimiter: str) -> _Joined:
    ends: list[int] = []
    joined: list[str] = []
    left: list[tuple[int, int]] = []  # cells with quotes, as they came: where, and where now
    done = 0
    for place in [place for place, cell in enumerate(cells) if '"' in cell]:
        if place < done:
            continue
        found = _WHOLE.fullmatch(cells[place])
        end = place
        if found is None and _BEGIN.match(cells[place]):
            ends = ends or _ends(cells)
            # A quote alone begins a cell, and ends none.
            end = ends[place + (cells[place].strip() == '"')]
            if end - place < _MOST_PARTS:
                found = _WHOLE.fullmatch(delimiter.join(cells[place : end + 1]))
        if found is None:
            left.append((place, len(joined) + place - done))
        else:
            joined += cells[done:place]
            joined.append(found[1].replace('""', '"'))
            done = end + 1
    lone = next((pair for pair in reversed(left) if _LONE.search(cells[pair[0]])), None)
    open_at = None
    if lone is not None and _OPEN.fullmatch(cells[lone[0]]):
        is_closed = any(map(_LONE.search, cells[lone[0] + 1 :]))
        open_at = None if is_closed else lone[1]
    meant = joined + cells[done:] if done else cells
    return _Joined(meant, open_at, has_lone_quote=lone is not None)


def _ends(cells: Sequence[str]) -> list[int]:
    """By place, that of the first cell from there on that ends with a closing quote.

    Where there is none, and behind the last one, it is the last place.
    """
    last = len(cells) - 1
    ends = [last] * (len(cells) + 1)
    for place in range(last, -1, -1):
        ends[place] = place if _END.search(cells[place]) else ends[place + 1]
    return ends


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
"""Those that are looked for, the likeliest first, and what several of them are called."""


class Dialect(msgspec.Struct, frozen=True):
    """The delimiter and the header of a text.

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


def detect_dialect(
    sample: str, *, is_whole: bool, delimiter: str | None, options: ReadOptions
) -> Dialect:
    """Find the dialect of a text.

    The best delimiter is the one with which most headers are understood; then the one with which
    most rows are as wide as the header; then the one that makes most columns.

    Args:
        sample: Its beginning.
        is_whole: Whether that is all of it.
        delimiter: What separates its cells, where that is known.
        options: The headers that the user named.
    """
    tried: list[tuple[tuple[float, ...], Dialect]] = []
    for each in [delimiter] if delimiter else DELIMITERS:
        rows = sample_rows(sample, each, is_whole=is_whole)
        header = find_header(rows, options)
        tried.append((_likelihood(rows, header), Dialect(each, header)))
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


def _one_column(sample: str, is_whole: bool, dialect: Dialect) -> Dialect:
    """Commas in a column of its own are part of an address, as long as that can be read."""
    rows = sample_rows(sample, ",", is_whole=is_whole)
    if all(len(row) <= 1 for row in rows):
        return dialect
    by_tabs = sample_rows(sample, "\t", is_whole=is_whole)
    is_readable = len(by_tabs) == len(rows) and all(len(row) <= 1 for row in by_tabs)
    return Dialect("\t", dialect.header) if is_readable else dialect
