"""What a job in flight costs us: memory, tasks, and a late event loop.

    python -m benchmarks.in_flight [JOBS ...]

brings that many jobs in flight (default: 2,000 and 20,000) with the real engine, and watches
them: once on the real event loop, for the times, and once in simulated time, until each was
asked about so often that no more is remembered of it, for the memory. Each in a process of its
own. Prints a line for each number and the memory a job, and writes `results/in_flight.json`.
The rows are shared by all chunks, so they take no part in it, and the API is next to nothing:
its jobs are at work for as long as they are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import anyio

from benchmarks.policies.trial import OURS, Counting, make_engine, shared_chunks
from pingdata_async.engine.flow_control.adaptive_limit import ConcurrencyLimit
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.encoding import EncodedBody
from tests.simulation.virtual_loop import VirtualLoop

RESULTS = Path(__file__).parent / "results" / "in_flight.json"
JOBS = (2_000, 20_000)
LOCATIONS = 10
LATENCY_S = 0.001
WATCHED_S = 20.0
TICK_S = 0.005
COUNTS = 1000  # steps in which a job's progress is told: the worst for who remembers them
STEP_S = 1.0
REMEMBERED_S = 200.0  # of simulated time: ten questions about each job


class EndlessAPI:
    """Accepts any job and works on it for ever; keeps nothing of it.

    Args:
        room: So many jobs are waited for.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self.is_full = asyncio.Event()
        self.jobs = 0
        self.polls = 0
        self._statuses = [
            JobStatus(status="IN_PROGRESS", num_requested=COUNTS, num_completed=done)
            for done in range(COUNTS)
        ]

    async def submit_body(self, body: bytes) -> str:
        del body
        await asyncio.sleep(LATENCY_S)
        self.jobs += 1
        if self.jobs == self._room:
            self.is_full.set()
        return f"job-{self.jobs}"

    async def status(self, job_id: str) -> JobStatus:
        del job_id
        await asyncio.sleep(LATENCY_S)
        self.polls += 1
        step = int(asyncio.get_running_loop().time() / STEP_S)
        return self._statuses[step % COUNTS]

    async def fetch_body(self, job_id: str, output: JobOutput) -> EncodedBody:
        raise AssertionError("nothing is ever done", job_id, output)


@dataclass
class InFlight:
    """What was measured with that many jobs in flight.

    Attributes:
        jobs: In flight.
        mib: Python's memory, all of it.
        tasks: Of asyncio.
        filled_per_s: Jobs brought up a second.
        lag_ms_p50: How late a timer of the event loop was while they were polled, the median.
        lag_ms_p99: The 99th percentile of that.
        lag_ms_worst: The worst of that.
        polls_per_s: Questions answered meanwhile.
        busy: CPU seconds a second meanwhile.
    """

    jobs: int
    mib: float = 0.0
    tasks: int = 0
    filled_per_s: float = 0.0
    lag_ms_p50: float = 0.0
    lag_ms_p99: float = 0.0
    lag_ms_worst: float = 0.0
    polls_per_s: float = 0.0
    busy: float = 0.0


async def late_by(seconds: float) -> list[float]:
    """How late the event loop was, sorted, looked at for so long."""
    lags: list[float] = []
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        await asyncio.sleep(TICK_S)
        lags.append(time.monotonic() - now - TICK_S)
    return sorted(lags)


@contextlib.asynccontextmanager
async def brought_up(jobs: int) -> AsyncIterator[EndlessAPI]:
    """An API with that many of our jobs in flight."""
    api = EndlessAPI(jobs)
    contender = replace(OURS, limiter=ConcurrencyLimit, max_jobs=jobs)
    engine = make_engine(api, contender, Counting())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.run, shared_chunks(jobs, LOCATIONS))
        await api.is_full.wait()
        yield api
        tasks.cancel_scope.cancel()


async def time_it(jobs: int) -> InFlight:
    """Everything but the memory."""
    seen = InFlight(jobs)
    began = time.monotonic()
    async with brought_up(jobs) as api:
        seen.filled_per_s = jobs / (time.monotonic() - began)
        polls, cpu = api.polls, time.process_time()
        lags = await late_by(WATCHED_S)
        seen.polls_per_s = (api.polls - polls) / WATCHED_S
        seen.busy = (time.process_time() - cpu) / WATCHED_S
        seen.lag_ms_p50, seen.lag_ms_p99, seen.lag_ms_worst = (
            1000 * lags[int(share * (len(lags) - 1))] for share in (0.5, 0.99, 1.0)
        )
        seen.tasks = len(asyncio.all_tasks())
    return seen


async def weigh(jobs: int) -> InFlight:
    """The memory."""
    async with brought_up(jobs):
        await asyncio.sleep(REMEMBERED_S)
        gc.collect()
        return InFlight(jobs, mib=tracemalloc.get_traced_memory()[0] / 2**20)


def in_process(jobs: int) -> InFlight:
    """Measure in new processes."""
    done = (
        subprocess.run(
            [sys.executable, "-m", "benchmarks.in_flight", how, str(jobs)],
            check=True,
            stdout=subprocess.PIPE,
        )
        for how in ("--time", "--weigh")
    )
    timed, weighed = (InFlight(**json.loads(each.stdout)) for each in done)
    return replace(timed, mib=weighed.mib)


def main(numbers: list[int]) -> None:
    """Measure each number, and say what a job costs."""
    every = [in_process(jobs) for jobs in numbers]
    for each in every:
        print(
            f"{each.jobs:>7,} jobs: {each.mib:.1f} MiB, {each.tasks} tasks, brought up "
            f"{each.filled_per_s:,.0f} a second; {each.polls_per_s:,.0f} polls/s at "
            f"{each.busy:.0%} of a core; event loop late by {each.lag_ms_p50:.1f} ms (p50), "
            f"{each.lag_ms_p99:.1f} ms (p99), {each.lag_ms_worst:.1f} ms (worst)"
        )
    a_job = (every[-1].mib - every[0].mib) * 2**20 / (every[-1].jobs - every[0].jobs)
    print(f"{a_job:,.0f} bytes a job")
    results = {
        "bytes_a_job": round(a_job),
        "measured": [
            {name: round(value, 2) for name, value in asdict(each).items()} for each in every
        ],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--time"]:
        print(json.dumps(asdict(anyio.run(time_it, int(sys.argv[2])))))
    elif sys.argv[1:2] == ["--weigh"]:
        tracemalloc.start()
        options = {"loop_factory": VirtualLoop}
        print(json.dumps(asdict(anyio.run(weigh, int(sys.argv[2]), backend_options=options))))
    else:
        main([int(number) for number in sys.argv[1:]] or list(JOBS))
