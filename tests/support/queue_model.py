"""A queueing model of the API and of a client that obeys a limiter: pure, seeded, in its own time.

Jobs wait first come, first served, for one of some workers; the client keeps as many in flight
as it may, asks about each a handful of times, and tells the limiter what the runner would.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pingdata_async.engine.flow_control.adaptive_limit import ConcurrencyLimit
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.models import JobStatus, RequestKind

AGAIN_S = 1.0  # until what failed is tried again


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the API is like, and the run.

    Attributes:
        jobs: To be done.
        max_jobs: The user's ceiling.
        workers: (from this time on, so many workers at the API), in order.
        median_s: Of a job's time at work.
        sigma: Of its logarithm.
        dispatch_s: From acceptance until a job may begin.
        latency_s: Of a submission.
        first_poll_s: A job's age when it is first asked about.
        says: What the API shows: "dates" as well, "states" only, "working" from the beginning,
            or "waiting" until the end.
        trouble: The share of requests that fail.
        overloaded_at: Submissions fail while so many jobs are at the API.
        refused_at: They are answered 429 then.
        outage: Every request fails from the first time to the second.
        seed: Of all that is random.
    """

    jobs: int = 240
    max_jobs: int = 64
    workers: tuple[tuple[float, int], ...] = ((0.0, 16),)
    median_s: float = 6.0
    sigma: float = 0.5
    dispatch_s: float = 0.0
    latency_s: float = 0.1
    first_poll_s: float = 0.5
    says: str = "states"
    trouble: float = 0.0
    overloaded_at: float = math.inf
    refused_at: float = math.inf
    outage: tuple[float, float] = (math.inf, math.inf)
    seed: int = 1

    def durations(self) -> list[float]:
        rng = random.Random(self.seed)
        return [self.median_s * math.exp(rng.gauss(0.0, self.sigma)) for _ in range(self.jobs)]


@dataclass
class Record:
    """What happened.

    Attributes:
        limits: (when, the limit from then on).
        ended: When each job ended at the API.
        refused: When submissions were refused for too many jobs.
        accepted: When they were accepted.
        idle: (from, to, workers that had nothing to do while there was more to submit).
        total_s: When the client had seen all of them end.
        peak: Most jobs in flight.
    """

    limits: list[tuple[float, int]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    idle: list[tuple[float, float, int]] = field(default_factory=list)
    total_s: float = 0.0
    peak: int = 0

    def limit_at(self, now: float) -> int:
        return [limit for at, limit in self.limits if at <= now][-1]

    def limits_between(self, start: float, end: float) -> list[int]:
        return [self.limit_at(start)] + [limit for at, limit in self.limits if start < at <= end]

    def ended_between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.ended)

    def idle_between(self, start: float, end: float) -> float:
        """Worker-seconds."""
        return sum(
            max(0.0, min(until, end) - max(since, start)) * idle for since, until, idle in self.idle
        )


@dataclass(eq=False)
class _Job:
    duration_s: float
    progress: JobProgress
    begun_at: float | None = None
    ended_at: float | None = None


class QueueModel:
    """Runs one setting with one limiter."""

    def __init__(self, setting: Setting, limiter: ConcurrencyLimit) -> None:
        self.setting = setting
        self.limiter = limiter
        self.record = Record(limits=[(0.0, limiter.limit)])
        self.now = 0.0
        self._rng = random.Random(setting.seed + 1_000_000)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._to_submit = deque(setting.durations())
        self._queue: deque[_Job] = deque()
        self._workers = 0
        self._busy = 0
        self._at_api = 0
        self._in_flight = 0
        self._changed_at = 0.0

    def run(self) -> Record:
        for at, workers in self.setting.workers:
            self._at(at, lambda workers=workers: self._set_workers(workers))  # type: ignore[misc]
        self._at(0.0, lambda: None)
        while self._to_submit or self._in_flight:
            at, _, act = heapq.heappop(self._events)
            self._account(at)
            self.now = at
            act()
            self._serve()
        self.record.total_s = self.now
        return self.record

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    def _account(self, until: float) -> None:
        idle = self._workers - self._busy
        if idle > 0 and self._to_submit and until > self.now:
            self.record.idle.append((self.now, until, idle))

    def _serve(self) -> None:
        """Submit as much as is allowed."""
        limit = self.limiter.limit
        if limit != self.record.limits[-1][1]:
            self.record.limits.append((self.now, limit))
        while self._to_submit and self._in_flight < min(limit, self.setting.max_jobs):
            self._in_flight += 1
            self.record.peak = max(self.record.peak, self._in_flight)
            self._submit_later(self._to_submit.popleft(), self.setting.latency_s)

    def _submit_later(self, duration_s: float, delay_s: float) -> None:
        latency_s = delay_s * self._rng.uniform(0.8, 1.2)
        self._at(self.now + latency_s, lambda: self._submitted(duration_s))

    def _fails(self) -> bool:
        start, end = self.setting.outage
        return start <= self.now < end or self._rng.random() < self.setting.trouble

    def _submitted(self, duration_s: float) -> None:
        if self._at_api >= self.setting.refused_at:
            self.record.refused.append(self.now)
            self.limiter.on_job_limit(self.now, in_flight=self._in_flight)
            self._submit_later(duration_s, AGAIN_S)
        elif self._fails() or self._at_api >= self.setting.overloaded_at:
            self.limiter.on_error(RequestKind.SUBMIT, self.now, in_flight=self._in_flight)
            self._submit_later(duration_s, AGAIN_S)
        else:
            self.limiter.on_success(RequestKind.SUBMIT, self.now)
            self.record.accepted.append(self.now)
            job = _Job(duration_s, JobProgress(1000, self.now))
            self._at_api += 1
            self._at(self.now + self.setting.dispatch_s, lambda: self._arrived(job))
            self._at(
                self.now + self.setting.first_poll_s * self._rng.uniform(1.0, 1.1),
                lambda: self._poll(job, is_regular=True),
            )

    def _set_workers(self, workers: int) -> None:
        self._workers = workers
        self._begin_jobs()

    def _arrived(self, job: _Job) -> None:
        self._queue.append(job)
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        while self._queue and self._busy < self._workers:
            job = self._queue.popleft()
            job.begun_at = self.now
            self._busy += 1
            self._at(self.now + job.duration_s, lambda job=job: self._ended(job))  # type: ignore[misc]

    def _ended(self, job: _Job) -> None:
        job.ended_at = self.now
        self.record.ended.append(self.now)
        self._busy -= 1
        self._at_api -= 1
        self._begin_jobs()
        lag_s = self._rng.uniform(0.0, 0.04) * (self.now - job.progress.accepted_at)
        self._at(self.now + lag_s, lambda: self._poll(job, is_regular=False))

    def _poll(self, job: _Job, *, is_regular: bool) -> None:
        if job.progress.ended_at is not None:
            return
        if self._fails():
            self.limiter.on_error(RequestKind.POLL, self.now, in_flight=self._in_flight)
            self._at(self.now + AGAIN_S, lambda: self._poll(job, is_regular=is_regular))
            return
        self.limiter.on_success(RequestKind.POLL, self.now)
        self._tell(job)
        if job.ended_at is not None:
            self._in_flight -= 1
        elif is_regular:
            age_s = self.now - job.progress.accepted_at
            again_s = age_s * self._rng.uniform(1.0, 1.3)
            self._at(self.now + again_s, lambda: self._poll(job, is_regular=True))

    def _tell(self, job: _Job) -> None:
        progress = job.progress
        progress.hear(JobStatus(status=self._shown(job)), self.now)
        if self.setting.says == "dates" and job.begun_at is not None:
            progress.queue_s = job.begun_at - progress.accepted_at
            if job.ended_at is not None:
                progress.work_s = job.duration_s
        self.limiter.note_job(progress, self.now, in_flight=self._in_flight)

    def _shown(self, job: _Job) -> str:
        if job.ended_at is not None:
            return "COMPLETE"
        if self.setting.says == "waiting":
            return "PENDING"
        is_at_work = job.begun_at is not None or self.setting.says == "working"
        return "IN_PROGRESS" if is_at_work else "QUEUED"


def ideal_s(setting: Setting, in_flight: int) -> float:
    """How long the same jobs take, in their order, with always so many in flight and no delay."""
    workers = setting.workers[0][1]
    free_at = [0.0] * min(workers, in_flight)
    for duration_s in setting.durations():
        heapq.heapreplace(free_at, free_at[0] + duration_s)
    return max(free_at)
