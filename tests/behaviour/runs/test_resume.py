"""A run that was stopped, however, goes on where it was, and pays for nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import (
    ChunkFinished,
    Event,
    InputPlanned,
    JobAbandoned,
    JobPolled,
    JobSubmitted,
    OutputProgress,
    RequestSent,
    RunResumed,
    RunStopped,
)
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.ports import free_port
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    client_of,
    enhancer,
    hashes,
    is_journal,
    lines,
    requests,
    sandbox_and_client,
    stopped_run,
)
from tests.support.sweeps import sampled

MOMENTS: list[tuple[type[Event], int, str]] = [
    (InputPlanned, 1, "resume"),
    (JobSubmitted, 3, "run"),
    (ChunkFinished, 5, "resume"),
    (OutputProgress, 1, "run"),  # most are written by then, as they came in order
    (RequestSent, 1, "run"),
    (JobSubmitted, 1, "resume"),
    (JobPolled, 2, "resume"),
    (ChunkFinished, 1, "run"),
    (ChunkFinished, 10, "run"),
    (OutputProgress, 1, "resume"),
]


@pytest.mark.parametrize(("kind", "count", "by"), sampled(MOMENTS, 3))
async def test_cancelled_anywhere_it_goes_on(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    kind: type[Event],
    count: int,
    by: str,
) -> None:
    """Nothing is in doubt, no chunk has two jobs, no answer is fetched twice."""
    output = tmp_path / "out.jsonl"
    stopper = await stopped_run(client, output, kind, count)
    done_before = sum(isinstance(event, ChunkFinished) for event in stopper.events)
    [stop] = [event for event in stopper.events if isinstance(event, RunStopped)]
    assert (stop.run_dir, stop.rows) == (f"{output}.run", 100)
    assert (stop.rows_done or 0) >= 10 * done_before
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.run"]
    events: list[Event] = []
    bulk = enhancer(client, on_event=events.append)
    if by == "run":
        summary = await bulk.run(ADDRESSES, output)
    else:
        summary = await bulk.resume(f"{output}.run")
    assert_all_there(output)
    stats = sandbox.stats
    assert (stats.jobs_accepted, stats.locations_accepted_more_than_once) == (10, 0)
    # Jobs whose outputs were being fetched when it was cancelled are fetched once more.
    assert stats.outputs_served <= 10 + 4
    assert (summary.rows, summary.ok + summary.partial + summary.failed) == (100, 100)
    assert (summary.jobs, summary.locations_charged) == (10, 100)
    assert (summary.submissions_in_doubt, summary.locations_possibly_charged_again) == (0, 0)
    resumed = [event for event in events if isinstance(event, RunResumed)]
    if stop.rows_done:
        assert [event.rows_done for event in resumed] == [stop.rows_done]
    finished = sum(event.rows for event in events if isinstance(event, ChunkFinished))
    assert (stop.rows_done or 0) + finished == 100
    assert not any(isinstance(event, RunStopped) for event in events)


async def test_stopped_again_and_again(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """However often: what was done stays done."""
    output = tmp_path / "out.jsonl"
    for count in (1, 2, 3):
        await stopped_run(client, output, ChunkFinished, count)
    summary = await enhancer(client).run(ADDRESSES, output)
    assert_all_there(output)
    assert (sandbox.stats.jobs_accepted, summary.jobs) == (10, 10)


async def test_submissions_on_their_way_are_awaited(tmp_path: Path) -> None:
    """Cancelled while the API thinks about a submission, its answer is still noted."""
    faults = FaultPlan(slow_answer=1.0, slow_answer_s=0.1)
    output = tmp_path / "out.jsonl"
    async with sandbox_and_client(faults=faults) as (server, client):
        await stopped_run(client, output, RequestSent, 1, chunk_size=40)
        assert server.stats.jobs_accepted == 1
        summary = await enhancer(client).run(ADDRESSES, output)
        assert server.stats.jobs_accepted == 3
    assert_all_there(output)
    assert summary.submissions_in_doubt == 0


def no_credit(server: SandboxServer) -> None:
    server._api._account._limits = {"PG": {"daily": 70}}


def no_access(server: SandboxServer) -> None:
    server._api._account._allowed = ["PH"]


def no_token(server: SandboxServer) -> None:
    object.__setattr__(server, "token", "another")


def all_well(server: SandboxServer) -> None:
    server._api._account._limits = {}
    server._api._account._allowed = None
    object.__setattr__(server, "token", None)


@pytest.mark.parametrize(
    ("change", "error"),
    sampled(
        [
            (no_credit, ping.AccessDeniedError),
            (no_token, ping.AuthenticationError),
            (no_access, ping.AccessDeniedError),
        ],
        2,
    ),
)
async def test_no_credit_no_access_no_token_any_more(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    change: Callable[[SandboxServer], None],
    error: type[Exception],
) -> None:
    """In the middle: what is paid for is brought home, and the run goes on when it can."""
    output = tmp_path / "out.jsonl"
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, ChunkFinished) and event.chunk == 3:
            change(sandbox)

    with pytest.raises(error):
        await enhancer(client, on_event=watch, retry_policy=QUICK).run(ADDRESSES, output)
    [stop] = [event for event in events if isinstance(event, RunStopped)]
    assert 10 <= (stop.rows_done or 0) < 100
    if change is not no_token:  # without one, nobody can ask about jobs
        assert stop.rows_done == sandbox.stats.locations_accepted
    assert not output.exists()
    all_well(sandbox)
    summary = await enhancer(client).run(ADDRESSES, output)
    assert_all_there(output)
    stats = sandbox.stats
    assert (stats.jobs_accepted, stats.locations_accepted_more_than_once) == (10, 0)
    assert (summary.jobs, summary.submissions_in_doubt) == (10, 0)


QUICK = ping.RetryPolicy(
    base_delay_s=0.01, max_delay_s=0.05, give_up_after_s=0.3, first_contact_s=0.3, late_after_s=0.1
)


async def test_an_api_that_goes_down(tmp_path: Path) -> None:
    """Given up after a while; when it is there again with its jobs, nothing is paid twice."""
    output = tmp_path / "out.jsonl"
    server = SandboxServer(port=free_port(), locations_per_s=1000.0, queue_delay_s=0.0)
    events: list[Event] = []
    async with server, client_of(server) as client:
        gone = anyio.Event()

        def watch(event: Event) -> None:
            events.append(event)
            if isinstance(event, ChunkFinished) and event.chunk >= 5:
                gone.set()

        async def pull_the_plug() -> None:
            await gone.wait()
            await server.__aexit__(None, None, None)

        bulk = enhancer(client, on_event=watch, retry_policy=QUICK)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pull_the_plug)
            with pytest.raises(ping.TransportError):
                await bulk.run(ADDRESSES, output)
        assert any(isinstance(event, RunStopped) for event in events)
        await server.__aenter__()
        summary = await enhancer(client, retry_policy=QUICK).run(ADDRESSES, output)
        stats = server.stats
    assert_all_there(output)
    again = stats.locations_accepted_more_than_once
    assert again <= summary.locations_possibly_charged_again <= 40


async def test_forgotten_jobs_are_submitted_again_and_counted(tmp_path: Path) -> None:
    """An API that lost its memory: only what was in flight is paid for once more."""
    output = tmp_path / "out.jsonl"
    port = free_port()
    async with sandbox_and_client(port=port, locations_per_s=100.0, workers=1) as (_, client):
        stopper = await stopped_run(client, output, JobSubmitted, 6)
    # Not the chunks that were told: the last may have been kept just before it was cancelled.
    [stop] = [event for event in stopper.events if isinstance(event, RunStopped)]
    events: list[Event] = []
    async with sandbox_and_client(port=port) as (server, client):
        bulk = enhancer(client, on_event=events.append, retry_policy=QUICK)
        summary = await bulk.run(ADDRESSES, output)
        assert server.stats.jobs_accepted == 10 - (stop.rows_done or 0) // 10
    assert_all_there(output)
    lost = sum(isinstance(event, JobAbandoned) for event in events)
    assert lost > 0
    assert summary.locations_possibly_charged_again == 10 * lost
    assert summary.jobs == 10 + lost
    [resumed] = [event for event in events if isinstance(event, RunResumed)]
    assert resumed.jobs_in_flight == lost


async def test_a_finished_run_sends_nothing(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """By either way; the same summary, and the output is not touched."""
    output = tmp_path / "out.jsonl"
    first = await enhancer(client).run(ADDRESSES, output)
    # SQLite counts in its file's head how often it was opened.
    sent, before = requests(sandbox), hashes(tmp_path, is_journal)
    written = output.stat().st_mtime_ns
    assert await enhancer(client).run(ADDRESSES, output) == first
    assert await enhancer(client).resume(f"{output}.run") == first
    assert requests(sandbox) == sent
    assert output.stat().st_mtime_ns == written
    assert hashes(tmp_path, is_journal) == before


async def test_a_deleted_output_is_written_again_for_nothing(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Byte for byte; under another name too, and each summary names its own."""
    output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    first = await enhancer(client).run(ADDRESSES, output)
    sent, content = requests(sandbox), output.read_bytes()
    output.unlink()
    second = await enhancer(client).run(ADDRESSES, output)
    assert (second.rows, second.ok, second.jobs) == (first.rows, first.ok, first.jobs)
    third = await enhancer(client).resume(f"{output}.run", output=other)
    assert (third.output, third.ok) == (str(other), first.ok)
    assert output.read_bytes() == other.read_bytes() == content
    assert (await enhancer(client).run(ADDRESSES, output)).output == str(output)
    assert (await enhancer(client).resume(f"{output}.run", output=other)).output == str(other)
    assert requests(sandbox) == sent


async def test_another_output_that_exists_is_not_replaced(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Only what the run wrote itself, or by the user's wish."""
    output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    await stopped_run(client, output, ChunkFinished, 3)
    other.write_text("precious")
    with pytest.raises(ping.ConfigurationError, match="exists already"):
        await enhancer(client).resume(f"{output}.run", output=other)
    assert other.read_text() == "precious"
    await enhancer(client).resume(f"{output}.run", output=other, overwrite=True)
    assert_all_there(other)


async def test_cut_off_before_its_output_takes_its_name(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """What somebody else puts there meanwhile is not the run's own."""
    output = tmp_path / "out.jsonl"
    await stopped_run(client, output, OutputProgress, 1)
    sent = requests(sandbox)
    output.write_text("precious\n")
    with pytest.raises(ping.ConfigurationError, match="exists already"):
        await enhancer(client).run(ADDRESSES, output)
    assert output.read_text() == "precious\n"
    summary = await enhancer(client).run(ADDRESSES, output, overwrite=True)
    assert_all_there(output)
    assert (summary.rows, requests(sandbox)) == (100, sent)


async def test_the_input_is_not_needed_any_more(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Once it is planned, it may be gone; both ways of going on work."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_bytes(ADDRESSES.read_bytes())
    await stopped_run(client, output, ChunkFinished, 3, source=source)
    source.unlink()
    await stopped_run(client, output, ChunkFinished, 3, source=source)
    await enhancer(client).resume(f"{output}.run")
    assert_all_there(output)


async def test_discarded_when_all_is_answered(client: ping.PingDataClient, tmp_path: Path) -> None:
    """And not before; the summary names no directory then."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\n")
    summary = await enhancer(client).run(tmp_path / "in.csv", output, discard_run=True)
    assert (summary.no_answer, summary.run_dir) == (1, str(run_dir))
    assert run_dir.is_dir()
    other = tmp_path / "other.jsonl"
    summary = await enhancer(client).run(ADDRESSES, other, discard_run=True)
    assert summary.run_dir is None
    assert not Path(f"{other}.run").exists()
    assert len(lines(other)) == 100


async def test_deleted_failures_are_written_again_for_nothing(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """As the output is."""
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\n")
    first = await enhancer(client).run(tmp_path / "in.csv", tmp_path / "out.jsonl")
    sent = requests(sandbox)
    assert first.failures is not None
    failures = Path(first.failures)
    content = failures.read_bytes()
    failures.unlink()
    await enhancer(client).run(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert failures.read_bytes() == content
    assert requests(sandbox) == sent
