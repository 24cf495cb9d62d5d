"""Submitter: the budget, the intent, the request, and what its outcome means.

An accepted job is charged, so the store knows of the intent before the request goes out, and of
the job id before anything else is done. The API has no idempotency key: a submission whose answer
is lost may have made a job all the same, and is never sent again silently.
"""

from __future__ import annotations

import math

import anyio

from pingdata_async.engine.context import ChunkTakenError, EngineContext
from pingdata_async.engine.decisions import (
    Decision,
    Drop,
    Judge,
    Park,
    Poll,
    PutBack,
    Split,
    SplitOff,
    is_too_large,
)
from pingdata_async.engine.flow_control.budget import Fit, asked_of
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.requests import Requests
from pingdata_async.engine.scheduler import Scheduler
from pingdata_async.engine.task import (
    Abort,
    Accepted,
    ChunkTask,
    Deferred,
    HalfPair,
    InDoubt,
    Rejected,
    RetryLater,
    retried,
)
from pingdata_async.events import JobSubmitted, SubmissionInDoubt
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import RequestKind
from pingdata_async.util.loop import loop_time


class SizeLimits:
    """Learns how large a job the API takes, which it does not document (pure).

    A limit is never learnt below a size that was accepted before: then something else was wrong.
    A 413 says that it is the size. A refusal whose halves both pass only looks like it: after a
    while, the next larger chunk is sent as it is, and if that passes, there is no limit. As that
    chunk may hold a bad row, there is a second try.
    """

    TRY_AGAIN_AFTER = 10  # jobs accepted
    TRIES = 2

    def __init__(self) -> None:
        self._max_rows = math.inf
        self._max_bytes = math.inf
        self._accepted_rows = 0
        self._accepted_bytes = 0
        self._accepted_since = 0
        self._tries = 0

    def note_accepted(self, chunk: Chunk, half_pair: HalfPair | None) -> None:
        """Note an accepted chunk, and the pair of which it was a half, if it was."""
        rows = len(chunk.rows)
        self._accepted_since += 1
        self._accepted_rows = max(self._accepted_rows, rows)
        self._accepted_bytes = max(self._accepted_bytes, size_bytes(chunk))
        if rows > self._max_rows:
            self._max_rows = math.inf
        if half_pair is not None:
            half_pair.undecided -= 1
            if half_pair.undecided == 0:
                self._learn(half_pair)

    def _learn(self, half_pair: HalfPair) -> None:
        limit = max(half_pair.rows, self._accepted_rows)
        if limit < half_pair.whole_rows:
            self._max_rows = min(self._max_rows, limit)
            self._accepted_since = 0

    def note_too_large(self, chunk: Chunk) -> None:
        """Note a chunk that was refused as too large (413)."""
        half = math.ceil(size_bytes(chunk) / 2)
        self._max_bytes = min(self._max_bytes, max(half, self._accepted_bytes))

    def parts_for(self, chunk: Chunk) -> int:
        """In how many parts a chunk has to be sent; 1 if it can be sent as it is."""
        rows = len(chunk.rows)
        parts = math.ceil(rows / self._max_rows)
        if parts > 1 and self._should_try_again:
            self._accepted_since = 0
            self._tries += 1
            parts = 1
        if self._max_bytes < math.inf:
            parts = max(parts, math.ceil(size_bytes(chunk) / self._max_bytes))
        return max(1, min(parts, rows))

    @property
    def _should_try_again(self) -> bool:
        is_due = self._accepted_since >= self.TRY_AGAIN_AFTER
        return is_due and self._tries < self.TRIES


def size_bytes(chunk: Chunk) -> int:
    """The size of a chunk's locations as they are sent, before compression."""
    return len(chunk.body)


class Submitter:
    """Submits chunks, or says what else is to be done about them.

    It moves none: `submit()` returns what follows, once the store knows of the submission.
    """

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, requests: Requests, judge: Judge
    ) -> None:
        self._context = context
        self._store = context.store
        self._breaker = context.breaker
        self._budget = context.budget
        self._scheduler = scheduler
        self._requests = requests
        self._judge = judge
        self._limits = SizeLimits()
        self._shields: set[anyio.CancelScope] = set()
        self._is_ending = False

    async def drain(self) -> None:
        """When the run is ended, wait `linger_s` for the responses to submissions under way.

        Without a durable store they would be of no use.
        """
        try:
            await anyio.sleep_forever()
        finally:
            self._is_ending = True
            linger_s = self._context.policy.linger_s if self._store.is_durable else 0.0
            for shield in self._shields:
                shield.deadline = loop_time() + linger_s

    async def submit(self, task: ChunkTask) -> Decision | None:
        """Submit a chunk that was admitted, if it may be sent now and as it is.

        Returns:
            What follows; None where the run has ended, and nothing does.
        """
        known = await self._store.look_up(task.chunk)
        if known is not None:
            told = known.jobs + known.in_doubt - task.jobs - task.in_doubt
            self._budget.count_others(task.chunk, max(0, told))
            decision = self._judge.after_look_up(task, known, loop_time())
            if decision is not None:
                return decision
        return self._before_sending(task) or await self._send(task)

    def _before_sending(self, task: ChunkTask) -> Decision | None:
        """What to do instead of sending a chunk; None if its budget is reserved, so send it."""
        if self._scheduler.is_stopping:
            return Drop()
        if self._scheduler.must_wait:
            return PutBack()
        self._leave_out_unwanted(task)
        if not task.chunk.rows:
            return Drop()
        parts = self._limits.parts_for(task.chunk)
        if parts > 1:
            return Split(parts, "the API takes no jobs of this size")
        is_new = not task.jobs and not task.in_doubt
        if self._breaker.wants_probe and is_new and len(task.chunk.rows) > 1:
            # One row tells as much as the whole chunk.
            return SplitOff(1, "one of its rows is tried first")
        match self._budget.reserve(task.chunk):
            case Fit.NOW:
                return None
            case Fit.LATER:
                return Park()
            case _:
                return self._part_within_budget(task)

    def _leave_out_unwanted(self, task: ChunkTask) -> None:
        wanted = self._store.still_wanted(task.chunk)
        if wanted is not task.chunk:
            task.chunk = wanted
            task.half_pair = None  # that it passes may be for the rows left out, not for its size

    def _part_within_budget(self, task: ChunkTask) -> SplitOff | Drop:
        """Send the part of a chunk that fits the budget: a cap of 1,000 gives 1,000 answers."""
        rows = self._budget.fitting_rows(task.chunk)
        if rows:
            return SplitOff(rows, "the budget allows for a part of it")
        return Drop(self._budget.error())

    async def _send(self, task: ChunkTask) -> Decision | None:
        """Submit a chunk that the budget has counted.

        Until the store has the intent, a cancellation leaves no trace. After that, it waits for the
        outcome, or for `linger_s`.
        """
        decision: Decision | None = None
        was_noted = sending = False
        with self._scheduler.cancelled_by_stop() as scope:

            async def note_intent() -> bool:
                nonlocal was_noted, sending
                if self._scheduler.is_stopping or self._scheduler.must_wait:
                    return False
                if self._store.still_wanted(task.chunk) is not task.chunk:
                    return False  # it waited for its turn, and is sent as it is now
                self._scheduler.exempt_from_stop(scope)
                scope.shield = True
                self._shields.add(scope)
                try:
                    await self._store.submitting(
                        task.chunk,
                        charged_before=task.charged_before,
                        asked=asked_of(task.chunk, self._context.sources),
                    )
                except ChunkTakenError:
                    return False
                sending = not self._is_ending
                was_noted = True
                task.queued_s = loop_time() - task.ready_at
                return sending

            try:
                try:
                    outcome = await self._requests.submit(task, note_intent)
                except BaseException:
                    if sending:
                        task.was_cut_off = True
                        self._count_doubt(task, "it was under way when the run was ended")
                    raise
                self._scheduler.exempt_from_stop(scope)
                decision = await self._after(task, outcome, was_noted=was_noted)
            finally:
                self._shields.discard(scope)
        if scope.cancelled_caught and not scope.shield:
            decision = self._give_up(task)
        return decision

    async def _after(
        self,
        task: ChunkTask,
        outcome: Accepted | RetryLater | Deferred | Rejected | InDoubt | Abort,
        *,
        was_noted: bool,
    ) -> Decision | None:
        """Tell the store and the budget the outcome of a submission, and decide what follows.

        Args:
            task: The chunk.
            outcome: The outcome of the submission.
            was_noted: Whether the store knows of the intent.
        """
        if isinstance(outcome, Accepted):
            self._settle(task, may_be_charged=True)
            return await self._accepted(task, outcome.job_id)
        if isinstance(outcome, InDoubt):
            self._settle(task, may_be_charged=True)
            return await self._doubted(task, outcome)
        if isinstance(outcome, Abort):
            self._scheduler.stop(outcome.error)  # at once: others are told less of why
        if was_noted:
            await self._store.refused(task.chunk)
        if isinstance(outcome, Deferred):
            return self._after_deferral(task, outcome)
        self._settle(task, may_be_charged=False)
        if isinstance(outcome, Abort):
            return Drop(outcome.error, api_unreachable=outcome.api_unreachable)
        if isinstance(outcome, RetryLater):
            return outcome
        if is_too_large(outcome.error):
            self._limits.note_too_large(task.chunk)
        is_stopping = self._scheduler.is_stopping
        return self._judge.after_refusal(task, outcome.error, is_stopping=is_stopping)

    def _after_deferral(self, task: ChunkTask, outcome: Deferred) -> Decision | None:
        """What follows when it was not sent after all."""
        if self._is_ending:
            return None
        if self._scheduler.is_stopping:
            return self._give_up(task)
        self._settle(task, may_be_charged=False)
        return PutBack() if self._scheduler.must_wait else outcome

    def _give_up(self, task: ChunkTask) -> Drop:
        self._settle(task, may_be_charged=False)
        return Drop()

    async def _accepted(self, task: ChunkTask, job_id: str) -> Poll:
        charged_before = task.charged_before
        task.job_id = job_id
        task.job = JobProgress(len(task.chunk.rows), loop_time())
        task.jobs += 1
        if task.bisection is not None:
            task.bisection.has_passed = True
        await self._store.submitted(task.chunk, job_id)
        self._breaker.note_accepted()
        self._limits.note_accepted(task.chunk, task.half_pair)
        task.half_pair = None  # another job of it would not be the other half's
        self._context.emit(
            JobSubmitted(
                chunk=task.chunk.index,
                job_id=job_id,
                locations=len(task.chunk.rows),
                charged_before=charged_before,
                charged_by_source=asked_of(task.chunk, self._context.sources),
                queued_s=task.queued_s,
            )
        )
        return Poll(self._requests.next_poll_in_s(task))

    async def _doubted(self, task: ChunkTask, doubt: InDoubt) -> Decision:
        error = str(doubt.error)
        await self._store.doubted(task.chunk, error, hold=self._context.policy.hold_in_doubt)
        self._count_doubt(task, error)
        is_stopping = self._scheduler.is_stopping
        decision = self._judge.after_doubt(task, doubt, is_stopping=is_stopping)
        if isinstance(decision, RetryLater):
            self._context.emit(retried(RequestKind.SUBMIT, task, doubt.error, decision.delay_s))
        return decision

    def _count_doubt(self, task: ChunkTask, error: str) -> None:
        event = SubmissionInDoubt(
            chunk=task.chunk.index,
            locations=len(task.chunk.rows),
            attempt=task.attempt,
            error=error,
            charged_before=task.charged_before,
        )
        task.in_doubt += 1
        self._context.emit(event)

    def _settle(self, task: ChunkTask, *, may_be_charged: bool) -> None:
        """Count what became of a submission; the budget may allow for another one now."""
        if may_be_charged:
            self._budget.spend(task.chunk)
        else:
            self._budget.give_back(task.chunk)
        self._scheduler.unpark()
