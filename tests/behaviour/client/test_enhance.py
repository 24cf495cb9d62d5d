"""The synchronous endpoint: one location there, one typed answer back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from pingdata_async import DecodeError, InputError, Location, Reason, RowStatus, TransportError
from pingdata_async.sandbox import SandboxServer
from tests.support.servers import TOKEN, LocalApi, always, client_of, never

FOUND = {"is_success": True, "latitude": 38.9}


def answer_of(data: Any) -> dict[str, Any]:
    return {"id": "x", "location_data": data}


async def query_of(*args: Any, **options: Any) -> list[tuple[str, str]]:
    async with LocalApi(always(answer_of({"PG": FOUND}))) as api, client_of(api.url) as client:
        await client.enhance(*args, **options)
    (seen,) = api.seen
    assert (seen.method, seen.path, seen.body) == ("GET", "/api/v1/enhance", b"")
    assert seen.authorization == f"Token {TOKEN}"
    return parse_qsl(seen.target.partition("?")[2], keep_blank_values=True, strict_parsing=True)


async def test_query_of_an_address() -> None:
    """A plain address, its sources repeated; what was not given is left out."""
    address = "1 A&B St #5 + 50% caf\u00e9; x=y/?"
    assert await query_of(address, sources=["PG", "PH"]) == [
        ("address", address),
        ("sources", "PG"),
        ("sources", "PH"),
        ("include_raw_response", "false"),
    ]


async def test_query_of_every_kind_of_field() -> None:
    """Numbers, booleans and objects are written as JSON writes them; the id is not sent."""
    query = await query_of(
        {
            "id": "mine",
            "latitude": "38.5",
            "longitude": -77,
            "const__bldg_area": "1,234",
            "dtc_return_connected_coastlines": "yes",
            "datasource_config": {"PH": {"x": [1]}},
            "sources": "LB, GG",
        },
        sources=["PG"],
        source_timeout_s=2.5,
        include_raw_response=True,
        check_cache=False,
        delegate_to="acme",
    )
    assert sorted(query) == sorted(
        [
            ("latitude", "38.5"),
            ("longitude", "-77.0"),
            ("const__bldg_area", "1234"),
            ("dtc_return_connected_coastlines", "true"),
            ("datasource_config", '{"PH":{"x":[1]}}'),
            ("sources", "LB"),
            ("sources", "GG"),
            ("include_raw_response", "true"),
            ("timeout", "2.5"),
            ("check_cache", "false"),
            ("delegate_to", "acme"),
        ]
    )


@pytest.mark.parametrize("given", [{"zip": "02134"}, {"State": "MA"}, {"adress": "1 Main St"}])
async def test_a_name_that_is_no_field_is_refused(given: dict[str, Any]) -> None:
    """Given one by one or as a mapping: what it holds would not be sent, and the rest charged."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        for call in (
            client.enhance(city="Boston", sources=["PG"], **given),
            client.enhance({"city": "Boston", **given}, sources=["PG"]),
        ):
            with pytest.raises(InputError, match="is no field of a location; did you mean "):
                await call
    assert not api.seen


@pytest.mark.parametrize("form", [dict, lambda fields: Location(**fields)])
async def test_leading_zeros_come_back(form: Any) -> None:
    """As for locations of a file."""
    location = form({"postal_code": 2134, "state": "MA"})
    query = await query_of(location, sources=["PG"])
    assert ("postal_code", "02134") in query


@pytest.mark.parametrize("sources", ["PG,PH", ["PG", "PH", "PG"], ("PG", " PH ")])
async def test_sources_in_any_form(sources: Any) -> None:
    """A text is not taken apart into letters; repeated codes are sent once."""
    query = await query_of(address="1 Main St", sources=sources)
    assert [value for name, value in query if name == "sources"] == ["PG", "PH"]


async def test_sources_of_a_submission_in_any_form() -> None:
    """Nor is it where a job is submitted: each letter would be charged."""
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        await client.submit([{"id": "0"}], sources="PG,PH")
    assert json.loads(api.seen[0].body)["sources"] == ["PG", "PH"]


async def test_against_the_sandbox() -> None:
    """The whole way, with typed attributes and item access."""
    async with SandboxServer(token=TOKEN) as sandbox, client_of(sandbox.url) as client:
        result = await client.enhance(
            Location(id="mine", address="1600 Pennsylvania Ave NW, Washington, DC 20500"),
            sources=["PG", "PH"],
        )
    assert (result.id, result.row) == ("mine", 0)
    assert result.status in set(RowStatus)
    assert set(result.location_data) == {"PG", "PH"}
    geocoded = result["PG"]
    assert geocoded.worker_name == "sandbox"
    assert geocoded.is_success is geocoded["is_success"]
    if geocoded.is_success:
        assert isinstance(geocoded.latitude, float)
        assert geocoded.latitude == geocoded["latitude"]


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        ({"PG": FOUND, "PH": FOUND}, RowStatus.OK, None),
        ({"pg": FOUND, "ph": FOUND}, RowStatus.OK, None),
        ({"PG": FOUND}, RowStatus.PARTIAL, Reason.MISSING),
        ({"PG": FOUND, "PH": None}, RowStatus.PARTIAL, Reason.MISSING),
        ({"PG": FOUND, "PH": {"is_success": False}}, RowStatus.PARTIAL, Reason.NO_MATCH),
        ({"PG": FOUND, "PH": {"is_success": "true"}}, RowStatus.PARTIAL, Reason.NO_MATCH),
        ({"PG": FOUND, "PH": {"status_code": 504}}, RowStatus.PARTIAL, Reason.TIME_OUT),
        ({"PG": FOUND, "PH": {"status_code": 503}}, RowStatus.PARTIAL, Reason.SOURCE_ERROR),
        ({"PG": FOUND, "PH": "oops"}, RowStatus.PARTIAL, Reason.MISSING),
        ({"PG": {}, "PH": {}}, RowStatus.FAILED, Reason.NO_MATCH),
        ({}, RowStatus.FAILED, Reason.MISSING),
        (None, RowStatus.FAILED, Reason.MISSING),
        ([1], RowStatus.FAILED, Reason.MISSING),
        ("oops", RowStatus.FAILED, Reason.MISSING),
    ],
)
async def test_what_an_answer_means(data: Any, status: RowStatus, reason: Reason | None) -> None:
    """Ok only when every source asked for is there and says true."""
    async with LocalApi(always(answer_of(data))) as api, client_of(api.url) as client:
        result = await client.enhance("1 Main St", sources=["PG", "PH"])
    assert (result.status, result.reason) == (status, reason)
    assert (result.error is None) == (status is RowStatus.OK)
    assert result.id == "0"


@pytest.mark.parametrize("payload", [{}, {"id": "x"}, [], None, "x", 1])
async def test_no_location_data(payload: object) -> None:
    """An answer without location data is refused."""
    async with LocalApi(always(payload)) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError):
            await client.enhance("1 Main St", sources=["PG"])


@pytest.mark.parametrize(
    "location",
    [
        None,
        {},
        "",
        "  ",
        {"latitude": 1},
        {"state": "TX"},
        5,
        {"address": "\ud800"},
        {"address": "1 Main St", "datasource_config": {"x": object()}},
    ],
)
async def test_what_cannot_be_looked_up(location: Any) -> None:
    """What holds nothing to look up, or cannot be sent, is refused and costs nothing."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        with pytest.raises(InputError):
            await client.enhance(location, sources=["PG"])
    assert api.seen == []


async def test_location_and_fields_at_once() -> None:
    """Two locations in one call are a mistake."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        with pytest.raises(InputError, match="not both"):
            await client.enhance("1 Main St", sources=["PG"], city="Austin")
    assert api.seen == []


@pytest.mark.parametrize("location", [{"id": "0", "address": "\ud800"}, {"id": object()}])
async def test_submission_that_cannot_be_sent(location: dict[str, Any]) -> None:
    """Locations that JSON cannot hold are refused before a job is made."""
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        with pytest.raises(InputError, match="JSON"):
            await client.submit([location], sources=["PG"])
    assert api.seen == []


async def test_source_timeout_makes_the_http_timeout_longer() -> None:
    """The API may take the time it was given; after that and the usual time-out it is over."""
    async with LocalApi(never) as api, client_of(api.url, read_timeout_s=0.1) as client:
        with pytest.raises(TransportError, match="no answer in time") as caught:
            await client.enhance("1 Main St", sources=["PG"], source_timeout_s=0.1)
    assert caught.value.maybe_sent is True
