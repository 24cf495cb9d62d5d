"""Which rows of a table are what: headers, data, totals and the like."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from pingdata_async.tables.readers.table_rows import find_header
from pingdata_async.tables.rows import ReadOptions
from tests.support.reading import read_all, written

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


ROWS = ["1,1 Main St,Boston,5", "2,2 Oak Ave,Reno,6", "3,3 Elm St,Austin,7"]


@pytest.mark.parametrize("blank", ["", "\n,,,", "\n\n"])
def test_rows_of_a_text_that_are_no_locations(tmp_path: Path, blank: str) -> None:
    """The header again, totals, footnotes and another table below are left out, and counted."""
    text = "\n".join(
        [
            "Loc #,Address,City,TIV",
            ROWS[0],
            "LOC #,address , City,TIV",
            ROWS[1] + "\nSubtotal West,,,11",
            ROWS[2] + "\nGrand Total,,,18",
            "* Values are replacement cost, without land" + blank,
            "Prepared by us",
            "State,TIV",
            "MA,5",
            "NV,6",
        ]
    )
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [row[0] for row in found.rows] == ["1", "2", "3"]
    assert "2 total rows" in found.reader.notes[0]
    assert "1 repeated header" in found.reader.notes[0]
    assert "2 footnotes left out" in found.reader.notes[0]
    assert "and is left out (3 rows)" in found.reader.notes[1]


def test_rows_that_look_like_others_are_data(tmp_path: Path) -> None:
    """A street called Summer, a shop called Total, and what is below a subtotal."""
    rows = [
        *("1,1 Summit St,Boston,5", "Total Wine,2 Oak Ave,Reno,6", "Total,,Reno,6"),
        *("Subtotal,,,17", "4 Main St,,,", "5,5 Total Rd,,7", ",,,", "Address,City,TIV,Loc"),
        *("6,Address,City,TIV", ",6 Elm St,,"),
    ]
    text = "\n".join(["Loc #,Address,City,TIV", *rows])
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [",".join(row) for row in found.rows] == [
        row for row in rows if row not in {"Subtotal,,,17", "4 Main St,,,"}
    ]
    assert found.reader.notes == ("1 total row and 1 footnote left out",)


def test_addresses_below_a_total_are_data(tmp_path: Path) -> None:
    """What begins like a note or holds a header's word is a location, where it has an address."""
    rows = [
        *("*Star Cafe,4 Elm St,Reno", "Source: Bar,Main St,Austin", "(1) Foo,5 Main St,"),
        *("Abbey Mill,Mill Lane,Street", "9,6 Elm St,Waco"),
    ]
    lines = [f"Total,,\n{row}" for row in rows]
    text = "\n".join(["Name,Address,City", *lines, "Total,,", "* Values, without land,"])
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [",".join(row) for row in found.rows] == rows
    assert found.reader.notes == ("6 total rows and 1 footnote left out",)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    """Headers and totals among the rows, wherever they are, leave the same locations."""
    rows = [f"{number},{number} Main St,Boston,5" for number in range(700)]
    rows += ["Loc #,Address,City,TIV"] * 3 + ["Total,,,5"] * 3
    sent = []
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        text = "\n".join(["Loc #,Address,City,TIV", *rows])
        found = read_all(written(tmp_path, "in.csv", text.encode()))
        sent.append(sorted(map(str, found.locations)))
        assert found.reader.notes[0].endswith("left out")
    assert len(sent[0]) == 700
    assert all(each == sent[0] for each in sent)
