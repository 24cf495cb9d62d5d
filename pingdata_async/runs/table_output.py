"""A run's output as a flat table: the input's columns, and the answers beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.kept_input import KeptInput
from pingdata_async.runs.output_at_end import OutputAtEnd, WriteRows
from pingdata_async.runs.output_form import UnwritableError
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rows_by_chunk import ChunkRows
from pingdata_async.tables.flat_table import FlatTable, TableScan
from pingdata_async.tables.geometry import points
from pingdata_async.tables.outputs import check_format, open_table_writer
from pingdata_async.tables.packing import packing


class TableOutput(OutputAtEnd):
    """Writes a flat table in one of the formats of `tables.outputs`."""

    async def _scanned(self, kept: KeptInput, plan: Plan, answers: Answers) -> FlatTable:
        scan = TableScan(kept.headers, self._form.sources)
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
            open_table_writer(packed, form.kind, table.columns, form.options) as writer,
        ):

            def write(read: ChunkRows) -> None:
                nonlocal placed
                for results, values in table.blocks(read.originals, read.results, read.places):
                    where = None
                    if form.kind.has_geometry:
                        where = points(results, sources, form.sources)
                        placed += len(where) - where.count(None)
                    writer.write(values, len(results), where, [result.id for result in results])

            yield write
        for note in writer.notes:
            self._on_note(note)
        if form.kind.has_geometry and self.counts.rows and not placed:
            by = f" by --geocode-source {','.join(sources)}" if sources else ""
            self._on_note(f"No row has coordinates{by}: none of them is on a map.")
