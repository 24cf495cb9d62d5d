"""What answers tell of a job, and what ended jobs tell of others."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from pingdata_async.engine.flow_control.job_timing import MARKS, JobProgress, JobTimes, Recent
from pingdata_async.models import JobStatus

DAY = "2026-03-01T12:00:"


def going(completed: int | None = None, requested: int | None = 1000, **dates: Any) -> JobStatus:
    return JobStatus(
        status="IN_PROGRESS", num_requested=requested, num_completed=completed, **dates
    )


def done(**dates: Any) -> JobStatus:
    return JobStatus(status="COMPLETE", result_status="SUCCESS", **dates)


WAITING = JobStatus(status="QUEUED")


# -- one job -------------------------------------------------------------------------------


def test_dates_tell_the_times_exactly_whatever_the_servers_clock() -> None:
    """Only their differences count: theirs is years from ours."""
    job = JobProgress(1000, 5000.0)
    dates: dict[str, Any] = {
        "requested_at": DAY + "00.250Z",
        "progress_started_at": DAY + "02.750Z",
    }
    job.hear(going(10, **dates), 5004.0)
    assert job.queue_s == 2.5
    job.hear(done(**dates, completed_at="2026-03-01T13:00:08.000+01:00"), 5009.0)
    assert job.work_s == 5.25


def test_whole_seconds_are_held_to_what_was_seen() -> None:
    """All in the same second, or a second more than can be: the answers know better."""
    job = JobProgress(10, 100.0)
    dates: dict[str, Any] = {"requested_at": DAY + "00Z", "progress_started_at": DAY + "01Z"}
    job.hear(WAITING, 100.2)
    job.hear(going(**dates), 100.4)
    assert job.queue_s == pytest.approx(0.4)
    job.hear(going(**dates), 100.9)
    job.hear(done(**dates, completed_at=DAY + "01Z"), 101.0)
    assert job.work_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (None, DAY + "01.5Z"),
        ("yesterday", DAY + "01.5Z"),
        (DAY + "02.5Z", DAY + "01.5Z"),
        ("2020-01-01T00:00:00.5Z", DAY + "01.5Z"),
        ("0001-01-01T00:00:00.5+14:00", "9999-12-31T23:59:59.5-14:00"),
        ("", ""),
        ("12", "\x00"),
    ],
)
def test_dates_that_make_no_sense_are_left_out(begin: str | None, end: str | None) -> None:
    """Missing, garbage, backwards, or longer than the job has been there."""
    job = JobProgress(1000, 100.0)
    job.hear(going(requested_at=begin, progress_started_at=end), 104.0)
    job.hear(done(progress_started_at=begin, completed_at=end), 109.0)
    assert job.queue_s is None
    assert job.work_s is None


def test_dates_with_and_without_a_zone_can_be_compared() -> None:
    """One that names none is taken for UTC."""
    job = JobProgress(1000, 100.0)
    job.hear(going(requested_at=DAY + "00.5", progress_started_at=DAY + "01.5Z"), 104.0)
    assert job.queue_s == 1.0


def test_two_answers_close_to_each_other_tell_the_wait() -> None:
    """Waiting at 10.0 s, at work at 10.4 s: about 10.2 s; after a longer gap nobody knows."""
    job = JobProgress(1000, 0.0)
    job.hear(WAITING, 10.0)
    job.hear(going(), 10.4)
    assert job.queue_s == pytest.approx(10.2)
    job = JobProgress(1000, 0.0)
    job.hear(WAITING, 5.0)
    job.hear(going(), 10.4)
    assert job.queue_s is None


def test_idle_time_is_time_at_work_without_progress() -> None:
    """Not in a queue, not before the first sign of work, and only up to the last answer."""
    job = JobProgress(1000, 0.0)
    job.hear(WAITING, 500.0)
    assert job.idle_s == 0.0
    job.hear(going(5), 510.0)
    assert job.idle_s == 0.0
    job.hear(going(5), 540.0)
    assert job.idle_s == 30.0
    job.hear(going(4), 550.0)
    assert job.idle_s == 40.0
    job.hear(going(6), 560.0)
    assert job.idle_s == 0.0
    job.hear(going(), 570.0)
    assert job.idle_s == 10.0
    job.hear(done(), 600.0)
    assert job.idle_s == 0.0


def test_a_job_back_in_the_queue_begins_anew() -> None:
    """Its worker died: what it had done and how long it waited count no more."""
    job = JobProgress(1000, 0.0)
    job.hear(going(500, requested_at=DAY + "00.1Z", progress_started_at=DAY + "00.2Z"), 3.0)
    job.hear(WAITING, 5.0)
    assert (job.is_waiting, job.completed, job.marks, job.queue_s) == (True, 0, None, None)
    assert job.idle_s == 0.0


def test_an_unknown_status_counts_as_at_work() -> None:
    """Whatever the API sends beyond those known."""
    job = JobProgress(1000, 0.0)
    job.hear(JobStatus(status="GEOCODING"), 1.0)
    assert not job.is_waiting
    assert job.working_at == 1.0


def test_a_jobs_way_takes_bounded_memory() -> None:
    """Some marks of it, the early ones among them, and none for a count that did not rise."""
    job = JobProgress(1000, 0.0)
    for second in range(1, 900):
        job.hear(going(second - second % 2), float(second))
    assert job.marks is not None
    assert len(job.marks) == 2 * MARKS
    assert job.marks[:4] == [2.0, 0.002, 4.0, 0.004]
    assert job.marks[-2:] == [898.0, 0.898]


def test_the_first_answer_of_the_end_is_the_one_that_counts() -> None:
    """Asked again because its outputs were late, it has not ended later."""
    job = JobProgress(1000, 0.0)
    job.hear(done(), 5.0)
    job.hear(done(), 50.0)
    assert (job.ended_at, job.going_at) == (5.0, 0.0)


# -- many jobs -----------------------------------------------------------------------------


def ended(
    locations: int, accepted_at: float, *answers: tuple[float, JobStatus], end: float
) -> JobProgress:
    job = JobProgress(locations, accepted_at)
    for after_s, status in answers:
        job.hear(status, accepted_at + after_s)
    job.hear(done(), accepted_at + end)
    return job


def median_s(times: JobTimes, locations: int = 1000) -> float:
    belief = times.work_belief(locations)
    assert belief is not None
    return math.exp(belief[0])


def test_newer_values_count_for_more() -> None:
    """After a window's worth of others the old ones weigh little; the first are averaged."""
    recent = Recent(10.0)
    for value in (1.0, 3.0):
        recent.add(value)
    assert (recent.mean, recent.variance) == (2.0, 1.0)
    for _ in range(60):
        recent.add(7.0)
    assert recent.mean == pytest.approx(7.0, abs=0.05)


def test_nothing_is_known_before_a_job_has_ended() -> None:
    """And nothing of a job without counts."""
    times = JobTimes(60.0)
    job = JobProgress(1000, 0.0)
    assert times.work_belief(1000) is None
    assert times.queue_belief() is None
    assert times.total_belief(job, 0.0) is None
    assert times.waited_s(job) is None


def test_jobs_seen_by_the_first_question_only_do_not_mislead() -> None:
    """All that is seen is "over by 8 s" or "not yet": the middle of 6 s is found all the same."""
    times, rng = JobTimes(60.0), random.Random(3)
    for _ in range(400):
        work_s = 6.0 * math.exp(rng.gauss(0.0, 0.3))
        if work_s < 8.0:
            times.learn(ended(1000, 0.0, end=8.0))
        else:
            times.learn(ended(1000, 0.0, (8.0, going()), end=work_s + 0.1))
    assert 5.0 < median_s(times) < 7.2


def test_a_job_that_nobody_watched_teaches_nothing() -> None:
    """Accepted by an earlier process a day ago, and found done or at work."""
    times = JobTimes(60.0)
    for _ in range(20):
        times.learn(ended(1000, 0.0, (3.0, going()), (5.9, going()), end=6.0))
    before = (times.work_belief(1000), times.queue_belief())
    times.learn(ended(1000, 0.0, end=86_400.0))
    times.learn(ended(1000, 0.0, (86_400.0, going(500)), end=86_402.0))
    assert (times.work_belief(1000), times.queue_belief()) == before
    job = JobProgress(1000, 0.0)
    job.hear(done(requested_at=DAY + "00.5Z", progress_started_at=DAY + "00.6Z"), 86_400.0)
    times.learn(job)  # the API says when it began and not when it ended
    assert (times.work_belief(1000), times.count) == (before[0], 20.0)


def test_the_apis_dates_teach_even_of_jobs_that_nobody_watched() -> None:
    """It was found done a day later, but it says that it took 6.5 s."""
    times = JobTimes(60.0)
    job = JobProgress(1000, 0.0)
    status = done(
        requested_at=DAY + "00.5Z", progress_started_at=DAY + "02.5Z", completed_at=DAY + "09.0Z"
    )
    job.hear(status, 86_400.0)
    times.learn(job)
    assert median_s(times) == pytest.approx(6.5)
    assert times.queue_belief() == (2.0, 0.0)


@pytest.mark.parametrize("by_size", [True, False], ids=["by size", "the same for all"])
def test_how_time_goes_with_size_is_learned(*, by_size: bool) -> None:
    """Ten times smaller: a tenth of the time, or the same, as the jobs before have shown."""
    times = JobTimes(60.0)
    for number in range(40):
        locations = (1000, 500, 250)[number % 3]
        work_s = 6.0 * locations / 1000 if by_size else 6.0
        times.learn(ended(locations, 0.0, (0.98 * work_s, going()), end=work_s))
    assert median_s(times, 100) == pytest.approx(0.6 if by_size else 6.0, rel=0.35)


def test_a_pace_that_changes_is_followed_within_some_jobs() -> None:
    """Three times as slow from one job to the next: ten jobs later that is what is expected."""
    times, rng = JobTimes(60.0), random.Random(5)
    for number in range(62):
        work_s = (6.0 if number < 50 else 18.0) * math.exp(rng.gauss(0.0, 0.2))
        times.learn(ended(1000, 0.0, (0.5, going()), (0.98 * work_s, going()), end=work_s))
    assert 12.0 < median_s(times) < 22.0


def test_a_wait_is_guessed_within_what_was_seen() -> None:
    """By what others waited, never outside of the answers before and after its end."""
    times = JobTimes(60.0)
    for _ in range(20):
        times.learn(ended(1000, 0.0, (9.9, WAITING), (10.1, going()), (15.9, going()), end=16.0))
    seen = JobProgress(1000, 0.0)
    seen.hear(WAITING, 4.0)
    assert times.waited_s(seen) is None
    seen.hear(going(), 14.0)
    assert times.waited_s(seen) == pytest.approx(10.0, abs=0.3)
    earlier = JobProgress(1000, 0.0)
    earlier.hear(going(), 3.0)
    assert times.waited_s(earlier) == 3.0


def test_where_nobody_waits_no_wait_is_made_up() -> None:
    """A job that takes twice as long as others has not waited."""
    times = JobTimes(60.0)
    for _ in range(20):
        times.learn(ended(1000, 0.0, (3.0, going()), (5.9, going()), end=6.0))
    assert times.waited_s(ended(1000, 0.0, (9.0, going()), end=12.0)) == 0.0


def test_a_whole_time_that_leaves_no_room_tells_the_wait() -> None:
    """Seen waiting at 1 s and done at 12 s, where work takes 6 s: it waited about 6 s."""
    times = JobTimes(60.0)
    for wait_s in (0.3, 12.0, 3.0, 20.0, 0.5, 9.0):
        job = ended(
            1000,
            0.0,
            (wait_s, WAITING),
            (wait_s * 1.01, going()),
            (wait_s + 5.9, going()),
            end=wait_s + 6.0,
        )
        times.learn(job)
    waited_s = times.waited_s(ended(1000, 0.0, (1.0, WAITING), end=12.0))
    assert waited_s is not None
    assert 5.0 < waited_s < 8.0
