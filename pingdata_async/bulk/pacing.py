"""How many jobs may be in flight."""

from __future__ import annotations

from collections import deque

import anyio

from pingdata_async.exceptions import ConfigurationError


class JobSlots:
    """The job slots of one client, shared fairly by everyone who submits through it.

    Each user has a cap of its own; together they stay below the largest of the caps in use,
    so that a second enhancer on a client does not double the load on the API. Who waits
    longest is served first.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiter] = deque()
        self._in_flight: dict[SlotShare, int] = {}

    def share(self, max_jobs: int) -> SlotShare:
        """A user's share, of at most `max_jobs` slots at once."""
        return SlotShare(self, max_jobs)

    def _may_start(self, share: SlotShare) -> bool:
        caps = [user.max_jobs for user in self._in_flight]
        caps += [waiter.share.max_jobs for waiter in self._waiting]
        total = sum(self._in_flight.values())
        return total < max(caps, default=share.max_jobs) and (
            self._in_flight.get(share, 0) < share.max_jobs
        )

    def _serve(self) -> None:
        """Give free slots to those who wait, in their order, passing over who is at its cap."""
        for waiter in tuple(self._waiting):
            if self._may_start(waiter.share):
                self._waiting.remove(waiter)
                self._take(waiter.share)
                waiter.granted.set()

    def _take(self, share: SlotShare) -> None:
        self._in_flight[share] = self._in_flight.get(share, 0) + 1

    def _give_back(self, share: SlotShare) -> None:
        self._in_flight[share] -= 1
        if not self._in_flight[share]:
            del self._in_flight[share]
        self._serve()


class SlotShare:
    """One user's share of the job slots."""

    def __init__(self, slots: JobSlots, max_jobs: int) -> None:
        if max_jobs < 1:
            raise ConfigurationError(f"max_jobs must be at least 1, not {max_jobs}")
        self._slots = slots
        self.max_jobs = max_jobs

    @property
    def in_flight(self) -> int:
        """Slots taken now."""
        return self._slots._in_flight.get(self, 0)  # noqa: SLF001 - the other half of one thing

    async def acquire(self) -> None:
        """Wait for a slot and take it. Cancelled, it takes none."""
        await anyio.lowlevel.checkpoint()
        waiter = _Waiter(self)
        self._slots._waiting.append(waiter)  # noqa: SLF001 - the other half of one thing
        self._slots._serve()  # noqa: SLF001
        try:
            await waiter.granted.wait()
        except BaseException:
            if waiter.granted.is_set():
                self.release()
            else:
                self._slots._waiting.remove(waiter)  # noqa: SLF001
                self._slots._serve()  # noqa: SLF001 - the cap in use may have changed
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._slots._give_back(self)  # noqa: SLF001 - the other half of one thing


class _Waiter:
    def __init__(self, share: SlotShare) -> None:
        self.share = share
        self.granted = anyio.Event()
