"""Strict checks: every refusal, with its message."""

import gzip
import json
from typing import Any

import pytest

from pingdata_async.sandbox import SandboxServer
from pingdata_async.sandbox.validation import LOOKUP_FIELDS
from tests.sandbox.caller import ADDRESS, calling

GOOD = {"id": "a", "address": ADDRESS}


def submission(**changes: Any) -> dict[str, Any]:
    return {"locations": [GOOD], "sources": ["PG"], **changes}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The body is not valid JSON: Input data was truncated"),
        (b"{'id': 1}", "The body is not valid JSON: "),
        (b'{"sources": ["\xff"]}', "The body is not valid JSON: "),
        (b"[" * 100_000, "The body is not valid JSON: "),
        ([], "The body must be an object, not a list"),
        ({"sources": ["PG"]}, "locations is missing"),
        (submission(locations=None), "locations is missing"),
        (submission(locations=[]), "locations is empty"),
        (submission(locations={"a": 1}), "locations must be a list, not an object"),
        (submission(colour=1, Timeout=2), "unknown fields: Timeout, colour"),
        (submission(sources="PG"), "sources must be a list, not a string"),
        (submission(sources=[1]), "sources must be a list of strings, not with an integer in it"),
        (submission(sources=["PG", "pg"]), "unknown source: 'pg'"),
        (submission(timeout="60"), "timeout must be a number, not a string"),
        (submission(timeout=True), "timeout must be a number, not a boolean"),
        (submission(timeout=0), "timeout must be a positive number of seconds, not 0"),
        (submission(timeout=-1.5), "timeout must be a positive number of seconds, not -1.5"),
        (submission(check_cache="yes"), "check_cache must be a boolean, not a string"),
        (submission(include_raw_response=1), "include_raw_response must be a boolean, not an"),
        (submission(callback_url=5), "callback_url must be a string, not an integer"),
        (submission(delegate_to=[]), "delegate_to must be a string, not a list"),
    ],
)
async def test_requests_that_are_refused(data: object, message: str) -> None:
    """A bad body is 400 and says what is wrong with it."""
    async with calling(SandboxServer()) as caller:
        answer = await caller.post(data)
        assert answer.status == 400
        assert answer.message.startswith(message)
        assert caller.sandbox.stats.jobs_accepted == 0


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("text", ": a location must be an object, not a string"),
        (None, ": a location must be an object, not null"),
        ({"address": ADDRESS}, ": id is missing"),
        ({"id": None, "address": ADDRESS}, ": id is missing"),
        ({"id": 7, "address": ADDRESS}, ": id must be a string, not an integer"),
        ({**GOOD}, " (id 'a'): the id is repeated: locations[0] has it, too"),
        ({"id": "b", "adress": ADDRESS, "x": 1}, " (id 'b'): unknown fields: adress, x"),
        ({"id": "b"}, " (id 'b'): nothing to look up: no address, no coordinates"),
        ({"id": "b", "address": " ", "city": ""}, " (id 'b'): nothing to look up"),
        ({"id": "b", "country": "US", "address_line_2": "2"}, " (id 'b'): nothing to look up"),
        ({"id": "b", "latitude": 38.9}, " (id 'b'): nothing to look up"),
        ({**GOOD, "id": "b", "sources": ["XX"]}, " (id 'b'): unknown source: 'XX'"),
        ({**GOOD, "id": "b", "sources": "PG"}, " (id 'b'): sources must be a list, not a"),
        ({**GOOD, "id": "b", "postal_code": 1234}, " (id 'b'): postal_code must be a string, not"),
        ({**GOOD, "id": "b", "latitude": "1"}, " (id 'b'): latitude must be a number, not a str"),
        ({**GOOD, "id": "b", "const__num_stories": "2"}, " (id 'b'): const__num_stories must be"),
        ({**GOOD, "id": "b", "const__num_stories": 2.0}, " (id 'b'): const__num_stories must be"),
        ({**GOOD, "id": "b", "const__bldg_area": True}, " (id 'b'): const__bldg_area must be an"),
        ({**GOOD, "id": "b", "datasource_config": []}, " (id 'b'): datasource_config must be an"),
    ],
)
async def test_locations_that_are_refused(location: object, message: str) -> None:
    """A bad location is named by its index and id, in the text and as members."""
    async with calling(SandboxServer()) as caller:
        answer = await caller.post(submission(locations=[GOOD, location]))
        assert answer.status == 400
        assert answer.message.startswith("locations[1]" + message)
        assert answer.json["location_index"] == 1
        named = location.get("id") if isinstance(location, dict) else None
        assert answer.json["location_id"] == named
        assert caller.sandbox.stats.locations_accepted == 0


async def test_sources_must_be_given_somewhere() -> None:
    """Default sources, or those of each location: one of the two."""
    async with calling(SandboxServer()) as caller:
        for request in ({"locations": [GOOD]}, submission(sources=None), submission(sources=[])):
            answer = await caller.post(request)
            assert answer.status == 400
            assert "(id 'a'): no sources, neither" in answer.message
        answer = await caller.post({"locations": [{**GOOD, "sources": ["PG"]}]})
        assert answer.status == 201


async def test_everything_that_the_contract_names_is_accepted() -> None:
    """All fields at once, each of its type, and all of them null."""
    samples: dict[type, object] = {str: "x", int: 3, float: 1.5, bool: True}
    full = {name: samples[types[0]] for name, types in LOOKUP_FIELDS.items()}
    nulls = dict.fromkeys(LOOKUP_FIELDS)
    options = {
        "timeout": 60.0,
        "callback_url": "https://example.com/done",
        "include_raw_response": True,
        "check_cache": False,
        "delegate_to": "AMWNS",
    }
    locations = [
        {**full, "id": "full", "sources": ["GG", "GG"], "datasource_config": {"PH": {}}},
        {**nulls, "id": "nulls", "latitude": 38, "longitude": -77.5, "sources": None},
    ]
    async with calling(SandboxServer()) as caller:
        assert (await caller.post(submission(locations=locations, **options))).status == 201
        none = dict.fromkeys(options)
        assert (await caller.post(submission(locations=locations, **none))).status == 201


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (b"not gzip", "gzip", 400, "The body is not valid gzip: "),
        (
            gzip.compress(b"{}" * 1000, mtime=0)[:-12],
            "gzip",
            400,
            "The body is not valid gzip: it ends",
        ),
        (b"{}", "br", 415, "Content-Encoding br is not supported"),
        (gzip.compress(b" " * 200_000, mtime=0), "gzip", 413, "The unpacked body is too large"),
        (b" " * 200_000, "identity", 413, ""),
    ],
)
async def test_bodies_that_cannot_be_unpacked(
    body: bytes, encoding: str, status: int, message: str
) -> None:
    """Broken gzip is 400, another coding 415, too many bytes 413."""
    async with calling(SandboxServer(max_body_bytes=100_000)) as caller:
        answer = await caller.post(body, headers={"Content-Encoding": encoding})
        assert answer.status == status
        assert answer.message.startswith(message)


async def test_gzip_is_accepted() -> None:
    """A compressed request is a request."""
    body = gzip.compress(json.dumps(submission()).encode())
    async with calling(SandboxServer()) as caller:
        answer = await caller.post(body, headers={"Content-Encoding": "gzip"})
        assert answer.status == 201


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([("address", ADDRESS)], "no sources"),
        ([("sources", "PG")], "nothing to look up"),
        ([("sources", "ZZ"), ("address", ADDRESS)], "unknown source: 'ZZ'"),
        ([("sources", "PG"), ("address", "a"), ("address", "b")], "address is given more than"),
        ([("sources", "PG"), ("addres", "a")], "unknown parameter: addres"),
        ([("sources", "PG"), ("latitude", "x")], "latitude must be a number, not 'x'"),
        ([("sources", "PG"), ("latitude", "nan")], "latitude must be a finite number, not 'nan'"),
        ([("sources", "PG"), ("const__num_stories", "2.5")], "const__num_stories must be an int"),
        ([("sources", "PG"), ("datasource_config", "[]")], "datasource_config must be a JSON obj"),
        ([("sources", "PG"), ("id", "mine")], "unknown parameter: id"),
        ([("sources", "PG"), ("timeout", "0")], "timeout must be a positive number"),
        ([("sources", "PG"), ("check_cache", "maybe")], "check_cache must be a boolean, not 'm"),
    ],
)
async def test_queries_that_are_refused(query: list[tuple[str, str]], message: str) -> None:
    """A bad query of the single enhance is 400 and says why."""
    async with calling(SandboxServer()) as caller:
        answer = await caller.get("/api/v1/enhance", params=query)
        assert answer.status == 400
        assert answer.message.startswith(message)
