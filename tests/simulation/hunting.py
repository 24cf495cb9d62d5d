"""A hunt through worlds for one in which an invariant breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.simulation.invariants import Checks
from tests.simulation.simulation import Report, simulate


def hunt(seeds: Iterable[int], *, checks: Callable[[], Checks] = Checks) -> Report | None:
    """The first world of these in which something breaks; None where nothing does."""
    for seed in seeds:
        report = simulate(seed, checks=checks())
        if report.error is not None:
            return report
    return None
