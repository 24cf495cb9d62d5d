"""Where a row is, by its answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.models import EnhancedLocation, RowStatus
from pingdata_async.tables.writers.base import Point
from pingdata_async.tables.writers.json import points


def point(
    answers: Any, geocode_sources: tuple[str, ...] = (), sources: tuple[str, ...] = ("PG", "GG")
) -> Point | None:
    raw = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
    result = EnhancedLocation("0", 0, RowStatus.OK, data=msgspec.Raw(raw))
    (found,) = points([result], geocode_sources, sources)
    return found


def at(latitude: Any, longitude: Any, **others: Any) -> dict[str, Any]:
    return {"latitude": latitude, "longitude": longitude, **others}


ONE, OTHER = at(40.5, -74), at(1.5, 2.5)
LOW = json.dumps(OTHER).encode()


@pytest.mark.parametrize(
    ("answers", "geocode_sources", "expected"),
    [
        ({"PG": ONE, "GG": OTHER}, (), (-74, 40.5)),
        ({"GG": OTHER, "PG": ONE}, (), (-74, 40.5)),
        ({"GG": OTHER, "PG": ONE}, ("GG", "PG"), (2.5, 1.5)),
        ({"GG": OTHER, "PG": ONE}, ("gg",), (2.5, 1.5)),
        ({"PG": ONE, "GG": OTHER | {"location_type": "ROOFTOP"}}, (), (2.5, 1.5)),
        ({"PG": ONE | {"precision": 9}, "GG": OTHER | {"precision": "x"}}, (), (-74, 40.5)),
        ({"PG": ONE, "GG": OTHER | {"precision": 1}}, ("PG",), (-74, 40.5)),
        ({"PG": ONE}, ("GG",), None),
        ({"PG": at(None, None), "GG": OTHER}, (), (2.5, 1.5)),
        ({"PG": ONE | {"is_success": False}, "GG": OTHER}, (), (2.5, 1.5)),
        ({"PG": ONE | {"is_success": None}}, (), (-74, 40.5)),
        ({"XX": OTHER}, (), (2.5, 1.5)),
        ({"PG": None, "GG": OTHER}, (), (2.5, 1.5)),
        ({"PG": "down", "GG": OTHER}, (), (2.5, 1.5)),
        ({"PG": at("40.5", " -74 ")}, (), (-74, 40.5)),
        ({"PG": at("north", 1)}, (), None),
        ({"PG": at(True, True)}, (), None),
        ({"PG": at([1], {})}, (), None),
        ({"PG": at("nan", "inf")}, (), None),
        ({"PG": at(10**400, 1)}, (), None),
        ({"PG": at(90.1, 0)}, (), None),
        ({"PG": at(0, -180.1)}, (), None),
        ({"PG": at(-90, 180)}, (), (180, -90)),
        ({"PG": at(0, 0)}, (), None),
        ({"PG": at(0, 9)}, (), (9, 0)),
        ({"PG": {}}, (), None),
        ({}, (), None),
        ([1], (), None),
        (
            b'{"PG": {"latitude": 1e999, "longitude": 1}, "GG": {"latitude": 1, "longitude": 2}}',
            (),
            (2, 1),
        ),
        (b"", (), None),
    ],
)
def test_points(answers: Any, geocode_sources: tuple[str, ...], expected: Point | None) -> None:
    """Of the first source that has coordinates that can be, as longitude and latitude."""
    assert point(answers, geocode_sources) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["PG", "latitude", "longitude", "is_success"]), inner)
    ),
)


@given(VALUES)
def test_odd_answers(answers: Any) -> None:
    """None of them is an error, and what is found is on the globe."""
    found = point(answers)
    assert found is None or (abs(found[0]) <= 180 and abs(found[1]) <= 90)
