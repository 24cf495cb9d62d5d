"""Bytes to zstd frames that tell when they are damaged, and back (pure)."""

from __future__ import annotations

import threading

import zstandard

MAX_PACKED_BYTES = 1024 * 1024 * 1024
USUAL_BYTES, USUAL_RATIO = 512 * 1024 * 1024, 100  # as large as answers may be; JSON packs to 1/20
LEVEL = 1  # JSON shrinks to a fifth; higher levels cost far more CPU than they save disk


class DamagedFrameError(ValueError):
    """Raised for bytes that are not a whole, undamaged frame."""


class _Codecs(threading.local):
    """zstandard's objects must not be shared by threads, and cost memory to make anew."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_checksum=True, write_content_size=True
        )
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def compress(content: bytes) -> bytes:
    """One frame with a checksum, of at least one byte."""
    return _codecs.compressor.compress(content)


def unpacked_at_most(packed_bytes: int) -> int:
    """Bytes that something packed may hold, if it is no bomb."""
    return max(USUAL_BYTES, USUAL_RATIO * packed_bytes)


def decompress(frame: bytes) -> bytes:
    """What is in a frame.

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
