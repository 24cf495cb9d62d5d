"""An output written of a plan, a spool and a journal, without a run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.export import open_export
from pingdata_async.runs.export.output import OutputSpec
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.journal.reader import JournalReader


async def export(
    plan: Plan,
    spool: Spool,
    journal: JournalReader,
    output: Path,
    spec: OutputSpec,
    *,
    on_note: Callable[[str], None],
    on_rows: Callable[[int], None] = lambda _rows: None,
    finished_only: bool = False,
    failures: Path | None = None,
) -> Tally:
    """Write every row of a plan, which is open; returns how the rows ended."""
    results = ResultReader(spool, journal, spec.sources, keep_earlier=finished_only)
    async with open_export(
        output, spec, on_note=on_note, failures=failures, scratch=plan.path.parent
    ) as sink:
        await sink.write_rest(plan, results, on_rows=on_rows, finished_only=finished_only)
    return sink.counts
