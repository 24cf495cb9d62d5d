"""Everything that can go wrong, at once: every row comes out once, and nothing gets stuck."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import PingDataError
from pingdata_async.models import Reason, RowStatus
from tests.simulation.faults import SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers, Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled

ROWS = 300
LONG_S = 3600.0 * 24


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("seed", sampled(range(100), 2))
async def test_everything_at_once(seed: int) -> None:
    """Faults, bad rows, a limit, holes in answers, any sizes: all rows once, all slots free."""
    rng = random.Random(seed)
    poisoned = set(rng.sample(range(ROWS), rng.choice((0, 3, 10))))
    for_jobs = set(rng.sample(range(ROWS), rng.choice((0, 1, 3))))
    troubles = Troubles(
        poisoned=poisoned,
        poisoned_for_jobs=for_jobs,
        max_locations=rng.choice((None, 7, 15)),
        too_many_status=rng.choice((400, 413)),
    )
    kinds = ("left_out", "passing", "twice", "foreign")
    holes: dict[str, Any] = {kind: rng.choice((0.0, 0.05)) for kind in kinds}
    api = SimulatedAPI(
        faults=SeededFaults(seed, rng.choice((0.0, 0.02, 0.05))),
        troubles=troubles,
        outputs=SpottyAnswers(seed=seed, source_left_out=rng.choice((0.0, 0.05)), **holes),
        seed=seed,
    )
    max_jobs = rng.choice((1, 2, 5, 40))
    seen = Observed(is_durable=rng.random() < 0.5)
    slots = ConcurrencyLimiter()
    policy = RetryPolicy(
        give_up_after_s=LONG_S,
        first_contact_s=LONG_S,
        # Nothing is wrong with this API as such, however it looks.
        max_doubts_in_a_row=1_000,
        max_failed_jobs_in_a_row=1_000,
        max_lost_chunks_in_a_row=1_000,
        max_refusals_in_a_row=1_000,
    )
    await run(
        api,
        ROWS,
        chunk_size=rng.choice((1, 5, 20, 64)),
        sources=("PG", "PH"),
        slots=slots.share(max_jobs),
        observed=seen,
        policy=policy,
        seed=seed,
    )
    check_bookkeeping(seen, api, ROWS)
    assert api.counts.peak_in_flight <= max_jobs
    assert not slots._in_flight
    assert not slots._waiting
    bad = {result.row: result.reason for result in seen.results if result.reason}
    assert bad.keys() >= poisoned
    assert {bad[row] for row in poisoned} <= {Reason.REJECTED, Reason.IN_DOUBT, Reason.JOB_FAILED}
    assert api.counts.submissions.keys().isdisjoint(map(str, poisoned))
    for row in bad.keys() - poisoned - for_jobs:
        assert bad[row] is not Reason.REJECTED
    assert len(bad.keys() - poisoned - for_jobs) <= 64 + 20  # a chunk in doubt, at the worst


@pytest.mark.parametrize("max_jobs", sampled([3, 1], 1))
@pytest.mark.parametrize("seed", sampled(range(6), 1))
async def test_with_the_usual_patience_it_ends_too(seed: int, max_jobs: int) -> None:
    """One way or the other: with every row, or with an error and what was paid for so far."""
    rng = random.Random(seed)
    api = SimulatedAPI(
        faults=SeededFaults(seed, 0.08),
        troubles=Troubles(
            poisoned=set(rng.sample(range(ROWS), 60)),
            poisoned_for_jobs=set(rng.sample(range(ROWS), 20)),
        ),
        outputs=SpottyAnswers(seed=seed, left_out=0.2, passing=0.2, twice=0.2),
        seed=seed,
    )
    seen = Observed()
    slots = ConcurrencyLimiter()
    try:
        with anyio.fail_after(LONG_S * 7):
            await run(api, ROWS, chunk_size=11, slots=slots.share(max_jobs), observed=seen)
    except PingDataError:
        check_bookkeeping(seen, api)
    else:
        check_bookkeeping(seen, api, ROWS)
    assert not slots._in_flight
    for result in seen.results:
        assert result.status is not RowStatus.OK or str(result.row) in api.counts.submissions
