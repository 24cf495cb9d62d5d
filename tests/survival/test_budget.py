"""A run with a budget, by the server's own count; 3,000 rows are in `scripts/bench large`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.survival.trials import within_a_budget


@pytest.mark.parametrize(
    ("rows", "kills"), [(200, 2), pytest.param(600, 4, marks=pytest.mark.large)]
)
async def test_never_more_than_allowed_with_faults_and_kills(
    tmp_path: Path, rows: int, kills: int
) -> None:
    """At most a third is accepted, retries and lost answers included; raised, it finishes."""
    figures = await within_a_budget(
        tmp_path, rows, rows // 3, chunk_size=20, kills=kills, share=0.05, seed=5
    )
    assert figures["kills"] >= kills // 2


async def test_exactly_as_much_where_nothing_goes_wrong(tmp_path: Path) -> None:
    """All that is allowed is used, whatever the size of a chunk."""
    figures = await within_a_budget(tmp_path, 200, 130, chunk_size=50, kills=0, share=0.0, seed=1)
    assert figures["accepted by then"] == 130
    assert figures["accepted in the end"] == 200
