"""Exports in two passes: flat tables, and JSONL with the input's columns.

The first pass over the run directory finds out which columns there are and what they hold, the
second one writes them. Both take some rows at a time, so that memory does not grow with their
number.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally, tally
from pingdata_async.runs.directory.input_copy import INPUT_NAME, InputCopy
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.export.jsonl import render_failures
from pingdata_async.runs.export.output import AtomicFile, OutputSpec, UnwritableError
from pingdata_async.runs.export.results import (
    ChunkRows,
    DuplicateAnswers,
    ResultReader,
    RowsByChunk,
)
from pingdata_async.tables.formats import OutputFormat, check_format
from pingdata_async.tables.rows import Fingerprint, InputRows, JSONRows, SheetPlace
from pingdata_async.tables.schema.output_table import (
    InputRowScan,
    OutputTable,
    OutputTableScan,
    input_table,
    members_of,
)
from pingdata_async.tables.schema.types import unique_names
from pingdata_async.tables.writers.base import TableRows, TableWriter, finishing
from pingdata_async.tables.writers.geojson import points
from pingdata_async.tables.writers.jsonl import encode_lines, json_values
from pingdata_async.tables.writers.open import open_table_writer
from pingdata_async.util.compression import compressed_writer
from pingdata_async.util.loop import SingleThreadExecutor

T = TypeVar("T")

WriteRows = Callable[[ChunkRows], None]


class TwoPassExport(ABC):
    """Takes the chunks of a run, at its end.

    Args:
        file: Where the rows are written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        form: What is to be written.
        duplicate_answers: What was answered of rows that recur.
        on_note: Told what the user should know of it, a sentence each.

    Attributes:
        counts: How the rows ended that are written.
    """

    def __init__(
        self,
        file: AtomicFile,
        failures: AtomicFile | None,
        thread: SingleThreadExecutor,
        form: OutputSpec,
        *,
        duplicate_answers: DuplicateAnswers,
        on_note: Callable[[str], None],
    ) -> None:
        self._file = file
        self._failures = failures
        self._thread = thread
        self._duplicate_answers = duplicate_answers
        self._form = form
        self._on_note = on_note
        self.counts = Tally()

    def begin(self, plan: Plan, answers: ResultReader) -> None:  # noqa: B027 - the same in all
        """Nothing is written early: what the columns are is only known at the end."""

    def expect(self, chunk: Chunk) -> None:  # noqa: B027 - the same in all of them
        """Nothing is taken early."""

    async def offer(  # noqa: B027 - the same in all of them
        self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None
    ) -> None:
        """Nothing is taken early."""

    async def write_rest(
        self,
        plan: Plan,
        answers: ResultReader,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write every chunk; arguments and errors as of `JSONLExport.write_rest()`."""
        kept = await self._thread.run(lambda: InputCopy(plan.path.with_name(INPUT_NAME)))
        async with self._entered(kept):
            table = await self._scanned(kept, plan, answers)
            for pattern in table.unmatched:
                self._on_note(f'There is no column "{pattern}" to be written.')
            await self._thread.run(self._duplicate_answers.clear)
            rows = RowsByChunk(
                plan, kept, answers, self._duplicate_answers, finished_only=finished_only
            )
            async with self._entered(self._opened(table)) as write:
                for _ in range(plan.chunks):
                    counts = await self._thread.run(lambda: self._write_next(rows, write))
                    self.counts.add(counts)
                    on_rows(counts.rows)

    @abstractmethod
    async def _scanned(self, kept: InputCopy, plan: Plan, answers: ResultReader) -> OutputTable:
        """The first pass.

        Args:
            kept: The input's rows.
            plan: What was planned of them.
            answers: What was answered.
        """

    async def _scan_input_rows(
        self, kept: InputCopy, add: Callable[[InputRows], None], is_settled: Callable[[], bool]
    ) -> None:
        """Have all rows of an input taken in, or as many as tell anything new."""
        batches = iter(kept)

        def scan_next() -> bool:
            input_rows = next(batches, None)
            if input_rows is not None:
                add(input_rows)
            return input_rows is not None and not is_settled()

        while await self._thread.run(scan_next):
            pass

    @abstractmethod
    def _opened(self, table: OutputTable) -> contextlib.AbstractContextManager[WriteRows]:
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


class TableExport(TwoPassExport):
    """Writes a flat table in one of the formats of `tables.formats`.

    An XLSX of rows that came from one is that workbook, with the answers as new columns.
    """

    _sheet_place: SheetPlace | None = None
    _fingerprint: Fingerprint | None = None
    _folder = Path()  # of the run

    async def _scanned(self, kept: InputCopy, plan: Plan, answers: ResultReader) -> OutputTable:
        self._sheet_place, self._fingerprint = kept.sheet_place, plan.summary.fingerprint
        self._folder = plan.path.parent
        is_workbook = self._form.kind is OutputFormat.XLSX
        scan = OutputTableScan(kept.headers, self._form.sources, keeps_cells=is_workbook)
        await self._scan_input_rows(kept, scan.add_input_rows, lambda: scan.knows_input_rows)
        indices = iter(range(plan.chunks))

        def scan_next() -> None:
            scan.add_answers(answers.data(plan.read(next(indices))))

        for _ in range(plan.chunks):
            await self._thread.run(scan_next)
        table = scan.table(self._form.declared, self._form.options.columns)
        if not table.columns:
            asked_for = ",".join(self._form.options.columns)
            raise UnwritableError(
                f'there is no column "{asked_for}" to be written; name others with --columns: '
                "all answers are kept, and nothing is sent again",
                is_for_columns=True,
            )
        return table

    @contextlib.contextmanager
    def _opened(self, table: OutputTable) -> Iterator[WriteRows]:
        form, sources = self._form, self._form.options.geocode_sources
        try:
            check_format(form.kind, columns=len(table.columns))
        except ConfigurationError as error:
            raise UnwritableError(str(error), is_for_columns=False) from error
        placed = 0
        with (
            self._file.opened() as file,
            compressed_writer(file, form.compression) as packed,
            self._writing(packed, table) as (writer, begin),
        ):

            def write(read: ChunkRows) -> None:
                nonlocal placed
                for results, values in table.blocks(read.input_rows, read.results, read.places):
                    where = None
                    if form.kind.has_geometry:
                        where = points(results, sources, form.sources)
                        placed += len(where) - where.count(None)
                    writer.write(
                        TableRows(
                            values[begin:],
                            len(results),
                            where,
                            [result.id for result in results],
                            [result.row for result in results],
                        )
                    )

            yield write
        for note in writer.notes:
            self._on_note(note)
        if form.kind.has_geometry and self.counts.rows and not placed:
            by = f" by --geocode-source {','.join(sources)}" if sources else ""
            self._on_note(f"No row has coordinates{by}: none of them is on a map.")

    @contextlib.contextmanager
    def _writing(self, file: BinaryIO, table: OutputTable) -> Iterator[tuple[TableWriter, int]]:
        """The writer, and the first of the table's columns that it is given."""
        with contextlib.ExitStack() as stack:
            try:
                found = self._workbook_writer(stack, file, table)
            except ValueError as error:
                self._on_note(
                    f"The output is a plain sheet, and not the workbook that was given: {error}."
                )
                found = None
            if found is not None:
                writer, begin = found
                yield stack.enter_context(finishing(writer)), begin
                return
            opened = open_table_writer(file, self._form.kind, table.columns, self._form.options)
            yield stack.enter_context(opened), 0

    def _workbook_writer(
        self, stack: contextlib.ExitStack, file: BinaryIO, table: OutputTable
    ) -> tuple[TableWriter, int] | None:
        """What writes the workbook that was given; None where none was.

        Raises:
            ValueError: Saying why it cannot be written.
        """
        place, fingerprint = self._sheet_place, self._fingerprint
        if self._form.kind is not OutputFormat.XLSX or place is None or fingerprint is None:
            return None
        if table.own_columns is None:
            raise ValueError("--columns leaves out columns of it, or moves them")
        columns = table.columns[table.own_columns :]
        if fingerprint.path is None or not columns:
            raise ValueError("it came from no file" if columns else "--columns has no answers")
        from pingdata_async.tables.writers.workbook import WorkbookWriter, opened_workbook  # noqa: PLC0415 - for workbooks alone

        path = Path(fingerprint.path)
        # They may have been moved together.
        paths = [path, self._folder.parent / path.name]
        given = stack.enter_context(opened_workbook(paths, fingerprint, place))
        given.check_room(len(columns))
        return WorkbookWriter(file, given, columns), table.own_columns


class JSONLWithInputExport(TwoPassExport):
    """Writes lines as `JSONLExport` does, and in each the cells that were asked for."""

    async def _scanned(self, kept: InputCopy, plan: Plan, answers: ResultReader) -> OutputTable:
        del plan, answers  # what was answered makes no difference to the input's columns
        scan = InputRowScan(kept.headers)
        await self._scan_input_rows(kept, scan.add, lambda: scan.is_settled)
        return input_table(scan, self._form.options.columns)

    @contextlib.contextmanager
    def _opened(self, table: OutputTable) -> Iterator[WriteRows]:
        names = unique_names([column.name for column in table.columns])
        with self._file.opened() as file, compressed_writer(file, self._form.compression) as packed:

            def write(read: ChunkRows) -> None:
                cells = _cells(read, table, names)
                packed.write(encode_lines(read.results, cells or [{} for _ in read.results]))

            yield write


def _cells(
    read: ChunkRows, table: OutputTable, names: Sequence[str]
) -> Sequence[Mapping[str, object]]:
    """What was asked for of each row, by its header."""
    if isinstance(read.input_rows, JSONRows):
        # JSON in JSON stays what it is, whatever the same member is in other rows.
        own = [column.name for column in table.columns]
        cells = members_of(read.input_rows, dict(zip(names, own, strict=True)))
        return cells if read.places is None else [cells[place] for place in read.places]
    given = table.values(read.input_rows, read.results, read.places)
    values = map(json_values, given, table.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
