"""The one pass over an output says what the careful way says, or leaves it to that."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import DecodeError
from pingdata_async.locations.chunk import Chunk, InvalidRow
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results import validation as checking
from pingdata_async.results.offset_index import NotOk, OffsetIndex, index_output
from pingdata_async.results.validation import ValidatedOutput, validate_output
from pingdata_async.runs.journal.records import pack_offset_index, unpack_offset_index
from pingdata_async.util.encoding import EncodedBody
from tests.support.chunks import body_of
from tests.support.sweeps import examples

SOURCES = ("PG", "PH")
COMPACT, SPACED = (",", ":"), (", ", ": ")

texts = st.text(max_size=6) | st.sampled_from(['"', "\\", "},", '},"1":{', "\n", "é", "日本"])
names = st.sampled_from(["0", "1", "PG", "is_success"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts | names, inner, max_size=2),
    max_leaves=4,
)
heads = st.fixed_dictionaries(
    {"is_success": st.sampled_from([True, True, True, False, None, "true", 1])},
    optional={
        "error_message": st.sampled_from([None, "No match found", "timed out", 'say "no"']),
        "status_code": st.sampled_from([None, 200, 404, 504, 500]),
    },
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """What a source says, the flag first, as a rule."""
    answer = draw(heads) | draw(st.dictionaries(texts, values, max_size=2))
    if draw(st.integers(0, 9)) == 0:
        answer = dict(reversed(answer.items()))
    return answer


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Chunk, bytes]:
    """A chunk, and an output that is usual but for one or the other thing."""
    rows = draw(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(sorted))
    ids = draw(st.lists(st.none() | texts, min_size=len(rows), max_size=len(rows)))
    invalid = [InvalidRow(31, "never", "nothing to look up")] if draw(st.booleans()) else []
    chunk = Chunk(0, rows, ids, body_of(rows), {}, invalid)
    order = draw(st.permutations(SOURCES))
    body: dict[str, Any] = {}
    for row in draw(st.permutations(rows)) if draw(st.booleans()) else rows:
        body[str(row)] = {code: draw(answers()) for code in order}
    oddity = draw(st.sampled_from([None] * 6 + ["missing", "foreign", "source", "more", "null"]))
    some = str(draw(st.sampled_from(rows)))
    if oddity == "missing" and len(body) > 1:
        del body[some]
    elif oddity == "foreign":
        body["99"] = body[some]
    elif oddity == "source":
        del body[some]["PG"]
    elif oddity == "more":
        body[some]["LB"] = {"is_success": True}
    elif oddity == "null":
        body[some] = draw(st.sampled_from([None, {"PG": None, "PH": None}, {"PG": 1, "PH": []}]))
    separators = draw(st.sampled_from([COMPACT, SPACED]))
    is_ascii = draw(st.booleans())
    return chunk, json.dumps(body, separators=separators, ensure_ascii=is_ascii).encode()


def said(results: list[EnhancedLocation]) -> list[tuple[object, ...]]:
    return [(r.id, r.row, r.status, r.reason, r.error, bytes(r.data)) for r in results]


def carefully(chunk: Chunk, content: bytes, attempts: int = 0) -> ValidatedOutput:
    """The definition."""
    question = checking._Question(chunk, SOURCES, attempts)
    return checking._validated_slowly(question, [EncodedBody(content)], [content])


@given(outputs(), st.integers(0, 1))
def test_both_ways_say_the_same(output: tuple[Chunk, bytes], attempts: int) -> None:
    """Outcomes, counts, what is asked again, and what is kept: whatever the output is like."""
    chunk, content = output
    try:
        slow = carefully(chunk, content, attempts)
    except DecodeError:
        assert index_output(chunk, content, SOURCES) is None
        return
    for with_results in (True, False):
        quick = validate_output(
            chunk, [EncodedBody(content)], SOURCES, attempts, with_results=with_results
        )
        assert said(quick.results) == said(slow.results)
        assert quick.counts == slow.counts
        assert quick.retry_rows == slow.retry_rows
        assert (quick.missing, quick.oddities) == (slow.missing, slow.oddities)
        assert quick.body.content() == slow.body.content()


def usual(rows: list[int], separators: tuple[str, str] = COMPACT, **fields: Any) -> bytes:
    answer = {"is_success": True, "x": [1.5, {"y": "z"}], **fields}
    body = {str(row): dict.fromkeys(SOURCES, answer) for row in rows}
    return json.dumps(body, separators=separators, ensure_ascii=False).encode()


def chunk_of(rows: list[int]) -> Chunk:
    return Chunk(0, rows, [None] * len(rows), body_of(rows))


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
@pytest.mark.parametrize("sources", [("PG", "PH"), ("PH", "PG")])
@pytest.mark.parametrize("end", [b"", b"\t", b"  ", b"\r\n"])
@pytest.mark.parametrize("name", ["Main St", "Straße", "日本"])
def test_the_usual_output_is_read_in_one_pass(
    separators: tuple[str, str], sources: tuple[str, ...], end: bytes, name: str
) -> None:
    """In both spacings that JSON libraries write, in any order, of any language."""
    for rows in ([7], [7, 8, 9, 10], [10, 7, 9, 8]):
        content = usual(rows, separators, name=name) + end
        offset_index = index_output(chunk_of(sorted(rows)), content, sources)
        assert offset_index is not None
        assert offset_index.not_ok == []
        found = offset_index.results(chunk_of(sorted(rows)), content)
        assert all(msgspec.json.decode(result.data)["PG"]["name"] == name for result in found)


def test_a_source_that_failed_is_no_reason_for_the_careful_way() -> None:
    """A row in a hundred has no match; the others must not cost more for that."""
    content = usual([1, 2, 3]).replace(b"true", b"false", 1)
    offset_index = index_output(chunk_of([1, 2, 3]), content, SOURCES)
    assert offset_index is not None
    assert [(each.place, str(each.reason)) for each in offset_index.not_ok] == [(0, "no_match")]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b'"2":', b'"4":'),  # a row that was not sent
        lambda body: body.replace(b'"2":', b'"1":'),  # the same one twice
        lambda body: body.replace(b'"x"', b'"x" ', 1),
        lambda body: body.replace(b"{", b"{\n", 1),
        lambda body: body.replace(b",", b",\r", 1),
        lambda body: body.replace(b'"z"', b'"\xff"', 1),
        lambda body: body.replace(b'"z"', b'"\xc3"', 1),
        lambda body: body[:-1],
        lambda body: body + b"}",
        lambda body: body + b"x",
        lambda body: b" " + body,
        lambda body: b"[" + body + b"]",
        lambda body: body.replace(b',"PH"', b',"LB":{},"PH"', 1),
        lambda body: body.replace(b'"PG":', b'"PG":{},"PG":', 1),
        lambda body: body.replace(b'},"2":', b'} ,"2":', 1),
        lambda body: body[:-2] + b" }}",
        lambda body: body[:-2] + b"\t}}",
        lambda body: body[:-1] + b" }",
    ],
)
def test_anything_else_is_left_to_the_careful_way(change: Any) -> None:
    """A space somewhere, another id, a broken character: no place can be relied upon then."""
    body = change(usual([1, 2, 3]))
    found = index_output(chunk_of([1, 2, 3]), body, SOURCES)
    assert found is None or said(found.results(chunk_of([1, 2, 3]), body)) == said(
        carefully(chunk_of([1, 2, 3]), body).results
    )


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_failure_belongs_to_its_row_in_any_order(order: list[int], bad: int) -> None:
    """Which row is not ok does not depend on where the output has it."""
    answer, worse = {"is_success": True}, {"is_success": False}
    body = {str(row): {"PG": worse if row == bad else answer, "PH": answer} for row in order}
    content = json.dumps(body, separators=COMPACT).encode()
    offset_index = index_output(chunk_of([0, 1, 2]), content, SOURCES)
    assert offset_index is not None
    assert [each.place for each in offset_index.not_ok] == [bad]


def test_rows_that_are_asked_again_are_not_handed_on_to_be_written() -> None:
    """Their outcome is not known yet."""
    usual_one = usual([1, 2])
    late = usual_one.replace(b"true", b'false,"status_code":504', 1)
    for content, is_final in ((usual_one, True), (late, False)):
        checked = validate_output(
            chunk_of([1, 2]), [EncodedBody(content)], SOURCES, 1, with_results=False
        )
        assert checked.offset_index is not None
        assert bool(checked.retry_rows) != is_final
        assert (checked.content is not None) == is_final


@pytest.mark.parametrize("sources", [('P"G',), ("PG", "PG"), ("",), ("P\\G",)])
def test_codes_that_no_field_can_have_are_read_the_careful_way(sources: tuple[str, ...]) -> None:
    """They are whatever the user gave, and no reason to lose an answer."""
    body = json.dumps({"1": {code: {"is_success": True} for code in sources}}, separators=COMPACT)
    checked = validate_output(chunk_of([1]), [EncodedBody(body.encode())], sources, 0)
    assert len(checked.results) == 1


@given(st.integers(0, 10**9))
def test_blanks_and_members_put_in_anywhere(seed: int) -> None:
    """No row's object ever comes out with a character too few or too many."""
    rng = random.Random(seed)
    rows = list(range(rng.choice([1, 2, 3])))
    nested = {"PG": {"is_success": True}}
    body = {
        str(row): {
            code: rng.choice(
                [{"is_success": True}, {"is_success": False}, {"is_success": True, "0": nested}]
            )
            for code in (SOURCES if rng.random() < 0.8 else SOURCES[::-1])
        }
        for row in rows
    }
    text = json.dumps(body, separators=rng.choice([COMPACT, SPACED]))
    for _ in range(rng.choice([1, 2, 3, 4])):
        if rng.random() < 0.5:
            at = rng.choice([place for place, c in enumerate(text) if c in "{}:,"]) + rng.choice(
                [0, 1]
            )
            text = text[:at] + rng.choice([" ", "  ", "\t"]) + text[at:]
        elif rng.random() < 0.5 and " " in text:
            at = rng.choice([place for place, c in enumerate(text) if c == " "])
            text = text[:at] + text[at + 1 :]
        else:
            at = rng.choice([place for place, c in enumerate(text) if c == "{"]) + 1
            more = ['"PG":{"is_success":true},', '"0":{"PG":{}},', '"LB": {"is_success": true}, ']
            text = text[:at] + rng.choice(more) + text[at:]
    found = index_output(chunk_of(rows), text.encode(), SOURCES)
    if found is not None:
        results = found.results(chunk_of(rows), text.encode())
        assert said(results) == said(carefully(chunk_of(rows), text.encode()).results)


def test_a_chunk_without_rows_is_read_the_careful_way() -> None:
    """It has no first row that could show how an output is spaced."""
    assert index_output(chunk_of([]), b"{}", SOURCES) is None


@pytest.mark.parametrize("blanks", range(3))
def test_spaces_that_make_up_for_each_other_are_seen(blanks: int) -> None:
    """One too many here and one too few there leave the length as it should be."""
    body = usual([1, 2, 3], SPACED)
    places = [b'"PG": ', b'"PH": ', b', "2": ', b', "PH"', b'": {"PG"', b'"is_success": ']
    for fewer in places:
        for more in places:
            spoiled = body.replace(fewer, fewer.replace(b" ", b"", 1), 1)
            spoiled = spoiled.replace(more, more.replace(b" ", b" " * (2 + blanks), 1), 1)
            found = index_output(chunk_of([1, 2, 3]), spoiled, SOURCES)
            if found is not None:
                results = found.results(chunk_of([1, 2, 3]), spoiled)
                for result in results:
                    assert set(msgspec.json.decode(result.data)) == set(SOURCES)
                assert said(results) == said(carefully(chunk_of([1, 2, 3]), spoiled).results)


def test_a_space_before_the_end_of_an_object_is_seen() -> None:
    """Where the next row's colon lacks one, every object stands where it should."""
    body = usual([1, 2, 3], SPACED)
    for row in (2, 3):
        spoiled = body.replace(b'}}, "%d": {' % row, b'} }, "%d":{' % row)
        assert len(spoiled) == len(body)
        assert spoiled != body
        assert index_output(chunk_of([1, 2, 3]), spoiled, SOURCES) is None


@given(outputs())
def test_an_index_fits_its_own_output(output: tuple[Chunk, bytes]) -> None:
    """Whatever the spacing and the order, also as the journal keeps it."""
    chunk, content = output
    offset_index = index_output(chunk, content, SOURCES)
    if offset_index is not None:
        packed = pack_offset_index(offset_index)
        assert packed is not None
        assert unpack_offset_index(packed) == offset_index
        assert offset_index.fits(chunk, content)


def test_an_index_fits_no_other_output() -> None:
    """One that was exchanged on the disk is noticed, and the output is read on the slow path."""
    chunk, content = chunk_of([1, 2, 3]), usual([1, 2, 3])
    offset_index = index_output(chunk, content, SOURCES)
    assert offset_index is not None
    assert not offset_index.fits(chunk_of([1, 2]), content)
    assert not offset_index.fits(chunk_of([1, 2, 4]), content)
    for other in (
        usual([10, 11, 12]),
        content[:-20],
        content.replace(b',"2"', b'\n"2"'),
        content.replace(b"true", b"tr\xffe"),
        content[:-1] + b',"4":{}}',
    ):
        assert not offset_index.fits(chunk, other)


_INDEX = index_output(chunk_of([1, 2, 3]), usual([1, 2, 3]), SOURCES) or OffsetIndex([], [])
_NOT_OK = NotOk(0, RowStatus.FAILED, Reason.NO_MATCH, "none")


@pytest.mark.parametrize(
    "hostile",
    [
        OffsetIndex(_INDEX.begins, _INDEX.lengths[:2]),
        OffsetIndex(_INDEX.begins[:2], _INDEX.lengths),
        OffsetIndex([], []),
        OffsetIndex([begin + 1 for begin in _INDEX.begins], _INDEX.lengths),
        OffsetIndex([_INDEX.begins[1], _INDEX.begins[0], _INDEX.begins[2]], _INDEX.lengths),
        # one answer that holds the next row, and one that is there twice
        OffsetIndex(_INDEX.begins, [_INDEX.begins[1] + 9, *_INDEX.lengths[1:]]),
        OffsetIndex([_INDEX.begins[0]] * 3, _INDEX.lengths),
        OffsetIndex(_INDEX.begins, [0, *_INDEX.lengths[1:]]),
        OffsetIndex([-5, *_INDEX.begins[1:]], _INDEX.lengths),
        OffsetIndex([2**62, *_INDEX.begins[1:]], [2**62, *_INDEX.lengths[1:]]),
        *(
            OffsetIndex(_INDEX.begins, _INDEX.lengths, [msgspec.structs.replace(_NOT_OK, **odd)])
            for odd in ({"place": 3}, {"place": -1}, {"status": RowStatus.OK})
        ),
    ],
)
def test_a_hostile_index_is_not_believed(hostile: OffsetIndex) -> None:
    """Neither places that are none, nor places that are another row's."""
    chunk, content = chunk_of([1, 2, 3]), usual([1, 2, 3])
    assert _INDEX.fits(chunk, content)
    packed = pack_offset_index(hostile) if len(hostile.begins) == len(hostile.lengths) else None
    for index in (hostile, hostile if packed is None else unpack_offset_index(packed)):
        assert not index.fits(chunk, content)


flags = st.sampled_from(
    ['"is_success"'] * 3 + ['"is_succes\\u0073"', '"\\u0069s_success"', '"is\\u005Fsuccess"', '"x"']
)
told = st.sampled_from(
    [
        *("true", "true", "false", "null", "1", "[true]", '"is_success"', '"\\\\u0069s_success"'),
        *('{"is_success":false}', '{"PH":{"is_success":true}}'),
    ]
)


@st.composite
def hostile_outputs(draw: st.DrawFn) -> tuple[list[int], str]:
    """Keys that are there twice, on every level, and keys that are escaped; in any spacing."""
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": ")]))

    def object_of(members: list[tuple[str, str]]) -> str:
        # Now and then a space is missing, so that it makes room for something.
        colons = [draw(st.sampled_from([colon, colon, ":"])) for _ in members]
        return (
            "{" + comma.join(f"{k}{c}{v}" for (k, v), c in zip(members, colons, strict=True)) + "}"
        )

    def source() -> str:
        more = draw(st.lists(st.tuples(flags, told), max_size=2))
        return object_of([('"is_success"', draw(told)), *more])

    rows = list(range(draw(st.integers(1, 4))))
    members: list[tuple[str, str]] = []
    for row in rows:
        codes = ["PG", "PH", *draw(st.sampled_from([[], [], [], ["PG"], ["PH"], ["P\\u0047"]]))]
        location = object_of([(f'"{code}"', source()) for code in codes])
        members.append((f'"{row}"', location))
    again = draw(st.sampled_from([None, None, None, "{}", "last", "escaped"]))
    if again == "escaped":
        members.append(('"\\u0030"', members[0][1]))
    elif again is not None:
        members.append(('"0"', members[-1][1] if again == "last" else again))
    return rows, object_of(members)


@examples(300)
@given(hostile_outputs())
def test_ok_is_what_a_json_reader_says(output: tuple[list[int], str]) -> None:
    """Of what is there twice it takes the last, however it is spelled; so does what is ok here."""
    rows, text = output
    read = json.loads(text)
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    chunk, content = chunk_of(rows), text.encode()
    checked = validate_output(chunk, [EncodedBody(content)], SOURCES, 0)
    assert said(checked.results) == said(carefully(chunk, content).results)
    for result in checked.results:
        answers = [value for key, value in pairs if key == str(result.row)]
        if any(answer != answers[0] for answer in answers):
            assert result.status == "failed"  # nobody knows which of them is right
            continue
        codes = [read[str(result.row)][code] for code in SOURCES]
        assert (result.status == "ok") == all(each["is_success"] is True for each in codes)


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
@pytest.mark.parametrize("last", ["is_success", "is_succes\\u0073", "\\u0069s\\u005fsuccess"])
def test_the_last_word_counts(separators: tuple[str, str], last: str) -> None:
    """A source that says true first, and false in the end, has not succeeded."""
    comma, colon = separators
    good = usual([1, 2, 3], separators)
    bad = good.replace(b"}]}", f'}}]{comma}"{last}"{colon}false}}'.encode(), 3)
    offset_index = index_output(chunk_of([1, 2, 3]), bad, SOURCES)
    assert offset_index is not None
    assert [(each.place, str(each.status)) for each in offset_index.not_ok] == [
        (0, "failed"),
        (1, "partial"),
    ]
