"""Engine: brings every chunk of an input through the API, in one event loop.

A chunk on its way is a small record in one of four queues (admit, submit, poll, fetch), each
served by a few workers; nothing has a task of its own, so thousands of jobs cost little. Whatever
has to wait, for a poll to be due or a back-off to pass, waits in its queue and holds no worker.
Only what will be submitted waits for a job slot: polling and fetching always go on.

Two things are bounded. A job slot, shared with everybody on the client, is held from before the
submission until the job has ended, so a slow consumer keeps nobody else from submitting. A permit,
the run's own, is held from before a chunk is read until it is delivered and its results are taken,
so a slow store or consumer holds back reading.

A chunk that is refused, or whose jobs fail, is halved until the rows at fault stand alone; the
halves are submitted before anything else. Rows that are worth a retry wait for others of their kind
and become a chunk of their own. The store records each step before the next one is taken.

A worker sends a request and returns what follows (`decisions.py`); `Engine._apply()` alone moves
chunks from one queue to another.

Time is the event loop's: on a loop with a virtual clock the engine runs in simulated time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import msgspec

from pingdata_async.engine.context import ChunkTakenError, EngineContext, FinishedChunk
from pingdata_async.engine.decisions import (
    Decision,
    Drop,
    Fail,
    FailOnEvidence,
    Fetch,
    Hold,
    Judge,
    LookAgain,
    Park,
    Poll,
    PutBack,
    Resubmit,
    Split,
    SplitOff,
)
from pingdata_async.engine.flow_control.retry import Evidence
from pingdata_async.engine.requests import LARGE_BODY_BYTES, Requests
from pingdata_async.engine.scheduler import URGENT, DelayQueue, Scheduler
from pingdata_async.engine.submission import Submitter
from pingdata_async.engine.task import (
    ChunkTask,
    Deferred,
    Downloaded,
    HalfPair,
    JobDone,
    JobLost,
    OutputPostponed,
    RetryLater,
    Unreachable,
    Unreadable,
)
from pingdata_async.events import (
    ChunkFinished,
    ChunkHeld,
    ChunkSplit,
    JobAbandoned,
    JobKept,
    LocationsAskedAgain,
)
from pingdata_async.exceptions import JobFailedError, PingDataError, SubmissionInDoubtError
from pingdata_async.locations.chunk import Chunk, equal_parts, split
from pingdata_async.models import Reason
from pingdata_async.results.outcomes import tally
from pingdata_async.results.validation import Failure, ValidatedOutput, fail_chunk
from pingdata_async.util.loop import SingleThreadExecutor, loop_time
from pingdata_async.util.text import counted

# HALF_OPEN_AFTER (3) doubts + the other SUBMIT_WORKERS - 1 (6) then in flight must stay below
# `max_doubts_in_a_row` (10).
SUBMIT_WORKERS = 7
POLL_WORKERS = 24  # at 100 ms a poll, 240 a second
FETCH_WORKERS = 4  # each holds an output in memory, as it came
MAX_DECODED_OUTPUTS = 2  # inflated, an output is several times as large

_NoOutput = OutputPostponed | JobLost | Unreachable | Unreadable


class Engine:
    """Brings every chunk of an iterator through the API and to a store."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._store = context.store
        self._scheduler = Scheduler(context)
        self._requests = Requests(context)
        self._judge = Judge(context.policy, context.breaker, context.sources, context.rng)
        self._submitter = Submitter(context, self._scheduler, self._requests, self._judge)
        self._decode_slots = anyio.Semaphore(MAX_DECODED_OUTPUTS)
        self._large_output_lock = anyio.Lock()
        self._chunks_on_hold = self._locations_on_hold = 0
        self._postponed_jobs = self._postponed_locations = 0
        self._first_postponed: tuple[str, PingDataError] | None = None

    async def run(self, tasks: AsyncIterator[ChunkTask | None]) -> None:
        """Process every chunk; returns when the store has the last one.

        `tasks` gives None when it has nothing for now: rows to be retried wait for no more then.

        A chunk that already has a job (resumed run) is polled, not submitted again. When no further
        job can be submitted, the jobs in flight are still polled and fetched, as they are paid for.
        On a cancellation, or when the API cannot be polled any more, they are abandoned: the API
        cannot cancel them, and charges for them. Another run can poll them if the store is durable.

        Raises:
            PingDataError: When no further request can succeed, or chunks are held.
            Exception: What `tasks` or the store raised, as it was.
        """
        context = self._context
        try:
            with (
                SingleThreadExecutor("pingdata_async inflate") as inflater,
                SingleThreadExecutor("pingdata_async check") as checker,
                context.rate_limiter.limited_to(context.max_requests_per_s),
            ):
                self._requests.begin(inflater, checker)
                await self._run(tasks)
        finally:
            self._scheduler.release_all()
        if self._scheduler.error is not None:
            raise self._scheduler.error
        if self._chunks_on_hold:
            raise SubmissionInDoubtError(
                f"{counted(self._chunks_on_hold, 'submission')} with "
                f"{counted(self._locations_on_hold, 'location')} in doubt and held: they may have "
                "been accepted and charged"
            )
        if self._first_postponed is not None:
            job_id, error = self._first_postponed
            raise JobFailedError(
                f"the outputs of {counted(self._postponed_jobs, 'paid job')} with "
                f"{counted(self._postponed_locations, 'location')} cannot be fetched now; no other "
                f"job was sent for them. The first is job {job_id}: {error}",
                job_id=job_id,
            ) from error

    async def _run(self, tasks: AsyncIterator[ChunkTask | None]) -> None:
        scheduler = self._scheduler
        with scheduler.ended:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(self._submitter.drain)
                task_group.start_soon(self._guard, self._feed, tasks)
                # One each: users of slots take turns, and stores are told one by one.
                task_group.start_soon(self._guard, self._admit)
                for timed, act in (
                    (scheduler.new_retry_chunks, self._record_retry_chunk),
                    (scheduler.batch_timer, self._on_batch_timeout),
                    (scheduler.unanswered, self._deliver_failed),
                ):
                    task_group.start_soon(self._guard, self._serve, timed, act)
                for queue, ask, workers in (
                    (scheduler.submissions, self._submitter.submit, SUBMIT_WORKERS),
                    (scheduler.polls, self._poll, POLL_WORKERS),
                    (scheduler.fetches, self._fetch, FETCH_WORKERS),
                ):
                    for _ in range(min(workers, self._context.job_slots.max_jobs)):
                        task_group.start_soon(self._guard, self._work, queue, ask)

    async def _guard(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Let one worker's error end the run as itself, not wrapped in a group."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001 - raised again by run()
            self._scheduler.error = self._scheduler.error or error
            self._scheduler.ended.cancel()

    async def _serve(self, queue: DelayQueue[Any], act: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await act(await queue.get())

    async def _work(
        self,
        queue: DelayQueue[ChunkTask],
        ask: Callable[[ChunkTask], Awaitable[Decision | None]],
    ) -> None:
        while True:
            task = await queue.get()
            task.exclude_wait(loop_time())
            await self._apply(queue, task, await ask(task))

    # -- in ------------------------------------------------------------------------------

    async def _feed(self, tasks: AsyncIterator[ChunkTask | None]) -> None:
        """Take a chunk from the input whenever there is a permit for one."""
        scheduler = self._scheduler
        with scheduler.reading:
            while True:
                await scheduler.below_low_water()
                await scheduler.backpressure.acquire()
                try:
                    while (task := await anext(tasks)) is None:
                        scheduler.note_input_idle()
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised again by run()
                    scheduler.stop(error)
                    return
                scheduler.add(task)
        scheduler.end_input()

    async def _admit(self) -> None:
        scheduler = self._scheduler
        while True:
            task = await scheduler.admit()
            scheduler.send(scheduler.polls if task.job_id else scheduler.submissions, task)

    async def _record_retry_chunk(self, task: ChunkTask) -> None:
        """Record a new chunk of rows to be retried, and queue it for a job slot."""
        chunk = task.chunk
        await self._store.batched(chunk)
        self._context.emit(LocationsAskedAgain(chunk=chunk.index, locations=len(chunk.rows)))
        self._scheduler.wait(task, URGENT)

    async def _on_batch_timeout(self, _: None) -> None:
        """Check whether rows to be retried have waited for `MAX_BATCH_WAIT_S`."""
        self._scheduler.check_progress()

    # -- what follows --------------------------------------------------------------------

    async def _apply(  # noqa: PLR0912 - a case for each decision
        self, queue: DelayQueue[ChunkTask], task: ChunkTask, decision: Decision | None
    ) -> None:
        """Do what was decided about a chunk that came from a queue."""
        scheduler = self._scheduler
        match decision:
            case Poll(delay_s):
                scheduler.poll(task, delay_s)
            case Fetch():
                scheduler.release(task)
                scheduler.send(scheduler.fetches, task)
            case RetryLater(delay_s):
                scheduler.send(queue, task, delay_s)
            case Deferred(delay_s):
                scheduler.defer(queue, task, delay_s)
            case PutBack():
                scheduler.put_back(task)
            case Park():
                scheduler.park(task)
            case LookAgain(delay_s):
                scheduler.leave_for_later(task, delay_s)
            case Resubmit(delay_s):
                scheduler.wait(task, loop_time() + delay_s)
            case Split() | SplitOff():
                try:
                    if isinstance(decision, Split):
                        await self._split(task, decision)
                    else:
                        await self._split_off(task, decision)
                except ChunkTakenError:
                    scheduler.put_back(task)
            case Fail(failure, stop):
                self._stop(stop)
                scheduler.fail(task, failure)
            case FailOnEvidence():
                scheduler.fail_on_evidence(task, decision)
            case Hold(stop):
                self._hold(task)
                self._stop(stop)
            case Drop(stop, api_unreachable):
                self._stop(stop)
                scheduler.drop(task)
                if api_unreachable:
                    scheduler.poll_all_now()

    def _stop(self, error: PingDataError | None) -> None:
        if error is not None:
            self._scheduler.stop(error)

    def _hold(self, task: ChunkTask) -> None:
        locations = len(task.chunk.rows)
        self._chunks_on_hold += 1
        self._locations_on_hold += locations
        self._context.emit(ChunkHeld(chunk=task.chunk.index, locations=locations))
        self._scheduler.drop(task)

    async def _split(self, task: ChunkTask, decision: Split) -> None:
        self._scheduler.release(task)
        rows = len(task.chunk.rows)
        chunks = await self._divide(task, equal_parts(rows, decision.parts), decision.reason)
        # `equal_parts()` makes the last part the largest.
        half_pair = HalfPair(len(chunks[-1].rows), rows) if decision.tests_size else None
        parts = [
            ChunkTask(
                chunk,
                depth=task.depth + 1,
                bisection=task.bisection,
                half_pair=half_pair,
                is_part_of_failed=decision.because_jobs_failed,
            )
            for chunk in chunks
        ]
        self._scheduler.replace(task, parts)

    async def _split_off(self, task: ChunkTask, decision: SplitOff) -> None:
        rows = decision.rows
        chunks = await self._divide(task, [rows, len(task.chunk.rows) - rows], decision.reason)
        first, rest = (
            ChunkTask(chunk, depth=task.depth, bisection=task.bisection) for chunk in chunks
        )
        first.is_part_of_failed = task.is_part_of_failed and rows > 1
        rest.is_part_of_failed = task.is_part_of_failed
        self._scheduler.hand_over(task, first, rest)

    async def _divide(self, task: ChunkTask, sizes: list[int], reason: str) -> list[Chunk]:
        indexes = [self._store.next_index() for _ in sizes]
        chunks = split(task.chunk, indexes, sizes, was_charged=task.charged_before)
        await self._store.split(task.chunk, chunks)
        parts = tuple(chunk.index for chunk in chunks)
        self._context.emit(ChunkSplit(chunk=task.chunk.index, parts=parts, error=reason))
        return chunks

    # -- polling and fetching ------------------------------------------------------------

    async def _poll(self, task: ChunkTask) -> Decision:
        outcome = await self._requests.poll(task)
        if isinstance(outcome, RetryLater | Deferred):
            return outcome
        if isinstance(outcome, JobDone):
            self._scheduler.release(task)
            await self._store.completed(task.chunk, task.outputs)
            return Fetch()
        return await self._after_no_output(task, outcome)

    async def _fetch(self, task: ChunkTask) -> Decision | None:
        outcome = await self._fetch_and_deliver(task)
        if isinstance(outcome, _NoOutput):
            return await self._after_no_output(task, outcome)
        return outcome

    async def _fetch_and_deliver(self, task: ChunkTask) -> RetryLater | Deferred | _NoOutput | None:
        """Fetch an output, validate it and deliver it; None when that is done.

        At most one large output is in memory; small ones in parallel.
        """
        outcome: Downloaded | RetryLater | Deferred | _NoOutput | None
        fetched: Downloaded | None = None
        if not task.is_large:
            outcome = await self._requests.fetch(task)
            if isinstance(outcome, Downloaded):
                fetched = outcome
                task.is_large = fetched.likely_bytes > LARGE_BODY_BYTES
        if fetched is not None and not task.is_large:
            outcome = await self._take_answers(task, fetched)
        if task.is_large:
            # Lock order: _large_output_lock, then _decode_slots. The reverse would deadlock.
            async with self._large_output_lock:
                outcome = fetched or await self._requests.fetch(task)
                if isinstance(outcome, Downloaded):
                    outcome = await self._take_answers(task, outcome)
        assert not isinstance(outcome, Downloaded)  # noqa: S101 - for type checkers
        return outcome

    async def _take_answers(
        self, task: ChunkTask, fetched: Downloaded
    ) -> RetryLater | _NoOutput | None:
        async with self._decode_slots:
            outcome = await self._requests.check(task, fetched)
            if not isinstance(outcome, ValidatedOutput):
                return outcome
            await self._deliver_answers(task, outcome)
            return None

    async def _deliver_answers(self, task: ChunkTask, checked: ValidatedOutput) -> None:
        if checked.missing < len(task.chunk.rows):
            self._context.breaker.on_success()
            self._scheduler.on_evidence(Evidence.ANSWERED)
        else:
            self._stop(self._judge.after_empty_output(task))
        await self._deliver(
            task, FinishedChunk(task.chunk, checked.counts, checked=checked, job_id=task.job_id)
        )

    async def _after_no_output(self, task: ChunkTask, outcome: _NoOutput) -> Decision:
        """Decide about a job that is no longer polled, and free its slot."""
        if isinstance(outcome, Unreachable):
            return Drop(outcome.error, api_unreachable=True)
        if isinstance(outcome, JobLost) and outcome.has_timed_out:  # it may still be running
            self._scheduler.abandon(task)
        else:
            self._scheduler.release(task)
        if isinstance(outcome, OutputPostponed):
            return self._postpone_output(task, outcome.error)
        if isinstance(outcome, Unreadable):
            return await self._unreadable(task, outcome)
        return await self._job_lost(task, outcome)

    def _postpone_output(self, task: ChunkTask, error: PingDataError) -> Decision:
        self._postponed_jobs += 1
        self._postponed_locations += len(task.chunk.rows)
        self._first_postponed = self._first_postponed or (task.job_id, error)
        self._context.emit(
            JobKept(
                chunk=task.chunk.index,
                job_id=task.job_id,
                locations=len(task.chunk.rows),
                error=str(error),
            )
        )
        return self._judge.after_postponed_output(task, error)

    async def _unreadable(self, task: ChunkTask, outcome: Unreadable) -> Decision:
        said = outcome.error
        where = await self._store.unreadable(task.chunk, outcome.bodies)
        said += f"; it is kept in {where}" if where else ""
        self._emit_abandoned(task, said, will_resubmit=False)
        is_stopping = self._scheduler.is_stopping
        return self._judge.after_unreadable(task, said, is_stopping=is_stopping)

    async def _job_lost(self, task: ChunkTask, lost: JobLost) -> Decision:
        self._scheduler.job_lost()
        await self._store.job_lost(task.chunk, lost.error)
        is_stopping = self._scheduler.is_stopping
        decision = self._judge.after_lost_job(task, lost, is_stopping=is_stopping)
        will_resubmit = isinstance(decision, Resubmit | Split)
        self._emit_abandoned(task, lost.error, will_resubmit=will_resubmit)
        task.begin_again()
        return decision

    def _emit_abandoned(self, task: ChunkTask, error: str, *, will_resubmit: bool) -> None:
        self._context.emit(
            JobAbandoned(
                chunk=task.chunk.index,
                job_id=task.job_id,
                error=error,
                will_resubmit=will_resubmit,
            )
        )

    # -- out -----------------------------------------------------------------------------

    async def _deliver_failed(self, unanswered: tuple[ChunkTask, Failure | None]) -> None:
        """Deliver a chunk that has no answers; without a failure, nothing in it can be sent."""
        task, failure = unanswered
        why = failure or Failure(Reason.INVALID_INPUT, "")
        results = fail_chunk(task.chunk, why, self._context.sources)
        counts = tally(results, task.chunk.duplicate_counts_by_row())
        await self._deliver(
            task,
            FinishedChunk(
                task.chunk,
                counts,
                failure=failure,
                failed_results=results,
                job_id=task.job_id,
            ),
        )

    async def _deliver(self, task: ChunkTask, finished: FinishedChunk) -> None:
        """Make the outcomes of a chunk's rows safe; rows to be retried wait to be batched."""
        counts, retry_rows = finished.counts, finished.retry_rows
        try:
            delivery = await self._store.deliver(finished)
        except ChunkTakenError:
            if task.job_id:
                self._scheduler.job_lost()
            task.begin_again()
            self._scheduler.put_back(task)
            return
        self._scheduler.delivered(task, retry_rows, delivery)
        self._context.emit(
            ChunkFinished(
                chunk=task.chunk.index,
                job_id=task.job_id or None,
                asked_again=len(retry_rows),
                **msgspec.structs.asdict(counts),
            )
        )
        self._scheduler.check_progress()
