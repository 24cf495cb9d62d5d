"""When jobs are asked about: what always holds, and what it costs in virtual time."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule, inspection_s
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import JobStatus
from tests.support.poll_simulation import (
    COUNTED,
    KINDS,
    Asker,
    Exponential,
    Figures,
    Fixed,
    Linear,
    Simulation,
    World,
)
from tests.support.sweeps import examples, sampled

SEEDS = range(3)


def going(completed: int | None = None) -> JobStatus:
    return JobStatus(status="IN_PROGRESS", num_requested=1000, num_completed=completed)


WAITING = JobStatus(status="PENDING")
DONE = JobStatus(status="COMPLETE", result_status="SUCCESS")


def planner_after(total_s: float, max_interval_s: float = 30.0) -> PollPlanner:
    """One that saw jobs of about so many seconds, watched closely."""
    planner = PollPlanner(PollSchedule(max_interval_s=max_interval_s))
    rng = random.Random(1)
    for _ in range(30):
        job = JobProgress(1000, 0.0)
        work_s = total_s * math.exp(rng.gauss(0.0, 0.1))
        job.hear(going(), 0.01 * work_s)
        job.hear(going(), 0.99 * work_s)
        job.hear(DONE, work_s)
        planner.learn(job)
    return planner


# -- what always holds ---------------------------------------------------------------------

seconds = st.floats(0, 1e9)
statuses = st.builds(
    JobStatus,
    status=st.sampled_from(["PENDING", "QUEUED", "IN_PROGRESS", "REINDEXING", ""]),
    num_requested=st.none() | st.integers(-5, 2000),
    num_completed=st.none() | st.integers(-5, 10**12),
    requested_at=st.none() | st.sampled_from(["2026-01-01T00:00:00Z", "soon", "0001-01-01"]),
    progress_started_at=st.none() | st.sampled_from(["2026-01-01T00:00:03.5Z", "", "9999-12-31"]),
    completed_at=st.none() | st.sampled_from(["2026-01-01T00:00:03", "2020-01-01T00:00:00Z"]),
)
answers = st.lists(st.tuples(seconds, statuses), max_size=6)


def heard(
    locations: int, accepted_at: float, said: Sequence[tuple[float, JobStatus]]
) -> tuple[JobProgress, float]:
    job, now = JobProgress(locations, accepted_at), accepted_at
    for later_s, status in said:
        now += later_s
        job.hear(status, now)
    return job, now


@examples(300)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), answers, seconds), max_size=4),
    st.integers(0, 10**6),
    seconds,
    answers,
    st.floats(0, 1e9) | st.sampled_from([math.nan, -1.0, math.inf]),
)
def test_an_interval_is_within_its_bounds_whatever_was_learned(
    ended: list[tuple[int, list[tuple[float, JobStatus]], float]],
    locations: int,
    accepted_at: float,
    said: list[tuple[float, JobStatus]],
    poll_cost_s: float,
) -> None:
    """Neither NaN nor negative: for no locations, clocks that stand still and mad counts."""
    schedule = PollSchedule(min_interval_s=0.5, max_interval_s=15.0)
    planner = PollPlanner(schedule)
    for size, before, last_s in ended:
        job, now = heard(size, 0.0, before)
        job.hear(DONE, now + last_s)
        planner.learn(job)
    job, now = heard(locations, accepted_at, said)
    assert 0.5 <= planner.next_poll_in_s(job, now, poll_cost_s=poll_cost_s) <= 15.0
    assert 0.5 <= planner.next_poll_in_s(job, now + 1e9, poll_cost_s=poll_cost_s) <= 15.0
    job.hear(DONE, now)
    assert 0.5 <= planner.next_poll_in_s(job, now) <= 15.0


@given(answers, seconds, seconds)
def test_the_dearer_a_question_the_later_it_is_asked(
    said: list[tuple[float, JobStatus]], poll_cost_s: float, more_s: float
) -> None:
    """Never sooner for a higher price (but for what the solution is rounded to)."""
    planner = planner_after(6.0)
    job, now = heard(1000, 0.0, said)
    cheap_s = planner.next_poll_in_s(job, now, poll_cost_s=poll_cost_s)
    assert planner.next_poll_in_s(job, now, poll_cost_s=poll_cost_s + more_s) >= cheap_s * 0.98


@given(st.floats(0.0, 5.0), st.integers(0, 1000))
def test_a_question_that_failed_is_no_news(failed_after_s: float, completed: int) -> None:
    """The time to ask at stays where the last answer put it, and asking decides nothing."""
    planner = planner_after(60.0, max_interval_s=1e9)
    job = JobProgress(1000, 100.0)
    job.hear(going(completed), 110.0)
    before = copy.copy(job)
    due = 110.0 + planner.next_poll_in_s(job, 110.0)
    now = min(110.0 + failed_after_s, due)
    again_s = planner.next_poll_in_s(job, now)
    assert again_s == pytest.approx(max(0.1, due - now))
    assert all(getattr(job, name) == getattr(before, name) for name in JobProgress.__slots__)


@given(st.floats(0.05, 1.0), st.floats(0.0, 2.0), st.floats(0.05, 0.5))
def test_a_look_is_taken_when_the_unseen_time_has_grown_to_its_price(
    spread: float, age_share: float, poll_cost_s: float
) -> None:
    """The rule itself, against a sum over the belief instead of its closed form."""
    age_s = 6.0 * age_share
    wait_s = inspection_s((math.log(6.0), spread), age_s, 0.0, poll_cost_s)
    assert wait_s is not None
    unseen_s = left = 0.0
    for weight, sigma in ((0.97, spread), (0.03, max(1.0, 2 * spread))):
        for step in range(-4000, 4001):
            z = step / 500
            total_s = 6.0 * math.exp(sigma * z)
            if total_s > age_s:
                mass = weight * math.exp(-z * z / 2)
                left += mass
                unseen_s += mass * max(0.0, age_s + wait_s - total_s)
    assert unseen_s / left == pytest.approx(poll_cost_s, rel=0.05)


def test_what_is_known_of_nothing_grows_with_age() -> None:
    """Without counts and without earlier jobs each question comes half the age later."""
    planner, job, now = PollPlanner(PollSchedule()), JobProgress(1000, 0.0), 0.0
    intervals = []
    for _ in range(8):
        interval_s = planner.next_poll_in_s(job, now)
        intervals.append(interval_s)
        now += interval_s
        job.hear(going(), now)
    assert intervals[:2] == [1.0, 1.0]
    assert intervals[2:] == pytest.approx([1.5**n for n in range(6)])


def test_a_surprise_is_followed_by_geometric_growth() -> None:
    """A job long past all others is asked about ever less often, not at the shortest interval."""
    planner = planner_after(6.0)
    job, now, polls = JobProgress(1000, 0.0), 0.0, 0
    while now < 60.0:
        now += planner.next_poll_in_s(job, now)
        job.hear(going(), now)
        polls += 1
    assert polls < 45
    assert 2.0 < planner.next_poll_in_s(job, now) < 12.0


def test_a_stall_is_learned() -> None:
    """95 % at 60 % of the time: a straight line says 0.2 s are left, experience says 2.4 s."""
    planner = PollPlanner(PollSchedule())
    for number in range(30):
        total_s = 5.0 + number % 5
        job = JobProgress(1000, 0.0)
        for share in (0.3, 0.6):
            job.hear(going(int(1000 * 0.95 * share / 0.6)), share * total_s)
        job.hear(going(950), 0.98 * total_s)
        job.hear(DONE, total_s)
        planner.learn(job)
    job = JobProgress(1000, 0.0)
    job.hear(going(950), 3.6)
    assert 1.8 < planner.next_poll_in_s(job, 3.6) < 2.6


def test_a_waiting_job_is_expected_to_wait_as_others_did_and_then_to_work() -> None:
    """10 s in the queue and 6 s at work: after 3 s of waiting nobody asks within 5 s."""
    planner = PollPlanner(PollSchedule())
    for _ in range(20):
        job = JobProgress(1000, 0.0)
        job.hear(WAITING, 9.9)
        job.hear(going(), 10.1)
        job.hear(going(), 15.9)
        job.hear(DONE, 16.0)
        planner.learn(job)
    job = JobProgress(1000, 0.0)
    job.hear(WAITING, 3.0)
    assert 5.0 < planner.next_poll_in_s(job, 3.0) < 13.0


def test_a_job_of_another_size_is_expected_to_take_another_time() -> None:
    """Half the locations, about half the time, where nothing says otherwise."""
    planner = planner_after(20.0)
    whole_s = planner.next_poll_in_s(JobProgress(1000, 0.0), 0.0)
    assert 0.3 < planner.next_poll_in_s(JobProgress(500, 0.0), 0.0) / whole_s < 0.6


def test_a_job_that_names_no_outputs_yet_is_asked_about_soon_and_then_less() -> None:
    """After the end it is the time since the end that counts."""
    planner, job = planner_after(6.0), JobProgress(1000, 0.0)
    job.hear(DONE, 6.0)
    assert planner.next_poll_in_s(job, 6.0) == 0.1
    assert planner.next_poll_in_s(job, 10.0) == 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {"min_interval_s": 0.0},
        {"min_interval_s": -1.0},
        {"min_interval_s": 2.0, "max_interval_s": 1.0},
        {"max_interval_s": float("nan")},
        {"share_of_age": 0.0},
    ],
    ids=str,
)
def test_a_schedule_that_cannot_work_is_refused(settings: dict[str, float]) -> None:
    """Intervals are positive and in their order."""
    with pytest.raises(ConfigurationError):
        PollSchedule(**settings)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_intervals_grow_with_age_within_their_bounds(age_s: float, older_s: float) -> None:
    """Never below the shortest, never above the longest, never shorter for an older job."""
    schedule = PollSchedule(min_interval_s=0.5, max_interval_s=15.0, share_of_age=0.2)
    younger, older = sorted((age_s, older_s))
    assert 0.5 <= schedule.next_interval_s(younger) <= schedule.next_interval_s(older) <= 15.0


def test_a_long_job_is_asked_about_seldom_and_seen_soon() -> None:
    """Questions grow with the logarithm of its length; the delay is a share of it at most."""
    schedule = PollSchedule(min_interval_s=0.5, max_interval_s=1e9, share_of_age=0.2)
    for length_s in (10.0, 100.0, 1_000.0, 10_000.0):
        age_s, polls = 0.0, 0
        while age_s < length_s:
            age_s += schedule.next_interval_s(age_s)
            polls += 1
        assert age_s <= length_s * 1.2 + 0.5
        assert polls < 60


# -- what it costs -------------------------------------------------------------------------


def planner() -> Asker:
    return PollPlanner(PollSchedule())


def runs(world: World, make: Callable[[], Asker] = planner) -> list[Figures]:
    return [Simulation(world, make(), seed).run() for seed in SEEDS]


@cache
def cost_of(world: World, first: int = 0, last: int = 1_000_000) -> tuple[float, float]:
    """Polls a job, and the share of its time between done and seen, averaged over the seeds."""
    figures = runs(world)
    return (
        fmean(figure.polls(first, last) for figure in figures),
        fmean(figure.lag(first, last) for figure in figures),
    )


DATES = ("none", "exact", "seconds")


def worlds(kinds: Sequence[str]) -> list[World]:
    return [World(kinds=tuple(kinds), dates=dates) for dates in DATES]


LIMITS = {  # polls, lag: about a tenth above what was measured
    "even": (4.5, 0.020),
    "stall": (6.3, 0.035),
    "fast start": (5.0, 0.022),
    "steps of 10 %": (5.1, 0.023),
    "steps of 25 %": (6.2, 0.033),
    "batches": (6.8, 0.041),
    "none": (6.7, 0.053),  # no way of asking does better than 0.31 / polls: there is no news
}


@pytest.mark.parametrize(
    "world",
    sampled([World(kinds=(kind,), dates=dates) for dates in DATES for kind in KINDS], 4),
    ids=lambda w: f"{w.kinds[0]}, dates {w.dates}",
)
def test_jobs_of_one_kind_are_seen_soon_and_asked_about_seldom(world: World) -> None:
    """400 jobs of 6 s, 40 at once, nothing known at first: whichever way the counts grow."""
    polls, lag = cost_of(world)
    most, longest = LIMITS[world.kinds[0]]
    assert polls <= most
    assert lag <= longest


@pytest.mark.parametrize("world", sampled(worlds(COUNTED), 1), ids=lambda w: f"dates {w.dates}")
def test_a_mix_of_kinds_keeps_the_limits(world: World) -> None:
    """Where each job's counts grow in another way: under 6.5 polls and 5 % all the same."""
    polls, lag = cost_of(world)
    assert polls <= 6.5
    assert lag <= 0.05


def test_the_kinds_together_cost_about_five_polls() -> None:
    """The mean over the kinds that count: 5.5 polls, under 3 %."""
    costs = [cost_of(World(kinds=(kind,))) for kind in COUNTED]
    assert fmean(polls for polls, _ in costs) <= 5.5
    assert fmean(lag for _, lag in costs) <= 0.028


def test_the_first_jobs_are_asked_about_little_more() -> None:
    """40 at once of which nothing is known: about 8 polls and 4 %, mean over the kinds."""
    costs = [cost_of(World(kinds=(kind,)), 0, 40) for kind in COUNTED]
    assert fmean(polls for polls, _ in costs) <= 8.2
    assert fmean(lag for _, lag in costs) <= 0.035
    assert max(lag for _, lag in costs) <= 0.05


@pytest.mark.parametrize(
    ("world", "most_polls", "longest_lag"),
    [
        (World(sigma=0.5), 7.5, 0.055),
        (World(workers=16), 7.5, 0.06),
        (World(workers=16, dates="exact"), 7.5, 0.06),
        (World(workers=16, in_flight=20, jobs=240, sigma=0.5), 7.5, 0.06),
        (World(median_s=60.0), 8.0, 0.045),
        (World(factor=3.0, factor_from=200), 7.5, 0.05),
        (World(factor=1 / 3, factor_from=200), 6.0, 0.11),
    ],
    ids=["sigma 0.5", "queue", "queue, dates", "short queue", "60 s", "triple", "a third"],
)
def test_other_worlds_are_sensible_too(world: World, most_polls: float, longest_lag: float) -> None:
    """Uneven jobs, a queue in front, longer jobs, a pace that changes under way."""
    polls, lag = cost_of(world)
    assert polls <= most_polls
    assert lag <= longest_lag


def test_jobs_shorter_than_an_interval_cost_few_polls_and_little_time() -> None:
    """0.3 s: two or three polls, and not a tenth of a second lost once they are known."""
    polls, lag = cost_of(World(median_s=0.3), 200)
    assert polls <= 3.0
    assert lag * 0.3 <= 0.1


def test_long_jobs_are_asked_about_in_proportion() -> None:
    """2 h without an upper bound: no more questions than for 6 s, once some have ended."""
    world = World(median_s=7200.0)
    figures = Simulation(world, PollPlanner(PollSchedule(max_interval_s=1e9)), 1).run()
    assert figures.polls(40) <= 7.5
    assert figures.lag(40) <= 0.05


@pytest.mark.parametrize("kinds", [COUNTED, ("none",)], ids=["counted", "none"])
@pytest.mark.parametrize("dates", ["none", "exact"])
def test_scarce_requests_are_spent_on_little_more_than_one_question(
    kinds: tuple[str, ...], dates: str
) -> None:
    """At a price of a third of the job's time: 1.3 questions, half the time lost at most."""
    polls, lag = cost_of(World(kinds=kinds, dates=dates, poll_cost_s=2.0), 40)
    assert polls <= 1.35
    assert lag <= 0.5


@pytest.mark.parametrize(
    "make",
    [lambda: Fixed(3.0), lambda: Fixed(5.0), lambda: Exponential(1.5), Linear],
    ids=["fixed 3 s", "fixed 5 s", "exponential", "linear"],
)
def test_the_usual_ways_lose_five_times_as_much(make: Callable[[], Asker]) -> None:
    """What the vendor's page and client do, doubling, and a straight line through the counts."""
    ours = cost_of(World())[1]
    assert fmean(figure.lag() for figure in runs(World(), make)) > 4.0 * ours
