"""A run that reuses answers is killed at any moment, and gone on with."""

from __future__ import annotations

import asyncio
import csv
import math
import os
import random
import sys
from pathlib import Path

import pytest

from pingdata_async.sandbox import SandboxServer
from tests.support.runs import lines, write_rows
from tests.support.sweeps import sampled

ROWS, CHANGED_EVERY, KILLS = 2_000, 10, 3


async def enhance(
    folder: Path, server: SandboxServer, *words: str, kill_after_s: float | None = None
) -> int:
    """One command; its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pingdata_async", "enhance", *words),
        *("--api-url", server.url, "--chunk-size", "100", "--quiet"),
        cwd=folder,
        env=os.environ | {"PING_DATA_AUTH_TOKEN": "t"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if kill_after_s is not None:
        try:
            await asyncio.wait_for(process.wait(), kill_after_s)
        except TimeoutError:
            process.kill()
    return await process.wait()


@pytest.mark.parametrize("seed", sampled(range(8), 1))
async def test_nothing_known_is_paid_for_whenever_it_is_killed(tmp_path: Path, seed: int) -> None:
    """Each row once, with the answer that a run without reuse has; reused is what was known."""
    rng = random.Random(seed)
    rows = write_rows(tmp_path / "old.csv", ROWS)
    for number, row in enumerate(rows[::CHANGED_EVERY]):
        row["address_line_1"] = f"{number} Changed Street"
    with (tmp_path / "new.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    changed = len(rows[::CHANGED_EVERY])
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0) as server:
        assert not await enhance(tmp_path, server, "old.csv", "-o", "old.jsonl", "-s", "PG")
        known = server.stats.locations_accepted
        words = ("new.csv", "-o", "new.jsonl", "-s", "PG", "--reuse", "old.jsonl.run")
        for _ in range(KILLS):
            await enhance(tmp_path, server, *words, kill_after_s=rng.uniform(0.5, 2.5))
        assert not await enhance(tmp_path, server, *words)
        # At most what was on its way at each kill is sent again.
        assert server.stats.locations_accepted - known <= (1 + KILLS) * changed
        full = ("new.csv", "-o", "full.jsonl", "-s", "PG", "--pay-again")
        assert not await enhance(tmp_path, server, *full)
    found = lines(tmp_path / "new.jsonl")
    marked = sum(bool(row.pop("reused", None)) for row in found)
    assert found == lines(tmp_path / "full.jsonl")
    assert marked == ROWS - changed
