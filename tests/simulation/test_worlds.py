"""The real scheduler in many simulated worlds: no invariant breaks in any of them.

`scripts/simulate` hunts through more of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.hunting import hunt
from tests.simulation.simulation import simulate
from tests.simulation.worlds import draw_world
from tests.support.sweeps import sampled

PARTS = 20
PARTS_IN_SAMPLE = 1
SEEDS_IN_A_PART = 13


@pytest.mark.parametrize("part", sampled(range(PARTS), PARTS_IN_SAMPLE))
def test_no_world_breaks_it(part: int) -> None:
    """Each row once, the cap, Retry-After, no starvation, an end, buffers, money."""
    report = hunt(range(part * SEEDS_IN_A_PART, (part + 1) * SEEDS_IN_A_PART))
    if report is not None:
        pytest.fail(report.in_words(), pytrace=False)


def test_the_worlds_differ() -> None:
    """All kinds of things happen in them."""
    worlds = [draw_world(seed) for seed in range(PARTS * SEEDS_IN_A_PART)]
    assert {world.is_durable for world in worlds[:6]} == {True, False}
    assert any(len(world.mishaps) > 1 for world in worlds)
    assert any(world.outages for world in worlds)
    assert any(world.fault_share for world in worlds)
    assert any(world.hostile_share for world in worlds)
    assert {bool(world.storage) for world in worlds} == {True, False}
    assert any(world.limits.requests_per_s < 10 for world in worlds)
    assert any(world.work.changes for world in worlds)
    assert any(world.consumer.leaves_after for world in worlds if not world.is_durable)
    assert sum(world.is_calm for world in worlds) > 10


@pytest.mark.parametrize("seeds", sampled([range(1), range(1, 6)], 1), ids=str)
def test_a_world_is_always_the_same(seeds: range) -> None:
    """The same seed gives the same events at the same times, in whatever process."""
    reports = [simulate(seed, keeps_log=True) for seed in seeds]
    for report in reports:
        again = simulate(report.world.seed, keeps_log=True)
        assert report.lines == again.lines
        assert report.digest == again.digest
    code = (
        "from tests.simulation.simulation import simulate\n"
        f"print(*[simulate(seed).digest for seed in {seeds}])"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert done.stdout.split() == [report.digest for report in reports]


def test_another_seed_is_another_world() -> None:
    assert len({simulate(seed).digest for seed in range(3)}) == 3


def test_one_world_can_be_looked_at(tmp_path: Path) -> None:
    """The command that a failure names shows the world, and writes down what happened."""
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "tests.simulation.command", "--seed", "3", "--log", str(log)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert "max_jobs: " in done.stdout
    assert log.read_text().splitlines() == simulate(3, keeps_log=True).lines
