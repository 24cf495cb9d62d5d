"""The jobs of the sandbox: a queue before a fleet of workers, worked out ahead of time.

Nothing here runs. When a job is accepted, its start and end are computed from the times at which
the workers become free; everything it shows later is a function of the clock, which each call
takes as an argument.
"""

import bisect
import heapq
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pingdata_async.sandbox.answers import Options
from pingdata_async.sandbox.checks import CheckedLocation
from pingdata_async.sandbox.dice import JobFate, SourceFault

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
    """

    options: Options
    locations: list[CheckedLocation] = field(default_factory=list)
    tallies: dict[str, SourceTally] = field(default_factory=dict)
    problems: list[int] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    filename: str | None = None
    lost_after: float | None = None


@dataclass(frozen=True, slots=True)
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
        requested_at_s: When it was accepted.
        queued_at_s: When it turns from PENDING to QUEUED.
        started_at_s: When a worker takes it.
        ended_at_s: When it is COMPLETE or FAILED.
        forgotten_at_s: When it is forgotten before its time; infinity: it is not.
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
    requested_at_s: float
    queued_at_s: float
    started_at_s: float
    ended_at_s: float
    forgotten_at_s: float

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
        if now_s < self.queued_at_s:
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
        return int(in_all * elapsed_s / (self.ended_at_s - self.started_at_s))


class JobQueue:
    """Accepts jobs, hands them to the first free worker, and forgets them in the end.

    Args:
        workers: How many jobs are worked on at once.
        locations_per_s: How fast each worker is.
        queue_delay_s: Seconds before a job can start even when a worker is free; PENDING for the
            first half, QUEUED for the second.
        retention_s: Seconds after its end at which a job is forgotten.
        new_id: Makes the id of a job.
    """

    def __init__(
        self,
        *,
        workers: int,
        locations_per_s: float,
        queue_delay_s: float,
        retention_s: float,
        new_id: Callable[[], str],
    ) -> None:
        self._locations_per_s = locations_per_s
        self._queue_delay_s = queue_delay_s
        self._retention_s = retention_s
        self._new_id = new_id
        self._free_at_s = [float("-inf")] * workers
        self._jobs: dict[str, Job] = {}
        # Jobs leave this heap in the order of their ends, so that the other needs no sorting.
        self._in_flight: list[tuple[float, str]] = []
        self._ended: deque[tuple[float, str]] = deque()
        self.peak_in_flight = 0

    def accept(self, order: Order, fate: JobFate, now_s: float) -> Job:
        """Take on a job and settle its whole future."""
        started_at_s = max(now_s + self._queue_delay_s, self._free_at_s[0])
        done = _locations_done(len(order.locations), fate)
        ended_at_s = started_at_s + done / self._locations_per_s
        heapq.heapreplace(self._free_at_s, ended_at_s)
        forgotten_at_s = float("inf")
        if order.lost_after is not None:
            forgotten_at_s = now_s + order.lost_after * (ended_at_s - now_s)
        job_id = self._new_id()
        job = Job(
            id=job_id,
            options=order.options,
            num_locations=len(order.locations),
            packed=zlib.compress(msgspec.json.encode(order.locations), _PACK_LEVEL),
            tallies=order.tallies,
            problems=order.problems,
            gaps=order.gaps,
            shown_filename=_filename(job_id) if order.filename is None else order.filename,
            fate=fate,
            requested_at_s=now_s,
            queued_at_s=now_s + self._queue_delay_s / 2,
            started_at_s=started_at_s,
            ended_at_s=ended_at_s,
            forgotten_at_s=forgotten_at_s,
        )
        self._jobs[job.id] = job
        # A job that is forgotten is nobody's any more, though a worker goes on with it.
        heapq.heappush(self._in_flight, (min(ended_at_s, forgotten_at_s), job.id))
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

    def _settle(self, now_s: float) -> None:
        while self._in_flight and self._in_flight[0][0] <= now_s:
            self._ended.append(heapq.heappop(self._in_flight))
        while self._ended and self._ended[0][0] + self._retention_s <= now_s:
            self.forget(self._ended.popleft()[1])


def describe(
    job: Job,
    now_s: float,
    *,
    timestamp: Callable[[float], str],
    output_url: str,
    as_objects: bool,
) -> dict[str, Any]:
    """The answer about a job's status.

    Args:
        job: The job.
        now_s: The time on the queue's clock.
        timestamp: Turns a time of that clock into an ISO 8601 date.
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
            "num_problems": bisect.bisect_left(job.problems, done) if started else None,
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
    if not job.fate.has_output:
        return result | {"status": "FAILED", "message": "The results could not be written"}
    description = "Enhanced locations (JSON)"
    outputs = [{"url": output_url, "filename": job.shown_filename, "description": description}]
    sources = [tally.as_json(source) for source, tally in job.tallies.items()]
    return result | {
        "outputs": outputs[0] if as_objects else outputs,
        "sources": sources[0] if as_objects else sources,
        "additional_info": {"worker_name": "sandbox"},
    }


def _locations_done(num_locations: int, fate: JobFate) -> int:
    return num_locations // 2 if fate is JobFate.REQUEST_FAILED else num_locations


def _filename(job_id: str) -> str:
    return f"bulk_enhance_{job_id}.json"
