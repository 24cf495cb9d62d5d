"""The look at the account's limits before anything is sent."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.api.account import Limits, SourceLimits, decode_limits
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.flow_control.budget import Amount
from pingdata_async.events import Event, EventEmitter, JobSubmitted, NoticeCollector
from pingdata_async.exceptions import (
    AuthenticationError,
    LimitsExceededError,
    NotFoundError,
    PingDataError,
    RateLimitError,
    ServerError,
    TransportError,
)
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.preflight import Preflight, judged, refusal_message
from tests.support.runs import ADDRESSES, enhancer, sandbox_and_client, stopped_run

NOW = dt.datetime(2026, 12, 31, 23, 30, tzinfo=dt.UTC)
LIMITS = Limits(
    sources={
        "PH": SourceLimits(
            limits={"daily": 500, "monthly": 9000}, remaining={"daily": 458, "monthly": 300}
        )
    }
)


def amount(**by_source: int) -> Amount:
    return Amount(locations=max(by_source.values()), by_source=by_source)


@pytest.mark.parametrize(("wanted", "fits"), [(300, True), (301, False), (0, True)])
def test_the_smallest_window_counts(wanted: int, fits: bool) -> None:
    """To the location; a source that is not capped always fits."""
    judgement = judged(LIMITS, amount(ph=wanted, PG=10**9), NOW)
    assert judgement.fits == fits
    assert judgement.fitting == (None if fits else 300)


def test_what_is_said() -> None:
    """The numbers, when each window begins anew, and what fits, spent before included."""
    judgement = judged(LIMITS, amount(PH=1000, PG=1000), NOW)
    said = refusal_message(judgement, amount(PH=1000, PG=1000), Amount(locations=20))
    assert "PH: 1,000 locations, but 458 of 500 are left (daily)" in said
    assert "2027-01-01 00:00 UTC" in said
    assert "300 of 9,000 are left (monthly)" in said
    assert "What fits: PG without PH, or 300 locations (--max-locations 320)" in said


def test_nothing_fits() -> None:
    only_pg = decode_limits(b'{"allowlist": {"mode": "restricted", "sources": ["PG"]}}', "here")
    judgement = judged(only_pg, amount(PH=1), NOW)
    assert judgement.fitting == 0
    assert "What fits: nothing;" in refusal_message(judgement, amount(PH=1), Amount())


SETTINGS = RunSettings(
    sources=("PH",),
    options=JobOptions(),
    environment=None,
    api_url=None,
    api="sandbox",
    chunk_size=1000,
    max_jobs=1,
    source="-",
    output="-",
)


class Failing(ping.PingDataClient):
    """A client whose every question about limits ends in an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def limits(self) -> Limits:
        raise self._error


def preflight(error: Exception, listener: NoticeCollector | None = None) -> Preflight:
    return Preflight(Failing(error), SETTINGS, EventEmitter(listener))


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("no such path", status_code=404),
        ServerError("down", status_code=503),
        RateLimitError("slow down", status_code=429, retry_after_s=900.0),
        TransportError("refused", maybe_sent=False),
        ping.DecodeError("not JSON"),
        ping.ClientClosedError("closed"),
    ],
)
async def test_what_is_not_known_refuses_nothing(error: PingDataError) -> None:
    """One line, whatever it is."""
    notices = NoticeCollector()
    asking = preflight(error, notices)
    await asking.check(amount(PH=10**6), Amount())
    [said] = notices.messages
    assert said.startswith("Whether this fits the account's limits is unknown: ")
    assert (await asking.judge(amount(PH=1))).fits is None


async def test_a_wrong_token_is_no_such_thing() -> None:
    error = AuthenticationError("401", status_code=401)
    with pytest.raises(AuthenticationError):
        await preflight(error).judge(amount(PH=1))


async def test_what_is_paid_for_is_brought_home_before_it_is_refused(tmp_path: Path) -> None:
    """Nothing more is sent, but jobs in flight are not left to be forgotten."""
    output = tmp_path / "out.jsonl"
    limits = {"PG": {"daily": 60}}
    async with sandbox_and_client(limits=limits, locations_per_s=20.0) as (sandbox, client):
        await stopped_run_without_look(client, output)
        before = await enhancer(client).dry_run(ADDRESSES, output)
        accepted = sandbox.stats.locations_accepted
        assert before.fits is False
        assert before.locations == 100 - accepted
        events: list[Event] = []
        with pytest.raises(LimitsExceededError, match=r"--max-locations 60\b"):
            await enhancer(client, on_event=events.append).resume(f"{output}.run")
        assert sandbox.stats.locations_accepted == accepted
        assert not any(isinstance(event, JobSubmitted) for event in events)
        after = await anyio.to_thread.run_sync(ping.read_status, f"{output}.run")
        assert (after.settled, after.in_flight) == (accepted, [])
        with pytest.raises(LimitsExceededError):
            await enhancer(client).resume(f"{output}.run")
        assert sandbox.stats.locations_accepted == accepted


async def stopped_run_without_look(client: ping.PingDataClient, output: Path) -> None:
    """Stopped with jobs in flight, as the limits allowed for all of it when it was begun."""
    run = ping.BulkEnhancer.run

    async def unlooked(self: ping.BulkEnhancer, source: Path, output: Path) -> ping.RunSummary:
        return await run(self, source, output, preflight=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ping.BulkEnhancer, "run", unlooked)
        await stopped_run(client, output, JobSubmitted, 4)
