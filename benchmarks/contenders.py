"""Ways to pace and to poll: ours, and those that it is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from pingdata_async.engine.flow_control.adaptive_limit import (
    AdaptiveLimit,
    ConcurrencyLimit,
)
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import CubicRate, RateLimiter


class FixedInterval(PollPlanner):
    """Polls each job at a fixed interval, whatever is known of it."""

    def __init__(self, interval_s: float) -> None:
        super().__init__(PollSchedule())
        self._interval_s = interval_s

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        del job, now, poll_cost_s
        return self._interval_s

    def learn(self, job: JobProgress) -> None:
        pass


class Doubling(PollPlanner):
    """Polls a job 0.5 s after it was accepted, 1 s after that, then 2 s, 4 s, ... 30 s."""

    FIRST_S, LONGEST_S = 0.5, 30.0

    def __init__(self) -> None:
        super().__init__(PollSchedule())

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        # Polls come at ages of 0.5, 1.5, 3.5, ... s, so the next interval is the age plus 0.5 s.
        # That needs no memory, and a late answer makes no interval shorter.
        del poll_cost_s
        return min(self.LONGEST_S, now - job.accepted_at + self.FIRST_S)

    def learn(self, job: JobProgress) -> None:
        pass


class _NoRate(CubicRate):
    def note_refused(self, now: float, *, pause_s: float) -> None:
        pass


class PausingLimiter(RateLimiter):
    """Waits as long as a Retry-After names, and learns no rate from it."""

    def __init__(self, rng: random.Random | None = None) -> None:
        super().__init__(rng)
        self._rate = _NoRate()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to pace and to poll.

    Attributes:
        name: Shown in tables and charts.
        planner: Makes the planner of polls.
        limiter: Makes the limit on jobs in flight.
        rate_limiter: Makes the limiter of requests.
        max_jobs: The user's ceiling.
    """

    name: str
    planner: Callable[[], PollPlanner] = lambda: PollPlanner(PollSchedule())
    limiter: Callable[[], ConcurrencyLimit] = AdaptiveLimit
    rate_limiter: Callable[[random.Random], RateLimiter] = RateLimiter
    max_jobs: int = 64


def _beside(name: str, planner: Callable[[], PollPlanner], jobs: int) -> Contender:
    return Contender(
        name=f"{name}, {jobs} jobs",
        planner=planner,
        limiter=ConcurrencyLimit,
        rate_limiter=PausingLimiter,
        max_jobs=jobs,
    )


OURS = Contender(name="ours")
CONTENDERS = (
    OURS,
    Contender(name="ours, but 16 jobs", limiter=ConcurrencyLimit, max_jobs=16),
    Contender(name="ours, but 64 jobs", limiter=ConcurrencyLimit),
    *(
        _beside(name, planner, jobs)
        for name, planner in (
            ("every 3 s", lambda: FixedInterval(3.0)),
            ("every 5 s", lambda: FixedInterval(5.0)),
            ("0.5 s doubling", Doubling),
        )
        for jobs in (16, 64)
    ),
)
