"""The floor: a bare aiohttp loop that moves the same bytes, and promises nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import aiohttp
from isal import isal_zlib

from benchmarks.throughput.checks import check_served
from benchmarks.throughput.contender import MAX_JOBS, SOURCES, Contender, Part, chunks_of, need
from benchmarks.throughput.serving import Served

POLLS = 10_000
POLL_EVERY_S = 0.05


class Floor(Contender):
    """Submits pre-encoded bodies, and writes what comes to a file a job, block by block.

    It looks into no answer, keeps no plan and no journal, and syncs nothing to the disk.

    Args:
        url: Of the server.
        encoding: "identity", or "gzip" to have aiohttp decompress what comes.
    """

    def __init__(self, url: str, encoding: str) -> None:
        super().__init__(url)
        self._encoding = encoding
        self._bodies: list[bytes] = []

    async def __aenter__(self) -> Self:
        aiohttp.set_zlib_backend(isal_zlib)
        self._session = aiohttp.ClientSession(
            headers={"Accept-Encoding": self._encoding},
            auto_decompress=self._encoding != "identity",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def prepare(self, part: Part) -> None:
        self._bodies = [
            gzip.compress(json.dumps({"sources": SOURCES, "locations": chunk}).encode(), 1)
            for chunk in chunks_of(part.source)
        ]

    async def run(self, part: Part) -> None:
        bodies = enumerate(self._bodies)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(MAX_JOBS):
                tasks.create_task(self._work(bodies, part.folder))

    def check(self, part: Part, served: Served) -> None:
        check_served(served, part.rows)
        written = sum(path.stat().st_size for path in part.folder.iterdir())
        need(written == served.plain_bytes, f"{written} of {served.plain_bytes} bytes were written")

    async def _work(self, bodies: Iterator[tuple[int, bytes]], folder: Path) -> None:
        for number, body in bodies:
            await self._bring(body, folder / f"{number}.json")

    async def _bring(self, body: bytes, path: Path) -> None:
        """One job, from its body to its file."""
        jobs = f"{self.url}/api/v1/bulk_enhance"
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        async with self._session.post(jobs, data=body, headers=headers) as answer:
            number = (await answer.json())["id"]
        for _ in range(POLLS):
            async with self._session.get(f"{jobs}/{number}") as answer:
                status = await answer.json()
            if status["request"]["status"] == "COMPLETE":
                break
            await asyncio.sleep(POLL_EVERY_S)
        output = status["result"]["outputs"][0]["url"]
        with path.open("wb", buffering=0) as file:
            async with self._session.get(output) as answer:
                async for block in answer.content.iter_any():
                    file.write(block)
