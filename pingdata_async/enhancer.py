"""BulkEnhancer: enhances many locations, in memory or from file to file."""

from __future__ import annotations

import contextlib
import random
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import anyio.to_thread
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import SANDBOX
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.context import ChunkStore, EngineContext, MemoryStore
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit
from pingdata_async.engine.flow_control.budget import Budget, checked_caps
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.engine.stream import (
    ChunkSource,
    InputTask,
    Locations,
    ResultChannel,
    ResultStream,
)
from pingdata_async.events import Event, EventEmitter, Listener, NoticeCollector, check_listener
from pingdata_async.exceptions import ConfigurationError, PingDataError
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES
from pingdata_async.locations.chunk_builder import ChunkBuilder, checked_sources
from pingdata_async.models import EnhancedLocation, EnhancedLocations, RunSummary
from pingdata_async.options import CallOptions, PlanOptions, ResumeOptions, RunOptions, check_names
from pingdata_async.runs.directory.directory import check_own_place, read_settings, run_dir_for
from pingdata_async.runs.directory.settings import (
    RunFlags,
    RunSettings,
    api_origin,
    differences,
    with_caps,
)
from pingdata_async.runs.export.output import absolute_output
from pingdata_async.runs.forecast import Forecast, forecast
from pingdata_async.runs.run import Run, SummaryListener
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.tables.rows import IN_MEMORY, STDIN, ReadOptions
from pingdata_async.util.files import absolute
from pingdata_async.util.text import STDOUT, counted, shown_path
from pingdata_async.util.validation import check_amount, check_count


class _Limits:
    """The limits that all enhancers on a client share."""

    def __init__(self, rng: random.Random) -> None:
        self.concurrency = ConcurrencyLimiter(AdaptiveLimit())
        self.rate_limiter = RateLimiter(rng)


_limits_by_client: weakref.WeakKeyDictionary[PingDataClient, _Limits] = weakref.WeakKeyDictionary()


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
        self._sources = checked_sources(sources if isinstance(sources, str) else list(sources))
        self._job_options = JobOptions(
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
            callback_url=callback_url,
        )
        self._encoded_options = self._job_options.encode(self._sources)
        check_count("max_chunk_bytes", max_chunk_bytes)
        self._chunk_size = chunk_size
        self._max_chunk_bytes = max_chunk_bytes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        limits = _limits_by_client.setdefault(client, _Limits(self._rng))
        self._share = limits.concurrency.share(max_jobs)
        self._rate_limiter = limits.rate_limiter
        if max_requests_per_second is not None:
            check_amount("max_requests_per_second", max_requests_per_second)
        self._max_requests_per_s = max_requests_per_second
        self._planner = PollPlanner(poll_schedule or PollSchedule())
        self._policy = retry_policy or RetryPolicy()
        check_listener(on_event)
        self._on_event = on_event
        self._builder()  # refuses sizes that cannot work now rather than in the middle

    async def enhance(
        self, locations: Locations, **options: Unpack[CallOptions]
    ) -> EnhancedLocations:
        """Enhance all locations and return the results in input order.

        Holds everything in memory; use `stream()` or `run()` if that is too much. A cancellation
        abandons the jobs in flight, although the API charges for them; they count against
        `max_jobs` until they have likely ended.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address.
            **options: Any of these, by name, for this call alone.

                max_locations: Stop before more locations than this are sent. Every attempt counts,
                and so does whatever may have been charged. Default None, for any number.

                budget: The same for single sources, by code.

                on_event: Called with every event of this call, besides the enhancer's.

        Returns:
            A list of the results, with a `summary`.

        Raises:
            PingDataError: When it cannot continue. Its `results` are what had been answered, its
                `summary` what was done and charged.
            BudgetSpentError: When the budget is spent and locations are left; likewise.
            BaseException: What the iterable raised, or a cancellation. It has `results` too, with
                the `summary` in these; an error that has `results` of its own becomes the cause of
                a `PingDataError`.
        """
        check_names("enhance", options, CallOptions)
        results = EnhancedLocations()
        builder = self._builder()
        stream = self._stream(locations, builder, options, flush_after_s=None)
        try:
            async with stream:
                try:
                    async for result in stream:
                        results.append(result)
                finally:
                    results += stream.take_at_hand()
        except BaseException as error:
            _finish(results, stream, builder)
            carrier = _carrying(results, error)
            if carrier is error:
                raise
            raise carrier from error
        _finish(results, stream, builder)
        return results

    def stream(
        self,
        locations: Locations,
        *,
        flush_after_s: float | None = 1.0,
        **options: Unpack[CallOptions],
    ) -> ResultStream:
        """Yield results one by one, as their chunks finish; see `ResultStream`.

        Memory stays flat, and an endless input works: no more than `max_jobs` chunks are read
        ahead of the consumer. Completed jobs wait at the API for a slow consumer. If it pauses for
        longer than the API keeps outputs (undocumented), those locations are paid for again.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address. A
                sync one is iterated in the event loop and must not block. A generator is closed
                when the stream ends.
            flush_after_s: How long a location of an async iterable waits for others to fill its
                chunk, so that a live source, such as a queue, flows. None for as long as it takes.
            **options: As of `enhance()`.

        Raises:
            InputError: When this is no iterable of locations (a table, a file, a single location),
                or nothing names a source. Also on iteration, before anything is sent, for a mapping
                with a name that is no field; later such a row is `invalid_input`.
        """
        if flush_after_s is not None:
            check_amount("flush_after_s", flush_after_s)
        check_names("stream", options, CallOptions)
        return self._stream(locations, self._builder(), options, flush_after_s=flush_after_s)

    async def run(
        self, source: AnyInput, output: str | Path, **options: Unpack[RunOptions]
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
            **options: Any of these, by name.

                run_dir: Keep the run in this folder. Default None, for `OUTPUT.run`.

                overwrite: Replace an existing output. Default False.

                restart: Set aside an existing run of this output and start a new one. Default
                False.

                pay_again: Start even if another run beside it has the same input, sources and
                options. Default False.

                discard_run: Delete the run directory once every row has an answer. Default False.

                check_space: Refuse to start if the disk looks too small. Default True.

                dedupe: Send identical locations once, and give each of their rows the answer.
                Locations are identical if all that is sent is equal, address texts apart from case
                and white space; the first one is sent as it is spelled. A planned run keeps to its
                plan. Default True.

                preflight: Check the account's limits before sending. Default True.

                max_locations: Stop before the whole run sends more locations than this. Every
                attempt counts, and so does whatever may have been charged. The answers of jobs in
                flight are still fetched. Default None, for any number.

                budget: The same for single sources, by code.

                reading: How to read the input. Default None, to detect it.

                writing: How to write the output. Default None, to go by its name.

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
            PingDataError: When no further request to the API can succeed.
        """
        check_names("run", options, RunOptions)
        begun = await self._begin(source, output, options)
        return await begun.run.start(begun.source, begun.run_dir, self._builder())

    async def plan(
        self, source: AnyInput, output: str | Path, **options: Unpack[PlanOptions]
    ) -> RunStatus:
        """Read the input and write the plan, for `run()` or `resume()` to continue.

        Nothing is sent, and the client need not be open.

        Args:
            source: As of `run()`.
            output: As of `run()`.
            **options: `run_dir`, `overwrite`, `restart`, `pay_again`, `dedupe`, `reading` and
                `writing`, as of `run()`.

        Returns:
            The status of the planned run.

        Raises:
            PingDataError: As `run()`, except for what only sending raises.
        """
        check_names("plan", options, PlanOptions)
        begun = await self._begin(source, output, options)
        path = await anyio.to_thread.run_sync(run_dir_for, begun.settings.output, begun.run_dir)
        await begun.run.plan(begun.source, path, self._builder())
        return await anyio.to_thread.run_sync(read_status, path)

    async def dry_run(
        self,
        source: AnyInput,
        output: str | Path | None = None,
        *,
        keep_plan: bool = False,
        max_locations: int | None = None,
        budget: Mapping[str, int] | None = None,
        **options: Unpack[PlanOptions],
    ) -> Forecast:
        """Forecast what a run would send, charge and need; sends no job and changes nothing.

        For an existing run, the forecast is of what is left to do. Without an open client, it
        leaves out what only the API knows, and says so.

        Args:
            source: As of `run()`.
            output: As of `run()`; None for none.
            keep_plan: Keep the plan, for `run()` or `resume()` to continue.
            max_locations: As of `run()`.
            budget: As of `run()`.
            **options: As of `plan()`.

        Raises:
            PingDataError: As `plan()`.
        """
        check_names("dry_run", options, PlanOptions)
        output = STDOUT if output is None else output
        is_nowhere = str(output) == STDOUT and options.get("run_dir") is None
        if is_nowhere:
            options["pay_again"] = True
        notices = NoticeCollector()
        begun = await self._begin(
            source,
            output,
            {**options, "max_locations": max_locations, "budget": budget},
            EventEmitter(notices, self._on_event),
        )
        run = begun.run
        place = None if is_nowhere else run_dir_for(begun.settings.output, begun.run_dir)
        async with contextlib.AsyncExitStack() as stack:
            if keep_plan and place is not None:
                await run.plan(begun.source, place, self._builder())
                planned = place
            else:
                foreseen = run.foreseen(begun.source, place, self._builder())
                planned = await stack.enter_async_context(foreseen)
            told = await forecast(planned, begun.settings, run.preflight, place=place or planned)
        return msgspec.structs.replace(
            told,
            notes=(*notices.messages, *told.notes),
            run_dir=told.run_dir if planned == place else None,
        )

    async def resume(
        self, run_dir: str | Path, *, discard_run: bool = False, **options: Unpack[ResumeOptions]
    ) -> RunSummary:
        """Resume a run that stopped; its input is not needed. On a finished run, nothing is sent.

        Args:
            run_dir: The run directory.
            discard_run: As of `run()`.
            **options: Any of these, by name.

                output: Write to this file. Default None, for the run's own output; if that is not
                beside the run directory, or is a link, name it.

                overwrite: Replace an output that the run did not write itself. Default False.

                max_locations, budget: As of `run()`, including what was sent before. Default None,
                for as before.

                writing: How to write the output. Default None, for as before.

                check_space, preflight: As of `run()`.

        Raises:
            ConfigurationError: When the run has other sources, other options or another API than
                this enhancer.
            RunError: When this is no run directory, is damaged, or another process executes it.
            PingDataError: As `run()`.
        """
        check_names("resume", options, ResumeOptions)
        path, run = await self._reopen(run_dir, options, discard_run=discard_run)
        return await run.resume(path)

    async def retry(
        self, run_dir: str | Path, *, all_not_ok: bool = False, **options: Unpack[ResumeOptions]
    ) -> RunSummary:
        """Retry the rows of a run that have no answer, and rewrite the output.

        Each row is sent again only to the sources that did not succeed.

        Args:
            run_dir: The run directory.
            all_not_ok: Retry every row that is not ok, "no match" included.
            **options: As of `resume()`.

        Raises:
            PingDataError: As `resume()`.
        """
        check_names("retry", options, ResumeOptions)
        path, run = await self._reopen(run_dir, options)
        return await run.retry(path, all_not_ok=all_not_ok)

    def _stream(
        self,
        locations: Locations,
        builder: ChunkBuilder,
        options: CallOptions,
        *,
        flush_after_s: float | None,
    ) -> ResultStream:
        caps = checked_caps(options.get("max_locations"), options.get("budget"))
        listener = options.get("on_event")
        check_listener(listener)
        source = ChunkSource(locations, builder, flush_after_s)
        requests = SummaryListener()
        requests.summary.environment = self._client.environment
        store = MemoryStore(builder.next_index, requests.summary)
        emit = EventEmitter(self._on_event, listener, requests)
        budget = Budget(caps, self._sources)
        # Not a method of the stream: its task must not keep the stream alive.
        engine_for, policy = self._engine, self._policy

        async def work(channel: ResultChannel) -> None:
            store.begin(channel.deliver)
            try:
                async with InputTask(source) as tasks:
                    await engine_for(store, emit, CircuitBreaker(policy), budget).run(tasks)
            except Exception as error:
                store.note_unfinished(error)
                raise
            finally:
                store.end(builder.values)

        client = self._client
        return ResultStream(lambda: client.tasks, work, store)

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
            concurrency=self._share,
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
        listener: Listener | None = None,
    ) -> _Begun:
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
        run = self._run(settings, _flags(options), listener or self._on_event)
        return _Begun(source, run_dir, settings, run)

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
        flags = _flags({**options, "discard_run": discard_run})
        return path, self._run(settings, flags, self._on_event)

    def _run(self, settings: RunSettings, flags: RunFlags, listener: Listener | None) -> Run:
        return Run(
            client=self._client,
            settings=settings,
            flags=flags,
            policy=self._policy,
            make_engine=self._engine,
            on_event=listener,
        )


class _Begun(NamedTuple):
    """A run of an input; paths are absolute."""

    source: AnyInput
    run_dir: str | Path | None
    settings: RunSettings
    run: Run


def _flags(options: Mapping[str, Any]) -> RunFlags:
    return RunFlags(**{name: options[name] for name in RunFlags.__annotations__ if name in options})


def _finish(results: EnhancedLocations, stream: ResultStream, builder: ChunkBuilder) -> None:
    """Put results in order, with a summary, now that all are there."""
    results.sort(key=_row)
    results.summary = stream.summary
    if builder.has_ids:  # the first rows have none, which was not known when they were answered
        ends = bisect_left(results, builder.rows_before_ids, key=_row)
        results[:ends] = [msgspec.structs.replace(each, id=None) for each in results[:ends]]


def _carrying(results: EnhancedLocations, error: BaseException) -> BaseException:
    """The error to raise in place of this one, with the results."""
    if isinstance(error, PingDataError):
        error.results, error.summary = results, results.summary
        return error
    # Not by getattr: a property may raise, and hide all of this.
    theirs = vars(error).get("results", results)
    if hasattr(type(error), "results") or not isinstance(theirs, EnhancedLocations):
        return _carrying(results, PingDataError(f"{type(error).__name__}: {error}"))
    vars(error)["results"] = results
    if isinstance(error, Exception):
        error.add_note(f"in its `results`: {counted(len(results), 'answered location')}")
    return error


def _row(result: EnhancedLocation) -> int:
    return result.row
