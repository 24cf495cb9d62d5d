"""Opens the writer of a form of tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from pingdata_async.tables.formats import OutputFormat, WriteOptions, check_format
from pingdata_async.tables.schema.types import Column, Values
from pingdata_async.tables.writers.geojson import Point


class TableWriter(Protocol):
    """Writes the rows of a flat table, a part after the other."""

    @property
    def notes(self) -> list[str]:
        """What could not be written as it was, a sentence each."""

    def write(
        self,
        values: Sequence[Values],
        rows: int,
        points: Sequence[Point | None] | None = None,
        ids: Sequence[str | None] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Add some rows.

        Args:
            values: Those of each column.
            rows: How many rows there are.
            points: Where each of them is, for the forms that have a geometry.
            ids: The users' ids of the rows, for GeoJSON; None to number them.
            numbers: Those of the rows in the input, from 0, for a workbook that is given back.
        """

    def close(self) -> None:
        """Write what is still to be written. The file is left open."""

    def abandon(self) -> None:
        """Let go of everything; what has been written is no whole table."""


@contextlib.contextmanager
def open_table_writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[Column], options: WriteOptions
) -> Iterator[TableWriter]:
    """Write a flat table; it is whole once the context was left without an error.

    Args:
        file: Where to; still the caller's to close.
        kind: In which format; not JSONL, which is no flat table.
        columns: The columns that are written, chosen and in order.
        options: What else is asked for.

    Raises:
        ConfigurationError: When the format cannot hold it.
    """
    check_format(kind, columns=len(columns))
    with finishing(_writer(file, kind, columns, options)) as writer:
        yield writer


@contextlib.contextmanager
def finishing(writer: TableWriter) -> Iterator[TableWriter]:
    """Have a table made whole at the end, or given up after an error."""
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def _writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[Column], options: WriteOptions
) -> TableWriter:
    # Each is imported where it is used: no command pays for what it does not write.
    match kind:
        case OutputFormat.CSV | OutputFormat.TSV:
            from pingdata_async.tables.writers.csv import CSVWriter  # noqa: PLC0415

            delimiter = "," if kind is OutputFormat.CSV else "\t"
            return CSVWriter(file, columns, delimiter, is_safe=options.safe_csv)
        case OutputFormat.XLSX:
            from pingdata_async.tables.writers.excel import XLSXWriter  # noqa: PLC0415

            return XLSXWriter(file, columns)
        case OutputFormat.GEOJSON | OutputFormat.GEOJSONL:
            from pingdata_async.tables.writers.geojson import GeoJSONWriter  # noqa: PLC0415

            return GeoJSONWriter(file, columns, is_collection=kind is OutputFormat.GEOJSON)
        case OutputFormat.PARQUET | OutputFormat.GEOPARQUET:
            from pingdata_async.tables.writers.parquet import ParquetWriter  # noqa: PLC0415

            return ParquetWriter(file, columns, has_geometry=kind.has_geometry)
        case OutputFormat.JSONL:
            raise ValueError("JSONL is no flat table")
