"""A run's chunks in input order, for an export that goes on beside the run.

Chunks end in any order, and an output has that of the input. `InputOrder` gives each planned
chunk to its consumer at its turn, once all of its rows have ended, with the answers found in it:
what was just validated is in memory, and need not be read and inflated a second time. Of chunks
that are ahead of their turn only a few are kept in memory; the others, and those of an earlier
process, are read back from the spool. Rows that are split off or retried are waited for. A consumer
that is slower than the API holds back whoever offers a chunk: reading all of them back would cost
more than they took to write.

An `Export` is made of it by a coroutine that takes a `SettledChunk`, and says whether to go on with
the next one or with the first again:

    order = InputOrder(thread, take)
    order.begin(plan, answers)             # optional: from now on, chunks are given as they end
    order.expect(chunk)                    # before a chunk is kept that will be offered
    await order.offer(chunk, found)        # whenever the answers of a chunk are safe
    await order.finish(plan, answers)      # all that were not given yet
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import anyio

from pingdata_async.exceptions import PingDataError, RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.export.output import AtomicFile
from pingdata_async.runs.export.results import DuplicateAnswers, ResultReader, SettledChunk
from pingdata_async.util.loop import SingleThreadExecutor

MAX_WAITING_BYTES = 4 * 1024 * 1024  # of content, for turns to come: one output or so
MAX_WAITING = 256  # chunks, for what each takes beside its content: they may be of one row
READ_BACK_AT_ONCE = 4  # chunks, on the time of whoever offers one: a backlog shrinks all the same


class InputOrder:
    """Gives planned chunks to a consumer in input order.

    Args:
        thread: Reads the plan and the spool.
        take: Takes the next chunk; one at a time. Returns False to be given all of them again, from
            the first. What it raises comes out of `offer()` or `finish()`, and the chunk is not
            counted as taken.

    Attributes:
        next_index: The planned chunk whose turn it is.
    """

    def __init__(
        self, thread: SingleThreadExecutor, take: Callable[[SettledChunk], Awaitable[bool]]
    ) -> None:
        self._thread = thread
        self._take = take
        self._source: tuple[Plan, ResultReader] | None = None
        self._expected: set[int] = set()
        self._waiting: dict[int, SettledChunk] = {}
        self._is_giving = False
        self._has_moved = anyio.Event()  # a chunk was taken, or nobody gives any more
        self._is_next_open = False  # it was asked for, and its rows have not all ended
        self.next_index = 0

    def begin(self, plan: Plan, answers: ResultReader) -> None:
        """Give chunks as they end, also those that have ended before.

        Args:
            plan: What was planned; open until `stop()` or the last `offer()`.
            answers: What is answered, in the journal that the run writes.
        """
        self._source = plan, answers

    def expect(self, chunk: Chunk) -> None:
        """Note that a chunk will be offered with its content, so it need not be read back."""
        if chunk.is_planned:
            self._expected.add(chunk.index)

    async def offer(self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None) -> None:
        """A chunk has ended, and the journal knows; give whatever has its turn now.

        Waits while the consumer is busy and there is no room for the content.

        Args:
            chunk: Any chunk, planned or later.
            found: Where the answer to each row is, and the content; None where rows are retried or
                the output is unusual: then they are read back, at their turn.

        Raises:
            RunError: When an answer is missing or damaged.
        """
        if found is not None:
            while self._is_giving and not self._has_room(len(found[1])):
                await self._has_moved.wait()
        self._expected.discard(chunk.index)
        if self._source is None:
            return
        if found is not None and chunk.is_planned and chunk.index >= self.next_index:
            self._wait(SettledChunk(chunk, *found))
        if chunk.index == self.next_index or any(
            row.planned_chunk == self.next_index for row in chunk.earlier
        ):
            self._is_next_open = False
        if self._is_giving:  # whoever comes meanwhile leaves it to the one before
            return
        self._is_giving = True
        try:
            await self._give_in_turn(*self._source)
        finally:
            self._is_giving = False
            self._wake()

    async def finish(self, plan: Plan, answers: ResultReader) -> None:
        """Yield all remaining chunks, finished or not.

        Raises:
            RunError: When an answer is missing or damaged.
        """
        self.stop()
        while self.next_index < plan.chunks:
            settled = await self._thread.run(
                lambda: answers.settled(plan.read(self.next_index)),
            )
            await self._give(settled)

    def start_over(self) -> None:
        """Begin with the first chunk again, at `finish()`."""
        self.stop()
        self.next_index = 0

    def stop(self) -> None:
        """Give nothing more until `finish()`."""
        self._source = None
        self._waiting.clear()

    def _has_room(self, size_bytes: int) -> bool:
        waiting = sum(len(settled.content) for settled in self._waiting.values())
        return not waiting or waiting + size_bytes <= MAX_WAITING_BYTES

    def _wake(self) -> None:
        self._has_moved.set()
        self._has_moved = anyio.Event()

    def _wait(self, settled: SettledChunk) -> None:
        """Keep a chunk for its turn, and rather the next ones than those far ahead."""
        waiting = self._waiting
        waiting[settled.chunk.index] = settled
        ahead = sorted(waiting.keys() - {self.next_index})
        size_bytes = sum(len(waiting[index].content) for index in ahead)
        while size_bytes > MAX_WAITING_BYTES or len(ahead) > MAX_WAITING:
            size_bytes -= len(waiting.pop(ahead.pop()).content)

    async def _give_in_turn(self, plan: Plan, answers: ResultReader) -> None:
        read_back = 0
        while self._source is not None and self.next_index < plan.chunks:
            settled = self._waiting.pop(self.next_index, None)
            if settled is None:
                is_on_its_way = self._is_next_open or self.next_index in self._expected
                if is_on_its_way or read_back == READ_BACK_AT_ONCE:
                    return
                self._is_next_open = True  # unless one of its rows ends meanwhile
                settled = await self._thread.run(
                    lambda: answers.read_if_ended(self.next_index, plan)
                )
                if settled is None:
                    continue
                read_back += 1
            await self._give(settled)

    async def _give(self, settled: SettledChunk) -> None:
        goes_on = await self._take(settled)
        self.next_index = self.next_index + 1 if goes_on else 0
        self._is_next_open = False
        self._wake()


class Export(ABC):
    """Writes the chunks of a run, each as soon as it is its turn.

    Args:
        file: Where the rows are written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        duplicate_answers: What was answered of rows that recur.

    Attributes:
        counts: How the rows ended that are written.
    """

    def __init__(
        self,
        file: AtomicFile,
        failures: AtomicFile | None,
        thread: SingleThreadExecutor,
        duplicate_answers: DuplicateAnswers,
    ) -> None:
        self._file = file
        self._failures = failures
        self._thread = thread
        self._duplicate_answers = duplicate_answers
        self._order = InputOrder(thread, self._take)
        self._is_whole = True  # what is written, up to the chunk whose turn it is
        self._finished_only = False
        self._on_rows: Callable[[int], None] = _nobody
        self._told_rows = 0
        self._written_chunks = 0
        self.counts = Tally()

    # -- while the run is under way ------------------------------------------------------

    def begin(self, plan: Plan, answers: ResultReader) -> None:
        """Write chunks from now on as they end; arguments as of `InputOrder.begin()`.

        Where nothing can be taken back, nothing is written before the run's end: it may stop.
        """
        if self._file.can_be_emptied:
            self._order.begin(plan, answers)

    def expect(self, chunk: Chunk) -> None:
        """A chunk is about to be offered with its content."""
        self._order.expect(chunk)

    async def offer(self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None) -> None:
        """A chunk has ended: write what has its turn now. Arguments as of `InputOrder.offer()`.

        What cannot be written is no reason to stop a run: it is tried again at the end.
        """
        try:
            await self._order.offer(chunk, found)
        except PingDataError:
            self._is_whole = False
            with contextlib.suppress(RunError):  # the answers need the disk more
                await self._start_over()

    # -- at its end ----------------------------------------------------------------------

    async def write_rest(
        self,
        plan: Plan,
        answers: ResultReader,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write all remaining chunks.

        Args:
            plan: What was planned, inside its `with` block.
            answers: What was answered.
            on_rows: Told of the number of rows after each chunk.
            finished_only: Leave out rows without an outcome, instead of refusing them.

        Raises:
            RunError: When it cannot be written, or a row has no outcome.
            BrokenPipeError: When nobody reads standard output any more.
        """
        if not self._is_whole:
            await self._start_over()
        self._told_rows = self.counts.rows
        on_rows(self._told_rows)
        self._on_rows, self._finished_only = on_rows, finished_only
        await self._order.finish(plan, answers)

    async def _start_over(self) -> None:
        """Take back what there is, of which the last chunk may be cut off."""
        self._order.start_over()
        await self._thread.run(self._take_back)
        self._is_whole = True

    def _take_back(self) -> None:
        """Empty the files; blocks."""
        self.counts = Tally()
        self._written_chunks = 0
        self._duplicate_answers.clear()
        for file in (self._file, self._failures):
            if file is not None:
                file.empty()

    @abstractmethod
    async def _take(self, settled: SettledChunk) -> bool:
        """Write a chunk; see `InputOrder`."""

    def _count(self, chunk: Chunk, counts: Tally) -> None:
        """A chunk is written; rows that were written before, and taken back, are told of once.

        Raises:
            RunError: When it was not its turn: the number of rows alone would not show that.
        """
        if chunk.index != self._written_chunks:
            raise RunError(f"chunk {chunk.index} was written out of its turn; please report this")
        self._written_chunks += 1
        self.counts.add(counts)
        if self.counts.rows > self._told_rows:
            self._on_rows(self.counts.rows - self._told_rows)
            self._told_rows = self.counts.rows


def _nobody(_rows: int) -> None:
    pass
