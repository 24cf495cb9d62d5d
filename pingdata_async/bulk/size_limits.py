"""How large a job the API takes, as far as its refusals tell (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pingdata_async.bulk.chunks import Chunk


@dataclass(slots=True, eq=False)
class Halves:
    """The two halves of a refused chunk: if both are accepted, it was only too large.

    Attributes:
        rows: Of the larger one.
        whole_rows: Of both.
        undecided: Halves that have neither been accepted nor refused.
    """

    rows: int
    whole_rows: int
    undecided: int = 2


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

    def note_accepted(self, chunk: Chunk, halves: Halves | None) -> None:
        """A chunk of this size was accepted; `halves` if it was one of those."""
        rows = len(chunk.rows)
        self._accepted_since += 1
        self._accepted_rows = max(self._accepted_rows, rows)
        self._accepted_bytes = max(self._accepted_bytes, size_bytes(chunk))
        if rows > self._max_rows:
            self._max_rows = math.inf
        if halves is not None:
            halves.undecided -= 1
            if halves.undecided == 0:
                self._learn(halves)

    def _learn(self, halves: Halves) -> None:
        limit = max(halves.rows, self._accepted_rows)
        if limit < halves.whole_rows:
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
