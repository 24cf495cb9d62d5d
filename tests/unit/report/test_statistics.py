"""Counts that stay small."""

from __future__ import annotations

import random

import pytest

from pingdata_async.report.statistics import (
    MAX_BINS,
    MAX_VALUES,
    ColumnStats,
    Histogram,
    PointGrid,
    Reservoir,
)


@pytest.mark.parametrize("far", [[], [1e300, -1e300], [5e-324]])
def test_a_histogram_stays_small_and_loses_nothing(far: list[float]) -> None:
    """Whatever the range: each number is in a bin, and the quantiles are near the true ones."""
    numbers = [random.Random(1).gauss(50, 10) for _ in range(50)]
    numbers = [number + n / 1000 for n in range(200) for number in numbers] + far
    histogram = Histogram()
    for begin in range(0, len(numbers), 500):
        histogram.add(numbers[begin : begin + 500])
    assert len(histogram._counts) <= MAX_BINS
    assert sum(each.rows for each in histogram.bins()) == len(numbers)
    assert len(histogram.bins()) <= 26
    true = sorted(numbers)[len(numbers) // 2]
    assert histogram.quantile(0.5) == pytest.approx(true, abs=1)
    assert (histogram.low, histogram.high) == (min(numbers), max(numbers))


def test_few_whole_numbers_are_counted_exactly() -> None:
    """A bin for each, none between them."""
    histogram = Histogram()
    histogram.add([1, 2, 2, 4])
    assert [(each.low, each.rows) for each in histogram.bins()] == [(1, 1), (2, 2), (3, 0), (4, 1)]


def test_values_are_counted_until_there_are_too_many() -> None:
    """Those that recur are named; where each row has its own, none is kept."""
    zones = ColumnStats(("PH", "zone"), "ph_zone")
    zones.add_values(["X"] * 8 + ["AE"] * 2 + [None, "", "once"])
    assert zones.filled == 11
    assert zones.top(5) == [("X", 8), ("AE", 2), ("other", 1)]
    unique = ColumnStats(("PG", "place_id"), "pg_place_id")
    for begin in range(0, 5000, 100):
        unique.add_values([f"id-{n}" for n in range(begin, begin + 100)])
    assert (unique.filled, unique.top(5), len(unique.values)) == (5000, [], 0)
    long = ColumnStats(("PH", "text"), "ph_text")
    long.add_values(["x" * 10_000] * 2)
    assert len(long.top(1)[0][0]) < 100
    assert MAX_VALUES < 5000


def test_a_sample_is_the_same_each_time_and_fair() -> None:
    """Of the same rows; early and late ones have the same chance."""

    def sample() -> list[int]:
        reservoir: Reservoir[int] = Reservoir(100)
        for n in range(10_000):
            reservoir.offer(lambda n=n: n)  # type: ignore[misc]
        return reservoir.items

    assert sample() == sample()
    assert 30 < sum(n < 5000 for n in sample()) < 70


def test_a_grid_widens_and_loses_no_point() -> None:
    """However far apart they are."""
    grid = PointGrid(max_cells=50)
    places = random.Random(2)
    grid.add((places.uniform(-180, 180), places.uniform(-90, 90)) for _ in range(1000))
    assert (grid.points, len(grid.cells()) <= 50) == (1000, True)
