"""Rows at fault fail alone; a request at fault fails nothing.

The unknown source goes with 100,000 rows in `scripts/bench large`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.survival.trials import poisoned_rows, refuses_everything, unknown_source


@pytest.mark.parametrize("rows", [1000, pytest.param(5000, marks=pytest.mark.large)])
async def test_four_poisoned_rows_among_thousands(tmp_path: Path, rows: int) -> None:
    """Exactly those fail, by id; no other is in two jobs; about 15 refusals for each."""
    poisoned = (0, rows // 4 - 16, rows // 4 - 15, rows - 1)
    figures = await poisoned_rows(tmp_path, rows, rows // 10, poisoned)
    assert figures["failed"] == 4


async def test_an_unknown_source_on_many_rows(tmp_path: Path) -> None:
    """It is the request that is at fault: said at once, and nothing is halved."""
    await unknown_source(tmp_path, 10_000)


async def test_an_api_that_refuses_everything(tmp_path: Path) -> None:
    """It is the API that is at fault: no row is failed for it, and all are answered later."""
    await refuses_everything(tmp_path, 500, 25)
