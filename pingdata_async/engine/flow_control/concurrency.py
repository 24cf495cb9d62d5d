"""ConcurrencyLimiter: how many jobs a client has in flight, shared by its runs.

Jobs cannot be cancelled. An abandoned one (its stream was left, its call was cancelled, or it made
no progress for too long) goes on at the API and keeps its slot until it has likely ended. So a
caller that keeps giving up has no more jobs in flight than one that waits. Nobody polls such a job
any more: time frees its slot, unless a later run takes up the job, and the slot with it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import Counter, deque

import anyio
import anyio.lowlevel

from pingdata_async.engine.flow_control.adaptive_limit import ConcurrencyLimit
from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.models import RequestKind
from pingdata_async.util.loop import loop_time
from pingdata_async.util.validation import check_count

logger = logging.getLogger("pingdata_async")


class ConcurrencyLimiter:
    """The job slots of one client, shared fairly by all runs that submit through it.

    Each run has a share with a cap of its own. Together they stay below what the API can take, and
    below the largest cap in use, so that a second enhancer on a client does not double the load
    on the API. The longest wait is served first.

    Args:
        limit: Says how many jobs the API can take; None for as many as the shares allow.
    """

    def __init__(self, limit: ConcurrencyLimit | None = None) -> None:
        self._limit = limit or ConcurrencyLimit()
        self._waiting: deque[_Waiter] = deque()
        self._in_flight: dict[ConcurrencyShare, int] = {}
        self._total_in_flight = 0
        self._abandoned: dict[str, ConcurrencyShare] = {}
        self._abandoned_by = Counter[ConcurrencyShare]()
        self._ends: list[tuple[float, str]] = []  # a heap; also of some that were taken up
        self._unnamed = itertools.count()
        self._has_warned = False  # that abandoned jobs take all slots

    def share(self, max_jobs: int) -> ConcurrencyShare:
        """A share of at most `max_jobs` slots at once."""
        return ConcurrencyShare(self, max_jobs)

    @property
    def in_flight(self) -> int:
        """Slots taken now by all shares, those of abandoned jobs included."""
        self._free_ended()
        return self._total_in_flight + len(self._abandoned)

    def in_flight_of(self, share: ConcurrencyShare) -> int:
        """Slots taken now by one share, those of jobs that it has abandoned included."""
        self._free_ended()
        return self._in_flight.get(share, 0) + self._abandoned_by[share]

    def note_job(self, job: JobProgress, now: float) -> None:
        """A poll was answered."""
        self._limit.note_job(job, now, in_flight=self.in_flight)
        self._serve()

    def on_success(self, kind: RequestKind, now: float) -> None:
        """A request succeeded."""
        self._limit.on_success(kind, now)
        self._serve()

    def on_error(self, kind: RequestKind, now: float) -> None:
        """A request was answered 5xx, or not at all."""
        self._limit.on_error(kind, now, in_flight=self.in_flight)

    def on_job_limit(self, now: float) -> None:
        """Submissions are refused (429) while other requests pass."""
        self._limit.on_job_limit(now, in_flight=self.in_flight)

    def _may_start(self, waiter: _Waiter, cap: int) -> bool:
        if not waiter.is_for_running:
            cap = min(cap, self._limit.limit)
        return self.in_flight < cap and waiter.share.in_flight < waiter.share.max_jobs

    def _serve(self) -> None:
        """Give free slots to those that wait, in order, passing over shares at their cap."""
        if not self._waiting:
            return
        self._free_ended()
        caps = [share.max_jobs for share in (*self._in_flight, *self._abandoned_by)]
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
        self._total_in_flight += 1

    async def acquire(self, share: ConcurrencyShare, running_job_id: str) -> None:
        """Wait for a slot and take it; see `ConcurrencyShare.acquire()`."""
        await anyio.lowlevel.checkpoint()
        if running_job_id and self._take_up(share, running_job_id):
            return
        waiter = _Waiter(share, bool(running_job_id))
        self._waiting.append(waiter)
        self._serve()
        try:
            while not waiter.is_granted:
                self._warn_of_wait(share)
                waiter.woken = anyio.Event()
                with anyio.move_on_at(self._frees_at()):
                    await waiter.woken.wait()
                self._serve()
        except BaseException:
            if waiter.is_granted:
                self.release(share)
            else:
                self._waiting.remove(waiter)
                self._serve()  # the cap in use may have changed
            raise

    def release(self, share: ConcurrencyShare) -> None:
        """Take a slot back, and give it to the next in line."""
        self._in_flight[share] -= 1
        self._total_in_flight -= 1
        if not self._in_flight[share]:
            del self._in_flight[share]
        self._serve()

    # -- abandoned jobs ------------------------------------------------------------------

    def abandon(self, share: ConcurrencyShare, job_id: str, ends_at: float) -> None:
        """Leave a slot to an abandoned job; see `ConcurrencyShare.abandon()`."""
        job_id = job_id or f"unnamed {next(self._unnamed)}"
        if job_id not in self._abandoned:
            self._abandoned[job_id] = share
            self._abandoned_by[share] += 1
            heapq.heappush(self._ends, (ends_at, job_id))
        self.release(share)
        for waiter in self._waiting:
            waiter.woken.set()  # there is a time now at which a slot becomes free

    def _take_up(self, share: ConcurrencyShare, job_id: str) -> bool:
        """Take over the slot of an abandoned job; False if it is not one."""
        if not self._forget_abandoned(job_id):
            return False
        self._take(share)
        return True

    def _forget_abandoned(self, job_id: str) -> bool:
        share = self._abandoned.pop(job_id, None)
        if share is None:
            return False
        self._has_warned = self._has_warned and bool(self._abandoned)
        self._abandoned_by[share] -= 1
        if not self._abandoned_by[share]:
            del self._abandoned_by[share]
        return True

    def _free_ended(self) -> None:
        while self._ends and (
            self._ends[0][0] <= loop_time() or self._ends[0][1] not in self._abandoned
        ):
            self._forget_abandoned(heapq.heappop(self._ends)[1])

    def _frees_at(self) -> float:
        """When the next abandoned job has likely ended."""
        self._free_ended()
        return self._ends[0][0] if self._ends else math.inf

    def _warn_of_wait(self, share: ConcurrencyShare) -> None:
        """Warn once that nothing is submitted because abandoned jobs take all slots."""
        if self._has_warned or not self._abandoned or self._total_in_flight:
            return
        self._has_warned = True
        logger.warning(
            "nothing is submitted now: %d abandoned jobs count as in flight until they have likely "
            "ended (the first of them in %.0f s), and at most %d may be in flight",
            len(self._abandoned),
            self._frees_at() - loop_time(),
            min(share.max_jobs, self._limit.limit),
        )


class ConcurrencyShare:
    """One run's share of the job slots."""

    def __init__(self, limiter: ConcurrencyLimiter, max_jobs: int) -> None:
        check_count("max_jobs", max_jobs)
        self.limiter = limiter
        self.max_jobs = max_jobs

    @property
    def in_flight(self) -> int:
        """Slots taken now, those of jobs that it has abandoned included."""
        return self.limiter.in_flight_of(self)

    async def acquire(self, running_job_id: str = "") -> None:
        """Wait for a slot and take it. Cancelled, it takes none.

        Args:
            running_job_id: A job that the API already has: it gets a slot whatever the limit. ""
                for a job that is yet to be submitted.
        """
        await self.limiter.acquire(self, running_job_id)

    def release(self) -> None:
        """Give a slot back."""
        self.limiter.release(self)

    def abandon(self, job_id: str, ends_at: float) -> None:
        """Leave a slot to a job that nobody polls any more.

        Args:
            job_id: The job; "" for one that a lost submission may have made.
            ends_at: When it will likely have ended, by the event loop's clock.
        """
        self.limiter.abandon(self, job_id, ends_at)


class _Waiter:
    def __init__(self, share: ConcurrencyShare, is_for_running: bool) -> None:
        self.share = share
        self.is_for_running = is_for_running
        self.is_granted = False
        self.woken = anyio.Event()
