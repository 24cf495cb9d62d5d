"""Answers to flat columns: nothing is lost, whatever the answers are."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.models import EnhancedLocation, RowStatus
from pingdata_async.tables.schema.inference import (
    MAX_LEVELS,
    MAX_MEMBERS,
    AnswerColumn,
    AnswerColumns,
    AnswerScan,
    SchemaGrewError,
)
from pingdata_async.tables.schema.types import ColumnType, Values
from tests.support.sweeps import examples

NAMES = st.sampled_from(["a", "b", "a_b", "A", 'q"', "raw_response", "", "é"])
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
ANSWERS = VALUES | st.dictionaries(
    st.sampled_from(["PG", "PH", "pg", "x"]), st.dictionaries(NAMES, VALUES) | VALUES, max_size=3
)

Path = tuple[str, ...]


def as_json(value: Any) -> bytes:
    return json.dumps(value).replace("Infinity", "1e400").encode()


def answer(row: int, data: bytes) -> EnhancedLocation:
    return EnhancedLocation(str(row), row, RowStatus.OK, data=msgspec.Raw(data))


def flattened(
    answers: Sequence[bytes],
    sources: Sequence[str] = ("PG", "PH"),
    declared: dict[str, dict[str, str]] | None = None,
    taken: Sequence[str] = (),
    chunk_rows: int = 3,
) -> tuple[list[AnswerColumn], list[Values]]:
    """Both passes, a few rows at a time."""
    results = [answer(row, data) for row, data in enumerate(answers)]
    chunks = [results[begin:][:chunk_rows] for begin in range(0, len(results), chunk_rows)]
    scan = AnswerScan(sources)
    for chunk in chunks:
        scan.add(result.data for result in chunk)
    table = AnswerColumns(scan, declared or {}, taken)
    values: list[list[Any]] = [[] for _ in table.all]
    for chunk in chunks:
        for column, part in zip(values, table.values(chunk), strict=True):
            column.extend(part)
    return table.all, list(values)


def by_name(answers: Sequence[bytes], **options: Any) -> dict[str, tuple[ColumnType, list[Any]]]:
    columns, values = flattened(answers, **options)
    return {
        column.name: (column.type, list(cells))
        for column, cells in zip(columns, values, strict=True)
    }


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value by its place, null too; objects with members are opened."""
    if isinstance(value, dict) and (value or len(path) < 2) and "raw_response" not in path:
        for name, member in value.items():
            yield from leaves(member, (*path, name))
    else:
        yield path, value


def is_in(cell: Any, value: Any) -> bool:
    """Whether a cell holds a value: as itself, or as its JSON text."""
    if isinstance(value, str) or not isinstance(cell, str):
        is_boolean = isinstance(value, bool) == isinstance(cell, bool)
        return bool(cell == value) and is_boolean
    return bool(json.loads(cell) == value)


@examples(200)
@given(st.lists(ANSWERS, max_size=8))
def test_every_value_is_in_its_column(answers: list[Any]) -> None:
    """Each is found in its row and column, and there is nothing else in the table."""
    columns, values = flattened([as_json(value) for value in answers])
    places = {column.origin.path: cells for column, cells in zip(columns, values, strict=True)}
    assert len(places) == len(columns)
    records = {
        path[:end] for value in answers for path, _ in leaves(value) for end in range(len(path))
    }
    for row, value in enumerate(answers):
        found = {path: leaf for path, leaf in leaves(value) if leaf is not None}
        for path, leaf in found.items():
            if leaf == {} and path in records:
                # A record without members, where others have some: there is nothing in it.
                continue
            assert is_in(places[path][row], leaf), (path, leaf)
        cells = {path for path, column in places.items() if column[row] is not None}
        assert cells <= found.keys()


@given(st.lists(ANSWERS, max_size=6), st.randoms(use_true_random=False))
def test_kinds_do_not_depend_on_the_order(answers: list[Any], dice: random.Random) -> None:
    """Nor do the fields there are; only the order of fields is that of the rows."""
    raws = [as_json(value) for value in answers]
    before = flattened(raws)[0]
    dice.shuffle(raws)
    after = flattened(raws, chunk_rows=2)[0]
    assert {column.origin for column in before} == {column.origin for column in after}


@given(st.lists(ANSWERS, max_size=6))
def test_names_are_unlike_each_other(answers: list[Any]) -> None:
    """Those that are taken included, whatever their case; and they are the same each time."""
    raws = [as_json(value) for value in answers]
    taken = ["PG_a", "pg_a_2", "id"]
    names = [column.name for column in flattened(raws, taken=taken)[0]]
    folded = [name.casefold() for name in [*taken, *names]]
    assert len(set(folded)) == len(folded)
    assert names == [column.name for column in flattened(raws, taken=taken, chunk_rows=1)[0]]


@given(st.lists(ANSWERS, max_size=6), st.data())
def test_chosen_columns_are_the_same_as_in_the_whole(
    answers: list[Any], data: st.DataObject
) -> None:
    """A column's values do not depend on which others are wanted."""
    raws = [as_json(value) for value in answers]
    columns, values = flattened(raws)
    chosen = (
        data.draw(st.lists(st.sampled_from(range(len(columns))), unique=True)) if columns else []
    )
    results = [answer(row, raw) for row, raw in enumerate(raws)]
    scan = AnswerScan(("PG", "PH"))
    scan.add(raws)
    table = AnswerColumns(scan, {}, ())
    table.choose(chosen)
    some = table.values(results)
    assert [list(cells) for cells in some] == [values[place] for place in chosen]


@given(
    st.lists(ANSWERS, max_size=6),
    st.integers(0, 6),
    st.dictionaries(NAMES, st.sampled_from(["float", "int", "str", "list[str]"])),
)
def test_a_pass_that_has_not_seen_all(
    answers: list[Any], known: int, declared: dict[str, str]
) -> None:
    """Says so where the others make other columns, and has the same values where they do not."""
    raws = [as_json(value) for value in answers]
    told = {"PG": declared}
    columns, values = flattened(raws, declared=told)
    scan = AnswerScan(("PG", "PH"))
    scan.add(raws[:known])
    table = AnswerColumns(scan, told, ())
    has_all_columns = table.all == columns
    results = [answer(row, raw) for row, raw in enumerate(raws)]
    try:
        found = [table.values([result]) for result in results]
    except SchemaGrewError:
        assert not has_all_columns
    else:
        assert has_all_columns
        for place, whole in enumerate(values):
            part = [cells for row in found for cells in row[place]]
            assert part == whole
            assert list(map(type, part)) == list(map(type, whole))


def test_the_form_of_the_table() -> None:
    """Sources as asked, then as met; fields as met, each with those within it."""
    answers = [
        b'{"ZZ": {"x": 1}, "PH": {"flood": null, "zone": "X"}, "PG": {"latitude": 1.5}}',
        b'{"PH": {"flood": {"depth": 2, "near": [1, {"a": 2}]}, "more": {}}, "PG": null}',
    ]
    assert by_name(answers) == {
        "pg_latitude": (ColumnType.NUMBER, [1.5, None]),
        "ph_flood_depth": (ColumnType.INTEGER, [None, 2]),
        "ph_flood_near": (ColumnType.TEXT, [None, '[1, {"a": 2}]']),
        "ph_zone": (ColumnType.TEXT, ["X", None]),
        "ph_more": (ColumnType.TEXT, [None, "{}"]),
        "zz_x": (ColumnType.INTEGER, [1, None]),
    }


def test_an_object_in_some_rows_and_a_scalar_in_others() -> None:
    """Both are kept, beside each other."""
    answers = [b'{"PG": {"a": 5}}', b'{"PG": {"a": {"b": 6}}}', b'{"PG": {"a": {}}}', b'{"PG": {}}']
    assert by_name(answers) == {
        "pg_a": (ColumnType.INTEGER, [5, None, None, None]),
        "pg_a_b": (ColumnType.INTEGER, [None, 6, None, None]),
    }


def test_clashes() -> None:
    """A name that is taken, by the input or another field, gets a number."""
    answers = [b'{"PG": {"a_b": 1, "a": {"b": 2}, "c": 3}, "pg": {"c": 4}}']
    assert list(by_name(answers, taken=["PG_C"])) == ["pg_a_b", "pg_a_b_2", "pg_c_2", "pg_c_3"]


def test_answers_that_are_no_answers() -> None:
    """What is no object of sources, or no object, has a column of its own; nothing is raised."""
    answers = [
        b"[1]",
        b'"text"',
        b"null",
        b"",
        b"{",
        b'{"PG": "down", "PH": {"a": 1}}',
        b'{"PG": [1]}',
    ]
    assert by_name(answers) == {
        "pg": (ColumnType.TEXT, [None] * 5 + ["down", "[1]"]),
        "ph_a": (ColumnType.INTEGER, [None] * 5 + [1, None]),
        "enhance_data": (ColumnType.TEXT, ["[1]", "text", None, None, "{", None, None]),
    }


def test_values_beyond_python() -> None:
    """Infinite numbers, broken texts and abysses are kept as they came."""
    deep = b'{"d":' * 500 + b"1" + b"}" * 500
    answers = [
        b'{"PG": {"a": 1e400, "b": 123456789012345678901234567890, "c": ' + deep + b"}}",
        b'{"PG": {"a": 1.50, "b": 1, "t": "\xff"}}',
        b'{"PG": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]
    table = by_name(answers)
    assert table["pg_a"] == (ColumnType.TEXT, ["1e400", "1.50", None])
    assert table["pg_b"] == (ColumnType.TEXT, ["123456789012345678901234567890", "1", None])
    (opened,) = (name for name in table if name.startswith("pg_c"))
    assert opened == "pg_c" + "_d" * (MAX_LEVELS - 2)
    assert table[opened][1][0].count("d") == 500 - (MAX_LEVELS - 2)
    assert table["pg_t"][1][1] == '"\\xff"'
    assert table["enhance_data"][1][2] == answers[2].decode()


def test_an_object_used_as_a_look_up_table() -> None:
    """A member with a new name in each row does not become a column in each row."""
    answers = [
        b'{"PG": {"a": 1, "parcels": {"p%d": {"x": %d}}}}' % (row, row)
        for row in range(MAX_MEMBERS + 50)
    ]
    table = by_name(answers, chunk_rows=100)
    assert table.keys() == {"pg_a", "pg_parcels"}
    assert table["pg_parcels"][1][7] == '{"p7": {"x": 7}}'
    assert table["pg_a"] == (ColumnType.INTEGER, [1] * len(answers))


@pytest.mark.parametrize(
    ("late", "kind"),
    [
        (b'"text"', ColumnType.TEXT),
        (b"1.5", ColumnType.NUMBER),
        (b"[1]", ColumnType.TEXT),
        (b"9" * 30, ColumnType.TEXT),
    ],
)
def test_a_value_that_comes_late(late: bytes, kind: ColumnType) -> None:
    """Null for thousands of rows and something after, or an integer until the last row."""
    answers = [b'{"PH": {"null": null, "whole": %d}}' % row for row in range(3000)]
    answers.append(b'{"PH": {"null": %b, "whole": %b}}' % (late, late))
    table = by_name(answers, chunk_rows=500)
    found, nulls = table["ph_null"]
    assert (found, nulls[:-1]) == (kind, [None] * 3000)
    assert is_in(nulls[-1], json.loads(late))
    found, wholes = table["ph_whole"]
    assert found is kind
    assert all(is_in(cell, row) for row, cell in enumerate(wholes[:-1]))


def test_what_the_api_declares() -> None:
    """It gives the kind of a column without values, and makes others no narrower."""
    answers = [b'{"PH": {"a": null, "b": 1, "c": 2, "d": {"e": 3}, "f": null}}']
    declared = {"PH": {"a": "float", "b": "float", "c": "str", "d_e": "number", "g": "int"}}
    assert by_name(answers, declared=declared) == {
        "ph_a": (ColumnType.NUMBER, [None]),
        "ph_b": (ColumnType.NUMBER, [1.0]),
        "ph_c": (ColumnType.TEXT, ["2"]),
        "ph_d_e": (ColumnType.NUMBER, [3.0]),
        "ph_f": (ColumnType.NOTHING, [None]),
    }


def test_no_rows() -> None:
    """A table without rows has no fields."""
    assert flattened([]) == ([], [])


def test_numbers_in_texts_are_as_they_came() -> None:
    """A text column shows a number's own digits."""
    table = by_name([b'{"PG": {"a": "x"}}', b'{"PG": {"a": 1.10}}', b'{"PG": {"a": true}}'])
    assert table["pg_a"] == (ColumnType.TEXT, ["x", "1.10", "true"])
    assert Decimal(table["pg_a"][1][1]) == Decimal("1.10")
