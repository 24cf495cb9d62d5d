"""Spark with executors of their own, which are killed: what is paid for, and what is seen."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.engines.spec import BatchSpec, settle
from pingdata_async.engines.store import SharedStore
from pingdata_async.sandbox import SandboxServer
from tests.lake.conftest import KEYS, ObjectStorage
from tests.lake.processes import kill_when
from tests.support.partitions import TOKEN
from tests.test_docs import blocks

pytest.importorskip("pyspark", reason="`scripts/test --lake` brings Spark")
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")

POLLS = ping.PollSchedule(min_interval_s=0.2, max_interval_s=1.0)


def _rows(spark: Any, number: int) -> Any:
    return spark.range(number).selectExpr(
        "id AS policy", "format_string('%d Main St, Tampa, FL 33602', id) AS address"
    )


def _enhance(frame: Any, sandbox: SandboxServer, store: str | None, **changes: Any) -> Any:
    from pingdata_async import spark  # noqa: PLC0415 - it needs Spark

    usual: dict[str, Any] = {
        "tasks": 2,
        "max_jobs": 8,
        "chunk_size": 250,
        "api_url": sandbox.url,
        "poll_schedule": POLLS,
        "submit_timeout_s": 20.0,
    }
    return spark.enhance(frame, "PG", store=store, **(usual | changes))


async def _written(frame: Any, path: Path) -> dict[str, int]:
    """Write it, and count the rows by status."""

    def write() -> dict[str, int]:
        frame.write.mode("overwrite").parquet(str(path))
        written = frame.sparkSession.read.parquet(str(path))
        counts = written.groupBy("enhance_status").count().collect()
        return {row["enhance_status"]: row["count"] for row in counts}

    return await anyio.to_thread.run_sync(write)


async def _in_doubt(store: str, options: Mapping[str, str]) -> int:
    """Locations that the store says may have been paid for twice."""
    shared = SharedStore.open(store, **options)
    chunks = await anyio.to_thread.run_sync(lambda: list(shared.chunks()))
    return sum(chunk.cost.in_doubt for chunk in chunks)


async def test_two_killed_executors_are_not_paid_twice(spark: Any, tmp_path: Path) -> None:
    """Nothing is lost, the cap holds, and another run of it pays nothing at all."""
    rows, store = 12_000, (tmp_path / "store").as_uri()
    async with SandboxServer(workers=16, job_s=3.0) as sandbox:
        enhance = functools.partial(_enhance, _rows(spark, rows), sandbox, store)
        frame = await anyio.to_thread.run_sync(enhance)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when, sandbox, rows // 2, "CoarseGrainedExecutorBackend", 2)
            counts = await _written(frame, tmp_path / "out.parquet")
        stats = sandbox.stats
        assert sum(counts.values()) == rows
        assert stats.locations_accepted - rows <= await _in_doubt(store, {})
        assert stats.peak_jobs_in_flight <= 8
        again = await anyio.to_thread.run_sync(enhance)
        assert await _written(again, tmp_path / "again.parquet") == counts
        assert sandbox.stats.locations_accepted == stats.locations_accepted


async def test_killed_python_workers_are_not_paid_twice(
    spark: Any, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    """Likewise with a store on a real S3."""
    rows, store, options = 3_000, f"{object_storage.url}/workers", object_storage.options
    async with SandboxServer(workers=16, job_s=1.0) as sandbox:
        enhance = functools.partial(
            _enhance, _rows(spark, rows), sandbox, store, store_options=options
        )
        frame = await anyio.to_thread.run_sync(enhance)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when, sandbox, rows // 3, "pyspark.daemon", 2)
            counts = await _written(frame, tmp_path / "out.parquet")
        assert sum(counts.values()) == rows
        assert sandbox.stats.locations_accepted - rows <= await _in_doubt(store, options)


async def test_equal_locations_are_asked_once(spark: Any) -> None:
    """Columns of any type and name stay, and typed ones of the answers come beside them."""
    first = _rows(spark, 100).selectExpr(
        "policy",
        "IF(policy % 10 = 0, NULL, address) AS `Street Address`",
        "IF(policy % 10 = 0, 'Tampa', NULL) AS city",
        "IF(policy % 10 = 0, 'FL', NULL) AS state",
        "map('a', policy) AS `the.details`",
        "'old' AS enhance_status",
    )
    more = first.unionAll(first)
    mapping = ping.ReadOptions(mapping={"address": "Street Address"})
    async with SandboxServer(locations_per_s=math.inf, no_match_share=0.0) as sandbox:
        enhance = functools.partial(
            _enhance, more, sandbox, None, reading=mapping, columns=["pg_latitude"], key="policy"
        )
        frame = await anyio.to_thread.run_sync(enhance)
        assert frame.columns == [
            *more.columns, "enhance_status_2", "enhance_reason", "enhance_error", "enhance_json",
            "pg_latitude",
        ]  # fmt: skip
        # Not broadcast: the driver would wait for all answers, and not for long.
        assert "SortMergeJoin" in frame._jdf.queryExecution().toString()
        rows = await anyio.to_thread.run_sync(frame.collect)
        assert sandbox.stats.locations_accepted == 91  # 90 addresses, and the city
        assert len(rows) == 200
        assert {(row.enhance_status_2, type(row.pg_latitude)) for row in rows} == {("ok", float)}
        assert all(row["the.details"] == {"a": row.policy} for row in rows)


async def test_the_examples_run_as_written(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where tables are, and the API, comes from outside; later there are new rows."""
    portfolio = str(tmp_path / "portfolio")

    def run(rows: int, program: str) -> int:
        _rows(spark, rows).write.mode("overwrite").parquet(portfolio)
        exec(program, {})
        written: int = spark.read.parquet(str(tmp_path / "enhanced")).count()
        return written

    first, later = (
        each.replace("s3://lake", tmp_path.as_uri()).replace("tasks=16", "tasks=2")
        for each in blocks("engines", "python")
        if "SparkSession" in each
    )
    async with SandboxServer(locations_per_s=math.inf) as sandbox:
        monkeypatch.setenv("PINGDATA_ASYNC_API_URL", sandbox.url)
        for rows, program in ((20, first), (30, later)):
            assert await anyio.to_thread.run_sync(run, rows, program) == rows
            assert sandbox.stats.locations_accepted == rows


async def test_no_token_is_seen(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in what is sent to workers, in a plan, in the event log, or in an error."""
    from pyspark.serializers import CloudPickleSerializer  # noqa: PLC0415 - optional

    from pingdata_async import spark as adapter  # noqa: PLC0415 - it needs Spark

    specs: list[BatchSpec] = []

    def noted(*words: Any, **options: Any) -> BatchSpec:
        specs.append(settle(*words, **options))
        return specs[-1]

    monkeypatch.setattr(adapter, "settle", noted)
    async with SandboxServer(token="of-somebody-else") as sandbox:
        enhance = functools.partial(
            _enhance, _rows(spark, 10), sandbox, (tmp_path / "store").as_uri(), preflight=False
        )
        frame = await anyio.to_thread.run_sync(enhance)
        with pytest.raises(Exception, match="AuthenticationError") as refused:
            await _written(frame, tmp_path / "out.parquet")
    closure = functools.partial(adapter._enhance_partition, spec=specs[0])
    log = Path(urlsplit(spark.conf.get("spark.eventLog.dir")).path)
    seen = {
        "closure": CloudPickleSerializer().dumps(closure),
        "plan": frame._jdf.queryExecution().toString().encode(),
        "error": "".join(map(str, (refused.value, refused.value.__cause__))).encode(),
        "log": b"".join(path.read_bytes() for path in log.iterdir() if path.is_file()),
        "store": b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()),
    }
    assert b"SparkListenerTaskEnd" in seen["log"]
    assert b"MapInArrow" in seen["plan"]
    for secret in (TOKEN, KEYS["AWS_SECRET_ACCESS_KEY"]):
        assert [where for where, said in seen.items() if secret.encode() in said] == []
