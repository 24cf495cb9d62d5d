"""Opens the writer of a form of tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pingdata_async.tables.formats import OutputFormat, WriteOptions, check_format
from pingdata_async.tables.schema.types import Column
from pingdata_async.tables.writers.base import TableWriter, finishing


@contextlib.contextmanager
def open_table_writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[Column], options: WriteOptions
) -> Iterator[TableWriter]:
    """Write a flat table; it is whole once the context is left without an error.

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
