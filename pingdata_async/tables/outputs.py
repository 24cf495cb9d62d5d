"""Which forms a table can be written in, and who writes them.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import BinaryIO, Final, NamedTuple, Protocol

import msgspec

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.tables.geometry import Point
from pingdata_async.tables.schema import FlatColumn, Values

XLSX_MAX_ROWS: Final = 1_048_576  # the header among them
XLSX_MAX_COLUMNS: Final = 16_384


class OutputFormat(enum.StrEnum):
    """A form of output, under the name that `--output-format` knows it by."""

    JSONL = "jsonl"  # a line a row, with the answers as the API sent them; no flat table
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    XLSX = "xlsx"
    GEOJSON = "geojson"  # one collection of features
    GEOJSONL = "geojsonl"  # a feature a line
    GEOPARQUET = "geoparquet"

    @property
    def has_geometry(self) -> bool:
        """Whether a row has a point in it."""
        return self in {OutputFormat.GEOJSON, OutputFormat.GEOJSONL, OutputFormat.GEOPARQUET}


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an output is to be written.

    Attributes:
        format: The name of an `OutputFormat`; None to go by the output's name.
        columns: Names or patterns of the columns to write, in this order; () for all of them but
            what only machines want of an answer (`worker_name` and the like), ("*",) for all.
            In JSONL, those of the input's columns that each line has under "input"; () for none.
        safe_csv: Whether cells that a spreadsheet would run as a formula get a "'" before them.
        geocode_sources: The sources to take coordinates from, the best first; () for any.
    """

    format: str | None = None
    columns: tuple[str, ...] = ()
    safe_csv: bool = False
    geocode_sources: tuple[str, ...] = ()


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


class _Form(NamedTuple):
    """What is to be known of a format beforehand.

    Attributes:
        endings: Of the names of its files.
        is_text: Whether it can be compressed by gzip and zstd.
        package: What it needs, as it is imported; "" for nothing.
        extra: The extra of this package that brings that.
    """

    endings: tuple[str, ...]
    is_text: bool = False
    package: str = ""
    extra: str = ""


_FORMS: Final = {
    OutputFormat.JSONL: _Form((".jsonl", ".ndjson"), is_text=True),
    OutputFormat.CSV: _Form((".csv",), is_text=True),
    OutputFormat.TSV: _Form((".tsv", ".tab"), is_text=True),
    OutputFormat.PARQUET: _Form((".parquet",), package="pyarrow", extra="parquet"),
    OutputFormat.XLSX: _Form((".xlsx",)),
    OutputFormat.GEOJSON: _Form((".geojson",), is_text=True),
    OutputFormat.GEOJSONL: _Form((".geojsonl", ".geojsons", ".ndgeojson"), is_text=True),
    OutputFormat.GEOPARQUET: _Form((".geoparquet",), package="pyarrow", extra="parquet"),
}
_BY_ENDING: Final = {ending: kind for kind, form in _FORMS.items() for ending in form.endings}
_COMPRESSIONS: Final = {".gz": "gz", ".zst": "zst"}


def output_format(path: str, given: str | None = None) -> tuple[OutputFormat, str]:
    """The form of an output, and its compression ("", "gz" or "zst").

    Args:
        path: The output's name; "-" for standard output, which is JSONL unless it is said.
        given: The name of a format, which overrules that of the file; compressed with an ending
            such as csv.gz.

    Raises:
        ConfigurationError: When it is none that there is.
    """
    name = PurePath(path).name.lower()
    stem, compression = _without_compression(name)
    if given is not None:
        word, said = _without_compression(given.lower())
        compression = said or compression
        if word not in list(OutputFormat):
            raise ConfigurationError(
                f'there is no output format "{given}"; there are {", ".join(OutputFormat)}'
            )
        found = OutputFormat(word)
    elif path == "-":
        found = OutputFormat.JSONL
    else:
        ending = PurePath(stem).suffix
        if ending not in _BY_ENDING:
            raise ConfigurationError(
                f"{path}: its name does not say in which format to write; let it end in one of "
                f"{', '.join(_BY_ENDING)}, or say --output-format"
            )
        found = _BY_ENDING[ending]
    if compression and not _FORMS[found].is_text:
        raise ConfigurationError(
            f"{path}: {found} is compressed in itself; leave out the .{compression}"
        )
    return found, compression


def check_format(kind: OutputFormat, rows: int | None = None, columns: int | None = None) -> None:
    """Make sure that a table can be written in a format, before anything is sent.

    Args:
        kind: The format.
        rows: How many rows there will be; None where that is not known.
        columns: How many columns; likewise.

    Raises:
        ConfigurationError: When a package is missing, or the table is too large.
    """
    form = _FORMS[kind]
    if form.package and importlib.util.find_spec(form.package) is None:
        raise ConfigurationError(
            f"writing {kind} needs a package that is not installed; install it with: "
            f'pip install "pingdata-async[{form.extra}]"'
        )
    if kind is not OutputFormat.XLSX:
        return
    if rows is not None and rows + 1 > XLSX_MAX_ROWS:
        raise ConfigurationError(
            f"{rows:,} rows are more than an XLSX sheet holds ({XLSX_MAX_ROWS - 1:,} below the "
            "header); write .parquet or .csv"
        )
    if columns is not None and columns > XLSX_MAX_COLUMNS:
        raise ConfigurationError(
            f"{columns:,} columns are more than an XLSX sheet holds ({XLSX_MAX_COLUMNS:,}); "
            "choose some with --columns, or write .parquet or .csv"
        )


def load_package_for(kind: OutputFormat) -> None:
    """Load what writes a format, so that a broken installation shows before anything is sent.

    Raises:
        ConfigurationError: When it cannot be loaded.
    """
    form = _FORMS[kind]
    try:
        if form.package:
            importlib.import_module(form.package)
    except ImportError as error:
        raise ConfigurationError(
            f"writing {kind} needs {form.package}, which cannot be loaded ({error}); install it "
            f'anew with: pip install --force-reinstall "pingdata-async[{form.extra}]"'
        ) from error


@contextlib.contextmanager
def open_table_writer(
    file: BinaryIO, kind: OutputFormat, columns: Sequence[FlatColumn], options: WriteOptions
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
    file: BinaryIO, kind: OutputFormat, columns: Sequence[FlatColumn], options: WriteOptions
) -> TableWriter:
    # Each is imported where it is used: no command pays for what it does not write.
    match kind:
        case OutputFormat.CSV | OutputFormat.TSV:
            from pingdata_async.tables.csv_output import CSVWriter  # noqa: PLC0415

            delimiter = "," if kind is OutputFormat.CSV else "\t"
            return CSVWriter(file, columns, delimiter, is_safe=options.safe_csv)
        case OutputFormat.XLSX:
            from pingdata_async.tables.xlsx_output import XLSXWriter  # noqa: PLC0415

            return XLSXWriter(file, columns)
        case OutputFormat.GEOJSON | OutputFormat.GEOJSONL:
            from pingdata_async.tables.geojson_output import GeoJSONWriter  # noqa: PLC0415

            return GeoJSONWriter(file, columns, is_collection=kind is OutputFormat.GEOJSON)
        case OutputFormat.PARQUET | OutputFormat.GEOPARQUET:
            from pingdata_async.tables.parquet_output import ParquetWriter  # noqa: PLC0415

            return ParquetWriter(file, columns, has_geometry=kind.has_geometry)
        case OutputFormat.JSONL:
            raise ValueError("JSONL is no flat table")


def _without_compression(name: str) -> tuple[str, str]:
    for ending, compression in _COMPRESSIONS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), compression
    return name, ""
