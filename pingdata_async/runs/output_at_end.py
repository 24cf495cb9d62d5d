"""Outputs that are written at the end of a run, from its directory alone.

Two passes over the run directory: the first one finds out which columns there are and what they
hold, the second one writes them. Both take some rows at a time, so that memory does not grow with
their number.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.one_thread import OneThread
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswers
from pingdata_async.runs.kept_input import INPUT_NAME, KeptInput
from pingdata_async.runs.output_files import OutputFile
from pingdata_async.runs.output_form import OutputForm
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rendering import render_failures
from pingdata_async.runs.rows_by_chunk import ChunkRows, RowsByChunk
from pingdata_async.tables.flat_table import FlatTable
from pingdata_async.tables.inputs import Originals

T = TypeVar("T")

WriteRows = Callable[[ChunkRows], None]


class OutputAtEnd(ABC):
    """Takes the chunks of a run, at its end.

    Args:
        file: Where the rows are written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        form: What is to be written.
        carried: What was answered of rows that recur.
        on_note: Told what the user should know of it, a sentence each.

    Attributes:
        counts: How the rows ended that are written.
    """

    def __init__(
        self,
        file: OutputFile,
        failures: OutputFile | None,
        thread: OneThread,
        form: OutputForm,
        *,
        carried: CarriedAnswers,
        on_note: Callable[[str], None],
    ) -> None:
        self._file = file
        self._failures = failures
        self._thread = thread
        self._carried = carried
        self._form = form
        self._on_note = on_note
        self.counts = Tally()

    async def offer(  # noqa: B027 - the same in all of them
        self, chunk: Chunk, layout: Layout, content: bytes
    ) -> None:
        """Nothing is written early: what the columns are is only known at the end."""

    async def write_rest(
        self,
        plan: Plan,
        answers: Answers,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write every chunk; arguments and errors as of `OutputWriter.write_rest()`."""
        kept = await self._thread.run(lambda: KeptInput(plan.path.with_name(INPUT_NAME)))
        async with self._entered(kept):
            table = await self._scanned(kept, plan, answers)
            for pattern in table.unmatched:
                self._on_note(f'There is no column "{pattern}" to be written.')
            await self._thread.run(self._carried.begin_again)
            rows = RowsByChunk(plan, kept, answers, self._carried, finished_only=finished_only)
            async with self._entered(self._opened(table)) as write:
                for _ in range(plan.chunks):
                    counts = await self._thread.run(lambda: self._write_next(rows, write))
                    self.counts.add(counts)
                    on_rows(counts.rows)

    @abstractmethod
    async def _scanned(self, kept: KeptInput, plan: Plan, answers: Answers) -> FlatTable:
        """The first pass.

        Args:
            kept: The input's rows.
            plan: What was planned of them.
            answers: What was answered.
        """

    async def _scan_originals(
        self, kept: KeptInput, add: Callable[[Originals], None], is_settled: Callable[[], bool]
    ) -> None:
        """Have all rows of an input taken in, or as many as tell anything new."""
        batches = iter(kept)

        def scan_next() -> bool:
            originals = next(batches, None)
            if originals is not None:
                add(originals)
            return originals is not None and not is_settled()

        while await self._thread.run(scan_next):
            pass

    @abstractmethod
    def _opened(self, table: FlatTable) -> contextlib.AbstractContextManager[WriteRows]:
        """The second pass: what writes rows of a chunk; called and used in the thread."""

    def _write_next(self, rows: RowsByChunk, write: WriteRows) -> Tally:
        read = rows.read_next()
        write(read)
        if self._failures is not None:
            failures = render_failures(read.chunk, read.results)
            if failures:
                self._failures.write([failures])
        return tally(read.results)

    @contextlib.asynccontextmanager
    async def _entered(self, context: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and leave in the thread what blocks."""
        async with contextlib.AsyncExitStack() as stack:
            entered = await self._thread.run(context.__enter__)

            async def leave(*error: Any) -> None:
                await self._thread.run(lambda: context.__exit__(*error))

            stack.push_async_exit(leave)
            yield entered
