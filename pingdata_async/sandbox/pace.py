"""How long a job is worked on, and how its counts grow meanwhile."""

import bisect
import math
import random
from typing import Final, Literal, NamedTuple

Progress = Literal["even", "uneven", "stall", "fast_start", "steps", "batches"]

_KINDS: Final = ("stall", "fast_start", "steps", "batches")
PROGRESS: Final[tuple[str, ...]] = ("even", "uneven", *_KINDS)
"""What ``progress`` may be."""


class Curve(NamedTuple):
    """The share of its locations that a job has done, by the share of its work time.

    Attributes:
        times: Shares of the work time, ascending from 0.
        shares: What is done at each of these times, never less than before.
        is_stepped: Whether the share stays until the next time; else it grows evenly up to it.
    """

    times: tuple[float, ...]
    shares: tuple[float, ...]
    is_stepped: bool

    def done(self, time: float) -> float:
        """The share that is done at a share, from 0 to 1, of the work time."""
        index = bisect.bisect_right(self.times, time) - 1
        if self.is_stepped or index == len(self.times) - 1:
            return self.shares[index]
        start, end = self.times[index : index + 2]
        low, high = self.shares[index : index + 2]
        return low + (high - low) * (time - start) / (end - start)


class Pace(NamedTuple):
    """How a job is worked on.

    Attributes:
        work_s: Seconds of work for all of its locations.
        curve: How its counts grow; None: evenly.
    """

    work_s: float
    curve: Curve | None


class Paces:
    """Draws the pace of one job after the other, the same ones for the same seed.

    A test that makes one with the settings of its sandbox learns in advance how long the jobs
    will take, in the order in which they are accepted.

    Args:
        locations_per_s: How fast a worker is.
        job_s: Seconds of work of a job of any size, instead; None: by its size.
        spread: The sigma of a lognormal factor on the work time. The factor's median is 1; its
            mean is ``exp(spread ** 2 / 2)``. 0: no factor.
        progress: How the counts grow; ``"uneven"`` draws one of the four kinds for each job.
        seed: Of the draws.
    """

    def __init__(
        self,
        *,
        locations_per_s: float,
        job_s: float | None = None,
        spread: float = 0.0,
        progress: Progress = "even",
        seed: int = 0,
    ) -> None:
        self._locations_per_s = locations_per_s
        self._job_s = job_s
        self._spread = spread
        self._progress = progress
        # Two sources: how the counts grow must not change how long the jobs take.
        self._factors = random.Random(f"spread {seed}")  # noqa: S311
        self._curves = random.Random(f"progress {seed}")  # noqa: S311

    def draw(self, num_locations: int) -> Pace:
        """The pace of the next job."""
        work_s = num_locations / self._locations_per_s if self._job_s is None else self._job_s
        if self._spread:
            work_s *= math.exp(self._spread * self._factors.gauss(0.0, 1.0))
        return Pace(work_s, self._curve())

    def _curve(self) -> Curve | None:
        if self._progress == "even":
            return None
        kind = self._curves.choice(_KINDS) if self._progress == "uneven" else self._progress
        return _draw_curve(kind, self._curves)


def _draw_curve(kind: str, dice: random.Random) -> Curve:
    if kind == "stall":
        # Nearly all is done early; then nothing moves until the end.
        return Curve((0.0, dice.uniform(0.5, 0.8)), (0.0, dice.uniform(0.85, 0.98)), False)
    if kind == "fast_start":
        # What is in a cache comes first.
        return Curve((0.0, dice.uniform(0.1, 0.3), 1.0), (0.0, dice.uniform(0.5, 0.8), 1.0), False)
    if kind == "steps":
        # The work goes on evenly, but the counts are written down seldom.
        step = dice.uniform(0.10, 0.25)
        shares = tuple(step * index for index in range(math.ceil(1 / step)))
        return Curve(shares, shares, True)
    # Batches of equal size that take unequal times.
    number = dice.randint(3, 8)
    parts = [dice.uniform(0.3, 1.7) for _ in range(number)]
    times = tuple(sum(parts[:index]) / sum(parts) for index in range(number))
    return Curve(times, tuple(index / number for index in range(number)), True)
