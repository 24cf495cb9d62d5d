"""Which chunk is submitted next, and when."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel

from pingdata_async.bulk import clock
from pingdata_async.bulk.breaker import Breaker
from pingdata_async.bulk.due_queue import DueQueue
from pingdata_async.bulk.job_slots import SlotShare
from pingdata_async.bulk.passage import Passage
from pingdata_async.bulk.polling import PollPlanner

logger = logging.getLogger("pingdata_async")

AHEAD = 4  # chunks that are ready before there is a slot; more would only take memory
URGENT = -0.5  # before all that waits for a time, and so before what is new


class Admission:
    """Lets chunks through to be submitted: a job slot for each, the most urgent first.

    While the breaker has doubts about the API, one at a time.

    Args:
        slots: The job slots it may use.
        breaker: Says whether requests had better go out one at a time.
        planner: Says when jobs have likely ended.
    """

    def __init__(self, slots: SlotShare, breaker: Breaker, planner: PollPlanner) -> None:
        self._slots = slots
        self._breaker = breaker
        self._planner = planner
        self._waiting: DueQueue[Passage] = DueQueue()
        self._slots_held = 0
        self._holders: dict[Passage, None] = {}
        self._undecided = 0
        self._changed = anyio.Event()
        self._taken = anyio.Event()
        self._head: tuple[Passage, anyio.CancelScope] | None = None  # waits for a slot

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and nothing let through is undecided."""
        return not self._waiting and not self._undecided

    @property
    def must_wait(self) -> bool:
        """Whether a chunk let through should wait for another one's answer first."""
        return self._breaker.is_on_trial and self._undecided > 1

    def put(self, passage: Passage, due: float) -> None:
        """Add a chunk, to be let through at that time of the event loop's clock or later."""
        passage.due = due
        self._waiting.put(passage, due)

    def put_back(self, passage: Passage) -> None:
        """Take back a chunk that was let through."""
        self.decided(passage)
        self.release(passage)
        self._waiting.put(passage, passage.due)

    async def until_hungry(self) -> None:
        """Wait until there are too few chunks to choose from."""
        while self._waiting.due >= AHEAD:
            self._taken = anyio.Event()
            await self._taken.wait()

    async def next(self) -> Passage:
        """Wait for the next chunk that may go; it holds a job slot."""
        passage = await self._next()
        self._taken.set()
        return passage

    async def _next(self) -> Passage:
        while True:
            passage = await self._waiting.get()
            if not await self._has_got_slot(passage):
                continue
            if not passage.job_id:
                # Something more urgent may have come meanwhile.
                self._waiting.put(passage, passage.due)
                await self._until_free()
                chosen = self._waiting.take(self._urgency)
                if chosen is None:
                    self._give_back()
                    continue
                passage = chosen
            passage.holds_slot = True
            self._holders[passage] = None
            if not passage.job_id:
                passage.is_undecided = True
                self._undecided += 1
            return passage

    async def _has_got_slot(self, passage: Passage) -> bool:
        """Wait for a job slot; False where the chunk was taken out meanwhile."""
        with anyio.CancelScope() as scope:
            self._head = (passage, scope)
            try:
                await self._slots.acquire(passage.job_id)
                self._slots_held += 1
            finally:
                self._head = None
        if scope.cancel_called and not scope.cancelled_caught:
            self._give_back()
        return not scope.cancel_called

    def decided(self, passage: Passage) -> None:
        """A chunk let through was accepted, refused or lost, or will not be submitted."""
        if passage.is_undecided:
            passage.is_undecided = False
            self._undecided -= 1
            self._changed.set()

    def release(self, passage: Passage) -> None:
        """Give a chunk's job slot back, if it holds one."""
        if passage.holds_slot:
            passage.holds_slot = False
            del self._holders[passage]
            self._give_back()

    def abandon(self, passage: Passage) -> None:
        """Leave a chunk's job to itself; it keeps its job slot until it has likely ended."""
        if passage.holds_slot:
            passage.holds_slot = False
            del self._holders[passage]
            self._slots_held -= 1
            ends_at = self._planner.likely_end(passage.present_job, clock.now())
            self._slots.abandon(passage.job_id, ends_at)

    def hand_over(self, passage: Passage, other: Passage) -> None:
        """Let another chunk go in the place of one that was let through."""
        other.due = passage.due
        if passage.holds_slot:
            del self._holders[passage]
            self._holders[other] = None
        other.holds_slot, passage.holds_slot = passage.holds_slot, False
        other.is_undecided, passage.is_undecided = passage.is_undecided, False

    def release_all(self) -> None:
        """Give back every slot, but those of jobs that are left to themselves."""
        left = [each for each in self._holders if each.job_id or each.was_cut_off]
        for passage in left:
            self.abandon(passage)
        if left:
            logger.info("%d jobs are abandoned; they count as in flight for a while", len(left))
        while self._slots_held:
            self._give_back()

    def clear(self) -> list[Passage]:
        """Take out every chunk that waits to be submitted; jobs that wait for a slot stay."""
        waiting = self._waiting.clear()
        if self._head is not None and not self._head[0].job_id:
            passage, scope = self._head
            self._head = None
            waiting.append(passage)
            scope.cancel("it is taken out")
        for passage in waiting:
            if passage.job_id:
                self._waiting.put(passage, passage.due)
        self._changed.set()
        self._taken.set()
        return [passage for passage in waiting if not passage.job_id]

    async def _until_free(self) -> None:
        while self._breaker.is_on_trial and self._undecided:
            self._changed = anyio.Event()
            await self._changed.wait()

    def _urgency(self, passage: Passage) -> tuple[float, int]:
        due = -passage.due if self._breaker.should_try_another else passage.due
        return due, passage.chunk.index

    def _give_back(self) -> None:
        self._slots_held -= 1
        self._slots.release()
