"""Instruments that larger tests run beside what they test."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

PROBE_EVERY_S = 0.01

#: Code for a process of its own, which defines `peak_mb()`: the most memory that it has had.
#: What getrusage() says on Linux is at least what the process had that started it.
PEAK_MB = """
import resource
from pathlib import Path

def peak_mb():
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024)
    [used] = [line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line]
    return int(used) // 1024
"""


class LoopLag:
    """How late the event loop ran a timer, at worst.

    Attributes:
        worst_s: By the clock; a busy machine adds to it.
        worst_cpu_s: How long its thread was at work between two timers; others do not add to it.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.worst_cpu_s = 0.0

    async def watch(self) -> None:
        while True:
            due = anyio.current_time() + PROBE_EVERY_S
            began_cpu_s = time.thread_time()
            await anyio.sleep_until(due)
            self.worst_s = max(self.worst_s, anyio.current_time() - due)
            self.worst_cpu_s = max(self.worst_cpu_s, time.thread_time() - began_cpu_s)


@contextlib.asynccontextmanager
async def loop_lag() -> AsyncIterator[LoopLag]:
    """Watches the event loop for the length of the block."""
    lag = LoopLag()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.watch)
        yield lag
        tasks.cancel_scope.cancel()


def disk_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is got onto the disk from now on: "content", "name" and "folder", in order."""
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def note_sync(file: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "content")
        sync(file)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append("name")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    return steps


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that tells nobody when it comes."""
    with anyio.fail_after(600.0):  # of a busy machine
        while not holds():  # noqa: ASYNC110 - it is another process
            await anyio.sleep(0.001)
