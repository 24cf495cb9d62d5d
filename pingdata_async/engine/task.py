"""ChunkTask, a chunk on its way through the API, and the outcomes of a request about it."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.retry import Bisection
from pingdata_async.events import RequestRetried
from pingdata_async.exceptions import (
    APIStatusError,
    DecodeError,
    JobFailedError,
    JobTimeoutError,
    PingDataError,
    TransportError,
)
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import JobOutput, RequestKind
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.loop import loop_time


@dataclass(slots=True, eq=False)
class HalfPair:
    """The two halves of a refused chunk: if both are accepted, it was only too large."""

    rows: int  # in the larger half
    whole_rows: int  # in both
    undecided: int = 2  # halves that are neither accepted nor refused yet


WARN_AFTER_IDLE_S = 300.0


@dataclass(slots=True, eq=False)
class ChunkTask:
    """A chunk on its way through the API.

    A *contradictory state* is what the API should soon correct: it does not know the job, or
    reports an undocumented end, or completion without an output.
    """

    chunk: Chunk
    depth: int = 0  # splits between it and the chunk of the input
    bisection: Bisection | None = None  # the bisection that it is part of
    is_part_of_failed: bool = False  # a part of a chunk whose jobs failed
    half_pair: HalfPair | None = None  # the pair of which it is an undecided half

    # Where it is.
    due: float = 0.0  # when it may be admitted, and its priority: see `DelayQueue`
    ready_at: float = 0.0  # since when it could be submitted
    queued_s: float = 0.0  # from then until its last submission was sent
    holds_slot: bool = False  # a job slot
    holds_permit: bool = False  # one of the run's permits to read ahead
    awaits_acceptance: bool = False  # admitted, and neither accepted nor refused yet
    was_left: bool = False  # for later, as another attempt may have been submitting it
    was_cut_off: bool = False  # its submission was under way when the run was ended

    # Its jobs.
    jobs: int = 0  # accepted so far
    in_doubt: int = 0  # submissions whose answer was lost
    failed_jobs: int = 0  # that failed, in this process
    lost_jobs: int = 0  # that the API forgot, in this process

    # The present job.
    job_id: str = ""
    job: JobProgress | None = None
    is_taken_up: bool = False  # an earlier run submitted it
    outputs: tuple[JobOutput, ...] = ()  # to be fetched
    # Whether the API has called it complete, in this run or an earlier one. Then no other job is
    # submitted, even if the API no longer knows this one.
    was_complete: bool = False
    was_unreadable: bool = False  # an earlier run found that its output can never be read
    seems_failed: bool = False  # the API has said once that it failed
    warn_after_idle_s: float = WARN_AFTER_IDLE_S  # until the next `JobStalled`
    contradictory_since: float | None = None  # since when its state is contradictory
    overdue_emitted: bool = False  # `JobOverdue` was emitted for that state
    unknown_at: float | None = None  # when the API last said that it does not know it
    unknown_s: float = 0.0  # for how long it has not known it

    # Its output.
    is_large: bool = False  # so large that no other one is held beside it
    refetches: int = 0  # because rows were missing from it
    was_answered: bool = False  # it is of another attempt, which fetched it as often
    unread: int | None = None  # fingerprint of the last one, if it could not be read
    times_unread: int = 0  # in a row that this same output came

    # The present request.
    request_due: float = 0.0  # when it is or was to be sent
    failures: int = 0  # in a row
    failing_since: float = 0.0  # when the first of them happened
    refused_since: float | None = None  # likewise, if the last ones refused access

    @property
    def attempt(self) -> int:
        """Which attempt at the present request comes next, from 1."""
        return self.failures + 1

    @property
    def charged_before(self) -> bool:
        """Whether a job with any of its rows was, or may have been, accepted."""
        if self.jobs or self.in_doubt:
            return True
        return any(earlier.was_charged for earlier in self.chunk.earlier)

    @property
    def present_job(self) -> JobProgress:
        """What is known of its job; one that is taken up only now was accepted just now."""
        if self.job is None:
            self.job = JobProgress(len(self.chunk.rows), loop_time())
        return self.job

    def exclude_wait(self, now: float) -> None:
        """Do not count the time since the request was due towards `give_up_after_s`.

        It waited for a worker: for a slow consumer, the rate limit, or a pause that another request
        was told of. That says nothing of the job, or of the API.
        """
        self.exclude(max(0.0, now - self.request_due))
        self.request_due = now

    def exclude(self, seconds: float) -> None:
        """Do not count these seconds towards `give_up_after_s`, or as a contradictory state."""
        self.failing_since += seconds
        if self.refused_since is not None:
            self.refused_since += seconds
        if self.contradictory_since is not None:
            self.contradictory_since += seconds
        if self.unknown_at is not None:
            self.unknown_at += seconds

    def note_unknown(self, now: float, longest_s: float) -> float:
        """Note that the API does not know the job; returns for how many seconds now.

        Args:
            now: The time.
            longest_s: The most that counts from one such answer to the next; in between there may
                only have been errors.
        """
        if self.unknown_at is not None:
            self.unknown_s += max(0.0, min(now - self.unknown_at, longest_s))
        self.unknown_at = now
        return self.unknown_s

    def no_longer_unknown(self) -> None:
        """Note that the API knows the job."""
        self.unknown_at, self.unknown_s = None, 0.0

    def contradictory_for_s(self, now: float) -> float:
        """For how many seconds the job's state has been contradictory; 0 if it was not before."""
        if self.contradictory_since is None:
            self.contradictory_since = now
        return now - self.contradictory_since

    def no_longer_contradictory(self) -> None:
        """Note that the API reports a consistent state."""
        self.contradictory_since, self.overdue_emitted = None, False

    def note_failure(self, now: float, *, is_refusal: bool = False) -> None:
        """Note that the present request failed."""
        if not self.failures:
            self.failing_since, self.refused_since = now, None
        if not is_refusal:
            self.refused_since = None
        elif self.refused_since is None:
            self.refused_since = now
        self.failures += 1

    def note_unread(self, fingerprint: int) -> int:
        """Note an output that cannot be read; returns how often in a row this same one came."""
        is_same = fingerprint == self.unread
        self.unread, self.times_unread = fingerprint, self.times_unread * is_same + 1
        return self.times_unread

    def begin_again(self) -> None:
        """Forget the present job."""
        self.job_id, self.job, self.outputs = "", None, ()
        self.is_taken_up = self.was_complete = False
        self.failures = self.refetches = 0
        self.no_longer_contradictory()
        self.no_longer_unknown()
        self.was_unreadable = self.seems_failed = False
        self.unread, self.times_unread = None, 0
        self.warn_after_idle_s = WARN_AFTER_IDLE_S


def json_outputs(outputs: tuple[JobOutput, ...]) -> tuple[JobOutput, ...]:
    """The outputs that hold the answers: those named .json, else the first one."""
    named = tuple(
        output
        for output in outputs
        if (output.filename or output.url.partition("?")[0]).lower().endswith(".json")
    )
    return named or outputs[:1]


def retried(
    kind: RequestKind,
    task: ChunkTask,
    error: PingDataError,
    delay_s: float,
    gives_up_in_s: float | None = None,
) -> RequestRetried:
    """The event that a request failed and will be sent again."""
    return RequestRetried(
        kind=kind,
        chunk=task.chunk.index,
        job_id=task.job_id or None,
        attempt=task.failures,
        error=str(error),
        delay_s=delay_s,
        status_code=error.status_code if isinstance(error, APIStatusError) else None,
        gives_up_in_s=gives_up_in_s,
    )


# -- Outcomes of a request about a chunk ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay:
    """The next step follows after this time."""

    delay_s: float


class RetryLater(Delay):
    """Send the same request again."""


class Deferred(Delay):
    """It was not sent, because of a pause or because the run ends: send it later."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A request that ended in this error."""

    error: PingDataError


class Rejected(Problem):
    """The API refused the submission for its content."""


class Unreachable(Problem):
    """No job can be polled, or no output fetched, for longer than a run waits."""


class OutputPostponed(Problem):
    """The output of a paid job cannot be fetched now; another run may get it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The submission made this job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The submission may have made a job."""

    error: PingDataError
    is_pause_too_long: bool = False  # the API also asked for a longer pause than a run waits
    has_lasted: bool = False  # submissions have failed for as long as a run keeps trying

    @property
    def is_page(self) -> bool:
        """Whether something else answered in the API's place."""
        return isinstance(self.error, DecodeError) and self.error.is_page

    @property
    def is_garbled(self) -> bool:
        """Whether the answer's head was not HTTP."""
        return isinstance(self.error, TransportError) and self.error.is_garbled


@dataclass(frozen=True, slots=True)
class Abort:
    """No further submission can succeed."""

    error: PingDataError
    api_unreachable: bool = False  # polls would have to wait for too long as well


@dataclass(frozen=True, slots=True)
class JobDone:
    """The job is done, and names its outputs."""


@dataclass(frozen=True, slots=True)
class JobLost:
    """The job will never give an answer."""

    error: str
    is_expired: bool  # the API merely no longer knows it
    has_timed_out: bool = False  # abandoned because it made no progress

    def as_error(self, job_id: str) -> JobFailedError:
        """This outcome as an error."""
        kind = JobTimeoutError if self.has_timed_out else JobFailedError
        return kind(self.error, job_id=job_id)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The job is complete and paid for, but its output can never be read."""

    error: str  # with the job's id
    bodies: list[EncodedBody]  # what came; empty if it is too large, or nothing came


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The job's output, as it came."""

    bodies: list[EncodedBody]

    @property
    def likely_bytes(self) -> int:
        """About how large it is when decompressed."""
        return sum(body.likely_bytes for body in self.bodies)
