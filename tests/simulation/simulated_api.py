"""The bulk API in memory, in the event loop's own time; nothing of it is random but by seed.

It stands where `PingDataClient` stands and raises the package's own errors. Jobs wait for one
of a few workers, first come first served, and take as long as their locations take.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import anyio
import msgspec

from pingdata_async.exceptions import (
    DecodeError,
    NotFoundError,
    PingDataError,
    RateLimitError,
    ServerError,
    TransportError,
)
from pingdata_async.models import JobOutput, JobStatus
from tests.simulation.faults import Fault, Faults, Moment, NoFaults

UNKNOWN_AT_FIRST = 2  # polls of a job that the API learns of late
OUTPUT_AFTER = 3  # polls of a finished job whose output is named late


class _SentLocation(msgspec.Struct):
    id: str
    sources: tuple[str, ...] | None = None


class _SentJob(msgspec.Struct):
    locations: list[_SentLocation]
    sources: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_SentJob).decode


@dataclasses.dataclass(slots=True, eq=False)
class SimulatedJob:
    """An accepted job.

    Attributes:
        number: How many were accepted before it.
        sources: By location id, what was asked for.
        ends_at: When it is done.
        fate: What goes wrong with it.
        polls: Questions about it that were answered, also with "unknown".
    """

    number: int
    sources: dict[str, tuple[str, ...]]
    ends_at: float
    fate: Fault | None
    polls: int = 0

    @property
    def id(self) -> str:
        return f"job-{self.number}"


@dataclasses.dataclass(slots=True)
class Counts:
    """What was asked of a simulated API.

    Attributes:
        requests: By moment.
        jobs: Accepted, those included whose answer was lost.
        ghosts: Of those, jobs whose id nobody was told.
        in_flight: Jobs at work now; a ghost is left out, as nobody can know of it.
        peak_in_flight: The most that were.
        submissions: By location id, in how many accepted jobs it was.
        faults: By fault.
    """

    requests: Counter[Moment] = dataclasses.field(default_factory=Counter)
    jobs: int = 0
    ghosts: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    submissions: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: Counter[Fault] = dataclasses.field(default_factory=Counter)


class Refuses(Protocol):
    """What is wrong with rows: see `troubles.Troubles`."""

    def refusal(self, ids: Collection[str], number: int) -> PingDataError | None:
        """Why the request of this number is refused; None if it is not."""
        ...

    def fails(self, ids: Collection[str], number: int) -> bool:
        """Whether the job of this number fails."""
        ...


def succeed(_wire_id: str, sources: tuple[str, ...]) -> bytes:
    """The smallest answer that is a success."""
    return b"{" + b",".join(b'"%b":{"is_success":true}' % s.encode() for s in sources) + b"}"


class SimulatedAPI:
    """A `BulkAPI` for simulations and tests.

    Args:
        workers: Jobs worked on at once.
        locations_per_s: What one worker does.
        latency_s: Of a request on average, by `seed` up to half of it more or less.
        faults: What goes wrong.
        troubles: What is wrong with rows; None for nothing.
        delays_s: By number of the job, seconds by which it takes longer.
        answer: A location's object in the output, from its id and sources.
        outputs: A job's outputs; None for one, made with `answer`.
        retry_after_s: What a 429 names.
        slow_s: What a slow answer takes.
        retention_s: Seconds after its end at which a job is forgotten.
        counts_locations: Whether `counts.submissions` is kept, which grows with the input.
        seed: Of the latencies.
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        locations_per_s: float = 500.0,
        latency_s: float = 0.05,
        faults: Faults | None = None,
        troubles: Refuses | None = None,
        delays_s: Mapping[int, float] | None = None,
        answer: Callable[[str, tuple[str, ...]], bytes] = succeed,
        outputs: Callable[[SimulatedJob], list[bytes]] | None = None,
        retry_after_s: float = 5.0,
        slow_s: float = 20.0,
        retention_s: float = 3600.0,
        counts_locations: bool = True,
        seed: int = 0,
    ) -> None:
        self._free_at = [0.0] * workers
        self._locations_per_s = locations_per_s
        self._latency_s = latency_s
        self._faults = faults or NoFaults()
        self._delays_s = delays_s or {}
        self._answer = answer
        self._outputs = outputs or self._one_output
        self._retry_after_s = retry_after_s
        self._slow_s = slow_s
        self._retention_s = retention_s
        self._troubles = troubles
        self._counts_locations = counts_locations
        self._rng = random.Random(seed)
        self._jobs: OrderedDict[str, SimulatedJob] = OrderedDict()
        self._ends: list[float] = []
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """What was asked of it so far."""
        self._forget()
        return self._counts

    @property
    def jobs(self) -> Mapping[str, SimulatedJob]:
        """The jobs that it still knows."""
        return self._jobs

    # -- the BulkAPI protocol ------------------------------------------------------------

    async def submit_body(self, body: bytes) -> str:
        """Accept a job."""
        number = self._counts.requests[Moment.SUBMIT]
        fault = await self._arrive(Moment.SUBMIT)
        is_lost = fault in {Fault.ERROR_AFTER, Fault.DROP_AFTER, Fault.GARBAGE}
        sent = _decode(body)
        if self._troubles is not None:
            refusal = self._troubles.refusal([each.id for each in sent.locations], number)
            if refusal is not None:
                await self._travel()
                raise refusal
        job = self._accept(sent, is_ghost=is_lost)
        await self._travel()
        if fault is Fault.ERROR_AFTER:
            raise ServerError("500 after acceptance", status_code=500)
        if fault is Fault.DROP_AFTER:
            raise TransportError("dropped after acceptance", maybe_sent=True)
        if fault is Fault.GARBAGE:
            raise DecodeError("a success without a job id")
        return job.id

    async def status(self, job_id: str) -> JobStatus:
        """Say how far a job is."""
        if await self._arrive(Moment.POLL) is Fault.GARBAGE:
            raise DecodeError("not a status")
        job = self._known(job_id)
        job.polls += 1
        is_unknown = job.fate is Fault.FORGOTTEN or (
            job.fate is Fault.LATE and job.polls <= UNKNOWN_AT_FIRST
        )
        status = self._status(job)
        await self._travel()
        if is_unknown:
            raise NotFoundError(f"no job {job_id} yet", status_code=404)
        return status

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        """Give an output."""
        fault = await self._arrive(Moment.FETCH)
        job = self._known(job_id)
        body = self._outputs(job)[int(output.url.rpartition("/")[2])]
        await self._travel()
        return body[: len(body) // 2] if fault in {Fault.CORRUPT, Fault.GARBAGE} else body

    # -- inside --------------------------------------------------------------------------

    async def _travel(self) -> None:
        await anyio.sleep(self._latency_s / 2 * self._rng.uniform(0.5, 1.5))

    async def _arrive(self, moment: Moment) -> Fault | None:
        self._counts.requests[moment] += 1
        fault = self._faults.next(moment)
        if isinstance(fault, Fault):
            self._counts.faults[fault] += 1
        await self._travel()
        if fault is Fault.HANG:
            await anyio.sleep_forever()
        if fault is Fault.SLOW:
            await anyio.sleep(self._slow_s)
        error = fault if isinstance(fault, PingDataError) else self._error(fault)
        if error is not None:
            await self._travel()
            raise error
        return fault if isinstance(fault, Fault) else None

    def _error(self, fault: Fault | None) -> PingDataError | None:
        if fault is Fault.RATE_LIMIT:
            return RateLimitError("429", status_code=429, retry_after_s=self._retry_after_s)
        if fault is Fault.BARE_RATE_LIMIT:
            return RateLimitError("429", status_code=429)
        if fault is Fault.UNAVAILABLE:
            return ServerError("503", status_code=503)
        if fault is Fault.ERROR:
            return ServerError("500", status_code=500)
        if fault is Fault.REFUSED:
            return TransportError("connection refused", maybe_sent=False)
        if fault is Fault.DROP:
            return TransportError("connection lost", maybe_sent=True)
        return None

    def _accept(self, sent: _SentJob, *, is_ghost: bool) -> SimulatedJob:
        now = anyio.current_time()
        self._forget()
        sources = {each.id: each.sources or sent.sources for each in sent.locations}
        assert len(sources) == len(sent.locations), "an id twice in one job"
        fate = self._faults.next(Moment.JOB)
        assert not isinstance(fate, PingDataError)
        number = self._counts.jobs
        if self._troubles is not None and self._troubles.fails(sources, number):
            fate = Fault.FAILED_JOB
        ends_at = now
        if fate is not Fault.FORGOTTEN:
            begins_at = max(now, heapq.heappop(self._free_at))
            ends_at = begins_at + len(sources) / self._locations_per_s
            heapq.heappush(self._free_at, ends_at)
            ends_at += self._delays_s.get(number, 0.0)
        job = SimulatedJob(number, sources, ends_at, fate)
        self._jobs[job.id] = job
        self._counts.jobs += 1
        self._counts.ghosts += is_ghost
        if fate is not None:
            self._counts.faults[fate] += 1
        if self._counts_locations:
            self._counts.submissions.update(sources.keys())
        if not is_ghost:
            heapq.heappush(self._ends, ends_at)
            self._counts.in_flight = len(self._ends)
            self._counts.peak_in_flight = max(self._counts.peak_in_flight, len(self._ends))
        return job

    def _forget(self) -> None:
        """Bring the counts up to date, and drop jobs that ended long ago."""
        now = anyio.current_time()
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        self._counts.in_flight = len(self._ends)
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if oldest.ends_at + self._retention_s > now:
                break
            del self._jobs[oldest.id]

    def _known(self, job_id: str) -> SimulatedJob:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(f"no job {job_id}", status_code=404)
        return job

    def _status(self, job: SimulatedJob) -> JobStatus:
        total = len(job.sources)
        if job.ends_at > anyio.current_time():
            return JobStatus(status="IN_PROGRESS", num_requested=total)
        if job.fate is Fault.FAILED_JOB:
            return JobStatus(status="FAILED", num_requested=total, message="out of luck")
        if job.fate is Fault.FAILED_RESULT:
            return JobStatus(status="COMPLETE", result_status="FAILED", message="out of luck")
        names_outputs = job.fate is not Fault.NO_OUTPUT and (
            job.fate is not Fault.LATE_OUTPUT or job.polls > OUTPUT_AFTER
        )
        number = len(self._outputs(job)) if names_outputs else 0
        outputs = tuple(JobOutput(url=f"/{n}", filename=f"output-{n}.json") for n in range(number))
        return JobStatus(
            status="COMPLETE",
            result_status="SUCCESS",
            num_requested=total,
            num_completed=total,
            outputs=outputs,
        )

    def _one_output(self, job: SimulatedJob) -> list[bytes]:
        locations = [
            b'"%b":%b' % (wire_id.encode(), self._answer(wire_id, sources))
            for wire_id, sources in job.sources.items()
        ]
        return [b"{" + b",".join(locations) + b"}"]
