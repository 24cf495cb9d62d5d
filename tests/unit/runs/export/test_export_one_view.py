"""Whoever reads a run that goes on sees it as it was at one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio import from_thread

import pingdata_async as ping
from pingdata_async.events import JobSubmitted
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.export.results import SettledChunk
from pingdata_async.runs.export.two_pass import TableExport
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.schema import JOURNAL_NAME
from pingdata_async.runs.status import read_status
from pingdata_async.sandbox import FaultPlan
from tests.support.journals import counts, left, planned
from tests.support.runs import ADDRESSES, enhancer, lines, sandbox_and_client, stopped_run
from tests.unit.runs.export.test_two_pass_runs import rows_of
from tests.unit.runs.test_resume_retry import ASK_ONCE, set_faults


def after_first(
    patch: pytest.MonkeyPatch, cls: type[Any], name: str, then: Callable[[Any], None]
) -> None:
    """Have something happen, once, right after a method was called for the first time."""
    really, is_first = getattr(cls, name), True

    def method(self: Any, *args: Any) -> Any:
        nonlocal is_first
        result = really(self, *args)
        if is_first:
            is_first = False
            then(self)
        return result

    patch.setattr(cls, name, method)


def once_looked_at(patch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
    """Have something happen when a table's first pass has seen a chunk, before the second one."""
    really, is_first = TableExport._take, True

    async def take(self: TableExport, settled: SettledChunk) -> bool:
        nonlocal is_first
        goes_on = await really(self, settled)
        if is_first:
            is_first = False
            await then()
        return goes_on

    patch.setattr(TableExport, "_take", take)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
async def test_a_table_has_the_columns_of_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Chunks that finish between its two passes are in neither of them."""
    output, table = tmp_path / "out.jsonl", tmp_path / f"now.{ending}"
    run_dir = Path(f"{output}.run")
    async with sandbox_and_client() as (_, client):
        await stopped_run(client, output, JobSubmitted, chunk_size=50)

        async def meanwhile() -> None:
            await enhancer(client).resume(run_dir)

        with monkeypatch.context() as patch:
            once_looked_at(patch, meanwhile)
            written = await export_run(run_dir, table)
        rows = await rows_of(table)
        assert all("pg_latitude" in row for row in rows)
        assert written.rows + written.rows_left_out == 100
        assert written.rows == len(rows) < 100
        assert (await export_run(run_dir, table, overwrite=True)).rows == 100
        assert all(
            row["pg_latitude"] for row in await rows_of(table) if row["enhance_status"] == "ok"
        )


@pytest.mark.parametrize("question", ["record", "waiting_rows", "reopened_rows", "later_chunks_of"])
async def test_a_retry_that_begins_drops_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """Wherever it begins between what an export asks about a chunk."""
    output, now = tmp_path / "out.jsonl", tmp_path / "now.jsonl"
    run_dir = Path(f"{output}.run")
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.4)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE, chunk_size=100)
        before = await bulk.run(ADDRESSES, output)
        assert before.no_answer
        set_faults(server)
        row = next(line["row"] for line in lines(output) if line["status"] == "failed")

        async def reopened() -> None:
            async with Journal(run_dir / JOURNAL_NAME) as journal:
                await journal.reopen([left(row, origin=0)], counts(1, failed=1))
                await journal.pack_retry_rows(10)

        with monkeypatch.context() as patch:
            after_first(patch, JournalReader, question, lambda _: asyncio.run(reopened()))
            written = await export_run(run_dir, now)
    assert (written.rows, written.rows_left_out) == (100, 0)
    assert now.read_bytes() == output.read_bytes()


@pytest.mark.parametrize("name", ["spool.old", None])
async def test_a_run_that_is_set_aside_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """Another run's answers, in the same place, are not taken for its own."""
    output, now = tmp_path / "out.jsonl", tmp_path / "now.csv"
    async with sandbox_and_client() as (_, client):
        await enhancer(client, chunk_size=100).run(ADDRESSES, output)
        other = enhancer(client, chunk_size=100, sources=["PH"])

        async def meanwhile() -> None:
            if name:
                await anyio.Path(f"{output}.run").rename(tmp_path / name)
            else:
                await other.run(ADDRESSES, output, restart=True, overwrite=True)

        once_looked_at(monkeypatch, meanwhile)
        with pytest.raises(ping.RunError, match="was set aside or removed"):
            await export_run(f"{output}.run", now)
    assert not now.exists()


async def test_a_run_begins_beside_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is being exported is held by nobody: a retry takes it up, and ends."""
    output, now = tmp_path / "out.jsonl", tmp_path / "now.csv"
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.4)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE, chunk_size=100)
        before = await bulk.run(ADDRESSES, output)
        set_faults(server)

        async def meanwhile() -> None:
            assert (await bulk.retry(f"{output}.run")).no_answer == 0

        once_looked_at(monkeypatch, meanwhile)
        assert (await export_run(f"{output}.run", now)).no_answer == before.no_answer > 0


async def test_a_status_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that ends while it is read is in all of its numbers, or in none."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    async with sandbox_and_client() as (_, client):
        await stopped_run(client, output, JobSubmitted, chunk_size=100)
    async with Journal(run_dir / JOURNAL_NAME) as journal:

        def lose_job(_reader: JournalReader) -> None:
            from_thread.run(journal.job_lost, planned(0), "the job is lost")

        after_first(monkeypatch, JournalReader, "totals", lose_job)
        status = await anyio.to_thread.run_sync(read_status, run_dir)
        assert status.chunks["submitted"] == len(status.in_flight) == 1
        assert (await anyio.to_thread.run_sync(read_status, run_dir)).in_flight == []
