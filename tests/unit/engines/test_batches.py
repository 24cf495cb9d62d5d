"""Batches of Arrow in, the same rows with answers beside them out."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import anyio
import anyio.to_thread
import msgspec
import pyarrow as pa
import pytest

from pingdata_async import InputError, MissingTokenError, PingDataError
from pingdata_async.engines.batches import enhance_batches, output_schema
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.partitions import TOKEN, enhanced_in_thread, partition, settled, token
from tests.support.runs import sandbox_and_client

__all__ = ["token"]


async def test_every_row_comes_out_once_with_its_answers() -> None:
    """Whatever the batches, with retried, refused and empty rows; none is paid for twice."""
    table = partition(95)
    addresses = table["address"].to_pylist()
    addresses[3] = addresses[94] = None
    table = table.set_column(1, "address", pa.array(addresses))
    async with sandbox_and_client(faults=FaultPlan(source_trouble=0.1), seed=7) as (server, _):
        spec = await anyio.to_thread.run_sync(
            lambda: settled(table, server.url, columns=["pg_latitude"], sources="PG,PH")
        )
        empty = table.slice(0, 0).to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        batches = [*empty, *table.to_batches(max_chunksize=31), *empty]
        out = await enhanced_in_thread(batches, spec)
        stats = server.stats
    assert out.schema == output_schema(table.schema, spec)
    out = out.sort_by("policy")
    assert out.select(table.column_names) == table
    rows = out.to_pylist()
    assert all(row["enhance_reason"] == "invalid_input" for row in (rows[3], rows[94]))
    answered = [row for row in rows if row["enhance_json"] is not None]
    assert len(answered) == 93
    for row in answered:
        said = msgspec.json.decode(row["enhance_json"])
        assert said["PG"].get("latitude") == row["pg_latitude"]
        told = said["PG"].get("formatted_address") or row["address"]
        assert told.startswith(f"{row['tiv']} Main St")
    assert stats.locations_accepted >= 93
    assert stats.peak_jobs_in_flight <= spec.max_jobs


async def test_batches_do_not_drain_the_jobs() -> None:
    """A chunk spans batches, and the next batches are read while jobs are under way."""
    table = partition(40)
    async with sandbox_and_client() as (server, _):
        spec = await anyio.to_thread.run_sync(lambda: settled(table, server.url, chunk_size=20))
        await enhanced_in_thread(table.to_batches(max_chunksize=3), spec)
        assert server.stats.jobs_accepted == 2


async def test_no_more_is_read_than_the_share_of_jobs_needs() -> None:
    """Memory does not grow with the partition, whoever is slow."""
    batches = partition(1000).to_batches(max_chunksize=10)
    read = taken = ahead = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal read, ahead
        for batch in batches:
            read += batch.num_rows
            ahead = max(ahead, read - taken)
            yield batch

    async with sandbox_and_client() as (server, _):
        spec = await anyio.to_thread.run_sync(lambda: settled(partition(1), server.url))

        def work() -> None:
            nonlocal taken
            for batch in enhance_batches(counted(), spec):
                taken += batch.num_rows

        await anyio.to_thread.run_sync(work)
    assert taken == 1000
    assert ahead <= (spec.max_jobs + 3) * 10  # those whose output is made now, and one more batch


@pytest.mark.parametrize("how", ["closed", "input", "consumer"])
async def test_whatever_ends_it_leaves_nothing_behind(how: str) -> None:
    """Closed early, or ended by an error of the input or of who takes the rows: no thread."""

    def rows() -> Iterator[pa.RecordBatch]:
        yield from partition(100).to_batches(max_chunksize=50)
        if how == "input":
            raise OSError("the disk is gone")

    async with sandbox_and_client() as (server, _):
        spec = await anyio.to_thread.run_sync(lambda: settled(partition(1), server.url))

        def work() -> None:
            before = set(threading.enumerate())
            batches = enhance_batches(rows(), spec)
            next(batches)
            if how == "closed":
                batches.close()
            elif how == "consumer":
                with pytest.raises(ZeroDivisionError):
                    batches.throw(ZeroDivisionError())
            else:
                with pytest.raises(OSError, match="the disk is gone"):
                    list(batches)
            for thread in set(threading.enumerate()) - before:
                thread.join(10.0)
            assert set(threading.enumerate()) <= before

        await anyio.to_thread.run_sync(work)


async def test_what_ends_everything_is_raised_without_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token that is refused, or is not there, is no matter of single rows."""
    async with SandboxServer(token="another") as server:
        spec = await anyio.to_thread.run_sync(lambda: settled(partition(5), server.url))
        with pytest.raises(PingDataError) as caught:
            await enhanced_in_thread(partition(5), spec)
        assert TOKEN not in f"{caught.value} {caught.value!r}"
        monkeypatch.delenv("PING_DATA_AUTH_TOKEN")
        monkeypatch.setattr("pingdata_async.api.config.INI_PATH", "/nowhere/ini")
        with pytest.raises(MissingTokenError):
            await enhanced_in_thread(partition(5), spec)


@pytest.mark.parametrize(
    ("keys", "addresses", "said"),
    [
        (["b", "a"], ["1 A St", "2 B St"], r"not sorted by policy: a shuffle .* \(row 1\)"),
        (["a", None], ["1 A St", "2 B St"], r"not sorted by policy"),
        (["a", "a"], ["1 A St", "2 B St"], "rows 0 and 1 of a partition have the same policy"),
        ([None, "a", "b", "b"], ["1 A St", "2 B St", "3 C St", "3 C St"], ""),
    ],
)
@pytest.mark.parametrize("rows_a_batch", [1, 4])
async def test_rows_in_an_order_that_may_change_are_refused(
    keys: list[str | None], addresses: list[str], said: str, rows_a_batch: int
) -> None:
    """Also from one batch to the next; equal rows may have equal keys."""
    table = pa.table({"policy": keys, "address": addresses})
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as server:
        spec = await anyio.to_thread.run_sync(lambda: settled(table, server.url))
        batches = table.to_batches(max_chunksize=rows_a_batch)
        if not said:
            assert (await enhanced_in_thread(batches, spec)).num_rows == 4
            return
        with pytest.raises(InputError, match=said):
            await enhanced_in_thread(batches, spec)


async def test_other_columns_than_settled_are_refused() -> None:
    """The mapping is that of the driver."""
    table = pa.table({"policy": ["a"], "address": ["1 A St"]})
    spec = await anyio.to_thread.run_sync(lambda: settled(partition(1), "http://127.0.0.1:1"))
    with pytest.raises(InputError, match="columns policy, address, but policy, address, tiv were"):
        await enhanced_in_thread(table, spec)
