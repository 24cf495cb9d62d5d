"""Tables for the writers, and readers of what they wrote."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from python_calamine import CalamineWorkbook

from pingdata_async.tables.formats import OutputFormat, WriteOptions
from pingdata_async.tables.schema.types import Column, ColumnType
from pingdata_async.tables.writers.base import Point, TableRows, open_table_writer

MOMENT = dt.datetime.fromisoformat("2020-01-02T03:04:05")


class Table(NamedTuple):
    """Columns, and the values of each."""

    columns: list[Column]
    values: list[Any]

    @property
    def rows(self) -> int:
        return len(self.values[0]) if self.values else 0


AWKWARD = Table(
    [
        Column('Straße, "Nr."\nLine 2', ColumnType.TEXT),
        Column("Zip", ColumnType.TEXT),
        Column("Zip", ColumnType.TEXT),
        Column("", ColumnType.INTEGER),
        Column("TIV", ColumnType.NUMBER),
        Column("insured", ColumnType.BOOLEAN),
        Column("since", ColumnType.DATE),
        Column("seen", ColumnType.DATETIME),
        Column("at", ColumnType.TIME),
        Column("for", ColumnType.DURATION),
        Column("nothing", ColumnType.NOTHING),
    ],
    [
        ["ünï, \"x\"; '日本' 🏠", "a\nb\r\nc\rd\te", "  ", "<r>x</r>", None],
        ["00501", "", None, "=1+1", "-5"],
        ["1e5", "TRUE", "NaN", "2020-01-02", "0"],
        [2**63 - 1, -(2**63), 0, None, 10**15],
        [0.1 + 0.2, 5e-324, -0.0, None, 1.7976931348623157e308],
        [True, False, None, True, False],
        [dt.date(2020, 2, 29), dt.date(1900, 3, 1), None, dt.date(1776, 7, 4), dt.date.max],
        [MOMENT, MOMENT.replace(microsecond=250_000), None, MOMENT.replace(year=1), MOMENT],
        [dt.time(23, 59, 59), dt.time(), None, dt.time(12), dt.time(1, 2, 3)],
        [dt.timedelta(days=40), dt.timedelta(), None, -dt.timedelta(hours=1), dt.timedelta(0, 1)],
        [None] * 5,
    ],
)


def write(
    kind: OutputFormat,
    table: Table,
    *,
    part_rows: int = 2,
    points: Sequence[Point | None] | None = None,
    ids: Sequence[str] | None = None,
    safe_csv: bool = False,
) -> bytes:
    """What a writer makes of a table that it is given in parts."""
    file = io.BytesIO()
    options = WriteOptions(safe_csv=safe_csv)
    with open_table_writer(file, kind, table.columns, options) as writer:
        for begin in range(0, table.rows, part_rows):
            end = min(begin + part_rows, table.rows)
            writer.write(
                TableRows(
                    [values[begin:end] for values in table.values],
                    end - begin,
                    points and points[begin:end],
                    ids and ids[begin:end],
                )
            )
    return file.getvalue()


def read_csv(content: bytes, delimiter: str = ",") -> list[list[str]]:
    text = io.StringIO(content.decode("utf-8"), newline="")
    return list(csv.reader(text, delimiter=delimiter, strict=True))


def read_xlsx(content: bytes) -> list[list[Any]]:
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0)
    return sheet.to_python(skip_empty_area=False)


def read_lines(content: bytes) -> list[Any]:
    return list(map(json.loads, content.decode().split("\n")[:-1]))


def read_parquet(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))
