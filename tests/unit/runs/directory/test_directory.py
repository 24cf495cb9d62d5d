"""The run directory: planned alone, set aside, in use, and damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event, RunNotice
from pingdata_async.runs.directory.directory import (
    RunDirectory,
    can_set_aside,
    read_settings,
    run_dir_for,
)
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.status import read_status
from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.util.files import RunLock
from tests.support.probes import until
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    enhancer,
    hashes,
    is_journal,
    lines,
    requests,
    sandbox_and_client,
    stopped_run,
    write_rows,
)
from tests.support.sweeps import sampled


async def test_a_plan_alone_sends_nothing(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It needs no open client; then `run()` and `resume()` go on with it."""
    closed = ping.PingDataClient(api_url=client.api_url, auth_token="t")
    for by in ("run", "resume"):
        source, output = tmp_path / f"{by}.csv", tmp_path / f"{by}.jsonl"
        write_rows(source, 45 if by == "run" else 46)
        status = await enhancer(closed).plan(source, output)
        assert (status.rows, status.settled, status.chunks["planned"]) == (
            45 if by == "run" else 46,
            0,
            5,
        )
        assert not status.is_running
        assert not status.is_finished
        assert await enhancer(closed).plan(source, output) == status
        source.unlink()
        bulk = enhancer(client)
        if by == "run":
            await bulk.run(source, output)
        else:
            await bulk.resume(f"{output}.run")
        assert_all_there(output, 45 if by == "run" else 46)
    assert sandbox.stats.jobs_accepted == 10


async def test_cancelled_while_planning_leaves_nothing(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Nothing was sent; an empty folder that was there is no obstacle."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('"1 Main St"\n' * 300_000)
    plan = Path(f"{output}.run") / "plan.part"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enhancer(client).plan, source, output)
        await until(plan.exists)
        tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancelled_caught
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


async def test_killed_while_planning_is_begun_anew(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Whatever was there already: the journal's first name, a half plan, or a whole one."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    run_dir.mkdir()
    (run_dir / "journal.sqlite3.part").write_bytes(b"half a journal")
    (run_dir / "journal.sqlite3.part-journal").touch()
    await enhancer(client).plan(ADDRESSES, output)
    whole = (run_dir / "plan").read_bytes()
    shutil.rmtree(run_dir)
    async with RunDirectory(run_dir):
        with pytest.raises(ping.RunError, match="still being made"):
            await anyio.to_thread.run_sync(read_settings, run_dir)
    with pytest.raises(ping.RunError, match="never finished"):
        await enhancer(client).resume(run_dir)
    (run_dir / "plan.part").write_bytes(whole[:100])
    (run_dir / "plan").write_bytes(whole)
    write_rows(tmp_path / "in.csv", 25)
    assert (await enhancer(client).run(tmp_path / "in.csv", output)).rows == 25


async def test_restart_sets_aside(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """As often as wished, and nothing is lost of what was there."""
    output = tmp_path / "out.jsonl"
    await stopped_run(client, output, ChunkFinished, 2)
    before = hashes(Path(f"{output}.run"))
    events: list[Event] = []
    for _ in range(2):
        bulk = enhancer(client, sources=["PH"], chunk_size=40, on_event=events.append)
        await bulk.run(ADDRESSES, output, restart=True, overwrite=True)
    assert hashes(Path(f"{output}.run.old-1")) == before
    assert Path(f"{output}.run.old-2").is_dir()
    notices = [event.message for event in events if isinstance(event, RunNotice)]
    assert [message for message in notices if "old-1" in message]
    # What was set aside can still be gone on with, under another name.
    other = tmp_path / "other.jsonl"
    await enhancer(client).resume(f"{output}.run.old-1", output=other)
    assert_all_there(other)
    assert sandbox.stats.locations_accepted_more_than_once == 100  # PH, twice


async def test_restart_refused_changes_nothing(client: ping.PingDataClient, tmp_path: Path) -> None:
    """A run in use, a folder of something else, an output that may not be replaced."""
    output = tmp_path / "out.jsonl"
    await enhancer(client, chunk_size=40).run(ADDRESSES, output)
    run_dir = Path(f"{output}.run")
    before = hashes(tmp_path)
    lock = RunLock(run_dir)
    await anyio.to_thread.run_sync(lock.__enter__)
    with pytest.raises(ping.RunError, match="in use"):
        await enhancer(client).run(ADDRESSES, output, restart=True, overwrite=True)
    lock.__exit__(None, None, None)
    with pytest.raises(ping.ConfigurationError, match="exists already"):
        await enhancer(client).run(ADDRESSES, output, restart=True)
    assert hashes(tmp_path) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    for path in (tmp_path / "mine", output):
        with pytest.raises(ping.ConfigurationError, match="not a run directory"):
            await anyio.to_thread.run_sync(can_set_aside, path)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]
    assert await anyio.to_thread.run_sync(can_set_aside, tmp_path / "nothing") is False


async def test_restart_that_cannot_be_planned_leaves_the_old_run(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """An input that is empty, or a run of the same beside it: nothing has moved."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_bytes(b"")
    await enhancer(client, chunk_size=40).run(ADDRESSES, tmp_path / "other.jsonl")
    await stopped_run(client, output, ChunkFinished, 2, sources=["PH"])
    before, sent = hashes(tmp_path), requests(sandbox)
    bulk = enhancer(client, chunk_size=40)
    with pytest.raises(ping.InputError):
        await bulk.run(source, output, restart=True)
    with pytest.raises(ping.ConfigurationError, match=r"other\.jsonl\.run holds the same input"):
        await bulk.run(ADDRESSES, output, restart=True)
    assert (hashes(tmp_path), requests(sandbox)) == (before, sent)
    # What a killed process left of its new plan is in nobody's way.
    await enhancer(client).plan(ADDRESSES, output, run_dir=f"{output}.run.new", pay_again=True)
    await bulk.run(ADDRESSES, output, restart=True, pay_again=True)
    assert_all_there(output)
    assert sorted(path.name for path in tmp_path.glob("out.jsonl.run*")) == [
        "out.jsonl.run",
        "out.jsonl.run.old-1",
    ]


async def test_restart_where_there_is_nothing_yet(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """An empty folder stays where it is; what is left of a run without its journal does not."""
    run_dir = tmp_path / "kept"
    run_dir.mkdir()
    output = tmp_path / "out.jsonl"
    await enhancer(client, chunk_size=40).run(ADDRESSES, output, run_dir=run_dir, restart=True)
    assert not list(tmp_path.glob("kept.old*"))
    (run_dir / "journal.sqlite3").unlink()
    bulk = enhancer(client, chunk_size=40)
    with pytest.raises(ping.ConfigurationError, match="not a run directory"):
        await bulk.run(ADDRESSES, output, run_dir=run_dir, overwrite=True)
    await bulk.run(ADDRESSES, output, run_dir=run_dir, overwrite=True, restart=True)
    assert sorted(path.name for path in (tmp_path / "kept.old-1").iterdir()) == [
        "input",
        "lock",
        "plan",
        "spool",
    ]


async def test_a_run_in_use_is_left_alone(tmp_path: Path) -> None:
    """A second one gets a clear word; status and export work meanwhile."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    others: list[Callable[[], Awaitable[object]]] = [
        lambda: enhancer(client).run(ADDRESSES, output),
        lambda: enhancer(client).plan(ADDRESSES, output),
        lambda: enhancer(client).resume(run_dir),
        lambda: enhancer(client).retry(run_dir),
    ]
    under_way, looked_at = anyio.Event(), anyio.Event()
    done: list[int] = []

    async def until_it_is_looked_at(_seconds: float) -> None:
        await looked_at.wait()

    async def refused(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(ping.RunError, match="is in use by another process"):
            await call()

    async def meanwhile() -> None:
        await under_way.wait()
        async with anyio.create_task_group() as tasks:
            for other in others:
                tasks.start_soon(refused, other)
        status = await anyio.to_thread.run_sync(read_status, run_dir)
        exported = await export_run(run_dir, tmp_path / "so-far.jsonl")
        assert status.is_running
        assert 30 <= status.settled <= exported.rows < 100
        done.append(exported.rows)
        looked_at.set()

    def watch(event: Event) -> None:
        if isinstance(event, ChunkFinished) and event.chunk == 4:
            server._api._injector.plan = FaultPlan(slow_answer=1.0)
            under_way.set()

    async with (
        sandbox_and_client(sleep=until_it_is_looked_at) as (server, client),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(meanwhile)
        bulk = enhancer(client, on_event=watch, max_jobs=2)
        await bulk.run(ADDRESSES, output)
    assert done == [len(lines(tmp_path / "so-far.jsonl"))]
    assert_all_there(output)
    assert server.stats.jobs_accepted == 10


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"this is somebody else's file, and long enough to look like one\n" * 99)


DAMAGES = [
    ("journal.sqlite3", cut),
    ("journal.sqlite3", empty),
    ("journal.sqlite3", foreign),
    ("plan", cut),
    ("plan", empty),
    ("plan", foreign),
    ("plan", Path.unlink),
]


@pytest.mark.parametrize(("name", "damage"), sampled(DAMAGES, 4))
async def test_damage_is_said_and_nothing_is_overwritten(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    """Whoever goes on, retries, exports or asks gets a RunError; nothing is sent."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    await stopped_run(client, output, ChunkFinished, 3)
    damage(run_dir / name)
    sent = requests(sandbox)
    ignore = is_journal if name == "plan" else (lambda _: False)
    before = hashes(tmp_path, ignore)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: enhancer(client).run(ADDRESSES, output),
        lambda: enhancer(client).resume(run_dir),
        lambda: enhancer(client).retry(run_dir),
        lambda: export_run(run_dir, tmp_path / "x.jsonl"),
        lambda: anyio.to_thread.run_sync(read_status, run_dir),
    ]
    for call in calls:
        with pytest.raises(ping.RunError, match=r"damaged|cannot be read"):
            await call()
    assert (requests(sandbox), hashes(tmp_path, ignore)) == (sent, before)
    # The way that the message names works.
    await enhancer(client, chunk_size=40).run(ADDRESSES, output, restart=True)
    assert_all_there(output)


@pytest.mark.parametrize("damage", sampled([spoil, Path.unlink, cut, empty], 2))
async def test_a_damaged_answer_is_said(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    """It is named; the others are kept, and the output is not made."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    await enhancer(client).run(ADDRESSES, output)
    output.unlink()
    body = run_dir / "spool" / "000000.json.gz"
    kept = body.read_bytes()
    damage(body)
    before, sent = hashes(tmp_path, is_journal), requests(sandbox)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: enhancer(client).run(ADDRESSES, output),
        lambda: enhancer(client).retry(run_dir),
        lambda: export_run(run_dir, output),
    ]
    for call in calls:
        with pytest.raises(ping.RunError, match=r"000000\.json\.gz, with the answers to chunk"):
            await call()
    assert (hashes(tmp_path, is_journal), requests(sandbox)) == (before, sent)
    body.write_bytes(kept)
    await enhancer(client).run(ADDRESSES, output)
    assert_all_there(output)
    assert requests(sandbox) == sent


async def test_a_journal_of_another_version_is_left_alone(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Whatever would read the run or go on with it says so, and sends nothing."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    await stopped_run(client, output, ChunkFinished, 3)
    with contextlib.closing(sqlite3.connect(run_dir / "journal.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 99")
    sent = requests(sandbox)
    for call in (
        lambda: enhancer(client).run(ADDRESSES, output),
        lambda: enhancer(client).resume(run_dir),
        lambda: enhancer(client).retry(run_dir),
        lambda: export_run(run_dir, tmp_path / "x.jsonl"),
    ):
        with pytest.raises(ping.RunError, match=r"journal version 99.*use that one"):
            await call()
    assert requests(sandbox) == sent


async def test_rights_do_not_depend_on_the_umask(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """For its owner alone, who can use all of it."""
    before = os.umask(0o777)
    try:
        await enhancer(client).run(ADDRESSES, tmp_path / "out.jsonl")
    finally:
        os.umask(before)
    run_dir = tmp_path / "out.jsonl.run"
    found = [run_dir, *run_dir.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}


async def test_settings_of_another_version(client: ping.PingDataClient, tmp_path: Path) -> None:
    """What cannot be read is said to be so."""
    output = tmp_path / "out.jsonl"
    await enhancer(client).plan(ADDRESSES, output)
    async with RunDirectory(Path(f"{output}.run")) as directory:
        await directory.journal.set_meta("settings", {"sources": 5})
    for call in (
        enhancer(client).run(ADDRESSES, output),
        enhancer(client).resume(f"{output}.run"),
    ):
        with pytest.raises(ping.RunError, match="another version"):
            await call


async def test_damage_in_a_neighbour_is_none_of_our_business(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Where a value in a journal is no JSON, that run has a RunError, and no other one."""
    bad, output = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    await enhancer(client).plan(ADDRESSES, bad)
    with contextlib.closing(sqlite3.connect(f"{bad}.run/journal.sqlite3")) as journal:
        journal.execute("UPDATE meta SET value = '{' WHERE key = 'settings'")
        journal.commit()
    for call in (
        enhancer(client).run(ADDRESSES, bad),
        enhancer(client).resume(f"{bad}.run"),
        export_run(f"{bad}.run", tmp_path / "x.jsonl"),
    ):
        with pytest.raises(ping.RunError, match="journal is damaged"):
            await call
    await enhancer(client, chunk_size=40).run(ADDRESSES, output)
    assert_all_there(output)


async def test_what_is_no_run_directory(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Nothing there, an empty folder, a file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("nothing", "empty", "file"):
        for call in (enhancer(client).resume, enhancer(client).retry):
            with pytest.raises(ping.RunError, match="not a run directory"):
                await call(tmp_path / name)
        with pytest.raises(ping.RunError, match="not a run directory"):
            await export_run(tmp_path / name, tmp_path / "x.jsonl")
    assert not list((tmp_path / "empty").iterdir())
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ping.ConfigurationError, match="cannot be used"):
        await enhancer(client).run(ADDRESSES, tmp_path / "x.jsonl", run_dir=tmp_path / "file")


def test_where_a_run_is_kept(tmp_path: Path) -> None:
    """Beside its output, unless named; for standard output in a new place each time."""
    assert run_dir_for("a/out.jsonl", None) == Path("a/out.jsonl.run")
    assert run_dir_for("out.jsonl", tmp_path) == tmp_path
    first, second = run_dir_for("-", None), run_dir_for("-", None)
    assert first != second
    for path in (first, second):
        assert path.stat().st_mode & 0o777 == 0o700
        path.rmdir()
