"""Phase three: plan, journal and spool become an output, in input order.

A run opens its output at its start, so that rows can be written while it is under way;
`export_run()` writes one from the run directory alone, at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Self

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.runs.directory.directory import (
    DECLARED,
    PLAN_NAME,
    SPOOL_NAME,
    check_apart,
    failures_path,
    journal_path,
    read_settings,
)
from pingdata_async.runs.directory.input_copy import INPUT_NAME, InputCopy
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.in_order import Export
from pingdata_async.runs.export.jsonl import JSONLExport
from pingdata_async.runs.export.output import (
    AtomicFile,
    BeforeMove,
    DeclaredTypes,
    OutputSpec,
    absolute_output,
    check_output,
    open_atomic,
    output_spec,
    writing_elsewhere,
)
from pingdata_async.runs.export.results import DuplicateAnswers, ResultReader
from pingdata_async.runs.export.two_pass import JSONLWithInputExport, TableExport
from pingdata_async.runs.journal.reader import JournalReader, reading_journal
from pingdata_async.runs.journal.records import damage_in
from pingdata_async.tables.formats import OutputFormat, WriteOptions, check_format, load_package_for
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.schema.output_table import (
    impossible_columns,
    least_columns,
    undeclared_columns,
)
from pingdata_async.util.compression import compressed_writer
from pingdata_async.util.files import Closing, absolute
from pingdata_async.util.loop import SingleThreadExecutor
from pingdata_async.util.text import shown_path


def check_run_output(spec: OutputSpec, plan: Plan) -> None:
    """Refuse an output that could not be written of a run, before anything is sent. Blocks.

    Raises:
        ConfigurationError: When a package is missing or broken, there are too many rows or columns,
            or a column is wanted that neither the input has nor an answer can bring.
        RunError: When the run has not kept the input's columns that the output needs.
    """
    check_format(spec.kind, plan.summary.rows)
    load_package_for(spec.kind)
    if spec.kind is not OutputFormat.JSONL or spec.options.columns:
        headers = InputCopy(plan.path.with_name(INPUT_NAME)).headers
        check_format(spec.kind, columns=least_columns(headers, spec.options.columns))
        impossible = impossible_columns(headers, spec.options.columns)
        if impossible:
            raise ConfigurationError(
                f"there is no column {shown_headers(impossible)} to be written; name others with "
                f"--columns. The input has: {shown_headers(headers)}"
            )


def undeclared(spec: OutputSpec, plan: Plan) -> list[str]:
    """Requested columns that the API declares for no source. Blocks.

    None where it does not tell of every source that is asked.
    """
    asked = plan.summary.asked or dict.fromkeys(spec.sources)
    told = {code.casefold() for code, fields in spec.declared.items() if fields}
    if spec.kind is OutputFormat.JSONL or not {code.casefold() for code in asked} <= told:
        return []
    headers = InputCopy(plan.path.with_name(INPUT_NAME)).headers
    return undeclared_columns(headers, spec.declared, spec.options.columns)


@contextlib.asynccontextmanager
async def open_export(
    output: str | Path,
    spec: OutputSpec,
    *,
    on_note: Callable[[str], None],
    failures: Path | None = None,
    before_move: BeforeMove | None = None,
    scratch: Path | None = None,
) -> AsyncIterator[Export]:
    """Open the files of an output, and give what takes the chunks of a run.

    The files take their names when this is left without an error, whole and on the disk.

    Args:
        output: A path, or "-" for standard output.
        spec: What is to be written.
        on_note: Told what the user should know of it, a sentence each.
        failures: Where the rows without an answer are written, as an input for another run;
            None for nowhere. Without such rows there is no such file afterwards.
        before_move: Told of each file's name and where it is until then, when it is whole.
        scratch: A folder for what is kept meanwhile, under no name; None for the system's own.

    Raises:
        RunError: When they cannot be opened or moved into place.
    """
    async with contextlib.AsyncExitStack() as stack:
        file = await stack.enter_async_context(open_atomic(output, before_move=before_move))
        failed = None
        if failures is not None:
            opened = open_atomic(failures, keep_empty=False, before_move=before_move)
            failed = await stack.enter_async_context(opened)
        duplicate_answers = stack.enter_context(DuplicateAnswers(scratch))
        thread = stack.enter_context(SingleThreadExecutor("pingdata_async export"))
        if spec.kind is OutputFormat.JSONL and not spec.options.columns:
            packed = _PackedFile(file, spec.compression) if spec.compression else None
            yield JSONLExport(packed or file, failed, thread, duplicate_answers)
            if packed is not None:
                await thread.run(packed.end)
            return
        make = JSONLWithInputExport if spec.kind is OutputFormat.JSONL else TableExport
        table = make(file, failed, thread, duplicate_answers, spec=spec, on_note=on_note)
        stack.push_async_callback(table.abandon)
        yield table


class _PackedFile:
    """A file whose content is compressed on its way."""

    def __init__(self, file: AtomicFile, compression: str) -> None:
        self.can_be_emptied = file.can_be_emptied
        self._file = file
        self._compression = compression
        self._stack = contextlib.ExitStack()
        self._packed: BinaryIO | None = None

    def write(self, pieces: Sequence[bytes | memoryview], /) -> None:
        with self.blamed():
            self._begun().writelines(pieces)

    async def write_lines(
        self, pieces: Iterable[bytes | memoryview], thread: SingleThreadExecutor, /
    ) -> None:
        await thread.run(lambda: self.write(list(pieces)))

    def empty(self) -> None:
        # Whatever the compressor still holds is forgotten with it.
        self._stack.pop_all()
        self._packed = None
        self._file.empty()

    def end(self) -> None:
        """Write what the compressor still holds; also of nothing, which is compressed as well."""
        self._begun()
        self._stack.close()

    def opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        return compressed_writer(self._begun(), "")

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        return self._file.blamed()

    def _begun(self) -> BinaryIO:
        if self._packed is None:
            file = self._stack.enter_context(self._file.opened())
            self._packed = self._stack.enter_context(compressed_writer(file, self._compression))
        return self._packed


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
    """Write a run's outcomes so far, in input order; costs nothing.

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
    check_format(output_spec(output, writing, settings.sources, {}).kind)
    failures = failures_path(output)
    await anyio.to_thread.run_sync(check_apart, path, (output, failures))
    await anyio.to_thread.run_sync(
        lambda: check_output(output, settings.source, overwrite=overwrite, failures=failures)
    )
    notes: list[str] = []
    async with _reading_run(path) as (place, journal, plan):
        kept = await anyio.to_thread.run_sync(journal.meta, DECLARED)
        with damage_in("the types of fields"):
            declared: DeclaredTypes = msgspec.convert(kept or {}, DeclaredTypes)
        spec = output_spec(output, writing, settings.sources, declared)
        await anyio.to_thread.run_sync(check_run_output, spec, plan)
        answers = ResultReader(Spool(path / SPOOL_NAME), journal, spec.sources, keep_earlier=True)
        try:
            async with open_export(
                output,
                spec,
                on_note=notes.append,
                failures=failures,
                before_move=lambda *_files: anyio.to_thread.run_sync(place.check),
                scratch=path,
            ) as sink:
                await sink.write_rest(plan, answers, on_rows=lambda _rows: None, finished_only=True)
        except RunError:
            await anyio.to_thread.run_sync(
                place.check
            )  # else an answer would be said to be missing
            raise
        await anyio.to_thread.run_sync(place.check)
    counts = sink.counts
    return ExportedRun(counts.rows, counts.no_answer, plan.summary.rows - counts.rows, tuple(notes))


@contextlib.asynccontextmanager
async def _reading_run(path: Path) -> AsyncIterator[tuple[Place, JournalReader, Plan]]:
    """A run's place, its journal as it is now, as the run may be going on, and its plan."""
    async with contextlib.AsyncExitStack() as stack:
        place = await anyio.to_thread.run_sync(stack.enter_context, Place(path))
        journal = await stack.enter_async_context(
            reading_journal(journal_path(path), as_it_is_now=True)
        )
        plan = await anyio.to_thread.run_sync(Plan, path / PLAN_NAME)
        yield place, journal, stack.enter_context(plan)


class Place(Closing):
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

    def close(self) -> None:
        """Close it."""
        os.close(self._folder)

    def check(self) -> None:
        """Before what was read there is believed.

        Raises:
            RunError: When it is not there any more.
        """
        if not self._is_there():
            raise RunError(
                f"{shown_path(self._run_dir)} was set aside or removed while it was read; "
                "name the place where it is now"
            )

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._folder), self._run_dir.stat())
        except OSError:
            return False
