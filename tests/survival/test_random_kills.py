"""SIGKILL from outside, at moments that nobody chose; 20,000 rows are in `scripts/bench large`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.survival.trials import killed_at_random


@pytest.mark.parametrize(
    ("rows", "kills"), [(600, 2), pytest.param(2000, 6, marks=pytest.mark.large)]
)
async def test_killed_at_random_again_and_again(tmp_path: Path, rows: int, kills: int) -> None:
    """Each row comes out once, and what may have been paid for twice is counted."""
    figures = await killed_at_random(tmp_path, rows, 25, kills, seed=3)
    assert figures["kills"] == kills
    assert figures["chunks spooled at the last kill"] > 0


@pytest.mark.parametrize(
    ("rows", "kills"), [(300, 1), pytest.param(1500, 4, marks=pytest.mark.large)]
)
async def test_killed_where_rows_repeat_others(tmp_path: Path, rows: int, kills: int) -> None:
    """Each address is paid for once, and every row has its answer, as if each had been sent."""
    figures = await killed_at_random(tmp_path, rows, 25, kills, seed=4, distinct=rows * 2 // 3)
    assert figures["kills"] == kills
