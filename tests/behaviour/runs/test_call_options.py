"""Sources, a time limit, listeners, progress and the account of what it cost, for one run."""

from __future__ import annotations

from pathlib import Path

import pytest

import pingdata_async as ping
from tests.support.runs import ADDRESSES, enhancer, lines, sandbox_and_client


async def test_a_run_with_sources_and_listeners_of_its_own(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """The plan has its sources, the progress ends at all rows, and each event names the run."""
    bulk, output = enhancer(client, chunk_size=100, sources=["PG", "PH"]), tmp_path / "out.jsonl"
    heard: list[ping.Event] = []
    told: list[tuple[int, int | None]] = []
    planned = await bulk.plan(ADDRESSES, output, sources="PH")
    assert planned.sources == ("PH",)
    summary = await bulk.run(
        ADDRESSES,
        output,
        sources="PH",
        on_event=heard.append,
        progress=lambda *counts: told.append(counts),
    )
    assert list(summary.charged_by_source) == ["PH"]
    assert {event.run_id for event in heard} == {summary.run_id}
    assert told[-1] == (100, 100)
    again = await bulk.resume(summary.run_dir or "", sources=["PH"])
    assert (again.jobs, again.rows) == (summary.jobs, 100)


async def test_a_run_that_takes_too_long(tmp_path: Path) -> None:
    """It stops with its account and the place that resumes it; nothing is paid for twice."""
    output, rows = tmp_path / "out.jsonl", [f"{n} Main St, Boston, MA" for n in range(20)]
    async with sandbox_and_client(locations_per_s=10.0) as (server, client):
        bulk = enhancer(client)
        await bulk.plan(rows, output)
        with pytest.raises(ping.CallTimeoutError) as caught:
            await bulk.run(rows, output, timeout_s=1.0)  # of the two that its job takes
        summary, run_dir = caught.value.summary, caught.value.run_dir
        assert summary is not None
        assert run_dir == summary.run_dir == f"{output}.run"
        status = await bulk.plan(rows, output)
        assert (summary.rows, summary.jobs) == (status.settled, status.jobs)
        assert summary.seconds > 0
        done = await bulk.run(rows, output, max_locations=20)
    assert [line["row"] for line in lines(output)] == list(range(20))
    assert done.locations_charged == 20
    assert server.stats.locations_accepted_more_than_once == 0


async def test_the_account_of_a_run_that_an_error_ended(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """What was charged, saved and asked until then is in the error, as `run()` would return it."""
    rows = [{"address": f"{n % 20} Main St, Boston, MA"} for n in range(30)]
    output, requests = tmp_path / "out.jsonl", 0

    def count(event: ping.Event) -> None:
        nonlocal requests
        requests += isinstance(event, ping.RequestSent)

    bulk = enhancer(client, chunk_size=10, max_jobs=1, on_event=count)
    with pytest.raises(ping.BudgetSpentError) as caught:
        await bulk.run(rows, output, max_locations=15)
    summary = caught.value.summary
    assert summary is not None
    assert summary.locations_charged == sum(summary.charged_by_source.values()) == 15
    assert summary.locations_saved == 10
    assert summary.requests == requests > 0
    assert caught.value.run_dir == summary.run_dir == f"{output}.run"
    done = await bulk.resume(caught.value.run_dir, max_locations=20)
    assert (done.locations_charged, done.locations_saved, done.rows) == (20, 10, 30)


async def test_an_error_before_there_is_a_run(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Then there is no run directory, and nothing was charged."""
    with pytest.raises(ping.InputError) as caught:
        await enhancer(client).run(tmp_path / "missing.csv", tmp_path / "out.jsonl")
    assert caught.value.run_dir is None
    assert caught.value.summary is not None
    assert caught.value.summary.locations_charged == 0
