"""What is told of the reading while a plan is written."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import openpyxl
import pytest

from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.planning import plan_writer
from pingdata_async.runs.planning.plan_writer import write_plan

ROWS = 9_000


async def told_of(folder: Path, source: Path) -> list[tuple[int, float | None]]:
    """What `on_read` hears, if it is called after each batch."""
    told: list[tuple[int, float | None]] = []
    builder = ChunkBuilder(chunk_size=1000, sources=("PG",))
    await write_plan(
        folder / "plan", source, builder, on_read=lambda rows, share: told.append((rows, share))
    )
    return told


@pytest.fixture(autouse=True)
def _tell_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_writer, "TELL_INTERVAL_S", 0.0)


async def test_rows_and_the_share_of_a_file_grow(tmp_path: Path) -> None:
    """To the last row; the share is known until the whole file has been read."""
    source = tmp_path / "in.csv"
    lines = ["address_line_1", *(f"{n} Main St, Boston, MA" for n in range(ROWS))]
    source.write_text("\n".join(lines))
    told = await told_of(tmp_path, source)
    assert told[-1] == (ROWS, None)
    assert all(before < after for (before, _), (after, _) in pairwise(told))
    shares = [share for _, share in told if share is not None]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] < shares[-1] < 1.0


async def test_a_workbook_has_no_share(tmp_path: Path) -> None:
    """It is read through before its first row, so that the share would be 100 % all the time."""
    source = tmp_path / "in.xlsx"
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.append(["address_line_1"])
    for n in range(100):
        sheet.append([f"{n} Main St, Boston, MA"])
    workbook.save(source)
    told = await told_of(tmp_path, source)
    assert told[-1] == (100, None)
