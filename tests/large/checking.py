"""Whether a table has every row of a run with each of its values, by two other readers.

What is expected is reckoned from what the server sends, by other means than the package's own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.throughput.server import make_templates
from tests.large.changing_server import LateChanges, pick_of

SCHEMA = Path(__file__).parents[1] / "data" / "geoparquet-1.1.0.schema.json"
FOR_MACHINES = ("_worker_name", "_persist_for", "_raw_response", "_fetch_time")
STATUS = ["enhance_status", "enhance_reason", "enhance_error"]
LATE: dict[str, Any] = {
    "ph_late_text": pa.string(),
    "ph_late_float": pa.float64(),
    "ph_only_last": pa.bool_(),
}
POINT = struct.Struct("<BIdd")


class Expected:
    """What there is to be.

    Args:
        source: The CSV that was enhanced.
        changes: What changed late.
    """

    def __init__(self, source: Path, changes: LateChanges) -> None:
        self.source = source
        self.changes = changes
        answers = [json.loads(template) for template in make_templates()[0]]
        self.templates = _flat_table(answers)
        self.picks = pa.array([pick_of(row, len(answers)) for row in range(changes.rows)])

    def late(self, begin: int, rows: int) -> dict[str, Any]:
        """What changed late, of some rows."""
        changes, numbers = self.changes, range(begin, begin + rows)
        values: list[list[Any]] = [
            [f"row {row}" if row >= changes.text_from else None for row in numbers],
            [row + 0.5 if row >= changes.float_from else float(row) for row in numbers],
            [True if row == changes.rows - 1 else None for row in numbers],
        ]
        return {
            name: pa.array(column, kind)
            for (name, kind), column in zip(LATE.items(), values, strict=True)
        }


def check_by_arrow(output: Path, expected: Expected) -> None:
    """Every column, its type, and every value of every row, in order.

    Raises:
        AssertionError: When one is not as it should be.
    """
    file = pq.ParquetFile(output)
    given = _given(expected.source)
    templates = expected.templates
    names = [*given.column_names, *STATUS, *templates.column_names[len(STATUS) :], *LATE]
    written = file.schema_arrow.names
    assert written[: given.num_columns + len(STATUS)] == names[: given.num_columns + len(STATUS)]
    assert sorted(written) == sorted(names)
    assert file.metadata.num_rows == given.num_rows == expected.changes.rows
    row = 0
    for batch in file.iter_batches(batch_size=16 * 1024):
        picks = expected.picks.slice(row, len(batch))
        wanted = {
            **{name: given[name].slice(row, len(batch)) for name in given.column_names},
            **{name: templates[name].take(picks) for name in templates.column_names},
            **expected.late(row, len(batch)),
        }
        for name in written:
            values = pa.chunked_array([batch[name]])
            right = pa.chunked_array(getattr(wanted[name], "chunks", [wanted[name]]))
            assert values.equals(right), f"{name}, rows {row} to {row + len(batch) - 1}"
        row += len(batch)


def check_by_duckdb(output: Path, expected: Expected) -> None:
    """The same by a reader that shares no code with the writer.

    Raises:
        AssertionError: When it finds a value that is not as it should be.
    """
    changes = expected.changes
    database = duckdb.connect()
    rows = pa.table({"n": pa.array(range(changes.rows)), "pick": expected.picks})
    templates = expected.templates.append_column(
        "pick", pa.array(range(expected.templates.num_rows))
    )
    for name, table in (("given", _given(expected.source)), ("n", rows), ("t", templates)):
        database.register(f"{name}_table", table)
    wanted = {name: f't."{name}"' for name in expected.templates.column_names}
    wanted["ph_late_text"] = f"if(n.n < {changes.text_from}, null, 'row ' || n.n)"
    wanted["ph_late_float"] = f"n.n + if(n.n < {changes.float_from}, 0.0, 0.5)"
    wanted["ph_only_last"] = f"if(n.n = {changes.rows - 1}, true, null)"
    differs = ", ".join(
        f'count(*) filter (p."{name}" is distinct from {value}) as "{name}"'
        for name, value in wanted.items()
    )
    found = database.execute(
        f"select count(*) as rows, {differs} from read_parquet(?, file_row_number = true) p "
        "join n_table n on p.file_row_number = n.n join t_table t on n.pick = t.pick",
        [str(output)],
    ).fetchone()
    assert found == (changes.rows, *(0 for _ in wanted)), [
        name for name, count in zip(wanted, (found or ())[1:], strict=False) if count
    ]
    columns = ", ".join(f'"{name}"' for name in _given(expected.source).column_names)
    [[difference]] = database.execute(
        f"select count(*) from (select {columns} from read_parquet(?) except all "
        "select * from given_table)",
        [str(output)],
    ).fetchall()
    assert difference == 0


def check_geoparquet(output: Path, plain: Path) -> int:
    """Metadata as the specification says, and the points where the answers say.

    Args:
        output: The GeoParquet file.
        plain: The same run in Parquet, checked before.

    Returns:
        How many rows have a point.

    Raises:
        AssertionError: When something is not so.
    """
    file = pq.ParquetFile(output)
    metadata = json.loads((file.metadata.metadata or {})[b"geo"])
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text(encoding="utf-8")))
    without = [name for name in file.schema_arrow.names if name != metadata["primary_column"]]
    assert without == pq.read_schema(plain).names
    points = 0
    west, south, east, north = 180.0, 90.0, -180.0, -90.0
    names = ["pg_longitude", "pg_latitude", "ph_longitude", "ph_latitude"]
    for shapes, answers in zip(
        file.iter_batches(batch_size=8192, columns=["geometry"]),
        pq.ParquetFile(plain).iter_batches(batch_size=8192, columns=names),
        strict=True,
    ):
        eastings = pc.coalesce(answers["pg_longitude"], answers["ph_longitude"]).to_pylist()
        northings = pc.coalesce(answers["pg_latitude"], answers["ph_latitude"]).to_pylist()
        wanted = [
            None if easting is None or northing is None else POINT.pack(1, 1, easting, northing)
            for easting, northing in zip(eastings, northings, strict=True)
        ]
        assert shapes["geometry"].to_pylist() == wanted
        placed = [easting for easting in eastings if easting is not None]
        west, east = min(west, *placed), max(east, *placed)
        heights = [northing for northing in northings if northing is not None]
        south, north = min(south, *heights), max(north, *heights)
        points += len(placed)
    assert metadata["columns"]["geometry"]["bbox"] == [west, south, east, north]
    return points


def _given(source: Path) -> pa.Table:
    """The input as texts."""
    with source.open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")
    return pa_csv.read_csv(
        source,
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _flat_table(answers: list[dict[str, Any]]) -> pa.Table:
    """How each of the answers is to look in a table, its status before it."""
    rows = [dict(_flat_row(answer)) for answer in answers]
    # Where some have an object and others null, there is nothing but its members.
    objects = {
        name
        for answer in answers
        for source, fields in answer.items()
        for name in _objects(source.lower(), fields)
    }
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: pa.array([row.get(name) for row in rows])
        for name in names
        if name not in objects and not name.endswith(FOR_MACHINES)
    }
    return pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_null(column.type) else column
            for name, column in columns.items()
        }
    )


def _flat_row(answer: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    bad = [source for source, fields in answer.items() if not fields["is_success"]]
    status = "ok" if not bad else "partial" if len(bad) < len(answer) else "failed"
    yield "enhance_status", status
    yield "enhance_reason", "no_match" if bad else None
    errors = [f"{source}: {answer[source]['error_message']}" for source in bad]
    yield "enhance_error", "; ".join(errors) or None
    for source, fields in answer.items():
        yield from _flat(source.lower(), fields)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for member, each in value.items():
            yield from _flat(f"{name}_{member}", each)
    elif isinstance(value, list):
        yield name, json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    else:
        yield name, value


def _objects(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield name
        for member, each in value.items():
            yield from _objects(f"{name}_{member}", each)
