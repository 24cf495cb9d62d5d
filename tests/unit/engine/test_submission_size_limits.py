"""An undocumented limit of the size of a job is learnt, and kept to."""

from __future__ import annotations

import pytest

from pingdata_async.engine.submission import SizeLimits
from pingdata_async.engine.task import HalfPair
from pingdata_async.events import ChunkSplit, JobSubmitted
from pingdata_async.exceptions import RequestRejectedError
from pingdata_async.locations.chunk import SEPARATOR, Chunk
from pingdata_async.models import RowStatus
from tests.simulation.faults import Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import check_bookkeeping, run
from tests.support.sweeps import sampled

REFUSED = RequestRejectedError("400: no", status_code=400)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 32], 1))
@pytest.mark.parametrize("limit", sampled([30, 1, 99], 1))
@pytest.mark.parametrize("status", [413, 400])
async def test_a_limit_is_met_a_few_times_and_then_kept_to(
    status: int, limit: int, max_jobs: int
) -> None:
    """Chunks that are not yet sent are split before they are; nobody pays twice."""
    troubles = Troubles(max_locations=limit, too_many_status=status)
    api = SimulatedAPI(troubles=troubles, locations_per_s=5_000.0)
    seen = await run(api, 600, chunk_size=100, max_jobs=max_jobs)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert set(api.counts.submissions.values()) == {1}
    # Down from the first chunk. After a 400 only both halves tell, so that a few others are on
    # their way meanwhile; it is looked into twice, in case it was a whim. After a 413 rows of
    # more digits may be too many bytes once more.
    down = 40 if limit == 1 else 3
    assert troubles.refused_requests <= down + 3 + (8 if status == 400 and max_jobs > 1 else 0)
    check_bookkeeping(seen, api, 600)


@pytest.mark.parametrize("max_jobs", [1, 4])
async def test_one_whim_does_not_make_jobs_small_for_ever(max_jobs: int) -> None:
    """A refusal whose halves pass is tried once more; if it passes, all goes on as before."""
    api = SimulatedAPI(faults=ScriptedFaults({Moment.SUBMIT: [REFUSED]}))
    seen = await run(api, 5_000, chunk_size=100, max_jobs=max_jobs)
    sizes = [event.locations for event in seen.of(JobSubmitted)]
    assert sizes[0] == 50 or max_jobs > 1  # others pass in time, and show that it was a whim
    assert sizes.count(50) <= 2 * (10 + max_jobs)
    assert sizes[-15:] == [100] * 15
    assert len(seen.of(ChunkSplit)) <= 1 + 10 + max_jobs


async def test_a_bad_row_does_not_make_jobs_small() -> None:
    """Where one of the halves is refused too, it was not the size."""
    api = SimulatedAPI(troubles=Troubles(poisoned={5, 950, 951}))
    seen = await run(api, 3_000, chunk_size=100, max_jobs=4)
    sizes = [event.locations for event in seen.of(JobSubmitted)]
    assert sizes.count(100) == 28
    check_bookkeeping(seen, api, 3_000)


async def test_a_413_is_about_bytes() -> None:
    """Long rows make smaller jobs than short ones."""
    long, short = "x" * 400, "y" * 10

    class Narrow(SimulatedAPI):
        async def submit_body(self, body: bytes) -> str:
            if len(body) > 10_000:
                self.refused += 1
                raise RequestRejectedError("413", status_code=413)
            return await super().submit_body(body)

        refused = 0

    api = Narrow()
    rows = [f"{n} {long if n % 400 < 200 else short}" for n in range(2_000)]
    seen = await run(api, rows, chunk_size=100, max_jobs=4)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert max(event.locations for event in seen.of(JobSubmitted)) == 100
    assert api.refused <= 8
    check_bookkeeping(seen, api, 2_000)


def _chunk(rows: int) -> Chunk:
    return Chunk(0, list(range(rows)), [None] * rows, SEPARATOR.join([b"x" * 10] * rows))


def test_one_half_accepted_twice_is_not_both() -> None:
    """What has to be known is that each passed, and larger jobs were not accepted before."""
    limits = SizeLimits()
    limits.note_accepted(_chunk(50), HalfPair(50, 100))
    assert limits.parts_for(_chunk(100)) == 1
    half_pair = HalfPair(50, 100)
    limits.note_accepted(_chunk(50), half_pair)
    limits.note_accepted(_chunk(50), half_pair)
    assert [limits.parts_for(_chunk(rows)) for rows in (50, 51, 100, 101)] == [1, 2, 2, 3]
    larger = SizeLimits()
    larger.note_accepted(_chunk(100), None)
    half_pair = HalfPair(50, 100)
    larger.note_accepted(_chunk(50), half_pair)
    larger.note_accepted(_chunk(50), half_pair)
    assert larger.parts_for(_chunk(100)) == 1
