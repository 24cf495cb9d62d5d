"""Stopped again and again while everything else goes wrong too: the accounts still agree."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import anyio
import pytest

import pingdata_async as ping
from pingdata_async import read_status
from pingdata_async.events import ChunkFinished, Event, RunStopped
from pingdata_async.models import RunSummary
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    enhancer,
    lines,
    read_addresses,
    sandbox_and_client,
)
from tests.support.sweeps import sampled

PATIENT = ping.RetryPolicy(
    base_delay_s=0.005,
    max_delay_s=0.02,
    late_after_s=0.05,
    forgotten_after_s=0.05,
    job_attempts=4,
    forgotten_attempts=6,
    in_doubt_retries=8,
    location_retries=8,
    linger_s=5.0,
)
EVERYTHING = (
    "rate_limit",
    "server_error",
    "drop",
    "lost_answer",
    "failed_job",
    "lost_job",
    "missing_location",
    "missing_source",
    "source_trouble",
    "cut_output",
    "corrupt_output",
    "wrong_ids",
)


class StopAtAny:
    """Cancels at the n-th event of any kind."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.scope = anyio.CancelScope()

    def __call__(self, _event: Event) -> None:
        self.left -= 1
        if not self.left:
            self.scope.cancel()


async def run_with_stops(
    client: ping.PingDataClient, output: Path, rng: random.Random, **changes: Any
) -> tuple[RunSummary, int]:
    """A run that is cancelled after a random number of events, until it is done."""
    stops = 0
    while True:
        stopper = StopAtAny(rng.randint(1, 50 * (stops + 1)))
        with stopper.scope:
            bulk = enhancer(client, retry_policy=PATIENT, on_event=stopper, **changes)
            if stops % 2:
                return await bulk.resume(f"{output}.run"), stops
            return await bulk.run(ADDRESSES, output), stops
        stops += 1


def assert_accounts_agree(server: SandboxServer, summary: RunSummary) -> None:
    """What the sandbox charged is what the summary says, doubts aside."""
    stats = server.stats
    assert summary.rows == summary.ok + summary.partial + summary.failed == 100
    lost = stats.faults["lost_answer"]
    assert summary.jobs == stats.jobs_accepted - lost
    assert summary.submissions_in_doubt >= lost
    assert stats.locations_accepted_more_than_once <= summary.locations_possibly_charged_again


@pytest.mark.parametrize("seed", sampled(range(4), 1))
async def test_everything_goes_wrong_and_it_is_stopped(tmp_path: Path, seed: int) -> None:
    """All rows arrive, in order; nobody was charged without it being counted."""
    output = tmp_path / "out.jsonl"
    faults: dict[str, Any] = dict.fromkeys(EVERYTHING, 0.04)
    plan = FaultPlan(retry_after_s=0, **faults)
    async with sandbox_and_client(faults=plan, seed=seed) as (server, client):
        summary, stops = await run_with_stops(
            client, output, random.Random(seed), sources=["PG", "PH"]
        )
        assert stops > 0
        assert_all_there(output)
        assert_accounts_agree(server, summary)
        assert summary.no_answer == 0
        status = await anyio.to_thread.run_sync(read_status, Path(f"{output}.run"))
        assert (status.settled, status.ok, status.reasons) == (100, summary.ok, summary.reasons)


@pytest.mark.parametrize("fault", ["poison", "poison_job"])
async def test_guilty_rows_alone_fail_however_often_it_is_stopped(
    tmp_path: Path, fault: str
) -> None:
    """Halves go on as halves; a rejected chunk costs nobody anything twice."""
    output = tmp_path / "out.jsonl"
    row = 60
    changes: dict[str, Any] = {fault: read_addresses()[row]["address_line_1"]}
    plan = FaultPlan(**changes)
    async with sandbox_and_client(faults=plan) as (server, client):
        summary, stops = await run_with_stops(client, output, random.Random(5), chunk_size=17)
        assert stops > 0
        assert_all_there(output)
        assert_accounts_agree(server, summary)
        if fault == "poison":
            assert server.stats.locations_accepted_more_than_once == 0
            assert summary.locations_possibly_charged_again == 0
    bad = [line["row"] for line in lines(output) if line.get("reason") not in {None, "no_match"}]
    assert bad == [row]
    assert summary.no_answer == 1


async def test_cancelled_by_asyncio_itself(tmp_path: Path) -> None:
    """`task.cancel()` and a time-out end a run as tidily as a cancel scope."""
    output = tmp_path / "out.jsonl"
    events: list[Event] = []
    tasks: list[asyncio.Task[RunSummary]] = []
    counts = [1, 3, 6]  # of chunks finished, all runs together

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, ChunkFinished):
            finished = sum(isinstance(event, ChunkFinished) for event in events)
            if finished in counts:
                tasks[-1].cancel()

    async with sandbox_and_client() as (server, client):
        for _ in counts:
            run = enhancer(client, on_event=watch).run(ADDRESSES, output)
            tasks.append(asyncio.create_task(run))
            with pytest.raises(asyncio.CancelledError):
                await tasks[-1]
        assert sum(isinstance(event, RunStopped) for event in events) == 3
        summary = await enhancer(client).run(ADDRESSES, output)
        assert_all_there(output)
        assert_accounts_agree(server, summary)
        assert server.stats.jobs_accepted == 10


async def test_a_run_whose_directory_is_moved_away_stops(tmp_path: Path) -> None:
    """Rather than to pay for answers that nobody will find; moved back, it goes on."""
    output, away = tmp_path / "out.jsonl", tmp_path / "away"
    run_dir = anyio.Path(f"{output}.run")
    first = anyio.Event()

    def note(event: Event) -> None:
        if isinstance(event, ChunkFinished):
            first.set()

    async def move() -> None:
        await first.wait()
        await run_dir.rename(away)

    async with sandbox_and_client() as (sandbox, client):
        small = enhancer(client, chunk_size=5, max_jobs=2, on_event=note)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(move)
            with pytest.raises(ping.RunError, match="was moved or removed while the run wrote"):
                await small.run(ADDRESSES, output)
        assert sandbox.stats.jobs_accepted < 40
        await anyio.Path(away).rename(run_dir)
        await small.resume(f"{output}.run")
        assert sandbox.stats.locations_accepted_more_than_once == 0
    assert_all_there(output)
