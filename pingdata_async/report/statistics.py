"""Counts that stay small, however many rows there are (pure)."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

MAX_BINS = 512
MAX_VALUES = 500
MAX_VALUE_CHARACTERS = 60
LARGEST = 1e15  # what is further from zero counts as this far
OUTER_SHARE = 0.005  # of the numbers at either end, which share the outermost bin
SEED = 7

T = TypeVar("T")


class Bin(NamedTuple):
    """So many numbers from `low` up to, but not including, `high`."""

    low: float
    high: float
    rows: int


class Histogram:
    """Counts numbers in a few hundred bins, whatever their range.

    Few different numbers are counted exactly. Bins are a power of two wide, and double in width
    when there are too many: only those that hold anything are kept, so that a stray number far
    away costs one.
    """

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._width = 0.0  # of a bin, whose number is counted; 0 while the numbers themselves are
        self.low, self.high = math.inf, -math.inf

    def add(self, numbers: Sequence[float]) -> None:
        """Count numbers."""
        if not numbers:
            return
        low, high = min(numbers), max(numbers)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low < -LARGEST or high > LARGEST:
            numbers = [max(-LARGEST, min(LARGEST, number)) for number in numbers]
        if self._width:
            width = self._width
            self._counts.update([number // width for number in numbers])
        else:
            self._counts.update(numbers)
        while len(self._counts) > MAX_BINS:
            self._widen()

    def _widen(self) -> None:
        old = self._width
        if old:
            self._width, factor = 2 * old, 2.0
        else:  # by the middle half of the numbers, so that strays do not make the bins too wide
            middle = self.quantile(0.75) - self.quantile(0.25)
            self._width = factor = 2.0 ** max(-30, math.floor(math.log2(max(middle, 1e-9) / 64)))
        counts: Counter[float] = Counter()
        for number, count in self._counts.items():
            counts[number // factor] += count
        self._counts = counts

    def _middles(self) -> list[tuple[float, int]]:
        """Each bin's middle and count, ascending."""
        width = self._width
        if not width:
            return sorted(self._counts.items())
        return sorted(((each + 0.5) * width, count) for each, count in self._counts.items())

    def quantile(self, share: float) -> float:
        """The number that this share of all is not above, about."""
        middles = self._middles()
        wanted = share * self._counts.total()
        for middle, count in middles:
            wanted -= count
            if wanted <= 0:
                return min(max(middle, self.low), self.high)
        return self.high

    @property
    def is_varied(self) -> bool:
        """Whether there are different numbers."""
        return len(self._counts) > 1

    def bins(self, at_most: int = 24) -> list[Bin]:
        """Bins of equal, round width; the outermost also hold what lies further out."""
        if not self._counts:
            return []
        low, high = self.quantile(OUTER_SHARE), self.quantile(1 - OUTER_SHARE)
        step = _round_step((high - low) / at_most, is_whole=self._is_whole)
        first, last = math.floor(low / step), math.floor(high / step)
        counts = Counter[int]()
        for middle, count in self._middles():
            counts[max(first, min(last, math.floor(middle / step)))] += count
        return [Bin(n * step, (n + 1) * step, counts[n]) for n in range(first, last + 1)]

    @property
    def _is_whole(self) -> bool:
        return self._width >= 1 or all(float(each).is_integer() for each in self._counts)


def _round_step(least: float, *, is_whole: bool) -> float:
    """The first of 1, 2, 5, 10 and so on that is not less."""
    if is_whole:
        least = max(1.0, least)
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * (1 - 1e-9))


class ColumnStats:
    """What a column of answers holds.

    Args:
        path: Of the field: the source, and the names that lead to it.
        name: Its name in a table.

    Attributes:
        filled: Rows in which it is neither null nor empty.
        numbers: Its numbers.
        values: How often each of its other values occurs; {} where nearly every row has its own.
        others: Values that are not among these, as there were too many.
    """

    def __init__(self, path: tuple[str, ...], name: str) -> None:
        self.path, self.name = path, name
        self.filled = 0
        self.numbers = Histogram()
        self.values: Counter[str] = Counter()
        self.others = 0
        self._are_counted = True

    def add_numbers(self, values: Sequence[float | None]) -> None:
        """Add rows of a column of numbers."""
        numbers = [value for value in values if value is not None]
        self.filled += len(numbers)
        self.numbers.add(numbers)

    def add_values(self, values: Sequence[Any]) -> None:
        """Add rows of any other column."""
        counts = Counter(values)
        del counts[None], counts[""]
        self.filled += counts.total()
        if not self._are_counted:
            return
        known = self.values
        for value, count in counts.items():
            shown = str(value) if not isinstance(value, bool) else "yes" if value else "no"
            if len(shown) > MAX_VALUE_CHARACTERS:
                shown = f"{shown[: MAX_VALUE_CHARACTERS - 1]}…"
            if shown in known or len(known) < MAX_VALUES:
                known[shown] += count
            else:
                self.others += count
        if self.others > MAX_VALUES and self.others > known.total():
            self._are_counted = False
            known.clear()

    def top(self, at_most: int, least: int = 2) -> list[tuple[str, int]]:
        """The most frequent values, and what is left as "other"; [] where hardly any recurs.

        Args:
            at_most: How many.
            least: In so many rows at least, so that what is said of single rows is not shown.
        """
        common = [(value, n) for value, n in self.values.most_common(at_most) if n >= least]
        shown = sum(count for _, count in common)
        total = self.values.total() + self.others
        if 2 * shown < total:
            return []
        return [*common, *[("other", total - shown)] * (total > shown)]


class Reservoir(Generic[T]):
    """A random sample of all that is offered; the same rows give the same one.

    Attributes:
        items: The sample.
        offered: Of how many.
    """

    def __init__(self, size: int) -> None:
        self.items: list[T] = []
        self.offered = 0
        self._size = size
        self._random = random.Random(SEED)  # noqa: S311 - a sample, not a secret

    def offer(self, make: Callable[[], T]) -> None:
        """Offer one, which is made only if it is taken."""
        self.offered += 1
        if len(self.items) < self._size:
            self.items.append(make())
            return
        place = self._random.randrange(self.offered)
        if place < self._size:
            self.items[place] = make()


class PointGrid:
    """How many points are in each cell of a grid, whose cells double in width when too many.

    Args:
        size: The width of a cell in degrees, at first.
        max_cells: Cells that hold anything.
    """

    def __init__(self, size: float = 1 / 256, max_cells: int = 3000) -> None:
        self.size = size
        self._max_cells = max_cells
        self._cells: Counter[tuple[int, int]] = Counter()

    def add(self, points: Iterable[tuple[float, float]]) -> None:
        """Count points: longitude and latitude."""
        size = self.size
        self._cells.update([(math.floor(x / size), math.floor(y / size)) for x, y in points])
        while len(self._cells) > self._max_cells:
            wider: Counter[tuple[int, int]] = Counter()
            for (column, row), count in self._cells.items():
                wider[column // 2, row // 2] += count
            self._cells, self.size = wider, 2 * self.size

    @property
    def points(self) -> int:
        """Points in all."""
        return self._cells.total()

    def cells(self) -> list[tuple[float, float, int]]:
        """The middle of each cell and its points, the fullest last."""
        size = self.size
        found = sorted(self._cells.items(), key=lambda each: (each[1], each[0]))
        return [
            (round((x + 0.5) * size, 5), round((y + 0.5) * size, 5), count)
            for (x, y), count in found
        ]


def batched(items: Sequence[T], size: int) -> Iterable[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
