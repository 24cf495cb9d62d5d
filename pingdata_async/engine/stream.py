"""ChunkSource and InputTask, which read an iterable; ResultStream, which gives results."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import msgspec

from pingdata_async.engine.context import MemoryStore
from pingdata_async.engine.task import ChunkTask
from pingdata_async.exceptions import ClientClosedError, InputError
from pingdata_async.locations.checks import check_any_source, check_iterable, check_names
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.fields import NAMES, AnyLocation
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
ROWS_BETWEEN_CHECKPOINTS = 100  # a caller's own work for as many may take a while


class ChunkSource:
    """Chunks of any sync or async iterable, read only as far as they are asked for.

    Args:
        locations: The rows; iterated in the event loop, so a sync one must not block.
        builder: Makes the chunks.

    A name that is no field is a slip of whoever gives the rows: it ends the reading as long as no
    chunk was given. Later the others have been paid for, and it is that row alone that cannot be
    sent.

    Raises:
        InputError: When it is no iterable of locations, or none of them has a source.
    """

    def __init__(self, locations: Locations, builder: ChunkBuilder) -> None:
        check_iterable(locations)
        self._asks_for_source = not builder.sources
        if self._asks_for_source and isinstance(locations, list | tuple):
            check_any_source(locations)
            self._asks_for_source = False
        self._is_async = isinstance(locations, AsyncIterable)
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
        while not self._chunks:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                return self._builder.rest()
            await self._read_on()
            _mend(self._read)
            self._chunks += self._builder.add_batch(self._next_row, self._read, self._errors)
            self._next_row += len(self._read)
            self._read, self._errors = [], {}
        self._is_first = False
        return self._chunks.popleft()

    async def _read_on(self) -> None:
        """Read what the chunk has room for, up to a batch; less where something comes up."""
        wanted = min(BATCH_ROWS, self._builder.rows_until_full())
        goes_on = True
        while goes_on and len(self._read) < wanted:
            behind = (self._next_row + len(self._read)) % ROWS_BETWEEN_CHECKPOINTS
            if behind == 0:
                await anyio.lowlevel.checkpoint()
            rows = min(wanted - len(self._read), ROWS_BETWEEN_CHECKPOINTS - behind)
            goes_on = await self._read_some(rows)

    async def _read_some(self, rows: int) -> bool:
        """Read that many rows; says whether there are more to come for the batch.

        An error is kept until what was read before it is out.
        """
        try:
            if self._is_async:
                for _ in range(rows):
                    if not self._keep(await anext(self._rows)):
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
            # Not us: something the iterable awaits. A task group takes that for its own
            # cancelling, and the run would end without an error, rows missing.
            self._error = InputError("what gives the locations was cancelled")
            self._error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - raised when the chunks before it are out
            self._error = error
        return not self._ended and self._error is None

    def _keep(self, location: AnyLocation) -> bool:
        """Keep a row for the batch; says whether others may be read before that is made.

        Whoever gives them may change a row and give it again as the next one.
        """
        kind = type(location)
        if kind is dict:
            location = location.copy()  # type: ignore[union-attr]  # it is a dict
        elif kind is not str and kind is not Location and isinstance(location, Mapping):
            location = dict(location)
        if self._asks_for_source:  # what comes only once is not looked through for one
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
        """Keep a row with a name that is no field from being sent, or the run from beginning."""
        try:
            check_names(location)
        except InputError as error:
            if self._is_first:
                raise InputError(f"row {self._next_row + len(self._read)}: {error}") from error
            self._errors[len(self._read)] = str(error)

    async def aclose(self) -> None:
        """Close a generator that was not read to its end: nobody else will.

        Raises:
            Exception: What that raised, or the input before it, if nobody was told yet.
        """
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

    What a generator holds across a `yield` belongs to the task that went into it: a task group, a
    time-out, a context variable, a span of a tracer. Leaving it in another task is an error. So
    whoever wants a chunk asks this task, and at the end has it close the input.

    It is a plain task of asyncio: cancelled once, it leaves the clean-up of the input free to
    await, for `CLOSE_INPUT_WITHIN_S`. In a cancelled scope of anyio every further await would fail.

    Used with `async with`, at the end of which the input is closed. An error from that does not
    take the place of the block's own: it becomes a note of it, or is logged.

    Args:
        source: What is read; closed also where it was never asked for anything.
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
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.set()
        if self._task.done():
            self._ended(self._task)
        try:
            task = await self._answer
        except asyncio.CancelledError:
            self._end()  # nobody will ask again
            raise
        if task is None:
            raise StopAsyncIteration
        return task

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
        """Nobody answers any more: not who asks now, nor who asks later.

        Between two chunks the input may end the task by itself: what fails in a task group that a
        generator holds, or a time-out there, cancels whoever went into it.
        """
        if self._failure is None and not task.cancelled():
            self._failure = task.exception()
            if isinstance(self._failure, BaseExceptionGroup):
                # A task group inside a generator wraps also what only says that this is closed.
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
        """Have the input closed."""
        task = self._task
        if task is None:
            return
        self._end()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
        if task.done():
            self._ended(task)
        else:
            logger.warning("the input does not let itself be closed, and is left behind")


class ResultChannel:
    """What the task of a stream and its handle share.

    The task must not know the handle, or that would never become garbage. What is handed
    over stays here until it is taken, without an `await` in between: a consumer that is
    cancelled while it waits, by a time-out of its own say, and then goes on, loses nothing.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.error: Exception | None = None
        self._offers: deque[tuple[list[EnhancedLocation], anyio.Event]] = deque()
        self._news = anyio.Event()
        self._is_left = False  # by the consumer, on purpose

    async def deliver(self, results: list[EnhancedLocation]) -> None:
        """Hand a chunk's results over; waits for the consumer, and so holds everything back."""
        if not results:
            return
        taken = anyio.Event()
        self._offers.append((results, taken))
        self._news.set()
        await taken.wait()

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
        """What was handed over and not taken yet; waits for nothing."""
        results: list[EnhancedLocation] = []
        while self._offers:
            results += self._take()
        return results

    def _take(self) -> list[EnhancedLocation]:
        results, taken = self._offers.popleft()
        taken.set()
        return results

    async def drive(self, work: Callable[[ResultChannel], Awaitable[None]]) -> None:
        """Do the work in a task; whatever comes of it ends in the channel, not in the task."""
        is_complete = False
        try:
            with self.scope:
                await work(self)
                is_complete = True
        except Exception as error:  # noqa: BLE001 - raised again where the results are awaited
            self.error = error
        finally:
            if not is_complete and not self._is_left and self.error is None:
                self.error = ClientClosedError(
                    "the client was closed while results were still being awaited"
                )
            self.ended.set()
            self._news.set()

    def leave(self) -> None:
        """End the task; nobody wants the rest."""
        self._is_left = True
        self._offers.clear()
        self.scope.cancel("the results are no longer wanted")


class ResultStream(AsyncClosing, AsyncIterator[EnhancedLocation]):
    """Results as chunks finish; made by `BulkEnhancer.stream()`.

    Iterate it with a bare `async for`, which may be left by `break`, or use it with
    `async with` to have everything ended the moment the block is left. Chunks come in the
    order in which they finish; the rows of one come together, in their order, but for those
    that are retried: they come later, with others of their kind.

    A slow consumer holds back submitting and reading. Leaving it early, cancelling whoever
    iterates, and closing the client all stop sending; jobs in flight are abandoned although
    the API charges for them, because it has no way to cancel them. They count against `max_jobs`
    until they have likely ended.

    Raises:
        PingDataError: While iterated, when the run cannot go on. What finished before was
            yielded before.
        ClientClosedError: While iterated, when the client was closed.
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
        """What has been done so far, and what it took; also after the end, whatever that was.

        Rows are counted when the chunk that they are in comes, charges when they arise: look at
        `locations_possibly_charged_again` and `locations_in_doubt`. Submissions that are under
        way count as in doubt.
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
        """The results that have come and were not iterated yet; waits for nothing.

        Whoever is cancelled in the moment in which a chunk comes has not been given it.
        """
        if self._channel is not None:
            results = self._channel.take_all()
            self._store.note_handed_over(results)
            self._ready.extend(results)
        at_hand = list(self._ready)
        self._ready.clear()
        return at_hand

    async def aclose(self) -> None:
        """End everything at once; returns when no task is left. May be called again."""
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
