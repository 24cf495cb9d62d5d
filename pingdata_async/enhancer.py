"""BulkEnhancer: many locations in, their answers out."""

from __future__ import annotations

import random
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit
from pingdata_async.engine.flow_control.budget import Budget, Caps
from pingdata_async.engine.flow_control.circuit_breaker import CircuitBreaker
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engine.input_task import InputTask
from pingdata_async.engine.store import Charges, ChunkStore, MemoryStore
from pingdata_async.engine.stream import ChunkSource, Locations, ResultChannel, ResultStream
from pingdata_async.events import Event, EventEmitter, check_listener
from pingdata_async.exceptions import PingDataError
from pingdata_async.file_runs import FileRuns
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES
from pingdata_async.locations.chunk_builder import ChunkBuilder, checked_sources
from pingdata_async.models import EnhancedLocation, EnhancedLocations
from pingdata_async.runs.run import SummaryListener
from pingdata_async.util.text import counted
from pingdata_async.util.validation import check_amount, check_count


class _Limits:
    """What everyone on a client shares.

    Attributes:
        slots: For jobs in flight.
        rate_limiter: For requests.

    Args:
        rng: The source of jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self.slots = ConcurrencyLimiter(AdaptiveLimit())
        self.rate_limiter = RateLimiter(rng)


_limits_by_client: weakref.WeakKeyDictionary[PingDataClient, _Limits] = weakref.WeakKeyDictionary()


class BulkEnhancer(FileRuns):
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
        self._share = limits.slots.share(max_jobs)
        self._rate_limiter = limits.rate_limiter
        if max_requests_per_second is not None:
            check_amount("max_requests_per_second", max_requests_per_second)
        self._max_requests_per_s = max_requests_per_second
        self._planner = PollPlanner(poll_schedule or PollSchedule())
        self._policy = retry_policy or RetryPolicy()
        check_listener(on_event)
        self._on_event = on_event
        self._builder()  # refuses sizes that cannot work now rather than in the middle

    async def enhance(self, locations: Locations) -> EnhancedLocations:
        """Enhance all of `locations` and return the results in input order.

        Everything is held in memory; use `stream()` or `run()` where that is too much.
        Cancelling it stops sending; jobs in flight are abandoned, although the API charges
        for them, and count against `max_jobs` until they have likely ended.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address.

        Returns:
            A list, with a `summary` of what it took.

        Raises:
            PingDataError: When it cannot go on. What had been answered is in `results` of the
                error, and what it took in its `summary`.
            BaseException: What the iterable raised, and a cancellation, as they were. They have
                `results` likewise, with the `summary` in these; an error with a `results` of its
                own becomes the cause of a `PingDataError`.
        """
        results = EnhancedLocations()
        builder = self._builder()
        stream = self._stream(locations, builder)
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

    def stream(self, locations: Locations) -> ResultStream:
        """Results one by one, as their chunks finish; see `ResultStream`.

        Memory stays flat and an endless input works: no more is read than `max_jobs` chunks
        ahead of what has been consumed. Jobs that are done wait at the API for a slow
        consumer: one that pauses for longer than the API keeps outputs (how long that is, is
        not documented) makes it forget them, and their locations are paid for again.

        Args:
            locations: Any sync or async iterable of `Location`, mapping or plain address. A
                sync one is iterated in the event loop and must not block. A generator is closed
                when the stream ends.

        Raises:
            InputError: When it is no iterable of locations (a table, a file, a single one), or
                nothing names a source. Also while iterated, before anything is sent, for a
                mapping with a name that is no field; later that row is `invalid_input`.
        """
        return self._stream(locations, self._builder())

    def _stream(self, locations: Locations, builder: ChunkBuilder) -> ResultStream:
        source = ChunkSource(locations, builder)
        requests = SummaryListener()
        requests.summary.environment = self._client.environment
        charges = Charges(requests.summary)
        emit = EventEmitter(self._on_event, requests)
        # Not a method of the stream: its task must not keep the stream alive.
        runner_for = self._runner

        async def work(channel: ResultChannel) -> None:
            charges.begin()
            try:
                store = MemoryStore(channel.deliver, builder.next_index, charges)
                async with InputTask(source) as tasks:
                    await runner_for(store, emit).run(tasks)
            except Exception as error:
                charges.note_unfinished(error)
                raise
            finally:
                charges.end(builder.values)

        client = self._client
        return ResultStream(lambda: client.tasks, work, charges)

    def _builder(self) -> ChunkBuilder:
        return ChunkBuilder(
            chunk_size=self._chunk_size,
            # The rest of the body is the same in each.
            max_chunk_bytes=self._max_chunk_bytes - len(self._encoded_options),
            sources=self._sources,
        )

    def _runner(
        self,
        store: ChunkStore,
        emit: EventEmitter,
        breaker: CircuitBreaker | None = None,
        budget: Budget | None = None,
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
            breaker=breaker or CircuitBreaker(self._policy),
            budget=budget or Budget(Caps(), self._sources),
        )
        return Engine(context)


def _finish(results: EnhancedLocations, stream: ResultStream, builder: ChunkBuilder) -> None:
    """Put results in order, with a summary, now that all are there."""
    results.sort(key=_row)
    results.summary = stream.summary
    if builder.has_ids:  # the first rows have none, which was not known when they were answered
        ends = bisect_left(results, builder.rows_before_ids, key=_row)
        results[:ends] = [msgspec.structs.replace(each, id=None) for each in results[:ends]]


def _carrying(results: EnhancedLocations, error: BaseException) -> BaseException:
    """The error to be raised in place of one, so that the results are not lost with it."""
    if isinstance(error, PingDataError):
        error.results, error.summary = results, results.summary
        return error
    # Not asked of the error itself: a property may raise, and hide all of this.
    theirs = vars(error).get("results", results)
    if hasattr(type(error), "results") or not isinstance(theirs, EnhancedLocations):
        return _carrying(results, PingDataError(f"{type(error).__name__}: {error}"))
    vars(error)["results"] = results
    if isinstance(error, Exception):
        error.add_note(f"in its `results`: {counted(len(results), 'answered location')}")
    return error


def _row(result: EnhancedLocation) -> int:
    return result.row
