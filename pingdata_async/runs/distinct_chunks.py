"""Chunks in which every location is there once, made of those that the input came in (pure)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import TypeVar

from pingdata_async.bulk.chunking import LOCATION_OVERHEAD_BYTES
from pingdata_async.bulk.chunks import Chunk, InvalidRow, Twin
from pingdata_async.runs.repeats import Marks

TWINS_A_LOCATION = 4
"""So many rows that repeat others come into a chunk for each location that could.

More would make jobs full where more than four in five rows repeat others; but a chunk's rows are
in memory together.
"""

T = TypeVar("T")

_row = attrgetter("row")


class _Part:
    """A chunk as it came, with what is known of its rows, to be taken from the front."""

    def __init__(self, chunk: Chunk, marks: Marks) -> None:
        rows = chunk.rows
        places = [place for place, row in enumerate(rows) if marks.get(row, -1) < 0]
        self.rows = [rows[place] for place in places]
        self.ids = [chunk.ids[place] for place in places]
        self.locations = [chunk.locations[place] for place in places]
        self.sources = _renumbered(chunk.sources, places)
        self.skipped = _renumbered(chunk.skipped, places)
        self.copies = {place: -marks[row] for place, row in enumerate(self.rows) if row in marks}
        self.invalid = chunk.invalid
        self.twins: list[Twin] = []
        if len(places) < len(rows):
            self.twins = [
                Twin(row, chunk.ids[place], marks[row], chunk.locations[place])
                for place, row in enumerate(rows)
                if marks.get(row, -1) >= 0
            ]


def _renumbered(by_place: Mapping[int, T], places: Sequence[int]) -> dict[int, T]:
    """What is said of places, where these are left."""
    if not by_place:
        return {}
    return {new: by_place[place] for new, place in enumerate(places) if place in by_place}


def _move(by_place: dict[int, T], into: dict[int, T], taken: int, before: int) -> dict[int, T]:
    """Move what is said of the first places behind so many others; gives what is left."""
    into.update((before + place, said) for place, said in by_place.items() if place < taken)
    return {place - taken: said for place, said in by_place.items() if place >= taken}


class DistinctChunks:
    """Brings chunks together anew, so that each has as many locations as it may.

    Each is a stretch of the input. Rows in it that repeat others of it, or of earlier ones, come
    beside what is sent.

    Args:
        chunk_size: The most locations in a chunk.
        max_location_bytes: The most bytes of them together, each with its id.
        next_index: Gives each chunk its number.
    """

    def __init__(
        self, *, chunk_size: int, max_location_bytes: int, next_index: Callable[[], int]
    ) -> None:
        self._chunk_size = chunk_size
        self._max_bytes = max_location_bytes
        self._next_index = next_index
        self._begin()

    def _begin(self) -> None:
        self._bytes = 0
        self._rows: list[int] = []
        self._ids: list[str | None] = []
        self._locations: list[bytes] = []
        self._sources: dict[int, tuple[str, ...]] = {}
        self._skipped: dict[int, tuple[str, ...]] = {}
        self._invalid: list[InvalidRow] = []
        self._twins: list[Twin] = []
        self._copies: dict[int, int] = {}

    def add(self, chunk: Chunk, marks: Marks) -> Iterator[Chunk]:
        """Take a chunk of the input; gives those that are full.

        Args:
            chunk: It follows the one before.
            marks: What is known of its rows.
        """
        part = _Part(chunk, marks)
        while (end := self._end(part)) is not None:
            self._take(part, end)
            yield self._finish()
        self._take(part, None)

    def rest(self) -> Chunk | None:
        """What is left after the last row; None when nothing is."""
        return self._finish() if self._rows or self._invalid or self._twins else None

    def _end(self, part: _Part) -> int | None:
        """The number of the row for which the present chunk has no room; None if it has."""
        ends = []
        room = self._chunk_size - len(self._rows)
        sizes = accumulate(len(each) + LOCATION_OVERHEAD_BYTES for each in part.locations)
        room = min(room, bisect_right(list(sizes), self._max_bytes - self._bytes))
        if len(part.rows) > room:
            ends.append(part.rows[room])
        room = self._chunk_size - len(self._invalid)
        if len(part.invalid) > room:
            ends.append(part.invalid[room].row)
        room = TWINS_A_LOCATION * self._chunk_size - len(self._twins)
        if len(part.twins) > room:
            ends.append(part.twins[room].row)
        return min(ends, default=None)

    def _take(self, part: _Part, end: int | None) -> None:
        """Take the rows before that one; None for all."""
        sent, twins, invalid = len(part.rows), len(part.twins), len(part.invalid)
        if end is not None:
            sent = bisect_left(part.rows, end)
            twins = bisect_left(part.twins, end, key=_row)
            invalid = bisect_left(part.invalid, end, key=_row)
        before = len(self._rows)
        self._rows += part.rows[:sent]
        self._ids += part.ids[:sent]
        self._locations += part.locations[:sent]
        self._bytes += sum(map(len, part.locations[:sent])) + sent * LOCATION_OVERHEAD_BYTES
        part.sources = _move(part.sources, self._sources, sent, before)
        part.skipped = _move(part.skipped, self._skipped, sent, before)
        part.copies = _move(part.copies, self._copies, sent, before)
        self._twins += part.twins[:twins]
        self._invalid += part.invalid[:invalid]
        part.rows, part.ids = part.rows[sent:], part.ids[sent:]
        part.locations = part.locations[sent:]
        part.twins, part.invalid = part.twins[twins:], part.invalid[invalid:]

    def _finish(self) -> Chunk:
        chunk = Chunk(
            self._next_index(),
            self._rows,
            self._ids,
            self._locations,
            self._sources,
            self._invalid,
            twins=self._twins,
            copies=self._copies,
            skipped=self._skipped,
        )
        self._begin()
        return chunk
