"""Files that a command writes beside its output."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.filesystem import check_links
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
        try:
            _check_place(path)
            folder = path.parent
            can_write = os.access(path if path.exists() else folder, os.W_OK)
            if path.is_dir() or not folder.is_dir() or not can_write:
                raise ConfigurationError(f"{option} {path} cannot be written")
        except OSError as error:
            raise ConfigurationError(
                f"{option} {path} cannot be written: {error.strerror or error}"
            ) from error


def open_side_file(path: Path, *, append: bool = False) -> BinaryIO:
    """Open one to write in it, at its end or in place of what was there. Blocks.

    Raises:
        ConfigurationError: When somebody else's link, or a second name, leads into another file.
        OSError: When it cannot be opened.
    """
    _check_place(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    if not path.is_symlink():  # nor may it become one now
        flags |= getattr(os, "O_NOFOLLOW", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "ab" if append else "wb")  # by the umask
    if not append and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.truncate(0)
    return file


def _check_place(path: Path) -> None:
    check_links(path)
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise ConfigurationError(
                f"{path} has another name too (a hard link), whose content would change with it; "
                "name another file"
            )


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
