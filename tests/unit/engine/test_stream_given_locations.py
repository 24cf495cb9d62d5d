"""What is given to `enhance()` and `stream()` for locations, and costs nothing by mistake."""

from __future__ import annotations

import codecs
import io
from collections import UserString
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pingdata_async as ping
from pingdata_async.engine.stream import ChunkSource
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.sandbox import SandboxServer
from tests.support.engine_harness import addresses

TABLE = {"address": ["1 Main St", "2 Oak Ave"], "State": ["MA", "NY"]}
COLUMN = TABLE["address"]


class Frame:
    """Of a library that has only the interchange protocol; iterated, it gives column names."""

    def __dataframe__(self) -> object:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)


TABLES: dict[str, Any] = {
    "pandas": pd.DataFrame(TABLE),
    "pandas with such columns": pd.DataFrame({"dtype": [1], "ndim": [1]}),
    "polars": pl.DataFrame(TABLE),
    "polars, lazy": pl.DataFrame(TABLE).lazy(),
    "pyarrow": pa.table(TABLE),
    "record batch": pa.table(TABLE).to_batches()[0],
    "record batch reader": pa.table(TABLE).to_reader(),
    "column": pa.table(TABLE)["address"],
    "duckdb": duckdb.connect().sql("SELECT 'x' AS address"),
    "interchange": Frame(),
    "array": np.array([COLUMN, COLUMN]),
    "records": np.array([("1 Main St", "MA")], dtype=[("address", "U9"), ("state", "U2")]),
    "dict of lists": TABLE,
    "dict of arrays": {"address": np.array(COLUMN)},
    "dict of series": {"address": pd.Series(COLUMN)},
}
NO_LOCATIONS: dict[str, Any] = {
    "text": "addresses.csv",
    "path": Path("addresses.csv"),
    "text of its own kind": UserString("addresses.csv"),
    "open file": io.StringIO("address\n1 Main St\n"),
    "file of codecs": codecs.getreader("utf-8")(io.BytesIO(b"address\n1 Main St\n")),
    "file of anyio": anyio.wrap_file(io.StringIO("address\n1 Main St\n")),
    "bytes": b"1 Main St",
    "array of bytes": bytearray(b"1 Main St"),
    "none": None,
    "function": addresses,
    "location": ping.Location(address="1 Main St"),
    "mapping": {"address": "1 Main St", "sources": ["PG"]},
}


@pytest.fixture
def offline() -> ping.BulkEnhancer:
    client = ping.PingDataClient(api_url="http://127.0.0.1:9", auth_token="t")
    return ping.BulkEnhancer(client, "PG")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_is_refused_with_what_is_for_it(offline: ping.BulkEnhancer, table: Any) -> None:
    """Or the names of its columns would be taken for addresses, and charged."""
    with pytest.raises(ping.InputError, match=r"is a table.*enhance_table\(\) or BulkEnhancer.run"):
        offline.stream(table)


@pytest.mark.parametrize("given", NO_LOCATIONS.values(), ids=NO_LOCATIONS)
def test_what_is_no_iterable_of_locations_is_refused(
    offline: ping.BulkEnhancer, given: Any
) -> None:
    """Letters and bytes are not addresses either."""
    with pytest.raises(ping.InputError, match=r"give a list|path to run\(\)"):
        offline.stream(given)


@pytest.mark.parametrize(
    "column",
    [pd.Series(COLUMN), pl.Series(COLUMN), np.array(COLUMN), dict.fromkeys(COLUMN).keys(),
     dict(enumerate(COLUMN)).values(), set(COLUMN)],
    ids=["pandas", "polars", "numpy", "keys", "values", "set"],
)  # fmt: skip
async def test_a_column_of_addresses_is_taken(
    enhancer: ping.BulkEnhancer, sandbox: SandboxServer, column: Iterable[str]
) -> None:
    """It gives what is in it."""
    results = await enhancer.enhance(column)
    assert [result.row for result in results] == [0, 1]
    assert sandbox.stats.locations_accepted == 2


def frozen(location: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(location))


@pytest.mark.parametrize("form", [dict, frozen])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("zip", "did you mean postal_code?"),
        ("State", "did you mean state?"),
        ("adress", "did you mean address"),
        ("street", "did you mean address_line_1?"),
        ("lat", "did you mean latitude?"),
        (7, "there are id, address, "),
    ],
)
async def test_a_name_that_is_no_field_is_refused(
    enhancer: ping.BulkEnhancer, sandbox: SandboxServer, form: Any, name: Any, meant: str
) -> None:
    """What it holds would not be sent; nothing is, and the row and the field are named."""
    locations = [*addresses(5), form({"address": "1 Main St", name: "x"})]
    with pytest.raises(ping.InputError) as caught:
        await enhancer.enhance(locations)
    assert str(caught.value).startswith(f"row 5: {name!r} is no field of a location; {meant}")
    assert sandbox.stats.jobs_accepted == 0


async def test_all_names_of_fields_are_known() -> None:
    """Whatever a `Location` has, a mapping may have."""
    location = dict.fromkeys(ping.Location.__struct_fields__) | {"id": 1, "city": "Boston"}
    chunk = await only_chunk([location])
    assert chunk.body == b'{"id":"0","city":"Boston"}'


async def test_a_slip_after_something_was_sent_costs_its_row_alone(
    enhancer: ping.BulkEnhancer,
) -> None:
    """What is paid for is not thrown away for it."""
    rows: list[Any] = [*addresses(15), {"address": "1 Main St", "zip": "02134"}, *addresses(4)]
    results = await enhancer.enhance(rows)
    assert len(results) == 20
    assert results[15].reason is ping.Reason.INVALID_INPUT
    assert results[15].error == "'zip' is no field of a location; did you mean postal_code?"
    assert results.summary.locations_charged == 19


@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
async def test_no_sources_at_all(client: ping.PingDataClient, form: Any) -> None:
    """An error before anything is sent, rather than a list of rows that failed."""
    with pytest.raises(ping.InputError, match=r'no sources: .*sources=\["PG"\]'):
        await ping.BulkEnhancer(client).enhance(form(addresses(5)))


def test_no_sources_is_said_before_a_list_is_read() -> None:
    """When the stream is made."""
    client = ping.PingDataClient(api_url="http://127.0.0.1:9", auth_token="t")
    with pytest.raises(ping.InputError, match="no sources"):
        ping.BulkEnhancer(client).stream(addresses(5))


async def test_locations_own_sources_are_enough(client: ping.PingDataClient) -> None:
    """The enhancer need not name any; a row without is one that cannot be sent."""
    rows: list[Any] = [
        {"city": "Boston", "sources": "PG"},
        "1 Main St",
        ping.Location(city="Boston", sources=["PH"]),
    ]
    results = await ping.BulkEnhancer(client).enhance(rows)
    assert [result.reason for result in results] == [None, ping.Reason.INVALID_INPUT, None]
    assert await ping.BulkEnhancer(client).enhance([]) == []


POSTAL_CODES = [
    ({"postal_code": 2134, "state": "MA"}, "02134"),
    ({"postal_code": "2134", "country": "USA"}, "02134"),
    ({"postal_code": 2134.0, "state": "Massachusetts"}, "02134"),
    ({"postal_code": 8001.0}, "8001"),
    ({"postal_code": "7701", "state": "TX", "country": "US"}, "7701"),
    ({"postal_code": 21345678, "state": "MA"}, "02134-5678"),
    ({"postal_code": "2134", "country": "Norway"}, "2134"),
    ({"postal_code": 2134, "country": "NO"}, "2134"),
    ({"postal_code": "02134"}, "02134"),
]


@pytest.mark.parametrize(
    "form",
    [dict, frozen, lambda fields: ping.Location(**fields)],
    ids=["dict", "mapping", "Location"],
)
async def test_leading_zeros_come_back(form: Any) -> None:
    """As in files: where the row is of the United States, and nowhere else."""
    given = [form(fields) for fields, _ in POSTAL_CODES]
    chunk = await only_chunk([*given, "1 Main St"])
    sent = [msgspec.json.decode(each).get("postal_code") for each in chunk.locations]
    assert sent == [*(code for _, code in POSTAL_CODES), None]
    assert given == [form(fields) for fields, _ in POSTAL_CODES]  # the caller's own stay


async def only_chunk(locations: list[Any]) -> Chunk:
    (task,) = [each async for each in ChunkSource(locations, ChunkBuilder(sources=("PG",)))]
    return task.chunk
