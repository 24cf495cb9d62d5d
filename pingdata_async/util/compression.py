"""Compressed files, read and written as streams, and zstd frames that tell when they are damaged.

Streams go through the compression objects of the libraries, not through their file objects:
zstandard's `stream_reader()` takes a file that was cut off for whole, and a `GzipFile` writes its
end even after an error, when the garbage collector closes it.

Everything here blocks: call it in a worker thread.
"""

from __future__ import annotations

import contextlib
import io
import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import zstandard

from pingdata_async.exceptions import InputError
from pingdata_async.util.encoding import (
    DEFLATE_ERRORS,
    GZIP_MAGIC,
    GZIP_WBITS,
    MAX_RATIO,
    fast_zlib,
)

MAX_PACKED_BYTES = 1024 * 1024 * 1024
"""The largest frame that is read."""

# A frame may become as large as answers usually may be, or as many times its size as any may.
USUAL_BYTES = 512 * 1024 * 1024

_FRAME_LEVEL = 1  # JSON shrinks to a fifth; higher levels cost far more CPU than they save disk
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3

_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")  # a frame; one to skip, as pzstd writes

_READ_BYTES = 64 * 1024
_GZIP_BLOCK_BYTES = 256 * 1024
# zstandard gives all at once that a piece becomes, and four bytes may become 128 KiB.
_ZSTD_PIECE_BYTES = 512
# Compressors are called for blocks of this size: a line at a time costs more.
_WRITE_BYTES = 128 * 1024


# -- Frames ----------------------------------------------------------------------------------


class DamagedFrameError(ValueError):
    """Raised for bytes that are not one whole, undamaged frame."""


class _Codecs(threading.local):
    """zstandard's objects must not be shared by threads, and cost memory to make anew."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=_FRAME_LEVEL, write_checksum=True, write_content_size=True
        )
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def compress(content: bytes) -> bytes:
    """Compress at least one byte to a frame with a checksum."""
    return _codecs.compressor.compress(content)


def unpacked_at_most(packed_bytes: int) -> int:
    """The most bytes that something packed may become, if it is no bomb."""
    return max(USUAL_BYTES, MAX_RATIO * packed_bytes)


def decompress(frame: bytes) -> bytes:
    """Decompress a frame.

    Raises:
        DamagedFrameError: When it is not exactly one whole frame, its checksum is wrong, or it
            holds more than anything that was packed here.
    """
    if not frame:
        raise DamagedFrameError("it is empty")
    try:
        # Damage to the head can switch the checksum off, or say that there is nothing inside.
        head = zstandard.get_frame_parameters(frame)
        if not head.has_checksum or not head.content_size:
            raise DamagedFrameError("its head is wrong")
        if head.content_size > unpacked_at_most(len(frame)):
            raise DamagedFrameError("its size is wrong")
        return _codecs.decompressor.decompress(frame, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:  # a damaged size can be any number
        raise DamagedFrameError(str(error) or "its size is wrong") from error


# -- Reading ---------------------------------------------------------------------------------


def compression_of(head: bytes) -> str | None:
    """The compression of an input that begins like this: "gzip", "zstd" or None."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD_MAGICS) else None


class ReadableStream(io.RawIOBase):
    """A raw stream to read from."""

    def readable(self) -> bool:
        """Always."""
        return True


class BlockStream(ReadableStream):
    """A stream whose bytes are made one block at a time."""

    def __init__(self) -> None:
        self._block = memoryview(b"")

    @abstractmethod
    def _next_block(self) -> bytes | None:
        """The next block, which may be empty; None at the end."""

    def readinto(self, buffer: Any) -> int:
        """Read from the present block, or the next that is not empty."""
        while not self._block:
            block = self._next_block()
            if block is None:
                return 0
            self._block = memoryview(block)
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)


class DecompressedStream(BlockStream):
    """Decompresses gzip members or zstd frames, one behind the other, a bounded block at a time.

    Reads the compressed stream to its very end, so that it can be hashed.

    Args:
        raw: The compressed stream; the caller closes it.
        compression: "gzip" or "zstd".
        name: The input, for messages.

    Raises:
        InputError: While it is read, when it is damaged or was cut off.
    """

    def __init__(self, raw: io.RawIOBase, compression: str, name: str) -> None:
        self._raw = raw
        self._compression = compression
        self._name = name
        super().__init__()
        self._blocks = self._gunzipped() if compression == "gzip" else self._unpacked()

    def _next_block(self) -> bytes | None:
        try:
            return next(self._blocks, None)
        except (*DEFLATE_ERRORS, zstandard.ZstdError, MemoryError) as error:
            raise self._damaged(str(error) or "it needs too much memory") from error

    def _gunzipped(self) -> Iterator[bytes]:
        data = self._read()
        is_first = True
        while data:
            if len(data) < len(GZIP_MAGIC):
                data += self._read()
            if not is_first and not data.strip(b"\0"):
                data = self._read()  # files are padded like that, and gzip takes it
                continue
            if not data.startswith(GZIP_MAGIC):
                raise self._damaged("something else is behind its end")
            is_first = False
            member = fast_zlib.decompressobj(GZIP_WBITS)
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


# -- Writing ---------------------------------------------------------------------------------


class _CompressingStream(io.RawIOBase):
    def __init__(self, file: BinaryIO, compressor: Any) -> None:
        self._file = file
        self._compressor = compressor
        self.is_abandoned = False  # then what is still buffered goes nowhere

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        if not self.is_abandoned:
            self._file.write(self._compressor.compress(block))
        return memoryview(block).nbytes

    def finish(self) -> None:
        self._file.write(self._compressor.flush())


@contextlib.contextmanager
def compressed_writer(file: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """Compress what is written to a file.

    Equal contents become equal files. After an error the file is left without its end, so that
    nobody takes it for whole.

    Args:
        file: Where to; the caller closes it.
        compression: "gz" or "zst"; "" to write the bytes as they are.
    """
    if not compression:
        yield file
        return
    stream = _CompressingStream(file, _compressor(compression))
    buffered = io.BufferedWriter(stream, _WRITE_BYTES)
    try:
        yield cast(BinaryIO, buffered)
        buffered.flush()
        stream.finish()
    except BaseException:
        stream.is_abandoned = True
        raise
    finally:
        buffered.close()


def _compressor(compression: str) -> Any:
    if compression == "gz":
        return fast_zlib.compressobj(_GZIP_LEVEL, wbits=GZIP_WBITS)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
