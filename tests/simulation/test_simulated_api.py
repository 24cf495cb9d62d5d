"""The simulated API is as uneven as it is told to be, and counts what it is asked."""

from __future__ import annotations

import math
import random

import anyio
import pytest

from pingdata_async.exceptions import (
    NotFoundError,
    PingDataError,
    RateLimitError,
    ServerError,
    TransportError,
)
from pingdata_async.models import JobStatus
from tests.simulation.faults import Moment
from tests.simulation.limits import Limits, Outage
from tests.simulation.profiles import Progress, Telling
from tests.simulation.queueing import Work, ideal_s
from tests.simulation.records import Records
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import START_S, VirtualLoop
from tests.support.engine_harness import check_bookkeeping, run
from tests.support.sweeps import sampled

BODY = b'{"locations":[{"id":"1"},{"id":"2"},{"id":"3"},{"id":"4"}],"sources":["PG"]}'


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def test_jobs_wait_then_work_then_end() -> None:
    """What is said of a job: waiting, at work with counts, done; each with its date."""
    telling = Telling(waiting="QUEUED", progress=Progress.STEPS, dates=True, clock_s=-START_S)
    work = Work(workers=1, locations_per_s=0.4)  # 10 s a job
    api = SimulatedAPI(work=work, telling=telling, latency_s=0.0)
    first, second = await api.submit_body(BODY), await api.submit_body(BODY)
    await anyio.sleep(6)
    working, waiting = await api.status(first), await api.status(second)
    assert (working.status, working.num_requested, working.num_completed) == ("IN_PROGRESS", 4, 2)
    assert (waiting.status, waiting.num_completed) == ("QUEUED", 0)
    assert waiting.progress_started_at is None
    assert waiting.requested_at == "1970-01-01T00:00:00Z"
    await anyio.sleep(15)
    done = await api.status(second)
    assert (done.status, done.num_completed) == ("COMPLETE", 4)
    assert done.progress_started_at == "1970-01-01T00:00:10Z"
    assert done.completed_at == "1970-01-01T00:00:20Z"


@pytest.mark.parametrize("progress", Progress)
def test_progress_only_grows(progress: Progress) -> None:
    counts = [progress.completed(share / 100, 1000, 7) for share in range(100)]
    if progress is Progress.NONE:
        assert set(counts) == {None}
    else:
        numbers = [count for count in counts if count is not None]
        assert numbers == sorted(numbers)
        assert 0 <= numbers[0] <= numbers[-1] <= 1000


async def test_workers_come_and_go() -> None:
    """Fewer workers from a time on: those at work finish, and no other takes their place."""
    work = Work(workers=4, locations_per_s=0.4, changes=((5.0, 1), (35.0, 4)))
    api = SimulatedAPI(work=work, latency_s=0.0)
    for _ in range(10):
        await api.submit_body(BODY)
    await anyio.sleep(100)
    await api.status("job-9")
    ends = [round(job.ends_at - START_S) for job in api.jobs.values()]
    assert ends == [10, 10, 10, 10, 20, 30, 40, 45, 45, 45]
    assert ideal_s(work, jobs=10, locations=4, max_jobs=10) == 45
    assert ideal_s(work, jobs=10, locations=4, max_jobs=1) == 100


def test_lengths_spread_by_seed() -> None:
    """Lognormal, the mean as without a spread, and the same for the same seed."""
    work = Work(locations_per_s=10.0, sigma=0.5)
    lengths = [work.length_s(number, 100, 3) for number in range(4000)]
    assert lengths[:9] == [work.length_s(number, 100, 3) for number in range(9)]
    assert sum(lengths) / len(lengths) == pytest.approx(10.0, rel=0.03)
    logs = [math.log(length) for length in lengths]
    mean = sum(logs) / len(logs)
    spread = math.sqrt(sum((each - mean) ** 2 for each in logs) / len(logs))
    assert spread == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("window_s", [0.0, 1.0])
async def test_too_many_requests(window_s: float) -> None:
    """More than the limit allows in a second are refused with the time to wait."""
    limits = Limits(requests_per_s=30, window_s=window_s, retry_after_s=1.0)
    records = Records()
    api = SimulatedAPI(limits=limits, latency_s=0.0, records=records)
    outcomes = []
    for _ in range(4):
        for _ in range(100):
            outcomes.append(await _outcome(api))  # noqa: PERF401 - one after the other
        await anyio.sleep(1)
    assert outcomes.count(RateLimitError) == 400 - 120
    assert records.refused[Moment.POLL] == 280
    assert records.refused_share == pytest.approx(0.7)
    assert len(records.breaches) == 70 - 1 + 69 * 3


async def _outcome(api: SimulatedAPI, job_id: str = "job-0") -> type[PingDataError] | JobStatus:
    try:
        return await api.status(job_id)
    except PingDataError as error:
        return type(error)


async def test_too_many_jobs() -> None:
    """A submission above the cap is refused until a job has ended."""
    api = SimulatedAPI(
        work=Work(workers=1, locations_per_s=0.4),
        limits=Limits(max_in_flight=2, too_many_status=503),
        latency_s=0.0,
    )
    await api.submit_body(BODY)
    await api.submit_body(BODY)
    with pytest.raises(ServerError):
        await api.submit_body(BODY)
    await anyio.sleep(10)
    await api.submit_body(BODY)


async def test_outages() -> None:
    """Some kinds of requests fail for a while, and then no more."""
    outage = Outage(begins_s=10, ends_s=20, has_connection=False, moments={Moment.POLL})
    api = SimulatedAPI(latency_s=0.0, outages=[outage])
    outcomes = []
    for _ in range(5):
        outcomes.append(await _outcome(api))
        await anyio.sleep(5)
    expected = [NotFoundError, NotFoundError, TransportError, TransportError, NotFoundError]
    assert outcomes == expected


async def test_a_503_holds_back_its_own_kind_and_a_429_all() -> None:
    """What counts as a request that was sent too early."""
    limits = Limits(max_in_flight=0, too_many_status=503, too_many_retry_after_s=9.0)
    records = Records()
    api = SimulatedAPI(limits=limits, latency_s=0.0, records=records)
    with pytest.raises(ServerError):
        await api.submit_body(BODY)
    await _outcome(api)
    assert not records.breaches
    with pytest.raises(ServerError):
        await api.submit_body(BODY)
    assert [(each.moment, each.status_code) for each in records.breaches] == [(Moment.SUBMIT, 503)]


@pytest.mark.parametrize("seed", sampled(range(20), 5))
async def test_a_runner_gets_through_an_uneven_api(seed: int) -> None:
    """All of it at once: every row comes out, and the records agree with the counts."""
    rng = random.Random(seed)
    records = Records()
    api = SimulatedAPI(
        work=Work(workers=3, locations_per_s=5, overhead_s=1, sigma=0.7, changes=((60, 1),)),
        telling=Telling(waiting="PENDING", progress=rng.choice(list(Progress)), dates=True),
        limits=Limits(requests_per_s=rng.choice((2, 10)), max_in_flight=rng.choice((None, 3))),
        outages=[Outage(begins_s=rng.uniform(0, 60), ends_s=90)],
        records=records,
        seed=seed,
    )
    seen = await run(api, 200, max_jobs=6, seed=seed)
    check_bookkeeping(seen, api, 200)
    assert len(records.jobs) == api.counts.jobs == 20
    assert len(records.requests) == api.counts.requests.total()
    assert all(0 <= each.lag_s < 150 for each in records.jobs.values())
    assert {each.outcome for each in records.requests} <= {"ok", "429", "503"}
