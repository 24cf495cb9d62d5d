"""Is it the rows or the API: when a run stops rather than splitting for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.exceptions import RequestRejectedError, ServerError, UnknownSourceError
from pingdata_async.models import Reason, RowStatus
from tests.simulation.faults import Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("durable", sampled([True, False], 1))
@pytest.mark.parametrize("max_jobs", sampled([4, 64, 1], 2))
@pytest.mark.parametrize("refused_from", sampled([7, 0, 1, 2, 40], 1))
async def test_everything_refused_is_seen_soon(
    refused_from: int, max_jobs: int, durable: bool
) -> None:
    """At most 30 requests wherever it begins and whatever the jobs; no row is marked."""
    troubles = Troubles(refused_from=refused_from)
    api = SimulatedAPI(troubles=troubles, workers=16)
    seen = Observed(is_durable=durable)
    with pytest.raises(RequestRejectedError, match="nothing is taken today"):
        await run(api, 100_000, chunk_size=500, max_jobs=max_jobs, observed=seen)
    assert troubles.refused_requests <= 30
    assert api.counts.requests[Moment.SUBMIT] <= refused_from + 30
    assert {result.status for result in seen.results} <= {RowStatus.OK}
    assert len(seen.rows) == 500 * api.counts.jobs
    check_bookkeeping(seen, api)


@pytest.mark.parametrize("max_jobs", [1, 64])
async def test_an_unknown_source_is_seen_at_once(max_jobs: int) -> None:
    """The API names a source of the run itself: no row can be right."""
    error = UnknownSourceError("400", status_code=400, api_message="Unknown source: PG")
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: error}))
    with pytest.raises(UnknownSourceError):
        await run(api, 1_000, max_jobs=max_jobs, observed=(seen := Observed()))
    assert api.counts.requests[Moment.SUBMIT] == 1
    assert not seen.chunks


@pytest.mark.parametrize("max_jobs", [1, 4, 64])
async def test_an_unknown_source_by_any_other_name_is_seen_soon(max_jobs: int) -> None:
    """Where the words do not name it, the refusals in a row do."""
    error = UnknownSourceError("400", status_code=400, api_message="no such thing")
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: error}))
    with pytest.raises(UnknownSourceError, match="seems to be at fault"):
        await run(api, 100_000, max_jobs=max_jobs, observed=(seen := Observed()))
    assert api.counts.requests[Moment.SUBMIT] <= 30
    assert not seen.chunks


@pytest.mark.parametrize("max_jobs", [1, 8])
async def test_a_passing_mood_costs_nothing(max_jobs: int) -> None:
    """Fifteen refusals in the middle, and then all is taken again: every row is answered."""
    troubles = Troubles(refused_from=5, refused_until=20)
    api = SimulatedAPI(troubles=troubles)
    seen = await run(api, 5_000, chunk_size=500, max_jobs=max_jobs)
    check_bookkeeping(seen, api, 5_000)
    assert set(api.counts.submissions.values()) <= {1}


async def test_troubles_are_counted_in_a_row() -> None:
    """What goes right between them begins the count anew; each kind has its own."""
    policy = RetryPolicy(
        max_refusals_in_a_row=2,
        max_doubts_in_a_row=2,
        max_failed_jobs_in_a_row=2,
        max_lost_chunks_in_a_row=2,
    )
    breaker = CircuitBreaker(policy)
    _check_begins_anew(breaker.note_refused, breaker.note_accepted)
    _check_begins_anew(breaker.note_doubt, breaker.note_accepted)
    _check_begins_anew(breaker.note_failed_job, breaker.on_success)
    _check_begins_anew(breaker.note_lost_chunk, breaker.on_success)


async def test_pages_are_counted_in_a_row() -> None:
    """Three in the place of answers are enough, fewer than other doubts; one accepted, and anew."""
    breaker = CircuitBreaker(RetryPolicy())
    assert [breaker.note_doubt(is_page=True), breaker.note_doubt(is_page=True)] == [False] * 2
    breaker.note_accepted()
    assert [breaker.note_doubt(is_page=True) for _ in range(3)] == [False, False, True]


async def test_garbled_answers_are_counted_in_a_row() -> None:
    """Of answers with a head that is no HTTP the second is the last; one accepted, and anew."""
    breaker = CircuitBreaker(RetryPolicy())
    assert not breaker.note_doubt(is_garbled=True)
    breaker.note_accepted()
    assert [breaker.note_doubt(is_garbled=True) for _ in range(2)] == [False, True]


def _check_begins_anew(note: Callable[[], bool], note_good: Callable[[], None]) -> None:
    assert not note()
    note_good()
    assert [note(), note()] == [False, True]


async def test_requests_go_one_at_a_time_while_in_doubt_about_the_api() -> None:
    """Before the first acceptance, and after three troubles in a row."""
    breaker = CircuitBreaker(RetryPolicy())
    trial = [breaker.is_half_open]
    notes: list[Callable[[], bool]] = [breaker.note_refused, breaker.note_doubt]
    for note in notes:
        breaker.note_accepted()
        for _ in range(4):
            trial.append(breaker.is_half_open)
            note()
    assert trial == [True, False, False, False, True, False, False, False, True]


@pytest.mark.parametrize(
    ("refused_from", "poisoned", "rows", "chunk_size", "max_jobs"),
    [(3, 999, 1_000, 1_000, 8), (2, 1_499, 1_500, 1_500, 4), (8, 999, 5_000, 1_000, 8)],
)
async def test_it_ends_also_within_a_chunk_of_which_a_part_passed(
    refused_from: int, poisoned: int, rows: int, chunk_size: int, max_jobs: int
) -> None:
    """Where nothing else is left to try, so many bad rows side by side are not likely."""
    troubles = Troubles(poisoned={poisoned}, refused_from=refused_from)
    seen = Observed()
    with pytest.raises(RequestRejectedError, match="nothing is taken today"):
        await run(
            SimulatedAPI(troubles=troubles), rows, chunk_size=chunk_size, max_jobs=max_jobs,
            observed=seen,
        )  # fmt: skip
    assert troubles.refused_requests <= 260
    assert not [result for result in seen.results if result.reason is Reason.REJECTED]


async def test_a_row_with_an_unknown_source_is_not_the_run() -> None:
    """Also where the API's words name the sources that are right."""
    said = "unknown source 'ZZ'; the sources you may use are PG and PH"
    error = UnknownSourceError(f"400: {said}", status_code=400, api_message=said)

    class OneWrong(SimulatedAPI):
        async def submit_body(self, body: bytes) -> str:
            if b"ZZ" in body:
                raise error
            return await super().submit_body(body)

    rows = [{"address": f"{row} Main St"} | ({"sources": "ZZ"} if row == 7 else {})
            for row in range(100)]  # fmt: skip
    seen = await run(OneWrong(), rows, chunk_size=50)
    assert [r.row for r in seen.results if r.status is not RowStatus.OK] == [7]


async def test_a_request_that_is_not_served_is_not_refused() -> None:
    """503 for ever, for one chunk alone: its rows are not blamed, and the run can go on later."""

    class OneBusy(SimulatedAPI):
        async def submit_body(self, body: bytes) -> str:
            if b'"57 Main Street"' in body:
                raise ServerError("503: busy", status_code=503)
            return await super().submit_body(body)

    seen = Observed()
    with pytest.raises(ServerError, match="busy"):
        await run(OneBusy(), 100, max_jobs=2, observed=seen)
    assert len(seen.rows) == 90
    assert {result.status for result in seen.results} == {RowStatus.OK}
