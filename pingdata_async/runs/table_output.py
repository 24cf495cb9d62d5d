"""A run's output as a flat table: the input's columns, and the answers beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.kept_input import KeptInput
from pingdata_async.runs.output_at_end import OutputAtEnd, WriteRows
from pingdata_async.runs.output_form import UnwritableError
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rows_by_chunk import ChunkRows
from pingdata_async.tables.flat_table import FlatTable, TableScan
from pingdata_async.tables.geometry import points
from pingdata_async.tables.outputs import (
    OutputFormat,
    TableWriter,
    check_format,
    finishing,
    open_table_writer,
)
from pingdata_async.tables.packing import packing
from pingdata_async.tables.sheet_place import SheetPlace
from pingdata_async.tables.sources import Fingerprint


class TableOutput(OutputAtEnd):
    """Writes a flat table in one of the formats of `tables.outputs`.

    An XLSX of rows that came from one is that workbook, with the answers as new columns.
    """

    _sheet_place: SheetPlace | None = None
    _fingerprint: Fingerprint | None = None
    _folder = Path()  # of the run

    async def _scanned(self, kept: KeptInput, plan: Plan, answers: Answers) -> FlatTable:
        self._sheet_place, self._fingerprint = kept.sheet_place, plan.fingerprint
        self._folder = plan.path.parent
        is_workbook = self._form.kind is OutputFormat.XLSX
        scan = TableScan(kept.headers, self._form.sources, keeps_cells=is_workbook)
        await self._scan_originals(kept, scan.add_originals, lambda: scan.knows_originals)
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
    def _opened(self, table: FlatTable) -> Iterator[WriteRows]:
        form, sources = self._form, self._form.options.geocode_sources
        try:
            check_format(form.kind, columns=len(table.columns))
        except ConfigurationError as error:
            raise UnwritableError(str(error), is_for_columns=False) from error
        placed = 0
        with (
            self._file.opened() as file,
            packing(file, form.compression) as packed,
            self._writing(packed, table) as (writer, begin),
        ):

            def write(read: ChunkRows) -> None:
                nonlocal placed
                for results, values in table.blocks(read.originals, read.results, read.places):
                    where = None
                    if form.kind.has_geometry:
                        where = points(results, sources, form.sources)
                        placed += len(where) - where.count(None)
                    writer.write(
                        values[begin:],
                        len(results),
                        where,
                        [result.id for result in results],
                        [result.row for result in results],
                    )

            yield write
        for note in writer.notes:
            self._on_note(note)
        if form.kind.has_geometry and self.counts.rows and not placed:
            by = f" by --geocode-source {','.join(sources)}" if sources else ""
            self._on_note(f"No row has coordinates{by}: none of them is on a map.")

    @contextlib.contextmanager
    def _writing(self, file: BinaryIO, table: FlatTable) -> Iterator[tuple[TableWriter, int]]:
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
        self, stack: contextlib.ExitStack, file: BinaryIO, table: FlatTable
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
        from pingdata_async.tables.workbook_output import (  # noqa: PLC0415 - for workbooks alone
            WorkbookWriter,
            opened_workbook,
        )

        path = Path(fingerprint.path)
        # They may have been moved together.
        paths = [path, self._folder.parent / path.name]
        given = stack.enter_context(opened_workbook(paths, fingerprint, place))
        given.check_room(len(columns))
        return WorkbookWriter(file, given, columns), table.own_columns
