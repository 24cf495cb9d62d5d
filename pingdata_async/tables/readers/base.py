"""What all readers share: files and pipes as hashed streams, and rows as batches.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pingdata_async.exceptions import InputError
from pingdata_async.locations.missing_values import all_say_something, says_nothing
from pingdata_async.locations.normalize import Columns
from pingdata_async.locations.postal_codes import POSTAL_CODE, restore_leading_zeros_in
from pingdata_async.tables.mapping.columns import ColumnMapping, map_columns
from pingdata_async.tables.mapping.headers import key_of
from pingdata_async.tables.mapping.house_numbers import ColumnReader, LostNumbers
from pingdata_async.tables.rows import (
    STDIN,
    Batch,
    Fingerprint,
    ReadOptions,
    SheetPlace,
    absolute_path,
    path_text,
)
from pingdata_async.util.text import counted
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind, ValueNotes

BUFFER_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Of one row. Read with all that is made of it, it takes up to thirty times that."""
MAX_BATCH_BYTES = 256 * 1024  # rows that are larger than most must not pile up in memory

IN_MEMORY = "rows in memory"
"""What Python objects are called in messages, and in a fingerprint."""
CHECK_WAIT_EVERY_S = 0.2
HASH_BLOCK_BYTES = 1024 * 1024


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
            given=path_text(self._source),
            path=absolute_path(self._source),
            mtime_ns=self._mtime_ns,
        )


class MemoryHash:
    """Hashes rows in memory as they are read.

    Attributes:
        size_bytes: How many bytes have been hashed.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        """Hash some more."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def fingerprint(self) -> Fingerprint:
        """Of what has been read."""
        return Fingerprint(
            sha256=self._hash.hexdigest(), size_bytes=self.size_bytes, given=IN_MEMORY
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


_PLUS_4 = ("4", "four")
"""What the key of a header such as "ZIP+4" ends with."""


class InputReader(ABC):
    """Records of an input, in order, as batches; iterate it once.

    Args:
        name: The input, for messages.
        source: What hashes the input as it is read.
        options: How it is to be understood.

    Attributes:
        name: The input, for messages.
        options: How it is to be understood.
        headers: Of its columns in order, as they stand there, empty and repeated ones as well;
            for JSON the names of all fields, as they came first. Known with the first batch; of
            JSON, complete at the end.
        mapping: Which of them hold what; known when `headers` are.
        rows: Data records before the batch that is being read.
        sheet_place: Where in a workbook they stand, up to now; None for other inputs.
        values: Those that the reader itself changed or left out, by the header of their column.

    Raises:
        InputError: While iterated, naming the line or row, when the input cannot be read on;
            nothing usable in it is an error too.
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
        """The records."""
        for batch in self._batches():
            yield batch
            self.rows += len(batch.locations)
        self._lost_numbers.check(self.name)

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """The same."""

    def fingerprint(self) -> Fingerprint:
        """Of what has been read; that of the whole input once it was iterated to its end."""
        return self._input_hash.fingerprint()

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """Columns seen so far that mean nothing to the API, in their order."""
        return self.mapping.unused

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the input was understood, a sentence each.

        Complete once it was iterated to its end.
        """
        at_end = [note for tell in self._notes_at_end if (note := tell()) is not None]
        return (*self._notes, *at_end, *self._counted())

    def all_values(self, normalized: ValueNotes) -> ValueNotes:
        """Values that are not sent as they stand, by column, once all was read.

        Args:
            normalized: What was noted of them by field, when they were prepared.
        """
        all_values = ValueNotes()
        all_values.take_over(self.values, {})
        all_values.take_over(normalized, self._headers_by_field())
        return all_values

    def note_at_end(self, tell: Callable[[], str | None]) -> None:
        """Have somebody asked for a note once all was read."""
        self._notes_at_end.append(tell)

    def _map_headers(self, headers: tuple[str, ...]) -> None:
        """Find out which of the input's columns holds what, now that all are known."""
        self.headers = headers
        self.mapping = map_columns(self.name, headers, given=self.options.mapping)

    def _counted(self) -> list[str]:
        """Notes that are only known at the end."""
        return []

    def _located(
        self,
        columns: Sequence[Sequence[Any]],
        *,
        are_texts: bool,
        places: Sequence[int] | None = None,
        unused: ColumnReader | None = None,
    ) -> Columns:
        """Rows as locations; columns that are not mapped may be empty.

        Args:
            columns: All columns of the input.
            are_texts: Whether all their cells are texts.
            places: Those of the rows in the batch that is being read; None where they are all.
            unused: Gives a column that is not mapped; None where `columns` has all of them.
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
        """The columns that are mapped."""
        return frozenset(place for column in self.mapping.columns for place in column.places)

    def _parts_that_say_something(
        self,
        columns: Sequence[Sequence[Any]],
        places: Sequence[int] | None,
        *,
        are_texts: bool,
    ) -> Sequence[Sequence[Any]]:
        """The columns without words for nothing in those of which several are joined.

        Joined with others they are no words for nothing any more: "N/A Main St".
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
        """The number of a row of the batch that is being read."""
        return self.rows + (place if places is None else places[place])

    def _note_by_header(self, noted: NotedBatch, places: Sequence[int] | None = None) -> None:
        """Count values of the batch that is being read, by the header of their column."""
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


def left_out_note(rows: Mapping[str, int]) -> str | None:
    """Such as "2 empty rows, 1 total row and 1 footnote left out"; None where there are none.

    Args:
        rows: How many are left out, by what one is called.
    """
    shown = [counted(number, what) for what, number in rows.items() if number]
    if not shown:
        return None
    *first, last = shown
    return f"{', '.join(first)}{' and ' if first else ''}{last} left out"
