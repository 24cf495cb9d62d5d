"""Where every chunk is on its way, and what is still open: the books of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import anyio

from pingdata_async.bulk import clock, notices
from pingdata_async.bulk.admission import URGENT, Admission
from pingdata_async.bulk.breaker import Breaker, Proof, Unproven
from pingdata_async.bulk.checking import Checked, Failure, fail_chunk
from pingdata_async.bulk.due_queue import DueQueue
from pingdata_async.bulk.later_chunks import gather
from pingdata_async.bulk.leftover_pool import LeftoverPool
from pingdata_async.bulk.passage import Passage
from pingdata_async.bulk.protocols import FinishedChunk, Ledger
from pingdata_async.bulk.tally import tally
from pingdata_async.events import Event, LocationsAskedAgain, RunStopping
from pingdata_async.exceptions import PingDataError
from pingdata_async.models import Reason


class Flow:
    """The queues of a run, and the count of what has not come out of them yet.

    Args:
        ledger: Takes answers.
        admission: Where chunks wait to be submitted.
        breaker: Knows whether the API is in order.
        sources: The run's sources.
        chunk_size: Rows in a chunk of those that are asked about again, at most.
        max_chunks: Chunks that may be taken from the input and not delivered.
        announce: Told of everything that happens.

    Attributes:
        submissions: What was let through.
        polls: What has a job.
        fetches: What has an output.
        gathered: What is made of leftovers, for the ledger to be told of.
        ripening: When leftovers have waited for long enough.
        lost: What ends without an answer, and why.
        room: For chunks of the input.
        jobs_in_flight: Jobs accepted, and neither delivered nor lost.
        error: Why nothing more is submitted; None as long as all is well.
        ended: Cancelled when all is done.
        reading: Cancelled when nothing more is to be read.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        admission: Admission,
        breaker: Breaker,
        sources: tuple[str, ...],
        chunk_size: int,
        max_chunks: int,
        announce: Callable[[Event], None],
    ) -> None:
        self._ledger = ledger
        self._admission = admission
        self._breaker = breaker
        self._sources = sources
        self._announce = announce
        self._unproven = Unproven()
        self._leftovers = LeftoverPool(chunk_size)
        self._waits_to_submit: dict[anyio.CancelScope, None] = {}  # in their order
        self._open = 0  # chunks taken from the input, or made of such, and not delivered
        self._input_ended = False
        self.submissions: DueQueue[Passage] = DueQueue()
        self.polls: DueQueue[Passage] = DueQueue()
        self.fetches: DueQueue[Passage] = DueQueue()
        self.gathered: DueQueue[Passage] = DueQueue()
        self.ripening: DueQueue[None] = DueQueue()
        self.lost: DueQueue[tuple[Passage, Failure | None]] = DueQueue()
        self.room = anyio.Semaphore(max_chunks)
        self.jobs_in_flight = 0
        self.error: Exception | None = None
        self.ended = anyio.CancelScope()
        self.reading = anyio.CancelScope()

    # -- in ------------------------------------------------------------------------------

    def taken(self, passage: Passage) -> None:
        """A chunk was taken from the input; it holds room."""
        now = clock.now()
        self._open += 1
        passage.has_room = True
        passage.is_taken_up = bool(passage.job_id)
        self.jobs_in_flight += passage.is_taken_up
        if passage.chunk.rows:
            self._admission.put(passage, now)
        else:  # nothing in it can be sent: no job
            self.lost.put((passage, None), now)

    def input_ended(self) -> None:
        """There is nothing more to be taken."""
        self._input_ended = True
        self._go_on()

    async def admit_gathered(self, passage: Passage) -> None:
        """Let a chunk of leftovers be submitted."""
        chunk = passage.chunk
        await self._ledger.gathered(chunk)
        self._announce(LocationsAskedAgain(chunk=chunk.index, locations=len(chunk.rows)))
        self.go_on_with([passage], URGENT)

    def _gather(self) -> None:
        """Make chunks of what is to be asked about again, as soon as it is worth a job."""
        now = clock.now()
        while self._leftovers and (self._leftovers.is_ripe(now) or self._nothing_better_to_do()):
            self._open += 1
            chunk = gather(self._ledger.next_index(), self._leftovers.take())
            self.gathered.put(Passage(chunk), now)

    def _nothing_better_to_do(self) -> bool:
        return self._input_ended and self._admission.is_empty

    async def gather_ripe(self, _: None) -> None:
        """Leftovers may have waited for long enough."""
        self._go_on()

    # -- on its way ----------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be submitted."""
        return self.error is not None

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[anyio.CancelScope]:
        """Leave off waiting to submit when nothing more is to be submitted."""
        with anyio.CancelScope() as scope:
            self._waits_to_submit[scope] = None
            try:
                yield scope
            finally:
                self.waits_no_more(scope)

    def waits_no_more(self, scope: anyio.CancelScope) -> None:
        """From here on, what `until_stopped` holds is seen to its end."""
        self._waits_to_submit.pop(scope, None)

    def send(self, queue: DueQueue[Passage], passage: Passage, delay_s: float = 0.0) -> None:
        """Have a request about a chunk sent, after that time."""
        passage.wanted_at = clock.now() + delay_s
        queue.put(passage, passage.wanted_at)

    def hold_back(self, queue: DueQueue[Passage], passage: Passage, delay_s: float) -> None:
        """Have a request sent later than it should be, as there is a pause."""
        queue.put(passage, clock.now() + delay_s)

    def accepted(self, passage: Passage, poll_in_s: float) -> None:
        """A chunk has a job now, which is to be asked about then."""
        self.jobs_in_flight += 1
        self.send(self.polls, passage, poll_in_s)
        self.confirm(Proof.ACCEPTED)

    def submit_later(self, passage: Passage, delay_s: float) -> None:
        """Submit a chunk that was let through once more."""
        if self.is_stopping:
            self.drop(passage)
        else:
            self.send(self.submissions, passage, delay_s)

    def go_on_with(self, passages: list[Passage], due: float) -> None:
        """Let chunks that were counted already be submitted."""
        for passage in passages:
            if self.is_stopping:
                self.drop(passage)
            else:
                self._admission.put(passage, due)

    def divided(self, parts: int) -> None:
        """A chunk is that many now."""
        self._open += parts - 1

    def fail(self, passage: Passage, failure: Failure) -> None:
        """Fail a chunk, whatever the API is like."""
        self._admission.decided(passage)
        self._admission.release(passage)
        self.lost.put((passage, failure), clock.now())

    def suspect(
        self, passage: Passage, failure: Failure, proof: Proof, error: PingDataError
    ) -> None:
        """Fail a chunk as soon as it is clear that the API is not at fault itself."""
        self._admission.decided(passage)
        self._admission.release(passage)
        self._leave_room(passage)  # or it could keep out the chunk that brings the proof
        self._unproven.add(passage, failure, proof, error)
        self._go_on()

    def confirm(self, proof: Proof) -> None:
        """The API is in order: what was suspected is so."""
        for passage, failure in self._unproven.proven_by(proof):
            self.lost.put((passage, failure), clock.now())

    def drop(self, passage: Passage) -> None:
        """Leave a chunk that will not be submitted, or whose job is left to another run."""
        self._admission.decided(passage)
        if passage.job_id:
            self._admission.abandon(passage)
        else:
            self._admission.release(passage)
        if _has_answers(passage) and not self._ledger.is_durable:
            failure = Failure(Reason.MISSING, "the run stopped before it was asked about again")
            self.lost.put((passage, failure), clock.now())
            return
        self._leave_room(passage)
        self._open -= 1
        self.jobs_in_flight -= bool(passage.job_id)
        self._go_on()

    def leave(self, passage: Passage, error: PingDataError) -> None:
        """Leave a job that cannot be asked about any more, or its output fetched, and stop.

        Others of which the same is true learn of it now, rather than when they are due.
        """
        self.stop(error)
        self.drop(passage)
        self.look_again()

    def look_again(self) -> None:
        """Have everything asked for now, as far as it may be."""
        now = clock.now()
        for queue in (self.polls, self.fetches):
            for passage in queue.clear():
                queue.put(passage, now)

    def stop(self, error: Exception) -> None:
        """Submit nothing more, and end when the jobs in flight have ended."""
        if self.error is not None:
            return
        self.error = error
        self._input_ended = True
        self.reading.cancel("nothing more can be submitted")
        if self._ledger.is_durable:
            self._leftovers.clear()
        for passage in (
            *self._admission.clear(),
            *self.submissions.clear(),
            *self._unproven.clear(),
        ):
            self.drop(passage)
        self._announce(RunStopping(error=str(error), jobs_in_flight=self.jobs_in_flight))
        for scope in tuple(self._waits_to_submit):
            scope.cancel("nothing more is submitted")
        self._go_on()

    # -- out -----------------------------------------------------------------------------

    async def deliver_lost(self, lost: tuple[Passage, Failure | None]) -> None:
        """Deliver a chunk without an answer."""
        passage, failure = lost
        why = failure or Failure(Reason.INVALID_INPUT, "")
        results = fail_chunk(passage.chunk, why, self._sources)
        await self._deliver(
            passage,
            FinishedChunk(
                passage.chunk,
                tally(results, passage.chunk.copies_by_row()),
                failure=failure,
                without_answer=results,
                job_id=passage.job_id,
            ),
        )

    async def deliver(self, passage: Passage, checked: Checked) -> None:
        """Deliver a chunk with its answers; what is left of it waits to be asked again."""
        finished = FinishedChunk(
            passage.chunk, checked.counts, checked=checked, job_id=passage.job_id
        )
        await self._deliver(passage, finished)

    async def _deliver(self, passage: Passage, finished: FinishedChunk) -> None:
        leftovers = finished.leftovers
        await self._ledger.deliver(finished)
        self._open -= 1
        self.jobs_in_flight -= bool(passage.job_id)
        self._leave_room(passage)
        if leftovers and (self.error is None or not self._ledger.is_durable):
            now = clock.now()
            self._leftovers.add(leftovers, now)
            self.ripening.put(None, now + LeftoverPool.WAIT_S)
        self._announce(notices.finished(passage, finished.counts, asked_again=len(leftovers)))
        self._go_on()

    def _leave_room(self, passage: Passage) -> None:
        if passage.has_room:
            passage.has_room = False
            self.room.release()

    def _go_on(self) -> None:
        """See whether there is something to be gathered, or to be decided, or all is done."""
        self._gather()
        if not self._input_ended or self._open > len(self._unproven):
            return
        for proof in Proof:
            if self._breaker.has(proof):
                self.confirm(proof)
        if self._unproven:
            self.stop(self._unproven.first_error())
        elif not self._open:
            self.ended.cancel()


def _has_answers(passage: Passage) -> bool:
    return any(earlier.times_asked for earlier in passage.chunk.earlier)
