"""Who may have how many jobs in flight."""

from __future__ import annotations

from collections import deque

import anyio

from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.bulk.pacing import FixedLimiter, JobLimiter
from pingdata_async.checked_settings import check_count


class JobSlots:
    """The job slots of one client, shared fairly by everyone who submits through it.

    Each user has a cap of its own; together they stay below the largest of the caps in use,
    so that a second enhancer on a client does not double the load on the API, and below what
    the API bears. Who waits longest is served first.

    Args:
        limiter: Says what the API bears; None for whatever the users allow.
    """

    def __init__(self, limiter: JobLimiter | None = None) -> None:
        self._limiter = limiter or FixedLimiter()
        self._waiting: deque[_Waiter] = deque()
        self._in_flight: dict[SlotShare, int] = {}
        self._in_flight_in_all = 0

    def share(self, max_jobs: int) -> SlotShare:
        """A user's share, of at most `max_jobs` slots at once."""
        return SlotShare(self, max_jobs)

    @property
    def in_flight(self) -> int:
        """Slots taken now, by all together."""
        return self._in_flight_in_all

    def note_job(self, job: JobProgress, now: float) -> None:
        """A question about a job was answered."""
        self._limiter.note_job(job, now, in_flight=self.in_flight)
        self._serve()

    def note_answered(self, kind: str, now: float) -> None:
        """A request was answered well."""
        self._limiter.note_answered(kind, now)
        self._serve()

    def note_trouble(self, kind: str, now: float) -> None:
        """A request was answered 503, or not in time."""
        self._limiter.note_trouble(kind, now, in_flight=self.in_flight)

    def note_too_many(self, now: float) -> None:
        """Submissions are refused (429) while other requests pass."""
        self._limiter.note_too_many(now, in_flight=self.in_flight)

    def _may_start(self, waiter: _Waiter, cap: int) -> bool:
        if not waiter.is_for_running:
            cap = min(cap, self._limiter.limit)
        share = waiter.share
        return self.in_flight < cap and self._in_flight.get(share, 0) < share.max_jobs

    def _serve(self) -> None:
        """Give free slots to those who wait, in their order, passing over who is at its cap."""
        if not self._waiting:
            return
        caps = [user.max_jobs for user in self._in_flight]
        cap = max(caps + [waiter.share.max_jobs for waiter in self._waiting])
        for waiter in tuple(self._waiting):
            if self.in_flight >= cap:
                return
            if self._may_start(waiter, cap):
                self._waiting.remove(waiter)
                self._take(waiter.share)
                waiter.granted.set()

    def _take(self, share: SlotShare) -> None:
        self._in_flight[share] = self._in_flight.get(share, 0) + 1
        self._in_flight_in_all += 1

    def _give_back(self, share: SlotShare) -> None:
        self._in_flight[share] -= 1
        self._in_flight_in_all -= 1
        if not self._in_flight[share]:
            del self._in_flight[share]
        self._serve()


class SlotShare:
    """One user's share of the job slots."""

    def __init__(self, slots: JobSlots, max_jobs: int) -> None:
        check_count("max_jobs", max_jobs)
        self.slots = slots
        self.max_jobs = max_jobs

    @property
    def in_flight(self) -> int:
        """Slots taken now."""
        return self.slots._in_flight.get(self, 0)  # noqa: SLF001 - the other half of one thing

    async def acquire(self, *, is_for_running: bool = False) -> None:
        """Wait for a slot and take it. Cancelled, it takes none.

        Args:
            is_for_running: Whether it is for a job that the API has already: that it bears it
                is not asked then.
        """
        await anyio.lowlevel.checkpoint()
        waiter = _Waiter(self, is_for_running)
        self.slots._waiting.append(waiter)  # noqa: SLF001 - the other half of one thing
        self.slots._serve()  # noqa: SLF001
        try:
            await waiter.granted.wait()
        except BaseException:
            if waiter.granted.is_set():
                self.release()
            else:
                self.slots._waiting.remove(waiter)  # noqa: SLF001
                self.slots._serve()  # noqa: SLF001 - the cap in use may have changed
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.slots._give_back(self)  # noqa: SLF001 - the other half of one thing


class _Waiter:
    def __init__(self, share: SlotShare, is_for_running: bool) -> None:
        self.share = share
        self.is_for_running = is_for_running
        self.granted = anyio.Event()
