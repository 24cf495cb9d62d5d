"""Jobs drawn from a seed and asked about in virtual time: what a way of polling costs.

No event loop and no requests: a heap of what happens next, the statuses a server would send,
and whatever says when to ask. It shares nothing with the code that it measures.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Protocol

from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.models import JobStatus

SERVER_EPOCH = datetime(2026, 3, 1, tzinfo=UTC)  # the server's clock is not ours
LATENCY_S = (0.005, 0.020)
JITTER = 0.1  # as the requests have it

KINDS = ("even", "stall", "fast start", "steps of 10 %", "steps of 25 %", "batches", "none")
COUNTED = KINDS[:-1]


class Asker(Protocol):
    """Says when to ask."""

    def next_poll_in_s(
        self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0
    ) -> float: ...
    def learn(self, job: JobProgress) -> None: ...


@dataclass(frozen=True, kw_only=True)
class World:
    """What the jobs are like, and the server.

    Attributes:
        kinds: Progress curves; each job has one of them.
        median_s: Of the work time.
        sigma: Of its logarithm.
        jobs: In all.
        in_flight: At once.
        workers: Of the server; 0 for as many as there are jobs.
        dates: "exact", "seconds" or "none": what dates the server sends.
        factor_from: The jobs from this one on take `factor` times as long.
        poll_cost_s: Given to whoever says when to ask.
    """

    kinds: Sequence[str] = COUNTED
    median_s: float = 6.0
    sigma: float = 0.3
    jobs: int = 400
    in_flight: int = 40
    workers: int = 0
    dates: str = "none"
    factor: float = 1.0
    factor_from: int = 1_000_000
    locations: int = 1000
    poll_cost_s: float = 0.0


@dataclass
class SimulatedJob:
    """One job, as the server sees it."""

    number: int
    kind: str
    work_s: float
    curve: Callable[[float], float | None]
    requested_at: float = 0.0
    started_at: float = math.inf
    done_at: float = math.inf
    seen_at: float = math.inf
    polls: int = 0

    @property
    def lag(self) -> float:
        """The time between done and seen as a share of the work time."""
        return (self.seen_at - self.done_at) / self.work_s


@dataclass
class Figures:
    """What it cost."""

    jobs: list[SimulatedJob] = field(default_factory=list)

    def polls(self, first: int = 0, last: int = 1_000_000) -> float:
        return fmean(job.polls for job in self.jobs if first <= job.number < last)

    def lag(self, first: int = 0, last: int = 1_000_000) -> float:
        """The mean time between done and seen, as a share of the mean work time."""
        some = [job for job in self.jobs if first <= job.number < last]
        late_s = math.fsum(job.seen_at - job.done_at for job in some)
        return late_s / math.fsum(job.work_s for job in some)


def progress_curve(kind: str, rng: random.Random) -> Callable[[float], float | None]:
    """Share of the work time -> share completed, as the server tells it."""
    bend = math.exp(rng.gauss(0.0, 0.05))  # no two jobs are quite alike
    if kind == "none":
        return lambda _: None
    if kind == "stall":
        knee = min(0.9, 0.6 * bend)
        return lambda share: 0.95 * min(1.0, share / knee)
    if kind == "fast start":
        return lambda share: float(share ** (0.5 * bend))
    if kind == "batches":
        ends = sorted(rng.random() for _ in range(rng.randint(4, 12)))
        return lambda share: sum(end < share for end in ends) / (len(ends) + 1)
    if kind.startswith("steps"):
        step = 0.1 if "10" in kind else 0.25
        return lambda share: math.floor(share**bend / step + 1e-9) * step
    return lambda share: float(share**bend)


class Simulation:
    """One run of one world."""

    def __init__(self, world: World, asker: Asker, seed: int) -> None:
        self._world = world
        self._asker = asker
        self._rng = random.Random(seed)
        self._figures = Figures()
        self._order = 0
        self._heap: list[tuple[float, int, SimulatedJob, JobProgress | None]] = []
        self._workers = [0.0] * world.workers

    def run(self) -> Figures:
        for number in range(min(self._world.jobs, self._world.in_flight)):
            self._push(self._rng.uniform(0.0, 0.02), self._draw(number), None)
        while self._heap:
            now, _, job, progress = heapq.heappop(self._heap)
            if progress is None:
                self._submit(job, now)
            else:
                self._ask(job, progress, now)
        return self._figures

    def _push(self, at: float, job: SimulatedJob, progress: JobProgress | None) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, job, progress))

    def _draw(self, number: int) -> SimulatedJob:
        world = self._world
        factor = world.factor if number >= world.factor_from else 1.0
        work_s = factor * world.median_s * math.exp(self._rng.gauss(0.0, world.sigma))
        kind = self._rng.choice(world.kinds)
        job = SimulatedJob(number, kind, work_s, progress_curve(kind, self._rng))
        self._figures.jobs.append(job)
        return job

    def _submit(self, job: SimulatedJob, now: float) -> None:
        latency_s = self._rng.uniform(*LATENCY_S)
        job.requested_at = job.started_at = now + latency_s / 2
        if self._workers:  # the one free first takes it
            free_at = heapq.heappop(self._workers)
            job.started_at = max(free_at, job.requested_at)
            heapq.heappush(self._workers, job.started_at + job.work_s)
        job.done_at = job.started_at + job.work_s
        now += latency_s
        self._plan(job, JobProgress(self._world.locations, now), now)

    def _plan(self, job: SimulatedJob, progress: JobProgress, now: float) -> None:
        delay_s = self._asker.next_poll_in_s(progress, now, poll_cost_s=self._world.poll_cost_s)
        self._push(now + delay_s * self._rng.uniform(1.0, 1.0 + JITTER), job, progress)

    def _ask(self, job: SimulatedJob, progress: JobProgress, now: float) -> None:
        latency_s = self._rng.uniform(*LATENCY_S)
        job.polls += 1
        status = self._status(job, now + latency_s / 2)
        now += latency_s
        progress.hear(status, now)
        if not status.is_finished:
            self._plan(job, progress, now)
            return
        job.seen_at = now
        self._asker.learn(progress)
        if len(self._figures.jobs) < self._world.jobs:
            self._push(now, self._draw(len(self._figures.jobs)), None)

    def _status(self, job: SimulatedJob, at: float) -> JobStatus:
        is_done, has_begun = at >= job.done_at, at >= job.started_at
        share = job.curve((at - job.started_at) / job.work_s) if has_begun else 0.0
        locations = self._world.locations
        completed = locations if is_done else int(locations * (share or 0.0))
        return JobStatus(
            status="COMPLETE" if is_done else "IN_PROGRESS" if has_begun else "PENDING",
            num_requested=locations,
            num_completed=None if share is None else completed,
            result_status="SUCCESS" if is_done else None,
            requested_at=self._date(job.requested_at),
            progress_started_at=self._date(job.started_at) if has_begun else None,
            completed_at=self._date(job.done_at) if is_done else None,
        )

    def _date(self, at: float) -> str | None:
        if self._world.dates == "none":
            return None
        date = SERVER_EPOCH + timedelta(seconds=at)
        if self._world.dates == "seconds":
            date = date.replace(microsecond=0)
        return date.isoformat()


class Fixed:
    """Asks every so many seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        del job, now, poll_cost_s
        return self._interval_s

    def learn(self, job: JobProgress) -> None:
        pass


class Exponential(Fixed):
    """Asks after a quarter of a second and then after as long again times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__(0.25)
        self._factor = factor

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        del poll_cost_s
        return max(self._interval_s, (now - job.accepted_at) * (self._factor - 1.0))


class Linear(Fixed):
    """Asks when a straight line through the progress so far says that the job is done."""

    def __init__(self) -> None:
        super().__init__(0.25)

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        del poll_cost_s
        share = min(1.0, job.completed / job.locations)
        age_s = now - job.accepted_at
        if not share:
            return max(self._interval_s, age_s)
        return max(self._interval_s, age_s / share - age_s)
