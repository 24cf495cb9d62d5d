"""Raw bytes of an input, and what tells one input from another.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.exceptions import InputError

STDIN = "-"
CHECK_WAIT_EVERY_S = 0.2
HASH_BLOCK_BYTES = 1024 * 1024


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What tells an input from any other.

    Attributes:
        sha256: Of its bytes, in hexadecimal, as `sha256sum FILE` prints it.
        size_bytes: How many there were.
        given: The path as it was given; "-" for standard input.
        path: The absolute path; None for standard input.
        mtime_ns: When the file was last changed, before it was read; None for standard
            input and pipes.
    """

    sha256: str
    size_bytes: int
    given: str
    path: str | None = None
    mtime_ns: int | None = None

    def is_same_file(self, source: str | Path) -> bool:
        """Whether a source is this very file, by path, size and time, without reading it.

        False says nothing: the content may be the same all the same.
        """
        if self.mtime_ns is None or self.path != _absolute(source):
            return False
        try:
            now = Path(source).stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def is_gone(self) -> bool:
        """Whether it was a file, and there is none of that name any more."""
        return self.path is not None and not os.path.lexists(self.path)

    def is_of(self, source: str | Path) -> bool:
        """Whether it was made of a source of this name."""
        return self.path is not None and self.path == _absolute(source)


class HashingStream(io.RawIOBase):
    """A raw stream whose bytes are hashed as they are read, so that once is enough.

    Args:
        source: Its path, "-" for standard input.
        raw: The stream; still the caller's to close.
        mtime_ns: When the file was last changed; None for what is no file.

    Attributes:
        size_bytes: How many have been read.
    """

    def __init__(self, source: str | Path, raw: io.RawIOBase, mtime_ns: int | None) -> None:
        self._source = source
        self._raw = raw
        self._mtime_ns = mtime_ns
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def file(self) -> io.FileIO | None:
        """The regular file that is read; None for what can be read only once."""
        raw = self._raw
        if not isinstance(raw, io.FileIO):
            return None
        return raw if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else None

    def second_look(self) -> io.RawIOBase | None:
        """Another stream of the same bytes, from their beginning; None where there is none."""
        file = self.file
        return None if file is None else _SecondLook(file)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read and hash a block.

        Raises:
            InputError: When it cannot be read on.
        """
        try:
            read = self._raw.readinto(buffer) or 0
        except OSError as error:
            raise InputError(
                f"{shown_name(self._source)} cannot be read on: {error.strerror or error}"
            ) from error
        self._hash.update(memoryview(buffer)[:read])
        self.size_bytes += read
        return read

    def fingerprint(self) -> Fingerprint:
        """Of what has been read; that of the whole input once it was read to its end."""
        return Fingerprint(
            sha256=self._hash.hexdigest(),
            size_bytes=self.size_bytes,
            given=_text(self._source),
            path=_absolute(self._source),
            mtime_ns=self._mtime_ns,
        )


class _SecondLook(io.RawIOBase):
    """A file's bytes from the beginning, without moving on in it."""

    def __init__(self, file: io.FileIO) -> None:
        self._descriptor = file.fileno()
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = os.pread(self._descriptor, len(buffer), self._offset)
        buffer[: len(block)] = block
        self._offset += len(block)
        return len(block)


class TooLongError(Exception):
    """Raised inside a reader when what should be one row has no end in sight."""


class PeekableStream(io.RawIOBase):
    """A raw stream whose beginning can be looked at before it is read.

    Args:
        raw: The stream; still the caller's to close.

    Attributes:
        given_bytes: How many have been read from this one.
        most_bytes: How many may be, for now; whoever reads more gets a TooLongError.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._ahead = bytearray()
        self._is_at_end = False
        self.given_bytes = 0
        self.most_bytes: float = math.inf

    def peek(self, size_bytes: int) -> bytes:
        """As many bytes from the beginning; fewer only where there are no more."""
        while len(self._ahead) < size_bytes and not self._is_at_end:
            block = self._raw.read(size_bytes - len(self._ahead))
            self._is_at_end = not block
            self._ahead += block or b""
        return bytes(self._ahead[:size_bytes])

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read a block: what was looked at first."""
        if self._ahead:
            block = self._ahead[: len(buffer)]
            del self._ahead[: len(buffer)]
            buffer[: len(block)] = block
            read = len(block)
        else:
            read = self._raw.readinto(buffer) or 0
        self.given_bytes += read
        if self.given_bytes > self.most_bytes:
            raise TooLongError
        return read


class _PatientStream(io.RawIOBase):
    """A pipe or terminal that is waited for without being deaf to cancellation.

    Args:
        descriptor: Of it.
        keep_waiting: Called now and then while it gives nothing.
        say_nobody_writes: Called where nobody has it open to write into it, once; None if there
            is surely somebody.
    """

    def __init__(
        self,
        descriptor: int,
        keep_waiting: Callable[[], None],
        say_nobody_writes: Callable[[], None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._keep_waiting = keep_waiting
        self._say_nobody_writes = say_nobody_writes
        # Unlike select(), at ease with descriptors above 1,023.
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._poll.poll(CHECK_WAIT_EVERY_S * 1000):
            self._keep_waiting()
            if self._say_nobody_writes is not None:
                # Only reading tells: where somebody is there, it would have to wait.
                with contextlib.suppress(BlockingIOError):
                    read = self._read(buffer)
                    if read:
                        return read
                    self._say_nobody_writes()
                self._say_nobody_writes = None
        return self._read(buffer)

    def _read(self, buffer: Any) -> int:
        block = os.read(self._descriptor, len(buffer))
        buffer[: len(block)] = block
        return len(block)


def shown_name(source: str | Path) -> str:
    """What a source is called in messages."""
    return "standard input" if str(source) == STDIN else str(source)


@contextlib.contextmanager
def open_source(
    source: str | Path,
    keep_waiting: Callable[[], None] = lambda: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[HashingStream]:
    """Open an input's bytes; the arguments are those of `readers.open_input()`.

    Raises:
        InputError: When it cannot be opened.
    """
    if str(source) == STDIN and sys.stdin is None:
        raise InputError("standard input is closed")
    with contextlib.ExitStack() as stack:
        try:
            stream = _open(source, keep_waiting, on_wait, stack)
        except OSError as error:
            raise InputError(
                f"{shown_name(source)} cannot be read: {error.strerror or error}"
            ) from error
        yield stream


def fingerprint_of(
    source: str | Path,
    keep_waiting: Callable[[], None] = lambda: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """Read an input only to tell which one it is.

    Args:
        source: Its path, "-" for standard input, which is used up by it.
        keep_waiting: Called now and then; may raise to end the reading.
        on_wait: As of `readers.open_input()`.

    Raises:
        InputError: When it cannot be read.
    """
    buffer = bytearray(HASH_BLOCK_BYTES)
    with open_source(source, keep_waiting, on_wait) as stream:
        while stream.readinto(buffer):
            keep_waiting()
        return stream.fingerprint()


def _open(
    source: str | Path,
    keep_waiting: Callable[[], None],
    on_wait: Callable[[], None],
    stack: contextlib.ExitStack,
) -> HashingStream:
    say_nobody_writes = None
    if str(source) == STDIN:
        descriptor = sys.stdin.fileno()
    elif stat.S_ISFIFO(Path(source).stat().st_mode):
        # Otherwise opening it would wait for a writer, out of reach of any cancellation.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, descriptor)
        say_nobody_writes = on_wait
    else:
        file = stack.enter_context(io.FileIO(source))
        # The time before reading: a file that changes meanwhile is not taken for this one.
        return HashingStream(source, file, os.fstat(file.fileno()).st_mtime_ns)
    stream = _PatientStream(descriptor, keep_waiting, say_nobody_writes)
    return HashingStream(source, stream, None)


def _absolute(source: str | Path) -> str | None:
    return None if str(source) == STDIN else _text(Path(source).absolute())


def _text(path: str | Path) -> str:
    # Names that are not UTF-8 cannot be written down as they are; these stay different.
    return os.fsencode(path).decode("utf-8", "backslashreplace")
