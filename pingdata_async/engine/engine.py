"""The loop: submit, poll and fetch every chunk, and what a lost job means.

A chunk on its way is a small record in one of four queues (admit, submit, poll, fetch),
each served by a few workers; nothing has a task of its own, so thousands of jobs cost
little. Whatever has to wait, for a poll to be due or a back-off to pass, waits in its queue
and holds no worker. Only what will be submitted waits for a job slot: polling and fetching
always go on.

Two things are counted. A job slot, shared with everybody on the client, is held from before
the submission until the job has ended, so nobody who is slow to take results keeps others
from submitting. Room, the run's own, is held from before a chunk is read until it is
delivered, so a ledger that is slow holds back reading.

A chunk that is refused, or whose jobs fail, goes on in halves, which are submitted before
anything else, until the rows at fault stand alone (`submitting.py`, `breaker.py`). Rows whose
answer may be better another time wait for others of their kind, and become a chunk of their
own. Whatever a chunk goes through, the ledger is told before the next step is taken.

Time is the event loop's: on a loop with a virtual clock the runner runs in simulated time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio

from pingdata_async.engine import task_events
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.flow_control.circuit_breaker import Evidence
from pingdata_async.engine.requests import LARGE_BODY_BYTES, Requests
from pingdata_async.engine.scheduler import Admission, DelayQueue, Flow
from pingdata_async.engine.submission import Submitter
from pingdata_async.engine.task import (
    ChunkTask,
    Downloaded,
    HeldBack,
    JobDone,
    JobLost,
    Kept,
    RetryLater,
    Unreachable,
    Unreadable,
    Validated,
)
from pingdata_async.exceptions import (
    AccessDeniedError,
    JobFailedError,
    PingDataError,
    SubmissionInDoubtError,
)
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import Reason
from pingdata_async.results.validation import Failure
from pingdata_async.util.loop import SingleThreadExecutor, loop_time
from pingdata_async.util.text import counted

SUBMIT_WORKERS = 7  # with the doubts before the breaker wants one at a time, fewer than stop a run
POLL_WORKERS = 24  # with 100 ms a question, 240 a second
FETCH_WORKERS = 4  # each holds an output in memory, as it came
_FetchStep = (
    RetryLater | Validated | Downloaded | HeldBack | Kept | JobLost | Unreachable | Unreadable
)

AT_HAND = 2  # of them, outputs that are inflated, checked and kept: several times as large


class Engine:
    """Brings every chunk of an iterator through the API and to a store."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._requests = Requests(context)
        self._kept_jobs = self._kept_locations = 0
        self._first_kept: tuple[str, PingDataError] | None = None
        self._at_hand = anyio.Semaphore(AT_HAND)
        self._alone = anyio.Lock()
        self._admission = Admission(context)
        self._flow = Flow(context, self._admission)
        self._submitter = Submitter(context, self._requests, self._admission, self._flow)

    async def run(self, tasks: AsyncIterator[ChunkTask]) -> None:
        """Process every chunk; returns when the last one is with the ledger.

        A passage that has a job already is only asked about. Where no further job can be
        submitted, those in flight are seen to their end first, as they are paid for.
        Cancelled, or where the API cannot be asked about them any more, they are left to
        themselves (it has no way to cancel them, and charges them); with a durable ledger
        another run can take them up.

        Raises:
            PingDataError: When no further request can succeed, or chunks are held.
            Exception: What `tasks` or the ledger raised, as it was.
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
            self._admission.release_all()
        if self._flow.error is not None:
            raise self._flow.error
        held = self._submitter.held_chunks
        if held:
            raise SubmissionInDoubtError(
                f"{counted(held, 'submission')} with "
                f"{counted(self._submitter.held_locations, 'location')} in doubt and held: they "
                "may have been accepted and charged"
            )
        if self._first_kept is not None:
            job_id, error = self._first_kept
            raise JobFailedError(
                f"the answers of {counted(self._kept_jobs, 'paid job')} with "
                f"{counted(self._kept_locations, 'location')} cannot be had now; none was sent "
                f"again for them. The first is job {job_id}: {error}",
                job_id=job_id,
            ) from error

    async def _run(self, tasks: AsyncIterator[ChunkTask]) -> None:
        flow = self._flow
        with flow.ended:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(self._submitter.drain)
                task_group.start_soon(self._guard, self._feed, tasks)
                # One each: users of slots take turns, and ledgers are told one by one.
                task_group.start_soon(self._guard, self._admit)
                task_group.start_soon(self._guard, self._serve, flow.batched, flow.admit_batched)
                task_group.start_soon(
                    self._guard, self._serve, flow.lingering, flow.batch_lingering
                )
                task_group.start_soon(self._guard, self._serve, flow.lost, flow.deliver_lost)
                for queue, act, workers in (
                    (flow.submissions, self._submitter.submit, SUBMIT_WORKERS),
                    (flow.polls, self._poll, POLL_WORKERS),
                    (flow.fetches, self._fetch, FETCH_WORKERS),
                ):
                    for _ in range(min(workers, self._context.concurrency.max_jobs)):
                        task_group.start_soon(self._guard, self._serve, queue, self._in_time(act))

    async def _guard(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Let one worker's error end the run as itself, not wrapped in a group."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001 - raised again by run()
            self._flow.error = self._flow.error or error
            self._flow.ended.cancel()

    async def _serve(self, queue: DelayQueue[Any], act: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await act(await queue.get())

    def _in_time(
        self, act: Callable[[ChunkTask], Awaitable[None]]
    ) -> Callable[[ChunkTask], Awaitable[None]]:
        """The same; what the chunk was late, waiting for a worker, counts for nothing."""

        async def act_in_time(task: ChunkTask) -> None:
            task.leave_out_waiting(loop_time())
            await act(task)

        return act_in_time

    # -- in ------------------------------------------------------------------------------

    async def _feed(self, tasks: AsyncIterator[ChunkTask]) -> None:
        """Take a chunk from the input whenever there is room for one."""
        with self._flow.reading:
            while True:
                await self._admission.below_low_water()
                await self._flow.room.acquire()
                try:
                    task = await anext(tasks, None)
                except Exception as error:  # noqa: BLE001 - raised again by run()
                    self._flow.stop(error)
                    return
                if task is None:
                    break
                self._flow.taken(task)
        self._flow.input_ended()

    async def _admit(self) -> None:
        while True:
            task = await self._admission.next()
            if task.job_id:
                self._flow.send(self._flow.polls, task)
            elif self._flow.is_stopping:
                self._flow.drop(task)
            else:
                self._flow.send(self._flow.submissions, task)

    # -- ask -----------------------------------------------------------------------------

    async def _poll(self, task: ChunkTask) -> None:
        step = await self._requests.poll(task)
        if isinstance(step, RetryLater):
            self._flow.send(self._flow.polls, task, step.delay_s)
            return
        if isinstance(step, HeldBack):
            self._flow.hold_back(self._flow.polls, task, step.delay_s)
            return
        if isinstance(step, JobDone):
            self._admission.release(task)
            await self._context.store.completed(task.chunk, task.outputs)
            self._flow.send(self._flow.fetches, task)
        else:
            await self._no_answer(task, step)

    async def _fetch(self, task: ChunkTask) -> None:
        step = await self._brought_home(task)
        if isinstance(step, RetryLater):
            self._flow.send(self._flow.fetches, task, step.delay_s)
        elif isinstance(step, HeldBack):
            self._flow.hold_back(self._flow.fetches, task, step.delay_s)
        elif isinstance(step, Kept | JobLost | Unreachable | Unreadable):
            await self._no_answer(task, step)

    async def _brought_home(self, task: ChunkTask) -> _FetchStep:
        """Fetch an output, check it and deliver it.

        Several are held at a time, but of those that are large only one: four of the largest
        that are taken would be gigabytes.
        """
        step: _FetchStep
        fetched: Downloaded | None = None
        if not task.is_large:
            step = await self._requests.fetch(task)
            if isinstance(step, Downloaded):
                fetched = step
                task.is_large = fetched.likely_bytes > LARGE_BODY_BYTES
                if not task.is_large:
                    step = await self._checked(task, fetched)
        if task.is_large:
            # Taken before a place at hand, never after it: whoever has it waits for one.
            async with self._alone:
                step = fetched or await self._requests.fetch(task)
                if isinstance(step, Downloaded):
                    step = await self._checked(task, step)
        return step

    async def _checked(self, task: ChunkTask, fetched: Downloaded) -> _FetchStep:
        async with self._at_hand:
            step = await self._requests.check(task, fetched)
            if isinstance(step, Validated):
                await self._answered(task, step)
        return step

    async def _answered(self, task: ChunkTask, step: Validated) -> None:
        chunk = task.chunk
        if step.checked.missing < len(chunk.rows):
            self._context.breaker.on_success()
            self._flow.on_evidence(Evidence.ANSWERED)
        # An output without any of the answers; of rows that are always left out, that is no news.
        elif self._is_telling(chunk) and self._context.breaker.note_failed_job():
            said = f"the output of job {task.job_id} holds none of its locations"
            self._flow.stop(_charged_for_nothing(JobFailedError(said, job_id=task.job_id)))
        await self._flow.deliver(task, step.checked)

    def _is_telling(self, chunk: Chunk) -> bool:
        """Whether an empty answer to all of a chunk says something of the API."""
        is_first_time = not any(earlier.times_asked for earlier in chunk.earlier)
        return not self._context.breaker.any_answered or (is_first_time and len(chunk.rows) > 1)

    async def _no_answer(
        self, task: ChunkTask, step: Kept | JobLost | Unreachable | Unreadable
    ) -> None:
        if isinstance(step, Unreachable):
            self._flow.leave(task, step.error)
        elif isinstance(step, Kept):
            self._keep(task, step.error)
        elif isinstance(step, Unreadable):
            self._admission.release(task)
            await self._unreadable(task, step)
        else:
            if step.has_timed_out:  # it may be at work all the same
                self._admission.abandon(task)
            else:
                self._admission.release(task)
            await self._job_lost(task, step)

    def _keep(self, task: ChunkTask, error: PingDataError) -> None:
        """Leave a job that is paid for, and whose answer cannot be had now: none is sent for it.

        It was asked about for as long as anything is, so its slot is not kept any longer.
        """
        self._admission.release(task)
        self._kept_jobs += 1
        self._kept_locations += len(task.chunk.rows)
        self._first_kept = self._first_kept or (task.job_id, error)
        self._context.emit(task_events.kept(task, str(error)))
        # A token that may not see the jobs of another one says nothing of its own.
        is_of_other = task.is_taken_up and isinstance(error, AccessDeniedError)
        if not is_of_other and self._context.breaker.note_lost_chunk():
            self._flow.stop(error)
        self._flow.drop(task)

    async def _unreadable(self, task: ChunkTask, step: Unreadable) -> None:
        """A complete job whose output can never be read: its rows fail, none is sent for it.

        Where nothing shows that others can be read, the run stops instead, and the job is kept,
        to be tried once more by another run.
        """
        said = step.error
        where = await self._context.store.unreadable(task.chunk, step.bodies)
        said += f"; what came is kept in {where}" if where else ""
        error = JobFailedError(said, job_id=task.job_id)
        failure = Failure(Reason.UNREADABLE, said)
        self._context.emit(task_events.abandoned(task, said, will_resubmit=False))
        must_stop = not self._flow.is_stopping and self._context.breaker.note_failed_job()
        if must_stop:
            self._flow.stop(error)
        if task.was_unreadable:
            self._flow.fail(task, failure)
        elif self._flow.is_stopping:
            self._flow.drop(task)
        else:
            self._flow.defer_failure(task, failure, Evidence.ANSWERED, error)

    async def _job_lost(self, task: ChunkTask, lost: JobLost) -> None:
        """A paid job gives no answer: submit its chunk again, whole or in halves."""
        self._flow.jobs_in_flight -= 1
        await self._context.store.abandoned(task.chunk, lost.error)
        attempts_left = self._note_lost_job(task, lost)
        must_stop = not lost.is_expired and self._context.breaker.note_failed_job()
        can_split = not lost.is_expired and len(task.chunk.rows) > 1
        goes_on = not self._flow.is_stopping and not must_stop and (attempts_left or can_split)
        self._context.emit(task_events.abandoned(task, lost.error, will_resubmit=goes_on))
        error = lost.as_error(task.job_id)
        task.begin_again()
        if goes_on and attempts_left:
            jobs = task.failed_jobs + task.lost_jobs
            delay_s = self._context.policy.delay_s(jobs, None, self._context.rng)
            self._admission.put(task, loop_time() + delay_s)
        elif goes_on:
            await self._submitter.split(task, 2, lost.error, have_failed=True)
        elif self._flow.is_stopping:
            self._flow.drop(task)
        elif must_stop or (not task.is_of_failed and self._context.breaker.note_lost_chunk()):
            self._flow.stop(_charged_for_nothing(error))
            self._flow.drop(task)
        else:
            failure = Failure(Reason.JOB_FAILED, lost.error)
            self._flow.defer_failure(task, failure, Evidence.ANSWERED, error)

    def _note_lost_job(self, task: ChunkTask, lost: JobLost) -> bool:
        """Count it; says whether its chunk may be submitted as it is once more."""
        if lost.is_expired:
            task.lost_jobs += 1
            return task.lost_jobs < self._context.policy.forgotten_attempts
        task.failed_jobs += 1
        # Halves of what failed are only there to find the row at fault.
        is_bisection = task.is_of_failed and len(task.chunk.rows) > 1
        return task.failed_jobs < (1 if is_bisection else self._context.policy.job_attempts)


def _charged_for_nothing(error: JobFailedError) -> JobFailedError:
    return type(error)(
        f"jobs are charged and give nothing, one after the other, so no more are sent: {error}",
        job_id=error.job_id,
    )
