"""How far a run is: while it goes on, after a stop, after a crash, with submissions in doubt."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import (
    ChunkFinished,
    ChunkHeld,
    Event,
    JobSubmitted,
    RunStopped,
    SubmissionInDoubt,
)
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.probes import until
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    enhancer,
    hashes,
    lines,
    sandbox_and_client,
    stopped_run,
)

HOLD = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.05, hold_in_doubt=True)
GO_ON = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.05)


def copy_of_a_crash(run_dir: Path, copy: Path) -> None:
    # Without SQLite's shared memory, which ends with its processes.
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("*-shm"))


async def status_of(run_dir: Path) -> RunStatus:
    return await anyio.to_thread.run_sync(read_status, run_dir)


def set_faults(server: SandboxServer, **faults: float) -> None:
    server._api._injector.plan = FaultPlan(**faults)  # type: ignore[arg-type]


async def test_from_plan_to_end(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Every count is right at each stage, and asking changes nothing."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    began = time.time()
    planned = await enhancer(client).plan(ADDRESSES, output)
    assert (planned.rows, planned.settled, planned.jobs) == (100, 0, 0)
    assert (planned.output, planned.sources, planned.api) == (str(output), ("PG",), client.api_url)
    object.__setattr__(sandbox, "locations_per_s", 200.0)
    stopper = await stopped_run(client, output, JobSubmitted, 6)
    finished = [event for event in stopper.events if isinstance(event, ChunkFinished)]
    before = hashes(tmp_path)
    status = await status_of(run_dir)
    assert hashes(tmp_path) == before
    assert not status.is_running
    assert not status.is_finished
    # A chunk can be kept just before it would be told of.
    spooled = status.chunks["spooled"]
    assert len(finished) <= spooled <= sandbox.stats.jobs_accepted
    assert status.settled == status.ok + status.partial + status.failed == 10 * spooled
    assert [event.rows_done for event in stopper.events if isinstance(event, RunStopped)] == [
        status.settled
    ]
    assert status.ok >= sum(event.ok for event in finished)
    assert status.failed >= sum(event.failed for event in finished)
    assert status.jobs == len(status.in_flight) + spooled == sandbox.stats.jobs_accepted
    assert status.locations_charged == 10 * status.jobs
    assert sum(status.chunks.values()) == 10
    assert all(job.job_id and began <= job.since <= time.time() for job in status.in_flight)
    assert [job.since for job in status.in_flight] == sorted(job.since for job in status.in_flight)
    assert (status.in_doubt, status.submissions_in_doubt) == ([], 0)
    summary = await enhancer(client).resume(run_dir)
    after = await status_of(run_dir)
    assert after.is_finished
    assert (after.settled, after.ok, after.reasons) == (100, summary.ok, summary.reasons)
    assert (after.in_flight, after.jobs) == ([], 10)
    assert after.chunks == dict.fromkeys(after.chunks, 0) | {"spooled": 10}


async def test_of_a_crash(tmp_path: Path) -> None:
    """Taken of the directory as a killed process leaves it; going on with that copy works."""
    output = tmp_path / "out.jsonl"
    copy = tmp_path / "crashed.run"
    at_work, copied = anyio.Event(), anyio.Event()

    def is_on_the_wire() -> bool:
        return server.stats.requests["submit"] > server.stats.jobs_accepted

    async def until_it_is_copied(_seconds: float) -> None:
        if is_on_the_wire():
            await copied.wait()

    async with sandbox_and_client(sleep=until_it_is_copied) as (server, client):

        async def copy_in_the_middle() -> None:
            await at_work.wait()
            server._api._injector.plan = FaultPlan(slow_answer=1.0)
            await until(is_on_the_wire)
            await anyio.to_thread.run_sync(copy_of_a_crash, Path(f"{output}.run"), copy)
            set_faults(server)
            copied.set()

        def watch(event: Event) -> None:
            if isinstance(event, ChunkFinished) and event.chunk == 5:
                at_work.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copy_in_the_middle)
            await enhancer(client, on_event=watch).run(ADDRESSES, output)
        status = await status_of(copy)
        unanswered = [each for each in status.in_doubt if "cut off" in (each.error or "")]
        assert not status.is_running
        assert not status.is_finished
        assert status.submissions_in_doubt == len(unanswered) == status.chunks["submitting"] > 0
        assert all(each.job_id is None and not each.held for each in unanswered)
        exported = await export_run(copy, tmp_path / "so-far.jsonl")
        assert exported.rows == status.settled == len(lines(tmp_path / "so-far.jsonl"))
        assert exported.rows_left_out == 100 - status.settled
        accepted = server.stats.locations_accepted
        events: list[Event] = []
        other = tmp_path / "other.jsonl"
        bulk = enhancer(client, on_event=events.append)
        summary = await bulk.resume(copy, output=other)
    assert_all_there(other)
    assert (summary.submissions_in_doubt, summary.rows) == (len(unanswered), 100)
    assert summary.locations_possibly_charged_again == 10 * len(unanswered)
    assert sum(isinstance(event, SubmissionInDoubt) for event in events) == len(unanswered)
    still_to_send = 100 - status.settled - 10 * len(status.in_flight)
    assert server.stats.locations_accepted - accepted == still_to_send


async def test_held_until_the_user_decides(tmp_path: Path) -> None:
    """Listed; held once more by the same policy, sent again and counted by the default one."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    async with sandbox_and_client(faults=FaultPlan(lost_answer=0.4), seed=3) as (server, client):
        events: list[Event] = []
        bulk = enhancer(client, retry_policy=HOLD, on_event=events.append)
        with pytest.raises(ping.SubmissionInDoubtError, match="in doubt"):
            await bulk.run(ADDRESSES, output)
        held = sum(isinstance(event, ChunkHeld) for event in events)
        status = await status_of(run_dir)
        assert status.submissions_in_doubt == held == len(status.in_doubt) > 1
        assert all(each.held and each.error for each in status.in_doubt)
        assert not status.is_finished
        assert status.settled == 100 - 10 * held
        assert not output.exists()
        exported = await export_run(run_dir, tmp_path / "so-far.jsonl")
        assert exported.rows_left_out == 10 * held
        accepted = server.stats.jobs_accepted
        for _ in range(2):  # nobody has decided yet: nothing is sent
            with pytest.raises(ping.SubmissionInDoubtError, match="in doubt"):
                await enhancer(client, retry_policy=HOLD).resume(run_dir)
        assert server.stats.jobs_accepted == accepted
        assert (await status_of(run_dir)).submissions_in_doubt == held
        set_faults(server)
        summary = await enhancer(client, retry_policy=GO_ON).resume(run_dir)
        again = server.stats.locations_accepted_more_than_once
    assert_all_there(output)
    assert summary.submissions_in_doubt == held
    assert again == summary.locations_possibly_charged_again == 10 * held
    after = await status_of(run_dir)
    assert (after.submissions_in_doubt, after.settled) == (held, 100)
    assert not any(each.held for each in after.in_doubt)


async def test_export_never_changes_a_run(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Before anything was sent, stopped, and finished; and the whole is the run's output."""
    output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    run_dir = Path(f"{output}.run")
    await enhancer(client).plan(ADDRESSES, output)
    for stage in range(3):
        before = hashes(run_dir)
        exported = await export_run(run_dir, other, overwrite=stage > 0)
        assert hashes(run_dir) == before
        rows = [line["row"] for line in lines(other)]
        assert rows == sorted(set(rows))
        assert exported.rows == len(rows) == 100 - exported.rows_left_out
        if stage == 0:
            assert exported.rows == 0
            await stopped_run(client, output, ChunkFinished, 5)
        elif stage == 1:
            assert 50 <= exported.rows < 100
            await enhancer(client).resume(run_dir)
    assert other.read_bytes() == output.read_bytes()
    with pytest.raises(ping.ConfigurationError, match="exists already"):
        await export_run(run_dir, other)
    with pytest.raises(ping.ConfigurationError, match="is the input itself"):
        await export_run(run_dir, ADDRESSES, overwrite=True)


async def test_export_has_the_rows_without_an_answer_beside_it(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Under the export's own name."""
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\n")
    await enhancer(client).run(tmp_path / "in.csv", tmp_path / "out.jsonl")
    exported = await export_run(tmp_path / "out.jsonl.run", tmp_path / "x.jsonl")
    assert exported == type(exported)(2, 1, 0)
    [failed] = lines(tmp_path / "x.jsonl.failures.jsonl")
    assert (failed["id"], failed["reason"]) == ("b", "invalid_input")
