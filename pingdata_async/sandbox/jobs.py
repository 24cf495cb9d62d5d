"""Jobs (pure): what a submission becomes, a queue before a fleet of workers, and job status.

Nothing here runs. When a job is accepted, its start and end are computed from the times at which
the workers become free; everything it shows later is a function of the clock, which each call
takes as an argument. When the number of workers changes, the jobs that no worker has taken yet
are computed again.
"""

from __future__ import annotations

import bisect
import heapq
import math
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec

from pingdata_async.sandbox.answers import Options, Subject, outcome
from pingdata_async.sandbox.faults import FaultInjector, JobFate, SourceFault, SubmissionFault
from pingdata_async.sandbox.settings import SandboxSettings
from pingdata_async.sandbox.validation import CheckedLocation, Refusal

# -- Submissions -----------------------------------------------------------------------------

_PACK_LEVEL: Final = 1


@dataclass(slots=True)
class SourceTally:
    """How the fetches of one source went."""

    successes: int = 0
    fails: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    shortest_s: float = float("inf")

    def add(self, *, is_success: bool, seconds: float) -> None:
        """Count one fetch."""
        if is_success:
            self.successes += 1
        else:
            self.fails += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)
        self.shortest_s = min(self.shortest_s, seconds)

    def as_json(self, source: str) -> dict[str, Any]:
        """The entry of ``result.sources``."""
        fetched = self.successes + self.fails
        return {
            "source": source,
            "num_fetched": fetched,
            "num_successes": self.successes,
            "num_fails": self.fails,
            "avg_fetch_duration": round(self.total_s / fetched, 6),
            "max_fetch_duration": self.longest_s,
            "min_fetch_duration": self.shortest_s,
            "total_fetch_duration": round(self.total_s, 6),
        }


@dataclass(slots=True)
class Gaps:
    """What a job's output will lack.

    Attributes:
        locations: The indexes of locations that are left out.
        sources: By a location's index and a source's code, what is wrong with its answer.
    """

    locations: set[int] = field(default_factory=set)
    sources: dict[tuple[int, str], SourceFault] = field(default_factory=dict)


@dataclass(slots=True)
class Order:
    """What a job is to do, and what will become of it.

    Attributes:
        options: What the request asked of all locations.
        callback_url: POSTed to when it has ended; None: nobody is told.
        tallies: How each source will do.
        problems: The indexes, ascending, of the locations that some source will not find.
        gaps: What faults will take from the output.
        fate: How it will end.
        filename: What the output will be called; None for its real name.
        lost_after: The share of its life after which the job is forgotten; None: it is kept.
    """

    options: Options
    callback_url: str | None = None
    tallies: dict[str, SourceTally] = field(default_factory=dict)
    problems: list[int] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    fate: JobFate = JobFate.SUCCESS
    filename: str | None = None
    lost_after: float | None = None


class SubmissionReview:
    """Decides what becomes of a submission, and counts the faults among it, by name."""

    def __init__(
        self, injector: FaultInjector, faults: Counter[str], no_match_share: float
    ) -> None:
        self._injector = injector
        self._faults = faults
        self._no_match_share = no_match_share

    def refuse(self, locations: list[Any]) -> None:
        """Refuse a submission where the plan of faults says so."""
        fault = self._injector.on_submission(locations)
        if fault is None:
            return
        self._faults[fault.plan_name] += 1
        plan = self._injector.plan
        if fault is SubmissionFault.TOO_MANY:
            raise Refusal(
                plan.max_locations_status,
                f"{len(locations)} locations are too many: at most {plan.max_locations}",
            )
        is_poison = fault is SubmissionFault.POISON
        # No location is named: the client has to find out which one it was.
        message = "invalid location in request" if is_poison else plan.reject_message
        raise Refusal(HTTPStatus.BAD_REQUEST, message)

    def settle(self, order: Order, locations: list[CheckedLocation]) -> None:
        """Draw what will become of a job with these locations, and count it."""
        faults = self._faults
        if self._injector.is_poisoned(location.fields for location in locations):
            faults["poison_job"] += 1
            order.fate = self._injector.failure()
        else:
            order.fate = self._injector.on_job()
            if order.fate is not JobFate.SUCCESS:
                faults[order.fate.plan_name] += 1
        if order.fate is JobFate.LOST:
            order.lost_after = self._injector.lost_after()
        order.filename = self._injector.odd_filename()
        if order.filename is not None:
            faults["odd_filename"] += 1
        if order.gaps.locations:
            faults["missing_location"] += len(order.gaps.locations)
        for gap in order.gaps.sources.values():
            faults[gap.plan_name] += 1

    def survey(self, order: Order, index: int, location: CheckedLocation) -> int:
        """Find out how the sources of an order's next location will do.

        Returns:
            A number that is equal for equal locations.
        """
        subject = Subject.of(location.fields)
        has_problem = self._injector.loses_location()
        if has_problem:
            order.gaps.locations.add(index)
        for source in location.sources:
            result = outcome(subject, source, self._no_match_share)
            is_success = result.is_success
            if fault := self._injector.on_source():
                order.gaps.sources[index, source] = fault
                is_success = False
            tally = order.tallies.setdefault(source, SourceTally())
            tally.add(is_success=is_success, seconds=result.fetch_time)
            has_problem = has_problem or not is_success
        if has_problem:
            order.problems.append(index)
        return hash((location.id, subject.everything, location.sources))


# -- Jobs and workers ------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Job:
    """An accepted job. All times are on the clock of the queue.

    Attributes:
        id: Opaque.
        order: What it is to do.
        num_locations: How many locations it has.
        packed: Its locations, compressed.
        bend: How its counts grow: 1: evenly, less: first quickly, more: first slowly.
        work_s: Seconds that a worker is busy with it.
        requested_at_s: When it was accepted.
        ready_at_s: When a worker may take it. Until half of the time before, it is PENDING.
        started_at_s: When a worker takes it. This and the next two may change until then.
        ended_at_s: When it is COMPLETE or FAILED.
        forgotten_at_s: When it is forgotten before its time; infinity: it is not.
        is_told: Whether it was told that it has ended.
    """

    id: str
    order: Order
    num_locations: int
    packed: bytes
    bend: float
    work_s: float
    requested_at_s: float
    ready_at_s: float
    started_at_s: float = math.inf
    ended_at_s: float = math.inf
    forgotten_at_s: float = math.inf
    is_told: bool = False

    @property
    def leaves_at_s(self) -> float:
        """When it is no longer in flight: it has ended, or is forgotten."""
        return min(self.ended_at_s, self.forgotten_at_s)

    @property
    def is_lost(self) -> bool:
        """Whether it is forgotten before its end can be told."""
        return self.order.lost_after is not None

    @property
    def filename(self) -> str:
        """The name of its output, in its url."""
        return f"bulk_enhance_{self.id}.json"

    def has_output(self, now_s: float) -> bool:
        """Whether its output can be fetched."""
        return now_s >= self.ended_at_s and self.order.fate.has_output

    def locations(self) -> list[CheckedLocation]:
        """Unpack its locations."""
        return msgspec.json.decode(zlib.decompress(self.packed), type=list[CheckedLocation])

    def status(self, now_s: float) -> str:
        """Its ``request.status``."""
        if now_s < self.requested_at_s + (self.ready_at_s - self.requested_at_s) / 2:
            return "PENDING"
        if now_s < self.started_at_s:
            return "QUEUED"
        if now_s < self.ended_at_s:
            return "IN_PROGRESS"
        return "FAILED" if self.order.fate is JobFate.REQUEST_FAILED else "COMPLETE"

    def num_completed(self, now_s: float) -> int:
        """How many locations are done."""
        in_all = _locations_done(self.num_locations, self.order.fate)
        if now_s >= self.ended_at_s:
            return in_all
        if now_s <= self.started_at_s:
            return 0
        share = (now_s - self.started_at_s) / (self.ended_at_s - self.started_at_s)
        return int(in_all * share**self.bend)


class JobQueue:
    """Accepts jobs, hands them to the first free worker, and forgets them in the end.

    Args:
        settings: How many workers there are when, how fast they are, how long jobs are kept.
        new_id: Makes the id of a job.
        on_end: Called with each job that has ended, or was forgotten.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        new_id: Callable[[], str],
        on_end: Callable[[Job], object],
    ) -> None:
        began_at_s = settings.clock()
        self._schedule = deque(
            (began_at_s + after_s, workers) for after_s, workers in settings.worker_schedule
        )
        self._settings = settings
        # Two sources: how the counts grow must not change how long the jobs take.
        self._factors = random.Random(f"spread {settings.seed}")  # noqa: S311
        self._bends = random.Random(f"progress {settings.seed}")  # noqa: S311
        self._new_id = new_id
        self._on_end = on_end
        # When each worker will be free, after all jobs that were accepted so far.
        self._free_at_s = [-math.inf] * settings.workers
        self._jobs: dict[str, Job] = {}
        # Jobs before a worker, in the order of their starts, which is that of their acceptance;
        # then the ends of those at work.
        self._waiting: deque[Job] = deque()
        self._working: list[float] = []
        # Jobs leave this heap in the order of their ends, so that the other needs no sorting.
        self._in_flight: list[tuple[float, str]] = []
        self._ended: deque[tuple[float, str]] = deque()
        self.peak_in_flight = 0

    def accept(self, order: Order, locations: list[CheckedLocation], now_s: float) -> Job:
        """Take on a job and settle its future."""
        self._settle(now_s)
        share = _locations_done(len(locations), order.fate) / len(locations)
        job = Job(
            id=self._new_id(),
            order=order,
            num_locations=len(locations),
            packed=zlib.compress(msgspec.json.encode(locations), _PACK_LEVEL),
            bend=self._bends.uniform(0.3, 3.0) if self._settings.progress == "uneven" else 1.0,
            work_s=self._draw_work_s(len(locations)) * share,
            requested_at_s=now_s,
            ready_at_s=now_s + self._settings.queue_delay_s,
        )
        self._plan(job)
        self._jobs[job.id] = job
        self._waiting.append(job)
        heapq.heappush(self._in_flight, (job.leaves_at_s, job.id))
        self.peak_in_flight = max(self.peak_in_flight, self.num_in_flight(now_s))
        return job

    def _draw_work_s(self, num_locations: int) -> float:
        settings = self._settings
        work_s = num_locations / settings.locations_per_s
        if settings.job_s is not None:
            work_s = settings.job_s
        return work_s * math.exp(settings.job_spread * self._factors.gauss(0.0, 1.0))

    def get(self, job_id: str, now_s: float) -> Job | None:
        """The job of that id; None if there is none (any more)."""
        self._settle(now_s)
        job = self._jobs.get(job_id)
        return None if job is None or now_s >= job.forgotten_at_s else job

    def num_in_flight(self, now_s: float) -> int:
        """How many accepted jobs have not ended yet."""
        self._settle(now_s)
        return len(self._in_flight)

    def _plan(self, job: Job) -> None:
        """Give a job to the worker that is free first."""
        job.started_at_s = max(job.ready_at_s, self._free_at_s[0])
        job.ended_at_s = job.started_at_s + job.work_s
        # Also the worker of a job that is forgotten goes on with it.
        heapq.heapreplace(self._free_at_s, job.ended_at_s)
        if job.order.lost_after is not None:
            life_s = job.ended_at_s - job.requested_at_s
            job.forgotten_at_s = job.requested_at_s + job.order.lost_after * life_s

    def _change_workers(self, workers: int, at_s: float) -> None:
        """New workers take jobs at once; those that are too many end the job that they have."""
        # The first to be done are those that are not needed any more.
        busy = heapq.nlargest(workers, self._working)
        self._free_at_s = busy + [at_s] * (workers - len(busy))
        heapq.heapify(self._free_at_s)
        for job in self._waiting:
            forgotten_at_s = job.forgotten_at_s
            self._plan(job)
            if forgotten_at_s <= at_s:
                job.forgotten_at_s = forgotten_at_s
        moved = {job.id: job.leaves_at_s for job in self._waiting}
        self._in_flight = [(moved.get(job_id, at), job_id) for at, job_id in self._in_flight]
        heapq.heapify(self._in_flight)

    def _settle(self, now_s: float) -> None:
        while self._schedule and self._schedule[0][0] <= now_s:
            at_s, workers = self._schedule.popleft()
            self._advance(at_s)
            self._change_workers(workers, at_s)
        self._advance(now_s)

    def _advance(self, now_s: float) -> None:
        while self._waiting and self._waiting[0].started_at_s <= now_s:
            heapq.heappush(self._working, self._waiting.popleft().ended_at_s)
        while self._working and self._working[0] <= now_s:
            heapq.heappop(self._working)
        while self._in_flight and self._in_flight[0][0] <= now_s:
            entry = heapq.heappop(self._in_flight)
            self._ended.append(entry)
            self._on_end(self._jobs[entry[1]])
        while self._ended and self._ended[0][0] + self._settings.retention_s <= now_s:
            del self._jobs[self._ended.popleft()[1]]


def _locations_done(num_locations: int, fate: JobFate) -> int:
    return num_locations // 2 if fate is JobFate.REQUEST_FAILED else num_locations


# -- Status ----------------------------------------------------------------------------------


def describe(
    job: Job,
    now_s: float,
    *,
    timestamp: Callable[[float], str | None],
    output_url: str,
    as_objects: bool,
) -> dict[str, Any]:
    """The answer about a job's status.

    Args:
        job: The job.
        now_s: The time on the queue's clock.
        timestamp: Turns a time of that clock into an ISO 8601 date; None where it tells none.
        output_url: Where its output is.
        as_objects: Draw ``outputs`` and ``sources`` as the one object of the published schema
            (of several sources only the first fits in) instead of as lists.
    """
    status = job.status(now_s)
    started = now_s >= job.started_at_s
    ended = now_s >= job.ended_at_s
    done = job.num_completed(now_s)

    answer: dict[str, Any] = {
        "request": {
            "status": status,
            "requested_at": timestamp(job.requested_at_s),
            "progress_started_at": timestamp(job.started_at_s) if started else None,
            "completed_at": timestamp(job.ended_at_s) if ended else None,
            "num_requested": None if status == "PENDING" else job.num_locations,
            "num_completed": done if started else None,
            "num_problems": bisect.bisect_left(job.order.problems, done) if started else None,
            "num_canceled": 0 if started else None,
        }
    }
    if status == "COMPLETE":
        answer["result"] = _result(job, output_url, as_objects=as_objects)
    return answer


def _result(job: Job, output_url: str, *, as_objects: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "status": "SUCCESS",
        "message": "Success",
        "total_processing_time": round(job.ended_at_s - job.started_at_s, 6),
    }
    if not job.order.fate.has_output:
        return result | {"status": "FAILED", "message": "The results could not be written"}
    description = "Enhanced locations (JSON)"
    filename = job.filename if job.order.filename is None else job.order.filename
    outputs = [{"url": output_url, "filename": filename, "description": description}]
    sources = [tally.as_json(source) for source, tally in job.order.tallies.items()]
    return result | {
        "outputs": outputs[0] if as_objects else outputs,
        "sources": sources[0] if as_objects else sources,
        "additional_info": {"worker_name": "sandbox"},
    }
