"""The journal against a model of it, through crashes and restarts."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pingdata_async.exceptions import RunError
from pingdata_async.locations import chunk as later_chunks
from pingdata_async.locations.chunk import Chunk
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import LEGAL_CHANGES, ChunkState, state_of
from tests.support.journals import (
    FAILURE,
    ROWS_A_CHUNK,
    copy_as_it_is,
    counts,
    left,
    make_journal,
    planned,
)
from tests.support.sweeps import examples

PLANNED = 4
S = ChunkState
OPEN = {S.PLANNED, S.SUBMITTING, S.SUBMITTED, S.COMPLETE}


@dataclass
class Known:
    """What the model knows of a chunk."""

    chunk: Chunk
    state: ChunkState = S.PLANNED
    jobs: int = 0
    doubts: int = 0
    charged: bool = False
    held: bool = False
    submission: int = -1  # the place of the last one


@dataclass
class Sent:
    """What the model knows of a submission."""

    locations: int
    charged_before: bool
    state: str = "sent"


@dataclass
class Model:
    """What the journal must say."""

    chunks: dict[int, Known] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    noted: set[int] = field(default_factory=set)  # complete, but not committed yet


class JournalMachine(RuleBasedStateMachine):
    """Calls in any order, legal or not, with crashes between them."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal())
        self._lives: list[ExitStack] = []  # the last one goes on, others have crashed
        self._model = Model()

    @initialize()
    def begin(self) -> None:
        self._path = self._portal.call(make_journal, self._folder, PLANNED)
        self._model.chunks = {index: Known(planned(index)) for index in range(PLANNED)}
        self._open()

    def teardown(self) -> None:
        for life in self._lives:
            life.close()
        self._stack.close()
        shutil.rmtree(self._folder)

    def _open(self) -> None:
        self._journal = Journal(self._path)
        self._lives.append(ExitStack())
        self._lives[-1].enter_context(self._portal.wrap_async_context_manager(self._journal))

    def _call(self, legal: bool, call: Callable[..., Awaitable[Any]], *args: Any) -> bool:
        """Call the journal; whatever it says, what was noted is committed with it."""
        self._model.noted.clear()
        if legal:
            self._portal.call(call, *args)
        else:
            with pytest.raises(RunError):
                self._portal.call(call, *args)
        return legal

    def _any_chunk(self, data: st.DataObject, *states: ChunkState) -> Known:
        """A chunk, more often than not in one of these states."""
        chunks = self._model.chunks
        fitting = [index for index, known in chunks.items() if known.state in states]
        if fitting and data.draw(st.integers(0, 9)) > 0:
            return chunks[data.draw(st.sampled_from(fitting))]
        return chunks[data.draw(st.sampled_from(sorted(chunks)))]

    def _last(self, known: Known) -> str:
        return self._model.sent[known.submission].state if known.submission >= 0 else ""

    # -- what happens to a chunk ---------------------------------------------------------

    def _now_sent(self, known: Known) -> None:
        known.state, known.held = S.SUBMITTING, False
        known.submission = len(self._model.sent)
        self._model.sent.append(Sent(len(known.chunk.rows), known.charged))

    @rule(data=st.data())
    def submitting(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, S.PLANNED)

        async def call() -> None:
            await self._journal.submitting(known.chunk, charged_before=known.charged)

        if self._call(known.state is S.PLANNED, call):
            self._now_sent(known)

    @rule()
    def submitting_together(self) -> None:
        """All that is planned at once: they share commits."""
        ready = [known for known in self._model.chunks.values() if known.state is S.PLANNED]

        async def submit(known: Known) -> None:
            await self._journal.submitting(known.chunk, charged_before=known.charged)

        async def call() -> None:
            async with anyio.create_task_group() as tasks:
                for known in ready:
                    tasks.start_soon(submit, known)

        if ready:
            self._call(True, call)
            for known in ready:
                self._now_sent(known)

    @rule(data=st.data())
    def refused(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, S.SUBMITTING)
        legal = known.state is S.SUBMITTING and self._last(known) == "sent"
        if self._call(legal, self._journal.refused, known.chunk):
            known.state = S.PLANNED
            self._model.sent[known.submission].state = "gone"
            known.submission = -1

    @rule(data=st.data())
    def submitted(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, S.SUBMITTING)
        legal = known.state is S.SUBMITTING and self._last(known) == "sent"
        if self._call(legal, self._journal.submitted, known.chunk, "job"):
            known.state, known.charged = S.SUBMITTED, True
            known.jobs += 1
            self._model.sent[known.submission].state = "accepted"

    @rule(data=st.data(), hold=st.booleans())
    def doubted(self, data: st.DataObject, hold: bool) -> None:
        known = self._any_chunk(data, S.SUBMITTING)

        async def call() -> None:
            await self._journal.doubted(known.chunk, "lost", hold=hold)

        if self._call(known.state is S.SUBMITTING and self._last(known) == "sent", call):
            self._doubt(known, hold)

    def _doubt(self, known: Known, hold: bool) -> None:
        known.state, known.held = (S.SUBMITTING, True) if hold else (S.PLANNED, False)
        known.doubts += 1
        known.charged = True
        self._model.sent[known.submission].state = "in_doubt"

    @precondition(lambda self: any(k.state is S.SUBMITTED for k in self._model.chunks.values()))
    @rule(data=st.data())
    def completed(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, S.SUBMITTED)
        if known.state is S.SUBMITTED:
            self._portal.call(self._journal.completed, known.chunk, ())
            known.state = S.COMPLETE
            self._model.noted.add(known.chunk.index)

    @rule(data=st.data())
    def job_lost(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, S.SUBMITTED, S.COMPLETE)
        legal = known.state in {S.SUBMITTED, S.COMPLETE}
        if self._call(legal, self._journal.job_lost, known.chunk, "lost"):
            known.state = S.PLANNED

    @rule(data=st.data(), retry_rows=st.integers(0, ROWS_A_CHUNK))
    def spooled(self, data: st.DataObject, retry_rows: int) -> None:
        known = self._any_chunk(data, S.COMPLETE)
        rows = known.chunk.rows
        waiting, settled = rows[:retry_rows], rows[retry_rows:]
        if self._call(
            known.state is S.COMPLETE,
            self._journal.spooled,
            known.chunk.index,
            counts(len(settled)),
            [left(row) for row in waiting],
        ):
            known.state = S.SPOOLED
            self._model.waiting.update(waiting)
            self._model.settled.update(settled)

    def _end(self, known: Known, state: ChunkState) -> None:
        if known.state is S.SUBMITTING:
            self._model.sent[known.submission].state = "in_doubt"
        known.state, known.held = state, False

    @rule(data=st.data())
    def failed(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, *OPEN)
        rows = known.chunk.rows
        legal = known.state in OPEN
        if self._call(legal, self._journal.failed, known.chunk.index, FAILURE, counts(len(rows))):
            self._end(known, S.FAILED)
            self._model.settled.update(rows)

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        known = self._any_chunk(data, *OPEN)
        if len(known.chunk.rows) < 2:
            return
        indexes = [self._journal.next_index(), self._journal.next_index()]
        assert not self._model.chunks.keys() & set(indexes)
        sizes = later_chunks.equal_parts(len(known.chunk.rows), 2)
        parts = later_chunks.split(known.chunk, indexes, sizes, was_charged=False)
        if self._call(known.state in OPEN, self._journal.split, known.chunk, parts):
            charged = known.charged or known.state is S.SUBMITTING
            self._end(known, S.SPLIT)
            for part in parts:
                self._model.chunks[part.index] = Known(part, charged=charged)

    @rule(data=st.data())
    def batched(self, data: st.DataObject) -> None:
        if not self._model.waiting:
            return
        rows = data.draw(
            st.lists(st.sampled_from(sorted(self._model.waiting)), unique=True, min_size=1)
        )
        chunk = later_chunks.batch_rows(self._journal.next_index(), [left(row) for row in rows])
        self._call(True, self._journal.batched, chunk)
        self._model.waiting.difference_update(rows)
        self._model.chunks[chunk.index] = Known(chunk)

    @rule(data=st.data())
    def reopened(self, data: st.DataObject) -> None:
        if not self._model.settled:
            return
        rows = data.draw(
            st.lists(st.sampled_from(sorted(self._model.settled)), unique=True, min_size=1)
        )
        rows_left = [left(row) for row in rows]
        self._call(True, self._journal.reopen, rows_left, counts(len(rows)))
        self._call(True, self._journal.reopen, rows_left, counts(len(rows)))  # once more
        self._model.settled.difference_update(rows)
        self._model.waiting.update(rows)

    # -- crashes and restarts ------------------------------------------------------------

    @rule()
    def crash(self) -> None:
        """Go on with what is on disk; the old process never closes anything."""
        self._path = copy_as_it_is(self._path, self._folder / str(len(self._lives)))
        for index in self._model.noted:  # the note was not on disk yet
            self._model.chunks[index].state = S.SUBMITTED
        self._model.noted.clear()
        self._open()

    @rule()
    def close_and_open(self) -> None:
        self._lives.pop().close()
        self._model.noted.clear()
        self._open()

    @rule(hold=st.booleans(), chunk_size=st.integers(1, 8))
    def resume(self, hold: bool, chunk_size: int) -> None:
        """What a resumed run does first."""
        model = self._model

        async def call() -> list[int]:
            doubts = await self._journal.doubt_interrupted(hold=hold)
            assert await self._journal.doubt_interrupted(hold=hold) == []
            return [doubt.index for doubt in doubts]

        model.noted.clear()
        fresh = [
            index
            for index, known in sorted(model.chunks.items())
            if known.state is S.SUBMITTING and not known.held
        ]
        assert self._portal.call(call) == fresh
        for index in fresh:
            self._doubt(model.chunks[index], hold)
        for known in model.chunks.values():
            if known.state is S.SUBMITTING and not hold:
                known.state, known.held = S.PLANNED, False
        packed = self._portal.call(self._journal.pack_retry_rows, chunk_size)
        assert packed == -(-len(model.waiting) // chunk_size)
        self._take_over_packed()

    def _take_over_packed(self) -> None:
        async def unfinished() -> list[Any]:
            return [record async for record in self._journal.unfinished()]

        model = self._model
        records = self._portal.call(unfinished)
        for record in records:
            if record.index not in model.chunks:
                assert record.chunk is not None
                model.chunks[record.index] = Known(record.chunk)
                assert set(record.chunk.rows) <= model.waiting
                model.waiting.difference_update(record.chunk.rows)
        assert not model.waiting
        with_jobs = {S.SUBMITTED, S.COMPLETE}
        assert [record.index for record in records] == [
            *sorted(i for i, k in model.chunks.items() if k.state in with_jobs),
            *sorted(i for i, k in model.chunks.items() if k.state is S.PLANNED and i >= PLANNED),
        ]
        codes = self._portal.call(self._journal.planned_states)
        assert [state_of(code) for code in codes] == [
            model.chunks[index].state for index in range(PLANNED)
        ]

    # -- what must hold ------------------------------------------------------------------

    @invariant()
    def what_is_on_disk_is_the_model(self) -> None:
        """Also for whoever reads it from outside; no row is lost or in two places."""
        model = self._model
        if not model.chunks:
            return
        with JournalReader(self._path) as reader:
            totals = reader.totals()
            for index, known in model.chunks.items():
                record = reader.record(index)
                on_disk = replace(known, state=S.SUBMITTED) if index in model.noted else known
                if record is None:
                    assert (index < PLANNED, known.state) == (True, S.PLANNED)
                    continue
                assert (
                    record.state,
                    record.jobs,
                    record.doubts,
                    record.charged_before,
                    record.held,
                ) == (on_disk.state, known.jobs, known.doubts, known.charged, known.held)
                assert record.chunk == (None if index < PLANNED else known.chunk)
        states = Counter(sent.state for sent in model.sent)
        assert totals.submissions_in_doubt == states["in_doubt"]
        assert totals.submissions_unanswered == states["sent"]
        assert totals.jobs == states["accepted"] == sum(k.jobs for k in model.chunks.values())
        assert totals.locations_possibly_charged_again == sum(
            sent.locations for sent in model.sent if sent.charged_before and sent.state != "gone"
        )
        assert totals.rows.rows == len(model.settled)
        assert totals.rows_waiting == len(model.waiting)
        in_chunks = [
            row for k in model.chunks.values() if LEGAL_CHANGES[k.state] for row in k.chunk.rows
        ]
        everywhere = sorted([*in_chunks, *model.waiting, *model.settled])
        assert everywhere == list(range(PLANNED * ROWS_A_CHUNK))


TestJournalModel = JournalMachine.TestCase
TestJournalModel.settings = examples(20, stateful_step_count=40)
