"""Dask with two worker processes, of which one is killed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pyarrow import parquet

import pingdata_async as ping
from pingdata_async.engines.store import SharedStore
from pingdata_async.sandbox import SandboxServer
from tests.lake.processes import kill_when
from tests.support.partitions import partition
from tests.test_docs import blocks

distributed = pytest.importorskip("distributed", reason="`scripts/test --lake` brings Dask")
pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore")  # its own, and of its workers

POLLS = ping.PollSchedule(min_interval_s=0.1, max_interval_s=0.5)


@pytest.fixture
def cluster(secrets: None) -> Iterator[Any]:  # noqa: ARG001 - workers take them over
    """Two workers, of one thread each."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        silence_logs=50,
    ) as cluster, distributed.Client(cluster) as client:  # fmt: skip
        yield client


def _frame(rows: int) -> Any:
    import dask.dataframe as dd  # noqa: PLC0415 - optional

    frame = pd.DataFrame(
        {
            "policy": range(rows),
            "address": [f"{row} Main St, Tampa, FL 33602" for row in range(rows)],
            "note": [{"a": row} if row % 2 else [row] for row in range(rows)],
        }
    )
    return dd.from_pandas(pd.concat([frame, frame.tail(rows // 10)]), npartitions=3)


@pytest.mark.usefixtures("cluster")
async def test_a_killed_worker_is_not_paid_twice(tmp_path: Path) -> None:
    """Nothing is lost, the cap holds, and equal locations are asked once."""
    rows, store = 2_000, (tmp_path / "store").as_uri()
    policies = sorted([*range(rows), *range(rows - rows // 10, rows)])
    async with SandboxServer(workers=16, job_s=1.0, no_match_share=0.0) as sandbox:

        def enhance() -> Any:
            from pingdata_async import dask  # noqa: PLC0415 - it needs Dask

            return dask.enhance(
                _frame(rows),
                "PG",
                store=store,
                tasks=2,
                max_jobs=8,
                key="policy",
                chunk_size=50,
                columns=["pg_latitude"],
                api_url=sandbox.url,
                poll_schedule=POLLS,
                submit_timeout_s=20.0,
            )

        frame = await anyio.to_thread.run_sync(enhance)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when, sandbox, rows // 3, "multiprocessing.spawn", 1)
            table = await anyio.to_thread.run_sync(frame.compute)
        assert sorted(table.policy) == policies
        assert set(table.enhance_status) == {"ok"}
        assert all(math.isfinite(latitude) for latitude in table.pg_latitude)
        shared = SharedStore.open(store)
        chunks = await anyio.to_thread.run_sync(lambda: list(shared.chunks()))
        paid = sandbox.stats
        assert paid.locations_accepted - rows <= sum(chunk.cost.in_doubt for chunk in chunks)
        assert paid.peak_jobs_in_flight <= 8
        again = await anyio.to_thread.run_sync(lambda: enhance().compute())
        assert len(again) == len(table)
        assert sandbox.stats.locations_accepted == paid.locations_accepted


async def test_the_example_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where tables are, and the API, comes from outside."""
    (tmp_path / "portfolio").mkdir()
    parquet.write_table(partition(20), tmp_path / "portfolio" / "part.parquet")
    [example] = [each for each in blocks("engines", "python") if "import dask" in each]
    program = example.replace("s3://lake", tmp_path.as_uri()).replace("tasks=16", "tasks=2")
    async with SandboxServer(locations_per_s=math.inf) as sandbox:
        monkeypatch.setenv("PINGDATA_ASYNC_API_URL", sandbox.url)
        await anyio.to_thread.run_sync(lambda: exec(program, {}))
        assert sandbox.stats.locations_accepted == 20
    assert parquet.read_table(tmp_path / "enhanced").num_rows == 20
