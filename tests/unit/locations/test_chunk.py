"""Rows that are asked about again, and parts of what is split: nothing is lost or mixed up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import DecodeError
from pingdata_async.locations.chunk import (
    MAX_CHUNK_BYTES,
    SEPARATOR,
    Chunk,
    InvalidRow,
    RetryBatcher,
    RetryRow,
    RowHistory,
    batch_rows,
    encode_body,
    equal_parts,
    retry_row,
    skipped_sources,
    split,
)
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results.validation import Failure, fail_chunk, validate_output
from pingdata_async.util.encoding import EncodedBody
from tests.support.chunks import numbered

SOURCES = ("PG", "PH")
OWN = ("LB", "PH")
ROWS = list(range(6))

GOOD = {"is_success": True}
#: What a source says: nothing, null, it works, it has no match, it is in trouble.
ANSWERS = st.sampled_from(
    [
        None,
        "null",
        GOOD,
        {"is_success": False},
        {"is_success": False, "status_code": 504},
        {"is_success": False, "status_code": 429},
    ]
)
#: Of one round of asking, by row; a row that is None is left out.
ROUND = st.tuples(
    *[st.none() | st.fixed_dictionaries(dict.fromkeys(("PG", "PH", "LB"), ANSWERS)) for _ in ROWS]
)


def planned() -> Chunk:
    """Six rows, of which one has sources of its own and one is not sent."""
    own = msgspec.json.encode({"address": "x", "sources": OWN})
    return Chunk(
        0,
        ROWS.copy(),
        [None, "a", "b", None, "c", "d"],
        SEPARATOR.join(numbered(row, own if row == 2 else b'{"address":"x"}') for row in ROWS),
        {2: OWN},
        [InvalidRow(6, "z", "no")],
    )


def test_why_a_source_is_not_asked_goes_along() -> None:
    """Into halves, halves of halves, and rows that are asked about again, each with its own."""
    chunk = msgspec.structs.replace(planned(), skipped={1: ("PH: only in US",), 4: ("LB: no",)})
    half_pair = split(chunk, [1, 2], [3, 3], was_charged=True)
    quarters = split(half_pair[1], [3, 4], [1, 2], was_charged=True)
    asked_again = batch_rows(5, [retry_row(chunk, place, ("PG",), b"{}") for place in (4, 1)])
    for made in (*half_pair, *quarters, asked_again):
        for place, row in enumerate(made.rows):
            assert skipped_sources(made, place) == chunk.skipped.get(row, ())


def _said(answer: object) -> object:
    return None if answer == "null" else answer


def _body(chunk: Chunk, said: tuple[dict[str, Any] | None, ...]) -> bytes:
    """The output of a chunk's job: of each row, what is said of the sources asked for."""
    output = {}
    for place, row in enumerate(chunk.rows):
        answers = said[row]
        if answers is not None:
            asked = chunk.sources.get(place, SOURCES)
            output[str(row)] = {
                code: _said(answers[code]) for code in asked if answers[code] is not None
            }
    return msgspec.json.encode(output)


@given(st.lists(ROUND, min_size=4, max_size=4), st.integers(0, 3), st.booleans())
def test_whatever_is_answered_when_each_row_ends_once_and_right(
    rounds: list[Any], attempts: int, in_parts: bool
) -> None:
    """Round after round only what failed for a while is asked, and all that was said is kept."""
    open_chunks = [planned()]
    done: dict[int, EnhancedLocation] = {}
    best: dict[int, dict[str, Any]] = {row: {} for row in ROWS}
    asked_for: dict[int, tuple[str, ...]] = dict.fromkeys(ROWS, SOURCES)
    asked_for[2] = OWN
    wanted = dict(asked_for)
    for number, said in enumerate(rounds):
        retry_rows: list[RetryRow] = []
        for chunk in open_chunks:
            for place, row in enumerate(chunk.rows):
                assert chunk.sources.get(place, SOURCES) == asked_for[row]
                for code in asked_for[row]:
                    answer = said[row] and said[row][code]
                    if answer is not None:
                        best[row][code] = _said(answer)
            sent = msgspec.json.decode(encode_body(chunk, b'{"sources":["PG","PH"]}'))
            assert [int(each["id"]) for each in sent["locations"]] == chunk.rows
            for each in sent["locations"]:
                assert tuple(each.get("sources", SOURCES)) == asked_for[int(each["id"])]
            checked = validate_output(chunk, [EncodedBody(_body(chunk, said))], SOURCES, attempts)
            for result in checked.results:
                assert result.row not in done
                done[result.row] = result
            retry_rows += checked.retry_rows
        if number == attempts:
            assert not retry_rows
        for each in retry_rows:
            asked_for[each.row] = each.asked
            assert each.earlier.planned_chunk == 0
            assert each.earlier.times_asked == number + 1
            assert each.earlier.was_charged
        open_chunks = [batch_rows(100 + number, retry_rows)] if retry_rows else []
        if in_parts and len(retry_rows) > 1:
            sizes = equal_parts(len(retry_rows), 2)
            open_chunks = split(open_chunks[0], [201, 202], sizes, was_charged=False)
    assert sorted(done) == [*ROWS, 6]
    assert done[6].reason is Reason.INVALID_INPUT
    for row in ROWS:
        result = done[row]
        expected = {code: answer for code, answer in best[row].items() if answer is not None}
        known = msgspec.json.decode(result.data)
        assert {code: answer for code, answer in known.items() if answer is not None} == expected
        good = [expected.get(code) == GOOD for code in wanted[row]]
        status = RowStatus.OK if all(good) else RowStatus.PARTIAL if any(good) else RowStatus.FAILED
        assert result.status is status


@given(st.integers(1, 30), st.data())
def test_parts_are_the_whole(rows: int, data: st.DataObject) -> None:
    """In however many parts: each row once, with its own fields; the rest with the first."""
    parts = data.draw(st.integers(1, rows))
    own: dict[int, tuple[str, ...]] = dict.fromkeys(
        data.draw(st.sets(st.integers(0, rows - 1))), ("PH",)
    )
    chunk = Chunk(
        3,
        [7 * n for n in range(rows)],
        [f"id{n}" for n in range(rows)],
        SEPARATOR.join(b'{"id":"%d","address":"%d"}' % (7 * n, n) for n in range(rows)),
        own,
        [InvalidRow(1, None, "no")],
    )
    sizes = equal_parts(rows, parts)
    assert max(sizes) - min(sizes) <= 1
    chunks = split(chunk, range(50, 50 + parts), sizes, was_charged=True)
    assert [each.index for each in chunks] == list(range(50, 50 + parts))
    for what in ("rows", "ids", "locations", "invalid"):
        assert [x for each in chunks for x in getattr(each, what)] == getattr(chunk, what)
    begin = 0
    for each in chunks:
        assert each.sources == {
            place: codes
            for place in range(len(each.rows))
            if (codes := own.get(begin + place)) is not None
        }
        begin += len(each.rows)
        histories = {(e.planned_chunk, e.was_charged, e.times_asked) for e in each.earlier}
        assert histories == {(3, True, 0)}


def _again(known: dict[str, Any], asked: tuple[str, ...] = ("PH",)) -> Chunk:
    data = msgspec.json.encode(known)
    location = msgspec.json.encode({"address": "x", "sources": asked})
    earlier = [RowHistory(0, times_asked=1, data=data, was_charged=True)]
    return Chunk(9, [4], [None], numbered(4, location), {0: asked}, [], earlier)


@pytest.mark.parametrize("spoilt", [{"PG": {"is_success": False}}, {"PG": None}, {"pg": None}])
def test_what_was_not_asked_for_again_spoils_nothing(spoilt: dict[str, Any]) -> None:
    """A good answer stays, whatever a later job says of that source without being asked."""
    body = msgspec.json.encode({"4": {"PH": GOOD, **spoilt}})
    (result,) = validate_output(_again({"PG": GOOD}), [EncodedBody(body)], SOURCES, 3).results
    assert result.status is RowStatus.OK


@pytest.mark.parametrize("said", ["PH", "ph"])
def test_an_answer_in_another_case_takes_the_place_of_the_failure(said: str) -> None:
    """There is one answer of each source in the end."""
    again = _again({"PG": GOOD, "pH": {"is_success": False, "status_code": 504}})
    (result,) = validate_output(
        again, [EncodedBody(msgspec.json.encode({"4": {said: GOOD}}))], SOURCES, 3
    ).results
    assert result.status is RowStatus.OK
    assert set(msgspec.json.decode(result.data)) == {"PG", said}


@pytest.mark.parametrize("body", [b'{"4":7}', b'{"4":null}', b'{"4":[]}', b"{}", b'{"4":{}}'])
def test_no_answer_keeps_what_was_known(body: bytes) -> None:
    """The row is partial, and still waits for its other source."""
    checked = validate_output(_again({"PG": GOOD}), [EncodedBody(body)], SOURCES, 3)
    (left,) = checked.retry_rows
    assert left.asked == ("PH",)
    assert msgspec.json.decode(left.earlier.data) == {"PG": GOOD}
    (result,) = validate_output(_again({"PG": GOOD}), [EncodedBody(body)], SOURCES, 1).results
    assert result.status is RowStatus.PARTIAL


def test_a_row_with_answers_does_not_fail_with_its_chunk() -> None:
    """What was paid for before a later job failed is what the row ends with."""
    (result,) = fail_chunk(_again({"PG": GOOD}), Failure(Reason.JOB_FAILED, "no"), SOURCES)
    assert (result.status, result.reason) == (RowStatus.PARTIAL, Reason.MISSING)
    (result,) = fail_chunk(_again({}), Failure(Reason.JOB_FAILED, "no"), SOURCES)
    assert (result.status, result.reason) == (RowStatus.FAILED, Reason.JOB_FAILED)


def test_an_output_of_strangers_is_refused() -> None:
    """None of the rows sent, but others: it is not this job's."""
    with pytest.raises(DecodeError, match="none of those that were sent"):
        validate_output(
            _again({"PG": GOOD}), [EncodedBody(b'{"5":{"PH":{"is_success":true}}}')], SOURCES, 3
        )


def test_a_batch_is_due_when_full_or_late_and_keeps_to_the_size_of_a_body() -> None:
    """Rows up to a chunk; bytes up to a body; time up to half a minute after the first."""

    def left(row: int, size: int = 20) -> RetryRow:
        return RetryRow(row, None, b"x" * size, ("PG",), RowHistory(0))

    batcher = RetryBatcher(3)
    assert not batcher.is_due(1e9)
    batcher.add([left(0)], 100.0)
    batcher.add([left(1)], 129.0)
    assert not batcher.is_due(129.9)
    assert batcher.is_due(130.0)
    for each in range(1, 100):  # at the very time, however a number like that is rounded
        at = each / 7
        late = RetryBatcher(3)
        late.add([left(0)], at)
        assert late.is_due(at + RetryBatcher.MAX_BATCH_WAIT_S)
    batcher.add([left(2), left(3)], 129.0)
    assert batcher.is_due(129.0)
    assert [each.row for each in batcher.take()] == [0, 1, 2]
    assert [each.row for each in batcher.take()] == [3]
    half = MAX_CHUNK_BYTES // 2
    batcher.add([left(0, half), left(1, half), left(2, 10), left(3, 3 * half)], 0.0)
    assert [[each.row for each in batcher.take()] for _ in range(3)] == [[0, 1], [2], [3]]
    assert not batcher.take()
