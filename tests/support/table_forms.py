"""One table in every form that it can come in, and what each form of output holds of it."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
import zstandard
from python_calamine import CalamineWorkbook

from pingdata_async.tables.rows import ReadOptions


class Table(NamedTuple):
    """A user's table.

    Attributes:
        headers: Of its columns; they may repeat, and be empty.
        types: Of its columns, in Arrow's words.
        rows: Its rows; None for null.
    """

    headers: list[str]
    types: list[Any]
    rows: list[list[Any]]


class InputForm(NamedTuple):
    """A form that a table can come in.

    Attributes:
        make: Makes it: a file in a folder, or an object in memory.
        holds: What it holds of a cell.
        duplicate_index: Whether headers may repeat in it.
        has_header: Whether it is a table also without rows.
        reading: How it has to be read; None where that is found out.
    """

    make: Callable[[Path, Table], Any]
    holds: Callable[[Any], Any]
    duplicate_index: bool
    has_header: bool = True
    reading: ReadOptions | None = None


# -- Inputs ----------------------------------------------------------------------------------


def as_text(cell: Any) -> str:
    """A cell of delimited text."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell.isoformat() if isinstance(cell, dt.date) else str(cell)


def _in_cp1252(cell: Any) -> str:
    return as_text(cell).encode("cp1252", "replace").decode("cp1252")


def _as_json(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, dt.date) else cell


def _as_it_is(cell: Any) -> Any:
    return cell


def _in_a_workbook(cell: Any) -> Any:
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) >= 10**15:
        return str(cell)
    return None if cell == "" else cell


def _in_a_given_workbook(cell: Any) -> Any:
    # Excel keeps no more digits, nor does what makes the workbook here.
    return float(f"{cell:.16G}") if isinstance(cell, float) else _in_a_workbook(cell)


def delimited(table: Table, delimiter: str = ",", line_end: str = "\r\n") -> str:
    """The table as delimited text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(table.headers)
    writer.writerows([[as_text(cell) for cell in row] for row in table.rows])
    return text.getvalue()


def _objects(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.headers, map(_as_json, row), strict=True)) for row in table.rows]


def _jsonl(table: Table) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in _objects(table))


def _arrow(table: Table) -> pa.Table:
    columns = zip(*table.rows, strict=True) if table.rows else [[] for _ in table.headers]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, table.types, strict=True)]
    return pa.Table.from_arrays(arrays, names=table.headers)


def _file(name: str, content: Callable[[Table], bytes]) -> Callable[[Path, Table], Path]:
    def make(folder: Path, table: Table) -> Path:
        path = folder / name
        path.write_bytes(content(table))
        return path

    return make


def _parquet(table: Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(_arrow(table), file, row_group_size=3)
    return file.getvalue()


def _workbook(table: Table) -> bytes:
    file = io.BytesIO()
    workbook = xlsxwriter.Workbook(file, {"strings_to_urls": False})
    sheet = workbook.add_worksheet()
    day = workbook.add_format({"num_format": "yyyy-mm-dd"})
    for number, row in enumerate([table.headers, *table.rows]):
        for place, given in enumerate(row):
            cell = _in_a_workbook(given)
            if isinstance(cell, str):
                sheet.write_string(number, place, cell)
            elif isinstance(cell, bool):
                sheet.write_boolean(number, place, cell)
            elif isinstance(cell, dt.date):
                sheet.write_datetime(number, place, cell, day)
            elif cell is not None:
                sheet.write_number(number, place, cell)
    workbook.close()
    return file.getvalue()


CP1252 = ReadOptions(encoding="cp1252")  # some of its texts are UTF-8 by chance

INPUTS = {
    "csv": InputForm(_file("in.csv", lambda table: delimited(table).encode()), as_text, True),
    "csv.gz": InputForm(
        _file("in.csv.gz", lambda table: gzip.compress(delimited(table).encode())), as_text, True
    ),
    "semicolons in cp1252": InputForm(
        _file("in.csv", lambda table: delimited(table, ";", "\n").encode("cp1252", "replace")),
        _in_cp1252,
        True,
        reading=CP1252,
    ),
    "tabs in utf-16": InputForm(
        _file("in.tsv", lambda table: delimited(table, "\t").encode("utf-16")), as_text, True
    ),
    "jsonl": InputForm(_file("in.jsonl", _jsonl), _as_json, False, False),
    "jsonl.zst": InputForm(
        _file("in.jsonl.zst", lambda table: zstandard.compress(_jsonl(table))),
        _as_json,
        False,
        False,
    ),
    "parquet": InputForm(_file("in.parquet", _parquet), _as_it_is, True),
    "xlsx": InputForm(_file("in.xlsx", _workbook), _in_a_given_workbook, True),
    "iterable": InputForm(lambda _, table: iter(_objects(table)), _as_json, False, False),
    "pandas": InputForm(
        lambda _, table: _arrow(table).to_pandas(types_mapper=pd.ArrowDtype), _as_it_is, False
    ),
    "polars": InputForm(lambda _, table: pl.from_arrow(_arrow(table)), _as_it_is, False),
    "pyarrow": InputForm(lambda _, table: _arrow(table), _as_it_is, True),
}


# -- Outputs ---------------------------------------------------------------------------------


class Written(NamedTuple):
    """An output, read by somebody else's reader."""

    headers: list[str]
    rows: list[list[Any]]


class OutputSpec(NamedTuple):
    """A form of output.

    Attributes:
        read: Reads it.
        shows: What it holds of a cell.
        duplicate_index: Whether headers may repeat in it.
    """

    read: Callable[[bytes], Written]
    shows: Callable[[Any], Any]
    duplicate_index: bool


def _read_delimited(delimiter: str) -> Callable[[bytes], Written]:
    def read(content: bytes) -> Written:
        text = io.StringIO(content.decode(), newline="")
        headers, *rows = csv.reader(text, delimiter=delimiter, strict=True)
        return Written(headers, rows)

    return read


def _read_gzipped(content: bytes) -> Written:
    return _read_delimited(",")(gzip.decompress(content))


def _read_parquet(content: bytes) -> Written:
    table = pq.read_table(io.BytesIO(content))
    columns = [column.to_pylist() for column in table.columns]
    return Written(table.column_names, list(map(list, zip(*columns, strict=True))))


def _read_workbook(content: bytes) -> Written:
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0)
    headers, *rows = sheet.to_python(skip_empty_area=False)
    return Written(list(map(str, headers)), [[None if c == "" else c for c in row] for row in rows])


def _read_features(content: bytes) -> Written:
    return _properties([json.loads(line) for line in content.splitlines()])


def _read_collection(content: bytes) -> Written:
    return _properties(json.loads(content)["features"])


def _properties(features: Sequence[Any]) -> Written:
    properties = [feature["properties"] for feature in features]
    return Written(
        list(properties[0]) if properties else [], [list(p.values()) for p in properties]
    )


OUTPUTS = {
    "csv": OutputSpec(_read_delimited(","), as_text, True),
    "tsv": OutputSpec(_read_delimited("\t"), as_text, True),
    "csv.gz": OutputSpec(_read_gzipped, as_text, True),
    "parquet": OutputSpec(_read_parquet, _as_it_is, False),
    "geoparquet": OutputSpec(_read_parquet, _as_it_is, False),
    "xlsx": OutputSpec(_read_workbook, _in_a_workbook, True),
    "geojson": OutputSpec(_read_collection, _as_json, False),
    "geojsonl": OutputSpec(_read_features, _as_json, False),
}
"""By the ending of their names; but for JSONL, which holds no cells."""


def is_same(read: Any, cell: Any) -> bool:
    """Whether a cell is the one that was there: true is not 1."""
    return bool(read == cell) and isinstance(read, bool) == isinstance(cell, bool)


def assert_same_cells(written: Written, table: Table, given: InputForm, wanted: OutputSpec) -> None:
    """Every cell of the table is there, in its place, as far as both forms can hold it."""
    width = len(table.headers)
    assert len(written.rows) == len(table.rows)
    for row, original in zip(written.rows, table.rows, strict=True):
        expected = [wanted.shows(given.holds(cell)) for cell in original]
        differing: Sequence[Any] = [
            (header, read, cell)
            for header, read, cell in zip(table.headers, row[:width], expected, strict=True)
            if not is_same(read, cell)
        ]
        assert not differing, differing
