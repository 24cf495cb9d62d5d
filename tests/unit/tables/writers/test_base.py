"""What the writers wrote, read again by others."""

from __future__ import annotations

import datetime as dt
import errno
import gc
import io
import json
import random
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import RunError
from pingdata_async.tables.formats import OutputFormat, WriteOptions
from pingdata_async.tables.schema.arrow import columns_of
from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell
from pingdata_async.tables.writers.base import TableRows, open_table_writer
from tests.conftest import DATA
from tests.support.sweeps import examples, sampled
from tests.support.writing import (
    AWKWARD,
    MOMENT,
    Table,
    read_csv,
    read_lines,
    read_parquet,
    read_xlsx,
    write,
)

FLAT = [kind for kind in OutputFormat if kind is not OutputFormat.JSONL]
UNIQUE_NAMES = [
    column.name or "column_4" if place != 2 else "Zip_2"
    for place, column in enumerate(AWKWARD.columns)
]


def shown(cell: Any) -> str:
    return "" if cell is None else text_of_cell(cell)


def rows_of(table: Table) -> list[tuple[Any, ...]]:
    return list(zip(*table.values, strict=True))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CELLS: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.TEXT: TEXTS,
    ColumnType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    ColumnType.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.DATE: st.dates(),
    ColumnType.DATETIME: st.datetimes(),
    ColumnType.TIME: st.times(),
    ColumnType.DURATION: st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)),
    ColumnType.NOTHING: st.none(),
}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(0, 5))
    columns = draw(
        st.lists(st.builds(Column, TEXTS, st.sampled_from(ColumnType)), min_size=1, max_size=5)
    )
    return Table(
        columns,
        [
            draw(st.lists(st.none() | CELLS[column.type], min_size=rows, max_size=rows))
            for column in columns
        ],
    )


@given(tables() | st.just(AWKWARD))
def test_csv(table: Table) -> None:
    """Every header and cell comes back as its text, in its row; null is an empty cell."""
    header, *rows = read_csv(write(OutputFormat.CSV, table))
    assert header == [column.name for column in table.columns]
    assert rows == [list(map(shown, row)) for row in rows_of(table)]


@given(tables() | st.just(AWKWARD))
def test_tsv(table: Table) -> None:
    """Likewise with tabs between the cells."""
    header, *rows = read_csv(write(OutputFormat.TSV, table), "\t")
    assert header == [column.name for column in table.columns]
    assert rows == [list(map(shown, row)) for row in rows_of(table)]


def test_csv_is_plain() -> None:
    """UTF-8 without a mark, and line feeds."""
    table = Table([Column("é", ColumnType.TEXT), Column("n", ColumnType.NUMBER)], [["a"], [1.0]])
    assert write(OutputFormat.CSV, table) == "é,n\na,1.0\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\N{FULLWIDTH EQUALS SIGN}1",
        "\N{FULLWIDTH COMMERCIAL AT}x",
        "-",
        "+1-800",
        "|cmd",
        " |cmd",
        "\N{FULLWIDTH VERTICAL LINE}cmd",
        "\N{SMALL EQUALS SIGN}1",
        "\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}=1",
        "\N{ZERO WIDTH NO-BREAK SPACE}=1",
        " \t@x",
        "-12.5|x",
    ],
)
def test_safe_csv(text: str) -> None:
    """What a spreadsheet would run begins with an apostrophe, in the header too; only if asked."""
    table = Table([Column(text, ColumnType.TEXT)], [[text, None, "x"]])
    assert read_csv(write(OutputFormat.CSV, table, safe_csv=True)) == [
        [f"'{text}"],
        [f"'{text}"],
        [""],
        ["x"],
    ]
    assert read_csv(write(OutputFormat.CSV, table))[:2] == [[text], [text]]


@pytest.mark.parametrize(
    "text", ["-5", "-12.5", "+1.5e3", "-.5", "1", "a=b", "a|b", "12-34", " ", ""]
)
def test_safe_csv_leaves_the_rest(text: str) -> None:
    """Plain numbers stay numbers, and texts that begin with something else are no danger."""
    table = Table([Column("a", ColumnType.TEXT), Column("b", ColumnType.NUMBER)], [[text], [-5.0]])
    assert read_csv(write(OutputFormat.CSV, table, safe_csv=True))[1] == [text, "-5.0"]


@examples(50)
@given(tables() | st.just(AWKWARD))
def test_parquet(table: Table) -> None:
    """Every value comes back, in the type of its column."""
    read = read_parquet(write(OutputFormat.PARQUET, table))
    assert len(set(read.column_names)) == len(table.columns)
    assert [column.to_pylist() for column in read.columns] == [list(v) for v in table.values]


def test_parquet_by_duckdb(tmp_path: Path) -> None:
    """Another reader finds the same names and values."""
    path = tmp_path / "out.parquet"
    path.write_bytes(write(OutputFormat.PARQUET, AWKWARD))
    relation = duckdb.read_parquet(str(path))
    assert relation.columns == UNIQUE_NAMES
    place = UNIQUE_NAMES.index("for")  # it reads Arrow's durations as integers
    for row, expected in zip(relation.fetchall(), rows_of(AWKWARD), strict=True):
        assert row[:place] == expected[:place]
        assert row[place + 1 :] == expected[place + 1 :]


def test_parquet_keeps_arrow_types() -> None:
    """Decimals, zones, lists and dictionaries, with nullability and metadata."""
    table = pa.table(
        {
            "decimal": pa.array([Decimal("1.10"), None], pa.decimal128(5, 2)),
            "zone": pa.array([MOMENT, None], pa.timestamp("ns", "America/New_York")),
            "list": pa.array([[{"a": 1}], None]),
            "code": pa.array(["a", "b"]).dictionary_encode(),
            "short": pa.array([1, 2], pa.int16()),
        }
    )
    fields = [*table.schema]
    fields[4] = pa.field("short", pa.int16(), nullable=False, metadata={"unit": "ft"})
    kept = pa.schema(fields)
    table = table.cast(kept)
    given_ = Table(columns_of(kept), list(table.columns))
    read = read_parquet(write(OutputFormat.PARQUET, given_, part_rows=1))
    assert read.schema.remove_metadata() == kept.remove_metadata()
    assert read.schema.field("short").nullable is False
    assert read.schema.field("short").metadata[b"unit"] == b"ft"
    assert read.to_pylist() == table.to_pylist()


def test_parquet_of_parts_with_dictionaries_of_their_own() -> None:
    """As each part of a data frame may have them, lists of them too."""
    parts = [
        pa.table(
            {
                "code": pa.array(codes).dictionary_encode(),
                "codes": pa.array([codes] * 2, pa.list_(pa.dictionary(pa.int8(), pa.string()))),
            }
        )
        for codes in (["a", "b"], ["c", "a"], [None, "d"])
    ]
    file = io.BytesIO()
    columns = columns_of(parts[0].schema)
    with open_table_writer(file, OutputFormat.PARQUET, columns, WriteOptions()) as writer:
        for part in parts:
            values: list[Any] = part.columns
            writer.write(TableRows(values, part.num_rows))
    read = read_parquet(file.getvalue())
    assert read.schema.types == parts[0].schema.types
    assert read.to_pylist() == [row for part in parts for row in part.to_pylist()]


def test_parquet_groups_rows(tmp_path: Path) -> None:
    """Parts become row groups of a good size, compressed with zstd; none of them is tiny."""
    columns = [Column("a", ColumnType.INTEGER)]
    path = tmp_path / "out.parquet"
    with (
        path.open("wb") as file,
        open_table_writer(file, OutputFormat.PARQUET, columns, WriteOptions()) as writer,
    ):
        for begin in range(0, 150_000, 1000):
            writer.write(TableRows([range(begin, begin + 1000)], 1000))
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]
    assert sizes == [66_000, 66_000, 18_000]
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(path)["a"].to_pylist() == list(range(150_000))


def test_a_value_that_does_not_fit() -> None:
    """Names its column."""
    with pytest.raises(RunError, match='"a"'):
        write(OutputFormat.PARQUET, Table([Column("a", ColumnType.INTEGER)], [["x"]]))


@pytest.mark.parametrize("kind", [OutputFormat.CSV, OutputFormat.XLSX])
def test_half_a_surrogate_pair(kind: OutputFormat) -> None:
    """Is shown as what it is, as there is no text with it."""
    content = write(kind, Table([Column("a", ColumnType.TEXT)], [["x\ud800"]]))
    rows = read_csv(content) if kind is OutputFormat.CSV else read_xlsx(content)
    assert rows[1] == ["x\\ud800"]


POINTS = [(-74.0, 40.5), None, (151.25, -33.5), (0.0, 51.0), None]


@examples(50)
@given(tables() | st.just(AWKWARD))
def test_geojson(table: Table) -> None:
    """A feature a line, with every value in its properties; or the same ones in a collection."""
    points = POINTS[: table.rows]
    features = read_lines(write(OutputFormat.GEOJSONL, table, points=points))
    collection = json.loads(write(OutputFormat.GEOJSON, table, points=points))
    assert collection == {"type": "FeatureCollection", "features": features}
    assert len(features) == table.rows
    for number, (feature, row) in enumerate(zip(features, rows_of(table), strict=True)):
        point = points[number]
        assert (feature["type"], feature["id"]) == ("Feature", number)
        assert feature["geometry"] == (point and {"type": "Point", "coordinates": list(point)})
        assert len(feature["properties"]) == len(table.columns)
        for value, cell in zip(feature["properties"].values(), row, strict=True):
            assert value == (text_of_cell(cell) if is_no_json(cell) else cell)


def is_no_json(cell: Any) -> bool:
    return not isinstance(cell, bool | int | float | str | None)


def test_geojson_ids_and_odd_numbers() -> None:
    """The user's own ids; and JSON has no word for what is not a number."""
    columns = [Column("a", ColumnType.NUMBER), Column("a", ColumnType.NUMBER)]
    table = Table(columns, [[float("nan"), 1.0], [float("inf"), None]])
    features = read_lines(write(OutputFormat.GEOJSONL, table, ids=["x", "x"]))
    assert [feature["id"] for feature in features] == ["x", "x"]
    assert features[0]["properties"] == {"a": "nan", "a_2": "inf"}
    assert features[1]["properties"] == {"a": 1.0, "a_2": None}
    assert [feature["geometry"] for feature in features] == [None, None]


def geo_metadata(content: bytes) -> Any:
    metadata = pq.read_metadata(io.BytesIO(content)).metadata or {}
    return json.loads(metadata[b"geo"])


def test_geoparquet() -> None:
    """The metadata is as the specification says, and the points are where they were."""
    content = write(OutputFormat.GEOPARQUET, AWKWARD, points=POINTS)
    metadata = geo_metadata(content)
    schema = json.loads((DATA / "geoparquet-1.1.0.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(metadata, schema)
    assert metadata["columns"]["geometry"]["bbox"] == [-74.0, -33.5, 151.25, 51.0]
    read = read_parquet(content)
    assert read.column_names == [*UNIQUE_NAMES, "geometry"]
    shapes = read["geometry"].to_pylist()
    assert [shape and struct.unpack("<BIdd", shape) for shape in shapes] == [
        point and (1, 1, *point) for point in POINTS
    ]
    in_arrow = pq.read_schema(io.BytesIO(content)).metadata or {}
    jsonschema.validate(json.loads(in_arrow[b"geo"]), schema)


@pytest.mark.parametrize("points", [[], [None], None])
def test_geoparquet_without_points(points: Any) -> None:
    """It is still one, and says nothing of where they are."""
    table = Table([Column("geometry", ColumnType.TEXT)], [["POINT (1 2)"] * len(points or [])])
    metadata = geo_metadata(write(OutputFormat.GEOPARQUET, table, points=points))
    assert metadata["primary_column"] == "geometry_2"
    assert metadata["columns"] == {"geometry_2": {"encoding": "WKB", "geometry_types": ["Point"]}}


def test_geoparquet_by_duckdb(tmp_path: Path) -> None:
    """Another reader opens it."""
    path = tmp_path / "out.geoparquet"
    path.write_bytes(write(OutputFormat.GEOPARQUET, AWKWARD, points=POINTS))
    assert duckdb.read_parquet(str(path)).count("*").fetchall() == [(5,)]


@pytest.mark.parametrize("kind", FLAT)
def test_no_rows(kind: OutputFormat) -> None:
    """A header without rows is a table, too."""
    table = Table(AWKWARD.columns, [[] for _ in AWKWARD.columns])
    content = write(kind, table)
    if kind is OutputFormat.XLSX:
        assert len(read_xlsx(content)) == 1
    elif kind is OutputFormat.GEOJSONL:
        assert content == b""
    elif kind is OutputFormat.GEOJSON:
        assert json.loads(content) == {"type": "FeatureCollection", "features": []}
    elif kind in {OutputFormat.PARQUET, OutputFormat.GEOPARQUET}:
        read = read_parquet(content)
        assert read.num_rows == 0
        assert read.column_names[:11] == UNIQUE_NAMES
    else:
        assert len(read_csv(content, "\t" if kind is OutputFormat.TSV else ",")) == 1


@pytest.mark.parametrize("kind", FLAT)
def test_columns_in_plenty(kind: OutputFormat) -> None:
    """All of 300 come through."""
    columns = [Column(f"c{place % 200}", ColumnType.INTEGER) for place in range(300)]
    values: list[Values] = [[place] for place in range(300)]
    content = write(kind, Table(columns, values))
    rows: dict[OutputFormat, Any] = {
        OutputFormat.CSV: lambda: list(map(int, read_csv(content)[1])),
        OutputFormat.TSV: lambda: list(map(int, read_csv(content, "\t")[1])),
        OutputFormat.XLSX: lambda: read_xlsx(content)[1],
        OutputFormat.GEOJSONL: lambda: list(read_lines(content)[0]["properties"].values()),
        OutputFormat.GEOJSON: lambda: list(
            json.loads(content)["features"][0]["properties"].values()
        ),
    }
    read = rows.get(kind, lambda: list(read_parquet(content).to_pylist()[0].values()))()
    assert read[:300] == list(range(300))


@pytest.mark.parametrize("kind", FLAT)
def test_arrow_values_in_every_form(kind: OutputFormat) -> None:
    """Values that are Arrow arrays can be written as anything."""
    source = pa.table(
        {
            "n": pa.array([1, None], pa.int8()),
            "t": pa.array(["00501", None]).dictionary_encode(),
            "l": pa.array([[1], None]),
            "d": pa.array([MOMENT, None], pa.timestamp("ns")),
            "z": pa.array([0.5, float("nan")]),
            "e": pa.array([dt.timedelta(hours=1), None]),
            "b": pa.array([True, None]),
        }
    )
    content = write(kind, Table(columns_of(source.schema), list(source.columns)), part_rows=1)
    if kind in {OutputFormat.CSV, OutputFormat.TSV}:
        first, second = read_csv(content, "," if kind is OutputFormat.CSV else "\t")[1:]
        assert first == ["1", "00501", "[1]", "2020-01-02T03:04:05", "0.5", "1:00:00", "true"]
        assert second == ["", "", "", "", "nan", "", ""]
    elif kind is OutputFormat.XLSX:
        first, second = read_xlsx(content)[1:]
        assert first[:5] == [1, "00501", "[1]", MOMENT, 0.5]
        assert second == ["", "", "", "", "nan", "", ""]
    elif kind in {OutputFormat.GEOJSON, OutputFormat.GEOJSONL}:
        is_lines = kind is OutputFormat.GEOJSONL
        features = read_lines(content) if is_lines else json.loads(content)["features"]
        first, second = (list(feature["properties"].values()) for feature in features)
        assert (
            first == [1, "00501", [1], "2020-01-02T03:04:05", 0.5, "1:00:00", True]
            or first[2] == "[1]"
        )
        assert second == [None, None, None, None, "nan", None, None]
    else:
        read = read_parquet(content).select(source.column_names)
        assert read.schema.types == source.schema.types
        assert str(read.to_pydict()) == str(source.to_pydict())


def test_types_that_parquet_does_not_have() -> None:
    """They are written as texts."""
    runs: Any = pc.call_function("run_end_encode", [pa.array([7, 7, None])])
    columns = columns_of(pa.schema([pa.field("a", runs.type)]))
    content = write(OutputFormat.PARQUET, Table(columns, [runs]))
    assert read_parquet(content).to_pydict() == {"a": ["7", "7", None]}


class FullDisk(io.BytesIO):
    """A file with room for so many bytes."""

    def __init__(self, room_bytes: int) -> None:
        super().__init__()
        self.room_bytes = room_bytes

    def write(self, block: Any) -> int:
        if self.tell() + len(block) > self.room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(block)


@pytest.mark.parametrize("room_bytes", sampled([2000, 0, 3, 20_000], 1))
@pytest.mark.parametrize("kind", FLAT)
def test_a_full_disk(kind: OutputFormat, room_bytes: int) -> None:
    """It is an OSError for whoever writes, and nothing is heard of it later."""
    dice = random.Random(1)
    texts = [dice.randbytes(50).hex() for _ in range(1000)]
    file = FullDisk(room_bytes)

    def fill() -> None:
        columns = [Column("a", ColumnType.TEXT)]
        with open_table_writer(file, kind, columns, WriteOptions()) as writer:
            writer.write(TableRows([texts], len(texts)))

    with pytest.raises(OSError, match="No space left"):
        fill()
    file.close()
    gc.collect()


def test_jsonl_is_no_flat_table() -> None:
    """It is written by others."""
    with pytest.raises(ValueError, match="no flat table"):
        write(OutputFormat.JSONL, AWKWARD)
