"""Where the records of a workbook stand in it."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from itertools import chain

import msgspec


class SheetPlace(msgspec.Struct):
    """A sheet, and which of its rows are what; all numbers from 1, as people see them.

    Attributes:
        sheet: Its name.
        header_row: The row with the headers; the lower one where they take two.
        header_rows: How many they take.
        runs: Of the rows with records, the first of those that follow each other and how many
            they are. Titles, totals and empty rows are in between.
    """

    sheet: str
    header_row: int
    header_rows: int = 1
    runs: list[tuple[int, int]] = []

    def add(self, row: int) -> None:
        """Take a record's row, below those before."""
        if self.runs:
            first, count = self.runs[-1]
            if first + count == row:
                self.runs[-1] = (first, count + 1)
                return
        self.runs.append((row, 1))

    def rows(self) -> Iterator[int]:
        """The row of each record, in their order."""
        for first, count in self.runs:
            yield from range(first, first + count)

    def with_headers(self) -> Iterator[int]:
        """The rows of the headers, and that of each record."""
        first = self.header_row - self.header_rows + 1
        return chain(range(first, self.header_row + 1), self.rows())

    def is_in(self, first: int, last: int) -> bool:
        """Whether headers or a record stand in some rows."""
        if first <= self.header_row and last > self.header_row - self.header_rows:
            return True
        behind = bisect(self.runs, (last, math.inf))
        return behind > 0 and sum(self.runs[behind - 1]) > first
