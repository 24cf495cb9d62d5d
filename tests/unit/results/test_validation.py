"""From an output to the outcome of each row."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import DecodeError
from pingdata_async.locations.chunk import Chunk, InvalidRow
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results.outcomes import tally
from pingdata_async.results.validation import (
    Failure,
    fail_chunk,
    merge_bodies,
    split_body,
    validate_output,
)
from pingdata_async.util.encoding import EncodedBody
from tests.support.chunks import body_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CODES = st.sampled_from(["PG", "PH", "pg", "LB"])
BODIES = st.dictionaries(
    st.integers(0, 9).map(str), st.dictionaries(CODES, JSON, max_size=3) | JSON, max_size=8
)


def chunk_of(rows: list[int], **fields: Any) -> Chunk:
    return Chunk(0, rows, [None] * len(rows), body_of(rows), **fields)


def check(chunk: Chunk, body: bytes, *sources: str) -> list[EnhancedLocation]:
    """The outcomes where nothing is asked about again."""
    return validate_output(chunk, [EncodedBody(body)], sources or ("PG",), 0).results


def judge(data: object, *sources: str) -> EnhancedLocation:
    (result,) = check(chunk_of([0]), msgspec.json.encode({"0": data}), *sources)
    return result


@given(BODIES, st.sampled_from([-1, 0, 2]), st.sets(st.integers(0, 9), min_size=1))
def test_every_row_sent_comes_out_once_whatever_the_answer(
    body: dict[str, Any], indent: int, rows: set[int]
) -> None:
    """Each row has a status of its own, data as they came, and no answer of another row."""
    encoded = msgspec.json.format(msgspec.json.encode(body), indent=indent)
    try:
        results = check(chunk_of(sorted(rows)), encoded)
    except DecodeError:
        assert body
        assert not set(body) & set(map(str, rows))
        return
    assert [result.row for result in results] == sorted(rows)
    for result in results:
        assert (result.status is RowStatus.OK) == (result.reason is None) == (result.error is None)
        data = msgspec.json.decode(result.data)
        assert data in (body.get(str(result.row), {}), {})
        if result.status is RowStatus.OK:
            assert any(
                value.get("is_success") is True for code, value in data.items() if code != "LB"
            )


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), st.integers())
def test_a_broken_body_is_a_decode_error_and_nothing_else(garbage: bytes, seed: int) -> None:
    """Whatever a proxy or a cut connection makes of a body."""
    good = b'{"0": {"PG": {"is_success": true, "x": [1.5, "a\\n", null]}}, "1": {"PG": null}}'
    rng = random.Random(seed)
    at, to = sorted(rng.randrange(len(good)) for _ in range(2))
    for body in (garbage, good[:at], good[:at] + garbage + good[to:]):
        try:
            results = check(chunk_of([0, 1]), body)
        except DecodeError:
            continue
        for result in results:
            msgspec.json.decode(result.data)


@given(st.lists(st.dictionaries(CODES, st.dictionaries(CODES, JSON)), min_size=1, max_size=4))
def test_outputs_are_joined_without_losing_a_source(parts: list[dict[str, Any]]) -> None:
    """The union of locations and of each one's sources; of equal ones the last."""
    expected: dict[str, Any] = {}
    for part in parts:
        for wire_id, data in part.items():
            expected.setdefault(wire_id, {}).update(data)
    merged = merge_bodies([msgspec.json.encode(part) for part in parts])
    assert msgspec.json.decode(merged) == expected


def test_a_location_that_one_output_has_as_null_keeps_what_another_says() -> None:
    """A null is no answer, not a broken one; also the other way round."""
    bodies = [b'{"0":null,"1":null}', b'{"0":{"PG":{"is_success":true}}}']
    for order in (bodies, bodies[::-1]):
        results = check(chunk_of([0, 1]), merge_bodies(order))
        assert [result.status for result in results] == [RowStatus.OK, RowStatus.FAILED]


@pytest.mark.parametrize("bodies", [[b"{}", b"<html>"], [b'{"0":1}', b"{}"], [b"", b"{}"]])
def test_outputs_that_cannot_be_joined_are_a_decode_error(bodies: list[bytes]) -> None:
    """One of them is not an output."""
    with pytest.raises(DecodeError):
        merge_bodies(bodies)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"0":', b'{"0":"\xff"}', b"<html>", b"[" * 100_000]
)
def test_what_is_no_output_is_refused(body: bytes) -> None:
    """Empty, cut, not UTF-8, not an object, or nested without end."""
    with pytest.raises(DecodeError):
        split_body(body)


# -- judging -----------------------------------------------------------------------------


@pytest.mark.parametrize("said", [False, None, "true", "True", 1, "", {}, []], ids=repr)
def test_only_true_is_success(said: object) -> None:
    """Anything but a plain true is a failure, however it looks."""
    result = judge({"PG": {"is_success": said}})
    assert (result.status, result.reason) == (RowStatus.FAILED, Reason.NO_MATCH)


@pytest.mark.parametrize("indent", [-1, 0, 4])
def test_true_is_success_in_any_spacing(indent: int) -> None:
    """Compact, spaced or pretty-printed."""
    body = msgspec.json.format(b'{"0":{"PG":{"is_success":true}}}', indent=indent)
    assert check(chunk_of([0]), body)[0].status is RowStatus.OK


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, Reason.MISSING),
        (None, Reason.MISSING),
        ("gone", Reason.MISSING),
        ({"PG": None}, Reason.MISSING),
        ({"PG": 7}, Reason.MISSING),
        ({"PG": {}}, Reason.NO_MATCH),
        ({"PG": {"is_success": False}}, Reason.NO_MATCH),
        ({"PG": {"is_success": False, "error_message": "Timed out"}}, Reason.TIME_OUT),
        ({"PG": {"is_success": False, "error_message": "read timeout=10"}}, Reason.TIME_OUT),
        ({"PG": {"is_success": False, "status_code": 408}}, Reason.TIME_OUT),
        ({"PG": {"is_success": False, "status_code": 504}}, Reason.TIME_OUT),
        ({"PG": {"is_success": False, "status_code": 500}}, Reason.SOURCE_ERROR),
        ({"PG": {"is_success": False, "status_code": 429}}, Reason.SOURCE_ERROR),
        ({"PG": {"is_success": False, "status_code": "500"}}, Reason.NO_MATCH),
        ({"PG": {"is_success": False, "status_code": [504]}}, Reason.NO_MATCH),
        ({"PG": {"is_success": False, "error_message": {"a": 1}}}, Reason.NO_MATCH),
        ({"LB": {"is_success": True}}, Reason.MISSING),
    ],
    ids=str,
)
def test_why_a_row_failed(data: object, reason: Reason) -> None:
    """Each failure says which kind it is."""
    result = judge(data)
    assert (result.status, result.reason) == (RowStatus.FAILED, reason)
    assert str(result.error).startswith("PG: ")


def test_a_source_in_another_case_is_that_source() -> None:
    """Codes are compared as the API does: without regard to case."""
    assert judge({"PG": {"is_success": True}}, "pg").status is RowStatus.OK
    assert judge({"pg": {"is_success": True}}, "PG").status is RowStatus.OK
    assert judge({"pg": {"is_success": False}}, "PG").reason is Reason.NO_MATCH


def test_some_sources_make_a_row_partial() -> None:
    """The gravest reason is named, and the sentence names each source that failed."""
    good, bad = {"is_success": True}, {"is_success": False, "error_message": "nothing there"}
    result = judge({"PG": good, "PH": bad}, "PG", "PH", "LB")
    assert (result.status, result.reason) == (RowStatus.PARTIAL, Reason.MISSING)
    assert result.error == "PH: nothing there; LB: missing from the answer"
    assert judge({"PG": good, "PH": 3}, "PG", "PH").status is RowStatus.PARTIAL
    assert judge({"PG": good, "PH": good, "LB": bad}, "PG", "PH").status is RowStatus.OK


def test_a_locations_own_sources_are_what_counts_for_it() -> None:
    """A row that asked for PH alone is ok without PG, and the other way round."""
    body = b'{"0":{"PH":{"is_success":true}},"1":{"PH":{"is_success":true}}}'
    results = check(chunk_of([0, 1], sources={0: ("PH",)}), body)
    assert [result.status for result in results] == [RowStatus.OK, RowStatus.FAILED]


def test_results_come_in_the_order_of_rows_with_ids_put_back() -> None:
    """Invalid rows among the others; the user's id, or the row number as text."""
    chunk = Chunk(0, [2, 0], ["b", None], body_of([2, 0]), {}, [InvalidRow(1, "x", "no")])
    body = b'{"2":{"PG":{"is_success":true}},"0":{"PG":{"is_success":true}}}'
    for results in (
        check(chunk, body),
        fail_chunk(chunk, Failure(Reason.REJECTED, "400")),
    ):
        assert [(result.row, result.id) for result in results] == [(0, "0"), (1, "x"), (2, "b")]
        assert results[1].reason is Reason.INVALID_INPUT


def test_a_tally_adds_up() -> None:
    """All rows = ok + partial + failed; no match is an answer, missing is none."""
    body = b'{"0":{"PG":{"is_success":true}},"1":{"PG":{"is_success":false}}}'
    counts = tally(check(chunk_of([0, 1, 2]), body))
    assert (counts.rows, counts.ok, counts.partial, counts.failed) == (3, 1, 0, 2)
    assert counts.no_answer == 1
    assert counts.reasons == {"no_match": 1, "missing": 1}


@pytest.mark.parametrize("more", [{}, {"pad": {"x": "y" * 100_000}}], ids=["usual", "odd"])
def test_results_do_not_share_the_body(more: dict[str, Any]) -> None:
    """One result that is kept must not keep a whole output alive."""
    body = msgspec.json.encode({"0": {"PG": {"is_success": True, "x": "y" * 100_000}}} | more)
    (result,) = check(chunk_of([0]), body)
    assert bytes(result.data) == b'{"PG":{"is_success":true,"x":"%b"}}' % (b"y" * 100_000)
    kept = memoryview(result.data).obj
    assert memoryview(kept).nbytes == memoryview(result.data).nbytes


def test_an_answer_that_comes_twice_differently_is_not_believed() -> None:
    """Neither in the result nor in the body that is kept; one that is merely repeated is."""
    one, other = b'{"PG":{"is_success":true,"x":1}}', b'{"PG":{"is_success":true,"x":2}}'
    body = b'{"0":%b,"1":%b,"1":%b,"2":%b,"2":%b}' % (one, one, other, one, one)
    checked = validate_output(chunk_of([0, 1, 2]), [EncodedBody(body)], ("PG",), 0)
    assert [result.reason for result in checked.results] == [None, Reason.MISSING, None]
    assert set(split_body(checked.body.content())) == {"0", "2"}


@pytest.mark.parametrize("spacing", [(b":", b","), (b": ", b", "), (b":", b", "), (b": ", b",")])
@pytest.mark.parametrize("extra", range(8))
def test_a_doubled_id_is_seen_whatever_its_length(spacing: tuple[bytes, bytes], extra: int) -> None:
    """The lengths of what was found cannot add up by accident."""
    colon, comma = spacing
    members = [b'"%d"%b{"PG":{"is_success":true}}' % (row, colon) for row in range(4)]
    for place in range(5):
        doubled = b'"0"%b{%b}' % (colon, b" " * extra)
        body = b"{" + comma.join([*members[:place], doubled, *members[place:]]) + b"}"
        checked = validate_output(chunk_of(list(range(4))), [EncodedBody(body)], ("PG",), 0)
        assert checked.results[0].reason is Reason.MISSING
        assert all(result.status is RowStatus.OK for result in checked.results[1:])


def test_a_doubled_answer_that_is_deep_is_a_decode_error() -> None:
    """Comparing two of them goes deeper than reading one."""
    for depth in (300, 600, 900, 5_000):
        deep = b'{"PG":{"is_success":true,"x":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}"
        with contextlib.suppress(DecodeError):
            validate_output(
                chunk_of([0]), [EncodedBody(b'{"0":' + deep + b',"0":' + deep + b"}")], ("PG",), 0
            )


def test_no_line_break_of_the_api_is_kept() -> None:
    """A carriage return between two members would break a line of JSONL for some readers."""
    body = b'{"0":{"PG":\r{"is_success":true,\r\n"x":1}}}'
    checked = validate_output(chunk_of([0]), [EncodedBody(body)], ("PG",), 0)
    assert not set(checked.body.content()) & {*b"\r\n"}
