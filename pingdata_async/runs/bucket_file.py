"""Records sorted into buckets on disk, for what is too many to be sorted in memory."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from pingdata_async.runs.filesystem import open_nameless, write_pieces

FIRST_BLOCK, LARGEST_BLOCK = 8 * 1024, 64 * 1024
"""Records that are written at once: few at first, as small inputs are the rule."""


class BucketFile:
    """Takes records, and gives those of a bucket back in the order in which they came.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
