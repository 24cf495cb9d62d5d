"""BulkEnhancer: many locations in, their answers out."""

from __future__ import annotations

import inspect
import random
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

from pingdata_async.bulk.chunking import MAX_CHUNK_BYTES, ChunkBuilder, checked_sources
from pingdata_async.bulk.pacing import JobSlots
from pingdata_async.bulk.polling import PollSchedule
from pingdata_async.bulk.protocols import ChunkSink
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.runner import BulkRunner
from pingdata_async.bulk.stream import ChunkSource, Locations, ResultChannel, ResultStream
from pingdata_async.client import PingDataClient
from pingdata_async.events import Announcer, Event
from pingdata_async.exceptions import ConfigurationError, PingDataError
from pingdata_async.models import EnhancedLocation, RunSummary
from pingdata_async.runs.run import Run
from pingdata_async.wire import encode_options

_slots_by_client: weakref.WeakKeyDictionary[PingDataClient, JobSlots] = weakref.WeakKeyDictionary()


class BulkEnhancer:
    """Enhances any number of locations through bulk jobs, many at once, in one event loop.

    Enhancers on one client share its limits: together they have no more jobs in flight than
    the largest `max_jobs` among those at work.

    Args:
        client: An open `PingDataClient`.
        sources: Source codes such as PG and PH; a location's own `sources` win.
        chunk_size: Locations a job, at most.
        max_jobs: Jobs in flight, at most.
        max_chunk_bytes: Bytes of a job's body before compression, at most.
        source_timeout_s: The API's own `timeout` for each fetch from a source; None for its
            default.
        include_raw_response: Whether answers hold what the source itself said.
        check_cache: False to have everything fetched afresh.
        delegate_to: Short name of the organisation to act for; needs a permission.
        callback_url: POSTed to by the API whenever a job is done, for a receiver of yours.
        poll_schedule: When jobs are asked about.
        retry_policy: How often things are tried.
        on_event: Told of everything that happens, in the event loop; must return at once.
        rng: The source of jitter.

    Raises:
        ConfigurationError: For a setting that cannot work.
    """

    def __init__(
        self,
        client: PingDataClient,
        sources: Iterable[str] | str = (),
        *,
        chunk_size: int = 1000,
        max_jobs: int = 16,
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
        self._share = _slots_by_client.setdefault(client, JobSlots()).share(max_jobs)
        self._schedule = poll_schedule or PollSchedule()
        self._policy = retry_policy or RetryPolicy()
        if inspect.iscoroutinefunction(on_event):
            raise ConfigurationError("on_event must be a plain function: it is not awaited")
        self._on_event = on_event
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
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
        source = ChunkSource(locations, self._builder())
        announce = Announcer(self._on_event)
        # Not a method of the stream: its task must not keep the stream alive.
        runner_for = self._runner

        async def work(channel: ResultChannel) -> None:
            try:
                await runner_for(channel, announce).run(source)
            finally:
                await source.aclose()

        client = self._client
        return ResultStream(lambda: client.tasks, work)

    async def run(
        self,
        source: str | Path,
        output: str | Path,
        *,
        run_dir: str | Path | None = None,
        overwrite: bool = False,
    ) -> RunSummary:
        """Enhance a file of any size into a JSONL file, in input order, in flat memory.

        The input is read through once before anything is sent. When the run stops early, by
        an error or by being cancelled, the rows answered so far are in `OUTPUT.partial`.

        Args:
            source: A CSV or JSONL file; "-" for standard input.
            output: The JSONL file to be made; "-" for standard output.
            run_dir: A folder to be made for plan and answers meanwhile; None for
                `OUTPUT.run`.
            overwrite: Whether an existing output may be replaced.

        Returns:
            What it did and what it took.

        Raises:
            InputError: When the input cannot be used; nothing has been sent.
            ConfigurationError: When output or run directory cannot be used; likewise.
            RunError: When something cannot be written.
            PingDataError: When the API cannot be used any further.
        """
        return await Run(
            source=source,
            output=output,
            run_dir=run_dir,
            overwrite=overwrite,
            sources=self._sources,
            builder=self._builder(),
            make_runner=self._runner,
            on_event=self._on_event,
            environment=self._client.environment,
        ).run()

    def _builder(self) -> ChunkBuilder:
        return ChunkBuilder(
            chunk_size=self._chunk_size,
            # The rest of the body is the same in each.
            max_chunk_bytes=self._max_chunk_bytes - len(self._options),
            sources=self._sources,
        )

    def _runner(self, sink: ChunkSink, announce: Announcer) -> BulkRunner:
        return BulkRunner(
            api=self._client,
            sink=sink,
            slots=self._share,
            sources=self._sources,
            options=self._options,
            schedule=self._schedule,
            policy=self._policy,
            announce=announce,
            rng=self._rng,
        )


def _row(result: EnhancedLocation) -> int:
    return result.row
