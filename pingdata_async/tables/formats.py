"""The formats of outputs: their names, endings, limits and packages.

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
"""The members of a line of failures besides the input row; none is a field of a location."""

XLSX_MAX_ROWS: Final = 1_048_576  # including the header
XLSX_MAX_COLUMNS: Final = 16_384


class OutputFormat(enum.StrEnum):
    """An output format, by the name that `--output-format` takes."""

    JSONL = "jsonl"  # a line for each row, with the answers as sent; not a flat table
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"
    XLSX = "xlsx"
    GEOJSON = "geojson"  # one FeatureCollection
    GEOJSONL = "geojsonl"  # a feature for each line
    GEOPARQUET = "geoparquet"

    @property
    def has_geometry(self) -> bool:
        """Whether rows have a point."""
        return self in {OutputFormat.GEOJSON, OutputFormat.GEOJSONL, OutputFormat.GEOPARQUET}


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to write an output.

    Attributes:
        format: The name of an `OutputFormat`; None to go by the name of the output.
        columns: The columns to write, in this order, as names or patterns; () for all but those
            of use to machines only (such as `worker_name`), ("*",) for all. For JSONL, the
            columns of the input to write under "input"; () for none.
        safe_csv: Whether to put "'" before cells that a spreadsheet would run as formulas.
        geocode_sources: The sources to take coordinates from, best first; () for any.
    """

    format: str | None = None
    columns: tuple[str, ...] = ()
    safe_csv: bool = False
    geocode_sources: tuple[str, ...] = ()


class _Form(NamedTuple):
    """What a format needs."""

    endings: tuple[str, ...]  # the endings of its files
    is_text: bool = False  # whether it can be compressed with gzip and zstd
    package: str = ""  # the package that it needs, by its import name; "" for none
    extra: str = ""  # the extra of this package that installs it


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
    """The format of an output, and its compression ("", "gz" or "zst").

    Args:
        path: The name of the output; "-" for standard output, by default in JSONL.
        given: The name of a format, perhaps with a compression (csv.gz), which takes precedence.

    Raises:
        ConfigurationError: There is no such format.
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
                f"{path}: its name does not tell the format; use one of the endings "
                f"{', '.join(_BY_ENDING)}, or --output-format"
            )
        found = _BY_ENDING[ending]
    if compression and not _FORMS[found].is_text:
        raise ConfigurationError(
            f"{path}: {found} is already compressed; leave out the .{compression}"
        )
    return found, compression


def check_format(kind: OutputFormat, rows: int | None = None, columns: int | None = None) -> None:
    """Check that a table can be written in a format, before anything is sent.

    A ConfigurationError if a package is missing, or the table has too many rows or columns, if
    known.
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
    """Load the package for a format, so that a broken installation shows before anything is sent.

    A ConfigurationError if it cannot be loaded.
    """
    form = _FORMS[kind]
    try:
        if form.package:
            importlib.import_module(form.package)
    except ImportError as error:
        raise ConfigurationError(
            f"writing {kind} needs {form.package}, which cannot be loaded ({error}); reinstall it "
            f'with: pip install --force-reinstall "pingdata-async[{form.extra}]"'
        ) from error


def _without_compression(name: str) -> tuple[str, str]:
    for ending, compression in _COMPRESSIONS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), compression
    return name, ""
