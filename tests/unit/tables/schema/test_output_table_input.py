"""The input's own rows to columns."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.tables.rows import (
    ArrowRows,
    CellColumns,
    InputRows,
    JSONRows,
    TextColumns,
    joined,
    read_stream,
    rows_in,
    sliced,
    write_stream,
)
from pingdata_async.tables.schema.arrow import python_values
from pingdata_async.tables.schema.output_table import InputRowScan
from pingdata_async.tables.schema.types import Column, ColumnType

MOMENT = dt.datetime.fromisoformat("2020-01-02T03:04:05")


def arrow_rows(**columns: Any) -> ArrowRows:
    return ArrowRows(write_stream(pa.table(columns)))


def scanned(
    headers: Sequence[str], *parts: InputRows
) -> tuple[list[Column], list[list[list[Any]]]]:
    """Both passes: the columns, and by part the values of each."""
    scan = InputRowScan(headers)
    for part in parts:
        scan.add(part)
    columns = scan.columns()
    return columns, [list(map(as_list, scan.values(part))) for part in parts]


def as_list(values: Any) -> list[Any]:
    return list(values.to_pylist() if isinstance(values, pa.ChunkedArray) else values)


def test_texts_stay_texts() -> None:
    """Leading zeros, empty cells and equal headers are as they were."""
    part = TextColumns([["00501", ""], ["a", "b"], ["1", "2"]])
    columns, values = scanned(["Zip", "Zip", ""], part)
    assert columns == [Column(name, ColumnType.TEXT) for name in ("Zip", "Zip", "")]
    assert values == [[["00501", ""], ["a", "b"], ["1", "2"]]]


def test_cells_of_a_workbook() -> None:
    """A column's kind is that of all its rows, of whatever part."""
    first = CellColumns([[None, 1], [1, 2], [MOMENT.date(), None], [None, None]])
    second = CellColumns([["x", True], [0.5, None], [MOMENT, None], [None, None]])
    columns, values = scanned(["a", "b", "c", "d"], first, second)
    assert [column.type for column in columns] == [
        ColumnType.TEXT,
        ColumnType.NUMBER,
        ColumnType.DATETIME,
        ColumnType.NOTHING,
    ]
    midnight = dt.datetime.combine(MOMENT.date(), dt.time())
    assert values == [
        [[None, "1"], [1.0, 2.0], [midnight, None], [None, None]],
        [["x", "true"], [0.5, None], [MOMENT, None], [None, None]],
    ]


def test_json_rows() -> None:
    """Keys are columns as they are met, what is nested is JSON text, and a text is an address."""
    first = JSONRows([b'{"id": 1, "address": "1 Main", "more": {"a": [1, 2]}}', b' "2 Main"'])
    second = JSONRows([b'{"zip": "00501", "id": 1.5, "more": {}}', b'{"more": null, "zip": 501}'])
    columns, values = scanned([], first, second)
    assert columns == [
        Column("id", ColumnType.NUMBER),
        Column("address", ColumnType.TEXT),
        Column("more", ColumnType.TEXT),
        Column("zip", ColumnType.TEXT),
    ]
    assert values == [
        [[1.0, None], ["1 Main", "2 Main"], ['{"a": [1, 2]}', None], [None, None]],
        [[1.5, None], [None, None], ["{}", None], ["00501", "501"]],
    ]


def test_json_rows_of_many_columns() -> None:
    """However many there are, each is a column."""
    rows = [json.dumps({f"c{place}": place for place in range(3000)}).encode()]
    columns, values = scanned([], JSONRows(rows))
    assert len(columns) == 3000
    assert values == [[[place] for place in range(3000)]]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(['"', "id", "", "é"]), JSON_VALUES), max_size=6))
def test_json_rows_lose_nothing(rows: list[dict[str, Any]]) -> None:
    """Each value is in its row and column, as itself or as its JSON text."""
    encoded = [json.dumps(row).replace("Infinity", "1e400").encode() for row in rows]
    columns, values = scanned([], JSONRows(encoded[:2]), JSONRows(encoded[2:]))
    table = {
        column.name: first + second for column, first, second in zip(columns, *values, strict=True)
    }
    for place, row in enumerate(rows):
        for name, cells in table.items():
            given_, kept = row.get(name), cells[place]
            if given_ is None or isinstance(given_, str) or not isinstance(kept, str):
                assert kept == given_
            else:
                assert json.loads(kept) == given_


def test_arrow_keeps_its_types() -> None:
    """They come from the stream, with what is known of the fields; the values stay Arrow's."""
    schema = pa.schema(
        [
            pa.field("d", pa.decimal128(5, 2), nullable=False, metadata={"unit": "USD"}),
            pa.field("l", pa.list_(pa.int8())),
        ]
    )
    table = pa.table({"d": [Decimal("1.10"), Decimal(2)], "l": [[1], None]}, schema=schema)
    scan = InputRowScan([])
    part = ArrowRows(write_stream(table))
    scan.add(part)
    columns = scan.columns()
    assert [column.arrow_field for column in columns] == list(schema)
    assert [column.type for column in columns] == [ColumnType.TEXT, ColumnType.TEXT]
    values: list[Any] = scan.values(part)
    assert values == table.columns


MAP = pa.map_(pa.string(), pa.int8())
ONE = "AAAAAAAAAAAAAAAAAAAAAQ=="
ARROW_VALUES: list[tuple[pa.Array[Any], ColumnType, list[Any]]] = [
    (pa.array([1, None], pa.uint64()), ColumnType.INTEGER, [1, None]),
    (pa.array([0.5, None], pa.float32()), ColumnType.NUMBER, [0.5, None]),
    (pa.array(["a", None]).dictionary_encode(), ColumnType.TEXT, ["a", None]),
    (pa.array(["a", "a", None]), ColumnType.TEXT, ["a", "a", None]),
    (pa.array(["a", None], pa.string_view()), ColumnType.TEXT, ["a", None]),
    (
        pc.call_function("run_end_encode", [pa.array([1, 1, None])]),
        ColumnType.INTEGER,
        [1, 1, None],
    ),
    (pa.array([[("k", 1)], None], MAP), ColumnType.TEXT, ['[["k",1]]', None]),
    (pa.array([uuid.UUID(int=1).bytes, None], pa.binary(16)), ColumnType.TEXT, [ONE, None]),
    (pa.array(["a", None], pa.large_string()), ColumnType.TEXT, ["a", None]),
    (pa.array([Decimal("1E+3"), None], pa.decimal128(6, 2)), ColumnType.TEXT, ["1000.00", None]),
    (pa.array([b"\xff", None]), ColumnType.TEXT, ["/w==", None]),
    (pa.array([[1, None], None]), ColumnType.TEXT, ["[1,null]", None]),
    (pa.array([{"a": MOMENT.date()}, None]), ColumnType.TEXT, ['{"a":"2020-01-02"}', None]),
    (pa.array([MOMENT.date(), None], pa.date64()), ColumnType.DATE, [MOMENT.date(), None]),
    (pa.array([MOMENT, None], pa.timestamp("ns")), ColumnType.DATETIME, [MOMENT, None]),
    (
        pa.array([1_577_934_245_000_000_001, -1, 1000], pa.timestamp("ns")),
        ColumnType.DATETIME,
        [
            "2020-01-02T03:04:05.000000001",
            "1969-12-31T23:59:59.999999999",
            dt.datetime.fromisoformat("1970-01-01T00:00:00.000001"),
        ],
    ),
    (
        pa.array([MOMENT, None], pa.timestamp("us", "+02:00")),
        ColumnType.TEXT,
        ["2020-01-02T05:04:05+02:00", None],
    ),
    (pa.array([3_000_000_000, None], pa.time64("ns")), ColumnType.TIME, [dt.time(0, 0, 3), None]),
    (
        pa.array([3000, None], pa.duration("ms")),
        ColumnType.DURATION,
        [dt.timedelta(seconds=3), None],
    ),
    (pa.array([None, None]), ColumnType.NOTHING, [None, None]),
]


@pytest.mark.parametrize(
    ("array", "kind", "values"), ARROW_VALUES, ids=[str(case[0].type) for case in ARROW_VALUES]
)
def test_arrow_values_for_other_forms(array: Any, kind: ColumnType, values: list[Any]) -> None:
    """Each type has a kind, and values that the text formats take."""
    scan = InputRowScan([])
    scan.add(arrow_rows(a=array))
    assert [column.type for column in scan.columns()] == [kind]
    assert list(python_values(pa.chunked_array([array]), kind)) == values


def test_years_that_python_does_not_have() -> None:
    """They are texts."""
    far = pa.array([2**60], pa.timestamp("us"))
    (text,) = python_values(pa.chunked_array([far]), ColumnType.DATETIME)
    assert isinstance(text, str)


@pytest.mark.parametrize(
    "whole",
    [
        TextColumns([list("abcdef"), list("ghijkl")]),
        CellColumns([[1, None, 2.5, "x", True, MOMENT]]),
        JSONRows([b'{"a":%d}' % row for row in range(6)]),
        arrow_rows(a=list(range(6)), b=pa.array(list("aabbcc")).dictionary_encode()),
    ],
    ids=["text", "cells", "json", "arrow"],
)
def test_slices_that_are_joined_again(whole: InputRows) -> None:
    """They have the same rows, and a part has those asked for."""
    parts = [sliced(whole, 0, 1), sliced(whole, 1, 1), sliced(whole, 1, 4), sliced(whole, 4, 6)]
    assert [rows_in(part) for part in parts] == [1, 0, 3, 2]
    again = joined(parts)
    assert rows_in(again) == rows_in(whole) == 6
    assert joined([whole]) is whole
    headers = ["a", "b"] if isinstance(whole, TextColumns) else ["a"]
    assert scanned(headers, again) == scanned(headers, whole)


def test_nothing_at_all() -> None:
    """A header without rows has its columns."""
    assert rows_in(TextColumns([])) == 0
    assert InputRowScan(["a", "a"]).columns() == [Column("a", ColumnType.TEXT)] * 2
    empty = ArrowRows(write_stream(pa.table({"a": pa.array([], pa.int8())})))
    assert rows_in(empty) == 0
    assert read_stream(empty.stream).schema.names == ["a"]
    assert scanned([], empty)[1] == [[[]]]
