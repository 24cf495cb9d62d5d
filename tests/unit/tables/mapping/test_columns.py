"""Columns become fields: what is settled by the headers, and what has to be said."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.fields import FIELDS
from pingdata_async.locations.normalize import normalize_batch
from pingdata_async.tables.mapping.columns import (
    ColumnMapping,
    check_complete,
    map_columns,
    map_more_columns,
    mapping_lines,
)
from pingdata_async.tables.readers.table_rows import is_total_row, row_places
from pingdata_async.value_notes import ValueKind
from tests.support.hostile_text import VALUES
from tests.support.sov_forms import FORMS, Form
from tests.unit.locations.test_normalize import check_as_defined


def fields_of(mapping: ColumnMapping) -> dict[str, tuple[str, ...]]:
    return {column.field: column.headers for column in mapping.columns}


def mapped(*headers: str, **given: str) -> dict[str, str]:
    """What each field is made of, as text."""
    mapping = map_columns("in.csv", headers, given=given)
    return {field: " + ".join(made_of) for field, made_of in fields_of(mapping).items()}


def refusal(*headers: str, given: Mapping[str, str] = {}) -> str:
    with pytest.raises(InputError) as caught:
        map_columns("in.csv", headers, given=given)
    message = str(caught.value)
    assert message.startswith("in.csv")
    assert "\n" not in message
    return message


def options_in(message: str) -> dict[str, str]:
    """The options that a message names, as a shell would read them."""
    options: dict[str, str] = {}
    for part in message.split("; "):
        if "--" not in part:
            continue
        words = shlex.split(part[part.index("--") :])
        field, _, header = words[1].partition("=")
        options[field] = header
    return options


# -- Addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Address", "Location Address", "Full Address", "address"])
def test_an_address_alone_is_the_whole_of_it(header: str) -> None:
    """Without a column for a part of it, it is the one-line address."""
    assert mapped("Loc #", header, "TIV") == {"id": "Loc #", "address": header}


@pytest.mark.parametrize("part", ["City", "State", "Zip", "Town"])
def test_an_address_beside_its_parts_is_the_street_line(part: str) -> None:
    """A city, a state or a postal code beside it tell so."""
    assert mapped("Address", part)["address_line_1"] == "Address"
    assert "address" not in mapped("Address", part)


def test_the_apis_own_address_beside_the_apis_own_parts() -> None:
    """Spelled as the API does all through, `address` is the API's field."""
    own = mapped("id", "address", "city", "postal_code")
    assert own == {name: name for name in ("id", "address", "city", "postal_code")}


def test_address_among_words_of_other_people() -> None:
    """A table of address, city and zip has its street in the first of them."""
    assert mapped("address", "city", "state", "zip") == {
        "address_line_1": "address",
        "city": "city",
        "state": "state",
        "postal_code": "zip",
    }


def test_a_full_address_beside_its_parts() -> None:
    """A row has the parts, or else what says that it is whole; never both."""
    mapping = map_columns("in.csv", ("Full Address", "Street", "City"))
    rows = [
        ("12 Main St, Boston", "12 Main St", "Boston"),
        ("14 Main St, Boston", "14 Main St", ""),
        ("16 Main St, Boston", "", "Boston"),
        ("", "18 Main St", ""),
    ]
    located = mapping.located(list(zip(*rows, strict=True)), are_texts=True)
    assert [located[row] for row in range(4)] == [
        {"address_line_1": "12 Main St", "city": "Boston"},
        {"address": "14 Main St, Boston"},
        {"address": "16 Main St, Boston", "city": "Boston"},
        {"address_line_1": "18 Main St"},
    ]


def test_a_street_line_is_made_of_parts() -> None:
    """In the order of an address, whatever that of the columns."""
    headers = ("City", "Street Name", "Unit", "House No.", "Post Dir", "Street Type", "PreDir")
    mapping = map_columns("in.csv", headers)
    assert fields_of(mapping)["address_line_1"] == (
        *("House No.", "PreDir", "Street Name", "Street Type", "Post Dir", "Unit"),
    )
    rows = [
        ("Boston", "Main", "4B", "12", "", "St", "N"),
        ("Boston", "12 Main St", "", "12", "", "", ""),
        ("Boston", "121 Main St", "", "12", "", "", ""),
        ("Boston", "", " ", "", "", "", ""),
    ]
    located = mapping.located(list(zip(*rows, strict=True)), are_texts=True)
    lines = located.columns[located.names.index("address_line_1")]
    assert list(lines) == ["12 N Main St Unit 4B", "12 Main St", "12 121 Main St", ""]


def test_a_street_alone_is_a_whole_line() -> None:
    """Only parts beside it make it the name of one; without a street there is no line."""
    assert mapped("Street", "City")["address_line_1"] == "Street"
    assert mapped("House #", "Street", "City")["address_line_1"] == "House # + Street"
    assert mapped("House #", "Street Address", "City")["address_line_1"] == (
        "House # + Street Address"
    )
    whole = mapped("House #", "Street Name", "Street Address", "City")
    assert whole["address_line_1"] == "Street Address"
    assert "address_line_1" not in mapped("House #", "City")


def test_a_part_that_is_there_twice() -> None:
    """Which of two streets the house number is of is not guessed."""
    headers = ("House #", "Street", "Street Name", "City")
    message = refusal(*headers)
    assert '"House #" + "Street" or "House #" + "Street Name"' in message
    mapping = map_columns("in.csv", headers, given=options_in(message))
    assert fields_of(mapping)["address_line_1"] == ("House #", "Street")


def test_how_many_units_a_total_has() -> None:
    """A count below the units makes no address of a row of totals; a street does."""
    places = row_places(map_columns("in.xlsx", ("Loc", "Unit", "House #", "Street", "City")))
    assert is_total_row(["Total", 24, 12, None, None], places)
    assert not is_total_row(["Total", 24, 12, "Main St", None], places)


def test_parts_that_are_numbers() -> None:
    """A workbook's 12.0 is house number 12."""
    mapping = map_columns("in.xlsx", ("House #", "Street", "City"))
    located = mapping.located(
        [[12.0, None, math.nan], ["Main St", "Elm St", None], ["Boston"] * 3], are_texts=False
    )
    assert list(located.columns[0]) == ["12 Main St", "Elm St", ""]
    assert located[1] == {"address_line_1": "Elm St", "city": "Boston"}


# -- Coordinates -----------------------------------------------------------------------------


def test_two_coordinates_in_one_column() -> None:
    """They are split; what is no pair is left for the reader of numbers to refuse, once."""
    mapping = map_columns("in.csv", ("Lat/Long", "TIV"))
    pairs = {
        "25.77, -80.19": ("25.77", "-80.19"),
        "(25.77,-80.19)": ("25.77", "-80.19"),
        " 25.77 -80.19 ": ("25.77", "-80.19"),
        "25.77/-80.19": ("25.77", "-80.19"),
        "": ("", ""),
        "TBD": ("TBD", ""),
        "0, 0": ("0, 0", ""),
        "25 46 12 N, 80 11 24 W": ("25 46 12 N", "80 11 24 W"),
    }
    located = mapping.located([list(pairs), [""] * len(pairs)], are_texts=True)
    assert located.names == ("latitude", "longitude")
    assert list(zip(*located.columns, strict=True)) == list(pairs.values())
    normalized = normalize_batch(located)
    assert normalized.refused.keys() == {4, 5, 6}
    assert normalized.noted.keys() == {5, 6}
    assert normalized.noted[6] == [("latitude", ValueKind.UNREADABLE, "0, 0")]


def test_columns_of_their_own_are_better() -> None:
    """A pair in one column is not used where each has its own."""
    assert mapped("Lat/Long", "Lat", "Long") == {"latitude": "Lat", "longitude": "Long"}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (("Lat Deg", "Lat Min", "Lat Mins", "Long"), '"Lat Deg" + "Lat Min" or "Lat Deg" + "Lat M'),
        (("Lat", "Lat Dir", "Lat Ref", "Long"), '"Lat" + "Lat Dir" or "Lat" + "Lat Ref"'),
        (("Lat Min", "Long Min"), "no column to look up"),
        (("Lat", "Long Deg", "Long Sec"), "no column to look up"),
        (("Lat Deg", "Min", "Sec", "Long Deg"), "no column to look up"),
    ],
)
def test_parts_of_coordinates_that_make_no_one(headers: tuple[str, ...], said: str) -> None:
    """Of two for the same part none is guessed; minutes or seconds alone are nothing."""
    with pytest.raises(InputError, match=re.escape(said)):
        map_columns("in.csv", headers)


def test_a_pair_may_be_named() -> None:
    """The same column given for both is split as well."""
    mapping = map_columns(
        "in.csv", ("Where", "x"), given={"latitude": "Where", "longitude": "Where"}
    )
    located = mapping.located([["1, 2"], ["y"]], are_texts=True)
    assert located[0] == {"latitude": "1", "longitude": "2"}


# -- Two for one -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        *("postal_code|Zip|Postal Code", "city|City|Town", "city|City|CITY", "city|city|City"),
        *("id|ID|id", "county|county|COUNTY", "state|State|Province", "id|Loc #|Location ID"),
        *("address_line_1|Street|Location Address", "limits__bpp_limit|Contents|BPP"),
        *('limits__building_limit|Building Value|Bldg "Value" $', "latitude|Lat|Latitude"),
        "const__num_stories|# Stories|Stories `#` \\",
    ],
)
def test_two_headers_for_one_field(table: str) -> None:
    """Neither is taken; the option in the message settles it, and the other is not used."""
    field, first, second = table.split("|")
    headers = ("County" if field == "postal_code" else "Postal Code", first, second)
    message = refusal(*headers)
    assert " ".join(first.split()) in message
    assert " ".join(second.split()) in message
    options = options_in(message)
    assert list(options) == [field]
    mapping = map_columns("in.csv", headers, given=options)
    assert fields_of(mapping)[field] == (first,)
    assert second in mapping.unused


def test_all_doubts_are_told_at_once() -> None:
    """One more run settles all of them."""
    headers = ("Zip", "Postal Code", "City", "Town", "Loc #", "Loc ID")
    options = options_in(refusal(*headers))
    assert set(options) == {"postal_code", "city", "id"}
    map_columns("in.csv", headers, given=options)


@pytest.mark.parametrize(
    ("own", "other"),
    [("city", "Town"), ("id", "Loc #"), ("postal_code", "Zip"), ("address_line_1", "Street")],
)
def test_the_name_of_a_field_and_another_word_for_it(own: str, other: str) -> None:
    """Nothing says that the one spelled as the API does is meant: both are shown, as any two."""
    options = options_in(refusal("latitude", "longitude", own, other))
    assert set(options) == {own}
    assert options[own] in {own, other}
    mapping = map_columns("in.csv", ("latitude", "longitude", own, other), given=options)
    assert fields_of(mapping)[own] == (options[own],)
    assert len(mapping.unused) == 1


def test_the_same_header_twice() -> None:
    """Nothing tells the two apart: one is renamed, or none is sent."""
    headers = ("Address", "City", "City", "State")
    message = refusal(*headers)
    assert "2 columns" in message
    assert '"City"' in message
    mapping = map_columns("in.csv", headers, given=options_in(message))
    assert mapping.unused == ("City", "City")
    assert "rename" in refusal(*headers, given={"city": "City"})


def test_headers_twice_that_mean_nothing() -> None:
    """They are no matter."""
    assert map_columns("in.csv", ("Zip", "x", "x", "", "")).unused == ("x", "x")


def test_what_is_more_precise_wins() -> None:
    """A limit before a value, a code before a name, a place's number before a building's."""
    assert mapped("Zip", "Building Value", "Building Limit")["limits__building_limit"] == (
        "Building Limit"
    )
    assert mapped("Zip", "State Name", "State Code")["state"] == "State Code"
    assert mapped("Zip", "Bldg #", "Loc #")["id"] == "Loc #"
    assert mapped("Zip", "Bldg #")["id"] == "Bldg #"
    assert mapped("Zip", "Location Name", "Bldg Name")["bldg_name"] == "Bldg Name"


# -- What is given ---------------------------------------------------------------------------


def test_what_is_given_overrules() -> None:
    """The column is that, and a candidate for nothing else."""
    headers = ("Loc #", "Street Address", "City", "Town")
    mapping = map_columns(
        "in.csv",
        headers,
        given={"address": "Street Address", "city": "Town", "id": "city"},
    )
    assert fields_of(mapping) == {
        "address": ("Street Address",),
        "id": ("City",),
        "city": ("Town",),
    }
    assert mapping.unused == ("Loc #",)


def test_a_given_header_may_be_written_in_another_way() -> None:
    """As it stands there is best; else what reads the same."""
    assert mapped("Zip", "Town  Hall\nname", city="town hall NAME")["city"] == "Town  Hall\nname"
    assert mapped("Zip", "x", "X", city="X")["city"] == "X"
    assert mapped("Zip", " x ", city="x ")["city"] == " x "


def test_nothing_may_be_given() -> None:
    """Then nothing is sent for that field."""
    mapping = map_columns(
        "in.csv", ("Loc #", "Zip", "City"), given={"city": "", "Latitude": " ", "id": ""}
    )
    assert fields_of(mapping) == {"postal_code": ("Zip",)}
    assert mapping.unused == ("Loc #", "City")
    assert not map_columns("in.jsonl", ("zip", "city"), given={"city": ""}).is_as_named


def test_columns_are_joined_by_hand() -> None:
    """For any text, in the order in which they are given, and nothing twice."""
    headers = ("STREET", "NUMBER", "City", "Zip+4", "Floor+Room", "Lat")
    options = {
        "address_line_1": "number + STREET",
        "postal_code": "Zip+4",
        "bldg_name": "Floor+Room",
    }
    mapping = map_columns("in.csv", headers, given=options)
    made_of = fields_of(mapping)
    assert made_of["address_line_1"] == ("NUMBER", "STREET")
    assert made_of["postal_code"] == ("Zip+4",)  # as it stands
    assert made_of["bldg_name"] == ("Floor+Room",)
    rows = [("Main St", "12.0", "", "", "", ""), ("14 Main St", "14", "", "", "", "")]
    located = mapping.located(list(zip(*rows, strict=True)), are_texts=True)
    assert list(located.columns[0]) == ["12 Main St", "14 Main St"]
    assert fields_of(map_columns("in.csv", headers, given={"city": "Zip+4+City"}))["city"] == (
        "Zip+4",
        "City",
    )
    assert '"NUMBER+Stret"' in refusal(*headers, given={"address_line_1": "NUMBER+Stret"})
    with pytest.raises(ConfigurationError, match="const__num_stories, which is not text"):
        map_columns("in.csv", headers, given={"const__num_stories": "NUMBER+Lat"})


def test_a_coordinate_may_be_put_together_by_hand() -> None:
    """Where a part is blank, it is not."""
    given = {"latitude": "G+M+S", "longitude": "G2+M2"}
    mapping = map_columns("in.csv", ("G", "M", "S", "G2", "M2"), given=given)
    rows = [("40", "30", "0", "-79", "45"), ("40", "", "0", "-79", "")]
    located = mapping.located(list(zip(*rows, strict=True)), are_texts=True)
    assert list(zip(*located.columns, strict=True)) == [("40 30 0", "-79 45"), ("40 ? 0", "-79 ?")]
    normalized = normalize_batch(located)
    assert normalized.refused.keys() == {1}


def test_a_given_header_that_is_not_there() -> None:
    """The nearest one is named, or all."""
    assert 'did you mean "Zip Code"?' in refusal("Zip Code", given={"postal_code": "ZipCod"})
    assert 'found: "Zip Code"' in refusal("Zip Code", given={"city": "qqq"})
    assert '--map id="Lok #"' in refusal("Zip", "Loc #", given={"id": "Lok #"})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"zip": "Zip"}, "did you mean postal_code?"),
        ({"adress": "Zip"}, "did you mean address"),
        ({"qqqq": "Zip"}, "there are id, address"),
        ({"city": "Zip", "City": "Zip"}, "--map city is given twice"),
        ({"id": "Zip", "Id": "City"}, "--map id is given twice"),
    ],
)
def test_options_that_cannot_be(given: Mapping[str, str], says: str) -> None:
    """What is wrong without a look at the input is an error of the options."""
    with pytest.raises(ConfigurationError, match=says.replace("?", r"\?")):
        map_columns("in.csv", ("Zip", "City"), given=given)


def test_nothing_to_look_up() -> None:
    """The message says what there is, what is needed, and how to name it."""
    message = refusal("Loc #", "TIV", "State")
    assert '"Loc #", "TIV", "State"' in message
    assert "address_line_1" in message
    assert '--map address="Its Header"' in message
    assert "separated by commas" in refusal("Street;City")
    assert "and 250 more" in refusal(*(f"column {number}" for number in range(300)))
    assert refusal("Lat")
    assert mapped("Lat", "Long")


# -- Keys that come up later -----------------------------------------------------------------


def test_columns_that_come_up_later() -> None:
    """They are mapped when they do, as if they had always been there."""
    before = map_columns("in.jsonl", ("note", "x"), is_complete=False)
    after = map_more_columns("in.jsonl", before, ("note", "x", "Zip", "y"))
    assert fields_of(after) == {"postal_code": ("Zip",)}
    assert after.unused == ("note", "x", "y")
    check_complete("in.jsonl", after, ("note", "x", "Zip", "y"))


@pytest.mark.parametrize(
    ("first", "later", "field"),
    [
        ("Address", "City", "address_line_1"),
        ("State", "State Code", "state"),
        ("address", "zip", "address_line_1"),
    ],
)
def test_a_column_must_not_change_its_meaning(first: str, later: str, field: str) -> None:
    """Rows of one input are treated alike; the option in the message settles it."""
    headers = (first, "County")
    before = map_columns("in.jsonl", headers, is_complete=False)
    with pytest.raises(InputError, match="before other columns appeared") as caught:
        map_more_columns("in.jsonl", before, (*headers, later))
    message = str(caught.value)
    assert f'--map {field}="{first}"' in message
    options = {field: first}
    before = map_columns("in.jsonl", headers, given=options, is_complete=False)
    after = map_more_columns("in.jsonl", before, (*headers, later), given=options)
    assert fields_of(after)[field] == (first,)


def test_what_must_be_there_in_the_end() -> None:
    """A given column, and something to look up, unless rows are plain addresses."""
    given = {"city": "Town"}
    mapping = map_columns("in.jsonl", ("Zip",), given=given, is_complete=False)
    with pytest.raises(InputError, match='no column "Town"'):
        check_complete("in.jsonl", mapping, ("Zip",), given=given)
    nothing = map_columns("in.jsonl", ("x",), is_complete=False)
    with pytest.raises(InputError, match="no column to look up"):
        check_complete("in.jsonl", nothing, ("x",))
    check_complete("in.jsonl", nothing, ("x",), has_addresses=True)


def test_a_file_of_failures() -> None:
    """What it notes beside the rows as they were is neither used nor listed."""
    mapping = map_columns("out.failures.jsonl", ("row", "Zip", "reason", "x", "error"))
    assert fields_of(mapping) == {"postal_code": ("Zip",)}
    assert mapping.unused == ("x",)
    assert map_columns("in.csv", ("row", "Zip")).unused == ("row",)
    map_columns("out.failures.jsonl", ("row", "reason", "error"))


def test_rows_that_need_no_mapping() -> None:
    """Where all names are the API's own, rows by name are used as they are."""
    assert map_columns("in.jsonl", ("id", "address", "city", "x")).is_as_named
    assert not map_columns("in.jsonl", ("id", "Address")).is_as_named
    assert not map_columns("in.jsonl", ("address", "zip")).is_as_named


# -- Published forms ------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_published_form_needs_no_option(form: Form) -> None:
    """Each column that the API has a field for is found, and nothing else is sent."""
    mapping = map_columns("sov.xlsx", form.headers)
    assert {
        column.field: column.headers[0] if len(column.headers) == 1 else column.headers
        for column in mapping.columns
    } == form.fields
    for column in mapping.columns:
        assert tuple(form.headers[place] for place in column.places) == column.headers
    used = {place for column in mapping.columns for place in column.places}
    assert mapping.unused == tuple(
        header for place, header in enumerate(form.headers) if place not in used
    )


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_order_of_columns_means_nothing(form: Form) -> None:
    """The same form backwards is read the same."""
    forth = map_columns("sov.xlsx", form.headers)
    back = map_columns("sov.xlsx", form.headers[::-1])
    assert {column.field: column.headers for column in forth.columns} == {
        column.field: column.headers for column in back.columns
    }


# -- Any headers -----------------------------------------------------------------------------

KNOWN = sorted({header for form in FORMS.values() for header in form.headers})


@given(st.lists(st.sampled_from(KNOWN) | st.sampled_from(sorted(FIELDS)) | st.text(), max_size=12))
def test_any_headers(headers: list[str]) -> None:
    """Each column is used or listed, each field is sent once; or the message is one line."""
    error: InputError | None = None
    try:
        mapping = map_columns("in.csv", headers)
    except InputError as caught:
        error = caught
    if error is not None:
        assert str(error).splitlines() == [str(error)]
        return
    used = [place for column in mapping.columns for place in column.places]
    assert len({column.field for column in mapping.columns}) == len(mapping.columns)
    assert {column.field for column in mapping.columns} <= {"id", *FIELDS}
    unused = [header for place, header in enumerate(headers) if place not in used]
    assert [header for header in unused if header.strip()] == [
        header
        for header in headers
        if header in mapping.unused or (header.strip() and header in unused)
    ]
    located = mapping.located([[f"{place}"] for place in range(len(headers))], are_texts=True)
    assert len(located) == 1
    assert msgspec.convert(msgspec.to_builtins(mapping), ColumnMapping) == mapping


@given(st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), min_size=1, max_size=4))
def test_cells_of_any_type(rows: list[tuple[Any, ...]]) -> None:
    """What is located is prepared as a batch just as it is row by row."""
    mapping = map_columns("in.xlsx", ("Zip", "Lat", "House #", "Street"))
    located = mapping.located(list(zip(*rows, strict=True)), are_texts=False)
    assert not located.are_texts
    check_as_defined(located)


def test_headers_that_are_whole_texts() -> None:
    """A file without a header, or with a page in its place, takes no time and shows on a line."""
    headers = ("word " * 200_000, "Address " * 100_000, "\x1b[31m", "Zip", "Zip\x1b")
    message = refusal(*headers)
    assert len(message) < 500
    assert message.isprintable()
    assert fields_of(map_columns("in.csv", headers, given=options_in(message)))["postal_code"] == (
        "Zip",
    )


def test_the_mapping_is_shown() -> None:
    """A line a field, and one for what is not used."""
    headers: Sequence[str] = ("House #", "Street", "City", "Lat/\nLong", "TIV", "x" * 200, "y")
    mapping = map_columns("in.csv", headers)
    lines = mapping_lines(mapping)
    assert lines == [
        'address_line_1 <- "House #" + "Street"',
        'city <- "City"',
        'latitude <- "Lat/ Long", its first half',
        'longitude <- "Lat/ Long", its second half',
        f'not used: "TIV", "{"x" * 77}...", "y"',
    ]
    assert mapping_lines(mapping, unused_at_most=1)[-1] == 'not used: "TIV" and 2 more'
    zips = map_columns("in.csv", ("Zip",))
    assert mapping_lines(zips) == ['postal_code <- "Zip"']
    samples = {"postal_code": ["02134", "02135"]}
    assert mapping_lines(zips, samples) == ['postal_code <- "Zip": 02134 | 02135']
