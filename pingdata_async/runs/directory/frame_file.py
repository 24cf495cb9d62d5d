"""Files of zstd frames with a footer, each frame readable by itself.

The last frame is a table of contents: it says where each of the others begins, and what they
amount to. A trailer behind it says how long it is, and shows that the file is whole.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Generic, Self, TypeVar

import msgspec

from pingdata_async.exceptions import RunError
from pingdata_async.util.compression import (
    MAX_PACKED_BYTES,
    DamagedFrameError,
    compress,
    decompress,
)
from pingdata_async.util.files import Closing, open_nameless, open_regular, writing_whole

WRITE_BUFFER_BYTES = 1024 * 1024

_TRAILER = struct.Struct("<Q8s")  # the last frame's length, and what this file is

_encoder = msgspec.msgpack.Encoder()


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """A table of contents; each kind of file has more in it.

    Attributes:
        offsets: Where each frame begins, and where the last one ends: 8 bytes each,
            little-endian.
    """

    offsets: bytes


C = TypeVar("C", bound=Footer)


class FileKind(msgspec.Struct, frozen=True):
    """What a file is.

    Attributes:
        what: In messages, with an article.
        magic: 7 bytes at its end.
        format: One more, which changes with any change of what the frames hold.
    """

    what: str
    magic: bytes
    format: bytes


class FrameWriter:
    """Takes frames, and at last the table of contents; made by `writing()`."""

    def __init__(self, file: BinaryIO, kind: FileKind) -> None:
        self._file = file
        self._kind = kind
        self._offsets = array("Q", [0])  # 8 bytes a frame are all that is kept in memory

    @property
    def frames(self) -> int:
        """Frames written."""
        return len(self._offsets) - 1

    def add(self, content: bytes) -> None:
        """Write a frame, of at least one byte."""
        self.add_frame(compress(content))

    def add_frame(self, frame: bytes) -> None:
        """Write a frame that is packed already."""
        self._file.write(frame)
        self._offsets.append(self._offsets[-1] + len(frame))

    def written(self) -> Iterator[bytes]:
        """Read all frames back, in order; the file must be readable."""
        for index in range(self.frames):
            yield self.read(index)

    def read(self, index: int) -> bytes:
        """Read one of the frames back, packed as it is; the file must be readable."""
        self._file.flush()
        begin, end = self._offsets[index], self._offsets[index + 1]
        return os.pread(self._file.fileno(), end - begin, begin)

    def packed_offsets(self) -> bytes:
        """As a table of contents has them."""
        return _little_endian(self._offsets).tobytes()

    def end(self, contents: Footer) -> None:
        """Write the table of contents, with which the file is whole."""
        last = compress(_encoder.encode(contents))
        self._file.write(last)
        self._file.write(_TRAILER.pack(len(last), self._kind.magic + self._kind.format))


@contextlib.contextmanager
def writing(path: Path, kind: FileKind) -> Iterator[FrameWriter]:
    """Write a file of frames as `writing_whole()` does. Blocks.

    Raises:
        OSError: When it cannot be written.
    """
    with writing_whole(path, WRITE_BUFFER_BYTES) as file:
        yield FrameWriter(file, kind)


@contextlib.contextmanager
def staging(folder: Path, kind: FileKind) -> Iterator[FrameWriter]:
    """Write frames to be read again by the same process alone; they have no name. Blocks.

    Raises:
        OSError: When they cannot be written.
    """
    with open_nameless(folder) as raw, io.BufferedWriter(raw, WRITE_BUFFER_BYTES) as file:
        yield FrameWriter(file, kind)


class FrameReader(Closing, Generic[C]):
    """Reads frames in any order, inside its `with` block. Blocks.

    Args:
        path: Where the file is.
        kind: What it should be.
        decoder: Of its table of contents.

    Attributes:
        contents: Its table of contents.

    Raises:
        RunError: When it is missing, damaged, or of another version of this package.
    """

    def __init__(self, path: Path, kind: FileKind, decoder: msgspec.msgpack.Decoder[C]) -> None:
        self.path = path
        self._kind = kind
        self._decoder = decoder
        self._file: int | None = None
        try:
            with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                self.contents, self._offsets = self._read_contents(file)
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def frames(self) -> int:
        """Frames in the file, without its table of contents."""
        return len(self._offsets) - 1

    def __enter__(self) -> Self:
        try:
            self._file = open_regular(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._unreadable(error) from error
        return self

    def close(self) -> None:
        """Close the file; its table of contents stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, index: int) -> bytes:
        """What is in a frame.

        Raises:
            RunError: When it cannot be read.
            DamagedFrameError: When it is damaged; `damaged()` makes an error for users of it.
        """
        if self._file is None:
            raise RuntimeError(f"{self._kind.what} is read inside its `with` block")
        begin, end = self._offsets[index], self._offsets[index + 1]
        if not 0 < end - begin <= MAX_PACKED_BYTES or end > self._offsets[-1]:
            raise DamagedFrameError("its place is wrong")
        try:
            return decompress(os.pread(self._file, end - begin, begin))
        except OSError as error:
            raise self._unreadable(error) from error

    def damaged(self, what: str) -> RunError:
        """The error for a damaged file."""
        return RunError(
            f"{self._kind.what} {self.path} is damaged ({what}). Restore it from a copy of the run "
            "directory, if there is one; else begin a new run"
        )

    def _unreadable(self, error: OSError) -> RunError:
        return RunError(f"{self._kind.what} {self.path} cannot be read: {error.strerror or error}")

    def _read_contents(self, file: BinaryIO) -> tuple[C, array[int]]:
        size = file.seek(0, os.SEEK_END)
        if size < _TRAILER.size:
            raise self.damaged("it is cut short")
        file.seek(size - _TRAILER.size)
        length, magic = _TRAILER.unpack(file.read(_TRAILER.size))
        begin = size - _TRAILER.size - length
        if not magic.startswith(self._kind.magic) or begin < 0 or length > MAX_PACKED_BYTES:
            raise self.damaged("its end is missing")
        if magic.removeprefix(self._kind.magic) != self._kind.format:
            raise RunError(f"{self._kind.what} {self.path} is of another version of pingdata-async")
        file.seek(begin)
        try:
            contents = self._decoder.decode(decompress(file.read(length)))
            offsets = _offsets(contents.offsets)
        except (DamagedFrameError, msgspec.MsgspecError, ValueError) as error:
            raise self.damaged(f"its table of contents: {error}") from error
        if not offsets or offsets[-1] != begin:
            raise self.damaged("its length is not what its table of contents says")
        return contents, offsets


def _offsets(content: bytes) -> array[int]:
    offsets = array("Q")
    offsets.frombytes(content)
    return _little_endian(offsets)


def _little_endian(offsets: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return offsets
    swapped = array("Q", offsets)
    swapped.byteswap()
    return swapped
