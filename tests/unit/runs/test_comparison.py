"""What differs between two answers to the same location."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pingdata_async.runs.comparison import AnswerComparison, FieldChoice

NO_MATCH = {"is_success": False, "status_code": 404, "error_message": "No match"}


def compared(old: Any, new: Any, *patterns: str, tolerance: float = 0.0) -> list[tuple[Any, ...]]:
    """The changes in source PH as (field, kind, old, new)."""
    comparison = AnswerComparison(FieldChoice(patterns), tolerance)
    found = comparison.compare(_body(old), _body(new))
    return [(each.field, each.kind.value, each.old, each.new) for each in found]


def _body(fields: Any) -> bytes:
    if isinstance(fields, bytes):
        return b'{"PH":{"is_success":true,"a":%b}}' % fields
    return json.dumps({"PH": {"is_success": True} | fields}).encode()


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"zone": "X"}, {"zone": "AE"}, [("zone", "changed", "X", "AE")]),
        ({"zone": None}, {"zone": "AE"}, [("zone", "appeared", None, "AE")]),
        ({"zone": "X"}, {}, [("zone", "disappeared", "X", None)]),
        ({"a": 1, "b": 2.50}, {"b": 2.5, "a": 1.0}, []),
        ({"a": "1"}, {"a": 1}, [("a", "changed", "1", 1)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, [("a.b.c", "changed", 1, 2)]),
        ({"a": {}}, {}, []),
        ({"a": {"b": 1}}, {"a": 5}, [("a", "appeared", None, 5), ("a.b", "disappeared", 1, None)]),
        ({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]}, []),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", "changed", [1, 2], [2, 1])]),
        ({"fetch_time": 1, "is_cache_hit": True, "worker_name": "a"}, {"fetch_time": 2}, []),
        ({"a": 10**30}, {"a": 10**30 + 1}, [("a", "changed", 10**30, 10**30 + 1)]),
        (b"1e400", b"1e401", [("a", "changed", "1e400", "1e401")]),
        (b'{"b":1e400,"c":1}', b'{"b":1e400,"c":2}', [("a.c", "changed", 1, 2)]),
        (b'"\\ud800"', b"1", []),  # no text, so no answer
    ],
)
def test_what_counts_as_a_change(old: Any, new: Any, changes: list[Any]) -> None:
    """Values by path; null is nothing, 1 is 1.0, and what says nothing of a place is left out."""
    assert compared(old, new) == changes


def test_a_match_that_came_or_went() -> None:
    """Its fields say so; where there is no match in either, only what was said can differ."""
    found = {"zone": "X"}
    assert compared(NO_MATCH, found, "zone") == [("zone", "matched", None, "X")]
    assert ("is_success", "unmatched", True, False) in compared(found, NO_MATCH)
    assert compared(NO_MATCH, NO_MATCH) == []


def test_a_source_without_an_answer_is_not_compared() -> None:
    """It was not asked, failed in passing, or has no outcome: what it says is not its answer."""
    ok, late = _body({"zone": "X"}), _body({"is_success": False, "status_code": 504})
    comparison = AnswerComparison(FieldChoice(()), 0.0)
    for old, new in ((ok, late), (late, ok), (ok, b""), (b"{}", ok), (b"", b""), (late, late)):
        assert not list(comparison.compare(old, new))
    assert comparison.not_compared == {"PH": {"old": 2, "new": 2}}
    assert not comparison.changes


@pytest.mark.parametrize(
    ("old", "new", "tolerance", "is_same"),
    [
        (0.3, 0.4, 0.1, True),  # by a little more than that, as doubles are
        (0.3, 0.41, 0.1, False),
        ([1, {"a": 2.0}], [1.4, {"a": 1.6}], 0.5, True),
        ([1], [1, 2], 9, False),
        (True, False, 1, False),
        (None, 0.1, 1, False),
        (10**400, 1.5, 1, False),
    ],
)
def test_a_tolerance_is_for_numbers(old: Any, new: Any, tolerance: float, *, is_same: bool) -> None:
    """Also inside of lists; not for what is no number, nor for a value that came or went."""
    changes = compared({"a": old}, {"a": new}, tolerance=tolerance)
    assert (not changes) == is_same


@pytest.mark.parametrize(
    ("patterns", "fields"),
    [
        (["FLOOD"], ["flood.zone", "flood.depth"]),
        (["flood.z*"], ["flood.zone"]),
        (["ph.*"], ["flood.zone", "flood.depth", "elevation", "fetch_time"]),
        (["ph_flood_zone", "elev*"], ["flood.zone", "elevation"]),
        (["fetch_time"], ["fetch_time"]),
        (["zone"], []),
    ],
)
def test_fields_are_chosen_by_patterns(patterns: list[str], fields: list[str]) -> None:
    """By path, by an object around them, with the source, or as the column of a table."""
    old = {"flood": {"zone": "X", "depth": 1}, "elevation": 1, "fetch_time": 1}
    new = {"flood": {"zone": "A", "depth": 2}, "elevation": 2, "fetch_time": 2}
    assert [field for field, *_ in compared(old, new, *patterns)] == fields


def test_a_pattern_that_matches_nothing_is_known() -> None:
    """Also where the fields that it could mean did not change."""
    choice = FieldChoice(["Flod*", "zone"])
    comparison = AnswerComparison(choice, 0.0)
    assert not list(comparison.compare(_body({"zone": "X"}), _body({"zone": "X"})))
    assert list(choice.unmatched) == ["flod*"]


def test_lists_in_lists_without_end() -> None:
    """What can be read can be compared."""
    deep, other = (b"[" * 900 + each + b"]" * 900 for each in (b"1", b"2"))
    assert not compared(deep, deep)
    assert len(compared(deep, other)) == 1
    assert len(compared(deep, other, tolerance=0.5)) == 1
