"""Cells of delimited text that are quoted behind a blank (pure).

People put a blank before a quoted cell (`1, "5 Main St, Unit 4"`). The `csv` module takes such a
cell for an unquoted one, and splits it at the delimiters and line ends in it; `meant_row()` joins
the parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

_BEGIN = re.compile(r'[ \t]+"')
_END = re.compile(r'(?<!")"(?:"")*[ \t]*$')
_WHOLE = re.compile(r'[ \t]+"((?:[^"]|"")*)"[ \t]*')
_OPEN = re.compile(r'[ \t]+"(?:[^"]|"")*')
_LONE = re.compile(r'(?<!")"(?:"")*(?!")')  # a quote, and not only doubled ones
_MOST_PARTS = 100  # of a cell with delimiters in it
_MOST_ROWS = 100  # of the `csv` module, for a cell with line ends in it
_MOST_CHARACTERS = 64 * 1024  # in these rows


class MeantRow(NamedTuple):
    """A row as its author meant it."""

    cells: list[str]  # its cells
    rows: int = 1  # the number of rows of the `csv` module that it is joined from
    # The number of rows, from this one on, that cannot be told apart, as a quote is not closed; the
    # cells are then those of the `csv` module. None otherwise.
    unclosed: int | None = None


class _Joined(NamedTuple):
    cells: list[str]
    open_at: int | None  # place of the cell whose quote is not closed, which is unchanged
    has_lone_quote: bool  # in an unchanged cell


def meant_rows(
    rows: Iterator[list[str]], ahead: list[list[str]], delimiter: str
) -> Iterator[list[str]]:
    """Rows as their author meant them, before their width is known.

    Args:
        rows: Rows of the `csv` module.
        ahead: Rows read ahead; always holds what was read but not yielded.
        delimiter: The delimiter.
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
        read: Rows of the `csv` module; extended by the rows that have to be examined.
        place: The place of the first row.
        more: The rows behind them.
        delimiter: The delimiter.
        width: The number of cells that a row should have, if known.
    """
    first = so_far = _joined(read[place], delimiter)
    open_at = first.open_at
    if open_at is None:
        return MeantRow(first.cells)
    cells = list(read[place])
    is_clear = True  # whether no further row may stand alone
    for number, row in enumerate(_rows_behind(read, place, more), 1):
        behind = _joined(row, delimiter)
        is_clear = is_clear and not _stands_alone(behind, width)
        cells[-1] += "\n" + (row[0] if row else "")
        cells += row[1:]
        if not behind.has_lone_quote:
            continue
        found = _joined(cells, delimiter)
        if found.cells[open_at].startswith(so_far.cells[open_at]):  # not a quoted cell
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
    """The rows that may be part of the row at a place."""
    size = 0
    for at in range(place + 1, place + _MOST_ROWS):
        if at == len(read):
            read.extend(islice(more, 1))
        if at == len(read) or size > _MOST_CHARACTERS:
            return
        size += sum(map(len, read[at]))
        yield read[at]


def _stands_alone(row: _Joined, width: int | None) -> bool:
    """Whether a row may stand alone, rather than being part of a cell."""
    return width is not None and len(row.cells) >= width and not row.has_lone_quote


def _joined(cells: list[str], delimiter: str) -> _Joined:
    """The cells of a row as meant; the same list if no cell is quoted behind a blank."""
    ends: list[int] = []
    joined: list[str] = []
    left: list[tuple[int, int]] = []  # unchanged cells with quotes: places before and after
    done = 0
    for place in [place for place, cell in enumerate(cells) if '"' in cell]:
        if place < done:
            continue
        found = _WHOLE.fullmatch(cells[place])
        end = place
        if found is None and _BEGIN.match(cells[place]):
            ends = ends or _ends(cells)
            # A lone quote begins a cell; it cannot end one.
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
    """For each place, that of the next cell that ends with a closing quote; else the last one."""
    last = len(cells) - 1
    ends = [last] * (len(cells) + 1)
    for place in range(last, -1, -1):
        ends[place] = place if _END.search(cells[place]) else ends[place + 1]
    return ends
