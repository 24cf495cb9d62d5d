"""What all readers share: files and pipes as hashed streams, and input rows as batches.

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
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.postal_codes import POSTAL_CODE, restore_leading_zeros_in
from pingdata_async.locations.words import all_say_something, says_nothing
from pingdata_async.tables.mapping.columns import ColumnMapping, map_columns
from pingdata_async.tables.mapping.headers import key_of
from pingdata_async.tables.mapping.house_numbers import ColumnReader, LostNumbers
from pingdata_async.tables.rows import (
    IN_MEMORY,
    STDIN,
    Batch,
    Fingerprint,
    ReadOptions,
    SheetPlace,
    absolute_path,
    path_text,
)
from pingdata_async.util.compression import ReadableStream
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind, ValueNotes

BUFFER_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Of one row; a row in memory takes up to thirty times its size."""
MAX_BATCH_BYTES = 256 * 1024  # large rows must not pile up in memory

CHECK_WAIT_EVERY_S = 0.2
HASH_BLOCK_BYTES = 1024 * 1024

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0"


# -- Streams ------------------------------------------------------------------------------------


class HashingStream(ReadableStream):
    """Hashes the bytes of an input as they are read; the caller closes the raw stream.

    Args:
        source: The path; "-" for standard input.
        raw: The stream.
        mtime_ns: When the file was last modified; None for other inputs.

    Attributes:
        size_bytes: How many bytes have been read.
    """

    def __init__(self, source: str | Path, raw: io.RawIOBase, mtime_ns: int | None) -> None:
        self._source = source
        self._raw = raw
        self._mtime_ns = mtime_ns
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def file(self) -> io.FileIO | None:
        """The regular file that is read; None if the input can be read only once."""
        raw = self._raw
        if not isinstance(raw, io.FileIO):
            return None
        return raw if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else None

    def second_look(self) -> io.RawIOBase | None:
        """Another stream of the same bytes from the beginning; None if there is no file."""
        file = self.file
        return None if file is None else _SecondLook(file)

    def readinto(self, buffer: Any) -> int:
        """Read and hash a block; raises an InputError if reading fails."""
        try:
            read = self._raw.readinto(buffer) or 0
        except OSError as error:
            raise InputError(
                f"{shown_name(self._source)} cannot be read further: {error.strerror or error}"
            ) from error
        self._hash.update(memoryview(buffer)[:read])
        self.size_bytes += read
        return read

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the bytes read so far."""
        return Fingerprint(
            sha256=self._hash.hexdigest(),
            size_bytes=self.size_bytes,
            given=path_text(self._source),
            path=absolute_path(self._source),
            mtime_ns=self._mtime_ns,
        )


class MemoryHash:
    """Hashes rows in memory as they are read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        """Hash more bytes."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the rows read so far."""
        return Fingerprint(
            sha256=self._hash.hexdigest(), size_bytes=self.size_bytes, given=IN_MEMORY
        )


class _SecondLook(ReadableStream):
    """The bytes of a file from the beginning; leaves its position unchanged."""

    def __init__(self, file: io.FileIO) -> None:
        self._descriptor = file.fileno()
        self._offset = 0

    def readinto(self, buffer: Any) -> int:
        block = os.pread(self._descriptor, len(buffer), self._offset)
        buffer[: len(block)] = block
        self._offset += len(block)
        return len(block)


class TooLongError(Exception):
    """Raised inside a reader when a row does not end within the bytes that it may have."""


class PeekableStream(ReadableStream):
    """A raw stream whose beginning can be peeked at; the caller closes it.

    Attributes:
        given_bytes: How many bytes have been read.
        most_bytes: How many bytes may be read for now; reading more raises a TooLongError.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._ahead = bytearray()
        self._is_at_end = False
        self.given_bytes = 0
        self.most_bytes: float = math.inf

    def peek(self, size_bytes: int) -> bytes:
        """The first bytes; fewer only if there are no more."""
        while len(self._ahead) < size_bytes and not self._is_at_end:
            block = self._raw.read(size_bytes - len(self._ahead))
            self._is_at_end = not block
            self._ahead += block or b""
        return bytes(self._ahead[:size_bytes])

    def readinto(self, buffer: Any) -> int:
        """Read a block, beginning with the bytes that were peeked at."""
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


class _PatientStream(ReadableStream):
    """A pipe or terminal, waited for in a way that can be cancelled.

    Args:
        descriptor: Its file descriptor.
        keep_waiting: Called now and then while it is silent.
        say_nobody_writes: Called once if no process has it open for writing; None if one has.
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
        # Unlike select(), it takes descriptors above 1,023.
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readinto(self, buffer: Any) -> int:
        while not self._poll.poll(CHECK_WAIT_EVERY_S * 1000):
            self._keep_waiting()
            if self._say_nobody_writes is not None:
                # Only a read tells: it would block if another process had it open.
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
    """The name of a source in messages."""
    return "standard input" if str(source) == STDIN else str(source)


@contextlib.contextmanager
def open_source(
    source: str | Path,
    keep_waiting: Callable[[], None] = lambda: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[HashingStream]:
    """Open the bytes of an input; arguments and errors are those of `open_input()`."""
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
    """Read an input to its end for its fingerprint; the rest is as in `open_input()`."""
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
        # Otherwise, opening would block until a writer opens it, and could not be cancelled.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, descriptor)
        say_nobody_writes = on_wait
    else:
        file = stack.enter_context(io.FileIO(source))
        # The time before reading: a file that changes meanwhile must not match.
        return HashingStream(source, file, os.fstat(file.fileno()).st_mtime_ns)
    stream = _PatientStream(descriptor, keep_waiting, say_nobody_writes)
    return HashingStream(source, stream, None)


# -- Readers ------------------------------------------------------------------------------------

_PLUS_4 = ("4", "four")
"""The ends of the key of a header such as "ZIP+4"."""


class FileInput(NamedTuple):
    """A file or pipe that is about to be read."""

    name: str  # the input, for messages
    source: HashingStream  # the stream that hashes its bytes
    content: PeekableStream  # the bytes to read
    keep_waiting: Callable[[], None]  # called now and then; may raise to stop reading


class InputReader(ABC):
    """Reads the records of an input in order, as batches; iterate it once.

    Args:
        name: The input, for messages.
        source: Hashes the input as it is read.
        options: How to read it.

    Attributes:
        headers: The headers of its columns, also empty and repeated ones, known with the first
            batch; of JSON, the names of all members in the order in which they were first seen,
            complete at the end.
        mapping: The meaning of the columns; known when `headers` are.
        rows: The number of records before the present batch.
        sheet_place: Where the records so far are in a workbook; None for other inputs.
        values: The values that the reader itself changed or left out, by header.

    Raises:
        InputError: While iterated, if the input cannot be read further or holds nothing usable;
            names the line or row.
    """

    def __init__(self, name: str, source: HashingStream | MemoryHash, options: ReadOptions) -> None:
        self.name = name
        self.options = options
        self.headers: tuple[str, ...] = ()
        self.mapping = ColumnMapping((), ())
        self.rows = 0
        self.sheet_place: SheetPlace | None = None
        self.values = ValueNotes()
        self._input_hash = source
        self._notes: list[str] = []
        self._lost_numbers = LostNumbers()
        self._notes_at_end: list[Callable[[], str | None]] = []

    def __iter__(self) -> Iterator[Batch]:
        """Read the records."""
        for batch in self._batches():
            yield batch
            self.rows += len(batch.locations)
        self._lost_numbers.check(self.name)

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """Read the records."""

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what has been read: of the whole input, at the end."""
        return self._input_hash.fingerprint()

    @property
    def share_read(self) -> float | None:
        """The part of the file that has been read; None where rows do not follow its bytes."""
        source = self._input_hash
        file = source.file if isinstance(source, HashingStream) else None
        size_bytes = 0 if file is None else os.fstat(file.fileno()).st_size
        # A workbook is read through before its first row.
        return source.size_bytes / size_bytes if source.size_bytes < size_bytes else None

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """The columns so far that no field is read from, in order."""
        return self.mapping.unused

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the reading, a sentence each; complete at the end."""
        at_end = [note for tell in self._notes_at_end if (note := tell()) is not None]
        return (*self._notes, *at_end, *self._counted())

    def all_values(self, normalized: ValueNotes) -> ValueNotes:
        """The values that are not sent as they are, by column; `normalized` has those by field."""
        all_values = ValueNotes()
        all_values.take_over(self.values, {})
        all_values.take_over(normalized, self._headers_by_field())
        return all_values

    def note_at_end(self, tell: Callable[[], str | None]) -> None:
        """Add a note that is only known at the end."""
        self._notes_at_end.append(tell)

    def _map_headers(self, headers: tuple[str, ...]) -> None:
        """Map the columns, now that all headers are known."""
        self.headers = headers
        self.mapping = map_columns(self.name, headers, given=self.options.mapping)

    def _counted(self) -> list[str]:
        """The reader's own notes that are only known at the end."""
        return []

    def _located(
        self,
        columns: Sequence[Sequence[Any]],
        *,
        are_texts: bool,
        places: Sequence[int] | None = None,
        unused: ColumnReader | None = None,
    ) -> Columns:
        """The locations of some rows.

        Args:
            columns: All columns of the input; those that are not mapped may be empty.
            are_texts: Whether all cells are texts.
            places: The places of the rows in the present batch; None if they are all of it.
            unused: Returns a column that is not mapped; None if `columns` holds them.
        """
        self._lost_numbers.take_up(self.mapping, self.headers, self.options.mapping)
        self._lost_numbers.add(columns, unused or columns.__getitem__)
        parts = self._parts_that_say_something(columns, places, are_texts=are_texts)
        noted = NotedBatch()
        located = self.mapping.located(parts, are_texts=are_texts, noted=noted)
        self._note_by_header(noted, places)
        header = self._headers_by_field().get(POSTAL_CODE, "")
        located, noted = restore_leading_zeros_in(
            located, may_be_plus_4=key_of(header).endswith(_PLUS_4)
        )
        self._note_by_header(noted, places)
        return located

    def _used_places(self) -> frozenset[int]:
        """The places of the columns that are mapped."""
        return frozenset(place for column in self.mapping.columns for place in column.places)

    def _parts_that_say_something(
        self,
        columns: Sequence[Sequence[Any]],
        places: Sequence[int] | None,
        *,
        are_texts: bool,
    ) -> Sequence[Sequence[Any]]:
        """The columns, without words for nothing in those that are joined.

        Joined with others, such a word would not be recognized: "N/A Main St".
        """
        found = list(columns)
        for mapped in self.mapping.columns:
            is_joined = len(mapped.places) > 1 and mapped.field != "id"
            for place in mapped.places if is_joined else ():
                texts = [
                    cell.strip() if are_texts or isinstance(cell, str) else ""
                    for cell in columns[place]
                ]
                if not all_say_something(texts):
                    found[place] = cells = list(columns[place])
                    for row, text in enumerate(texts):
                        if says_nothing(text):
                            header = self.headers[place]
                            noted = NotedValue(header, ValueKind.SAYS_NOTHING, cells[row])
                            self.values.add(self._row(row, places), noted)
                            cells[row] = ""
        return found

    def _row(self, place: int, places: Sequence[int] | None) -> int:
        """The number of a row of the present batch."""
        return self.rows + (place if places is None else places[place])

    def _note_by_header(self, noted: NotedBatch, places: Sequence[int] | None = None) -> None:
        """Count values of the present batch by header."""
        if not noted:
            return
        headers = self._headers_by_field()
        for place, values in noted.items():
            for value in values:
                self.values.add(
                    self._row(place, places), value._replace(column=headers[value.column])
                )

    def _headers_by_field(self) -> dict[str, str]:
        return {each.field: " + ".join(each.headers) for each in self.mapping.columns}
