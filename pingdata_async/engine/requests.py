"""Requests: one request about a chunk, and its outcome; RequestPacer: when it is sent.

Nothing here moves a chunk: each method of `Requests` sends a request and returns its outcome.
`RequestPacer` tells the limiters what responses say of limits. A pause that a host asks for holds
for that host; only responses of the API change how many jobs are in flight.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from pingdata_async.api.config import Connection, Origin
from pingdata_async.api.wire import saying_when
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter, RateLimiterClosedError
from pingdata_async.engine.flow_control.retry import (
    GiveUp,
    Health,
    JobLimitDetector,
    Verdict,
    closes_its_kind,
    judge_read,
    judge_submission,
    refuses_access,
    retry_after_s,
    shows_overload,
)
from pingdata_async.engine.task import (
    Abort,
    Accepted,
    ChunkTask,
    Deferred,
    Downloaded,
    InDoubt,
    JobDone,
    JobLost,
    OutputPostponed,
    Rejected,
    RetryLater,
    Unreachable,
    Unreadable,
    json_outputs,
    retried,
)
from pingdata_async.events import (
    JobOverdue,
    JobPolled,
    JobStalled,
    PauseAsked,
    RequestSent,
    UnexpectedAnswer,
)
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    DecodeError,
    NotFoundError,
    OutputUnavailableError,
    PauseTooLongError,
    PingDataError,
    RateLimitError,
    TransportError,
)
from pingdata_async.locations.chunk import Chunk, encode_body
from pingdata_async.models import JobPhase, JobStatus, RequestKind
from pingdata_async.results.validation import ValidatedOutput, validate_output
from pingdata_async.util.encoding import EncodedBody, too_large
from pingdata_async.util.loop import SingleThreadExecutor, loop_time
from pingdata_async.util.text import one_line

LARGE_BODY_BYTES = 32 * 1024 * 1024  # larger outputs, compressed or not, are held one at a time
CHECK_IN_THREAD_FROM_BYTES = 64 * 1024
ASK_AGAIN_S = 5.0  # the longest wait between polls of an unknown job: it holds a slot
REFETCHES = 2  # of an output from which rows are missing
SAME_TWICE = 2  # an output that is as useless the second time will be so for ever
MAX_MESSAGE_CHARACTERS = 300  # of a failed job's: it stands in each of its rows
TOO_LARGE_ADVICE = "; where that is right, allow for more: --max-answer-mb, or `max_body_bytes`"
NOT_FOUND = 404
JITTER = 0.1  # of a poll interval, so that jobs submitted together drift apart
LONG_PAUSE_S = 10.0  # worth an event
SHUT_OUT_S = 1.0  # until it is worth looking again whether jobs may be polled

NoteIntent = Callable[[], Awaitable[bool]]
"""Called right before a request is sent; returns whether it still may be."""


class Requests:
    """Sends the requests of one run."""

    def __init__(self, context: EngineContext) -> None:
        self._api = context.api
        self._sources = context.sources
        self._with_results = not context.store.is_durable
        self._options = context.options
        self._rate_limiter = context.rate_limiter
        self._concurrency_limiter = context.job_slots.limiter
        self._planner = context.poll_planner
        self._policy = context.policy
        self._emit = context.emit
        self._rng = context.rng
        self._pacer = RequestPacer(context)

    def begin(self, inflater: SingleThreadExecutor, checker: SingleThreadExecutor) -> None:
        """Begin the run now; the threads inflate outputs and check them."""
        self._inflater, self._checker = inflater, checker
        self._health = Health(self._policy)

    async def submit(
        self, task: ChunkTask, note_intent: NoteIntent
    ) -> Accepted | RetryLater | Deferred | Rejected | InDoubt | Abort:
        """Submit a chunk. Cancelled after `note_intent`, it may have made a job.

        Args:
            task: The chunk.
            note_intent: Awaited right before it is sent, with a connection at hand. Returns
                whether it still may be sent.
        """
        body = encode_body(task.chunk, self._options)
        pacer = StepPacer(self._pacer, task, note_intent)
        try:
            job_id = await self._api.submit_body(body, pacer=pacer)
        except RateLimiterClosedError as closed:
            return Deferred(closed.opens_in_s)
        except PauseTooLongError as error:
            return Abort(error, api_unreachable=self._is_closed_for_long(RequestKind.POLL))
        except PingDataError as error:
            return self._submission_failed(task, error)
        self._succeeded(task, RequestKind.SUBMIT)
        return Accepted(job_id)

    def _submission_failed(
        self, task: ChunkTask, error: PingDataError
    ) -> RetryLater | Rejected | InDoubt | Abort:
        self._note_answer(error)
        verdict = judge_submission(error)
        if self._is_final(verdict):
            return Abort(saying_when(error))
        if verdict is Verdict.REJECTED:
            return Rejected(error)
        give_up = self._note_failure(task, RequestKind.SUBMIT, error)
        if verdict is Verdict.IN_DOUBT:
            return InDoubt(
                error,
                is_pause_too_long=self._is_too_long(error),
                has_lasted=give_up is GiveUp.RUN,
            )
        is_refused = verdict is Verdict.NO_ACCESS and give_up is GiveUp.CHUNK
        if give_up is GiveUp.RUN or is_refused:
            return Abort(
                saying_when(error), api_unreachable=self._is_closed_for_long(RequestKind.POLL)
            )
        # While other submissions pass it is retried: it was not refused for its content.
        return self._again(task, RequestKind.SUBMIT, error)

    def next_poll_in_s(self, task: ChunkTask) -> float:
        """Seconds until the next poll of a job."""
        interval_s = self._planner.next_poll_in_s(
            task.present_job,
            loop_time(),
            poll_cost_s=self._rate_limiter.poll_cost_s(self._concurrency_limiter.in_flight),
        )
        return interval_s * self._rng.uniform(1.0, 1.0 + JITTER)

    async def poll(
        self, task: ChunkTask
    ) -> RetryLater | Deferred | JobDone | OutputPostponed | JobLost | Unreachable | Unreadable:
        """Poll a chunk's job.

        Raises:
            PingDataError: When no poll can succeed any more.
        """
        pacer = StepPacer(self._pacer, task)
        try:
            status = await self._api.status(task.job_id, pacer=pacer)
        except RateLimiterClosedError as closed:
            return Deferred(closed.opens_in_s)
        except PingDataError as error:
            if task.outputs and judge_read(error) is Verdict.UNKNOWN_JOB:
                self._note_answer(error)
                return JobDone()  # an earlier run was told of its outputs, which may outlive it
            return self._read_failed(task, RequestKind.POLL, error)
        self._succeeded(task, RequestKind.POLL)
        task.no_longer_unknown()
        self._emit(
            JobPolled(
                chunk=task.chunk.index,
                job_id=task.job_id,
                status=status.status,
                num_requested=status.num_requested,
                num_completed=status.num_completed,
            )
        )
        self._heard(task.present_job, status)
        match status.phase:
            case JobPhase.COMPLETE:
                task.seems_failed, task.was_complete = False, True
                return self._complete(task, status)
            case JobPhase.FAILED if task.seems_failed:
                return _failed(task, status)
            case (
                JobPhase.FAILED
            ):  # another job would be paid for: poll once more before believing it
                task.seems_failed = True
                return RetryLater(self.next_poll_in_s(task))
            case JobPhase.BROKEN_OFF | JobPhase.UNKNOWN if task.was_complete:
                return self._complete(task, status)
            case JobPhase.BROKEN_OFF | JobPhase.UNKNOWN:
                return self._undocumented(task, status)
            case _:
                task.no_longer_contradictory()
                task.seems_failed = task.was_complete = False
                return self._going_on(task)

    def _going_on(self, task: ChunkTask) -> RetryLater | JobLost:
        idle_s = task.present_job.idle_s
        timeout_s = self._policy.job_timeout_s
        if timeout_s is not None and idle_s > timeout_s:
            return JobLost(
                f"job {task.job_id} made no progress for {idle_s:,.0f} s",
                is_expired=False,
                has_timed_out=True,
            )
        if idle_s >= task.warn_after_idle_s:
            task.warn_after_idle_s = 2.0 * idle_s
            self._emit(JobStalled(chunk=task.chunk.index, job_id=task.job_id, idle_s=idle_s))
        delay_s = self.next_poll_in_s(task)
        return RetryLater(delay_s if timeout_s is None else min(delay_s, timeout_s))

    def _heard(self, job: JobProgress, status: JobStatus) -> None:
        now = loop_time()
        had_ended = job.ended_at is not None
        job.hear(status, now)
        if not had_ended:
            self._concurrency_limiter.note_job(job, now)
            if status.is_finished and not status.is_failed:
                self._planner.learn(job)

    def _complete(self, task: ChunkTask, status: JobStatus) -> RetryLater | JobDone | Unreadable:
        task.outputs = json_outputs(status.outputs) or task.outputs
        if task.outputs:
            task.no_longer_contradictory()
            self._say_if_odd(task, status)
            return JobDone()
        said = f"job {task.job_id} is complete, but names no output"
        if self._contradictory_for_s(task, said) > self._policy.patience_s:
            return Unreadable(said, [])
        return RetryLater(self.next_poll_in_s(task))

    def _say_if_odd(self, task: ChunkTask, status: JobStatus) -> None:
        """Emit an event if the job's counts are not those that were sent."""
        sent = len(task.chunk.rows)
        says = []
        if status.num_requested not in {None, sent}:
            says.append(f"{status.num_requested} requested")
        if status.num_canceled:
            says.append(f"{status.num_canceled} cancelled")
        if says:
            self._say_odd(task, f"of {sent} locations sent, the job says {', '.join(says)}")

    def _say_odd(self, task: ChunkTask, said: str) -> None:
        self._emit(UnexpectedAnswer(chunk=task.chunk.index, job_id=task.job_id, message=said))

    def _undocumented(self, task: ChunkTask, status: JobStatus) -> RetryLater | JobLost:
        """Believe an undocumented end after a grace period; any other status may mean progress."""
        job = task.present_job
        if task.contradictory_since is not None and job.changed_at > task.contradictory_since:
            task.no_longer_contradictory()
        said = f"job {task.job_id} is {status.status}, without a result"
        late_s = self._contradictory_for_s(task, said)
        is_end = status.phase is JobPhase.BROKEN_OFF
        if late_s > (self._policy.patience_s if is_end else self._policy.give_up_after_s):
            return JobLost(f"{said}, for {late_s:,.0f} s", is_expired=False)
        return RetryLater(self.next_poll_in_s(task))

    def _contradictory_for_s(self, task: ChunkTask, said: str) -> float:
        """Seconds for which the state has been contradictory; emits `JobOverdue` after a while."""
        late_s = task.contradictory_for_s(loop_time())
        self._warn_if_overdue(task, late_s, said)
        return late_s

    def _warn_if_overdue(self, task: ChunkTask, late_s: float, said: str) -> None:
        if late_s > self._policy.forgotten_after_s and not task.overdue_emitted:
            task.overdue_emitted = True
            self._emit(
                JobOverdue(chunk=task.chunk.index, job_id=task.job_id, late_s=late_s, error=said)
            )

    async def fetch(
        self, task: ChunkTask
    ) -> RetryLater | Deferred | Downloaded | OutputPostponed | JobLost | Unreachable | Unreadable:
        """Fetch the output of a chunk's job; raises as `poll()` does.

        One that turns out to be large is not fetched, unless the task says so already.
        """
        try:
            return Downloaded(await self._fetch_all(task))
        except RateLimiterClosedError as closed:
            return Deferred(closed.opens_in_s)
        except DecodeError as error:
            if self._turns_out_large(task, error):
                return RetryLater(0.0)
            return self._unread(task, error, [])
        except PingDataError as error:
            return self._read_failed(task, RequestKind.FETCH, error)

    async def check(
        self, task: ChunkTask, fetched: Downloaded
    ) -> RetryLater | ValidatedOutput | OutputPostponed | JobLost | Unreachable | Unreadable:
        """Find the answers in what was fetched; raises as `poll()` does.

        In one that turns out to be large they are not looked for, as in `fetch()`.
        """
        bodies = fetched.bodies
        if not task.is_large:
            bodies = [body.at_most(LARGE_BODY_BYTES) for body in bodies]
        try:
            checked = await self._checked(task.chunk, bodies)
        except DecodeError as error:
            if self._turns_out_large(task, error):
                return RetryLater(0.0)
            return self._unread(task, error, fetched.bodies)
        self._succeeded(task, RequestKind.FETCH)
        missing, rows = checked.missing, len(task.chunk.rows)
        if (
            missing and task.refetches < REFETCHES and not task.was_answered
        ):  # that is free, and they may be late
            task.refetches += 1
            task.note_failure(loop_time())
            left_out = DecodeError(f"of {rows} sent, {missing} missing from the output")
            return self._again(task, RequestKind.FETCH, left_out)
        for oddity in checked.oddities:
            self._say_odd(task, f"in its output, {oddity}")
        return checked

    def _turns_out_large(self, task: ChunkTask, error: DecodeError) -> bool:
        was_large = task.is_large
        task.is_large = was_large or error.is_too_large
        return task.is_large and not was_large

    def _unread(
        self, task: ChunkTask, error: DecodeError, bodies: list[EncodedBody]
    ) -> RetryLater | OutputPostponed | JobLost | Unreachable | Unreadable:
        """Decide about an output that cannot be read: fetched again, it may be another one.

        One that is the very same each time will stay so, and another job would be paid for. One
        that is cut off, or a page that something else put in its place, may be right next time.
        """
        times = enough = 0
        if error.is_too_large:
            times, enough = task.note_unread(hash(str(error))), SAME_TWICE
        elif bodies and not error.is_page:
            content = tuple((body.encoding, body.raw) for body in bodies)
            times, enough = task.note_unread(hash(content)), self._policy.fetch_attempts
        advice = TOO_LARGE_ADVICE if error.is_too_large else ""
        lasting = Unreadable(f"the output of job {task.job_id}: {error}{advice}", bodies)
        if times and times >= enough:
            return lasting
        step = self._read_failed(task, RequestKind.FETCH, error)
        has_lasted = isinstance(step, OutputPostponed | Unreachable) and times >= SAME_TWICE
        return lasting if has_lasted else step

    async def _fetch_all(self, task: ChunkTask) -> list[EncodedBody]:
        bodies: list[EncodedBody] = []
        pacer = StepPacer(self._pacer, task)
        limit = None if task.is_large else LARGE_BODY_BYTES
        for output in task.outputs:
            body = await self._api.fetch_body(task.job_id, output, pacer=pacer, max_bytes=limit)
            bodies.append(body)
            most = body.max_bytes if limit is None else min(limit, body.max_bytes)
            if sum(len(body.raw) for body in bodies) > most:
                raise too_large("its outputs together", most)
        return bodies

    async def _checked(self, chunk: Chunk, bodies: list[EncodedBody]) -> ValidatedOutput:
        check = functools.partial(
            validate_output,
            chunk,
            bodies,
            self._sources,
            self._policy.location_retries,
            with_results=self._with_results,
        )
        if sum(body.likely_bytes for body in bodies) < CHECK_IN_THREAD_FROM_BYTES:
            return check(content_of=EncodedBody.content)
        inflater = self._inflater
        # The usual one is inflated while another is checked.
        ahead = inflater.submit(bodies[0].content) if len(bodies) == 1 else None

        def content_of(body: EncodedBody) -> bytes:
            return (ahead or inflater.submit(body.content)).result()

        return await self._checker.run(lambda: check(content_of=content_of))

    def _succeeded(self, task: ChunkTask, kind: RequestKind) -> None:
        self._health.note_success(kind, loop_time())
        task.failures = 0

    def _read_failed(
        self, task: ChunkTask, kind: RequestKind, error: PingDataError
    ) -> RetryLater | OutputPostponed | JobLost | Unreachable:
        if isinstance(error, PauseTooLongError):
            return Unreachable(error)
        self._note_answer(error)
        verdict = judge_read(error)
        if self._is_final(verdict):
            raise error
        if verdict is Verdict.UNKNOWN_JOB:
            if task.was_complete:
                unknown_s = task.note_unknown(loop_time(), ASK_AGAIN_S)
                if unknown_s > self._policy.patience_s:
                    return OutputPostponed(_no_longer_known(task, error))
            elif self._is_forgotten(task):
                said = f"the API no longer has job {task.job_id}"
                return JobLost(said, is_expired=True)
            task.note_failure(loop_time())  # of this job alone: the API did answer
            return self._again(task, kind, error, ceiling_s=ASK_AGAIN_S)
        if isinstance(error, OutputUnavailableError) and error.job_status is not None:
            task.no_longer_unknown()
            status = error.job_status
            if status.is_failed and task.seems_failed:  # it has changed its mind
                return _failed(task, status)
            task.seems_failed = status.is_failed
            task.outputs = json_outputs(status.outputs) or task.outputs
        give_up = self._note_failure(task, kind, error)
        # A 403 may be about that one job, and so is the time that it names: others do not wait.
        is_of_job = isinstance(error, AccessDeniedError)
        if self._is_too_long(error):
            return (
                OutputPostponed(saying_when(error))
                if is_of_job
                else Unreachable(saying_when(error))
            )
        self._say_if_overdue(task, kind, error)
        # Any other pause that the API asks for is no fault of the job.
        is_pause = isinstance(error, RateLimitError) or (retry_after_s(error) and not is_of_job)
        if give_up is GiveUp.RUN and (is_pause or verdict is Verdict.NO_ACCESS):
            raise saying_when(error)  # or each job would have to wait for one more to learn of it
        # Whether the token is refused, submissions will show.
        if give_up is GiveUp.RUN and not is_of_job:
            return Unreachable(error)
        if give_up is not GiveUp.NOTHING and not is_pause:
            self._pacer.is_shut_out = False  # this job is polled no more, and others may pass
            return OutputPostponed(error)
        return self._again(task, kind, error)

    def _is_final(self, verdict: Verdict) -> bool:
        """Whether retries are of no use. A token that was right may soon be right again."""
        if verdict is Verdict.NO_ACCESS:
            return not self._health.has_let_in
        return verdict is Verdict.STOP

    def _say_if_overdue(self, task: ChunkTask, kind: RequestKind, error: PingDataError) -> None:
        if kind == RequestKind.FETCH:
            said = f"the output of job {task.job_id} cannot be fetched: {error}"
            self._warn_if_overdue(task, loop_time() - task.failing_since, said)

    def _is_too_long(self, error: PingDataError) -> bool:
        return (retry_after_s(error) or 0.0) > self._policy.max_wait_s

    def _is_closed_for_long(self, kind: RequestKind) -> bool:
        return self._rate_limiter.asked_in_s(kind) > self._policy.max_wait_s

    def _note_answer(self, error: PingDataError) -> None:
        if isinstance(error, APIStatusError):
            self._health.note_answer()

    def _is_forgotten(self, task: ChunkTask) -> bool:
        unknown_s = task.note_unknown(loop_time(), ASK_AGAIN_S)
        said = f"the API does not know job {task.job_id}"
        self._warn_if_overdue(task, unknown_s, said)
        if unknown_s > self._policy.patience_s:
            return True
        # Sooner, where it is this job and not the API: others are answered all the while.
        since = loop_time() - unknown_s + self._policy.forgotten_after_s
        return unknown_s > self._policy.forgotten_after_s and self._health.answered_since(
            RequestKind.POLL, since
        )

    def _note_failure(self, task: ChunkTask, kind: RequestKind, error: PingDataError) -> GiveUp:
        now = loop_time()
        task.note_failure(now, is_refusal=refuses_access(error))
        return self._health.judge(
            kind,
            task.failing_since,
            retry_after_s(error),
            now,
            refused_since=task.refused_since,
        )

    def _again(
        self,
        task: ChunkTask,
        kind: RequestKind,
        error: PingDataError,
        ceiling_s: float | None = None,
    ) -> RetryLater:
        delay_s = self._policy.delay_s(task.failures, retry_after_s(error), self._rng)
        if ceiling_s is not None and not retry_after_s(error):
            delay_s = min(delay_s, ceiling_s)
        delay_s = max(delay_s, self._rate_limiter.opens_in_s(kind))
        self._emit(retried(kind, task, error, delay_s, self._health.gives_up_in_s(kind)))
        return RetryLater(delay_s)


def _no_longer_known(task: ChunkTask, error: PingDataError) -> NotFoundError:
    return NotFoundError(
        f"the API called job {task.job_id} complete, and no longer knows it ({error}); no other "
        "one is sent and charged for it, unless by the `retry` of a run",
        status_code=NOT_FOUND,
    )


def _failed(task: ChunkTask, status: JobStatus) -> JobLost:
    said = one_line(status.message)[:MAX_MESSAGE_CHARACTERS]
    why = f": {said}" if said else " without saying why"
    return JobLost(f"job {task.job_id} failed{why}", is_expired=False)


class RequestPacer:
    """Paces the requests of one run."""

    def __init__(self, context: EngineContext) -> None:
        self.rate_limiter = context.rate_limiter
        self.policy = context.policy
        self.emit = context.emit
        self._concurrency_limiter = context.job_slots.limiter
        self._rng = context.rng
        self._submissions = JobLimitDetector()
        self._said_until = -math.inf
        self.is_shut_out = False  # the last poll or fetch got a 401: no job is paid for meanwhile

    def on_success(self, kind: RequestKind, origin: Origin | None) -> None:
        """Note a request that succeeded."""
        self.rate_limiter.at(origin).on_success(kind)
        if origin is None:
            self._note_access(kind, refused=False)
            self._concurrency_limiter.on_success(kind, loop_time())
            self._submissions.on_success(kind)

    def update_limits(self, kind: RequestKind, origin: Origin | None, error: PingDataError) -> None:
        """Let an error change when the next requests are sent, and how many jobs are in flight."""
        now = loop_time()
        rate_limiter = self.rate_limiter.at(origin)
        asked_s = retry_after_s(error) or 0.0

        delay_s = functools.partial(self.policy.delay_s, retry_after_s=asked_s, rng=self._rng)

        if isinstance(error, RateLimitError):
            is_too_many = origin is None and self._submissions.note_refused(kind, now)
            if is_too_many:
                self._concurrency_limiter.on_job_limit(now)
            rate_limiter.on_rate_limit(delay_s, asked_s=asked_s, is_about_rate=not is_too_many)
            if origin is None:
                self._submissions.closed_until = now + rate_limiter.opens_in_s(kind)
            self._say_if_long(kind, rate_limiter)
        elif closes_its_kind(error) or isinstance(error, AuthenticationError):
            rate_limiter.note_unavailable(kind, delay_s, asked_s=asked_s)
            self._say_if_long(kind, rate_limiter)
        elif not isinstance(error, TransportError):
            rate_limiter.on_success(kind)
        if origin is None and not isinstance(error, TransportError):
            # A 403 may be about that one job; a submission, refused as well, would cost nothing.
            self._note_access(kind, refused=isinstance(error, AuthenticationError))
        if origin is None and shows_overload(error):
            self._concurrency_limiter.on_error(kind, now)

    def _note_access(self, kind: RequestKind, *, refused: bool) -> None:
        if kind != RequestKind.SUBMIT:
            self.is_shut_out = refused

    def _say_if_long(self, kind: RequestKind, rate_limiter: RateLimiter) -> None:
        """Emit an event for a long pause, once for each."""
        now = loop_time()
        pause_s = rate_limiter.opens_in_s(kind)
        is_waited_for = rate_limiter.asked_in_s(kind) <= self.policy.max_wait_s
        if pause_s >= LONG_PAUSE_S and is_waited_for and now >= self._said_until:
            self._said_until = now + pause_s
            self.emit(PauseAsked(kind=kind, pause_s=pause_s))


class StepPacer:
    """Paces the requests of one call to the API: one, or several for a download.

    The first of them does not wait for a pause to end: it would keep a worker from others that
    may go. Those after it do, or what was fetched so far would be lost.

    Args:
        run: The pacer of the run.
        task: The chunk.
        note_intent: Awaited right before the first request leaves.
    """

    def __init__(
        self, run: RequestPacer, task: ChunkTask, note_intent: NoteIntent | None = None
    ) -> None:
        self._run = run
        self._task = task
        self._note_intent = note_intent
        self._has_begun = False

    @contextlib.asynccontextmanager
    async def sending(
        self, kind: RequestKind, origin: Origin | None, connection: Connection
    ) -> AsyncIterator[None]:
        """See `Pacer`.

        Raises:
            RateLimiterClosedError: When it is not to be sent now.
            PauseTooLongError: When it is not to be sent for too long.
        """
        rate_limiter = self._run.rate_limiter.at(origin)
        asked_at = loop_time()
        if not self._may_be_paid_for(kind):
            raise RateLimiterClosedError(SHUT_OUT_S)
        async with rate_limiter.let_out(
            kind,
            connection,
            max_wait_s=self._run.policy.max_wait_s,
            waits_for_pauses=self._has_begun,
        ):
            self._task.exclude(loop_time() - asked_at)
            if self._note_intent is not None:
                may_be_sent = await self._note_intent()
                # While that was written down, the API may have asked for a pause.
                if not may_be_sent or not rate_limiter.is_open(kind):
                    raise RateLimiterClosedError(rate_limiter.opens_in_s(kind))
                if not self._may_be_paid_for(kind):
                    raise RateLimiterClosedError(SHUT_OUT_S)
            self._has_begun = True
            task = self._task
            self._run.emit(
                RequestSent(
                    kind=kind,
                    chunk=task.chunk.index,
                    job_id=task.job_id or None,
                    attempt=task.attempt,
                )
            )
            try:
                yield
            except PingDataError as error:
                self._run.update_limits(kind, origin, error)
                raise
            self._run.on_success(kind, origin)

    def _may_be_paid_for(self, kind: RequestKind) -> bool:
        """Whether the job that a submission makes could be polled, as far as is known."""
        return kind != RequestKind.SUBMIT or not self._run.is_shut_out
