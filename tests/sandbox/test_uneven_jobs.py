"""Jobs of uneven length, counts that grow unevenly, capacity that changes."""

import math
import statistics
from datetime import datetime
from typing import Any

import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.sandbox.caller import Caller, Clock, addresses, calling


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
    """Median and sigma are as set, however the counts grow; another seed differs."""
    served = []
    for seed, progress in ((5, "even"), (5, "uneven"), (6, "even")):
        settings: Any = {"seed": seed, "progress": progress}
        async with calling(
            SandboxServer(clock=clock, job_s=6, job_spread=0.3, **settings)
        ) as caller:
            jobs = [await caller.submit(addresses(1)) for _ in range(200)]
            served.append(await work_times(caller, clock, jobs))
    assert served[0] == pytest.approx(served[1])
    assert served[0] != pytest.approx(served[2])
    assert statistics.median(served[0]) == pytest.approx(6, rel=0.1)
    assert statistics.stdev(map(math.log, served[0])) == pytest.approx(0.3, rel=0.2)


async def test_spread_is_also_by_size(clock: Clock) -> None:
    """Without job_s the factor is on the time that the locations take."""
    async with calling(SandboxServer(clock=clock, locations_per_s=10, job_spread=0.1)) as caller:
        jobs = [await caller.submit(addresses(number)) for number in (10, 100)]
        small_s, large_s = await work_times(caller, clock, jobs)
    assert small_s != pytest.approx(1)
    assert large_s == pytest.approx(10, rel=0.5)


async def seen_counts(clock: Clock, progress: Any) -> list[list[int]]:
    """The counts of ten jobs at work, every quarter of a second."""
    sandbox = SandboxServer(clock=clock, progress=progress, job_s=10, queue_delay_s=0, workers=10)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(100)) for _ in range(10)]
        counts = []
        for _ in range(41):
            answers = [await caller.status(job) for job in jobs]
            counts.append([answer["request"]["num_completed"] for answer in answers])
            clock.advance(0.25)
    return list(map(list, zip(*counts, strict=True)))


async def test_counts_grow_evenly_or_each_in_its_own_way(clock: Clock) -> None:
    """They never fall and are whole at the end only; the same seed does it again."""
    assert await seen_counts(clock, "even") == [[int(step * 2.5) for step in range(41)]] * 10
    uneven = await seen_counts(clock, "uneven")
    assert uneven == await seen_counts(clock, "uneven")
    assert len({tuple(counts) for counts in uneven}) == 10
    for counts in uneven:
        assert counts == sorted(counts)
        assert counts[0] == 0
        assert counts[39] < counts[40] == 100
    half_way = [counts[20] for counts in uneven]
    assert max(half_way) - min(half_way) > 20


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
