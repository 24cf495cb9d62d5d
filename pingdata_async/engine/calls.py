"""Calls that return a list: `collect()`. MicroBatcher lets those of few locations share jobs.

A web handler has three locations at a time, and a thousand of them fit into a job. So the rows of
calls wait for a moment for those of others. One run of the engine (`SharedRun`) brings them all
through the API, for as long as anybody waits; its answers, its charges and its failures are told
to the calls whose rows they are about.

Rows have a number of their own in a run, and each row has an owner. Rows of a call that was
cancelled are taken out if they have not been sent; those in a job are paid for, and their answers
go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import math
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Self, TypeGuard

import anyio
import msgspec

from pingdata_async.engine.context import ChunkStore, FinishedChunk, MemoryStore
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import asked_of
from pingdata_async.engine.stream import ChunkSource, ResultStream, closed_client, time_limit
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import ChunkHeld, Event, EventEmitter, JobKept, Listener, RunStopping
from pingdata_async.exceptions import (
    CallTimeoutError,
    ClientClosedError,
    JobFailedError,
    PingDataError,
    SubmissionInDoubtError,
)
from pingdata_async.locations.chunk import BLANK_ID, SEPARATOR, Chunk, joined, only_rows, renumbered
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.fields import AnyLocation
from pingdata_async.models import EnhancedLocation, EnhancedLocations, RunSummary
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import invalid_results
from pingdata_async.util.loop import loop_time

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from pingdata_async.telemetry import Telemetry

WAITING_CHUNKS = 8  # of rows, beside those that the engine has; where more wait, so do calls
IDLE_S = 1.0  # a run without calls waits so long for others before it ends


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

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc)

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
        error = _own_copy(self._error or error)
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


def _own_copy(error: Exception) -> Exception:
    """The same error for one call alone: each raises it, and puts its own results into it."""
    if not isinstance(error, PingDataError):
        return error
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    if hasattr(error, "__notes__"):
        own.__notes__ = list(error.__notes__)
    return own


class _Waiting(msgspec.Struct, frozen=True):
    """Rows of a call that no run has taken yet."""

    call: SharedCall
    chunk: Chunk
    due: float  # when they wait no longer for others


class MicroBatcher:
    """Gathers the rows of concurrent calls into chunks, and has them run.

    It lives as long as there are calls; its runs are tasks of the client.

    Args:
        engine_for: Makes the engine of a run: its store, and a listener to its events.
        tasks: Gives the client's task group.
        builder: A builder of such chunks.
        telemetry: Told of calls and jobs; None for nobody.
    """

    def __init__(
        self,
        engine_for: Callable[[ChunkStore, Listener], Engine],
        tasks: Callable[[], TaskGroup],
        builder: ChunkBuilder,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.engine_for = engine_for
        self.telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self.builder = builder
        self._most_rows = WAITING_CHUNKS * builder.chunk_size
        self._calls: dict[SharedCall, None] = {}
        self._waiting: deque[_Waiting] = deque()
        self._rows = self._bytes = self._next_row = 0
        self._rows_entering = 0  # of calls that are being read
        self._due_at = math.inf
        self._entrance = anyio.Lock()
        self._room = anyio.Event()
        self.next_index = itertools.count().__next__  # a call may have chunks in several runs
        self._runs: dict[SharedRun, None] = {}  # those that have not ended
        self.run: SharedRun | None = None  # the one that takes what waits

    @property
    def is_usable(self) -> bool:
        """Whether it is of the running event loop."""
        return self._loop is asyncio.get_running_loop()

    @property
    def is_idle(self) -> bool:
        """Whether there are no calls, and no run that waits for any."""
        return not self._calls and not self._runs

    @property
    def is_empty(self) -> bool:
        """Whether no rows wait."""
        return not self._waiting

    async def enter(self, call: SharedCall) -> None:
        """Have a call's rows sent; waits while too many others wait. Cancelled, it sends none."""
        self._calls[call] = None
        if self._entrance.locked() or not self._has_room:
            async with self._entrance:  # one after the other, as they come
                while not self._has_room:
                    self._room = anyio.Event()
                    await self._room.wait()
        self._rows_entering += call.rows
        try:
            chunks = await call.read()
            if chunks:
                self._add(call, chunks)
        finally:
            self._rows_entering -= call.rows
            self.tell()

    @property
    def _has_room(self) -> bool:
        return self._rows + self._rows_entering < self._most_rows

    def _add(self, call: SharedCall, chunks: Sequence[Chunk]) -> None:
        self._ensure_run()
        call.first_row = self._next_row
        self._next_row = call.first_row + chunks[-1].rows[-1] + 1
        due = loop_time() + call.flush_after_s
        self._due_at = min(self._due_at, due)
        for chunk in chunks:
            self._waiting.append(_Waiting(call, renumbered(chunk, call.first_row), due))
            self._rows += len(chunk.rows)
            self._bytes += len(chunk.body)

    def _count(self) -> None:
        """Count anew what waits, after some of it was taken out."""
        self._rows = sum(len(each.chunk.rows) for each in self._waiting)
        self._bytes = sum(len(each.chunk.body) for each in self._waiting)
        self._due_at = min((each.due for each in self._waiting), default=math.inf)

    def tell(self) -> None:
        """Have runs, and the call that is next in line, look at what waits now."""
        if self._has_room:
            self._room.set()
        for run in tuple(self._runs):
            run.wake()

    def leave(self, call: SharedCall) -> None:
        """Forget a call: it is over, or nobody waits for it any more."""
        self._calls.pop(call, None)
        left = [each for each in self._waiting if each.call is not call]
        if len(left) < len(self._waiting):
            self._waiting = deque(left)
            self._count()
        self.tell()

    # -- runs ----------------------------------------------------------------------------

    @property
    def due_at(self) -> float:
        """When rows that wait are to be taken, by the event loop's clock."""
        if self._rows >= self.builder.chunk_size or self._bytes >= self.builder.max_location_bytes:
            return -math.inf
        return math.inf if self._rows_entering else self._due_at  # others are here in a moment

    def take(self) -> list[tuple[SharedCall, Chunk]]:
        """Take what is due and fits into one chunk; call `tell()` once the owners are noted."""
        taken: list[tuple[SharedCall, Chunk]] = []
        rows, size = self.builder.chunk_size, self.builder.max_location_bytes
        while self._waiting and (taken or self.due_at <= loop_time()):
            call, chunk = self._waiting[0].call, self._waiting[0].chunk
            rows -= len(chunk.rows)
            size -= len(chunk.body) + len(SEPARATOR)
            if taken and (rows < 0 or size < 0):
                break
            taken.append((call, chunk))
            self._waiting.popleft()
        if taken:
            self._count()
        return taken

    def _ensure_run(self) -> None:
        if self.run is None:
            tasks = self._tasks()
            self.run = SharedRun(self)
            self._runs[self.run] = None
            tasks.start_soon(self.run.drive, name="pingdata_async shared jobs")

    def close(self, run: SharedRun) -> None:
        """Let a run take no more; another one takes what waits."""
        if self.run is run:
            self.run = None
            if self._waiting:
                try:
                    self._ensure_run()
                except ClientClosedError as error:
                    self._fail_waiting(error)

    def end(self, run: SharedRun, error: Exception | None) -> None:
        """A run has ended, perhaps with an error."""
        del self._runs[run]
        if isinstance(error, ClientClosedError):  # no other can be begun
            self._fail_waiting(error)
        self.close(run)

    def _fail_waiting(self, error: Exception) -> None:
        calls = dict.fromkeys(each.call for each in self._waiting)
        self._waiting.clear()
        for call in calls:
            call.fail(error)
        self._count()
        self.tell()


class MicroBatchers:
    """One for each tuple of sources that is in use."""

    def __init__(self) -> None:
        self._by_sources: dict[tuple[str, ...], MicroBatcher] = {}

    def of(self, sources: tuple[str, ...], make: Callable[[], MicroBatcher]) -> MicroBatcher:
        """That for some sources; it is made if there is none. Those out of use are forgotten."""
        batcher = self._by_sources.get(sources)
        if batcher is None or not batcher.is_usable:
            for each, other in tuple(self._by_sources.items()):
                if other.is_idle or not other.is_usable:
                    del self._by_sources[each]
            batcher = self._by_sources[sources] = make()
        return batcher


class SharedRun(ChunkStore, AsyncIterator[ChunkTask | None]):
    """One run of the engine for all calls: its input, and its store.

    It ends when nobody waits any more. Where it fails, so does each call of which it has rows.

    Args:
        batcher: Has the rows that wait.
    """

    chunks_ahead = 1  # while rows wait for a slot, others can join those of the next chunk

    def __init__(self, batcher: MicroBatcher) -> None:
        super().__init__(batcher.next_index)
        self._batcher = batcher
        self._sources = batcher.builder.sources
        self._owners: dict[int, SharedCall] = {}  # of rows without an outcome
        self._chunks: dict[int, Chunk] = {}
        self._scope = anyio.CancelScope()
        self._news = anyio.Event()
        self._is_resting = False
        telemetry = batcher.telemetry
        self._watched = None if telemetry is None else telemetry.shared_jobs()

    async def drive(self) -> None:
        """Run the engine, until nobody waits any more or it fails."""
        error: Exception | None = closed_client()
        try:
            with self._scope, self._watched or contextlib.nullcontext():
                await self._batcher.engine_for(self, self._hear).run(self)
            error = None
        except Exception as failure:  # noqa: BLE001 - raised by the calls
            error = failure
        finally:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        no_answer = PingDataError("the run of shared jobs ended without an answer")
        for call in dict.fromkeys(self._owners.values()):
            call.fail(error or no_answer)
        self._owners.clear()
        self._batcher.end(self, error)

    # -- its input -----------------------------------------------------------------------

    def wake(self) -> None:
        """Something has come, or somebody has left."""
        self._news.set()
        if self._is_over and self._owners:  # jobs of whom nobody waits for
            self._batcher.close(self)  # or it could still take rows of a call that comes now
            self._scope.cancel("nobody waits for the answers any more")

    @property
    def _is_over(self) -> bool:
        if self._batcher.run is self and not self._batcher.is_empty:
            return False
        return all(call.is_over for call in self._owners.values())

    async def __anext__(self) -> ChunkTask | None:
        while self._batcher.run is self:
            chunk = self._next_chunk()
            if chunk is not None:
                self._is_resting = False
                return ChunkTask(chunk)
            if self._is_over:
                if await self._more_within(IDLE_S):
                    continue
                self._batcher.close(self)
                break
            if not self._is_resting and self._batcher.is_empty:
                self._is_resting = True
                return None
            self._news = anyio.Event()
            with anyio.move_on_at(self._batcher.due_at):
                await self._news.wait()
        raise StopAsyncIteration

    async def _more_within(self, seconds: float) -> bool:
        """Whether somebody comes before that: calls one after the other need no run each."""
        self._news = anyio.Event()
        with anyio.move_on_after(seconds):
            await self._news.wait()
        return self._news.is_set() or not self._is_over

    def _next_chunk(self) -> Chunk | None:
        taken = self._batcher.take()
        if not taken:
            return None
        for call, chunk in taken:
            self._owners.update(dict.fromkeys(chunk.rows, call))
        self._batcher.tell()
        chunk = joined(self.next_index(), [chunk for _, chunk in taken])
        self._chunks[chunk.index] = chunk
        return chunk

    def still_wanted(self, chunk: Chunk) -> Chunk:
        """Without the rows of calls that were cancelled."""
        owners = map(self._owners.get, chunk.rows)
        places = [p for p, own in enumerate(owners) if own is not None and not own.is_over]
        if len(places) == len(chunk.rows):
            return chunk
        wanted = only_rows(chunk, places)
        self._forget(chunk, set(chunk.rows).difference(wanted.rows))
        if places:
            self._chunks[chunk.index] = wanted
        return wanted

    # -- its calls -----------------------------------------------------------------------

    def _parts(self, chunk: Chunk) -> Iterator[tuple[SharedCall, Chunk]]:
        """Each call with rows in a chunk, and these rows, as much of them as a store counts."""
        parts: dict[SharedCall, Chunk] = {}
        for place, row in enumerate(chunk.rows):
            call = self._owners[row]
            part = parts.get(call)
            if part is None:
                part = parts[call] = Chunk(chunk.index, [], [], b"", {})
            if place in chunk.sources:
                part.sources[len(part.rows)] = chunk.sources[place]
            part.rows.append(row - call.first_row)
        yield from parts.items()

    def _hear(self, event: Event) -> None:
        if self._watched is not None:
            self._watched(event)  # before the calls, which look for its spans
        index = getattr(event, "chunk", None)
        chunk = None if index is None else self._chunks.get(index)
        if isinstance(event, RunStopping):
            self._batcher.close(self)
        if chunk is None:
            return
        for call in dict.fromkeys(self._owners[row] for row in chunk.rows):
            call.listener(event)
        if any(earlier.times_asked for earlier in chunk.earlier):
            return  # then its rows have an outcome all the same
        if isinstance(event, JobKept):
            said = f"the output of paid job {event.job_id} cannot be fetched now: {event.error}"
            self._give_up(chunk, JobFailedError(said, job_id=event.job_id))
        elif isinstance(event, ChunkHeld):
            said = "the submission is in doubt and held: it may have been accepted and charged"
            self._give_up(chunk, SubmissionInDoubtError(said))

    def _give_up(self, chunk: Chunk, error: PingDataError) -> None:
        for call, part in self._parts(chunk):
            call.give_up(len(part.rows), _own_copy(error))
        self._forget(chunk, chunk.rows)

    def _forget(self, chunk: Chunk, rows: Iterable[int]) -> None:
        """Forget a chunk that is at its end, and those of its rows that are."""
        self._chunks.pop(chunk.index, None)
        for row in rows:
            self._owners.pop(row, None)
        self.wake()

    # -- its store -----------------------------------------------------------------------

    async def submitting(
        self,
        chunk: Chunk,
        *,
        charged_before: bool,
        asked: Mapping[str, int],  # noqa: ARG002 - of all calls
    ) -> None:
        """Tell each call."""
        for call, part in self._parts(chunk):
            own = asked_of(part, self._sources)
            await call.store.submitting(part, charged_before=charged_before, asked=own)

    async def refused(self, chunk: Chunk) -> None:
        """Tell each call."""
        for call, part in self._parts(chunk):
            await call.store.refused(part)

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """Tell each call."""
        for call, part in self._parts(chunk):
            await call.store.submitted(part, job_id)

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """Tell each call."""
        for call, part in self._parts(chunk):
            await call.store.doubted(part, error, hold=hold)

    async def job_lost(self, chunk: Chunk, error: str) -> None:
        """Tell each call."""
        for call, part in self._parts(chunk):
            await call.store.job_lost(part, error)

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """Note which rows are where now."""
        self._chunks.pop(chunk.index, None)
        for part in parts:
            self._chunks[part.index] = part

    async def batched(self, chunk: Chunk) -> None:
        """Note which rows are where now."""
        self._chunks[chunk.index] = chunk

    async def deliver(self, finished: FinishedChunk) -> None:
        """Hand each call its own results; waits for none of them."""
        chunk = finished.chunk
        results: dict[SharedCall, list[EnhancedLocation]] = {}
        for result in finished.results:
            call = self._owners[result.row]
            own = msgspec.structs.replace(result, row=result.row - call.first_row)
            results.setdefault(call, []).append(own)
        for call, part in self._parts(chunk):
            own_results = results.get(call, [])
            await call.store.deliver(FinishedChunk(part, Tally(), failed_results=own_results))
        self._forget(chunk, [result.row for result in finished.results])
