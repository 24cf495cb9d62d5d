"""Bodies in a Content-Encoding, inflated within bounds (pure).

Inflating is done here rather than by the HTTP library: in some versions of that one small piece
becomes hundreds of megabytes at once, and a stream that ends too early is taken for whole.

isal (Intel's ISA-L) inflates outputs three times as fast as zlib, and compresses requests eight
times as fast; `benchmarks/README.md` has the figures. Where there is no wheel of it, zlib does it.
"""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.util.text import one_line, without_bom


def _fastest() -> Any:
    # Not a plain import: the two differ in trifles of their types alone.
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


fast_zlib = _fastest()
"""A module with what `zlib` has."""

DEFLATE_ERRORS = (zlib.error, fast_zlib.error)
"""What reading a damaged stream may raise."""

PACKING_IS_QUICK_BELOW_BYTES = 64 * 1024 if fast_zlib is zlib else 512 * 1024
"""`gzipped()` takes less than a millisecond for less."""

ACCEPTED = "gzip, deflate"
"""The encodings to ask for."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest content by default: with all that is made of it, and the process itself, that is
less than 200 MB of memory."""

BLOCK_BYTES = 256 * 1024  # the most that comes out at once

# An output is usually one block; of a compression bomb, not much more than this is ever made.
INFLATED_AT_ONCE_BYTES = 16 * 1024 * 1024

LIKELY_RATIO = 8  # outputs usually shrink to a 6th or an 11th

# Outputs of nothing but "no match" shrink to a 150th, bombs to a 1000th. Whatever lies between
# is bounded by the largest body that is taken.
MAX_RATIO = 500
RATIO_COUNTS_FROM_BYTES = 16 * 1024 * 1024

# A gzip stream may have any number of members, and each costs time, though it may be empty.
MAX_SMALL_MEMBERS = 1000
SMALL_MEMBER_BYTES = 1024

# What a stream is given at once: it copies what is left of that when it ends or is full. Of many
# members each takes little, so all but the first begin with little.
STEP_BYTES = 4 * 1024 * 1024
FIRST_STEP_BYTES = 4 * 1024

_GZIP_NAMES = frozenset({"gzip", "x-gzip"})
_PLAIN_NAMES = frozenset({"", "identity"})

GZIP_WBITS = 31  # zlib's `wbits`; its header has neither a name nor a time
GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_WBITS, _RAW_WBITS = 15, -15
_ZLIB_METHOD = 8  # in the low half of a zlib stream's first byte


def gzipped(content: bytes) -> bytes:
    """One gzip member.

    At level 1: addresses shrink to a quarter, and higher levels cost more than they save.
    """
    packed: bytes = fast_zlib.compress(content, level=1, wbits=GZIP_WBITS)
    return packed


class Inflater:
    """Undoes one body's Content-Encoding: gzip (of several members), deflate, or none.

    Args:
        encoding: The header, "" where there is none.
        what: The request in a few words, for messages.
        block_bytes: The most that comes out at once.

    Attributes:
        is_plain: Whether there is nothing to undo.
        bytes_in: Bytes fed so far.
        bytes_out: Bytes that came out so far.

    Raises:
        DecodeError: For an encoding that was not asked for.
    """

    def __init__(self, encoding: str, what: str, block_bytes: int = BLOCK_BYTES) -> None:
        self._what = what
        self._block_bytes = block_bytes
        self._encoding = encoding.strip().lower()
        if self._encoding not in {*_PLAIN_NAMES, *_GZIP_NAMES, "deflate"}:
            shown = one_line(encoding)[:40]
            raise DecodeError(f"{what}: the answer came in an unknown encoding ({shown})")
        self.is_plain = self._encoding in _PLAIN_NAMES
        self._stream: Any = None
        self._members = 0
        self._step_bytes = STEP_BYTES
        self.bytes_in = 0
        self.bytes_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate the next bytes, in blocks of limited size, each made when it is asked for.

        Raises:
            DecodeError: When they are damaged, or a compression bomb.
        """
        self.bytes_in += len(data)
        if self.is_plain:
            self.bytes_out += len(data)
            yield data
            return
        rest = memoryview(data)
        while rest or self._stream is not None:
            stream = self._stream or self._opened(rest)
            if stream is None:
                return
            given = rest[: self._step_bytes]
            block = self._inflated(stream, given)
            if block:
                yield block
            is_full = len(block) >= self._block_bytes
            left = stream.unused_data if stream.eof else stream.unconsumed_tail
            rest = rest[len(given) - len(left) :]
            if stream.eof:
                self._stream, self._step_bytes = None, FIRST_STEP_BYTES
            else:
                self._stream, self._step_bytes = stream, min(4 * self._step_bytes, STEP_BYTES)
                if not rest and not is_full:
                    return

    def finish(self) -> None:
        """Check that the stream is at its end; call it after the last bytes.

        Raises:
            DecodeError: When it is not.
        """
        if self._stream is not None:
            raise DecodeError(
                f"{self._what}: the answer was cut off (its {self._encoding} stream has no end)"
            )

    def _opened(self, data: memoryview) -> Any:
        """The stream that these bytes begin; None where they are padding."""
        is_first = not self._members
        if self._encoding == "deflate":
            if not is_first:
                raise self._damaged("there is more after its end")
            self._members = 1
            # RFC 9110 means zlib's format; some servers have always sent bare deflate.
            is_zlib = data[0] & 0xF == _ZLIB_METHOD
            return fast_zlib.decompressobj(_ZLIB_WBITS if is_zlib else _RAW_WBITS)
        if not is_first and data[0] == 0 and not data.tobytes().strip(b"\0"):
            return None  # files are padded like that, and gzip takes it
        if not GZIP_MAGIC.startswith(data[:2].tobytes()):  # some libraries wait for more of it
            raise self._damaged("it is no gzip")
        self._members += 1
        if self._members > MAX_SMALL_MEMBERS + self.bytes_out // SMALL_MEMBER_BYTES:
            raise self._damaged(f"it is in {self._members} pieces of next to nothing")
        return fast_zlib.decompressobj(GZIP_WBITS)

    def _inflated(self, stream: Any, data: memoryview) -> bytes:
        try:
            block: bytes = stream.decompress(data, self._block_bytes)
        except DEFLATE_ERRORS as error:
            raise self._damaged(str(error)) from error
        self.bytes_out += len(block)
        if self.bytes_out > max(RATIO_COUNTS_FROM_BYTES, MAX_RATIO * self.bytes_in):
            raise DecodeError(
                f"{self._what}: the answer looks like a compression bomb: {self.bytes_in} bytes "
                f"became more than {self.bytes_out}"
            )
        return block

    def _damaged(self, how: str) -> DecodeError:
        return DecodeError(f"{self._what}: the answer's {self._encoding} is damaged: {how}")


class EncodedBody(msgspec.Struct, frozen=True):
    """A job's output as it came: most are compressed, and can be kept on disk like that.

    Attributes:
        raw: Its bytes.
        encoding: Their Content-Encoding, "" where there is none.
        what: The request in a few words, for messages.
        max_bytes: The largest content that is taken.
    """

    raw: bytes
    encoding: str = ""
    what: str = "an output"
    max_bytes: int = MAX_BODY_BYTES

    @property
    def is_gzip(self) -> bool:
        """Whether the bytes are a gzip file."""
        return self.encoding.strip().lower() in _GZIP_NAMES

    @property
    def likely_bytes(self) -> int:
        """About the size of the content; what gzip says of itself counts only if it is more."""
        if self._is_plain:
            return len(self.raw)
        return max(LIKELY_RATIO * len(self.raw), self._stated_bytes)

    def at_most(self, max_bytes: int) -> EncodedBody:
        """The same, of which no more content is taken."""
        return msgspec.structs.replace(self, max_bytes=min(max_bytes, self.max_bytes))

    def content(self) -> bytes:
        """Decode the body; a byte order mark before the content is dropped.

        Takes about a millisecond a megabyte: decode large ones in a thread.

        Raises:
            DecodeError: When it is cut off, damaged, a compression bomb or too large.
        """
        if self._is_plain:
            return without_bom(self.raw)
        inflater = Inflater(self.encoding, self.what, self._block_bytes)
        first = b""
        # Unlike a list, it never holds everything twice; closed, it holds nothing where an error
        # keeps this frame alive. Nor is a block held that has been written.
        with io.BytesIO() as joined:
            for block in inflater.feed(self.raw):
                if inflater.bytes_out > self.max_bytes:
                    raise too_large(self.what, self.max_bytes)
                if not joined.tell() and not first:
                    first = block
                else:
                    joined.write(first)
                    joined.write(block)
                    first = b""
                del block
            inflater.finish()
            return without_bom(joined.getvalue() or first)

    @property
    def _is_plain(self) -> bool:
        return self.encoding.strip().lower() in _PLAIN_NAMES

    @property
    def _stated_bytes(self) -> int:
        """The size that gzip states at its end: that of its last member's content."""
        return int.from_bytes(self.raw[-4:], "little") if self.is_gzip else 0

    @property
    def _block_bytes(self) -> int:
        """The size of the block to inflate into: all of it, where gzip states how much that is.

        A block of just that size is memory that the allocator has at hand from the output before;
        one that has to grow is new memory each time, and the system clears each page of it.
        """
        size_bytes = self._stated_bytes
        is_likely = len(self.raw) <= size_bytes <= INFLATED_AT_ONCE_BYTES
        return size_bytes if is_likely else INFLATED_AT_ONCE_BYTES


def too_large(what: str, max_bytes: int) -> DecodeError:
    """The error for an answer above the limit."""
    return DecodeError(f"{what}: the answer is larger than {max_bytes} bytes", is_too_large=True)
