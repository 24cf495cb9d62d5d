"""House numbers are not lost silently, wherever they stand, and nothing else is taken for them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from pingdata_async.exceptions import InputError
from tests.support.reading import read_all

ROWS = 1000  # several batches


def table(streets: Sequence[str], **others: Sequence[Any]) -> pa.Table:
    return pa.table({"Street": streets, "City": ["Boston"] * len(streets), **others})


def refusal(rows: pa.Table) -> str:
    with pytest.raises(InputError) as caught:
        read_all(rows)
    return str(caught.value)


def test_all_rows_count() -> None:
    """It is decided at the end, so the order of the rows makes no difference."""
    numbers = [12 + 2 * row for row in range(ROWS)]
    streets = ["Main St"] * (ROWS * 19 // 20) + ["7 Elm St"] * (ROWS // 20)
    for in_order in (streets, streets[::-1]):
        message = refusal(table(in_order, Hsnbr=numbers))
        assert "950 of 1,000 rows have no house number" in message
    half = ["Main St"] * (ROWS // 2) + ["7 Elm St"] * (ROWS // 2)
    for in_order in (half, half[::-1]):
        assert read_all(table(in_order, Hsnbr=numbers)).rows


def test_the_options_settle_it() -> None:
    """Each of those in the message, as a shell reads it, is an answer."""
    rows = table(["Main St", "Elm St"], Hsnbr=[12, 15])
    message = refusal(rows)
    options = [word for word in shlex.split(message.replace(",", " ")) if "address_line_1=" in word]
    lines = []
    for option in options:
        field, _, header = option.partition("=")
        given = read_all(rows, mapping={field: header})
        lines.append(given.locations[0]["address_line_1"])
    assert lines == ["12 Main St", "Main St"]


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("Policy No", [4711 + 3 * row for row in range(ROWS)]),  # an id
        ("Opened", [1950 + row % 60 for row in range(ROWS)]),  # years
        ("Loss", [100_000 + 7 * row for row in range(ROWS)]),  # amounts
        ("Nr of it", list(range(1, ROWS + 1))),  # rows
        ("Stars", [1 + row % 5 for row in range(ROWS)]),  # classes
        ("Rent", [500 + 3 * row for row in range(ROWS)]),
        ("Same", [12] * ROWS),
        ("Blob", [b"\xff"] * ROWS),
        ("Few", [12 + 2 * row if row % 2 else None for row in range(ROWS)]),
    ],
)
def test_what_are_no_house_numbers(header: str, numbers: list[Any]) -> None:
    """Streets that honestly have no numbers are sent."""
    assert read_all(table(["Main St"] * ROWS, **{header: numbers})).rows


def test_a_number_of_a_list_beside_whole_streets() -> None:
    """A "No." that counts the rows is no part of a street that has its number."""
    streets = [f"{100 + row} Main St" for row in range(ROWS)]
    message = refusal(table(streets, **{"No.": list(range(1, ROWS + 1))}))
    assert "in 900 of 1,000 rows" in message or "in 1,000 of 1,000 rows" in message
    assert '--map address_line_1="Street"' in message


def test_numbers_that_count_the_rows() -> None:
    """Beside several streets they are no house numbers, in whatever order; in one they are."""
    numbers = list(range(1, ROWS + 1))
    streets = ["Main St"] * (ROWS - 1) + ["Elm St"]
    for in_order in (numbers, numbers[::-1]):
        message = refusal(table(streets, Number=in_order))
        assert '"Number" beside "Street" counts the rows from 1 to 1,000' in message
        assert read_all(table(streets, **{"House Number": in_order})).rows
        assert read_all(table(["Main St"] * ROWS, Number=in_order)).rows
    assert read_all(table(streets, Number=[*numbers[1:], 1204])).rows


def test_streets_that_are_numbered_are_names() -> None:
    """Such as "5 Avenue" and "42 Street": they begin with no house number."""
    streets = ["5 Avenue", "42 Street"] * 10
    given = read_all(table(streets, **{"House No": [100 + row for row in range(20)]}))
    assert given.locations[1]["address_line_1"] == "101 42 Street"
