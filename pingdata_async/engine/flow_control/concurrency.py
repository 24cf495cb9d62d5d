"""ConcurrencyLimiter: how many jobs a client has in flight, shared by its runs.

Jobs cannot be cancelled. One that is abandoned (somebody left a stream, or cancelled, or it made no
progress for too long) goes on at the API and keeps its slot until it has likely ended, so that
whoever calls and gives up again and again has no more jobs in flight than whoever waits. Nobody
asks about it any more: it is the time that frees its slot, unless a later run takes the job up, and
the slot with it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import Counter, deque

import anyio
import anyio.lowlevel

from pingdata_async.engine.flow_control.adaptive_limit import ConcurrencyLimit, FixedLimit
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.util.loop import loop_time
from pingdata_async.util.validation import check_count

logger = logging.getLogger("pingdata_async")


class ConcurrencyLimiter:
    """The job slots of one client, shared fairly by everyone who submits through it.

    Each user has a cap of its own; together they stay below the largest of the caps in use,
    so that a second enhancer on a client does not double the load on the API, and below what
    the API bears. Who waits longest is served first.

    Args:
        limiter: Says what the API bears; None for whatever the users allow.
    """

    def __init__(self, limiter: ConcurrencyLimit | None = None) -> None:
        self._limiter = limiter or FixedLimit()
        self._waiting: deque[_Waiter] = deque()
        self._in_flight: dict[ConcurrencyShare, int] = {}
        self._in_flight_in_all = 0
        self._abandoned: dict[str, ConcurrencyShare] = {}
        self._abandoned_by = Counter[ConcurrencyShare]()
        self._ends: list[tuple[float, str]] = []  # a heap; also of some that were taken up
        self._unnamed = itertools.count()
        self._is_wait_said = False  # that abandoned jobs keep somebody waiting

    def share(self, max_jobs: int) -> ConcurrencyShare:
        """A user's share, of at most `max_jobs` slots at once."""
        return ConcurrencyShare(self, max_jobs)

    @property
    def in_flight(self) -> int:
        """Slots taken now, by all together; those of abandoned jobs too."""
        self._free_ended()
        return self._in_flight_in_all + len(self._abandoned)

    def note_job(self, job: JobProgress, now: float) -> None:
        """A question about a job was answered."""
        self._limiter.note_job(job, now, in_flight=self.in_flight)
        self._serve()

    def on_success(self, kind: str, now: float) -> None:
        """A request was answered well."""
        self._limiter.on_success(kind, now)
        self._serve()

    def on_error(self, kind: str, now: float) -> None:
        """A request was answered 503, or not in time."""
        self._limiter.on_error(kind, now, in_flight=self.in_flight)

    def on_job_limit(self, now: float) -> None:
        """Submissions are refused (429) while other requests pass."""
        self._limiter.on_job_limit(now, in_flight=self.in_flight)

    def _may_start(self, waiter: _Waiter, cap: int) -> bool:
        if not waiter.is_for_running:
            cap = min(cap, self._limiter.limit)
        return self.in_flight < cap and waiter.share.in_flight < waiter.share.max_jobs

    def _serve(self) -> None:
        """Give free slots to those who wait, in their order, passing over who is at its cap."""
        if not self._waiting:
            return
        self._free_ended()
        caps = [user.max_jobs for user in (*self._in_flight, *self._abandoned_by)]
        cap = max(caps + [waiter.share.max_jobs for waiter in self._waiting])
        for waiter in tuple(self._waiting):
            if self.in_flight >= cap:
                return
            if self._may_start(waiter, cap):
                self._waiting.remove(waiter)
                self._take(waiter.share)
                waiter.is_granted = True
                waiter.woken.set()

    def _take(self, share: ConcurrencyShare) -> None:
        self._in_flight[share] = self._in_flight.get(share, 0) + 1
        self._in_flight_in_all += 1

    def _give_back(self, share: ConcurrencyShare) -> None:
        self._in_flight[share] -= 1
        self._in_flight_in_all -= 1
        if not self._in_flight[share]:
            del self._in_flight[share]
        self._serve()

    # -- abandoned jobs ------------------------------------------------------------------

    def _abandon(self, share: ConcurrencyShare, job_id: str, ends_at: float) -> None:
        job_id = job_id or f"unnamed {next(self._unnamed)}"
        if job_id not in self._abandoned:
            self._abandoned[job_id] = share
            self._abandoned_by[share] += 1
            heapq.heappush(self._ends, (ends_at, job_id))
        self._give_back(share)
        for waiter in self._waiting:
            waiter.woken.set()  # there is a time to wait for now

    def _take_up(self, share: ConcurrencyShare, job_id: str) -> bool:
        """Take over the slot of a job that was abandoned; False where it was not."""
        if not self._forget_abandoned(job_id):
            return False
        self._take(share)
        return True

    def _forget_abandoned(self, job_id: str) -> bool:
        share = self._abandoned.pop(job_id, None)
        if share is None:
            return False
        self._is_wait_said = self._is_wait_said and bool(self._abandoned)
        self._abandoned_by[share] -= 1
        if not self._abandoned_by[share]:
            del self._abandoned_by[share]
        return True

    def _free_ended(self) -> None:
        while self._ends and (self._ends[0][0] <= loop_time() or not self._is_abandoned_first()):
            self._forget_abandoned(heapq.heappop(self._ends)[1])

    def _is_abandoned_first(self) -> bool:
        return self._ends[0][1] in self._abandoned

    def _frees_at(self) -> float:
        """When the next abandoned job has likely ended."""
        self._free_ended()
        return self._ends[0][0] if self._ends else math.inf

    def _say_wait(self, share: ConcurrencyShare) -> None:
        """Say once that nothing of a user's is sent because of abandoned jobs."""
        if self._is_wait_said or not self._abandoned or self._in_flight_in_all:
            return
        self._is_wait_said = True
        logger.warning(
            "nothing is submitted now: %d jobs that were abandoned count as in flight until they "
            "have likely ended (the first of them in %.0f s), and no more than %d may be",
            len(self._abandoned),
            self._frees_at() - loop_time(),
            min(share.max_jobs, self._limiter.limit),
        )


class ConcurrencyShare:
    """One user's share of the job slots."""

    def __init__(self, slots: ConcurrencyLimiter, max_jobs: int) -> None:
        check_count("max_jobs", max_jobs)
        self.slots = slots
        self.max_jobs = max_jobs

    @property
    def in_flight(self) -> int:
        """Slots taken now; those of jobs that it has abandoned too."""
        slots = self.slots
        slots._free_ended()  # noqa: SLF001 - the other half of one thing
        return slots._in_flight.get(self, 0) + slots._abandoned_by[self]  # noqa: SLF001

    async def acquire(self, running_job_id: str = "") -> None:
        """Wait for a slot and take it. Cancelled, it takes none.

        Args:
            running_job_id: The job that it is for, where the API has that already: whether it
                bears it is not asked then. "" for one that is to be submitted.
        """
        await anyio.lowlevel.checkpoint()
        slots = self.slots
        if running_job_id and slots._take_up(self, running_job_id):  # noqa: SLF001
            return
        waiter = _Waiter(self, bool(running_job_id))
        slots._waiting.append(waiter)  # noqa: SLF001
        slots._serve()  # noqa: SLF001
        try:
            while not waiter.is_granted:
                slots._say_wait(self)  # noqa: SLF001
                waiter.woken = anyio.Event()
                with anyio.move_on_at(slots._frees_at()):  # noqa: SLF001
                    await waiter.woken.wait()
                slots._serve()  # noqa: SLF001
        except BaseException:
            if waiter.is_granted:
                self.release()
            else:
                slots._waiting.remove(waiter)  # noqa: SLF001
                slots._serve()  # noqa: SLF001 - the cap in use may have changed
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.slots._give_back(self)  # noqa: SLF001 - the other half of one thing

    def abandon(self, job_id: str, ends_at: float) -> None:
        """Leave a slot to a job that nobody asks about any more.

        Args:
            job_id: The job; "" for one that may have been made.
            ends_at: When it has likely ended, by the event loop's clock.
        """
        self.slots._abandon(self, job_id, ends_at)  # noqa: SLF001 - the other half of one thing


class _Waiter:
    def __init__(self, share: ConcurrencyShare, is_for_running: bool) -> None:
        self.share = share
        self.is_for_running = is_for_running
        self.is_granted = False
        self.woken = anyio.Event()
