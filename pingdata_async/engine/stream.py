"""ChunkSource and InputTask read an iterable; ResultStream yields its results."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import logging
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import msgspec

from pingdata_async.engine.context import Delivery, MemoryStore
from pingdata_async.engine.task import ChunkTask
from pingdata_async.exceptions import CallTimeoutError, ClientClosedError, InputError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.fields import (
    NAMES,
    AnyLocation,
    check_any_source,
    check_iterable,
    check_names,
)
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.locations.postal_codes import are_plain, restore_leading_zeros_of
from pingdata_async.models import EnhancedLocation, Location, RunSummary
from pingdata_async.util.files import AsyncClosing

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup


Locations = Iterable[AnyLocation] | AsyncIterable[AnyLocation]

logger = logging.getLogger("pingdata_async")

CLOSE_INPUT_WITHIN_S = 5.0
MOST_HELD_BYTES = 64 * 1024 * 1024  # of answers that a consumer has not taken
ROWS_BETWEEN_CHECKPOINTS = 100  # a caller's own work for as many may take a while


class ChunkSource:
    """Chunks of any sync or async iterable, read only as far as they are wanted.

    Before the first chunk, a name that is no field is an error. Later, when other rows have been
    paid for, only that row fails.

    Args:
        locations: The rows; iterated in the event loop, so a sync iterable must not block.
        builder: Builds the chunks.
        flush_after_s: How long a row of an async iterable waits for others to fill a chunk; None
            for as long as it takes.

    Attributes:
        due: Set once a row has waited for so long, and `flush()` should be called.

    Raises:
        InputError: When this is no iterable of locations, or none of them has a source.
    """

    def __init__(
        self, locations: Locations, builder: ChunkBuilder, flush_after_s: float | None = None
    ) -> None:
        check_iterable(locations)
        self.due = asyncio.Event()
        self._is_async = isinstance(locations, AsyncIterable)
        self._flush_after_s = flush_after_s if self._is_async else None
        self._timer: asyncio.TimerHandle | None = None
        self._asks_for_source = not builder.sources
        if self._asks_for_source and isinstance(locations, list | tuple):
            check_any_source(locations)
            self._asks_for_source = False
        self._locations = locations
        self._rows: Any = None
        self._builder = builder
        self._next_row = 0
        self._read: list[AnyLocation] = []  # what the builder has not seen yet
        self._errors: dict[int, str] = {}  # by place in it, why some cannot be sent
        self._is_first = True
        self._chunks: deque[Chunk] = deque()
        self._ended = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChunkTask:
        chunk = await self._next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return ChunkTask(chunk)

    async def _next_chunk(self) -> Chunk | None:
        if self._rows is None:
            self._rows = aiter(self._locations) if self._is_async else iter(self._locations)  # type: ignore[arg-type]  # either has been checked
        if self._builder.has_rest:
            self._wait_for_others()
        while not self._chunks:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                return self._builder.rest()
            await self._read_on()
            self._build()
        return self._given_out(self._chunks.popleft())

    def flush(self) -> ChunkTask | None:
        """The rows read so far as a chunk; None if there are none. Reading goes on."""
        self._build()
        chunk = self._chunks.popleft() if self._chunks else self._builder.rest()
        self._given_out(chunk)
        if self._chunks or self._builder.has_rest:
            self._wait_for_others()
        return None if chunk is None else ChunkTask(chunk)

    def _build(self) -> None:
        """Hand the rows read to the builder."""
        _mend(self._read)
        self._chunks += self._builder.add_batch(self._next_row, self._read, self._errors)
        self._next_row += len(self._read)
        self._read, self._errors = [], {}

    def _given_out(self, chunk: Chunk | None) -> Chunk | None:
        """Note that a chunk goes out; rows that are left wait from when the next is asked for."""
        self._is_first = self._is_first and chunk is None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.due.clear()
        return chunk

    def _wait_for_others(self) -> None:
        if self._timer is None and self._flush_after_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._flush_after_s, self.due.set)

    async def _read_on(self) -> None:
        """Read as many rows as the chunk has room for, at most a batch; fewer after an error."""
        wanted = min(BATCH_ROWS, self._builder.rows_until_full())
        goes_on = True
        while goes_on and len(self._read) < wanted:
            behind = (self._next_row + len(self._read)) % ROWS_BETWEEN_CHECKPOINTS
            if behind == 0:
                await anyio.lowlevel.checkpoint()
            rows = min(wanted - len(self._read), ROWS_BETWEEN_CHECKPOINTS - behind)
            goes_on = await self._read_some(rows)

    async def _read_some(self, rows: int) -> bool:
        """Read so many rows; returns whether the batch may have more.

        An error is kept until the full chunks before it have been given out; no other row is sent.
        """
        try:
            if self._is_async:
                for _ in range(rows):
                    may_have_more = self._keep(await anext(self._rows))
                    self._wait_for_others()
                    if not may_have_more:
                        return False
                return True
            before = len(self._read)
            for location in islice(self._rows, rows):
                if not self._keep(location):
                    return False
            self._ended = len(self._read) < before + rows
        except (StopIteration, StopAsyncIteration):
            self._ended = True
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this task: something that the iterable awaits. A task group would take it for its
            # own cancellation, and the run would end without an error, with rows missing.
            self._error = InputError("what gives the locations was cancelled")
            self._error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - raised when the chunks before it are out
            self._error = error
        return not self._ended and self._error is None

    def _keep(self, location: AnyLocation) -> bool:
        """Keep a row for the batch; returns whether more may be read before the batch is built.

        The row is copied: the caller may change it and yield it again as the next one.
        """
        kind = type(location)
        if kind is dict:
            location = location.copy()  # type: ignore[union-attr]  # it is a dict
        elif kind is not str and kind is not Location and isinstance(location, Mapping):
            location = dict(location)
        if self._asks_for_source:  # an iterator cannot be searched beforehand
            check_any_source([location])
            self._asks_for_source = False
        if type(location) is dict:
            if not NAMES.issuperset(location):
                self._refuse_names(location)
            self._read.append(location)
            return "sources" not in location and "datasource_config" not in location
        self._read.append(location)
        if isinstance(location, Location):
            return location.sources is None and location.datasource_config is None
        return kind is str

    def _refuse_names(self, location: Mapping[str, Any]) -> None:
        """Refuse the whole input, or a later row, for a name that is no field."""
        try:
            check_names(location)
        except InputError as error:
            if self._is_first:
                raise InputError(f"row {self._next_row + len(self._read)}: {error}") from error
            self._errors[len(self._read)] = str(error)

    async def aclose(self) -> None:
        """Close a generator that was not read to its end: nobody else will.

        Raises:
            Exception: What that raised, or what the input raised before and is not reported yet.
        """
        if self._timer is not None:
            self._timer.cancel()
        if inspect.isasyncgen(self._rows):
            await self._rows.aclose()
        elif inspect.isgenerator(self._rows):
            self._rows.close()
        if self._error is not None:
            raise self._error


def _mend(rows: list[AnyLocation]) -> None:
    """Give postal codes back the leading zeros that a spreadsheet took, as readers of files do."""
    codes = [
        row.get("postal_code") if type(row) is dict
        else row.postal_code if isinstance(row, Location)
        else None
        for row in rows
    ]  # fmt: skip
    if are_plain(codes):
        return
    fields = [msgspec.structs.asdict(row) if isinstance(row, Location) else row for row in rows]
    restore_leading_zeros_of(fields)
    for place, row in enumerate(rows):
        mended = fields[place]
        if isinstance(row, Location) and isinstance(mended, dict):
            code = mended["postal_code"]
            rows[place] = msgspec.structs.replace(row, postal_code=code)


class InputTask(AsyncIterator[ChunkTask]):
    """Reads an input in a task of its own, and closes it there.

    What a generator holds across a `yield` (a task group, a time-out, a context variable, a
    tracer's span) belongs to the task that entered it; leaving it in another task is an error. So
    this task alone reads the input, and closes it.

    It is a plain asyncio task: after one cancellation, the clean-up of the input may still await,
    for `CLOSE_INPUT_WITHIN_S`. In a cancelled scope of anyio every further await would fail.

    Used with `async with`, which closes the input at its end. If that fails, the error becomes a
    note of the block's own error, or is logged.

    Args:
        source: The input; it is closed even if it was never read.
    """

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[ChunkTask | None] | None = None
        self._is_reading = False
        self._is_ending = False
        self._failure: BaseException | None = None  # with which the task ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()
        failure = self._failure
        if failure is None or failure is exc:
            return
        if isinstance(exc, Exception):
            exc.add_note(f"The input failed as well: {type(failure).__name__}: {failure}")
        else:
            logger.warning("the input failed when it was closed: %s", failure, exc_info=failure)

    async def __anext__(self) -> ChunkTask:
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="pingdata_async input")
            self._task.add_done_callback(self._ended)
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self._asked.set()
        if self._task.done():
            self._ended(self._task)
        try:
            task = await self._answered_or_due(self._answer)
        except asyncio.CancelledError:
            self._end()  # nobody will ask again
            raise
        if task is None:
            raise StopAsyncIteration
        return task

    async def _answered_or_due(self, answer: asyncio.Future[ChunkTask | None]) -> ChunkTask | None:
        """The next chunk; before it is full if a row has waited for long."""
        while not answer.done():
            due = asyncio.ensure_future(self._source.due.wait())
            either: list[asyncio.Future[Any]] = [answer, due]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                due.cancel()
            if not answer.done() and (flushed := self._source.flush()) is not None:
                return flushed
        self._answer = None
        return answer.result()

    async def _read(self) -> None:
        answer = None
        try:
            while True:
                await self._asked.wait()
                if self._is_ending:
                    return
                self._asked.clear()
                answer = self._answer
                assert answer is not None  # noqa: S101 - for type checkers
                self._is_reading = True
                try:
                    task = await anext(self._source, None)
                except Exception as error:
                    if answer.done():
                        raise
                    answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(task)
                finally:
                    self._is_reading = False
        finally:
            if answer is not None and not answer.done():
                answer.set_exception(InputError("the task that reads the locations was cancelled"))
            await self._source.aclose()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Fail the request that waits, and later ones: nothing more is read.

        The input may end the task between two chunks: an error in a task group that a generator
        holds, or a time-out there, cancels the task that entered it.
        """
        if self._failure is None and not task.cancelled():
            self._failure = task.exception()
            if isinstance(self._failure, BaseExceptionGroup):
                # A task group inside a generator also wraps what only says that it is closed.
                self._failure = self._failure.split((GeneratorExit, asyncio.CancelledError))[1]
        if self._answer is not None and not self._answer.done():
            cancelled = InputError("the task that reads the locations was cancelled")
            self._answer.set_exception(self._failure or cancelled)

    def _end(self) -> None:
        if self._is_ending or self._task is None:
            return
        self._is_ending = True
        self._asked.set()
        if self._is_reading:
            self._task.cancel()

    async def _close(self) -> None:
        """End the task, which closes the input."""
        task = self._task
        if task is None:
            return
        if self._answer is not None:
            self._answer.cancel()  # of rows that nobody wants any more
        self._end()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
        if task.done():
            self._ended(task)
        else:
            logger.warning("the input did not close in time, and is left behind")


@contextlib.contextmanager
def time_limit(timeout_s: float | None) -> Iterator[None]:
    """Cancel the block after this time; None for never.

    Raises:
        CallTimeoutError: When it was cancelled for that.
    """
    with anyio.move_on_after(timeout_s) as scope:
        yield
    if scope.cancelled_caught:
        raise CallTimeoutError(f"the call was not done within its timeout_s of {timeout_s:g} s")


def closed_client() -> ClientClosedError:
    """The error of a call that was under way when its client was closed."""
    return ClientClosedError("the client was closed while results were still being awaited")


def _bytes_of(results: list[EnhancedLocation]) -> int:
    return sum(memoryview(result.data).nbytes for result in results)


class ResultChannel:
    """The results and the state that a stream and its task share.

    The task must not know the stream, or the stream would never become garbage. Results stay here
    until they are taken, without an `await` in between: a consumer that is cancelled while it waits
    (by a time-out, say) and then continues loses nothing.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.error: Exception | None = None
        self._offers: deque[tuple[list[EnhancedLocation], Delivery]] = deque()
        self._held_bytes = 0  # of answers in these
        self._early: list[tuple[int, EnhancedLocation, Delivery]] = []  # a heap, out of turn
        self._next_row = 0  # that is to be offered in order
        self._news = anyio.Event()
        self._is_left = False  # by the consumer, on purpose

    async def deliver(self, results: list[EnhancedLocation]) -> Delivery | None:
        """Hand over a chunk's results; waits until they are taken if very many are not."""
        if not results:
            return None
        delivery = Delivery(len(results))
        self._offer(results, delivery)
        if self._held_bytes > MOST_HELD_BYTES:
            await delivery.taken.wait()
        return delivery

    async def deliver_in_order(self, results: list[EnhancedLocation]) -> Delivery | None:
        """Hand over a chunk's results once all rows before them are; waits for nothing.

        Whoever waited would keep a worker from the chunk that all others wait for.
        """
        if not results:
            return None
        delivery = Delivery(len(results))
        for result in results:
            heapq.heappush(self._early, (result.row, result, delivery))
        self._offer_early(are_all_due=False)
        return delivery

    def _offer_early(self, *, are_all_due: bool) -> None:
        """Offer the results that are next in order; all of them once the work has ended."""
        while self._early and (are_all_due or self._early[0][0] == self._next_row):
            results: list[EnhancedLocation] = []
            delivery = self._early[0][2]
            while self._early and self._early[0][2] is delivery:
                if not are_all_due and self._early[0][0] != self._next_row:
                    break
                self._next_row = self._early[0][0] + 1
                results.append(heapq.heappop(self._early)[1])
            self._offer(results, delivery)

    def _offer(self, results: list[EnhancedLocation], delivery: Delivery) -> None:
        self._offers.append((results, delivery))
        self._held_bytes += _bytes_of(results)
        self._news.set()

    async def receive(self) -> list[EnhancedLocation] | None:
        """The next chunk's results; None after the last. Cancelled, it takes none."""
        while not self._offers:
            if self.ended.is_set():
                return None
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        return self._take()

    def take_all(self) -> list[EnhancedLocation]:
        """All results that have arrived; waits for nothing."""
        results: list[EnhancedLocation] = []
        while self._offers:
            results += self._take()
        return results

    def _take(self) -> list[EnhancedLocation]:
        results, delivery = self._offers.popleft()
        self._held_bytes -= _bytes_of(results)
        delivery.take(len(results))
        return results

    async def drive(self, work: Callable[[ResultChannel], Awaitable[None]]) -> None:
        """Do the work of the task, and keep its error for the consumer."""
        is_complete = False
        try:
            with self.scope:
                await work(self)
                is_complete = True
        except Exception as error:  # noqa: BLE001 - raised again where the results are awaited
            self.error = error
        finally:
            if not is_complete and not self._is_left and self.error is None:
                self.error = closed_client()
            if not self._is_left:  # an error came before the rows that these wait for
                self._offer_early(are_all_due=True)
            self.ended.set()
            self._news.set()

    def leave(self) -> None:
        """End the task without its remaining results."""
        self._is_left = True
        self._offers.clear()
        self.scope.cancel("the results are no longer wanted")


class ResultStream(AsyncClosing, AsyncIterator[EnhancedLocation]):
    """Yields results as chunks finish; made by `BulkEnhancer.stream()`.

    Iterate it with a bare `async for`, which `break` may leave, or inside `async with`, which ends
    everything when the block is left. Unless the stream is ordered, chunks come in the order in
    which they finish; the rows of a chunk come together and in order, except for retried rows,
    which come later.

    A slow consumer holds back reading and submitting. Leaving the iteration, a cancellation and
    closing the client stop the work and abandon the jobs in flight, although the API charges for
    them: it cannot cancel a job. They count against `max_jobs` until they have likely ended.

    Raises:
        PingDataError: On iteration, when the work cannot continue. All results before it have been
            yielded.
        ClientClosedError: On iteration, when the client was closed.
    """

    def __init__(
        self,
        tasks: Callable[[], TaskGroup],
        work: Callable[[ResultChannel], Awaitable[None]],
        store: MemoryStore,
    ) -> None:
        self._tasks = tasks
        self._work = work
        self._store = store
        self._channel: ResultChannel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: deque[EnhancedLocation] = deque()
        self._is_closed = False

    @property
    def summary(self) -> RunSummary:
        """What was done and charged so far; also after the end, or after an error.

        Rows count when they are yielded, charges when they arise: look at
        `locations_possibly_charged_again` and `locations_in_doubt`. Submissions under way count as
        in doubt.
        """
        return self._store.summary()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EnhancedLocation:
        while not self._ready:
            if self._is_closed:
                raise StopAsyncIteration
            channel = self._started()
            results = await channel.receive()
            if results is not None:
                self._store.note_handed_over(results)
                self._ready.extend(results)
            elif not self._is_closed:
                self._is_closed = True
                if channel.error is not None:
                    raise channel.error
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        self._started()
        return self

    def take_at_hand(self) -> list[EnhancedLocation]:
        """Take the results that have arrived and were not yielded yet; waits for nothing.

        There are some if a cancellation came at the moment in which a chunk finished.
        """
        if self._channel is not None:
            results = self._channel.take_all()
            self._store.note_handed_over(results)
            self._ready.extend(results)
        at_hand = list(self._ready)
        self._ready.clear()
        return at_hand

    async def aclose(self) -> None:
        """End the work at once; returns when no task is left. May be called again."""
        self._is_closed = True
        self._ready.clear()
        if self._channel is not None:
            self._channel.leave()
            with anyio.CancelScope(shield=True):
                await self._channel.ended.wait()

    def __del__(self) -> None:
        channel, loop = self._channel, self._loop
        if channel is None or loop is None or channel.ended.is_set():
            return
        # Garbage may be collected in any thread, and after the loop's end.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(channel.leave)

    def _started(self) -> ResultChannel:
        if self._channel is None:
            tasks = self._tasks()
            self._loop = asyncio.get_running_loop()
            self._channel = ResultChannel()
            tasks.start_soon(self._channel.drive, self._work, name="pingdata_async stream")
        return self._channel
