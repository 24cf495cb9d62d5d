"""Planned rows and spooled answers to the output, in input order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import msgspec

from pingdata_async.bulk.checking import Tally, tally
from pingdata_async.bulk.chunking import Chunk
from pingdata_async.exceptions import RunError
from pingdata_async.models import EnhancedLocation
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.output_files import BeforeMove, blamed_on, opened_output
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.records import Account
from pingdata_async.runs.spool import Spool
from pingdata_async.tables.jsonl import encode_failures, encode_lines

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Rendered(msgspec.Struct, frozen=True):
    """A planned chunk's part of the files."""

    lines: bytes
    failures: bytes
    counts: Tally


async def export(
    plan: Plan,
    spool: Spool,
    account: Account,
    output: str | Path,
    sources: tuple[str, ...],
    *,
    on_rows: Callable[[int], None],
    finished_only: bool = False,
    failures: Path | None = None,
    before_move: BeforeMove | None = None,
) -> Tally:
    """Write every row of the plan, in input order.

    Args:
        plan: What was planned, inside its `with` block.
        spool: What was answered.
        account: What became of each chunk.
        output: A path, moved into place when it is whole, or "-" for standard output.
        sources: The run's sources.
        on_rows: Told of the number of rows after each chunk.
        finished_only: Leave out rows without an outcome, instead of refusing them; those that
            are asked about once more have the one that they had.
        failures: Where the rows without an answer are written, as an input for another run;
            None for nowhere. Without such rows there is no such file afterwards.
        before_move: Told of each file's name and where it is until then, when it is whole.

    Returns:
        The count of the rows written.

    Raises:
        RunError: When it cannot be written, or a row has no outcome.
        BrokenPipeError: When nobody reads standard output any more.
    """
    answers = Answers(spool, account, sources, keep_earlier=finished_only)
    total = Tally()
    async with contextlib.AsyncExitStack() as files:
        file = await files.enter_async_context(opened_output(output, before_move=before_move))
        failed = None
        if failures is not None:
            failed = await files.enter_async_context(
                opened_output(failures, keep_empty=False, before_move=before_move)
            )
        for index in range(plan.chunks):
            rendered = await anyio.to_thread.run_sync(_render, plan, answers, index, finished_only)
            with blamed_on(output):
                await file.write(rendered.lines)
            if failed is not None and failures is not None and rendered.failures:
                with blamed_on(failures):
                    await failed.write(rendered.failures)
            total.add(rendered.counts)
            on_rows(rendered.counts.rows)
    return total


def _render(plan: Plan, answers: Answers, index: int, finished_only: bool) -> _Rendered:
    """One chunk's lines, all in one visit to a thread."""
    chunk = plan.read(index)
    outcomes = answers.outcomes(chunk)
    if outcomes.unsettled and not finished_only:
        raise RunError(
            f"row {outcomes.unsettled[0]} (chunk {index}) has no outcome; this should not happen"
        )
    without_answer = [result for result in outcomes.settled if not result.is_answered]
    return _Rendered(
        lines=encode_lines(outcomes.settled),
        failures=_render_failures(chunk, without_answer) if without_answer else b"",
        counts=tally(outcomes.settled),
    )


def _render_failures(chunk: Chunk, results: list[EnhancedLocation]) -> bytes:
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
