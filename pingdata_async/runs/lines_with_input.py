"""A run's output as JSONL with the input's own cells in each line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from pingdata_async.runs.answers import Answers
from pingdata_async.runs.kept_input import KeptInput
from pingdata_async.runs.output_at_end import OutputAtEnd, WriteRows
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rows_by_chunk import ChunkRows
from pingdata_async.tables.flat_table import FlatTable, input_table
from pingdata_async.tables.inputs import JSONRows
from pingdata_async.tables.json_values import json_values
from pingdata_async.tables.jsonl import encode_lines
from pingdata_async.tables.originals import OriginalScan, members_of
from pingdata_async.tables.packing import packing
from pingdata_async.tables.schema import unique_names


class LinesWithInput(OutputAtEnd):
    """Writes lines as `OutputWriter` does, and in each the cells that were asked for."""

    async def _scanned(self, kept: KeptInput, plan: Plan, answers: Answers) -> FlatTable:
        del plan, answers  # what was answered makes no difference to the input's columns
        scan = OriginalScan(kept.headers)
        await self._scan_originals(kept, scan.add, lambda: scan.is_settled)
        return input_table(scan, self._form.options.columns)

    @contextlib.contextmanager
    def _opened(self, table: FlatTable) -> Iterator[WriteRows]:
        names = unique_names([column.name for column in table.columns])
        with self._file.opened() as file, packing(file, self._form.compression) as packed:

            def write(read: ChunkRows) -> None:
                cells = _cells(read, table, names)
                packed.write(encode_lines(read.results, cells or [{} for _ in read.results]))

            yield write


def _cells(
    read: ChunkRows, table: FlatTable, names: Sequence[str]
) -> Sequence[Mapping[str, object]]:
    """What was asked for of each row, by its header."""
    if isinstance(read.originals, JSONRows):
        # JSON in JSON stays what it is, whatever the same member is in other rows.
        own = [column.name for column in table.columns]
        cells = members_of(read.originals, dict(zip(names, own, strict=True)))
        return cells if read.places is None else [cells[place] for place in read.places]
    given = table.values(read.originals, read.results, read.places)
    values = map(json_values, given, table.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
