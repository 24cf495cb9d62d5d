"""Data frames in, the same with the answers beside them out."""

from __future__ import annotations

import re
import sys
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import FAST_POLLS, read_addresses, requests, sandbox_and_client

ROWS = 25


def given() -> dict[str, list[Any]]:
    """Real addresses under headers of a spreadsheet, and columns that mean nothing to the API."""
    real = read_addresses()[:ROWS]
    return {
        "Loc #": list(range(1, ROWS + 1)),
        "Street Address": [each["address_line_1"] for each in real],
        "City": [each["city"] for each in real],
        "ST": [each["state"] for each in real],
        "Zip": [each["postal_code"] for each in real],
        "TIV": [None if n % 5 == 0 else n * 1e6 for n in range(ROWS)],
        "PG_Latitude": ["mine"] * ROWS,
    }


async def enhanced(client: ping.PingDataClient, table: Any, **changes: Any) -> Any:
    return await ping.enhance_table(
        table, "PG,PH", client=client, chunk_size=10, poll_schedule=FAST_POLLS, **changes
    )


def check_rows(found: list[dict[str, Any]]) -> None:
    """Each row as it was given, with its own answer."""
    for place, (row, real) in enumerate(zip(found, read_addresses(), strict=False)):
        before = {name: values[place] for name, values in given().items()}
        assert {name: row[name] for name in before} == before
        assert row["enhance_status"] == "ok"
        assert row["pg_postal_code"] == real["postal_code"]
        assert isinstance(row["pg_latitude_2"], float)  # the name was taken, but for its case
        assert isinstance(row["ph_bldg_num_stories"], int)
    assert len(found) == ROWS


async def test_every_kind_of_table_comes_back_as_what_it_was() -> None:
    """pyarrow, its batches and streams, polars and pandas: rows, order and columns are the same."""
    async with sandbox_and_client(no_match_share=0.0) as (_, client):
        table = pa.table(given()).replace_schema_metadata({"who": "me"})
        found = await enhanced(client, table)
        assert type(found) is pa.Table
        assert found.schema.metadata == {b"who": b"me"}
        check_rows(found.to_pylist())
        batch = await enhanced(client, table.to_batches()[0])
        assert type(batch) is pa.RecordBatch
        check_rows(batch.to_pylist())
        stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
        check_rows((await enhanced(client, stream)).to_pylist())
        frame = await enhanced(client, pl.DataFrame(given()))
        assert type(frame) is pl.DataFrame
        check_rows(frame.to_dicts())


async def test_a_pandas_frame_keeps_its_index() -> None:
    """And its types; integers with nulls among them stay integers."""
    async with sandbox_and_client(no_match_share=0.5, seed=1) as (_, client):
        frame = pd.DataFrame(given(), index=[f"row {n}" for n in range(ROWS, 0, -1)])
        frame["City"] = frame["City"].astype("category")
        found = await enhanced(client, frame)
    assert type(found) is pd.DataFrame
    pd.testing.assert_frame_equal(found[list(frame)], frame)
    assert 0 < found["pg_confidence"].isna().sum() < ROWS
    assert found["pg_confidence"].dtype == pd.Int64Dtype()
    assert set(found["enhance_status"]) == {"ok", "failed", "partial"}


async def test_columns_can_be_chosen() -> None:
    """Among the new ones; the table's own all stay."""
    async with sandbox_and_client() as (_, client):
        table = pa.table(given())
        found = await enhanced(client, table, columns=["enhance_status", "pg_lon*"])
    assert found.column_names == [*table.column_names, "enhance_status", "pg_longitude"]


async def test_no_rows_cost_nothing() -> None:
    """A table of nothing but columns comes back with those of the status."""
    async with sandbox_and_client() as (server, client):
        found = await enhanced(client, pa.table({"address": pa.array([], pa.string())}))
        assert requests(server) == 0
    assert found.num_rows == 0
    assert found.column_names == ["address", "enhance_status", "enhance_reason", "enhance_error"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pl.LazyFrame({"address": ["x"]}), "collect a lazy one"),
        ([{"address": "x"}], "a list is no table"),
        (pa.table({"foo": ["x"]}), "no column to look up"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_no_table(table: Any, says: str) -> None:
    """It is said before anything is sent."""
    async with sandbox_and_client() as (server, client):
        with pytest.raises(ping.InputError, match=says):
            await enhanced(client, table)
        assert requests(server) == 0


async def test_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, token and host come from the usual places."""
    async with SandboxServer(no_match_share=0.0) as sandbox:
        monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "any")
        monkeypatch.setattr(
            "pingdata_async.api.config.ENVIRONMENTS", {"prod": (sandbox.url, "PRD")}
        )
        found = await ping.enhance_table(pa.table({"address": ["1 Main St, Lynn, MA"]}), ["PG"])
    assert found["enhance_status"].to_pylist() == ["ok"]


async def test_results_as_a_table() -> None:
    """Rows, ids, outcomes and the fields of every source, typed as in a data frame enhanced."""
    async with sandbox_and_client(no_match_share=0.3, seed=1) as (_, client):
        locations = [{"address": f"{n} Main St, Lynn, MA", "id": f"id-{n}"} for n in range(20)]
        results = await ping.BulkEnhancer(client, "PG,PH", poll_schedule=FAST_POLLS).enhance(
            locations
        )
    table = ping.to_arrow(results)
    assert table.column_names[:3] == ["row", "id", "enhance_status"]
    assert table["row"].to_pylist() == list(range(20))
    assert table["id"].to_pylist() == [f"id-{n}" for n in range(20)]
    found = [result.get("PG") for result in results]
    assert table["pg_latitude"].to_pylist() == [pg and pg.latitude for pg in found]
    frame = ping.to_pandas(results)
    assert list(frame) == table.column_names
    assert frame["ph_bldg_num_stories"].dtype == pd.Int64Dtype()
    assert frame["row"].tolist() == list(range(20))
    chosen = ping.to_arrow(iter(results), columns=["pg_lon*"])
    assert chosen.column_names == ["row", "id", "pg_longitude"]
    assert ping.to_arrow([]).num_rows == len(ping.to_pandas([])) == 0


@pytest.mark.parametrize(
    ("package", "wanted"), [("pyarrow", r'"pingdata-async\[parquet\]"'), ("pandas", "pandas")]
)
def test_a_table_without_its_package(
    package: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ping.ConfigurationError, match=f"needs {package}: pip install {wanted}"):
        ping.to_pandas([])


async def test_what_nobody_awaits_says_what_to_do() -> None:
    """In a notebook, which shows it, and in Python's own warning."""
    advice = "(write `await`, or call `pingdata_async.sync.enhance_table()`)"
    with pytest.warns(RuntimeWarning, match=rf"{re.escape(advice)}' was never awaited"):
        assert advice in repr(ping.enhance_table(pa.table({"a": ["b"]}), "PG"))
