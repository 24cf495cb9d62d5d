"""What is known of a job on its way, from the answers to questions about it (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.models import JobStatus

WAITING = frozenset({"PENDING", "QUEUED"})


@dataclass(slots=True, eq=False)
class JobProgress:
    """One job; all times are by one clock of ours, in seconds.

    Attributes:
        locations: In the job.
        accepted_at: When the API accepted it.
        waiting_at: When it was last known not to have begun.
        working_at: When it was first known to have begun, or ended; None if it has not been.
        queue_s: How long it waited before it began, by the API's own dates; None where it
            does not say.
        work_s: How long it was at work, likewise, once it has ended.
        completed: Locations done, as the API last said; 0 where it never did.
        changed_at: When anything about it was last seen to change: begun, or more completed.
        going_at: When it was last known not to have ended.
        ended_at: When it was seen to have ended; None while it has not.
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

    def __post_init__(self) -> None:
        self.waiting_at = self.changed_at = self.going_at = self.accepted_at

    @property
    def is_waiting(self) -> bool:
        """Whether it is not known to have begun."""
        return self.working_at is None

    def hear(self, status: JobStatus, now: float) -> None:
        """Take in what the API says."""
        if status.is_finished:
            self.ended_at = now
        else:
            self.going_at = now
        if status.status in WAITING:
            self.waiting_at = now
            return
        if self.working_at is None:
            self.working_at = self.changed_at = now
        completed = status.num_completed or 0
        if completed > self.completed:
            self.completed = completed
            self.changed_at = now
