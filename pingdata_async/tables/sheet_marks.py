"""What the XML of a sheet says of its cells and rows beside their values (pure).

The library that reads values gives nothing for a formula that nobody has calculated and for a
cell with an error, as if they were empty, and does not tell which rows are hidden.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from operator import itemgetter

MAX_MARKS = 1_000_000
"""Cells with a mark in a sheet, and its merged cells; measured: 100 bytes each."""

_COLUMNS = 2**32  # more than a sheet has
_REFERENCE = re.compile(
    r"""("[^"]*"|'[^']*')|(\$?)\b([A-Za-z]{1,3})(\$?)([1-9]\d{0,6})\b(?![(!.\w])"""
)


class TooManyMarksError(ValueError):
    """Raised for a sheet with more than `MAX_MARKS`."""


class FormulaText(str):
    """Stands for a cell: its formula, for which no value is stored."""

    __slots__ = ()


class ZeroFormulaText(str):
    """Stands for a cell with 0: its formula, which a program may have left to be calculated."""

    __slots__ = ()


class ErrorText(str):
    """Stands for a cell: the error that is its value, such as #N/A."""

    __slots__ = ()


MarkedText = FormulaText | ZeroFormulaText | ErrorText
MARKED = frozenset({FormulaText, ZeroFormulaText, ErrorText})


class SheetMarks:
    """What is said of the cells of a sheet; rows and columns count from 0.

    Attributes:
        hidden: Rows that are not shown, by hand or by a filter.
        spans: Cells that are merged with those below them: the first row, the last one, and the
            first column.
        last_row: The last one with a mark; -1 where there is none.
        last_column: Likewise.
        errors: Those that its cells hold, such as #N/A.
    """

    def __init__(self) -> None:
        self.hidden: set[int] = set()
        self.spans: list[tuple[int, int, int]] = []
        self.last_row = self.last_column = -1
        self.errors: set[str] = set()
        self._places = array("Q")
        self._texts: list[MarkedText] = []
        self._is_sorted = True

    def mark(self, row: int, column: int, text: MarkedText) -> None:
        """Note what stands for a cell."""
        self._check_room()
        place = row * _COLUMNS + column
        self._is_sorted = self._is_sorted and (not self._places or place > self._places[-1])
        self._places.append(place)
        self._texts.append(text)
        if isinstance(text, ErrorText):
            self.errors.add(str(text))
        self.last_row = max(self.last_row, row)
        self.last_column = max(self.last_column, column)

    def merge(self, first_row: int, last_row: int, column: int) -> None:
        """Note a merged cell."""
        if last_row > first_row:
            self._check_room()
            self.spans.append((first_row, last_row, column))

    def by_row(self) -> Iterator[tuple[int, list[tuple[int, MarkedText]]]]:
        """The rows with marks in their order, each with its columns and what stands there."""
        if not self._is_sorted:  # nobody writes such a sheet, but it can be read
            pairs = sorted(zip(self._places, self._texts, strict=True), key=itemgetter(0))
            self._places = array("Q", map(itemgetter(0), pairs))
            self._texts = list(map(itemgetter(1), pairs))
            self._is_sorted = True
        row, cells = -1, list[tuple[int, MarkedText]]()
        for place, text in zip(self._places, self._texts, strict=True):
            if place // _COLUMNS != row:
                if cells:
                    yield row, cells
                row, cells = place // _COLUMNS, []
            cells.append((place % _COLUMNS, text))
        if cells:
            yield row, cells

    def _check_room(self) -> None:
        if len(self._texts) + len(self.spans) == MAX_MARKS:
            raise TooManyMarksError


def moved_formula(formula: str, rows: int, columns: int) -> str:
    """A formula as it is when it is copied so many rows down and columns to the right.

    Spreadsheets write a formula that a block of cells shares in the first of them alone.
    """

    def moved(found: re.Match[str]) -> str:
        quoted, fixed_column, letters, fixed_row, number = found.groups()
        if quoted:
            return str(quoted)
        if not fixed_column:
            letters = column_letters(column_number(letters) + columns)
        if not fixed_row:
            number = str(int(number) + rows)
        return f"{fixed_column}{letters}{fixed_row}{number}"

    return _REFERENCE.sub(moved, formula)


def column_number(letters: str) -> int:
    """The number of a column, from 1: A is 1, AA is 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_letters(number: int) -> str:
    """What a column is called, by its number from 1."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_name(row: int, column: int) -> str:
    """What a cell is called, by its numbers from 0: B7."""
    return f"{column_letters(column + 1)}{row + 1}"
