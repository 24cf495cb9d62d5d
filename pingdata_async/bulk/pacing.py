"""How many jobs the API bears (pure)."""

from __future__ import annotations

from typing import Protocol

from pingdata_async.bulk.job_progress import JobProgress


class JobLimiter(Protocol):
    """Says how many jobs may be in flight, from what is seen of the API.

    Whoever holds the slots asks for `limit` before each submission, and tells all that
    happens. The number allowed is the smaller of `limit` and the user's `max_jobs`.
    """

    @property
    def limit(self) -> int:
        """Jobs in flight, at most; at least 1."""
        ...

    def note_job(self, job: JobProgress, now: float, *, in_flight: int) -> None:
        """A question about a job was answered; `job.ended_at` is set where it has ended."""
        ...

    def note_answered(self, kind: str, now: float) -> None:
        """A request (submit, poll, fetch) was answered well."""
        ...

    def note_trouble(self, kind: str, now: float, *, in_flight: int) -> None:
        """A request was answered 503, or not in time: the API may be overloaded."""
        ...

    def note_too_many(self, now: float, *, in_flight: int) -> None:
        """Submissions are refused (429) while other requests pass: these are too many jobs."""
        ...


class FixedLimiter:
    """Allows as many jobs as the user does, whatever happens."""

    limit = 1_000_000

    def note_job(self, job: JobProgress, now: float, *, in_flight: int) -> None:
        """Nothing follows from it."""

    def note_answered(self, kind: str, now: float) -> None:
        """Nothing follows from it."""

    def note_trouble(self, kind: str, now: float, *, in_flight: int) -> None:
        """Nothing follows from it."""

    def note_too_many(self, now: float, *, in_flight: int) -> None:
        """Nothing follows from it."""
