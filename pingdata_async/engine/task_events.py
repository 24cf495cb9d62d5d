"""Events about a task, made from what the engine knows."""

from __future__ import annotations

from collections.abc import Sequence

from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import (
    ChunkFinished,
    ChunkSplit,
    JobAbandoned,
    JobKept,
    JobOverdue,
    JobPolled,
    JobStalled,
    JobSubmitted,
    RequestRetried,
    RequestSent,
    SubmissionInDoubt,
    UnexpectedAnswer,
)
from pingdata_async.exceptions import APIStatusError, PingDataError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import JobStatus
from pingdata_async.results.outcomes import Tally


def sent(kind: str, task: ChunkTask) -> RequestSent:
    """A request about a chunk is about to go out."""
    return RequestSent(
        kind=kind,
        chunk=task.chunk.index,
        job_id=task.job_id or None,
        attempt=task.attempt,
    )


def submitted(task: ChunkTask, *, charged_before: bool) -> JobSubmitted:
    """A chunk's job was accepted."""
    return JobSubmitted(
        chunk=task.chunk.index,
        job_id=task.job_id,
        locations=len(task.chunk.rows),
        charged_before=charged_before,
    )


def in_doubt(task: ChunkTask, error: str, *, charged_before: bool) -> SubmissionInDoubt:
    """A submission may have made a job."""
    return SubmissionInDoubt(
        chunk=task.chunk.index,
        locations=len(task.chunk.rows),
        attempt=task.attempt,
        error=error,
        charged_before=charged_before,
    )


def polled(task: ChunkTask, status: JobStatus) -> JobPolled:
    """The API said how far a job is."""
    return JobPolled(
        chunk=task.chunk.index,
        job_id=task.job_id,
        status=status.status,
        num_requested=status.num_requested,
        num_completed=status.num_completed,
    )


def retried(kind: str, task: ChunkTask, error: PingDataError, delay_s: float) -> RequestRetried:
    """A request failed and will be sent again."""
    return RequestRetried(
        kind=kind,
        chunk=task.chunk.index,
        job_id=task.job_id or None,
        attempt=task.failures,
        error=str(error),
        delay_s=delay_s,
        status_code=error.status_code if isinstance(error, APIStatusError) else None,
    )


def abandoned(task: ChunkTask, error: str, *, will_resubmit: bool) -> JobAbandoned:
    """A job is lost."""
    return JobAbandoned(
        chunk=task.chunk.index,
        job_id=task.job_id,
        error=error,
        will_resubmit=will_resubmit,
    )


def overdue(task: ChunkTask, late_s: float, error: str) -> JobOverdue:
    """A job does not give what it must."""
    return JobOverdue(chunk=task.chunk.index, job_id=task.job_id, late_s=late_s, error=error)


def kept(task: ChunkTask, error: str) -> JobKept:
    """A paid job is left to another run."""
    return JobKept(
        chunk=task.chunk.index,
        job_id=task.job_id,
        locations=len(task.chunk.rows),
        error=error,
    )


def finished(task: ChunkTask, counts: Tally, *, asked_again: int) -> ChunkFinished:
    """A chunk's outcomes are safe."""
    return ChunkFinished(
        chunk=task.chunk.index,
        job_id=task.job_id or None,
        rows=counts.rows,
        ok=counts.ok,
        partial=counts.partial,
        failed=counts.failed,
        no_answer=counts.no_answer,
        reasons=counts.reasons,
        asked_again=asked_again,
    )


def odd_counts(task: ChunkTask, status: JobStatus) -> UnexpectedAnswer | None:
    """A job says that it did something else than was asked; None if it does not."""
    sent = len(task.chunk.rows)
    says = []
    if status.num_requested not in {None, sent}:
        says.append(f"{status.num_requested} requested")
    if status.num_canceled:
        says.append(f"{status.num_canceled} cancelled")
    if not says:
        return None
    return unexpected(task, f"of {sent} locations sent, the job says {', '.join(says)}")


def stalled(task: ChunkTask, idle_s: float) -> JobStalled:
    """A job makes no progress."""
    return JobStalled(chunk=task.chunk.index, job_id=task.job_id, idle_s=idle_s)


def unexpected(task: ChunkTask, message: str) -> UnexpectedAnswer:
    """An answer is odd, but usable."""
    return UnexpectedAnswer(chunk=task.chunk.index, job_id=task.job_id, message=message)


def split(task: ChunkTask, parts: Sequence[Chunk], error: str) -> ChunkSplit:
    """A chunk goes on in parts."""
    return ChunkSplit(
        chunk=task.chunk.index, parts=tuple(part.index for part in parts), error=error
    )
