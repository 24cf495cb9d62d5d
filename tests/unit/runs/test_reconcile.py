"""A run's charges beside the account's usage: what is said of what is in doubt."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import cast

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.api.account import decode_usage
from pingdata_async.runs.journal.reader import SubmissionSpan
from pingdata_async.runs.reconcile import (
    MOST_SPANS,
    Span,
    Verdict,
    _buckets,
    _usage,
    aligned,
    reconcile_run,
    spans_of,
    verdict_of,
)
from pingdata_async.runs.status import read_status
from pingdata_async.sandbox import FaultPlan
from tests.support.runs import ADDRESSES, client_of, enhancer, sandbox_and_client
from tests.support.sweeps import sampled

IMPATIENT = ping.RetryPolicy(
    base_delay_s=0.01, max_delay_s=0.02, max_doubts_in_a_row=1000, in_doubt_retries=100
)


def submission(sent_at: float, until: float = 0.0) -> SubmissionSpan:
    return SubmissionSpan(True, 1, {"PG": 1}, sent_at, until)


@pytest.mark.parametrize(
    ("extra", "amounts", "other_doubts", "verdict"),
    [
        (0, [], 0, "nothing_in_doubt"),
        (7, [], 9, "nothing_in_doubt"),
        (-1, [], 0, "short"),
        (-1, [40], 0, "short"),
        (0, [40, 20], 30, "not_charged"),
        (60, [40, 20], 0, "charged"),
        (20, [40, 20], 0, "partly_charged"),
        (30, [40, 20], 0, "open"),  # no submissions come to that
        (61, [40, 20], 0, "open"),
        (60, [40, 20], 30, "open"),  # or another run's 30 were charged, and 30 by others
        (90, [40, 20], 30, "charged"),
    ],
)
def test_what_follows_from_numbers(
    extra: int, amounts: list[int], other_doubts: int, verdict: str
) -> None:
    """Only where nothing else can be meant."""
    assert verdict_of(extra, amounts, other_doubts) == verdict


def test_long_pauses_are_no_time_of_the_run() -> None:
    """What others did then is not looked at; a job counts until its end."""
    spans = spans_of([submission(5000.0), submission(100.0, 900.0), submission(1000.0, 1010.0)])
    assert spans == [Span(100.0, 1010.0), Span(5000.0, 5000.0)]
    many = spans_of([submission(n * n * 1000.0) for n in range(100)])
    assert len(many) == MOST_SPANS
    assert (many[0].begin, many[-1].end) == (0.0, 99 * 99 * 1000.0)
    even = spans_of([submission(n * 1000.0) for n in range(100)])
    assert 1 <= len(even) <= MOST_SPANS
    assert aligned(Span(630.0, 1210.0), 300.0) == Span(300.0, 1500.0)


def test_buckets_outside_of_the_time_do_not_count() -> None:
    """Nor where the API writes times without a zone; where it tells no time, all of it counts."""
    sent = (
        b'{"buckets":[{"bucket":"1970-01-01T00:05:00","counts":{"PG":1,"total":1}},'
        b'{"bucket":"1970-01-01T00:10:00Z","counts":{"PG":2}}],"totals":{"PG":9}}'
    )
    assert _buckets(decode_usage(sent, "x"), Span(300.0, 600.0)) == {300.0: {"PG": 1}}
    untold = decode_usage(b'{"buckets":[{"bucket":"now","counts":{"PG":1}}]}', "x")
    assert _buckets(untold, Span(300.0, 600.0)) == {300.0: {"PG": 1}}


async def test_the_time_is_asked_about_in_whole_buckets() -> None:
    """Of the size that the API tells: what was used at its edges is all there, or not at all."""
    asked: list[tuple[float, float]] = []

    class Teller:
        async def usage(self, start: dt.datetime, end: dt.datetime, **_: object) -> ping.Usage:
            asked.append((start.timestamp(), end.timestamp()))
            return ping.Usage(granularity="1h")

    _, times = await _usage(cast("ping.PingDataClient", Teller()), Span(7300.0, 90_000.0), None)
    assert asked == [(7200.0, 90_300.0), (7200.0, 93_600.0)]
    assert times == Span(7200.0, 93_600.0)


@pytest.mark.parametrize("seed", sampled(range(9), 3))
async def test_the_verdict_is_what_the_sandbox_knows(seed: int, tmp_path: Path) -> None:
    """Whatever answers are lost, after a job was accepted or before."""
    faults = FaultPlan(lost_answer=(seed % 3) * 0.2, drop=(seed % 2) * 0.3)
    async with sandbox_and_client(faults=faults, seed=seed) as (server, client):
        run = enhancer(client, retry_policy=IMPATIENT, sources=["PG", "PH"])
        await run.run(ADDRESSES, tmp_path / "o.jsonl")
        run_dir = tmp_path / "o.jsonl.run"
        found = await reconcile_run(client, run_dir)
        status = await anyio.to_thread.run_sync(read_status, run_dir)
        charged = server.stats.locations_accepted - status.locations_charged
    assert found.locations_in_doubt == status.locations_in_doubt
    assert {each.unexplained for each in found.sources.values()} == {charged}
    assert found.granularity == "5m"
    wanted = (
        Verdict.NOTHING_IN_DOUBT
        if not found.locations_in_doubt
        else Verdict.NOT_CHARGED
        if not charged
        else Verdict.CHARGED
        if charged == found.locations_in_doubt
        else Verdict.PARTLY_CHARGED
    )
    assert found.verdict == wanted


async def test_other_users_of_the_account(tmp_path: Path) -> None:
    """Other runs beside it are named and counted in; what is unknown leaves it open."""
    async with sandbox_and_client(faults=FaultPlan(drop=0.5), seed=1) as (server, client):
        run = enhancer(client, retry_policy=IMPATIENT)
        await run.run(ADDRESSES, tmp_path / "o.jsonl")
        run_dir = tmp_path / "o.jsonl.run"
        async with client_of(server) as other:
            await enhancer(other, sources=["PG", "PH"], retry_policy=IMPATIENT).run(
                ADDRESSES, tmp_path / "other.jsonl"
            )
        found = await reconcile_run(client, run_dir)
        assert found.other_runs == (str(tmp_path / "other.jsonl.run"),)
        assert found.sources["PG"].other_runs == 100
        assert found.verdict == Verdict.NOT_CHARGED
        server._api._injector.plan = FaultPlan()
        await client.enhance("1 Main St, Boston, MA", sources=["PH"])
        assert (await reconcile_run(client, run_dir)).verdict == Verdict.NOT_CHARGED
        await client.enhance("1 Main St, Boston, MA", sources=["PG"])
        assert (await reconcile_run(client, run_dir)).verdict == Verdict.OPEN


async def test_a_run_for_another_organisation(tmp_path: Path) -> None:
    """It was charged to another account, and explains nothing of this one."""
    async with sandbox_and_client() as (_, client):
        await enhancer(client).run(ADDRESSES, tmp_path / "o.jsonl")
        await enhancer(client, delegate_to="acme").run(ADDRESSES, tmp_path / "other.jsonl")
        found = await reconcile_run(client, tmp_path / "o.jsonl.run")
    assert (found.other_runs, found.sources["PG"].other_runs) == ((), 0)


async def test_one_source_can_tell_for_all(tmp_path: Path) -> None:
    """A job is charged for all of its sources: if one was not, none was."""
    async with sandbox_and_client(faults=FaultPlan(drop=0.5), seed=1) as (server, client):
        run = enhancer(client, retry_policy=IMPATIENT, sources=["PG", "PH"])
        await run.run(ADDRESSES, tmp_path / "o.jsonl")
        server._api._injector.plan = FaultPlan()
        await client.enhance("1 Main St, Boston, MA", sources=["PH"])
        found = await reconcile_run(client, tmp_path / "o.jsonl.run")
    assert found.sources["PH"].verdict == Verdict.OPEN
    assert (found.sources["PG"].verdict, found.verdict) == (Verdict.NOT_CHARGED,) * 2


async def test_an_account_that_shows_less(tmp_path: Path) -> None:
    """It lags behind, or is another's: nothing follows from it."""
    async with sandbox_and_client() as (_, client):
        await enhancer(client).run(ADDRESSES, tmp_path / "o.jsonl")
    async with sandbox_and_client() as (_, other):
        found = await reconcile_run(other, tmp_path / "o.jsonl.run")
    assert (found.verdict, found.sources["PG"].unexplained) == (Verdict.SHORT, -100)


async def test_a_plan_that_was_not_sent(tmp_path: Path) -> None:
    """There is nothing to ask about, and nothing is asked."""
    async with sandbox_and_client() as (server, client):
        await enhancer(client).plan(ADDRESSES, tmp_path / "o.jsonl")
        asked = server.stats.requests.total()
        found = await reconcile_run(client, tmp_path / "o.jsonl.run")
        assert server.stats.requests.total() == asked
    assert (found.verdict, found.spans, found.sources) == (Verdict.NOTHING_IN_DOUBT, (), {})
