"""Postal codes that were taken for numbers are texts again; all others stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.location_batches import Columns
from pingdata_async.tables.postal_codes import mended, mended_columns


@pytest.mark.parametrize(
    ("code", "state", "country", "text"),
    [
        ("33139.0", "FL", "US", "33139"),
        (33139.0, "FL", "", "33139"),
        (33139, None, None, "33139"),
        ("2134", "MA", "US", "02134"),
        (" 2134 ", "ma", "u.s.a.", "02134"),
        ("2134.0", "Massachusetts", "United States", "02134"),
        (2134.0, "", "", "02134"),
        ("501", "NY", None, "00501"),
        (907, "PR", None, "00907"),
        ("907", "", "Puerto Rico", "00907"),
        ("21345678", "MA", "", "02134-5678"),
        (5010001.0, "", "USA", "00501-0001"),
    ],
)
def test_a_number_becomes_the_code_it_was(
    code: Any, state: str | None, country: str | None, text: str
) -> None:
    """Of whatever type; what is short in the United States is given its zeros back."""
    codes, zeros = mended([code, "33139"], [state, "FL"], [country, "US"])
    assert list(codes) == [text, "33139"]
    assert zeros == (text.startswith("0"))


@pytest.mark.parametrize(
    ("code", "state", "country"),
    [
        ("2100", "", "Denmark"),
        ("2000", "NSW", ""),
        ("2000", "NSW", "Australia"),
        ("K1A0B1", "ON", "CA"),
        ("K1A 0B1", "ON", "CA"),
        ("SW1A 1AA", "", "UK"),
        ("1000001", "", ""),  # Japan
        ("01310100", "", ""),  # Brazil
        ("01310100", "SP", "BR"),
        ("02134", "MA", "US"),
        ("02134-5678", "MA", "US"),
        ("12", "MA", "US"),
        ("213x", "MA", "US"),
        ("\u0662\u0661\u0663\u0664", "MA", "US"),
        ("n/a", "", ""),
        ("", "", ""),
        (None, "", ""),
        (33139.5, "FL", "US"),
        (float("inf"), "FL", "US"),
        (-2134, "MA", "US"),
        (True, "MA", "US"),
        ("1e4", "MA", "US"),
    ],
)
def test_what_is_no_such_number_stays(code: Any, state: str, country: str) -> None:
    """Codes of other countries, codes that are whole, and what is no code."""
    column = [code]
    codes, zeros = mended(column, [state], [country])
    assert codes is column
    assert zeros == 0


def test_another_countrys_number_is_a_text_too() -> None:
    """Without zeros that it may never have had."""
    assert mended([2100.0], None, ["DK"]) == (["2100"], 0)
    assert mended(["2100.0"], None, ["DK"]) == (["2100"], 0)


@given(st.lists(st.text(alphabet="0123456789. -AB", max_size=11), min_size=1))
def test_a_column_is_its_rows(postal: list[str]) -> None:
    """Looking at a whole column gives what looking at each code does; again changes nothing."""
    together, zeros = mended(postal, None, ["US"] * len(postal))
    each = [mended([code, 0], None, ["US", ""]) for code in postal]
    assert list(together) == [codes[0] for codes, _ in each]
    assert zeros == sum(count for _, count in each)
    assert mended(together, None, ["US"] * len(postal)) == (together, 0)


@given(st.integers(100, 99999))  # no ZIP code is below that
def test_a_zip_code_survives_a_spreadsheet(number: int) -> None:
    """Whatever kind of number it was taken for."""
    for taken in (number, float(number), str(number), f"{number}.0"):
        codes, _ = mended([taken], ["MA"], None)
        assert codes[0] == f"{number:05}"


def test_the_codes_of_a_batch() -> None:
    """The other columns, and a batch that is fine, stay as they are."""
    columns = Columns(("city", "postal_code", "state"), [["x"], ["2134"], ["MA"]])
    batch, zeros = mended_columns(columns)
    assert zeros == 1
    assert batch == Columns(("city", "postal_code", "state"), [["x"], ["02134"], ["MA"]])
    assert mended_columns(batch) == (batch, 0)
    assert mended_columns(batch)[0] is batch
    cells = Columns(("postal_code",), [[None, 5.0]], are_texts=False)
    assert mended_columns(cells) == (
        Columns(("postal_code",), [[None, "5"]], are_texts=False),
        0,
    )
    without = Columns(("city",), [["x"]])
    assert mended_columns(without)[0] is without
