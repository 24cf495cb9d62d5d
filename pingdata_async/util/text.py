"""How numbers, paths, urls and bytes are shown in messages, and quoted for a shell (pure)."""

from __future__ import annotations

import codecs
import os
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from pingdata_async.util.redaction import masked

STDOUT = "-"
"""The name that means standard output."""

_EXCERPT_BYTES = 64 * 1024
_EXCERPT_CHARS = 100
_URL_CHARS = 200  # fits a log line
_PRINTABLE = range(0x20, 0x7F)


def counted(number: int, what: str, several: str | None = None) -> str:
    """A number with its noun, such as "1 row" and "2,000 rows".

    Args:
        number: How many.
        what: The noun.
        several: Its plural; None where an s makes it.
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def shown_bytes(size_bytes: float) -> str:
    """A size for people, such as 3.7 GB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size_bytes < 1000:  # noqa: PLR2004 - what the units mean
            return f"{size_bytes:.1f} {unit}" if unit != "bytes" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def one_line(text: str) -> str:
    """A text on one line, without secrets or anything that would steer the reader's terminal."""
    text = " ".join(text.split())
    if not text.isprintable():  # one look, as most are
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return masked(text)


def shown_path(path: str | Path) -> str:
    """A path as text that can be encoded, even where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def shown_url(url: str) -> str:
    """A url for people: without its user and query, which may hold a key, and not endless."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a url that cannot be read)"
    text = masked(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _URL_CHARS else f"{text[: _URL_CHARS - 3]}..."


# -- Words of commands -----------------------------------------------------------------------


def quoted(word: str | os.PathLike[str]) -> str:
    r"""A word as a shell takes it, whatever is in it.

    Line breaks, and bytes that are not UTF-8, become what bash, zsh and ksh know: `$'\xff'`.
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
    except OSError:  # the current folder is gone
        return quoted(f"./{os.fspath(path)}")


def quoted_option(name: str, value: str) -> str:
    """An option with its value, which may look like another option."""
    return quoted(f"{name}={value}") if value.startswith("-") else f"{name} {quoted(value)}"


def _escaped(byte: int) -> str:
    character = chr(byte)
    if byte in _PRINTABLE and character not in "'\\":
        return character
    return f"\\x{byte:02x}"


# -- Bodies of answers -----------------------------------------------------------------------


def without_bom(body: bytes) -> bytes:
    """A body without the byte order mark that some servers write, and no JSON reader takes."""
    return body.removeprefix(codecs.BOM_UTF8)


def is_page(body: bytes) -> bool:
    """Whether it looks like HTML or XML."""
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<", body))


def excerpt(body: bytes) -> str:
    """The beginning of a body, fit to be shown on one line."""
    if not body:
        return "nothing at all"
    # Secrets are taken out before it is cut: half of one is too much.
    text = masked(" ".join(body[:_EXCERPT_BYTES].decode("utf-8", "replace").split()))
    shown = "".join(c if c.isprintable() else "?" for c in text[:_EXCERPT_CHARS])
    is_cut = len(text) > _EXCERPT_CHARS or len(body) > _EXCERPT_BYTES
    return repr(shown + ("..." if is_cut else ""))
