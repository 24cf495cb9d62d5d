"""Rows that wait for others of their kind, to be asked about again together (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pingdata_async.bulk.chunking import MAX_CHUNK_BYTES
from pingdata_async.bulk.later_chunks import Leftover


class LeftoverPool:
    """Gathers leftovers until there are enough for a chunk, or it has taken too long.

    Args:
        chunk_size: The most rows in a chunk.
    """

    WAIT_S = 30.0  # for others of their kind

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._leftovers: deque[Leftover] = deque()
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._leftovers)

    def add(self, leftovers: Iterable[Leftover], now: float) -> None:
        """Put some in, at that time."""
        if not self._leftovers:
            self._since = now
        self._leftovers.extend(leftovers)

    def is_ripe(self, now: float) -> bool:
        """Whether they are worth a job, whatever else there is to do."""
        enough = len(self._leftovers) >= self._chunk_size
        return enough or (bool(self._leftovers) and now >= self._since + self.WAIT_S)

    def take(self) -> list[Leftover]:
        """Take out a chunk's worth; at least one where there is one."""
        batch: list[Leftover] = []
        size = 0
        while self._leftovers and len(batch) < self._chunk_size:
            size += len(self._leftovers[0].location)
            if batch and size > MAX_CHUNK_BYTES:
                break
            batch.append(self._leftovers.popleft())
        return batch

    def clear(self) -> None:
        """Forget them."""
        self._leftovers.clear()
