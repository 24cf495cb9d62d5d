"""Arrow's times in Python's terms, whatever their unit, their year and what is around them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from pingdata_async.tables.readers import arrow as arrow_batches
from pingdata_async.tables.schema.arrow import columns_of, python_values

SECONDS_2020 = 1_577_836_800
SECONDS_14645 = 400_000_000_000
BEGIN_2020 = dt.datetime.fromisoformat("2020-01-01")


def shown(array: Any) -> Any:
    """The only value of an array, as it is written in a text."""
    [column] = columns_of(pa.schema([pa.field("x", array.type)]))
    return python_values(array, column.type)[0]


def of_type(value: int, kind: Any) -> Any:
    return pa.array([value], pa.int32() if kind == pa.date32() else pa.int64()).view(kind)


@pytest.mark.parametrize(
    ("kind", "value", "right"),
    [
        (pa.timestamp("s"), SECONDS_2020, BEGIN_2020),
        (pa.timestamp("ms"), SECONDS_2020 * 1000, BEGIN_2020),
        (pa.timestamp("s"), SECONDS_14645, "14645-06-30T15:06:40"),
        (pa.timestamp("ms"), SECONDS_14645 * 1000 + 7, "14645-06-30T15:06:40.007"),
        (pa.timestamp("us"), SECONDS_14645 * 1_000_000, "14645-06-30T15:06:40"),
        (pa.timestamp("s"), -(2**63), "-292277022657-01-27T08:29:52"),
        (pa.timestamp("ns"), SECONDS_2020 * 10**9 + 1, "2020-01-01T00:00:00.000000001"),
        (pa.timestamp("ns"), SECONDS_2020 * 10**9, BEGIN_2020),
        (pa.timestamp("ns", "UTC"), SECONDS_2020 * 10**9, "2020-01-01T00:00:00+00:00"),
        (pa.timestamp("ns", "+02:00"), 1, "1970-01-01T02:00:00.000000001+02:00"),
        (pa.timestamp("s", "+02:00"), SECONDS_14645, "14645-06-30T15:06:40+00:00"),
        (pa.timestamp("s", "Nowhere/Here"), SECONDS_2020, "2020-01-01T00:00:00+00:00"),
        (pa.date32(), 2_932_897, "10000-01-01"),
        (pa.date32(), -719_163, "0000-12-31"),
        (pa.date64(), SECONDS_2020 * 1000, BEGIN_2020.date()),
        (pa.time64("us"), 86_399_999_999, dt.time(23, 59, 59, 999_999)),
        (pa.time64("ns"), 86_399_999_999_999, "23:59:59.999999999"),
        (pa.duration("ns"), 10**9 + 1, "0:00:01.000000001"),
        (pa.duration("s"), -(2**63), "-2562047788015215:30:08"),
        (pa.duration("ms"), -1, -dt.timedelta(milliseconds=1)),
    ],
)
def test_values(kind: Any, value: int, right: Any) -> None:
    """Its unit is the column's own; what Python has nothing for is a text in ISO 8601 form."""
    assert shown(of_type(value, kind)) == right


def test_one_value_changes_no_other() -> None:
    """A year beyond Python's makes no text of the dates beside it."""
    array = of_type(0, pa.timestamp("s"))
    both = pa.concat_arrays([array, of_type(SECONDS_14645, pa.timestamp("s"))])
    assert python_values(both, columns_of(pa.schema([("x", both.type)]))[0].type) == [
        dt.datetime.fromisoformat("1970-01-01"),
        "14645-06-30T15:06:40",
    ]


ARROW: Any = pa  # whose stubs know less of nested arrays than it does
AROUND: dict[str, Callable[[Any], Any]] = {
    "struct": lambda each: ARROW.StructArray.from_arrays([each], ["x"]),
    "list": lambda each: ARROW.ListArray.from_arrays([0, 1], each),
    "large_list": lambda each: ARROW.LargeListArray.from_arrays([0, 1], each),
    "list_view": lambda each: ARROW.ListViewArray.from_arrays([0], [1], each),
    "fixed_size_list": lambda each: ARROW.FixedSizeListArray.from_arrays(each, 1),
    "map": lambda each: ARROW.MapArray.from_arrays(
        [0, 1], ARROW.array(["k"], ARROW.large_string()), each
    ),
    "keys": lambda each: ARROW.MapArray.from_arrays([0, 1], each, ARROW.array(["v"])),
    "dictionary": lambda each: ARROW.DictionaryArray.from_arrays([0], each),
    "union": lambda each: ARROW.UnionArray.from_sparse(ARROW.array([0], ARROW.int8()), [each]),
    "chunks": lambda each: ARROW.chunked_array([ARROW.ListArray.from_arrays([0, 1], each)]),
}
TIMES = {
    "nanoseconds": (pa.timestamp("ns", "UTC"), "1970-01-01T00:00:00.000000001+00:00", 1),
    "year": (pa.timestamp("us"), "14645-06-30T15:06:40", SECONDS_14645 * 1_000_000),
    "duration": (pa.duration("ns"), "0:00:00.000000001", 1),
}


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("around", AROUND)
def test_within_others(around: str, time: str) -> None:
    """In structures, lists and maps they are the same texts, in JSON."""
    kind, text, value = TIMES[time]
    array = AROUND[around](of_type(value, kind))
    assert text in shown(array)
    assert len(arrow_batches.json_values(array)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.timestamp("ns")),
        pa.struct([("at", pa.timestamp("ns"))]),
        pa.map_(pa.large_string(), pa.timestamp("ns")),
    ],
    ids=str,
)
def test_nothing_within(kind: Any) -> None:
    """Null and what is empty stay that."""
    empty: Any = {"at": None} if pa.types.is_struct(kind) else []
    array = pa.array([empty, None], kind)
    [column] = columns_of(pa.schema([pa.field("x", kind)]))
    assert python_values(array, column.type) == ['{"at":null}' if empty else "[]", None]
