"""Many locations at once are prepared exactly as each by itself."""

from __future__ import annotations

import enum
import sys
from collections import OrderedDict
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.locations.batch import Columns, NormalizedBatch, normalize_batch
from pingdata_async.locations.normalize import FIELDS, AnyLocation, NormalizedLocation, normalize
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

NAMES = ("id", "address_line_1", "address_line_2", "city", "postal_code", "latitude", "longitude")
MORE_NAMES = ("limits__bi_limit", "const__num_stories", "dtc_return_connected_coastlines")
RULES_OF_THEIR_OWN = ("sources", "datasource_config")


def one_by_one(
    locations: Columns | Sequence[AnyLocation], noted: list[list[NotedValue]]
) -> list[NormalizedLocation | InputError]:
    outcomes: list[NormalizedLocation | InputError] = []
    for place in range(len(locations)):
        noted.append([])
        try:
            normalized = normalize(locations[place], noted[-1])
            normalized.encoded()  # refuses what cannot be sent
        except InputError as error:
            outcomes.append(error)
        else:
            outcomes.append(normalized)
    return outcomes


def is_prepared_alike(locations: Columns | Sequence[AnyLocation]) -> bool:
    """Fails where a batch differs from its rows; says whether it was one at all."""
    batch = normalize_batch(locations)
    if batch is None:
        return False
    noted: list[list[NotedValue]] = []
    outcomes = one_by_one(locations, noted)
    assert len(batch.ids) == len(batch.encoded) == len(outcomes)
    assert batch.noted.keys() <= set(range(len(outcomes)))
    for place, values in enumerate(noted):
        assert sorted(batch.noted.get(place, []), key=repr) == sorted(values, key=repr)
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, InputError):
            assert place in batch.refused, outcome
            continue
        assert place not in batch.refused
        assert batch.ids[place] == outcome.id
        assert type(batch.ids[place]) is type(outcome.id)
        assert batch.encoded[place] == outcome.encoded()
        assert outcome.sources is None
    return True


def batch_of(locations: Columns | Sequence[AnyLocation]) -> NormalizedBatch:
    """That of rows which are fit for it."""
    assert is_prepared_alike(locations)
    batch = normalize_batch(locations)
    assert batch is not None
    return batch


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
    assert isinstance(is_prepared_alike(table), bool)


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
    assert isinstance(is_prepared_alike(locations), bool)


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
    assert isinstance(is_prepared_alike(locations + others), bool)


def test_what_is_stripped_is_what_python_strips() -> None:
    """Every character that is white space to it, at either end, in a batch as in a row."""
    blanks = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    batch_of(Columns(("city",), [[f"{blank}x{blank}" for blank in blanks] + blanks]))
    assert len(batch_of(["x", *blanks]).refused) == len(blanks)


def test_what_is_a_number_is_what_it_is_in_a_row() -> None:
    """Every character that Python may take for a digit, a blank or a part of a number."""
    letters = [chr(code) for code in range(sys.maxunicode + 1)]
    odd = [c for c in letters if c.isascii() or c.isspace() or c.isnumeric()]
    for text in (f"{c}5" for c in odd):
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
    assert batch.refused == [1]
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
        *({"city": ["x"]}, {"city": True}, {"city": b"x"}, {"city": "\ud800"}, {"id": object()}),
        *({"city": "x", "sources": "PG"}, {"city": "x", "sources": 0}),
        *({"city": "x", "datasource_config": {}}, {"city": "x", "datasource_config": "{}"}),
        Location(sources=["PG"], city="x"),
    ],
)
def test_what_is_unusual_is_left_to_the_rows(location: Any) -> None:
    """Forms, types and fields that have rules of their own."""
    assert normalize_batch([location, {"city": "y", "state": "z"}, location]) is None


@pytest.mark.parametrize("locations", [[], [{}], [{"other": "x"}], [{"id": "x"}], [Location()]])
def test_rows_without_a_field_are_no_batch(locations: list[Any]) -> None:
    """Nothing is made of nothing."""
    assert normalize_batch(locations) is None
