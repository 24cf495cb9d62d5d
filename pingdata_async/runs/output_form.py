"""In which form a run's output is written (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pingdata_async.tables.outputs import OutputFormat, WriteOptions, output_format

DeclaredTypes = Mapping[str, Mapping[str, str]]
"""By source and field, the type that the API says it has."""


class OutputForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a run's output is to be written.

    Attributes:
        kind: Its format.
        compression: "gz", "zst" or "".
        options: What else the user asks for.
        sources: The run's sources.
        declared: What the API says of its fields; used by flat tables.
    """

    kind: OutputFormat = OutputFormat.JSONL
    compression: str = ""
    options: WriteOptions = WriteOptions()
    sources: tuple[str, ...] = ()
    declared: DeclaredTypes = {}


def output_form(
    output: str | Path, options: WriteOptions, sources: tuple[str, ...], declared: DeclaredTypes
) -> OutputForm:
    """The form of an output, by its name and the options.

    Raises:
        ConfigurationError: When it is none that there is.
    """
    kind, compression = output_format(str(output), options.format)
    return OutputForm(
        kind=kind, compression=compression, options=options, sources=sources, declared=declared
    )
