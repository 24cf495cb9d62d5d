"""A run from file to file: plan, execute, export. Each phase can be killed and resumed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import SANDBOX, watched
from pingdata_async.engine.context import ChunkStore, FinishedChunk
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import Budget
from pingdata_async.engine.flow_control.retry import (
    CircuitBreaker,
    RetryPolicy,
)
from pingdata_async.engine.stream import time_limit
from pingdata_async.events import (
    EventEmitter,
    Listener,
    OutputProgress,
    OutputWritten,
    RunNotice,
    RunStopped,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import (
    BudgetSpentError,
    ConfigurationError,
    InputError,
    LimitsExceededError,
    PingDataError,
    RunError,
    SubmissionInDoubtError,
    UnknownSourceError,
)
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import RunSummary
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.directory import (
    DECLARED,
    FINISHED,
    PLAN_NAME,
    TIMELINE,
    RunDirectory,
    check_apart,
    check_own_place,
    failures_path,
    journal_path,
    run_dir_for,
)
from pingdata_async.runs.directory.plan import Plan, PlanSummary
from pingdata_async.runs.directory.settings import RunFlags, RunSettings
from pingdata_async.runs.directory.spool import Spool, packed_output
from pingdata_async.runs.export.export import (
    check_run_output,
    open_export,
    undeclared,
)
from pingdata_async.runs.export.output import (
    DeclaredTypes,
    OutputSpec,
    needed_for,
    output_option,
    output_spec,
)
from pingdata_async.runs.export.ownership import OutputOwnership
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.forecast import check_space, disk_needs, keep_throughput
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader, JournalTotals, reading_journal
from pingdata_async.runs.journal.records import ChunkState, damage_in
from pingdata_async.runs.planning.planner import Planner
from pingdata_async.runs.preflight import Preflight
from pingdata_async.runs.resume import (
    reopen_rows,
    reopening_told,
    start_events,
    unfinished_tasks,
)
from pingdata_async.runs.reuse import carry_over
from pingdata_async.runs.spending import Spending, SummaryListener, check_budget
from pingdata_async.runs.timeline import Timeline, moments_of
from pingdata_async.tables.formats import OutputFormat
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.text import STDOUT, counted, shown_path


class EarlyOutput(Protocol):
    """Takes finished chunks while the run goes on, and writes those that already form a prefix.

    `write_rest()` writes the others at the end.
    """

    def expect(self, chunk: Chunk) -> None:
        """Note that a chunk is being journalled, and will be offered with its content."""
        ...

    async def offer(self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None) -> None:
        """Take a chunk that the journal has recorded as finished; see `InputOrder.offer()`."""
        ...


class DurableStore(ChunkStore):
    """Records every step in the journal, and answers in the spool.

    Raises:
        RunError: By every method, when it cannot write; the run can be resumed.
    """

    is_durable = True

    def __init__(
        self, journal: Journal, spool: Spool, output: EarlyOutput, timeline: Timeline
    ) -> None:
        super().__init__(journal.next_index)
        self._journal = journal
        self._timeline = timeline
        self._spool = spool
        self._output = output
        # These steps are pure records: bound straight to the journal, to save a coroutine per step.
        self.submitting = journal.submitting  # type: ignore[method-assign]
        self.refused = journal.refused  # type: ignore[method-assign]
        self.submitted = journal.submitted  # type: ignore[method-assign]
        self.doubted = journal.doubted  # type: ignore[method-assign]
        self.completed = journal.completed  # type: ignore[method-assign]
        self.job_lost = journal.job_lost  # type: ignore[method-assign]
        self.split = journal.split  # type: ignore[method-assign]
        self.batched = journal.batched  # type: ignore[method-assign]

    async def unreadable(self, chunk: Chunk, bodies: Sequence[EncodedBody]) -> str | None:
        """Record it, and keep the output for a person to look at; returns its path."""
        await self._journal.unreadable(chunk)
        if not bodies:
            return None
        try:
            path = await self._spool.keep_unreadable(chunk.index, bodies)
        except OSError as error:
            raise RunError(
                f"what came for chunk {chunk.index} cannot be kept: {error.strerror or error}"
            ) from error
        return shown_path(path)

    async def deliver(self, finished: FinishedChunk) -> None:
        """Spool a chunk's answers and record that in one step; then offer them to the output."""
        index, checked = finished.chunk.index, finished.checked
        if self._timeline.is_due():  # a process that is killed tells most of it
            await self._journal.set_meta(TIMELINE, self._timeline.moments())
        if checked is None:
            await self._journal.failed(index, finished.failure, finished.counts)
            await self._output.offer(finished.chunk, None)
            return
        found = None
        if checked.offset_index is not None and checked.content is not None:
            found = checked.offset_index, checked.content
            self._output.expect(finished.chunk)
        if checked.body.is_gzip:  # packed already: no need for a thread
            output = packed_output(checked.body)
        else:
            output = await anyio.to_thread.run_sync(packed_output, checked.body)
        await self._journal.spooled(
            index, finished.counts, checked.retry_rows, checked.offset_index, output
        )
        await self._output.offer(finished.chunk, found)


SHOWN_FILES = 3

MakeEngine = Callable[[ChunkStore, EventEmitter, CircuitBreaker, Budget], Engine]
T = TypeVar("T")


class Run:
    """One run, from input to output.

    Args:
        client: Asked about sources and limits; must be open if anything is to be sent.
        settings: The run's settings, which are kept in its journal.
        flags: What the run may do.
        policy: How often requests, jobs and rows are tried.
        make_engine: Makes the engine for a store, a listener, a circuit breaker and a budget.
        listeners: Called with every event.
    """

    def __init__(
        self,
        *,
        client: PingDataClient,
        settings: RunSettings,
        flags: RunFlags,
        policy: RetryPolicy,
        make_engine: MakeEngine,
        listeners: Iterable[Listener | None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._output = settings.output
        self._is_to_stdout = settings.output == STDOUT
        self._flags = flags
        self._policy = policy
        self._make_engine = make_engine
        self._summary_listener = SummaryListener(settings.environment)
        run_id = self._summary_listener.run_id
        self._watched = watched(client.telemetry, "run", run_id)
        self._timeline = Timeline()
        self._emit = EventEmitter(
            self._summary_listener, self._timeline, *listeners, self._watched, run_id=run_id
        )
        self.preflight = Preflight(client, settings, self._emit)
        self._has_planned = False
        self._is_under_way = False
        self._is_retry = False
        self._began = time.monotonic()

    # -- plan, start, resume, retry ------------------------------------------------------

    async def within(self, timeout_s: float | None, work: Awaitable[RunSummary]) -> RunSummary:
        """Do some work of the run, and let an error tell what was done and charged.

        Raises:
            CallTimeoutError: When it takes longer than that; the run can be resumed.
        """
        try:
            with self._watched or contextlib.nullcontext(), time_limit(timeout_s):
                return await work
        except PingDataError as error:
            error.summary = self._summary_listener.summary
            error.run_dir = self._summary_listener.summary.run_dir
            raise

    async def start(
        self, source: AnyInput, run_dir: str | Path | None, builder: ChunkBuilder
    ) -> RunSummary:
        """Start the run, or resume it if it exists; raises as `BulkEnhancer.run()`."""
        path = await anyio.to_thread.run_sync(run_dir_for, self._output, run_dir)
        await self.plan(source, path, builder)
        is_temporary = run_dir is None and self._is_to_stdout
        return await self._execute_and_export(path, discard=is_temporary or self._flags.discard_run)

    async def plan(self, source: AnyInput, path: Path, builder: ChunkBuilder) -> None:
        """Write the plan, unless the run has one; raises as `start()`."""
        planner = self._planner()
        self._settings = await planner.plan(source, path, builder)
        self._has_planned = planner.has_made

    def foreseen(
        self, source: AnyInput, path: Path | None, builder: ChunkBuilder
    ) -> contextlib.AbstractAsyncContextManager[Path]:
        """What `plan()` would do, changing nothing; see `Planner.foreseen()`."""
        return self._planner().foreseen(source, path, builder)

    def _planner(self) -> Planner:
        return Planner(
            self._settings,
            self._output,
            self._flags,
            self.preflight.coverage,
            self._emit,
            self._carry_over,
        )

    async def _carry_over(self, directory: RunDirectory, plan: Plan) -> None:
        if not self._settings.options.check_cache:
            self._note("Everything is to be fetched afresh, so nothing is reused.")
            return
        totals = await carry_over(directory, plan, self._settings, self._flags, self._note)
        if totals.oldest_at is None:
            self._note("No earlier run has an answer that can be reused.")

    async def resume(self, path: Path) -> RunSummary:
        """Resume a run; on a finished one, nothing is sent. Raises as `start()`."""
        return await self._execute_and_export(path, discard=self._flags.discard_run)

    async def retry(self, path: Path, *, all_not_ok: bool) -> RunSummary:
        """Retry the rows without an answer, or all that are not ok. Raises as `start()`."""
        self._check_client_is_open()
        self._is_retry = True
        async with RunDirectory(path) as directory:
            plan = await self._open_plan(directory)
            await self._check_may_write(directory, plan)
            await self._check_space(directory, plan.summary, left=0)  # before anything is reopened
            sources = self._settings.sources
            found = await reopen_rows(directory, plan, sources, all_not_ok=all_not_ok)
            self._note(reopening_told(found))
            return await self._execute_and_export_in(directory)

    def _output_spec(self, declared: DeclaredTypes | None = None) -> OutputSpec:
        """What output to write, and how; refuses one that cannot be written."""
        return output_spec(
            self._output, self._settings.writing, self._settings.sources, declared or {}
        )

    # -- execute -------------------------------------------------------------------------

    async def _execute_and_export(self, path: Path, *, discard: bool) -> RunSummary:
        """Open the run's directory, finish the run, and delete the directory if wanted."""
        async with RunDirectory(path) as directory:
            summary = await self._execute_and_export_in(directory)
            directory.discard = discard and not summary.no_answer
        if directory.left_behind:
            self._note(
                f"{shown_path(path)} is not deleted, because it holds files that no run made: "
                f"{', '.join(directory.left_behind[:SHOWN_FILES])}"
            )
        elif directory.discard:
            summary.run_dir = None
        return summary

    async def _execute_and_export_in(self, directory: RunDirectory) -> RunSummary:
        plan = await self._open_plan(directory)
        try:
            before = await self._summary_if_finished(directory)
            if before is not None:
                return before
            totals = await self._totals(directory)
            if totals.rows.rows < plan.summary.rows:
                self._check_client_is_open()  # before anything is changed
            await self._check_may_write(directory, plan)
            spec = self._output_spec(await self._declared(directory))
            await self._check_columns(spec, plan, has_sent=totals.has_sent)
            await directory.keep_caps(self._settings.caps)
            await directory.journal.set_meta(FINISHED, None)
            self._timeline.begin(moments_of(await directory.journal.get_meta(TIMELINE)))
            await self._keep_writing(directory)
            ownership = OutputOwnership(directory, self._output)
            async with (
                reading_journal(journal_path(directory.path)) as journal,
                open_export(
                    self._output,
                    spec,
                    on_note=self._note,
                    failures=failures_path(self._output),
                    before_move=ownership.about_to_move,
                    scratch=directory.path,
                ) as sink,
            ):
                answers = ResultReader(directory.spool, journal, self._settings.sources)
                sink.begin(plan, answers)
                await self._execute(directory, plan, sink)
                await sink.write_rest(
                    plan, answers, on_rows=lambda rows: self._emit(OutputProgress(rows=rows))
                )
                _check_all_written(sink.counts, plan.summary)
            await ownership.moved()
            return await self._summarize(directory, plan.summary, sink.counts)
        except BaseException as error:
            if isinstance(error, ConfigurationError) and not self._is_under_way:
                raise
            with anyio.CancelScope(shield=True):
                ended = await self._error_to_raise(directory, error)
                await self._report_stopped(directory, plan, ended)
            if ended is error:
                raise
            raise ended from error

    async def _error_to_raise(self, directory: RunDirectory, error: BaseException) -> BaseException:
        """The error to raise: a `RunError` in place of one that would say that nothing was sent."""
        if not isinstance(error, ConfigurationError | InputError | UnknownSourceError):
            return error
        with contextlib.suppress(PingDataError):
            if not (await self._totals(directory)).has_sent:
                return error
        ended = RunError(str(error))
        ended.needs = needed_for(error, self._output)
        return ended

    async def _check_columns(self, spec: OutputSpec, plan: Plan, *, has_sent: bool) -> None:
        """Refuse an output if the API declares none of the requested columns.

        Answers may hold undeclared fields, so single unknown columns only get a note; so do all of
        them once a job was sent.

        Raises:
            ConfigurationError: When there would be nothing to write.
        """
        missing = await anyio.to_thread.run_sync(undeclared, spec, plan)
        if not missing:
            return
        told = (
            f"the API declares no field for the column {shown_headers(missing)} (`pingdata-async "
            f"datasources --json` lists all)"
        )
        if len(missing) == len(spec.options.columns) and not has_sent:
            raise ConfigurationError(f"{told}; name others with --columns")
        self._note(f"{told[0].upper()}{told[1:]}; it is written only if answers have it.")

    def _check_client_is_open(self) -> None:
        _ = self._client.tasks  # raises where it is closed

    def _note(self, message: str) -> None:
        self._emit(RunNotice(message=message))

    async def _declared(self, directory: RunDirectory) -> DeclaredTypes:
        """The types that the API declares for its fields; {} for JSONL, which writes them as sent.

        They are fetched once and kept, so that the output can be written again without the API.
        """
        if self._output_spec().kind is OutputFormat.JSONL:
            return {}
        kept = await directory.journal.get_meta(DECLARED)
        if kept is None:
            kept = await self.preflight.field_types()
            await directory.journal.set_meta(DECLARED, kept)
        with damage_in("the types of fields"):
            declared: DeclaredTypes = msgspec.convert(kept, DeclaredTypes)
        return declared

    async def _keep_writing(self, directory: RunDirectory) -> None:
        """Keep how the output is written, for later processes."""
        kept = await directory.settings()
        if kept is not None and kept.writing != self._settings.writing:
            await directory.keep_settings(
                msgspec.structs.replace(kept, writing=self._settings.writing)
            )

    async def _report_stopped(
        self, directory: RunDirectory, plan: Plan, error: BaseException
    ) -> None:
        rows_done: int | None = None
        run_dir = shown_path(directory.path)
        self._summary_listener.summary.seconds = round(time.monotonic() - self._began, 3)
        with contextlib.suppress(PingDataError):  # the error to show is the one that stopped it
            totals = await self._totals(directory)
            rows_done = totals.rows.rows
            self._summary_listener.add_planned(plan.summary)
            self._summary_listener.add_rows(totals.rows)
            self._summary_listener.add_totals(totals)
            await directory.journal.set_meta(TIMELINE, self._timeline.moments())
            if isinstance(error, UnknownSourceError) and not totals.has_sent:
                self._discard_unsent_plan(directory)
                return
        self._summary_listener.summary.run_dir = run_dir
        self._emit(
            RunStopped(
                run_dir=run_dir,
                rows=plan.summary.rows,
                rows_done=rows_done,
                is_output_closed=isinstance(error, BrokenPipeError),
                needs=await self._needs(directory, error),
            )
        )

    def _discard_unsent_plan(self, directory: RunDirectory) -> None:
        """No job was sent, and the sources are wrong: the plan is of no use.

        One that an earlier process made, perhaps from a pipe, is not deleted unasked.
        """
        directory.discard = self._has_planned
        if not directory.discard:
            self._note(
                f"The plan in {shown_path(directory.path)} is kept; --restart sets it aside for a "
                "run with other sources."
            )

    async def _needs(self, directory: RunDirectory, error: BaseException) -> str:
        """Command-line options that `resume` needs to get past this error."""
        needs = error.needs if isinstance(error, RunError) else ""
        output = self._settings.output
        try:
            await anyio.to_thread.run_sync(check_own_place, self._settings, directory.path)
            kept = await directory.settings()
            is_known = kept is not None and kept.output == output
        except PingDataError:
            is_known = False
        if is_known or "--output=" in needs:
            return needs
        return f"{needs} {output_option(output)}".lstrip()

    async def _check_may_write(self, directory: RunDirectory, plan: Plan) -> None:
        files = (self._output, failures_path(self._output))
        await anyio.to_thread.run_sync(check_apart, directory.path, files)
        await anyio.to_thread.run_sync(check_run_output, self._output_spec(), plan)
        check_budget(self._settings, plan)
        kept = await directory.settings()
        is_planned = kept is not None and kept.output == self._settings.output
        await OutputOwnership(directory, self._output).check(
            self._settings.source,
            overwrite=self._flags.overwrite,
            planned_overwrite=kept is not None and is_planned and kept.overwrite,
        )

    async def _summary_if_finished(self, directory: RunDirectory) -> RunSummary | None:
        """The summary of a run that is finished, output included; else None."""
        kept = await directory.journal.get_meta(FINISHED)
        if kept is None or self._is_to_stdout:
            return None
        try:
            summary = msgspec.convert(kept, RunSummary)
        except msgspec.ValidationError:
            return None  # the output and its summary are made anew, at no cost
        self._name_files(summary, directory)
        settings = await directory.settings()
        if settings is None or settings.writing != self._settings.writing:
            return None  # likewise
        if not await OutputOwnership(directory, self._output).is_own():
            return None
        if summary.failures and not await anyio.Path(summary.failures).exists():
            return None
        message = f"{shown_path(directory.path)} is finished already; nothing is sent."
        self._emit(RunNotice(message=message))
        return summary

    def _name_files(self, summary: RunSummary, directory: RunDirectory) -> None:
        summary.output = shown_path(self._output)
        summary.run_dir = shown_path(directory.path)
        failures = failures_path(self._output)
        summary.failures = None
        if failures is not None and summary.no_answer:
            summary.failures = shown_path(failures)

    async def _open_plan(self, directory: RunDirectory) -> Plan:
        if directory.plan is None:
            plan = await anyio.to_thread.run_sync(Plan, directory.path / PLAN_NAME)
            if directory.journal.planned_chunks != plan.chunks:
                raise RunError(
                    f"{shown_path(directory.path)}: its plan has {plan.chunks} chunks, and its "
                    f"journal {directory.journal.planned_chunks}; restore both from one copy"
                )
            plan.__enter__()
            directory.plan = plan
        return directory.plan

    async def _recover(self, directory: RunDirectory, plan: Plan) -> JournalTotals:
        """Settle submissions that the last process left open; returns how far the run is.

        Emits that, and checks the disk's free space.
        """
        journal = directory.journal
        for doubt in await journal.doubt_interrupted(hold=self._policy.hold_in_doubt):
            self._emit(
                SubmissionInDoubt(
                    chunk=doubt.index,
                    locations=doubt.locations,
                    attempt=1,
                    error=doubt.error,
                    charged_before=doubt.charged_before,
                )
            )
        await journal.pack_retry_rows(self._settings.chunk_size)
        totals = await self._totals(directory)
        for event in start_events(shown_path(directory.path), plan, totals):
            self._emit(event)
        await self._check_space(directory, plan.summary, left=plan.summary.rows - totals.rows.rows)
        return totals

    async def _execute(self, directory: RunDirectory, plan: Plan, output: EarlyOutput) -> None:
        journal, planned = directory.journal, plan.summary
        totals = await self._recover(directory, plan)
        breaker = CircuitBreaker(
            self._policy,
            any_accepted=totals.jobs > 0,
            any_answered=totals.jobs > 0 and totals.chunks[ChunkState.SPOOLED] > 0,
        )
        store = DurableStore(journal, directory.spool, output, self._timeline)
        spending = Spending(self._settings, plan, totals, lambda read: self._read(directory, read))
        refused = await self._limits_error(spending)
        engine = self._make_engine(
            store, self._emit, breaker, spending.budget(nothing_more=refused is not None)
        )
        began = time.monotonic()
        self._is_under_way = True
        spent: BudgetSpentError | None = None
        try:
            async with contextlib.aclosing(
                unfinished_tasks(
                    journal,
                    plan,
                    may_pay_again=self._is_retry,
                    has_outputs=self._settings.api != SANDBOX,
                )
            ) as tasks:
                await engine.run(tasks)
        except BudgetSpentError as error:
            spent = error
        after = await self._totals(directory)
        answered_rows = after.rows.rows - totals.rows.rows
        # rows -> locations: duplicates and invalid rows are not sent (an estimate)
        answered = answered_rows * planned.locations / max(1, planned.rows)
        await keep_throughput(journal, answered, time.monotonic() - began)
        if spent is not None:
            raise refused or await spending.explained(spent, after) from spent
        held = after.submissions_held
        if held:
            raise SubmissionInDoubtError(
                f"{counted(held, 'submission')} in doubt and held; `status` lists them"
            )

    async def _limits_error(self, spending: Spending) -> LimitsExceededError | None:
        """LimitsExceededError if the account's limits are too low, else None.

        Returned, not raised, while jobs are in flight: `_execute` then fetches those with a zero
        budget and raises it at the end.
        """
        if not self._flags.preflight:
            return None
        wanted, spent = await spending.to_come(), spending.spent
        if not wanted.locations:
            return None
        try:
            await self.preflight.check(wanted, spent)
        except LimitsExceededError as error:
            if not spending.jobs_in_flight:
                raise
            return error
        return None

    async def _check_space(
        self, directory: RunDirectory, planned: PlanSummary, *, left: int
    ) -> None:
        if self._flags.check_space:
            sent = planned.rows - planned.repeated  # rows -> locations (an estimate)
            locations = left * sent // max(1, planned.rows)
            check_space(
                await anyio.to_thread.run_sync(
                    disk_needs, directory.path, self._settings, planned, locations
                )
            )

    # -- export --------------------------------------------------------------------------

    async def _summarize(
        self, directory: RunDirectory, planned: PlanSummary, counts: Tally
    ) -> RunSummary:
        self._summary_listener.add_planned(planned)
        self._summary_listener.add_rows(counts)
        self._summary_listener.add_totals(await self._totals(directory))
        summary = self._summary_listener.summary
        summary.seconds = round(time.monotonic() - self._began, 3)
        self._name_files(summary, directory)
        await directory.journal.set_meta(TIMELINE, self._timeline.moments())
        await directory.journal.set_meta(FINISHED, summary)
        self._emit(
            OutputWritten(
                path=shown_path(self._output), rows=counts.rows, failures_path=summary.failures
            )
        )
        return summary

    async def _totals(self, directory: RunDirectory) -> JournalTotals:
        return await self._read(directory, JournalReader.totals)

    async def _read(self, directory: RunDirectory, read: Callable[[JournalReader], T]) -> T:
        async with reading_journal(journal_path(directory.path)) as journal:
            return await anyio.to_thread.run_sync(read, journal)


def _check_all_written(counts: Tally, planned: PlanSummary) -> None:
    if not counts.rows == counts.ok + counts.partial + counts.failed == planned.rows:
        raise RunError(
            f"{planned.rows} rows were planned, but {counts.rows} written; please report this"
        )
