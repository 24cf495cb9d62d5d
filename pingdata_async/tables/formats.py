"""The forms of tables that can be written, by name and by package.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
from pathlib import PurePath
from typing import Final, NamedTuple

import msgspec

from pingdata_async.exceptions import ConfigurationError

FAILURE_NOTES = frozenset({"row", "reason", "error"})
"""What a line of failures has beside the row as it was given; none is a location's field."""

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


def _without_compression(name: str) -> tuple[str, str]:
    for ending, compression in _COMPRESSIONS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), compression
    return name, ""
