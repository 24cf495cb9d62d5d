"""The encoding of a text, found out or as it was named."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

from pingdata_async.exceptions import ConfigurationError, InputError

UTF_8 = "utf-8-sig"  # a byte order mark is no part of the text
FALLBACK = "cp1252"  # what Windows writes in the Americas and Western Europe

# UTF-32's little-endian mark begins with that of UTF-16, so it comes first.
_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ADVICE = "utf-8, utf-16, cp1252, latin-1, cp437, cp850, mac-roman, shift-jis or gb18030"

_BLOCK_BYTES = 1024 * 1024
_PAIRS_TOLD_BY = 0.4  # of the characters of a text in UTF-16, at least as many have a zero byte
_MOST_OTHERS = 0.2  # of as many, zeros where they are not expected: U+3000 has one
_CONTROL_BYTES = bytes({*range(32)} - {*b"\t\n\v\f\r\x1a\x1b"})
_MOST_CONTROLS = 0.02


def checked_encoding(encoding: str, head: bytes) -> str:
    """The encoding that was named, in Python's words, for a text that begins like this.

    Raises:
        ConfigurationError: When there is none of that name.
    """
    try:
        found = codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
        b"x".decode(encoding, "ignore")  # not all codecs are for texts
    except (LookupError, UnicodeError, ValueError) as error:
        raise ConfigurationError(
            f"--encoding {encoding!r} is none that Python knows; give {_ADVICE}, for instance"
        ) from error
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if found.name == "utf-8" or (marked is not None and found.name.startswith(marked)):
        return marked or UTF_8  # "utf-16-le" would keep the mark as a character
    return found.name


def encoding_by_head(head: bytes) -> str | None:
    """The encoding that the first bytes of a text tell; None where they do not."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    pairs = len(head) // 2
    low_zeros, high_zeros = head[0::2].count(0), head[1::2].count(0)
    for zeros, others, encoding in (
        (high_zeros, low_zeros, "utf-16-le"),
        (low_zeros, high_zeros, "utf-16-be"),
    ):
        if zeros > pairs * _PAIRS_TOLD_BY and others < zeros * _MOST_OTHERS:
            return encoding
    return None


def is_binary(head: bytes) -> bool:
    """Whether what begins like this is no text of one byte a character, nor UTF-8."""
    if b"\0" in head:
        return True
    if is_utf_8_so_far(head):
        return False
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    return controls > len(head) * _MOST_CONTROLS


def is_utf_8_so_far(head: bytes) -> bool:
    """Whether these bytes are UTF-8; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def is_all_utf_8(raw: io.RawIOBase, keep_waiting: Callable[[], None]) -> bool:
    """Whether a stream is UTF-8 to its end. Blocks.

    Args:
        raw: The stream; used up by it, unless it is not.
        keep_waiting: Called for each block; may raise to end the reading.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block := raw.read(_BLOCK_BYTES):
            keep_waiting()
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def undecodable(where: str, encoding: str, error: UnicodeError) -> InputError:
    """The error for a text that is not in its encoding; `where` is its name and line."""
    shown = "UTF-8" if encoding == UTF_8 else encoding
    byte = ""
    if isinstance(error, UnicodeDecodeError):
        byte = f" (byte {error.object[error.start]:#04x})"
    other = FALLBACK if encoding == UTF_8 else "NAME"
    return InputError(f"{where}: not {shown}{byte}; --encoding {other} says what it is in")


class RecodedStream(io.RawIOBase):
    """A text as UTF-8, whatever it was in.

    Args:
        raw: The text's bytes; still the caller's to close.
        encoding: Its encoding.
        name: The input, for messages.

    Raises:
        InputError: While it is read, when it is not in this encoding.
    """

    def __init__(self, raw: io.RawIOBase, encoding: str, name: str) -> None:
        self._raw = raw
        self._encoding = encoding
        self._name = name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._block = memoryview(b"")
        self._is_at_end = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some of it."""
        while not self._block and not self._is_at_end:
            data = self._raw.read(_BLOCK_BYTES // 16) or b""
            self._is_at_end = not data
            try:
                text = self._decoder.decode(data, final=not data)
                self._block = memoryview(text.encode())
            except UnicodeError as error:
                raise undecodable(self._name, self._encoding, error) from error
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)
