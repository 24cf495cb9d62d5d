"""Engine: brings every chunk of an input through the API, in one event loop.

A chunk on its way is a small record in one of four queues (admit, submit, poll, fetch), each
served by a few workers; nothing has a task of its own, so thousands of jobs cost little. Whatever
has to wait, for a poll to be due or a back-off to pass, waits in its queue and holds no worker.
Only what will be submitted waits for a job slot: polling and fetching always go on.

Two things are bounded. A job slot, shared with everybody on the client, is held from before the
submission until the job has ended, so a slow consumer keeps nobody else from submitting. A permit,
the run's own, is held from before a chunk is read until it is delivered, so a slow store holds
back reading.

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

from pingdata_async.engine.context import EngineContext, FinishedChunk
from pingdata_async.engine.decisions import (
    Decision,
    Drop,
    Fail,
    FailOnEvidence,
    Fetch,
    Hold,
    Judge,
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
    Downloaded,
    HalfPair,
    HeldBack,
    JobDone,
    JobLost,
    Kept,
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

SUBMIT_WORKERS = 7  # with the doubts before the breaker wants one at a time, fewer than stop a run
POLL_WORKERS = 24  # with 100 ms a question, 240 a second
FETCH_WORKERS = 4  # each holds an output in memory, as it came
AT_HAND = 2  # of them, outputs that are inflated, checked and kept: several times as large

_NoAnswer = Kept | JobLost | Unreachable | Unreadable


class Engine:
    """Brings every chunk of an iterator through the API and to a store."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._store = context.store
        self._scheduler = Scheduler(context)
        self._requests = Requests(context)
        self._judge = Judge(context.policy, context.breaker, context.sources, context.rng)
        self._submitter = Submitter(context, self._scheduler, self._requests, self._judge)
        self._at_hand = anyio.Semaphore(AT_HAND)
        self._alone = anyio.Lock()
        self._held_chunks = self._held_locations = 0
        self._kept_jobs = self._kept_locations = 0
        self._first_kept: tuple[str, PingDataError] | None = None

    async def run(self, tasks: AsyncIterator[ChunkTask | None]) -> None:
        """Process every chunk; returns when the store has the last one.

        `tasks` gives None where nothing comes for now: what waits for others waits no longer.

        A chunk that has a job is only polled. When no further job can be submitted, the jobs in
        flight are still polled and fetched, as they are paid for. On a cancellation, or when the
        API cannot be polled any more, they are abandoned: the API cannot cancel them, and charges
        for them. With a durable store, another run can take them up.

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
        if self._held_chunks:
            raise SubmissionInDoubtError(
                f"{counted(self._held_chunks, 'submission')} with "
                f"{counted(self._held_locations, 'location')} in doubt and held: they may have "
                "been accepted and charged"
            )
        if self._first_kept is not None:
            job_id, error = self._first_kept
            raise JobFailedError(
                f"the outputs of {counted(self._kept_jobs, 'paid job')} with "
                f"{counted(self._kept_locations, 'location')} cannot be fetched now; no other job "
                f"was sent for them. The first is job {job_id}: {error}",
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
                    (scheduler.batched, self._admit_batched),
                    (scheduler.lingering, self._batch_lingering),
                    (scheduler.unanswered, self._deliver_unanswered),
                ):
                    task_group.start_soon(self._guard, self._serve, timed, act)
                for queue, ask, workers in (
                    (scheduler.submissions, self._submitter.submit, SUBMIT_WORKERS),
                    (scheduler.polls, self._poll, POLL_WORKERS),
                    (scheduler.fetches, self._fetch, FETCH_WORKERS),
                ):
                    for _ in range(min(workers, self._context.concurrency.max_jobs)):
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
            task.leave_out_waiting(loop_time())  # for a worker: that is no time of failures
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
                        scheduler.let_input_rest()
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

    async def _admit_batched(self, task: ChunkTask) -> None:
        """Let a chunk of rows to be retried be submitted."""
        chunk = task.chunk
        await self._store.batched(chunk)
        self._context.emit(LocationsAskedAgain(chunk=chunk.index, locations=len(chunk.rows)))
        self._scheduler.wait(task, URGENT)

    async def _batch_lingering(self, _: None) -> None:
        """Rows to be retried may have waited for long enough."""
        self._scheduler.proceed()

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
                scheduler.send(scheduler.fetches, task)
            case RetryLater(delay_s):
                scheduler.send(queue, task, delay_s)
            case HeldBack(delay_s):
                scheduler.hold_back(queue, task, delay_s)
            case PutBack():
                scheduler.put_back(task)
            case Park():
                scheduler.park(task)
            case Resubmit(delay_s):
                scheduler.wait(task, loop_time() + delay_s)
            case Split():
                await self._split(task, decision)
            case SplitOff():
                await self._split_off(task, decision)
            case Fail(failure, stop):
                self._stop(stop)
                scheduler.fail(task, failure)
            case FailOnEvidence():
                scheduler.fail_on_evidence(task, decision)
            case Hold(stop):
                self._hold(task)
                self._stop(stop)
            case Drop(stop, is_for_all):
                self._stop(stop)
                scheduler.drop(task)
                if is_for_all:
                    scheduler.ask_now()

    def _stop(self, error: PingDataError | None) -> None:
        if error is not None:
            self._scheduler.stop(error)

    def _hold(self, task: ChunkTask) -> None:
        locations = len(task.chunk.rows)
        self._held_chunks += 1
        self._held_locations += locations
        self._context.emit(ChunkHeld(chunk=task.chunk.index, locations=locations))
        self._scheduler.drop(task)

    async def _split(self, task: ChunkTask, decision: Split) -> None:
        self._scheduler.release(task)
        rows = len(task.chunk.rows)
        chunks = await self._divide(task, equal_parts(rows, decision.parts), decision.reason)
        half_pair = HalfPair(len(chunks[-1].rows), rows) if decision.is_telling else None
        parts = [
            ChunkTask(
                chunk,
                depth=task.depth + 1,
                search=task.search,
                half_pair=half_pair,
                is_of_failed=decision.has_failed,
            )
            for chunk in chunks
        ]
        self._scheduler.replace(task, parts)

    async def _split_off(self, task: ChunkTask, decision: SplitOff) -> None:
        rows = decision.rows
        chunks = await self._divide(task, [rows, len(task.chunk.rows) - rows], decision.reason)
        first, rest = (ChunkTask(chunk, depth=task.depth, search=task.search) for chunk in chunks)
        first.is_of_failed = task.is_of_failed and rows > 1
        rest.is_of_failed = task.is_of_failed
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
        answer = await self._requests.poll(task)
        if isinstance(answer, RetryLater | HeldBack):
            return answer
        if isinstance(answer, JobDone):
            self._scheduler.release(task)
            await self._store.completed(task.chunk, task.outputs)
            return Fetch()
        return await self._without_answer(task, answer)

    async def _fetch(self, task: ChunkTask) -> Decision | None:
        answer = await self._bring_home(task)
        if isinstance(answer, _NoAnswer):
            return await self._without_answer(task, answer)
        return answer

    async def _bring_home(self, task: ChunkTask) -> RetryLater | HeldBack | _NoAnswer | None:
        """Fetch an output, validate it and deliver it; None when that is done.

        Several are held at a time, but of those that are large only one: four of the largest
        that are taken would be gigabytes.
        """
        answer: Downloaded | RetryLater | HeldBack | _NoAnswer | None
        fetched: Downloaded | None = None
        if not task.is_large:
            answer = await self._requests.fetch(task)
            if isinstance(answer, Downloaded):
                fetched = answer
                task.is_large = fetched.likely_bytes > LARGE_BODY_BYTES
        if fetched is not None and not task.is_large:
            answer = await self._take_answers(task, fetched)
        if task.is_large:
            # Taken before a place at hand, never after it: whoever has it waits for one.
            async with self._alone:
                answer = fetched or await self._requests.fetch(task)
                if isinstance(answer, Downloaded):
                    answer = await self._take_answers(task, answer)
        assert not isinstance(answer, Downloaded)  # noqa: S101 - for type checkers
        return answer

    async def _take_answers(
        self, task: ChunkTask, fetched: Downloaded
    ) -> RetryLater | _NoAnswer | None:
        async with self._at_hand:
            answer = await self._requests.check(task, fetched)
            if not isinstance(answer, ValidatedOutput):
                return answer
            await self._answered(task, answer)
            return None

    async def _answered(self, task: ChunkTask, checked: ValidatedOutput) -> None:
        if checked.missing < len(task.chunk.rows):
            self._context.breaker.on_success()
            self._scheduler.on_evidence(Evidence.ANSWERED)
        else:
            self._stop(self._judge.after_empty_output(task))
        await self._deliver(
            task, FinishedChunk(task.chunk, checked.counts, checked=checked, job_id=task.job_id)
        )

    async def _without_answer(self, task: ChunkTask, answer: _NoAnswer) -> Decision:
        """Free the slot of a job that is no longer polled, and say what follows."""
        if isinstance(answer, Unreachable):
            return Drop(answer.error, is_for_all=True)
        if isinstance(answer, JobLost) and answer.has_timed_out:  # it may be running all the same
            self._scheduler.abandon(task)
        else:
            self._scheduler.release(task)
        if isinstance(answer, Kept):
            return self._keep(task, answer.error)
        if isinstance(answer, Unreadable):
            return await self._unreadable(task, answer)
        return await self._job_lost(task, answer)

    def _keep(self, task: ChunkTask, error: PingDataError) -> Decision:
        self._kept_jobs += 1
        self._kept_locations += len(task.chunk.rows)
        self._first_kept = self._first_kept or (task.job_id, error)
        self._context.emit(
            JobKept(
                chunk=task.chunk.index,
                job_id=task.job_id,
                locations=len(task.chunk.rows),
                error=str(error),
            )
        )
        return self._judge.after_kept(task, error)

    async def _unreadable(self, task: ChunkTask, answer: Unreadable) -> Decision:
        said = answer.error
        where = await self._store.unreadable(task.chunk, answer.bodies)
        said += f"; it is kept in {where}" if where else ""
        self._emit_abandoned(task, said, will_resubmit=False)
        is_stopping = self._scheduler.is_stopping
        return self._judge.after_unreadable(task, said, is_stopping=is_stopping)

    async def _job_lost(self, task: ChunkTask, lost: JobLost) -> Decision:
        self._scheduler.jobs_in_flight -= 1
        await self._store.abandoned(task.chunk, lost.error)
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

    async def _deliver_unanswered(self, unanswered: tuple[ChunkTask, Failure | None]) -> None:
        """Deliver a chunk without an answer."""
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
                without_answer=results,
                job_id=task.job_id,
            ),
        )

    async def _deliver(self, task: ChunkTask, finished: FinishedChunk) -> None:
        """Make the outcomes of a chunk safe; rows to be retried wait for others of their kind."""
        counts, retry_rows = finished.counts, finished.retry_rows
        await self._store.deliver(finished)
        self._scheduler.delivered(task, retry_rows)
        self._context.emit(
            ChunkFinished(
                chunk=task.chunk.index,
                job_id=task.job_id or None,
                asked_again=len(retry_rows),
                **msgspec.structs.asdict(counts),
            )
        )
        self._scheduler.proceed()
