"""Quoted cells behind a blank (`1, "5 Main St, Unit 4"`), as people write them (pure).

The `csv` module takes such a cell for one without quotes, and cuts it at the delimiters in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BEGIN = re.compile(r'[ \t]+"')
_END = re.compile(r'(?<!")"(?:"")*[ \t]*$')
_WHOLE = re.compile(r'[ \t]+"((?:[^"]|"")*)"[ \t]*')
_MOST_PARTS = 100  # of a cell with delimiters in it


def joined_cells(cells: list[str], delimiter: str) -> list[str]:
    """The cells of a row as they are meant; the same list where no cell is quoted behind a blank.

    What cannot be such a cell is left as it is.
    """
    begins = [place for place, cell in enumerate(cells) if _BEGIN.match(cell)]
    if not begins:
        return cells
    ends = _ends(cells)
    joined: list[str] = []
    done = 0
    for begin in begins:
        if begin < done:
            continue
        joined += cells[done:begin]
        end = begin
        found = _WHOLE.fullmatch(cells[begin])
        if found is None:
            # A quote alone begins a cell, and ends none.
            end = ends[begin + (cells[begin].strip() == '"')]
            if end - begin < _MOST_PARTS:
                found = _WHOLE.fullmatch(delimiter.join(cells[begin : end + 1]))
        if found is None:
            joined.append(cells[begin])
            done = begin + 1
        else:
            joined.append(found[1].replace('""', '"'))
            done = end + 1
    return joined + cells[done:]


def _ends(cells: Sequence[str]) -> list[int]:
    """By place, that of the first cell from there on that ends with a closing quote.

    Where there is none, and behind the last one, it is the last place.
    """
    last = len(cells) - 1
    ends = [last] * (len(cells) + 1)
    for place in range(last, -1, -1):
        ends[place] = place if _END.search(cells[place]) else ends[place + 1]
    return ends
