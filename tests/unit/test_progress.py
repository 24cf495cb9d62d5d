"""How far a run is, as its events tell, in a time of our own."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from pingdata_async.events import (
    ChunkFinished,
    InputPlanned,
    InputProgress,
    JobAbandoned,
    JobPolled,
    JobSubmitted,
    OutputProgress,
    PauseAsked,
    RequestRetried,
    RunResumed,
)
from pingdata_async.models import RequestKind
from pingdata_async.progress import RunProgress, clock_time, duration


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> RunProgress:
    return RunProgress(clock, clock)


def planned(rows: int) -> InputPlanned:
    return InputPlanned(rows=rows, locations=rows, chunks=4, jobs=4)


def submitted(job_id: str, locations: int) -> JobSubmitted:
    return JobSubmitted(
        chunk=0,
        job_id=job_id,
        locations=locations,
        charged_before=False,
        charged_by_source={"PG": locations},
    )


def polled(job_id: str, status: str, completed: int | None = None) -> JobPolled:
    return JobPolled(
        chunk=0, job_id=job_id, status=status, num_requested=100, num_completed=completed
    )


def finished(job_id: str, *, ok: int, partial: int = 0, failed: int = 0) -> ChunkFinished:
    return ChunkFinished(
        chunk=0,
        job_id=job_id,
        rows=ok + partial + failed,
        ok=ok,
        partial=partial,
        failed=failed,
        no_answer=0,
        reasons={},
    )


def test_reading_shows_rows_and_the_part_of_the_file(progress: RunProgress, clock: Clock) -> None:
    """Where that is not known, there is no share, rather than a false one."""
    assert progress.share is None
    clock.now += 12
    progress(InputProgress(rows=50_000, share=0.25))
    assert progress.line() == "Reading: 25%; 50,000 rows read in 12 s"
    progress(InputProgress(rows=60_000))
    assert progress.share is None


def test_the_bar_moves_before_the_first_job_ends(progress: RunProgress, clock: Clock) -> None:
    """By the counts of the jobs in flight; the rows that are named are those with an outcome."""
    progress(planned(400))
    progress(submitted("a", 100))
    progress(submitted("b", 100))
    progress(polled("a", "IN_PROGRESS", 60))
    progress(polled("b", "PENDING"))
    clock.now += 10
    assert progress.lines() == (
        "15%, 6 rows/s, about 57 s left",
        "0 of 400 rows in 10 s: 0 ok, 0 partial, 0 failed",
        "2 jobs in flight (1 queued), charged 200 PG",
    )
    progress(finished("a", ok=90, partial=3, failed=7))
    assert progress.share == 0.25
    assert progress.lines()[1:] == (
        "100 of 400 rows in 10 s: 90 ok, 3 partial, 7 failed",
        "1 job in flight (1 queued), charged 200 PG",
    )


def test_no_time_is_told_before_anything_is_known(progress: RunProgress, clock: Clock) -> None:
    """Neither a rate of 0 nor "0.0 s left"."""
    progress(planned(400))
    clock.now += 50
    assert progress.line() == (
        "Sending: 0%; 0 of 400 rows in 50 s: 0 ok, 0 partial, 0 failed; 0 jobs in flight"
    )
    progress(submitted("a", 400))
    progress(finished("a", ok=400))
    assert "left" not in progress.line()
    assert progress.phase == "Writing"


def test_writing_has_a_share_of_its_own(progress: RunProgress) -> None:
    """It begins anew when the last row has its outcome."""
    progress(planned(100))
    progress(finished("a", ok=100))
    assert progress.share == 0.0
    progress(OutputProgress(rows=25))
    assert progress.line().startswith("Writing: 25%; 25 of 100 rows written")


def test_a_resumed_run_counts_what_was_there(progress: RunProgress, clock: Clock) -> None:
    """Rows, charges and jobs of the process before; the rate is that of this one."""
    progress(planned(400))
    progress(
        RunResumed(
            run_dir="x",
            rows=400,
            rows_done=200,
            jobs_in_flight=2,
            ok=198,
            failed=2,
            charged_by_source={"PG": 300},
        )
    )
    progress(polled("old", "IN_PROGRESS", 50))
    clock.now += 10
    assert progress.lines() == (
        "62%, 5 rows/s, about 30 s left",
        "200 of 400 rows in 10 s: 198 ok, 0 partial, 2 failed",
        "2 jobs in flight, charged 300 PG",
    )
    progress(finished("old", ok=100))
    progress(JobAbandoned(chunk=1, job_id="other", error="it failed", will_resubmit=True))
    assert progress.jobs_in_flight == 0
    assert progress.lines()[2] == "0 jobs in flight, charged 300 PG, 1 problem"


def test_a_pause_is_shown_until_it_is_over(progress: RunProgress, clock: Clock) -> None:
    """With the time of its end, in place of a rate that does not hold."""
    progress(planned(400))
    progress(PauseAsked(kind=RequestKind.SUBMIT, pause_s=600.0))
    until = f"{datetime.fromtimestamp(clock.now + 600).astimezone():%H:%M:%S}"
    assert progress.lines()[0] == (
        f"0%, waiting for the end of a pause that the API asked for until {until}"
    )
    clock.now += 601
    assert progress.lines()[0] == "0%"


def test_silence_of_the_api_is_shown_until_it_answers(progress: RunProgress) -> None:
    """With the time at which the run gives up."""
    retried = RequestRetried(
        kind=RequestKind.POLL,
        chunk=0,
        job_id="a",
        attempt=1,
        error="no route to host",
        delay_s=1.0,
        gives_up_in_s=60.0,
    )
    progress(planned(400))
    progress(retried)
    assert re.search(r"waiting for an answer of the API until \d\d:\d\d:\d\d$", progress.lines()[0])
    progress(polled("a", "IN_PROGRESS", 1))
    assert progress.waiting == ""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (72.4, "72 s"), (7500, "2 h 05 min")]
)
def test_durations_are_as_precise_as_they_need_to_be(seconds: float, shown: str) -> None:
    """Tenths only where they tell something."""
    assert duration(seconds) == shown


def test_a_time_of_day_is_of_this_machine() -> None:
    """So that it can be compared with the clock on the wall."""
    assert clock_time(60.0, now=0.0) == f"{datetime.fromtimestamp(60).astimezone():%H:%M:%S}"
