"""Postal codes that were taken for numbers are texts again; all others stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.postal_codes import restore_leading_zeros, restore_leading_zeros_in
from pingdata_async.value_notes import NotedBatch, ValueKind


def zeros(noted: NotedBatch) -> int:
    """How many were given zeros back."""
    kinds = [value.kind for values in noted.values() for value in values]
    return kinds.count(ValueKind.ZEROS_GIVEN_BACK)


@pytest.mark.parametrize(
    ("code", "state", "country", "text"),
    [
        ("33139.0", "FL", "US", "33139"),
        (33139.0, "FL", "", "33139"),
        (33139, None, None, "33139"),
        ("2134", "MA", "US", "02134"),
        (" 2134 ", "ma", "u.s.a.", "02134"),
        ("2134.0", "Massachusetts", "United States", "02134"),
        (2134.0, "MA", "", "02134"),
        ("2134", "", "840", "02134"),
        ("2134", "Mass", 840, "02134"),
        ("6510", "CT", "Estados Unidos", "06510"),
        ("7001", "NJ", "EE.UU.", "07001"),
        ("3801", "New Hampshire", "Vereinigte Staaten", "03801"),
        ("4101", "ME", None, "04101"),
        ("5401", "VT", " us ", "05401"),
        ("2903", "RI", "The United States of America", "02903"),
        ("501", "NY", None, "00501"),
        ("2134", "MA", "N/A", "02134"),
        ("2134", "-", "US", "02134"),
        ("6390", "NY", "US", "06390"),
        ("5544", "MA", "US", "05544"),
        (907, "PR", None, "00907"),
        ("907", "", "Puerto Rico", "00907"),
        ("802", "VI", "US", "00802"),
        ("9012", "AE", "", "09012"),
        ("21345678", "MA", "", "02134-5678"),
        ("2134-5678", "MA", "", "02134-5678"),
        ("9071234", "PR", "", "00907-1234"),
        (5010001.0, "", "USA", "00501-0001"),
    ],
)
def test_a_number_becomes_the_code_it_was(
    code: Any, state: str | None, country: Any, text: str
) -> None:
    """Of whatever type; what is short in the United States is given its zeros back."""
    codes, noted = restore_leading_zeros([code, "33139"], [state, "FL"], [country, "US"])
    assert list(codes) == [text, "33139"]
    assert zeros(noted) == text.startswith("0")


@pytest.mark.parametrize(
    ("code", "state", "country"),
    [
        ("8001", "", ""),  # Zurich
        ("3182", "", ""),  # Melbourne
        ("6000", "WA", ""),  # Perth
        ("9000", "", "NA"),  # Namibia
        ("8001", "n/a", "unknown"),
        ("6000", "WA", "Australia"),
        ("7701", "TX", "US"),  # no code of Texas, though one of New Jersey
        ("7701", "TX", ""),
        ("2134", "FL", "US"),
        ("501", "NJ", "US"),
        ("100", "", "US"),
        ("2100", "", "Denmark"),
        ("2134", "MA", "CA"),
        ("2000", "NSW", ""),
        ("2000", "NSW", "Australia"),
        ("1100", "VT", ""),  # Viterbo
        ("1001", "VI", "ES"),  # Vitoria
        ("80010000", "PR", ""),  # Parana
        ("K1A0B1", "ON", "CA"),
        ("K1A 0B1", "ON", "CA"),
        ("SW1A 1AA", "", "UK"),
        ("1000001", "", ""),  # Japan
        ("100-0001", "", ""),
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
    """Codes of other countries and of other states, codes that are whole, and what is no code."""
    column = [code]
    codes, noted = restore_leading_zeros(column, [state], [country])
    assert codes is column
    assert not zeros(noted)


@pytest.mark.parametrize(
    ("code", "state", "country", "is_noted"),
    [
        *(("7701", "TX", "US", True), ("8001", "", "", True), ("6000", "WA", "", True)),
        *(("8001", "", "CH", False), ("7701x", "TX", "US", False), ("3182", "VIC", "", False)),
    ],
)
def test_a_short_code_is_noted(code: str, state: str, country: str, is_noted: bool) -> None:
    """It may have lost its zeros, where no other country is named; who knows can say so."""
    _, noted = restore_leading_zeros([code], [state], [country])
    assert noted == ({0: [("postal_code", ValueKind.SHORT_POSTAL_CODE, code)]} if is_noted else {})


def test_another_countrys_number_is_a_text_too() -> None:
    """Without zeros that it may never have had."""
    assert restore_leading_zeros([2100.0], None, ["DK"]) == (["2100"], {})
    assert restore_leading_zeros(["2100.0"], None, ["DK"]) == (["2100"], {})


@given(st.lists(st.text(alphabet="0123456789. -AB", max_size=11), min_size=1))
def test_a_column_is_its_rows(postal: list[str]) -> None:
    """Looking at a whole column gives what looking at each code does; again changes nothing."""
    together, noted = restore_leading_zeros(postal, None, ["US"] * len(postal))
    each = [restore_leading_zeros([code, 0], None, ["US", ""]) for code in postal]
    assert list(together) == [codes[0] for codes, _ in each]
    assert zeros(noted) == sum(zeros(noted) for _, noted in each)
    again, noted = restore_leading_zeros(together, None, ["US"] * len(postal))
    assert again is together
    assert not zeros(noted)


@given(st.integers(1001, 2799), st.integers(1, 9999))
def test_a_zip_code_survives_a_spreadsheet(number: int, plus_4: int) -> None:
    """Whatever kind of number it was taken for."""
    for taken in (number, float(number), str(number), f"{number}.0"):
        codes, _ = restore_leading_zeros([taken], ["MA"], None)
        assert codes[0] == f"{number:05}"
    codes, _ = restore_leading_zeros([number * 10_000 + plus_4], ["MA"], None)
    assert codes[0] == f"{number:05}-{plus_4:04}"


def test_the_codes_of_a_batch() -> None:
    """The other columns, and a batch that is fine, stay as they are."""
    columns = Columns(("city", "postal_code", "state"), [["x"], ["2134"], ["MA"]])
    batch, noted = restore_leading_zeros_in(columns)
    assert noted == {0: [("postal_code", ValueKind.ZEROS_GIVEN_BACK, "2134")]}
    assert batch == Columns(("city", "postal_code", "state"), [["x"], ["02134"], ["MA"]])
    assert restore_leading_zeros_in(batch) == (batch, {})
    assert restore_leading_zeros_in(batch)[0] is batch
    cells = Columns(("postal_code",), [[None, 5.0]], are_texts=False)
    assert restore_leading_zeros_in(cells) == (
        Columns(("postal_code",), [[None, "5"]], are_texts=False),
        {},
    )
    without = Columns(("city",), [["x"]])
    assert restore_leading_zeros_in(without)[0] is without
