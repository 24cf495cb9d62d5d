"""Runs that survive: faults, kills and rows at fault, at full size.

    python -m benchmarks.scale.survival [NAME ...]

tries those named, or all, and prints a line for each. Exit code 1: something did not hold.
The same at a smaller size is in the suite, in tests/survival.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio

from tests.survival.killing import REFUSALS, TROUBLES, Scene, kill_at_all, moments_of
from tests.survival.trials import (
    Figures,
    everything_goes_wrong,
    killed_at_random,
    poisoned_rows,
    refuses_everything,
    unknown_source,
    within_a_budget,
)


async def killed_at_every_moment(folder: Path, scene: Scene, at_most: int | None = None) -> Figures:
    """One run for each moment, evenly thinned out where there are too many."""
    moments = await moments_of(scene, folder)
    cases = [
        [(moment, number)] for moment, times in moments.items() for number in range(1, times + 1)
    ]
    step = -(-len(cases) // at_most) if at_most else 1
    done = await kill_at_all(scene, folder, cases[::step], at_once=os.cpu_count() or 2)
    return Figures({"kinds of moment": len(moments), "moments": len(cases), "runs killed": done})


TRIALS: dict[str, Callable[[Path], Awaitable[Figures]]] = {
    "faults of 5 % each": partial(
        everything_goes_wrong, rows=10_000, chunk_size=50, share=0.05, seed=1
    ),
    "faults of 10 % each": partial(
        everything_goes_wrong, rows=10_000, chunk_size=50, share=0.10, seed=2
    ),
    "faults of 10 % each, rows that repeat others": partial(
        everything_goes_wrong, rows=9000, chunk_size=50, share=0.10, seed=3, distinct=3000
    ),
    "random kills, rows that repeat others": partial(
        killed_at_random, rows=30_000, chunk_size=50, kills=20, seed=2, distinct=20_000
    ),
    "random kills": partial(killed_at_random, rows=20_000, chunk_size=50, kills=20, seed=1),
    "a budget": partial(
        within_a_budget, rows=3000, most=1000, chunk_size=50, kills=8, share=0.05, seed=2
    ),
    "poisoned rows": partial(poisoned_rows, rows=5000, chunk_size=500, at=(17, 1999, 3000, 3001)),
    "poisoned rows side by side": partial(
        poisoned_rows, rows=5000, chunk_size=500, at=(2498, 2499, 2500, 2501)
    ),
    "unknown source": partial(unknown_source, rows=100_000),
    "all refused": partial(refuses_everything, rows=5000, chunk_size=50),
    "killed at every moment, refusals": partial(killed_at_every_moment, scene=REFUSALS),
    "killed at every few moments, troubles": partial(
        killed_at_every_moment, scene=TROUBLES, at_most=200
    ),
}


def attempt(name: str) -> bool:
    """Whether it holds; says what was measured."""
    os.environ["PING_DATA_AUTH_TOKEN"] = "any"
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = anyio.run(TRIALS[name], Path(folder))
        except Exception:  # noqa: BLE001 - the others are of interest all the same
            traceback.print_exc()
            print(f"{name}: DOES NOT HOLD", flush=True)
            return False
    print(f"{name}: {figures}; {time.perf_counter() - began:.0f} s in all", flush=True)
    return True


def main(names: list[str]) -> int:
    """The exit code."""
    return min(1, sum([not attempt(name) for name in names or TRIALS]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
