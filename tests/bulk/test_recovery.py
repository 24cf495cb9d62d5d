"""Whatever goes wrong on the way, every row comes out exactly once."""

from __future__ import annotations

from collections import Counter

import pytest

from pingdata_async.bulk.pacing import JobSlots
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.events import ChunkFinished, JobSubmitted, SubmissionInDoubt
from pingdata_async.models import Reason, RowStatus
from tests.bulk.harness import Observed, run
from tests.simulation.faults import SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop

PATIENT = RetryPolicy(give_up_after_s=3600.0 * 24, first_contact_s=3600.0 * 24)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("share", [0.03, 0.1])
@pytest.mark.parametrize("seed", range(30))
async def test_every_row_exactly_once_whatever_goes_wrong(seed: int, share: float) -> None:
    """Under every fault at once no row is lost or doubled, and the cap holds."""
    api = SimulatedAPI(faults=SeededFaults(seed, share), seed=seed)
    slots = JobSlots()
    seen = await run(api, 203, max_jobs=5, slots=slots.share(5), policy=PATIENT, seed=seed)
    assert seen.rows == list(range(203))
    assert api.counts.peak_in_flight <= 5
    assert not slots._in_flight
    assert not slots._waiting
    _check_bookkeeping(seen, api)


def _check_bookkeeping(seen: Observed, api: SimulatedAPI) -> None:
    """The events tell of every location that was, or may have been, paid for."""
    told = Counter[str]()
    for event in seen.of(JobSubmitted):
        told.update(str(row) for row in range(event.chunk * 10, min(203, event.chunk * 10 + 10)))
    lost = Counter[str]()
    for doubt in seen.of(SubmissionInDoubt):
        lost.update(str(row) for row in range(doubt.chunk * 10, min(203, doubt.chunk * 10 + 10)))
    for row, accepted in api.counts.submissions.items():
        assert told[row] <= accepted <= told[row] + lost[row]
    assert len(seen.of(JobSubmitted)) == api.counts.jobs - api.counts.ghosts
    assert sum(event.rows for event in seen.of(ChunkFinished)) == 203
    for result in seen.results:
        is_lost = result.reason in {Reason.JOB_FAILED, Reason.IN_DOUBT}
        assert result.status is RowStatus.OK or is_lost


async def test_the_same_seed_gives_the_same_run() -> None:
    """A simulated run can be repeated to the millisecond, so that a failure can be studied."""
    runs = [
        await run(SimulatedAPI(faults=SeededFaults(3, 0.1)), 200, policy=PATIENT) for _ in range(2)
    ]
    began = [seen.events[0][0] for seen in runs]
    first, second = (
        [(round(at - start, 6), event) for at, event in seen.events]
        for seen, start in zip(runs, began, strict=True)
    )
    assert first == second


async def test_nothing_is_sent_twice_when_nothing_goes_wrong() -> None:
    """One job a chunk, one submission a location, and the cap is really used."""
    api = SimulatedAPI(workers=8, locations_per_s=5.0)
    seen = await run(api, 1_000, max_jobs=7)
    assert seen.rows == list(range(1_000))
    assert set(api.counts.submissions.values()) == {1}
    assert api.counts.jobs == 100
    assert api.counts.peak_in_flight == 7
