"""What is known of a job on its way, from the answers to questions about it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pingdata_async.job_phases import JobPhase
from pingdata_async.models import JobStatus

MARKS = 8  # kept of a job's way: there are 20,000 of them at once
KNOWN_WELL = 0.1  # a wait whose bounds are this close to each other, as a share, is known


@dataclass(slots=True, eq=False)
class JobProgress:
    """One job; all times are by one clock of ours, in seconds.

    Attributes:
        locations: In the job.
        accepted_at: When the API accepted it.
        waiting_at: When it was last known not to have begun.
        working_at: When it was first known to have begun, or ended; None if it has not been.
        queue_s: How long it waited before it began, by the API's own dates, or where two
            answers close to each other show it; None where neither does.
        work_s: How long it was at work, by the API's own dates, once it has ended; None where
            they do not say.
        completed: Locations done, the most that the API ever said; 0 where it never did.
        changed_at: When anything about it was last seen to change: begun, or more completed.
        going_at: When it was last known not to have ended.
        ended_at: When it was first seen to have ended; None while it has not.
        marks: The way so far: when, and the share completed, by turns, for a few of the answers
            that named a higher count than before; None where there were none.
    """

    locations: int
    accepted_at: float
    waiting_at: float = 0.0
    working_at: float | None = None
    queue_s: float | None = None
    work_s: float | None = None
    completed: int = 0
    changed_at: float = 0.0
    going_at: float = 0.0
    ended_at: float | None = None
    marks: list[float] | None = None

    def __post_init__(self) -> None:
        self.waiting_at = self.changed_at = self.going_at = self.accepted_at

    @property
    def is_waiting(self) -> bool:
        """Whether it is not known to have begun."""
        return self.working_at is None

    @property
    def idle_s(self) -> float:
        """Seconds at work without progress, up to the last answer; 0 while it waits.

        Measured to the last answer and not to now: a question that failed, or was not asked
        yet, says nothing about the job.
        """
        if self.working_at is None or self.ended_at is not None:
            return 0.0
        return max(0.0, self.going_at - self.changed_at)

    def hear(self, status: JobStatus, now: float) -> None:
        """Take in what the API says."""
        if status.is_finished:
            if self.ended_at is None:
                self._ended(status, now)
            return
        self.going_at = now
        self.ended_at = None  # a server may change its mind
        if status.phase is JobPhase.WAITING:
            self._back_in_queue(now)
            return
        self._begun(status, now)
        if self._count(status, now):
            self._mark(self.completed / max(1, status.num_requested or self.locations), now)

    def _back_in_queue(self, now: float) -> None:
        """It has not begun, or begins anew: a server may hand a job to another worker."""
        self.waiting_at = self.changed_at = now
        self.working_at = self.queue_s = self.marks = None
        self.completed = 0

    def _begun(self, status: JobStatus, now: float) -> None:
        shortest_s = self.waiting_at - self.accepted_at
        if self.working_at is None:
            self.working_at = self.changed_at = now
            longest_s = now - self.accepted_at
            # Not of one that was never seen at work: it may have been for all of that time.
            if self.ended_at is None and longest_s - shortest_s <= KNOWN_WELL * shortest_s:
                self.queue_s = (shortest_s + longest_s) / 2
        longest_s = self.working_at - self.accepted_at
        said_s = _span_s(status.requested_at, status.progress_started_at, shortest_s, longest_s)
        if said_s is not None:
            self.queue_s = said_s

    def _count(self, status: JobStatus, now: float) -> bool:
        """Whether more is completed than ever before; less is an old answer, or nonsense."""
        completed = status.num_completed or 0
        if completed <= self.completed:
            return False
        self.completed = completed
        self.changed_at = now
        return True

    def _mark(self, share: float, now: float) -> None:
        if self.marks is None:
            self.marks = []
        elif len(self.marks) >= 2 * MARKS:
            del self.marks[-2:]  # the early ones stay: they show best how long it will take
        self.marks += (now, min(1.0, share))

    def _ended(self, status: JobStatus, now: float) -> None:
        self.ended_at = now
        self._begun(status, now)
        self._count(status, now)
        waited_s = self.queue_s if self.queue_s is not None else now - self.accepted_at
        began_at = self.accepted_at + waited_s
        self.work_s = _span_s(
            status.progress_started_at,
            status.completed_at,
            max(0.0, self.going_at - began_at),
            now - (began_at if self.queue_s is not None else self.accepted_at),
        )


def _span_s(
    begin: str | None, end: str | None, shortest_s: float, longest_s: float
) -> float | None:
    """Seconds between two dates of the API's; None where they make no sense.

    Its clock is not ours, so only differences count. Where its dates are in whole seconds,
    what was seen says more of a short time than they do.

    Args:
        begin: ISO 8601, or anything.
        end: Likewise.
        shortest_s: What was seen of it: it took at least this long.
        longest_s: And at most this long.
    """
    if not begin or not end:
        return None
    try:
        since, until = datetime.fromisoformat(begin), datetime.fromisoformat(end)
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        span_s = (until - since).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    if not 0.0 <= span_s <= 1.0 + 2.0 * longest_s:
        return None
    if since.microsecond or until.microsecond:
        return span_s
    return max(shortest_s, min(longest_s, span_s))
