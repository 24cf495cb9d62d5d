"""A run's output as a flat table, written at its end.

Two passes over plan, spool and kept input: the first one finds out which columns there are and
what they hold, the second one writes them. Both take a chunk at a time, so that memory does not
grow with the rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from pingdata_async.bulk.chunking import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.one_thread import OneThread
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.kept_input import INPUT_NAME, KeptInput
from pingdata_async.runs.output_files import OutputFile
from pingdata_async.runs.output_form import OutputForm
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rendering import render_failures
from pingdata_async.runs.rows_by_chunk import RowsByChunk
from pingdata_async.tables.flat_table import FlatTable, TableScan
from pingdata_async.tables.geometry import points
from pingdata_async.tables.outputs import TableWriter, check_format, open_table_writer
from pingdata_async.tables.packing import packing

T = TypeVar("T")


class TableOutput:
    """Takes the chunks of a run, at its end.

    Args:
        file: Where the table is written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        form: What is to be written.
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
        on_note: Callable[[str], None],
    ) -> None:
        self._file = file
        self._failures = failures
        self._thread = thread
        self._form = form
        self._on_note = on_note
        self.counts = Tally()

    async def offer(self, chunk: Chunk, layout: Layout, content: bytes) -> None:
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
            rows = RowsByChunk(plan, kept, answers, finished_only=finished_only)
            table = await self._scan(plan, kept, rows)
            rows = RowsByChunk(plan, kept, answers, finished_only=finished_only)
            async with self._entered(self._opened(table)) as writer:
                for _ in range(plan.chunks):
                    counts = await self._thread.run(lambda: self._write(writer, table, rows))
                    self.counts.add(counts)
                    on_rows(counts.rows)
        for note in writer.notes:
            self._on_note(note)

    async def _scan(self, plan: Plan, kept: KeptInput, rows: RowsByChunk) -> FlatTable:
        scan = TableScan(kept.headers, self._form.sources)

        def scan_next() -> None:
            read = rows.read_next()
            scan.add(read.originals, read.results)

        for _ in range(plan.chunks):
            await self._thread.run(scan_next)
        table = scan.table(self._form.declared, self._form.options.columns)
        for pattern in table.unmatched:
            self._on_note(f'There is no column "{pattern}" to be written.')
        return table

    @contextlib.contextmanager
    def _opened(self, table: FlatTable) -> Iterator[TableWriter]:
        form = self._form
        check_format(form.kind, columns=len(table.columns))
        with (
            self._file.opened() as file,
            packing(file, form.compression) as packed,
            open_table_writer(packed, form.kind, table.columns, form.options) as writer,
        ):
            yield writer

    def _write(self, writer: TableWriter, table: FlatTable, rows: RowsByChunk) -> Tally:
        """Write the next chunk; in the thread."""
        read = rows.read_next()
        results = read.results
        where = None
        if self._form.kind.has_geometry:
            where = points(results, self._form.options.geocode_sources, self._form.sources)
        values = table.values(read.originals, results, read.places)
        writer.write(values, len(results), where, [result.id for result in results])
        if self._failures is not None:
            failures = render_failures(read.chunk, results)
            if failures:
                self._failures.write([failures])
        return tally(results)

    @contextlib.asynccontextmanager
    async def _entered(self, context: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and leave in the thread what blocks."""
        async with contextlib.AsyncExitStack() as stack:
            entered = await self._thread.run(context.__enter__)

            async def leave(*error: Any) -> None:
                await self._thread.run(lambda: context.__exit__(*error))

            stack.push_async_exit(leave)
            yield entered
