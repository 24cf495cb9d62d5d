"""Values to the kind that holds them all."""

from __future__ import annotations

import datetime as dt
import functools
import json
import operator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.tables.schema.types import (
    NOTHING,
    Column,
    ColumnType,
    TypeSet,
    cells_of_type,
    choose,
    narrowest_type,
    promoted,
    text_of_cell,
    text_of_json,
    types_in_cells,
    types_in_json,
    unique_names,
)

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
)
MOMENT = dt.datetime.fromisoformat("2020-01-02T03:04:05")
TYPES: dict[ColumnType, Any] = {
    ColumnType.NOTHING: type(None),
    ColumnType.BOOLEAN: bool,
    ColumnType.INTEGER: int,
    ColumnType.NUMBER: float,
    ColumnType.TEXT: str,
    ColumnType.DATE: dt.date,
    ColumnType.DATETIME: dt.datetime,
    ColumnType.TIME: dt.time,
    ColumnType.DURATION: dt.timedelta,
}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([], ColumnType.NOTHING),
        ([None], ColumnType.NOTHING),
        ([True, None], ColumnType.BOOLEAN),
        ([1, 2], ColumnType.INTEGER),
        ([2**63 - 1, -(2**63)], ColumnType.INTEGER),
        ([2**63], ColumnType.TEXT),
        ([-(2**63) - 1], ColumnType.TEXT),
        ([1, 0.5], ColumnType.NUMBER),
        ([2**53, -(2**53), 0.5], ColumnType.NUMBER),
        ([2**53 + 1, 0.5], ColumnType.TEXT),
        ([True, 1], ColumnType.TEXT),
        ([True, 0.5], ColumnType.TEXT),
        (["00501", 501], ColumnType.TEXT),
        ([dt.date(2020, 1, 2), None], ColumnType.DATE),
        ([dt.date(2020, 1, 2), MOMENT], ColumnType.DATETIME),
        ([dt.date(2020, 1, 2), 44000], ColumnType.TEXT),
        ([dt.time(3)], ColumnType.TIME),
        ([dt.timedelta(1)], ColumnType.DURATION),
        ([dt.time(3), dt.timedelta(1)], ColumnType.TEXT),
    ],
)
def test_what_holds_the_cells_of_a_column(cells: list[Any], kind: ColumnType) -> None:
    """Integers become numbers only where all of them stay exact; what does not fit is text."""
    assert narrowest_type(types_in_cells(cells)) is kind


@given(st.lists(CELLS), st.integers(0, 20))
def test_cells_keep_their_value_in_their_column(cells: list[Any], parts: int) -> None:
    """Null stays null, and every other cell is what it was, or its text; in however many parts."""
    found = functools.reduce(
        operator.or_, (types_in_cells(some) for some in (cells[:parts], cells[parts:])), NOTHING
    )
    kind = narrowest_type(found)
    assert kind is narrowest_type(types_in_cells(cells))
    for cell, kept in zip(cells, cells_of_type(cells, kind), strict=True):
        assert (cell is None) == (kept is None)
        if cell is None:
            continue
        assert type(kept) is TYPES[kind]
        if kind is ColumnType.TEXT:
            assert kept == text_of_cell(cell)
        elif kind is ColumnType.DATETIME:
            assert kept.date() == (cell.date() if isinstance(cell, dt.datetime) else cell)
        else:
            assert kept == cell


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (12, "12"),
        (0.1 + 0.2, "0.30000000000000004"),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (MOMENT, "2020-01-02T03:04:05"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(days=1, hours=2, minutes=30), "26:30:00"),
        (-dt.timedelta(seconds=1, microseconds=5), "-0:00:01.000005"),
    ],
)
def test_cells_as_text(cell: Any, text: str) -> None:
    """As other programs read them."""
    assert text_of_cell(cell) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_json_as_text(value: Any) -> None:
    """A text is itself, null is null, and anything else can be read again with the same value."""
    raw = json.dumps(value).replace("Infinity", "1e400").encode()
    text = text_of_json(raw)
    if value is None or isinstance(value, str):
        assert text == value
    else:
        assert text is not None
        assert json.loads(text) == value


@pytest.mark.parametrize(
    ("raw", "found", "text"),
    [
        (b"1e400", TypeSet.ODD, "1e400"),
        (b'"\\ud800"', TypeSet.ODD, '"\\ud800"'),
        (b'"\xff"', TypeSet.ODD, '"\\xff"'),
        (b"123456789012345678901234567890", TypeSet.HUGE_INTEGER, "123456789012345678901234567890"),
        (b"1.10", TypeSet.NUMBER, "1.10"),
        (b"[1, 2]", TypeSet.LIST, "[1, 2]"),
        (b"", NOTHING, None),
    ],
)
def test_odd_json(raw: bytes, found: TypeSet, text: str | None) -> None:
    """What Python has no value for is kept as it came."""
    assert types_in_json(raw) == found
    assert text_of_json(raw) == text


@pytest.mark.parametrize(
    ("found", "declared", "kind"),
    [
        (NOTHING, "String", ColumnType.TEXT),
        (NOTHING, "integer", ColumnType.INTEGER),
        (NOTHING, "Optional[float]", ColumnType.NUMBER),
        (NOTHING, "BOOLEAN", ColumnType.BOOLEAN),
        (NOTHING, "list", ColumnType.TEXT),
        (NOTHING, "date", ColumnType.TEXT),
        (NOTHING, "furlong", ColumnType.NOTHING),
        (NOTHING, None, ColumnType.NOTHING),
        (TypeSet.INTEGER, "float", ColumnType.NUMBER),
        (TypeSet.INTEGER, "str", ColumnType.TEXT),
        (TypeSet.INTEGER, "furlong", ColumnType.INTEGER),
        (TypeSet.INTEGER, "object", ColumnType.INTEGER),
        (TypeSet.NUMBER, "int", ColumnType.NUMBER),
        (TypeSet.TEXT, "int", ColumnType.TEXT),
        (TypeSet.LONG_INTEGER, "float", ColumnType.TEXT),
    ],
)
def test_what_is_declared(found: TypeSet, declared: str | None, kind: ColumnType) -> None:
    """A column is at least as wide as the API says, and as what was found."""
    assert narrowest_type(promoted(found, declared)) is kind


@given(st.lists(st.sampled_from(["", "a", "a_2", "a_3", "A", "column_1", "column_2", "b"])))
def test_unique_names(names: list[str]) -> None:
    """All differ, none is empty, and the first of a name keeps it."""
    unique = unique_names(names)
    assert len(set(unique)) == len(unique) == len(names)
    assert all(unique)
    for place, name in enumerate(names):
        if name and name not in names[:place] and not name.startswith("column_"):
            assert unique[place] == name


def test_unique_names_by_example() -> None:
    """Numbers count from 2, and pass by names that are there."""
    assert unique_names(["a", "", "a", "a_2", "a"]) == ["a", "column_2", "a_3", "a_2", "a_4"]


def test_choosing_columns() -> None:
    """By name or pattern, in the order asked for, once; what there is not is told."""
    names = ["Street", "Street", "a*", "ab", "pg_x", "pg_y", "ph_x"]
    columns = [Column(name, ColumnType.TEXT) for name in names]
    choice = choose(columns, ["pg_*", "a*", "Street", "nope", "z*", "*_x"])
    assert choice.places == [4, 5, 2, 0, 1, 6]
    assert choice.unmatched == ["nope", "z*"]


def test_decimals_are_not_cells() -> None:
    """A number of any other type is shown as Python shows it."""
    assert text_of_cell(Decimal("1.10")) == "1.10"
