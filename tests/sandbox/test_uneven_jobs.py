"""Jobs of uneven length, counts that grow unevenly, capacity that changes."""

import itertools
import math
import statistics
from datetime import datetime
from typing import Any, get_args

import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.sandbox.jobs import ThroughputModel
from pingdata_async.sandbox.settings import Progress, SandboxSettings
from tests.sandbox.caller import Caller, Clock, addresses, calling


def model(**settings: Any) -> ThroughputModel:
    return ThroughputModel(SandboxSettings(**settings))


async def states(caller: Caller, jobs: list[str]) -> list[str]:
    return [(await caller.status(job))["request"]["status"] for job in jobs]


async def work_times(caller: Caller, clock: Clock, jobs: list[str]) -> list[float]:
    clock.advance(2000)
    answers = [await caller.status(job) for job in jobs]
    return [answer["result"]["total_processing_time"] for answer in answers]


async def test_job_s_makes_jobs_of_any_size_equally_long(clock: Clock) -> None:
    """With job_s the number of locations does not matter."""
    async with calling(SandboxServer(clock=clock, job_s=6, queue_delay_s=0)) as caller:
        jobs = [await caller.submit(addresses(number)) for number in (1, 200)]
        clock.advance(5.99)
        assert await states(caller, jobs) == ["IN_PROGRESS"] * 2
        clock.advance(0.01)
        assert await states(caller, jobs) == ["COMPLETE"] * 2


async def test_spread_is_lognormal_with_median_1_and_seeded(clock: Clock) -> None:
    """The served times are those that ThroughputModel foretells; median and sigma are as set."""
    sandbox = SandboxServer(clock=clock, job_s=6, job_spread=0.3, seed=5, workers=1)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(10)]
        served = await work_times(caller, clock, jobs)
    paces = model(locations_per_s=1, job_s=6, job_spread=0.3, seed=5)
    drawn = [paces.draw(1).work_s for _ in range(4000)]
    assert served == pytest.approx(drawn[:10], abs=1e-6)
    assert statistics.median(drawn) == pytest.approx(6, rel=0.02)
    assert statistics.stdev(map(math.log, drawn)) == pytest.approx(0.3, rel=0.05)


async def test_spread_is_also_by_size(clock: Clock) -> None:
    """Without job_s the factor is on the time that the locations take; another seed differs."""
    times = []
    for seed in (1, 1, 2):
        sandbox = SandboxServer(clock=clock, locations_per_s=10, job_spread=0.5, seed=seed)
        async with calling(sandbox) as caller:
            jobs = [await caller.submit(addresses(number)) for number in (10, 100)]
            times.append(await work_times(caller, clock, jobs))
    assert times[0] == times[1] != times[2]
    paces = model(locations_per_s=10, job_spread=0.5, seed=2)
    assert times[2] == pytest.approx([paces.draw(10).work_s, paces.draw(100).work_s], abs=1e-6)
    assert times[2][0] != pytest.approx(1)


def test_progress_does_not_change_how_long_jobs_take() -> None:
    """Both are drawn from the seed, each on its own."""
    even, uneven = (
        model(locations_per_s=1, job_spread=0.5, progress=progress)
        for progress in ("even", "uneven")
    )
    for _ in range(20):
        assert even.draw(9).work_s == uneven.draw(9).work_s


@pytest.mark.parametrize("progress", get_args(Progress))
def test_no_progress_falls_or_is_whole_too_early(progress: Progress) -> None:
    """Of 200 jobs of each kind, the share grows from 0 and stays below 1 before the end."""
    paces = model(locations_per_s=1, progress=progress)
    for _ in range(200):
        curve = paces.draw(100).curve
        if curve is None:
            assert progress == "even"
            continue
        shares = [curve.done(step / 1000) for step in range(1000)]
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert shares[-1] < 1


async def seen_counts(clock: Clock, progress: Progress, seed: int = 0) -> list[int]:
    sandbox = SandboxServer(clock=clock, progress=progress, job_s=10, queue_delay_s=0, seed=seed)
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(100))
        counts = []
        for _ in range(41):
            counts.append((await caller.status(job_id))["request"]["num_completed"])
            clock.advance(0.25)
    return counts


async def test_each_kind_of_progress_looks_as_it_is_called(clock: Clock) -> None:
    """Over a socket: a stall is flat at the end, a fast start is ahead, steps are few."""
    stall = await seen_counts(clock, "stall")
    assert 85 <= stall[32] == stall[39] < stall[40] == 100
    fast = await seen_counts(clock, "fast_start")
    assert fast[12] >= 50
    steps = await seen_counts(clock, "steps")
    assert 4 <= len(set(steps)) <= 11
    rises = [after - before for before, after in itertools.pairwise(steps[:-1])]
    assert all(rise == 0 or 9 <= rise <= 26 for rise in rises)
    batches = await seen_counts(clock, "batches")
    assert 4 <= len(set(batches)) <= 9
    even = await seen_counts(clock, "even")
    assert even == [int(step * 2.5) for step in range(41)]


async def test_uneven_progress_mixes_the_kinds_and_is_seeded(clock: Clock) -> None:
    """Jobs of one sandbox grow differently; the same seed does it again."""
    runs = []
    for _ in range(2):
        sandbox = SandboxServer(
            clock=clock, progress="uneven", job_s=10, queue_delay_s=0, workers=20, seed=1
        )
        async with calling(sandbox) as caller:
            jobs = [await caller.submit(addresses(100)) for _ in range(20)]
            clock.advance(3)
            answers = [await caller.status(job) for job in jobs]
            runs.append([answer["request"]["num_completed"] for answer in answers])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 10


async def test_dates_can_be_left_out(clock: Clock) -> None:
    """dates=False makes all three null, at the end as well."""
    async with calling(SandboxServer(clock=clock, dates=False)) as caller:
        job_id = await caller.submit(addresses(1))
        clock.advance(100)
        request = (await caller.status(job_id))["request"]
        names = ("requested_at", "progress_started_at", "completed_at")
        assert [request[name] for name in names] == [None, None, None]
        assert request["status"] == "COMPLETE"


async def test_more_workers_take_waiting_jobs_at_once(clock: Clock) -> None:
    """The schedule lets jobs start that would have had to wait, from that moment on."""
    sandbox = SandboxServer(
        clock=clock, workers=1, worker_schedule=[(4, 3)], job_s=10, queue_delay_s=0
    )
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(4)]
        clock.advance(3.9)
        assert await states(caller, jobs) == ["IN_PROGRESS", "QUEUED", "QUEUED", "QUEUED"]
        clock.advance(0.1)
        assert await states(caller, jobs) == ["IN_PROGRESS"] * 3 + ["QUEUED"]
        clock.advance(6)
        assert await states(caller, jobs) == ["COMPLETE"] + ["IN_PROGRESS"] * 3
        clock.advance(4)
        assert await states(caller, jobs) == ["COMPLETE"] * 3 + ["IN_PROGRESS"]
        assert sandbox.stats.jobs_in_flight == 1


async def test_fewer_workers_end_what_they_have(clock: Clock) -> None:
    """Jobs at work are finished in their time; afterwards only that many are taken."""
    sandbox = SandboxServer(
        clock=clock,
        workers=4,
        worker_schedule=[(5, 1), (40, 4)],
        locations_per_s=1,
        queue_delay_s=0,
    )
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(number)) for number in (10, 20, 30, 40, 10, 10)]
        clock.advance(39.9)
        assert await states(caller, jobs) == ["COMPLETE"] * 3 + ["IN_PROGRESS", "QUEUED", "QUEUED"]
        clock.advance(0.1)
        late = await caller.submit(addresses(10))
        clock.advance(9.9)
        assert await states(caller, [*jobs[4:], late]) == ["IN_PROGRESS"] * 3
        clock.advance(0.1)
        assert await states(caller, [*jobs[4:], late]) == ["COMPLETE"] * 3
        assert sandbox.stats.jobs_in_flight == 0


async def test_a_schedule_changes_the_workers_at_its_times(clock: Clock) -> None:
    """The changes happen at their times though nobody asks then."""
    sandbox = SandboxServer(
        clock=clock,
        wall_clock=lambda: 0.0,
        workers=4,
        worker_schedule=[(5, 1), (35, 2)],
        job_s=10,
        queue_delay_s=0,
    )
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(12)]
        clock.advance(1000)
        dates = [(await caller.status(job))["request"]["completed_at"] for job in jobs]
    ends = [datetime.fromisoformat(date).timestamp() for date in dates]
    assert ends == [10, 10, 10, 10, 20, 30, 40, 45, 50, 55, 60, 65]


async def test_changes_do_not_bring_back_what_is_forgotten(clock: Clock) -> None:
    """Jobs that get lost before a worker takes them stay lost when the workers change."""
    plan = FaultPlan(lost_job=1)
    sandbox = SandboxServer(
        clock=clock, workers=2, worker_schedule=[(151, 1)], job_s=10, faults=plan
    )
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(60)]
        clock.advance(150)

        async def known() -> set[str]:
            return {
                job
                for job in jobs
                if (await caller.get(f"/api/v1/bulk_enhance/{job}")).status == 200
            }

        before = await known()
        clock.advance(1)
        assert await known() <= before
        assert 0 < len(before) < 60
