"""What is remembered of a chunk on its way through the API."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.bulk import clock
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.bulk.size_limits import Halves
from pingdata_async.models import JobOutput

WARN_AFTER_IDLE_S = 300.0


@dataclass(slots=True, eq=False)
class Search:
    """The parts of one refused chunk: the rows at fault are looked for.

    Attributes:
        has_passed: Whether one of them was accepted, so that it cannot be the API alone.
    """

    has_passed: bool = False


@dataclass(slots=True, eq=False)
class Passage:
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
        halves: The pair of which it is an undecided half; None if it is none.
        due: When it may be admitted, by the event loop's clock; the earliest goes first.
        holds_slot: Whether it holds a job slot.
        is_undecided: Whether it was let through, and neither accepted nor refused yet.
        was_cut_off: Whether its submission was under way when the run was ended.
        has_room: Whether it holds room of the run.
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
    search: Search | None = None
    is_of_failed: bool = False
    halves: Halves | None = None
    due: float = 0.0
    holds_slot: bool = False
    is_undecided: bool = False
    was_cut_off: bool = False
    has_room: bool = False
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
            self.job = JobProgress(len(self.chunk.rows), clock.now())
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
