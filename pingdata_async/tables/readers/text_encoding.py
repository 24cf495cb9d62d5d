"""The encoding of a text: given by name, or detected."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError

UTF_8 = "utf-8-sig"  # a byte order mark is no part of the text
UTF_8_REPLACE = "utf-8-replace"  # the same, and U+FFFD where it is not
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
_CONTROLS_ALLOWED = 3  # in a text however short

_HIGH_BYTES = bytes(range(0x80, 0x100))
_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_LONGEST_SEQUENCE = 4
_MOST_MARKS = 4096  # of the end; what has more has them in its text
_FEW_BY_CHANCE = 10  # bad bytes for each good sequence: so few are good in another encoding, too
_REPLACEMENT = "\ufffd"
_BLANKS_BEFORE_QUOTES = frozenset({b' "', b'\t"'})


def checked_encoding(encoding: str, head: bytes) -> str:
    """The encoding that was named, in Python's words, for a text that begins like this.

    Raises:
        ConfigurationError: When there is none of that name.
    """
    if encoding.strip().lower().replace("_", "-") in {UTF_8_REPLACE, "utf8-replace"}:
        return UTF_8_REPLACE
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
    """Whether what begins like this is no text of one byte a character, nor UTF-8.

    A text may have a NUL or two, or end with many: its reader says in which line.
    """
    text = head.rstrip(b"\0")
    controls = len(text) - len(text.translate(None, _CONTROL_BYTES))
    if controls <= min(_CONTROLS_ALLOWED, len(text) // 10) and text:
        return False
    if b"\0" not in text and is_utf_8_so_far(text):
        return False
    return controls > len(text) * _MOST_CONTROLS or not text


def is_utf_8_so_far(head: bytes) -> bool:
    """Whether these bytes are UTF-8; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


class UTF8Count(msgspec.Struct):
    """How much of a text is UTF-8.

    Attributes:
        good: Characters of several bytes.
        bad: Bytes that are part of none.
        first_at: The place of the first such byte, from 0.
        first: That byte.
    """

    good: int = 0
    bad: int = 0
    first_at: int = 0
    first: int = 0

    @property
    def is_mixed(self) -> bool:
        """Whether it is UTF-8 with errors in it, and not another encoding altogether."""
        return bool(self.bad) and self.good * _FEW_BY_CHANCE > self.bad

    def add(self, block: bytes, offset: int) -> None:
        """Count a block that begins at an offset and cuts no character."""
        others = _SEQUENCE.sub(b"", block)
        bad = len(others) - len(others.translate(None, _HIGH_BYTES))
        if bad and not self.bad:
            try:
                block.decode()
            except UnicodeDecodeError as error:
                self.first_at, self.first = offset + error.start, block[error.start]
        self.bad += bad
        self.good += sum(1 for _ in _SEQUENCE.finditer(block))


def line_ends(block: bytes) -> int:
    """How many lines end in a block of bytes, of which each is a character or a part of one."""
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def line_at(raw: io.RawIOBase, offset: int) -> int:
    """The line, from 1, of the byte at an offset of a stream that is at its beginning. Blocks."""
    line, last = 1, b""
    while block := raw.read(min(offset, _BLOCK_BYTES)):
        line += line_ends(last + block) - line_ends(last)
        last = block[-1:]
        offset -= len(block)
    return line


def utf_8_count(raw: io.RawIOBase, keep_waiting: Callable[[], None]) -> UTF8Count:
    """Count how much of a stream is UTF-8, to its end. Blocks.

    Args:
        raw: The stream; used up by it.
        keep_waiting: Called for each block; may raise to end the reading.
    """
    count, offset, rest = UTF8Count(), 0, b""
    while block := raw.read(_BLOCK_BYTES):
        keep_waiting()
        block = rest + block
        end = _end_of_characters(block)
        block, rest = block[:end], block[end:]
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError:
                count.add(block, offset)
            else:
                count.good += _characters(block)
        offset += len(block)
    count.add(rest, offset)
    return count


def _characters(block: bytes) -> int:
    """How many characters of several bytes there are in UTF-8."""
    return len(block.decode()) - len(block.translate(None, _HIGH_BYTES))


def _end_of_characters(block: bytes) -> int:
    """Where the last character of a block ends that may not be cut."""
    for back in range(1, min(len(block), _LONGEST_SEQUENCE - 1) + 1):
        byte = block[-back]
        if byte < 0x80:  # noqa: PLR2004 - ASCII
            return len(block) - block.endswith(b"\r")  # the end of its line may come
        if byte >= 0xC0:  # noqa: PLR2004 - it begins here
            return len(block) - back
    return len(block)


def mixed_encodings(name: str, count: UTF8Count, line: int) -> InputError:
    """The error for a text that is UTF-8 but for some bytes, the first of them in a line."""
    bad = "1 byte is" if count.bad == 1 else f"{count.bad:,} bytes are"
    return InputError(
        f"{name}, line {line}: not UTF-8 (byte {count.first:#04x}), as the rest of it is: "
        f"{bad} wrong, beside {count.good:,} characters that are right. {_TWO_WAYS}"
    )


def undecodable(where: str, encoding: str, error: UnicodeError) -> InputError:
    """The error for a text that is not in its encoding; `where` is its name and line."""
    shown = "UTF-8" if encoding == UTF_8 else encoding
    byte = ""
    if isinstance(error, UnicodeDecodeError):
        byte = f" (byte {error.object[error.start]:#04x})"
    if encoding == UTF_8:
        return InputError(f"{where}: not {shown}{byte}. {_TWO_WAYS}")
    return InputError(f"{where}: not {shown}{byte}; --encoding NAME says what it is in")


_TWO_WAYS = (
    f"Correct it; or --encoding {FALLBACK} reads all of it so, and --encoding {UTF_8_REPLACE} "
    "puts U+FFFD in place of what is wrong"
)


class NulError(ValueError):
    """Raised while a text is read that has a NUL in it.

    Attributes:
        before: What was read of the text before it, and has not been handed out.
    """

    def __init__(self, before: bytes) -> None:
        super().__init__("a NUL")
        self.before = before


def nul_found(name: str, line: int) -> InputError:
    """The error for a text with a NUL."""
    return InputError(
        f"{name}, line {line}: a NUL (a byte of 0), which no text has. Remove it, as "
        "tr -d '\\000' does; if it is a text in UTF-16, say --encoding utf-16-le"
    )


class TextStream(io.RawIOBase):
    """A text of one byte a character, or in UTF-8, without the mark that ends it in DOS.

    Args:
        raw: Its bytes; still the caller's to close.

    Attributes:
        has_blanks_before_quotes: Whether there was a quote behind a blank.

    Raises:
        NulError: While it is read, when there is a NUL in it.
    """

    _END = b"\x1a"  # Ctrl-Z

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._ends = b""  # marks that are at the end, or not
        self._last = b""
        self.has_blanks_before_quotes = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some of it."""
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
        """What comes next, at most so much of it, where it may be marks at the end."""
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
            # Most texts have no tabs: to look for one byte is far cheaper than for two.
            self.has_blanks_before_quotes = (
                self._last + block[:1] in _BLANKS_BEFORE_QUOTES
                or b' "' in block
                or (b"\t" in block and b'\t"' in block)
            )
        self._last = block[-1:]


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
        self._lines = 0  # that ended so far

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
                block = text.encode()
            except UnicodeError as error:
                line = self._lines + 1
                if isinstance(error, UnicodeDecodeError):
                    before = error.object[: error.start].decode(self._encoding, "ignore")
                    line += line_ends(before.encode(errors="ignore"))
                raise undecodable(f"{self._name}, line {line}", self._encoding, error) from error
            self._block = memoryview(block)
            self._lines += line_ends(block)
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)


class ReplacedStream(io.RawIOBase):
    """A text in UTF-8, with U+FFFD in place of what is not.

    Args:
        raw: The text's bytes; still the caller's to close.

    Attributes:
        replaced: How many characters were put in so far.
        line: The line of the first of them, from 1.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._pending = b""
        self._block = memoryview(b"")
        self._is_at_end = False
        self._lines = 0
        self.replaced = 0
        self.line = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some of it."""
        while not self._block and not self._is_at_end:
            data = self._raw.read(_BLOCK_BYTES // 16) or b""
            self._is_at_end = not data
            data = self._pending + data
            end = len(data) if self._is_at_end else _end_of_characters(data)
            data, self._pending = data[:end], data[end:]
            self._block = memoryview(self._replaced(data))
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)

    def note(self) -> str | None:
        """What the user should know of it."""
        if not self.replaced:
            return None
        number = "1 place" if self.replaced == 1 else f"{self.replaced:,} places"
        return f"not UTF-8 in {number}, the first in line {self.line}: U+FFFD is there instead"

    def _replaced(self, data: bytes) -> bytes:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            if not self.replaced:
                self.line = self._lines + 1 + line_ends(data[: error.start])
            text = data.decode(errors="replace")
            self.replaced += text.count(_REPLACEMENT) - data.count(_REPLACEMENT.encode())
            self._lines += line_ends(data)
            return text.encode()
        self._lines += line_ends(data)
        return data
