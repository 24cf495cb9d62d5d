"""Slips of the hand on the command line cost neither answers nor files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import click
import pytest

from pingdata_async.cli.main import cli
from pingdata_async.cli.main import run as run_here
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, lines, run, sandbox

__all__ = ["sandbox"]  # a fixture


def state_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
async def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a finished run, which stays as it is."""
    out = tmp_path_factory.mktemp("finished") / "o.jsonl"
    assert (await run("enhance", ADDRESSES, "-o", out, "-s", "PG", "-e", "sandbox")).code == 0
    return out


@pytest.mark.parametrize(
    "words",
    [
        ["resume", "{run}", "--summary", "{out}"],
        ["resume", "{run}", "--summary", "{run}/journal.sqlite3"],
        ["resume", "{run}", "--log-file", "{run}/plan"],
        ["resume", "{run}", "--log-file", "{nowhere}/log"],
        ["resume", "{run}", "-o", "{nowhere}/x", "--summary", "{nowhere}/s"],
        ["retry", "{run}", "--summary", "{failures}"],
        ["export", "{run}", "-o", "{run}/plan", "--overwrite"],
        ["export", "{run}", "-o", ""],
        ["export", "{run}", "-o", "."],
        ["export", "{failures}", "-o", "{out}.x"],
        ["status", "{failures}"],
    ],
)
async def test_nothing_of_a_run_is_overwritten(finished: Path, words: list[str]) -> None:
    """Exit 2, one line, and every file is as it was."""
    before = state_of(finished.parent)
    names = {"run": f"{finished}.run", "out": finished, "failures": f"{finished}.failures.jsonl"}
    names["nowhere"] = f"{finished.parent}/nowhere"
    done = await run(*(word.format(**names) for word in words))
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    assert state_of(finished.parent) == before


@pytest.mark.parametrize("name", ["", ".", "loop", b"o\xff.jsonl"])
async def test_a_name_that_names_no_file_is_exit_2(
    sandbox: SandboxServer, tmp_path: Path, name: str | bytes
) -> None:
    """Also a link to itself, and bytes that are no text; nothing is sent."""
    (tmp_path / "loop").symlink_to("loop")
    output = os.fsdecode(name) if not name or name == "." else tmp_path / os.fsdecode(name)
    done = await run("enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert not sandbox.stats.requests


async def test_a_failures_file_of_invalid_rows_is_an_input(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Rows with nothing to look up are told row by row, not refused as a file."""
    (tmp_path / "in.csv").write_text("id,address,city\na,1 Main St,Boston\nb,,\n")
    words = ["-s", "PG", "-u", sandbox.url]
    done = await run("enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", *words)
    assert done.code == 3, done.err
    failures = tmp_path / "o.jsonl.failures.jsonl"
    done = await run("enhance", failures, "-o", tmp_path / "again.jsonl", *words)
    assert done.code == 3, done.err
    [line] = lines((tmp_path / "again.jsonl").read_bytes())
    assert (line["id"], line["reason"]) == ("b", "invalid_input")


async def test_switches_of_one_call_do_not_come_from_variables(
    sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One left behind must not pay again, or write elsewhere."""
    for name in ("ALL", "RESTART", "PAY_AGAIN", "OVERWRITE"):
        monkeypatch.setenv(f"PINGDATA_ASYNC_{name}", "1")
    out = tmp_path / "o.jsonl"
    words = ["enhance", ADDRESSES, "-o", out, "-s", "PG", "-u", sandbox.url]
    assert (await run(*words)).code == 0
    paid = sandbox.stats.locations_accepted
    monkeypatch.setenv("PINGDATA_ASYNC_OUTPUT", str(tmp_path / "other.jsonl"))
    assert (await run(*words)).code == 0
    assert (await run("resume", f"{out}.run", "-u", sandbox.url)).code == 0
    assert (await run("retry", f"{out}.run", "-u", sandbox.url)).code == 0
    beside = ["enhance", ADDRESSES, "-o", tmp_path / "beside.jsonl", "-s", "PG", "-u", sandbox.url]
    done = await run(*beside)
    assert (done.code, "--pay-again" in done.err) == (2, True), done.err
    assert sandbox.stats.locations_accepted == paid
    assert not (tmp_path / "other.jsonl").exists()


def test_an_unforeseen_end_of_file_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Click makes an Abort of any EOFError: the command still says what happened, and exits 1."""

    @click.command("broken")
    def broken() -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setitem(cli.commands, "broken", broken)
    assert run_here(["broken"]) == 1
    assert "marshal data too short" in capsys.readouterr().err
