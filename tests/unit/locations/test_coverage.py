"""What a source surely cannot answer: every reading of what the API may say, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.api.account import decode_datasources
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.coverage import Coverage
from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.words import country_of, us_state_of
from tests.support.sweeps import examples

PLACE = {"address_line_1": "1 Main St", "city": "Springfield"}


def rules_of(**config: Any) -> Coverage:
    """Of a source XX, as the API would tell of it."""
    body = msgspec.json.encode({"configs": {"XX": {"source_code": "XX", **config}}})
    return Coverage(decode_datasources(body, "here"))


def why(rules: Coverage, **fields: Any) -> str | None:
    return rules.exclusions(PLACE | fields, ["XX"]).get("XX")


@pytest.mark.parametrize(
    "supported", [["US"], ["USA"], ["United States"], "US", ["CA", "us"], ["PR"]]
)
@pytest.mark.parametrize(
    "country", ["US", "usa", "U.S.A.", "United States of America", "PR", "", "Narnia"]
)
def test_a_country_that_may_be_right_is_asked(supported: Any, country: str) -> None:
    """The United States however written, their territories, none, and what nobody knows."""
    assert why(rules_of(supported_countries=supported), country=country or None) is None


@pytest.mark.parametrize("country", ["DE", "deu", "Germany", "Mexico", "UK"])
def test_another_country_is_not(country: str) -> None:
    """Said in a sentence, with what the source has."""
    said = why(rules_of(supported_countries=["US", "CA"]), country=country)
    assert said == f"XX: only in US, CA, not in {country}"


@pytest.mark.parametrize(
    "supported", [None, [], ["US", "EMEA"], ["everywhere"], {"US": True}, 7, [1]]
)
def test_countries_that_are_not_sure_are_not_judged(supported: Any) -> None:
    """None, null, a region that is no country, another type than documented."""
    assert why(rules_of(supported_countries=supported), country="DE") is None


def test_a_state_in_the_country_column_is_no_country() -> None:
    """CA beside a state of the US is California; beside none of these, or spelt out, Canada."""
    rules = rules_of(supported_countries=["US"])
    assert why(rules, country="CA", state="CA") is None
    assert why(rules, country="CA", state="ON") is not None
    assert why(rules, country="Canada", state="CA") is not None
    assert why(rules, country="CA") is not None


@pytest.mark.parametrize(
    ("fields", "is_sure"),
    [
        ({"state": "AK", "country": "US"}, True),
        ({"state": "alaska", "country": "USA"}, True),
        ({"state": "AK"}, True),
        ({"state": "AK", "postal_code": "99501-1234"}, True),
        ({"state": "AK", "latitude": 61.2, "longitude": -149.9}, True),
        ({"state": "AK", "country": "NZ"}, False),
        ({"state": "AK", "country": "Narnia"}, False),
        ({"state": "AK", "postal_code": "1010"}, False),
        ({"state": "AK", "latitude": -36.8, "longitude": 174.7}, False),
        ({"state": "AK", "address": "1 Queen St, Auckland, New Zealand"}, False),
        ({"state": "AK", "address": "1 Main St", "country": "US"}, True),
        ({"state": "Auckland"}, False),
        ({"state": "TX"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize(
    "config",
    [{"excluded_us_states": ["AK", "HI"]}, {"supported_us_states": ["Texas", "OK"]},
     {"excluded_us_states": "Alaska", "supported_us_states": []}],
)  # fmt: skip
def test_states_of_the_united_states(
    config: dict[str, Any], fields: dict[str, Any], is_sure: bool
) -> None:
    """Only where the location is in the US: by its country, or with nothing that says otherwise."""
    assert (why(rules_of(**config), **fields) == "XX: not in AK") == is_sure
    assert why(rules_of(**config), **fields) is None or is_sure


def test_attributes_that_the_api_may_find_itself_are_given() -> None:
    """Places are found from each other; those of the building are not."""
    places = ["address", "latitude", "longitude", "postal_code", "lightbox_parcel_id", "county"]
    assert why(rules_of(required_attrs=[*places, "somebody's own", "sources"])) is None
    rules = rules_of(required_attrs=["address", "const__bldg_area", "const__num_stories"])
    assert why(rules, const__num_stories=2) == "XX: needs const__bldg_area"
    assert why(rules, const__num_stories=2, const__bldg_area=1) is None


@pytest.mark.parametrize(
    ("values", "refused", "asked"),
    [
        ({"state": ["AK", "HI"]}, {"state": "Hawaii"}, {"state": "TX"}),
        (
            {"occupancy__code_air": 301},
            {"occupancy__code_air": "301"},
            {"occupancy__code_air": "3"},
        ),
        ({"const__num_stories": [0]}, {"const__num_stories": 0}, {"const__num_stories": 1}),
        ([{"country": "Cuba"}], {"country": "CUBA "}, {"country": "US"}),
        ([{"state": "PR", "city": "Ponce"}], {"state": "PR", "city": "ponce"}, {"state": "PR"}),
    ],
)
def test_values_that_are_not_taken(values: Any, refused: Any, asked: Any) -> None:
    """By field, one or several; of a list, each entry by itself, and all of its fields."""
    rules = rules_of(non_supported_input_values=values)
    assert str(why(rules, **refused)).startswith("XX: does not take ")
    assert why(rules, **asked) is None


SAY_NOT_OF_WHAT: list[Any] = [
    *(None, [], {}, ["AK", "PO Box"], "AK", 5),
    *({"nobody's": ["AK"]}, {"state": {"in": ["AK"]}}, {"state": []}, [["state", "AK"]]),
]


@pytest.mark.parametrize("values", SAY_NOT_OF_WHAT)
def test_values_that_do_not_say_of_what_are_not_judged(values: Any) -> None:
    assert why(rules_of(non_supported_input_values=values), state="AK") is None


def test_what_the_api_does_not_tell_of_is_asked() -> None:
    """A source without a configuration; codes in any case of letters."""
    rules = rules_of(supported_countries=["US"])
    found = rules.exclusions({**PLACE, "country": "DE"}, ["YY", "xx"])
    assert list(found) == ["xx"]
    assert rules.candidates({"country": ["DE"]}, 1, ["YY"]) == []


def test_names_of_places() -> None:
    """Whatever the case and the dots; nothing is guessed."""
    assert [country_of(text) for text in ("u.s.", "Great  Britain", "fra", "XX", "")] == [
        "US", "GB", "FR", None, None,
    ]  # fmt: skip
    assert [us_state_of(text) for text in ("tx", "New  York", "d.c.", "ON")] == [
        "TX", "NY", "DC", None,
    ]  # fmt: skip


CELLS = {
    "address": st.sampled_from(["1 Main St", "", None, "2 Oak Ave, Toronto"]),
    "country": st.sampled_from(["US", "CA", "Canada", "", None, " de ", "Narnia"]),
    "state": st.sampled_from(["TX", "AK", "alaska", "", None, "ON"]),
    "postal_code": st.sampled_from(["77001", "M5V 2T6", "", None]),
    "const__bldg_area": st.sampled_from(["1,000", "", None, "x", 7]),
}
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "supported_countries": st.sampled_from([["US"], ["US", "MX"], None]),
        "excluded_us_states": st.sampled_from([["AK"], []]),
        "supported_us_states": st.just(["TX"]),
        "required_attrs": st.sampled_from([["address"], ["const__bldg_area"]]),
        "non_supported_input_values": st.just({"postal_code": ["77001"]}),
    },
)


@given(
    rows=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=12),
    config=CONFIGS,
    as_columns=st.booleans(),
)
@examples(150)
def test_many_at_once_as_one_by_one(
    rows: list[dict[str, Any]], config: dict[str, Any], as_columns: bool
) -> None:
    """The same chunks, column by column and row by row."""

    def built(locations: Any, *, at_once: bool) -> tuple[list[Chunk], ChunkBuilder]:
        builder = ChunkBuilder(chunk_size=5, sources=("PG", "XX"))
        builder.coverage = rules_of(**config)
        made: list[Chunk | None] = []
        if at_once:
            made += builder.add_batch(0, locations)
        else:
            for row, location in enumerate(locations):
                made += builder.add_batch(row, [location])
        made.append(builder.rest())
        return [chunk for chunk in made if chunk is not None], builder

    locations: Any = rows
    if as_columns:
        locations = Columns(
            tuple(CELLS), [[row[n] for row in rows] for n in CELLS], are_texts=False
        )
    together, by_columns = built(locations, at_once=True)
    alone, by_rows = built(list(rows), at_once=False)
    assert [_without_given(chunk) for chunk in together] == [_without_given(c) for c in alone]
    assert by_columns.skipped == by_rows.skipped
    told = sum(len(why) for chunk in alone for why in chunk.skipped.values())
    assert by_rows.skipped.total() == told
    for chunk in alone:
        for place in chunk.skipped:
            assert chunk.sources[place] == ("PG",)


def _without_given(chunk: Chunk) -> tuple[Any, ...]:
    """What was given may say "nothing" in another way."""
    invalid = [(each.row, each.id, each.error, each.reason) for each in chunk.invalid]
    locations = [msgspec.json.decode(each) for each in chunk.locations]
    return (chunk.rows, locations, chunk.sources, chunk.skipped, invalid)


def test_rows_are_the_same_by_what_they_want() -> None:
    """One left with a source is not one that asks it alone: it is partial, the other is ok."""
    builder = ChunkBuilder(sources=("PG", "XX"))
    builder.coverage = rules_of(supported_countries=["US"])
    told: dict[int, bytes] = {}

    def sink(rows: Sequence[int], keys: Sequence[bytes]) -> None:
        told.update(zip(rows, keys, strict=True))

    builder.tell_keys(sink)
    abroad = PLACE | {"country": "Canada"}
    alone = abroad | {"sources": "PG"}
    builder.add_batch(0, [abroad, PLACE | {"country": "US"}, abroad])
    builder.add_batch(3, [alone, abroad | {"city": "SPRINGFIELD"}])
    builder.add_batch(5, [alone])
    chunk = builder.rest()
    assert chunk is not None
    sent = [msgspec.json.decode(each) for each in chunk.locations]
    assert sent[0] | {"id": ""} == sent[3] | {"id": ""}
    same = [[row for row in told if told[row] == key] for key in dict.fromkeys(told.values())]
    assert same == [[0, 2, 4], [1], [3, 5]]
