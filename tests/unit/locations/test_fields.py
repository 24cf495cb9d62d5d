"""From whatever a user calls a location to what is sent."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async import InputError, Location
from pingdata_async.locations.fields import FIELDS, clean_sources
from pingdata_async.locations.normalize import normalize, normalize_batch
from pingdata_async.locations.words import says_nothing
from pingdata_async.value_notes import ValueKind

NAN = float("nan")
HERE = {"address": "1 Main St"}


def sent(**fields: Any) -> dict[str, Any]:
    normalized = normalize(HERE | fields)
    decoded = json.loads(normalized.encoded)
    assert decoded.pop("address") == "1 Main St"
    assert isinstance(decoded, dict)
    return decoded


def noted(location: dict[str, Any]) -> list[ValueKind]:
    """What is the matter with values that are not sent as they stand."""
    return [value.kind for value in normalize_batch([location]).noted.get(0, [])]


def test_every_form_gives_the_same() -> None:
    """A text, a mapping and a Location with the same address are sent alike."""
    forms: list[Any] = [
        "1 Main St",
        HERE,
        OrderedDict(HERE),
        MappingProxyType(HERE),
        Location(address="1 Main St"),
        {**HERE, "city": None, "state": "", "county": "  ", "unknown": 1},
    ]
    assert [normalize(form).encoded for form in forms] == [b'{"address":"1 Main St"}'] * len(forms)


def test_every_field_of_the_contract_is_known() -> None:
    """37 fields, of which the id alone is not sent as a field."""
    assert set(Location.__struct_fields__) - {"id"} == FIELDS
    assert len(FIELDS) == 36


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1234", 1234.0),
        (" 1234.5 ", 1234.5),
        ("1,234", 1234.0),
        ("1,234,567.89", 1234567.89),
        ("$5", 5.0),
        ("$1,234.50", 1234.5),
        ("1 000", 1000.0),
        ("5 USD", 5.0),
        ("+7", 7.0),
        ("1e3", 1000.0),
        (0, 0.0),
        (5, 5.0),
        (5.25, 5.25),
    ],
)
def test_numbers(value: object, number: float) -> None:
    """Numbers are read as people and spreadsheets write them."""
    assert sent(limits__building_limit=value) == {"limits__building_limit": number}
    assert noted(HERE | {"limits__building_limit": value}) == []


@pytest.mark.parametrize(
    "value",
    [
        *("abc", "1.200", "$", "inf", "-Infinity", "1.2.3", "5 EUR", "5 %", "-5", -5),
        *(math.inf, -math.inf, [], {}, 10**400),
    ],
)
def test_unreadable_numbers_are_left_out_and_counted(value: object) -> None:
    """An optional number that cannot be read is not sent, and does not cost the row."""
    location = HERE | {"limits__building_limit": value, "const__bldg_area": value}
    assert normalize(location).fields == HERE
    assert noted(location) == [ValueKind.UNREADABLE] * 2


@pytest.mark.parametrize("name", sorted(FIELDS - {"address"}))
@pytest.mark.parametrize("value", [None, "", "  ", NAN])
def test_empty_values_are_left_out_without_counting(name: str, value: object) -> None:
    """Empty texts, None and the NaN of data frames mean "not known", in every field."""
    normalized = normalize(HERE | {name: value})
    assert normalized.fields == HERE
    assert noted(HERE | {name: value}) == []
    assert normalized.sources is None


@pytest.mark.parametrize(
    ("value", "read"),
    [("1990", 1990), (1990.0, 1990), ("1,990", 1990), ("1990.0", 1990), (2020, 2020)],
)
def test_integers(value: object, read: int) -> None:
    """Integers may come as the floats and texts that spreadsheets make of them."""
    (found,) = sent(const__bldg_year_built=value).values()
    assert found == read
    assert isinstance(found, int)


@pytest.mark.parametrize("value", [1990.5, "19.9", 2**53 + 2, "1e300"])
def test_integers_that_are_none(value: object) -> None:
    """A fraction is no year, and what a float cannot hold is no count."""
    assert noted(HERE | {"const__bldg_year_built": value}) == [ValueKind.UNREADABLE]


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), ("TRUE", True), ("y", True), (1, True), ("no", False), ("0", False), (0, False)],
)
def test_booleans(value: object, read: bool) -> None:
    """Booleans are read as files write them."""
    assert sent(dtc_return_connected_coastlines=value) == {"dtc_return_connected_coastlines": read}


def test_unreadable_boolean() -> None:
    """A boolean that is none is left out and counted."""
    location = HERE | {"dtc_return_connected_coastlines": "maybe"}
    assert noted(location) == [ValueKind.UNREADABLE]


@pytest.mark.parametrize(
    ("latitude", "longitude", "usable", "left_out"),
    [
        (38.9, -77.0, True, 0),
        ("38.9", "-77", True, 0),
        (90, 180, True, 0),
        (-90, -180.0, True, 0),
        (0, 109.33, True, 2),  # Pontianak is on the equator; beside an address a 0 is no place
        ("51.4779", "0.0", True, 2),
        (0, 0, False, 2),
        ("0.000", -0.0, False, 2),
        ("-999", "9999", False, 2),
        (90.001, 0, False, 2),
        (0, 180.5, False, 2),
        (NAN, 0, False, 1),
        ("tbd", 0, False, 2),
        (1, None, False, 1),
        ("", "1", False, 1),
        (True, 1, False, 2),
    ],
)
def test_coordinates(latitude: object, longitude: object, usable: bool, left_out: int) -> None:
    """A pair of coordinates on the globe is enough to look up; half a pair is not."""
    location = {"latitude": latitude, "longitude": longitude}
    if usable:
        assert set(normalize(location).fields) == {"latitude", "longitude"}
    else:
        with pytest.raises(InputError, match="nothing to look up"):
            normalize(location)
    # What was given but is not sent is counted; what was empty is not.
    assert len(noted(HERE | location)) == left_out
    assert (normalize(HERE | location).fields == HERE) == (left_out > 0)


@pytest.mark.parametrize(
    "location",
    [{"city": "Austin"}, {"postal_code": 78701}, {"address_line_1": "x"}]
    + [{f"lightbox_{name}": "1"} for name in ("assessment_id", "building_id", "parcel_id")]
    + [{"lightbox_parcel_wkt": "POLYGON((0 0, 1 1, 1 0, 0 0))"}],
)
def test_what_is_enough_to_look_up(location: dict[str, Any]) -> None:
    """Each of these alone can be looked up."""
    assert normalize(location).fields


@pytest.mark.parametrize("location", [{}, "", {"state": "TX", "country": "US"}, {"bldg_name": "x"}])
def test_nothing_to_look_up(location: Any) -> None:
    """What names no place is refused with a sentence that says what would."""
    with pytest.raises(InputError, match="nothing to look up: no address"):
        normalize(location)


def test_a_row_of_no_place_says_so() -> None:
    """0, 0 is where geocoders put what they did not find; alone it is no question to pay for."""
    for location in (Location(latitude=0, longitude=0), {"latitude": "0", "longitude": "0"}):
        with pytest.raises(InputError, match=r"its coordinates \(0, 0\) are no place"):
            normalize(location)
    with pytest.raises(InputError, match=r"\(38.9, missing\)"):
        normalize({"latitude": 38.9, "state": "MD"})


@pytest.mark.parametrize("location", [None, 5, ["1 Main St"], b"1 Main St", object()])
def test_what_is_no_location(location: Any) -> None:
    """What is of another type is refused by the name of that type."""
    with pytest.raises(InputError, match=type(location).__name__):
        normalize(location)


@pytest.mark.parametrize(
    ("value", "text"), [(78701, "78701"), (78701.0, "78701"), (" 07001 ", "07001"), (1.5, "1.5")]
)
def test_texts_that_came_as_numbers(value: object, text: str) -> None:
    """A ZIP code that a spreadsheet made a number of is sent as text; as text it keeps its zero."""
    assert sent(postal_code=value) == {"postal_code": text}


@pytest.mark.parametrize("value", [["x"], {"a": 1}, True, b"x"])
def test_texts_that_are_none(value: object) -> None:
    """An object in the place of a text is a mistake of the input, named by its field."""
    with pytest.raises(InputError, match="city is of type"):
        normalize(HERE | {"city": value})


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("a", "a"),
        (7, "7"),
        (7.0, "7"),
        (0, "0"),
        (1.5, "1.5"),
        (" a ", " a "),
        ("", None),
        (None, None),
        (NAN, None),
        (math.inf, "inf"),
    ],
)
def test_ids(value: object, read: str | None) -> None:
    """Ids of any type become text; the empty ones of data frames count as missing."""
    assert normalize(HERE | {"id": value}).id == read
    assert b"id" not in normalize(HERE | {"id": value}).encoded


def test_ids_of_other_forms() -> None:
    """A Location's id is its own, a plain address has none."""
    assert normalize(Location(id="x", city="y")).id == "x"
    assert normalize("1 Main St").id is None


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
def test_surrogates_are_refused(value: str) -> None:
    """Text that is not Unicode cannot be sent, and is refused before it is."""
    with pytest.raises(InputError, match="cannot be sent as JSON"):
        normalize({"address": value})
    with pytest.raises(InputError):
        normalize(HERE | {"datasource_config": f'{{"x": "{value}"}}'})


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        ("PG,ph,PH,pg", ("PG", "ph")),
        ("PG", ("PG",)),
        ("PG,PH", ("PG", "PH")),
        (" PG ; PH|LB\tGG\n", ("PG", "PH", "LB", "GG")),
        (["PG", " PH ", "PG", ""], ("PG", "PH")),
        (("PH", "PG"), ("PH", "PG")),
        ({"PG"}, ("PG",)),
        ("", ()),
        (" , ", ()),
        ([], ()),
    ],
)
def test_sources(value: object, codes: tuple[str, ...]) -> None:
    """Source codes come as a list or a text, each is kept once; none means those of the run."""
    assert clean_sources(value) == codes
    normalized = normalize(HERE | {"sources": value})
    assert normalized.sources == (codes or None)
    assert normalized.fields.get("sources") == (list(codes) or None)


@pytest.mark.parametrize("value", [5, ["PG", 5], {"PG": 1}, [None], b"PG"])
def test_sources_that_are_none(value: object) -> None:
    """Anything else is refused."""
    with pytest.raises(InputError, match="sources must be codes such as PG"):
        normalize(HERE | {"sources": value})


@pytest.mark.parametrize("value", ['{"PH": {"x": 1}}', {"PH": {"x": 1}}])
def test_datasource_config(value: object) -> None:
    """A configuration is an object, or in a file its JSON."""
    assert sent(datasource_config=value) == {"datasource_config": {"PH": {"x": 1}}}


@pytest.mark.parametrize("value", ["{", "[1]", "1", '"x"', "x", ["x"], 5, '{"a":' * 9999, "\ud800"])
def test_datasource_config_that_is_none(value: object) -> None:
    """Anything else is refused by its name."""
    with pytest.raises(InputError, match="datasource_config"):
        normalize(HERE | {"datasource_config": value})


def test_datasource_config_that_json_cannot_hold() -> None:
    """An object that no JSON can hold is refused, one that holds itself too."""
    endless: dict[str, Any] = {}
    endless["x"] = endless
    for value in (endless, {"x": object()}):
        with pytest.raises(InputError, match="cannot be sent as JSON"):
            normalize(HERE | {"datasource_config": value})


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.from_regex(r"[-+$]?[0-9,._]{1,9}(e[0-9]{1,3})?", fullmatch=True)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    location=st.dictionaries(
        st.sampled_from(sorted(FIELDS | {"id", "other"})), anything, max_size=8
    )
)
def test_any_mapping_is_sent_or_refused(location: dict[str, Any]) -> None:
    """Whatever a mapping holds: valid JSON with something to look up, or InputError."""
    values = normalize_batch([location]).noted.get(0, [])
    try:
        body = normalize(location).encoded
    except InputError:
        return
    decoded = json.loads(body, parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
    assert decoded
    assert set(decoded) <= FIELDS & set(location)
    assert len(values) <= len(location)
    assert ("latitude" in decoded) == ("longitude" in decoded)
    assert abs(decoded.get("latitude", 0)) <= 90
    assert abs(decoded.get("longitude", 0)) <= 180


@given(text=st.text())
def test_any_address_is_sent_or_refused(text: str) -> None:
    """Any text is an address, but for blanks, a dash or the like, and what is not Unicode."""
    try:
        body = normalize(text).encoded
    except InputError:
        assert (
            not text.strip()
            or says_nothing(text.strip())
            or any("\ud800" <= c <= "\udfff" for c in text)
        )
    else:
        assert json.loads(body) == {"address": text.strip()}


@pytest.mark.parametrize("text", ["-", "--", "???", ".", "N", "7"])
def test_what_stands_where_nothing_is_known(text: str) -> None:
    """A dash is no address, and costs nothing; a letter or a digit may be one."""
    rows = [{"address": text}, {"address": text, "city": "Boston"}]
    is_nothing = not text.isalnum()
    batch = normalize_batch(rows)
    assert batch.refused.keys() == ({0} if is_nothing else set())
    assert normalize(rows[1]).fields == ({"city": "Boston"} if is_nothing else rows[1])
    if is_nothing:
        with pytest.raises(InputError, match="nothing to look up"):
            normalize(rows[0])
