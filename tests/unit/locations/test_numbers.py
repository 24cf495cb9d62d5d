"""Numbers as people write them in cells."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.normalize import normalize_batch
from pingdata_async.locations.numbers import QUANTITIES, number_of, with_decimal_commas
from pingdata_async.value_notes import ValueKind
from tests.unit.locations.test_normalize import check_as_defined

YEAR = "const__bldg_year_built"
STORIES = "const__num_stories"
BELOW = "const__num_stories_below_gnd"
AREA = "const__bldg_area"
LIMIT = "limits__building_limit"
MILES = "dtc_include_coastline_within_miles"

READ = {
    AREA: [
        *("12500", "12,500 sf", "12,500 SF", "12 500 sq. ft.", "12,500sqft", "12500 Sq Ft"),
        *("12,500 square feet", "12,500 ft2", "12500 ft\u00b2", "12.5k sf", "approx. 12,500 sq ft"),
        *("12,500 s.f.", "12,500 GSF", "~12,500", "12500.4", "12'500", "12,500.00", "12.500,00"),
    ],
    YEAR: [
        *("1987", "1987.0", "1,987", "1.987", "c. 1987", "c.1987", "ca 1987", "circa 1987"),
        *("built 1987", "Built in 1987", "1987-05-01", "1987-05-01T00:00:00", "5/1/1987"),
        *("01.05.1987", "1-May-1987", "May 1987", "May 1, 1987", "1987-05-01 00:00:00+00:00"),
        *("12/1987", "1987 (est.)", "~1987", "Sept 3, 1987", "31/12/1987 12:00 AM"),
    ],
    LIMIT: [
        *("1200000", "$1.2M", "1.2 million", "USD 1,200,000", "1,200,000.00", "$ 1,200,000"),
        *("1'200'000", "1\u2019200\u2019000", "1 200 000", "1\u00a0200\u00a0000", "1.200.000,00"),
        *("1\u202f200\u202f000,00", "1.200.000", "12,00,000", "US$1.2m", "1,2 Mio", "1200k"),
        *("1,200,000 USD", "$1,200,000.-", "1.200.000,--", "1200000.0", "1.2e6", "1.2 MM"),
    ],
    STORIES: [
        "2",
        "2 stories",
        "2-story",
        "2 Floors",
        "2.0",
        "2.000",
        "02",
        "2 levels",
        "2 Etagen",
    ],
    MILES: ["2", "2 miles", "2.0 mi", "2,0"],
}
SAME = {AREA: 12_500, YEAR: 1987, LIMIT: 1_200_000.0, STORIES: 2, MILES: 2.0}

LEFT_OUT = {
    AREA: [
        *("12.500 qm", "1200 m2", "1,200 m\u00b2", "1.200", "850.125", "12,500 ft", "0.3 acres"),
        *("10,000-20,000", "10000/20000", "12,500 sf + garage", "50%", "(1,200)", "-5,000"),
    ],
    YEAR: [
        *("1950s", "1950's", "1950-1960", "1950/1985", "pre 1900", "<1950", "1987?", "87", "31413"),
        *("5/1/87", "1905-06-09T00:00:00", "13/13/1987", "1950, 1980", "2500", "19870501"),
        *("31 February 1987", "1987.5", "1950 (renovated 1990)", "65 years"),
    ],
    LIMIT: [
        *("1.200", "\u20ac500", "500 EUR", "5%", "100 %", "(1,200)", "-1,234", "1,200M", "1.2.3"),
        *("1,000,000/2,000,000", "$500,000 per month", "12 months ALS", "Included", "1 2", "$"),
        *("Replacement cost", "1,200 300", "1_000", "0x10", "\u0661"),
    ],
    STORIES: ["2.5", "3 + basement", "1-2", "3+", "2 1/2", "G+3", "two", "2,000", "450"],
    MILES: ["2 km", "-3.5", "1.200"],
}
CODES = {
    YEAR: [0, "0", 9999, "9999", -1, "-999", "0.0", 1, 999],
    STORIES: [0, "0", -1, "-3", "-999", -2.0, 999, "9999"],
    BELOW: [-1, "-999", 99, 999],
    AREA: [0, "0", "0.0", -1, "-999", "-1.0", "0 sf"],
    LIMIT: [-1, "-999", -9999.0],
}


def both(field: str, value: Any) -> tuple[Any, list[ValueKind]]:
    """What is sent of a value, and what is noted of it; by itself and in a batch."""
    location = {"city": "Boston", field: value}
    alone = normalize_batch([location])
    batch = normalize_batch([location, {"city": "Austin"}])
    assert batch.encoded[0] == alone.encoded[0]
    assert batch.noted == alone.noted
    return alone.row(0).get(field), [value.kind for value in alone.noted.get(0, [])]


@pytest.mark.parametrize(("field", "text"), [(name, text) for name in READ for text in READ[name]])
def test_what_is_read(field: str, text: str) -> None:
    """With the field's own unit, however thousands are separated, where one number can be meant."""
    assert both(field, text) == (SAME[field], [])


@pytest.mark.parametrize(
    ("field", "text"), [(name, text) for name in LEFT_OUT for text in LEFT_OUT[name]]
)
def test_what_is_left_out(field: str, text: str) -> None:
    """Another unit, a range, a percentage, and what may be a thousand times as much."""
    assert both(field, text) == (None, [ValueKind.UNREADABLE])


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name in CODES for value in CODES[name]]
)
def test_codes_for_unknown(field: str, value: Any) -> None:
    """As OED, CEDE and RMS have them: left out, and counted as such."""
    assert both(field, value) == (None, [ValueKind.CODE_FOR_UNKNOWN])


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        (LIMIT, 0, 0.0),  # nothing is insured
        (LIMIT, "0", 0.0),
        (BELOW, "0", 0),  # no basement
        (YEAR, dt.date(1987, 5, 1), 1987),
        (YEAR, 2030, 2030),
        (AREA, 2345.67, 2346),
        (STORIES, 163, 163),
        (MILES, 0, 0.0),
    ],
)
def test_what_is_a_value_all_the_same(field: str, value: Any, sent: float) -> None:
    """A nought that says something, dates of Python, fractions of a square foot."""
    batch = normalize_batch([{"city": "Boston", field: value}])
    assert batch.row(0)[field] == sent
    assert batch.noted == {}


@pytest.mark.parametrize(
    ("field", "text", "read"),
    [
        (LIMIT, "1.200", 1200.0),
        (AREA, "12.500", 12500.0),
        (LIMIT, "1,200", None),
        (STORIES, "2,000", 2.0),
        (YEAR, "1.987", 1987.0),
        (LIMIT, "1200,50", 1200.5),
        (LIMIT, "1200.50", 1200.5),
        (LIMIT, "1,200,000", 1_200_000.0),
    ],
)
def test_tables_with_decimal_commas(field: str, text: str, read: float | None) -> None:
    """What is sure stays what it is; what is not is read by the table's own sign, or left out."""
    number = with_decimal_commas(field, text)
    assert (None if number is None else number_of(field, number)) == read


@given(
    field=st.sampled_from(sorted(QUANTITIES)),
    texts=st.lists(st.text("0123456789.,-+ $%eEkM'()sf", max_size=9), min_size=1, max_size=4),
)
def test_a_batch_reads_as_rows_do(field: str, texts: list[str]) -> None:
    """Whatever stands in a column."""
    check_as_defined([{"city": "Boston", field: text} for text in texts])
