"""In which form a run's output is written (pure)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.output_files import STDOUT
from pingdata_async.shell_words import quoted_path
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


class UnwritableError(ConfigurationError):
    """Raised when the answers turn out not to fit into the form that was asked for.

    Attributes:
        is_for_columns: Whether other columns would do; if not, another format would.
    """

    def __init__(self, message: str, *, is_for_columns: bool) -> None:
        super().__init__(message)
        self.is_for_columns = is_for_columns


def needed_for(error: Exception, output: str | Path) -> str:
    """The options with which an output can be written that cannot be as it was asked for.

    Args:
        error: Why it cannot be.
        output: The output.
    """
    if not isinstance(error, UnwritableError):
        return ""
    if error.is_for_columns:
        return "--columns '*'"
    if str(output) == STDOUT:
        return f"--output-format {OutputFormat.PARQUET}"
    return output_option(Path(output).with_suffix(".parquet"))


def output_option(output: str | Path) -> str:
    """An output as the option that names it, ready to be pasted."""
    return f"--output={STDOUT if str(output) == STDOUT else quoted_path(output)}"


def writing_elsewhere(
    output: str | Path, given_format: str | None, settings: RunSettings
) -> WriteOptions:
    """How a run's rows are written to another output, where nothing else is asked for.

    As to its own, but for what is only of that: the format, and columns that were chosen for
    another form. The run's own output, named again, is no other.

    Args:
        output: The other output.
        given_format: The format it is to have; None to go by its name.
        settings: The run's.

    Raises:
        ConfigurationError: When there is no such format.
    """
    kept = settings.writing
    named = str(output) if str(output) == STDOUT else str(Path(output).absolute())
    if named == settings.output:
        return kept
    own = OutputFormat.JSONL  # what earlier versions wrote under any name
    with contextlib.suppress(ConfigurationError):
        own, _ = output_format(settings.output, kept.format)
    other, _ = output_format(str(output), given_format)
    columns = kept.columns if own is other else ()
    return msgspec.structs.replace(kept, format=None, columns=columns)


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
