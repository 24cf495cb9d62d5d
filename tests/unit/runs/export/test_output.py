"""What a run wrote may be replaced by it, and nothing else may."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event
from pingdata_async.runs.export import output as output_files
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    hashes,
    in_few_chunks,
    requests,
    stopped_run,
)


async def test_an_output_that_was_changed_is_not_the_runs_own(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It is neither taken for finished nor replaced, but by the user's wish."""
    output = tmp_path / "out.jsonl"
    bulk = in_few_chunks(client)
    await bulk.run(ADDRESSES, output, overwrite=True)
    sent = requests(sandbox)
    output.write_text("precious")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: bulk.run(ADDRESSES, output),
        lambda: bulk.resume(f"{output}.run"),
        lambda: bulk.retry(f"{output}.run"),
    ]
    for call in calls:
        with pytest.raises(ping.ConfigurationError, match="was changed since this run wrote it"):
            await call()
    assert output.read_text() == "precious"
    await bulk.run(ADDRESSES, output, overwrite=True)
    assert_all_there(output)
    assert requests(sandbox) == sent


async def test_failures_that_were_mended_stay_the_runs_own(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """That is what they are for; a file that the run never wrote is not, under their name too."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    failures = tmp_path / "out.jsonl.failures.jsonl"
    source.write_text("id,address\na,1 Main St\nb,\n")
    bulk = in_few_chunks(client)
    await bulk.run(source, output)
    failures.write_text('{"id":"b","address":"2 Main St"}\n')
    await bulk.retry(f"{output}.run")
    source.write_text("id,address\na,1 Main St\n")
    other = tmp_path / "other.jsonl"
    await bulk.run(source, other)
    (tmp_path / "other.jsonl.failures.jsonl").write_text("precious")
    with pytest.raises(ping.ConfigurationError, match="exists already"):
        await bulk.retry(f"{other}.run")
    assert (tmp_path / "other.jsonl.failures.jsonl").read_text() == "precious"


async def test_a_run_set_aside_does_not_own_the_output(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """What the new run wrote is not replaced by the old one."""
    output = tmp_path / "out.jsonl"
    bulk = in_few_chunks(client)
    await bulk.run(ADDRESSES, output)
    bulk = in_few_chunks(client, sources=["PG", "PH"])
    await bulk.run(ADDRESSES, output, restart=True, overwrite=True)
    before, sent = output.read_bytes(), requests(sandbox)
    old = in_few_chunks(client)
    for call in (old.resume, old.retry):
        with pytest.raises(ping.ConfigurationError, match="was changed"):
            await call(f"{output}.run.old-1")
    await bulk.run(ADDRESSES, output)
    assert (output.read_bytes(), requests(sandbox)) == (before, sent)


@pytest.mark.parametrize("is_moved", [False, True])
async def test_cut_off_around_the_move_of_the_output(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_moved: bool,
) -> None:
    """Before it has its name and after, the same command goes on: both files are known."""
    output = tmp_path / "out.jsonl"
    output.write_text("old")
    really_move = output_files._move_into_place

    def cut_off(part: Path, path: Path) -> None:
        if is_moved:
            really_move(part, path)
        raise ping.RunError("the power went")

    bulk = in_few_chunks(client)
    with monkeypatch.context() as patch:
        patch.setattr(output_files, "_move_into_place", cut_off)
        with pytest.raises(ping.RunError, match="power"):
            await bulk.run(ADDRESSES, output, overwrite=True)
    sent = requests(sandbox)
    await bulk.run(ADDRESSES, output)
    assert_all_there(output)
    assert requests(sandbox) == sent


async def test_a_folder_that_was_moved_goes_on(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Run and output belong together; finished, nothing is sent or written there either."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    await stopped_run(client, before / "out.jsonl", ChunkFinished, 3)
    before.rename(after)
    run_dir = after / "out.jsonl.run"
    await in_few_chunks(client).resume(run_dir)
    assert_all_there(after / "out.jsonl")
    assert sandbox.stats.jobs_accepted == 10
    after.rename(before)
    written, sent = (before / "out.jsonl").stat().st_mtime_ns, requests(sandbox)
    await in_few_chunks(client).resume(before / "out.jsonl.run")
    assert (before / "out.jsonl").stat().st_mtime_ns == written
    assert requests(sandbox) == sent
    assert not after.exists()


async def test_an_output_whose_folder_is_gone(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Where it is not beside its run, the message says how to name another."""
    (tmp_path / "out").mkdir()
    bulk = in_few_chunks(client)
    await bulk.plan(ADDRESSES, tmp_path / "out" / "out.jsonl", run_dir=tmp_path / "kept")
    (tmp_path / "out").rmdir()
    with pytest.raises(ping.ConfigurationError, match=r"does not exist.* -o"):
        await bulk.resume(tmp_path / "kept", output=tmp_path / "out" / "out.jsonl")
    await bulk.resume(tmp_path / "kept", output=tmp_path / "out.jsonl")
    assert_all_there(tmp_path / "out.jsonl")


@pytest.mark.parametrize("run_dir", [None, "kept"])
async def test_a_copy_is_a_run_of_its_own(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path, run_dir: str | None
) -> None:
    """As `cp -r` makes it: finished as well, and what it writes leaves the original alone."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "in.csv").write_bytes(ADDRESSES.read_bytes())
    kept = None if run_dir is None else before / run_dir
    await in_few_chunks(client).run(before / "in.csv", before / "out.jsonl", run_dir=kept)
    shutil.copytree(before, after, copy_function=shutil.copyfile)
    written, sent = hashes(before), requests(sandbox)
    copied = after / (run_dir or "out.jsonl.run")
    copied.chmod(0o700)
    await in_few_chunks(client).resume(copied)
    assert requests(sandbox) == sent
    await in_few_chunks(client).retry(copied, all_not_ok=True)
    assert_all_there(after / "out.jsonl")
    assert hashes(before) == written
    with pytest.raises(ping.ConfigurationError, match="is the input itself"):
        await ping.export_run(copied, after / "in.csv", overwrite=True)
    (after / "out.jsonl").write_bytes(bytes((after / "out.jsonl").stat().st_size))
    with pytest.raises(ping.ConfigurationError, match="was changed"):
        await in_few_chunks(client).resume(copied)


async def test_paths_mean_the_same_in_another_folder(
    client: ping.PingDataClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process goes to another folder in the middle, all stays where it was named."""
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_bytes(ADDRESSES.read_bytes())

    def leave(event: Event) -> None:
        if isinstance(event, ChunkFinished):
            monkeypatch.chdir(there)

    await in_few_chunks(client, on_event=leave).run("in.csv", "out.jsonl")
    assert Path.cwd() == there
    assert_all_there(tmp_path / "out.jsonl")
    with pytest.raises(ping.ConfigurationError, match="is the input itself"):
        await ping.export_run("../out.jsonl.run", "../in.csv", overwrite=True)
    await ping.export_run("../out.jsonl.run", "here.jsonl")
    assert [path.name for path in there.iterdir()] == ["here.jsonl"]
    assert (tmp_path / "in.csv").read_bytes() == ADDRESSES.read_bytes()
    status = await anyio.to_thread.run_sync(ping.read_status, "../out.jsonl.run")
    assert Path(status.source).samefile(tmp_path / "in.csv")
