"""Lines of output, and where a row is by its answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.tables.writers.base import Point
from pingdata_async.tables.writers.json import (
    RowNote,
    encode_lines,
    frame_lines,
    insert_lines,
    points,
)


def test_a_line_is_what_the_design_says() -> None:
    """An ok row has neither reason nor error; the API's object is in it letter for letter."""
    data = msgspec.Raw(b'{"PG": {"is_success" : true, "x": 1.50}}')
    results = [
        EnhancedLocation("a", 0, RowStatus.OK, None, None, data),
        EnhancedLocation("b", 1, RowStatus.FAILED, Reason.INVALID_INPUT, "nothing to look up"),
    ]
    assert encode_lines(results) == (
        b'{"id":"a","row":0,"status":"ok",'
        b'"location_data":{"PG": {"is_success" : true, "x": 1.50}}}\n'
        b'{"id":"b","row":1,"status":"failed","location_data":{},'
        b'"reason":"invalid_input","error":"nothing to look up"}\n'
    )


ODD_IDS = ["us-1", '"', "\\", "\x7f", "\u00a0", "\u2028", "日本", "}\n"]
ids = st.text(max_size=5) | st.sampled_from(ODD_IDS)
notes = st.builds(
    RowNote,
    st.sampled_from([RowStatus.PARTIAL, RowStatus.FAILED]),
    st.sampled_from(Reason),
    st.text(max_size=9) | st.just('"ok","location_data":'),
)
rows_of = st.lists(st.tuples(ids, st.none() | notes), min_size=1, max_size=6)


@given(rows_of, st.lists(st.integers(0, 6), max_size=3))
def test_framed_lines_are_the_same_lines(
    rows: list[tuple[str, RowNote | None]], at: list[int]
) -> None:
    """Whatever the ids, and whichever rows are not ok; with lines put in between as well."""
    data = [b'{"PG":{"n":%d}}' % row for row in range(len(rows))]
    results = [
        EnhancedLocation(shown_id, row, RowStatus.OK, None, None, msgspec.Raw(data[row]))
        if note is None
        else EnhancedLocation(
            shown_id, row, note.status, note.reason, note.error, msgspec.Raw(data[row])
        )
        for row, (shown_id, note) in enumerate(rows)
    ]
    pieces = frame_lines(
        [shown_id for shown_id, _ in rows],
        list(range(len(rows))),
        [memoryview(each) for each in data],
        {row: note for row, (_, note) in enumerate(rows) if note is not None},
    )
    assert b"".join(pieces) == encode_lines(results)
    lines = [encode_lines([result]) for result in results]
    for place in sorted((min(place, len(rows)) for place in at), reverse=True):
        insert_lines(pieces, place, b'{"never":"sent"}\n')
        lines.insert(place, b'{"never":"sent"}\n')
    assert b"".join(pieces) == b"".join(lines)


# -- Points ---------------------------------------------------------------------------------------


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
