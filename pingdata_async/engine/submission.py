"""Submitting chunks: intent, request, doubt, splitting, the largest job.

Submissions: intent, request, account, and what follows.

An accepted job is charged, so the ledger knows of the intent before the request goes out and
of the job id before anything else is done. The API has no idempotency key: a submission whose
answer is lost may have made a job all the same, and is never sent again silently.

How large a job the API takes, as far as its refusals tell (pure).
"""

from __future__ import annotations

import math
import re

import anyio

from pingdata_async.api.wire import saying_when
from pingdata_async.engine import task_events
from pingdata_async.engine.context import EngineContext
from pingdata_async.engine.flow_control.budget import Fit, asked_of
from pingdata_async.engine.flow_control.circuit_breaker import (
    Bisection,
    Evidence,
    at_fault_itself,
)
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.engine.requests import Requests
from pingdata_async.engine.scheduler import Admission, Flow
from pingdata_async.engine.task import (
    Abort,
    Accepted,
    ChunkTask,
    HalfPair,
    HeldBack,
    InDoubt,
    Rejected,
    RetryLater,
)
from pingdata_async.events import ChunkHeld
from pingdata_async.exceptions import (
    APIStatusError,
    PingDataError,
    SubmissionInDoubtError,
    UnknownSourceError,
)
from pingdata_async.locations.chunk import Chunk, equal_parts, split
from pingdata_async.models import Reason
from pingdata_async.results.validation import Failure
from pingdata_async.util.loop import loop_time


class SizeLimits:
    """What is learnt of an undocumented limit.

    A limit is never learnt below what was accepted before: then something else was wrong.
    A 413 says that it is the size. A refusal whose halves both pass only looks like it: the
    next larger chunk after a while is sent as it is, and if that passes, there is no limit. As
    that chunk may hold a bad row, there is a second try.
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
        """A chunk of this size was accepted; `half_pair` if it was one of those."""
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
        """A chunk was refused as too large (413)."""
        half = math.ceil(size_bytes(chunk) / 2)
        self._max_bytes = min(self._max_bytes, max(half, self._accepted_bytes))

    def parts_for(self, chunk: Chunk) -> int:
        """In how many parts a chunk has to be sent; 1 if it can go as it is."""
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
    """The size of a chunk's locations as they are sent, without compression."""
    return sum(map(len, chunk.locations))


TOO_LARGE = 413


class Submitter:
    """Submits chunks, and splits those that are refused.

    Args:
        context: What the run works with.
        requests: Sends the requests.
        admission: Where chunks come from.
        flow: Where chunks go on.
    """

    def __init__(
        self, context: EngineContext, requests: Requests, admission: Admission, flow: Flow
    ) -> None:
        self._requests = requests
        self._store = context.store
        self._admission = admission
        self._breaker = context.breaker
        self._sources = context.sources
        self._policy = context.policy
        self._emit = context.emit
        self._flow = flow
        self._budget = context.budget
        self._may_fit_later: list[ChunkTask] = []
        self._limits = SizeLimits()
        self._shields: set[anyio.CancelScope] = set()
        self._is_ending = False
        self.held_chunks = 0
        self.held_locations = 0

    async def drain(self) -> None:
        """When the run is ended, leave submissions on their way time to be answered.

        Without a durable ledger the answers would be of no use to anyone.
        """
        try:
            await anyio.sleep_forever()
        finally:
            self._is_ending = True
            patience_s = self._policy.linger_s if self._store.is_durable else 0.0
            for shield in self._shields:
                shield.deadline = loop_time() + patience_s

    async def submit(self, task: ChunkTask) -> None:
        """Submit a chunk that was let through."""
        if self._flow.is_stopping:
            self._flow.drop(task)
        elif self._admission.must_wait:
            self._admission.put_back(task)
        elif not await self._split_if_too_large(task):
            is_new = not task.jobs and not task.in_doubt
            if self._breaker.wants_probe and is_new and len(task.chunk.rows) > 1:
                task = await self._first_rows(task, 1, "one of its rows is tried first")
            may_be_sent = await self._within_budget(task)
            if may_be_sent is not None:
                await self._submit_counted(may_be_sent)

    async def _submit_counted(self, task: ChunkTask) -> None:
        """Submit a chunk that the budget has counted.

        Until its turn comes it can be given up without a trace. From when its intent is noted,
        what becomes of it is to be known.
        """
        was_noted = sending = False
        with self._flow.until_stopped() as scope:

            async def note_intent() -> bool:
                nonlocal was_noted, sending
                if self._flow.is_stopping or self._admission.must_wait:
                    return False
                self._flow.waits_no_more(scope)
                scope.shield = True
                self._shields.add(scope)
                await self._store.submitting(
                    task.chunk,
                    charged_before=task.charged_before,
                    asked=asked_of(task.chunk, self._sources),
                )
                sending = not self._is_ending
                was_noted = True
                return sending

            try:
                try:
                    step = await self._requests.submit(task, note_intent)
                except BaseException:
                    if sending:
                        task.was_cut_off = True
                        self._note_doubt(task, "it was under way when the run was ended")
                    raise
                self._flow.waits_no_more(scope)
                await self._go_on(task, step, was_noted=was_noted)
            finally:
                self._shields.discard(scope)
        if scope.cancelled_caught and not scope.shield:
            self._give_up(task)

    async def _go_on(
        self,
        task: ChunkTask,
        step: Accepted | RetryLater | HeldBack | Rejected | InDoubt | Abort,
        *,
        was_noted: bool,
    ) -> None:
        """Do what follows from a submission.

        Args:
            task: The chunk.
            step: What became of it.
            was_noted: Whether the ledger knows of the intent.
        """
        chunk = task.chunk
        if isinstance(step, Accepted):
            self._settle(chunk, may_be_charged=True)
            await self._accepted(task, step.job_id)
        elif isinstance(step, InDoubt):
            self._settle(chunk, may_be_charged=True)
            await self._doubted(task, step)
        else:
            if isinstance(step, Abort):
                self._flow.stop(step.error)  # at once: others are told less of why
            if was_noted:
                await self._store.refused(chunk)
            if isinstance(step, HeldBack):
                self._hold_back(task, step.delay_s)
            elif isinstance(step, Abort):
                self._give_up(task)
                if step.is_for_all:
                    self._flow.look_again()
            else:
                self._settle(chunk, may_be_charged=False)
                if isinstance(step, RetryLater):
                    self._flow.submit_later(task, step.delay_s)
                else:
                    await self._rejected(task, step.error)

    def _hold_back(self, task: ChunkTask, delay_s: float) -> None:
        """It was not sent after all: see another time whether it is to be."""
        if self._is_ending:
            return
        if self._flow.is_stopping:
            self._give_up(task)
            return
        self._settle(task.chunk, may_be_charged=False)
        if self._admission.must_wait:
            self._admission.put_back(task)
        else:
            self._flow.hold_back(self._flow.submissions, task, delay_s)

    def _give_up(self, task: ChunkTask) -> None:
        self._settle(task.chunk, may_be_charged=False)
        self._flow.drop(task)

    async def _accepted(self, task: ChunkTask, job_id: str) -> None:
        charged_before = task.charged_before
        task.job_id = job_id
        task.job = JobProgress(len(task.chunk.rows), loop_time())
        task.jobs += 1
        if task.search is not None:
            task.search.has_passed = True
        await self._store.submitted(task.chunk, job_id)
        self._admission.decided(task)
        self._breaker.note_accepted()
        self._limits.note_accepted(task.chunk, task.half_pair)
        task.half_pair = None  # another job of it would not be the other half's
        self._emit(task_events.submitted(task, charged_before=charged_before))
        self._flow.accepted(task, self._requests.next_poll_in_s(task))

    # -- the budget ----------------------------------------------------------------------

    async def _within_budget(self, task: ChunkTask) -> ChunkTask | None:
        """As much of a chunk that was let through as may be spent; it is counted.

        A part of it is sent where not all fits, so that the budget is used up: who allows for
        1,000 locations gets 1,000 answers, whatever the size of a chunk. None where nothing can
        be sent now; where it never can, the run is stopped.
        """
        while True:
            fit = self._budget.reserve(task.chunk)
            if fit is Fit.NOW:
                return task
            if fit is Fit.LATER:
                self._may_fit_later.append(task)
                return None
            rows = self._budget.fitting_rows(task.chunk)
            if not rows:
                self._flow.stop(self._budget.error())
                self._flow.drop(task)
                return None
            task = await self._first_rows(task, rows, "the budget allows for a part of it")

    def _settle(self, chunk: Chunk, *, may_be_charged: bool) -> None:
        """Count what became of a submission; it may have made room for another."""
        if may_be_charged:
            self._budget.spend(chunk)
        else:
            self._budget.give_back(chunk)
        waiting, self._may_fit_later = self._may_fit_later, []
        for task in waiting:
            self._flow.send(self._flow.submissions, task)

    # -- in doubt ------------------------------------------------------------------------

    async def _doubted(self, task: ChunkTask, step: InDoubt) -> None:
        error = step.error
        hold = self._policy.hold_in_doubt
        await self._store.doubted(task.chunk, str(error), hold=hold)
        self._note_doubt(task, str(error))
        must_stop = (
            self._breaker.note_doubt(is_page=step.is_page, is_garbled=step.is_garbled)
            or step.has_lasted
        )
        if step.is_pause_too_long:
            self._flow.stop(saying_when(error))
        if hold:
            self._hold(task)
            if must_stop:  # or all that is left would be held, and perhaps charged, one by one
                self._flow.stop(_lost_in_a_row(error))
        elif self._flow.is_stopping:
            self._flow.drop(task)
        elif must_stop:
            self._flow.stop(_lost_in_a_row(error))
            self._flow.drop(task)
        elif task.in_doubt <= self._policy.in_doubt_attempts:
            doubts = self._breaker.doubts_in_a_row
            again = self._requests.again_after_doubt(task, error, doubts)
            self._flow.submit_later(task, again.delay_s)
        elif self._breaker.note_lost_chunk():
            self._flow.stop(_lost_in_a_row(error))
            self._flow.drop(task)
        else:
            failure = Failure(Reason.IN_DOUBT, str(error))
            self._flow.defer_failure(task, failure, Evidence.ACCEPTED, _lost_in_a_row(error))

    def _note_doubt(self, task: ChunkTask, error: str) -> None:
        charged_before = task.charged_before
        task.in_doubt += 1
        self._emit(task_events.in_doubt(task, error, charged_before=charged_before))

    def _hold(self, task: ChunkTask) -> None:
        locations = len(task.chunk.rows)
        self.held_chunks += 1
        self.held_locations += locations
        self._emit(ChunkHeld(chunk=task.chunk.index, locations=locations))
        self._flow.drop(task)

    # -- refused -------------------------------------------------------------------------

    async def _rejected(self, task: ChunkTask, error: PingDataError) -> None:
        must_stop = self._breaker.note_refused(task.search)
        is_too_large = isinstance(error, APIStatusError) and error.status_code == TOO_LARGE
        if is_too_large:
            self._limits.note_too_large(task.chunk)
        if self._flow.is_stopping:
            self._flow.drop(task)
        elif self._is_unknown_source(task, error):
            self._flow.stop(error)
            self._flow.drop(task)
        elif must_stop:
            self._flow.stop(at_fault_itself(error))
            self._flow.drop(task)
        elif len(task.chunk.rows) > 1:
            # Where both halves pass, it was the size; a 413 has said so already.
            task.search = task.search or Bisection()
            await self.split(task, 2, str(error), are_telling=not is_too_large)
        else:
            failure = Failure(Reason.REJECTED, str(error))
            self._flow.defer_failure(task, failure, Evidence.ACCEPTED, at_fault_itself(error))

    def _is_unknown_source(self, task: ChunkTask, error: PingDataError) -> bool:
        """Whether the run's own sources are at fault, so that no row can be right."""
        if not isinstance(error, UnknownSourceError) or self._breaker.any_accepted:
            return False
        if task.chunk.sources:  # a row's own may be meant, and the message name the others
            return False
        words = set(re.findall(r"\w+", error.api_message.casefold()))
        return any(code.casefold() in words for code in self._sources)

    async def _split_if_too_large(self, task: ChunkTask) -> bool:
        """Split a chunk that is larger than the API is known to take; says whether it was."""
        parts = self._limits.parts_for(task.chunk)
        if parts > 1:
            await self.split(task, parts, "the API takes no jobs of this size")
        return parts > 1

    async def split(
        self,
        task: ChunkTask,
        parts: int,
        error: str,
        *,
        are_telling: bool = False,
        have_failed: bool = False,
    ) -> None:
        """Let a chunk go on in parts.

        Args:
            task: The chunk; it has no job.
            parts: How many.
            error: Why.
            are_telling: Whether it tells something if all parts are accepted.
            have_failed: Whether it is because jobs failed.
        """
        self._admission.decided(task)
        self._admission.release(task)
        chunks = await self._divide(task, equal_parts(len(task.chunk.rows), parts), error)
        depth = task.depth + 1
        half_pair = None
        if are_telling:
            half_pair = HalfPair(len(chunks[-1].rows), len(task.chunk.rows))
        tasks = [
            ChunkTask(
                chunk,
                depth=depth,
                search=task.search,
                half_pair=half_pair,
                is_of_failed=have_failed,
            )
            for chunk in chunks
        ]
        tasks[0].holds_permit = task.holds_permit
        # The deeper, the sooner: one chunk's rows at fault are found before the next chunk's.
        self._flow.go_on_with(tasks, due=-1.0 - depth)

    async def _first_rows(self, task: ChunkTask, rows: int, why: str) -> ChunkTask:
        """Of a chunk that was let through, so many rows; the others wait in its place.

        One of them, as a witness, tells as much as all of them.
        """
        chunks = await self._divide(task, [rows, len(task.chunk.rows) - rows], why)
        first, rest = (ChunkTask(chunk, depth=task.depth, search=task.search) for chunk in chunks)
        rest.holds_permit, rest.is_of_failed = task.holds_permit, task.is_of_failed
        first.is_of_failed = task.is_of_failed and rows > 1
        self._admission.hand_over(task, first)
        self._flow.go_on_with([rest], due=task.due)
        return first

    async def _divide(self, task: ChunkTask, sizes: list[int], error: str) -> list[Chunk]:
        indexes = [self._store.next_index() for _ in sizes]
        was_charged = task.charged_before
        chunks = split(task.chunk, indexes, sizes, was_charged=was_charged)
        await self._store.split(task.chunk, chunks)
        self._emit(task_events.split(task, chunks, error))
        self._flow.divided(len(chunks))
        return chunks


def _lost_in_a_row(error: PingDataError) -> SubmissionInDoubtError:
    return SubmissionInDoubtError(
        "the answers to submissions are lost one after the other, and each may be charged for "
        f"nothing, so no more are sent: {error}"
    )
