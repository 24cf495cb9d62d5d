"""The floor: a bare aiohttp loop that moves the same bytes, and promises nothing.

    python -m benchmarks.throughput.floor BODIES OUTPUT URL

Submits bodies that were encoded before, asks once about each job, and writes what comes to one
file. It keeps connections alive, decompresses and parses no output, keeps no plan and no journal,
and syncs nothing to the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from benchmarks.throughput.data import read_bodies

MAX_JOBS = 64


class _File:
    """One file, in which each output gets its place when its length is known."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._end = 0

    def reserve(self, size: int) -> int:
        """Where the next so many bytes belong."""
        place, self._end = self._end, self._end + size
        return place

    def write(self, place: int, block: bytes) -> int:
        """Write a block; returns the place of the next one."""
        return place + os.pwrite(self._descriptor, block, place)


async def enhance(bodies: Iterator[bytes], file: _File, url: str) -> None:
    """Bring all jobs through, `MAX_JOBS` at once."""
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "Authorization": "Token any"},
            auto_decompress=False,
        ) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(MAX_JOBS):
            tasks.create_task(_work(session, bodies, file, f"{url}/api/v1/bulk_enhance"))


async def _work(
    session: aiohttp.ClientSession, bodies: Iterator[bytes], file: _File, jobs: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for body in bodies:
        async with session.post(jobs, data=body, headers=headers) as answer:
            job = json.loads(await answer.read())["id"]
        async with session.get(f"{jobs}/{job}") as answer:
            status = json.loads(await answer.read())
        async with session.get(status["result"]["outputs"][0]["url"]) as answer:
            place = file.reserve(int(answer.headers["Content-Length"]))
            async for block in answer.content.iter_any():
                place = file.write(place, block)


if __name__ == "__main__":
    source, output, url = sys.argv[1:]
    asyncio.run(enhance(read_bodies(Path(source)), _File(Path(output)), url))
