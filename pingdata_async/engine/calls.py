"""Calls that return a list: `collect()`. A SharedCall shares its jobs with others.

A web handler has three locations at a time, and a thousand of them fit into a job. So the rows of
calls wait for a moment for those of others: `shared_runs` gathers them and has them sent.
"""

from __future__ import annotations

import contextlib
import copy
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Self, TypeGuard

import anyio
import msgspec

from pingdata_async.engine.context import MemoryStore
from pingdata_async.engine.stream import ChunkSource, ResultStream, time_limit
from pingdata_async.events import EventEmitter, Listener
from pingdata_async.exceptions import CallTimeoutError, PingDataError
from pingdata_async.locations.chunk import BLANK_ID, Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.fields import AnyLocation
from pingdata_async.models import EnhancedLocation, EnhancedLocations, RunSummary
from pingdata_async.results.validation import invalid_results

if TYPE_CHECKING:
    from pingdata_async.engine.shared_runs import MicroBatcher


async def collect(
    stream: ResultStream | SharedCall, builder: ChunkBuilder, timeout_s: float | None = None
) -> EnhancedLocations:
    """All results of a call, in input order; an error carries those that there are.

    Args:
        stream: The call.
        builder: That of its chunks.
        timeout_s: The longest time; None for any.
    """
    results = EnhancedLocations()
    try:
        with time_limit(timeout_s):
            async with stream:
                try:
                    async for result in stream:
                        results.append(result)
                finally:
                    results += stream.take_at_hand()
    except BaseException as error:
        if isinstance(error, CallTimeoutError) and isinstance(stream, SharedCall):
            stream.store.note_unfinished(error)
        results += stream.take_at_hand()  # of a call that failed as it began
        _finish(results, stream, builder)
        carrier = results.carried_by(error)
        if carrier is error:
            raise
        raise carrier from error
    _finish(results, stream, builder)
    return results


def _finish(
    results: EnhancedLocations, stream: ResultStream | SharedCall, builder: ChunkBuilder
) -> None:
    """Put results in order, with a summary, now that all are there."""
    results.sort(key=attrgetter("row"))
    results.summary = stream.summary
    if builder.has_ids:  # the first rows have none, which was not known when they were answered
        ends = bisect_left(results, builder.rows_before_ids, key=attrgetter("row"))
        results[:ends] = [msgspec.structs.replace(each, id=None) for each in results[:ends]]


def may_share(
    locations: object, options: Mapping[str, object], chunk_size: int
) -> TypeGuard[Sequence[AnyLocation]]:
    """Whether a call may share jobs: it is small, and what it asks for concerns no other."""
    if any(value is not None for name, value in options.items() if name != "timeout_s"):
        return False
    return isinstance(locations, list | tuple) and len(locations) < chunk_size


class SharedCall(AsyncIterator[EnhancedLocation]):
    """A call whose rows may share jobs; used as a `ResultStream` is, inside `async with`.

    Args:
        batcher: Gathers the rows.
        locations: Few enough for one chunk.
        builder: Builds nothing but the chunks of this call.
        store: Told of the jobs with rows of this call, with these rows alone.
        listener: Told of the events of these jobs.
        flush_after_s: How long the rows wait for those of other calls.
    """

    def __init__(
        self,
        batcher: MicroBatcher,
        locations: Sequence[AnyLocation],
        builder: ChunkBuilder,
        store: MemoryStore,
        *,
        listener: Listener,
        flush_after_s: float,
    ) -> None:
        self._batcher = batcher
        self._source = ChunkSource(locations, builder)
        self._builder = builder
        self.flush_after_s = flush_after_s
        self._ready: deque[EnhancedLocation] = deque()
        self._news = anyio.Event()
        self._error: Exception | None = None
        self._is_left = False
        self.rows = len(locations)
        self.store = store
        self._watched = None
        if batcher.telemetry is not None:
            self._watched = batcher.telemetry.shared_call(store.summary().run_id or "")
        self._watching = contextlib.ExitStack()
        self.listener = EventEmitter(listener, self._watched)
        self.rows_left = 0  # that have no outcome
        self.first_row = 0  # the number of its first one in the run

    @property
    def summary(self) -> RunSummary:
        """What was done for this call and charged so far; a job that it shares counts as one."""
        return self.store.summary()

    @property
    def is_over(self) -> bool:
        """Whether it waits for nothing more."""
        return self._is_left or not self.rows_left

    async def __aenter__(self) -> Self:
        self.store.begin(self._take)
        if self._watched is not None:
            self._watching.enter_context(self._watched)
        try:
            await self._batcher.enter(self)
        except BaseException as error:
            self._leave(error)
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        error = raised[1]
        self._leave(error if isinstance(error, BaseException) else None)

    async def __anext__(self) -> EnhancedLocation:
        while not self._ready:
            if self.is_over:
                raise self._error or StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        return self._ready.popleft()

    def take_at_hand(self) -> list[EnhancedLocation]:
        """Take the results that are here but were not yielded yet; waits for nothing."""
        at_hand = list(self._ready)
        self._ready.clear()
        return at_hand

    async def read(self) -> list[Chunk]:
        """Read the locations; returns those that can be sent."""
        chunks = [task.chunk async for task in self._source]
        self.rows_left = sum(chunk.total_rows for chunk in chunks)
        for chunk in chunks:
            invalid = invalid_results(chunk)
            if self._watched is not None:
                self._watched.count_failed(len(invalid))
            await self._take(invalid)
        return [self._with_ids(chunk) for chunk in chunks if chunk.rows]

    def _with_ids(self, chunk: Chunk) -> Chunk:
        """A chunk whose rows keep the ids that they have in this call."""
        ids: list[str | None] = [
            own_id or (BLANK_ID if self._builder.has_ids else str(row))
            for row, own_id in zip(chunk.rows, chunk.ids, strict=True)
        ]
        return msgspec.structs.replace(chunk, ids=ids)

    async def _take(self, results: list[EnhancedLocation]) -> None:
        self.store.note_handed_over(results)
        self._ready.extend(results)
        self._lessen(len(results))

    def give_up(self, rows: int, error: Exception) -> None:
        """Wait no more for so many rows; the error is raised when the others are here."""
        self._error = self._error or error
        self._lessen(rows)

    def fail(self, error: Exception) -> None:
        """Wait for nothing more, and raise the error."""
        error = own_copy(self._error or error)
        self.store.note_unfinished(error)
        self._error, self.rows_left = error, 0
        self._news.set()

    def _lessen(self, rows: int) -> None:
        self.rows_left = max(0, self.rows_left - rows)  # after an error another run may have some
        self._news.set()

    def _leave(self, error: BaseException | None) -> None:
        self._is_left = True
        self._watching.__exit__(None if error is None else type(error), error, None)
        self._batcher.leave(self)
        self.store.end(self._builder.values)


def own_copy(error: Exception) -> Exception:
    """The same error for one call alone: each raises it, and puts its own results into it."""
    if not isinstance(error, PingDataError):
        return error
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    if hasattr(error, "__notes__"):
        own.__notes__ = list(error.__notes__)
    return own
