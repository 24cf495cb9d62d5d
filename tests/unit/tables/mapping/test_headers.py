"""A header means the same however it is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.fields import FIELDS
from pingdata_async.tables.mapping import headers
from pingdata_async.tables.mapping.headers import field_named, key_of, meaning_of
from pingdata_async.tables.mapping.synonyms import (
    NOT_BESIDE,
    ONLY_BESIDE,
    PLACES,
    READ_BESIDE,
    SPELLINGS,
    WORDS,
)
from tests.support.sweeps import examples

ALONE: frozenset[str] = frozenset()
BY_OWN_NAME_ALONE = {
    *("sources", "datasource_config"),
    *("lightbox_assessment_id", "lightbox_building_id", "lightbox_parcel_id"),
    *("lightbox_parcel_wkt", "dtc_include_coastline_within_miles"),
    "dtc_return_connected_coastlines",
}


def phrases() -> Iterator[tuple[str, str]]:
    """Every phrase of the list that needs nothing beside it, with its meaning."""
    for name, ranks in WORDS.items():
        for phrase in ",".join(ranks).split(","):
            plain = " ".join(phrase.removeprefix("=").split())
            if (name, key_of(plain)) not in {*ONLY_BESIDE, *READ_BESIDE}:
                yield plain, name


PHRASES = list(phrases())


@examples(300)
@given(st.data(), st.sampled_from(PHRASES))
def test_decoration_changes_nothing(data: st.DataObject, known: tuple[str, str]) -> None:
    """Case, spaces, line breaks and punctuation do not matter."""
    phrase, name = known
    gaps = st.sampled_from((" ", "  ", "_", "-", ".", ". ", "\n", "/", " / ", "\u00a0"))
    change = data.draw(st.sampled_from((str.lower, str.upper, str.title)))
    words = [change(word) for word in phrase.split()]
    header = "".join(word + data.draw(gaps) for word in words[:-1]) + words[-1]
    header = data.draw(st.sampled_from(("", "*", "* ", " ", "**"))) + header
    header += data.draw(st.sampled_from(("", ":", " *", "?", " ", "\n", " (required)")))
    meaning = meaning_of(header, ALONE)
    assert meaning is not None
    assert meaning.name == name or header.strip() in FIELDS  # "address"


def test_words_may_be_written_together() -> None:
    """As in CamelCase, in STREETNAME and in zipcode, for every phrase of the list."""
    for phrase, name in PHRASES:
        words = phrase.split()
        for header in ("".join(words), "".join(words).upper(), "".join(map(str.title, words))):
            meaning = meaning_of(header, ALONE)
            assert meaning is not None, header
            assert meaning.name == name or header in FIELDS, header  # "address"


def test_no_header_means_two_things() -> None:
    """Whatever the list makes of its phrases is told apart by what stands beside it at least."""
    for key, meanings in headers._known_headers().items():
        if len(meanings) == 1:
            continue
        for meaning in meanings:
            others = [each for each in meanings if each is not meaning]
            needed = ONLY_BESIDE.get((meaning.name, key))
            assert needed or all((each.name, key) in ONLY_BESIDE for each in others)
            if needed:
                assert all(
                    needed <= NOT_BESIDE.get((each.name, key), frozenset()) for each in others
                )


def test_rules_are_about_known_headers() -> None:
    """No rule of what stands beside a header has become void."""
    known = headers._known_headers()
    for name, key in (*ONLY_BESIDE, *NOT_BESIDE, *READ_BESIDE):
        assert key is None or name in {meaning.name for meaning in known[key]}
    assert max(len(phrase.split()) for phrase, _ in PHRASES) <= headers.MOST_WORDS
    assert set(SPELLINGS) <= {
        word for phrase in (*PLACES, *(phrase for phrase, _ in PHRASES)) for word in phrase.split()
    }


@pytest.mark.parametrize("field", ["id", *sorted(FIELDS)])
def test_a_field_is_known_by_its_own_name(field: str) -> None:
    """However it is written."""
    for header in (field, field.upper(), field.replace("_", " ").title(), f" {field} "):
        assert field_named(header) == field
        meaning = meaning_of(header, ALONE)
        assert meaning is not None
        if field != "address" or header.strip() == field:  # "Address" may be the street line
            assert meaning.name == field


def test_nearly_all_fields_have_other_names() -> None:
    """Those of the API's own making apart."""
    own = {key_of(field) for field in FIELDS}
    reached = {name for phrase, name in PHRASES if key_of(phrase) not in own}
    assert reached & FIELDS == FIELDS - BY_OWN_NAME_ALONE


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bldg Area (sq ft)", "const__bldg_area"),
        ("Building (SF)", "const__bldg_area"),
        ("Building Limit ($)", "limits__building_limit"),
        ("BuildingLimitUSD", "limits__building_limit"),
        ("Business Personal Property (BPP)", "limits__bpp_limit"),
        ("BI/EE (12 mo)", "limits__bi_limit"),
        ("Business Income w/ Extra Expense", "limits__bi_limit"),
        ("Latitude (decimal degrees)", "latitude"),
        ("Year Built (YYYY)", "const__bldg_year_built"),
        ("Stories / Floors", "const__num_stories"),
        ("Zip Code (5 digit)", "postal_code"),
        ("Country (ISO Code)", "country"),
        ("Area (State Name)", "state"),
        ("Subarea (County Name)", "county"),
        ("C\u00edty", "city"),
        ("\uff23ity", "city"),
        ("Occupancy Type (ie apartments, offices, warehouses)", "occupancy__type_desc"),
        ("Property Zip", "postal_code"),
        ("Location\nState", "state"),
        ("Address (Street, City, State, Zip)", "address"),
        ("Longitude (W)", "longitude"),
    ],
)
def test_what_is_said_around_a_header(header: str, name: str) -> None:
    """Units, formats and instructions do not change what it means."""
    meaning = meaning_of(header, ALONE)
    assert meaning is not None
    assert meaning.name == name


@pytest.mark.parametrize(
    "header",
    [
        *("Mailing City", "City (Mailing)", "Insured Address", "Owner State", "Billing Zip"),
        *("Building Limit ($000s)", "Building Value (EUR)", "Building Value (\u00a3)"),
        *("Floor Area (sq m)", "Area (m\u00b2)", "Building Area (acres)", "Contents (sq ft)"),
        *("ISO Const", "ISO Class", "Construction Code", "OccupancyCode", "BLDGCLASS", "EQCV1VAL"),
        *("TIV", "Total Insured Value", "Sprinklered", "Roof Year Built", "Year Renovated"),
        *("Occupancy %", "% Occupied", "Building %", "Insured City, State, Zip"),
        *("Area Code", "Country of Origin", "State of Incorporation", "Location", "Building", ""),
        *("enhance_status", "enhance_reason", "enhance_error", "pg_latitude", "ph_city"),
        *("BI Months", "BI Limit (Months)", "Rents/Mo", "Rents per Month", "Monthly Rents"),
        *("BI Deductible", "Building Limit Deductible", "Contents Ded", "Rents per Unit"),
        *("Building Value per Sq Ft", "BPP Limit / Unit", "BI Period (mo)", "BI Waiting Period"),
        *("row", "reason", "error", "City.1", "# of Units", "# of Bldgs", "$$$", "Total"),
    ],
)
def test_what_is_left_alone(header: str) -> None:
    """What the API has no field for, or what may be something else, is not sent."""
    assert meaning_of(header, ALONE) is None


@pytest.mark.parametrize(
    ("header", "beside", "name"),
    [
        ("Area", ("City",), "const__bldg_area"),
        ("Area", ("SubArea", "CountryISO"), "state"),
        ("AreaCode", ("AreaName",), "state"),
        ("Area Code", ("Phone",), None),
        ("Floor Area", ("City",), "const__bldg_area"),
        ("FloorArea", ("FloorAreaUnit",), None),
        ("OCCTYPE", ("OCCSCHEME",), None),
        ("Occ Type", ("City",), "occupancy__type_desc"),
        ("Roof Cover", ("City",), "const__roof_covering"),
        ("RoofCover", ("LocPerilsCovered",), None),
    ],
)
def test_what_stands_beside_a_header(
    header: str, beside: tuple[str, ...], name: str | None
) -> None:
    """Forms use the same word for different things."""
    meaning = meaning_of(header, frozenset(map(key_of, beside)))
    assert (meaning and meaning.name) == name
