"""What a command has found out, on standard output: tables on a terminal, plain text elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click
import msgspec

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.refusals import one_line
from pingdata_async.secrecy import masked

Cell = str | int | None


class Table(NamedTuple):
    """Rows of cells under headings; None is an empty cell."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def check_standard_output() -> None:
    """Refuse to begin what nobody could see.

    Raises:
        ConfigurationError: When there is no standard output.
    """
    if sys.stdout is None:
        raise ConfigurationError("standard output is closed")


def show(*parts: str | Table) -> None:
    """Print sentences and tables, one below the other.

    Raises:
        ConfigurationError: When there is no standard output.
        RunError: When it cannot be written.
    """
    check_standard_output()
    if sys.stdout.isatty():
        # Only now: text in a pipe is not drawn, and rich takes a while to load.
        from pingdata_async.cli.drawing import drawn  # noqa: PLC0415

        _print(drawn(parts))
        return
    _print("\n".join(line for part in parts for line in _plain(part)))


def show_json(value: Any) -> None:
    """Print it as JSON; raises as `show()`."""
    check_standard_output()
    shown = masked(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    _print(shown.encode())  # as bytes: JSON is UTF-8, whatever the terminal speaks


def show_lines(lines: Iterable[str]) -> None:
    """Print them as they are; raises as `show()`."""
    check_standard_output()
    _print("\n".join(lines))


def _plain(part: str | Table) -> list[str]:
    """Lines; the cells of a table with tabs between them, so that any tool takes them apart."""
    if isinstance(part, str):
        return [one_line(part)]
    return ["\t".join(map(_text, row)) for row in (part.headings, *part.rows)]


def _text(cell: Cell) -> str:
    return "" if cell is None else one_line(str(cell))


def _print(text: str | bytes) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    if isinstance(text, str):  # an answer that was paid for is shown as well as it can be
        text = text.encode(encoding, "backslashreplace")
    try:
        with contextlib.suppress(BrokenPipeError):  # whoever read it wants no more of it
            click.echo(text)
    except OSError as error:
        raise RunError(f"standard output cannot be written: {error.strerror or error}") from error
