"""Processes below this one, to be killed in the middle of their work."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import anyio

from pingdata_async.sandbox import SandboxServer


def descendants() -> Iterator[tuple[int, str]]:
    """The processes that this one started, and those that these did: id and command line."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        children[int(parent)].append(int(path.parent.name))
    to_visit = [os.getpid()]
    while to_visit:
        for pid in children[to_visit.pop()]:
            to_visit.append(pid)
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            yield pid, words.replace(b"\0", b" ").decode(errors="replace")


async def kill_when(sandbox: SandboxServer, locations: int, word: str, number: int) -> None:
    """Kill that many processes with a word in their command line, after so many locations."""
    while sandbox.stats.locations_accepted < locations:  # noqa: ASYNC110 - it tells nobody
        await anyio.sleep(0.1)
    pids = [pid for pid, command in descendants() if word in command][:number]
    assert len(pids) == number
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
