"""Jobs that wait for a worker and are worked on: first come first served, all of it by seed."""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence

from tests.simulation.faults import Fault
from tests.simulation.limits import Outage


@dataclasses.dataclass(slots=True, eq=False)
class SimulatedJob:
    """An accepted job.

    Attributes:
        number: How many were accepted before it.
        sources: By location id, what was asked for.
        fate: What goes wrong with it.
        accepted_at: When it was accepted.
        begins_at: When a worker took it up; infinite while none has.
        ends_at: When it is done; infinite while that is not known.
        is_ghost: Whether nobody was told its id.
        is_left: Whether the client has given it up.
        polls: Questions about it that were answered, also with "unknown".
        last_words: Of those, how many after its end.
    """

    number: int
    sources: dict[str, tuple[str, ...]]
    fate: Fault | None
    accepted_at: float
    begins_at: float = math.inf
    ends_at: float = math.inf
    is_ghost: bool = False
    is_left: bool = False
    polls: int = 0
    last_words: int = 0

    @property
    def id(self) -> str:
        return f"job-{self.number}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """How jobs are worked on.

    Attributes:
        workers: Jobs worked on at once.
        locations_per_s: What one worker does.
        overhead_s: What each job takes besides.
        sigma: Of the logarithm of a job's length; the mean length stays the same.
        changes: When there are how many workers from then on, in seconds since the first
            request. Who is at work when they become fewer ends the job first.
    """

    workers: int = 4
    locations_per_s: float = 500.0
    overhead_s: float = 0.0
    sigma: float = 0.0
    changes: Sequence[tuple[float, int]] = ()

    def length_s(self, number: int, locations: int, seed: int) -> float:
        """What a job takes a worker: always the same for the same number and seed."""
        length_s = self.overhead_s + locations / self.locations_per_s
        if self.sigma:
            rng = random.Random(f"length/{seed}/{number}")
            length_s *= rng.lognormvariate(-self.sigma * self.sigma / 2, self.sigma)
        return length_s


class JobQueue:
    """The jobs that wait and those at work; brought up to date when it is looked at.

    Args:
        work: How jobs are worked on.
        delays_s: By number of the job, seconds by which its end shows later.
        seed: Of the lengths.

    Attributes:
        in_flight: Jobs accepted and not ended; a ghost is left out: nobody can know of it.
        unfinished: The same with the ghosts.
    """

    def __init__(self, work: Work, *, delays_s: Mapping[int, float], seed: int) -> None:
        self._work = work
        self._delays_s = delays_s
        self._seed = seed
        self._workers = work.workers
        self._changes = deque[tuple[float, int]]()
        self._waiting: deque[SimulatedJob] = deque()
        self._free_at: list[float] = []  # of workers at work
        self._ends: list[tuple[float, int, SimulatedJob]] = []
        self.in_flight = self.unfinished = 0

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken up."""
        return len(self._waiting)

    def begin(self, now: float) -> None:
        """The first request has come: the schedule counts from here."""
        self._changes.extend((now + after_s, workers) for after_s, workers in self._work.changes)

    def add(self, job: SimulatedJob) -> None:
        """Take a job in."""
        now = job.accepted_at
        self.advance(now)
        self.in_flight += not job.is_ghost
        self.unfinished += 1
        if job.fate is Fault.FORGOTTEN:
            job.begins_at = job.ends_at = now
            heapq.heappush(self._ends, (now, job.number, job))
        else:
            self._waiting.append(job)
            self._take_up(now)

    def make_ghost(self, job: SimulatedJob) -> None:
        """Its id got lost on the way, or with whoever was told it."""
        self.leave(job)
        job.is_ghost = True

    def leave(self, job: SimulatedJob) -> None:
        """The client has given it up."""
        if not job.is_ghost and not job.is_left:
            job.is_left = True
            self.in_flight -= any(job is each[2] for each in self._ends) or job in self._waiting

    def advance(self, now: float) -> None:
        """Let happen what has happened until now."""
        while True:
            event = min(
                self._free_at[0] if self._free_at else math.inf,
                self._changes[0][0] if self._changes else math.inf,
            )
            if event > now:
                break
            while self._free_at and self._free_at[0] <= event:
                heapq.heappop(self._free_at)
            while self._changes and self._changes[0][0] <= event:
                self._workers = self._changes.popleft()[1]
            self._take_up(event)
        while self._ends and self._ends[0][0] <= now:
            job = heapq.heappop(self._ends)[2]
            self.in_flight -= not (job.is_ghost or job.is_left)
            self.unfinished -= 1

    def _take_up(self, now: float) -> None:
        while self._waiting and len(self._free_at) < self._workers:
            job = self._waiting.popleft()
            length_s = self._work.length_s(job.number, len(job.sources), self._seed)
            job.begins_at = now
            heapq.heappush(self._free_at, now + length_s)
            job.ends_at = now + length_s + self._delays_s.get(job.number, 0.0)
            heapq.heappush(self._ends, (job.ends_at, job.number, job))


def ideal_s(
    work: Work,
    *,
    jobs: int,
    locations: int,
    max_jobs: int,
    seed: int = 0,
    outages: Sequence[Outage] = (),
) -> float:
    """What a client takes that loses no time: a job ends, and the next one is accepted.

    Nothing can be asked or accepted in an outage.

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
