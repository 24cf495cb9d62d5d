"""A run directory that somebody else made, changed, or could change."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.cli.console import check_side_files, open_side_file
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.runs.export.export import export_run
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import ADDRESSES, assert_all_there, in_few_chunks

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 54321  # somebody's uid

WRITTEN = (
    "lock",
    "plan",
    "plan.part",
    "input",
    "input.part",
    "journal.sqlite3",
    "journal.sqlite3-wal",
    "journal.sqlite3-shm",
    "journal.sqlite3-journal",
    "journal.sqlite3.part",
)

Plant = Callable[[Path, Path], None]


def a_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def a_hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def a_pipe(place: Path, _victim: Path) -> None:
    os.mkfifo(place)


def change_settings(run_dir: Path, **changes: object) -> None:
    """Make the journal say something else of its run."""
    with contextlib.closing(sqlite3.connect(run_dir / "journal.sqlite3")) as journal:
        (kept,) = journal.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
        changed = json.dumps(json.loads(kept) | changes)
        journal.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (changed,))
        journal.commit()


async def planned(client: ping.PingDataClient, folder: Path) -> Path:
    """A run directory with a plan alone."""
    await in_few_chunks(client).plan(ADDRESSES, folder / "out.jsonl")
    return folder / "out.jsonl.run"


@pytest.mark.parametrize("plant", [a_link, a_hard_link, a_pipe])
async def test_nothing_planted_is_touched(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, plant: Plant
) -> None:
    """Whatever a run directory brings along, no other file is changed, and nothing hangs."""
    run_dir = await planned(client, tmp_path)
    victim, aside = tmp_path / "victim", tmp_path / "aside"
    victim.write_bytes(b"precious")
    for name in WRITTEN:
        place = run_dir / name
        if place.exists():
            place.rename(aside)
        plant(place, victim)
        for restart in (False, True):
            with pytest.raises(ConfigurationError, match=f"{name} (is|has) "):
                await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl", restart=restart)
        with pytest.raises(ConfigurationError, match=f"{name} (is|has) "):
            await export_run(run_dir, tmp_path / "export.jsonl")
        place.unlink()
        if aside.exists():
            aside.rename(place)
    assert victim.read_bytes() == b"precious"
    assert not sandbox.stats.jobs_accepted


@pytest.mark.parametrize("name", ["spool", "spool/000000.json.gz"])
async def test_a_spool_elsewhere_is_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, name: str
) -> None:
    """Answers are not written into a folder that a link leads to; nothing is sent."""
    run_dir = await planned(client, tmp_path)
    victim = tmp_path / "victim"
    victim.mkdir()
    (run_dir / name).parent.mkdir(mode=0o700, exist_ok=True)
    (run_dir / name).symlink_to(victim)
    with pytest.raises(ConfigurationError, match=f"{name} is a link"):
        await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
    assert not list(victim.iterdir())
    assert not sandbox.stats.jobs_accepted


async def test_a_run_directory_that_is_a_link_is_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Also an empty one, and one that leads nowhere; under its own name it can be used."""
    elsewhere = tmp_path / "elsewhere"
    run_dir = tmp_path / "out.jsonl.run"
    run_dir.symlink_to(elsewhere)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="is a link"):
            await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
        elsewhere.mkdir(mode=0o700, exist_ok=True)
    assert not list(elsewhere.iterdir())
    assert not sandbox.stats.jobs_accepted
    await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl", run_dir=elsewhere)
    assert_all_there(tmp_path / "out.jsonl")


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
async def test_a_run_directory_that_others_can_write_in_is_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, mode: int
) -> None:
    """The message has the command that mends it, which it does."""
    run_dir = await planned(client, tmp_path)
    run_dir.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {run_dir}"):
        await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
    assert not sandbox.stats.jobs_accepted
    run_dir.chmod(0o700)
    await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
    assert_all_there(tmp_path / "out.jsonl")


@as_root
@pytest.mark.parametrize("name", ["", "journal.sqlite3", "spool"])
async def test_what_belongs_to_somebody_else_is_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, name: str
) -> None:
    """The run directory, or a file in it: its owner could change it at any moment."""
    run_dir = await planned(client, tmp_path)
    (run_dir / "spool").mkdir(mode=0o700)
    os.chown(run_dir / name, STRANGER, STRANGER)
    with pytest.raises(ConfigurationError, match=f"belongs to another user .uid {STRANGER}."):
        await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
    with pytest.raises(ConfigurationError, match=f"belongs to another user .uid {STRANGER}."):
        await in_few_chunks(client).resume(run_dir)
    assert not sandbox.stats.jobs_accepted


@pytest.mark.parametrize("where", ["{folder}/elsewhere/victim", "elsewhere/victim", "link", "\0"])
async def test_a_journal_does_not_say_what_is_overwritten(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, where: str
) -> None:
    """One that came from elsewhere names a file in another folder, or a link: it is left alone."""
    run_dir = await planned(client, tmp_path)
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    victim.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(victim)
    change_settings(run_dir, output=where.format(folder=tmp_path), overwrite=True)
    with pytest.raises((ConfigurationError, RunError), match=r"-o |no output"):
        await in_few_chunks(client).resume(run_dir)
    with pytest.raises((ConfigurationError, RunError), match=r"-o |no output"):
        await in_few_chunks(client).retry(run_dir)
    assert victim.read_bytes() == b"precious"
    assert not sandbox.stats.jobs_accepted


async def test_an_output_elsewhere_is_written_where_it_is_named_again(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """A run directory on another disk than its output goes on with the same words."""
    (tmp_path / "scratch").mkdir()
    output, run_dir = tmp_path / "out.jsonl", tmp_path / "scratch" / "run"
    await in_few_chunks(client).plan(ADDRESSES, output, run_dir=run_dir)
    with pytest.raises(ConfigurationError, match=f"name it again: -o {output}"):
        await in_few_chunks(client).resume(run_dir)
    await in_few_chunks(client).resume(run_dir, output=output)
    assert_all_there(output)


async def test_a_planted_run_beside_is_passed_over(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """The search for the same run looks at none that could be somebody else's work."""
    await in_few_chunks(client).run(ADDRESSES, tmp_path / "a.jsonl")
    for name, mode in (("b.jsonl.run", 0o777), ("c.jsonl.run", 0o700)):
        shutil.copytree(tmp_path / "a.jsonl.run", tmp_path / name)
        (tmp_path / name).chmod(mode)
    (tmp_path / "c.jsonl.run" / "lock").unlink()
    os.mkfifo(tmp_path / "c.jsonl.run" / "lock")
    shutil.rmtree(tmp_path / "a.jsonl.run")
    (tmp_path / "d.jsonl.run").symlink_to(tmp_path / "b.jsonl.run")
    await in_few_chunks(client).run(ADDRESSES, tmp_path / "new.jsonl")
    assert_all_there(tmp_path / "new.jsonl")


@as_root
async def test_no_output_goes_through_a_link_of_somebody_else(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Neither the output nor the failures beside it; one's own link is followed as before."""
    victim, link = tmp_path / "victim", tmp_path / "out.jsonl"
    for name in ("out.jsonl", "out.jsonl.failures.jsonl"):
        link = tmp_path / name
        link.symlink_to(victim)
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
        with pytest.raises(ConfigurationError, match=f"{name} is a link that belongs to another"):
            await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl", overwrite=True)
        link.unlink()
    assert not victim.exists()
    assert not sandbox.stats.jobs_accepted
    (tmp_path / "out.jsonl").symlink_to(victim)
    await in_few_chunks(client).run(ADDRESSES, tmp_path / "out.jsonl")
    assert_all_there(victim)


async def test_a_replaced_output_is_not_run_as_its_owner(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Its rights are kept, but for those that make a program run as its owner."""
    output = tmp_path / "out.jsonl"
    output.touch()
    output.chmod(0o6640)
    await in_few_chunks(client).run(ADDRESSES, output, overwrite=True)
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


@as_root
@pytest.mark.parametrize("plant", [a_link, a_hard_link])
def test_no_log_or_summary_goes_into_another_file(tmp_path: Path, plant: Plant) -> None:
    """Planted under their names before: refused before anything is sent, and when it is written."""
    place, victim = tmp_path / "log.jsonl", tmp_path / "victim"
    victim.write_bytes(b"precious")
    plant(place, victim)
    if place.is_symlink():
        os.chown(place, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match="link"):
        check_side_files({"--log-file": place}, source=None, output=None, run_dir=None)
    for append in (False, True):
        with pytest.raises(ConfigurationError, match="link"):
            open_side_file(place, append=append)
    assert victim.read_bytes() == b"precious"
    place.unlink()
    for append, content in ((True, b"a"), (True, b"ab"), (False, b"b")):
        with open_side_file(place, append=append) as file:
            file.write(content[-1:])
        assert place.read_bytes() == content


async def test_a_run_directory_whose_name_is_no_text(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Status and forecast show it as far as it is one, also as JSON."""
    run_dir = tmp_path / os.fsdecode(b"\xff.run")
    source = tmp_path / os.fsdecode(b"\xff.csv")
    source.write_bytes(ADDRESSES.read_bytes())
    output = tmp_path / "out.jsonl"
    planned = await in_few_chunks(client).plan(source, output, run_dir=run_dir)
    assert b"\xef\xbf\xbd.run" in msgspec.json.encode(planned)
    told = await in_few_chunks(client).dry_run(source, output, run_dir=run_dir)
    assert b"\xef\xbf\xbd.run" in msgspec.json.encode(told)
    await in_few_chunks(client).resume(run_dir)
    assert_all_there(output)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        await in_few_chunks(client).run(source, tmp_path / os.fsdecode(b"\xff.jsonl"))
