"""What a runner tells its listeners, made from what it knows (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.passage import Passage
from pingdata_async.bulk.tally import Tally
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
from pingdata_async.models import JobStatus


def sent(kind: str, passage: Passage) -> RequestSent:
    """A request about a chunk is about to go out."""
    return RequestSent(
        kind=kind,
        chunk=passage.chunk.index,
        job_id=passage.job_id or None,
        attempt=passage.attempt,
    )


def submitted(passage: Passage, *, charged_before: bool) -> JobSubmitted:
    """A chunk's job was accepted."""
    return JobSubmitted(
        chunk=passage.chunk.index,
        job_id=passage.job_id,
        locations=len(passage.chunk.rows),
        charged_before=charged_before,
    )


def in_doubt(passage: Passage, error: str, *, charged_before: bool) -> SubmissionInDoubt:
    """A submission may have made a job."""
    return SubmissionInDoubt(
        chunk=passage.chunk.index,
        locations=len(passage.chunk.rows),
        attempt=passage.attempt,
        error=error,
        charged_before=charged_before,
    )


def polled(passage: Passage, status: JobStatus) -> JobPolled:
    """The API said how far a job is."""
    return JobPolled(
        chunk=passage.chunk.index,
        job_id=passage.job_id,
        status=status.status,
        num_requested=status.num_requested,
        num_completed=status.num_completed,
    )


def retried(kind: str, passage: Passage, error: PingDataError, delay_s: float) -> RequestRetried:
    """A request failed and will be sent again."""
    return RequestRetried(
        kind=kind,
        chunk=passage.chunk.index,
        job_id=passage.job_id or None,
        attempt=passage.failures,
        error=str(error),
        delay_s=delay_s,
        status_code=error.status_code if isinstance(error, APIStatusError) else None,
    )


def abandoned(passage: Passage, error: str, *, will_resubmit: bool) -> JobAbandoned:
    """A job is lost."""
    return JobAbandoned(
        chunk=passage.chunk.index,
        job_id=passage.job_id,
        error=error,
        will_resubmit=will_resubmit,
    )


def overdue(passage: Passage, late_s: float, error: str) -> JobOverdue:
    """A job does not give what it must."""
    return JobOverdue(chunk=passage.chunk.index, job_id=passage.job_id, late_s=late_s, error=error)


def kept(passage: Passage, error: str) -> JobKept:
    """A paid job is left to another run."""
    return JobKept(
        chunk=passage.chunk.index,
        job_id=passage.job_id,
        locations=len(passage.chunk.rows),
        error=error,
    )


def finished(passage: Passage, counts: Tally, *, asked_again: int) -> ChunkFinished:
    """A chunk's outcomes are safe."""
    return ChunkFinished(
        chunk=passage.chunk.index,
        job_id=passage.job_id or None,
        rows=counts.rows,
        ok=counts.ok,
        partial=counts.partial,
        failed=counts.failed,
        no_answer=counts.no_answer,
        reasons=counts.reasons,
        asked_again=asked_again,
    )


def odd_counts(passage: Passage, status: JobStatus) -> UnexpectedAnswer | None:
    """A job says that it did something else than was asked; None if it does not."""
    sent = len(passage.chunk.rows)
    says = []
    if status.num_requested not in {None, sent}:
        says.append(f"{status.num_requested} requested")
    if status.num_canceled:
        says.append(f"{status.num_canceled} cancelled")
    if not says:
        return None
    return unexpected(passage, f"of {sent} locations sent, the job says {', '.join(says)}")


def stalled(passage: Passage, idle_s: float) -> JobStalled:
    """A job makes no progress."""
    return JobStalled(chunk=passage.chunk.index, job_id=passage.job_id, idle_s=idle_s)


def unexpected(passage: Passage, message: str) -> UnexpectedAnswer:
    """An answer is odd, but usable."""
    return UnexpectedAnswer(chunk=passage.chunk.index, job_id=passage.job_id, message=message)


def split(passage: Passage, parts: Sequence[Chunk], error: str) -> ChunkSplit:
    """A chunk goes on in parts."""
    return ChunkSplit(
        chunk=passage.chunk.index, parts=tuple(part.index for part in parts), error=error
    )
