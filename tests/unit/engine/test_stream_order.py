"""Results wait for a consumer here, not at the API; on demand in the order of the input."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.exceptions import RequestRejectedError
from tests.simulation.faults import Moment
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import addresses
from tests.support.sweeps import sampled

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("seed", sampled(range(20), 2))
async def test_order_and_bound(seed: int) -> None:
    """Whichever jobs are late, split or spotty: each row once, in order, and few read ahead."""
    rng = random.Random(seed)
    max_jobs, chunk_size, rows = rng.choice((1, 3, 8)), rng.choice((1, 7)), 150
    api = SimulatedAPI(
        workers=8,
        delays_s={number: rng.expovariate(1 / 30) for number in range(0, 150, 3)},
        outputs=SpottyAnswers(seed=seed, left_out=0.02) if seed % 2 else None,
    )
    read = 0
    taken: list[int] = []

    def locations() -> Iterator[Any]:
        nonlocal read
        for row in range(rows):
            assert read - len(taken) <= 2 * (max_jobs + 1) * chunk_size  # some cannot be sent
            read += 1
            yield {"state": "MA"} if rng.random() < 0.05 else f"{row} Main St"

    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=chunk_size, max_jobs=max_jobs)
        async for result in enhancer.stream(locations(), ordered=True):
            taken.append(result.row)
            if rng.random() < 0.1:
                await anyio.sleep(rng.expovariate(1 / 20))
    assert taken == list(range(rows))


class RefusesRow0:
    """Refuses row 0 for ever, and after a while everything."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def refusal(self, ids: Any, number: int) -> ping.PingDataError | None:
        if number >= self.jobs:
            return ping.QuotaExceededError("402: spent", status_code=402)
        return RequestRejectedError("400", status_code=400) if "0" in ids else None

    def fails(self, ids: Any, number: int) -> bool:  # noqa: ARG002
        return False


async def test_a_row_at_fault_at_the_front_keeps_out_nobody() -> None:
    """It fails once others are accepted, although all places are taken by those behind it."""
    async with SimulatedClient(SimulatedAPI(troubles=RefusesRow0(10_000))) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=1, max_jobs=1)
        results = [each async for each in enhancer.stream(addresses(20), ordered=True)]
    assert [each.row for each in results] == list(range(20))
    assert [each.reason for each in results[:2]] == ["rejected", None]


async def test_results_before_an_error_are_yielded_in_order() -> None:
    """Also those behind a row that has none."""
    api = SimulatedAPI(troubles=RefusesRow0(6), delays_s={1: 100.0})
    rows: list[int] = []
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=1, max_jobs=4)
        stream = enhancer.stream(addresses(40), ordered=True)

        async def consume() -> None:
            async for result in stream:
                rows.append(result.row)  # noqa: PERF401 - they would be lost with the error

        with pytest.raises(ping.QuotaExceededError):
            await consume()
    assert rows == sorted(rows)
    assert len(rows) == api.counts.jobs + (0 in rows)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_consumer_that_pauses_for_long_loses_nothing(*, ordered: bool) -> None:
    """The API forgets a job after minutes: its answers are here by then, and are paid for once."""
    api = SimulatedAPI(retention_s=600.0)
    rows = []
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=5, max_jobs=6)
        async for result in enhancer.stream(addresses(60), ordered=ordered):
            rows.append(result.row)
            if len(rows) in {1, 30}:
                before = dict(api.counts.requests)
                await anyio.sleep(HOUR_S)
                sent = api.counts.requests[Moment.SUBMIT] - before[Moment.SUBMIT]
                assert sent <= 7  # no more than may wait here
    assert sorted(rows) == list(range(60))
    assert set(api.counts.submissions.values()) == {1}


async def test_very_many_answers_wait_at_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many bytes are held for a consumer."""
    monkeypatch.setattr("pingdata_async.engine.stream.MOST_HELD_BYTES", 100)
    api = SimulatedAPI()
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=5, max_jobs=20)
        stream = enhancer.stream(addresses(100))
        rows = [(await anext(stream)).row]
        await anyio.sleep(60.0)
        assert api.counts.requests[Moment.FETCH] < 10
        rows += [each.row async for each in stream]
    assert sorted(rows) == list(range(100))


async def test_a_flag_that_is_none() -> None:
    """It is refused at once."""
    async with SimulatedClient(SimulatedAPI()) as client:
        with pytest.raises(ping.ConfigurationError, match="ordered"):
            ping.BulkEnhancer(client, "PG").stream([], ordered="yes")  # type: ignore[arg-type]
