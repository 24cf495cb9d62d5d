"""What follows for a chunk when its submission or its job went wrong (pure).

A `Judge` counts what goes wrong, and says what is to be done about a chunk; the engine does it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from pingdata_async.api.wire import saying_when
from pingdata_async.engine.context import Known
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.retry import (
    Bisection,
    CircuitBreaker,
    Evidence,
    RetryPolicy,
    at_fault_itself,
    retry_after_s,
)
from pingdata_async.engine.task import ChunkTask, Deferred, Delay, InDoubt, JobLost, RetryLater
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    JobFailedError,
    PingDataError,
    SubmissionInDoubtError,
    UnknownSourceError,
)
from pingdata_async.locations.chunk import Chunk, equal_parts
from pingdata_async.models import Reason
from pingdata_async.results.validation import Failure

TOO_LARGE = 413


class Poll(Delay):
    """It has a job: poll it."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Its job is done: fetch the output."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """It was admitted too early: queue it for a job slot again, in its old place."""


@dataclass(frozen=True, slots=True)
class Park:
    """The budget may allow for it later: set it aside until the cost of others is known."""


class LookAgain(Delay):
    """Another attempt may be submitting it: leave it for later."""


class Resubmit(Delay):
    """Its job is lost: queue it for a job slot again."""


@dataclass(frozen=True, slots=True)
class Split:
    """It is split into equal parts, which are submitted before anything else."""

    parts: int
    reason: str
    # If both halves are accepted, the chunk was only too large: `SizeLimits` learns from it.
    tests_size: bool = False
    because_jobs_failed: bool = False


@dataclass(frozen=True, slots=True)
class SplitOff:
    """Its first rows are submitted in its place; the others wait for a job slot."""

    rows: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Its rows fail."""

    failure: Failure
    stop: PingDataError | None = None  # why the run stops as well


@dataclass(frozen=True, slots=True)
class FailOnEvidence:
    """Its rows fail once there is evidence that the API itself is not at fault."""

    failure: Failure
    evidence: Evidence  # the kind that is needed
    error: PingDataError  # why the run stops if nothing ever shows it


@dataclass(frozen=True, slots=True)
class Hold:
    """It may have been paid for: the user decides whether it is sent again."""

    stop: PingDataError | None = None  # why the run stops as well


@dataclass(frozen=True, slots=True)
class Drop:
    """This run works on it no more."""

    stop: PingDataError | None = None  # why the run stops; None if it need not, or stops already
    # Poll and fetch every other job now: they will find the same, and the run ends sooner.
    api_unreachable: bool = False


Decision = (
    Poll
    | Fetch
    | RetryLater
    | Deferred
    | PutBack
    | Park
    | LookAgain
    | Resubmit
    | Split
    | SplitOff
    | Fail
    | FailOnEvidence
    | Hold
    | Drop
)


class Judge:
    """Decides what becomes of a chunk whose submission or job went wrong."""

    def __init__(
        self,
        policy: RetryPolicy,
        breaker: CircuitBreaker,
        sources: tuple[str, ...],
        rng: random.Random,
    ) -> None:
        self._policy = policy
        self._breaker = breaker
        self._sources = sources
        self._rng = rng

    def after_look_up(
        self, task: ChunkTask, known: Known, now: float
    ) -> Fetch | Fail | Split | SplitOff | Poll | LookAgain | Hold | None:
        """Another attempt has worked on a chunk: follow it; None where it is to be submitted."""
        if known.outputs or known.jobs:  # the API has accepted what others sent in this run
            self._breaker.any_accepted = True
        task.jobs = max(task.jobs, known.jobs)
        task.in_doubt = max(task.in_doubt, known.in_doubt)
        task.failed_jobs = max(task.failed_jobs, known.failed_jobs)
        if known.outputs:
            task.outputs, task.was_answered = known.outputs, True
            return Fetch()
        if known.failure is not None:
            return Fail(known.failure)
        if known.sizes:
            rows, parts, said = len(task.chunk.rows), len(known.sizes), "it was split before"
            if known.sizes == tuple(equal_parts(rows, parts)):
                return Split(parts, said, because_jobs_failed=known.because_jobs_failed)
            return SplitOff(known.sizes[0], said)
        if known.job_id:
            task.job_id, task.is_taken_up = known.job_id, True
            task.job = JobProgress(len(task.chunk.rows), now - known.job_age_s)
            return Poll(0.0)
        if known.wait_s:
            return LookAgain(known.wait_s)
        if known.is_held:
            return Hold()
        if known.in_doubt > self._policy.in_doubt_retries:
            return Fail(Failure(Reason.IN_DOUBT, "one submission after the other was cut off"))
        return None

    def after_refusal(
        self, task: ChunkTask, error: PingDataError, *, is_stopping: bool
    ) -> Drop | Split | FailOnEvidence:
        """The API refused a chunk for its content: find the rows at fault, if rows are."""
        must_stop = self._breaker.note_refused(task.bisection)
        if is_stopping:
            return Drop()
        if self._is_unknown_source(task, error):
            return Drop(error)
        if must_stop:
            return Drop(at_fault_itself(error))
        if len(task.chunk.rows) > 1:
            task.bisection = task.bisection or Bisection()
            # If both halves pass, it was the size; a 413 has said so already.
            return Split(2, str(error), tests_size=not is_too_large(error))
        failure = Failure(Reason.REJECTED, str(error))
        return FailOnEvidence(failure, Evidence.ACCEPTED, at_fault_itself(error))

    def _is_unknown_source(self, task: ChunkTask, error: PingDataError) -> bool:
        """Whether the run's own sources are at fault, so that no row can be right."""
        if not isinstance(error, UnknownSourceError) or self._breaker.any_accepted:
            return False
        if task.chunk.sources:  # a row's own may be meant, and the message name the others
            return False
        words = set(re.findall(r"\w+", error.api_message.casefold()))
        return any(code.casefold() in words for code in self._sources)

    def after_doubt(
        self, task: ChunkTask, doubt: InDoubt, *, is_stopping: bool
    ) -> Hold | Drop | RetryLater | FailOnEvidence:
        """A submission may have made a job whose id was lost."""
        error = doubt.error
        is_one_too_many = self._breaker.note_doubt(
            is_page=doubt.is_page, is_garbled=doubt.is_garbled
        )
        # Held chunks never bring a success, so the breaker must be able to stop the run, or every
        # chunk ends in doubt.
        stop: PingDataError | None = None
        if doubt.is_pause_too_long:
            stop = saying_when(error)
        elif is_one_too_many or doubt.has_lasted:
            stop = _lost_in_a_row(error)
        if self._policy.hold_in_doubt:
            return Hold(stop)
        if is_stopping or stop is not None:
            return Drop(stop)
        if task.in_doubt <= self._policy.in_doubt_retries:
            attempts = max(self._breaker.doubts_in_a_row, task.failures)
            return RetryLater(self._policy.delay_s(attempts, retry_after_s(error), self._rng))
        if self._breaker.note_lost_chunk():
            return Drop(_lost_in_a_row(error))
        failure = Failure(Reason.IN_DOUBT, str(error))
        return FailOnEvidence(failure, Evidence.ACCEPTED, _lost_in_a_row(error))

    def after_lost_job(
        self, task: ChunkTask, lost: JobLost, *, is_stopping: bool
    ) -> Resubmit | Split | Drop | FailOnEvidence:
        """A paid job gives no answer: submit its chunk again, whole or in halves."""
        may_try_again = self._count_lost_job(task, lost)
        must_stop = not lost.is_expired and self._breaker.note_failed_job()
        error = lost.as_error(task.job_id)
        if is_stopping:
            return Drop()
        if must_stop:
            return Drop(charged_for_nothing(error))
        if may_try_again:
            jobs = task.failed_jobs + task.lost_jobs
            return Resubmit(self._policy.delay_s(jobs, None, self._rng))
        if not lost.is_expired and len(task.chunk.rows) > 1:
            return Split(2, lost.error, because_jobs_failed=True)
        if not task.is_part_of_failed and self._breaker.note_lost_chunk():
            return Drop(charged_for_nothing(error))
        return FailOnEvidence(Failure(Reason.JOB_FAILED, lost.error), Evidence.ANSWERED, error)

    def _count_lost_job(self, task: ChunkTask, lost: JobLost) -> bool:
        """Count a lost job; returns whether its chunk may be submitted once more as it is."""
        if lost.is_expired:
            task.lost_jobs += 1
            return task.lost_jobs < self._policy.forgotten_attempts
        task.failed_jobs += 1
        # The halves of a failed chunk are only sent to find the row at fault.
        is_bisection = task.is_part_of_failed and len(task.chunk.rows) > 1
        return task.failed_jobs < (1 if is_bisection else self._policy.job_attempts)

    def after_unreadable(
        self, task: ChunkTask, said: str, *, is_stopping: bool
    ) -> Fail | Drop | FailOnEvidence:
        """A complete job's output can never be read: its rows fail, and no other job is sent.

        Where nothing shows that other outputs can be read, the run stops instead, and leaves the
        job to another run, which tries it once more.
        """
        error = JobFailedError(said, job_id=task.job_id)
        failure = Failure(Reason.UNREADABLE, said)
        must_stop = not is_stopping and self._breaker.note_failed_job()
        if task.was_unreadable:
            return Fail(failure, error if must_stop else None)
        if must_stop:
            return Drop(error)
        return Drop() if is_stopping else FailOnEvidence(failure, Evidence.ANSWERED, error)

    def after_postponed_output(self, task: ChunkTask, error: PingDataError) -> Drop:
        """The output of a paid job cannot be fetched now: no other job is sent for it."""
        # A 403 for a job of another token does not show that this token's own jobs would fail.
        is_of_other = task.is_taken_up and isinstance(error, AccessDeniedError)
        must_stop = not is_of_other and self._breaker.note_lost_chunk()
        return Drop(error if must_stop else None)

    def after_empty_output(self, task: ChunkTask) -> PingDataError | None:
        """An output holds none of a chunk's answers; returns why the run stops, if it does."""
        # A retry that comes back empty again is no further failure of the API.
        if not self._counts_as_failure(task.chunk) or not self._breaker.note_failed_job():
            return None
        said = f"the output of job {task.job_id} holds none of its locations"
        return charged_for_nothing(JobFailedError(said, job_id=task.job_id))

    def _counts_as_failure(self, chunk: Chunk) -> bool:
        """Whether an output without any answer counts as a failed job."""
        is_first_time = not any(earlier.times_asked for earlier in chunk.earlier)
        return not self._breaker.any_answered or (is_first_time and len(chunk.rows) > 1)


def is_too_large(error: PingDataError) -> bool:
    """Whether a submission was refused for its size."""
    return isinstance(error, APIStatusError) and error.status_code == TOO_LARGE


def charged_for_nothing(error: JobFailedError) -> JobFailedError:
    """The error of a run that stops because jobs give no answers."""
    return type(error)(
        f"one job after the other is charged and fails, so no more are sent: {error}",
        job_id=error.job_id,
    )


def _lost_in_a_row(error: PingDataError) -> SubmissionInDoubtError:
    return SubmissionInDoubtError(
        "the answer to one submission after the other is lost, and each may be charged, so no more "
        f"are sent: {error}"
    )
