"""A Run: plan, execute, export."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from pingdata_async.bulk.chunking import ChunkBuilder
from pingdata_async.bulk.protocols import ChunkSink, FinishedChunk
from pingdata_async.bulk.runner import BulkRunner
from pingdata_async.events import (
    Announcer,
    Event,
    InputPlanned,
    OutputProgress,
    OutputWritten,
)
from pingdata_async.exceptions import ConfigurationError, PingDataError, RunError
from pingdata_async.models import RunSummary
from pingdata_async.runs.export import export
from pingdata_async.runs.output_files import STDOUT, check_output, shown_path
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.records import ChunkRecord
from pingdata_async.runs.spool import Spool
from pingdata_async.runs.summary import SummaryListener

logger = logging.getLogger("pingdata_async")


class SpoolSink:
    """Keeps finished chunks in a spool, and account of them in memory."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._records: dict[int, ChunkRecord] = {}

    @property
    def chunks(self) -> int:
        """Chunks that came to an end."""
        return len(self._records)

    async def deliver(self, finished: FinishedChunk) -> None:
        """Keep one.

        Raises:
            RunError: When it cannot be written.
        """
        index = finished.chunk.index
        if finished.body is not None:
            try:
                await self._spool.keep(index, finished.body)
            except OSError as error:
                raise RunError(
                    f"the answer to chunk {index} cannot be kept: {error.strerror or error}"
                ) from error
            self._records[index] = ChunkRecord(index=index, state="spooled")
        elif finished.failure is not None:  # else nothing of it was sent; the plan says why
            self._records[index] = ChunkRecord(
                index=index, state="failed", failure=finished.failure
            )

    def record(self, index: int) -> ChunkRecord | None:
        """As `Account.record()`."""
        return self._records.get(index)

    def later_chunks_of(self, origin: int) -> list[ChunkRecord]:  # noqa: ARG002 - none yet
        """As `Account.later_chunks_of()`."""
        return []

    def waiting_rows(self, origin: int) -> set[int]:  # noqa: ARG002 - none yet
        """As `Account.waiting_rows()`."""
        return set()


class Run:
    """One input's journey to its output.

    Args:
        source: The input file, "-" for standard input.
        output: The output file, "-" for standard output.
        run_dir: Where plan and spool are kept meanwhile; None for `OUTPUT.run`.
        overwrite: Whether an existing output may be replaced.
        sources: The run's sources.
        builder: Makes the chunks.
        make_runner: Makes the runner for a sink and a listener.
        on_event: Told of everything that happens.
        environment: The API's environment, for the summary.
    """

    def __init__(
        self,
        *,
        source: str | Path,
        output: str | Path,
        run_dir: str | Path | None,
        overwrite: bool,
        sources: tuple[str, ...],
        builder: ChunkBuilder,
        make_runner: Callable[[ChunkSink, Announcer], BulkRunner],
        on_event: Callable[[Event], None] | None,
        environment: str | None,
    ) -> None:
        self._source = source
        self._output = output
        self._run_dir = None if run_dir is None else Path(run_dir)
        self._overwrite = overwrite
        self._sources = sources
        self._builder = builder
        self._make_runner = make_runner
        self._counts = SummaryListener()
        self._counts.summary.environment = environment
        self._announce = Announcer(self._counts, on_event)
        self._is_unsaved = False  # answers lie in the run directory and nowhere else

    async def run(self) -> RunSummary:
        """Read the input through, enhance it, write the output.

        When it stops early, by an error or by being cancelled, the rows answered so far are
        written to `OUTPUT.partial` (they were paid for), and the error goes on. Where even
        that cannot be written, the run directory is kept. Once everything is answered,
        cancelling waits until the output is written.

        Raises:
            ConfigurationError: When output or run directory cannot be used; nothing is sent.
            InputError: When the input cannot be used; nothing is sent.
            RunError: When something cannot be written.
            PingDataError: When the API cannot be used any further.
        """
        began = time.monotonic()
        await anyio.to_thread.run_sync(self._check_output)
        run_dir = await anyio.to_thread.run_sync(self._make_run_dir)
        try:
            await self._run_in(run_dir)
        finally:
            if not self._is_unsaved:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_remove_tree, run_dir)
        summary = self._counts.summary
        summary.seconds = round(time.monotonic() - began, 3)
        summary.output = shown_path(self._output)
        return summary

    async def _run_in(self, run_dir: Path) -> None:
        plan, spool = Plan(run_dir / "plan"), Spool(run_dir / "spool")
        sink = SpoolSink(spool)
        try:
            await plan.make(self._source, self._builder)
        except OSError as error:
            raise RunError(f"the plan cannot be written: {error.strerror or error}") from error
        self._announce(
            InputPlanned(
                rows=plan.rows,
                locations=plan.locations,
                chunks=plan.chunks,
                unused_columns=plan.unused_columns,
                values_left_out=plan.values_left_out,
            )
        )
        with plan:
            try:
                runner = self._make_runner(sink, self._announce)
                async with contextlib.aclosing(plan.iter_chunks()) as chunks:
                    await runner.run(chunks)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._write_finished(plan, spool, sink)
                raise
            with anyio.CancelScope(shield=True):
                await self._write_all(plan, spool, sink)

    async def _write_all(self, plan: Plan, spool: Spool, sink: SpoolSink) -> None:
        # Until the output is whole, the run directory is all there is of what was paid for.
        self._is_unsaved = sink.chunks > 0
        kept = f"Every answer is kept in {plan.path.parent}" if self._is_unsaved else ""
        try:
            counts = await export(
                plan, spool, sink, self._output, self._sources, on_rows=self._tell_rows
            )
            if counts.rows != plan.rows or counts.ok + counts.partial + counts.failed != plan.rows:
                raise RunError(
                    f"{plan.rows} rows were planned, but {counts.rows} written; please report this"
                )
        except BrokenPipeError:  # nobody wants them
            self._is_unsaved = False
            raise
        except PingDataError as error:
            raise RunError(f"{error}. {kept}") from error
        self._is_unsaved = False
        self._counts.add_rows(counts)
        self._announce(
            OutputWritten(path=shown_path(self._output), rows=counts.rows, is_partial=False)
        )

    async def _write_finished(self, plan: Plan, spool: Spool, sink: SpoolSink) -> None:
        """Save what has been paid for from a run that stops early."""
        if not sink.chunks:
            return
        output: str | Path = self._output
        if str(output) != STDOUT:
            output = await anyio.to_thread.run_sync(_free_name, Path(f"{self._output}.partial"))
        self._is_unsaved = True
        try:
            counts = await export(
                plan,
                spool,
                sink,
                output,
                self._sources,
                on_rows=self._tell_rows,
                finished_only=True,
            )
        except (PingDataError, BrokenPipeError) as error:  # what stopped the run is the news
            logger.error("answers are kept in %s: %s", plan.path.parent, error)  # noqa: TRY400
            return
        self._is_unsaved = False
        self._announce(OutputWritten(path=shown_path(output), rows=counts.rows, is_partial=True))

    def _tell_rows(self, rows: int) -> None:
        self._announce(OutputProgress(rows=rows))

    def _check_output(self) -> None:
        check_output(self._output, self._source, overwrite=self._overwrite)

    def _make_run_dir(self) -> Path:
        if self._run_dir is not None and self._run_dir.absolute() == Path(self._output).absolute():
            raise ConfigurationError(f"{self._run_dir} cannot be both output and run directory")
        if self._run_dir is None and str(self._output) == STDOUT:
            return Path(tempfile.mkdtemp(prefix="pingdata-async-"))
        run_dir = self._run_dir or Path(f"{self._output}.run")
        try:
            run_dir.mkdir(mode=0o700)
        except FileExistsError:
            raise ConfigurationError(
                f"{run_dir} exists: another run is at work on it, or was killed; "
                "remove it, or name another with --run-dir"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"{run_dir} cannot be made: {error.strerror or error}"
            ) from error
        return run_dir


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _free_name(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
