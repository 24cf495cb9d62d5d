"""Contenders, ours among them, and a run of each against a simulated API, in simulated time."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import anyio

from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.context import ChunkStore, EngineContext, FinishedChunk
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit, ConcurrencyLimit
from pingdata_async.engine.flow_control.budget import Budget, Caps
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import CubicRate, RateLimiter
from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.engine.task import ChunkTask
from pingdata_async.locations.chunk import SEPARATOR, Chunk
from tests.simulation.faults import Moment
from tests.simulation.limits import Limits, Outage
from tests.simulation.paced_api import Endpoints, PacedAPI
from tests.simulation.profiles import Progress, Telling
from tests.simulation.queueing import Work
from tests.simulation.records import JobRecord, Records
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import START_S, VirtualLoop
from tests.support.poll_simulation import Fixed

SOURCES = ("PG",)
LOCATION = b'{"address":"1 Main Street"}'
UNEVEN = Telling(waiting="PENDING", progress=Progress.UNEVEN)
SIMULATED_DAYS = 3600.0 * 24 * 30  # more than any run takes: a hang becomes an error


# -- contenders ---------------------------------------------------------------------------


class FixedInterval(Fixed, PollPlanner):
    """Polls each job at a fixed interval, whatever is known of it."""

    def __init__(self, interval_s: float) -> None:
        Fixed.__init__(self, interval_s)
        PollPlanner.__init__(self, PollSchedule())


class Doubling(FixedInterval):
    """Polls a job 0.5 s after it was accepted, 1 s after that, then 2 s, 4 s, ... 30 s."""

    LONGEST_S = 30.0

    def __init__(self) -> None:
        super().__init__(0.5)

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        # Polls come at ages of 0.5, 1.5, 3.5, ... s, so the next interval is the age plus 0.5 s.
        # That needs no memory, and a late answer makes no interval shorter.
        del poll_cost_s
        return min(self.LONGEST_S, now - job.accepted_at + self._interval_s)


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


# -- runs ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A simulated API, and the jobs that are submitted to it.

    Attributes:
        work: How jobs are worked on.
        jobs: How many there are.
        locations: In each.
        telling: What the API says of jobs under way.
        limits: What the API can take.
        outages: When the API is out of order.
        latency_s: The mean latency of a request.
    """

    work: Work
    jobs: int
    locations: int = 60
    telling: Telling = UNEVEN
    limits: Limits = field(default_factory=Limits)
    outages: Sequence[Outage] = ()
    latency_s: float = 0.05

    def api(self, seed: int, records: Records | None) -> SimulatedAPI:
        """The API that a seed makes."""
        return SimulatedAPI(
            work=self.work,
            telling=self.telling,
            limits=self.limits,
            outages=self.outages,
            latency_s=self.latency_s,
            counts_locations=False,
            records=records,
            seed=seed,
        )


class Counting(ChunkStore):
    """A store that only counts.

    Attributes:
        rows_ok: Rows that came out with an answer.
    """

    def __init__(self) -> None:
        super().__init__(itertools.count(10**9).__next__)
        self.rows_ok = 0

    async def deliver(self, finished: FinishedChunk) -> None:
        self.rows_ok += finished.counts.ok


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        seconds: From its first request to its last answer.
        rows_ok: Rows that came out with an answer.
        records: Every request and job.
        peak_in_flight: The most jobs in flight, as the API saw it.
    """

    seconds: float
    rows_ok: int
    records: Records
    peak_in_flight: int

    @property
    def jobs(self) -> list[JobRecord]:
        return list(self.records.jobs.values())

    @property
    def polls_a_job(self) -> float:
        return fmean(job.polls for job in self.jobs)

    @property
    def requests_a_job(self) -> float:
        return len(self.records.requests) / len(self.jobs)

    @property
    def mean_lag_s(self) -> float:
        return fmean(job.lag_s for job in self.jobs)

    @property
    def p95_lag_s(self) -> float:
        lags = sorted(job.lag_s for job in self.jobs)
        return lags[int(0.95 * (len(lags) - 1))]

    @property
    def lag_share(self) -> float:
        """The mean lag as a share of the mean time that jobs are at work."""
        return self.mean_lag_s / fmean(job.job.ends_at - job.job.begins_at for job in self.jobs)

    @property
    def refused_share(self) -> float:
        return self.records.refused_share

    @property
    def too_early(self) -> int:
        """Requests before the time that a Retry-After named."""
        return len(self.records.breaches)

    def seen_per_s(self, begin_s: float, end_s: float) -> float:
        """Jobs seen to have ended, a second, in that part of the run."""
        seen = sum(begin_s <= job.seen_at - START_S < end_s for job in self.jobs)
        return seen / (end_s - begin_s)

    def sent(self, moment: Moment) -> int:
        return sum(request.moment is moment for request in self.records.requests)


def run_trial(trial: Trial, contender: Contender = OURS, seed: int = 0) -> Outcome:
    """Run all jobs in simulated time; the same seed gives the same outcome."""
    return anyio.run(run, trial, contender, seed, backend_options={"loop_factory": VirtualLoop})


async def run(trial: Trial, contender: Contender = OURS, seed: int = 0) -> Outcome:
    """The same, on the running event loop."""
    records = Records()
    api = trial.api(seed, records)
    store = Counting()
    began = anyio.current_time()
    with anyio.fail_after(SIMULATED_DAYS):
        engine = make_engine(api, contender, store, seed)
        await engine.run(shared_chunks(trial.jobs, trial.locations))
    return Outcome(anyio.current_time() - began, store.rows_ok, records, api.counts.peak_in_flight)


def make_engine(
    api: Endpoints,
    contender: Contender,
    store: ChunkStore,
    seed: int = 0,
    *,
    policy: RetryPolicy | None = None,
) -> Engine:
    """The real engine, with a contender's way to pace and to poll."""
    rng = random.Random(f"runner/{seed}")
    policy = policy or RetryPolicy()
    context = EngineContext(
        api=PacedAPI(api),
        store=store,
        job_slots=ConcurrencyLimiter(contender.limiter()).share(contender.max_jobs),
        rate_limiter=contender.rate_limiter(rng),
        sources=SOURCES,
        options=JobOptions().encode(SOURCES),
        chunk_size=1000,
        poll_planner=contender.planner(),
        policy=policy,
        breaker=CircuitBreaker(policy),
        budget=Budget(Caps(), SOURCES),
        emit=lambda _event: None,
        rng=rng,
    )
    return Engine(context)


async def shared_chunks(jobs: int, locations: int) -> AsyncIterator[ChunkTask]:
    """That many chunks; they share their rows, so these take no memory."""
    rows = list(range(locations))
    ids: list[str | None] = [None] * locations
    body = SEPARATOR.join(b'{"id":"%d",%b' % (row, LOCATION[1:]) for row in rows)
    for index in range(jobs):
        yield ChunkTask(Chunk(index, rows, ids, body))
