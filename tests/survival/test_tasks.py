"""Tasks of a distributed engine that are killed: their store knows what was paid for."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import sys
from pathlib import Path

import anyio
import pytest

from pingdata_async import RetryPolicy
from pingdata_async.engines.store import SharedStore
from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.tables.rows import write_stream
from tests.support.partitions import TOKEN, partition, settled
from tests.support.sweeps import sampled

ROWS = 30  # in three chunks, of which each takes three objects
PUTS = 3 + 3 * 3  # a probe, the manifest, and these
MOMENTS = [(moment, number) for number in range(1, PUTS + 1) for moment in ("before", "after")]
IN_TURN = sorted(MOMENTS, key=lambda each: (each != ("after", 4), each != ("before", 8)))


async def ended(words: list[str]) -> int:
    """The exit code of a task in a process of its own."""
    code: int = (
        await anyio.run_process(
            [sys.executable, "-m", "tests.survival.task_launcher", *words],
            check=False,
            cwd=Path(__file__).parents[2],
            env={"PING_DATA_AUTH_TOKEN": TOKEN},
        )
    ).returncode
    return code


@pytest.mark.parametrize(("moment", "number"), sampled(IN_TURN, 1))
async def test_two_tasks_of_which_one_is_killed(tmp_path: Path, moment: str, number: int) -> None:
    """Both at one partition: no row is lost or paid for twice, unless that stands in doubt."""
    table, url = partition(ROWS), f"file://{tmp_path}/store"
    faults = FaultPlan(slow_answer=0.5, slow_answer_s=0.05)
    async with SandboxServer(queue_delay_s=0.05, faults=faults, seed=number) as server:
        policy = RetryPolicy(base_delay_s=0.01)
        spec = await anyio.to_thread.run_sync(
            lambda: settled(table, server.url, store=url, retry_policy=policy)
        )
        spec = dataclasses.replace(spec, doubt_margin_s=1.0 - spec.submit_timeout_s)
        (tmp_path / "spec").write_bytes(pickle.dumps(spec))
        (tmp_path / "table").write_bytes(write_stream(table))
        codes = {}

        async def run(name: str, *words: str) -> None:
            paths = [str(tmp_path / each) for each in ("spec", "table", name)]
            codes[name] = await ended([*paths, *words])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "killed", moment, str(number))
            tasks.start_soon(run, "other")
        assert codes["killed"] in {-signal.SIGKILL, 0}  # the other may have left it too little
        stats = server.stats
        await run("again")
        assert server.stats.locations_accepted == stats.locations_accepted
    for name in ("other", "again"):
        assert codes[name] == 0
        found = (tmp_path / name).read_text().split()
        assert sorted(map(int, found)) == list(range(ROWS))
    chunks = await anyio.to_thread.run_sync(lambda: list(SharedStore.open(url).chunks()))
    charged = sum(each.cost.charged for each in chunks)
    in_doubt = sum(each.cost.in_doubt for each in chunks)
    assert charged <= stats.locations_accepted <= charged + in_doubt
    assert stats.locations_accepted_more_than_once <= in_doubt
