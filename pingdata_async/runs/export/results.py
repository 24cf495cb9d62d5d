"""Spool and journal to the outcome of each row, duplicates included.

A row may have been in several chunks: the planned one, parts of it, and later ones of rows that
were retried. What the last settled one says of it holds.

An output is written in the order of the input, so the first of equal rows comes before the others.
Its answer is put into a file of its own, and a row that repeats it reads it back with two small
reads; the body that it came in is never read and inflated once more.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self

import msgspec

from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.locations.chunk import (
    Chunk,
    Duplicate,
    shown_id,
    skipped_sources,
    wanted_sources,
)
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import judge_location, unanswered
from pingdata_async.results.validation import Failure, invalid_results, split_body
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.reused import ReusedAnswers
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import ChunkRecord, ChunkState, SpoolPlace
from pingdata_async.tables.writers.json import RowNote
from pingdata_async.util.files import Closing, open_nameless, write_pieces

KEPT_BODIES = 4
KEPT_BYTES = 64 * 1024 * 1024

_NOTHING = b"{}"
_LEFT_OUT = Failure(Reason.MISSING, "the API's answer left this location out")

_Body = dict[str, msgspec.Raw]
Marks = dict[int, dict[str, str]]  # by row and source, from which run a reused answer is


class RowResults(msgspec.Struct, frozen=True):
    """How far a planned chunk has come.

    Attributes:
        settled: The outcome of each row that has one, in the order of the rows.
        unsettled: The numbers of the others, ascending.
    """

    settled: list[EnhancedLocation]
    unsettled: list[int]


class SettledChunk(msgspec.Struct, frozen=True):
    """A planned chunk and how its rows ended: found in one output, or pieced together.

    Attributes:
        chunk: As it was planned.
        offset_index: The usual: where in the content the answer to each row sent is; None where
            rows were split off or retried, or the output was unusual.
        content: The output, inflated; b"" where there is no index.
        pieced: Without an index, what is known of each row.
    """

    chunk: Chunk
    offset_index: OffsetIndex | None = None
    content: bytes = b""
    pieced: RowResults | None = None

    def outcomes(self) -> RowResults:
        """The outcome of each row that repeats no other; made when asked for."""
        if self.offset_index is None:
            return self.pieced or RowResults([], self.chunk.rows)
        # Nobody keeps them longer than the chunk, so that nothing need be copied.
        settled = self.offset_index.results(self.chunk, memoryview(self.content))
        settled += invalid_results(self.chunk)
        settled.sort(key=lambda result: result.row)
        return RowResults(settled, [])

    def answers(self) -> Iterator[memoryview | msgspec.Raw]:
        """The API's answers for the rows that have an outcome, and no others."""
        if self.offset_index is None:
            yield from (result.data for result in self.outcomes().settled)
            return
        view, index = memoryview(self.content), self.offset_index
        for begin, length in zip(index.begins, index.lengths, strict=True):
            yield view[begin : begin + length]


class ResultReader:
    """The outcomes of planned chunks, from spool and journal.

    A later chunk may hold rows of many planned ones, so the bodies of the last few are
    kept. Everything here blocks: call it in a thread, one call at a time.

    Args:
        spool: What was answered.
        journal: What became of each chunk. What it says of one planned chunk must be of one moment:
            else a row that is moving from one chunk to another could be taken for settled.
        sources: The run's sources.
        keep_earlier: Whether a row that had ended and is retried has the outcome
            that it had, until there is a new one; if not, it is unsettled.
    """

    def __init__(
        self,
        spool: Spool,
        journal: JournalReader,
        sources: tuple[str, ...],
        *,
        keep_earlier: bool = False,
    ) -> None:
        self._spool = spool
        self._journal = journal
        self._sources = sources
        self._reused = ReusedAnswers(spool.folder.parent)
        self._keep_earlier = keep_earlier
        self._later_bodies = _RecentBodies()

    def outcomes(self, planned: Chunk) -> RowResults:
        """The outcome of each row of a planned chunk, of what there is now.

        Raises:
            RunError: When an answer that there should be is missing or damaged.
        """
        return self.settled(planned).outcomes()

    def settled(self, planned: Chunk) -> SettledChunk:
        """A planned chunk with what there is of it now. Raises as `outcomes()`."""
        indexed = self.indexed(planned)
        reused = self._reused.of_chunk(planned.index)
        if indexed is not None:  # the usual chunk: nothing is to be judged again
            settled = SettledChunk(planned, *indexed)
            if reused is None:
                return settled
            return SettledChunk(planned, pieced=_marked(settled.outcomes(), reused.marks))
        marks = reused.marks if reused else {}
        return SettledChunk(planned, pieced=_marked(self._pieced_together(planned, marks), marks))

    def read_if_ended(self, index: int, plan: Plan) -> SettledChunk | None:
        """A planned chunk all of whose rows have ended, as it stays; None as long as some have not.

        Raises:
            RunError: As `outcomes()`, or when the plan is damaged.
        """
        return self.settled(plan.read(index)) if self._journal.has_ended(index) else None

    def _pieced_together(self, planned: Chunk, marks: Marks) -> RowResults:
        found: dict[int, EnhancedLocation | None] = dict.fromkeys(planned.rows)
        if planned.rows:
            everywhere = range(len(planned.rows))
            record = self._journal.record(planned.index)
            waiting = self._journal.waiting_rows(planned.index)
            reopened = self._journal.reopened_rows(planned.index) if self._keep_earlier else {}
            earlier: dict[int, EnhancedLocation | None] = {}
            if record is not None:
                self._lay(found, planned, everywhere, record)
            for later in self._journal.later_chunks_of(planned.index):
                if later.chunk is None:
                    raise RunError(f"the journal does not say what chunk {later.index} is")
                for row, before in reopened.items():
                    if before <= later.index:
                        earlier.setdefault(row, found[row])
                places = [
                    place
                    for place, known in enumerate(later.chunk.earlier)
                    if known.planned_chunk == planned.index
                ]
                self._lay(found, later.chunk, places, later)
                if later.state is ChunkState.SPOOLED:
                    self._unmark(marks, later.chunk, places)
            for row in reopened:
                earlier.setdefault(row, found[row])
            found.update(dict.fromkeys(waiting & found.keys()))
            found.update((row, earlier[row]) for row in reopened if found[row] is None)
        settled = [result for result in found.values() if result is not None]
        settled += invalid_results(planned)
        settled.sort(key=lambda result: result.row)
        return RowResults(settled, sorted(row for row, result in found.items() if result is None))

    def _unmark(self, marks: Marks, chunk: Chunk, places: Sequence[int]) -> None:
        """What a later job was asked for is not reused any more."""
        for place in places:
            mark = marks.get(chunk.rows[place], {})
            for code in chunk.sources.get(place, self._sources):
                mark.pop(code, None)

    def indexed(self, planned: Chunk) -> tuple[OffsetIndex, bytes] | None:
        """Where a planned chunk's answers are in its body, and that body.

        None where more has to be known of its rows than that, or it is not known.

        Raises:
            RunError: As `outcomes()`.
        """
        index, journal = planned.index, self._journal
        record = journal.record(index)
        if record is None or record.state is not ChunkState.SPOOLED or record.offset_index is None:
            return None
        # In this order: a row moves from the waiting ones into a later chunk.
        if journal.waiting_rows(index) or journal.later_chunks_of(index):
            return None
        content = self._content(planned, record)
        return (
            (record.offset_index, content) if record.offset_index.fits(planned, content) else None
        )

    def _lay(
        self,
        found: dict[int, EnhancedLocation | None],
        chunk: Chunk,
        places: Sequence[int],
        record: ChunkRecord,
    ) -> None:
        """Put what one chunk says of these rows over what earlier ones said."""
        match record.state:
            case "spooled":
                self._lay_answers(found, chunk, places, self._body(chunk, record), _LEFT_OUT)
            case "failed":
                if record.failure is None:
                    raise RunError(f"the journal does not say why chunk {chunk.index} failed")
                self._lay_answers(found, chunk, places, {}, record.failure)
            case "split":  # its parts hold the rows, and come later
                pass
            case _:
                for place in places:
                    found[chunk.rows[place]] = None

    def _lay_answers(
        self,
        found: dict[int, EnhancedLocation | None],
        chunk: Chunk,
        places: Sequence[int],
        body: _Body,
        otherwise: Failure,
    ) -> None:
        for place in places:
            row, own_id = chunk.rows[place], chunk.ids[place]
            known_by = shown_id(row, own_id)
            data = body.get(str(row))
            if data is None and chunk.earlier and chunk.earlier[place].data != _NOTHING:
                # What was answered before was paid for, and is not lost with this chunk.
                data = msgspec.Raw(chunk.earlier[place].data)
            if data is None:
                found[row] = unanswered(
                    row=row, user_id=known_by, reason=otherwise.reason, error=otherwise.error
                )
            else:
                wanted = wanted_sources(chunk, place, self._sources)
                found[row] = judge_location(
                    row=row,
                    user_id=known_by,
                    data=data,
                    sources=wanted,
                    skipped=skipped_sources(chunk, place),
                )

    def _body(self, chunk: Chunk, record: ChunkRecord) -> _Body:
        body = self._later_bodies.get(chunk.index)
        if body is None:
            content = self._content(chunk, record)
            try:
                body = split_body(content)
            except DecodeError as error:
                shown = self._spool.shown(chunk.index, _place_of(record))
                raise RunError(f"{shown}: {error}") from error
            if not chunk.is_planned:
                self._later_bodies.add(chunk.index, body, len(content))
        return body

    def _content(self, chunk: Chunk, record: ChunkRecord) -> bytes:
        return self._spool.read(chunk.index, _place_of(record))


def _marked(found: RowResults, marks: Marks) -> RowResults:
    """The same outcomes, with what of them is reused."""
    if not marks:
        return found
    settled = [
        msgspec.structs.replace(each, reused=mark) if (mark := marks.get(each.row)) else each
        for each in found.settled
    ]
    return RowResults(settled, found.unsettled)


def _place_of(record: ChunkRecord) -> SpoolPlace:
    if record.place is None:
        raise RunError(f"the journal does not say where the answers to chunk {record.index} are")
    return record.place


class _RecentBodies:
    """The last few bodies, as long as they are not too large together."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[int, tuple[_Body, int]] = OrderedDict()
        self._bytes = 0

    def get(self, index: int) -> _Body | None:
        if index not in self._bodies:
            return None
        self._bodies.move_to_end(index)
        return self._bodies[index][0]

    def add(self, index: int, body: _Body, size_bytes: int) -> None:
        self._bodies[index] = (body, size_bytes)
        self._bytes += size_bytes
        while len(self._bodies) > KEPT_BODIES or self._bytes > KEPT_BYTES:
            _, (_, dropped_bytes) = self._bodies.popitem(last=False)
            self._bytes -= dropped_bytes


_ENTRY = struct.Struct("<QII")  # where an answer begins, its bytes, and those of the note behind

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[RowNote | None, dict[str, str] | None])


class DuplicateAnswer(msgspec.Struct, frozen=True):
    """The outcome of a row that has duplicates.

    Attributes:
        data: The API's object.
        note: What else there is to be said; None where it is ok.
        reused: From which runs answers are reused, by source; None where none is.
    """

    data: bytes | memoryview
    note: RowNote | None = None
    reused: Mapping[str, str] | None = None

    @classmethod
    def of(cls, result: EnhancedLocation) -> Self:
        """The same of an outcome."""
        note = None
        if result.reason is not None:
            note = RowNote(result.status, result.reason, result.error or "")
        return cls(memoryview(result.data), note, result.reused)

    def for_row(self, duplicate: Duplicate) -> EnhancedLocation:
        """The outcome of a duplicate."""
        note = self.note
        return EnhancedLocation(
            duplicate.shown_id,
            duplicate.row,
            RowStatus.OK if note is None else note.status,
            None if note is None else note.reason,
            None if note is None else note.error,
            msgspec.Raw(self.data),
            self.reused,
        )


class DuplicateAnswers(Closing):
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

    def close(self) -> None:
        """Give the disk back."""
        self.clear()

    def clear(self) -> None:
        """Forget everything: the output is written from its beginning."""
        for file in (self._answers, self._entries):
            if file is not None:
                file.close()
        self._answers = self._entries = None
        self._end = 0

    def duplicates_of(
        self, chunk: Chunk, answers: Mapping[int, DuplicateAnswer]
    ) -> dict[int, DuplicateAnswer]:
        """How the rows of a chunk ended that repeat others. Ask for the chunks in their order.

        Args:
            chunk: A planned chunk.
            answers: By number of a row of this chunk that others repeat, how it ended; those
                without an outcome are not there.

        Returns:
            By place among the chunk's duplicates, how they ended, of those that have.

        Raises:
            RunError: When the disk cannot be used.
        """
        try:
            self._keep(chunk, answers)
            found = {}
            for place, duplicate in enumerate(chunk.duplicates):
                answer = answers.get(duplicate.first)
                if answer is None:
                    answer = self._read(duplicate.first)
                if answer is not None:
                    found[place] = answer
        except OSError as error:
            raise RunError(
                f"answers that are wanted again cannot be kept: {error.strerror or error}"
            ) from error
        return found

    def _keep(self, chunk: Chunk, answers: Mapping[int, DuplicateAnswer]) -> None:
        """Store the answers that later chunks need."""
        here = Counter(duplicate.first for duplicate in chunk.duplicates)
        duplicate_counts = chunk.duplicate_counts_by_row()
        kept = {row: each for row, each in answers.items() if duplicate_counts[row] > here[row]}
        if not kept:
            return
        notes = [
            _encoder.encode((each.note, each.reused)) if each.note or each.reused else b""
            for each in kept.values()
        ]
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

    def _read(self, row: int) -> DuplicateAnswer | None:
        if self._entries is None or self._answers is None:
            return None
        entry = os.pread(self._entries.fileno(), _ENTRY.size, row * _ENTRY.size)
        if len(entry) < _ENTRY.size:
            return None
        begin, size, note_size = _ENTRY.unpack(entry)
        if not size:
            return None
        content = os.pread(self._answers.fileno(), size + note_size, begin)
        if not note_size:
            return DuplicateAnswer(content)
        return DuplicateAnswer(content[:size], *_decoder.decode(content[size:]))

    def _opened(self) -> io.FileIO:
        if self._folder is not None:
            try:
                return open_nameless(self._folder)
            except OSError:  # a run that is only to be read
                pass
        return open_nameless(Path(tempfile.gettempdir()))


def all_outcomes(
    ended: SettledChunk, duplicate_answers: DuplicateAnswers, *, finished_only: bool
) -> list[EnhancedLocation]:
    """How all rows of a planned chunk ended, in order, those that repeat others too; blocks.

    Arguments and errors as of `render()`.
    """
    chunk, outcomes = ended.chunk, ended.outcomes()
    if outcomes.unsettled and not finished_only:
        raise _no_outcome(chunk, outcomes.unsettled[0])
    duplicate_counts = chunk.duplicate_counts_by_row()
    duplicates = duplicate_answers.duplicates_of(
        chunk,
        {
            result.row: DuplicateAnswer.of(result)
            for result in outcomes.settled
            if result.row in duplicate_counts
        },
    )
    check_all_there(chunk, duplicates, finished_only=finished_only)
    if not duplicates:
        return outcomes.settled
    results = outcomes.settled + [
        answer.for_row(chunk.duplicates[place]) for place, answer in duplicates.items()
    ]
    results.sort(key=lambda result: result.row)
    return results


def check_all_there(
    chunk: Chunk, duplicates: Mapping[int, DuplicateAnswer], *, finished_only: bool
) -> None:
    """Refuse duplicates that have no outcome, unless they are to be left out."""
    if len(duplicates) != len(chunk.duplicates) and not finished_only:
        without = next(
            duplicate for place, duplicate in enumerate(chunk.duplicates) if place not in duplicates
        )
        raise _no_outcome(chunk, without.row)


def _no_outcome(chunk: Chunk, row: int) -> RunError:
    return RunError(f"row {row} (chunk {chunk.index}) has no outcome; this should not happen")
