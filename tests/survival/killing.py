"""One run, killed at one moment and gone on with: what must hold each time."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from pingdata_async.runs.directory.directory import journal_path
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import SpoolPlace
from pingdata_async.runs.status import read_status
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.survival.launcher import End, Order, Report
from tests.survival.rows import POISON, check_rows, leftover_parts, read_lines, write_rows

KILLED = -9
MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a run goes through, besides being killed.

    Attributes:
        name: To tell it from others.
        faults: Of the sandbox.
        is_strict: Whether these faults alone make nothing be paid for twice.
        rows: Of the input.
        poisoned: Rows that are refused.
        failing: Rows whose jobs fail.
    """

    name: str
    faults: FaultPlan
    is_strict: bool
    rows: int = 60
    poisoned: Collection[int] = (17, 44)
    failing: Collection[int] = ()


REFUSALS = Scene(name="refusals", faults=FaultPlan(poison=POISON), is_strict=True)
TROUBLES = Scene(
    name="troubles",
    faults=FaultPlan(
        poison=POISON,
        poison_job="JOBPOIS",
        missing_location=0.08,
        missing_source=0.05,
        source_trouble=0.05,
    ),
    is_strict=False,
    rows=40,
    poisoned=(17,),
    failing=(35,),
)


class Launcher:
    """The launcher as a process; an async context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "tests.survival.launcher"]
        # A group of its own, so that what it launched ends with it, also after a failure.
        process = await anyio.open_process(command, stderr=None, start_new_session=True)
        self._process = await self._stack.enter_async_context(process)
        assert process.stdout is not None
        self._ends = BufferedByteReceiveStream(process.stdout)
        return self

    async def __aexit__(self, *error: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._stack.aclose()

    async def launch(self, order: Order) -> int:
        """How it ended: 0, or minus the signal.

        Raises:
            AssertionError: When it ended with an error.
        """
        assert self._process.stdin is not None
        await self._process.stdin.send(msgspec.json.encode(order) + b"\n")
        line = await self._ends.receive_until(b"\n", MAX_LINE_BYTES)
        end = msgspec.json.decode(line, type=End)
        assert end.code in {0, KILLED}, end.error
        return end.code


@dataclass(frozen=True)
class Death:
    """What a killed process left behind.

    Attributes:
        unanswered: Submissions whose answer it did not live to note: chunk, time, locations.
        spooled: Chunks whose answers are safe.
        jobs: The job of each chunk that has one.
    """

    unanswered: frozenset[tuple[int, float, int]] = frozenset()
    spooled: frozenset[int] = frozenset()
    jobs: tuple[tuple[int, str | None], ...] = ()


def look_at(run_dir: Path) -> Death:
    """What the journal tells; blocks."""
    if not (run_dir / "plan").exists() or not journal_path(run_dir).exists():
        return Death()
    with JournalReader(journal_path(run_dir)) as journal:
        unanswered = journal.unanswered()
        jobs = tuple((each.index, each.job_id) for each in journal.in_flight())
        has_settings = journal.meta("settings") is not None
    if has_settings:
        status = read_status(run_dir)  # it works, whatever happened
        assert not status.is_running
        assert status.submissions_in_doubt >= len(unanswered)
    with contextlib.closing(sqlite3.connect(journal_path(run_dir))) as connection:
        found = connection.execute(
            "SELECT idx, segment, segment_begin, segment_size FROM chunks WHERE state = 'spooled'"
        ).fetchall()
    for index, *place in found:  # whole, as far as the journal speaks of it
        assert Spool(run_dir / "spool").read(index, SpoolPlace(*place))
    spooled = frozenset(index for index, *_ in found)
    lost = frozenset((each.index, each.since, each.locations) for each in unanswered)
    return Death(lost, spooled, jobs)


def _can_resume(run_dir: Path) -> bool:
    if not journal_path(run_dir).exists():
        return False
    with JournalReader(journal_path(run_dir)) as journal:
        return journal.meta("settings") is not None


class Trial:
    """One scene in one folder; runs are killed there, one after the other.

    Args:
        scene: What they go through.
        folder: Theirs.
        launcher: Starts them.
    """

    def __init__(self, scene: Scene, folder: Path, launcher: Launcher) -> None:
        self._scene = scene
        self._folder = folder
        self._launcher = launcher
        folder.mkdir()
        self._source = folder / "in.csv"
        write_rows(self._source, scene.rows, scene.poisoned)
        text = self._source.read_text()
        for row in scene.failing:
            text = text.replace(f'"{row} Oak ', f'"{row} JOBPOIS ')
        self._source.write_text(text)

    async def undisturbed(self) -> Report:
        """A run that nobody kills; what came."""
        return await self.killed_at([])

    async def killed_at(self, moments: Iterable[tuple[str, int]]) -> Report:
        """A run that is killed at each of these moments in turn, and then goes on to its end.

        Raises:
            AssertionError: When something that must hold does not.
        """
        scene, folder = self._scene, self._folder / "run"
        folder.mkdir()
        faults = scene.faults
        deaths: list[Death] = []
        async with SandboxServer(
            locations_per_s=math.inf, queue_delay_s=0.0, faults=faults
        ) as sandbox:
            order = Order(
                url=sandbox.url,
                source=str(self._source),
                output=str(folder / "out.jsonl"),
                report=str(folder / "report"),
            )
            run_dir = folder / "out.jsonl.run"
            for moment, number in moments:
                can_resume = await anyio.to_thread.run_sync(_can_resume, run_dir)
                killed = msgspec.structs.replace(
                    order, moment=moment, number=number, resume=can_resume
                )
                if await self._launcher.launch(killed) != KILLED:
                    break
                deaths.append(await anyio.to_thread.run_sync(look_at, run_dir))
            else:
                await self._finish(order, run_dir, resume=bool(len(deaths) % 2))
            report = msgspec.json.decode((folder / "report").read_bytes(), type=Report)
            self._check_rows(folder, report)
            self._check_charges(sandbox, report, deaths)
            if deaths:
                self._check_requests(report, deaths[-1])
        shutil.rmtree(folder)
        return report

    async def _finish(self, order: Order, run_dir: Path, *, resume: bool) -> None:
        # The same command again, or by the directory alone: it comes to the same.
        can_resume = await anyio.to_thread.run_sync(_can_resume, run_dir)
        last = msgspec.structs.replace(order, resume=resume and can_resume)
        assert await self._launcher.launch(last) == 0

    def _check_rows(self, folder: Path, report: Report) -> None:
        scene, summary = self._scene, report.summary
        lines = check_rows(folder / "out.jsonl", scene.rows)
        reasons = {line["row"]: line.get("reason") for line in lines if line["status"] != "ok"}
        for row in scene.poisoned:
            assert reasons[row] == "rejected"
        for row in scene.failing:
            assert reasons[row] == "job_failed"
        no_answer = {line["id"] for line in read_lines(folder / "out.jsonl.failures.jsonl")}
        assert {f"r{row}" for row in (*scene.poisoned, *scene.failing)} <= no_answer
        if scene.is_strict:
            assert len(no_answer) == len(scene.poisoned)
        assert summary.rows == scene.rows == summary.ok + summary.partial + summary.failed
        assert summary.no_answer == len(no_answer)
        assert not leftover_parts(folder)
        check_against(lines)

    def _check_charges(self, sandbox: SandboxServer, report: Report, deaths: list[Death]) -> None:
        summary, stats = report.summary, sandbox.stats
        # One that died before it could count them leaves them to the next one.
        unanswered = frozenset[tuple[int, float, int]]().union(*(d.unanswered for d in deaths))
        twice = stats.locations_accepted_more_than_once
        assert twice <= summary.locations_possibly_charged_again
        assert 0 <= stats.jobs_accepted - summary.jobs <= len(unanswered)
        assert summary.submissions_in_doubt == len(unanswered)
        if self._scene.is_strict:
            at_risk = sum(locations for *_, locations in unanswered)
            assert summary.locations_possibly_charged_again <= at_risk
            wanted = self._scene.rows - len(self._scene.poisoned)
            assert stats.locations_accepted == wanted + twice
            assert summary.locations_charged == wanted

    def _check_requests(self, report: Report, death: Death) -> None:
        first: dict[int, tuple[str, str | None]] = {}
        for kind, chunk, job_id in report.requests:
            assert chunk not in death.spooled, "what is safe is asked for again"
            first.setdefault(chunk, (kind, job_id))
        for chunk, job_id in death.jobs:
            assert first[chunk] == ("poll", job_id), "a job that is paid for is not asked about"


_answers: dict[int, Any] = {}


def check_against(lines: list[dict[str, Any]]) -> None:
    """Whatever happened, the answer to an address is always the same."""
    right = [_answers.setdefault(line["row"], line) for line in lines]
    for line, other in zip(lines, right, strict=True):
        if {line["status"], other["status"]} == {"ok"}:
            assert line["location_data"] == other["location_data"]


@contextlib.asynccontextmanager
async def launchers(number: int) -> AsyncIterator[list[Launcher]]:
    """So many, at once."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Launcher()) for _ in range(number)]


async def kill_at_all(
    scene: Scene, folder: Path, cases: Iterable[list[tuple[str, int]]], at_once: int = 1
) -> int:
    """Each case a run of its own, some at once; returns how many.

    Raises:
        AssertionError: With the case, when something does not hold.
    """
    done = 0
    left = iter(list(cases))

    async def work(number: int, launcher: Launcher) -> None:
        nonlocal done
        for case in left:
            trial = Trial(scene, folder / f"{number}-{done}-{abs(hash(str(case)))}", launcher)
            try:
                await trial.killed_at(case)
            except BaseException as error:
                error.add_note(f"{scene.name}, killed at {case}")
                raise
            done += 1

    async with launchers(at_once) as some, anyio.create_task_group() as tasks:
        for number, launcher in enumerate(some):
            tasks.start_soon(work, number, launcher)
    return done


async def moments_of(scene: Scene, folder: Path) -> dict[str, int]:
    """How often each kind of moment comes in an undisturbed run of a scene."""
    async with launchers(1) as (launcher,):
        return (await Trial(scene, folder / "undisturbed", launcher).undisturbed()).moments
