"""The JSONL output, written while the run is under way, in input order (`in_order.py`)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import msgspec

from pingdata_async.locations.chunk import Chunk, shown_id
from pingdata_async.models import EnhancedLocation
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally, tally
from pingdata_async.results.validation import invalid_results
from pingdata_async.runs.export.in_order import Export
from pingdata_async.runs.export.results import (
    DuplicateAnswer,
    DuplicateAnswers,
    SettledChunk,
    all_outcomes,
    check_all_there,
)
from pingdata_async.tables.writers.json import (
    RowNote,
    encode_failures,
    encode_lines,
    frame_lines,
    insert_lines,
)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Rendered(msgspec.Struct, frozen=True):
    """A planned chunk's part of the files.

    Attributes:
        lines: Pieces of lines, to be written one behind the other.
        failures: The rows without an answer, as lines.
        counts: How the rows ended.
    """

    lines: Sequence[bytes | memoryview]
    failures: bytes
    counts: Tally


def render(
    settled: SettledChunk, duplicate_answers: DuplicateAnswers, *, finished_only: bool = False
) -> Rendered:
    """Render a planned chunk; blocks.

    Args:
        settled: The chunk; it follows the one before.
        duplicate_answers: What was answered of rows that recur.
        finished_only: Leave out rows without an outcome, instead of refusing them.

    Raises:
        RunError: When a row has no outcome.
    """
    if settled.offset_index is not None:
        return _render_indexed(
            settled.chunk,
            settled.offset_index,
            settled.content,
            duplicate_answers,
            finished_only=finished_only,
        )
    return _render_results(settled, duplicate_answers, finished_only=finished_only)


def _render_results(
    settled: SettledChunk, duplicate_answers: DuplicateAnswers, *, finished_only: bool
) -> Rendered:
    results = all_outcomes(settled, duplicate_answers, finished_only=finished_only)
    failures = render_failures(settled.chunk, results)
    return Rendered([encode_lines(results)], failures, tally(results))


def _render_indexed(
    chunk: Chunk,
    offset_index: OffsetIndex,
    content: bytes,
    duplicate_answers: DuplicateAnswers,
    *,
    finished_only: bool,
) -> Rendered:
    """Render the usual chunk: each row's answer is a slice of the content, and copied nowhere."""
    lines = _Lines.of(chunk, offset_index, content)
    if chunk.duplicate_counts or chunk.duplicates:
        duplicates = duplicate_answers.duplicates_of(
            chunk, {chunk.rows[place]: lines.answer(place) for place in chunk.duplicate_counts}
        )
        check_all_there(chunk, duplicates, finished_only=finished_only)
        if any(answer.reused for answer in duplicates.values()):
            # They repeat rows of earlier chunks whose answers are reused, which is said of each.
            settled = SettledChunk(chunk, offset_index, content)
            return _render_results(settled, duplicate_answers, finished_only=finished_only)
        if duplicates:
            lines = lines.with_duplicates(chunk, duplicates)
    pieces = frame_lines(lines.ids, lines.rows, lines.answers, lines.notes)
    not_ok = [
        EnhancedLocation(lines.ids[place], lines.rows[place], note.status, note.reason, note.error)
        for place, note in lines.notes.items()
    ]
    never_sent = invalid_results(chunk)
    for result in reversed(never_sent):
        insert_lines(pieces, bisect(lines.rows, result.row), encode_lines([result]))
    counts = tally(not_ok + never_sent)
    counts.add_ok(len(lines.rows) - len(not_ok))
    failures = sorted(not_ok + never_sent, key=lambda result: result.row)
    return Rendered(pieces, render_failures(chunk, failures), counts)


class _Lines(msgspec.Struct, frozen=True):
    """What is to be framed, by place: ids, rows that ascend, answers, and what is not ok."""

    ids: list[str | None]
    rows: list[int]
    answers: list[bytes | memoryview]
    notes: dict[int, RowNote]

    @classmethod
    def of(cls, chunk: Chunk, offset_index: OffsetIndex, content: bytes) -> Self:
        """Those of the rows that were sent."""
        view = memoryview(content)
        return cls(
            list(map(shown_id, chunk.rows, chunk.ids)),
            chunk.rows,
            [
                view[begin : begin + length]
                for begin, length in zip(offset_index.begins, offset_index.lengths, strict=True)
            ],
            {
                each.place: RowNote(each.status, each.reason, each.error)
                for each in offset_index.not_ok
            },
        )

    def answer(self, place: int) -> DuplicateAnswer:
        """How a row ended."""
        return DuplicateAnswer(self.answers[place], self.notes.get(place))

    def with_duplicates(self, chunk: Chunk, duplicates: Mapping[int, DuplicateAnswer]) -> _Lines:
        """The same with duplicate rows, each in its place."""
        here = [chunk.duplicates[place] for place in duplicates]
        ids = self.ids + [duplicate.shown_id for duplicate in here]
        rows = self.rows + [duplicate.row for duplicate in here]
        answers = self.answers + [answer.data for answer in duplicates.values()]
        notes = self.notes | {
            place: answer.note
            for place, answer in enumerate(duplicates.values(), len(self.rows))
            if answer.note is not None
        }
        order = sorted(range(len(rows)), key=rows.__getitem__)
        return _Lines(
            [ids[place] for place in order],
            [rows[place] for place in order],
            [answers[place] for place in order],
            {to: notes[place] for to, place in enumerate(order) if place in notes},
        )


def render_failures(chunk: Chunk, results: list[EnhancedLocation]) -> bytes:
    """The rows without an answer, as lines; b"" for none of them.

    Args:
        chunk: A planned chunk.
        results: Outcomes of its rows, in order.
    """
    results = [result for result in results if not result.is_answered]
    if not results:
        return b""
    wanted = {result.row for result in results}
    given = (
        {
            row: _with_own_id(location, own_id)
            for row, own_id, location in zip(chunk.rows, chunk.ids, chunk.locations, strict=True)
            if row in wanted
        }
        | {
            invalid.row: _with_own_id(invalid.given, invalid.id, has_own=True)
            for invalid in chunk.invalid
            if invalid.row in wanted
        }
        | {
            duplicate.row: _with_own_id(duplicate.location, duplicate.id)
            for duplicate in chunk.duplicates
            if duplicate.row in wanted
        }
    )
    return encode_failures(results, given)


def _with_own_id(location: bytes, own_id: str | None, *, has_own: bool = False) -> bytes:
    """A row as it was given: with the user's own id, where there was one.

    Args:
        location: The row.
        own_id: The id as text.
        has_own: Whether an id in the row is the user's own, and not the row's number.
    """
    fields = _fields.decode(location)
    given_id = fields.pop("id", None)
    if own_id:
        own = given_id if has_own and given_id else msgspec.Raw(msgspec.json.encode(own_id))
        fields = {"id": own, **fields}
    return msgspec.json.encode(fields)


class JSONLExport(Export):
    """Writes the chunks of a run as lines."""

    async def _take(self, settled: SettledChunk) -> bool:
        """Render a chunk and write it, in one visit to the thread."""
        rendered: list[Rendered] = []

        def lines() -> Iterator[bytes | memoryview]:
            made = render(settled, self._duplicate_answers, finished_only=self._finished_only)
            rendered.append(made)
            yield from made.lines

        await self._file.write_lines(lines(), self._thread)
        [made] = rendered
        if self._failures is not None and made.failures:
            await self._failures.write_lines([made.failures], self._thread)
        self._count(settled.chunk, made.counts)
        return True
