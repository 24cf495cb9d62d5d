"""Sources, a time limit, listeners and progress for one call in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.locations.fields import AnyLocation
from tests.simulation.faults import Moment, ScriptedFaults
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import addresses


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def test_sources_for_one_call() -> None:
    """They take the place of the enhancer's, in what is sent and in what is expected."""
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, ["PG", "PH"])
        both, one = (
            await enhancer.enhance(addresses(2)),
            await enhancer.enhance(addresses(2), sources="PH"),
        )
        assert [list(result) for result in (*both, *one)] == [["PG", "PH"]] * 2 + [["PH"]] * 2
        assert one.summary.charged_by_source == {"PH": 2}
        async for result in enhancer.stream(addresses(1), sources=["PG"]):
            assert list(result) == ["PG"]
        assert [list(result) for result in await enhancer.enhance(addresses(1))] == [["PG", "PH"]]


async def test_a_call_that_takes_too_long() -> None:
    """It ends with what was answered, and names every job that was paid for and is not."""
    api = SimulatedAPI(locations_per_s=1.0)  # each job of 10 takes 10 s
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, max_jobs=2)
        with pytest.raises(ping.CallTimeoutError, match="timeout_s of 15 s") as caught:
            await enhancer.enhance(addresses(100), timeout_s=15)
        assert isinstance(caught.value, TimeoutError)
        results, summary = caught.value.results, caught.value.summary
        assert summary is not None
        assert len(results) == summary.rows > 0
        charged = sum(api.counts.submissions.values())
        in_doubt = summary.locations_in_doubt
        assert summary.locations_charged + in_doubt == charged > summary.rows
        assert 10 * len(summary.unfinished_jobs) == summary.locations_charged - summary.rows
        if summary.unfinished_jobs:
            assert summary.unfinished_jobs[0] in caught.value.__notes__[0]
        stream, rows = enhancer.stream(addresses(100), timeout_s=60), list[int]()

        async def consume() -> None:
            async for result in stream:
                rows.append(result.row)

        with pytest.raises(ping.CallTimeoutError):
            await consume()
        assert len(rows) == len(set(rows)) == stream.summary.rows > 0
        assert len(await enhancer.enhance(addresses(3), timeout_s=100)) == 3


async def test_a_call_that_shares_a_job_and_takes_too_long() -> None:
    """Its error names the job as well, and counts what it is charged for."""
    async with SimulatedClient(SimulatedAPI(locations_per_s=0.1)) as client:
        with pytest.raises(ping.CallTimeoutError) as caught:
            await ping.BulkEnhancer(client, "PG").enhance(addresses(3), timeout_s=5)
    summary = caught.value.summary
    assert summary is not None
    assert summary.locations_charged == 3
    [job_id] = summary.unfinished_jobs
    assert job_id in caught.value.__notes__[0]


async def test_retries_are_counted() -> None:
    """In the summary of the results, of the stream and of an error alike."""
    lost = ping.AuthenticationError("401", status_code=401)
    polls = [ping.ServerError("503", status_code=503), ping.RateLimitError("", status_code=429)]
    faults = ScriptedFaults({Moment.POLL: [*polls, None]}, always={Moment.POLL: lost})
    async with SimulatedClient(SimulatedAPI(faults=faults)) as client:
        enhancer = ping.BulkEnhancer(client, "PG")
        results = await enhancer.enhance(addresses(3))
        assert (results.summary.retries, results.summary.refused) == (2, 2)
        stream = enhancer.stream(addresses(3))
        with pytest.raises(ping.AuthenticationError):
            await anext(stream)
        assert stream.summary.retries > 0
        with pytest.raises(ping.AuthenticationError) as caught:
            await enhancer.enhance(addresses(3))
        assert caught.value.summary is not None
        assert caught.value.summary.requests >= 2


async def test_a_time_limit_for_a_live_source() -> None:
    """Rows that were never sent cost nothing."""

    async def live() -> AsyncIterator[AnyLocation]:
        yield {"address": "1 Main St"}
        await anyio.sleep_forever()

    async with SimulatedClient(SimulatedAPI()) as client:
        with pytest.raises(ping.CallTimeoutError) as caught:
            await ping.BulkEnhancer(client, "PG").enhance(live(), timeout_s=60)
    assert caught.value.summary is not None
    assert caught.value.summary.jobs == 0


async def test_progress() -> None:
    """It grows to the number of rows, invalid ones included; a generator has no total."""
    locations: list[AnyLocation] = [*addresses(24), {"id": "nothing to look up"}]
    told: list[tuple[int, int | None]] = []
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10)
        await enhancer.enhance(locations, progress=lambda done, total: told.append((done, total)))
        assert {total for _, total in told} == {25}
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert max(done for done, _ in told) == 25
        told.clear()
        stream = enhancer.stream(iter(locations), progress=lambda *counts: told.append(counts))
        assert len([result async for result in stream]) == 25
        assert told[-1] == (25, None)


async def test_events_name_their_call() -> None:
    """The enhancer's listener can tell calls apart, and the summary says which is which."""
    heard: list[ping.Event] = []
    own: list[ping.Event] = []
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG", on_event=heard.append)
        first = await enhancer.enhance(addresses(2))
        second = await enhancer.enhance(addresses(2), on_event=own.append)
    assert {event.run_id for event in own} == {second.summary.run_id}
    assert {event.run_id for event in heard} == {first.summary.run_id, second.summary.run_id}
    assert any(isinstance(event, ping.JobSubmitted) for event in own)


async def test_options_that_cannot_be() -> None:
    """They are refused at once, by their names."""

    async def awaited(_done: int, _total: int | None) -> None:
        raise AssertionError

    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG")
        with pytest.raises(ping.ConfigurationError, match="timeout_s"):
            enhancer.stream(addresses(1), timeout_s=0)
        with pytest.raises(ping.ConfigurationError, match="progress must be a plain function"):
            enhancer.stream(addresses(1), progress=awaited)  # type: ignore[arg-type]  # the test
        with pytest.raises(ping.InputError):
            enhancer.stream(addresses(1), sources=[])
