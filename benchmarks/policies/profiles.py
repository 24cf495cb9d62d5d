"""APIs that differ in kind, and what a client would take there that loses no time."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.policies.trial import Trial
from tests.simulation.limits import Limits, Outage
from tests.simulation.queueing import JobQueue, SimulatedJob, Work

MAX_JOBS = 64  # of the ideal client
REQUESTS_A_JOB = 4  # that a rate limit is reckoned with: submit, two polls, fetch


def ideal_s(
    work: Work,
    *,
    jobs: int,
    locations: int,
    max_jobs: int,
    seed: int = 0,
    outages: Sequence[Outage] = (),
) -> float:
    """Seconds for all jobs: one is known to have ended at once, and the next one accepted.

    As `tests.simulation.queueing.ideal_s()`, but in a time that grows with the number of jobs
    and not with its square; and nothing can be asked or accepted in an outage.

    Args:
        work: How jobs are worked on.
        jobs: How many there are.
        locations: In each.
        max_jobs: That are accepted at once.
        seed: The API's.
        outages: When it is out of order.
    """
    queue = JobQueue(work, delays_s={}, seed=seed)
    queue.begin(0.0)
    sources: dict[str, tuple[str, ...]] = {str(n): ("PG",) for n in range(locations)}
    changes = deque(sorted(at for at, _ in work.changes))
    waiting: deque[SimulatedJob] = deque()
    ends: list[float] = []  # of the jobs at work
    now, accepted = 0.0, 0
    while accepted < jobs or waiting or ends:
        while accepted < jobs and queue.in_flight < max_jobs:
            waiting.append(SimulatedJob(accepted, sources, None, now))
            queue.add(waiting[-1])
            accepted += 1
        while waiting and waiting[0].ends_at < math.inf:  # they are taken up in this order
            heapq.heappush(ends, waiting.popleft().ends_at)
        now = _usable(min([*ends[:1], *list(changes)[:1]]), outages)
        queue.advance(now)
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        while changes and changes[0] <= now:
            changes.popleft()
    return now


def _usable(at: float, outages: Sequence[Outage]) -> float:
    """The first time from then on at which the API can be asked."""
    for outage in sorted(outages, key=lambda each: each.begins_s):
        if outage.begins_s <= at < outage.ends_s:
            at = outage.ends_s
    return at


@dataclass(frozen=True)
class Profile:
    """A kind of API.

    Attributes:
        name: Shown.
        about: A sentence.
        trial: What is run.
    """

    name: str
    about: str
    trial: Trial

    def ideal_s(self, seed: int) -> float:
        """What a client would take that loses no time, and needs four requests a job."""
        trial = self.trial
        no_time_lost_s = ideal_s(
            trial.work,
            jobs=trial.jobs,
            locations=trial.locations,
            max_jobs=MAX_JOBS,
            seed=seed,
            outages=trial.outages,
        )
        return max(no_time_lost_s, REQUESTS_A_JOB * trial.jobs / trial.limits.requests_per_s)


def _work(workers: int, job_s: float, sigma: float, locations: int = 60) -> Work:
    return Work(workers=workers, locations_per_s=locations / job_s, sigma=sigma)


PROFILES = (
    Profile(
        "fast and idle",
        "200 workers, jobs of 1 s (sigma 0.3): nothing ever waits.",
        Trial(work=_work(200, 1.0, 0.3), jobs=1000),
    ),
    Profile(
        "a slow queue",
        "4 workers, jobs of 20 s (sigma 0.3): whatever is submitted waits.",
        Trial(work=_work(4, 20.0, 0.3), jobs=120),
    ),
    Profile(
        "16 workers, uneven jobs",
        "16 workers, jobs of 6 s (sigma 0.5).",
        Trial(work=_work(16, 6.0, 0.5), jobs=480),
    ),
    Profile(
        "30 requests/s",
        "More than 30 requests in a second, of any kind, are refused: 429, Retry-After 1; "
        "200 workers, jobs of 3 s (sigma 0.3).",
        Trial(
            work=_work(200, 3.0, 0.3),
            jobs=750,
            limits=Limits(requests_per_s=30, window_s=1.0, retry_after_s=1.0),
        ),
    ),
    Profile(
        "outages",
        "16 workers, jobs of 6 s (sigma 0.5); 503 from 30 to 45 s (Retry-After 5) and from "
        "120 to 140 s (without one), no connection from 80 to 95 s.",
        Trial(
            work=_work(16, 6.0, 0.5),
            jobs=480,
            outages=(
                Outage(begins_s=30, ends_s=45, retry_after_s=5.0),
                Outage(begins_s=80, ends_s=95, has_connection=False),
                Outage(begins_s=120, ends_s=140),
            ),
        ),
    ),
)
