"""MicroBatcher gathers rows of concurrent calls into chunks; SharedRun brings them through the API.

One run of the engine serves all calls, for as long as anybody waits; its answers, its charges and
its failures are told to the calls whose rows they are about. Where the API refuses so much in a row
that the run stops, one call may be at fault: each call goes on in a run of its own, as long as
nothing of what it still waits for can have been charged.

Rows have a number of their own in a run, and each row has an owner. Rows of a call that was
cancelled are taken out if they have not been sent; those in a job are paid for, and their answers
go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec

from pingdata_async.engine.calls import SharedCall, own_copy
from pingdata_async.engine.context import ChunkStore, FinishedChunk
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import asked_of
from pingdata_async.engine.stream import closed_client
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import ChunkHeld, Event, JobKept, Listener, RunStopping
from pingdata_async.exceptions import (
    ClientClosedError,
    JobFailedError,
    PingDataError,
    RequestRejectedError,
    SubmissionInDoubtError,
    UnknownSourceError,
)
from pingdata_async.locations.chunk import SEPARATOR, Chunk, joined, only_rows, renumbered
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import EnhancedLocation
from pingdata_async.results.outcomes import Tally
from pingdata_async.util.loop import loop_time

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from pingdata_async.telemetry import Telemetry

WAITING_CHUNKS = 8  # of rows, beside those that the engine has; where more wait, so do calls
IDLE_S = 1.0  # a run without calls waits so long for others before it ends


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

    def send_alone(self, call: SharedCall, chunks: Sequence[Chunk]) -> None:
        """Have the rows of a call sent in a run of its own."""
        try:
            tasks = self._tasks()
        except ClientClosedError as error:
            call.fail(error)
            return
        run = SharedRun(self, [(call, chunk) for chunk in chunks])
        self._runs[run] = None
        tasks.start_soon(run.drive, name="pingdata_async jobs of one call")

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
        alone: All chunks of a run that is of one call; None for one that takes what waits.
    """

    chunks_ahead = 1  # while rows wait for a slot, others can join those of the next chunk

    def __init__(
        self, batcher: MicroBatcher, alone: Sequence[tuple[SharedCall, Chunk]] | None = None
    ) -> None:
        super().__init__(batcher.next_index)
        self._batcher = batcher
        self._alone = None if alone is None else deque(alone)
        self._maybe_charged: set[int] = set()  # of the rows without an outcome
        self._sources = batcher.builder.sources
        self._owners: dict[int, SharedCall] = {}  # of rows without an outcome
        for call, chunk in alone or ():
            self._owners.update(dict.fromkeys(chunk.rows, call))
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
        for call, rows in self._rows_by_call().items():
            if self._may_go_on(call, rows, error):
                self._batcher.send_alone(call, self._chunks_of(rows))
            else:
                call.fail(error or no_answer)
        self._owners.clear()
        self._batcher.end(self, error)

    def _rows_by_call(self) -> dict[SharedCall, set[int]]:
        rows_by_call: dict[SharedCall, set[int]] = {}
        for row, call in self._owners.items():
            rows_by_call.setdefault(call, set()).add(row)
        return rows_by_call

    def _may_go_on(self, call: SharedCall, rows: set[int], error: Exception | None) -> bool:
        """Whether another call may be at fault, and to send these rows again charges none twice."""
        is_refusal = isinstance(error, RequestRejectedError) and not isinstance(
            error, UnknownSourceError
        )
        is_one_of_many = self._alone is None and not call.is_over
        return is_refusal and is_one_of_many and rows.isdisjoint(self._maybe_charged)

    def _chunks_of(self, rows: set[int]) -> list[Chunk]:
        found = []
        for chunk in self._chunks.values():
            places = [place for place, row in enumerate(chunk.rows) if row in rows]
            if places:
                found.append(only_rows(chunk, places))
        return found

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
        if self._alone:
            _, chunk = self._alone.popleft()
            chunk = joined(self.next_index(), [chunk])
            self._chunks[chunk.index] = chunk
            return ChunkTask(chunk)
        while self._batcher.run is self:
            next_chunk = self._next_chunk()
            if next_chunk is not None:
                self._is_resting = False
                return ChunkTask(next_chunk)
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
            call.give_up(len(part.rows), own_copy(error))
        self._forget(chunk, chunk.rows)

    def _forget(self, chunk: Chunk, rows: Iterable[int]) -> None:
        """Forget a chunk that is at its end, and those of its rows that are."""
        self._chunks.pop(chunk.index, None)
        for row in rows:
            self._owners.pop(row, None)
            self._maybe_charged.discard(row)
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
        self._maybe_charged.update(chunk.rows)
        for call, part in self._parts(chunk):
            await call.store.submitted(part, job_id)

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """Tell each call."""
        self._maybe_charged.update(chunk.rows)
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
