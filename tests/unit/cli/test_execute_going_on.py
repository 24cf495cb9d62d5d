"""The command that goes on with a run works as it is shown; a finished run needs no API."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import click
import pytest

from pingdata_async.cli import runs
from pingdata_async.cli.execute import resume_command
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, COMMAND, in_shell, lines, run, sandbox

__all__ = ["sandbox"]  # a fixture


async def test_the_command_works_when_pasted(sandbox: SandboxServer, tmp_path: Path) -> None:
    """From another folder and without variables, whatever the names are, and wherever."""
    folder = tmp_path / "it's \xe4 folder"
    folder.mkdir()
    (folder / "my token").write_text("right\n")
    bare = {name: text for name, text in os.environ.items() if "AUTH_TOKEN" not in name}
    stopped = await anyio.run_process(
        [
            *COMMAND, "enhance", str(ADDRESSES), "--output=-o ut", "--output-format", "jsonl",
            "--run-dir", tmp_path / "its run", "-s", "PG",
            "-u", sandbox.url, "--auth-token-file", "my token", "--chunk-size", "20",
            "--max-locations", "40", "--summary=-s.json", "-q",
        ],
        check=False, cwd=folder, env=bare,
    )  # fmt: skip
    said = stopped.stderr.decode().splitlines()
    assert stopped.returncode == 5, said
    (command,) = [line for line in said if line.startswith("  pingdata-async resume")]
    await anyio.Path(folder / "my token").rename(folder / "t")
    again = await in_shell(command, bare)
    assert (again.code, "my token" in again.err) == (2, True)
    await anyio.Path(folder / "t").rename(folder / "my token")
    done = await in_shell(command, bare)
    assert done.code == 0, done.err
    assert "100 rows" not in done.err  # as quiet as the command that stopped
    assert len(lines((folder / "-o ut").read_bytes())) == 100
    assert (folder / "-s.json").exists()
    assert sandbox.stats.locations_accepted == 100


def shown(command: click.Command, *words: object, run_dir: object, needs: str = "") -> str:
    context = command.make_context(str(command.name), list(map(str, words)))
    return resume_command(context, str(run_dir), needs)


def test_what_the_run_does_not_know_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How the API is reached, also where a variable says it; how patient it is; and no more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "staging")
    monkeypatch.setenv("PINGDATA_ASYNC_GIVE_UP_AFTER", "5")
    for name in ("t", "ca.pem"):
        (tmp_path / name).touch()
    words = [
        "in.csv", "-o", "out.csv", "-s", "PG", "--ca-bundle", "ca.pem", "--in-doubt", "hold",
        "--no-preflight", "--max-jobs", 3, "--columns", "pg_*", "--overwrite", "--budget", "PG=3",
    ]  # fmt: skip
    assert shown(runs.enhance, *words, run_dir="out.csv.run", needs="--budget PG=9") == (
        f"pingdata-async resume {tmp_path}/out.csv.run --no-preflight --environment staging "
        f"--ca-bundle {tmp_path}/ca.pem --in-doubt hold --budget PG=9"
    )


def test_what_was_meant_for_the_one_time_is_said_again(tmp_path: Path) -> None:
    """To `resume` and `retry`, another output and its form, which the run does not keep."""
    words = [tmp_path, "-o", tmp_path / "a b.csv", "--columns", "-x", "--max-jobs", 3, "--all"]
    assert shown(runs.retry, *words, run_dir=tmp_path) == (
        f"pingdata-async resume {tmp_path} --output '{tmp_path}/a b.csv' --max-jobs 3 --columns=-x"
    )
    assert shown(runs.resume, tmp_path, "-o", "-", run_dir=tmp_path).endswith(" --output=-")


def test_a_run_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    """What events and messages show of it is not its name; the command has that."""
    run_dir = tmp_path / os.fsdecode(b"\xff.run")
    told = shown(runs.resume, run_dir, run_dir=f"{tmp_path}/\ufffd.run")
    assert told == f"pingdata-async resume $'{tmp_path}/\\xff.run'"


def test_the_present_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is shown all the same, with what was in it as it was named."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    words = ["in.csv", "-o", "out.csv", "-s", "PG", "--summary", "-s.json"]
    told = shown(runs.enhance, *words, run_dir=f"{folder}/out.csv.run")
    assert told == f"pingdata-async resume {folder}/out.csv.run --summary ./-s.json"


async def test_a_finished_run_needs_no_token(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Nor the API, also where its output is gone, or is to be written elsewhere."""
    output = tmp_path / "o.csv"
    words = ["enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url]
    assert (await run(*words)).code == 0
    requests, written = sandbox.stats.requests.total(), output.read_bytes()
    done = await run("resume", f"{output}.run", token=None)
    assert (done.code, "is finished already" in done.err) == (0, True)
    for again in (["resume", f"{output}.run"], words):
        output.unlink()
        done = await run(*again, "-q", token=None)
        assert done.code == 0, done.err
        assert output.read_bytes() == written
    assert sandbox.stats.requests.total() == requests


async def test_a_run_with_work_left_needs_one(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Exit 4, before anything is changed."""
    output = tmp_path / "o.jsonl"
    words = ["enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url]
    assert (await run(*words, "--max-locations", 40)).code == 5
    before = await run("status", f"{output}.run", "--json")
    resumed = [f"{output}.run", "-u", sandbox.url]
    for again in (["resume", *resumed], ["retry", *resumed], words, [*words, "--restart"]):
        done = await run(*again, "--max-locations", 40, token=None)
        assert (done.code, "PING_DATA_AUTH_TOKEN" in done.err) == (4, True)
    assert (await run("status", f"{output}.run", "--json")).out == before.out
