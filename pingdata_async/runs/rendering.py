"""A planned chunk's part of the output, from what was answered about its rows."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from pingdata_async.bulk.checking import invalid_results
from pingdata_async.bulk.chunks import Chunk, shown_id
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.exceptions import RunError
from pingdata_async.models import EnhancedLocation
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswer, CarriedAnswers
from pingdata_async.tables.jsonl import (
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
    chunk: Chunk, answers: Answers, carried: CarriedAnswers, *, finished_only: bool
) -> Rendered:
    """Render a planned chunk; blocks.

    Args:
        chunk: The chunk; it follows the one before.
        answers: What was answered.
        carried: What was answered of rows that recur.
        finished_only: Leave out rows without an outcome, instead of refusing them.

    Raises:
        RunError: When a row has no outcome, or an answer is missing or damaged.
    """
    laid_out = answers.laid_out(chunk)
    if laid_out is not None:
        return render_layout(chunk, *laid_out, carried, finished_only=finished_only)
    results = all_outcomes(chunk, answers, carried, finished_only=finished_only)
    return Rendered([encode_lines(results)], render_failures(chunk, results), tally(results))


def all_outcomes(
    chunk: Chunk, answers: Answers, carried: CarriedAnswers, *, finished_only: bool
) -> list[EnhancedLocation]:
    """How all rows of a planned chunk ended, in order, those that repeat others too; blocks.

    Arguments and errors as of `render()`.
    """
    outcomes = answers.outcomes(chunk)
    if outcomes.unsettled and not finished_only:
        raise _no_outcome(chunk, outcomes.unsettled[0])
    copies = chunk.copies_by_row()
    twins = carried.twins_of(
        chunk,
        {
            result.row: CarriedAnswer.of(result)
            for result in outcomes.settled
            if result.row in copies
        },
    )
    _check_all_there(chunk, twins, finished_only=finished_only)
    if not twins:
        return outcomes.settled
    results = outcomes.settled + [
        answer.for_row(chunk.twins[place]) for place, answer in twins.items()
    ]
    results.sort(key=lambda result: result.row)
    return results


def _check_all_there(
    chunk: Chunk, twins: Mapping[int, CarriedAnswer], *, finished_only: bool
) -> None:
    if len(twins) != len(chunk.twins) and not finished_only:
        without = next(twin for place, twin in enumerate(chunk.twins) if place not in twins)
        raise _no_outcome(chunk, without.row)


def _no_outcome(chunk: Chunk, row: int) -> RunError:
    return RunError(f"row {row} (chunk {chunk.index}) has no outcome; this should not happen")


def render_layout(
    chunk: Chunk,
    layout: Layout,
    content: bytes,
    carried: CarriedAnswers,
    *,
    finished_only: bool = False,
) -> Rendered:
    """Render the usual chunk: each row's answer is a slice of the content, and copied nowhere.

    Args:
        chunk: A planned chunk: its rows ascend.
        layout: Where each row's answer is.
        content: In this.
        carried: As of `render()`.
        finished_only: As of `render()`.

    Raises:
        RunError: When a row has no outcome.
    """
    lines = _Lines.of(chunk, layout, content)
    if chunk.copies or chunk.twins:
        twins = carried.twins_of(
            chunk, {chunk.rows[place]: lines.answer(place) for place in chunk.copies}
        )
        _check_all_there(chunk, twins, finished_only=finished_only)
        if twins:
            lines = lines.with_twins(chunk, twins)
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
    def of(cls, chunk: Chunk, layout: Layout, content: bytes) -> Self:
        """Those of the rows that were sent."""
        view = memoryview(content)
        return cls(
            list(map(shown_id, chunk.rows, chunk.ids)),
            chunk.rows,
            [
                view[begin : begin + length]
                for begin, length in zip(layout.begins, layout.lengths, strict=True)
            ],
            {each.place: RowNote(each.status, each.reason, each.error) for each in layout.not_ok},
        )

    def answer(self, place: int) -> CarriedAnswer:
        """How a row ended."""
        return CarriedAnswer(self.answers[place], self.notes.get(place))

    def with_twins(self, chunk: Chunk, twins: Mapping[int, CarriedAnswer]) -> _Lines:
        """The same with rows that repeat others, each where it belongs."""
        here = [chunk.twins[place] for place in twins]
        ids = self.ids + [twin.shown_id for twin in here]
        rows = self.rows + [twin.row for twin in here]
        answers = self.answers + [answer.data for answer in twins.values()]
        notes = self.notes | {
            place: answer.note
            for place, answer in enumerate(twins.values(), len(self.rows))
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
            row: _with_id(chunk.locations[place], chunk.ids[place])
            for place, row in enumerate(chunk.rows)
            if row in wanted
        }
        | {
            invalid.row: _with_id(invalid.given, invalid.id)
            for invalid in chunk.invalid
            if invalid.row in wanted
        }
        | {twin.row: _with_id(twin.location, twin.id) for twin in chunk.twins if twin.row in wanted}
    )
    return encode_failures(results, given)


def _with_id(location: bytes, own_id: str | None) -> bytes:
    """A row as it was given: with the user's own id, where there was one."""
    fields = _fields.decode(location)
    given_id = fields.pop("id", None)  # only rows that were not sent still have it
    if own_id:
        given_id = given_id or msgspec.Raw(msgspec.json.encode(own_id))
        fields = {"id": given_id, **fields}
    return msgspec.json.encode(fields)
