"""Files in, files out, through the sandbox over real sockets."""

from __future__ import annotations

import math
import os
import stat
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.events import (
    Event,
    InputAwaited,
    InputPlanned,
    RequestSent,
    RunNotice,
    RunStopped,
)
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.probes import loop_lag
from tests.support.runs import ADDRESSES, FAST_POLLS, lines, requests, write_rows

LAG_LIMIT_S = 1.0


async def test_every_row_once_in_order_with_its_own_answer(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Each line has its row, its id and the answer for its own address; the cap holds."""
    made = write_rows(tmp_path / "in.csv", 2_000)
    enhancer = ping.BulkEnhancer(
        client, ["PG", "PH"], chunk_size=50, max_jobs=5, poll_schedule=FAST_POLLS
    )
    async with loop_lag() as lag:
        summary = await enhancer.run(tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert lag.worst_cpu_s < LAG_LIMIT_S  # far above what it is
    written = lines(tmp_path / "out.jsonl")
    assert [line["row"] for line in written] == list(range(2_000))
    assert [line["id"] for line in written] == [row["id"] for row in made]
    for row, line in zip(made, written, strict=True):
        if line["status"] == "ok":
            assert row["address_line_1"] in line["location_data"]["PG"]["formatted_address"]
            assert line["location_data"]["PG"]["latitude"] == pytest.approx(float(row["latitude"]))
    assert (summary.rows, summary.ok + summary.partial + summary.failed) == (2_000, 2_000)
    assert (summary.jobs, summary.locations_charged) == (40, 2_000)
    assert sandbox.stats.locations_accepted_more_than_once == 0
    assert sandbox.stats.peak_jobs_in_flight <= 5
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.jsonl", "out.jsonl.run"]


@pytest.mark.parametrize("dedupe", [True, False])
async def test_a_blank_id_is_no_other_rows_id(
    client: ping.PingDataClient, tmp_path: Path, *, dedupe: bool
) -> None:
    """Sent, repeated or not sent: null, also before the first row that has an id."""
    rows = ["1 Main St,", "1 Main St,", ",", "2 Main St,0", "1 Main St,1", ",2", "3 Main St,"]
    (tmp_path / "in.csv").write_text("\n".join(["address,id", *rows]), encoding="utf-8")
    enhancer = ping.BulkEnhancer(client, ["PG"], chunk_size=2, poll_schedule=FAST_POLLS)
    await enhancer.run(tmp_path / "in.csv", tmp_path / "out.jsonl", dedupe=dedupe)
    written = lines(tmp_path / "out.jsonl")
    assert [line["id"] for line in written] == [None, None, None, "0", "1", "2", None]
    assert [line["row"] for line in written] == list(range(7))
    invalid = lines(tmp_path / "out.jsonl.failures.jsonl")
    assert [(line.get("id"), line["row"]) for line in invalid] == [(None, 2), ("2", 5)]


async def test_the_number_of_a_row_is_its_id_where_no_row_has_one(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """As text, whether there is a column for ids or not."""
    for header, end in (("address,id", ","), ("address", "")):
        rows = [f"{number} Main St{end}" for number in range(3)]
        (tmp_path / "in.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
        output = tmp_path / f"{len(header)}.jsonl"
        await ping.BulkEnhancer(client, ["PG"], poll_schedule=FAST_POLLS).run(
            tmp_path / "in.csv", output
        )
        assert [line["id"] for line in lines(output)] == ["0", "1", "2"]


@pytest.mark.parametrize("spacing", ["spaced", "compact"])
@pytest.mark.parametrize("shape", ["list", "object"])
async def test_every_shape_of_answer_gives_the_same_output(
    tmp_path: Path, spacing: Any, shape: Any
) -> None:
    """The statuses do not depend on how the API spaces and draws its JSON."""
    outputs: list[list[dict[str, Any]]] = []
    for kwargs in ({}, {"spacing": spacing, "shape": shape, "relative_urls": True}):
        async with (
            SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0, **kwargs) as server,
            ping.PingDataClient(api_url=server.url, auth_token="t") as client,
        ):
            enhancer = ping.BulkEnhancer(client, "PG,PH", poll_schedule=FAST_POLLS)
            output = tmp_path / f"out{len(outputs)}.jsonl"
            await enhancer.run(ADDRESSES, output)
            outputs.append(lines(output))
    assert outputs[0] == outputs[1]
    assert {line["status"] for line in outputs[0]} == {"ok", "partial", "failed"}


# What a run overcomes by asking for the same thing again, and accounts for to the last request.
PLAIN_FAULTS = (
    "rate_limit",
    "server_error",
    "html_error",
    "drop",
    "slow_answer",
    "failed_job",
    "cut_output",
    "corrupt_output",
)


async def test_all_rows_arrive_with_every_plain_fault_on(tmp_path: Path) -> None:
    """Those faults at 5 %: all rows are answered, and the summary says what it took."""
    write_rows(tmp_path / "in.csv", 2_000)
    submissions = 0

    def count(event: Event) -> None:
        nonlocal submissions
        submissions += isinstance(event, RequestSent) and event.kind == "submit"

    plan: dict[str, Any] = dict.fromkeys(PLAIN_FAULTS, 0.05)
    faults = FaultPlan(retry_after_s=0, slow_answer_s=0.05, **plan)
    async with (
        SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0, faults=faults, seed=7) as server,
        ping.PingDataClient(api_url=server.url, auth_token="t") as client,
    ):
        enhancer = ping.BulkEnhancer(
            client,
            ["PG"],
            chunk_size=20,
            poll_schedule=FAST_POLLS,
            # More attempts than by default: with some hundred draws, four in a row do happen.
            retry_policy=ping.RetryPolicy(
                base_delay_s=0.01, max_delay_s=0.1, job_attempts=8, in_doubt_retries=8
            ),
            on_event=count,
        )
        summary = await enhancer.run(tmp_path / "in.csv", tmp_path / "out.jsonl")
        stats = server.stats
    assert [line["row"] for line in lines(tmp_path / "out.jsonl")] == list(range(2_000))
    assert (summary.rows, summary.no_answer) == (2_000, 0)
    assert stats.faults.total() > 30
    assert summary.jobs == stats.jobs_accepted
    assert summary.locations_charged == stats.locations_accepted
    assert stats.locations_accepted_more_than_once <= summary.locations_possibly_charged_again
    # A question on an idle connection that the server drops is asked again by aiohttp, as
    # HTTP allows for GET; a submission never is.
    asked = sum(stats.requests[kind] for kind in ("submit", "status", "output"))
    assert 0 <= asked - summary.requests <= stats.faults["drop"]
    assert stats.requests["submit"] == submissions
    assert summary.retries > 10
    assert summary.refused > 0


async def test_rows_that_cannot_be_sent_come_out_all_the_same(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """An empty row costs nothing, is reported under its number, and moves no other row."""
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\nc,2 Oak Ave\n,\n")
    summary = await ping.BulkEnhancer(client, "PG", poll_schedule=FAST_POLLS).run(
        tmp_path / "in.csv", tmp_path / "out.jsonl"
    )
    written = lines(tmp_path / "out.jsonl")
    assert [(line["id"], line.get("reason")) for line in written if line["row"] in {1, 3}] == [
        ("b", "invalid_input"),
        (None, "invalid_input"),
    ]
    assert [line["id"] for line in written] == ["a", "b", "c", None]
    assert sandbox.stats.locations_accepted == 2
    assert summary.no_answer == 2


async def test_a_file_of_nothing_to_send_sends_nothing(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """All rows invalid, or a header alone: an output all the same, and no job."""
    for name, content, rows in (("a", "id,address\n,\nx,\n", 2), ("b", "address\n", 0)):
        (tmp_path / f"{name}.csv").write_text(content)
        summary = await ping.BulkEnhancer(client, "PG").run(
            tmp_path / f"{name}.csv", tmp_path / f"{name}.jsonl"
        )
        assert summary.rows == len(lines(tmp_path / f"{name}.jsonl")) == rows
    assert requests(sandbox) == 0


async def test_repeated_ids_are_the_users_business(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Ids on the wire are ours: the user's may repeat, and come back as they were."""
    (tmp_path / "in.csv").write_text("id,address\nx,1 Main St\nx,2 Oak Ave\n,3 Elm St\n")
    await ping.BulkEnhancer(client, "PG", poll_schedule=FAST_POLLS).run(
        tmp_path / "in.csv", tmp_path / "out.jsonl"
    )
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == ["x", "x", None]


async def test_a_link_is_written_through_and_rights_are_kept(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Replacing an output changes its content, not what it is."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    (tmp_path / "link.jsonl").symlink_to(target)
    await ping.BulkEnhancer(client, "PG", poll_schedule=FAST_POLLS).run(
        ADDRESSES, tmp_path / "link.jsonl", overwrite=True
    )
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(lines(target)) == 100
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_the_run_directory_is_private(client: ping.PingDataClient, tmp_path: Path) -> None:
    """While it is there, nobody else may look into it."""
    modes: list[int] = []
    planned = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, InputPlanned):
            planned.set()

    async def look() -> None:
        await planned.wait()
        modes.append(stat.S_IMODE((await anyio.Path(tmp_path / "out.jsonl.run").stat()).st_mode))

    enhancer = ping.BulkEnhancer(
        client, "PG", chunk_size=20, max_jobs=1, poll_schedule=FAST_POLLS, on_event=watch
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await enhancer.run(ADDRESSES, tmp_path / "out.jsonl")
    assert modes == [0o700]


@pytest.mark.parametrize("output", ["", ".", "/"])
async def test_an_output_without_a_name_is_refused_at_once(
    client: ping.PingDataClient, output: str
) -> None:
    """In the same words by all that takes one, and without asking which folder this is."""
    enhancer = ping.BulkEnhancer(client, "PG")
    for call in (enhancer.run, enhancer.dry_run, enhancer.plan):
        with pytest.raises(ping.ConfigurationError, match="names no file"):
            await call(ADDRESSES, output)


@pytest.mark.parametrize(
    ("output", "overwrite", "says"),
    [
        ("in.csv.jsonl/x", False, "does not exist"),
        ("there.jsonl", False, "exists already"),
        ("folder", True, "is a folder"),
        ("pipe", True, "not a regular file"),
        ("n" * 250, False, "too long"),
        ("out.pdf", False, "its name does not tell the format"),
        ("in.jsonl", True, "the input itself"),
    ],
)
async def test_an_output_that_cannot_be_is_refused_before_anything_is_sent(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    output: str,
    overwrite: bool,
    says: str,
) -> None:
    """Nothing is paid for that could not be written down."""
    source = tmp_path / "in.jsonl"
    source.write_text('"1 Main St"\n')
    (tmp_path / "there.jsonl").write_text("precious")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ping.ConfigurationError, match=says):
        await ping.BulkEnhancer(client, "PG").run(source, tmp_path / output, overwrite=overwrite)
    assert not sandbox.stats.requests
    assert (tmp_path / "there.jsonl").read_text() == "precious"
    assert not list(tmp_path.glob("*.run"))


async def test_a_folder_of_something_else_is_refused(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """A run never mixes with what is not its own."""
    (tmp_path / "out.jsonl.run").mkdir()
    (tmp_path / "out.jsonl.run" / "mine").touch()
    with pytest.raises(ping.ConfigurationError, match="not a run directory"):
        await ping.BulkEnhancer(client, "PG").run(ADDRESSES, tmp_path / "out.jsonl")
    assert not sandbox.stats.requests


async def test_a_pipe_without_a_writer_is_announced(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """By a run, and by a dry run at once; then both go on."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    writers: list[threading.Thread] = []

    def write(event: Event) -> None:
        if isinstance(event, InputAwaited):
            assert event.source == str(pipe)
            writers.append(threading.Thread(target=pipe.write_bytes, args=(b"address\n1 A St\n",)))
            writers[-1].start()

    bulk = ping.BulkEnhancer(client, "PG", on_event=write)
    assert (await bulk.dry_run(pipe)).rows == 1
    assert (await bulk.run(pipe, tmp_path / "out.jsonl")).rows == 1
    assert len(writers) == 2
    for writer in writers:
        await anyio.to_thread.run_sync(writer.join)


async def test_an_unknown_source_stops_at_once(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The API's message is shown, and nothing is in the way of the right sources."""
    with pytest.raises(ping.RequestRejectedError, match="NOPE"):
        await ping.BulkEnhancer(client, "NOPE", chunk_size=10).run(
            ADDRESSES, tmp_path / "out.jsonl"
        )
    assert sandbox.stats.requests["submit"] == 1
    assert not list(tmp_path.glob("*out.jsonl*"))


async def test_an_unknown_source_after_planning_alone(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """What was planned is not thrown away unasked, and it is said what to do with it."""
    output = tmp_path / "out.jsonl"
    events: list[Event] = []
    bulk = ping.BulkEnhancer(client, "NOPE", chunk_size=100, on_event=events.append)
    await bulk.plan(ADDRESSES, output)
    for call in (bulk.run(ADDRESSES, output), bulk.resume(f"{output}.run")):
        events.clear()
        with pytest.raises(ping.RequestRejectedError, match="NOPE"):
            await call
        assert any("--restart" in event.message for event in events if type(event) is RunNotice)
        assert not any(isinstance(event, RunStopped) for event in events)
    right = ping.BulkEnhancer(client, "PG", chunk_size=100)
    with pytest.raises(ping.ConfigurationError, match=r"sources NOPE instead of PG.*--restart"):
        await right.run(ADDRESSES, output)
    assert (await right.run(ADDRESSES, output, restart=True)).rows == 100
