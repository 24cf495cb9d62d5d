"""Everything goes wrong at once, and every row arrives with its right answer all the same.

10,000 rows are in `scripts/bench large`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sweeps import sampled
from tests.survival.trials import everything_goes_wrong


@pytest.mark.parametrize(
    ("rows", "share", "seed"), sampled([(150, 0.10, 2), (1000, 0.10, 2), (1000, 0.05, 1)], 1)
)
async def test_all_rows_arrive_with_faults_on(
    tmp_path: Path, rows: int, share: float, seed: int
) -> None:
    """Each once, in order, answered, and no more paid for twice than the summary says."""
    figures = await everything_goes_wrong(tmp_path, rows, 10, share, seed)
    assert figures["faults"] > rows / 10


@pytest.mark.parametrize("rows", [200, pytest.param(1500, marks=pytest.mark.large)])
async def test_rows_that_repeat_others_arrive_with_faults_on(tmp_path: Path, rows: int) -> None:
    """As if each had been sent for itself, whatever became of the one that was."""
    figures = await everything_goes_wrong(tmp_path, rows, 10, 0.07, 3, distinct=rows * 3 // 5)
    assert figures["faults"] > rows / 15
