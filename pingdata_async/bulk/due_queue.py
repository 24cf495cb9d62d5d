"""A queue of things that are due at a time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from pingdata_async.bulk import clock

T = TypeVar("T")


class DueQueue(Generic[T]):
    """Gives each item to one waiting worker, not before its time, the earliest first.

    Thousands of jobs wait in one heap; only one worker at a time has a timer running.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._leader = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def due(self) -> int:
        """How many items are due now."""
        now = clock.now()
        return sum(entry[0] <= now for entry in self._heap)

    def put(self, item: T, due: float) -> None:
        """Add an item that is due at that time of the event loop's clock."""
        heapq.heappush(self._heap, (due, next(self._order), item))
        if self._heap[0][2] is item:
            self._changed.set()

    def take(self, key: Callable[[T], tuple[float, int]]) -> T | None:
        """Take out what is due and has the smallest key; None where nothing is due."""
        now = clock.now()
        entries = [entry for entry in self._heap if entry[0] <= now]
        if not entries:
            return None
        best = min(entries, key=lambda entry: key(entry[2]))
        self._heap.remove(best)
        heapq.heapify(self._heap)
        return best[2]

    def clear(self) -> list[T]:
        """Take everything out, due or not."""
        items = [item for _, _, item in self._heap]
        self._heap.clear()
        return items

    async def get(self) -> T:
        """Wait for the next item that is due. Cancelled, it takes none."""
        async with self._leader:
            while True:
                due = self._heap[0][0] if self._heap else None
                if due is not None and due <= clock.now():
                    return heapq.heappop(self._heap)[2]
                self._changed = anyio.Event()
                with anyio.move_on_at(float("inf") if due is None else due):
                    await self._changed.wait()
