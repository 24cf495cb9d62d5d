"""Rows that are refused, or make jobs fail: found in halves, and nobody else pays for them."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import JobSubmitted, RequestSent
from pingdata_async.exceptions import JobFailedError, PingDataError, RequestRejectedError
from pingdata_async.models import Reason, RowStatus
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import Troubles
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled

ROWS = 5_000


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def fast(troubles: Troubles) -> SimulatedAPI:
    return SimulatedAPI(troubles=troubles, locations_per_s=5_000.0)


def failed(seen: Observed) -> dict[int, Reason | None]:
    return {r.row: r.reason for r in seen.results if r.status is not RowStatus.OK}


def in_order(rows: set[int]) -> str:
    """A name for a test: a set prints in any order, even from one process to the next."""
    return str(sorted(rows))


PLACES = [
    {0, 1, 2, 3},
    {4_996, 4_997, 4_998, 4_999},
    {0, 499, 500, 4_999},
    {10, 20, 30, 40},
    {249, 250, 2_749, 2_750},
    *(set(random.Random(seed).sample(range(ROWS), 4)) for seed in range(4)),
]


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 32], 1))
@pytest.mark.parametrize("poisoned", sampled(PLACES, 4), ids=in_order)
async def test_four_bad_rows_fail_alone(poisoned: set[int], max_jobs: int) -> None:
    """Exactly they fail, nobody is in two accepted jobs, and few requests are refused."""
    troubles = Troubles(poisoned=poisoned)
    api = fast(troubles)
    seen = await run(api, ROWS, chunk_size=500, max_jobs=max_jobs)
    assert failed(seen) == dict.fromkeys(poisoned, Reason.REJECTED)
    assert set(api.counts.submissions.values()) == {1}
    assert api.counts.submissions.keys() == {str(n) for n in range(ROWS) if n not in poisoned}
    assert troubles.refused_requests <= 15 * len(poisoned)
    assert max(troubles.refusals[row] for row in poisoned) <= 15
    check_bookkeeping(seen, api, ROWS)


@pytest.mark.parametrize("max_jobs", sampled([8, 1], 1))
@pytest.mark.parametrize("share", sampled([0.03, 0.2], 1))
@pytest.mark.parametrize("seed", sampled(range(3), 1))
async def test_many_bad_rows_fail_alone_too(seed: int, share: float, max_jobs: int) -> None:
    """However dense they are, those in order come through, each in one accepted job."""
    rng = random.Random(seed)
    poisoned = {row for row in range(1_500) if rng.random() < share}
    api = fast(Troubles(poisoned=poisoned))
    seen = await run(api, 1_500, chunk_size=100, max_jobs=max_jobs)
    assert failed(seen) == dict.fromkeys(poisoned, Reason.REJECTED)
    assert set(api.counts.submissions.values()) == {1}
    check_bookkeeping(seen, api, 1_500)


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 32], 1))
@pytest.mark.parametrize("begin", sampled([2_350, 0, 130, 4_900], 2))
async def test_a_hundred_bad_rows_in_a_row_fail_alone(begin: int, max_jobs: int) -> None:
    """While rows elsewhere pass, the API is not taken to be at fault."""
    poisoned = range(begin, begin + 100)
    api = fast(Troubles(poisoned=poisoned))
    seen = await run(api, 5_000, chunk_size=500, max_jobs=max_jobs)
    assert failed(seen) == dict.fromkeys(poisoned, Reason.REJECTED)
    assert set(api.counts.submissions.values()) == {1}
    check_bookkeeping(seen, api, 5_000)


@pytest.mark.parametrize("max_jobs", [1, 4])
@pytest.mark.parametrize("rows", [1, 2, 9, 40])
async def test_where_every_row_is_refused_none_is_to_blame(rows: int, max_jobs: int) -> None:
    """No job was ever accepted: the run stops with the API's words, no row is marked."""
    troubles = Troubles(poisoned=range(rows))
    seen = Observed()
    with pytest.raises(RequestRejectedError, match="bad location"):
        await run(fast(troubles), rows, max_jobs=max_jobs, observed=seen)
    assert not seen.chunks
    assert troubles.refused_requests <= 30


@pytest.mark.parametrize("max_jobs", sampled([4, 1], 1))
@pytest.mark.parametrize(
    "poisoned", [{0}, {1_999}, {7, 8, 9}, {0, 600, 1_200, 1_999}], ids=in_order
)
async def test_rows_that_make_jobs_fail_are_found(poisoned: set[int], max_jobs: int) -> None:
    """A FAILED job is tried again, then halved: exactly they fail, at a price that is told."""
    api = fast(Troubles(poisoned_for_jobs=poisoned))
    seen = await run(api, 2_000, chunk_size=100, max_jobs=max_jobs)
    assert failed(seen) == dict.fromkeys(poisoned, Reason.JOB_FAILED)
    check_bookkeeping(seen, api, 2_000)
    # Twice whole, once in each half down to the row, which is tried twice.
    assert max(api.counts.submissions.values()) <= 2 + 6 + 2
    first = next(event.chunk for event in seen.of(JobSubmitted) if event.charged_before)
    assert [event.chunk for event in seen.of(JobSubmitted)].count(first) == 2


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 32], 1))
@pytest.mark.parametrize("failed_from", [0, 1, 7])
async def test_jobs_that_all_fail_cost_little(failed_from: int, max_jobs: int) -> None:
    """Wherever it begins: few jobs are charged, and the run ends with the API's words."""
    api = fast(Troubles(failed_from=failed_from))
    seen = Observed()
    with pytest.raises(JobFailedError, match="out of luck"):
        await run(api, 20_000, chunk_size=100, max_jobs=max_jobs, observed=seen)
    assert api.counts.jobs <= failed_from + 10 + 2 * max_jobs
    assert not failed(seen)
    check_bookkeeping(seen, api)


@pytest.mark.parametrize("chunk_size", [1, 7])
@pytest.mark.parametrize("max_jobs", [1, 3])
@pytest.mark.parametrize("seed", sampled(range(5), 1))
async def test_the_smallest_sizes_do_not_get_stuck(
    seed: int, max_jobs: int, chunk_size: int
) -> None:
    """One job at a time, one row in a job, and both kinds of bad rows: it ends."""
    rng = random.Random(seed)
    poisoned = set(rng.sample(range(120), 10))
    for_jobs = set(rng.sample(sorted(set(range(120)) - poisoned), 5))
    api = fast(Troubles(poisoned=poisoned, poisoned_for_jobs=for_jobs))
    seen = Observed()
    try:
        with anyio.fail_after(36_000):
            await run(api, 120, chunk_size=chunk_size, max_jobs=max_jobs, observed=seen)
    except PingDataError:
        check_bookkeeping(seen, api)
    else:
        check_bookkeeping(seen, api, 120)
        assert failed(seen) == {
            **dict.fromkeys(poisoned, Reason.REJECTED),
            **dict.fromkeys(for_jobs, Reason.JOB_FAILED),
        }


async def test_what_is_split_is_sent_before_what_is_new() -> None:
    """A bad row is found while its neighbours wait, not after the rest of the input."""
    api = fast(Troubles(poisoned={55}))
    seen = await run(api, 1_000, chunk_size=100, max_jobs=2)
    sent = [event.chunk for event in seen.of(RequestSent) if event.kind == "submit"]
    parts = [place for place, chunk in enumerate(sent) if chunk >= 1_000]
    assert parts[-1] < 25  # 14 parts, and what went beside them


async def test_invalid_rows_stay_with_the_first_part() -> None:
    """Rows that are never sent come out once, however often their chunk is split."""
    rows = [{"address": "" if n % 10 == 3 else f"{n} Main St"} for n in range(100)]
    api = fast(Troubles(poisoned={55, 70, 71}))
    seen = await run(api, rows, chunk_size=50)
    assert Counter(result.reason for result in seen.results) == {
        None: 87,
        Reason.INVALID_INPUT: 10,
        Reason.REJECTED: 3,
    }
    check_bookkeeping(seen, api, 100)


async def test_refusals_in_a_row_are_as_many_as_the_policy_says() -> None:
    """The limit is counted, to the request."""
    troubles = Troubles(refused_from=0)
    with pytest.raises(RequestRejectedError):
        await run(fast(troubles), 1_000, policy=RetryPolicy(max_refusals_in_a_row=4))
    assert troubles.refused_requests == 4
