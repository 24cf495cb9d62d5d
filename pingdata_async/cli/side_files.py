"""Files that a command writes beside its output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.output_files import STDOUT, failures_path
from pingdata_async.runs.run_directory import is_within


def check_side_files(
    files: Mapping[str, Path | None],
    *,
    source: str | Path | None,
    output: str | Path | None,
    run_dir: str | Path | None,
) -> None:
    """Refuse a file that could not be written, or is another one, before anything is paid for.

    Args:
        files: By the option that names it, each file; None where the option is not given.
        source: The input, which none of them may be; None where there is none.
        output: The output, which none of them may be, nor the failures file beside it.
        run_dir: The run directory, in which none of them may be; None for `OUTPUT.run`.

    Raises:
        ConfigurationError: With the option and what is wrong.
    """
    taken = {_real(path): use for path, use in _uses(source, output)}
    if run_dir is None and output is not None and str(output) != STDOUT:
        run_dir = f"{output}.run"
    for option, path in files.items():
        if path is None:
            continue
        other = taken.setdefault(_real(path), option)
        if other != option or (source is not None and _is_same(path, Path(source))):
            raise ConfigurationError(f"{option} {path} has another use too; name a file of its own")
        if run_dir is not None and is_within(path, run_dir):
            raise ConfigurationError(f"{option} {path} is in the run directory; name another file")
        folder = path.parent
        can_write = os.access(path if path.exists() else folder, os.W_OK)
        if path.is_dir() or not folder.is_dir() or not can_write:
            raise ConfigurationError(f"{option} {path} cannot be written")


def _uses(source: str | Path | None, output: str | Path | None) -> list[tuple[str | Path, str]]:
    uses: list[tuple[str | Path, str]] = []
    if source is not None:
        uses.append((source, "input"))
    if output is not None and str(output) != STDOUT:
        uses.append((output, "output"))
        failures = failures_path(output)
        if failures is not None:
            uses.append((failures, "failures"))
    return uses


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve(), at ease with a link to itself


def _is_same(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # one of them is not there
        return False
