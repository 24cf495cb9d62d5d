"""A run's output written from its directory alone, at any time."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.runs.export import export
from pingdata_async.runs.journal_reader import JournalReader, reading_journal
from pingdata_async.runs.output_files import check_output, failures_path
from pingdata_async.runs.output_form import DeclaredTypes, output_form, writing_elsewhere
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.run_directory import (
    DECLARED,
    PLAN_NAME,
    SPOOL_NAME,
    check_apart,
    journal_path,
    read_settings,
)
from pingdata_async.runs.run_output import check_run_output
from pingdata_async.runs.spool import Spool
from pingdata_async.tables.outputs import WriteOptions, check_format


class ExportedRun(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        rows: Rows written.
        no_answer: Of these, rows without an answer by the API.
        rows_left_out: Rows of the run that have no outcome yet.
        notes: What the user should know of the output, a sentence each.
    """

    rows: int
    no_answer: int
    rows_left_out: int
    notes: tuple[str, ...] = ()


async def export_run(
    run_dir: str | Path,
    output: str | Path,
    overwrite: bool = False,
    *,
    writing: WriteOptions | None = None,
) -> ExportedRun:
    """Write what a run has so far, in input order; costs nothing.

    Works while the run goes on, after it stopped, and after it finished, without its input.
    Rows that have no outcome yet are left out; those that `retry` asks about once more have the
    one that they had, until there is a new one. Cancelled, it leaves nothing behind.

    Args:
        run_dir: Where the run is kept.
        output: The file to be made, in the form that its name says; "-" for standard output.
        overwrite: Whether an existing output may be replaced.
        writing: How it is written; None for as the run's own output.

    Raises:
        ConfigurationError: When the output cannot be used.
        RunError: When it is no run directory, or is damaged, or something cannot be written.
    """
    path = Path(run_dir)
    settings = await anyio.to_thread.run_sync(read_settings, path)
    if writing is None:
        writing = writing_elsewhere(output, None, settings)
    check_format(output_form(output, writing, settings.sources, {}).kind)
    failures = failures_path(output)
    await anyio.to_thread.run_sync(check_apart, path, (output, failures))
    await anyio.to_thread.run_sync(
        lambda: check_output(output, settings.source, overwrite=overwrite, failures=failures)
    )
    plan = await anyio.to_thread.run_sync(Plan.open, path / PLAN_NAME)
    declared = await anyio.to_thread.run_sync(_declared, path)
    notes: list[str] = []
    with plan:
        async with reading_journal(journal_path(path)) as account:
            form = output_form(output, writing, settings.sources, declared)
            await anyio.to_thread.run_sync(check_run_output, form, plan)
            counts = await export(
                plan,
                Spool(path / SPOOL_NAME),
                account,
                output,
                form,
                on_rows=lambda _rows: None,
                on_note=notes.append,
                finished_only=True,
                failures=failures,
            )
    return ExportedRun(counts.rows, counts.no_answer, plan.rows - counts.rows, tuple(notes))


def _declared(run_dir: Path) -> DeclaredTypes:
    with JournalReader(journal_path(run_dir), any_version=True) as journal:
        declared: DeclaredTypes = msgspec.convert(journal.meta(DECLARED) or {}, DeclaredTypes)
        return declared
