"""What all writers of flat tables share, and what opens one."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from pingdata_async.tables.formats import OutputFormat, WriteOptions, check_format
from pingdata_async.tables.schema.types import Column, Values

Point = tuple[float, float]
"""Longitude and latitude in degrees (WGS 84), in the order of GeoJSON."""


class TableRows(msgspec.Struct, frozen=True):
    """Some rows of a flat table."""

    values: Sequence[Values]  # the values of each column
    count: int  # the number of rows
    # The point of each row, for formats with a geometry.
    points: Sequence[Point | None] | None = None
    # The user's id of each row, for GeoJSON; None to number the rows.
    ids: Sequence[str | None] | None = None
    # The number of each row in the input, from 0, for a workbook that is given back.
    numbers: Sequence[int] | None = None


class TableWriter(ABC):
    """Writes the rows of a flat table, block by block."""

    @property
    def notes(self) -> list[str]:
        """What could not be written as it was, a sentence each."""
        return []

    @abstractmethod
    def write(self, rows: TableRows) -> None:
        """Add some rows."""

    def close(self) -> None:  # noqa: B027 - some writers keep nothing back
        """Write what is pending. The file stays open."""

    def abandon(self) -> None:  # noqa: B027 - some writers hold nothing
        """Release everything after an error; the output is no whole table."""


@contextlib.contextmanager
def finishing(writer: TableWriter) -> Iterator[TableWriter]:
    """Close a writer at the end, or abandon it after an error."""
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abandon()
        raise


@contextlib.contextmanager
def open_table_writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[Column], options: WriteOptions
) -> Iterator[TableWriter]:
    """Open the writer of a flat table, which is whole once the context is left without an error.

    Args:
        file: The output; the caller closes it.
        kind: The format, other than JSONL, which is no flat table.
        columns: The columns to write, in order.
        options: How to write them.

    Raises:
        ConfigurationError: The format cannot hold the table.
    """
    check_format(kind, columns=len(columns))
    with finishing(_writer(file, kind, columns, options)) as writer:
        yield writer


def _writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[Column], options: WriteOptions
) -> TableWriter:
    # Imported here, so that no command pays for writers that it does not use.
    match kind:
        case OutputFormat.CSV | OutputFormat.TSV:
            from pingdata_async.tables.writers.csv import CSVWriter  # noqa: PLC0415

            delimiter = "," if kind is OutputFormat.CSV else "\t"
            return CSVWriter(file, columns, delimiter, is_safe=options.safe_csv)
        case OutputFormat.XLSX:
            from pingdata_async.tables.writers.excel import XLSXWriter  # noqa: PLC0415

            return XLSXWriter(file, columns)
        case OutputFormat.GEOJSON | OutputFormat.GEOJSONL:
            from pingdata_async.tables.writers.json import GeoJSONWriter  # noqa: PLC0415

            return GeoJSONWriter(file, columns, is_collection=kind is OutputFormat.GEOJSON)
        case OutputFormat.PARQUET | OutputFormat.GEOPARQUET:
            from pingdata_async.tables.writers.parquet import ParquetWriter  # noqa: PLC0415

            return ParquetWriter(file, columns, has_geometry=kind.has_geometry)
        case OutputFormat.JSONL:
            raise ValueError("JSONL is no flat table")
