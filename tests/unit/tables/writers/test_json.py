"""Lines of output."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.tables.writers.json import RowNote, encode_lines, frame_lines, insert_lines


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
