"""Compressed bodies to what they were, a bounded block at a time (pure).

Done here rather than by the HTTP library, for what that leaves out: in some versions one small
piece becomes hundreds of megabytes at once, and a stream that ends too early is taken for whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pingdata_async.deflate import DEFLATE_ERRORS, fast_zlib
from pingdata_async.exceptions import DecodeError
from pingdata_async.refusals import one_line

BLOCK_BYTES = 256 * 1024  # the most that comes out at once
ACCEPTED = "gzip, deflate"  # what to ask for

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

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_GZIP_BEGIN = b"\x1f\x8b"
_ZLIB_METHOD = 8  # in the low half of a zlib stream's first byte


class _Decompress(Protocol):
    """What zlib and isal call a decompression object."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


class Inflater:
    """Undoes one body's Content-Encoding: gzip (of several members), deflate, or none.

    Args:
        encoding: The header, "" where there is none.
        what: The request in a few words, for messages.
        block_bytes: The most that comes out at once.

    Raises:
        DecodeError: For an encoding that was not asked for.
    """

    def __init__(self, encoding: str, what: str, block_bytes: int = BLOCK_BYTES) -> None:
        self._what = what
        self._block_bytes = block_bytes
        self._encoding = encoding.strip().lower()
        if self._encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            shown = one_line(encoding)[:40]
            raise DecodeError(f"{what}: the answer came in an unknown encoding ({shown})")
        self.is_plain = self._encoding in {"", "identity"}
        self._stream: _Decompress | None = None
        self._members = 0
        self._step_bytes = STEP_BYTES
        self.bytes_in = 0
        self.bytes_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes become, in blocks of limited size, made as they are asked for.

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
        """To be called after the last bytes.

        Raises:
            DecodeError: When the stream is not at its end.
        """
        if self._stream is not None:
            raise DecodeError(
                f"{self._what}: the answer was cut off (its {self._encoding} stream has no end)"
            )

    def _opened(self, data: memoryview) -> _Decompress | None:
        """The stream that these bytes begin; None where they are padding."""
        is_first = not self._members
        if self._encoding == "deflate":
            if not is_first:
                raise self._damaged("there is more after its end")
            self._members = 1
            # RFC 9110 means zlib's format; some servers have always sent bare deflate.
            is_zlib = data[0] & 0xF == _ZLIB_METHOD
            return _stream(_ZLIB if is_zlib else _RAW)
        if not is_first and data[0] == 0 and not data.tobytes().strip(b"\0"):
            return None  # files are padded like that, and gzip takes it
        if not _GZIP_BEGIN.startswith(data[:2].tobytes()):  # some libraries wait for more of it
            raise self._damaged("it is no gzip")
        self._members += 1
        if self._members > MAX_SMALL_MEMBERS + self.bytes_out // SMALL_MEMBER_BYTES:
            raise self._damaged(f"it is in {self._members} pieces of next to nothing")
        return _stream(_GZIP)

    def _inflated(self, stream: _Decompress, data: memoryview) -> bytes:
        try:
            block = stream.decompress(data, self._block_bytes)
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


def _stream(wbits: int) -> _Decompress:
    stream: _Decompress = fast_zlib.decompressobj(wbits)
    return stream
