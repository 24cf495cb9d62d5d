"""Partitions for tasks of distributed engines, and the specs to go with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import anyio.to_thread
import pyarrow as pa
import pytest

from pingdata_async.engines.batches import enhance_batches
from pingdata_async.engines.spec import BatchSpec, settle
from tests.support.runs import FAST_POLLS

TOKEN = "tok-SECRET-of-a-task"


def partition(rows: int) -> pa.Table:
    """Sorted rows, each another address."""
    return pa.table(
        {
            "policy": [f"P{row:06d}" for row in range(rows)],
            "address": [f"{row} Main St, Tampa, FL 33602" for row in range(rows)],
            "tiv": pa.array(range(rows), pa.int32()),
        }
    )


def settled(table: Any, url: str, **changes: Any) -> BatchSpec:
    """A spec for a table, quick and of few rows a chunk."""
    usual: dict[str, Any] = {
        "tasks": 1,
        "max_jobs": 4,
        "chunk_size": 10,
        "key": ["policy"],
        "api_url": url,
        "poll_schedule": FAST_POLLS,
        "sources": "PG",
    }
    return settle(table.slice(0, 5), **(usual | changes))


def enhanced(batches: Iterable[Any] | pa.Table, spec: BatchSpec, task: str = "") -> pa.Table:
    """All rows of a partition, in the order of the input."""
    if isinstance(batches, pa.Table):
        batches = batches.to_batches(max_chunksize=7)
    return pa.Table.from_batches(list(enhance_batches(iter(batches), spec, task=task)))


async def enhanced_in_thread(
    batches: Iterable[Any] | pa.Table, spec: BatchSpec, task: str = ""
) -> pa.Table:
    """Likewise from a test in whose event loop the sandbox runs."""
    return await anyio.to_thread.run_sync(enhanced, batches, spec, task)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The token, where a worker finds it."""
    with monkeypatch.context() as patched:
        patched.setenv("PING_DATA_AUTH_TOKEN", TOKEN)
        yield
