"""Paces the requests of one run: asks the gate before each, and heeds what each answer says.

What a host says of when to come back holds for that host. Only what the API itself says counts for
the number of jobs that it bears.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from pingdata_async.bulk import clock, notices
from pingdata_async.bulk.job_slots import JobSlots
from pingdata_async.bulk.passage import Passage
from pingdata_async.bulk.refused_submissions import SubmissionsRefused
from pingdata_async.bulk.request_gate import GateClosedError, RequestGate
from pingdata_async.bulk.retrying import (
    RetryPolicy,
    closes_its_kind,
    retry_after_s,
    shows_overload,
)
from pingdata_async.events import Event, PauseAsked
from pingdata_async.exceptions import (
    AuthenticationError,
    PingDataError,
    RateLimitError,
    TransportError,
)
from pingdata_async.pacer import Connection
from pingdata_async.urls import Origin

LONG_PAUSE_S = 10.0  # worth a word
SHUT_OUT_S = 1.0  # until it is worth looking again whether jobs may be asked about

NoteIntent = Callable[[], Awaitable[bool]]
"""Told that a request is about to be sent; returns whether it still may be."""


class RequestPacer:
    """Paces the requests of one run.

    Args:
        gate: Lets them out.
        slots: Told of what is seen of the API.
        policy: How long pauses may be.
        announce: Told of every request.
        rng: The source of jitter.
    """

    def __init__(
        self,
        *,
        gate: RequestGate,
        slots: JobSlots,
        policy: RetryPolicy,
        announce: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self.gate = gate
        self.policy = policy
        self.announce = announce
        self._slots = slots
        self._rng = rng
        self._submissions = SubmissionsRefused()
        self._said_until = -math.inf
        self.is_shut_out = False  # the last question got a 401: no job is paid for meanwhile

    def note_answered(self, kind: str, origin: Origin | None) -> None:
        """A request was answered well."""
        self.gate.at(origin).note_answered(kind)
        if origin is None:
            self._note_access(kind, refused=False)
            self._slots.note_answered(kind, clock.now())
            self._submissions.note_answered(kind)

    def heed(self, kind: str, origin: Origin | None, error: PingDataError) -> None:
        """Take to heart what an error says of when to send the next requests."""
        now = clock.now()
        gate = self.gate.at(origin)
        asked_s = retry_after_s(error) or 0.0

        def delay_s(times: int) -> float:
            return self.policy.delay_s(times, asked_s, self._rng)

        if isinstance(error, RateLimitError):
            is_too_many = origin is None and self._submissions.note_refused(kind, now)
            if is_too_many:
                self._slots.note_too_many(now)
            gate.note_too_soon(delay_s, asked_s=asked_s, is_about_rate=not is_too_many)
            if origin is None:
                self._submissions.closed_until = now + gate.opens_in_s(kind)
            self._say_if_long(kind, gate)
        elif closes_its_kind(error) or isinstance(error, AuthenticationError):
            gate.note_unavailable(kind, delay_s, asked_s=asked_s)
            self._say_if_long(kind, gate)
        elif not isinstance(error, TransportError):
            gate.note_answered(kind)
        if origin is None and not isinstance(error, TransportError):
            # A 403 may be about that one job; a submission, refused as well, would cost nothing.
            self._note_access(kind, refused=isinstance(error, AuthenticationError))
        if origin is None and shows_overload(error):
            self._slots.note_trouble(kind, now)

    def _note_access(self, kind: str, *, refused: bool) -> None:
        if kind != "submit":
            self.is_shut_out = refused

    def _say_if_long(self, kind: str, gate: RequestGate) -> None:
        """Say that there is a long pause, once for each."""
        now = clock.now()
        pause_s = gate.opens_in_s(kind)
        is_waited_for = gate.asked_in_s(kind) <= self.policy.max_wait_s
        if pause_s >= LONG_PAUSE_S and is_waited_for and now >= self._said_until:
            self._said_until = now + pause_s
            self.announce(PauseAsked(kind=kind, pause_s=pause_s))


class StepPacer:
    """Paces the requests of one step about a chunk: one, or for a download several.

    The first of them does not wait for a pause to end: it would keep a worker from others that
    may go. Those after it do, or what was fetched so far would have been in vain.

    Args:
        run: The run's.
        passage: The chunk.
        note_intent: Awaited last of all before the first one is sent.
    """

    def __init__(
        self, run: RequestPacer, passage: Passage, note_intent: NoteIntent | None = None
    ) -> None:
        self._run = run
        self._passage = passage
        self._note_intent = note_intent
        self._has_begun = False

    @contextlib.asynccontextmanager
    async def sending(
        self, kind: str, origin: Origin | None, connection: Connection
    ) -> AsyncIterator[None]:
        """See `Pacer`.

        Raises:
            GateClosedError: When it is not to be sent now.
            PauseTooLongError: When it is not to be sent for too long.
        """
        gate = self._run.gate.at(origin)
        asked_at = clock.now()
        if not self._may_be_paid_for(kind):
            raise GateClosedError(SHUT_OUT_S)
        async with gate.let_out(
            kind,
            connection,
            max_wait_s=self._run.policy.max_wait_s,
            waits_for_pauses=self._has_begun,
        ):
            self._passage.leave_out(clock.now() - asked_at)
            if self._note_intent is not None:
                may_be_sent = await self._note_intent()
                # While that was written down, the API may have asked for a pause.
                if not may_be_sent or not gate.is_open(kind):
                    raise GateClosedError(gate.opens_in_s(kind))
                if not self._may_be_paid_for(kind):
                    raise GateClosedError(SHUT_OUT_S)
            self._has_begun = True
            self._run.announce(notices.sent(kind, self._passage))
            try:
                yield
            except PingDataError as error:
                self._run.heed(kind, origin, error)
                raise
            self._run.note_answered(kind, origin)

    def _may_be_paid_for(self, kind: str) -> bool:
        """Whether what a submission makes could be asked about, as far as is known."""
        return kind != "submit" or not self._run.is_shut_out
