"""BulkEnhancer: enhances many locations, in memory or from file to file."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, Self, Unpack

import anyio.to_thread
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import SANDBOX, watched
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.calls import SharedCall, collect, may_share
from pingdata_async.engine.context import ChunkStore, EngineContext, MemoryStore, limits_of
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import Budget, Caps, checked_caps
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.engine.shared_runs import MicroBatcher, MicroBatchers
from pingdata_async.engine.stream import (
    ChunkSource,
    InputTask,
    Locations,
    ResultChannel,
    ResultStream,
    time_limit,
)
from pingdata_async.events import (
    Event,
    EventEmitter,
    Listener,
    NoticeCollector,
    ProgressListener,
    check_listener,
    new_run_id,
)
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES
from pingdata_async.locations.chunk_builder import ChunkBuilder, checked_sources
from pingdata_async.models import EnhancedLocations, RunSummary
from pingdata_async.options import (
    CallOptions,
    DryRunOptions,
    PlanOptions,
    ResumeOptions,
    RunOptions,
    check_names,
)
from pingdata_async.runs.directory.directory import check_own_place, read_settings, run_dir_for
from pingdata_async.runs.directory.settings import (
    RunSettings,
    api_origin,
    differences,
    flags_of,
    with_caps,
    with_reuse,
)
from pingdata_async.runs.export.output import absolute_output
from pingdata_async.runs.forecast import Forecast, forecast
from pingdata_async.runs.run import Run
from pingdata_async.runs.spending import SummaryListener
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.tables.rows import IN_MEMORY, STDIN, ReadOptions
from pingdata_async.util.files import absolute
from pingdata_async.util.text import STDOUT, shown_path
from pingdata_async.util.validation import check_amount, check_count, check_flag


class BulkEnhancer:
    """Enhances any number of locations through bulk jobs, many at once, in one event loop.

    `enhance()` and `stream()` work in memory. `run()` works from file to file and survives a crash;
    `plan()`, `dry_run()`, `resume()` and `retry()` belong to it.

    Enhancers on one client share its limits: together they have no more jobs in flight than the
    largest `max_jobs` in use, send no more requests than the smallest `max_requests_per_second`,
    and all wait for the time that a 429 names.

    Args:
        client: An open `PingDataClient`.
        sources: Source codes such as PG and PH; a location's own `sources` take precedence.
        chunk_size: The most locations in one job.
        max_jobs: The most jobs in flight. The actual number adapts to what the API takes.
        max_requests_per_second: The rate of requests that the account is allowed; None to learn it
            when the API refuses a request.
        max_chunk_bytes: The largest body of a job, in bytes before compression.
        source_timeout_s: How long the API waits for each source; None for its default.
        include_raw_response: Whether answers include each source's raw response.
        check_cache: False to fetch everything afresh instead of using the API's cache.
        delegate_to: Short name of the organisation to act for (requires permission); None for your
            own.
        callback_url: The API POSTs to this URL when a job completes; None for no callback. What it
            sends is not documented.
        poll_schedule: Bounds of the time between two polls of a job; None for the defaults.
        retry_policy: How often and how long to retry; None for the defaults.
        on_event: Called in the event loop with every event; must return at once. None for no
            listener.
        rng: The source of jitter; None for a new one.

    Raises:
        ConfigurationError: For a setting that cannot work.
    """

    def __init__(
        self,
        client: PingDataClient,
        sources: Iterable[str] | str = (),
        *,
        chunk_size: int = 1000,
        max_jobs: int = 64,
        max_requests_per_second: float | None = None,
        max_chunk_bytes: int = MAX_CHUNK_BYTES,
        source_timeout_s: float | None = None,
        include_raw_response: bool = False,
        check_cache: bool = True,
        delegate_to: str | None = None,
        callback_url: str | None = None,
        poll_schedule: PollSchedule | None = None,
        retry_policy: RetryPolicy | None = None,
        on_event: Callable[[Event], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._job_options = JobOptions(
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
            callback_url=callback_url,
        )
        self._ask(sources)
        check_count("max_chunk_bytes", max_chunk_bytes)
        self._chunk_size = chunk_size
        self._max_chunk_bytes = max_chunk_bytes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        limits = limits_of(client, self._rng)
        self._share = limits.concurrency.share(max_jobs)
        self._rate_limiter = limits.rate_limiter
        if max_requests_per_second is not None:
            check_amount("max_requests_per_second", max_requests_per_second)
        self._max_requests_per_s = max_requests_per_second
        self._planner = PollPlanner(poll_schedule or PollSchedule())
        self._policy = retry_policy or RetryPolicy()
        check_listener(on_event)
        self._on_event = on_event
        self._batchers = MicroBatchers()
        self._builder()  # refuses sizes that cannot work now rather than in the middle

    async def enhance(
        self,
        locations: Locations,
        *,
        sources: Iterable[str] | str | None = None,
        flush_after_s: float | None = 0.05,
        **options: Unpack[CallOptions],
    ) -> EnhancedLocations:
        """Enhance all locations and return the results in input order.

        Holds everything in memory; use `stream()` or `run()` if that is too much. A cancellation
        abandons the jobs in flight, although the API charges for them; they count against
        `max_jobs` until they have likely ended.

        Concurrent calls share jobs, so a few locations at a time are cheap: a list or tuple of
        fewer than `chunk_size` locations waits a moment for those of other such calls, unless there
        are enough for a job. Each call has its own results, charges and errors; one that is
        cancelled, or has locations refused, harms no other.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address.
            sources: Ask these instead of the enhancer's; None for the enhancer's.
            flush_after_s: How long a small call waits for others; None to share no job. Calls with
                other options than `timeout_s` share none either.
            **options: Those of `CallOptions`, for this call alone.

        Returns:
            A list of the results, with a `summary`.

        Raises:
            PingDataError: When it cannot continue. Its `results` are what had been answered, its
                `summary` what was done and charged.
            BudgetSpentError: When the budget is spent and locations are left; likewise.
            CallTimeoutError: When it takes longer than `timeout_s`; likewise.
            BaseException: What the iterable raised, or a cancellation. It has `results` too, with
                the `summary` in these; an error that has `results` of its own becomes the cause of
                a `PingDataError`.
        """
        check_names("enhance", options, CallOptions)
        if sources is not None:
            asking = self._asking(sources)
            return await asking.enhance(locations, flush_after_s=flush_after_s, **options)
        builder = self._builder()
        call = self._sharing(locations, builder, options, flush_after_s)
        if call is not None:
            return await collect(call, builder, options.get("timeout_s"))
        stream = self._stream(locations, builder, options, flush_after_s=None)
        return await collect(stream, builder)

    def stream(
        self,
        locations: Locations,
        *,
        sources: Iterable[str] | str | None = None,
        flush_after_s: float | None = 1.0,
        ordered: bool = False,
        **options: Unpack[CallOptions],
    ) -> ResultStream:
        """Yield results one by one, as their chunks finish; see `ResultStream`.

        Memory stays flat, and an endless input works: no more than `max_jobs` chunks are read
        ahead of the consumer. Their answers are fetched before it asks for them, up to 64 MB; more
        wait at the API. If a consumer pauses for longer than the API keeps those (undocumented),
        the stream ends with a `JobFailedError`: they are paid for, and not sent again.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address. A
                sync one is iterated in the event loop and must not block. A generator is closed
                when the stream ends.
            sources: As of `enhance()`.
            flush_after_s: How long a location of an async iterable waits for others to fill its
                chunk, so that a live source, such as a queue, flows. None for as long as it takes.
            ordered: Whether results come in input order. Up to `max_jobs` chunks wait in memory for
                one before them, whatever their size, so a slow job may hold back the others.
            **options: Those of `CallOptions`. For `timeout_s`, the consumer's own time counts too.

        Raises:
            InputError: When this is no iterable of locations (a table, a file, a single location),
                or nothing names a source. Also on iteration, before anything is sent, for a mapping
                with a name that is no field; later such a row is `invalid_input`.
        """
        if flush_after_s is not None:
            check_amount("flush_after_s", flush_after_s)
        check_names("stream", options, CallOptions)
        check_flag("ordered", ordered)
        asking = self if sources is None else self._asking(sources)
        builder = asking._builder()  # noqa: SLF001 - it is one of its own
        return asking._stream(  # noqa: SLF001 - likewise
            locations, builder, options, flush_after_s=flush_after_s, ordered=ordered
        )

    async def run(
        self,
        source: AnyInput,
        output: str | Path,
        *,
        sources: Iterable[str] | str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary:
        """Enhance a table of any size into a file, in input order, in flat memory.

        The input is read once and written to the run directory as a plan, before anything is sent;
        every later step is recorded there. A run that an error, a cancellation or a power cut
        stopped continues where it was when this is called again, or `resume()`. On a finished run
        nothing is sent. A cancellation waits up to the retry policy's `linger_s` for submissions
        under way, so that every paid job's id is known.

        Args:
            source: A file of delimited text, JSONL, Parquet or a workbook; "-" for standard
                input. Or an iterable of `Location`s, mappings and plain addresses; or a pandas,
                polars or Arrow object, or any other with the Arrow PyCapsule interface.
            output: The file to write, in the format of its name: .jsonl, .csv, .tsv, .parquet,
                .xlsx, .geojson, .geojsonl or .geoparquet, text also with .gz or .zst appended; "-"
                for standard output. Rows without an answer go to `OUTPUT.failures.jsonl`.
            sources: As of `enhance()`.
            **options: Those of `RunOptions`.

        Returns:
            What the run did and charged.

        Raises:
            InputError: When the input cannot be used; nothing was sent.
            ConfigurationError: When the output or the run directory cannot be used, or belongs to
                another run; nothing was sent.
            RunError: When something cannot be written, or another process executes the run.
            BudgetSpentError: When the budget is spent and rows are left.
            LimitsExceededError: When the run would exceed the account's limits; nothing was sent.
            SubmissionInDoubtError: When submissions in doubt are held for you to decide.
            CallTimeoutError: When it takes longer than `timeout_s`.
            PingDataError: When no further request to the API can succeed. Its `summary` is what
                was done and charged, and its `run_dir` what `resume()` takes.
        """
        check_names("run", options, RunOptions)
        if sources is not None:
            return await self._asking(sources).run(source, output, **options)
        source, run_dir, _, run = await self._begin(source, output, options)
        work = run.start(source, run_dir, self._builder())
        return await run.within(options.get("timeout_s"), work)

    async def plan(
        self,
        source: AnyInput,
        output: str | Path,
        *,
        sources: Iterable[str] | str | None = None,
        **options: Unpack[PlanOptions],
    ) -> RunStatus:
        """Read the input and write the plan, for `run()` or `resume()` to continue.

        Nothing is sent, and the client need not be open.

        Args:
            source: As of `run()`.
            output: As of `run()`.
            sources: As of `run()`.
            **options: Those of `PlanOptions`.

        Returns:
            The status of the planned run.

        Raises:
            PingDataError: As `run()`, except for what only sending raises.
        """
        check_names("plan", options, PlanOptions)
        if sources is not None:
            return await self._asking(sources).plan(source, output, **options)
        source, run_dir, settings, run = await self._begin(source, output, options)
        path = await anyio.to_thread.run_sync(run_dir_for, settings.output, run_dir)
        await run.plan(source, path, self._builder())
        return await anyio.to_thread.run_sync(read_status, path)

    async def dry_run(
        self,
        source: AnyInput,
        output: str | Path | None = None,
        *,
        sources: Iterable[str] | str | None = None,
        keep_plan: bool = False,
        **options: Unpack[DryRunOptions],
    ) -> Forecast:
        """Forecast what a run would send, charge and need; sends no job and changes nothing.

        For an existing run, the forecast is of what is left to do. Without an open client, it
        leaves out what only the API knows, and says so.

        Args:
            source: As of `run()`.
            output: As of `run()`; None for none.
            sources: As of `run()`.
            keep_plan: Keep the plan, for `run()` or `resume()` to continue.
            **options: Those of `DryRunOptions`.

        Raises:
            PingDataError: As `plan()`.
        """
        check_names("dry_run", options, DryRunOptions)
        if sources is not None:
            asking = self._asking(sources)
            return await asking.dry_run(source, output, keep_plan=keep_plan, **options)
        output = STDOUT if output is None else output
        is_nowhere = str(output) == STDOUT and options.get("run_dir") is None
        if is_nowhere:
            options["pay_again"] = True
        notices = NoticeCollector()
        options_here = {**options, "on_event": notices}
        source, run_dir, settings, run = await self._begin(source, output, options_here)
        place = None if is_nowhere else run_dir_for(settings.output, run_dir)
        async with contextlib.AsyncExitStack() as stack:
            if keep_plan and place is not None:
                await run.plan(source, place, self._builder())
                planned = place
            else:
                foreseen = run.foreseen(source, place, self._builder())
                planned = await stack.enter_async_context(foreseen)
            told = await forecast(planned, settings, run.preflight, place=place or planned)
        return msgspec.structs.replace(
            told,
            notes=(*notices.messages, *told.notes),
            run_dir=told.run_dir if planned == place else None,
        )

    async def resume(
        self,
        run_dir: str | Path,
        *,
        sources: Iterable[str] | str | None = None,
        discard_run: bool = False,
        **options: Unpack[ResumeOptions],
    ) -> RunSummary:
        """Resume a run that stopped; its input is not needed. On a finished run, nothing is sent.

        Args:
            run_dir: The run directory.
            sources: Those of the run, as of `run()`.
            discard_run: As of `run()`.
            **options: Those of `ResumeOptions`.

        Raises:
            ConfigurationError: When the run has other sources, other options or another API than
                this enhancer.
            RunError: When this is no run directory, is damaged, or another process executes it.
            PingDataError: As `run()`.
        """
        check_names("resume", options, ResumeOptions)
        if sources is not None:
            asking = self._asking(sources)
            return await asking.resume(run_dir, discard_run=discard_run, **options)
        path, run = await self._reopen(run_dir, options, discard_run=discard_run)
        return await run.within(options.get("timeout_s"), run.resume(path))

    async def retry(
        self,
        run_dir: str | Path,
        *,
        sources: Iterable[str] | str | None = None,
        all_not_ok: bool = False,
        **options: Unpack[ResumeOptions],
    ) -> RunSummary:
        """Retry the rows of a run that have no answer, and rewrite the output.

        Each row is sent again only to the sources that did not succeed.

        Args:
            run_dir: The run directory.
            sources: As of `resume()`.
            all_not_ok: Retry every row that is not ok, "no match" included.
            **options: Those of `ResumeOptions`.

        Raises:
            PingDataError: As `resume()`.
        """
        check_names("retry", options, ResumeOptions)
        if sources is not None:
            return await self._asking(sources).retry(run_dir, all_not_ok=all_not_ok, **options)
        path, run = await self._reopen(run_dir, options)
        work = run.retry(path, all_not_ok=all_not_ok)
        return await run.within(options.get("timeout_s"), work)

    def _ask(self, sources: Iterable[str] | str) -> None:
        self._sources = checked_sources(sources if isinstance(sources, str) else list(sources))
        self._encoded_options = self._job_options.encode(self._sources)

    def _asking(self, sources: Iterable[str] | str) -> Self:
        """The same enhancer with other sources; limits and all else are shared."""
        other = copy.copy(self)
        other._ask(sources)  # noqa: SLF001 - it is one of its own
        return other

    def _stream(
        self,
        locations: Locations,
        builder: ChunkBuilder,
        options: CallOptions,
        *,
        flush_after_s: float | None,
        ordered: bool = False,
    ) -> ResultStream:
        caps = checked_caps(options.get("max_locations"), options.get("budget"))
        total = len(locations) if isinstance(locations, Sized) else None
        listeners, timeout_s = self._listeners(options, total), options.get("timeout_s")
        source = ChunkSource(locations, builder, flush_after_s)
        requests = SummaryListener(self._client.environment)
        store = MemoryStore(builder.next_index, requests.summary)
        call = watched(self._client.telemetry, "enhance", requests.run_id)
        emit = EventEmitter(requests, *listeners, call, run_id=requests.run_id)
        budget = Budget(caps, self._sources)
        # Not a method of the stream: its task must not keep the stream alive.
        engine_for, policy, client = self._engine, self._policy, self._client

        async def work(channel: ResultChannel) -> None:
            store.begin(channel.deliver_in_order if ordered else channel.deliver)
            try:
                async with InputTask(source) as tasks:
                    with call or contextlib.nullcontext(), time_limit(timeout_s):
                        await engine_for(store, emit, CircuitBreaker(policy), budget).run(tasks)
            except Exception as error:
                store.note_unfinished(error)
                raise
            finally:
                store.end(builder.values)

        return ResultStream(lambda: client.tasks, work, store)

    def _sharing(
        self,
        locations: Locations,
        builder: ChunkBuilder,
        options: CallOptions,
        flush_after_s: float | None,
    ) -> SharedCall | None:
        """The call as one that shares jobs; None if it may not."""
        self._listeners(options)
        if flush_after_s is None:
            return None
        check_amount("flush_after_s", flush_after_s)
        if not may_share(locations, options, self._chunk_size):
            return None
        client, requests = self._client, SummaryListener(self._client.environment)
        store = MemoryStore(builder.next_index, requests.summary)
        batcher = self._batchers.of(
            self._sources,
            lambda: MicroBatcher(
                self._engine_for_all, lambda: client.tasks, self._builder(), client.telemetry
            ),
        )
        return SharedCall(
            batcher, locations, builder, store, listener=requests, flush_after_s=flush_after_s
        )

    def _engine_for_all(self, store: ChunkStore, listener: Listener) -> Engine:
        emit = EventEmitter(listener, self._on_event, run_id=new_run_id())
        budget = Budget(Caps(), self._sources)
        return self._engine(store, emit, CircuitBreaker(self._policy), budget)

    def _builder(self) -> ChunkBuilder:
        return ChunkBuilder(
            chunk_size=self._chunk_size,
            # The rest of the body is the same in each.
            max_chunk_bytes=self._max_chunk_bytes - len(self._encoded_options),
            sources=self._sources,
        )

    def _engine(
        self,
        store: ChunkStore,
        emit: EventEmitter,
        breaker: CircuitBreaker,
        budget: Budget,
    ) -> Engine:
        context = EngineContext(
            api=self._client,
            store=store,
            job_slots=self._share,
            rate_limiter=self._rate_limiter,
            max_requests_per_s=self._max_requests_per_s,
            sources=self._sources,
            options=self._encoded_options,
            chunk_size=self._chunk_size,
            poll_planner=self._planner,
            policy=self._policy,
            emit=emit,
            rng=self._rng,
            breaker=breaker,
            budget=budget,
        )
        return Engine(context)

    def _settings(
        self,
        source: AnyInput,
        output: str | Path,
        reading: ReadOptions | None,
        writing: WriteOptions | None,
        *,
        overwrite: bool,
    ) -> RunSettings:
        client = self._client
        is_sandbox = client.environment == SANDBOX
        return RunSettings(
            sources=self._sources,
            options=self._job_options,
            environment=client.environment,
            api_url=None if is_sandbox or client.environment else client.api_url,
            api=SANDBOX if is_sandbox else api_origin(client.api_url),
            chunk_size=self._chunk_size,
            max_jobs=self._share.max_jobs,
            source=shown_path(source) if isinstance(source, str | Path) else IN_MEMORY,
            output=str(output),
            overwrite=overwrite,
            max_requests_per_s=self._max_requests_per_s,
            reading=reading or ReadOptions(),
            writing=writing or WriteOptions(),
        )

    async def _kept_settings(
        self, run_dir: Path, output: str | Path | None, writing: WriteOptions | None
    ) -> RunSettings:
        kept = await anyio.to_thread.run_sync(read_settings, run_dir)
        if output is None:
            await anyio.to_thread.run_sync(check_own_place, kept, run_dir)
        own = self._settings(
            kept.source,
            kept.output if output is None else output,
            kept.reading,
            kept.writing if writing is None else writing,
            overwrite=False,
        )
        found = differences(kept, own)
        if found:
            raise ConfigurationError(f"{run_dir} has {'; '.join(found)}")
        return msgspec.structs.replace(
            kept,
            output=own.output,
            writing=own.writing,
            max_jobs=own.max_jobs,
            max_requests_per_s=own.max_requests_per_s,
        )

    async def _begin(
        self,
        source: AnyInput,
        output: str | Path,
        options: Mapping[str, Any],
    ) -> tuple[AnyInput, str | Path | None, RunSettings, Run]:
        """A run of an input, with absolute paths: the process may change its folder."""
        if isinstance(source, str | Path) and str(source) != STDIN:
            source = await anyio.to_thread.run_sync(absolute, source)
        output = await anyio.to_thread.run_sync(absolute_output, output)
        run_dir = options.get("run_dir")
        if run_dir is not None:
            run_dir = await anyio.to_thread.run_sync(absolute, run_dir)
        settings = self._settings(
            source,
            output,
            options.get("reading"),
            options.get("writing"),
            overwrite=options.get("overwrite", False),
        )
        settings = with_caps(settings, options.get("max_locations"), options.get("budget"))
        options = await anyio.to_thread.run_sync(with_reuse, options)
        return source, run_dir, settings, self._run(settings, options)

    async def _reopen(
        self, run_dir: str | Path, options: Mapping[str, Any], *, discard_run: bool = False
    ) -> tuple[Path, Run]:
        """The absolute path of a run directory, and its run."""
        path = await anyio.to_thread.run_sync(absolute, run_dir)
        output = options.get("output")
        if output is not None:
            output = await anyio.to_thread.run_sync(absolute_output, output)
        settings = await self._kept_settings(path, output, options.get("writing"))
        settings = with_caps(settings, options.get("max_locations"), options.get("budget"))
        return path, self._run(settings, {**options, "discard_run": discard_run})

    def _run(self, settings: RunSettings, options: Mapping[str, Any]) -> Run:
        return Run(
            client=self._client,
            settings=settings,
            flags=flags_of(options),
            policy=self._policy,
            make_engine=self._engine,
            listeners=self._listeners(options),
        )

    def _listeners(
        self, options: Mapping[str, Any], total: int | None = None
    ) -> list[Listener | None]:
        """Who hears of the events of a call; refuses options that cannot work."""
        timeout_s, progress = options.get("timeout_s"), options.get("progress")
        if timeout_s is not None:
            check_amount("timeout_s", timeout_s)
        check_listener(options.get("on_event"))
        check_listener(progress, "progress")
        told = None if progress is None else ProgressListener(progress, total)
        return [self._on_event, options.get("on_event"), told]
