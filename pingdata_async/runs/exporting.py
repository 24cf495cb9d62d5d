"""A run's output written from its directory alone, at any time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.exceptions import RunError
from pingdata_async.runs.export import export
from pingdata_async.runs.filesystem import absolute
from pingdata_async.runs.journal_reader import reading_journal
from pingdata_async.runs.journal_records import damage_in
from pingdata_async.runs.output_files import (
    absolute_output,
    check_output,
    failures_path,
    shown_path,
)
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
    path = await anyio.to_thread.run_sync(absolute, run_dir)
    output = await anyio.to_thread.run_sync(absolute_output, output)
    settings = await anyio.to_thread.run_sync(read_settings, path)
    if writing is None:
        writing = writing_elsewhere(output, None, settings)
    check_format(output_form(output, writing, settings.sources, {}).kind)
    failures = failures_path(output)
    await anyio.to_thread.run_sync(check_apart, path, (output, failures))
    await anyio.to_thread.run_sync(
        lambda: check_output(output, settings.source, overwrite=overwrite, failures=failures)
    )
    notes: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        place = await anyio.to_thread.run_sync(stack.enter_context, _Place(path))
        # One view of it for all that is read: a run may be going on meanwhile.
        account = await stack.enter_async_context(
            reading_journal(journal_path(path), as_it_is_now=True)
        )
        plan = await anyio.to_thread.run_sync(Plan.open, path / PLAN_NAME)
        stack.enter_context(plan)
        kept = await anyio.to_thread.run_sync(account.meta, DECLARED)
        with damage_in("the types of fields"):
            declared: DeclaredTypes = msgspec.convert(kept or {}, DeclaredTypes)
        form = output_form(output, writing, settings.sources, declared)
        await anyio.to_thread.run_sync(check_run_output, form, plan)
        try:
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
                before_move=place.check,
            )
        except RunError:
            await place.check()  # else an answer would be said to be missing
            raise
        await place.check()
    return ExportedRun(counts.rows, counts.no_answer, plan.rows - counts.rows, tuple(notes))


class _Place:
    """A run directory that must stay in its place while it is read; a context manager. Blocks.

    Set aside for a new run, or removed, its paths would lead to another run's answers.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._folder = -1

    def __enter__(self) -> Self:
        try:
            self._folder = os.open(self._run_dir, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            said = error.strerror or error
            raise RunError(f"{shown_path(self._run_dir)} cannot be read: {said}") from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._folder)

    async def check(self, *_files: Path) -> None:
        """Before a file takes its name.

        Raises:
            RunError: When it is not there any more.
        """
        if not await anyio.to_thread.run_sync(self._is_there):
            raise RunError(
                f"{shown_path(self._run_dir)} was set aside or removed while it was exported; "
                "export it from where it is now"
            )

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._folder), self._run_dir.stat())
        except OSError:
            return False
