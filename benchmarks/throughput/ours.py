"""Ours within an application, by its public face alone; watches the event loop meanwhile.

    python -m benchmarks.throughput.ours stream INPUT URL
    python -m benchmarks.throughput.ours run INPUT URL OUTPUT [WARM_UP_INPUT]
    python -m benchmarks.throughput.ours task INPUT URL [STORE]

`stream` reads rows from a csv.DictReader and looks at the status of each result, with default
settings. `run` is a durable run whose jobs are polled without a pause, so that the event loop is
as busy as it ever is; with an input to warm up by, it is one with default settings, of which each
stage is clocked (`stage_clocks.py`). `task` is what a task of Spark or Dask does with a partition,
with a store in a folder or without one.
Prints what was seen as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pingdata_async as ping
from benchmarks.throughput.contenders import SOURCES
from benchmarks.throughput.data import read_csv

LOOK_EVERY_S = 0.005
SPARK_BATCH_ROWS = 10_000  # its own default
WITHOUT_PAUSE = ping.PollSchedule(min_interval_s=0.001)


@contextlib.asynccontextmanager
async def loop_watched() -> AsyncIterator[list[float]]:
    """How late, in seconds, the event loop woke a sleeper of 5 ms, each time during the block."""
    late_s: list[float] = []

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            late_s.append(time.monotonic() - began - LOOK_EVERY_S)

    task = asyncio.create_task(watch())
    try:
        yield late_s
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def percentiles_ms(late_s: list[float]) -> dict[str, float]:
    """The median, what one in a hundred exceeded, and the worst."""
    ordered = sorted(late_s)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(1000 * ordered[int(share * last)], 2) for name, share in shares.items()}


async def stream(source: Path, url: str) -> dict[str, Any]:
    """Results of all rows, counted."""
    seen = not_ok = 0
    rows = set()
    async with ping.PingDataClient(api_url=url) as client:
        async for result in ping.BulkEnhancer(client, SOURCES).stream(read_csv(source)):
            seen += 1
            rows.add(result.row)
            not_ok += result.status is not ping.RowStatus.OK
    return {"seen": seen if len(rows) == seen else 0, "not_ok": not_ok}


async def run(source: Path, url: str, output: Path, warm_up: Path | None = None) -> dict[str, Any]:
    """One durable run; with an input to warm up by, what each stage took."""
    async with ping.PingDataClient(api_url=url) as client:
        if warm_up is None:
            enhancer = ping.BulkEnhancer(client, SOURCES, poll_schedule=WITHOUT_PAUSE)
            async with loop_watched() as late_s:
                await enhancer.run(source, output)
            return {"loop_lag_ms": percentiles_ms(late_s)}
        from benchmarks.throughput.stage_clocks import StageClocks  # noqa: PLC0415 - not for users

        enhancer = ping.BulkEnhancer(client, SOURCES)
        await enhancer.run(warm_up, output.with_name("warm-up.jsonl"))
        clocks, began_s = StageClocks(), time.process_time()
        with clocks.running():
            await enhancer.run(source, output)
        return {"stages_s": clocks.all_s(time.process_time() - began_s)}


def task(source: Path, url: str, store: Path | None = None) -> dict[str, Any]:
    """The rows of a partition with their answers beside them, counted."""
    from pyarrow import csv  # noqa: PLC0415 - others do without it

    from pingdata_async.engines.batches import enhance_batches  # noqa: PLC0415 - likewise
    from pingdata_async.engines.spec import settle  # noqa: PLC0415 - likewise

    table = csv.read_csv(source)
    spec = settle(
        table.slice(0, 1000),
        SOURCES,
        tasks=1,
        api_url=url,
        key=["id"],
        store=None if store is None else f"file://{store}",
    )
    seen = not_ok = 0
    for batch in enhance_batches(iter(table.to_batches(max_chunksize=SPARK_BATCH_ROWS)), spec):
        seen += batch.num_rows
        not_ok += sum(each != "ok" for each in batch.column("enhance_status").to_pylist())
    return {"seen": seen, "not_ok": not_ok}


def main(what: str, source: str, url: str, *more: str) -> None:
    paths = list(map(Path, more))
    if what == "task":
        print(json.dumps(task(Path(source), url, *paths)))
        return
    work = run(Path(source), url, *paths) if what == "run" else stream(Path(source), url)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main(*sys.argv[1:])
