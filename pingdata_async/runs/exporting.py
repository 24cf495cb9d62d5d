"""A run's output written from its directory alone, at any time."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.runs.export import export
from pingdata_async.runs.journal_reader import reading_journal
from pingdata_async.runs.output_files import check_output, failures_path
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.run_directory import (
    PLAN_NAME,
    SPOOL_NAME,
    journal_path,
    read_settings,
)
from pingdata_async.runs.spool import Spool


class ExportedRun(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        rows: Rows written.
        no_answer: Of these, rows without an answer by the API.
        rows_left_out: Rows of the run that have no outcome yet.
    """

    rows: int
    no_answer: int
    rows_left_out: int


async def export_run(
    run_dir: str | Path, output: str | Path, overwrite: bool = False
) -> ExportedRun:
    """Write what a run has so far, in input order; costs nothing.

    Works while the run goes on, after it stopped, and after it finished, without its input.
    Rows that have no outcome yet are left out; those that `retry` asks about once more have the
    one that they had, until there is a new one. Cancelled, it leaves nothing behind.

    Args:
        run_dir: Where the run is kept.
        output: The JSONL file to be made; "-" for standard output.
        overwrite: Whether an existing output may be replaced.

    Raises:
        ConfigurationError: When the output cannot be used.
        RunError: When it is no run directory, or is damaged, or something cannot be written.
    """
    path = Path(run_dir)
    settings = await anyio.to_thread.run_sync(read_settings, path)
    failures = failures_path(output)
    await anyio.to_thread.run_sync(
        lambda: check_output(output, settings.source, overwrite=overwrite, failures=failures)
    )
    plan = await anyio.to_thread.run_sync(Plan.open, path / PLAN_NAME)
    with plan:
        async with reading_journal(journal_path(path)) as account:
            counts = await export(
                plan,
                Spool(path / SPOOL_NAME),
                account,
                output,
                settings.sources,
                on_rows=lambda _rows: None,
                finished_only=True,
                failures=failures,
            )
    return ExportedRun(counts.rows, counts.no_answer, plan.rows - counts.rows)
