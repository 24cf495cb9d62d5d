"""What flow control must show, in simulated time: pace, polls, refusals, and who waits."""

from __future__ import annotations

import dataclasses
from statistics import fmean

import pytest

from benchmarks.policies.trial import (
    CONTENDERS,
    OURS,
    UNEVEN,
    Contender,
    Outcome,
    Trial,
    run_trial,
)
from tests.simulation.faults import Moment
from tests.simulation.limits import Limits, Outage
from tests.simulation.profiles import Progress
from tests.simulation.queueing import Work, ideal_s
from tests.simulation.virtual_loop import START_S
from tests.support.sweeps import sampled

LOCATIONS = 60


def _work(workers: int, job_s: float, sigma: float = 0.3) -> Work:
    return Work(workers=workers, locations_per_s=LOCATIONS / job_s, sigma=sigma)


def _run(trial: Trial, max_jobs: int = 64, seed: int = 0) -> Outcome:
    outcome = run_trial(trial, dataclasses.replace(OURS, max_jobs=max_jobs), seed)
    assert outcome.rows_ok == trial.jobs * trial.locations
    assert outcome.too_early == 0
    assert outcome.peak_in_flight <= max_jobs
    return outcome


# -- polls -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "lag_share"),
    sampled(
        [
            (Progress.UNEVEN, 0.05),
            (Progress.LATE, 0.065),  # no count says anything: there is only what others took
            (Progress.EVEN, 0.03),
            (Progress.STALL, 0.045),
            (Progress.STEPS, 0.045),
        ],
        1,
    ),
)
def test_few_polls_and_little_lag(kind: Progress, lag_share: float) -> None:
    """400 jobs of 6 s, 40 at once: at most 8 polls each, and seen within 5 % of their time."""
    telling = dataclasses.replace(UNEVEN, progress=kind)
    outcome = _run(Trial(work=_work(1000, 6.0), jobs=400, telling=telling), max_jobs=40)
    assert outcome.polls_a_job <= 6.5
    assert outcome.lag_share <= lag_share


@pytest.mark.parametrize("seed", sampled(range(3), 1))
def test_polls_while_nothing_is_known(seed: int) -> None:
    """40 jobs in all: at most 8 polls each, and not much more lag."""
    outcome = _run(Trial(work=_work(1000, 6.0), jobs=40), max_jobs=40, seed=seed)
    assert outcome.polls_a_job <= 8.0
    assert outcome.lag_share <= 0.13


# -- throughput --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", sampled(range(3), 1))
def test_no_worker_waits_for_us(seed: int) -> None:
    """240 uneven jobs, 16 workers, 20 at once: within 1.05 of a client that loses no time."""
    work = _work(16, 6.0, sigma=0.5)
    outcome = _run(Trial(work=work, jobs=240), max_jobs=20, seed=seed)
    ideal = ideal_s(work, jobs=240, locations=LOCATIONS, max_jobs=20, seed=seed)
    assert outcome.seconds <= 1.03 * ideal


def test_capacity_that_changes_is_followed() -> None:
    """16 workers, 4 of them, 16 again: within three job times the pace is theirs."""
    job_s = 4.0
    work = dataclasses.replace(_work(16, job_s), changes=((50.0, 4), (90.0, 16)))
    outcome = _run(Trial(work=work, jobs=440))
    for begin_s, end_s, workers, share in (
        (20.0, 50.0, 16, 0.95),
        (50.0, 90.0, 4, 0.95),
        (90.0, 140.0, 16, 0.9),
    ):
        seen_per_s = outcome.seen_per_s(begin_s + 3 * job_s, end_s)
        assert seen_per_s >= share * workers / job_s


def test_an_outage_is_forgotten() -> None:
    """Jobs whose end was seen late, as nothing could be asked, do not make others be."""
    outages = [Outage(begins_s=40.0, ends_s=70.0, retry_after_s=5.0)]
    outcome = _run(Trial(work=_work(16, 6.0, sigma=0.5), jobs=300, outages=outages))
    after = [job.lag_s for job in outcome.jobs if job.job.accepted_at - START_S > 90.0]
    assert fmean(after) <= 0.15 * 6.0


# -- a limit on requests -----------------------------------------------------------------


@pytest.mark.parametrize("job_s", sampled([3.0, 1.0, 6.0], 1))
@pytest.mark.parametrize("window_s", sampled([0.0, 1.0], 1), ids=["bucket", "window"])
def test_a_rate_limit_is_used_and_not_overrun(job_s: float, window_s: float) -> None:
    """30 requests/s: after 10 s, 85 % of 7.5 jobs/s; few requests a job, few of them refused."""
    limits = Limits(requests_per_s=30, window_s=window_s, retry_after_s=1.0)
    outcome = _run(Trial(work=_work(200, job_s), jobs=400, limits=limits))
    last_submitted_s = max(job.job.accepted_at for job in outcome.jobs) - START_S
    assert last_submitted_s > 35.0
    assert outcome.requests_a_job <= 4.0
    assert outcome.refused_share <= 0.02
    assert outcome.seen_per_s(10.0, last_submitted_s) >= 0.85 * 7.5


@pytest.mark.parametrize("seed", sampled(range(5), 1))
@pytest.mark.parametrize(
    ("burst", "window_s"),
    sampled([(20, 0.0), (None, 1.0), (30, 0.0)], 2),
    ids=["20", "window", "30"],
)
def test_the_allowed_rate_is_soon_reached(burst: int | None, window_s: float, seed: int) -> None:
    """Within 10 s of the first 429, 90 % of 30 requests/s pass; few are refused, none dribble."""
    limits = Limits(requests_per_s=30, burst=burst, window_s=window_s, retry_after_s=1.0)
    work = Work(workers=200, locations_per_s=100 / 0.3, sigma=0.3)
    trial = Trial(work=work, jobs=400, locations=100, limits=limits)
    outcome = _run(trial, seed=seed)
    requests = outcome.records.requests
    refused_at = next(each.answered_at for each in requests if each.outcome == "429")
    passed = [each.answered_at - refused_at for each in requests if each.outcome == "ok"]
    assert sum(10.0 <= at < 20.0 for at in passed) >= 0.9 * 30 * 10
    assert outcome.refused_share <= (0.01 if burst == 20 else 0.015)
    assert outcome.seconds <= (1.12 if burst else 1.2) * len(requests) / 30.0
    ends = sorted(job.seen_at for job in outcome.jobs)
    last_per_s = 20 / (ends[-1] - ends[-21])
    assert last_per_s >= 0.7 * 30 / outcome.requests_a_job


@pytest.mark.parametrize("requests_per_s", sampled([30.0, 8.0], 1))
def test_downloads_do_not_starve(requests_per_s: float) -> None:
    """What is done is fetched before anything else: at most a Retry-After comes between."""
    limits = Limits(requests_per_s=requests_per_s, retry_after_s=1.0)
    outcome = _run(Trial(work=_work(200, 3.0), jobs=300, limits=limits))
    fetched_at: dict[str, float] = {}
    for request in outcome.records.requests:
        if request.moment is Moment.FETCH:
            fetched_at.setdefault(request.about, request.sent_at)
    waits_s = sorted(fetched_at[job.job.id] - job.seen_at for job in outcome.jobs)
    assert waits_s[int(0.95 * len(waits_s))] <= 2.0 / requests_per_s
    assert waits_s[-1] <= 1.5


# -- the measure itself ------------------------------------------------------------------


@pytest.mark.parametrize("contender", sampled(CONTENDERS, 3), ids=lambda contender: contender.name)
def test_every_contender_gets_through(contender: Contender) -> None:
    """All that the bench compares answer every row, respect a Retry-After, and can be repeated."""
    limits = Limits(requests_per_s=20, retry_after_s=1.0)
    trial = Trial(work=_work(10, 2.0), jobs=60, locations=10, limits=limits)
    one, other = (run_trial(trial, contender, seed=1) for _ in range(2))
    assert one.rows_ok == 600
    assert one.too_early == 0
    assert one.seconds == other.seconds
    assert one.lag_share == other.lag_share
