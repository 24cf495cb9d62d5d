"""Submit -> poll -> fetch for every chunk, in one event loop.

A chunk on its way is a small record in one of four queues (admit, submit, poll, fetch),
each served by a few workers; nothing has a task of its own, so thousands of jobs cost
little. Whatever has to wait, for a poll to be due or a back-off to pass, waits in its queue
and holds no worker. Only what will be submitted waits for a job slot: polling and fetching
always go on.

Two things are counted. A job slot, shared with everybody on the client, is held from before
the submission until the job has ended, so nobody who is slow to take results keeps others
from submitting. Room, the run's own, is held from before a chunk is read until it is
delivered, so a sink that is slow holds back reading.

Time is the event loop's: on a loop with a virtual clock the runner runs in simulated time.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

from pingdata_async.bulk import notices
from pingdata_async.bulk.checking import Failure, check_body, fail_chunk, merge_bodies, tally
from pingdata_async.bulk.chunking import Chunk, encode_body
from pingdata_async.bulk.due_queue import DueQueue
from pingdata_async.bulk.pacing import SlotShare
from pingdata_async.bulk.passage import Passage, json_outputs
from pingdata_async.bulk.polling import PollSchedule
from pingdata_async.bulk.protocols import BulkAPI, ChunkSink, FinishedChunk
from pingdata_async.bulk.retrying import (
    GiveUp,
    Health,
    RetryPolicy,
    Verdict,
    judge_question,
    judge_submission,
)
from pingdata_async.events import Event, RunStopping, UnexpectedAnswer
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    DecodeError,
    JobFailedError,
    PingDataError,
    RateLimitError,
    SubmissionInDoubtError,
    UnexpectedRedirectError,
)
from pingdata_async.models import NO_DATA, EnhancedLocation, JobStatus, Reason

SUBMIT_WORKERS = 8
POLL_WORKERS = 8
FETCH_WORKERS = 4  # each holds a whole output in memory while it is checked
CHECK_IN_THREAD_FROM_BYTES = 64 * 1024
REFETCHES = 2  # of an output that leaves out rows
ALARM = "the first chunks were charged for nothing, so no more are sent"
JITTER = 0.1  # of a poll interval, so that jobs submitted together drift apart


class BulkRunner:
    """Brings every chunk of an iterator through the API and to a sink.

    Args:
        api: The endpoints.
        sink: Where finished chunks go.
        slots: The job slots it may use.
        sources: The run's sources.
        options: The rest of each job's body, as `encode_options()` makes it.
        schedule: When jobs are asked about.
        policy: How often things are tried.
        announce: Told of everything that happens.
        rng: The source of jitter.
    """

    def __init__(
        self,
        *,
        api: BulkAPI,
        sink: ChunkSink,
        slots: SlotShare,
        sources: tuple[str, ...],
        options: bytes,
        schedule: PollSchedule,
        policy: RetryPolicy,
        announce: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self._api = api
        self._sink = sink
        self._slots = slots
        self._sources = sources
        self._options = options
        self._schedule = schedule
        self._policy = policy
        self._announce = announce
        self._rng = rng
        self._admissions: DueQueue[Passage] = DueQueue()
        self._submissions: DueQueue[Passage] = DueQueue()
        self._polls: DueQueue[Passage] = DueQueue()
        self._fetches: DueQueue[Passage] = DueQueue()
        self._lost: DueQueue[tuple[Passage, Failure | None]] = DueQueue()
        self._room = anyio.Semaphore(slots.max_jobs)
        self._open = 0  # chunks taken from the input and not delivered
        self._jobs_in_flight = 0  # accepted, and neither delivered nor lost
        self._input_ended = False
        self._any_admitted = False
        self._any_job = False
        self._first_outcome = anyio.Event()
        self._hold_until = -math.inf
        self._slots_held = 0
        self._fatal: Exception | None = None
        self._scope = anyio.CancelScope()
        self._feed_scope = anyio.CancelScope()

    async def run(self, chunks: AsyncIterator[Chunk]) -> None:
        """Process every chunk; returns when the last one is with the sink.

        Where no further job can be submitted, those in flight are seen to their end first, as
        they are paid for. Cancelled, or where the API cannot be asked any more, they are
        abandoned (it has no way to cancel them, and charges them).

        Raises:
            PingDataError: When no further request can succeed.
            Exception: What `chunks` or the sink raised, as it was.
        """
        self._health = Health(self._policy, anyio.current_time())
        try:
            await self._run(chunks)
        finally:
            while self._slots_held:  # of jobs that are abandoned
                self._slots_held -= 1
                self._slots.release()
        if self._fatal is not None:
            raise self._fatal

    async def _run(self, chunks: AsyncIterator[Chunk]) -> None:
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._guard, self._feed, chunks)
                # One each: users of slots take turns, and sinks are told one by one.
                tasks.start_soon(self._guard, self._serve, self._admissions, self._admit)
                tasks.start_soon(self._guard, self._serve, self._lost, self._deliver_lost)
                for queue, act, workers in (
                    (self._submissions, self._submit, SUBMIT_WORKERS),
                    (self._polls, self._poll, POLL_WORKERS),
                    (self._fetches, self._fetch, FETCH_WORKERS),
                ):
                    for _ in range(min(workers, self._slots.max_jobs)):
                        tasks.start_soon(self._guard, self._serve, queue, self._held(act))

    async def _guard(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Let one worker's error end the run as itself, not wrapped in a group."""
        try:
            await work(*args)
        except Exception as error:  # noqa: BLE001 - raised again by run()
            self._fatal = self._fatal or error
            self._scope.cancel()

    async def _feed(self, chunks: AsyncIterator[Chunk]) -> None:
        """Take a chunk from the input whenever there is room for one."""
        with self._feed_scope:
            while True:
                await self._room.acquire()
                try:
                    chunk = await anext(chunks, None)
                except Exception as error:  # noqa: BLE001 - raised again by run()
                    self._stop_submitting(error)
                    return
                if chunk is None:
                    break
                self._open += 1
                if chunk.rows:
                    self._admissions.put(Passage(chunk), anyio.current_time())
                else:  # nothing in it can be sent: no job
                    self._lost.put((Passage(chunk), None), anyio.current_time())
        self._input_ended = True
        self._end_if_done()

    async def _serve(self, queue: DueQueue[Any], act: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await act(await queue.get())

    def _held(
        self, act: Callable[[Passage], Awaitable[None]]
    ) -> Callable[[Passage], Awaitable[None]]:
        """The same, but not before the time that a 429 named, whichever request it answered."""

        async def act_when_allowed(passage: Passage) -> None:
            while anyio.current_time() < self._hold_until:  # noqa: ASYNC110 - it may grow meanwhile
                await anyio.sleep_until(self._hold_until)
            await act(passage)

        return act_when_allowed

    def _stop_submitting(self, error: Exception) -> None:
        """Submit nothing more, and end when the jobs in flight have ended."""
        is_first, self._fatal = self._fatal is None, self._fatal or error
        self._input_ended = True
        self._feed_scope.cancel("nothing more can be submitted")
        self._first_outcome.set()
        for passage in self._admissions.clear() + self._submissions.clear():
            self._drop(passage)
        if is_first:
            self._announce(RunStopping(error=str(error), jobs_in_flight=self._jobs_in_flight))
        self._end_if_done()

    def _drop(self, passage: Passage) -> None:
        """Leave a chunk that will not be submitted."""
        self._release_slot(passage)
        self._open -= 1
        self._end_if_done()

    # -- submit --------------------------------------------------------------------------

    async def _admit(self, passage: Passage) -> None:
        # The first chunk goes alone: if the request itself is at fault, one refusal tells.
        if self._any_admitted:
            await self._first_outcome.wait()
        self._any_admitted = True
        await self._slots.acquire()
        self._slots_held += 1
        passage.holds_slot = True
        if self._fatal is None:
            self._submissions.put(passage, anyio.current_time())
        else:
            self._drop(passage)

    async def _submit(self, passage: Passage) -> None:
        if self._fatal is not None:
            self._drop(passage)
            return
        chunk = passage.chunk
        self._announce(notices.sent("submit", passage))
        try:
            job_id = await self._api.submit_body(encode_body(chunk, self._options))
        except PingDataError as error:
            self._submission_failed(passage, error)
            return
        except BaseException:
            self._note_doubt(passage, "it was under way when the run was ended")
            raise
        charged_before = passage.charged_before
        self._succeeded(passage, "submit")
        self._any_job = True
        self._first_outcome.set()
        passage.job_id = job_id
        passage.accepted_at = anyio.current_time()
        passage.jobs += 1
        self._jobs_in_flight += 1
        self._announce(notices.submitted(passage, charged_before=charged_before))
        self._poll_later(passage)

    def _submission_failed(self, passage: Passage, error: PingDataError) -> None:
        verdict = judge_submission(error)
        if verdict is Verdict.IN_DOUBT:
            self._note_doubt(passage, str(error))
        # Refused before any job was accepted: the request itself is at fault, not its rows.
        if verdict is Verdict.STOP or (verdict is Verdict.REJECTED and not self._any_job):
            self._stop_submitting(error)
        if self._fatal is not None:
            self._drop(passage)
        elif verdict is Verdict.REJECTED:
            self._fail(passage, Failure(Reason.REJECTED, str(error)))
        elif passage.in_doubt > self._policy.in_doubt_attempts:
            self._fail(passage, Failure(Reason.IN_DOUBT, str(error)))
            if self._health.note_chunk_lost():
                self._stop_submitting(SubmissionInDoubtError(f"{ALARM}: {error}"))
        else:
            give_up = self._retry(passage, "submit", self._submissions, error)
            if give_up is GiveUp.RUN:
                self._stop_submitting(error)
                self._drop(passage)
            elif give_up is GiveUp.CHUNK:
                self._fail(passage, Failure(Reason.REJECTED, str(error)))

    def _note_doubt(self, passage: Passage, error: str) -> None:
        charged_before = passage.charged_before
        passage.in_doubt += 1
        self._announce(notices.in_doubt(passage, error, charged_before=charged_before))

    # -- poll ----------------------------------------------------------------------------

    def _poll_later(self, passage: Passage) -> None:
        now = anyio.current_time()
        interval_s = self._schedule.next_interval_s(now - passage.accepted_at)
        self._polls.put(passage, now + interval_s * self._rng.uniform(1.0, 1.0 + JITTER))

    async def _poll(self, passage: Passage) -> None:
        self._announce(notices.sent("poll", passage))
        try:
            status = await self._api.status(passage.job_id)
        except PingDataError as error:
            self._question_failed(passage, "poll", self._polls, error)
            return
        self._succeeded(passage, "poll")
        self._announce(notices.polled(passage, status))
        if not status.is_finished:
            passage.late_since = None
            self._poll_later(passage)
            return
        self._release_slot(passage)
        if status.is_failed:
            said = status.message or "without a message"
            self._abandon(passage, f"job {passage.job_id} failed: {said}")
        else:
            self._finished(passage, status)

    def _finished(self, passage: Passage, status: JobStatus) -> None:
        passage.outputs = json_outputs(status.outputs)
        if passage.outputs:
            passage.late_since = None
            self._fetches.put(passage, anyio.current_time())
            return
        if self._is_too_late(passage):
            self._abandon(passage, f"job {passage.job_id} is complete, but names no output")
        else:
            self._poll_later(passage)

    def _is_too_late(self, passage: Passage) -> bool:
        """Whether the API has had time enough to show what it must have."""
        now = anyio.current_time()
        if passage.late_since is None:
            passage.late_since = now
        return now - passage.late_since > self._policy.late_after_s

    # -- fetch ---------------------------------------------------------------------------

    async def _fetch(self, passage: Passage) -> None:
        self._announce(notices.sent("fetch", passage))
        chunk = passage.chunk
        try:
            bodies = [
                await self._api.fetch_output(passage.job_id, output) for output in passage.outputs
            ]
            body, results = await self._checked(chunk, bodies)
            self._refuse_incomplete(passage, results)
        except PingDataError as error:
            if passage.attempt >= self._policy.fetch_attempts and isinstance(error, DecodeError):
                self._abandon(passage, f"the output of job {passage.job_id}: {error}")
                return
            self._question_failed(passage, "fetch", self._fetches, error)
            return
        self._succeeded(passage, "fetch")
        self._health.note_chunk_answered()
        self._report_oddities(passage, results)
        await self._deliver(passage, results, body=body)

    def _refuse_incomplete(self, passage: Passage, results: list[EnhancedLocation]) -> None:
        """Have an output that leaves out rows fetched again: that is free, and it may be late."""
        missing = sum(
            result.reason is Reason.MISSING and result.data is NO_DATA for result in results
        )
        if missing and passage.refetches < REFETCHES:
            passage.refetches += 1
            raise DecodeError(f"{missing} of {len(results)} locations are missing from the output")

    async def _checked(
        self, chunk: Chunk, bodies: list[bytes]
    ) -> tuple[bytes, list[EnhancedLocation]]:
        def check() -> tuple[bytes, list[EnhancedLocation]]:
            body = merge_bodies(bodies)
            return body, check_body(chunk, body, self._sources)

        if sum(map(len, bodies)) < CHECK_IN_THREAD_FROM_BYTES:
            return check()
        return await anyio.to_thread.run_sync(check)

    def _report_oddities(self, passage: Passage, results: list[EnhancedLocation]) -> None:
        missing = sum(result.reason is Reason.MISSING for result in results)
        if missing:
            self._announce(
                UnexpectedAnswer(
                    chunk=passage.chunk.index,
                    job_id=passage.job_id,
                    message=f"{missing} of {len(results)} rows, or sources of them, are missing",
                )
            )

    # -- what all three share ------------------------------------------------------------

    def _succeeded(self, passage: Passage, kind: str) -> None:
        self._health.note_success(kind, anyio.current_time())
        passage.failures = 0

    def _question_failed(
        self, passage: Passage, kind: str, queue: DueQueue[Passage], error: PingDataError
    ) -> None:
        verdict = judge_question(error)
        if verdict is Verdict.STOP:
            raise error
        if verdict is Verdict.UNKNOWN_JOB and self._is_too_late(passage):
            self._abandon(passage, f"the API no longer has job {passage.job_id}: {error}")
            return
        give_up = self._retry(passage, kind, queue, error)
        if give_up is GiveUp.RUN:
            raise error
        if give_up is GiveUp.CHUNK:
            self._abandon(passage, f"job {passage.job_id} cannot be had: {error}")

    def _retry(
        self, passage: Passage, kind: str, queue: DueQueue[Passage], error: PingDataError
    ) -> GiveUp:
        """Put a failed request back into its queue, unless it has failed for too long."""
        now = anyio.current_time()
        retry_after_s = None
        if isinstance(error, APIStatusError):
            self._health.note_answer()
            retry_after_s = error.retry_after_s
        if not passage.failures:
            passage.failing_since = now
        passage.failures += 1
        is_refusal = isinstance(error, AccessDeniedError | UnexpectedRedirectError)
        give_up = self._health.judge(
            kind, passage.failing_since, retry_after_s, now, is_refusal=is_refusal
        )
        if give_up is not GiveUp.NOTHING:
            return give_up
        delay_s = self._policy.delay_s(passage.failures, retry_after_s, self._rng)
        if isinstance(error, RateLimitError):
            self._hold_until = max(self._hold_until, now + delay_s)
        self._announce(notices.retried(kind, passage, error, delay_s))
        queue.put(passage, now + delay_s)
        return give_up

    def _abandon(self, passage: Passage, error: str) -> None:
        """A job is lost: submit its chunk again, as often as the policy allows."""
        self._release_slot(passage)
        self._jobs_in_flight -= 1
        again = passage.jobs < self._policy.job_attempts and self._fatal is None
        self._announce(notices.abandoned(passage, error, will_resubmit=again))
        if again:
            delay_s = self._policy.delay_s(passage.jobs, None, self._rng)
            passage.begin_again()
            self._admissions.put(passage, anyio.current_time() + delay_s)
            return
        job_id = passage.job_id
        self._fail(passage, Failure(Reason.JOB_FAILED, error))
        if self._health.note_chunk_lost():
            self._stop_submitting(JobFailedError(f"{ALARM}: {error}", job_id=job_id))

    def _fail(self, passage: Passage, failure: Failure) -> None:
        """Leave a chunk without answers. It waits for the sink where nobody waits for it."""
        self._release_slot(passage)
        self._first_outcome.set()
        passage.job_id = ""  # no job answered
        self._lost.put((passage, failure), anyio.current_time())

    async def _deliver_lost(self, lost: tuple[Passage, Failure | None]) -> None:
        passage, failure = lost
        why = failure or Failure(Reason.INVALID_INPUT, "")
        await self._deliver(passage, fail_chunk(passage.chunk, why), failure=failure)

    async def _deliver(
        self,
        passage: Passage,
        results: list[EnhancedLocation],
        *,
        body: bytes | None = None,
        failure: Failure | None = None,
    ) -> None:
        counts = tally(results)
        await self._sink.deliver(FinishedChunk(passage.chunk, results, counts, body, failure))
        self._open -= 1
        self._jobs_in_flight -= bool(passage.job_id)
        self._room.release()
        self._announce(notices.finished(passage, counts))
        self._end_if_done()

    def _release_slot(self, passage: Passage) -> None:
        if passage.holds_slot:
            passage.holds_slot = False
            self._slots_held -= 1
            self._slots.release()

    def _end_if_done(self) -> None:
        if self._input_ended and not self._open:
            self._scope.cancel()
