"""BulkEnhancer: many locations in, their answers out."""

from __future__ import annotations

import inspect
import math
import random
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio.to_thread
import msgspec

from pingdata_async.bulk.breaker import Breaker
from pingdata_async.bulk.chunking import MAX_CHUNK_BYTES, ChunkBuilder, checked_sources
from pingdata_async.bulk.job_slots import JobSlots
from pingdata_async.bulk.pacing import AdaptiveLimiter
from pingdata_async.bulk.polling import PollPlanner, PollSchedule
from pingdata_async.bulk.protocols import Ledger
from pingdata_async.bulk.request_gate import RequestGate
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.runner import BulkRunner
from pingdata_async.bulk.stream import (
    ChunkSource,
    Locations,
    MemoryLedger,
    ResultChannel,
    ResultStream,
)
from pingdata_async.client import PingDataClient
from pingdata_async.events import Announcer, Event, RunNotice
from pingdata_async.exceptions import (
    APIStatusError,
    ConfigurationError,
    DecodeError,
    PingDataError,
    TransportError,
)
from pingdata_async.models import EnhancedLocation, RunSummary
from pingdata_async.runs.identity import SANDBOX, RunSettings, api_origin, differences
from pingdata_async.runs.output_files import STDOUT, shown_path
from pingdata_async.runs.output_form import DeclaredTypes
from pingdata_async.runs.run import Run, RunOptions
from pingdata_async.runs.run_directory import read_settings, run_dir_for
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.tables.inputs import ReadOptions
from pingdata_async.tables.jsonl_reading import IN_MEMORY
from pingdata_async.tables.outputs import WriteOptions
from pingdata_async.tables.readers import AnyInput
from pingdata_async.wire import encode_options


class _Limits:
    """What everyone on a client shares.

    Attributes:
        slots: For jobs in flight.
        gate: For requests.

    Args:
        rng: The source of jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self.slots = JobSlots(AdaptiveLimiter())
        self.gate = RequestGate(rng)


_limits_by_client: weakref.WeakKeyDictionary[PingDataClient, _Limits] = weakref.WeakKeyDictionary()


class BulkEnhancer:
    """Enhances any number of locations through bulk jobs, many at once, in one event loop.

    Enhancers on one client share its limits: together they have no more jobs in flight than
    the largest `max_jobs` among those at work, send no more requests than the smallest
    `max_requests_per_second`, and wait together for the time that a 429 names.

    Args:
        client: An open `PingDataClient`.
        sources: Source codes such as PG and PH; a location's own `sources` win.
        chunk_size: Locations a job, at most.
        max_jobs: Jobs in flight, at most. How many it really is follows what the API bears.
        max_requests_per_second: Requests about jobs that the account is known to be allowed;
            None where that is not known: it is learnt if the API refuses any.
        max_chunk_bytes: Bytes of a job's body before compression, at most.
        source_timeout_s: The API's own `timeout` for each fetch from a source; None for its
            default.
        include_raw_response: Whether answers hold what the source itself said.
        check_cache: False to have everything fetched afresh.
        delegate_to: Short name of the organisation to act for, which needs a permission; None
            for your own.
        callback_url: POSTed to by the API whenever a job is done, for a receiver of yours; None
            for nobody. What it sends there is not documented.
        poll_schedule: Bounds of the time between two questions about a job; None for its
            defaults.
        retry_policy: How often and how long things are tried; None for its defaults.
        on_event: Told of everything that happens, in the event loop; must return at once. None
            for nobody.
        rng: The source of jitter; None for one of its own.

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
        self._options = encode_options(
            sources=self._sources,
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
            callback_url=callback_url,
        )
        self._chunk_size = chunk_size
        self._max_chunk_bytes = max_chunk_bytes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        limits = _limits_by_client.setdefault(client, _Limits(self._rng))
        self._share = limits.slots.share(max_jobs)
        self._gate = limits.gate
        if max_requests_per_second is not None and not 0 < max_requests_per_second < math.inf:
            raise ConfigurationError(
                f"max_requests_per_second must be above 0, not {max_requests_per_second}"
            )
        self._max_requests_per_s = max_requests_per_second
        self._planner = PollPlanner(poll_schedule or PollSchedule())
        self._policy = retry_policy or RetryPolicy()
        if inspect.iscoroutinefunction(on_event):
            raise ConfigurationError("on_event must be a plain function: it is not awaited")
        self._on_event = on_event
        self._builder()  # refuses sizes that cannot work now rather than in the middle

    async def enhance(self, locations: Locations) -> list[EnhancedLocation]:
        """Enhance all of `locations` and return the results in input order.

        Everything is held in memory; use `stream()` or `run()` where that is too much.
        Cancelling it stops sending; jobs in flight are abandoned, although the API charges
        for them.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address.

        Raises:
            PingDataError: When it cannot go on; `results` of the error holds what had been
                answered. An error of the iterable's own arrives as it is, without them: use
                `stream()` where that can happen.
        """
        results: list[EnhancedLocation] = []
        try:
            async with self.stream(locations) as stream:
                async for result in stream:
                    results.append(result)  # noqa: PERF401 - what came before an error counts
        except PingDataError as error:
            error.results = sorted(results, key=_row)
            raise
        results.sort(key=_row)
        return results

    def stream(self, locations: Locations) -> ResultStream:
        """Results one by one, as their chunks finish; see `ResultStream`.

        Memory stays flat and an endless input works: no more is read than `max_jobs` chunks
        ahead of what has been consumed. Jobs that are done wait at the API for a slow
        consumer: one that pauses for longer than the API keeps outputs (how long that is, is
        not documented) makes it forget them, and their locations are paid for again.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address. A
                sync one is iterated in the event loop and must not block.

        Raises:
            InputError: When it is a single location.
        """
        builder = self._builder()
        source = ChunkSource(locations, builder)
        announce = Announcer(self._on_event)
        # Not a method of the stream: its task must not keep the stream alive.
        runner_for = self._runner

        async def work(channel: ResultChannel) -> None:
            try:
                ledger = MemoryLedger(channel.deliver, builder.next_index)
                await runner_for(ledger, announce).run(source)
            finally:
                await source.aclose()

        client = self._client
        return ResultStream(lambda: client.tasks, work)

    async def run(
        self,
        source: AnyInput,
        output: str | Path,
        *,
        run_dir: str | Path | None = None,
        overwrite: bool = False,
        restart: bool = False,
        again: bool = False,
        discard_run: bool = False,
        check_space: bool = True,
        reading: ReadOptions | None = None,
        writing: WriteOptions | None = None,
    ) -> RunSummary:
        """Enhance a table of any size into a file, in input order, in flat memory.

        The input is read through once and written down as a plan before anything is sent.
        Every step from there on is kept in the run directory, so that a run that was stopped,
        by an error, a cancellation or a power cut, goes on where it was when this is called
        again, or `resume()`. Called again on a finished run, it sends nothing. Cancelled, it
        waits up to `linger_s` of the retry policy for submissions on their way, so that no job
        is paid for whose id is not known.

        Args:
            source: A file of delimited text, JSONL, Parquet or a workbook; "-" for standard
                input. Or an iterable of `Location`s, mappings and plain addresses, or a pandas,
                polars or Arrow object, or any other with the Arrow PyCapsule interface.
            output: The file to be made, in the form that its name says: .jsonl, .csv, .parquet,
                .xlsx, .geojsonl, .geoparquet; texts also with .gz or .zst behind it. "-" for
                standard output. Beside it, `OUTPUT.failures.jsonl` holds the rows without an
                answer, if there are any.
            run_dir: Where the run is kept; None for `OUTPUT.run`.
            overwrite: Whether an existing output may be replaced.
            restart: Set a run that is there aside, and begin a new one.
            again: Begin, although a run beside it has the same input and settings.
            discard_run: Remove the run directory when every row has been answered.
            check_space: Refuse to begin where the answers will not fit on the disk.
            reading: How the input is understood; None to find out.
            writing: How the output is written; None to go by its name.

        Returns:
            What it did and what it took.

        Raises:
            InputError: When the input cannot be used; nothing has been sent.
            ConfigurationError: When output or run directory cannot be used, or a run of
                something else is there; likewise.
            RunError: When something cannot be written, or another process has the run.
            SubmissionInDoubtError: When submissions in doubt are held for the user.
            PingDataError: When the API cannot be used any further.
        """
        options = RunOptions(
            overwrite=overwrite,
            restart=restart,
            again=again,
            discard=discard_run,
            check_space=check_space,
        )
        settings = self._settings(source, output, reading, writing, overwrite=overwrite)
        return await self._run(settings, output, options).start(source, run_dir, self._builder())

    async def plan(
        self,
        source: AnyInput,
        output: str | Path,
        *,
        run_dir: str | Path | None = None,
        overwrite: bool = False,
        restart: bool = False,
        again: bool = False,
        reading: ReadOptions | None = None,
        writing: WriteOptions | None = None,
    ) -> RunStatus:
        """Only read the input through and write the plan; `run()` or `resume()` goes on.

        Nothing is sent, and the client need not be open. Arguments and errors as of `run()`.
        """
        options = RunOptions(overwrite=overwrite, restart=restart, again=again)
        path = await anyio.to_thread.run_sync(run_dir_for, output, run_dir)
        settings = self._settings(source, output, reading, writing, overwrite=overwrite)
        run = self._run(settings, output, options)
        await run.plan(source, path, self._builder())
        return await anyio.to_thread.run_sync(read_status, path)

    async def resume(
        self,
        run_dir: str | Path,
        *,
        output: str | Path | None = None,
        overwrite: bool = False,
        discard_run: bool = False,
        check_space: bool = True,
        writing: WriteOptions | None = None,
    ) -> RunSummary:
        """Go on with a run; the input is not needed. On a finished run, nothing is sent.

        Args:
            run_dir: Where it is kept.
            output: Another output than the run's own; None for that.
            overwrite: Whether an output may be replaced that the run did not write itself.
            discard_run: As of `run()`.
            check_space: As of `run()`.
            writing: How the output is written; None for as before.

        Raises:
            ConfigurationError: When this enhancer has other sources or options than the run, or
                another API.
            RunError: When it is no run directory, or is damaged, or another process has it.
            PingDataError: As `run()`.
        """
        options = RunOptions(overwrite=overwrite, discard=discard_run, check_space=check_space)
        settings = await self._kept_settings(Path(run_dir), output, writing)
        run = self._run(settings, settings.output if output is None else output, options)
        return await run.resume(Path(run_dir))

    async def retry(
        self,
        run_dir: str | Path,
        *,
        all_not_ok: bool = False,
        output: str | Path | None = None,
        overwrite: bool = False,
        check_space: bool = True,
        writing: WriteOptions | None = None,
    ) -> RunSummary:
        """Ask once more, within the same run, about the rows without an answer.

        Each is asked about only for the sources that did not succeed, and the output is
        written anew.

        Args:
            run_dir: Where the run is kept.
            all_not_ok: All rows that are not ok, those that a source has no match for too.
            output: As of `resume()`.
            overwrite: As of `resume()`.
            check_space: As of `run()`.
            writing: As of `resume()`.

        Raises:
            PingDataError: As `resume()`.
        """
        settings = await self._kept_settings(Path(run_dir), output, writing)
        options = RunOptions(overwrite=overwrite, check_space=check_space)
        run = self._run(settings, settings.output if output is None else output, options)
        return await run.retry(Path(run_dir), all_not_ok=all_not_ok)

    def _settings(
        self,
        source: AnyInput,
        output: str | Path,
        reading: ReadOptions | None = None,
        writing: WriteOptions | None = None,
        *,
        overwrite: bool,
    ) -> RunSettings:
        client = self._client
        is_sandbox = client.environment == SANDBOX
        options = msgspec.json.decode(self._options)
        return RunSettings(
            sources=self._sources,
            options={name: value for name, value in options.items() if name != "sources"},
            environment=client.environment,
            api_url=None if is_sandbox or client.environment else client.api_url,
            api=SANDBOX if is_sandbox else api_origin(client.api_url),
            chunk_size=self._chunk_size,
            max_jobs=self._share.max_jobs,
            source=shown_path(source) if isinstance(source, str | Path) else IN_MEMORY,
            output=str(output) if str(output) == STDOUT else str(Path(output).absolute()),
            overwrite=overwrite,
            max_requests_per_s=self._max_requests_per_s,
            reading=reading or ReadOptions(),
            writing=writing or WriteOptions(),
        )

    async def _kept_settings(
        self, run_dir: Path, output: str | Path | None, writing: WriteOptions | None
    ) -> RunSettings:
        kept = await anyio.to_thread.run_sync(read_settings, run_dir)
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

    def _run(self, settings: RunSettings, output: str | Path, options: RunOptions) -> Run:
        return Run(
            settings=settings,
            output=output,
            options=options,
            policy=self._policy,
            make_runner=self._runner,
            ask_types=self._ask_types,
            on_event=self._on_event,
        )

    async def _ask_types(self) -> DeclaredTypes:
        """What the API says of its fields: nothing, where it does not tell."""
        try:
            sources = await self._client.datasources()
        except (APIStatusError, TransportError, DecodeError) as error:
            message = f"The API does not say what types its fields have ({error})."
            Announcer(self._on_event)(RunNotice(message=f"{message} The answers tell."))
            return {}
        wanted = {code.casefold() for code in self._sources}
        return {
            code: source.output_fields
            for code, source in sources.items()
            if code.casefold() in wanted
        }

    def _builder(self) -> ChunkBuilder:
        return ChunkBuilder(
            chunk_size=self._chunk_size,
            # The rest of the body is the same in each.
            max_chunk_bytes=self._max_chunk_bytes - len(self._options),
            sources=self._sources,
        )

    def _runner(
        self, ledger: Ledger, announce: Announcer, breaker: Breaker | None = None
    ) -> BulkRunner:
        return BulkRunner(
            api=self._client,
            ledger=ledger,
            slots=self._share,
            gate=self._gate,
            max_requests_per_s=self._max_requests_per_s,
            sources=self._sources,
            options=self._options,
            chunk_size=self._chunk_size,
            planner=self._planner,
            policy=self._policy,
            announce=announce,
            rng=self._rng,
            breaker=breaker,
        )


def _row(result: EnhancedLocation) -> int:
    return result.row
