"""EngineContext: the API, the store and the limits that a run of the engine works with.

`ChunkStore` records each step of a chunk; `MemoryStore` is that of runs in memory.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio
import msgspec

from pingdata_async.api.config import Pacer
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit
from pingdata_async.engine.flow_control.budget import Budget
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter, ConcurrencyShare
from pingdata_async.engine.flow_control.polling import PollPlanner
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.events import Event
from pingdata_async.locations.chunk import Chunk, RetryRow
from pingdata_async.models import EnhancedLocation, JobOutput, JobStatus, RunSummary
from pingdata_async.results.outcomes import Tally, tally
from pingdata_async.results.validation import Failure, ValidatedOutput
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.text import counted
from pingdata_async.value_notes import ValueNotes

NAMED_JOBS = 10  # in an error


class BulkAPI(Protocol):
    """The bulk endpoints, as `PingDataClient` has them; a simulation can stand in for it.

    Each method raises this package's errors, asks `pacer` right before each request that it
    sends, and sends nothing twice by itself.
    """

    async def submit_body(self, body: bytes, *, pacer: Pacer) -> str:
        """Submit an encoded job; returns its id."""
        ...

    async def status(self, job_id: str, *, pacer: Pacer) -> JobStatus:
        """Ask about a job."""
        ...

    async def fetch_body(
        self, job_id: str, output: JobOutput, *, pacer: Pacer, max_bytes: int | None = None
    ) -> EncodedBody:
        """Fetch a whole output, as it comes over the wire; DecodeError above `max_bytes`."""
        ...


class FinishedChunk(msgspec.Struct, frozen=True):
    """A chunk that needs no further job."""

    chunk: Chunk
    counts: Tally  # the outcomes of the rows that have one now
    checked: ValidatedOutput | None = None  # the answers, if there are any
    failure: Failure | None = None  # why there are none, unless nothing had to be sent
    failed_results: list[EnhancedLocation] = []  # the outcome of each row, if there are none
    job_id: str = ""  # the job that answered

    @property
    def results(self) -> list[EnhancedLocation]:
        """The outcome of each row that has one, in the order of the rows; made when asked for."""
        return self.failed_results if self.checked is None else self.checked.results

    @property
    def retry_rows(self) -> Sequence[RetryRow]:
        """Rows without an outcome yet: they will be retried."""
        return () if self.checked is None else self.checked.retry_rows


class Delivery:
    """Rows that a store holds until a consumer takes them.

    Attributes:
        taken: Set when the last one is taken.
    """

    def __init__(self, rows: int) -> None:
        self.taken = anyio.Event()
        self._rows = rows
        self._then: Callable[[], None] | None = None

    def take(self, rows: int) -> None:
        """So many of the rows are taken."""
        self._rows -= rows
        if not self._rows:
            self.taken.set()
            if self._then is not None:
                self._then()

    def when_taken(self, then: Callable[[], None]) -> None:
        """Call a function once they are taken."""
        if self._rows:
            self._then = then
        else:
            then()


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of a chunk that another attempt has worked on; the first that is set."""

    outputs: tuple[JobOutput, ...] = ()  # its answers are there to be fetched
    failure: Failure | None = None  # it has failed for good
    sizes: tuple[int, ...] = ()  # it was split into parts of these sizes
    because_jobs_failed: bool = False  # why it was split
    job_id: str = ""  # it has a job
    job_age_s: float = 0.0  # since that was accepted
    wait_s: float = 0.0  # it may be being submitted: ask again after this time
    is_held: bool = False  # a submission is in doubt, and the user decides what follows

    # What it may have cost so far.
    jobs: int = 0
    in_doubt: int = 0
    failed_jobs: int = 0


class ChunkTakenError(Exception):
    """Another attempt is ahead with a chunk: nothing was recorded, and it is to be looked up."""


class ChunkStore:
    """Records each step of a chunk, and takes its answers.

    Each method returns when its record is safe; only then does the engine take the next step. A
    cancellation must not undo a record. Here all but `deliver()` record nothing.

    Attributes:
        is_durable: Whether the records outlive the run, so that another one can continue.
        chunks_ahead: How many chunks are read before there is a job slot for them; more would only
            take memory.
        joins_retry_rows: Whether rows of several chunks may be retried together; if not, another
            attempt finds the same later chunks again.

    Args:
        next_index: Gives the number of a later chunk.
    """

    is_durable = False
    chunks_ahead = 4
    joins_retry_rows = True

    def __init__(self, next_index: Callable[[], int]) -> None:
        self.next_index = next_index

    def still_wanted(self, chunk: Chunk) -> Chunk:
        """The chunk as it is to be sent now, perhaps without rows that nobody waits for any more.

        One that has no rows left is dropped.
        """
        return chunk

    async def look_up(self, chunk: Chunk) -> Known | None:  # noqa: ARG002
        """What is known of a chunk that is next to be submitted, if others may work on it, too."""
        return None

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]
    ) -> None:
        """Record that a chunk is about to be submitted.

        Args:
            chunk: The chunk.
            charged_before: Whether a job with any of its rows was, or may have been, accepted.
            asked: About how many of its locations are sent to each source, by code.

        Raises:
            ChunkTakenError: When another attempt is ahead: it must not be sent.
        """

    async def refused(self, chunk: Chunk) -> None:
        """Record that the submission surely made no job."""

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """Record the job that the submission made."""

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """Record that the submission may have made a job.

        Args:
            chunk: The chunk.
            error: What happened.
            hold: Whether the user decides what to do now; else the chunk will be submitted
                again, split or failed.
        """

    async def completed(self, chunk: Chunk, outputs: Sequence[JobOutput]) -> None:
        """Record that the chunk's job is done; these are its outputs, not fetched yet."""

    async def job_lost(self, chunk: Chunk, error: str) -> None:
        """Record that the job is lost; the chunk will be submitted again, split or failed."""

    async def unreadable(self, chunk: Chunk, bodies: Sequence[EncodedBody]) -> str | None:
        """Record that the output can never be read; the chunk will fail, or be left as it is.

        Args:
            chunk: The chunk.
            bodies: What came; nothing where nothing did, or too much.

        Returns:
            Where that is kept; None for nowhere.
        """

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """Record the parts that take a chunk's place; raises as `submitting()`."""

    async def batched(self, chunk: Chunk) -> None:
        """Record a chunk that was made of rows to be retried."""

    async def deliver(self, finished: FinishedChunk) -> Delivery | None:
        """Make a chunk's answers safe.

        The chunk keeps its permit until this returns, so a slow store holds back reading and
        submitting. Its job slot is free already: a slow consumer must not keep other runs on the
        client from submitting.

        Returns:
            What is held until a consumer takes it: the chunk keeps its permit for as long. None
            for nothing.

        Raises:
            ChunkTakenError: When another attempt's answer is there, which counts.
        """
        raise NotImplementedError


class _Submission(msgspec.Struct):
    """A submission that is under way; see `ChunkStore.submitting()`."""

    chunk: Chunk
    charged_before: bool
    asked: Mapping[str, int]


class MemoryStore(ChunkStore):
    """Hands over results, and counts charges in a summary.

    Others may count in that summary, too.
    """

    def __init__(self, next_index: Callable[[], int], summary: RunSummary) -> None:
        super().__init__(next_index)
        self._summary = summary
        self._rows = Tally()
        self._under_way: dict[int, _Submission] = {}
        self._jobs: dict[int, str] = {}  # by chunk, those whose answers have not come
        self._clock: Callable[[], float] = lambda: 0.0
        self._began_at = 0.0

    def summary(self) -> RunSummary:
        """The summary so far; submissions under way count as in doubt."""
        summary = msgspec.structs.replace(
            self._summary,
            charged_by_source=dict(self._summary.charged_by_source),
            unfinished_jobs=list(self._jobs.values()),
            seconds=self._clock() - self._began_at,
            **(msgspec.structs.asdict(self._rows) | {"reasons": dict(self._rows.reasons)}),
        )
        for submission in self._under_way.values():
            _add_doubt(summary, submission)
        return summary

    def begin(
        self, hand_over: Callable[[list[EnhancedLocation]], Awaitable[Delivery | None]]
    ) -> None:
        """Begin, and note the time.

        Args:
            hand_over: Takes results; returns what it holds of them for a consumer.
        """
        self._hand_over = hand_over
        self._clock = asyncio.get_running_loop().time
        self._began_at = self._clock()

    def end(self, values: ValueNotes) -> None:
        """End; submissions still under way stay in doubt.

        Args:
            values: Values that were not sent as they stand, by field.
        """
        ended_at = self._clock()
        self._clock = lambda: ended_at
        self._summary.values_left_out = values.faults()
        self._summary.value_notes = values.notes()

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]
    ) -> None:
        """Count it as under way."""
        self._under_way[chunk.index] = _Submission(chunk, charged_before, asked)

    async def refused(self, chunk: Chunk) -> None:
        """Count it as not charged."""
        del self._under_way[chunk.index]

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """Count it as charged."""
        submission = self._under_way.pop(chunk.index)
        self._jobs[chunk.index] = job_id
        summary, locations = self._summary, len(chunk.rows)
        summary.jobs += 1
        summary.locations_charged += locations
        for code, asked in submission.asked.items():
            summary.charged_by_source[code] = summary.charged_by_source.get(code, 0) + asked
        if submission.charged_before:
            summary.locations_possibly_charged_again += locations

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:  # noqa: ARG002
        """Count it as perhaps charged."""
        _add_doubt(self._summary, self._under_way.pop(chunk.index))

    async def job_lost(self, chunk: Chunk, error: str) -> None:  # noqa: ARG002
        """Its job will never give its answers."""
        self._jobs.pop(chunk.index, None)

    async def deliver(self, finished: FinishedChunk) -> Delivery | None:
        """Hand over the results."""
        self._jobs.pop(finished.chunk.index, None)
        return await self._hand_over(finished.results)

    def note_handed_over(self, results: Sequence[EnhancedLocation]) -> None:
        """Count results that the consumer has."""
        self._rows.add(tally(results))

    def note_unfinished(self, error: Exception) -> None:
        """Name in a note of an error the paid jobs whose answers did not arrive."""
        jobs = list(self._jobs.values())
        if not jobs:
            return
        named = ", ".join(jobs[:NAMED_JOBS]) + (", ..." if len(jobs) > NAMED_JOBS else "")
        error.add_note(
            f"{counted(len(jobs), 'paid job')} left unfinished: {named} (`unfinished_jobs` of the "
            "summary has all)"
        )


def _add_doubt(summary: RunSummary, submission: _Submission) -> None:
    locations = len(submission.chunk.rows)
    summary.submissions_in_doubt += 1
    summary.locations_in_doubt += locations
    if submission.charged_before:
        summary.locations_possibly_charged_again += locations


class SharedLimits:
    """The limits that all runs on a client share."""

    def __init__(self, rng: random.Random) -> None:
        self.concurrency = ConcurrencyLimiter(AdaptiveLimit())
        self.rate_limiter = RateLimiter(rng)


_limits_by_client: weakref.WeakKeyDictionary[object, SharedLimits] = weakref.WeakKeyDictionary()


def limits_of(client: object, rng: random.Random) -> SharedLimits:
    """Those of a client; `rng` is the source of jitter where they are made now."""
    return _limits_by_client.setdefault(client, SharedLimits(rng))


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineContext:
    """Everything that one run of the engine is given."""

    api: BulkAPI
    store: ChunkStore
    sources: tuple[str, ...]
    options: bytes  # the rest of each job's body, as `JobOptions.encode()` makes it
    chunk_size: int  # rows to be retried that go into one chunk, at most
    job_slots: ConcurrencyShare
    rate_limiter: RateLimiter
    max_requests_per_s: float | None = None  # that the API is known to take
    poll_planner: PollPlanner
    policy: RetryPolicy
    breaker: CircuitBreaker
    budget: Budget
    emit: Callable[[Event], None]
    rng: random.Random
