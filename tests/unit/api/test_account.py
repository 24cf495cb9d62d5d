"""Limits and usage of the account: every reading, and what would be refused."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pingdata_async as ping
from pingdata_async.api.account import decode_limits, decode_usage
from pingdata_async.api.wire import resets_at
from pingdata_async.sandbox import SandboxServer
from tests.support.servers import LocalApi, always, client_of

NOON = dt.datetime(2026, 12, 30, 12, 30, tzinfo=dt.UTC)
SENT: dict[str, Any] = {
    "scope": "user",
    "subject": "ann",
    "allowlist": {"mode": "restricted", "source": "user", "sources": ["GG", "PH"]},
    "sources": {
        "PH": {
            "limits": {"daily": 500, "monthly": 10000},
            "usage": {"daily": 42, "monthly": 6700},
            "remaining": {"daily": 458, "monthly": 3300},
        }
    },
    "news": "a field that nobody told of",
}


def limits_of(sent: object) -> ping.Limits:
    return decode_limits(msgspec.json.encode(sent), "GET x")


def usage_of(sent: object) -> ping.Usage:
    return decode_usage(msgspec.json.encode(sent), "GET x")


def sentences(limits: ping.Limits, **wanted: int) -> list[str]:
    return [str(refusal) for refusal in limits.refusals(wanted, NOON)]


async def test_against_the_sandbox() -> None:
    """What was asked is in the usage, and no longer in what is left."""
    async with (
        SandboxServer(limits={"PH": {"daily": 5}}, allowed_sources=["PG", "PH"]) as server,
        client_of(server.url) as client,
    ):
        await client.enhance("1 Main St, Boston, MA", sources=["PG", "PH"])
        limits = await client.limits()
        usage = await client.usage(start="-1h", username="ann", delegate_to="acme")
        everything = await client.usage(org_short_name="acme", end=dt.timedelta(minutes=1))
    assert (limits.scope, limits.subject, limits.is_restricted) == ("user", "sandbox", True)
    assert limits.allowed_sources == ("PG", "PH")
    assert limits.sources["PH"] == ping.SourceLimits(
        limits={"daily": 5}, usage={"daily": 1}, remaining={"daily": 4}
    )
    assert limits.refusals({"PG": 10**9, "PH": 4}, NOON) == ()
    assert [each.remaining for each in limits.refusals({"PH": 5}, NOON)] == [4]
    assert (usage.granularity, usage.totals, usage.total) == ("5m", {"PG": 1, "PH": 1}, 2)
    (bucket,) = usage.buckets
    assert (bucket.counts, bucket.total) == ({"PG": 1, "PH": 1}, 2)
    assert everything.granularity == "1d"


def test_limits_as_documented() -> None:
    """Every field is read, and what nobody told of is kept as it was sent."""
    limits = limits_of(SENT)
    assert (limits.scope, limits.subject, limits.mode) == ("user", "ann", "restricted")
    assert limits.sources["PH"].windows == ("daily", "monthly")
    assert limits.as_sent == SENT


def test_what_fits_is_not_refused() -> None:
    """Up to what is left, for sources that may be asked; whether capped or not, in any case."""
    limits = limits_of(SENT)
    assert limits.refusals({"PH": 458, "gg": 10**7}, NOON) == ()
    assert limits.refusals({}, NOON) == ()
    assert limits.refusals({"PG": 0, "PH": 0}, NOON) == ()


def test_what_does_not_fit_says_when_it_will() -> None:
    """Each window with fewer left is named, with when it begins anew by UTC."""
    daily, monthly = limits_of(SENT).refusals({"PH": 3301}, NOON)
    assert daily == ping.LimitRefusal(
        source="PH",
        wanted=3301,
        window="daily",
        remaining=458,
        limit=500,
        resets_at=dt.datetime(2026, 12, 31, tzinfo=dt.UTC),
    )
    assert (monthly.window, monthly.resets_at) == (
        "monthly",
        dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
    )
    assert str(monthly) == (
        "PH: 3,301 locations, but 3,300 of 10,000 are left (monthly); it resets at "
        "2027-01-01 00:00 UTC"
    )
    assert str(daily).endswith("00:00 UTC, and allows too few for all of them even then")


def test_a_code_is_counted_once_however_it_is_written() -> None:
    """`ph` and `PH` are the same source: together they may be too many."""
    assert limits_of(SENT).refusals({"ph": 400, "PH": 58}, NOON) == ()
    (refusal,) = limits_of(SENT).refusals({"ph": 400, "PH": 59}, NOON)
    assert (refusal.source, refusal.wanted) == ("ph", 459)


def test_a_source_that_may_not_be_asked() -> None:
    """It is refused with those that may be; its windows do not matter any more."""
    assert sentences(limits_of(SENT), PG=1) == [
        "PG: not among the sources that this account may ask (GG, PH)"
    ]
    nothing = SENT | {"allowlist": {"mode": "RESTRICTED", "sources": []}}
    assert sentences(limits_of(nothing), PH=9999) == [
        "PH: not among the sources that this account may ask (none at all)"
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"allowlist": {"mode": "restricted"}},
        {"allowlist": {"mode": "restricted", "sources": None}},
        {"allowlist": {"mode": None, "sources": ["PG"]}},
        {"allowlist": {"sources": ["PG"]}},
        {"allowlist": {"mode": "unrestricted", "sources": ["PG"]}},
        {"allowlist": None, "sources": None},
        {"sources": {"PH": None}},
        {"sources": {"PH": {"limits": {"daily": 5}}}},
        {"sources": {"PH": {"remaining": None}}},
        {"sources": {"PH": {"remaining": {"daily": None, "monthly": "few", "x": True}}}},
        {"sources": []},
        {"sources": {}, "allowlist": []},
    ],
)
def test_what_is_not_said_refuses_nothing(odd: dict[str, Any]) -> None:
    """Only what is known to be refused is."""
    assert limits_of(odd).refusals({"PH": 10**9}, NOON) == ()


def test_windows_that_nobody_told_of() -> None:
    """They are kept and hold; when they begin anew is not known. So does a debt."""
    limits = limits_of({"sources": {"PH": {"remaining": {"hourly": 7.9, "daily": -3}}}})
    assert limits.sources["PH"].remaining == {"hourly": 7, "daily": -3}
    hourly, daily = limits.refusals({"PH": 8}, NOON)
    assert (hourly.window, hourly.resets_at, hourly.limit) == ("hourly", None, None)
    assert str(hourly) == "PH: 8 locations, but 7 are left (hourly)"
    assert daily.remaining == -3


@pytest.mark.parametrize(
    ("now", "daily", "monthly"),
    [
        ("2026-02-28T23:59:59Z", "2026-03-01", "2026-03-01"),
        ("2028-02-28T00:00:00Z", "2028-02-29", "2028-03-01"),
        ("2026-12-31T12:00:00Z", "2027-01-01", "2027-01-01"),
        ("2026-01-31T20:00:00-05:00", "2026-02-02", "2026-03-01"),
        ("2026-03-01T00:30:00+01:00", "2026-03-01", "2026-03-01"),
    ],
)
def test_windows_begin_anew_by_utc(now: str, daily: str, monthly: str) -> None:
    """At its next midnight and its next first of a month, wherever one is."""
    moment = dt.datetime.fromisoformat(now)
    for window, day in (("daily", daily), ("Monthly", monthly)):
        found = resets_at(window, moment)
        assert found is not None
        assert found.isoformat() == f"{day}T00:00:00+00:00"


@given(
    wanted=st.integers(0, 50),
    remaining=st.dictionaries(st.sampled_from(["daily", "monthly", "hourly"]), st.integers(-5, 50)),
)
def test_the_contract_of_limits(wanted: int, remaining: dict[str, int]) -> None:
    """Refused exactly where something is wanted and a window has fewer left."""
    limits = limits_of({"sources": {"PH": {"remaining": remaining}}})
    refused = {refusal.window for refusal in limits.refusals({"PH": wanted}, NOON)}
    assert refused == {name for name, left in remaining.items() if wanted and left < wanted}


BY_BUCKET = {
    "granularity": "1d",
    "start": "2026-03-01T00:00:00Z",
    "end": "2026-03-03T00:00:00Z",
    "buckets": [
        {"bucket": "2026-03-01T00:00:00Z", "counts": {"PG": 5, "PH": 2, "total": 7}},
        {"bucket": "2026-03-02T00:00:00Z", "counts": {"PG": 1, "total": 1}},
    ],
    "totals": {"PG": 6, "PH": 2, "total": 8},
}
BY_ROW = BY_BUCKET | {
    "buckets": [
        {"bucket_time": "2026-03-01T00:00:00Z", "source": "PG", "count": 5},
        {"bucket_time": "2026-03-02T00:00:00Z", "source": "PG", "count": 1},
        {"bucket_time": "2026-03-01T00:00:00Z", "source": "PH", "count": 2},
    ],
}


def test_usage_in_both_forms() -> None:
    """The reference's buckets and the vendor's rows are the same usage."""
    by_bucket, by_row = usage_of(BY_BUCKET), usage_of(BY_ROW)
    assert by_bucket.buckets == by_row.buckets
    assert by_bucket.buckets[0] == ping.UsageBucket(
        bucket="2026-03-01T00:00:00Z", counts={"PG": 5, "PH": 2}, total=7
    )
    assert (by_row.totals, by_row.total) == ({"PG": 6, "PH": 2}, 8)
    assert (by_row.granularity, by_row.start, by_row.end) == (
        "1d",
        "2026-03-01T00:00:00Z",
        "2026-03-03T00:00:00Z",
    )


@pytest.mark.parametrize(
    ("counts", "read", "total"),
    [
        ([("PG", 5), (None, 0)], {"PG": 5}, 5),
        ([(None, 7), ("PG", 5), ("PH", 2)], {"PG": 5, "PH": 2}, 7),
        ([(None, 9), ("PG", 5)], {"": 9, "PG": 5}, 14),
        ([(None, 9)], {"": 9}, 9),
        ([(None, 0)], {}, 0),
    ],
)
def test_rows_without_a_source(
    counts: list[tuple[str | None, int]], read: dict[str, int], total: int
) -> None:
    """One that adds up is the total of its time; any other is of no named source."""
    rows = [{"bucket_time": "t", "source": source, "count": count} for source, count in counts]
    usage = usage_of({"buckets": rows})
    assert usage.buckets == (ping.UsageBucket(bucket="t", counts=read, total=total),)
    assert (usage.totals, usage.total) == (read, total)


@pytest.mark.parametrize(
    "odd",
    [
        {"buckets": None},
        {"buckets": [None, 5, {}, {"bucket": 3}, {"counts": {"PG": None}}], "totals": None},
        {"totals": {"total": None}, "granularity": None, "start": 5},
        {"buckets": {}, "totals": []},
    ],
)
def test_usage_that_is_odd(odd: dict[str, Any]) -> None:
    """What is missing, null or of another type is nothing used."""
    usage = usage_of(odd)
    assert (usage.total, usage.totals) == (0, {})
    assert usage.as_sent == odd


@pytest.mark.parametrize("decode", [decode_limits, decode_usage])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"\xff", b'{"message": "hello"}'])
def test_what_is_no_answer(decode: Any, body: bytes) -> None:
    """Is told as such, and not a traceback."""
    with pytest.raises(ping.DecodeError, match="GET x"):
        decode(body, "GET x")


async def usage_query(**arguments: Any) -> list[tuple[str, str]]:
    async with LocalApi(always(BY_BUCKET)) as api, client_of(api.url) as client:
        await client.usage(**arguments)
    return parse_qsl(api.seen[0].target.partition("?")[2], strict_parsing=bool(arguments))


async def test_every_parameter_of_usage_is_sent() -> None:
    """What is not given is left to the API."""
    assert await usage_query() == []
    assert await usage_query(
        start="-5m", end="2026-03-01T00:00:00+01:00", username="ann", delegate_to="acme"
    ) == [
        ("start", "-5m"),
        ("end", "2026-03-01T00:00:00+01:00"),
        ("username", "ann"),
        ("delegate_to", "acme"),
    ]
    assert await usage_query(org_short_name="AMWNS") == [("org_short_name", "AMWNS")]


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (dt.timedelta(days=30), "-30d", "-30d"),
        (-dt.timedelta(days=30), "-30d", "-30d"),
        (dt.timedelta(hours=36), "-36h", "-36h"),
        (dt.timedelta(minutes=90), "-90m", "-90m"),
        (dt.timedelta(seconds=61), "-2m", "-2m"),
        (dt.date(2026, 3, 1), "2026-03-01T00:00:00Z", "2026-03-01T23:59:59Z"),
        (
            dt.datetime.fromisoformat("2026-03-01T05:00"),
            "2026-03-01T05:00:00Z",
            "2026-03-01T05:00:00Z",
        ),
        (
            dt.datetime(2026, 3, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
            "2026-03-01T05:00:00Z",
            "2026-03-01T05:00:00Z",
        ),
    ],
)
async def test_times_in_every_form(moment: object, start: str, end: str) -> None:
    """A span is so long ago; a date is all of that day; what has no zone is UTC."""
    assert await usage_query(start=moment, end=moment) == [("start", start), ("end", end)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"username": "a", "org_short_name": "b"}, "not both"),
        ({"start": dt.timedelta(0)}, "start: a time span of nothing"),
    ],
)
async def test_questions_that_make_no_sense(arguments: dict[str, Any], says: str) -> None:
    """They are refused here."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        with pytest.raises(ping.ConfigurationError, match=says):
            await client.usage(**arguments)
    assert api.seen == []


async def test_what_no_request_can_hold() -> None:
    """Bytes of a command that are not UTF-8 are refused by the name of their option."""
    odd = "\udcff"
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        for refused, name in (
            (client.usage(start=odd), "start"),
            (client.usage(delegate_to=odd), "delegate_to"),
            (client.datasource(odd), "code"),
            (client.datasources(delegate_to=odd), "delegate_to"),
            (client.enhance("1 Main St", sources=["PG"], delegate_to=odd), "delegate_to"),
            (client.submit([{"id": "0"}], sources=["PG", odd]), "sources"),
        ):
            with pytest.raises(ping.ConfigurationError, match=f"{name} .* not Unicode"):
                await refused
        with pytest.raises(ping.ConfigurationError, match=r"delegate_to .* not Unicode"):
            ping.BulkEnhancer(client, "PG", delegate_to=odd)
    assert api.seen == []


async def test_acting_for_another_organisation() -> None:
    """The sources are asked for in its name."""
    answer = {"config": {"source_code": "PG"}, "configs": {}}
    async with LocalApi(always(answer)) as api, client_of(api.url) as client:
        await client.datasources(delegate_to="acme")
        await client.datasource("a/b", delegate_to="acme")
        await client.datasources()
    assert [seen.target for seen in api.seen] == [
        "/api/v1/datasources?delegate_to=acme",
        "/api/v1/datasources/a%2Fb?delegate_to=acme",
        "/api/v1/datasources",
    ]


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_an_api_that_does_not_serve_it(status: int) -> None:
    """It is an error that says so, as of any endpoint."""
    async with (
        LocalApi(always({"message": "no"}, status=status)) as api,
        client_of(api.url) as client,
    ):
        for ask in (client.limits, client.usage, client.datasources):
            with pytest.raises(ping.APIStatusError, match="no") as caught:
                await ask()
            assert caught.value.status_code == status
