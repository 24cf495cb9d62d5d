"""Files that a command writes beside its output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pingdata_async.exceptions import ConfigurationError


def check_side_files(files: Mapping[str, Path | None], source: str, output: str) -> None:
    """Refuse a file that could not be written, or is another one, before anything is paid for.

    Args:
        files: By the option that names it, each file; None where the option is not given.
        source: The input, which none of them may be.
        output: The output, which none of them may be.

    Raises:
        ConfigurationError: With the option and what is wrong.
    """
    taken = {Path(output).resolve(): "output", Path(source).resolve(): "input"}
    for option, path in files.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option or _is_same(path, Path(source)):
            raise ConfigurationError(f"{option} {path} has another use too; name a file of its own")
        folder = path.parent
        can_write = os.access(path if path.exists() else folder, os.W_OK)
        if path.is_dir() or not folder.is_dir() or not can_write:
            raise ConfigurationError(f"{option} {path} cannot be written")


def _is_same(path: Path, source: Path) -> bool:
    return path.exists() and source.exists() and path.samefile(source)
