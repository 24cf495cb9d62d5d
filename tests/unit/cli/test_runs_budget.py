"""Plan before spending, on the command line: dry run, limits, budget, and what is not sent."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
import pytest

from pingdata_async.runs.directory.directory import PACE, journal_path
from pingdata_async.runs.forecast import Throughput
from pingdata_async.runs.journal.reader import reading_journal
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import Command, lines, run
from tests.support.runs import write_rows
from tests.support.sweeps import sampled


@asynccontextmanager
async def sandbox_with(**settings: Any) -> AsyncIterator[SandboxServer]:
    usual: dict[str, Any] = {"locations_per_s": math.inf, "queue_delay_s": 0.0}
    async with SandboxServer(**(usual | settings)) as server:
        yield server


async def foretold(*words: object) -> dict[str, Any]:
    done = await run(*words, "--json")
    assert (done.code, done.err) == (0, ""), done.err
    told: dict[str, Any] = msgspec.json.decode(done.out)
    return told


def about_jobs(sandbox: SandboxServer) -> int:
    counts = sandbox.stats.requests
    return counts.total() - counts["other"]


def assert_one_line(done: Command) -> str:
    """The error; what else was said comes before it."""
    [error] = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in done.err
    return error


async def test_a_quota_that_is_too_small_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """500 left of PH against 3,000 rows: the numbers, when there is more, and what fits."""
    write_rows(tmp_path / "in.csv", 3000)
    out = tmp_path / "o.jsonl"
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).strftime("%Y-%m-%d 00:00 UTC")
    async with sandbox_with(limits={"PH": {"daily": 500}}) as sandbox:
        words = ["enhance", tmp_path / "in.csv", "-u", sandbox.url, "-s"]
        done = await run(*words, "PG,PH", "-o", out)
        assert done.code == 5
        error = assert_one_line(done)
        assert "PH: 3,000 locations, but 500 of 500 are left (daily)" in error
        assert tomorrow in error or dt.datetime.now(dt.UTC).hour == 0
        assert "What fits: PG without PH, or 500 locations (--max-locations 500)" in error
        assert f"pingdata-async resume {out}.run" in done.err
        assert about_jobs(sandbox) == 0
        (tmp_path / "in.csv").rename(tmp_path / "gone.csv")  # the plan is enough
        done = await run("resume", f"{out}.run", "-u", sandbox.url)
        assert (done.code, about_jobs(sandbox)) == (5, 0)
        done = await run("resume", f"{out}.run", "-u", sandbox.url, "--max-locations", 500)
        assert done.code == 5
        assert "the budget is spent (500 of 500 locations" in assert_one_line(done)
        assert sandbox.stats.locations_accepted == 500
        done = await run("resume", f"{out}.run", "-u", sandbox.url, "--max-locations", 3000)
        assert "PH: 2,500 locations, but 0 of 500 are left" in assert_one_line(done)
        assert sandbox.stats.locations_accepted == 500
        (tmp_path / "gone.csv").rename(tmp_path / "in.csv")
        done = await run(*words, "PG", "-o", tmp_path / "pg.jsonl")
        assert done.code == 0, done.err
    assert len(lines((tmp_path / "pg.jsonl").read_bytes())) == 3000


async def test_no_preflight_begins_all_the_same(tmp_path: Path) -> None:
    """Until the API itself refuses."""
    write_rows(tmp_path / "in.csv", 30)
    async with sandbox_with(limits={"PG": {"daily": 20}}) as sandbox:
        done = await run(
            "enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-u", sandbox.url,
            "-s", "PG", "--chunk-size", 10, "--no-preflight",
        )  # fmt: skip
        assert done.code == 5
        assert "the account's limits" not in done.err
        assert sandbox.stats.locations_accepted == 20


async def test_a_source_that_may_not_be_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv", 3)
    async with sandbox_with(allowed_sources=["PG"]) as sandbox:
        done = await run(
            "enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-u", sandbox.url,
            "-s", "PG,PH",
        )  # fmt: skip
    assert done.code == 5
    assert "PH: not among the sources that this account may ask (PG)" in assert_one_line(done)


@pytest.mark.parametrize("status", sampled([403, 404, 500], 1))
async def test_an_api_that_does_not_tell_costs_only_the_check(tmp_path: Path, status: int) -> None:
    """One line for each question, and the run goes on to its end."""
    write_rows(tmp_path / "in.csv", 10)
    closed = {"limits": status, "datasources": status}
    async with sandbox_with(not_served=closed, limits={"PG": {"daily": 5000}}) as sandbox:
        words = [tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-u", sandbox.url, "-s", "PG"]
        told = await foretold("plan", *words)
        assert told["fits"] is None
        assert [str(status) in note for note in told["notes"]] == [True, True]
        taken_up = await run("enhance", *words)  # whose plan was made without knowing
        (tmp_path / "o2").mkdir()
        words[2] = tmp_path / "o2" / "o.jsonl"
        done = await run("enhance", *words, "--pay-again")
    for each in (taken_up, done):
        assert each.code == 0, each.err
        said = [line for line in each.err.splitlines() if "does not tell" in line]
        assert [line.partition(":")[0] for line in said] == [
            "Locations that a source cannot answer are not left out",
            "Whether this fits the account's limits is unknown",
        ]


async def test_whose_limits_they_are_is_not_known_for_another_organisation(tmp_path: Path) -> None:
    """They are one's own: said, and nothing is refused."""
    write_rows(tmp_path / "in.csv", 10)
    async with sandbox_with(limits={"PG": {"daily": 500}}) as sandbox:
        words = [tmp_path / "in.csv", "-u", sandbox.url, "-s", "PG", "-D", "acme"]
        told = await foretold("plan", *words)
    assert (told["fits"], told["quotas"]) == (None, [])
    assert any("your own, not those of acme" in note for note in told["notes"])


async def test_a_dry_run_foretells(tmp_path: Path) -> None:
    """Every number, and no job; what is kept with an output is taken up."""
    made = write_rows(tmp_path / "in.csv", 250)
    text = (tmp_path / "in.csv").read_text()
    (tmp_path / "in.csv").write_text(text + "x" + "," * (len(made[0]) - 1) + "\n")
    out = tmp_path / "o.jsonl"
    limits = {"PH": {"daily": 100, "monthly": 1000}, "GG": {"daily": 1}}
    async with sandbox_with(limits=limits) as sandbox:
        words = [tmp_path / "in.csv", "-u", sandbox.url, "-s", "PG,PH", "--chunk-size", 100]
        told = await foretold("plan", *words)
        assert (told["rows"], told["distinct"], told["left_out"]) == (
            251,
            250,
            {"invalid_input": 1},
        )
        assert (told["locations"], told["jobs"], told["run_dir"]) == (250, 3, None)
        assert told["charged_by_source"] == {"PG": 250, "PH": 250}
        assert told["expected_seconds"] is None
        assert [(q["source"], q["window"], q["left"], q["limit"]) for q in told["quotas"]] == [
            ("PH", "daily", 100, 100),
            ("PH", "monthly", 1000, 1000),
        ]
        assert (told["fits"], told["fitting"]) == (False, 100)
        assert len(told["refusals"]) == 1
        again = await foretold("plan", *words, "--max-locations", 80)
        assert (again["locations"], again["left_by_budget"], again["fits"]) == (80, 170, True)
        assert again["run_dir"] is None
        assert [path.name for path in tmp_path.glob("o.*")] == []
        assert again["disk_bytes"] == told["disk_bytes"] * 80 / 250
        kept = await foretold("plan", *words, "-o", out, "--max-locations", 80)
        assert kept["disk_bytes"] > again["disk_bytes"]  # with an output
        place = {"run_dir": f"{out}.run", "output": str(out), "disk_bytes": kept["disk_bytes"]}
        assert kept == again | place
        assert about_jobs(sandbox) == 0
        assert not out.exists()
        (tmp_path / "in.csv").unlink()
        done = await run("enhance", *words, "-o", out, "--max-locations", 80)
        assert done.code == 5, done.err
        assert sandbox.stats.locations_accepted == 80


async def test_how_long_it_takes(tmp_path: Path) -> None:
    """Unknown at first; at least so long where a rate is given; about as long as the last run."""
    write_rows(tmp_path / "in.csv", 200)
    write_rows(tmp_path / "more.csv", 400)
    async with sandbox_with() as sandbox:
        words = ["-u", sandbox.url, "-s", "PG", "--chunk-size", 10]
        dry = ["plan", tmp_path / "more.csv", *words]
        told = await foretold(*dry, "--max-requests-per-second", 2)
        assert (told["expected_seconds"], told["is_at_least"]) == (60.0, True)
        done = await run("enhance", tmp_path / "in.csv", "-o", tmp_path / "a.jsonl", *words)
        assert done.code == 0, done.err
        told = await foretold(*dry, "-o", tmp_path / "b.jsonl")
        assert 0 < told["expected_seconds"] < 600
        assert not told["is_at_least"]
        others = ["-o", tmp_path / "c.jsonl", *words[:2], "-s", "PH"]
        assert (await foretold(*dry[:2], *others))["expected_seconds"] is None


async def test_rows_that_repeat_others_take_no_time(tmp_path: Path) -> None:
    """Where nine rows in ten did, a run of as many locations takes about as long as that one."""
    rows = [f"{n % 120 + 1} Main St,Springfield" for n in range(1200)]
    (tmp_path / "in.csv").write_text("\n".join(["address,city", *rows]))
    write_rows(tmp_path / "more.csv", 120)
    async with sandbox_with() as sandbox:
        words = ["-u", sandbox.url, "-s", "PG"]
        out = tmp_path / "a.jsonl"
        done = await run("enhance", tmp_path / "in.csv", "-o", out, *words, "--max-locations", 110)
        assert done.code == 5, done.err  # and it is learnt from all the same
        async with reading_journal(journal_path(Path(f"{out}.run"))) as journal:
            kept = await anyio.to_thread.run_sync(journal.meta, PACE)
        pace = msgspec.convert(kept, Throughput)
        assert pace.locations == pytest.approx(110)
        told = await foretold("plan", tmp_path / "more.csv", "-o", tmp_path / "b.jsonl", *words)
        assert told["expected_seconds"] == pytest.approx(120 / 110 * pace.seconds)


async def test_a_budget_of_a_source_that_all_are_kept_from(tmp_path: Path) -> None:
    """It names no other source by mistake: the rows are skipped, and there is nothing to count."""
    (tmp_path / "in.csv").write_text("address,country\n1 King St W,Canada\n")
    async with sandbox_with() as sandbox:
        words = [tmp_path / "in.csv", "-u", sandbox.url, "-s", "PG", "--budget", "PG=10"]
        assert (await foretold("plan", *words))["left_out"] == {"skipped": 1}
        done = await run("enhance", *words, "-o", tmp_path / "o.jsonl")
        assert done.code == 3, done.err
        assert about_jobs(sandbox) == 0


async def test_what_would_surely_fail_is_not_sent(tmp_path: Path) -> None:
    """By row: asked of the other sources, or of none; said, counted, and never charged."""
    (tmp_path / "in.csv").write_text(
        "id,address,country,sources\n"
        "a,1 Main St,US,\nb,1 King St W,Canada,\nc,2 King St W,CAN,PH\nd,3 King St W,,\n"
    )
    out = tmp_path / "o.jsonl"
    configs = {"PG": {"supported_countries": ["US", "CA"]}}
    async with sandbox_with(source_configs=configs, no_match_share=0.0) as sandbox:
        words = [tmp_path / "in.csv", "-o", out, "-u", sandbox.url, "-s", "PG,PH"]
        told = await foretold("plan", *words)
        assert told["skipped_by_source"] == {"PH": 2}
        assert told["left_out"] == {"skipped": 1}
        assert told["charged_by_source"] == {"PG": 3, "PH": 2}
        done = await run("enhance", *words, "--summary", tmp_path / "s.json")
        assert done.code == 3, done.err
        said = done.err.splitlines()
        assert said[:2] == [
            "4 rows, 3 to be sent in 1 job.",
            "rows not sent to a source that cannot answer them: 2 PH",
        ]
        rows = lines(out.read_bytes())
        assert [row["status"] for row in rows] == ["ok", "partial", "failed", "ok"]
        assert [row.get("reason") for row in rows] == [None, "skipped", "skipped", None]
        assert rows[1]["error"] == "PH: only in US, not in Canada"
        assert set(rows[1]["location_data"]) == {"PG"}
        assert rows[2]["error"] == "PH: only in US, not in CAN"
        summary = msgspec.json.decode((tmp_path / "s.json").read_bytes())
        assert summary["charged_by_source"] == {"PG": 3, "PH": 2}
        assert summary["skipped_by_source"] == {"PH": 2}
        assert summary["reasons"] == {"skipped": 2}
        assert sandbox.stats.locations_accepted == 3
        accepted = about_jobs(sandbox)
        done = await run("retry", f"{out}.run", "-u", sandbox.url, "--all")  # it would be as before
        assert done.code == 3, done.err
        assert about_jobs(sandbox) == accepted
        status = await run("status", f"{out}.run")
    assert "charged: 3 PG, 2 PH" in status.out
    assert "rows not sent to a source that cannot answer them: 2 PH" in status.out
    failures = lines((tmp_path / "o.jsonl.failures.jsonl").read_bytes())
    assert [(row["id"], row["reason"]) for row in failures] == [("c", "skipped")]


async def test_the_budget_can_be_of_sources(tmp_path: Path) -> None:
    """The line says what was spent, what is left, and how to go on; so it does."""
    write_rows(tmp_path / "in.csv", 100)
    out = tmp_path / "o.jsonl"
    async with sandbox_with() as sandbox:
        words = ["enhance", tmp_path / "in.csv", "-o", out, "-u", sandbox.url, "-s", "PG,PH"]
        wrong = await run(*words, "--budget", "HP=10")
        assert wrong.code == 2
        assert "the budget names HP, but the locations ask PG, PH" in assert_one_line(wrong)
        assert about_jobs(sandbox) == 0
        done = await run(*words, "--chunk-size", 30, "--budget", "ph=40,PG=1000")
        assert done.code == 5
        error = assert_one_line(done)
        assert "40 of 40 of ph, 40 of 1,000 of PG" in error
        assert "still to be sent: 60 locations. Resume with --budget ph=100 to send all" in error
        assert sandbox.stats.locations_accepted == 40
        assert (await run("resume", f"{out}.run", "-u", sandbox.url)).code == 5  # as before
        assert sandbox.stats.locations_accepted == 40
        again = ["resume", f"{out}.run", "-u", sandbox.url, "--budget", "PH=100"]
        done = await run(*again)  # that of PG stays
        assert done.code == 0, done.err
        status = msgspec.json.decode((await run("status", f"{out}.run", "--json")).out)
        assert status["budget"] == {"PG": 1000, "PH": 100}
        assert sandbox.stats.locations_accepted == 100
        assert sandbox.stats.locations_accepted_more_than_once == 0


@pytest.mark.parametrize(
    "words",
    [["--budget", "PH"], ["--budget", "PH=x"], ["--budget", "PH=1,PH=2"], ["--budget", "PH=0"],
     ["--max-locations", "0"], ["--json"]],
)  # fmt: skip
async def test_budgets_that_are_none(tmp_path: Path, words: list[str]) -> None:
    """Exit 2, one line, and nothing is left behind."""
    write_rows(tmp_path / "in.csv", 2)
    done = await run(
        "enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-s", "PG", "-e", "sandbox",
        *words,
    )  # fmt: skip
    assert done.code == 2
    assert_one_line(done)
    assert not list(tmp_path.glob("o.*"))
