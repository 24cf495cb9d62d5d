"""Exports that need the input's rows: flat tables, and JSONL with the input's columns.

Which columns a table has, and what they hold, depends on all answers. So it takes two passes, but
the second begins as soon as the first has seen the first few thousand rows: it writes rows while
the run is under way, and notices answers that make other columns. Then it begins again, with these
columns, as long as not too much is thrown away; and otherwise waits until all is known. Both take
some rows at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

import anyio
import msgspec

from pingdata_async.exceptions import ConfigurationError, PingDataError, RunError
from pingdata_async.models import EnhancedLocation
from pingdata_async.results.outcomes import Tally, tally
from pingdata_async.runs.directory.input_copy import INPUT_NAME, InputCopy
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.reused import ReusedAnswers
from pingdata_async.runs.export.in_order import Export
from pingdata_async.runs.export.jsonl import render_failures
from pingdata_async.runs.export.output import AtomicFile, OutputSpec, UnwritableError
from pingdata_async.runs.export.results import (
    DuplicateAnswers,
    ResultReader,
    SettledChunk,
    all_outcomes,
)
from pingdata_async.tables.formats import OutputFormat, check_format
from pingdata_async.tables.rows import (
    Fingerprint,
    InputRows,
    JSONRows,
    SheetPlace,
    joined,
    rows_in,
    sliced,
)
from pingdata_async.tables.schema.inference import SchemaGrewError
from pingdata_async.tables.schema.output_table import (
    InputRowScan,
    OutputTable,
    OutputTableScan,
    input_table,
    members_of,
)
from pingdata_async.tables.schema.types import unique_names
from pingdata_async.tables.writers.base import TableRows, TableWriter, finishing, open_table_writer
from pingdata_async.tables.writers.json import encode_lines, json_values, points
from pingdata_async.util.compression import compressed_writer
from pingdata_async.util.loop import SingleThreadExecutor

LEARN_ROWS: Final = 2000
"""Rows that are looked at before any is written; most later ones hold nothing else."""

MAX_REWRITTEN_PART: Final = 4
"""At most one chunk in so many is written in vain."""


class Rows(msgspec.Struct, frozen=True):
    """The rows of a planned chunk.

    Attributes:
        input_rows: All of them, as they came.
        results: How those ended that have ended, in order.
        places: Where these are among the input rows; None where all have ended.
    """

    input_rows: InputRows
    results: list[EnhancedLocation]
    places: list[int] | None


WriteRows = Callable[[Rows], None]


class TwoPassExport(Export):
    """Takes the chunks of a run in input order, and writes them beside the input's rows.

    Args:
        file: Where the rows are written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        duplicate_answers: What was answered of rows that recur.
        spec: What is to be written.
        on_note: Told what the user should know of it, a sentence each.
    """

    _depends_on_answers: ClassVar = True  # what the columns are

    def __init__(
        self,
        file: AtomicFile,
        failures: AtomicFile | None,
        thread: SingleThreadExecutor,
        duplicate_answers: DuplicateAnswers,
        *,
        spec: OutputSpec,
        on_note: Callable[[str], None],
    ) -> None:
        super().__init__(file, failures, thread, duplicate_answers)
        self._spec = spec
        self._on_note = on_note
        # Where nothing can be taken back, nothing is written before all is known.
        self._looks_at_all = not file.can_be_emptied
        self._rewritten = 0
        self._looked_at = 0
        self._plan: Plan | None = None
        self._kept: InputCopy | None = None
        self._is_scanned = False
        self._second_pass: _SecondPass | None = None

    def begin(self, plan: Plan, answers: ResultReader) -> None:
        """Take chunks from now on as they end; arguments as of `InputOrder.begin()`."""
        self._plan = plan
        super().begin(plan, answers)

    async def write_rest(
        self,
        plan: Plan,
        answers: ResultReader,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write all remaining chunks; see `Export`."""
        self._plan = plan
        await super().write_rest(plan, answers, on_rows=on_rows, finished_only=finished_only)
        if self._second_pass is None:
            await self._scan_input(plan)  # of a run without chunks
            await self._thread.run(self._begin_second_pass)
            self._order.start_over()
            await self._order.finish(plan, answers)
        await self._thread.run(self._end_second_pass)

    async def abandon(self) -> None:
        """Close open files; the output is finished or incomplete."""
        with anyio.CancelScope(shield=True):
            await self._thread.run(self._let_go)

    async def _take(self, settled: SettledChunk) -> bool:
        assert self._plan is not None  # noqa: S101 - for type checkers
        await self._scan_input(self._plan)

        def look_or_write() -> tuple[Tally | None, bool]:
            with self._file.blamed():  # also by writers, and by what they keep beside it
                return self._look_or_write(settled)

        written, goes_on = await self._thread.run(look_or_write)
        if written is not None:
            self._count(settled.chunk, written)
        return goes_on

    def _look_or_write(self, settled: SettledChunk) -> tuple[Tally | None, bool]:
        """What was written of a chunk, and whether to go on with the next one; blocks."""
        if self._second_pass is None and not self._depends_on_answers:
            self._begin_second_pass()
        if self._second_pass is None:
            self._look_at(settled)
            if self._looks_at_all or self._looked_at < LEARN_ROWS:
                return None, True
            return None, not self._begins_again()
        try:
            return self._write(settled, self._second_pass), True
        except SchemaGrewError:
            self._look_at(settled)
        self._take_back()
        self._rewritten += settled.chunk.index
        assert self._plan is not None  # noqa: S101 - for type checkers
        if self._rewritten * MAX_REWRITTEN_PART > self._plan.chunks:
            self._looks_at_all = True
        return None, self._looks_at_all or not self._begins_again()

    def _begins_again(self) -> bool:
        """Begin the second pass, if there is anything to be written so far."""
        try:
            self._begin_second_pass()
        except UnwritableError:  # perhaps others bring what is asked for
            self._looks_at_all = True
        return not self._looks_at_all

    def _look_at(self, settled: SettledChunk) -> None:
        """The first pass over a chunk's answers; those before it are known."""
        self._looked_at += len(settled.chunk.rows)
        self._add_answers(settled.answers())

    def _begin_second_pass(self) -> None:
        assert self._kept is not None  # noqa: S101 - for type checkers
        table = self._table()
        self._second_pass = _SecondPass(table, self._kept, self._opened(table))

    def _end_second_pass(self) -> None:
        assert self._second_pass is not None  # noqa: S101 - for type checkers
        for pattern in self._second_pass.table.unmatched:
            self._on_note(f'There is no column "{pattern}" to be written.')
        self._second_pass.end()
        self._second_pass = None

    def _write(self, settled: SettledChunk, second_pass: _SecondPass) -> Tally:
        chunk = settled.chunk
        results = all_outcomes(settled, self._duplicate_answers, finished_only=self._finished_only)
        second_pass.write(results, chunk.total_rows)
        if self._failures is not None:
            failures = render_failures(chunk, results)
            if failures:
                self._failures.write([failures])
        return tally(results)

    def _let_go_of_second_pass(self) -> None:
        if self._second_pass is not None:
            self._second_pass.abandon()
            self._second_pass = None

    def _let_go(self) -> None:
        self._let_go_of_second_pass()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _take_back(self) -> None:
        self._let_go_of_second_pass()
        super()._take_back()

    async def _scan_input(self, plan: Plan) -> None:
        """Take in all of the input's rows, or as many as tell anything new."""
        if self._is_scanned:
            return
        if self._kept is None:
            self._kept = await self._thread.run(
                lambda: InputCopy(plan.path.with_name(INPUT_NAME)).__enter__()
            )
        kept = self._kept
        scan = await self._thread.run(lambda: self._begin_first_pass(kept, plan))
        batches = iter(kept)

        def scan_next() -> bool:
            input_rows = next(batches, None)
            if input_rows is not None:
                scan.add(input_rows)
            return input_rows is not None and not scan.is_settled

        while await self._thread.run(scan_next):
            pass
        self._is_scanned = True

    @abstractmethod
    def _begin_first_pass(self, kept: InputCopy, plan: Plan) -> InputRowScan:
        """What takes in the input's rows; blocks."""

    @abstractmethod
    def _add_answers(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """The first pass over some answers."""

    @abstractmethod
    def _table(self) -> OutputTable:
        """The table of what the first pass has seen.

        Raises:
            UnwritableError: When it has no columns, or too many.
        """

    @abstractmethod
    def _opened(self, table: OutputTable) -> contextlib.AbstractContextManager[WriteRows]:
        """What writes rows of a chunk; called and used in the thread."""


class _SecondPass:
    """Writes chunks in their order; everything blocks.

    Args:
        table: What is written.
        kept: The input's rows.
        opened: What writes some.
    """

    def __init__(
        self,
        table: OutputTable,
        kept: InputCopy,
        opened: contextlib.AbstractContextManager[WriteRows],
    ) -> None:
        self.table = table
        self._input_rows = _Taker(iter(kept))
        self._first_row = 0
        self._stack = contextlib.ExitStack()
        self._write = self._stack.enter_context(opened)

    def write(self, results: list[EnhancedLocation], rows: int) -> None:
        """Write the outcomes of this many next rows."""
        places = None
        if len(results) != rows:
            places = [result.row - self._first_row for result in results]
        self._first_row += rows
        self._write(Rows(self._input_rows.take(rows), results, places))

    def end(self) -> None:
        """Write what is still pending."""
        self._stack.close()

    def abandon(self) -> None:
        """Close the file unfinished."""
        error = SchemaGrewError("what was written is taken back")
        with contextlib.suppress(PingDataError, OSError):
            self._stack.__exit__(SchemaGrewError, error, None)


class _Taker:
    """Gives as many rows as are asked for, from batches of any size."""

    def __init__(self, batches: Iterator[InputRows]) -> None:
        self._batches = batches
        self._rest: InputRows | None = None

    def take(self, rows: int) -> InputRows:
        parts: list[InputRows] = []
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise RunError("the kept input has fewer rows than the plan; please report this")
            size = rows_in(batch)
            if size > rows:
                self._rest = sliced(batch, rows, size)
                batch, size = sliced(batch, 0, rows), rows
            else:
                self._rest = None
            parts.append(batch)
            rows -= size
        return joined(parts)


class TableExport(TwoPassExport):
    """Writes a flat table in one of the formats of `tables.formats`.

    An XLSX of rows that came from one is that workbook, with the answers as new columns.
    """

    _sheet_place: SheetPlace | None = None
    _fingerprint: Fingerprint | None = None
    _folder = Path()  # of the run
    _scan = OutputTableScan((), ())

    def _begin_first_pass(self, kept: InputCopy, plan: Plan) -> InputRowScan:
        self._sheet_place, self._fingerprint = kept.sheet_place, plan.summary.fingerprint
        self._folder = plan.path.parent
        is_workbook = self._spec.kind is OutputFormat.XLSX
        if is_workbook:  # to begin one again takes longer than to wait
            self._looks_at_all = True
        self._scan = OutputTableScan(
            kept.headers,
            self._spec.sources,
            keeps_cells=is_workbook,
            has_reused=bool(ReusedAnswers(self._folder)),
        )
        return self._scan.input_rows

    def _add_answers(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        self._scan.add_answers(answers)

    def _table(self) -> OutputTable:
        table = self._scan.table(self._spec.declared, self._spec.options.columns)
        if not table.columns:
            asked_for = ",".join(self._spec.options.columns)
            raise UnwritableError(
                f'there is no column "{asked_for}" to be written; name others with --columns: '
                "all answers are kept, and nothing is sent again",
                is_for_columns=True,
            )
        try:
            check_format(self._spec.kind, columns=len(table.columns))
        except ConfigurationError as error:
            raise UnwritableError(str(error), is_for_columns=False) from error
        return table

    @contextlib.contextmanager
    def _opened(self, table: OutputTable) -> Iterator[WriteRows]:
        form, sources = self._spec, self._spec.options.geocode_sources
        placed = 0
        with (
            self._file.opened() as file,
            compressed_writer(file, form.compression) as packed,
            self._writing(packed, table) as (writer, begin),
        ):

            def write(read: Rows) -> None:
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
            opened = open_table_writer(file, self._spec.kind, table.columns, self._spec.options)
            yield stack.enter_context(opened), 0

    def _workbook_writer(
        self, stack: contextlib.ExitStack, file: BinaryIO, table: OutputTable
    ) -> tuple[TableWriter, int] | None:
        """What writes the workbook that was given; None where none was.

        Raises:
            ValueError: Saying why it cannot be written.
        """
        place, fingerprint = self._sheet_place, self._fingerprint
        if self._spec.kind is not OutputFormat.XLSX or place is None or fingerprint is None:
            return None
        if table.own_columns is None:
            raise ValueError("--columns leaves out columns of it, or moves them")
        columns = table.columns[table.own_columns :]
        if fingerprint.path is None or not columns:
            raise ValueError("it came from no file" if columns else "--columns has no answers")
        from pingdata_async.tables.writers.excel import WorkbookWriter, opened_workbook  # noqa: PLC0415 - for workbooks alone

        path = Path(fingerprint.path)
        # They may have been moved together.
        paths = [path, self._folder.parent / path.name]
        given = stack.enter_context(opened_workbook(paths, fingerprint, place))
        given.check_room(len(columns))
        return WorkbookWriter(file, given, columns), table.own_columns


class JSONLWithInputExport(TwoPassExport):
    """Writes lines as `JSONLExport` does, and in each the cells that were asked for."""

    _depends_on_answers = False
    _scan = InputRowScan(())

    def _begin_first_pass(self, kept: InputCopy, plan: Plan) -> InputRowScan:
        del plan
        self._scan = InputRowScan(kept.headers)
        return self._scan

    def _add_answers(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """What was answered makes no difference to the input's columns."""

    def _table(self) -> OutputTable:
        return input_table(self._scan, self._spec.options.columns)

    @contextlib.contextmanager
    def _opened(self, table: OutputTable) -> Iterator[WriteRows]:
        names = unique_names([column.name for column in table.columns])
        with self._file.opened() as file, compressed_writer(file, self._spec.compression) as packed:

            def write(read: Rows) -> None:
                cells = _cells(read, table, names)
                packed.write(encode_lines(read.results, cells or [{} for _ in read.results]))

            yield write


def _cells(read: Rows, table: OutputTable, names: Sequence[str]) -> Sequence[Mapping[str, object]]:
    """What was asked for of each row, by its header."""
    if isinstance(read.input_rows, JSONRows):
        # JSON in JSON stays what it is, whatever the same member is in other rows.
        own = [column.name for column in table.columns]
        cells = members_of(read.input_rows, dict(zip(names, own, strict=True)))
        return cells if read.places is None else [cells[place] for place in read.places]
    given = table.values(read.input_rows, read.results, read.places)
    values = map(json_values, given, table.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
