"""Jobs that make no progress: warned about, and given up where the user says so."""

from __future__ import annotations

import anyio
import pytest

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import JobAbandoned, JobStalled, JobSubmitted
from pingdata_async.exceptions import JobTimeoutError
from pingdata_async.models import JobStatus, Reason, RowStatus
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


class _Stalls(SimulatedAPI):
    """Some jobs stand still for a while, in one state, with one count."""

    def __init__(self, *jobs: str, status: str = "IN_PROGRESS", until_s: float = 1e9) -> None:
        super().__init__()
        self._stalled = jobs
        self._said = JobStatus(status=status, num_requested=10, num_completed=3)
        self._until = anyio.current_time() + until_s

    async def status(self, job_id: str) -> JobStatus:
        status = await super().status(job_id)
        if job_id in self._stalled and anyio.current_time() < self._until:
            return self._said
        return status


async def test_a_job_without_progress_is_given_up_and_sent_again() -> None:
    """After the time-out its rows are in another job, and counted as charged twice."""
    api = _Stalls("job-2")
    began = anyio.current_time()
    seen = await run(api, 50, policy=RetryPolicy(job_timeout_s=60.0))
    check_bookkeeping(seen, api, 50)
    (abandoned,) = seen.of(JobAbandoned)
    assert abandoned.job_id == "job-2"
    assert "made no progress for 6" in abandoned.error
    assert [event.charged_before for event in seen.of(JobSubmitted)].count(True) == 1
    assert 60.0 <= anyio.current_time() - began <= 100.0
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_job_that_was_given_up_keeps_its_slot_for_a_while() -> None:
    """It may be at work all the same: its rows are not sent while it counts as in flight."""
    api = _Stalls("job-2")
    policy = RetryPolicy(job_timeout_s=100.0)
    seen = await run(api, 50, max_jobs=1, policy=policy)
    check_bookkeeping(seen, api, 50)
    (given_up_at,) = seen.times(JobAbandoned)
    next_at = min(at for at in seen.times(JobSubmitted) if at > given_up_at)
    assert 100.0 <= next_at - given_up_at <= 900.0


async def test_where_every_job_of_a_chunk_stands_still_its_rows_fail() -> None:
    """Given up as often as a job may fail, and then in halves, others are not touched."""
    api = _Stalls(*[f"job-{n}" for n in range(1, 5)])
    policy = RetryPolicy(job_timeout_s=60.0, max_failed_jobs_in_a_row=100)
    seen = await run(api, 11, chunk_size=1, max_jobs=1, policy=policy)
    failed = [result for result in seen.results if result.reason is Reason.JOB_FAILED]
    assert [result.row for result in failed] == [1, 2]
    assert all("made no progress" in (result.error or "") for result in failed)


async def test_a_run_of_nothing_but_stalled_jobs_stops() -> None:
    """It does not pay for job after job that never ends; the error says what it was."""
    api = _Stalls(*[f"job-{n}" for n in range(100)])
    with pytest.raises(JobTimeoutError, match="made no progress"):
        await run(api, 1000, policy=RetryPolicy(job_timeout_s=60.0))
    assert api.counts.jobs <= 15


@pytest.mark.parametrize("status", sampled(["PENDING", "QUEUED"], 1))
async def test_time_in_a_queue_does_not_count(status: str) -> None:
    """A job may wait for 15 minutes before it begins, and is neither given up nor warned about."""
    api = _Stalls("job-1", status=status, until_s=900.0)
    seen = await run(api, 30, policy=RetryPolicy(job_timeout_s=60.0))
    assert api.counts.jobs == 3
    assert not seen.of(JobStalled)
    assert len(seen.rows) == 30


async def test_without_a_time_out_a_stalled_job_is_warned_about_by_id() -> None:
    """It is asked about for as long as it takes; each warning comes after twice the time."""
    seen = Observed()
    began = anyio.current_time()
    await run(_Stalls("job-1", until_s=7200.0), 30, observed=seen)
    warned = seen.of(JobStalled)
    assert {event.job_id for event in warned} == {"job-1"}
    assert 3 <= len(warned) <= 5
    assert 300.0 <= warned[0].idle_s <= 360.0
    assert anyio.current_time() - began >= 7200.0
    assert len(seen.rows) == 30
