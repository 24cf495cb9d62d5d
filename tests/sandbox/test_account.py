"""Limits, usage and data sources."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pingdata_async.sandbox import SandboxServer
from pingdata_async.sandbox.answers import SOURCES
from tests.sandbox.caller import Clock, addresses, calling

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)


def at_noon(clock: Clock, **settings: Any) -> SandboxServer:
    return SandboxServer(clock=clock, wall_clock=NOON.timestamp, **settings)


async def test_usage_counts_by_source_and_time(clock: Clock) -> None:
    """Every location and source asked for is in the bucket of its time, and in the totals."""
    async with calling(at_noon(clock)) as caller:
        await caller.submit(addresses(10), "PG", "PH")
        clock.advance(600)
        await caller.submit(addresses(5), "PG")
        params = [("sources", "PG"), ("sources", "GG"), ("address", "x")]
        await caller.get("/api/v1/enhance", params=params)
        assert (await caller.get("/api/v1/usage?start=-1h")).json == {
            "granularity": "5m",
            "start": "2026-03-30T11:10:00Z",
            "end": "2026-03-30T12:10:00Z",
            "buckets": [
                {
                    "bucket": "2026-03-30T12:00:00Z",
                    "counts": {"PG": 10, "PH": 10, "total": 20},
                },
                {
                    "bucket": "2026-03-30T12:10:00Z",
                    "counts": {"GG": 1, "PG": 6, "total": 7},
                },
            ],
            "totals": {"GG": 1, "PG": 16, "PH": 10, "total": 27},
        }
        end = "2026-03-30T12:06:00Z"
        earlier = (await caller.get("/api/v1/usage", params={"start": "-1h", "end": end})).json
        assert earlier["totals"] == {"PG": 10, "PH": 10, "total": 20}


@pytest.mark.parametrize(
    ("start", "granularity", "bucket"),
    [
        ("-6h", "5m", "2026-03-30T12:30:00Z"),
        ("-7h", "1h", "2026-03-30T12:00:00Z"),
        ("2026-03-25", "1h", "2026-03-30T12:00:00Z"),
        ("-8d", "1d", "2026-03-30T00:00:00Z"),
        (None, "1d", "2026-03-30T00:00:00Z"),
    ],
)
async def test_buckets_grow_with_the_range(
    clock: Clock, start: str | None, granularity: str, bucket: str
) -> None:
    """Short ranges have small buckets; without a start it is 30 days."""
    async with calling(at_noon(clock)) as caller:
        clock.advance(2000)
        await caller.submit(addresses(1), "PG")
        params = {} if start is None else {"start": start}
        usage = (await caller.get("/api/v1/usage", params=params)).json
        assert usage["granularity"] == granularity
        assert [entry["bucket"] for entry in usage["buckets"]] == [bucket]
        first = datetime.fromisoformat(usage["start"])
        if start is None:
            assert datetime.fromisoformat(usage["end"]) - first == timedelta(days=30)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"start": "yesterday"}, "start must be an offset such as -5m, -1h or -30d, or an ISO"),
        ({"start": "-999999d", "end": "-1h"}, "start must be an offset"),
        ({"end": "5m"}, "end must be an offset"),
        ({"start": "-1h", "end": "-2h"}, "start is after end"),
        ({"username": "a", "org_short_name": "b"}, "username and org_short_name exclude"),
        ({"begin": "-1h"}, "unknown parameters: begin"),
    ],
)
async def test_bad_ranges_are_refused(params: dict[str, str], message: str) -> None:
    """400 with the reason."""
    async with calling(SandboxServer()) as caller:
        answer = await caller.get("/api/v1/usage", params=params)
        assert answer.status == 400
        assert answer.message.startswith(message)


async def test_limits_without_any(clock: Clock) -> None:
    """By default nothing is capped and every source is allowed."""
    async with calling(at_noon(clock)) as caller:
        assert (await caller.get("/api/v1/limits")).json == {
            "scope": "user",
            "subject": "sandbox",
            "allowlist": {"mode": "unrestricted", "source": "user", "sources": []},
            "sources": {},
        }


async def test_limits_are_shown_and_kept(clock: Clock) -> None:
    """Usage and what remains are counted per UTC day and month; more than that is 402."""
    limits = {"PH": {"daily": 20, "monthly": 30}}
    async with calling(at_noon(clock, limits=limits)) as caller:

        async def left() -> Any:
            return (await caller.get("/api/v1/limits")).json["sources"]["PH"]["remaining"]

        await caller.submit(addresses(15), "PG", "PH")
        assert (await caller.get("/api/v1/limits")).json["sources"] == {
            "PH": {
                "limits": {"daily": 20, "monthly": 30},
                "usage": {"daily": 15, "monthly": 15},
                "remaining": {"daily": 5, "monthly": 15},
            }
        }
        answer = await caller.post({"locations": addresses(6), "sources": ["PG", "PH"]})
        assert answer.status == 402
        assert answer.message == "The daily limit of PH is exceeded: 6 asked, 5 left"
        assert await left() == {"daily": 5, "monthly": 15}
        clock.advance(12 * 3600)
        assert await left() == {"daily": 20, "monthly": 15}
        clock.advance(24 * 3600)
        assert await left() == {"daily": 20, "monthly": 30}


async def test_sources_that_are_not_allowed_are_refused() -> None:
    """With allowed_sources the others are 403, and the limits say so."""
    async with calling(SandboxServer(allowed_sources=["PG", "GG"])) as caller:
        allowlist = (await caller.get("/api/v1/limits")).json["allowlist"]
        assert allowlist == {"mode": "restricted", "source": "user", "sources": ["GG", "PG"]}
        await caller.submit(addresses(1), "PG")
        answer = await caller.post({"locations": addresses(1), "sources": ["PG", "PH"]})
        assert (answer.status, answer.message) == (
            403,
            "You do not have access to the source PH",
        )
        params = [("sources", "PH"), ("address", "x")]
        assert (await caller.get("/api/v1/enhance", params=params)).status == 403


async def test_datasources_describe_what_they_answer() -> None:
    """Every known source has a configuration whose output fields are those of its answers."""
    async with calling(SandboxServer(no_match_share=0)) as caller:
        configs = (await caller.get("/api/v1/datasources")).json["configs"]
        assert list(configs) == [code for code, _ in SOURCES]
        params = [("sources", code) for code in configs]
        answer = await caller.get("/api/v1/enhance", params=[*params, ("address", "1 A St")])
        for code, fields in answer.json["location_data"].items():
            config = configs[code]
            assert config["source_code"] == code
            assert set(fields) == {*config["base_output_fields"], *config["output_fields"]}
        assert configs["GGR"]["required_attrs"] == ["latitude", "longitude"]
        assert configs["PG"]["required_attrs"] == ["address"]


async def test_one_datasource_by_its_code() -> None:
    """The case of the code does not matter; an unknown one is 404."""
    async with calling(SandboxServer()) as caller:
        upper, lower = [
            (await caller.get(f"/api/v1/datasources/{code}")).json for code in ("PH", "ph")
        ]
        assert upper == lower
        assert upper["config"]["source_name"] == "Ping Hazard"
        assert (await caller.get("/api/v1/datasources/nope")).status == 404
