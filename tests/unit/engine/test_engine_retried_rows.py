"""Rows and sources that may be answered another time are asked for again, and only those."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import ChunkFinished, JobSubmitted, LocationsAskedAgain
from pingdata_async.exceptions import JobFailedError
from pingdata_async.models import Reason, RowStatus
from tests.simulation.queueing import SimulatedJob
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled

TWO = ("PG", "PH")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def ask(
    answers: SpottyAnswers, rows: int = 1_000, **settings: Any
) -> tuple[Observed, SimulatedAPI]:
    api = SimulatedAPI(outputs=answers, locations_per_s=1_000.0)
    seen = await run(api, rows, chunk_size=100, sources=TWO, **settings)
    check_bookkeeping(seen, api, rows)
    for result in seen.results:
        data = msgspec.json.decode(result.data)
        assert {source.get("row", result.row) for source in data.values()} <= {result.row}
    return seen, api


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 32], 1))
@pytest.mark.parametrize(
    "what", [{"left_out": 0.02}, {"source_left_out": 0.01}, {"passing": 0.01}], ids=str
)
async def test_few_are_asked_for_again_together(what: dict[str, Any], max_jobs: int) -> None:
    """One in fifty rows of ten chunks: a few jobs more, of only those rows; all are answered."""
    seen, api = await ask(SpottyAnswers(seed=1, **what), max_jobs=max_jobs)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    again = seen.of(LocationsAskedAgain)
    assert 1 <= len(again) <= 2 + min(max_jobs, 10)
    assert api.counts.jobs == 10 + len(again)
    assert sum(event.locations for event in again) < 80
    assert sum(event.asked_again for event in seen.of(ChunkFinished)) == sum(
        event.locations for event in again
    )
    assert {event.charged_before for event in seen.of(JobSubmitted)[:10] if event.chunk < 10} == {
        False
    }
    assert all(event.charged_before for event in seen.of(JobSubmitted) if event.chunk >= 1_000)


async def test_a_slow_input_does_not_keep_them_waiting() -> None:
    """Rows are asked about again before long, also where no chunk ever joins them."""

    async def slowly() -> AsyncIterator[str]:
        for n in range(30):
            if n == 20:
                await anyio.sleep(36_000)
            yield f"{n} Main St"

    class Spotty(SpottyAnswers):
        def __call__(self, job: SimulatedJob) -> list[bytes]:
            self.left_out = 0.5 if job.number == 0 else 0.0
            return super().__call__(job)

    api = SimulatedAPI(outputs=Spotty())
    began = anyio.current_time()
    seen = await run(api, slowly(), chunk_size=10, max_jobs=4)
    check_bookkeeping(seen, api, 30)
    (asked,) = seen.times(LocationsAskedAgain)
    assert 30 <= asked - began <= 60


async def test_only_the_sources_that_failed_are_asked_again() -> None:
    """And what the others said before stays."""
    answers = SpottyAnswers(seed=5, passing=0.1)
    seen, _ = await ask(answers)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    times = {
        row: (answers.asked[row, "PG"], answers.asked[row, "PH"])
        for row in range(1_000)
        if answers.asked[row, "PG"] + answers.asked[row, "PH"] > 2
    }
    assert len(times) > 100
    assert sum(1 in both for both in times.values()) > 0.8 * len(times)
    for result in seen.results:
        assert list(msgspec.json.decode(result.data)) in (["PG", "PH"], ["PH", "PG"])


async def test_what_lasts_is_not_asked_again() -> None:
    """No match is an answer."""
    lasting = {(row, "PH") for row in range(0, 1_000, 3)}
    seen, api = await ask(SpottyAnswers(lasting=lasting))
    assert api.counts.jobs == 10
    assert not seen.of(LocationsAskedAgain)
    assert sum(result.status is RowStatus.PARTIAL for result in seen.results) == len(lasting)


@pytest.mark.parametrize("attempts", [0, 1, 3])
async def test_in_the_end_a_row_comes_out_with_its_reason(attempts: int) -> None:
    """After `location_retries` more jobs it is what it is; its good source is kept."""
    always = {(5, "PH"): 504, (250, "PH"): 503, (251, "PG"): 429, (7, "PG"): 500, (7, "PH"): 504}
    answers = SpottyAnswers(always=always, lasting={(5, "PG")})
    seen, _ = await ask(answers, policy=RetryPolicy(location_retries=attempts))
    by_row = {result.row: result for result in seen.results if result.reason}
    assert {row: result.reason for row, result in by_row.items()} == {
        5: Reason.TIME_OUT,
        250: Reason.SOURCE_ERROR,
        251: Reason.SOURCE_ERROR,
        7: Reason.TIME_OUT,
    }
    assert {row: result.status for row, result in by_row.items()} == {
        5: RowStatus.FAILED,
        250: RowStatus.PARTIAL,
        251: RowStatus.PARTIAL,
        7: RowStatus.FAILED,
    }
    assert by_row[250]["PG"].is_success
    assert answers.asked[250, "PH"] == 1 + attempts
    assert answers.asked[250, "PG"] == answers.asked[5, "PG"] == 1


async def test_a_location_with_sources_of_its_own_keeps_them() -> None:
    """It is judged by those, and asked again for those of them that failed."""
    rows = [{"address": f"{n} Main St", "sources": ["LB", "PG"]} for n in range(300)]
    answers = SpottyAnswers(seed=3, passing=0.2)
    api = SimulatedAPI(outputs=answers)
    seen = await run(api, rows, chunk_size=50)
    check_bookkeeping(seen, api, 300)
    assert {code for _, code in answers.asked} == {"LB", "PG"}
    answered = [result for result in seen.results if result.status is RowStatus.OK]
    assert len(answered) > 290
    assert all(set(msgspec.json.decode(result.data)) == {"LB", "PG"} for result in answered)


@pytest.mark.parametrize("seed", range(5))
async def test_foreign_and_doubled_ids_do_no_harm(seed: int) -> None:
    """A row that is there twice, and differently, is asked again; a stranger comes nowhere."""
    answers = SpottyAnswers(seed=seed, foreign=0.5, twice=0.5)
    seen, _ = await ask(answers, rows=500)
    assert {result.status for result in seen.results} == {RowStatus.OK}


@pytest.mark.parametrize("max_jobs", [1, 8])
async def test_outputs_that_hold_nothing_are_soon_enough(max_jobs: int) -> None:
    """Where every job is charged and none gives an answer, few are."""
    api = SimulatedAPI(outputs=lambda _job: [b"{}"])
    with pytest.raises(JobFailedError, match="none of its locations"):
        await run(api, 10_000, chunk_size=10, max_jobs=max_jobs)
    assert api.counts.jobs <= 10 + 2 * max_jobs


@pytest.mark.parametrize(
    ("rows", "chunk_size", "max_jobs"),
    sampled([(20, 1, 4), (4_000, 20, 8), (20_000, 100, 32)], 1),
)
async def test_rows_that_are_always_left_out_do_not_stop_a_run(
    rows: int, chunk_size: int, max_jobs: int
) -> None:
    """Asked again together they come back empty, which says nothing about the API."""
    gone = {str(row) for row in range(rows) if row % 20 > 17}

    def output(job: SimulatedJob) -> list[bytes]:
        found = [i for i in job.sources if i not in gone]
        return [msgspec.json.encode({i: {"PG": {"is_success": True}} for i in found})]

    api = SimulatedAPI(outputs=output)
    seen = await run(api, rows, chunk_size=chunk_size, max_jobs=max_jobs)
    assert {r.row for r in seen.results if r.reason is Reason.MISSING} == set(map(int, gone))
    assert len(seen.results) == rows
