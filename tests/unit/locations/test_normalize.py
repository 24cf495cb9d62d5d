"""Many locations at once are normalized exactly as each value by itself."""

from __future__ import annotations

import enum
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.locations import normalize as normalize_module
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import (
    ADDRESS_FIELDS,
    FIELDS,
    LOOKUP_FIELDS,
    AnyLocation,
    UnreadableError,
    in_order,
    read_field,
)
from pingdata_async.locations.normalize import (
    Columns,
    NormalizedBatch,
    fault_of_pair,
    normalize,
    normalize_batch,
)
from pingdata_async.models import Location
from pingdata_async.value_notes import NotedValue, ValueKind
from tests.support.hostile_text import (
    BOOLEANS,
    CELLS,
    ODD_NUMBERS,
    PLAIN_NUMBERS,
    PLAIN_TEXTS,
    SURROGATES,
    VALUES,
)
from tests.support.sweeps import sampled

NAMES = ("id", "address_line_1", "address_line_2", "city", "postal_code", "latitude", "longitude")
MORE_NAMES = ("limits__bi_limit", "const__num_stories", "dtc_return_connected_coastlines")
RULES_OF_THEIR_OWN = ("sources", "datasource_config")


def by_definition(location: Any) -> tuple[dict[str, Any] | None, list[NotedValue]]:
    """What is sent of a location, read value by value; None where it is refused; and the notes."""
    noted: list[NotedValue] = []
    if isinstance(location, str):
        location = {"address": location}
    elif isinstance(location, Location):
        location = msgspec.structs.asdict(location)
    elif not isinstance(location, Mapping):
        return None, noted
    fields: dict[str, Any] = {}
    is_refused = False
    for name, value in location.items():
        if name not in FIELDS:
            continue
        try:
            fields[name] = read_field(name, value, location)
        except UnreadableError as error:
            noted.append(NotedValue(name, error.kind, value))
        except InputError:
            is_refused = True
    fields = {name: value for name, value in fields.items() if value is not None}
    has_address = any(name in fields for name in ADDRESS_FIELDS)
    kind = fault_of_pair(*map(fields.get, COORDINATES), has_address=has_address)
    if kind is not None:
        left_out = [name for name in COORDINATES if name in fields]
        noted += [NotedValue(name, kind, location[name]) for name in left_out]
        fields = {name: value for name, value in fields.items() if name not in left_out}
    if is_refused or not any(name in fields for name in (*LOOKUP_FIELDS, "latitude")):
        return None, noted
    return in_order(fields), noted


def check_as_defined(locations: Columns | Sequence[Any]) -> None:
    """Fails where a batch differs from what is read of each row value by value."""
    batch = normalize_batch(locations)
    assert len(batch.ids) == len(batch.encoded) == len(locations)
    assert batch.noted.keys() <= set(range(len(locations)))
    for place in range(len(locations)):
        fields, noted = by_definition(locations[place])
        try:
            encoded = None if fields is None else msgspec.json.encode(fields)
        except (TypeError, ValueError, OverflowError, RecursionError):
            encoded = None
        assert sorted(batch.noted.get(place, []), key=repr) == sorted(noted, key=repr)
        assert (place in batch.refused) == (encoded is None)
        if encoded is None or fields is None:
            continue
        alone = normalize(locations[place])
        assert batch.encoded[place] == alone.encoded == encoded
        assert batch.ids[place] == alone.id
        assert type(batch.ids[place]) is type(alone.id)
        assert batch.sources.get(place) == alone.sources
        assert batch.row(place) == alone.fields == fields
        assert (alone.sources is not None) == ("sources" in fields)


def batch_of(locations: Columns | Sequence[AnyLocation]) -> NormalizedBatch:
    """Checked as well."""
    check_as_defined(locations)
    return normalize_batch(locations)


LIKELY: dict[str, st.SearchStrategy[str]] = dict.fromkeys(NAMES, st.sampled_from(PLAIN_TEXTS)) | {
    name: st.sampled_from((*PLAIN_NUMBERS, *PLAIN_NUMBERS, ""))
    for name in ("latitude", "longitude", *MORE_NAMES)
}


@st.composite
def tables(draw: st.DrawFn) -> Columns:
    """Tables most of whose columns are plain, but not all of them."""
    known = st.sampled_from(NAMES) | st.sampled_from(NAMES + MORE_NAMES)
    names = draw(st.lists(known | st.sampled_from(sorted(FIELDS)), min_size=1, unique=True))
    rows = draw(st.integers(1, 6))
    columns = []
    for name in names:
        likely = LIKELY.get(name, CELLS)
        cells = draw(st.sampled_from((likely, likely, likely | st.just(""), likely | CELLS, CELLS)))
        columns.append(draw(st.lists(cells, min_size=rows, max_size=rows)))
    return Columns(tuple(names), columns)


@given(tables())
def test_tables_of_texts(table: Columns) -> None:
    """Whatever is in its cells."""
    check_as_defined(table)


@st.composite
def mappings(draw: st.DrawFn) -> list[Any]:
    """Mappings that are mostly alike, some with other names, in another order, of other kinds."""
    known = st.sampled_from(NAMES) | st.sampled_from((*NAMES, *MORE_NAMES, "other"))
    names = draw(
        st.lists(known | st.sampled_from(sorted(FIELDS)), min_size=1, max_size=8, unique=True)
    )
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name in names:
        plain: st.SearchStrategy[Any] = LIKELY.get(name, CELLS)
        if name in {"latitude", "longitude"}:
            plain |= st.floats(-90, 90)
        values[name] = draw(st.sampled_from((plain, plain, plain | st.none(), plain | VALUES)))
    shape = st.fixed_dictionaries(values)
    some = st.lists(st.sampled_from(names), unique=True).flatmap(
        lambda some: st.fixed_dictionaries({name: values[name] for name in some})
    )
    forms = draw(
        st.sampled_from((shape, shape, some, shape | some, shape | CELLS, shape | SURROGATES))
    )
    return draw(st.lists(forms, min_size=1, max_size=6))


@given(mappings())
def test_mappings(locations: list[Any]) -> None:
    """Whatever they hold, with names in whatever order."""
    check_as_defined(locations)


structs = st.builds(
    Location,
    **{
        name: st.none() | LIKELY[name] | (VALUES if name == "city" else st.floats(-180, 180))
        if name in {"latitude", "longitude", "city"}
        else st.none() | LIKELY[name]
        for name in (*NAMES, *MORE_NAMES)
    },
)


@given(st.lists(structs, min_size=1, max_size=6), st.lists(CELLS, max_size=1))
def test_structs(locations: list[Any], others: list[Any]) -> None:
    """`Location` checks no types when it is made; among them may be other forms."""
    check_as_defined(locations + others)


def test_what_is_stripped_is_what_python_strips() -> None:
    """Every character that is white space to it, at either end, in a batch as in a row."""
    blanks = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    batch_of(Columns(("city",), [[f"{blank}x{blank}" for blank in blanks] + blanks]))
    assert len(batch_of(["x", *blanks]).refused) == len(blanks)


@pytest.mark.parametrize("part", sampled(range(8), 1))
def test_what_is_a_number_is_what_it_is_in_a_row(part: int) -> None:
    """Every character that Python may take for a digit, a blank or a part of a number."""
    letters = [chr(code) for code in range(sys.maxunicode + 1)]
    odd = [c for c in letters if c.isascii() or c.isspace() or c.isnumeric()]
    for text in (f"{c}5" for c in odd[part::8]):
        for cell in (text, text[::-1], f"5{text}", f"-{text}"):
            cells = [["x", "y"], ["5", cell], ["5", "5"]]
            batch_of(Columns(("city", "latitude", "longitude"), cells))


@pytest.mark.parametrize("text", [*PLAIN_NUMBERS, *ODD_NUMBERS, *BOOLEANS, "", " ", "\x00"])
def test_texts_of_numbers(text: str) -> None:
    """Each alone, among plain ones, among empty ones; in fields of every kind of number."""
    names = ("city", "latitude", "longitude", "const__num_stories", "limits__bi_limit")
    for others in ([], ["5", "6"], ["", ""], ["5", ""], ["n/a", "5"]):
        for cells in ([text, *others], [*others, text]):
            batch_of(Columns(names, [["Boston"] * len(cells), *[cells] * 4]))


@pytest.mark.parametrize(
    "value", [38.5, 5, 0, -0.0, True, None, "38.5", float("nan"), float("inf"), 1e300, 10**400]
)
@pytest.mark.parametrize("others", [[], [1.5, 2.5], [1.5, None], [None], ["5"], [3]])
def test_numbers(value: object, others: list[Any]) -> None:
    """A NaN is found wherever it stands; none of them costs the batch."""
    for numbers in ([value, *others], [*others, value]):
        batch_of(
            [
                {"city": "x", "longitude": 5.0}
                | dict.fromkeys(("latitude", "limits__bi_limit", "const__num_stories"), n)
                for n in numbers
            ]
        )


def test_values_are_noted_by_place() -> None:
    """Also those of rows that are refused."""
    batch = batch_of(
        Columns(
            ("city", "latitude", "longitude"),
            [["x", "", "y", "z"], ["91", "up", "5", "0"], ["5", "", "5", "-0.0"]],
        )
    )
    assert batch.noted == {
        0: [
            ("latitude", ValueKind.NO_COORDINATES, "91"),
            ("longitude", ValueKind.HALF_OF_A_PAIR, "5"),
        ],
        1: [("latitude", ValueKind.UNREADABLE, "up")],
        3: [
            ("latitude", ValueKind.NO_COORDINATES, "0"),
            ("longitude", ValueKind.NO_COORDINATES, "-0.0"),
        ],
    }
    assert batch.refused.keys() == {1}
    assert batch.encoded[2] == b'{"city":"y","latitude":5.0,"longitude":5.0}'
    assert batch.encoded[3] == b'{"city":"z"}'


@pytest.mark.parametrize(
    "locations",
    [
        [{"city": "a", "state": "b"}, {"city": "a"}, {"state": "b"}, {"id": "x", "state": "b"}],
        [{"city": "a", "county": "b"}, {"city": "a", "state": "x", "county": "b"}, "1 Main St"],
        [{"city": "a", "state": "b"}, {"state": "a", "city": "b"}],
        [{"state": "b", "other": [1]}, {"city": "a", "other": {}}, {}],
        [Location(city="x"), Location(latitude=0.0, longitude=0.0), Location()],
        ["1 Main St", "", " 2 Oak Ave "],
        [{"city": "x", "sources": "", "datasource_config": None}],
    ],
)
def test_rows_need_not_have_the_same_fields(locations: list[Any]) -> None:
    """Nor have them in the same order: they are sent in one."""
    batch_of(locations)


class Text(str):
    __slots__ = ()

    def strip(self, _chars: str | None = None, /) -> str:
        return "other"


class Color(str, enum.Enum):  # noqa: UP042 - whose str() is not its value, on purpose
    RED = "red"


@pytest.mark.parametrize(
    "location",
    [
        *(OrderedDict(city="x"), MappingProxyType({"city": "x"}), None, 5, b"x"),
        *({"city": Text("x")}, {"city": Color.RED}, {"id": Color.RED, "city": "x"}, Text("x")),
        *({"city": ["x"]}, {"city": True}, {"city": b"x"}, {"city": "\ud800"}, {"city": [{}]}),
        *({"city": "x", "sources": "PG"}, {"city": "x", "sources": 0}, {"sources": ["PG"]}),
        *({"city": "x", "datasource_config": {}}, {"city": "x", "datasource_config": "{}"}),
        *({"city": "x", "datasource_config": {"a": 1}}, {"city": "x", "datasource_config": "{"}),
        {"city": "x", "datasource_config": {"a": object()}},
        Location(sources=["PG"], city="x"),
    ],
)
def test_what_is_unusual_costs_no_other_row(location: Any) -> None:
    """Forms, types and fields that have rules of their own."""
    batch_of([location, {"city": "y", "state": "z"}, location])


@pytest.mark.parametrize("locations", [[], [{}], [{"other": "x"}], [{"id": "x"}], [Location()]])
def test_rows_without_a_field_are_refused(locations: list[Any]) -> None:
    """There is nothing to look up."""
    batch = batch_of(locations)
    assert batch.refused.keys() == set(range(len(locations)))


def test_a_row_is_refused_with_the_sentence_of_its_own() -> None:
    """Whatever the others are refused for."""
    locations: list[Any] = [{"city": ["x"]}, "", {"city": "\ud800"}, "1 Main St", 5]
    batch = batch_of(locations)
    assert {place: error[:20] for place, error in batch.refused.items()} == {
        0: "city is of type list",
        1: "nothing to look up: ",
        2: "cannot be sent as JS",
        4: "a location is a Loca",
    }


NUMBERS = st.sampled_from(["-0", "-0.0", "1E+5", " 1", "007", ".5", "5.", "+1", "1e400", "9" * 25])


@given(
    st.lists(NUMBERS | st.floats(allow_nan=False).map(repr) | st.integers().map(str), max_size=9)
)
def test_numbers_are_those_of_float(texts: list[str]) -> None:
    """To the last bit and the sign of zero, although another parser reads most of them."""
    read = normalize_module._floats(texts, ",".join(texts))
    assert list(map(repr, read or [])) == [repr(float(text)) for text in texts]
