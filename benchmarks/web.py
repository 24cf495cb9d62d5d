"""A web application under load: requests of three addresses each, many at once.

    python -m benchmarks.web [--requests 500] [--seconds 60] [--job-s 1.0] [--leaving 0.05]

An aiohttp application with one client and one enhancer runs in a process of its own; the sandbox
and the browsers are here. Each browser sends one request after the other; some leave before the
answer. Every answer is checked. Prints the times of requests beside that of a job, and the jobs,
tasks and memory of the application, and writes `results/web.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

import pingdata_async as ping
from pingdata_async.events import JobSubmitted
from pingdata_async.sandbox import SandboxServer

RESULTS = Path(__file__).parent / "results" / "web.json"
ROWS = 3
LOOK_EVERY_S = 0.25
OF_THE_SERVER = ("RequestHandler", "BaseSelectorEventLoop")
WORKERS = 16  # of the sandbox: jobs that it works on at once
ENHANCER: web.AppKey[ping.BulkEnhancer] = web.AppKey("enhancer")


# -- the application ----------------------------------------------------------------------------


def application(api_url: str) -> web.Application:
    """Answers a list of addresses with what was found for each."""
    seen: Counter[str] = Counter()

    def hear(event: ping.Event) -> None:
        if isinstance(event, JobSubmitted):
            seen["jobs"] += 1
            seen["locations"] += event.locations

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        async with ping.PingDataClient(api_url=api_url, auth_token="any") as client:
            app[ENHANCER] = ping.BulkEnhancer(client, ["PG"], on_event=hear)
            watch = asyncio.create_task(_look(seen))
            yield
            watch.cancel()

    async def geocode(request: web.Request) -> web.Response:
        seen["now"] += 1
        try:
            results = await request.app[ENHANCER].enhance(await request.json())
        finally:
            seen["now"] -= 1
        return web.json_response([[each.row, each.status, each["PG"].route] for each in results])

    async def stats(_: web.Request) -> web.Response:
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return web.json_response({**seen, "peak_mib": peak_mib})

    app = web.Application()
    app.cleanup_ctx.append(lifespan)
    app.add_routes([web.post("/geocode", geocode), web.get("/stats", stats)])
    return app


async def _look(seen: Counter[str]) -> None:
    """Note the most tasks beside those of the server, which has one for each connection."""
    while True:
        tasks = sum(
            not getattr(task.get_coro(), "__qualname__", "").startswith(OF_THE_SERVER)
            for task in asyncio.all_tasks()
        )
        seen["peak_tasks"] = max(seen["peak_tasks"], tasks)
        seen["peak_requests"] = max(seen["peak_requests"], seen["now"])
        await asyncio.sleep(LOOK_EVERY_S)


async def _serve(api_url: str) -> None:
    # As a server for users should: a request whose browser has left is cancelled.
    runner = web.AppRunner(application(api_url), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


# -- the browsers -------------------------------------------------------------------------------


async def _browse(
    number: int, session: aiohttp.ClientSession, options: argparse.Namespace, until: float
) -> tuple[list[float], int]:
    """Send requests until the time is over; returns what each took, and how many were left."""
    rng = random.Random(number)
    took_s: list[float] = []
    left = 0
    while time.monotonic() < until:
        addresses = [f"{number}{row} Main St, Boston, MA 02108" for row in range(ROWS)]
        patience_s = None
        if rng.random() < options.leaving:
            patience_s = rng.uniform(0.0, options.job_s)
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience_s), session.post("/geocode", json=addresses) as got:
                answer = await got.json()
        except TimeoutError:
            left += 1
            continue
        if got.status != 200 or [row for row, _, _ in answer] != list(range(ROWS)):
            raise AssertionError(f"a wrong answer: {got.status} {answer}")
        took_s.append(time.monotonic() - began)
    return took_s, left


async def _load(url: str, options: argparse.Namespace) -> tuple[list[float], int, dict[str, Any]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        until = time.monotonic() + options.seconds
        browsers = [_browse(n, session, options, until) for n in range(options.requests)]
        done = await asyncio.gather(*browsers)
        async with session.get("/stats") as got:
            stats = await got.json()
    return sorted(each for took, _ in done for each in took), sum(left for _, left in done), stats


@contextlib.asynccontextmanager
async def _application(api_url: str) -> AsyncIterator[str]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "benchmarks.web", "--serve", api_url)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Put the application under load, and say how it was."""
    async with (
        SandboxServer(
            queue_delay_s=options.job_s, locations_per_s=1e6, no_match_share=0
        ) as sandbox,
        _application(sandbox.url) as url,
    ):
        took_s, left, stats = await _load(url, options)
        charged = sandbox.stats.locations_accepted
    return {
        "browsers": options.requests,
        "seconds": options.seconds,
        "job_s": options.job_s,
        "answered": len(took_s),
        "left": left,
        "p50_s": round(statistics.median(took_s), 3),
        "p99_s": round(took_s[len(took_s) * 99 // 100], 3),
        "worst_s": round(took_s[-1], 3),
        "jobs": stats["jobs"],
        "locations_a_job": round(stats["locations"] / stats["jobs"]),
        "locations_of_who_left": charged - ROWS * len(took_s),
        "tasks_at_most": stats["peak_tasks"],
        "requests_at_once_at_most": stats["peak_requests"],
        "peak_mib": stats["peak_mib"],
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Read the options, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="at once")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--job-s", type=float, default=1.0, help="what a job takes")
    parser.add_argument("--leaving", type=float, default=0.05, help="share of browsers that leave")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve))
        return
    measured = asyncio.run(measure(options))
    for name, value in measured.items():
        print(f"{name.replace('_', ' '):<26} {value}")
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
