"""Runs from CSV to Parquet whose fields change late; at full size in benchmarks/scale/tables.py."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pingdata_async as ping
from benchmarks.throughput.data import make_input
from pingdata_async.runs.export.export import export_run
from tests.benchmarks.support import served
from tests.large.changing_server import ChangingAPI, LateChanges
from tests.large.checking import Expected, check_by_arrow, check_by_duckdb, check_geoparquet

ROWS = 1500


@pytest.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The input and the output of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    source, output = make_input("csv", ROWS, folder), folder / "out.parquet"
    api = ChangingAPI(LateChanges(ROWS))
    async with (
        served(api) as url,
        ping.PingDataClient(api_url=url, auth_token="any") as client,
    ):
        enhancer = ping.BulkEnhancer(
            client,
            ["PG", "PH"],
            chunk_size=400,
            poll_schedule=ping.PollSchedule(min_interval_s=0.001),
        )
        summary = await enhancer.run(source, output)
    assert (summary.rows, summary.no_answer) == (ROWS, 0)
    return source, output


async def test_fields_that_change_late(run: tuple[Path, Path], tmp_path: Path) -> None:
    """Null and then text, integer and then float, in the last row alone: each value comes out."""
    source, output = run
    expected = Expected(source, LateChanges(ROWS))
    check_by_arrow(output, expected)
    check_by_duckdb(output, expected)
    geo = tmp_path / "out.geoparquet"
    await export_run(f"{output}.run", geo)
    assert 0 < check_geoparquet(geo, output) < ROWS


def test_a_wrong_value_is_found(run: tuple[Path, Path], tmp_path: Path) -> None:
    """By each of the two readers, wherever it is."""
    source, right = run
    output = tmp_path / "out.parquet"
    expected = Expected(source, LateChanges(ROWS))
    table = pq.read_table(right)
    for name in ("city", "ph_elevation", "ph_late_text"):
        place = table.column_names.index(name)
        last = table[name].cast(pa.string()).to_pylist()
        last[-1] = "9"
        wrong = pa.array(last, pa.string()).cast(table.schema.field(name).type)
        pq.write_table(table.set_column(place, name, wrong), output)
        for check in (check_by_arrow, check_by_duckdb):
            with pytest.raises(AssertionError):
                check(output, expected)
