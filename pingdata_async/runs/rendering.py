"""A planned chunk's part of the output, from what was answered about its rows."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

import msgspec

from pingdata_async.bulk.checking import invalid_results
from pingdata_async.bulk.chunking import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.exceptions import RunError
from pingdata_async.models import EnhancedLocation
from pingdata_async.runs.answers import Answers
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


def render(chunk: Chunk, answers: Answers, *, finished_only: bool) -> Rendered:
    """Render a planned chunk; blocks.

    Args:
        chunk: The chunk.
        answers: What was answered.
        finished_only: Leave out rows without an outcome, instead of refusing them.

    Raises:
        RunError: When a row has no outcome, or an answer is missing or damaged.
    """
    laid_out = answers.laid_out(chunk)
    if laid_out is not None:
        return render_layout(chunk, *laid_out)
    outcomes = answers.outcomes(chunk)
    if outcomes.unsettled and not finished_only:
        raise RunError(
            f"row {outcomes.unsettled[0]} (chunk {chunk.index}) has no outcome; this should not "
            "happen"
        )
    return Rendered(
        [encode_lines(outcomes.settled)],
        render_failures(chunk, outcomes.settled),
        tally(outcomes.settled),
    )


def render_layout(chunk: Chunk, layout: Layout, content: bytes) -> Rendered:
    """Render the usual chunk: each row's answer is a slice of the content, and copied nowhere.

    Args:
        chunk: A planned chunk: its rows ascend.
        layout: Where each row's answer is.
        content: In this.
    """
    ids = [str(row) if own is None else own for row, own in zip(chunk.rows, chunk.ids, strict=True)]
    view = memoryview(content)
    answers = [
        view[begin : begin + length]
        for begin, length in zip(layout.begins, layout.lengths, strict=True)
    ]
    notes = {each.place: RowNote(each.status, each.reason, each.error) for each in layout.not_ok}
    lines = frame_lines(ids, chunk.rows, answers, notes)
    not_ok = [
        EnhancedLocation(
            ids[each.place], chunk.rows[each.place], each.status, each.reason, each.error
        )
        for each in layout.not_ok
    ]
    never_sent = invalid_results(chunk)
    for result in reversed(never_sent):
        insert_lines(lines, bisect(chunk.rows, result.row), encode_lines([result]))
    counts = tally(not_ok + never_sent)
    counts.add_ok(len(chunk.rows) - len(not_ok))
    failures = sorted(not_ok + never_sent, key=lambda result: result.row)
    return Rendered(lines, render_failures(chunk, failures), counts)


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
    given = {
        row: _with_id(chunk.locations[place], chunk.ids[place])
        for place, row in enumerate(chunk.rows)
        if row in wanted
    } | {
        invalid.row: _with_id(invalid.given, invalid.id)
        for invalid in chunk.invalid
        if invalid.row in wanted
    }
    return encode_failures(results, given)


def _with_id(location: bytes, own_id: str | None) -> bytes:
    """A row as it was given: with the user's own id, where there was one."""
    fields = _fields.decode(location)
    given_id = fields.pop("id", None)  # only rows that were not sent still have it
    if own_id is not None:
        given_id = given_id or msgspec.Raw(msgspec.json.encode(own_id))
        fields = {"id": given_id, **fields}
    return msgspec.json.encode(fields)
