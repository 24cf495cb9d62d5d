"""What a resumed run begins with: unfinished chunks as tasks, and rows that `retry` reopens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Iterator

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import AnswersReused, Event, InputPlanned, RunResumed
from pingdata_async.locations.chunk import Chunk, RetryRow, RowHistory, with_sources
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results.outcomes import tally, unsuccessful
from pingdata_async.runs.directory.directory import FINISHED, RunDirectory, journal_path
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader, JournalTotals, reading_journal
from pingdata_async.runs.journal.records import (
    UNTOUCHED,
    ChunkRecord,
    ChunkState,
    Resumption,
    on_resume,
    state_of,
)
from pingdata_async.util.text import counted


async def unfinished_tasks(
    journal: Journal, plan: Plan, *, may_pay_again: bool, has_outputs: bool = True
) -> AsyncGenerator[ChunkTask, None]:
    """Yield each unfinished chunk: those with paid jobs, then later chunks, then planned ones.

    Chunks that are held are left out.

    Args:
        journal: The run's journal.
        plan: Its plan.
        may_pay_again: Whether a job that was complete may be replaced by another one, if the API
            has lost both the job and its output.
        has_outputs: Whether outputs are still where the API said. The sandbox inside a command is a
            new one each time, without the jobs of the last one.
    """
    states = await journal.planned_states()
    async with contextlib.aclosing(journal.unfinished()) as records:
        async for record in records:
            task = await _task(plan, record.index, record)
            if not has_outputs:
                task.outputs = ()
            task.was_complete = task.was_complete and has_outputs and not may_pay_again
            yield task
    for index, code in enumerate(states):
        if on_resume(state_of(code)) is Resumption.SEND:
            record_or_none = None if code == UNTOUCHED else await journal.record(index)
            yield await _task(plan, index, record_or_none)


async def _task(plan: Plan, index: int, record: ChunkRecord | None) -> ChunkTask:
    chunk = record.chunk if record is not None else None
    if chunk is None:
        chunk = await anyio.to_thread.run_sync(plan.read, index)
    if record is None:
        return ChunkTask(chunk)
    task = ChunkTask(chunk, jobs=record.jobs, in_doubt=record.doubts)
    if on_resume(record.state) is Resumption.POLL:
        task.job_id, task.was_unreadable = record.job_id, record.unreadable
        task.outputs = record.outputs
        task.was_complete = record.state is ChunkState.COMPLETE or bool(record.outputs)
        age_s = max(0.0, time.time() - record.since)
        task.job = JobProgress(len(chunk.rows), anyio.current_time() - age_s)
    return task


# They would end as before; if a row is skipped, no other source has failed.
_AS_BEFORE = frozenset({Reason.INVALID_INPUT, Reason.SKIPPED})


class Reopened(msgspec.Struct, frozen=True):
    """What `reopen_rows()` found."""

    rows: int  # that will be retried
    left: int  # that are not ok but have an answer, such as "no match", and are not retried


def rows_to_reopen(results: list[EnhancedLocation], *, all_not_ok: bool) -> list[EnhancedLocation]:
    """The rows of a chunk that are worth a retry.

    Args:
        results: Their outcomes.
        all_not_ok: Take all that are not ok, not only those without an answer.
    """
    return [
        result
        for result in results
        if result.reason not in _AS_BEFORE
        and (result.status is not RowStatus.OK if all_not_ok else not result.is_answered)
    ]


async def reopen_rows(
    directory: RunDirectory, plan: Plan, sources: tuple[str, ...], *, all_not_ok: bool
) -> Reopened:
    """Reopen rows of a run, to be retried.

    Args:
        directory: The run directory, entered.
        plan: Its plan, inside its `with` block.
        sources: The run's sources.
        all_not_ok: Take all that are not ok, not only those without an answer.
    """
    # A complete job is paid for: its output is fetched once more before another job is sent.
    reopened = await directory.journal.fetch_again(Reason.UNREADABLE, no_longer=FINISHED)
    left = 0
    async with reading_journal(journal_path(directory.path)) as journal:
        answers = ResultReader(directory.spool, journal, sources)
        for index in range(plan.chunks):
            chunk = await anyio.to_thread.run_sync(plan.read, index)
            outcomes = await anyio.to_thread.run_sync(answers.outcomes, chunk)
            rows = rows_to_reopen(outcomes.settled, all_not_ok=all_not_ok)
            duplicate_counts = chunk.duplicate_counts_by_row()
            not_ok = rows_to_reopen(outcomes.settled, all_not_ok=True)
            left += tally(not_ok, duplicate_counts).rows - tally(rows, duplicate_counts).rows
            if rows and not reopened:  # first: a crash in between leaves work to do
                await directory.journal.set_meta(FINISHED, None)
            if rows:
                charged = await anyio.to_thread.run_sync(charged_rows, journal, chunk)
                retry_rows = retry_rows_of(chunk, rows, sources, charged)
                counts = tally(rows, duplicate_counts)
                if await directory.journal.reopen(retry_rows, counts):  # all of them, or none
                    reopened += counts.rows
    return Reopened(reopened, left)


def reopening_told(found: Reopened) -> str:
    """A sentence on what `reopen_rows()` found."""
    told = f"{counted(found.rows, 'row')} to be retried"
    if not found.left:
        return f"{told}."
    are = "that is not ok has" if found.left == 1 else "that are not ok have"
    return f"{told}; {counted(found.left, 'row')} {are} an answer: --all retries those too."


def charged_rows(journal: JournalReader, chunk: Chunk) -> set[int]:
    """The rows of a planned chunk that were, or may have been, in a job; blocks."""
    record = journal.record(chunk.index)
    charged = set(chunk.rows) if record is not None and record.charged_before else set()
    for later in journal.later_chunks_of(chunk.index):
        if later.chunk is not None:
            charged.update(
                row
                for row, earlier in zip(later.chunk.rows, later.chunk.earlier, strict=True)
                if earlier.planned_chunk == chunk.index
                and (later.charged_before or earlier.was_charged)
            )
    return charged


def retry_rows_of(
    chunk: Chunk,
    results: list[EnhancedLocation],
    sources: tuple[str, ...],
    charged: Collection[int],
) -> list[RetryRow]:
    """Rows of a planned chunk, to be retried with the sources that did not succeed."""
    places = {row: place for place, row in enumerate(chunk.rows)}
    locations = chunk.locations
    retry_rows = []
    for result in results:
        place = places[result.row]
        own = chunk.sources.get(place)
        asked = unsuccessful(result.data, sources if own is None else own)
        retry_rows.append(
            RetryRow(
                result.row,
                chunk.ids[place],
                with_sources(locations[place], asked),
                asked,
                RowHistory(
                    chunk.index,
                    wanted=own,
                    data=bytes(result.data),
                    duplicates=chunk.duplicate_counts.get(place, 0),
                    skipped=chunk.skipped.get(place, ()),
                    # A refused request is not charged, but one before it may have been.
                    was_charged=result.reason is not Reason.REJECTED or result.row in charged,
                ),
            )
        )
    return retry_rows


def start_events(run_dir: str, plan: Plan, totals: JournalTotals) -> Iterator[Event]:
    """The events of a start: what is planned, and how far a resumed run is.

    Args:
        run_dir: The run directory, as shown to people.
        plan: Its plan.
        totals: The totals of its journal.
    """
    planned, reused, rows = plan.summary, totals.reused, totals.rows
    is_resumed = bool(rows.rows > reused.rows or totals.jobs or totals.submissions_in_doubt)
    yield InputPlanned(
        rows=planned.rows,
        locations=planned.locations - reused.locations,
        repeated=planned.repeated,
        chunks=plan.chunks,
        jobs=totals.chunks[ChunkState.PLANNED] if reused.by_source else planned.jobs,
        is_resumed=is_resumed,
        unused_columns=planned.unused_columns,
        values_left_out=planned.values_left_out,
        value_notes=planned.value_notes,
        mapping=planned.mapping,
        notes=planned.notes,
        skipped_by_source=planned.skipped,
    )
    if reused.oldest_at is not None and not is_resumed:
        yield AnswersReused(
            planned=planned.locations,
            locations=reused.locations,
            by_source=reused.by_source,
            oldest_at=reused.oldest_at,
            rows_done=rows.rows,
            ok=rows.ok,
            partial=rows.partial,
            failed=rows.failed,
        )
    if is_resumed:
        yield RunResumed(
            run_dir=run_dir,
            rows=planned.rows,
            rows_done=rows.rows,
            jobs_in_flight=totals.jobs_in_flight,
            ok=rows.ok,
            partial=rows.partial,
            failed=rows.failed,
            charged_by_source=totals.charged_by_source,
        )
