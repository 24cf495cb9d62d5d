"""The answers: a pure function of location and source, plausible, fast enough."""

import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from pingdata_async.sandbox import SandboxServer
from pingdata_async.sandbox.answers import (
    GEOCODERS,
    NO_MATCH,
    SOURCES,
    Options,
    answer_location,
    read_place,
)
from tests.sandbox.caller import ADDRESS, Clock, addresses, calling

BASE = {
    "is_success",
    "error_message",
    "confidence",
    "status_code",
    "fetch_time",
    "is_cache_hit",
    "raw_response",
    "persist_for",
    "worker_name",
}


def ask(location: dict[str, Any], source: str = "PG", no_match_share: float = 0.0) -> Any:
    return answer_location(location, (source,), Options(), no_match_share)[source]


async def test_the_same_address_gets_the_same_answer_everywhere(clock: Clock) -> None:
    """Ids, order, seed, chunk and endpoint do not matter."""
    bodies = []
    for seed, locations in ((1, addresses(30)), (2, addresses(30)[::-1])):
        async with calling(SandboxServer(clock=clock, seed=seed)) as caller:
            renamed = [{**place, "id": f"{seed}-{place['id']}"} for place in locations]
            job_id = await caller.submit(renamed, "PG", "PH", "DTC")
            clock.advance(100)
            url = (await caller.status(job_id))["result"]["outputs"][0]["url"]
            output = (await caller.get(url)).json
            bodies.append({key.partition("-")[2]: value for key, value in output.items()})
            single = await caller.get(
                "/api/v1/enhance",
                params=[("address", locations[0]["address"]), ("sources", "PH")],
            )
            assert single.json["location_data"]["PH"] == output[renamed[0]["id"]]["PH"]
    assert bodies[0] == bodies[1]
    assert len({json.dumps(answer) for answer in bodies[0].values()}) == 30


def test_answers_do_not_depend_on_the_process() -> None:
    """Another process with another hash seed agrees."""
    code = (
        "import json; from pingdata_async.sandbox.answers import *;"
        f"location = {{'address': {ADDRESS!r}}};"
        "print(json.dumps(answer_location(location, ('PG', 'PH'), Options(), 0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout) == answer_location(
        {"address": ADDRESS}, ("PG", "PH"), Options(), 0.0
    )


@pytest.mark.parametrize("code", [code for code, _ in SOURCES])
def test_every_source_has_the_base_fields(code: str) -> None:
    """Base fields, coordinates and an address that comes from the request, from every source."""
    answer = ask({"address": ADDRESS}, code)
    assert answer.keys() > BASE
    assert answer["is_success"] is True
    assert answer["worker_name"] == "sandbox"
    assert 0 <= answer["confidence"] <= 100
    assert answer["formatted_address"] == f"{ADDRESS}, USA"
    assert 38 < answer["latitude"] < 39
    failed = ask({"address": ADDRESS}, code, no_match_share=1.0)
    assert failed.keys() == answer.keys()
    assert failed["is_success"] is False
    assert failed["error_message"] == NO_MATCH
    assert {failed[name] for name in failed.keys() - BASE} == {None}


def test_sizes_are_those_of_the_real_ones() -> None:
    """About 0.5-1 KB for a geocoder, 2-4 KB and some nesting for a hazard source."""
    assert 500 < len(json.dumps(ask({"address": ADDRESS}))) < 1000
    hazard = ask({"address": ADDRESS}, "PH")
    assert 2000 < len(json.dumps(hazard)) < 4000
    assert len(hazard) >= 40
    assert any(isinstance(value, dict) for value in hazard.values())


def test_some_addresses_are_found_nowhere_and_some_only_by_geocoders() -> None:
    """no_match_share of the addresses fail, a part more at the sources that are no geocoders."""
    locations = [{"address": place["address"]} for place in addresses(5000)]
    found: dict[tuple[bool, bool], int] = {}
    for location in locations:
        answers = answer_location(location, ("PG", "PH"), Options(), 0.1)
        key = answers["PG"]["is_success"], answers["PH"]["is_success"]
        found[key] = found.get(key, 0) + 1
    assert found[False, False] == pytest.approx(500, rel=0.2)
    assert found[True, False] == pytest.approx(225, rel=0.3)
    assert (False, True) not in found


def test_no_share_means_no_failure() -> None:
    """With a share of 0 every address is found."""
    for location in addresses(2000):
        answers = answer_location({"address": location["address"]}, ("PG", "PH"), Options(), 0.0)
        assert all(answer["is_success"] for answer in answers.values())


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            {"address": "1 Main St, Springfield, IL 62701"},
            ("1 Main St", None, "Springfield", "IL", "62701"),
        ),
        (
            {"address": "1 Main St, Apt 4, Springfield, IL 62701-1234, USA"},
            ("1 Main St", "Apt 4", "Springfield", "IL", "62701-1234"),
        ),
        (
            {"address": "1 Main St, New Haven, Connecticut, 06510"},
            ("1 Main St", None, "New Haven", "CT", "06510"),
        ),
        ({"address": "1 Main St, Austin TX"}, ("1 Main St", None, "Austin", "TX", None)),
        ({"address": "1 Main St, Austin"}, ("1 Main St", None, "Austin", None, None)),
        ({"address": "1 Main St"}, ("1 Main St", None, None, None, None)),
        ({"address": "Springfield, IL"}, ("Springfield", None, None, "IL", None)),
        ({"address": ",,,"}, (None, None, None, None, None)),
        (
            {"address_line_1": "1 Main St", "city": "Austin", "state": "texas"},
            ("1 Main St", None, "Austin", "TX", None),
        ),
        (
            {"city": "Toronto", "state": "Ontario", "country": "CA"},
            (None, None, "Toronto", "Ontario", None),
        ),
        ({"latitude": 1, "longitude": 2}, (None, None, None, None, None)),
    ],
)
def test_addresses_are_read(location: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    """Street, unit, city, state and ZIP of the usual ways to write an address."""
    assert read_place(location, bytes(16))[:5] == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ({"address": "1 Main St, Austin, TX, USA"}, "1 Main St, Austin, TX, USA"),
        (
            {
                "address_line_1": "1 Main St",
                "address_line_2": "#4",
                "city": "Austin",
                "state": "TX",
                "postal_code": "78701",
            },
            "1 Main St, #4, Austin, TX 78701, USA",
        ),
        ({"bldg_name": "City Hall"}, "City Hall, USA"),
        ({"latitude": 38.5, "longitude": -77.25}, "38.5, -77.25, USA"),
        ({"city": "Toronto", "country": "ca"}, "Toronto, CA"),
    ],
)
def test_the_formatted_address_is_the_one_given(location: dict[str, Any], expected: str) -> None:
    """A test can see from the answer which address it belongs to."""
    for source in ("PG", "PH"):
        assert ask(location, source)["formatted_address"] == expected


def test_coordinates_given_are_kept_and_others_lie_in_the_state() -> None:
    """Latitude and longitude are used as they are; without them the state's box is."""
    given = ask({"address": ADDRESS, "latitude": 12.5, "longitude": 7})
    assert (given["latitude"], given["longitude"]) == (12.5, 7)
    spots = set()
    for number in range(50):
        found = ask({"address": f"{number} A St, Boise, ID 83702"})
        assert 42 <= found["latitude"] <= 49
        assert -117 <= found["longitude"] <= -111
        spots.add((found["latitude"], found["longitude"]))
    assert len(spots) == 50


def test_sources_agree_on_the_place() -> None:
    """All geocoders give the same address the same coordinates."""
    answers = answer_location({"address": ADDRESS}, tuple(GEOCODERS), Options(), 0.0)
    assert len({(answer["latitude"], answer["longitude"]) for answer in answers.values()}) == 1


def test_what_was_known_of_the_building_is_kept() -> None:
    """A hazard source repeats the year, storeys and area it was given."""
    known = {
        "const__bldg_year_built": 1931,
        "const__num_stories": 102,
        "const__bldg_area": 2_768_591,
    }
    answer = ask({"address": ADDRESS, **known}, "PH")
    names = ("bldg_year_built", "bldg_num_stories", "bldg_area")
    assert [answer[name] for name in names] == list(known.values())


def test_absurd_numbers_still_make_json() -> None:
    """The largest integers that a request can hold do not break the output."""
    numbers = dict.fromkeys(("const__num_stories", "const__bldg_area"), 2**63 - 1)
    assert msgspec.json.encode(ask({"address": ADDRESS, **numbers}, "PH"))
