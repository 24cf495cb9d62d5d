"""What a store holds, by the real commands."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio.to_thread
import msgspec
import pyarrow.parquet as pq
import pytest

from pingdata_async.engines.store import SharedStore
from pingdata_async.sandbox import FaultPlan
from tests.support.commands import run
from tests.support.partitions import enhanced_in_thread, partition, settled, token
from tests.support.runs import sandbox_and_client
from tests.support.servers import LocalApi, always

__all__ = ["token"]


async def _filled(folder: Path) -> tuple[str, int, Counter[str]]:
    """A store with the answers of two tasks, how many locations were accepted, and the statuses."""
    url = f"file://{folder}/store"
    table = partition(60)
    async with sandbox_and_client(faults=FaultPlan(poison_job="17 Main"), seed=3) as (server, _):
        spec = await anyio.to_thread.run_sync(
            lambda: settled(table, server.url, store=url, tasks=2, max_jobs=4)
        )
        first = await enhanced_in_thread(table.slice(0, 40), spec, "0")
        second = await enhanced_in_thread(table.slice(40), spec, "1")
        ended = (table["enhance_status"].to_pylist() for table in (first, second))
        statuses = Counter(str(status) for statuses in ended for status in statuses)
        return url, server.stats.locations_accepted, statuses


async def test_status_and_export_of_a_store(tmp_path: Path) -> None:
    """All rows, charges by task, and no row twice in any format, halves of chunks included."""
    url, accepted, statuses = await _filled(tmp_path)
    done = await run("status", url, "--json", token=None)
    found = msgspec.json.decode(done.out)
    assert (found["rows"]["rows"], found["rows"]["failed"]) == (60, statuses["failed"])
    assert statuses["failed"]
    assert found["locations_charged"] == accepted
    assert [found["by_task"][task]["rows"]["rows"] for task in "01"] == [40, 20]
    shown = await run("status", url, token=None)
    assert f"60 rows with an outcome: {statuses['ok']} ok, 0 partial" in shown.out
    want = {(str(task), row) for task, rows in ((0, 40), (1, 20)) for row in range(rows)}

    output = tmp_path / "answers.jsonl"
    written = await run("export", url, "-o", output, token=None)
    assert (written.code, written.err) == (3, "60 rows written.\n")
    lines = [msgspec.json.decode(line) for line in output.read_bytes().splitlines()]
    assert sorted((line["input"]["task"], line["row"]) for line in lines) == sorted(want)
    assert all(
        line["input"]["address"].startswith(f"{line['row']} Main") or line["input"]["task"] == "1"
        for line in lines
    )

    output = tmp_path / "answers.parquet"
    assert (await run("export", url, "-o", output, token=None)).code == 3
    rows = pq.read_table(output).to_pylist()
    assert sorted((row["task"], row["row"]) for row in rows) == sorted(want)
    assert {row["enhance_status"] for row in rows if row["pg_latitude"] is not None} == {"ok"}


@pytest.mark.parametrize("command", [["status"], ["export", "-o", "answers.csv"]])
async def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, command: list[str]) -> None:
    """Neither where there is no folder nor where it is empty."""
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        done = await run(*command, f"file://{tmp_path}/{name}", token=None)
        assert (done.code, "there is no run in the store" in done.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


async def test_a_storage_of_ones_own_is_named_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has no options for an endpoint, so those of the storage's tools have to do."""
    async with LocalApi(always(status=404)) as storage:
        for name, value in {
            "AWS_ENDPOINT_URL": storage.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        shared = SharedStore.open("s3://bucket/run")
        assert await anyio.to_thread.run_sync(shared.manifest) is None
