"""What is left to be done of a run, as passages for the runner."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator

import anyio
import anyio.to_thread

from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.bulk.passage import Passage
from pingdata_async.runs.journal import Journal
from pingdata_async.runs.journal_records import ChunkRecord
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.states import UNTOUCHED, ChunkState, Resumption, on_resume, state_of


async def passages_left(
    journal: Journal, plan: Plan, *, may_pay_again: bool
) -> AsyncGenerator[Passage, None]:
    """Every chunk that is not at an end, as it is when this is begun.

    Those with jobs come first, as they are paid for; then later chunks, then planned ones.
    What is held is left out.

    Args:
        journal: What has become of them.
        plan: What they are.
        may_pay_again: Whether another job may be sent for one that was complete, where the API
            has lost both it and its output.
    """
    states = await journal.planned_states()
    async with contextlib.aclosing(journal.unfinished()) as records:
        async for record in records:
            passage = await _passage(plan, record.index, record)
            passage.was_complete = passage.was_complete and not may_pay_again
            yield passage
    for index, code in enumerate(states):
        if on_resume(state_of(code)) is Resumption.SEND:
            record_or_none = None if code == UNTOUCHED else await journal.record(index)
            yield await _passage(plan, index, record_or_none)


async def _passage(plan: Plan, index: int, record: ChunkRecord | None) -> Passage:
    chunk = record.chunk if record is not None else None
    if chunk is None:
        chunk = await anyio.to_thread.run_sync(plan.read, index)
    if record is None:
        return Passage(chunk)
    passage = Passage(chunk, jobs=record.jobs, in_doubt=record.doubts)
    if on_resume(record.state) is Resumption.POLL:
        passage.job_id, passage.was_unreadable = record.job_id, record.unreadable
        passage.outputs = record.outputs
        passage.was_complete = record.state is ChunkState.COMPLETE or bool(record.outputs)
        age_s = max(0.0, time.time() - record.since)
        passage.job = JobProgress(len(chunk.rows), anyio.current_time() - age_s)
    return passage
