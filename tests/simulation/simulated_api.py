"""The bulk API in memory, in the event loop's own time; nothing of it is random but by seed.

It stands where `PingDataClient` stands and raises the package's own errors. Jobs wait for one
of a few workers, first come first served, and take as long as their locations take
(`queueing.py`); what is said of them meanwhile is in `profiles.py`, what is refused in
`limits.py`, what is kept of it all in `records.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import math
import random
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import anyio
import msgspec

from pingdata_async.exceptions import (
    AuthenticationError,
    DecodeError,
    NotFoundError,
    OutputUnavailableError,
    PingDataError,
    RateLimitError,
    ServerError,
    TransportError,
)
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.encoding import EncodedBody
from tests.simulation.faults import Fault, Faults, Moment, NoFaults
from tests.simulation.limits import Gatekeeper, Limits, Outage
from tests.simulation.profiles import Telling
from tests.simulation.queueing import JobQueue, SimulatedJob, Work
from tests.simulation.records import JobRecord, Records

REFUSED_FOR_S = 300.0  # an output, after the end of its job
LOCKED_FOR_S = 10.0  # the right token, at the longest
USELESS = b"no JSON at all"
UNKNOWN_AT_FIRST = 2  # polls of a job that the API learns of late


class _SentLocation(msgspec.Struct):
    id: str
    sources: tuple[str, ...] | None = None


class _SentJob(msgspec.Struct):
    locations: list[_SentLocation]
    sources: tuple[str, ...] = ()


_ACCEPTED_ALL_THE_SAME = frozenset(
    {Fault.ERROR_AFTER, Fault.DROP_AFTER, Fault.GARBAGE, Fault.GATEWAY_TIMEOUT}
)
_decode = msgspec.json.Decoder(_SentJob).decode


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
        work: How jobs are worked on, in place of those two.
        telling: What it says of them.
        limits: What it can take.
        outages: When it is out of order.
        latency_s: Of a request on average, by `seed` up to half of it more or less.
        faults: What goes wrong.
        troubles: What is wrong with rows; None for nothing.
        delays_s: By number of the job, seconds by which it takes longer.
        answer: A location's object in the output, from its id and sources.
        outputs: A job's outputs; None for one, made with `answer`.
        retry_after_s: What a 429 among the faults names.
        slow_s: What a slow answer takes.
        retention_s: Seconds after its end at which a job is forgotten.
        counts_locations: Whether `counts.submissions` is kept, which grows with the input.
        records: Where every request and job is kept; None for nowhere.
        delivers_anyway: The share of submissions that arrive although who sent them has been
            cancelled meanwhile.
        seed: Of the latencies, and of the lengths of jobs.
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        locations_per_s: float = 500.0,
        work: Work | None = None,
        telling: Telling | None = None,
        limits: Limits | None = None,
        outages: Sequence[Outage] = (),
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
        records: Records | None = None,
        delivers_anyway: float = 0.0,
        seed: int = 0,
    ) -> None:
        work = work or Work(workers=workers, locations_per_s=locations_per_s)
        self._queue = JobQueue(work, delays_s=delays_s or {}, seed=seed)
        self._telling = telling or Telling()
        self._limits = limits or Limits()
        self._gatekeeper = Gatekeeper(self._limits, outages)
        self._latency_s = latency_s
        self._faults = faults or NoFaults()
        self._answer = answer
        self._outputs = outputs or self._one_output
        self._retry_after_s = retry_after_s
        self._slow_s = slow_s
        self._retention_s = retention_s
        self._troubles = troubles
        self._counts_locations = counts_locations
        self._records = records
        self._delivers_anyway = delivers_anyway
        self._rng = random.Random(seed)
        self._jobs: OrderedDict[str, SimulatedJob] = OrderedDict()
        self._counts = Counts()
        self._locked_until = -math.inf

    @property
    def counts(self) -> Counts:
        """What was asked of it so far."""
        self._bring_up_to_date()
        return self._counts

    @property
    def jobs(self) -> Mapping[str, SimulatedJob]:
        """The jobs that it still knows."""
        return self._jobs

    def make_ghost(self, job_id: str) -> None:
        """Whoever was told of this job has forgotten it."""
        job = self._jobs.get(job_id)
        if job is not None and not job.is_ghost:
            self._bring_up_to_date()
            self._queue.make_ghost(job)
            self._counts.ghosts += 1

    def leave(self, job_id: str) -> None:
        """The client has given this job up: it counts as in flight no more."""
        job = self._jobs.get(job_id)
        if job is not None and not job.is_ghost:
            self._bring_up_to_date()
            self._queue.leave(job)

    # -- the BulkAPI protocol ------------------------------------------------------------

    async def submit_body(self, body: bytes) -> str:
        """Accept a job."""
        number = self._counts.requests[Moment.SUBMIT]
        sent = _decode(body)
        with self._recorded(Moment.SUBMIT):
            try:
                fault = await self._arrive(Moment.SUBMIT)
            except anyio.get_cancelled_exc_class():
                if self._rng.random() < self._delivers_anyway:
                    self._judge(sent, number, is_ghost=True)
                raise
            is_lost = fault in _ACCEPTED_ALL_THE_SAME
            job = self._judge(sent, number, is_ghost=is_lost)
            try:
                await self._travel()
            except BaseException:
                if isinstance(job, SimulatedJob):
                    self.make_ghost(job.id)
                raise
            if isinstance(job, PingDataError):
                raise job
            if fault is Fault.ERROR_AFTER:
                raise ServerError("500 after acceptance", status_code=500)
            if fault is Fault.GATEWAY_TIMEOUT:
                raise ServerError(
                    "504 after acceptance", status_code=504, retry_after_s=self._retry_after_s
                )
            if fault is Fault.DROP_AFTER:
                raise TransportError("dropped after acceptance", maybe_sent=True)
            if fault is Fault.GARBAGE:
                raise DecodeError("a success without a job id")
            return job.id

    async def status(self, job_id: str) -> JobStatus:
        """Say how far a job is."""
        with self._recorded(Moment.POLL, job_id):
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
            if self._records is not None and status.is_finished:
                record = self._records.jobs[job_id]
                record.seen_at = min(record.seen_at, anyio.current_time())
            return status

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        """Give an output."""
        with self._recorded(Moment.FETCH, job_id):
            fault = await self._arrive(Moment.FETCH)
            job = self._known(job_id)
            body = self._outputs(job)[int(output.url.rpartition("/")[2])]
            await self._travel()
            if job.fate is Fault.OUTPUT_REFUSED:
                self._refuse(job)
            if job.fate is Fault.UNREADABLE:
                return USELESS
            return body[: len(body) // 2] if fault in {Fault.CORRUPT, Fault.GARBAGE} else body

    async def fetch_body(self, job_id: str, output: JobOutput) -> EncodedBody:
        """Give an output as it comes over the wire: every other one compressed."""
        content = await self.fetch_output(job_id, output)
        if len(job_id) + sum(map(int, re.findall(r"\d", job_id))) & 1:
            return EncodedBody(gzip.compress(content, 1, mtime=0), "gzip")
        return EncodedBody(content)

    # -- inside --------------------------------------------------------------------------

    def _recorded(
        self, moment: Moment, about: str = ""
    ) -> contextlib.AbstractContextManager[object]:
        if not self._counts.requests:
            self._queue.begin(anyio.current_time())
            self._gatekeeper.begin(anyio.current_time())
        if self._records is None:
            return contextlib.nullcontext()
        return self._records.request(moment, about)

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
        if not (moment is Moment.FETCH and self._telling.origin):  # that is another server
            now = anyio.current_time()
            error = error or self._lock(fault, now) or self._gatekeeper.refusal(moment, now)
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
        if fault is Fault.BAD_GATEWAY:
            return ServerError("502", status_code=502, retry_after_s=self._retry_after_s)
        if fault is Fault.REFUSED:
            return TransportError("connection refused", maybe_sent=False)
        if fault is Fault.DROP:
            return TransportError("connection lost", maybe_sent=True)
        return None

    def _lock(self, fault: Fault | PingDataError | None, now: float) -> PingDataError | None:
        """The token that was right a moment ago is refused for a while."""
        if fault is Fault.LOCKED_OUT:
            self._locked_until = now + LOCKED_FOR_S * self._rng.random()
        return AuthenticationError("401", status_code=401) if now < self._locked_until else None

    def _refuse(self, job: SimulatedJob) -> None:
        if anyio.current_time() < job.ends_at + REFUSED_FOR_S:
            error = OutputUnavailableError(f"no way to that of {job.id}", status_code=403)
            error.job_status = self._status(job)
            raise error

    def _judge(
        self, sent: _SentJob, number: int, *, is_ghost: bool
    ) -> SimulatedJob | PingDataError:
        """Accept a submission that has arrived, or say why not."""
        self._bring_up_to_date()
        refusal = self._limits.too_many_jobs(self._queue.unfinished)
        if refusal is None and self._troubles is not None:
            refusal = self._troubles.refusal([each.id for each in sent.locations], number)
        return refusal or self._accept(sent, is_ghost=is_ghost)

    def _accept(self, sent: _SentJob, *, is_ghost: bool) -> SimulatedJob:
        sources = {each.id: each.sources or sent.sources for each in sent.locations}
        assert len(sources) == len(sent.locations), "an id twice in one job"
        fate = self._faults.next(Moment.JOB)
        assert not isinstance(fate, PingDataError)
        number = self._counts.jobs
        if self._troubles is not None and self._troubles.fails(sources, number):
            fate = Fault.FAILED_JOB
        job = SimulatedJob(number, sources, fate, anyio.current_time(), is_ghost=is_ghost)
        self._queue.add(job)
        self._jobs[job.id] = job
        if self._records is not None:
            self._records.jobs[job.id] = JobRecord(job)
        counts = self._counts
        counts.jobs += 1
        counts.ghosts += is_ghost
        if fate is not None:
            counts.faults[fate] += 1
        if self._counts_locations:
            counts.submissions.update(sources.keys())
        counts.in_flight = self._queue.in_flight
        if not is_ghost:
            counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        return job

    def _bring_up_to_date(self) -> None:
        """Let jobs go on until now, and drop those that ended long ago."""
        now = anyio.current_time()
        self._queue.advance(now)
        self._counts.in_flight = self._queue.in_flight
        while self._jobs:
            oldest = next(iter(self._jobs.values()))
            if oldest.ends_at + self._retention_s > now:
                break
            del self._jobs[oldest.id]

    def _known(self, job_id: str) -> SimulatedJob:
        self._queue.advance(anyio.current_time())
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(f"no job {job_id}", status_code=404)
        return job

    def _status(self, job: SimulatedJob) -> JobStatus:
        return self._telling.status(job, anyio.current_time(), lambda: len(self._outputs(job)))

    def _one_output(self, job: SimulatedJob) -> list[bytes]:
        locations = [
            b'"%b":%b' % (wire_id.encode(), self._answer(wire_id, sources))
            for wire_id, sources in job.sources.items()
        ]
        return [b"{" + b",".join(locations) + b"}"]
