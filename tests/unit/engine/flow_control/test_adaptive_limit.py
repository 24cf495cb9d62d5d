"""The limiter finds how many jobs the API bears: in a queueing model, and note by note."""

from __future__ import annotations

import dataclasses
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.flow_control.adaptive_limit import (
    FIRST_LIMIT,
    AdaptiveLimit,
    ConcurrencyLimit,
)
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.models import RequestKind
from tests.support.queue_model import QueueModel, Record, Setting, ideal_s
from tests.support.sweeps import sampled

SAYS = pytest.mark.parametrize("says", ["dates", "states"])
SEEDS = pytest.mark.parametrize("seed", sampled([1, 2, 3], 1))
MEAN_S = 6.8  # of the model's jobs


def run(setting: Setting) -> Record:
    return QueueModel(setting, AdaptiveLimit()).run()


def supply_end(record: Record) -> float:
    """When the last job was accepted: afterwards there is nothing left to keep in flight."""
    return max(record.accepted)


@SAYS
@SEEDS
def test_a_short_run_loses_nothing_by_finding_out(says: str, seed: int) -> None:
    """240 jobs on 16 workers with 20 allowed take at most 1.03 x the time without any loss."""
    setting = Setting(jobs=240, max_jobs=20, says=says, seed=seed)
    record = run(setting)
    assert record.total_s <= 1.03 * ideal_s(setting, 20)
    assert record.peak <= 20


@SAYS
@SEEDS
def test_it_settles_with_a_few_waiting_and_none_idle(says: str, seed: int) -> None:
    """Below a ceiling of 64, 16 workers are kept busy by 18 to 40 jobs."""
    record = run(Setting(jobs=2000, says=says, seed=seed))
    end = supply_end(record)
    assert record.idle_between(10.0, end) <= 0.01 * 16 * (end - 10.0)
    limits = record.limits_between(30.0, end)
    assert min(limits) >= 18
    assert max(limits) <= 40


@SAYS
@SEEDS
def test_few_workers_get_few_jobs(says: str, seed: int) -> None:
    """4 workers are kept busy by 16 jobs at most."""
    record = run(Setting(jobs=400, workers=((0.0, 4),), says=says, seed=seed))
    end = supply_end(record)
    assert max(record.limits_between(0.0, end)) <= 16
    assert record.idle_between(10.0, end) <= 0.01 * 4 * (end - 10.0)


@pytest.mark.parametrize("workers", sampled([1, 8, 48, 2, 12, 24, 33], 3))
@SAYS
def test_no_worker_runs_dry(says: str, workers: int) -> None:
    """Whatever the API's size below the ceiling, its workers have something to do."""
    record = run(Setting(jobs=100 + 60 * workers, workers=((0.0, workers),), says=says))
    end = supply_end(record)
    assert record.idle_between(15.0, end) <= 0.02 * workers * (end - 15.0)


@SAYS
def test_a_queue_that_stands_for_hours_is_not_taken_for_the_api_s_own_delay(says: str) -> None:
    """After four hours with a queue that never empties, the limit has not crept up."""
    record = run(Setting(jobs=8000, workers=((0.0, 4),), sigma=0.05, says=says))
    assert max(record.limits_between(0.0, supply_end(record))) <= 16


@pytest.mark.parametrize("says", ["dates", "states", "working"])
def test_it_is_at_the_ceiling_within_a_few_round_trips(says: str) -> None:
    """With 200 workers, 64 jobs are allowed after three answers to first polls."""
    record = run(Setting(jobs=600, workers=((0.0, 200),), says=says))
    assert record.limit_at(4 * 0.7) >= 64
    assert record.peak == 64


def test_where_the_api_does_not_show_beginnings_a_round_trip_is_a_job() -> None:
    """PENDING until COMPLETE is not taken for a queue: it leads to the ceiling, only later."""
    record = run(Setting(jobs=600, workers=((0.0, 200),), says="waiting"))
    assert record.limit_at(6 * MEAN_S) >= 64


@pytest.mark.parametrize("says", ["dates", "states", "working"])
def test_a_constant_delay_is_no_queue(says: str) -> None:
    """An API that takes 2 s to dispatch each job gets as many as any other."""
    record = run(Setting(jobs=600, workers=((0.0, 200),), dispatch_s=2.0, says=says))
    assert record.limit_at(4 * 3.5) >= 64


@pytest.mark.parametrize("workers", sampled([16, 64], 1))
@SAYS
@SEEDS
def test_throughput_follows_capacity_both_ways(says: str, seed: int, workers: int) -> None:
    """Capacity that drops to a quarter and comes back is used again within a few job times."""
    plan = ((0.0, workers), (150.0, workers // 4), (400.0, workers))
    record = run(Setting(jobs=80 * workers, workers=plan, says=says, seed=seed))
    assert record.idle_between(170.0, 400.0) <= 0.02 * workers / 4 * 230.0
    back_s = 3 * MEAN_S
    assert record.idle_between(400.0, 400.0 + back_s) <= 0.2 * workers * back_s
    # Where the ceiling is as many as there are workers, none waits to take the place of one.
    assert record.idle_between(400.0 + back_s, 480.0) <= 0.06 * workers * (80.0 - back_s)


@SAYS
def test_capacity_that_multiplies_is_doubled_into(says: str) -> None:
    """An API that has long had 4 workers and gets 64 is at the ceiling within three job times."""
    plan = ((0.0, 4), (120.0, 64))
    record = run(Setting(jobs=500, workers=plan, says=says))
    assert record.limit_at(120.0) <= 16
    assert record.limit_at(120.0 + 3 * MEAN_S) >= 64


def test_far_too_many_waiting_are_made_fewer() -> None:
    """Where the API's dates show that most jobs only wait, the limit sinks slowly."""
    record = run(Setting(jobs=1600, workers=((0.0, 64), (60.0, 4)), says="dates"))
    limits = record.limits_between(60.0, supply_end(record))
    assert limits[0] >= 64
    assert limits[-1] <= 40
    falls = [after / min(before, 64) for before, after in itertools.pairwise(limits)]
    assert all(fall >= 0.85 for fall in falls)


@pytest.mark.parametrize(("trouble", "most"), [(0.02, 1.06), (0.05, 1.1)])
@pytest.mark.parametrize(("workers", "max_jobs"), [(16, 20), (200, 64)])
@SEEDS
def test_random_failures_are_no_overload(
    trouble: float, most: float, workers: int, max_jobs: int, seed: int
) -> None:
    """Two or five lost requests in a hundred cost a few per cent of the throughput at most."""
    calm = Setting(jobs=1000, workers=((0.0, workers),), max_jobs=max_jobs, seed=seed)
    troubled = run(dataclasses.replace(calm, trouble=trouble))
    done = int(0.95 * calm.jobs)  # the last ones only show how long the longest took
    assert sorted(troubled.ended)[done] <= most * sorted(run(calm).ended)[done]


@pytest.mark.parametrize("says", ["dates", "states", "working", "waiting"])
@SEEDS
def test_a_limit_on_jobs_is_found_and_remembered(says: str, seed: int) -> None:
    """Where 10 jobs are allowed and more are refused, it stays there and seldom tries."""
    setting = Setting(jobs=1000, workers=((0.0, 200),), refused_at=10, says=says, seed=seed)
    record = run(setting)
    limits = record.limits_between(30.0, supply_end(record))
    assert min(limits) >= 8
    assert max(limits) <= 12
    refused = sum(at > 30.0 for at in record.refused)
    accepted = sum(at > 30.0 for at in record.accepted)
    assert refused <= 0.02 * (refused + accepted)
    assert record.total_s <= 1.1 * sum(setting.durations()) / 10


def test_a_limit_on_jobs_that_is_lifted_is_noticed() -> None:
    """A refused limit is tried again now and then, and then passed."""
    limiter = AdaptiveLimit()
    model = QueueModel(Setting(jobs=3000, workers=((0.0, 200),), refused_at=10), limiter)
    model._at(60.0, lambda: setattr(model, "setting", Setting(workers=((0.0, 200),))))
    record = model.run()
    assert record.limit_at(59.0) <= 12
    assert record.limit_at(240.0) >= 64


@SEEDS
def test_an_api_that_fails_above_16_jobs_gets_about_16(seed: int) -> None:
    """503 above some load: it goes down at once, and then up and down about that load."""
    setting = Setting(jobs=1500, workers=((0.0, 200),), overloaded_at=16, seed=seed)
    record = run(setting)
    limits = record.limits_between(30.0, supply_end(record))
    assert max(limits) <= 24
    assert record.total_s <= 1.25 * sum(setting.durations()) / 16


def test_an_outage_brings_it_down_and_is_forgotten_soon() -> None:
    """A minute in which everything fails ends at a few jobs; ten seconds later it is as before."""
    record = run(Setting(jobs=1500, workers=((0.0, 200),), outage=(50.0, 110.0)))
    before = record.limit_at(50.0)
    assert record.limit_at(52.0) <= before / 2
    assert record.limit_at(109.0) <= 4
    assert record.limit_at(120.0) >= 64


@pytest.mark.parametrize("median_s", sampled([0.05, 7200.0, 0.5, 60.0], 2))
@pytest.mark.parametrize("first_poll_s", sampled([0.5, 5.0], 1))
@SAYS
def test_the_length_of_jobs_does_not_matter(
    median_s: float, first_poll_s: float, says: str
) -> None:
    """Jobs of a blink and of two hours, asked about early or late, take no longer than unpaced."""
    setting = Setting(jobs=640, median_s=median_s, first_poll_s=first_poll_s, says=says)
    unpaced = QueueModel(setting, ConcurrencyLimit()).run()
    assert run(setting).total_s <= 1.03 * unpaced.total_s + 1.0


class Notes:
    """Tells a limiter what is seen of jobs, one by one."""

    def __init__(self) -> None:
        self.limiter = AdaptiveLimit()
        self.now = 1000.0

    def accept(self, count: int) -> list[JobProgress]:
        for _ in range(count):
            self.limiter.on_success(RequestKind.SUBMIT, self.now)
        return [JobProgress(1000, self.now) for _ in range(count)]

    def begin(self, jobs: list[JobProgress], in_flight: int) -> None:
        for job in jobs:
            job.working_at = self.now
            self.limiter.note_job(job, self.now, in_flight=in_flight)

    def end(self, jobs: list[JobProgress]) -> None:
        for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
            job.ended_at = self.now
            job.working_at = job.working_at or self.now
            self.limiter.note_job(job, self.now, in_flight=left)

    def fail(self, count: int, in_flight: int, kind: RequestKind = RequestKind.SUBMIT) -> None:
        for _ in range(count):
            self.limiter.on_error(kind, self.now, in_flight=in_flight)

    def grow_to(self, limit: int) -> list[JobProgress]:
        """Have as many at work."""
        jobs: list[JobProgress] = []
        while True:
            new = self.accept(self.limiter.limit - len(jobs))
            jobs += new
            self.now += 0.5
            if self.limiter.limit >= limit:
                return jobs
            self.begin(new, in_flight=len(jobs))


def test_it_doubles_when_those_submitted_since_have_begun() -> None:
    """The eighth job that is heard to have begun ends the round trip, long before any ends."""
    notes = Notes()
    jobs = notes.accept(8)
    notes.now += 0.5
    notes.begin(jobs[:7], in_flight=8)
    assert notes.limiter.limit == FIRST_LIMIT == 8
    notes.begin(jobs[7:], in_flight=8)
    assert notes.limiter.limit == 16
    more = notes.accept(8)
    notes.now += 0.5
    for job in jobs:  # that they are still at work is no news
        notes.limiter.note_job(job, notes.now, in_flight=16)
    assert notes.limiter.limit == 16
    notes.begin(more, in_flight=16)
    assert notes.limiter.limit == 32


@pytest.mark.parametrize(("used", "limit"), [(4, 8), (6, 8), (7, 14)])
def test_a_limit_that_is_not_used_does_not_grow(used: int, limit: int) -> None:
    """With fewer jobs than allowed it stays as it is, and is never above twice what was used."""
    notes = Notes()
    for _ in range(50):
        jobs = notes.accept(used)
        notes.now += 0.5
        notes.begin(jobs, in_flight=used)
        notes.now += 5.0
        notes.end(jobs)
    assert notes.limiter.limit == limit


def test_what_begins_late_before_any_has_ended_did_not_wait_for_a_worker() -> None:
    """A dispatcher that takes now half a second, now two, does not stop the growth."""
    notes = Notes()
    jobs = notes.accept(8)
    notes.now += 0.5
    notes.begin(jobs[:4], in_flight=8)
    notes.now += 1.5
    for job in jobs[4:]:
        job.waiting_at = notes.now - 0.1
    notes.begin(jobs[4:], in_flight=8)
    assert notes.limiter.limit == 16


def test_many_failures_at_once_are_one_cut() -> None:
    """While the time stands still, nothing is cut twice; the next round trip is cut again."""
    notes = Notes()
    notes.grow_to(64)
    notes.fail(100, in_flight=64)
    assert notes.limiter.limit == 32
    notes.now += 5.0
    notes.fail(100, in_flight=32)
    assert notes.limiter.limit == 16


def test_the_cut_is_in_proportion() -> None:
    """Where a third of the submissions fails, a sixth of the limit goes."""
    notes = Notes()
    notes.grow_to(64)
    before = notes.limiter.limit
    notes.now += 40.0  # the answers of the beginning are forgotten
    for _ in range(20):
        notes.accept(2)
        notes.fail(1, in_flight=before)
    assert 0.7 * before <= notes.limiter.limit <= 0.9 * before


def test_failures_of_one_kind_are_not_hidden_by_another() -> None:
    """That all polls are answered does not excuse that all submissions fail."""
    notes = Notes()
    notes.grow_to(64)
    notes.now += 40.0
    for _ in range(500):
        notes.limiter.on_success(RequestKind.POLL, notes.now)
    notes.fail(5, in_flight=64)
    assert notes.limiter.limit < 64


def test_after_trouble_it_grows_by_steps() -> None:
    """Above where the cut led, an eighth of what was too much is added each round trip."""
    notes = Notes()
    notes.grow_to(64)
    notes.fail(3, in_flight=64)
    limits = [notes.limiter.limit]
    for _ in range(3):
        notes.now += 1.0
        jobs = notes.accept(limits[-1])
        notes.now += 1.0
        notes.begin(jobs, in_flight=limits[-1])
        limits.append(notes.limiter.limit)
        notes.end(jobs)
    assert all(8 <= after - before <= 16 for before, after in itertools.pairwise(limits))


def test_it_doubles_up_to_where_the_first_cut_led() -> None:
    """However far down an outage took it, it is not climbed out of step by step."""
    notes = Notes()
    notes.grow_to(64)
    while notes.limiter.limit > 2:
        notes.now += 60.0
        notes.fail(100, in_flight=notes.limiter.limit)
    limits = []
    for _ in range(6):
        limits.append(notes.limiter.limit)
        notes.now += 1.0
        jobs = notes.accept(limits[-1])
        notes.now += 1.0
        notes.begin(jobs, in_flight=limits[-1])
        notes.end(jobs)
    assert limits == [2, 4, 8, 16, 32, 40]


def test_jobs_of_an_earlier_run_are_not_of_this_round_trip() -> None:
    """Resumed jobs tell how many the API bears, but nothing of its queue or of a job's time."""
    notes = Notes()
    resumed = [JobProgress(1000, notes.now - 7200.0) for _ in range(40)]
    notes.begin(resumed, in_flight=40)
    assert notes.limiter.limit == 40
    notes.now += 1.0
    notes.end(resumed)
    assert notes.limiter.limit == 40
    jobs = notes.accept(40)
    notes.now += 0.5
    notes.begin(jobs, in_flight=40)
    assert notes.limiter.limit == 80


def test_resumed_jobs_do_not_hide_a_queue() -> None:
    """That they took hours, as it seems, does not make a wait of seconds look like nothing."""
    notes = Notes()
    resumed = [JobProgress(1000, notes.now - 7200.0) for _ in range(40)]
    notes.begin(resumed, in_flight=40)
    notes.now += 1.0
    notes.end(resumed)
    jobs = notes.accept(40)
    notes.now += 0.5
    notes.begin(jobs[:5], in_flight=40)
    notes.now += 6.0
    notes.end(jobs[:5])
    for job in jobs[5:]:
        job.waiting_at = notes.now - 0.1
    notes.begin(jobs[5:], in_flight=40)
    assert notes.limiter.limit == 40


def test_after_idleness_it_begins_anew() -> None:
    """An hour after everything had ended in trouble, the limit doubles from 8 again."""
    notes = Notes()
    jobs = notes.grow_to(32)
    for _ in range(20):
        notes.now += 30.0
        notes.fail(20, in_flight=32)
    assert notes.limiter.limit == 1
    notes.end(jobs)
    notes.now += 3600.0
    jobs = notes.accept(1)
    assert notes.limiter.limit == 8
    jobs += notes.accept(7)
    notes.now += 0.5
    notes.begin(jobs, in_flight=8)
    assert notes.limiter.limit == 16


def test_too_many_jobs_are_cut_to_what_passes() -> None:
    """Refusals cut a tenth, once a round trip, and never below one job."""
    notes = Notes()
    notes.grow_to(16)
    for _ in range(10):
        notes.limiter.on_job_limit(notes.now, in_flight=16)
    assert notes.limiter.limit == 14
    for _ in range(50):
        notes.now += 30.0
        notes.limiter.on_job_limit(notes.now, in_flight=1)
    assert notes.limiter.limit == 1


ONE_NOTE = st.tuples(
    st.sampled_from(["accept", "begin", "wait", "end", "answer", "trouble", "too many", "old"]),
    st.sampled_from([0.0, 0.0, 0.01, 0.5, 10.0, 4000.0]),
    st.integers(1, 8),
)


@given(st.lists(ONE_NOTE, max_size=200))
def test_whatever_it_is_told_it_stays_in_bounds(told: list[tuple[str, float, int]]) -> None:
    """In any order of notes the limit is at least 1 and at most about twice what was in flight."""
    notes, jobs, most = Notes(), list[JobProgress](), FIRST_LIMIT
    for what, pause_s, count in told:
        notes.now += pause_s
        if what in {"accept", "old"}:
            new = notes.accept(count * 4)
            if what == "old":
                new = [JobProgress(1000, notes.now - 9000.0) for _ in new]
            jobs += new
        most = max(most, len(jobs))
        if what == "begin":
            notes.begin([job for job in jobs if job.working_at is None][:count], len(jobs))
        elif what == "end":
            notes.end(jobs[:count])
            del jobs[:count]
        elif what == "wait":
            for job in jobs:
                job.waiting_at = notes.now
                notes.limiter.note_job(job, notes.now, in_flight=len(jobs))
        elif what == "answer":
            notes.limiter.on_success(RequestKind.POLL, notes.now)
        elif what == "trouble":
            notes.fail(count, len(jobs))
        elif what == "too many":
            notes.limiter.on_job_limit(notes.now, in_flight=len(jobs))
        assert 1 <= notes.limiter.limit <= 2 * most


def test_its_memory_does_not_grow() -> None:
    """After 4000 jobs it is as small as after 40."""
    sizes = []
    for jobs in (40, 4000):
        limiter = AdaptiveLimit()
        QueueModel(Setting(jobs=jobs, trouble=0.02), limiter).run()
        sizes.append(len(pickle.dumps(limiter)))
    assert sizes[1] <= sizes[0] + 100
