"""Lines of output."""

from __future__ import annotations

import msgspec

from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.tables.jsonl import encode_lines


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
