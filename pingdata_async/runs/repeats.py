"""Which rows of an input repeat an earlier one, found in flat memory.

While the input is read, each row's key, in 128 bits, goes into one of many buckets on disk; equal
keys are in the same one. Afterwards each bucket is looked through by itself, and what recurs is
noted by row in buckets of another kind, of which one is in memory when its rows come again.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import repeat, starmap
from operator import and_
from pathlib import Path
from types import TracebackType
from typing import Self

from pingdata_async.runs.bucket_file import BucketFile

KEY_BYTES = 16
"""So many that no two different locations of any input have the same: 64 bits are too few."""

KEY_BUCKETS = 1024  # of ten million rows, one has as many as fit into some megabytes
ROW_BITS = 15  # 32 Ki rows a bucket

_KEYED = struct.Struct(f"<{KEY_BYTES}sQ")  # key, row
_MARK = struct.Struct("<Qq")  # row, and what is known of it: see `Marks`

Marks = Mapping[int, int]
"""By row: the number of the row that it repeats; or, less than zero, how many repeat it."""


def digests_of(keys: Sequence[bytes]) -> list[bytes]:
    """Keys in so few bytes that they can be compared by the million."""
    return [blake2b(key, digest_size=KEY_BYTES).digest() for key in keys]


class RepeatFinder:
    """Takes the keys of rows, in their order, and says at last which of them recur.

    A context manager.

    Args:
        folder: On whose disk there is room for 24 bytes a row, and 32 for each that recurs.

    Raises:
        OSError: By each method, when the disk cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keyed = BucketFile(folder, KEY_BUCKETS)
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keyed.__exit__(exc_type, exc, traceback)

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

    def find(self, check_cancelled: Callable[[], None]) -> Repeats | None:
        """Look them through; None where no row repeats another. Blocks.

        Args:
            check_cancelled: Called now and then; what it raises is passed on.
        """
        repeats = Repeats(self._folder, self._rows)
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

    def _look_through(self, bucket: int, repeats: Repeats) -> None:
        first_of: dict[bytes, int] = {}
        first = first_of.setdefault
        copies: Counter[int] = Counter()
        for keyed in self._keyed.read(bucket):
            repeated = [
                (row, before)
                for key, row in _KEYED.iter_unpack(keyed)
                if (before := first(key, row)) != row
            ]
            if repeated:
                repeats.add(repeated)
                copies.update(before for _, before in repeated)
        repeats.add_firsts(copies)


class Repeats:
    """Which rows repeat which, on disk.

    Args:
        folder: On whose disk.
        rows_in_all: Rows of the input up to the last one that is sent.

    Attributes:
        rows: How many rows repeat another one.
    """

    def __init__(self, folder: Path, rows_in_all: int) -> None:
        self._marks = BucketFile(folder, (rows_in_all >> ROW_BITS) + 1)
        self._loaded: dict[int, Marks] = {}
        self.rows = 0

    def close(self) -> None:
        """Give the disk back."""
        self._marks.__exit__(None, None, None)

    def add(self, repeated: Sequence[tuple[int, int]]) -> None:
        """Take rows that repeat others, each with the first one like it."""
        self._mark(repeated)
        self.rows += len(repeated)

    def add_firsts(self, copies: Mapping[int, int]) -> None:
        """Take the first ones, and how many repeat each."""
        self._mark([(row, -number) for row, number in copies.items()])

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
