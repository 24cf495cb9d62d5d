"""What follows for a chunk when its submission or its job went wrong: tables of decisions."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pingdata_async.engine.context import Known
from pingdata_async.engine.decisions import (
    Decision,
    Drop,
    Fail,
    FailOnEvidence,
    Fetch,
    Hold,
    Judge,
    LookAgain,
    Poll,
    Resubmit,
    Split,
    SplitOff,
)
from pingdata_async.engine.flow_control.retry import CircuitBreaker, Evidence, RetryPolicy
from pingdata_async.engine.task import ChunkTask, InDoubt, JobLost, RetryLater
from pingdata_async.exceptions import (
    AccessDeniedError,
    JobFailedError,
    JobTimeoutError,
    PingDataError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnknownSourceError,
)
from pingdata_async.locations.chunk import Chunk, RowHistory
from pingdata_async.models import JobOutput, Reason
from pingdata_async.results.validation import Failure
from tests.support.chunks import body_of

BAD_REQUEST = RequestRejectedError("refused", status_code=400)
TOO_LARGE = RequestRejectedError("too large", status_code=413)
UNKNOWN = UnknownSourceError("what is PG?", status_code=400, api_message="what is PG?")
LOST = TransportError("connection lost", maybe_sent=True)
OUT_OF_ORDER = ServerError("out of order", status_code=500)
FAILED = JobLost("job failed", is_expired=False)
EXPIRED = JobLost("job forgotten", is_expired=True)
SPLIT_FAILED = Split(2, "job failed", because_jobs_failed=True)
STUCK = JobLost("no progress", is_expired=False, has_timed_out=True)


def task_of(rows: int, **fields: object) -> ChunkTask:
    chunk = Chunk(0, list(range(rows)), [None] * rows, body_of(range(rows)))
    task = ChunkTask(chunk, job_id="job 1")
    for name, value in fields.items():
        setattr(task, name, value)
    return task


def judge(breaker: CircuitBreaker | None = None, policy: RetryPolicy | None = None) -> Judge:
    policy = policy or RetryPolicy()
    return Judge(policy, breaker or CircuitBreaker(policy), ("PG",), random.Random(0))


def worn(trouble: Callable[[CircuitBreaker], object], times: int) -> CircuitBreaker:
    """A breaker that has seen so much trouble in a row."""
    breaker = CircuitBreaker(RetryPolicy(), any_accepted=True)
    for _ in range(times):
        trouble(breaker)
    return breaker


REFUSALS = worn(CircuitBreaker.note_refused, RetryPolicy().max_refusals_in_a_row)
DOUBTS = worn(CircuitBreaker.note_doubt, RetryPolicy().max_doubts_in_a_row)
FAILED_JOBS = worn(CircuitBreaker.note_failed_job, RetryPolicy().max_failed_jobs_in_a_row)
LOST_CHUNKS = worn(CircuitBreaker.note_lost_chunk, RetryPolicy().max_lost_chunks_in_a_row)


@pytest.mark.parametrize(
    ("rows", "error", "breaker", "is_stopping", "expected"),
    [
        (8, BAD_REQUEST, None, False, Split(2, "refused", tests_size=True)),
        (8, TOO_LARGE, None, False, Split(2, "too large")),
        (1, BAD_REQUEST, None, False, FailOnEvidence),
        (8, BAD_REQUEST, None, True, Drop()),
        (8, UNKNOWN, None, False, Drop(UNKNOWN)),
        (8, UNKNOWN, CircuitBreaker(RetryPolicy(), any_accepted=True), False, Split),
        (8, BAD_REQUEST, REFUSALS, False, Drop),
    ],
)
def test_what_follows_from_a_refusal(
    rows: int,
    error: PingDataError,
    breaker: CircuitBreaker | None,
    is_stopping: bool,
    expected: Decision | type,
) -> None:
    """Halves, until a row stands alone; nothing more where the API or a source is at fault."""
    decision = judge(breaker).after_refusal(task_of(rows), error, is_stopping=is_stopping)
    assert expected in (decision, type(decision))
    if breaker is REFUSALS:
        assert isinstance(decision, Drop)
        assert "no more are sent" in str(decision.stop)


def test_a_source_of_a_row_alone_is_no_fault_of_the_run() -> None:
    """The message may mean the source that only one row names."""
    task = task_of(8)
    task.chunk.sources[3] = ("PG",)
    assert isinstance(judge().after_refusal(task, UNKNOWN, is_stopping=False), Split)


@pytest.mark.parametrize(
    ("doubt", "in_doubt", "breaker", "hold", "is_stopping", "expected"),
    [
        (InDoubt(LOST), 1, None, False, False, RetryLater),
        (InDoubt(LOST), 99, None, False, False, FailOnEvidence),
        (InDoubt(LOST), 99, LOST_CHUNKS, False, False, Drop),
        (InDoubt(LOST), 1, None, False, True, Drop()),
        (InDoubt(LOST), 1, DOUBTS, False, False, Drop),
        (InDoubt(LOST, has_lasted=True), 1, None, False, False, Drop),
        (InDoubt(OUT_OF_ORDER, is_pause_too_long=True), 1, None, False, False, Drop),
        (InDoubt(LOST), 1, None, True, False, Hold()),
        (InDoubt(LOST), 1, None, True, True, Hold()),
        (InDoubt(LOST, has_lasted=True), 1, None, True, False, Hold),
    ],
)
def test_what_follows_from_a_doubt(
    doubt: InDoubt,
    in_doubt: int,
    breaker: CircuitBreaker | None,
    hold: bool,
    is_stopping: bool,
    expected: Decision | type,
) -> None:
    """Sent again a few times, or held; the run stops where doubts come one after the other."""
    task = task_of(8, in_doubt=in_doubt)
    policy = RetryPolicy(hold_in_doubt=hold)
    decision = judge(breaker, policy).after_doubt(task, doubt, is_stopping=is_stopping)
    assert expected in (decision, type(decision))
    if isinstance(decision, Drop | Hold):
        is_news = breaker is not None or doubt.has_lasted or doubt.is_pause_too_long
        assert (decision.stop is not None) == is_news


@pytest.mark.parametrize(
    ("rows", "lost", "fields", "breaker", "is_stopping", "expected"),
    [
        (8, FAILED, {}, None, False, Resubmit),
        (8, EXPIRED, {}, None, False, Resubmit),
        (8, FAILED, {"failed_jobs": 99}, None, False, SPLIT_FAILED),
        (8, FAILED, {"is_part_of_failed": True}, None, False, Split),
        (1, FAILED, {"failed_jobs": 99}, None, False, FailOnEvidence),
        (8, EXPIRED, {"lost_jobs": 99}, None, False, FailOnEvidence),
        (8, EXPIRED, {"lost_jobs": 99}, LOST_CHUNKS, False, Drop),
        (8, EXPIRED, {}, FAILED_JOBS, False, Resubmit),
        (8, FAILED, {}, FAILED_JOBS, False, Drop),
        (8, FAILED, {}, None, True, Drop()),
    ],
)
def test_what_follows_from_a_lost_job(
    rows: int,
    lost: JobLost,
    fields: dict[str, object],
    breaker: CircuitBreaker | None,
    is_stopping: bool,
    expected: Decision | type,
) -> None:
    """Another job, then halves, then failed rows; none where jobs fail one after the other."""
    task = task_of(rows, **fields)
    decision = judge(breaker).after_lost_job(task, lost, is_stopping=is_stopping)
    assert expected in (decision, type(decision))
    if isinstance(decision, Drop):
        assert (decision.stop is not None) == (not is_stopping)


def test_a_job_without_progress_is_told_as_such() -> None:
    """The error of a run that stops for it is the one that a caller can tell apart."""
    decision = judge(FAILED_JOBS).after_lost_job(task_of(8), STUCK, is_stopping=False)
    assert isinstance(decision, Drop)
    assert isinstance(decision.stop, JobTimeoutError)


@pytest.mark.parametrize(
    ("was_unreadable", "breaker", "is_stopping", "expected", "stops"),
    [
        (False, None, False, FailOnEvidence, False),
        (False, None, True, Drop, False),
        (False, FAILED_JOBS, False, Drop, True),
        (True, None, False, Fail, False),
        (True, None, True, Fail, False),
        (True, FAILED_JOBS, False, Fail, True),
    ],
)
def test_what_follows_from_an_output_that_nobody_can_read(
    was_unreadable: bool,
    breaker: CircuitBreaker | None,
    is_stopping: bool,
    expected: type,
    stops: bool,
) -> None:
    """Its rows fail if others can be read; if an earlier run could not either, they fail now."""
    task = task_of(8, was_unreadable=was_unreadable)
    decision = judge(breaker).after_unreadable(task, "odd", is_stopping=is_stopping)
    assert type(decision) is expected
    if isinstance(decision, FailOnEvidence):
        assert decision.evidence is Evidence.ANSWERED
        assert decision.failure.reason is Reason.UNREADABLE
    else:
        assert isinstance(decision.stop, JobFailedError) == stops


@pytest.mark.parametrize(
    ("is_taken_up", "error", "breaker", "expected"),
    [
        (False, LOST, None, Drop()),
        (False, LOST, LOST_CHUNKS, Drop(LOST)),
        (True, AccessDeniedError("not yours", status_code=403), LOST_CHUNKS, Drop()),
    ],
)
def test_a_job_whose_answer_cannot_be_had_now_is_left_to_another_run(
    is_taken_up: bool, error: PingDataError, breaker: CircuitBreaker | None, expected: Drop
) -> None:
    """The run goes on, but where that happens again and again to jobs of its own."""
    task = task_of(8, is_taken_up=is_taken_up)
    assert judge(breaker).after_postponed_output(task, error) == expected


@pytest.mark.parametrize(
    ("rows", "times_asked", "answered", "counts"),
    [(8, 0, True, True), (1, 0, True, False), (8, 1, True, False), (1, 0, False, True)],
)
def test_an_output_without_answers_counts_where_it_tells_something(
    rows: int, times_asked: int, answered: bool, counts: bool
) -> None:
    """Of rows that are always left out it is no news, once others have been answered."""
    breaker = CircuitBreaker(RetryPolicy(max_failed_jobs_in_a_row=1), any_answered=answered)
    task = task_of(rows)
    task.chunk.earlier.extend([RowHistory(0, times_asked=times_asked)] * rows * bool(times_asked))
    assert (judge(breaker).after_empty_output(task) is not None) == counts


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known(), None),
        (Known(outputs=(JobOutput("stored"),), job_id="j1"), Fetch()),
        (Known(failure=Failure(Reason.IN_DOUBT, "")), Fail(Failure(Reason.IN_DOUBT, ""))),
        (Known(sizes=(3, 3, 2)), SplitOff(3, "it was split before")),
        (Known(sizes=(2, 3, 3)), Split(3, "it was split before")),
        (Known(sizes=(4, 4), because_jobs_failed=True), Split),
        (Known(job_id="j1", job_age_s=5.0), Poll(0.0)),
        (Known(wait_s=2.0), LookAgain(2.0)),
        (Known(is_held=True), Hold()),
        (Known(in_doubt=3), None),
        (Known(in_doubt=4), Fail),
    ],
)
def test_another_attempt_at_a_chunk_is_followed(
    known: Known, expected: Decision | type | None
) -> None:
    """Only where nothing better is known it is submitted."""
    task = task_of(8)
    decision = judge().after_look_up(task, known, now=100.0)
    assert expected in (decision, type(decision))
    if isinstance(decision, Poll):
        assert (task.job_id, task.present_job.accepted_at) == ("j1", 95.0)
