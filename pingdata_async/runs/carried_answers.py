"""What rows that recur were answered, from where it is written first to where it comes again.

An output is written in the order of the input. The first of equal rows comes before the others,
so its answer is at hand then: it is put down in a file of its own, and a row that repeats it reads
it back with two small reads. The body that it came in is never read, and inflated, once more.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pingdata_async.bulk.chunks import Chunk, Twin
from pingdata_async.exceptions import RunError
from pingdata_async.models import EnhancedLocation, RowStatus
from pingdata_async.runs.filesystem import open_nameless, write_pieces
from pingdata_async.tables.jsonl import RowNote

_ENTRY = struct.Struct("<QII")  # where an answer begins, its bytes, and those of the note behind

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RowNote)


class CarriedAnswer(msgspec.Struct, frozen=True):
    """How a row ended that others repeat.

    Attributes:
        data: The API's object.
        note: What else there is to be said; None where it is ok.
    """

    data: bytes | memoryview
    note: RowNote | None = None

    @classmethod
    def of(cls, result: EnhancedLocation) -> Self:
        """The same of an outcome."""
        note = None
        if result.reason is not None:
            note = RowNote(result.status, result.reason, result.error or "")
        return cls(memoryview(result.data), note)

    def for_row(self, twin: Twin) -> EnhancedLocation:
        """The outcome of a row that repeats it."""
        data = msgspec.Raw(self.data)
        if self.note is None:
            return EnhancedLocation(twin.shown_id, twin.row, RowStatus.OK, None, None, data)
        return EnhancedLocation(
            twin.shown_id, twin.row, self.note.status, self.note.reason, self.note.error, data
        )


class CarriedAnswers:
    """Answers of the rows that recur, on disk, while an output is written; a context manager.

    The files have no names: nothing is left of them, however the process ends. Nothing that
    grows with the rows is in memory. Everything blocks.

    Args:
        folder: On whose disk they are; where that cannot be written, they are where the system
            has its temporary files. None for there.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._answers: io.FileIO | None = None
        self._entries: io.FileIO | None = None  # one for each row, at its number
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """Forget everything: the output is written from its beginning."""
        for file in (self._answers, self._entries):
            if file is not None:
                file.close()
        self._answers = self._entries = None
        self._end = 0

    def twins_of(
        self, chunk: Chunk, answers: Mapping[int, CarriedAnswer]
    ) -> dict[int, CarriedAnswer]:
        """How the rows of a chunk ended that repeat others. Ask for the chunks in their order.

        Args:
            chunk: A planned chunk.
            answers: By number of a row of this chunk that others repeat, how it ended; those
                without an outcome are not there.

        Returns:
            By place among the chunk's twins, how they ended, of those that have.

        Raises:
            RunError: When the disk cannot be used.
        """
        try:
            self._keep(chunk, answers)
            found = {}
            for place, twin in enumerate(chunk.twins):
                answer = answers.get(twin.first)
                if answer is None:
                    answer = self._read(twin.first)
                if answer is not None:
                    found[place] = answer
        except OSError as error:
            raise RunError(
                f"answers that are wanted again cannot be kept: {error.strerror or error}"
            ) from error
        return found

    def _keep(self, chunk: Chunk, answers: Mapping[int, CarriedAnswer]) -> None:
        """Keep what is wanted in later chunks."""
        here = Counter(twin.first for twin in chunk.twins)
        copies = chunk.copies_by_row()
        kept = {row: each for row, each in answers.items() if copies[row] > here[row]}
        if not kept:
            return
        notes = [b"" if each.note is None else _encoder.encode(each.note) for each in kept.values()]
        pieces: list[bytes | memoryview] = []
        for each, note in zip(kept.values(), notes, strict=True):
            pieces += (each.data, note)
        begins = accumulate(map(len, pieces), initial=self._end)
        first = min(kept)
        entries = bytearray(_ENTRY.size * (max(kept) - first + 1))
        for row, note, each, begin in zip(
            kept, notes, kept.values(), list(begins)[:-1:2], strict=True
        ):
            _ENTRY.pack_into(entries, (row - first) * _ENTRY.size, begin, len(each.data), len(note))
        self._answers = self._answers or self._opened()
        self._entries = self._entries or self._opened()
        write_pieces(self._answers.fileno(), pieces)
        self._end += sum(map(len, pieces))
        os.pwrite(self._entries.fileno(), entries, first * _ENTRY.size)

    def _read(self, row: int) -> CarriedAnswer | None:
        if self._entries is None or self._answers is None:
            return None
        entry = os.pread(self._entries.fileno(), _ENTRY.size, row * _ENTRY.size)
        if len(entry) < _ENTRY.size:
            return None
        begin, size, note_size = _ENTRY.unpack(entry)
        if not size:
            return None
        content = os.pread(self._answers.fileno(), size + note_size, begin)
        note = _decoder.decode(content[size:]) if note_size else None
        return CarriedAnswer(content[:size] if note_size else content, note)

    def _opened(self) -> io.FileIO:
        if self._folder is not None:
            try:
                return open_nameless(self._folder)
            except OSError:  # a run that is only to be read
                pass
        return open_nameless(Path(tempfile.gettempdir()))
