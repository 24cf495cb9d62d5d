"""Compression of text outputs while they are written.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

import zstandard

from pingdata_async.deflate import fast_zlib

_GZIP: Final = 31  # zlib's `wbits`; its header has neither a name nor a time
_GZIP_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3
_BLOCK_BYTES: Final = 128 * 1024


class _PackingStream(io.RawIOBase):
    def __init__(self, file: BinaryIO, compressor: Any) -> None:
        self._file = file
        self._compressor = compressor
        self.is_given_up = False  # then what is still buffered goes nowhere

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        if not self.is_given_up:
            self._file.write(self._compressor.compress(block))
        return memoryview(block).nbytes

    def finish(self) -> None:
        self._file.write(self._compressor.flush())


@contextlib.contextmanager
def packing(file: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """A stream whose bytes are written to a file compressed.

    Equal bytes are packed into equal bytes. After an error the stream is left without its end,
    so that nobody takes it for whole.

    Args:
        file: Where to; still the caller's to close.
        compression: "gz" or "zst"; "" to write them as they are.
    """
    if not compression:
        yield file
        return
    stream = _PackingStream(file, _compressor(compression))
    # Compressors are called for blocks of some size: a line at a time costs more.
    buffered = io.BufferedWriter(stream, _BLOCK_BYTES)
    try:
        yield cast(BinaryIO, buffered)
        buffered.flush()
        stream.finish()
    except BaseException:
        stream.is_given_up = True
        raise
    finally:
        buffered.close()


def _compressor(compression: str) -> Any:
    if compression == "gz":
        return fast_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
