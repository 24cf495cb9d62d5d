"""Runs of files: what a `BulkEnhancer` does durably, in a run directory."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio.to_thread
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import Budget, Caps, checked_caps, folded
from pingdata_async.engine.flow_control.circuit_breaker import CircuitBreaker
from pingdata_async.engine.flow_control.concurrency import ConcurrencyShare
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engine.store import ChunkStore
from pingdata_async.events import Event, EventEmitter, Listener, NoticeCollector
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import RunSummary
from pingdata_async.runs.directory.directory import check_own_place, read_settings, run_dir_for
from pingdata_async.runs.directory.settings import (
    SANDBOX,
    RunOptions,
    RunSettings,
    api_origin,
    differences,
)
from pingdata_async.runs.export.output import absolute_output
from pingdata_async.runs.forecast import Forecast, forecast
from pingdata_async.runs.run import Run
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.readers.base import IN_MEMORY
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.tables.rows import STDIN, ReadOptions
from pingdata_async.util.files import absolute
from pingdata_async.util.text import STDOUT, shown_path


class FileRuns(ABC):
    """What a `BulkEnhancer` can do with files; it has set the attributes used here."""

    _client: PingDataClient
    _sources: tuple[str, ...]
    _job_options: JobOptions
    _chunk_size: int
    _share: ConcurrencyShare
    _max_requests_per_s: float | None
    _policy: RetryPolicy
    _on_event: Callable[[Event], None] | None

    @abstractmethod
    def _builder(self) -> ChunkBuilder:
        """Makes the chunks of an input."""

    @abstractmethod
    def _runner(
        self,
        store: ChunkStore,
        emit: EventEmitter,
        breaker: CircuitBreaker | None = None,
        budget: Budget | None = None,
    ) -> Engine:
        """Brings chunks through."""

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
        dedupe: bool = True,
        preflight: bool = True,
        max_locations: int | None = None,
        budget: Mapping[str, int] | None = None,
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
                .xlsx, .geojson, .geojsonl, .geoparquet; texts also with .gz or .zst behind it.
                "-" for standard output. Beside it, `OUTPUT.failures.jsonl` holds the rows without
                an answer, if there are any.
            run_dir: Where the run is kept; None for `OUTPUT.run`.
            overwrite: Whether an existing output may be replaced.
            restart: Set a run that is there aside, and begin a new one.
            again: Begin, although a run beside it has the same input and settings.
            discard_run: Remove the run directory when every row has been answered.
            check_space: Refuse to begin where the answers will not fit on the disk.
            dedupe: Send identical locations once, and give the answer to every row that is the
                same: all that is sent is equal, the text of an address without regard to case
                and white space. The first spelling is what is sent. A run that was planned
                goes on as it was planned.
            preflight: Refuse to send what the account's limits are known to refuse.
            max_locations: Locations that may be sent in all, every attempt and all that may have
                been charged included; None for any number. What is sent before it is reached
                is brought home.
            budget: Likewise by source code, of those that are named.
            reading: How the input is understood; None to find out.
            writing: How the output is written; None to go by its name.

        Returns:
            What it did and what it took.

        Raises:
            InputError: When the input cannot be used; nothing has been sent.
            ConfigurationError: When output or run directory cannot be used, or a run of
                something else is there; likewise.
            RunError: When something cannot be written, or another process has the run.
            BudgetSpentError: When what may be sent was sent, and there is more.
            LimitsExceededError: When the account's limits would refuse it; nothing was sent.
            SubmissionInDoubtError: When submissions in doubt are held for the user.
            PingDataError: When the API cannot be used any further.
        """
        source, output, run_dir = await _absolute(source, output, run_dir)
        options = RunOptions(
            overwrite=overwrite,
            restart=restart,
            again=again,
            discard=discard_run,
            check_space=check_space,
            dedupe=dedupe,
            preflight=preflight,
        )
        settings = self._settings(source, output, reading, writing, overwrite=overwrite)
        settings = with_caps(settings, max_locations, budget)
        return await self._run(settings, options).start(source, run_dir, self._builder())

    async def plan(
        self,
        source: AnyInput,
        output: str | Path,
        *,
        run_dir: str | Path | None = None,
        overwrite: bool = False,
        restart: bool = False,
        again: bool = False,
        dedupe: bool = True,
        reading: ReadOptions | None = None,
        writing: WriteOptions | None = None,
    ) -> RunStatus:
        """Only read the input through and write the plan; `run()` or `resume()` goes on.

        Nothing is sent, and the client need not be open. Arguments and errors as of `run()`.
        """
        source, output, run_dir = await _absolute(source, output, run_dir)
        options = RunOptions(overwrite=overwrite, restart=restart, again=again, dedupe=dedupe)
        path = await anyio.to_thread.run_sync(run_dir_for, output, run_dir)
        settings = self._settings(source, output, reading, writing, overwrite=overwrite)
        run = self._run(settings, options)
        await run.plan(source, path, self._builder())
        return await anyio.to_thread.run_sync(read_status, path)

    async def dry_run(
        self,
        source: AnyInput,
        output: str | Path | None = None,
        *,
        run_dir: str | Path | None = None,
        keep_plan: bool = False,
        overwrite: bool = False,
        restart: bool = False,
        again: bool = False,
        dedupe: bool = True,
        max_locations: int | None = None,
        budget: Mapping[str, int] | None = None,
        reading: ReadOptions | None = None,
        writing: WriteOptions | None = None,
    ) -> Forecast:
        """Tell what a run would send, charge and need; no job is sent, and nothing is changed.

        Of a run that is there already, what is left of it. Without an open client it is not
        known what the API says of sources and limits, and the forecast says so.

        Args:
            source: As of `run()`.
            output: As of `run()`; None for nowhere.
            run_dir: As of `run()`.
            keep_plan: Whether the plan is kept as by `plan()`, for `run()` to take it up.
            overwrite: As of `run()`.
            restart: As of `run()`.
            again: As of `run()`.
            dedupe: As of `run()`.
            max_locations: As of `run()`.
            budget: As of `run()`.
            reading: As of `run()`.
            writing: As of `run()`.

        Raises:
            PingDataError: As `run()`, but for what only sending brings.
        """
        source, output, run_dir = await _absolute(
            source, STDOUT if output is None else output, run_dir
        )
        is_nowhere = str(output) == STDOUT and run_dir is None
        options = RunOptions(
            overwrite=overwrite, restart=restart, again=again or is_nowhere, dedupe=dedupe
        )
        settings = self._settings(source, output, reading, writing, overwrite=overwrite)
        settings = with_caps(settings, max_locations, budget)
        notices = NoticeCollector()
        listener = EventEmitter(notices, self._on_event)
        run = self._run(settings, options, listener)
        place = None if is_nowhere else run_dir_for(output, run_dir)
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
        output: str | Path | None = None,
        overwrite: bool = False,
        discard_run: bool = False,
        check_space: bool = True,
        preflight: bool = True,
        max_locations: int | None = None,
        budget: Mapping[str, int] | None = None,
        writing: WriteOptions | None = None,
    ) -> RunSummary:
        """Go on with a run; the input is not needed. On a finished run, nothing is sent.

        Args:
            run_dir: Where it is kept.
            output: Another output than the run's own; None for that, which must be in the folder
                that the run directory is in, and no link: else name it again.
            overwrite: Whether an output may be replaced that the run did not write itself.
            discard_run: As of `run()`.
            check_space: As of `run()`.
            preflight: As of `run()`.
            max_locations: As of `run()`, what was sent before included; None for as before.
            budget: Likewise.
            writing: How the output is written; None for as before.

        Raises:
            ConfigurationError: When this enhancer has other sources or options than the run, or
                another API.
            RunError: When it is no run directory, or is damaged, or another process has it.
            PingDataError: As `run()`.
        """
        options = RunOptions(
            overwrite=overwrite, discard=discard_run, check_space=check_space, preflight=preflight
        )
        run_dir = await anyio.to_thread.run_sync(absolute, run_dir)
        if output is not None:
            output = await anyio.to_thread.run_sync(absolute_output, output)
        settings = await self._kept_settings(run_dir, output, writing)
        settings = with_caps(settings, max_locations, budget)
        run = self._run(settings, options)
        return await run.resume(run_dir)

    async def retry(
        self,
        run_dir: str | Path,
        *,
        all_not_ok: bool = False,
        output: str | Path | None = None,
        overwrite: bool = False,
        check_space: bool = True,
        preflight: bool = True,
        max_locations: int | None = None,
        budget: Mapping[str, int] | None = None,
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
            preflight: As of `run()`.
            max_locations: As of `resume()`.
            budget: As of `resume()`.
            writing: As of `resume()`.

        Raises:
            PingDataError: As `resume()`.
        """
        run_dir = await anyio.to_thread.run_sync(absolute, run_dir)
        if output is not None:
            output = await anyio.to_thread.run_sync(absolute_output, output)
        settings = await self._kept_settings(run_dir, output, writing)
        settings = with_caps(settings, max_locations, budget)
        options = RunOptions(overwrite=overwrite, check_space=check_space, preflight=preflight)
        run = self._run(settings, options)
        return await run.retry(run_dir, all_not_ok=all_not_ok)

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

    def _run(
        self, settings: RunSettings, options: RunOptions, listener: Listener | None = None
    ) -> Run:
        return Run(
            client=self._client,
            settings=settings,
            options=options,
            policy=self._policy,
            make_engine=self._runner,
            on_event=listener or self._on_event,
        )


async def _absolute(
    source: AnyInput, output: str | Path, run_dir: str | Path | None
) -> tuple[AnyInput, str | Path, Path | None]:
    """What a run is given, so that it means the same whatever folder the process goes to."""
    if isinstance(source, str | Path) and str(source) != STDIN:
        source = await anyio.to_thread.run_sync(absolute, source)
    output = await anyio.to_thread.run_sync(absolute_output, output)
    folder = None if run_dir is None else await anyio.to_thread.run_sync(absolute, run_dir)
    return source, output, folder


def with_caps(
    settings: RunSettings, max_locations: int | None, budget: Mapping[str, int] | None
) -> RunSettings:
    """Settings with those caps that are given; the others stay, also those of other sources.

    Raises:
        ConfigurationError: When they are no numbers of locations.
    """
    given = checked_caps(max_locations, budget)
    kept = settings.caps
    named = folded(given.by_source)
    others = {code: cap for code, cap in kept.by_source.items() if code.casefold() not in named}
    caps = Caps(
        locations=kept.locations if given.locations is None else given.locations,
        by_source={**others, **given.by_source},
    )
    return msgspec.structs.replace(settings, caps=caps)
