"""What a client would take that loses no time: the measure of those that do."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

from tests.simulation.limits import Outage
from tests.simulation.queueing import JobQueue, SimulatedJob, Work


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
