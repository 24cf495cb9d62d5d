"""Where the headers of a table are."""

from __future__ import annotations

from typing import Any

import pytest

from pingdata_async.tables.readers.table_rows import find_header
from pingdata_async.tables.rows import ReadOptions

HEADERS = ["Loc #", "Street", "City", "State", "Zip"]
DATA = ["1", "1 Main St", "Boston", "MA", "02134"]


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([HEADERS, DATA], 0),
        ([["ACME"], [], ["as of", "1/1/26"], HEADERS, DATA], 3),
        ([["Location", "", "Address", "", ""], HEADERS, DATA], 1),
        ([["Insured:", "ACME", "City:", "Reno", "State:", "NV", "Zip:", "1"], HEADERS, DATA], 1),
        ([HEADERS, DATA, HEADERS, DATA], 0),  # repeated on each page
        ([["foo", "bar", "baz"], ["1", "2", "3"]], 0),
        ([["a title"], ["foo", "bar", "baz"], ["x", "2", "3"]], 1),
        ([["address"], ["City"], ["Zip"]], 0),
        ([["Address", "BI Months", "BI Limit (Months)"], ["1 A St", "12", "12"]], 0),
        ([[], [None, "", " "]], None),
        ([], None),
    ],
)
def test_the_row_with_the_headers(rows: list[list[Any]], place: int | None) -> None:
    """Not titles, nor those of groups of columns, nor data; None where there is no text."""
    found = find_header(rows, ReadOptions())
    assert (None if found is None else found.place) == place
    if found is not None:
        assert found.rows == 1
        assert found.headers == tuple(rows[found.place])


def test_the_parts_of_a_coordinate_below_its_name() -> None:
    """Merged above them, it stands in the first cell alone: no degrees without their minutes."""
    above = ["", "Latitude", "", "", "Longitude", "", ""]
    found = find_header([above, ["City", *["Deg", "Min", "Sec"] * 2], DATA], ReadOptions())
    assert found is not None
    assert found.headers == (
        "City",
        *("Latitude Deg", "Latitude Min", "Latitude Sec"),
        *("Longitude Deg", "Longitude Min", "Longitude Sec"),
    )


def test_headers_that_were_named_come_first() -> None:
    """However few they are, and however many others there are that mean something."""
    rows = [HEADERS, ["Wo", "x"], DATA]
    found = find_header(rows, ReadOptions(mapping={"address": " wo "}))
    assert found is not None
    assert found.place == 1
