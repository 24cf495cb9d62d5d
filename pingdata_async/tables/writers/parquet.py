"""Flat tables to Parquet and GeoParquet; needs pyarrow.

Columns that came from Arrow keep their types, with nullability and metadata. The few types that
Parquet lacks (unions, run-end encoded) are written as text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pingdata_async.exceptions import RunError
from pingdata_async.tables.schema.arrow import field_of, python_values
from pingdata_async.tables.schema.types import (
    Column,
    Values,
    free_name,
    text_of_cell,
    unique_names,
)
from pingdata_async.tables.writers.base import Point, TableRows, TableWriter

ROW_GROUP_ROWS: Final = 64 * 1024
# In memory, before it is encoded. What is known of each group's columns is kept until the end,
# some 2 KB a column, so that smaller groups would take more memory in large tables than they save.
ROW_GROUP_BYTES: Final = 32 * 1024 * 1024
JOINED_ROWS: Final = 1000
"""Rows whose blocks become one: to the encoder, each piece of a column costs extra."""

COMPRESSION: Final = "zstd"
GEOMETRY: Final = "geometry"

_UNFIT: Final = (pa.ArrowException, OverflowError, TypeError, UnicodeError)
_WKB_POINT: Final = struct.Struct("<BIdd")
_LITTLE_ENDIAN: Final = 1
_POINT: Final = 1


class ParquetWriter(TableWriter):
    """Writes a flat table with the types of its columns, a row group at a time.

    Args:
        file: The output.
        columns: The columns.
        has_geometry: Whether to add a column with the points of the rows, as in GeoParquet 1.1.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column], *, has_geometry: bool) -> None:
        self._columns = columns
        names = unique_names([column.name for column in columns])
        self._is_text = [not _can_be_written(column) for column in columns]
        fields = [
            pa.field(name, pa.string()) if is_text else field_of(column, name)
            for column, name, is_text in zip(columns, names, self._is_text, strict=True)
        ]
        self._alike: dict[Any, list[int]] = {}  # by type, the places of columns of Python objects
        for place, (column, field) in enumerate(zip(columns, fields, strict=True)):
            if column.arrow_field is None:
                self._alike.setdefault(field.type, []).append(place)
        self._geometry = free_name(GEOMETRY, names) if has_geometry else None
        if self._geometry:
            fields.append(pa.field(self._geometry, pa.binary()))
        self._box: tuple[float, float, float, float] | None = None
        # There twice: some look for it in Arrow's schema, which is written first.
        self._schema = pa.schema(fields)
        if self._geometry:
            self._schema = self._schema.with_metadata({"geo": self._metadata()})
        self._writer: Any = pq.ParquetWriter(file, self._schema, compression=COMPRESSION)
        self._blocks: list[pa.Table] = []  # as they came
        self._block_rows = 0
        self._pending: list[pa.Table] = []  # each of several blocks
        self._rows = 0
        self._bytes = 0

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`. A RunError if a value does not fit its column."""
        arrays = self._arrays(rows)
        if self._geometry:
            arrays.append(self._wkb(rows.points or [None] * rows.count))
        self._blocks.append(pa.Table.from_arrays(arrays, schema=self._schema))
        self._block_rows += rows.count
        if self._block_rows >= JOINED_ROWS:
            self._join_blocks()
            if self._rows >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
                self._write_group()

    def close(self) -> None:
        """Write the last row group, and the metadata."""
        self._join_blocks()
        if self._rows:
            self._write_group()
        if self._geometry:
            self._writer.add_key_value_metadata({"geo": self._metadata()})
        self._writer.close()

    def abandon(self) -> None:
        """Release the file."""
        self._blocks.clear()
        self._pending.clear()
        self._writer.close()

    def _arrays(self, rows: TableRows) -> list[Any]:
        arrays: list[Any] = list(rows.values)
        for place, (column, is_text) in enumerate(zip(self._columns, self._is_text, strict=True)):
            if is_text:
                arrays[place] = _texts(rows.values[place], column)
        # A call costs as much as hundreds of values, so columns of a type are converted together.
        for kind, places in self._alike.items():
            together = list(chain.from_iterable([rows.values[place] for place in places]))
            try:
                array = pa.array(together, kind)
            except _UNFIT as error:
                raise self._misfit(rows, places, kind) from error
            for number, place in enumerate(places):
                arrays[place] = array.slice(number * rows.count, rows.count)
        return arrays

    def _misfit(self, rows: TableRows, places: Sequence[int], kind: Any) -> RunError:
        """The error for a value that does not fit its column, with its name."""
        for place in places:
            try:
                pa.array(rows.values[place], kind)
            except _UNFIT as error:
                name = self._columns[place].name
                return RunError(f'a value of column "{name}" does not fit it: {error}')
        return RunError("the values of a kind of column are too many at once")

    def _join_blocks(self) -> None:
        if not self._block_rows:
            return
        table = pa.concat_tables(self._blocks).combine_chunks()
        self._blocks.clear()
        self._pending.append(table)
        self._rows += self._block_rows
        self._block_rows = 0
        self._bytes += table.nbytes

    def _write_group(self) -> None:
        table = pa.concat_tables(self._pending)
        self._pending.clear()
        self._rows = self._bytes = 0
        self._writer.write_table(table, row_group_size=table.num_rows)

    def _wkb(self, points: Sequence[Point | None]) -> Any:
        given = list(filter(None, points))
        if given:
            eastings, northings = zip(*given, strict=True)
            box = (min(eastings), min(northings), max(eastings), max(northings))
            self._box = _around(self._box, box) if self._box else box
        pack = _WKB_POINT.pack
        return pa.array(
            [point and pack(_LITTLE_ENDIAN, _POINT, *point) for point in points], pa.binary()
        )

    def _metadata(self) -> bytes:
        """The metadata of GeoParquet; without a system of its own, it is WGS 84."""
        geometry: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
        if self._box:
            geometry["bbox"] = self._box
        return msgspec.json.encode(
            {
                "version": "1.1.0",
                "primary_column": self._geometry,
                "columns": {self._geometry: geometry},
            }
        )


def _can_be_written(column: Column) -> bool:
    if column.arrow_field is None:
        return True
    nothing = pa.nulls(1, column.arrow_field.type)
    try:
        pq.write_table(pa.table({"nothing": nothing}), pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return False
    return True


def _texts(values: Values, column: Column) -> Any:
    cells = python_values(values, column.type)
    return pa.array([None if cell is None else text_of_cell(cell) for cell in cells], pa.string())


def _around(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )
