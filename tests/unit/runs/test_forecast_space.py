"""A disk that is too small, or full; and answers that go to standard output."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.api.wire import JobOptions
from pingdata_async.events import ChunkFinished, Event, RequestSent, RunStopped
from pingdata_async.exceptions import RunError
from pingdata_async.runs import forecast as space
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.forecast import DiskNeed, check_space, disk_needs
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.records import ChunkState, code_of
from pingdata_async.sandbox import SandboxServer
from pingdata_async.util.text import STDOUT, shown_bytes
from tests.support.journals import make_journal
from tests.support.plans import summary_of
from tests.support.runs import (
    ADDRESSES,
    Stopper,
    assert_all_there,
    enhancer,
    hashes,
    requests,
    stopped_run,
)


def needed(run_dir: Path, output: Path | None, *, rows: int, sources: int) -> list[DiskNeed]:
    """What a run of so many locations that are all still to be answered needs."""
    settings = RunSettings(
        sources=tuple(f"S{number}" for number in range(sources)),
        options=JobOptions(),
        environment=None,
        api_url=None,
        api="sandbox",
        chunk_size=1000,
        max_jobs=1,
        source="-",
        output=STDOUT if output is None else str(output),
    )
    planned = msgspec.structs.replace(summary_of([], settings.sources), rows=rows, locations=rows)
    return disk_needs(run_dir, settings, planned, rows)


def test_the_disk_behind_a_link_is_measured(tmp_path: Path) -> None:
    """An output is written where its link leads, and replaced there."""
    target, run_dir = tmp_path / "large", tmp_path / "out.jsonl.run"
    target.mkdir()
    (tmp_path / "out.jsonl").symlink_to(target / "answers.jsonl")
    needs = needed(run_dir, tmp_path / "out.jsonl", rows=1, sources=1)
    assert [folder for need in needs for folder in need.folders] == [tmp_path, target]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files have other sizes")
async def test_no_room_for_what_readers_share(tmp_path: Path) -> None:
    """SQLite calls it an I/O error of the -shm file; it is a full disk."""
    path = await make_journal(tmp_path)
    opened = (
        "import resource, sys; from pathlib import Path\n"
        "from pingdata_async.runs.journal.schema import open_writer, translated\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "path = Path(sys.argv[1])\n"
        "with translated(path):\n"
        "    open_writer(path).execute('BEGIN IMMEDIATE')\n"
    )
    done = await anyio.run_process([sys.executable, "-c", opened, str(path)], check=False)
    said = done.stderr.decode().splitlines()[-1]
    assert said.endswith("cannot be written: the disk is full; make room, then resume")


async def test_refused_with_what_is_needed(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent; with more room, or by the user's wish, the same run goes on."""
    output = tmp_path / "out.jsonl"
    free = 100_000
    monkeypatch.setattr(space, "free_bytes", lambda _path: free)
    # 100 rows of one source: 300 bytes each in the spool, 2,500 in the output.
    with pytest.raises(ping.RunError, match=r"need about 280\.0 KB, but only 100\.0 KB are free"):
        await enhancer(client).run(ADDRESSES, output)
    assert requests(sandbox) == 0
    with pytest.raises(ping.RunError, match="--no-space-check"):
        await enhancer(client).resume(f"{output}.run")
    assert requests(sandbox) == 0
    await enhancer(client).run(ADDRESSES, output, check_space=False)
    assert_all_there(output)
    # What is answered already needs no room any more, but the output does.
    output.unlink()
    free = 240_000
    for call in (enhancer(client).resume, enhancer(client).retry):
        with pytest.raises(ping.RunError, match=r"need about 250\.0 KB, but only 240\.0 KB"):
            await call(f"{output}.run")
    free = 260_000
    await enhancer(client).resume(f"{output}.run")
    assert_all_there(output)


async def test_the_output_needs_room_for_all_rows(
    client: ping.PingDataClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few are left to be answered when a run goes on."""
    output = tmp_path / "out.jsonl"
    await stopped_run(client, output, ChunkFinished, 6)
    monkeypatch.setattr(space, "free_bytes", lambda _path: 240_000)
    with pytest.raises(ping.RunError, match="but only 240"):
        await enhancer(client).resume(f"{output}.run")


def test_each_device_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To standard output, the spool alone needs room."""
    monkeypatch.setattr(space, "free_bytes", lambda _path: 1_000_000)
    check_space(needed(tmp_path, None, rows=3_000, sources=1))
    check_space(needed(tmp_path, tmp_path / "out.jsonl", rows=300, sources=1))
    with pytest.raises(RunError, match=r"1\.7 MB"):
        check_space(needed(tmp_path, tmp_path / "out.jsonl", rows=300, sources=2))


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 KB"), (2e9, "2.0 GB"), (3e15, "3000.0 TB")],
)
def test_sizes_for_people(size: float, said: str) -> None:
    assert shown_bytes(size) == said


FULL_DISK = """
import asyncio, resource, signal, sys
import pingdata_async as ping
from tests.support.runs import ADDRESSES, enhancer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def fill(event):
    if type(event).__name__ == "ChunkFinished" and event.chunk >= 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))

async def main():
    async with ping.PingDataClient(api_url=sys.argv[1], auth_token="t") as client:
        bulk = enhancer(client, chunk_size=7, on_event=fill)
        try:
            await bulk.run(ADDRESSES, sys.argv[2])
        except ping.RunError as error:
            print(error)
            sys.exit(5)

asyncio.run(main())
"""


@pytest.mark.parametrize("limit_bytes", [256, 40_000])
async def test_a_disk_that_is_full_in_the_middle(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path, limit_bytes: int
) -> None:
    """Too full for an answer, or only for the journal: what was spooled stays, and it goes on."""
    output = tmp_path / "out.jsonl"
    object.__setattr__(sandbox, "locations_per_s", 2_000.0)
    ended = await anyio.run_process(
        [sys.executable, "-c", FULL_DISK, sandbox.url, str(output), str(limit_bytes)],
        check=False,
        cwd=Path(__file__).parents[4],
    )
    assert ended.returncode == 5, ended.stderr.decode()
    said = ended.stdout.decode()
    assert "cannot be" in said
    assert not output.exists()
    spool = Path(f"{output}.run") / "spool"
    kept = hashes(spool)
    async with Journal(Path(f"{output}.run") / "journal.sqlite3") as journal:
        spooled = (await journal.planned_states()).count(code_of(ChunkState.SPOOLED))
    assert spooled >= 5
    assert not list(spool.rglob("*.part"))
    events: list[Event] = []
    summary = await enhancer(client, on_event=events.append).run(ADDRESSES, output)
    assert_all_there(output)
    stats = sandbox.stats
    assert {name: hashes(spool)[name] for name in kept} == kept
    fetched = [
        event for event in events if isinstance(event, RequestSent) and event.kind == "fetch"
    ]
    assert len(fetched) <= 15 - spooled
    assert stats.locations_accepted_more_than_once <= summary.locations_possibly_charged_again
    assert summary.locations_possibly_charged_again <= 4 * 20


class Stdout:
    """A standard output that can be closed by whoever reads it."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.buffer: io.BytesIO = io.BytesIO() if limit_bytes is None else _Closing(limit_bytes)


class _Closing(io.BytesIO):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, block: Any) -> int:
        if self.tell() + len(block) > self._limit_bytes:
            raise BrokenPipeError
        return super().write(block)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary run directories are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


async def test_to_standard_output(
    client: ping.PingDataClient, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary run directory is gone afterwards, unless rows have no answer."""
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    summary = await enhancer(client).run(ADDRESSES, "-")
    assert (summary.rows, summary.output, summary.run_dir) == (100, "-", None)
    assert stdout.buffer.getvalue().count(b"\n") == 100
    assert not list(temporary.iterdir())
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\n")
    summary = await enhancer(client).run(tmp_path / "in.csv", "-")
    [kept] = temporary.iterdir()
    assert summary.run_dir == str(kept)


async def test_standard_output_closed_early(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is paid for by then: it is kept, told where, and can be written again for nothing."""
    monkeypatch.setattr(sys, "stdout", Stdout(limit_bytes=20_000))
    events: list[Event] = []
    with pytest.raises(BrokenPipeError):
        await enhancer(client, on_event=events.append).run(ADDRESSES, "-")
    [kept] = temporary.iterdir()
    [stop] = [event for event in events if isinstance(event, RunStopped)]
    assert (stop.run_dir, stop.rows_done) == (str(kept), 100)
    sent = requests(sandbox)
    await enhancer(client).resume(kept, output=tmp_path / "out.jsonl")
    assert_all_there(tmp_path / "out.jsonl")
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    await enhancer(client).resume(kept)
    assert stdout.buffer.getvalue() == (tmp_path / "out.jsonl").read_bytes()
    assert requests(sandbox) == sent


async def test_stopped_on_the_way_to_standard_output(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kept where the event says, and gone on with from there."""
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    stopper = Stopper(ChunkFinished, 5)
    with stopper.scope:
        await enhancer(client, on_event=stopper).run(ADDRESSES, "-")
    [kept] = temporary.iterdir()
    [stop] = [event for event in stopper.events if isinstance(event, RunStopped)]
    assert stop.run_dir == str(kept)
    assert stdout.buffer.getvalue() == b""
    summary = await enhancer(client).resume(kept, discard_run=True)
    assert (summary.rows, sandbox.stats.jobs_accepted) == (100, 10)
    assert stdout.buffer.getvalue().count(b"\n") == 100
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("temporary")
async def test_a_refused_input_leaves_nothing(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Neither a temporary directory nor one beside the output."""
    (tmp_path / "in.csv").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    for output in ("-", tmp_path / "out.jsonl"):
        with pytest.raises(ping.InputError):
            await enhancer(client).run(tmp_path / "in.csv", output)
        with pytest.raises(ping.InputError):
            await enhancer(client).run(tmp_path / "none.csv", output)
    assert sorted(tmp_path.rglob("*")) == before


def no_room(_file: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_too_full_for_the_plan(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent and nothing is left; with room, the same command works."""
    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("pingdata_async.util.files.sync_file", no_room)
        with pytest.raises(ping.RunError, match="the plan cannot be written: No space left"):
            await enhancer(client).run(ADDRESSES, output)
    assert requests(sandbox) == 0
    assert not [*tmp_path.iterdir()]
    assert (await enhancer(client).run(ADDRESSES, output)).rows == 100


async def test_a_disk_too_full_for_the_output(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing half-written is left under any name; with room, it is written for nothing."""
    output = tmp_path / "out.jsonl"
    events: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr("pingdata_async.runs.export.output.sync_file", no_room)
        with pytest.raises(ping.RunError, match=r"out.*jsonl cannot be written: No space left"):
            await enhancer(client, on_event=events.append).run(ADDRESSES, output)
    [stop] = [event for event in events if isinstance(event, RunStopped)]
    assert stop.rows_done == 100
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.run"]
    sent = requests(sandbox)
    await enhancer(client).run(ADDRESSES, output)
    assert_all_there(output)
    assert requests(sandbox) == sent


async def test_restart_to_standard_output(
    client: ping.PingDataClient, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    """There is nothing to be set aside."""
    monkeypatch.setattr(sys, "stdout", Stdout())
    await enhancer(client, chunk_size=40).run(ADDRESSES, "-", restart=True)
    assert not list(temporary.iterdir())
