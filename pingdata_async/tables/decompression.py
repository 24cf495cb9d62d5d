"""Compressed inputs to what they were, a bounded block at a time.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import zstandard

from pingdata_async.deflate import DEFLATE_ERRORS, fast_zlib
from pingdata_async.exceptions import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")  # a frame; one to skip, as pzstd writes

_READ_BYTES = 64 * 1024
_GZIP_BLOCK_BYTES = 256 * 1024
_GZIP = 31  # zlib's `wbits`

# zstandard gives all at once that a piece becomes, and four bytes may become 128 KiB.
_ZSTD_PIECE_BYTES = 512


def compression_of(head: bytes) -> str | None:
    """What an input that begins like this is compressed by: "gzip" or "zstd"; None by neither."""
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD_MAGICS) else None


class DecompressedStream(io.RawIOBase):
    """What gzip members or zstd frames become, one behind the other.

    Reads what is compressed to its very end, so that it can be hashed.

    Args:
        raw: The compressed stream; still the caller's to close.
        compression: "gzip" or "zstd".
        name: The input, for messages.

    Raises:
        InputError: While it is read, when it is damaged or was cut off.
    """

    def __init__(self, raw: io.RawIOBase, compression: str, name: str) -> None:
        self._raw = raw
        self._compression = compression
        self._name = name
        self._blocks = self._gunzipped() if compression == "gzip" else self._unpacked()
        self._block = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some of what was decompressed."""
        while not self._block:
            try:
                block = next(self._blocks, None)
            except (*DEFLATE_ERRORS, zstandard.ZstdError, MemoryError) as error:
                raise self._damaged(str(error) or "it needs too much memory") from error
            if block is None:
                return 0
            self._block = memoryview(block)
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)

    def _gunzipped(self) -> Iterator[bytes]:
        data = self._read()
        is_first = True
        while data:
            if len(data) < len(_GZIP_MAGIC):
                data += self._read()
            if not is_first and not data.strip(b"\0"):
                data = self._read()  # files are padded like that, and gzip takes it
                continue
            if not data.startswith(_GZIP_MAGIC):
                raise self._damaged("something else is behind its end")
            is_first = False
            member = fast_zlib.decompressobj(_GZIP)
            while not member.eof:
                block = member.decompress(data, _GZIP_BLOCK_BYTES)
                yield block
                data = member.unconsumed_tail
                # After a full block there may be more inside.
                if not data and not member.eof and len(block) < _GZIP_BLOCK_BYTES:
                    data = self._read_on()
            data = member.unused_data or self._read()

    def _unpacked(self) -> Iterator[bytes]:
        data = memoryview(self._read())
        while data:
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                data = data or memoryview(self._read_on())
                piece, data = data[:_ZSTD_PIECE_BYTES], data[_ZSTD_PIECE_BYTES:]
                yield frame.decompress(piece)
            data = memoryview(frame.unused_data + data) or memoryview(self._read())

    def _read(self) -> bytes:
        return self._raw.read(_READ_BYTES) or b""

    def _read_on(self) -> bytes:
        data = self._read()
        if not data:
            raise self._damaged("it was cut off")
        return data

    def _damaged(self, how: str) -> InputError:
        return InputError(f"{self._name}: its {self._compression} is damaged: {how}")
