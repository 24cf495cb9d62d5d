"""SIGKILL from outside, at moments that nobody chose; 20,000 rows are in `scripts/scale`."""

from __future__ import annotations

from pathlib import Path

from tests.survival.trials import killed_at_random


async def test_killed_at_random_again_and_again(tmp_path: Path) -> None:
    """Each row comes out once, and what may have been paid for twice is counted."""
    figures = await killed_at_random(tmp_path, 2000, 25, 6, seed=3)
    assert figures["kills"] == 6
    assert figures["chunks spooled at the last kill"] > 0


async def test_killed_where_rows_repeat_others(tmp_path: Path) -> None:
    """Each address is paid for once, and every row has its answer, as if each had been sent."""
    figures = await killed_at_random(tmp_path, 1500, 25, 4, seed=4, distinct=1000)
    assert figures["kills"] == 4
