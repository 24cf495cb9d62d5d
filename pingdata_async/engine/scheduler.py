"""The queues of a run: who is next, what is open, and stopping.

Where every chunk is on its way, and what is still open: the books of a run.

Which chunk is submitted next, and when.

A queue of things that are due at a time.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from pingdata_async.engine import task_events
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.flow_control.circuit_breaker import Evidence
from pingdata_async.engine.store import FinishedChunk
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import LocationsAskedAgain, RunStopping
from pingdata_async.exceptions import PingDataError
from pingdata_async.locations.chunk import RetryBatcher, batch_rows
from pingdata_async.models import Reason
from pingdata_async.results.outcomes import tally
from pingdata_async.results.validation import Failure, ValidatedOutput, fail_chunk
from pingdata_async.util.loop import loop_time

T = TypeVar("T")


class DelayQueue(Generic[T]):
    """Gives each item to one waiting worker, not before its time, the earliest first.

    Thousands of jobs wait in one heap; only one worker at a time has a timer running.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._leader = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def due(self) -> int:
        """How many items are due now."""
        now = loop_time()
        return sum(entry[0] <= now for entry in self._heap)

    def put(self, item: T, due: float) -> None:
        """Add an item that is due at that time of the event loop's clock."""
        heapq.heappush(self._heap, (due, next(self._order), item))
        if self._heap[0][2] is item:
            self._changed.set()

    def take(self, key: Callable[[T], tuple[float, int]]) -> T | None:
        """Take out what is due and has the smallest key; None where nothing is due."""
        now = loop_time()
        entries = [entry for entry in self._heap if entry[0] <= now]
        if not entries:
            return None
        best = min(entries, key=lambda entry: key(entry[2]))
        self._heap.remove(best)
        heapq.heapify(self._heap)
        return best[2]

    def clear(self) -> list[T]:
        """Take everything out, due or not."""
        items = [item for _, _, item in self._heap]
        self._heap.clear()
        return items

    async def get(self) -> T:
        """Wait for the next item that is due. Cancelled, it takes none."""
        async with self._leader:
            while True:
                due = self._heap[0][0] if self._heap else None
                if due is not None and due <= loop_time():
                    return heapq.heappop(self._heap)[2]
                self._changed = anyio.Event()
                with anyio.move_on_at(float("inf") if due is None else due):
                    await self._changed.wait()


logger = logging.getLogger("pingdata_async")

LOW_WATER = 4  # chunks that are ready before there is a slot; more would only take memory
URGENT = -0.5  # before all that waits for a time, and so before what is new


class Admission:
    """Lets chunks through to be submitted: a job slot for each, the most urgent first.

    While the breaker has doubts about the API, one at a time.

    Args:
        context: What the run works with.
    """

    def __init__(self, context: EngineContext) -> None:
        self._slots = context.concurrency
        self._breaker = context.breaker
        self._planner = context.poll_planner
        self._waiting: DelayQueue[ChunkTask] = DelayQueue()
        self._slots_held = 0
        self._holders: dict[ChunkTask, None] = {}
        self._undecided = 0
        self._changed = anyio.Event()
        self._taken = anyio.Event()
        self._head: tuple[ChunkTask, anyio.CancelScope] | None = None  # waits for a slot

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and nothing let through is undecided."""
        return not self._waiting and not self._undecided

    @property
    def must_wait(self) -> bool:
        """Whether a chunk let through should wait for another one's answer first."""
        return self._breaker.is_half_open and self._undecided > 1

    def put(self, task: ChunkTask, due: float) -> None:
        """Add a chunk, to be let through at that time of the event loop's clock or later."""
        task.due = due
        self._waiting.put(task, due)

    def put_back(self, task: ChunkTask) -> None:
        """Take back a chunk that was let through."""
        self.decided(task)
        self.release(task)
        self._waiting.put(task, task.due)

    async def below_low_water(self) -> None:
        """Wait until there are too few chunks to choose from."""
        while self._waiting.due >= LOW_WATER:
            self._taken = anyio.Event()
            await self._taken.wait()

    async def next(self) -> ChunkTask:
        """Wait for the next chunk that may go; it holds a job slot."""
        task = await self._next()
        self._taken.set()
        return task

    async def _next(self) -> ChunkTask:
        while True:
            task = await self._waiting.get()
            if not await self._has_got_slot(task):
                continue
            if not task.job_id:
                # Something more urgent may have come meanwhile.
                self._waiting.put(task, task.due)
                await self._until_free()
                chosen = self._waiting.take(self._urgency)
                if chosen is None:
                    self._give_back()
                    continue
                task = chosen
            task.holds_slot = True
            self._holders[task] = None
            if not task.job_id:
                task.is_undecided = True
                self._undecided += 1
            return task

    async def _has_got_slot(self, task: ChunkTask) -> bool:
        """Wait for a job slot; False where the chunk was taken out meanwhile."""
        with anyio.CancelScope() as scope:
            self._head = (task, scope)
            try:
                await self._slots.acquire(task.job_id)
                self._slots_held += 1
            finally:
                self._head = None
        if scope.cancel_called and not scope.cancelled_caught:
            self._give_back()
        return not scope.cancel_called

    def decided(self, task: ChunkTask) -> None:
        """A chunk let through was accepted, refused or lost, or will not be submitted."""
        if task.is_undecided:
            task.is_undecided = False
            self._undecided -= 1
            self._changed.set()

    def release(self, task: ChunkTask) -> None:
        """Give a chunk's job slot back, if it holds one."""
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._give_back()

    def abandon(self, task: ChunkTask) -> None:
        """Leave a chunk's job to itself; it keeps its job slot until it has likely ended."""
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._slots_held -= 1
            ends_at = self._planner.likely_end(task.present_job, loop_time())
            self._slots.abandon(task.job_id, ends_at)

    def hand_over(self, task: ChunkTask, other: ChunkTask) -> None:
        """Let another chunk go in the place of one that was let through."""
        other.due = task.due
        if task.holds_slot:
            del self._holders[task]
            self._holders[other] = None
        other.holds_slot, task.holds_slot = task.holds_slot, False
        other.is_undecided, task.is_undecided = task.is_undecided, False

    def release_all(self) -> None:
        """Give back every slot, but those of jobs that are left to themselves."""
        left = [each for each in self._holders if each.job_id or each.was_cut_off]
        for task in left:
            self.abandon(task)
        if left:
            logger.info("%d jobs are abandoned; they count as in flight for a while", len(left))
        while self._slots_held:
            self._give_back()

    def clear(self) -> list[ChunkTask]:
        """Take out every chunk that waits to be submitted; jobs that wait for a slot stay."""
        waiting = self._waiting.clear()
        if self._head is not None and not self._head[0].job_id:
            task, scope = self._head
            self._head = None
            waiting.append(task)
            scope.cancel("it is taken out")
        for task in waiting:
            if task.job_id:
                self._waiting.put(task, task.due)
        self._changed.set()
        self._taken.set()
        return [task for task in waiting if not task.job_id]

    async def _until_free(self) -> None:
        while self._breaker.is_half_open and self._undecided:
            self._changed = anyio.Event()
            await self._changed.wait()

    def _urgency(self, task: ChunkTask) -> tuple[float, int]:
        due = -task.due if self._breaker.should_try_another else task.due
        return due, task.chunk.index

    def _give_back(self) -> None:
        self._slots_held -= 1
        self._slots.release()


class Flow:
    """The queues of a run, and the count of what has not come out of them yet.

    Args:
        context: What the run works with.
        admission: Where chunks wait to be submitted.

    Attributes:
        submissions: What was let through.
        polls: What has a job.
        fetches: What has an output.
        batched: What is made of leftovers, for the ledger to be told of.
        lingering: When leftovers have waited for long enough.
        lost: What ends without an answer, and why.
        room: For chunks of the input.
        jobs_in_flight: Jobs accepted, and neither delivered nor lost.
        error: Why nothing more is submitted; None as long as all is well.
        ended: Cancelled when all is done.
        reading: Cancelled when nothing more is to be read.
    """

    def __init__(self, context: EngineContext, admission: Admission) -> None:
        self._store = context.store
        self._admission = admission
        self._breaker = context.breaker
        self._sources = context.sources
        self._emit = context.emit
        self._deferred = DeferredFailures()
        self._retry_rows = RetryBatcher(context.chunk_size)
        self._waits_to_submit: dict[anyio.CancelScope, None] = {}  # in their order
        self._open = 0  # chunks taken from the input, or made of such, and not delivered
        self._input_ended = False
        self.submissions: DelayQueue[ChunkTask] = DelayQueue()
        self.polls: DelayQueue[ChunkTask] = DelayQueue()
        self.fetches: DelayQueue[ChunkTask] = DelayQueue()
        self.batched: DelayQueue[ChunkTask] = DelayQueue()
        self.lingering: DelayQueue[None] = DelayQueue()
        self.lost: DelayQueue[tuple[ChunkTask, Failure | None]] = DelayQueue()
        self.room = anyio.Semaphore(context.concurrency.max_jobs)
        self.jobs_in_flight = 0
        self.error: Exception | None = None
        self.ended = anyio.CancelScope()
        self.reading = anyio.CancelScope()

    # -- in ------------------------------------------------------------------------------

    def taken(self, task: ChunkTask) -> None:
        """A chunk was taken from the input; it holds room."""
        now = loop_time()
        self._open += 1
        task.holds_permit = True
        task.is_taken_up = bool(task.job_id)
        self.jobs_in_flight += task.is_taken_up
        if task.chunk.rows:
            self._admission.put(task, now)
        else:  # nothing in it can be sent: no job
            self.lost.put((task, None), now)

    def input_ended(self) -> None:
        """There is nothing more to be taken."""
        self._input_ended = True
        self._go_on()

    async def admit_batched(self, task: ChunkTask) -> None:
        """Let a chunk of leftovers be submitted."""
        chunk = task.chunk
        await self._store.batched(chunk)
        self._emit(LocationsAskedAgain(chunk=chunk.index, locations=len(chunk.rows)))
        self.go_on_with([task], URGENT)

    def _batch(self) -> None:
        """Make chunks of what is to be asked about again, as soon as it is worth a job."""
        now = loop_time()
        while self._retry_rows and (self._retry_rows.is_ripe(now) or self._nothing_better_to_do()):
            self._open += 1
            chunk = batch_rows(self._store.next_index(), self._retry_rows.take())
            self.batched.put(ChunkTask(chunk), now)

    def _nothing_better_to_do(self) -> bool:
        return self._input_ended and self._admission.is_empty

    async def batch_lingering(self, _: None) -> None:
        """Leftovers may have waited for long enough."""
        self._go_on()

    # -- on its way ----------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be submitted."""
        return self.error is not None

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[anyio.CancelScope]:
        """Leave off waiting to submit when nothing more is to be submitted."""
        with anyio.CancelScope() as scope:
            self._waits_to_submit[scope] = None
            try:
                yield scope
            finally:
                self.waits_no_more(scope)

    def waits_no_more(self, scope: anyio.CancelScope) -> None:
        """From here on, what `until_stopped` holds is seen to its end."""
        self._waits_to_submit.pop(scope, None)

    def send(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float = 0.0) -> None:
        """Have a request about a chunk sent, after that time."""
        task.wanted_at = loop_time() + delay_s
        queue.put(task, task.wanted_at)

    def hold_back(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float) -> None:
        """Have a request sent later than it should be, as there is a pause."""
        queue.put(task, loop_time() + delay_s)

    def accepted(self, task: ChunkTask, poll_in_s: float) -> None:
        """A chunk has a job now, which is to be asked about then."""
        self.jobs_in_flight += 1
        self.send(self.polls, task, poll_in_s)
        self.on_evidence(Evidence.ACCEPTED)

    def submit_later(self, task: ChunkTask, delay_s: float) -> None:
        """Submit a chunk that was let through once more."""
        if self.is_stopping:
            self.drop(task)
        else:
            self.send(self.submissions, task, delay_s)

    def go_on_with(self, tasks: list[ChunkTask], due: float) -> None:
        """Let chunks that were counted already be submitted."""
        for task in tasks:
            if self.is_stopping:
                self.drop(task)
            else:
                self._admission.put(task, due)

    def divided(self, parts: int) -> None:
        """A chunk is that many now."""
        self._open += parts - 1

    def fail(self, task: ChunkTask, failure: Failure) -> None:
        """Fail a chunk, whatever the API is like."""
        self._admission.decided(task)
        self._admission.release(task)
        self.lost.put((task, failure), loop_time())

    def defer_failure(
        self, task: ChunkTask, failure: Failure, evidence: Evidence, error: PingDataError
    ) -> None:
        """Fail a chunk as soon as it is clear that the API is not at fault itself."""
        self._admission.decided(task)
        self._admission.release(task)
        self._release_permit(task)  # or it could keep out the chunk that brings the proof
        self._deferred.add(task, failure, evidence, error)
        self._go_on()

    def on_evidence(self, evidence: Evidence) -> None:
        """The API is in order: what was suspected is so."""
        for task, failure in self._deferred.explained_by(evidence):
            self.lost.put((task, failure), loop_time())

    def drop(self, task: ChunkTask) -> None:
        """Leave a chunk that will not be submitted, or whose job is left to another run."""
        self._admission.decided(task)
        if task.job_id:
            self._admission.abandon(task)
        else:
            self._admission.release(task)
        if _has_answers(task) and not self._store.is_durable:
            failure = Failure(Reason.MISSING, "the run stopped before it was asked about again")
            self.lost.put((task, failure), loop_time())
            return
        self._release_permit(task)
        self._open -= 1
        self.jobs_in_flight -= bool(task.job_id)
        self._go_on()

    def leave(self, task: ChunkTask, error: PingDataError) -> None:
        """Leave a job that cannot be asked about any more, or its output fetched, and stop.

        Others of which the same is true learn of it now, rather than when they are due.
        """
        self.stop(error)
        self.drop(task)
        self.look_again()

    def look_again(self) -> None:
        """Have everything asked for now, as far as it may be."""
        now = loop_time()
        for queue in (self.polls, self.fetches):
            for task in queue.clear():
                queue.put(task, now)

    def stop(self, error: Exception) -> None:
        """Submit nothing more, and end when the jobs in flight have ended."""
        if self.error is not None:
            return
        self.error = error
        self._input_ended = True
        self.reading.cancel("nothing more can be submitted")
        if self._store.is_durable:
            self._retry_rows.clear()
        for task in (
            *self._admission.clear(),
            *self.submissions.clear(),
            *self._deferred.clear(),
        ):
            self.drop(task)
        self._emit(RunStopping(error=str(error), jobs_in_flight=self.jobs_in_flight))
        for scope in tuple(self._waits_to_submit):
            scope.cancel("nothing more is submitted")
        self._go_on()

    # -- out -----------------------------------------------------------------------------

    async def deliver_lost(self, lost: tuple[ChunkTask, Failure | None]) -> None:
        """Deliver a chunk without an answer."""
        task, failure = lost
        why = failure or Failure(Reason.INVALID_INPUT, "")
        results = fail_chunk(task.chunk, why, self._sources)
        await self._deliver(
            task,
            FinishedChunk(
                task.chunk,
                tally(results, task.chunk.duplicate_counts_by_row()),
                failure=failure,
                without_answer=results,
                job_id=task.job_id,
            ),
        )

    async def deliver(self, task: ChunkTask, checked: ValidatedOutput) -> None:
        """Deliver a chunk with its answers; what is left of it waits to be asked again."""
        finished = FinishedChunk(task.chunk, checked.counts, checked=checked, job_id=task.job_id)
        await self._deliver(task, finished)

    async def _deliver(self, task: ChunkTask, finished: FinishedChunk) -> None:
        retry_rows = finished.retry_rows
        await self._store.deliver(finished)
        self._open -= 1
        self.jobs_in_flight -= bool(task.job_id)
        self._release_permit(task)
        if retry_rows and (self.error is None or not self._store.is_durable):
            now = loop_time()
            self._retry_rows.add(retry_rows, now)
            self.lingering.put(None, now + RetryBatcher.WAIT_S)
        self._emit(task_events.finished(task, finished.counts, asked_again=len(retry_rows)))
        self._go_on()

    def _release_permit(self, task: ChunkTask) -> None:
        if task.holds_permit:
            task.holds_permit = False
            self.room.release()

    def _go_on(self) -> None:
        """See whether there is something to be gathered, or to be decided, or all is done."""
        self._batch()
        if not self._input_ended or self._open > len(self._deferred):
            return
        for evidence in Evidence:
            if self._breaker.has(evidence):
                self.on_evidence(evidence)
        if self._deferred:
            self.stop(self._deferred.first_error())
        elif not self._open:
            self.ended.cancel()


def _has_answers(task: ChunkTask) -> bool:
    return any(earlier.times_asked for earlier in task.chunk.earlier)


class DeferredFailures:
    """Rows that look as if they were at fault, as long as nothing shows that it is they."""

    def __init__(self) -> None:
        self._verdicts: list[tuple[ChunkTask, Failure, Evidence, PingDataError]] = []

    def __len__(self) -> int:
        return len(self._verdicts)

    def add(
        self, task: ChunkTask, failure: Failure, evidence: Evidence, error: PingDataError
    ) -> None:
        """Remember a chunk that fails if there is proof, and ends the run if not."""
        self._verdicts.append((task, failure, evidence, error))

    def explained_by(self, evidence: Evidence) -> Iterator[tuple[ChunkTask, Failure]]:
        """Take out those that fail now."""
        # That a job is answered now does not show that one would be accepted now.
        verdicts, self._verdicts = self._verdicts, []
        for verdict in verdicts:
            if verdict[2] is evidence:
                yield verdict[0], verdict[1]
            else:
                self._verdicts.append(verdict)

    def first_error(self) -> PingDataError:
        """Why the first of them failed."""
        return self._verdicts[0][3]

    def clear(self) -> list[ChunkTask]:
        """Take all out."""
        tasks = [verdict[0] for verdict in self._verdicts]
        self._verdicts.clear()
        return tasks
