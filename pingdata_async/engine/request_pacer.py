"""RequestPacer: when a run's requests are sent, and what their answers say of the API's limits.

What a host says of when to come back holds for that host. Only answers of the API itself change
how many jobs are in flight.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from pingdata_async.api.config import Connection, Origin
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter, RateLimiterClosedError
from pingdata_async.engine.flow_control.retry import (
    JobLimitDetector,
    closes_its_kind,
    retry_after_s,
    shows_overload,
)
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import PauseAsked, RequestSent
from pingdata_async.exceptions import (
    AuthenticationError,
    PingDataError,
    RateLimitError,
    TransportError,
)
from pingdata_async.util.loop import loop_time

LONG_PAUSE_S = 10.0  # worth an event
SHUT_OUT_S = 1.0  # until it is worth looking again whether jobs may be polled

NoteIntent = Callable[[], Awaitable[bool]]
"""Called right before a request is sent; returns whether it still may be."""


class RequestPacer:
    """Paces the requests of one run.

    Args:
        context: What the run works with.
    """

    def __init__(self, context: EngineContext) -> None:
        self.rate_limiter = context.rate_limiter
        self.policy = context.policy
        self.emit = context.emit
        self._slots = context.concurrency.slots
        self._rng = context.rng
        self._submissions = JobLimitDetector()
        self._said_until = -math.inf
        self.is_shut_out = False  # the last poll or fetch got a 401: no job is paid for meanwhile

    def on_success(self, kind: str, origin: Origin | None) -> None:
        """Note a request that succeeded."""
        self.rate_limiter.at(origin).on_success(kind)
        if origin is None:
            self._note_access(kind, refused=False)
            self._slots.on_success(kind, loop_time())
            self._submissions.on_success(kind)

    def update_limits(self, kind: str, origin: Origin | None, error: PingDataError) -> None:
        """Let an error change when the next requests are sent, and how many jobs are in flight."""
        now = loop_time()
        rate_limiter = self.rate_limiter.at(origin)
        asked_s = retry_after_s(error) or 0.0

        def delay_s(times: int) -> float:
            return self.policy.delay_s(times, asked_s, self._rng)

        if isinstance(error, RateLimitError):
            is_too_many = origin is None and self._submissions.note_refused(kind, now)
            if is_too_many:
                self._slots.on_job_limit(now)
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
            self._slots.on_error(kind, now)

    def _note_access(self, kind: str, *, refused: bool) -> None:
        if kind != "submit":
            self.is_shut_out = refused

    def _say_if_long(self, kind: str, rate_limiter: RateLimiter) -> None:
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
        note_intent: Awaited right before the first one is sent.
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
        self, kind: str, origin: Origin | None, connection: Connection
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
            self._task.leave_out(loop_time() - asked_at)
            if self._note_intent is not None:
                may_be_sent = await self._note_intent()
                # While that was written down, the API may have asked for a pause.
                if not may_be_sent or not rate_limiter.is_open(kind):
                    raise RateLimiterClosedError(rate_limiter.opens_in_s(kind))
                if not self._may_be_paid_for(kind):
                    raise RateLimiterClosedError(SHUT_OUT_S)
            self._has_begun = True
            self._run.emit(self._sent(kind))
            try:
                yield
            except PingDataError as error:
                self._run.update_limits(kind, origin, error)
                raise
            self._run.on_success(kind, origin)

    def _sent(self, kind: str) -> RequestSent:
        task = self._task
        return RequestSent(
            kind=kind,
            chunk=task.chunk.index,
            job_id=task.job_id or None,
            attempt=task.attempt,
        )

    def _may_be_paid_for(self, kind: str) -> bool:
        """Whether the job that a submission makes could be polled, as far as is known."""
        return kind != "submit" or not self._run.is_shut_out
