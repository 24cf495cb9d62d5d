"""Which locations are the same."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import (
    FOLDED_FIELDS,
    fold,
    fold_column,
    normalize,
    normalize_batch,
)

TEXTS = st.text(
    st.sampled_from("aAbBsSß\u0130\u0131\u017f`  \t\n\x0b\x1c\x85\xa0\u2003\u200b\u3000éÉ09|\"'\\"),
    max_size=6,
)
FIELDS = ("address", "address_line_1", "city", "county", "state", "postal_code", "bldg_name")
LOCATIONS = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "2"])},
    optional=dict.fromkeys(FIELDS, TEXTS)
    | {"latitude": st.sampled_from(["1", "1.0", "2", ""]), "longitude": st.just("3")},
)

# What is nearly all of an input: addresses in ASCII, codes in capitals, now and then in others.
USUAL = st.fixed_dictionaries(
    {"id": st.just("1"), "address": st.sampled_from(["1 Main St", "1 MAIN ST", "2 Oak  Ave"])},
    optional={
        "city": st.sampled_from(["Salem", "SALEM", ""]),
        "state": st.sampled_from(["MA", "MA", "MA", "ma"]),
        "postal_code": st.sampled_from(["01970", "K1A 0B1"]),
        "longitude": st.sampled_from(["3", "1e-7"]),
    },
)


def key_of(location: dict[str, Any]) -> bytes:
    """The key of a location by itself."""
    batch = normalize_batch([location], with_keys=True)
    assert not batch.refused
    return batch.keys[0]


def plain(location: dict[str, Any]) -> dict[str, Any]:
    """The definition: what is sent, the text of an address folded."""
    return {
        name: re.sub(r"\s+", " ", value.casefold()) if name in FOLDED_FIELDS else value
        for name, value in normalize(location).fields.items()
    }


@given(st.lists(st.none() | TEXTS.map(str.strip).filter(bool), min_size=1, max_size=8))
def test_a_column_is_folded_as_its_texts_are(column: list[str | None]) -> None:
    """Whatever is in them: also what stands between them, and every kind of white space."""
    folded = [None if text is None else fold(text) for text in column]
    assert list(fold_column(column)) == folded


@given(LOCATIONS | USUAL, LOCATIONS | USUAL)
def test_keys_are_equal_where_what_is_sent_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    """By a plain definition; whatever the ids are, and in whatever order the fields come."""
    try:
        is_same = plain(one) == plain(other)
    except InputError:
        return
    assert (key_of(one) == key_of(other)) is is_same
    backwards = dict(reversed(other.items()))
    assert key_of(backwards) == key_of(other)


@given(st.lists(LOCATIONS, min_size=1, max_size=6) | st.lists(USUAL, min_size=1, max_size=4))
def test_a_batch_has_the_keys_of_its_rows(locations: list[dict[str, Any]]) -> None:
    """Many at once or one by one: it is all the same, also where the rows have other fields."""
    batch = normalize_batch(locations, with_keys=True)
    assert len(batch.keys) == len(locations)
    for place, location in enumerate(locations):
        if place not in batch.refused:
            assert batch.keys[place] == key_of(location)


def test_what_is_folded_and_what_is_not() -> None:
    """Case and white space of addresses; nothing of codes, ids, numbers and settings."""
    base: dict[str, Any] = {
        "address": "1 Main St",
        "city": "Salem",
        "state": "MA",
        "latitude": 1.0,
        "longitude": 2.0,
    }
    same: list[dict[str, Any]] = [
        {"address": " 1  MAIN\tst "},
        {"city": "salem\xa0"},
        {"latitude": "1"},
        {"id": "mine"},
    ]
    others: list[dict[str, Any]] = [
        {"address": "1 Main St."},
        {"address": "1MainSt"},
        {"state": "ma"},
        {"latitude": 1.1},
        {"lightbox_parcel_id": "a"},
        {"sources": ["PH"]},
        {"sources": ["ph"]},
        {"datasource_config": {"PH": {"x": 1}}},
        {"datasource_config": {"PH": {"x": 2}}},
        {"city": None},
    ]
    key = key_of(base)
    assert [key_of(base | change) == key for change in same] == [True] * len(same)
    keys = {key_of(base | change) for change in others}
    assert len(keys) == len(others)
    assert key not in keys
    settings = {"PH": {"x": 1, "y": [2]}}
    turned = {"PH": {"y": [2], "x": 1}}
    assert key_of(base | {"datasource_config": settings}) == (
        key_of(base | {"datasource_config": turned})
    )


def test_settings_that_cannot_be_sorted_are_no_error() -> None:
    """Keys that are no texts, as a program may give them, and numbers that no float holds."""
    odd: list[dict[Any, Any]] = [{1: "x", "b": 2}, {"x": msgspec.Raw(b"1e999")}, {"x": {2.5: 1}}]
    keys = {key_of({"address": "1", "datasource_config": settings}) for settings in odd}
    assert len(keys) == len(odd)
