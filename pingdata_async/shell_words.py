"""Words of commands that are shown to be pasted into a shell (pure)."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

_PRINTABLE = range(0x20, 0x7F)


def quoted(word: str | os.PathLike[str]) -> str:
    r"""A word as a shell takes it, whatever is in it.

    Line breaks, and bytes that are no UTF-8, are written as bash, zsh and ksh know them: `$'\xff'`.
    """
    content = os.fsencode(word)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and (text or not content):
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, content)) + "'"


def quoted_path(path: str | os.PathLike[str]) -> str:
    """A path as a word that is not taken for an option, and means the same in any folder."""
    try:
        return quoted(Path(path).absolute())
    except OSError:  # the present folder is gone
        return quoted(f"./{os.fspath(path)}")


def quoted_option(name: str, value: str) -> str:
    """An option with its value, which may look like another option."""
    return quoted(f"{name}={value}") if value.startswith("-") else f"{name} {quoted(value)}"


def _escaped(byte: int) -> str:
    character = chr(byte)
    if byte in _PRINTABLE and character not in "'\\":
        return character
    return f"\\x{byte:02x}"
