"""A chunk on its way through the API, and what one request about it came to.

What is remembered of a chunk on its way through the API.

What follows from a request: the answers of `requests.py` to the runner.
"""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.engine.flow_control.circuit_breaker import Bisection
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.exceptions import (
    DecodeError,
    JobFailedError,
    JobTimeoutError,
    PingDataError,
    TransportError,
)
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import JobOutput
from pingdata_async.results.validation import ValidatedOutput
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.loop import loop_time


@dataclass(slots=True, eq=False)
class HalfPair:
    """The two halves of a refused chunk: if both are accepted, it was only too large.

    Attributes:
        rows: Of the larger one.
        whole_rows: Of both.
        undecided: Halves that have neither been accepted nor refused.
    """

    rows: int
    whole_rows: int
    undecided: int = 2


WARN_AFTER_IDLE_S = 300.0


@dataclass(slots=True, eq=False)
class ChunkTask:
    """A chunk on its way through the API.

    Attributes:
        chunk: What is to be brought through.
        job_id: The present job's; "" while there is none.
        job: What is known of that job; None while there is none.
        outputs: What there is to be fetched, once the job is done.
        was_complete: Whether the API has called the job complete, now or in an earlier run: no
            other one is sent for it then, be it unknown one day.
        is_taken_up: Whether the present job was submitted by an earlier run.
        jobs: Jobs accepted so far.
        in_doubt: Submissions whose answer was lost.
        depth: How often the chunk that it comes from was split.
        search: The search that it is part of; None if it is part of none.
        is_of_failed: Whether it was split because its jobs failed.
        half_pair: The pair of which it is an undecided half; None if it is none.
        due: When it may be admitted, by the event loop's clock; the earliest goes first.
        holds_slot: Whether it holds a job slot.
        is_undecided: Whether it was let through, and neither accepted nor refused yet.
        was_cut_off: Whether its submission was under way when the run was ended.
        holds_permit: Whether it holds room of the run.
        failed_jobs: Jobs that failed, since this process began.
        lost_jobs: Jobs that the API forgot, likewise.
        refetches: How often the output was fetched again because rows were missing from it.
        is_large: Whether its output is one that is held alone.
        warn_after_idle_s: How long its job may make no progress before that is said (again).
        late_since: Since when the API says of the job what cannot stay so: that it is complete
            without an output, or a word that is not documented; None if it does not.
        unknown_at: When the API last said that it does not know the job; None if it knows it.
        unknown_s: For how long it has said so.
        says_late: Whether that was told to whoever listens.
        was_unreadable: Whether an earlier run found that its job's output can never be read.
        seems_failed: Whether the API said once that the job has failed.
        unread: A fingerprint of the last output that could not be read; None of one that could.
        times_unread: How often in a row it was that.
        failures: Of the present request, in a row.
        failing_since: When the first of them was.
        refused_since: When the first of those in a row was with which access was refused; None
            where the last one was another.
        wanted_at: When the present request was to be sent.
    """

    chunk: Chunk
    job_id: str = ""
    job: JobProgress | None = None
    outputs: tuple[JobOutput, ...] = ()
    was_complete: bool = False
    is_taken_up: bool = False
    jobs: int = 0
    in_doubt: int = 0
    depth: int = 0
    search: Bisection | None = None
    is_of_failed: bool = False
    half_pair: HalfPair | None = None
    due: float = 0.0
    holds_slot: bool = False
    is_undecided: bool = False
    was_cut_off: bool = False
    holds_permit: bool = False
    failed_jobs: int = 0
    lost_jobs: int = 0
    refetches: int = 0
    is_large: bool = False
    warn_after_idle_s: float = WARN_AFTER_IDLE_S
    late_since: float | None = None
    unknown_at: float | None = None
    unknown_s: float = 0.0
    says_late: bool = False
    was_unreadable: bool = False
    seems_failed: bool = False
    unread: int | None = None
    times_unread: int = 0
    failures: int = 0
    failing_since: float = 0.0
    refused_since: float | None = None
    wanted_at: float = 0.0

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

    def leave_out_waiting(self, now: float) -> None:
        """Count the time not as one of failures in which it was we who kept the request waiting.

        For a slow consumer, for our own pace, or for a pause that another request was told of:
        of the job, or of the API, that says nothing.
        """
        self.leave_out(max(0.0, now - self.wanted_at))
        self.wanted_at = now

    def leave_out(self, seconds: float) -> None:
        """Count so many seconds that have passed not as some of failures."""
        self.failing_since += seconds
        if self.refused_since is not None:
            self.refused_since += seconds
        if self.late_since is not None:
            self.late_since += seconds
        if self.unknown_at is not None:
            self.unknown_at += seconds

    def note_unknown(self, now: float, longest_s: float) -> float:
        """The API says that it does not know the job; returns for how long it has.

        Args:
            now: The time.
            longest_s: As much counts, at most, from one such answer to the next: of the time in
                which there were only errors, nobody can tell.
        """
        if self.unknown_at is not None:
            self.unknown_s += max(0.0, min(now - self.unknown_at, longest_s))
        self.unknown_at = now
        return self.unknown_s

    def no_longer_unknown(self) -> None:
        """The API knows the job."""
        self.unknown_at, self.unknown_s = None, 0.0

    def late_for_s(self, now: float) -> float:
        """For how long the API has said what cannot stay so; from now on if it did not."""
        if self.late_since is None:
            self.late_since = now
        return now - self.late_since

    def no_longer_late(self) -> None:
        """The API says what it should."""
        self.late_since, self.says_late = None, False

    def note_failure(self, now: float, *, is_refusal: bool = False) -> None:
        """The present request has failed."""
        if not self.failures:
            self.failing_since, self.refused_since = now, None
        if not is_refusal:
            self.refused_since = None
        elif self.refused_since is None:
            self.refused_since = now
        self.failures += 1

    def note_unread(self, fingerprint: int) -> int:
        """An output could not be read; returns how often in a row it was the very same one."""
        is_same = fingerprint == self.unread
        self.unread, self.times_unread = fingerprint, self.times_unread * is_same + 1
        return self.times_unread

    def begin_again(self) -> None:
        """Forget the present job."""
        self.job_id, self.job, self.outputs = "", None, ()
        self.is_taken_up = self.was_complete = False
        self.failures = self.refetches = 0
        self.no_longer_late()
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """The submission made this job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The same request once more, not before that time passed."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class HeldBack:
    """It was not sent, as there is a pause or the run ends: the same request after that time."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No job can be asked about, or no output fetched, for longer than is waited for."""

    error: PingDataError


@dataclass(frozen=True, slots=True)
class Rejected:
    """The submission was refused for what it holds."""

    error: PingDataError


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The submission may have made a job.

    Attributes:
        error: Why.
        is_pause_too_long: Whether the API asked for a pause that is not waited for, besides.
        has_lasted: Whether submissions have failed for as long as anything is tried.
    """

    error: PingDataError
    is_pause_too_long: bool = False
    has_lasted: bool = False

    @property
    def is_page(self) -> bool:
        """Whether something else has answered in the API's place."""
        return isinstance(self.error, DecodeError) and self.error.is_page

    @property
    def is_garbled(self) -> bool:
        """Whether an answer came, but with a head that is no HTTP."""
        return isinstance(self.error, TransportError) and self.error.is_garbled


@dataclass(frozen=True, slots=True)
class Abort:
    """No further submission can succeed.

    Attributes:
        error: Why.
        is_for_all: Whether no other request is to be sent for too long either.
    """

    error: PingDataError
    is_for_all: bool = False


@dataclass(frozen=True, slots=True)
class JobDone:
    """The job is done, and names its outputs."""


@dataclass(frozen=True, slots=True)
class JobLost:
    """The job will never give an answer.

    Attributes:
        error: Why.
        is_expired: Whether the API merely does not know it any more.
        has_timed_out: Whether we gave it up, as it made no progress.
    """

    error: str
    is_expired: bool
    has_timed_out: bool = False

    def as_error(self, job_id: str) -> JobFailedError:
        """The same as an error."""
        kind = JobTimeoutError if self.has_timed_out else JobFailedError
        return kind(self.error, job_id=job_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """The job is paid for, and its answer cannot be had now: another run may have it.

    Attributes:
        error: Why not.
    """

    error: PingDataError


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The job is complete and paid for, and its output would be as useless another time.

    Attributes:
        error: Why, with the job's id.
        bodies: What came; nothing where it is too large, or there is none.
    """

    error: str
    bodies: list[EncodedBody]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The job's output is here, as it came."""

    bodies: list[EncodedBody]

    @property
    def likely_bytes(self) -> int:
        """About how much is in it."""
        return sum(body.likely_bytes for body in self.bodies)


@dataclass(frozen=True, slots=True)
class Validated:
    """The output was checked."""

    checked: ValidatedOutput
