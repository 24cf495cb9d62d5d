"""Whatever goes wrong on the way, every row comes out exactly once."""

from __future__ import annotations

import anyio
import pytest

from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.models import Reason, RowStatus
from tests.simulation.faults import SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import check_bookkeeping, run
from tests.support.sweeps import sampled

PATIENT = RetryPolicy(
    give_up_after_s=3600.0 * 24,
    first_contact_s=3600.0 * 24,
    max_doubts_in_a_row=50,  # ten happen by chance where two in five answers are lost,
    max_lost_chunks_in_a_row=50,  # and three chunks that are lost so
)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("share", [0.03, 0.1])
@pytest.mark.parametrize("seed", sampled(range(30), 3))
async def test_every_row_exactly_once_whatever_goes_wrong(seed: int, share: float) -> None:
    """Under every fault at once no row is lost or doubled, and the cap holds."""
    api = SimulatedAPI(faults=SeededFaults(seed, share), seed=seed)
    slots = ConcurrencyLimiter()
    seen = await run(api, 203, max_jobs=5, slots=slots.share(5), policy=PATIENT, seed=seed)
    assert seen.rows == list(range(203))
    assert api.counts.peak_in_flight <= 5
    assert not slots._in_flight
    assert not slots._waiting
    check_bookkeeping(seen, api, 203)
    for result in seen.results:
        is_lost = result.reason in {Reason.JOB_FAILED, Reason.IN_DOUBT, Reason.UNREADABLE}
        assert result.status is RowStatus.OK or is_lost


def test_the_same_seed_gives_the_same_run() -> None:
    """A simulated run can be repeated to the millisecond, so that a failure can be studied."""

    async def once() -> list[tuple[float, object]]:
        api = SimulatedAPI(faults=SeededFaults(3, 0.1))
        return [*(await run(api, 200, policy=PATIENT)).events]

    # Each on a loop of its own: timers that are due together run in no certain order.
    first, second = (
        anyio.run(once, backend_options={"loop_factory": VirtualLoop}) for _ in range(2)
    )
    assert len(first) > 100
    assert first == second


async def test_nothing_is_sent_twice_when_nothing_goes_wrong() -> None:
    """One job a chunk, one submission a location, and the cap is really used."""
    api = SimulatedAPI(workers=8, locations_per_s=5.0)
    seen = await run(api, 1_000, max_jobs=7)
    assert seen.rows == list(range(1_000))
    assert set(api.counts.submissions.values()) == {1}
    assert api.counts.jobs == 100
    assert api.counts.peak_in_flight == 7
