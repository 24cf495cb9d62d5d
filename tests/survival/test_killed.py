"""A run is killed with SIGKILL at every kind of moment, and gone on with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.sweeps import sampled
from tests.survival.killing import REFUSALS, TROUBLES, Scene, kill_at_all, moments_of

# Events and steps without which a run of that scene would not show what it is there for.
NEEDED = {
    REFUSALS.name: {"ChunkSplit", "before store.refused", "OutputProgress", "OutputWritten"},
    TROUBLES.name: {"JobAbandoned", "LocationsAskedAgain", "before store.batched"},
}

# Where a file gets onto the disk.
STEPS = ["after sync_file", "before sync_folder", "before sync_file", "after sync_folder"]

PARTS = 60


@pytest.mark.parametrize("part", sampled(range(PARTS), 1))
@pytest.mark.parametrize("scene", [REFUSALS, TROUBLES], ids=lambda scene: str(scene.name))
async def test_killed_at_every_kind_of_moment(tmp_path: Path, scene: Scene, part: int) -> None:
    """Each row once, nothing safe is asked for again, and what may be paid twice is counted."""
    moments = await moments_of(scene, tmp_path)
    assert NEEDED[scene.name] <= moments.keys()
    chance = random.Random(scene.name)
    # Not later than two thirds: where a run goes another way, there are fewer of a kind.
    cases = [
        [(moment, chance.randint(1, 1 + times * 2 // 3))]
        for moment, times in sorted(moments.items())
    ][part::PARTS]
    assert await kill_at_all(scene, tmp_path, cases) == len(cases)


@pytest.mark.parametrize("seed", sampled(range(4), 1))
async def test_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    """A run that is killed each time it has come a little further comes to its end too."""
    chance = random.Random(seed)
    steps = ["RequestSent(submit)", "before store.submitted", "after commit", "ChunkFinished"]
    cases = [[(chance.choice(steps), chance.randint(1, 4)) for _ in range(8)]]
    assert await kill_at_all(REFUSALS, tmp_path, cases) == len(cases)


@pytest.mark.parametrize("step", sampled(STEPS, 1))
async def test_killed_around_the_plan(tmp_path: Path, step: str) -> None:
    """Between the input's rows and the plan of them there is no plan, or there is all of it."""
    when, name = step.split()
    cases = [[(f"{when} filesystem.{name}", number)] for number in (1, 2)]
    assert await kill_at_all(REFUSALS, tmp_path, cases) == len(cases)


@pytest.mark.parametrize("step", sampled(STEPS, 1))
async def test_killed_around_the_output(tmp_path: Path, step: str) -> None:
    """No half output under its name, and none that the run does not know as its own."""
    when, name = step.split()
    cases = [[(f"{when} output_files.{name}", number)] for number in (1, 2)]
    assert await kill_at_all(REFUSALS, tmp_path, cases) == len(cases)


async def test_killed_while_the_output_is_written(tmp_path: Path) -> None:
    """While the run goes on, and when all of it is there."""
    step = "output_files.write_pieces"
    cases = [[(f"after {step}", 3), (f"before {step}", 1)], [("OutputWritten", 1)]]
    assert await kill_at_all(REFUSALS, tmp_path, cases) == len(cases)


@pytest.mark.parametrize("number", sampled([2, 1, 3], 1))
async def test_killed_around_the_spool(tmp_path: Path, number: int) -> None:
    """An answer that the journal speaks of is whole; any other is fetched once more."""
    steps = ["after spool.write_at", "before spool.sync_content", "after spool.sync_content"]
    cases = [[(step, number) for step in steps], [("before spool.sync_folder", number)]]
    assert await kill_at_all(REFUSALS, tmp_path, cases) == len(cases)
