"""The jobs of the sandbox: a queue before a fleet of workers, worked out ahead of time.

Nothing here runs. When a job is accepted, its start and end are computed from the times at which
the workers become free; everything it shows later is a function of the clock, which each call
takes as an argument. When the number of workers changes, the jobs that no worker has taken yet
are worked out again.
"""

import heapq
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pingdata_async.sandbox.answers import Options
from pingdata_async.sandbox.checks import CheckedLocation
from pingdata_async.sandbox.dice import JobFate, SourceFault
from pingdata_async.sandbox.pace import Curve, Paces

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
    """The contents of a job that is about to be accepted.

    Attributes:
        locations: They are packed when the job is accepted, to save memory.
        options: What the request asked of all of them.
        tallies: How each source will do.
        problems: The indexes, ascending, of the locations that some source will not find.
        gaps: What faults will take from the output.
        filename: What the output will be called; None for its real name.
        lost_after: The share of its life after which the job is forgotten; None: it is kept.
        callback_url: Who wants to know of its end; None: nobody.
    """

    options: Options
    locations: list[CheckedLocation] = field(default_factory=list)
    tallies: dict[str, SourceTally] = field(default_factory=dict)
    problems: list[int] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    filename: str | None = None
    lost_after: float | None = None
    callback_url: str | None = None


@dataclass(slots=True, eq=False)
class Job:
    """An accepted job. All times are on the clock of the queue.

    Attributes:
        id: Opaque.
        options: What the request asked of all locations.
        num_locations: How many there are.
        packed: The locations, compressed.
        tallies: How each source does.
        problems: The indexes of the locations that some source does not find.
        gaps: What its output lacks.
        shown_filename: What it calls its output.
        fate: How it ends.
        curve: How its counts grow; None: evenly.
        work_s: Seconds that a worker is busy with it.
        requested_at_s: When it was accepted.
        ready_at_s: When a worker may take it. Until half of the time before, it is PENDING.
        lost_after: The share of its life after which it is forgotten; None: it is kept.
        callback_url: Who wants to know of its end; None: nobody.
        started_at_s: When a worker takes it. This and the next two may change until then.
        ended_at_s: When it is COMPLETE or FAILED.
        forgotten_at_s: When it is forgotten before its time; infinity: it is not.
        polls: How often its status was told.
        is_told: Whether it was told that it has ended.
    """

    id: str
    options: Options
    num_locations: int
    packed: bytes
    tallies: dict[str, SourceTally]
    problems: Sequence[int]
    gaps: Gaps
    shown_filename: str
    fate: JobFate
    curve: Curve | None
    work_s: float
    requested_at_s: float
    ready_at_s: float
    lost_after: float | None
    callback_url: str | None
    started_at_s: float = float("inf")
    ended_at_s: float = float("inf")
    forgotten_at_s: float = float("inf")
    polls: int = 0
    is_told: bool = False

    @property
    def leaves_at_s(self) -> float:
        """When it is in flight no more: a job that is forgotten is nobody's."""
        return min(self.ended_at_s, self.forgotten_at_s)

    @property
    def is_lost(self) -> bool:
        """Whether it is forgotten before anybody can be told of its end."""
        return self.lost_after is not None

    @property
    def filename(self) -> str:
        """The name of its output, in its url."""
        return _filename(self.id)

    def has_output(self, now_s: float) -> bool:
        """Whether its output can be fetched."""
        return now_s >= self.ended_at_s and self.fate.has_output

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
        return "FAILED" if self.fate is JobFate.REQUEST_FAILED else "COMPLETE"

    def num_completed(self, now_s: float) -> int:
        """How many locations are done."""
        in_all = _locations_done(self.num_locations, self.fate)
        if now_s >= self.ended_at_s:
            return in_all
        if now_s <= self.started_at_s:
            return 0
        elapsed_s = now_s - self.started_at_s
        lasts_s = self.ended_at_s - self.started_at_s
        if self.curve is None:
            return int(in_all * elapsed_s / lasts_s)
        return int(in_all * self.curve.done(elapsed_s / lasts_s))


class JobQueue:
    """Accepts jobs, hands them to the first free worker, and forgets them in the end.

    Args:
        workers: How many jobs are worked on at once.
        schedule: At which times of the clock, ascending, there will be how many workers instead.
        paces: Says how long each job takes.
        queue_delay_s: Seconds before a job can start even when a worker is free; PENDING for the
            first half, QUEUED for the second.
        retention_s: Seconds after its end at which a job is forgotten.
        new_id: Makes the id of a job.
        on_end: Is told of each job that is in flight no more: it has ended, or was forgotten.
    """

    def __init__(
        self,
        *,
        workers: int,
        schedule: Iterable[tuple[float, int]] = (),
        paces: Paces,
        queue_delay_s: float,
        retention_s: float,
        new_id: Callable[[], str],
        on_end: Callable[[Job], object],
    ) -> None:
        self._schedule = deque(schedule)
        self._paces = paces
        self._queue_delay_s = queue_delay_s
        self._retention_s = retention_s
        self._new_id = new_id
        self._on_end = on_end
        # When each worker will be free, after all jobs that were accepted so far.
        self._free_at_s = [float("-inf")] * workers
        self._jobs: dict[str, Job] = {}
        # Jobs before a worker, in the order of their starts, which is that of their acceptance;
        # then the ends of those at work.
        self._waiting: deque[Job] = deque()
        self._working: list[float] = []
        # Jobs leave this heap in the order of their ends, so that the other needs no sorting.
        self._in_flight: list[tuple[float, str]] = []
        self._ended: deque[tuple[float, str]] = deque()
        self.peak_in_flight = 0

    def accept(self, order: Order, fate: JobFate, now_s: float) -> Job:
        """Take on a job and settle its future."""
        self._settle(now_s)
        job_id = self._new_id()
        num_locations = len(order.locations)
        pace = self._paces.draw(num_locations)
        job = Job(
            id=job_id,
            options=order.options,
            num_locations=num_locations,
            packed=zlib.compress(msgspec.json.encode(order.locations), _PACK_LEVEL),
            tallies=order.tallies,
            problems=order.problems,
            gaps=order.gaps,
            shown_filename=_filename(job_id) if order.filename is None else order.filename,
            fate=fate,
            curve=pace.curve,
            work_s=pace.work_s * _locations_done(num_locations, fate) / num_locations,
            requested_at_s=now_s,
            ready_at_s=now_s + self._queue_delay_s,
            lost_after=order.lost_after,
            callback_url=order.callback_url,
        )
        self._plan(job)
        self._jobs[job.id] = job
        self._waiting.append(job)
        heapq.heappush(self._in_flight, (job.leaves_at_s, job.id))
        self.peak_in_flight = max(self.peak_in_flight, self.num_in_flight(now_s))
        return job

    def get(self, job_id: str, now_s: float) -> Job | None:
        """The job of that id; None if there is none (any more)."""
        self._settle(now_s)
        job = self._jobs.get(job_id)
        return None if job is None or now_s >= job.forgotten_at_s else job

    def forget(self, job_id: str) -> None:
        """Know nothing of a job any more, before its time."""
        self._jobs.pop(job_id, None)

    def num_in_flight(self, now_s: float) -> int:
        """How many accepted jobs have not ended yet."""
        self._settle(now_s)
        return len(self._in_flight)

    def set_workers(self, workers: int, now_s: float) -> None:
        """From now on, work on that many jobs at once.

        Of more workers the new ones take jobs at once. Of fewer, each goes on with the job that
        it has, and those that are too many take no other.
        """
        self._settle(now_s)
        self._change_workers(workers, now_s)

    def _plan(self, job: Job) -> None:
        """Give a job to the worker that is free first."""
        job.started_at_s = max(job.ready_at_s, self._free_at_s[0])
        job.ended_at_s = job.started_at_s + job.work_s
        # Also the worker of a job that is forgotten goes on with it.
        heapq.heapreplace(self._free_at_s, job.ended_at_s)
        if job.lost_after is not None:
            life_s = job.ended_at_s - job.requested_at_s
            job.forgotten_at_s = job.requested_at_s + job.lost_after * life_s

    def _change_workers(self, workers: int, at_s: float) -> None:
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
        while self._ended and self._ended[0][0] + self._retention_s <= now_s:
            self.forget(self._ended.popleft()[1])


def _locations_done(num_locations: int, fate: JobFate) -> int:
    return num_locations // 2 if fate is JobFate.REQUEST_FAILED else num_locations


def _filename(job_id: str) -> str:
    return f"bulk_enhance_{job_id}.json"
