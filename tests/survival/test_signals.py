"""Signals while submissions are on the wire: their answers are waited for, so nothing is in doubt.

Simpler ones are in tests/behaviour/command/test_enhance.py.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.commands import COMMAND, run
from tests.support.probes import until
from tests.support.sweeps import sampled
from tests.survival.rows import check_rows, write_rows
from tests.survival.trials import options, sandbox_at_once, started, status_of

ROWS = 240
CHUNK_SIZE = 20
AT_ONCE = 8


class Delay:
    """How long requests wait after the first job was accepted; can be ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sandbox: SandboxServer | None = None

    async def __call__(self, _seconds: float) -> None:
        # The first job goes alone; once it is accepted, many go at once.
        if self.sandbox is not None and self.sandbox.stats.jobs_accepted:
            await anyio.sleep(self.seconds)

    def end(self) -> None:
        """From now on nothing waits."""
        self.sandbox = None


@asynccontextmanager
async def slow_sandbox(seconds: float) -> AsyncIterator[tuple[SandboxServer, Delay]]:
    """A sandbox each of whose answers takes long, once it has accepted a job."""
    delay = Delay(seconds)
    async with sandbox_at_once(faults=FaultPlan(slow_answer=1.0), sleep=delay) as sandbox:
        delay.sandbox = sandbox
        yield sandbox, delay


def on_the_wire(sandbox: SandboxServer) -> int:
    """Submissions that have arrived and are not answered yet."""
    stats = sandbox.stats
    return stats.requests["submit"] - stats.jobs_accepted


class Said:
    """What a process writes to its standard error."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stderr is not None
        self._stderr = process.stderr
        self.text = ""

    async def until(self, word: str) -> None:
        while word not in self.text:
            self.text += (await self._stderr.receive()).decode()

    async def to_its_end(self) -> str:
        async for block in self._stderr:
            self.text += block.decode()
        return self.text


def command(sandbox: SandboxServer, folder: Path) -> list[Any]:
    write_rows(folder / "in.csv", ROWS)
    words = options(sandbox, CHUNK_SIZE, "--max-jobs", AT_ONCE)
    return ["enhance", folder / "in.csv", "-o", folder / "out.jsonl", *words]


async def assert_resumable(sandbox: SandboxServer, folder: Path) -> None:
    """It goes on to its end, with every row once."""
    done = await run("resume", folder / "out.jsonl.run", "-u", sandbox.url)
    assert done.code == 0, done.err
    check_rows(folder / "out.jsonl", ROWS)
    assert sandbox.stats.locations_accepted >= ROWS


@pytest.mark.parametrize(
    ("number", "code"),
    sampled([(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], 1),
)
async def test_a_signal_while_submissions_are_on_the_wire(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Their answers are noted before it ends, so that nothing is paid for twice."""
    async with slow_sandbox(1.5) as (sandbox, delay):
        async with started(*command(sandbox, tmp_path), stderr=subprocess.PIPE) as process:
            said = Said(process)
            await until(lambda: on_the_wire(sandbox) >= 5)
            process.send_signal(number)
            with anyio.fail_after(300.0):
                text = await said.to_its_end()
                await process.wait()
        assert process.returncode == code
        assert "Traceback" not in text
        assert (
            f"  pingdata-async resume {tmp_path / 'out.jsonl.run'} --api-url {sandbox.url}" in text
        )
        accepted = sandbox.stats.jobs_accepted
        assert accepted >= 6
        assert on_the_wire(sandbox) == 0
        status = await status_of(tmp_path / "out.jsonl.run")
        assert (status["submissions_in_doubt"], status["in_doubt"]) == (0, [])
        assert not status["chunks"].get("submitting")
        assert status["jobs"] == accepted
        delay.end()
        await assert_resumable(sandbox, tmp_path)
        assert sandbox.stats.locations_accepted == ROWS
        assert sandbox.stats.locations_accepted_more_than_once == 0


async def test_a_second_signal_does_not_wait_for_them(tmp_path: Path) -> None:
    """It ends at once; what was on the wire is in doubt then, and counted."""
    async with slow_sandbox(600.0) as (sandbox, delay):
        async with started(*command(sandbox, tmp_path), stderr=subprocess.PIPE) as process:
            said = Said(process)
            await until(lambda: on_the_wire(sandbox) >= 5)
            process.send_signal(signal.SIGINT)
            await said.until("Stopping")
            process.send_signal(signal.SIGTERM)
            with anyio.fail_after(300.0):
                text = await said.to_its_end()
                await process.wait()
        assert process.returncode == 143
        assert "Traceback" not in text
        status = await status_of(tmp_path / "out.jsonl.run")
        cut_off = status["submissions_in_doubt"]
        assert 5 <= cut_off <= AT_ONCE
        assert status["chunks"]["submitting"] == cut_off == len(status["in_doubt"])
        delay.end()
        await assert_resumable(sandbox, tmp_path)
        status = await status_of(tmp_path / "out.jsonl.run")
        assert status["submissions_in_doubt"] == cut_off
        twice = sandbox.stats.locations_accepted_more_than_once
        assert twice <= status["locations_possibly_charged_again"] == cut_off * CHUNK_SIZE


async def test_nohup_is_heeded(tmp_path: Path) -> None:
    """Started with SIGHUP ignored, a closed terminal does not end it."""
    async with slow_sandbox(0.3) as (sandbox, delay):
        words = [*COMMAND, *map(str, command(sandbox, tmp_path))]
        async with started(
            command=["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *words]
        ) as process:
            await until(lambda: on_the_wire(sandbox) >= 5)
            process.send_signal(signal.SIGHUP)
            await anyio.sleep(0.2)
            process.send_signal(signal.SIGHUP)
            delay.end()
            with anyio.fail_after(300.0):
                await process.wait()
        assert process.returncode == 0
        check_rows(tmp_path / "out.jsonl", ROWS)
        assert sandbox.stats.locations_accepted == ROWS


async def test_a_signal_while_nobody_reads_the_output(tmp_path: Path) -> None:
    """A full pipe is not waited for."""
    write_rows(tmp_path / "in.csv", ROWS)
    async with sandbox_at_once() as sandbox:
        done = await run(
            "enhance", tmp_path / "in.csv", "-o", tmp_path / "out.jsonl", *options(sandbox, 100)
        )
        assert done.code == 0
    async with started(
        "export", tmp_path / "out.jsonl.run", "-o", "-", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        await process.stdout.receive(1)
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(60.0):
            await process.wait()
    assert process.returncode == 143
