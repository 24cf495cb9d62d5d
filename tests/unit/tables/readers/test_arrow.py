"""Inputs in memory: data frames, Arrow tables, and Python's own objects."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.models import Location
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import ArrowRows
from tests.support.reading import read_all

COLUMNS: dict[str, list[Any]] = {
    "Loc #": [f"a-{n}" for n in range(1_000)],
    "Address": [f"{n} Main St" if n % 7 else None for n in range(1_000)],
    "TIV": [n / 2 for n in range(1_000)],
    "Kind": ["x", "y"] * 500,
}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


def polars_frame() -> pl.DataFrame:
    kind = pl.col("Kind").cast(pl.Categorical)
    return pl.DataFrame(COLUMNS).with_columns(kind, pl.col("Kind").alias("Lists").str.split("x"))


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame(COLUMNS).astype({"Kind": "category"})


@pytest.mark.parametrize(
    "source",
    [
        polars_frame(),
        pandas_frame(),
        pa.table(COLUMNS),
        pa.record_batch(COLUMNS),
        pa.table(COLUMNS).to_reader(max_chunksize=7),
        pa.table(COLUMNS).to_struct_array().combine_chunks(),
    ],
    ids=lambda source: f"{type(source).__module__}.{type(source).__name__}",
)
def test_every_object_with_an_arrow_interface(source: Any) -> None:
    """Row for row, with ids of the user's own; nothing is kept that belongs to other rows."""
    found = read_all(source)
    assert [{name: row[name] for name in COLUMNS} for row in found.rows] == ROWS
    assert found.locations[1] == {"id": "a-1", "address": "1 Main St"}
    assert found.locations[0] == {"id": "a-0"}
    assert "TIV" in found.reader.unused_columns
    assert found.reader.fingerprint().given == "rows in memory"


@pytest.mark.parametrize("make", [polars_frame, pandas_frame])
def test_a_frame_is_told_by_its_rows(make: Any) -> None:
    """The same ones have the same fingerprint; others have another."""

    def fingerprint(source: Any) -> object:
        return read_all(source).reader.fingerprint()

    assert fingerprint(make()) == fingerprint(make())
    assert fingerprint(make()) != fingerprint(make()[:999])


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(),
        pa.list_(pa.string_view()),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.uint32(), pa.string_view()),
    ],
    ids=str,
)
def test_a_batch_has_no_more_than_its_rows(kind: Any) -> None:
    """Dictionaries and views are shared by all rows of a table; each batch has only its own."""
    texts = [f"{n} a text that is too long to be inside a view" for n in range(3_000)]
    values: Any = [[text] for text in texts] if pa.types.is_list(kind) else texts
    if pa.types.is_dictionary(kind):
        column: Any = pa.DictionaryArray.from_arrays(
            pa.array(range(3_000), kind.index_type), pa.array(texts, kind.value_type)
        )
    else:
        column = pa.array(values, kind)
    sizes = []
    rows: list[Any] = []
    with open_input(pa.table({"address": texts, "x": column})) as reader:
        for batch in reader:
            assert isinstance(batch.input_rows, ArrowRows)
            sizes.append(len(batch.input_rows.stream))
            with pa.ipc.open_stream(batch.input_rows.stream) as stream:
                read = stream.read_all()
            assert read.schema.field("x").type == kind
            rows += read.column("x").to_pylist()
    assert rows == values
    assert max(sizes) < 80_000


def test_the_index_of_a_frame() -> None:
    """Where it says more than the row's number, it is a column, as pandas itself has it."""
    frame = pandas_frame()
    assert read_all(frame).reader.headers == tuple(COLUMNS)
    named = frame.set_index("Loc #")
    assert read_all(named).locations[1] == {"id": "a-1", "address": "1 Main St"}
    assert read_all(frame.sample(frac=1, random_state=1)).reader.headers[-1] == "__index_level_0__"


def test_columns_of_mixed_kind() -> None:
    """Numbers beside texts in pandas are read value by value, and the frame is as it was."""
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "Address": ["1 Sample St", "2 Sample St", "3 Sample St", "4 Sample St"],
            "State": ["MA"] * 4,
            "Zip": pd.Series([2134, "02134-1234", 2135.0, None], dtype=object),
            "Built": pd.Series([dt.date(1999, 1, 2), True, Decimal("19.50"), float("nan")]),
            "Kind": pd.Categorical([1, "a", None, 1]),
        }
    )
    frame.index = pd.Index([1, "a", 2.0, None], name="Row")
    given = frame.copy()
    found = read_all(frame)
    sent = [location.get("postal_code") for location in found.locations]
    assert sent == ["02134", "02134-1234", "02135", None]
    assert [row["Zip"] for row in found.rows] == ["2134", "02134-1234", "2135", None]
    assert [row["Built"] for row in found.rows] == ["1999-01-02", "true", "19.50", None]
    assert [row["Kind"] for row in found.rows] == ["1", "a", None, "1"]
    assert [row["Row"] for row in found.rows] == ["1", "a", "2", None]
    pd.testing.assert_frame_equal(frame, given)


def test_python_objects() -> None:
    """Locations, mappings and addresses; what JSON has no form for is kept as its text."""

    def rows() -> Iterator[Any]:
        yield Location(address="1 Main St", latitude=1.5, longitude=2.5)
        yield {"address": "2 Oak Ave", "postal_code": 2134, "state": "MA", "n": np.int64(7)}
        yield "3 Elm St"
        yield {"city": "Boston", "on": dt.date(2024, 1, 2), "tiv": Decimal("1.50"), "nan": np.nan}

    found = read_all(rows())
    assert found.rows == [
        b'{"address":"1 Main St","latitude":1.5,"longitude":2.5}',
        b'{"address":"2 Oak Ave","postal_code":2134,"state":"MA","n":7}',
        b'"3 Elm St"',
        b'{"city":"Boston","on":"2024-01-02","tiv":"1.50","nan":null}',
    ]
    assert found.locations[0] == {"address": "1 Main St", "latitude": 1.5, "longitude": 2.5}
    assert found.locations[1]["postal_code"] == "02134"
    assert found.locations[2] == "3 Elm St"
    assert found.locations[3] == {"city": "Boston", "on": "2024-01-02", "tiv": "1.50", "nan": None}
    content = b"".join(row + b"\n" for row in found.rows)
    assert found.reader.fingerprint().sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "rows in memory is empty"),
        ([17], "row 1: a location is a Location"),
        (["x", {"address": object()}], "row 2: cannot be written as JSON"),
        (["x", "\ud800"], "row 2: cannot be written as JSON"),
        ([{"foo": 1}], "no column to look up"),
        ([{"zip": 1, "city": "x"}, {"Zip Code": 1, "Post Code": 2}], "row 2"),
        ({"address": "x"}, "a dict is not an input"),
        (Location(address="x"), "a Location is not an input"),
        (b"in.csv", "a bytes is not an input"),
        (17, "a int is not an input"),
        (io.StringIO("address\n1 Main St\n"), "an open file is not an input: give its path"),
        (pl.Series("address", ["x"]), "the Series is not a table"),
        (pa.table({"x": [1]}), "no column to look up"),
        (pd.DataFrame([["x", "y"]], columns=["address", "address"]), "Duplicate column names"),
    ],
    ids=lambda given: type(given).__name__,  # what an object prints as holds its address
)
def test_what_is_no_input(source: Any, says: str) -> None:
    """Each in one line."""
    with pytest.raises(InputError) as caught:
        read_all(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_without_the_interface() -> None:
    """Iterated, it would give the names of its columns for addresses."""

    class OldFrame(list[str]):
        __dataframe__ = None

    with pytest.raises(InputError, match="no Arrow interface"):
        read_all(OldFrame(["address"]))


def test_options_and_packages() -> None:
    """Options of files are refused; without the package the message says what to install."""
    for options in ({"sheet": "One"}, {"encoding": "utf-8"}):
        with pytest.raises(ConfigurationError, match="in memory"):
            read_all(["x"], **options)
    with (
        mock.patch.dict("sys.modules", {"pyarrow": None}),
        pytest.raises(ConfigurationError, match=r'pip install "pingdata-async\[parquet\]"'),
    ):
        read_all(polars_frame())
