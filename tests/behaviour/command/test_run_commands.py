"""The commands that work on a run: plan, resume, retry, status, export."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.commands import ADDRESSES, lines, run, sandbox
from tests.support.ports import free_port

__all__ = ["sandbox"]  # a fixture


def poisoned(path: Path, rows: int, at: set[int]) -> Path:
    """An input some of whose rows the sandbox refuses."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "address"])
        for row in range(rows):
            word = "POISON" if row in at else "Main"
            writer.writerow([f"own-{row}", f"{row} {word} Street, Boston, MA 02108"])
    return path


async def test_a_plan_sends_nothing_and_enhance_goes_on(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It needs no token, says what there is, and the input may go away afterwards."""
    source = tmp_path / "in.csv"
    source.write_bytes(ADDRESSES.read_bytes())
    words = [source, "-o", tmp_path / "out.jsonl", "-s", "PG", "-u", sandbox.url]
    done = await run("plan", *words, "--json", "--chunk-size", 40, token=None)
    assert (done.code, done.err) == (0, "")
    assert msgspec.json.decode(done.out)["rows"] == 100
    assert not sandbox.stats.requests
    source.unlink()
    done = await run("enhance", *words)
    assert done.code == 0, done.err
    assert "in.csv is gone" in done.err
    assert sandbox.stats.jobs_accepted == 3
    assert len(lines((tmp_path / "out.jsonl").read_bytes())) == 100


async def test_a_finished_run_sends_nothing(sandbox: SandboxServer, tmp_path: Path) -> None:
    """By the same command and by `resume`, exit 0, and the summary is the same."""
    words = ["enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run(*words, "--summary", tmp_path / "1.json")).code == 0
    requests = sandbox.stats.requests.total()
    assert (await run(*words, "--summary", tmp_path / "2.json")).code == 0
    assert (await run("resume", tmp_path / "o.jsonl.run", "-u", sandbox.url)).code == 0
    assert sandbox.stats.requests.total() == requests
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


@pytest.mark.parametrize("option", [["-s", "PG,PH"], ["-u", "http://127.0.0.1:9"]])
async def test_another_run_under_the_same_name_is_exit_2(
    sandbox: SandboxServer, tmp_path: Path, option: list[str]
) -> None:
    """It says what differs and what to do; nothing is sent; --restart sets the old one aside."""
    output = tmp_path / "o.jsonl"
    words = ["enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url]
    assert (await run(*words)).code == 0
    requests = sandbox.stats.requests.total()
    done = await run(*words, *option)
    assert done.code == 2
    assert "instead of" in done.err
    assert "--restart" in done.err
    assert sandbox.stats.requests.total() == requests
    done = await run(*words, "-s", "PG,PH", "--restart", "--overwrite")
    assert done.code == 0, done.err
    assert (tmp_path / "o.jsonl.run.old-1" / "journal.sqlite3").is_file()


async def test_the_same_again_under_another_name_is_exit_2(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Paying twice for the same is a slip; the command that gives it for nothing is named."""
    words = ["enhance", ADDRESSES, "-s", "PG", "-u", sandbox.url]
    assert (await run(*words, "-o", tmp_path / "a.jsonl")).code == 0
    submitted = sandbox.stats.requests["submit"]
    done = await run(*words, "-o", tmp_path / "b.jsonl")
    assert done.code == 2
    assert f"pingdata-async export {tmp_path / 'a.jsonl.run'}" in done.err
    assert sandbox.stats.requests["submit"] == submitted
    assert not list(tmp_path.glob("b.*"))
    assert (await run("export", tmp_path / "a.jsonl.run", "-o", tmp_path / "b.jsonl")).code == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (await run(*words, "-o", tmp_path / "c.jsonl", "--pay-again")).code == 0
    assert sandbox.stats.locations_accepted == 200


async def test_a_plan_alone_is_in_nobodys_way(sandbox: SandboxServer, tmp_path: Path) -> None:
    """It has no answers to be had; once another run was paid for, it is not paid for as well."""
    words = [ADDRESSES, "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words, "-o", tmp_path / "a.jsonl")).code == 0
    done = await run("enhance", *words, "-o", tmp_path / "b.jsonl")
    assert done.code == 0, done.err
    accepted = sandbox.stats.locations_accepted
    done = await run("enhance", *words, "-o", tmp_path / "a.jsonl")
    assert done.code == 2
    assert f"pingdata-async export {tmp_path / 'b.jsonl.run'}" in done.err
    assert sandbox.stats.locations_accepted == accepted
    assert (await run("enhance", *words, "-o", tmp_path / "a.jsonl", "--pay-again")).code == 0
    assert sandbox.stats.locations_accepted == 2 * accepted


async def test_rows_at_fault_fail_alone_and_can_be_mended(tmp_path: Path) -> None:
    """Exit 3; the failures file is a valid input; `retry` asks about those rows alone."""
    source = poisoned(tmp_path / "in.csv", 150, {7, 123})
    output = tmp_path / "o.jsonl"
    async with SandboxServer(queue_delay_s=0.0, faults=FaultPlan(poison="POISON")) as sandbox:
        words = ["-s", "PG", "-u", sandbox.url]
        done = await run("enhance", source, "-o", output, *words, "--chunk-size", 50)
        assert done.code == 3, done.err
        assert sandbox.stats.locations_accepted_more_than_once == 0
        failed = [line for line in lines(output.read_bytes()) if line["status"] == "failed"]
        rejected = [line["id"] for line in failed if line["reason"] == "rejected"]
        assert rejected == ["own-7", "own-123"]
        assert "o.jsonl.failures.jsonl" in done.err
        failures = tmp_path / "o.jsonl.failures.jsonl"
        assert [line["id"] for line in lines(failures.read_bytes())] == rejected
        before = sandbox.stats.locations_accepted
        failures.write_text(failures.read_text().replace("POISON", "Elm"))
        done = await run("enhance", failures, "-o", tmp_path / "mended.jsonl", *words)
        assert done.code == 0, done.err
        done = await run("retry", f"{output}.run", "-u", sandbox.url)
        assert done.code in {3, 5}, done.err
        assert sandbox.stats.locations_accepted == before + 2


async def test_a_retry_asks_about_rows_without_an_answer_alone(tmp_path: Path) -> None:
    """Once the API takes them they are answered, in the same output, and nothing else is paid."""
    source = poisoned(tmp_path / "in.csv", 100, {50})
    output = tmp_path / "o.jsonl"
    plan, port = FaultPlan(poison="POISON"), free_port()
    usual: dict[str, Any] = {"port": port, "queue_delay_s": 0.0, "no_match_share": 0.0}
    async with SandboxServer(faults=plan, **usual) as sandbox:
        done = await run("enhance", source, "-o", output, "-s", "PG", "-u", sandbox.url)
        assert done.code == 3, done.err
    async with SandboxServer(**usual) as sandbox:
        done = await run("retry", f"{output}.run", "-u", sandbox.url)
        assert done.code == 0, done.err
        assert sandbox.stats.locations_accepted == 1
    assert {line["status"] for line in lines(output.read_bytes())} == {"ok"}
    assert not (tmp_path / "o.jsonl.failures.jsonl").exists()


async def test_an_unknown_source_is_exit_2(sandbox: SandboxServer, tmp_path: Path) -> None:
    """One submission, and nothing is in the way of the right command."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG,NOPE", "-u", sandbox.url
    )
    assert done.code == 2
    assert "knows no source NOPE" in done.err
    assert sandbox.stats.requests["submit"] == 1
    assert not list(tmp_path.glob("o.*"))


async def test_what_is_in_doubt_can_be_held(tmp_path: Path) -> None:
    """Exit 5, `status` lists it, and nothing is sent again before the user says so."""
    async with SandboxServer(
        queue_delay_s=0.0, faults=FaultPlan(lost_answer=0.4), seed=3
    ) as sandbox:
        run_dir = tmp_path / "o.jsonl.run"
        done = await run(
            "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url,
            "--chunk-size", 30, "--in-doubt", "hold",
        )  # fmt: skip
        assert done.code == 5, done.err
        assert sandbox.stats.locations_accepted == 100
        assert sandbox.stats.locations_accepted_more_than_once == 0
        status = msgspec.json.decode((await run("status", run_dir, "--json")).out)
        assert len(status["in_doubt"]) == status["submissions_in_doubt"] > 0
        assert all(each["held"] for each in status["in_doubt"])
        assert "held" in (await run("status", run_dir)).out
        for _ in range(5):
            done = await run("resume", run_dir, "-u", sandbox.url, "--in-doubt-retries", 9)
            if done.code == 0:
                break
        assert done.code == 0, done.err
    assert len(lines((tmp_path / "o.jsonl").read_bytes())) == 100


async def test_status_and_export_of_something_else(tmp_path: Path) -> None:
    """One line and exit 5 for what is no run; nothing is made or changed."""
    for words in (["status"], ["resume"], ["retry"], ["export", "-o", tmp_path / "o"]):
        done = await run(words[0], tmp_path, *words[1:])
        assert done.code in {2, 5}
        assert done.err.count("\n") == 1
        assert "not a run directory" in done.err
    assert not [*tmp_path.iterdir()]
