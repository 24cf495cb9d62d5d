"""Scheduler: the queues of a run, which chunk is next, what is open, and stopping."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.decisions import FailOnEvidence
from pingdata_async.engine.flow_control.retry import Evidence
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import RunStopping
from pingdata_async.locations.chunk import RetryBatcher, RetryRow, batch_rows
from pingdata_async.models import Reason
from pingdata_async.results.validation import Failure
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


class Scheduler:
    """Knows where each chunk of a run is, which one is next, and when the run ends.

    A chunk waits until it is admitted: then it has a job slot, and is submitted. While the
    circuit breaker is half-open, one is at a time. After that it is polled, fetched and
    delivered. Whatever waits, waits in a queue.

    Only the engine moves chunks from one place to the next.

    Attributes:
        submissions: Chunks that were admitted.
        polls: Chunks that have a job.
        fetches: Chunks that have an output.
        batched: Chunks made of rows to be retried, of which the store does not know yet.
        lingering: When rows to be retried have waited for long enough.
        unanswered: Chunks that end without an answer, and why.
        backpressure: A permit for each chunk of the input that is not delivered yet.
        jobs_in_flight: Jobs accepted, and neither delivered nor lost.
        error: Why nothing more is submitted; None as long as all is well.
        ended: Cancelled when all is done.
        reading: Cancelled when nothing more is to be read.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._store = context.store
        self._breaker = context.breaker
        self._share = context.concurrency
        self._waiting: DelayQueue[ChunkTask] = DelayQueue()  # to be admitted
        self._head: tuple[ChunkTask, anyio.CancelScope] | None = None  # waits for a slot
        self._slots_held = 0
        self._holders: dict[ChunkTask, None] = {}
        self._undecided = 0  # admitted, and neither accepted nor refused yet
        self._changed = anyio.Event()  # that number
        self._admitted = anyio.Event()
        self._parked: list[ChunkTask] = []
        self._deferred: list[tuple[ChunkTask, FailOnEvidence]] = []
        self._retry_rows = RetryBatcher(context.chunk_size)
        self._waits_to_submit: dict[anyio.CancelScope, None] = {}  # in their order
        self._open = 0  # chunks taken from the input, or made of such, and not delivered
        self._input_ended = False
        self._input_rests = False  # it has ended, or nothing comes of it for now
        self.submissions: DelayQueue[ChunkTask] = DelayQueue()
        self.polls: DelayQueue[ChunkTask] = DelayQueue()
        self.fetches: DelayQueue[ChunkTask] = DelayQueue()
        self.batched: DelayQueue[ChunkTask] = DelayQueue()
        self.lingering: DelayQueue[None] = DelayQueue()
        self.unanswered: DelayQueue[tuple[ChunkTask, Failure | None]] = DelayQueue()
        self.backpressure = anyio.Semaphore(context.concurrency.max_jobs)
        self.jobs_in_flight = 0
        self.error: Exception | None = None
        self.ended = anyio.CancelScope()
        self.reading = anyio.CancelScope()

    # -- into the run --------------------------------------------------------------------

    async def below_low_water(self) -> None:
        """Wait until too few chunks are ready to choose from."""
        while self._waiting.due >= LOW_WATER:
            self._admitted = anyio.Event()
            await self._admitted.wait()

    def add(self, task: ChunkTask) -> None:
        """Take in a chunk of the input; it holds a permit."""
        now = loop_time()
        self._open += 1
        self._input_rests = False
        task.holds_permit = True
        task.is_taken_up = bool(task.job_id)
        self.jobs_in_flight += task.is_taken_up
        if task.chunk.rows:
            self._wait(task, now)
        else:  # nothing in it can be sent: no job
            self.unanswered.put((task, None), now)

    def let_input_rest(self) -> None:
        """There is nothing to be taken in for now: waiting for more would be of no use."""
        self._input_rests = True
        self.proceed()

    def end_input(self) -> None:
        """There is nothing more to be taken in."""
        self._input_ended = self._input_rests = True
        self.proceed()

    def _batch(self) -> None:
        """Make chunks of rows to be retried, as soon as they are worth a job."""
        now = loop_time()
        while self._retry_rows and (self._retry_rows.is_due(now) or self._has_nothing_else()):
            self._open += 1
            chunk = batch_rows(self._store.next_index(), self._retry_rows.take())
            self.batched.put(ChunkTask(chunk), now)

    def _has_nothing_else(self) -> bool:
        return self._input_rests and not self._waiting and not self._undecided

    # -- admission -----------------------------------------------------------------------

    @property
    def must_wait(self) -> bool:
        """Whether a chunk that was admitted should wait for another one's answer first."""
        return self._breaker.is_half_open and self._undecided > 1

    def _wait(self, task: ChunkTask, due: float) -> None:
        task.due = due
        task.ready_at = max(loop_time(), due)
        self._waiting.put(task, due)

    async def admit(self) -> ChunkTask:
        """Wait for the most urgent chunk, and a job slot for it."""
        task = await self._next()
        self._admitted.set()
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
                await self._share.acquire(task.job_id)
                self._slots_held += 1
            finally:
                self._head = None
        if scope.cancel_called and not scope.cancelled_caught:
            self._give_back()
        return not scope.cancel_called

    async def _until_free(self) -> None:
        while self._breaker.is_half_open and self._undecided:
            self._changed = anyio.Event()
            await self._changed.wait()

    def _urgency(self, task: ChunkTask) -> tuple[float, int]:
        due = -task.due if self._breaker.should_try_another else task.due
        return due, task.chunk.index

    # -- job slots -----------------------------------------------------------------------

    def release(self, task: ChunkTask) -> None:
        """Give a chunk's job slot back, if it holds one."""
        self._decide(task)
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._give_back()

    def abandon(self, task: ChunkTask) -> None:
        """Leave a chunk's job to itself; it keeps its job slot until it has likely ended."""
        self._decide(task)
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._slots_held -= 1
            ends_at = self._context.poll_planner.likely_end(task.present_job, loop_time())
            self._share.abandon(task.job_id, ends_at)

    def release_all(self) -> None:
        """Give back every slot, but those of jobs that are left to themselves."""
        left = [each for each in self._holders if each.job_id or each.was_cut_off]
        for task in left:
            self.abandon(task)
        if left:
            logger.info("%d jobs are abandoned; they count as in flight for a while", len(left))
        while self._slots_held:
            self._give_back()

    def _decide(self, task: ChunkTask) -> None:
        """A chunk that was admitted is accepted, refused or lost, or will not be submitted."""
        if task.is_undecided:
            task.is_undecided = False
            self._undecided -= 1
            self._changed.set()

    def _give_back(self) -> None:
        self._slots_held -= 1
        self._share.release()

    # -- on the way ----------------------------------------------------------------------

    def send(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float = 0.0) -> None:
        """Have a request about a chunk sent, after that time."""
        if self.is_stopping and queue is self.submissions:
            self.drop(task)
            return
        task.wanted_at = loop_time() + delay_s
        queue.put(task, task.wanted_at)

    def hold_back(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float) -> None:
        """Have a request sent later than it should be, as there is a pause."""
        queue.put(task, loop_time() + delay_s)

    def poll(self, task: ChunkTask, delay_s: float) -> None:
        """Have the job polled that a chunk has now."""
        self._decide(task)
        self.jobs_in_flight += 1
        self.send(self.polls, task, delay_s)
        self.on_evidence(Evidence.ACCEPTED)

    def wait(self, task: ChunkTask, due: float) -> None:
        """Have a chunk wait until it is admitted, not before that time of the loop's clock."""
        if self.is_stopping:
            self.drop(task)
        else:
            self._wait(task, due)

    def put_back(self, task: ChunkTask) -> None:
        """Have a chunk that was admitted wait again, in its old place."""
        self.release(task)
        self._waiting.put(task, task.due)

    def park(self, task: ChunkTask) -> None:
        """Keep a chunk that was admitted until `unpark()`."""
        self._parked.append(task)

    def unpark(self) -> None:
        """Have all submitted that is parked."""
        parked, self._parked = self._parked, []
        for task in parked:
            self.send(self.submissions, task)

    def replace(self, task: ChunkTask, parts: Sequence[ChunkTask]) -> None:
        """Let parts take a chunk's place, and wait until they are admitted."""
        self._open += len(parts) - 1
        parts[0].holds_permit = task.holds_permit
        # The deeper, the sooner: one chunk's rows at fault are found before the next chunk's.
        for part in parts:
            self.wait(part, -1.0 - part.depth)

    def hand_over(self, task: ChunkTask, first: ChunkTask, rest: ChunkTask) -> None:
        """Have a part submitted in the place of a chunk that was admitted; the rest waits."""
        self._open += 1
        if task.holds_slot:
            del self._holders[task]
            self._holders[first] = None
        first.due, first.ready_at = task.due, task.ready_at
        first.holds_slot, task.holds_slot = task.holds_slot, False
        first.is_undecided, task.is_undecided = task.is_undecided, False
        rest.holds_permit = task.holds_permit
        self.wait(rest, task.due)
        if self.is_stopping:
            self.drop(first)
        else:  # before others see the budget without it
            first.wanted_at = loop_time()
            self.submissions.put(first, URGENT)

    # -- failing and stopping ------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be submitted."""
        return self.error is not None

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[anyio.CancelScope]:
        """Stop waiting to submit when nothing more is to be submitted."""
        with anyio.CancelScope() as scope:
            self._waits_to_submit[scope] = None
            try:
                yield scope
            finally:
                self.see_to_its_end(scope)

    def see_to_its_end(self, scope: anyio.CancelScope) -> None:
        """From here on, stopping does not cancel what `until_stopped()` holds."""
        self._waits_to_submit.pop(scope, None)

    def fail(self, task: ChunkTask, failure: Failure) -> None:
        """Fail a chunk, whatever the API is like."""
        self.release(task)
        self.unanswered.put((task, failure), loop_time())

    def fail_on_evidence(self, task: ChunkTask, decision: FailOnEvidence) -> None:
        """Fail a chunk as soon as it is clear that the API is not at fault itself."""
        self.release(task)
        self._release_permit(task)  # or it could keep out the chunk that brings the evidence
        self._deferred.append((task, decision))
        self.proceed()

    def on_evidence(self, evidence: Evidence) -> None:
        """Fail the chunks of which this shows that they are at fault themselves."""
        # That a job is answered now does not show that one would be accepted now.
        deferred, self._deferred = self._deferred, []
        for task, decision in deferred:
            if decision.evidence is evidence:
                self.unanswered.put((task, decision.failure), loop_time())
            else:
                self._deferred.append((task, decision))

    def drop(self, task: ChunkTask) -> None:
        """Do no more about a chunk that will not be submitted, or whose job is left alone."""
        if task.job_id:
            self.abandon(task)
        else:
            self.release(task)
        if not self._store.is_durable and any(row.times_asked for row in task.chunk.earlier):
            failure = Failure(Reason.MISSING, "the run stopped before it was retried")
            self.unanswered.put((task, failure), loop_time())
            return
        self._release_permit(task)
        self._open -= 1
        self.jobs_in_flight -= bool(task.job_id)
        self.proceed()

    def ask_now(self) -> None:
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
        self._input_ended = self._input_rests = True
        self.reading.cancel("nothing more can be submitted")
        if self._store.is_durable:
            self._retry_rows.clear()
        deferred, self._deferred = self._deferred, []
        for task in (
            *self._take_waiting(),
            *self.submissions.clear(),
            *(task for task, _ in deferred),
        ):
            self.drop(task)
        self._context.emit(RunStopping(error=str(error), jobs_in_flight=self.jobs_in_flight))
        for scope in tuple(self._waits_to_submit):
            scope.cancel("nothing more is submitted")
        self.proceed()

    def _take_waiting(self) -> list[ChunkTask]:
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
        self._admitted.set()
        return [task for task in waiting if not task.job_id]

    # -- out of the run ------------------------------------------------------------------

    def delivered(self, task: ChunkTask, retry_rows: Sequence[RetryRow]) -> None:
        """A chunk's outcomes are safe; these rows of it are to be retried."""
        self._open -= 1
        self.jobs_in_flight -= bool(task.job_id)
        self._release_permit(task)
        if retry_rows and not (self.is_stopping and self._store.is_durable):
            now = loop_time()
            self._retry_rows.add(retry_rows, now)
            self.lingering.put(None, now + RetryBatcher.LINGER_S)

    def _release_permit(self, task: ChunkTask) -> None:
        if task.holds_permit:
            task.holds_permit = False
            self.backpressure.release()

    def proceed(self) -> None:
        """See whether rows can be retried, failures be decided, or all is done."""
        self._batch()
        if not self._input_rests or self._open > len(self._deferred):
            return
        for evidence in Evidence:
            if self._breaker.has(evidence):
                self.on_evidence(evidence)
        if self._deferred:
            self.stop(self._deferred[0][1].error)
        elif self._input_ended and not self._open:
            self.ended.cancel()
