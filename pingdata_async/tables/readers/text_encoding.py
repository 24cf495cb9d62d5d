"""The encoding of a text: given by name, or detected; and streams that recode it."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.util.compression import BlockStream, ReadableStream
from pingdata_async.util.text import counted

UTF_8 = "utf-8-sig"  # a byte order mark is not part of the text
UTF_8_REPLACE = "utf-8-replace"  # likewise, with U+FFFD for bytes that are not UTF-8
FALLBACK = "cp1252"  # Windows in the Americas and Western Europe

# UTF-32 before UTF-16, whose little-endian mark it begins with.
_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ADVICE = "utf-8, utf-16, cp1252, latin-1, cp437, cp850, mac-roman, shift-jis or gb18030"

_BLOCK_BYTES = 1024 * 1024
_SMALL_BLOCK_BYTES = 64 * 1024
_FEWEST_ZEROS = 0.4  # share of the characters of UTF-16 with a zero byte
_MOST_OTHERS = 0.2  # share of these, with the zero in the other byte, as U+3000 has it
_CONTROL_BYTES = bytes({*range(32)} - {*b"\t\n\v\f\r\x1a\x1b"})
_MOST_CONTROLS = 0.02
_CONTROLS_ALLOWED = 3  # even in a short text

_HIGH_BYTES = bytes(range(0x80, 0x100))
_LONGEST_SEQUENCE = 4
_MOST_MARKS = 4096  # at the end; more of them are part of the text
_FEW_BY_CHANCE = 10  # bad bytes to each valid sequence in another encoding, at least
_REPLACEMENT = "\ufffd"
_BLANKS_BEFORE_QUOTES = frozenset({b' "', b'\t"'})


def checked_encoding(encoding: str, head: bytes) -> str:
    """The Python name of an encoding, for a text with this beginning.

    Raises a ConfigurationError if Python knows no such encoding.
    """
    if encoding.strip().lower().replace("_", "-") in {UTF_8_REPLACE, "utf8-replace"}:
        return UTF_8_REPLACE
    try:
        found = codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
        b"x".decode(encoding, "ignore")  # not all codecs are for text
    except (LookupError, UnicodeError, ValueError) as error:
        raise ConfigurationError(
            f"--encoding {encoding!r} is not an encoding that Python knows; use {_ADVICE}, for "
            "instance"
        ) from error
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if found.name == "utf-8" or (marked is not None and found.name.startswith(marked)):
        return marked or UTF_8  # "utf-16-le" would keep the mark as a character
    return found.name


def encoding_by_head(head: bytes) -> str | None:
    """The encoding by the first bytes of a text; None if they do not show it."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    pairs = len(head) // 2
    low_zeros, high_zeros = head[0::2].count(0), head[1::2].count(0)
    for zeros, others, encoding in (
        (high_zeros, low_zeros, "utf-16-le"),
        (low_zeros, high_zeros, "utf-16-be"),
    ):
        if zeros > pairs * _FEWEST_ZEROS and others < zeros * _MOST_OTHERS:
            return encoding
    return None


def is_binary(head: bytes) -> bool:
    """Whether bytes with this beginning are neither UTF-8 nor text in an 8-bit encoding.

    A text may have a few NULs, or end with many: its reader names the line.
    """
    text = head.rstrip(b"\0")
    controls = len(text) - len(text.translate(None, _CONTROL_BYTES))
    if controls <= min(_CONTROLS_ALLOWED, len(text) // 10) and text:
        return False
    if b"\0" not in text and is_utf_8_so_far(text):
        return False
    return controls > len(text) * _MOST_CONTROLS or not text


def is_utf_8_so_far(head: bytes) -> bool:
    """Whether bytes are UTF-8; the last character may be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


class UTF8Count(msgspec.Struct):
    """How much of a text is UTF-8."""

    good: int = 0  # multibyte characters
    bad: int = 0  # bytes that belong to no character
    first_at: int = 0  # the offset of the first of these
    first: int = 0  # that byte

    @property
    def is_mixed(self) -> bool:
        """Whether it is UTF-8 with errors, rather than another encoding."""
        return bool(self.bad) and self.good * _FEW_BY_CHANCE > self.bad

    def add(self, block: bytes, offset: int) -> None:
        """Count a block of whole characters that begins at an offset."""
        try:
            text = block.decode()
        except UnicodeDecodeError as error:
            if not self.bad:
                self.first_at, self.first = offset + error.start, block[error.start]
            text = block.decode(errors="ignore")
            self.bad += len(block) - len(text.encode())
        self.good += len(text) - len(block.translate(None, _HIGH_BYTES))


def line_ends(block: bytes) -> int:
    """The number of line ends in a block whose encoding extends ASCII."""
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def line_at(raw: io.RawIOBase, offset: int) -> int:
    """The line, from 1, of the byte at an offset of a stream that has not been read yet."""
    line, last = 1, b""
    while block := raw.read(min(offset, _BLOCK_BYTES)):
        line += line_ends(last + block) - line_ends(last)
        last = block[-1:]
        offset -= len(block)
    return line


def utf_8_count(raw: io.RawIOBase, keep_waiting: Callable[[], None]) -> UTF8Count:
    """Count how much of a stream is UTF-8, to its end; `keep_waiting` is called for each block."""
    count, offset, rest = UTF8Count(), 0, b""
    while block := raw.read(_BLOCK_BYTES):
        keep_waiting()
        block = rest + block
        end = _end_of_characters(block)
        block, rest = block[:end], block[end:]
        if not block.isascii():
            count.add(block, offset)
        offset += len(block)
    count.add(rest, offset)
    return count


def _end_of_characters(block: bytes) -> int:
    """The end of the last character that is certainly complete."""
    for back in range(1, min(len(block), _LONGEST_SEQUENCE - 1) + 1):
        byte = block[-back]
        if byte < 0x80:  # noqa: PLR2004 - ASCII
            return len(block) - block.endswith(b"\r")  # "\n" may follow
        if byte >= 0xC0:  # noqa: PLR2004 - it begins here
            return len(block) - back
    return len(block)


def mixed_encodings(name: str, count: UTF8Count, line: int) -> InputError:
    """The error for a text that is UTF-8 except for some bytes, the first of them in this line."""
    bad = "1 byte is" if count.bad == 1 else f"{count.bad:,} bytes are"
    return InputError(
        f"{name}, line {line}: not UTF-8 (byte {count.first:#04x}), unlike the rest: {bad} wrong, "
        f"and {count.good:,} multibyte characters right. {_TWO_WAYS}"
    )


def undecodable(where: str, encoding: str, error: UnicodeError) -> InputError:
    """The error for bytes that are not in the encoding; `where` names the input and the line."""
    shown = "UTF-8" if encoding == UTF_8 else encoding
    byte = ""
    if isinstance(error, UnicodeDecodeError):
        byte = f" (byte {error.object[error.start]:#04x})"
    if encoding == UTF_8:
        return InputError(f"{where}: not {shown}{byte}. {_TWO_WAYS}")
    return InputError(f"{where}: not {shown}{byte}; give its encoding with --encoding NAME")


_TWO_WAYS = (
    f"Correct the file, read all of it as {FALLBACK} with --encoding {FALLBACK}, or read wrong "
    f"bytes as U+FFFD with --encoding {UTF_8_REPLACE}"
)


class NulError(ValueError):
    """Raised when a NUL is read in a text; `before` are the unreturned bytes before it."""

    def __init__(self, before: bytes) -> None:
        super().__init__("a NUL")
        self.before = before


def nul_found(name: str, line: int) -> InputError:
    """The error for a text with a NUL."""
    return InputError(
        f"{name}, line {line}: a NUL (a zero byte), which text must not contain. Remove it, for "
        "instance with tr -d '\\000'; if it is text in UTF-16, use --encoding utf-16-le"
    )


class TextStream(ReadableStream):
    """A text in UTF-8 or an 8-bit encoding, without DOS's end-of-file mark; the caller closes it.

    Reading raises a NulError if it contains a NUL.

    Attributes:
        has_blanks_before_quotes: Whether a quote behind a blank has been read.
    """

    _END = b"\x1a"  # Ctrl-Z

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._ends = b""  # ends with marks, which may be the end of the text
        self._last = b""
        self.has_blanks_before_quotes = False

    def readinto(self, buffer: Any) -> int:
        """Read a block."""
        view = memoryview(buffer)
        if not self._ends:
            read = self._raw.readinto(view) or 0
            block = bytes(view[:read])
            if not block.endswith(self._END):
                self._check(block)
                return read
            self._ends = block
        block = self._held_back(len(view))
        self._check(block)
        view[: len(block)] = block
        return len(block)

    def _held_back(self, size: int) -> bytes:
        """The next bytes, at most so many; nothing if only marks are left."""
        block = self._ends
        while not (text := block.rstrip(self._END)) and len(block) < _MOST_MARKS:
            more = self._raw.read(size)
            if not more:
                self._ends = b""
                return b""
            block += more
        end = min(size, len(text) or size)
        self._ends = block[end:]
        return block[:end]

    def _check(self, block: bytes) -> None:
        if b"\0" in block:
            raise NulError(block[: block.index(b"\0")])
        if not self.has_blanks_before_quotes and b'"' in block:
            # Most texts have no tabs, and looking for one byte is far cheaper than for two.
            self.has_blanks_before_quotes = (
                self._last + block[:1] in _BLANKS_BEFORE_QUOTES
                or b' "' in block
                or (b"\t" in block and b'\t"' in block)
            )
        self._last = block[-1:]


class RecodedStream(BlockStream):
    """Recodes a text to UTF-8; the caller closes it.

    Reading raises an InputError, with the name of the input, if it is not in this encoding.
    """

    def __init__(self, raw: io.RawIOBase, encoding: str, name: str) -> None:
        super().__init__()
        self._raw = raw
        self._encoding = encoding
        self._name = name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._is_at_end = False
        self._lines = 0  # that have ended so far

    def _next_block(self) -> bytes | None:
        if self._is_at_end:
            return None
        data = self._raw.read(_SMALL_BLOCK_BYTES) or b""
        self._is_at_end = not data
        try:
            block = self._decoder.decode(data, final=not data).encode()
        except UnicodeError as error:
            line = self._lines + 1
            if isinstance(error, UnicodeDecodeError):
                before = error.object[: error.start].decode(self._encoding, "ignore")
                line += line_ends(before.encode(errors="ignore"))
            raise undecodable(f"{self._name}, line {line}", self._encoding, error) from error
        self._lines += line_ends(block)
        return block


class ReplacedStream(BlockStream):
    """A text in UTF-8, with U+FFFD in place of bytes that are not; the caller closes it."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw
        self._pending = b""
        self._is_at_end = False
        self._lines = 0
        self._replaced = 0
        self._line = 0  # of the first replacement

    def note(self) -> str | None:
        """What the user should know about the text."""
        if not self._replaced:
            return None
        return (
            f"not UTF-8 in {counted(self._replaced, 'place')}, first in line {self._line}; read "
            "as U+FFFD there"
        )

    def _next_block(self) -> bytes | None:
        if self._is_at_end:
            return None
        data = self._raw.read(_SMALL_BLOCK_BYTES) or b""
        self._is_at_end = not data
        data = self._pending + data
        end = len(data) if self._is_at_end else _end_of_characters(data)
        data, self._pending = data[:end], data[end:]
        block = data
        try:
            data.decode()
        except UnicodeDecodeError as error:
            if not self._replaced:
                self._line = self._lines + 1 + line_ends(data[: error.start])
            text = data.decode(errors="replace")
            self._replaced += text.count(_REPLACEMENT) - data.count(_REPLACEMENT.encode())
            block = text.encode()
        self._lines += line_ends(data)
        return block
