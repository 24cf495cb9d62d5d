"""Duplicate rows, found in flat memory by hash partitions.

While the input is read, the hash of each row's key goes into one of many partitions on disk; equal
ones are in the same one. Where hashes recur, the rows are candidates. Their locations are read once
more, put into partitions likewise, and compared: rows are equal where all that is asked is, and
never by a hash alone. What is found is put into other partitions, by row, of which one is in memory
when its rows come again.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, starmap
from pathlib import Path

import msgspec

from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.normalize import sent_key
from pingdata_async.util.files import Closing, open_nameless, write_pieces

FIRST_BLOCK, LARGEST_BLOCK = 8 * 1024, 64 * 1024
"""Records that are written at once: few at first, as most inputs are small."""


class Partitions(Closing):
    """Keeps bytes by bucket on disk, and returns those of a bucket in the order in which they came.

    A context manager. The file has no name: nothing is left of it, however the process ends. In
    memory are what was not written yet, and 8 bytes a bucket for each write. Reading and writing
    block, and may raise an OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: io.FileIO | None = None
        self._end = 0
        self._blocks: list[array[int]] = []  # of each, where its buckets begin, and its end

    def close(self) -> None:
        """Give the disk back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, contents: Sequence[bytes]) -> None:
        """Write something to each bucket."""
        begins = array("Q", accumulate(map(len, contents), initial=self._end))
        write_pieces(self._opened(), [b"".join(contents)])
        self._blocks.append(begins)
        self._end = begins[-1]

    def read(self, bucket: int) -> Iterator[bytes]:
        """What was written to a bucket, a piece for each write."""
        for begins in self._blocks:
            begin, end = begins[bucket], begins[bucket + 1]
            if begin < end:
                yield os.pread(self._opened(), end - begin, begin)

    def _opened(self) -> int:
        if self._file is None:
            self._file = open_nameless(self._folder)
        return self._file.fileno()


class RecordPartitions(Partitions):
    """Takes records, and returns those of a bucket in the order in which they came."""

    def __init__(self, folder: Path, buckets: int) -> None:
        super().__init__(folder)
        self._filling: list[list[bytes]] = [[] for _ in range(buckets)]
        self._in_memory = 0
        self._block = FIRST_BLOCK

    def add(self, buckets: Iterable[int], records: Iterable[bytes]) -> None:
        """Put each record into its bucket."""
        into = map(self._filling.__getitem__, buckets)
        self._in_memory += list(map(list.append, into, records)).count(None)  # a loop in C
        if self._in_memory >= self._block:
            self.write([b"".join(records) for records in self._filling])
            for filled in self._filling:
                filled.clear()
            self._in_memory = 0
            self._block = min(2 * self._block, LARGEST_BLOCK)

    def read(self, bucket: int) -> Iterator[bytes]:
        """The records of a bucket, some at a time, one behind the other."""
        yield from super().read(bucket)
        yield b"".join(self._filling[bucket])


BUCKETS = 256  # of ten million rows, one has as many as fit into some megabytes
ROW_BITS = 15  # 32 Ki rows a bucket

_encode = msgspec.json.Encoder().encode
_MARK = struct.Struct("<Qq")  # row, and what is known of it: see `Marks`

Marks = Mapping[int, int]
"""By row: the number of the row that it repeats; or, less than zero, how many repeat it."""


class DuplicateFinder(Partitions):
    """Takes the keys of rows, in order, and finds the duplicates among them. A context manager.

    It puts their hashes into buckets by the lowest byte. On the disk of the folder, it needs 16
    bytes a row; for each row that recurs, its location and 48. Each method may raise an OSError.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._rows = 0
        self._hashes, self._numbers = array("q"), array("q")  # what was not written yet
        self._block = FIRST_BLOCK

    def add(self, rows: Sequence[int], keys: Sequence[bytes]) -> None:
        """Add the keys of rows; blocks now and then."""
        if not rows:
            return
        self._rows = rows[-1] + 1
        self._numbers.extend(rows)
        self._hashes.extend(map(hash, keys))
        if len(self._numbers) >= self._block:
            self._write_hashes()

    def _write_hashes(self) -> None:
        size = self._hashes.itemsize
        lowest = self._hashes.tobytes()[0 if sys.byteorder == "little" else size - 1 :: size]
        # Arrays, not lists: the numbers are not kept alive, and the processor's caches hold them.
        buckets = [(array("q"), array("q")) for _ in range(BUCKETS)]
        for column, numbers in enumerate((self._hashes, self._numbers)):
            into = map([each[column] for each in buckets].__getitem__, lowest)
            deque(map(array.append, into, numbers), maxlen=0)  # a loop in C
            del numbers[:]
        self.write([hashes.tobytes() + rows.tobytes() for hashes, rows in buckets])
        self._block = min(2 * self._block, LARGEST_BLOCK)

    def _read_hashes(self, bucket: int) -> tuple[array[int], array[int]]:
        """The hashes and the rows of a bucket, as far as they are written."""
        hashes, rows = array("q"), array("q")
        for written in self.read(bucket):
            half = len(written) // 2
            hashes.frombytes(written[:half])
            rows.frombytes(written[half:])
        return hashes, rows

    def find(
        self, chunks: Callable[[], Iterator[Chunk]], check_cancelled: Callable[[], None]
    ) -> DuplicateIndex | None:
        """Find the rows that repeat others; None if there are none. Blocks.

        Args:
            chunks: Returns all rows once more, in order.
            check_cancelled: Called now and then; may raise.
        """
        self._write_hashes()
        with DuplicateIndex(self._folder, self._rows) as candidates:
            for bucket in range(BUCKETS):
                check_cancelled()
                candidates.add(_recurring(*self._read_hashes(bucket)))
            if not candidates.rows:
                return None
            return self._confirmed(candidates, chunks(), check_cancelled)

    def _confirmed(
        self,
        candidates: DuplicateIndex,
        chunks: Iterator[Chunk],
        check_cancelled: Callable[[], None],
    ) -> DuplicateIndex | None:
        """Those of the candidates that repeat others in all that is asked."""
        with RecordPartitions(self._folder, BUCKETS) as compared:
            for chunk in chunks:
                check_cancelled()
                marks = candidates.of(chunk)
                if marks:
                    _put_into(compared, chunk, marks)
            repeats = DuplicateIndex(self._folder, self._rows)
            try:
                for bucket in range(BUCKETS):
                    check_cancelled()
                    _find_equal(compared.read(bucket), repeats)
            except BaseException:
                repeats.close()
                raise
        if not repeats.rows:
            repeats.close()
            return None
        return repeats


def _recurring(hashes: array[int], rows: array[int]) -> list[tuple[int, int]]:
    """The rows whose hash is that of others, each with the first of these."""
    if len(set(hashes)) == len(hashes):
        return []
    first_of: dict[int, int] = {}
    first = first_of.setdefault
    repeated = [
        (row, before)
        for hashed, row in zip(hashes, rows, strict=True)
        if (before := first(hashed, row)) != row
    ]
    return [*repeated, *((before, before) for before in {before for _, before in repeated})]


def _put_into(compared: RecordPartitions, chunk: Chunk, firsts: Mapping[int, int]) -> None:
    """Put the candidates of a chunk where they are compared.

    A line each: the row, the first one with its hash, why sources are not asked, and the location.
    """
    places = [place for place, row in enumerate(chunk.rows) if row in firsts]
    numbers = [(chunk.rows[place], firsts[chunk.rows[place]]) for place in places]
    locations = chunk.locations
    compared.add(
        [first % BUCKETS for _, first in numbers],
        [
            b"%d %d %b\t%b\n"
            % (
                *each,
                _encode(chunk.skipped.get(place, ())),
                locations[place].partition(b",")[2],  # without the row's number
            )
            for place, each in zip(places, numbers, strict=True)
        ],
    )


def _find_equal(blocks: Iterator[bytes], repeats: DuplicateIndex) -> None:
    first_of: dict[bytes, int] = {}  # by what is asked as it stands, which mostly is enough
    first_by_key: dict[bytes, int] = {}
    asked_by_hash: dict[bytes, bytes] = {}
    duplicate_counts: Counter[int] = Counter()
    for block in blocks:
        repeated: list[tuple[int, int]] = []
        for line in block.splitlines():
            number, hashed, asked = line.split(b" ", 2)
            row = int(number)
            before = first_of.get(asked)
            if before is None:
                before = row
                other = asked_by_hash.setdefault(hashed, asked)
                if other is not asked:
                    first_by_key.setdefault(_key_of(other), first_of[other])
                    before = first_by_key.setdefault(_key_of(asked), row)
                first_of[asked] = before
            if before != row:
                repeated.append((row, before))
        repeats.add(repeated)
        duplicate_counts.update(before for _, before in repeated)
    repeats.add([(row, -number) for row, number in duplicate_counts.items()])


def _key_of(asked: bytes) -> bytes:
    skipped, _, location = asked.partition(b"\t")
    return skipped + sent_key(b"{" + location)


class DuplicateIndex(Closing):
    """Which rows repeat which, on disk; `rows` is how many repeat another one.

    `rows_in_all` is the number of input rows up to the last one that is sent.
    """

    def __init__(self, folder: Path, rows_in_all: int) -> None:
        self._marks = RecordPartitions(folder, (rows_in_all >> ROW_BITS) + 1)
        self._loaded: dict[int, Marks] = {}
        self.rows = 0

    def close(self) -> None:
        """Give the disk back."""
        self._marks.close()

    def add(self, marks: Sequence[tuple[int, int]]) -> None:
        """Add what is known of rows: see `Marks`."""
        self._marks.add((row >> ROW_BITS for row, _ in marks), starmap(_MARK.pack, marks))
        self.rows += sum(mark >= 0 for _, mark in marks)

    def of(self, chunk: Chunk) -> Marks:
        """The marks of a chunk's rows, perhaps among others; ask for chunks in order.

        Blocks now and then.
        """
        if not chunk.rows:
            return {}
        wanted = range(chunk.rows[0] >> ROW_BITS, (chunk.rows[-1] >> ROW_BITS) + 1)
        self._loaded = {bucket: self._loaded.get(bucket) or self._load(bucket) for bucket in wanted}
        if len(wanted) == 1:
            return self._loaded[wanted[0]]
        return {row: mark for marks in self._loaded.values() for row, mark in marks.items()}

    def _load(self, bucket: int) -> Marks:
        marks: dict[int, int] = {}
        for read in self._marks.read(bucket):
            marks.update(_MARK.iter_unpack(read))
        return marks
