"""Submissions: intent, request, account, and what follows.

An accepted job is charged, so the ledger knows of the intent before the request goes out and
of the job id before anything else is done. The API has no idempotency key: a submission whose
answer is lost may have made a job all the same, and is never sent again silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import anyio

from pingdata_async.bulk import clock, notices
from pingdata_async.bulk.admission import Admission
from pingdata_async.bulk.breaker import Breaker, Proof, at_fault_itself
from pingdata_async.bulk.budget import Budget, Fit, asked_of
from pingdata_async.bulk.checking import Failure
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.flow import Flow
from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.bulk.later_chunks import equal_parts, split
from pingdata_async.bulk.passage import Passage, Search
from pingdata_async.bulk.protocols import Ledger
from pingdata_async.bulk.requests import Requests
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.size_limits import Halves, SizeLimits
from pingdata_async.bulk.steps import Accepted, Again, Fatal, HeldBack, InDoubt, Rejected
from pingdata_async.events import ChunkHeld, Event
from pingdata_async.exceptions import (
    APIStatusError,
    PingDataError,
    SubmissionInDoubtError,
    UnknownSourceError,
)
from pingdata_async.models import Reason
from pingdata_async.refusals import saying_when

TOO_LARGE = 413


class Submitter:
    """Submits chunks, and splits those that are refused.

    Args:
        requests: Sends the requests.
        ledger: Told of each step before the next one is taken.
        admission: Where chunks come from.
        breaker: Counts troubles in a row.
        sources: The run's sources.
        policy: How often things are tried.
        announce: Told of everything that happens.
        flow: Where chunks go on.
        budget: What may be spent.
    """

    def __init__(
        self,
        *,
        requests: Requests,
        ledger: Ledger,
        admission: Admission,
        breaker: Breaker,
        sources: tuple[str, ...],
        policy: RetryPolicy,
        announce: Callable[[Event], None],
        flow: Flow,
        budget: Budget,
    ) -> None:
        self._requests = requests
        self._ledger = ledger
        self._admission = admission
        self._breaker = breaker
        self._sources = sources
        self._policy = policy
        self._announce = announce
        self._flow = flow
        self._budget = budget
        self._may_fit_later: list[Passage] = []
        self._limits = SizeLimits()
        self._shields: set[anyio.CancelScope] = set()
        self._is_ending = False
        self.held_chunks = 0
        self.held_locations = 0

    async def linger(self) -> None:
        """When the run is ended, leave submissions on their way time to be answered.

        Without a durable ledger the answers would be of no use to anyone.
        """
        try:
            await anyio.sleep_forever()
        finally:
            self._is_ending = True
            patience_s = self._policy.linger_s if self._ledger.is_durable else 0.0
            for shield in self._shields:
                shield.deadline = clock.now() + patience_s

    async def submit(self, passage: Passage) -> None:
        """Submit a chunk that was let through."""
        if self._flow.is_stopping:
            self._flow.drop(passage)
        elif self._admission.must_wait:
            self._admission.put_back(passage)
        elif not await self._split_if_too_large(passage):
            is_new = not passage.jobs and not passage.in_doubt
            if self._breaker.wants_witness and is_new and len(passage.chunk.rows) > 1:
                passage = await self._first_rows(passage, 1, "one of its rows is tried first")
            may_be_sent = await self._within_budget(passage)
            if may_be_sent is not None:
                await self._submit_counted(may_be_sent)

    async def _submit_counted(self, passage: Passage) -> None:
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
                await self._ledger.submitting(
                    passage.chunk,
                    charged_before=passage.charged_before,
                    asked=asked_of(passage.chunk, self._sources),
                )
                sending = not self._is_ending
                was_noted = True
                return sending

            try:
                try:
                    step = await self._requests.submit(passage, note_intent)
                except BaseException:
                    if sending:
                        passage.was_cut_off = True
                        self._note_doubt(passage, "it was under way when the run was ended")
                    raise
                self._flow.waits_no_more(scope)
                await self._go_on(passage, step, was_noted=was_noted)
            finally:
                self._shields.discard(scope)
        if scope.cancelled_caught and not scope.shield:
            self._give_up(passage)

    async def _go_on(
        self,
        passage: Passage,
        step: Accepted | Again | HeldBack | Rejected | InDoubt | Fatal,
        *,
        was_noted: bool,
    ) -> None:
        """Do what follows from a submission.

        Args:
            passage: The chunk.
            step: What became of it.
            was_noted: Whether the ledger knows of the intent.
        """
        chunk = passage.chunk
        if isinstance(step, Accepted):
            self._settle(chunk, may_be_charged=True)
            await self._accepted(passage, step.job_id)
        elif isinstance(step, InDoubt):
            self._settle(chunk, may_be_charged=True)
            await self._doubted(passage, step)
        else:
            if isinstance(step, Fatal):
                self._flow.stop(step.error)  # at once: others are told less of why
            if was_noted:
                await self._ledger.refused(chunk)
            if isinstance(step, HeldBack):
                self._hold_back(passage, step.delay_s)
            elif isinstance(step, Fatal):
                self._give_up(passage)
                if step.is_for_all:
                    self._flow.look_again()
            else:
                self._settle(chunk, may_be_charged=False)
                if isinstance(step, Again):
                    self._flow.submit_later(passage, step.delay_s)
                else:
                    await self._rejected(passage, step.error)

    def _hold_back(self, passage: Passage, delay_s: float) -> None:
        """It was not sent after all: see another time whether it is to be."""
        if self._is_ending:
            return
        if self._flow.is_stopping:
            self._give_up(passage)
            return
        self._settle(passage.chunk, may_be_charged=False)
        if self._admission.must_wait:
            self._admission.put_back(passage)
        else:
            self._flow.hold_back(self._flow.submissions, passage, delay_s)

    def _give_up(self, passage: Passage) -> None:
        self._settle(passage.chunk, may_be_charged=False)
        self._flow.drop(passage)

    async def _accepted(self, passage: Passage, job_id: str) -> None:
        charged_before = passage.charged_before
        passage.job_id = job_id
        passage.job = JobProgress(len(passage.chunk.rows), clock.now())
        passage.jobs += 1
        if passage.search is not None:
            passage.search.has_passed = True
        await self._ledger.submitted(passage.chunk, job_id)
        self._admission.decided(passage)
        self._breaker.note_accepted()
        self._limits.note_accepted(passage.chunk, passage.halves)
        passage.halves = None  # another job of it would not be the other half's
        self._announce(notices.submitted(passage, charged_before=charged_before))
        self._flow.accepted(passage, self._requests.next_poll_in_s(passage))

    # -- the budget ----------------------------------------------------------------------

    async def _within_budget(self, passage: Passage) -> Passage | None:
        """As much of a chunk that was let through as may be spent; it is counted.

        A part of it is sent where not all fits, so that the budget is used up: who allows for
        1,000 locations gets 1,000 answers, whatever the size of a chunk. None where nothing can
        be sent now; where it never can, the run is stopped.
        """
        while True:
            fit = self._budget.reserve(passage.chunk)
            if fit is Fit.NOW:
                return passage
            if fit is Fit.LATER:
                self._may_fit_later.append(passage)
                return None
            rows = self._budget.fitting_rows(passage.chunk)
            if not rows:
                self._flow.stop(self._budget.error())
                self._flow.drop(passage)
                return None
            passage = await self._first_rows(passage, rows, "the budget allows for a part of it")

    def _settle(self, chunk: Chunk, *, may_be_charged: bool) -> None:
        """Count what became of a submission; it may have made room for another."""
        if may_be_charged:
            self._budget.spend(chunk)
        else:
            self._budget.give_back(chunk)
        waiting, self._may_fit_later = self._may_fit_later, []
        for passage in waiting:
            self._flow.send(self._flow.submissions, passage)

    # -- in doubt ------------------------------------------------------------------------

    async def _doubted(self, passage: Passage, step: InDoubt) -> None:
        error = step.error
        hold = self._policy.hold_in_doubt
        await self._ledger.doubted(passage.chunk, str(error), hold=hold)
        self._note_doubt(passage, str(error))
        must_stop = (
            self._breaker.note_doubt(is_page=step.is_page, is_garbled=step.is_garbled)
            or step.has_lasted
        )
        if step.is_pause_too_long:
            self._flow.stop(saying_when(error))
        if hold:
            self._hold(passage)
            if must_stop:  # or all that is left would be held, and perhaps charged, one by one
                self._flow.stop(_lost_in_a_row(error))
        elif self._flow.is_stopping:
            self._flow.drop(passage)
        elif must_stop:
            self._flow.stop(_lost_in_a_row(error))
            self._flow.drop(passage)
        elif passage.in_doubt <= self._policy.in_doubt_attempts:
            doubts = self._breaker.doubts_in_a_row
            again = self._requests.again_after_doubt(passage, error, doubts)
            self._flow.submit_later(passage, again.delay_s)
        elif self._breaker.note_lost_chunk():
            self._flow.stop(_lost_in_a_row(error))
            self._flow.drop(passage)
        else:
            failure = Failure(Reason.IN_DOUBT, str(error))
            self._flow.suspect(passage, failure, Proof.ACCEPTED, _lost_in_a_row(error))

    def _note_doubt(self, passage: Passage, error: str) -> None:
        charged_before = passage.charged_before
        passage.in_doubt += 1
        self._announce(notices.in_doubt(passage, error, charged_before=charged_before))

    def _hold(self, passage: Passage) -> None:
        locations = len(passage.chunk.rows)
        self.held_chunks += 1
        self.held_locations += locations
        self._announce(ChunkHeld(chunk=passage.chunk.index, locations=locations))
        self._flow.drop(passage)

    # -- refused -------------------------------------------------------------------------

    async def _rejected(self, passage: Passage, error: PingDataError) -> None:
        must_stop = self._breaker.note_refused(passage.search)
        is_too_large = isinstance(error, APIStatusError) and error.status_code == TOO_LARGE
        if is_too_large:
            self._limits.note_too_large(passage.chunk)
        if self._flow.is_stopping:
            self._flow.drop(passage)
        elif self._is_unknown_source(passage, error):
            self._flow.stop(error)
            self._flow.drop(passage)
        elif must_stop:
            self._flow.stop(at_fault_itself(error))
            self._flow.drop(passage)
        elif len(passage.chunk.rows) > 1:
            # Where both halves pass, it was the size; a 413 has said so already.
            passage.search = passage.search or Search()
            await self.split(passage, 2, str(error), are_telling=not is_too_large)
        else:
            failure = Failure(Reason.REJECTED, str(error))
            self._flow.suspect(passage, failure, Proof.ACCEPTED, at_fault_itself(error))

    def _is_unknown_source(self, passage: Passage, error: PingDataError) -> bool:
        """Whether the run's own sources are at fault, so that no row can be right."""
        if not isinstance(error, UnknownSourceError) or self._breaker.any_accepted:
            return False
        if passage.chunk.sources:  # a row's own may be meant, and the message name the others
            return False
        words = set(re.findall(r"\w+", error.api_message.casefold()))
        return any(code.casefold() in words for code in self._sources)

    async def _split_if_too_large(self, passage: Passage) -> bool:
        """Split a chunk that is larger than the API is known to take; says whether it was."""
        parts = self._limits.parts_for(passage.chunk)
        if parts > 1:
            await self.split(passage, parts, "the API takes no jobs of this size")
        return parts > 1

    async def split(
        self,
        passage: Passage,
        parts: int,
        error: str,
        *,
        are_telling: bool = False,
        have_failed: bool = False,
    ) -> None:
        """Let a chunk go on in parts.

        Args:
            passage: The chunk; it has no job.
            parts: How many.
            error: Why.
            are_telling: Whether it tells something if all parts are accepted.
            have_failed: Whether it is because jobs failed.
        """
        self._admission.decided(passage)
        self._admission.release(passage)
        chunks = await self._divide(passage, equal_parts(len(passage.chunk.rows), parts), error)
        depth = passage.depth + 1
        halves = None
        if are_telling:
            halves = Halves(len(chunks[-1].rows), len(passage.chunk.rows))
        passages = [
            Passage(
                chunk, depth=depth, search=passage.search, halves=halves, is_of_failed=have_failed
            )
            for chunk in chunks
        ]
        passages[0].has_room = passage.has_room
        # The deeper, the sooner: one chunk's rows at fault are found before the next chunk's.
        self._flow.go_on_with(passages, due=-1.0 - depth)

    async def _first_rows(self, passage: Passage, rows: int, why: str) -> Passage:
        """Of a chunk that was let through, so many rows; the others wait in its place.

        One of them, as a witness, tells as much as all of them.
        """
        chunks = await self._divide(passage, [rows, len(passage.chunk.rows) - rows], why)
        first, rest = (
            Passage(chunk, depth=passage.depth, search=passage.search) for chunk in chunks
        )
        rest.has_room, rest.is_of_failed = passage.has_room, passage.is_of_failed
        first.is_of_failed = passage.is_of_failed and rows > 1
        self._admission.hand_over(passage, first)
        self._flow.go_on_with([rest], due=passage.due)
        return first

    async def _divide(self, passage: Passage, sizes: list[int], error: str) -> list[Chunk]:
        indexes = [self._ledger.next_index() for _ in sizes]
        was_charged = passage.charged_before
        chunks = split(passage.chunk, indexes, sizes, was_charged=was_charged)
        await self._ledger.split(passage.chunk, chunks)
        self._announce(notices.split(passage, chunks, error))
        self._flow.divided(len(chunks))
        return chunks


def _lost_in_a_row(error: PingDataError) -> SubmissionInDoubtError:
    return SubmissionInDoubtError(
        "the answers to submissions are lost one after the other, and each may be charged for "
        f"nothing, so no more are sent: {error}"
    )
