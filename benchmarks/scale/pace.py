"""Pace and polling over real sockets: a client against a sandbox in a process of its own.

    python -m benchmarks.scale.pace [NAME ...]

tries those named, or all, in about six minutes, and prints what the sandbox counted. Exit code
1: something fell short. The same in simulated time, and so the same each time, is in the suite
(tests/simulation/test_figures.py).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer

Stats = dict[str, Any]
SERVE = "serve"


@contextlib.asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[str]:
    """The url of a sandbox in another process."""
    command = [sys.executable, "-m", "benchmarks.scale.pace", SERVE, json.dumps(settings)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        output = BufferedByteReceiveStream(process.stdout)
        yield (await output.receive_until(b"\n", 1_000)).decode()
        process.terminate()


async def serve(settings: dict[str, Any]) -> None:
    """Be that process."""
    async with SandboxServer(**settings) as server:
        print(server.url, flush=True)
        await anyio.sleep_forever()


async def stats_of(url: str) -> Stats:
    """What a sandbox counted so far."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/sandbox/stats") as answer:
        stats: Stats = await answer.json()
        return stats


async def enhance(url: str, jobs: int, max_jobs: int, **settings: Any) -> float:
    """Bring that many jobs of five locations through; the seconds it took."""
    began = time.monotonic()
    async with ping.PingDataClient(api_url=url, auth_token="any") as client:
        enhancer = ping.BulkEnhancer(client, ["PG"], chunk_size=5, max_jobs=max_jobs, **settings)
        results = enhancer.stream(f"{n} Main Street, Boston" for n in range(5 * jobs))
        rows = sorted([result.row async for result in results])
    assert rows == list(range(5 * jobs))
    return time.monotonic() - began


def need(is_so: bool, what: str) -> None:
    """Fall short with a sentence, if so."""
    if not is_so:
        raise AssertionError(what)


async def uneven_jobs() -> str:
    """400 jobs of about 6 s, sigma 0.3, 40 at once, uneven counts."""
    async with sandbox(job_s=6.0, job_spread=0.3, progress="uneven", workers=1000) as url:
        await enhance(url, 400, 40)
        told = (await stats_of(url))["told"]
    polls, delay = told["mean_polls"], told["mean_delay_share"]
    need(polls <= 8 and delay <= 0.05, "8 polls a job and 5 % of its time are the limits")
    return f"{polls:.1f} polls a job, end seen {delay:.1%} of the job's time late"


async def sixteen_workers() -> str:
    """240 jobs, sigma 0.5, on 16 workers, 20 jobs allowed."""
    async with sandbox(job_s=6.0, job_spread=0.5, progress="uneven", workers=16) as url:
        seconds = await enhance(url, 240, 20)
        stats = await stats_of(url)
    told = stats["told"]
    busy = told["work_s"] / (16 * seconds)
    need(stats["peak_jobs_in_flight"] <= 20, "never more than 20 in flight")
    need(busy >= 0.8, "its workers are busy until the last jobs")
    return (
        f"{seconds:.0f} s; the workers were busy {busy:.0%} of it; {told['mean_polls']:.1f} polls"
    )


async def thirty_requests_a_second(rate_window: str) -> str:
    """700 jobs of 2 s where 30 requests a second are allowed."""
    async with sandbox(requests_per_s=30, rate_window=rate_window, job_s=2.0, workers=100) as url:
        seconds = await enhance(url, 700, 64)
        stats = await stats_of(url)
    requests, refused = sum(stats["requests"].values()), sum(stats["refused"].values())
    a_job, share = requests / 700, refused / requests
    need(not sum(stats["early"].values()), f"early requests: {stats['early']}")
    need(a_job <= 5 and share <= 0.05, "5 requests a job and 5 % refused are the limits")
    need(700 / seconds >= 0.85 * 7.5, "85 % of 7.5 jobs a second are the limit")
    return (
        f"{700 / seconds:.1f} jobs/s (at 4 requests a job 7.5 are allowed), {a_job:.1f} requests "
        f"a job, {share:.1%} refused, none early"
    )


async def changing_capacity() -> str:
    """16 workers, then 4 for half a minute, then 16 again."""
    schedule = [[30.0, 4], [60.0, 16]]
    async with sandbox(job_s=3.0, job_spread=0.3, workers=16, worker_schedule=schedule) as url:
        counts: list[int] = []

        async def watch() -> None:
            while True:
                counts.append((await stats_of(url))["told"]["jobs"])
                await anyio.sleep(5.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            seconds = await enhance(url, 330, 64)
            tasks.cancel_scope.cancel()
    rates = [(b - a) / 5.0 for a, b in itertools.pairwise(counts)]
    before, low, after = (max(rates[a:b], default=0.0) for a, b in ((2, 6), (8, 12), (13, 17)))
    need(low <= before / 2 and after >= 0.8 * before, f"jobs/s by 5 s: {rates}")
    return f"{seconds:.0f} s; {before:.1f}, {low:.1f} and {after:.1f} jobs/s"


TRIALS: dict[str, Callable[[], Awaitable[str]]] = {
    "uneven jobs": uneven_jobs,
    "16 workers": sixteen_workers,
    "30 requests a second, by the second": lambda: thirty_requests_a_second("second"),
    "30 requests a second, a bucket": lambda: thirty_requests_a_second("bucket"),
    "capacity that changes": changing_capacity,
}


def attempt(name: str) -> bool:
    """Whether it holds; says what was measured."""
    try:
        said = anyio.run(TRIALS[name])
    except AssertionError as error:
        print(f"{name}: FALLS SHORT: {error}", flush=True)
        return False
    print(f"{name}: {said}", flush=True)
    return True


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "*"
    if sys.argv[1:2] == [SERVE]:
        with contextlib.suppress(KeyboardInterrupt):
            anyio.run(serve, json.loads(sys.argv[2]))
    else:
        held = [attempt(name) for name in sys.argv[1:] or TRIALS]
        sys.exit(not all(held))
