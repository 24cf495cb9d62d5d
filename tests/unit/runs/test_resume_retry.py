"""Rows without an answer are asked about once more, within the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event, JobSubmitted, RunNotice
from pingdata_async.locations.chunk import split
from pingdata_async.models import RunSummary
from pingdata_async.results.validation import fail_chunk
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.export.output import OutputSpec
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import reading_journal
from pingdata_async.runs.resume import charged_rows, retry_rows_of
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.answers import FAILURE, MemoryJournal, planned_chunks, spool_in
from tests.support.exports import export
from tests.support.runs import (
    ADDRESSES,
    Stopper,
    assert_all_there,
    enhancer,
    lines,
    read_addresses,
    requests,
    sandbox_and_client,
    unexpected,
)
from tests.support.sweeps import sampled

ASK_ONCE = ping.RetryPolicy(
    base_delay_s=0.01, max_delay_s=0.05, location_retries=0, job_attempts=1, in_doubt_retries=0
)


def set_faults(server: SandboxServer, **faults: Any) -> None:
    server._api._injector.plan = FaultPlan(**faults)


class Sent:
    """What a client submits: each location's id, and the sources it is asked for."""

    def __init__(self, client: ping.PingDataClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locations: list[dict[str, Any]] = []
        really_submit = client.submit_body

        async def submit_body(body: bytes, **options: Any) -> str:
            self.locations += msgspec.json.decode(body)["locations"]
            return await really_submit(body, **options)

        monkeypatch.setattr(client, "submit_body", submit_body)


async def status_of(output: Path) -> RunStatus:
    return await anyio.to_thread.run_sync(read_status, Path(f"{output}.run"))


async def assert_consistent(output: Path, summary: RunSummary) -> None:
    """Output, failures, summary and status say the same."""
    written = lines(output)
    assert [line["row"] for line in written] == list(range(summary.rows))
    by_status = dict.fromkeys(("ok", "partial", "failed"), 0)
    for line in written:
        by_status[line["status"]] += 1
    assert by_status == {
        "ok": summary.ok,
        "partial": summary.partial,
        "failed": summary.failed,
    }
    status = await status_of(output)
    assert (status.ok, status.partial, status.failed) == tuple(by_status.values())
    assert (status.no_answer, status.reasons) == (summary.no_answer, summary.reasons)
    assert status.is_finished
    failures = output.with_name("out.jsonl.failures.jsonl")
    assert failures.exists() == bool(summary.no_answer)
    assert summary.failures == (str(failures) if summary.no_answer else None)
    if summary.no_answer:
        assert len(lines(failures)) == summary.no_answer


async def test_rows_without_an_answer_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is sent, nothing is in the failures afterwards, and what was good stays."""
    output = tmp_path / "out.jsonl"
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.3)) as (server, client):
        bulk = enhancer(client, sources=["PG", "PH"], retry_policy=ASK_ONCE)
        first = await bulk.run(ADDRESSES, output)
        before = lines(output)
        assert 10 < first.no_answer < 70
        assert first.reasons["missing"] == first.no_answer
        await assert_consistent(output, first)
        set_faults(server)
        sent = Sent(client, monkeypatch)
        accepted = server.stats.locations_accepted
        second = await bulk.retry(f"{output}.run")
        await assert_consistent(output, second)
        assert server.stats.locations_accepted - accepted == first.no_answer
    missing = [line["row"] for line in before if line.get("reason") == "missing"]
    assert sorted(int(each["id"]) for each in sent.locations) == missing
    assert second.no_answer == 0
    assert second.locations_possibly_charged_again == first.no_answer
    assert second.locations_charged == 100 + first.no_answer
    after = lines(output)
    for old, new in zip(before, after, strict=True):
        assert old["id"] == new["id"]
        if old["row"] not in missing:
            assert old == new
        else:
            assert new["location_data"].keys() == {"PG", "PH"}


async def test_all_that_are_not_ok_for_their_failing_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answered is not asked again, and stays; a lasting "no match" may stay one."""
    output = tmp_path / "out.jsonl"
    faults = FaultPlan(source_trouble=0.2, missing_source=0.1)
    async with sandbox_and_client(faults=faults) as (server, client):
        bulk = enhancer(client, sources=["PG", "PH"], retry_policy=ASK_ONCE)
        first = await bulk.run(ADDRESSES, output)
        before = lines(output)
        assert first.partial > 20
        set_faults(server)
        sent = Sent(client, monkeypatch)
        second = await bulk.retry(f"{output}.run", all_not_ok=True)
        await assert_consistent(output, second)
    not_ok = {line["row"]: line for line in before if line["status"] != "ok"}
    assert {int(each["id"]) for each in sent.locations} == set(not_ok)
    for each in sent.locations:
        data = not_ok[int(each["id"])]["location_data"]
        failed = [code for code in ("PG", "PH") if not data.get(code, {}).get("is_success")]
        assert each["sources"] == failed
    assert set(second.reasons) <= {"no_match"}
    for old, new in zip(before, lines(output), strict=True):
        for code, answer in old["location_data"].items():
            if answer.get("is_success"):
                assert new["location_data"][code] == answer


async def test_nothing_to_retry(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Invalid rows would be as invalid as before; nothing is sent, and nothing changes."""
    output = tmp_path / "out.jsonl"
    (tmp_path / "in.csv").write_text("id,address\na,1 Main St\nb,\n,\n")
    first = await enhancer(client).run(tmp_path / "in.csv", output)
    sent, written = requests(sandbox), output.stat().st_mtime_ns
    events: list[Event] = []
    for all_not_ok in (False, True):
        bulk = enhancer(client, on_event=events.append)
        if first.reasons == {"invalid_input": 2}:
            assert await bulk.retry(f"{output}.run", all_not_ok=all_not_ok) == first
    assert [event for event in events if isinstance(event, RunNotice)]
    assert (requests(sandbox), output.stat().st_mtime_ns) == (sent, written)
    assert first.no_answer == 2


async def test_rows_that_have_an_answer_are_said_to_be_left(tmp_path: Path) -> None:
    """Partial ones are not asked about without `--all`, which is named."""
    output = tmp_path / "out.jsonl"
    events: list[Event] = []
    async with sandbox_and_client(faults=FaultPlan(missing_source=0.3)) as (server, client):
        settings = {"sources": ["PG", "PH"], "chunk_size": 100, "retry_policy": ASK_ONCE}
        bulk = enhancer(client, on_event=events.append, **settings)
        await bulk.run(ADDRESSES, output)
        set_faults(server)
        await bulk.retry(f"{output}.run")
        sent = requests(server)
        again = await bulk.retry(f"{output}.run")
        assert requests(server) == sent
        assert again.partial > again.no_answer == 0
        *_, told, _ = [event.message for event in events if isinstance(event, RunNotice)]
        assert told == (
            f"0 rows to be retried; {again.partial + again.failed} rows that are not ok "
            "have an answer: --all retries those too."
        )
        assert (await bulk.retry(f"{output}.run", all_not_ok=True)).partial < again.partial


@pytest.mark.parametrize(
    ("kind", "by"),
    sampled(
        [
            (ChunkFinished, "retry"),
            (JobSubmitted, "resume"),
            (RunNotice, "run"),
            (ChunkFinished, "run"),
            (ChunkFinished, "resume"),
        ],
        2,
    ),
)
async def test_an_interrupted_retry_goes_on(tmp_path: Path, kind: type[Event], by: str) -> None:
    """However it goes on: each row once, nothing asked twice, and the counts are right."""
    output = tmp_path / "out.jsonl"
    run_dir = Path(f"{output}.run")
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.4)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE)
        first = await bulk.run(ADDRESSES, output)
        before = output.read_bytes()
        set_faults(server)
        accepted = server.stats.locations_accepted
        stopper = Stopper(kind, 2 if kind is ChunkFinished else 1)
        with stopper.scope:
            await enhancer(client, retry_policy=ASK_ONCE, on_event=stopper).retry(run_dir)
        assert stopper.scope.cancelled_caught
        assert output.read_bytes() == before
        status = await status_of(output)
        assert status.settled == status.ok + status.partial + status.failed < 100
        assert (status.no_answer, status.is_finished) == (0, False)
        exported = await export_run(run_dir, tmp_path / "now.jsonl")
        assert (exported.rows, exported.rows_left_out) == (100, 0)
        assert 0 < exported.no_answer <= first.no_answer
        if by == "run":
            last = await bulk.run(ADDRESSES, output)
        else:
            last = await getattr(bulk, by)(run_dir)
        await assert_consistent(output, last)
        assert last.no_answer == 0
        assert server.stats.locations_accepted - accepted == first.no_answer
    assert last.locations_possibly_charged_again == first.no_answer


async def test_cut_off_in_the_middle_of_reopening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some chunks are reopened, others not yet: the run is not taken for finished."""
    output = tmp_path / "out.jsonl"
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.4)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE)
        first = await bulk.run(ADDRESSES, output)
        set_faults(server)
        calls = 0
        really_reopen: Any = Journal.reopen

        async def reopen(self: Any, *args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise ping.RunError("the disk is full")
            return await really_reopen(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "reopen", reopen)
            with pytest.raises(ping.RunError, match="disk is full"):
                await bulk.retry(f"{output}.run")
        accepted = server.stats.locations_accepted
        second = await bulk.run(ADDRESSES, output)
        assert 0 < server.stats.locations_accepted - accepted < first.no_answer
        await assert_consistent(output, second)
        third = await bulk.retry(f"{output}.run")
        assert server.stats.locations_accepted - accepted == first.no_answer
        await assert_consistent(output, third)
        assert (third.no_answer, third.rows) == (0, 100)


async def test_what_is_paid_for_stays_while_it_is_asked_about_again(tmp_path: Path) -> None:
    """An export in the middle of a retry has each row's earlier outcome, or its new one."""
    output, now = tmp_path / "out.jsonl", tmp_path / "now.jsonl"
    run_dir = Path(f"{output}.run")
    faults = FaultPlan(source_trouble=0.2, missing_source=0.1, missing_location=0.1)
    async with sandbox_and_client(faults=faults) as (server, client):
        await enhancer(client, sources=["PG", "PH"], retry_policy=ASK_ONCE).run(ADDRESSES, output)
        before = lines(output)
        stopper = Stopper(RunNotice)
        for kind, all_not_ok in ((RunNotice, True), (ChunkFinished, False), (JobSubmitted, True)):
            stopper = Stopper(kind)
            bulk = enhancer(client, sources=["PG", "PH"], retry_policy=ASK_ONCE, on_event=stopper)
            with stopper.scope:
                await bulk.retry(run_dir, all_not_ok=all_not_ok)
            assert stopper.scope.cancelled_caught
            assert (await export_run(run_dir, now, overwrite=True)).rows_left_out == 0
            for old, new in zip(before, lines(now), strict=True):
                good = {k for k, v in (old["location_data"] or {}).items() if v.get("is_success")}
                assert good <= (new["location_data"] or {}).keys()
                if kind is RunNotice:
                    assert new == old
            with pytest.raises(ping.RunError, match="has no outcome"):
                await export_strictly(run_dir, tmp_path / "strict.jsonl")
        set_faults(server)
        last = await bulk.resume(run_dir)
        await assert_consistent(output, last)


async def export_strictly(run_dir: Path, output: Path) -> None:
    """As a run does at its end."""
    plan = await anyio.to_thread.run_sync(Plan, run_dir / "plan")
    with plan:
        async with reading_journal(run_dir / "journal.sqlite3") as journal:
            spool = Spool(run_dir / "spool")
            await export(
                plan,
                spool,
                journal,
                output,
                OutputSpec(sources=("PG", "PH")),
                on_rows=lambda _rows: None,
                on_note=unexpected,
            )


async def test_retried_again_and_again(tmp_path: Path) -> None:
    """Each time those that are left; a row that was retried counts once."""
    output = tmp_path / "out.jsonl"
    left = [301]
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.6)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE)
        summary = await bulk.run(ADDRESSES, output)
        for _ in range(4):
            assert summary.no_answer < left[-1]
            left.append(summary.no_answer)
            accepted = server.stats.locations_accepted
            summary = await bulk.retry(f"{output}.run")
            assert server.stats.locations_accepted - accepted == left[-1]
            await assert_consistent(output, summary)
        assert summary.locations_possibly_charged_again == sum(left[1:])


async def test_rejected_rows_are_tried_once_more(tmp_path: Path) -> None:
    """They were never charged, and that is not counted as possibly charged again."""
    output = tmp_path / "out.jsonl"
    poison = read_addresses()[33]["address_line_1"]
    async with sandbox_and_client(faults=FaultPlan(poison=poison)) as (server, client):
        bulk = enhancer(client)
        first = await bulk.run(ADDRESSES, output)
        assert first.reasons["rejected"] == first.no_answer >= 1
        await assert_consistent(output, first)
        set_faults(server)
        second = await bulk.retry(f"{output}.run")
        await assert_consistent(output, second)
        assert server.stats.locations_accepted_more_than_once == 0
    assert (second.no_answer, second.locations_possibly_charged_again) == (0, 0)
    assert second.locations_charged == 100


def test_a_rejected_row_may_have_been_charged_before(tmp_path: Path) -> None:
    """By an earlier job of its chunk, or of the chunk that this is a part of."""
    journal = MemoryJournal(spool_in(tmp_path))
    clean, doubted, parted = planned_chunks(6, 2)
    part = split(parted, [3], [2], was_charged=True)[0]
    journal.put(clean, "failed")
    journal.put(doubted, "failed", charged_before=True)
    journal.put(parted, "split")
    journal.put(part, "failed")
    answers = ResultReader(spool_in(tmp_path), journal, ("PG",))
    for chunk, is_charged in ((clean, False), (doubted, True), (parted, True)):
        rows = answers.outcomes(chunk).settled
        found = retry_rows_of(chunk, rows, ("PG",), charged_rows(journal, chunk))
        assert [each.earlier.was_charged for each in found] == [is_charged] * 2


def test_why_a_source_is_not_asked_is_kept_with_a_row_that_is_reopened() -> None:
    """So that it ends as it would have the first time."""
    (chunk,) = planned_chunks(2, 2)
    chunk = msgspec.structs.replace(chunk, skipped={1: ("PH: only in US",)})
    rows = fail_chunk(chunk, FAILURE)
    found = retry_rows_of(chunk, rows, ("PG",), ())
    assert [each.earlier.skipped for each in found] == [(), ("PH: only in US",)]


async def test_an_output_that_may_not_be_replaced_reopens_nothing(tmp_path: Path) -> None:
    """It is checked first."""
    output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    other.write_text("precious")
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.3)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE)
        await bulk.run(ADDRESSES, output)
        sent, before = requests(server), await status_of(output)
        with pytest.raises(ping.ConfigurationError, match="exists already"):
            await bulk.retry(f"{output}.run", output=other)
        assert (requests(server), await status_of(output)) == (sent, before)


async def test_failures_are_an_input_of_a_new_run(tmp_path: Path) -> None:
    """With the rows as they were given: ids and fields."""
    output = tmp_path / "out.jsonl"
    async with sandbox_and_client(faults=FaultPlan(missing_location=0.3)) as (server, client):
        bulk = enhancer(client, retry_policy=ASK_ONCE)
        first = await bulk.run(ADDRESSES, output)
        set_faults(server)
        again = await bulk.run(tmp_path / "out.jsonl.failures.jsonl", tmp_path / "again.jsonl")
        assert (again.rows, again.no_answer) == (first.no_answer, 0)
        assert server.stats.locations_accepted == 100 + first.no_answer
    assert_all_there(tmp_path / "again.jsonl", first.no_answer)
    failed = [line["id"] for line in lines(output) if line.get("reason") == "missing"]
    assert [line["id"] for line in lines(tmp_path / "again.jsonl")] == failed
