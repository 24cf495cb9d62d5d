"""Reports that nobody measured, and the fast server within this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from benchmarks.throughput.server import FastAPI
from pingdata_async.sandbox.server import LeaklessSite


def report(cpu_us: float, max_rss_mb: float = 50.0) -> dict[str, Any]:
    """Of one contender in one round."""
    run = {
        "max_rss_mb": max_rss_mb,
        "loop_lag_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0},
        "stages_s": {"first": 0.004, "second": 0.002, "none": 0.0},
        "served": {"submitted_bytes": 80_000, "wire_bytes": 1_400_000, "requests": 6},
    }
    return {
        "cpu_us": cpu_us,
        "system_us": 0.1,
        "load": 1.0,
        "runs": [run | {"rows": 1000, "max_rss_mb": max_rss_mb / 2}, run | {"rows": 2000}],
    }


@contextlib.asynccontextmanager
async def served(api: FastAPI) -> AsyncIterator[str]:
    """Its url, within this process."""
    runner = web.AppRunner(api.make_app(), shutdown_timeout=0.1)
    await runner.setup()
    await LeaklessSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
