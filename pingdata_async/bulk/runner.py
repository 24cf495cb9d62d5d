"""Submit -> poll -> fetch for every chunk, in one event loop.

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

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio

from pingdata_async.bulk import clock, notices
from pingdata_async.bulk.admission import Admission
from pingdata_async.bulk.breaker import Breaker, Proof
from pingdata_async.bulk.budget import Budget, Caps
from pingdata_async.bulk.checking import Failure
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.due_queue import DueQueue
from pingdata_async.bulk.flow import Flow
from pingdata_async.bulk.job_slots import SlotShare
from pingdata_async.bulk.passage import Passage
from pingdata_async.bulk.polling import PollPlanner
from pingdata_async.bulk.protocols import BulkAPI, Ledger
from pingdata_async.bulk.request_gate import RequestGate
from pingdata_async.bulk.requests import LARGE_BODY_BYTES, Requests
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.steps import (
    Again,
    Answered,
    Done,
    Fetched,
    HeldBack,
    Kept,
    Lost,
    Unreachable,
    Unreadable,
)
from pingdata_async.bulk.submitting import Submitter
from pingdata_async.events import Event
from pingdata_async.exceptions import (
    AccessDeniedError,
    JobFailedError,
    PingDataError,
    SubmissionInDoubtError,
)
from pingdata_async.models import Reason
from pingdata_async.one_thread import OneThread
from pingdata_async.plurals import counted

SUBMIT_WORKERS = 7  # with the doubts before the breaker wants one at a time, fewer than stop a run
POLL_WORKERS = 24  # with 100 ms a question, 240 a second
FETCH_WORKERS = 4  # each holds an output in memory, as it came
_FetchStep = Again | Answered | Fetched | HeldBack | Kept | Lost | Unreachable | Unreadable

AT_HAND = 2  # of them, outputs that are inflated, checked and kept: several times as large


class BulkRunner:
    """Brings every chunk of an iterator through the API and to a ledger.

    Args:
        api: The endpoints.
        ledger: Keeps account of the chunks, and takes their answers.
        slots: The job slots it may use.
        gate: Lets requests out.
        sources: The run's sources.
        options: The rest of each job's body, as `encode_options()` makes it.
        chunk_size: Rows in a chunk of those that are asked about again, at most.
        max_requests_per_s: That the API is known to take; None where that is not known.
        planner: Says when jobs are asked about.
        policy: How often things are tried.
        announce: Told of everything that happens.
        rng: The source of jitter.
        breaker: What is known of the API from earlier; None where nothing is.
        budget: What may be spent; None for any number of locations.
    """

    def __init__(
        self,
        *,
        api: BulkAPI,
        ledger: Ledger,
        slots: SlotShare,
        gate: RequestGate,
        max_requests_per_s: float | None = None,
        sources: tuple[str, ...],
        options: bytes,
        chunk_size: int,
        planner: PollPlanner,
        policy: RetryPolicy,
        announce: Callable[[Event], None],
        rng: random.Random,
        breaker: Breaker | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._ledger = ledger
        self._slots = slots
        self._gate = gate
        self._max_requests_per_s = max_requests_per_s
        self._sources = sources
        self._policy = policy
        self._announce = announce
        self._rng = rng
        self._breaker = breaker or Breaker(policy)
        self._requests = Requests(
            api=api,
            sources=sources,
            with_results=not ledger.is_durable,
            options=options,
            gate=gate,
            slots=slots.slots,
            planner=planner,
            policy=policy,
            announce=announce,
            rng=rng,
        )
        self._kept_jobs = self._kept_locations = 0
        self._first_kept: tuple[str, PingDataError] | None = None
        self._at_hand = anyio.Semaphore(AT_HAND)
        self._alone = anyio.Lock()
        self._admission = Admission(slots, self._breaker, planner)
        self._flow = Flow(
            ledger=ledger,
            admission=self._admission,
            breaker=self._breaker,
            sources=sources,
            chunk_size=chunk_size,
            max_chunks=slots.max_jobs,
            announce=announce,
        )
        self._submitter = Submitter(
            requests=self._requests,
            ledger=ledger,
            admission=self._admission,
            breaker=self._breaker,
            sources=sources,
            policy=policy,
            announce=announce,
            flow=self._flow,
            budget=budget or Budget(Caps(), sources),
        )

    async def run(self, passages: AsyncIterator[Passage]) -> None:
        """Process every chunk; returns when the last one is with the ledger.

        A passage that has a job already is only asked about. Where no further job can be
        submitted, those in flight are seen to their end first, as they are paid for.
        Cancelled, or where the API cannot be asked about them any more, they are left to
        themselves (it has no way to cancel them, and charges them); with a durable ledger
        another run can take them up.

        Raises:
            PingDataError: When no further request can succeed, or chunks are held.
            Exception: What `passages` or the ledger raised, as it was.
        """
        try:
            with (
                OneThread("pingdata_async inflate") as inflater,
                OneThread("pingdata_async check") as checker,
                self._gate.limited_to(self._max_requests_per_s),
            ):
                self._requests.begin(inflater, checker)
                await self._run(passages)
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

    async def _run(self, passages: AsyncIterator[Passage]) -> None:
        flow = self._flow
        with flow.ended:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._submitter.linger)
                tasks.start_soon(self._guard, self._feed, passages)
                # One each: users of slots take turns, and ledgers are told one by one.
                tasks.start_soon(self._guard, self._admit)
                tasks.start_soon(self._guard, self._serve, flow.gathered, flow.admit_gathered)
                tasks.start_soon(self._guard, self._serve, flow.ripening, flow.gather_ripe)
                tasks.start_soon(self._guard, self._serve, flow.lost, flow.deliver_lost)
                for queue, act, workers in (
                    (flow.submissions, self._submitter.submit, SUBMIT_WORKERS),
                    (flow.polls, self._poll, POLL_WORKERS),
                    (flow.fetches, self._fetch, FETCH_WORKERS),
                ):
                    for _ in range(min(workers, self._slots.max_jobs)):
                        tasks.start_soon(self._guard, self._serve, queue, self._in_time(act))

    async def _guard(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Let one worker's error end the run as itself, not wrapped in a group."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001 - raised again by run()
            self._flow.error = self._flow.error or error
            self._flow.ended.cancel()

    async def _serve(self, queue: DueQueue[Any], act: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await act(await queue.get())

    def _in_time(
        self, act: Callable[[Passage], Awaitable[None]]
    ) -> Callable[[Passage], Awaitable[None]]:
        """The same; what the chunk was late, waiting for a worker, counts for nothing."""

        async def act_in_time(passage: Passage) -> None:
            passage.leave_out_waiting(clock.now())
            await act(passage)

        return act_in_time

    # -- in ------------------------------------------------------------------------------

    async def _feed(self, passages: AsyncIterator[Passage]) -> None:
        """Take a chunk from the input whenever there is room for one."""
        with self._flow.reading:
            while True:
                await self._admission.until_hungry()
                await self._flow.room.acquire()
                try:
                    passage = await anext(passages, None)
                except Exception as error:  # noqa: BLE001 - raised again by run()
                    self._flow.stop(error)
                    return
                if passage is None:
                    break
                self._flow.taken(passage)
        self._flow.input_ended()

    async def _admit(self) -> None:
        while True:
            passage = await self._admission.next()
            if passage.job_id:
                self._flow.send(self._flow.polls, passage)
            elif self._flow.is_stopping:
                self._flow.drop(passage)
            else:
                self._flow.send(self._flow.submissions, passage)

    # -- ask -----------------------------------------------------------------------------

    async def _poll(self, passage: Passage) -> None:
        step = await self._requests.poll(passage)
        if isinstance(step, Again):
            self._flow.send(self._flow.polls, passage, step.delay_s)
            return
        if isinstance(step, HeldBack):
            self._flow.hold_back(self._flow.polls, passage, step.delay_s)
            return
        if isinstance(step, Done):
            self._admission.release(passage)
            await self._ledger.completed(passage.chunk, passage.outputs)
            self._flow.send(self._flow.fetches, passage)
        else:
            await self._no_answer(passage, step)

    async def _fetch(self, passage: Passage) -> None:
        step = await self._brought_home(passage)
        if isinstance(step, Again):
            self._flow.send(self._flow.fetches, passage, step.delay_s)
        elif isinstance(step, HeldBack):
            self._flow.hold_back(self._flow.fetches, passage, step.delay_s)
        elif isinstance(step, Kept | Lost | Unreachable | Unreadable):
            await self._no_answer(passage, step)

    async def _brought_home(self, passage: Passage) -> _FetchStep:
        """Fetch an output, check it and deliver it.

        Several are held at a time, but of those that are large only one: four of the largest
        that are taken would be gigabytes.
        """
        step: _FetchStep
        fetched: Fetched | None = None
        if not passage.is_large:
            step = await self._requests.fetch(passage)
            if isinstance(step, Fetched):
                fetched = step
                passage.is_large = fetched.likely_bytes > LARGE_BODY_BYTES
                if not passage.is_large:
                    step = await self._checked(passage, fetched)
        if passage.is_large:
            # Taken before a place at hand, never after it: whoever has it waits for one.
            async with self._alone:
                step = fetched or await self._requests.fetch(passage)
                if isinstance(step, Fetched):
                    step = await self._checked(passage, step)
        return step

    async def _checked(self, passage: Passage, fetched: Fetched) -> _FetchStep:
        async with self._at_hand:
            step = await self._requests.check(passage, fetched)
            if isinstance(step, Answered):
                await self._answered(passage, step)
        return step

    async def _answered(self, passage: Passage, step: Answered) -> None:
        chunk = passage.chunk
        if step.checked.missing < len(chunk.rows):
            self._breaker.note_answered()
            self._flow.confirm(Proof.ANSWERED)
        # An output without any of the answers; of rows that are always left out, that is no news.
        elif self._is_telling(chunk) and self._breaker.note_failed_job():
            said = f"the output of job {passage.job_id} holds none of its locations"
            self._flow.stop(_charged_for_nothing(JobFailedError(said, job_id=passage.job_id)))
        await self._flow.deliver(passage, step.checked)

    def _is_telling(self, chunk: Chunk) -> bool:
        """Whether an empty answer to all of a chunk says something of the API."""
        is_first_time = not any(earlier.times_asked for earlier in chunk.earlier)
        return not self._breaker.any_answered or (is_first_time and len(chunk.rows) > 1)

    async def _no_answer(
        self, passage: Passage, step: Kept | Lost | Unreachable | Unreadable
    ) -> None:
        if isinstance(step, Unreachable):
            self._flow.leave(passage, step.error)
        elif isinstance(step, Kept):
            self._keep(passage, step.error)
        elif isinstance(step, Unreadable):
            self._admission.release(passage)
            await self._unreadable(passage, step)
        else:
            if step.has_timed_out:  # it may be at work all the same
                self._admission.abandon(passage)
            else:
                self._admission.release(passage)
            await self._job_lost(passage, step)

    def _keep(self, passage: Passage, error: PingDataError) -> None:
        """Leave a job that is paid for, and whose answer cannot be had now: none is sent for it.

        It was asked about for as long as anything is, so its slot is not kept any longer.
        """
        self._admission.release(passage)
        self._kept_jobs += 1
        self._kept_locations += len(passage.chunk.rows)
        self._first_kept = self._first_kept or (passage.job_id, error)
        self._announce(notices.kept(passage, str(error)))
        # A token that may not see the jobs of another one says nothing of its own.
        is_of_other = passage.is_taken_up and isinstance(error, AccessDeniedError)
        if not is_of_other and self._breaker.note_lost_chunk():
            self._flow.stop(error)
        self._flow.drop(passage)

    async def _unreadable(self, passage: Passage, step: Unreadable) -> None:
        """A complete job whose output can never be read: its rows fail, none is sent for it.

        Where nothing shows that others can be read, the run stops instead, and the job is kept,
        to be tried once more by another run.
        """
        said = step.error
        where = await self._ledger.unreadable(passage.chunk, step.bodies)
        said += f"; what came is kept in {where}" if where else ""
        error = JobFailedError(said, job_id=passage.job_id)
        failure = Failure(Reason.UNREADABLE, said)
        self._announce(notices.abandoned(passage, said, will_resubmit=False))
        must_stop = not self._flow.is_stopping and self._breaker.note_failed_job()
        if must_stop:
            self._flow.stop(error)
        if passage.was_unreadable:
            self._flow.fail(passage, failure)
        elif self._flow.is_stopping:
            self._flow.drop(passage)
        else:
            self._flow.suspect(passage, failure, Proof.ANSWERED, error)

    async def _job_lost(self, passage: Passage, lost: Lost) -> None:
        """A paid job gives no answer: submit its chunk again, whole or in halves."""
        self._flow.jobs_in_flight -= 1
        await self._ledger.abandoned(passage.chunk, lost.error)
        attempts_left = self._note_lost_job(passage, lost)
        must_stop = not lost.is_forgotten and self._breaker.note_failed_job()
        can_split = not lost.is_forgotten and len(passage.chunk.rows) > 1
        goes_on = not self._flow.is_stopping and not must_stop and (attempts_left or can_split)
        self._announce(notices.abandoned(passage, lost.error, will_resubmit=goes_on))
        error = lost.as_error(passage.job_id)
        passage.begin_again()
        if goes_on and attempts_left:
            jobs = passage.failed_jobs + passage.lost_jobs
            delay_s = self._policy.delay_s(jobs, None, self._rng)
            self._admission.put(passage, clock.now() + delay_s)
        elif goes_on:
            await self._submitter.split(passage, 2, lost.error, have_failed=True)
        elif self._flow.is_stopping:
            self._flow.drop(passage)
        elif must_stop or (not passage.is_of_failed and self._breaker.note_lost_chunk()):
            self._flow.stop(_charged_for_nothing(error))
            self._flow.drop(passage)
        else:
            failure = Failure(Reason.JOB_FAILED, lost.error)
            self._flow.suspect(passage, failure, Proof.ANSWERED, error)

    def _note_lost_job(self, passage: Passage, lost: Lost) -> bool:
        """Count it; says whether its chunk may be submitted as it is once more."""
        if lost.is_forgotten:
            passage.lost_jobs += 1
            return passage.lost_jobs < self._policy.forgotten_attempts
        passage.failed_jobs += 1
        # Halves of what failed are only there to find the row at fault.
        is_search = passage.is_of_failed and len(passage.chunk.rows) > 1
        return passage.failed_jobs < (1 if is_search else self._policy.job_attempts)


def _charged_for_nothing(error: JobFailedError) -> JobFailedError:
    return type(error)(
        f"jobs are charged and give nothing, one after the other, so no more are sent: {error}",
        job_id=error.job_id,
    )
