"""Trials of any size: the suite runs small ones, `scripts/bench large` the full ones.

Each runs, checks what must hold, and returns the figures that were measured.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

import pingdata_async as ping
from pingdata_async.runs.directory.directory import journal_path
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.commands import COMMAND, Command, run
from tests.support.ports import free_port
from tests.support.probes import until
from tests.survival.killing import Death, look_at
from tests.survival.rows import POISON, check_rows, leftover_parts, read_lines, write_rows

FAULTS = (
    "rate_limit",
    "server_error",
    "drop",
    "lost_answer",
    "cut_output",
    "corrupt_output",
    "failed_job",
    "lost_job",
    "missing_location",
    "missing_source",
    "source_trouble",
    "wrong_ids",
)
OFTEN = 10
REFUSED_AT_MOST = 30
REFUSED_A_POISONED_ROW = 15

# As the usual one, but in milliseconds, and more stubborn where luck decides: with a share of
# 10 %, one of 10,000 jobs fails four times in a row, and there are some 50 jobs in each trial.
STUBBORN = ping.RetryPolicy(
    base_delay_s=0.005,
    max_delay_s=0.05,
    late_after_s=0.1,
    forgotten_after_s=0.05,
    job_attempts=8,
    forgotten_attempts=8,
    in_doubt_retries=8,
    location_retries=10,
    max_doubts_in_a_row=50,
    give_up_after_s=60.0,
)
QUICK_POLLS = ping.PollSchedule(min_interval_s=0.01, max_interval_s=0.1)


class Figures(dict[str, Any]):
    """What was measured, by name."""

    def __str__(self) -> str:
        return ", ".join(
            f"{value:,} {name}" if isinstance(value, int) else f"{value:.1f} {name}"
            for name, value in self.items()
        )


def sandbox_at_once(**settings: Any) -> SandboxServer:
    """One whose jobs are done as soon as they are accepted."""
    return SandboxServer(**({"locations_per_s": math.inf, "queue_delay_s": 0.0} | settings))


def options(sandbox: SandboxServer, chunk_size: int, *more: object) -> list[object]:
    """Of a run against it."""
    return ["-s", "PG,PH", "-u", sandbox.url, "--chunk-size", chunk_size, *more]


def client_of(url: str) -> ping.PingDataClient:
    return ping.PingDataClient(api_url=url, auth_token="any")


async def in_process(url: str, source: Path, output: Path, **changes: Any) -> ping.RunSummary:
    """A run within this process that is quick."""
    usual: dict[str, Any] = {
        "sources": ["PG", "PH"],
        "poll_schedule": QUICK_POLLS,
        "retry_policy": STUBBORN,
    }
    async with client_of(url) as client:
        return await ping.BulkEnhancer(client, **(usual | changes)).run(source, output)


async def reference(folder: Path, rows: int, distinct: int | None = None) -> list[dict[str, Any]]:
    """What comes of these rows where nothing goes wrong, and each is sent for itself."""
    folder.mkdir()
    write_rows(folder / "in.csv", rows, distinct=distinct)
    async with sandbox_at_once() as sandbox, client_of(sandbox.url) as client:
        bulk = ping.BulkEnhancer(client, ["PG", "PH"], poll_schedule=QUICK_POLLS)
        await bulk.run(folder / "in.csv", folder / "out.jsonl", dedupe=False)
        assert sandbox.stats.locations_accepted == rows
    return check_rows(folder / "out.jsonl", rows, distinct)


# -- faults -------------------------------------------------------------------------------


async def everything_goes_wrong(
    folder: Path,
    rows: int,
    chunk_size: int,
    share: float,
    seed: int,
    distinct: int | None = None,
) -> Figures:
    """With every fault on, each row arrives, answered, with the answer of a run without any.

    Where there are only so many distinct addresses, the others repeat them.

    Raises:
        AssertionError: When one does not, or when more was paid for twice than is said.
    """
    right = await reference(folder / "right", rows, distinct)
    source, output = folder / "in.csv", folder / "out.jsonl"
    write_rows(source, rows, distinct=distinct)
    shares: dict[str, Any] = dict.fromkeys(FAULTS, share)
    async with sandbox_at_once(faults=FaultPlan(retry_after_s=0, **shares), seed=seed) as sandbox:
        summary = await in_process(sandbox.url, source, output, chunk_size=chunk_size, max_jobs=8)
        stats = sandbox.stats
    lines = check_rows(output, rows, distinct)
    differing = [both for both in zip(lines, right, strict=True) if both[0] != both[1]]
    assert not differing, differing[0]
    assert summary.rows == rows == summary.ok + summary.partial + summary.failed
    assert summary.no_answer == 0
    assert set(summary.reasons) <= {"no_match"}
    assert not leftover_parts(folder)
    twice = stats.locations_accepted_more_than_once
    assert twice <= summary.locations_possibly_charged_again
    lost = stats.faults["lost_answer"]
    assert summary.jobs == stats.jobs_accepted - lost
    assert summary.submissions_in_doubt >= lost
    if (distinct or rows) / chunk_size * share >= OFTEN:  # so that none stays away by mere luck
        assert set(FAULTS) <= (+stats.faults).keys()
    return Figures({
        "rows answered as without faults": summary.rows,
        "faults": stats.faults.total(),
        "locations paid for twice": twice,
        "said to be possibly so": summary.locations_possibly_charged_again,
        "submissions in doubt": summary.submissions_in_doubt,
        "requests": summary.requests,
        "s": summary.seconds,
    })  # fmt: skip


# -- kills at random ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def started(
    *arguments: object, command: Sequence[str] = COMMAND, **settings: Any
) -> AsyncIterator[anyio.abc.Process]:
    """The command, in a process that ends with the block."""
    process = await anyio.open_process(
        [*command, *map(str, arguments)],
        env={**os.environ, "PING_DATA_AUTH_TOKEN": "any"},
        **({"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | settings),
    )
    async with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def killed_at_random(
    folder: Path,
    rows: int,
    chunk_size: int,
    kills: int,
    seed: int,
    distinct: int | None = None,
) -> Figures:
    """One run that is killed from outside, again and again, at any moment, comes to its end.

    Where there are only so many distinct addresses, the others repeat them.

    Raises:
        AssertionError: When a row is missing, wrong, or was paid for twice without it being said.
    """
    right = await reference(folder / "right", rows, distinct)
    source, output = folder / "in.csv", folder / "out.jsonl"
    run_dir = folder / "out.jsonl.run"
    write_rows(source, rows, distinct=distinct)
    chance = random.Random(seed)
    # There are three requests a chunk, so at none of these is it nearly over.
    moments = sorted(chance.sample(range((distinct or rows) // chunk_size * 2), kills))
    deaths: list[Death] = []
    async with sandbox_at_once() as sandbox:
        words = ["enhance", source, "-o", output, *options(sandbox, chunk_size, "--max-jobs", 8)]
        resume = ["resume", run_dir, "-u", sandbox.url]
        for moment in moments:
            can_resume = _is_planned(run_dir) and len(deaths) % 2
            is_past = sandbox.stats.requests.total() >= moment
            async with started(*(resume if can_resume else words)) as process:
                await until(_has_come(sandbox, process, moment))
                await anyio.sleep(chance.uniform(0.0, 0.6 if is_past else 0.03))
                assert process.returncode is None, "it was over before the last kill"
                process.kill()
                await process.wait()
            deaths.append(await anyio.to_thread.run_sync(look_at, run_dir))
        summary = await _finished(folder, words)
        stats = sandbox.stats
    lines = check_rows(output, rows, distinct)
    differing = [both for both in zip(lines, right, strict=True) if both[0] != both[1]]
    assert not differing, differing[0]
    assert summary["rows"] == rows
    assert summary["no_answer"] == 0
    assert not leftover_parts(folder)
    unanswered = frozenset[tuple[int, float, int]]().union(*(d.unanswered for d in deaths))
    twice = stats.locations_accepted_more_than_once
    said = summary["locations_possibly_charged_again"]
    assert twice <= said <= sum(locations for *_, locations in unanswered)
    assert stats.locations_accepted == (distinct or rows) + twice
    assert summary["locations_charged"] == (distinct or rows)
    assert summary["locations_saved"] == rows - (distinct or rows)
    assert summary["submissions_in_doubt"] == len(unanswered)
    assert 0 <= stats.jobs_accepted - summary["jobs"] <= len(unanswered)
    return Figures({
        "rows, each once": rows,
        "kills": len(deaths),
        "submissions cut off": len(unanswered),
        "locations paid for twice": twice,
        "said to be possibly so": said,
        "chunks spooled at the last kill": len(deaths[-1].spooled),
    })  # fmt: skip


def _has_come(
    sandbox: SandboxServer, process: anyio.abc.Process, requests: int
) -> Callable[[], bool]:
    """Whether there were so many requests, or will be no more."""
    return lambda: sandbox.stats.requests.total() >= requests or process.returncode is not None


def _is_planned(run_dir: Path) -> bool:
    """Whether it can be gone on with by its directory alone."""
    if not journal_path(run_dir).exists():
        return False
    with contextlib.closing(sqlite3.connect(journal_path(run_dir))) as journal:
        try:
            found = journal.execute("SELECT 1 FROM meta WHERE key = 'settings'").fetchone()
        except sqlite3.OperationalError:  # no tables yet
            return False
    return found is not None


async def _finished(folder: Path, words: list[Any]) -> dict[str, Any]:
    done = await run(*words, "--summary", folder / "summary.json")
    assert done.code == 0, done.err
    summary: dict[str, Any] = msgspec.json.decode((folder / "summary.json").read_bytes())
    return summary


# -- a budget -----------------------------------------------------------------------------

# Without those that are waited for: a lost job, for a minute.
COSTLY_FAULTS = ("rate_limit", "lost_answer", "failed_job", "missing_location", "source_trouble")


async def within_a_budget(
    folder: Path, rows: int, most: int, *, chunk_size: int, kills: int, share: float, seed: int
) -> Figures:
    """A run with a budget, killed again and again, never has more accepted; then it is raised.

    Raises:
        AssertionError: When more was accepted by the server's own count, or rows are missing.
    """
    source, output = folder / "in.csv", folder / "out.jsonl"
    run_dir = folder / "out.jsonl.run"
    write_rows(source, rows)
    chance = random.Random(seed)
    shares: dict[str, Any] = dict.fromkeys(COSTLY_FAULTS, share)
    faults = FaultPlan(retry_after_s=0, **shares)
    async with sandbox_at_once(faults=faults, seed=seed) as sandbox:
        words = ["enhance", source, "-o", output, "--max-locations", most, "--job-attempts", 4]
        words += options(sandbox, chunk_size, "--max-jobs", 8)
        resume = ["resume", run_dir, "-u", sandbox.url]
        killed = 0
        for number in range(kills):
            moment = sandbox.stats.requests.total() + chance.randint(3, 12)
            go_on = resume if number % 2 and _is_planned(run_dir) else words
            async with started(*go_on) as process:
                await until(_has_come(sandbox, process, moment))
                killed += process.returncode is None
                process.kill() if process.returncode is None else None
                await process.wait()
            assert sandbox.stats.locations_accepted <= most
        for go_on in (words, resume):  # however often: no more is sent
            await _stopped_by_the_budget(go_on, run_dir, sandbox.url)
            assert 0 < sandbox.stats.locations_accepted <= most
        at_the_stop = sandbox.stats.locations_accepted
        status = await status_of(run_dir)
        assert status["locations_charged"] <= at_the_stop
        assert status["locations_charged"] + status["locations_in_doubt"] <= most
        assert not status["in_flight"]
        assert not output.exists()
        async with ping.PingDataClient(api_url=sandbox.url, auth_token="any") as client:
            enhancer = ping.BulkEnhancer(
                client,
                ["PG", "PH"],
                chunk_size=chunk_size,
                poll_schedule=QUICK_POLLS,
                retry_policy=STUBBORN,
            )
            summary = await enhancer.resume(run_dir, max_locations=100 * rows)
        stats = sandbox.stats
    check_rows(output, rows)
    assert summary.no_answer == 0
    assert sum(summary.charged_by_source.values()) >= 2 * rows
    assert summary.locations_charged + summary.locations_in_doubt >= stats.locations_accepted
    return Figures({
        "rows": rows,
        "allowed": most,
        "accepted by then": at_the_stop,
        "kills": killed,
        "accepted in the end": stats.locations_accepted,
        "faults": stats.faults.total(),
    })  # fmt: skip


async def _stopped_by_the_budget(words: list[object], run_dir: Path, api_url: str) -> None:
    """The command says what stopped it, and how to go on with more."""
    stopped = await run(*words)
    assert stopped.code == 5, stopped.err
    assert "the budget is spent" in stopped.err
    [shown] = re.findall(r"^  pingdata-async (resume .*)$", stopped.err, re.MULTILINE)
    assert shown.startswith(f"resume {run_dir} ")
    assert f" --api-url {api_url}" in shown
    assert " --max-locations " in shown


# -- rows and requests at fault -----------------------------------------------------------


async def poisoned_rows(folder: Path, rows: int, chunk_size: int, at: Collection[int]) -> Figures:
    """The rows that the API refuses fail, alone, and nothing is paid for twice for it.

    Raises:
        AssertionError: When others fail too, or too many requests are refused.
    """
    source, output = folder / "in.csv", folder / "out.jsonl"
    write_rows(source, rows, at)
    async with sandbox_at_once(faults=FaultPlan(poison=POISON)) as sandbox:
        done = await run("enhance", source, "-o", output, *options(sandbox, chunk_size))
        stats = sandbox.stats
    assert done.code == 3, done.err
    lines = check_rows(output, rows)
    unanswered = [line for line in lines if line.get("reason") not in {None, "no_match"}]
    assert [line["id"] for line in unanswered] == [f"r{row}" for row in sorted(at)]
    assert {line["reason"] for line in unanswered} == {"rejected"}
    failures = read_lines(folder / "out.jsonl.failures.jsonl")
    assert [line["id"] for line in failures] == [f"r{row}" for row in sorted(at)]
    assert stats.locations_accepted == rows - len(at)
    assert stats.locations_accepted_more_than_once == 0
    refused = stats.refusals.total()
    assert refused <= REFUSED_A_POISONED_ROW * len(at)
    return Figures({
        "rows": rows,
        "failed": len(unanswered),
        "refused requests": refused,
        "locations in two jobs": stats.locations_accepted_more_than_once,
    })  # fmt: skip


async def unknown_source(folder: Path, rows: int) -> Figures:
    """A source that does not exist is said after few requests, and nothing is paid for.

    Raises:
        AssertionError: When more is asked, or too little said.
    """
    source = folder / "in.csv"
    write_rows(source, rows)
    async with sandbox_at_once() as sandbox:
        done = await run(
            "enhance", source, "-o", folder / "out.jsonl", "-s", "PG,NOPE", "-u", sandbox.url
        )
        stats = sandbox.stats
    assert done.code == 2, done.err
    assert "NOPE" in done.err
    assert "Traceback" not in done.err
    assert stats.jobs_accepted == 0
    requests = stats.requests.total()
    assert 1 <= requests <= REFUSED_AT_MOST
    return Figures({"rows": rows, "requests": requests, "exit code": done.code})


async def refuses_everything(folder: Path, rows: int, chunk_size: int) -> Figures:
    """An API that refuses all stops a run, which is finished once it accepts again.

    Raises:
        AssertionError: When rows are called failed for it, or it does not finish.
    """
    source, output = folder / "in.csv", folder / "out.jsonl"
    run_dir = folder / "out.jsonl.run"
    write_rows(source, rows)
    faults = FaultPlan(reject_all=1.0, reject_message="Bulk jobs are closed for maintenance")
    port = free_port()
    async with sandbox_at_once(faults=faults, port=port) as sandbox:
        stopped = await run("enhance", source, "-o", output, *options(sandbox, chunk_size))
        stats = sandbox.stats
    assert stopped.code == 5, stopped.err
    assert "closed for maintenance" in stopped.err
    requests = stats.requests.total()
    assert 1 <= requests <= REFUSED_AT_MOST
    status = await status_of(run_dir)
    assert status["no_answer"] == status["failed"] == status["settled"] == 0
    assert not status["chunks"].get("failed")
    assert not output.exists()
    async with sandbox_at_once(port=port) as sandbox:
        done = await run("resume", run_dir, "-u", sandbox.url)
        assert done.code == 0, done.err
        assert sandbox.stats.locations_accepted == rows
    check_rows(output, rows)
    return Figures({"rows": rows, "requests until it stopped": requests, "exit code": stopped.code})


async def status_of(run_dir: Path) -> dict[str, Any]:
    """What `status --json` says."""
    done: Command = await run("status", run_dir, "--json")
    assert done.code == 0, done.err
    status: dict[str, Any] = msgspec.json.decode(done.out)
    return status
