"""Scheduler: the queues of a run, which chunk is next, what is open, and stopping."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import anyio

from pingdata_async.engine.context import Delivery, EngineContext
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
    """Gives each item to one waiting worker, not before it is due.

    Thousands of jobs wait in one heap; only one worker at a time has a timer running. `due` is also
    the priority (earliest first). A negative one is due at once and goes before everything timed:
    `URGENT` for retries, `-1 - depth` for the parts of a split.
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
        """Add an item that is due at this time of the event loop's clock."""
        heapq.heappush(self._heap, (due, next(self._order), item))
        if self._heap[0][2] is item:
            self._changed.set()

    def take(self, key: Callable[[T], tuple[float, int]]) -> T | None:
        """Take out the due item with the smallest key; None if none is due."""
        now = loop_time()
        entries = [entry for entry in self._heap if entry[0] <= now]
        if not entries:
            return None
        best = min(entries, key=lambda entry: key(entry[2]))
        self._heap.remove(best)
        heapq.heapify(self._heap)
        return best[2]

    def clear(self) -> list[T]:
        """Take out all items, due or not."""
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

URGENT = -0.5  # a priority: see `DelayQueue`


class Scheduler:
    """Knows where each chunk of a run is, which one is next, and when the run ends.

    A chunk waits until it is admitted: then it has a job slot, and is submitted. While the
    circuit breaker is half-open, one chunk at a time is admitted (a probe). After that it is
    polled, fetched and delivered. Whatever waits, waits in a queue.

    Only the engine moves chunks from one place to the next.

    Attributes:
        submissions: Chunks that were admitted.
        polls: Chunks that have a job.
        fetches: Chunks that have an output.
        new_retry_chunks: Chunks of rows to be retried that the store has not recorded yet.
        batch_timer: When rows to be retried have waited for long enough.
        unanswered: Chunks that end without an answer, and why.
        backpressure: A permit for each chunk of the input whose results are not taken yet.
        jobs_in_flight: Jobs accepted, and neither delivered nor lost.
        error: Why nothing more is submitted; None while submissions go on.
        ended: Cancelled when the run is done.
        reading: Cancelled to stop reading the input.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._store = context.store
        self._breaker = context.breaker
        self._job_slots = context.job_slots
        self._waiting: DelayQueue[ChunkTask] = DelayQueue()  # to be admitted
        self._head: tuple[ChunkTask, anyio.CancelScope] | None = None  # waits for a slot
        self._slots_held = 0
        self._holders: dict[ChunkTask, None] = {}
        # Chunks that are admitted, and that the API has not yet accepted or refused; counted so
        # that a half-open breaker sends one at a time.
        self._awaiting_acceptance = 0
        self._changed = anyio.Event()  # set when that number changes
        self._admitted = anyio.Event()
        self._parked: list[ChunkTask] = []
        self._awaiting_evidence: list[tuple[ChunkTask, FailOnEvidence]] = []
        self._retry_rows = RetryBatcher(context.chunk_size)
        self._waits_to_submit: dict[anyio.CancelScope, None] = {}
        self._unfinished = 0  # chunks that are neither delivered nor dropped
        self._input_ended = False
        self._input_idle = False  # it has ended, or has nothing for now
        self.submissions: DelayQueue[ChunkTask] = DelayQueue()
        self.polls: DelayQueue[ChunkTask] = DelayQueue()
        self.fetches: DelayQueue[ChunkTask] = DelayQueue()
        self.new_retry_chunks: DelayQueue[ChunkTask] = DelayQueue()
        self.batch_timer: DelayQueue[None] = DelayQueue()
        self.unanswered: DelayQueue[tuple[ChunkTask, Failure | None]] = DelayQueue()
        self.backpressure = anyio.Semaphore(context.job_slots.max_jobs)
        self.jobs_in_flight = 0
        self.error: Exception | None = None
        self.ended = anyio.CancelScope()
        self.reading = anyio.CancelScope()

    # -- into the run --------------------------------------------------------------------

    async def below_low_water(self) -> None:
        """Wait until fewer chunks are ready than the store wants."""
        while self._waiting.due >= self._store.chunks_ahead:
            self._admitted = anyio.Event()
            await self._admitted.wait()

    def add(self, task: ChunkTask) -> None:
        """Add a chunk of the input; it holds a permit."""
        now = loop_time()
        self._unfinished += 1
        self._input_idle = False
        task.holds_permit = True
        task.is_taken_up = bool(task.job_id)
        self.jobs_in_flight += task.is_taken_up
        if task.chunk.rows:
            self._wait(task, now)
        else:  # nothing in it can be sent: no job
            self.unanswered.put((task, None), now)

    def note_input_idle(self) -> None:
        """Note that the input has nothing for now: rows to be retried need not wait for more."""
        self._input_idle = True
        self.check_progress()

    def end_input(self) -> None:
        """Note that the input has no more chunks."""
        self._input_ended = self._input_idle = True
        self.check_progress()

    def _make_retry_chunks(self) -> None:
        """Make chunks of rows to be retried that fill one, have waited, or are the last ones."""
        now = loop_time()
        while self._retry_rows and (self._retry_rows.is_due(now) or self._has_nothing_else()):
            self._unfinished += 1
            chunk = batch_rows(self._store.next_index(), self._retry_rows.take())
            self.new_retry_chunks.put(ChunkTask(chunk), now)

    def _has_nothing_else(self) -> bool:
        return self._input_idle and not self._waiting and not self._awaiting_acceptance

    # -- admission -----------------------------------------------------------------------

    @property
    def must_wait(self) -> bool:
        """Whether an admitted chunk should wait until another one is accepted or refused."""
        # This chunk is itself one of those that await acceptance.
        return self._breaker.is_half_open and self._awaiting_acceptance > 1

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
            if not await self._acquire_slot(task):
                continue
            if not task.job_id:
                # A more urgent chunk may have come meanwhile.
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
                task.awaits_acceptance = True
                self._awaiting_acceptance += 1
            return task

    async def _acquire_slot(self, task: ChunkTask) -> bool:
        """Wait for a job slot; False if the chunk was taken out of the queue meanwhile."""
        with anyio.CancelScope() as scope:
            self._head = (task, scope)
            try:
                await self._job_slots.acquire(task.job_id)
                self._slots_held += 1
            finally:
                self._head = None
        if scope.cancel_called and not scope.cancelled_caught:
            # The slot arrived in the same step as the cancellation: give it back.
            self._give_back()
        return not scope.cancel_called

    async def _until_free(self) -> None:
        while self._breaker.is_half_open and self._awaiting_acceptance:
            self._changed = anyio.Event()
            await self._changed.wait()

    def _urgency(self, task: ChunkTask) -> tuple[float, int]:
        """Sort key, smallest first. Normally the earliest due.

        While bad rows cluster, the latest due: a chunk from elsewhere, not the next part of this
        bisection.
        """
        due = -task.due if self._breaker.should_try_another else task.due
        return due, task.chunk.index

    # -- job slots -----------------------------------------------------------------------

    def release(self, task: ChunkTask) -> None:
        """Give a chunk's job slot back, if it holds one."""
        self._note_decided(task)
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._give_back()

    def abandon(self, task: ChunkTask) -> None:
        """Stop polling a chunk's job; it keeps its job slot until it has likely ended."""
        self._note_decided(task)
        if task.holds_slot:
            task.holds_slot = False
            del self._holders[task]
            self._slots_held -= 1
            ends_at = self._context.poll_planner.likely_end(task.present_job, loop_time())
            self._job_slots.abandon(task.job_id, ends_at)

    def release_all(self) -> None:
        """Give back every slot, except those of running jobs: abandon these."""
        left = [each for each in self._holders if each.job_id or each.was_cut_off]
        for task in left:
            self.abandon(task)
        if left:
            logger.info("%d jobs are abandoned; they count as in flight for a while", len(left))
        while self._slots_held:
            self._give_back()

    def _note_decided(self, task: ChunkTask) -> None:
        """Note that a chunk no longer awaits acceptance."""
        if task.awaits_acceptance:
            task.awaits_acceptance = False
            self._awaiting_acceptance -= 1
            self._changed.set()

    def _give_back(self) -> None:
        self._slots_held -= 1
        self._job_slots.release()

    # -- on the way ----------------------------------------------------------------------

    def send(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float = 0.0) -> None:
        """Queue the next request about a chunk, due after this delay."""
        if self.is_stopping and queue is self.submissions:
            self.drop(task)
            return
        task.request_due = loop_time() + delay_s
        queue.put(task, task.request_due)

    def defer(self, queue: DelayQueue[ChunkTask], task: ChunkTask, delay_s: float) -> None:
        """Queue a request again that was due, but not sent because of a pause."""
        queue.put(task, loop_time() + delay_s)

    def poll(self, task: ChunkTask, delay_s: float) -> None:
        """Queue the first poll of a chunk's new job."""
        self._note_decided(task)
        self.jobs_in_flight += 1
        self.send(self.polls, task, delay_s)
        self.on_evidence(Evidence.ACCEPTED)

    def job_lost(self) -> None:
        """Count a job that is in flight no more: it will never give an answer."""
        self.jobs_in_flight -= 1

    def wait(self, task: ChunkTask, due: float) -> None:
        """Queue a chunk to be admitted, not before this time of the loop's clock."""
        if self.is_stopping:
            self.drop(task)
        else:
            self._wait(task, due)

    def put_back(self, task: ChunkTask) -> None:
        """Queue an admitted chunk to be admitted again, in its old place."""
        self.release(task)
        self._waiting.put(task, task.due)

    def leave_for_later(self, task: ChunkTask, delay_s: float) -> None:
        """Queue an admitted chunk to be admitted again after this delay, as it may have a job.

        It may be in flight already, so that its slot is free when such a job has likely ended.
        """
        if task.was_left:
            self.release(task)
        else:
            task.was_left = True
            self.abandon(task)
        self._release_permit(task)  # others are read meanwhile
        self.wait(task, loop_time() + delay_s)

    def park(self, task: ChunkTask) -> None:
        """Set an admitted chunk aside until `unpark()`."""
        self._parked.append(task)

    def unpark(self) -> None:
        """Queue the submission of all parked chunks."""
        parked, self._parked = self._parked, []
        for task in parked:
            self.send(self.submissions, task)

    def replace(self, task: ChunkTask, parts: Sequence[ChunkTask]) -> None:
        """Queue parts to be admitted in place of their chunk."""
        self._unfinished += len(parts) - 1
        parts[0].holds_permit = task.holds_permit
        # The deeper, the sooner: one chunk's rows at fault are found before the next chunk's.
        for part in parts:
            self.wait(part, -1.0 - part.depth)

    def hand_over(self, task: ChunkTask, first: ChunkTask, rest: ChunkTask) -> None:
        """Submit a part in place of an admitted chunk; queue the rest to be admitted."""
        self._unfinished += 1
        if task.holds_slot:
            del self._holders[task]
            self._holders[first] = None
        first.due, first.ready_at = task.due, task.ready_at
        first.holds_slot, task.holds_slot = task.holds_slot, False
        first.awaits_acceptance, task.awaits_acceptance = task.awaits_acceptance, False
        rest.holds_permit = task.holds_permit
        self.wait(rest, task.due)
        if self.is_stopping:
            self.drop(first)
        else:  # first in line: its rows were measured against the budget, but are not reserved yet
            first.request_due = loop_time()
            self.submissions.put(first, URGENT)

    # -- failing and stopping ------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether no more chunks are submitted."""
        return self.error is not None

    @contextlib.contextmanager
    def cancelled_by_stop(self) -> Iterator[anyio.CancelScope]:
        """A cancel scope that `stop()` cancels, until `exempt_from_stop()`."""
        with anyio.CancelScope() as scope:
            self._waits_to_submit[scope] = None
            try:
                yield scope
            finally:
                self.exempt_from_stop(scope)

    def exempt_from_stop(self, scope: anyio.CancelScope) -> None:
        """From here on `stop()` does not cancel this scope."""
        self._waits_to_submit.pop(scope, None)

    def fail(self, task: ChunkTask, failure: Failure) -> None:
        """Fail a chunk now."""
        self.release(task)
        self.unanswered.put((task, failure), loop_time())

    def fail_on_evidence(self, task: ChunkTask, decision: FailOnEvidence) -> None:
        """Fail a chunk once there is evidence.

        Evidence: proof that the API works for other chunks, so this chunk's rows are at fault.
        """
        self.release(task)
        self._release_permit(task)  # or it could keep out the chunk that brings the evidence
        self._awaiting_evidence.append((task, decision))
        self.check_progress()

    def on_evidence(self, evidence: Evidence) -> None:
        """Fail the chunks that waited for this evidence."""
        # Each kind counts for itself: an answered job does not prove that the API still accepts
        # submissions.
        deferred, self._awaiting_evidence = self._awaiting_evidence, []
        for task, decision in deferred:
            if decision.evidence is evidence:
                self.unanswered.put((task, decision.failure), loop_time())
            else:
                self._awaiting_evidence.append((task, decision))

    def drop(self, task: ChunkTask) -> None:
        """End this run's work on a chunk: submit it no more, and abandon its job if it has one."""
        if task.job_id:
            self.abandon(task)
        else:
            self.release(task)
        # In memory no later run retries these rows: deliver them now, with the answers they have.
        if not self._store.is_durable and any(row.times_asked for row in task.chunk.earlier):
            failure = Failure(Reason.MISSING, "the run stopped before it was retried")
            self.unanswered.put((task, failure), loop_time())
            return
        self._release_permit(task)
        self._unfinished -= 1
        self.jobs_in_flight -= bool(task.job_id)
        self.check_progress()

    def poll_all_now(self) -> None:
        """Make every waiting poll and fetch due now."""
        now = loop_time()
        for queue in (self.polls, self.fetches):
            for task in queue.clear():
                queue.put(task, now)

    def stop(self, error: Exception) -> None:
        """Submit nothing more, and end when the jobs in flight have ended."""
        if self.error is not None:
            return
        self.error = error
        self._input_ended = self._input_idle = True
        self.reading.cancel("nothing more can be submitted")
        if self._store.is_durable:
            self._retry_rows.clear()
        deferred, self._awaiting_evidence = self._awaiting_evidence, []
        for task in (
            *self._take_waiting(),
            *self.submissions.clear(),
            *(task for task, _ in deferred),
        ):
            self.drop(task)
        self._context.emit(RunStopping(error=str(error), jobs_in_flight=self.jobs_in_flight))
        for scope in tuple(self._waits_to_submit):
            scope.cancel("nothing more is submitted")
        self.check_progress()

    def _take_waiting(self) -> list[ChunkTask]:
        """Take out every chunk without a job that is not admitted yet.

        Chunks whose job exists (a resumed run) stay: they only wait to be polled.
        """
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

    def delivered(
        self, task: ChunkTask, retry_rows: Sequence[RetryRow], delivery: Delivery | None
    ) -> None:
        """Note that a chunk is delivered; these rows of it are to be retried.

        Args:
            task: The chunk.
            retry_rows: The rows.
            delivery: What is held of it until a consumer takes it.
        """
        self._unfinished -= 1
        self.jobs_in_flight -= bool(task.job_id)
        if delivery is not None and task.holds_permit:
            task.holds_permit = False
            delivery.when_taken(self.backpressure.release)
        self._release_permit(task)
        if retry_rows and not (self.is_stopping and self._store.is_durable):
            now = loop_time()
            if not self._store.joins_retry_rows:
                self._unfinished += 1
                chunk = batch_rows(self._store.next_index(), retry_rows)
                self.new_retry_chunks.put(ChunkTask(chunk), now)
                return
            self._retry_rows.add(retry_rows, now)
            self.batch_timer.put(None, now + RetryBatcher.MAX_BATCH_WAIT_S)

    def _release_permit(self, task: ChunkTask) -> None:
        if task.holds_permit:
            task.holds_permit = False
            self.backpressure.release()

    def check_progress(self) -> None:
        """Make retry chunks, and end the run if nothing is left.

        If only chunks awaiting evidence are left, fail them, or stop if there never was any.
        """
        self._make_retry_chunks()
        if not self._input_idle or self._unfinished > len(self._awaiting_evidence):
            return
        for evidence in Evidence:
            if self._breaker.has(evidence):
                self.on_evidence(evidence)
        if self._awaiting_evidence:
            self.stop(self._awaiting_evidence[0][1].error)
        elif self._input_ended and not self._unfinished:
            self.ended.cancel()
