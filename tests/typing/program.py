"""A user's program: whatever it does here passes the strictest checks of mypy and pyright."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pingdata_async as ping
from pingdata_async import sync


async def incoming() -> AsyncIterator[ping.Location]:
    yield ping.Location(address="600 Dexter Avenue, Montgomery, AL", id="a")


def told(done: int, total: int | None) -> None:
    print(f"{done} of {total or '?'}")  # noqa: T201


async def work(client: ping.PingDataClient, folder: Path) -> float | None:
    enhancer = ping.BulkEnhancer(client, ["PG", "PH"], chunk_size=100, max_jobs=8)
    results = await enhancer.enhance(["Carson City, NV", {"city": "Boston"}], max_locations=10)
    latitudes = [result["PG"].latitude for result in results if result.status == "ok"]
    async with enhancer.stream(incoming(), flush_after_s=0.1) as stream:
        async for result in stream:
            source = result.get("PH")
            latitudes.append(None if source is None else source.latitude)
    try:
        summary = await enhancer.run(folder / "in.csv", folder / "out.jsonl", progress=told)
    except ping.PingDataError as error:
        summary = error.summary or ping.RunSummary()
    charged: int = summary.locations_charged
    job = await client.submit_job([ping.Location(city="Boston", state="MA")], sources=["PG"])
    rows: list[ping.EnhancedLocation] = list(await job.results())
    return max((each for each in latitudes if each is not None), default=charged + len(rows))


async def main(folder: Path) -> None:
    async with ping.PingDataClient(environment="sandbox", max_connections=8) as client:
        await work(client, folder)


def script(folder: Path) -> ping.EnhancedLocations:
    asyncio.run(main(folder))
    return sync.enhance(["Carson City, NV"], sources="PG", chunk_size=3)
