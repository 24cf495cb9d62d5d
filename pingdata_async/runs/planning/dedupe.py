"""Duplicate rows, found in flat memory by hash partitions.

While the input is read, the key of each row, in 128 bits, goes into one of many partitions on
disk; equal keys are in the same one. Afterwards each partition is searched by itself, and what is
found is put into other partitions, by row, of which one is in memory when its rows come again.
Chunks are then made anew, with each location in them once.
"""

from __future__ import annotations

import io
import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate, repeat, starmap
from operator import and_, attrgetter
from pathlib import Path
from typing import TypeVar

from pingdata_async.locations.chunk import Chunk, Duplicate, InvalidRow
from pingdata_async.locations.chunk_builder import LOCATION_OVERHEAD_BYTES
from pingdata_async.util.files import Closing, open_nameless, write_pieces

FIRST_BLOCK, LARGEST_BLOCK = 8 * 1024, 64 * 1024
"""Records that are written at once: few at first, as most inputs are small."""


class HashPartitions(Closing):
    """Takes records, and returns those of a bucket in the order in which they came.

    A context manager. The file has no name: nothing is left of it, however the process ends.
    What is kept in memory are some records, and 8 bytes a bucket for each 64 Ki records.

    Args:
        folder: On whose disk it is.
        buckets: How many there are.
    """

    def __init__(self, folder: Path, buckets: int) -> None:
        self._folder = folder
        self._file: io.FileIO | None = None
        self._filling: list[list[bytes]] = [[] for _ in range(buckets)]
        self._in_memory = 0
        self._block = FIRST_BLOCK
        self._end = 0
        self._blocks: list[array[int]] = []  # of each, where its buckets begin, and its end

    def close(self) -> None:
        """Give the disk back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, buckets: Iterable[int], records: Iterable[bytes]) -> None:
        """Put each record into its bucket; blocks now and then.

        Raises:
            OSError: When it cannot be written.
        """
        into = map(self._filling.__getitem__, buckets)
        self._in_memory += list(map(list.append, into, records)).count(None)  # a loop in C
        if self._in_memory >= self._block:
            self._write()

    def read(self, bucket: int) -> Iterator[bytes]:
        """The records of a bucket, some at a time, one behind the other; blocks.

        Raises:
            OSError: When it cannot be read.
        """
        for begins in self._blocks:
            begin, end = begins[bucket], begins[bucket + 1]
            if begin < end:
                yield os.pread(self._opened(), end - begin, begin)
        yield b"".join(self._filling[bucket])

    def _write(self) -> None:
        contents = [b"".join(records) for records in self._filling]
        begins = array("Q", accumulate(map(len, contents), initial=self._end))
        write_pieces(self._opened(), [b"".join(contents)])
        self._blocks.append(begins)
        self._end = begins[-1]
        for records in self._filling:
            records.clear()
        self._in_memory = 0
        self._block = min(2 * self._block, LARGEST_BLOCK)

    def _opened(self) -> int:
        if self._file is None:
            self._file = open_nameless(self._folder)
        return self._file.fileno()


KEY_BYTES = 16
"""Enough that no two different locations of any input have the same key: 64 bits are too few."""

KEY_BUCKETS = 1024  # of ten million rows, one has as many as fit into some megabytes
ROW_BITS = 15  # 32 Ki rows a bucket

_KEYED = struct.Struct(f"<{KEY_BYTES}sQ")  # key, row
_MARK = struct.Struct("<Qq")  # row, and what is known of it: see `Marks`

Marks = Mapping[int, int]
"""By row: the number of the row that it repeats; or, less than zero, how many repeat it."""


def digests_of(keys: Sequence[bytes]) -> list[bytes]:
    """Keys shortened, so that millions of them can be compared."""
    return [blake2b(key, digest_size=KEY_BYTES).digest() for key in keys]


class DuplicateFinder(Closing):
    """Takes the keys of rows, in their order, and finds the duplicates among them.

    A context manager.

    Args:
        folder: On whose disk there is room for 24 bytes a row, and 32 for each that recurs.

    Raises:
        OSError: By each method, when the disk cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keyed = HashPartitions(folder, KEY_BUCKETS)
        self._rows = 0

    def close(self) -> None:
        """Give the disk back."""
        self._keyed.close()

    def add(self, row: int, keys: Sequence[bytes]) -> None:
        """Take the keys of rows that follow each other; blocks now and then.

        Args:
            row: The number of the first.
            keys: Their keys.
        """
        digests = digests_of(keys)
        numbers = array("Q", b"".join(digests))[::2]
        self._keyed.add(
            map(and_, numbers, repeat(KEY_BUCKETS - 1)),
            map(_KEYED.pack, digests, range(row, row + len(keys))),
        )
        self._rows = row + len(keys)

    def find(self, check_cancelled: Callable[[], None]) -> DuplicateIndex | None:
        """Find the rows that repeat others; None where there is none. Blocks.

        Args:
            check_cancelled: Called now and then; what it raises is passed on.
        """
        repeats = DuplicateIndex(self._folder, self._rows)
        try:
            for bucket in range(KEY_BUCKETS):
                check_cancelled()
                self._look_through(bucket, repeats)
        except BaseException:
            repeats.close()
            raise
        if not repeats.rows:
            repeats.close()
            return None
        return repeats

    def _look_through(self, bucket: int, repeats: DuplicateIndex) -> None:
        first_of: dict[bytes, int] = {}
        first = first_of.setdefault
        duplicate_counts: Counter[int] = Counter()
        for keyed in self._keyed.read(bucket):
            repeated = [
                (row, before)
                for key, row in _KEYED.iter_unpack(keyed)
                if (before := first(key, row)) != row
            ]
            if repeated:
                repeats.add(repeated)
                duplicate_counts.update(before for _, before in repeated)
        repeats.add_firsts(duplicate_counts)


class DuplicateIndex(Closing):
    """Which rows repeat which, on disk.

    Args:
        folder: On whose disk.
        rows_in_all: Rows of the input up to the last one that is sent.

    Attributes:
        rows: How many rows repeat another one.
    """

    def __init__(self, folder: Path, rows_in_all: int) -> None:
        self._marks = HashPartitions(folder, (rows_in_all >> ROW_BITS) + 1)
        self._loaded: dict[int, Marks] = {}
        self.rows = 0

    def close(self) -> None:
        """Give the disk back."""
        self._marks.close()

    def add(self, repeated: Sequence[tuple[int, int]]) -> None:
        """Take rows that repeat others, each with the first one like it."""
        self._mark(repeated)
        self.rows += len(repeated)

    def add_firsts(self, duplicate_counts: Mapping[int, int]) -> None:
        """Take the first ones, and how many repeat each."""
        self._mark([(row, -number) for row, number in duplicate_counts.items()])

    def _mark(self, marks: Sequence[tuple[int, int]]) -> None:
        buckets = (row >> ROW_BITS for row, _ in marks)
        self._marks.add(buckets, starmap(_MARK.pack, marks))

    def among(self, first: int, last: int) -> Marks:
        """What there is to know of rows; blocks now and then. Ask in their order.

        Args:
            first: Number of the first of them.
            last: Number of the last.
        """
        wanted = range(first >> ROW_BITS, (last >> ROW_BITS) + 1)
        self._loaded = {bucket: self._loaded.get(bucket) or self._load(bucket) for bucket in wanted}
        if len(wanted) == 1:
            return self._loaded[wanted[0]]
        return {row: mark for marks in self._loaded.values() for row, mark in marks.items()}

    def _load(self, bucket: int) -> Marks:
        marks: dict[int, int] = {}
        for read in self._marks.read(bucket):
            marks.update(_MARK.iter_unpack(read))
        return marks


DUPLICATES_A_LOCATION = 4
"""The most duplicates in a chunk, for each location that it may have.

With more, jobs would be full also where more than four in five rows are duplicates; but the rows of
a chunk are in memory together.
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
        self.duplicate_counts = {
            place: -marks[row] for place, row in enumerate(self.rows) if row in marks
        }
        self.invalid = chunk.invalid
        self.duplicates: list[Duplicate] = []
        if len(places) < len(rows):
            self.duplicates = [
                Duplicate(row, chunk.ids[place], marks[row], chunk.locations[place])
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
    """Makes new chunks without duplicates, each with as many locations as it may have.

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
        self._duplicates: list[Duplicate] = []
        self._duplicate_counts: dict[int, int] = {}

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
        return self._finish() if self._rows or self._invalid or self._duplicates else None

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
        room = DUPLICATES_A_LOCATION * self._chunk_size - len(self._duplicates)
        if len(part.duplicates) > room:
            ends.append(part.duplicates[room].row)
        return min(ends, default=None)

    def _take(self, part: _Part, end: int | None) -> None:
        """Take the rows before that one; None for all."""
        sent, duplicates, invalid = len(part.rows), len(part.duplicates), len(part.invalid)
        if end is not None:
            sent = bisect_left(part.rows, end)
            duplicates = bisect_left(part.duplicates, end, key=_row)
            invalid = bisect_left(part.invalid, end, key=_row)
        before = len(self._rows)
        self._rows += part.rows[:sent]
        self._ids += part.ids[:sent]
        self._locations += part.locations[:sent]
        self._bytes += sum(map(len, part.locations[:sent])) + sent * LOCATION_OVERHEAD_BYTES
        part.sources = _move(part.sources, self._sources, sent, before)
        part.skipped = _move(part.skipped, self._skipped, sent, before)
        part.duplicate_counts = _move(part.duplicate_counts, self._duplicate_counts, sent, before)
        self._duplicates += part.duplicates[:duplicates]
        self._invalid += part.invalid[:invalid]
        part.rows, part.ids = part.rows[sent:], part.ids[sent:]
        part.locations = part.locations[sent:]
        part.duplicates, part.invalid = part.duplicates[duplicates:], part.invalid[invalid:]

    def _finish(self) -> Chunk:
        chunk = Chunk(
            self._next_index(),
            self._rows,
            self._ids,
            self._locations,
            self._sources,
            self._invalid,
            duplicates=self._duplicates,
            duplicate_counts=self._duplicate_counts,
            skipped=self._skipped,
        )
        self._begin()
        return chunk
