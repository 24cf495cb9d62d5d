"""A run directory is the run's alone: nothing else is written there, and nothing else removed."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.events import Event, RunNotice
from pingdata_async.runs.directory.directory import RunDirectory
from pingdata_async.runs.export.export import export_run
from pingdata_async.sandbox import SandboxServer
from pingdata_async.util.encoding import EncodedBody
from tests.support.runs import ADDRESSES, assert_all_there, enhancer, hashes, is_journal, write_rows
from tests.support.sweeps import sampled


@pytest.mark.parametrize(
    "output", sampled(["work/spool/out.jsonl", "to.jsonl", "work/out.jsonl", "link/o.jsonl"], 2)
)
@pytest.mark.parametrize("is_there", [True, False])
async def test_an_output_in_the_run_directory_is_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, output: str, is_there: bool
) -> None:
    """Also by way of a link, and where the folder is empty; nothing is sent or written."""
    work = tmp_path / "work"
    (work / "spool").mkdir(parents=True)
    (tmp_path / "link").symlink_to("work")
    (tmp_path / "to.jsonl").symlink_to("work/out.jsonl")
    if is_there:
        (work / "spool").rmdir()
        await enhancer(client, chunk_size=100).run(
            ADDRESSES, tmp_path / "first.jsonl", run_dir=work
        )
        (work / "spool").mkdir(exist_ok=True)
    before, sent = hashes(tmp_path, is_journal), sandbox.stats.requests["submit"]
    bulk = enhancer(client)
    with pytest.raises(ping.ConfigurationError, match="in the run directory"):
        await bulk.run(ADDRESSES, tmp_path / output, run_dir=work, discard_run=True)
    with pytest.raises(ping.ConfigurationError, match="in the run directory"):
        await bulk.plan(ADDRESSES, tmp_path / output, run_dir=work)
    if is_there:
        with pytest.raises(ping.ConfigurationError, match="in the run directory"):
            await bulk.resume(work, output=tmp_path / output)
        with pytest.raises(ping.ConfigurationError, match="in the run directory"):
            await bulk.retry(work, all_not_ok=True, output=tmp_path / output)
        with pytest.raises(ping.ConfigurationError, match="in the run directory"):
            await export_run(work, tmp_path / output)
    assert hashes(tmp_path, is_journal) == before
    assert sandbox.stats.requests["submit"] == sent


async def test_failures_that_would_be_the_run_directory(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """The file beside the output has its place too."""
    with pytest.raises(ping.ConfigurationError, match="in the run directory"):
        await enhancer(client).run(
            ADDRESSES, tmp_path / "o.jsonl", run_dir=tmp_path / "o.jsonl.failures.jsonl"
        )


async def test_an_input_in_the_run_directory_is_refused(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """It would be taken for the run's own, as its name may be."""
    (tmp_path / "work").mkdir()
    write_rows(tmp_path / "work" / "plan", 10)
    with pytest.raises(ping.ConfigurationError, match="in the run directory"):
        await enhancer(client).run(
            tmp_path / "work" / "plan", tmp_path / "o.jsonl", run_dir=tmp_path / "work"
        )


async def test_only_what_a_run_made_is_discarded(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Files of others stay, at any depth; links are not followed."""
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    await enhancer(client, chunk_size=100).run(ADDRESSES, tmp_path / "out.jsonl", run_dir=work)
    strangers = ["notes.txt", "spool/notes.txt", "spool/mine.json", "journal.sqlite3.bak"]

    def interfere() -> None:
        elsewhere.mkdir()
        for path in [elsewhere / "plan", *(work / name for name in strangers)]:
            path.write_text("a stranger's")
        (work / "link").symlink_to(elsewhere)
        (work / "spool" / "000001.json.gz").symlink_to(elsewhere)

    async with RunDirectory(work) as directory:
        await anyio.to_thread.run_sync(interfere)
        await directory.spool.keep_unreadable(7, [EncodedBody(b"<html>"), EncodedBody(b"<p>")])
        directory.discard = True
    left = {str(path.relative_to(work)) for path in work.rglob("*")}
    assert left == {*strangers, "spool", "link", "spool/000001.json.gz"}
    assert sorted(directory.left_behind) == sorted({*strangers, "link", "spool/000001.json.gz"})
    assert (elsewhere / "plan").read_text() == "a stranger's"


async def test_what_is_left_of_a_discarded_run_is_said(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """With the names of the files that keep it."""
    output, events = tmp_path / "out.jsonl", list[Event]()
    await enhancer(client, chunk_size=100).plan(ADDRESSES, output)
    (tmp_path / "out.jsonl.run" / "notes.txt").touch()
    bulk = enhancer(client, on_event=events.append)
    summary = await bulk.resume(f"{output}.run", discard_run=True)
    assert_all_there(output)
    assert [path.name for path in Path(f"{output}.run").iterdir()] == ["notes.txt"]
    assert summary.run_dir == f"{output}.run"
    said = [event.message for event in events if isinstance(event, RunNotice)]
    assert any("is not deleted" in message and "notes.txt" in message for message in said)


async def test_a_paid_run_where_the_new_one_is_made_stays(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """`restart` makes the new run in OUTPUT.run.new: not over one that somebody keeps there."""
    output, new = tmp_path / "out.jsonl", tmp_path / "out.jsonl.run.new"
    await enhancer(client, chunk_size=100).run(ADDRESSES, output)
    await enhancer(client, chunk_size=100, sources=["PH"]).run(
        ADDRESSES, tmp_path / "ph.jsonl", run_dir=new
    )
    before = hashes(tmp_path, is_journal)
    with pytest.raises(ping.ConfigurationError, match="paid for"):
        await enhancer(client).run(ADDRESSES, output, restart=True, overwrite=True)
    assert hashes(tmp_path, is_journal) == before
