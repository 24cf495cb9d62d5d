"""A run with a budget, by the server's own count; 3,000 rows are in `scripts/scale`."""

from __future__ import annotations

from pathlib import Path

from tests.survival.trials import within_a_budget


async def test_never_more_than_allowed_with_faults_and_kills(tmp_path: Path) -> None:
    """At most 200 of 600 are accepted, retries and lost answers included; raised, it finishes."""
    figures = await within_a_budget(tmp_path, 600, 200, chunk_size=20, kills=4, share=0.05, seed=5)
    assert figures["kills"] >= 2


async def test_exactly_as_much_where_nothing_goes_wrong(tmp_path: Path) -> None:
    """All that is allowed is used, whatever the size of a chunk."""
    figures = await within_a_budget(tmp_path, 600, 250, chunk_size=60, kills=0, share=0.0, seed=1)
    assert figures["accepted by then"] == 250
    assert figures["accepted in the end"] == 600
