"""Tasks that share a store: none pays for what another one has paid for."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pyarrow as pa
import pytest
from msgspec.structs import replace

from pingdata_async import BudgetSpentError, ConfigurationError, RetryPolicy, SubmissionInDoubtError
from pingdata_async.engines import task_store
from pingdata_async.engines.batches import enhance_batches
from pingdata_async.engines.protocol import State
from pingdata_async.engines.spec import BatchSpec
from pingdata_async.engines.store import AnswerHead, SharedStore
from pingdata_async.engines.task_store import RecordingStore
from pingdata_async.locations.chunk import Chunk
from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.util.encoding import EncodedBody
from tests.support.partitions import enhanced_in_thread, partition, settled, token
from tests.support.runs import sandbox_and_client

__all__ = ["token"]

QUICK = RetryPolicy(base_delay_s=0.01, max_delay_s=0.05)


async def settled_here(table: pa.Table, url: str, folder: Path, **changes: Any) -> BatchSpec:
    usual = {"store": f"file://{folder}/store", "retry_policy": QUICK} | changes
    return await anyio.to_thread.run_sync(lambda: settled(table, url, **usual))


def costs(folder: Path) -> tuple[int, int]:
    """Locations charged and in doubt, by the store."""
    chunks = list(SharedStore.open(f"file://{folder}/store").chunks())
    return sum(each.cost.charged for each in chunks), sum(each.cost.in_doubt for each in chunks)


async def check(server: SandboxServer, folder: Path, rows: int) -> None:
    """The store knows of every location that was paid for, and of the outcome of every row."""
    charged, in_doubt = await anyio.to_thread.run_sync(costs, folder)
    accepted = server.stats.locations_accepted
    assert charged <= accepted <= charged + in_doubt
    shared = SharedStore.open(f"file://{folder}/store")
    answers = await anyio.to_thread.run_sync(lambda: list(shared.answers()))
    found = sorted(result.row for answer in answers for result in answer.results)
    assert found == list(range(rows))


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by("policy").combine_chunks()


@pytest.mark.parametrize(
    "faults",
    [
        FaultPlan(),
        FaultPlan(source_trouble=0.1, missing_location=0.02),
        FaultPlan(poison_job="17 Main", max_locations=6, max_locations_status=400),
        FaultPlan(lost_answer=0.2, rate_limit=0.1, retry_after_s=0, server_error=0.05),
    ],
)
async def test_a_second_run_pays_nothing_and_finds_the_same(
    tmp_path: Path, faults: FaultPlan
) -> None:
    """Retried rows, halves and failures included; it does not even need the API."""
    table = partition(60)
    async with sandbox_and_client(faults=faults, seed=3) as (server, _):
        spec = await settled_here(table, server.url, tmp_path, sources="PG,PH")
        first = await enhanced_in_thread(table, spec, "7")
        await check(server, tmp_path, 60)
        asked = server.stats.requests.total()
        again = await enhanced_in_thread(table, spec, "7")
        assert server.stats.requests.total() == asked
    third = await enhanced_in_thread(table, spec, "7")
    assert in_order(first) == in_order(again) == in_order(third)


async def test_rows_that_are_refused_fail_for_good(tmp_path: Path) -> None:
    """Also where an attempt finds nothing else to send: others have shown that the API works."""
    table = partition(30)
    async with sandbox_and_client(faults=FaultPlan(poison="7 Main")) as (server, _):
        spec = await settled_here(table, server.url, tmp_path)
        first = in_order(await enhanced_in_thread(table, spec))
        for answer in (tmp_path / "store/chunks").glob("*/answer"):
            if b"rejected" in answer.read_bytes().partition(b"\n")[0]:
                answer.unlink()  # as if the attempt had died before
        accepted = server.stats.jobs_accepted
        assert first == in_order(await enhanced_in_thread(table, spec))
        assert server.stats.jobs_accepted == accepted
    reasons = first["enhance_reason"].to_pylist()
    assert [row for row, reason in enumerate(reasons) if reason == "rejected"] == [7, 17, 27]


@pytest.mark.parametrize("faults", [FaultPlan(), FaultPlan(source_trouble=0.1)])
async def test_two_attempts_at_one_partition_at_the_same_time_pay_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: FaultPlan
) -> None:
    """As with speculative execution; both finish, with the same answers."""
    monkeypatch.setattr(task_store, "LOOK_EVERY_S", 0.02)
    table = partition(120)
    outs: list[pa.Table] = []

    async with sandbox_and_client(faults=faults, seed=5) as (server, _):
        spec = await settled_here(table, server.url, tmp_path, sources="PG,PH")

        async def attempt() -> None:
            outs.append(in_order(await enhanced_in_thread(table, spec)))

        async with anyio.create_task_group() as attempts:
            attempts.start_soon(attempt)
            attempts.start_soon(attempt)
        charged, in_doubt = await anyio.to_thread.run_sync(costs, tmp_path)
        assert (server.stats.locations_accepted, in_doubt) == (charged, 0)
        await check(server, tmp_path, 120)
    assert outs[0] == outs[1]


async def test_a_task_that_is_closed_leaves_its_jobs_to_the_next_attempt(tmp_path: Path) -> None:
    """They are polled, and nothing is sent again."""
    table = partition(60)
    async with sandbox_and_client(job_s=0.3, workers=8) as (server, _):
        spec = await settled_here(table, server.url, tmp_path)

        def begin() -> None:
            batches = enhance_batches(iter(table.to_batches()), spec)
            next(batches)
            batches.close()

        await anyio.to_thread.run_sync(begin)
        before = server.stats.jobs_accepted
        out = await enhanced_in_thread(table, spec)
        assert 1 < before < 7
        assert server.stats.jobs_accepted == 6
        assert server.stats.peak_jobs_in_flight <= spec.max_jobs
    assert set(out["enhance_reason"].to_pylist()) <= {None, "no_match"}


async def test_a_zombie_that_wakes_has_its_record_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt took it for dead and paid again: that stands in doubt, and no more does."""
    table, awake = partition(5), threading.Event()
    tell = RecordingStore._tell

    async def tell_late(self: RecordingStore, *args: Any, **what: Any) -> None:
        if self._task == "zombie":
            await anyio.to_thread.run_sync(awake.wait)
        await tell(self, *args, **what)

    monkeypatch.setattr(RecordingStore, "_tell", tell_late)
    outs: list[pa.Table] = []
    async with sandbox_and_client() as (server, _):
        spec = await settled_here(table, server.url, tmp_path)
        spec = dataclasses.replace(spec, doubt_margin_s=0.01 - spec.submit_timeout_s)

        async def attempt(name: str) -> None:
            outs.append(in_order(await enhanced_in_thread(table, spec, name)))

        async with anyio.create_task_group() as attempts:
            try:
                attempts.start_soon(attempt, "zombie")
                with anyio.fail_after(30.0):
                    while not server.stats.jobs_accepted:  # noqa: ASYNC110 - nobody tells
                        await anyio.sleep(0.005)
                await attempt("another")
                [digest] = SharedStore.open(spec.store or "")._list()
                before = await SharedStore.open(spec.store or "").log(digest)
            finally:
                awake.set()
        assert (await SharedStore.open(spec.store or "").log(digest))[0] == before[0]
        assert [record.state for record in before[0]] == [
            State.SUBMITTING,
            State.DOUBT,
            State.SUBMITTING,
            State.SUBMITTED,
        ]
        assert server.stats.locations_accepted == 10
        assert await anyio.to_thread.run_sync(costs, tmp_path) == (5, 5)
    assert outs[0] == outs[1]


async def test_of_two_answers_the_one_in_the_store_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt did not find all rows of an output: just those are paid again, by all."""
    keep = SharedStore.keep_answer

    async def keep_other_before(
        self: SharedStore, digest: str, head: AnswerHead, chunk: Chunk, body: EncodedBody | None
    ) -> bool:
        if body is not None and 3 in chunk.rows and len(chunk.rows) > 1:
            answers = msgspec.json.decode(body.content())
            del answers["3"]
            await keep(self, digest, head, chunk, EncodedBody(msgspec.json.encode(answers)))
        return await keep(self, digest, head, chunk, body)

    monkeypatch.setattr(SharedStore, "keep_answer", keep_other_before)
    table = partition(20)
    async with sandbox_and_client() as (server, _):
        spec = await settled_here(table, server.url, tmp_path)
        first = await enhanced_in_thread(table, spec)
        assert server.stats.locations_accepted == 21
        again = await enhanced_in_thread(table, spec)
        assert server.stats.locations_accepted == 21
    assert in_order(first) == in_order(again)
    assert set(first["enhance_reason"].to_pylist()) <= {None, "no_match"}


async def test_a_submission_in_doubt_is_held_for_every_attempt(tmp_path: Path) -> None:
    """Until somebody decides otherwise; then it is sent again, and counted."""
    table = partition(5)
    holding = dataclasses.replace(QUICK, hold_in_doubt=True)
    async with sandbox_and_client(faults=FaultPlan(lost_answer=1.0)) as (server, _):
        spec = await settled_here(table, server.url, tmp_path, retry_policy=holding)
        for _ in range(2):
            with pytest.raises(SubmissionInDoubtError):
                await enhanced_in_thread(table, spec)
            assert server.stats.jobs_accepted == 1
    async with sandbox_and_client() as (server, _):
        settings = replace(spec.settings, api_url=server.url)
        spec = dataclasses.replace(spec, settings=settings, policy=QUICK)
        out = await enhanced_in_thread(table, spec)
        assert server.stats.jobs_accepted == 1
    assert out.num_rows == 5
    assert await anyio.to_thread.run_sync(costs, tmp_path) == (5, 5)


async def test_a_task_spends_its_share_of_the_budget(tmp_path: Path) -> None:
    """However often an engine tries it again; with a higher budget, another attempt goes on."""
    table = partition(30)
    async with sandbox_and_client() as (server, _):
        spec = await settled_here(table, server.url, tmp_path, tasks=2, max_locations=30)
        for _ in range(3):
            with pytest.raises(BudgetSpentError, match="15 of 15 locations"):
                await enhanced_in_thread(table, spec)
            assert server.stats.locations_accepted == 15
        spec = await settled_here(table, server.url, tmp_path, tasks=2, max_locations=60)
        out = await enhanced_in_thread(table, spec)
        assert server.stats.locations_accepted == 30
    assert out.num_rows == 30


async def test_the_store_of_another_run_is_refused(tmp_path: Path) -> None:
    """On the driver, and by each task, before anything is sent."""
    async with sandbox_and_client() as (server, _):
        spec = await settled_here(partition(5), server.url, tmp_path)
        with pytest.raises(ConfigurationError, match="is of a run with sources PG instead of PH"):
            await settled_here(partition(5), server.url, tmp_path, sources="PH")
        (tmp_path / "store/manifest").write_bytes(
            (tmp_path / "store/manifest").read_bytes().replace(b'"tasks":1', b'"tasks":2')
        )
        with pytest.raises(ConfigurationError, match="tasks 2 instead of 1"):
            await enhanced_in_thread(partition(5), spec)
        assert server.stats.jobs_accepted == 0
