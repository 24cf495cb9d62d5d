"""What an export needs to know of the chunks, whoever keeps account of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pingdata_async.runs.journal_records import ChunkRecord


class Account(Protocol):
    """What an export asks of whoever keeps account of the chunks; called in a thread.

    The answers about one planned chunk must be of one moment, such as one read transaction:
    else a row that is just moving from one chunk to another could be taken for settled.
    """

    def record(self, index: int) -> ChunkRecord | None:
        """What is known of a chunk; None while it is planned and nothing more."""
        ...

    def later_chunks_of(self, origin: int) -> Sequence[ChunkRecord]:
        """The later chunks that hold rows of a planned one, in ascending order."""
        ...

    def waiting_rows(self, origin: int) -> set[int]:
        """Rows of a planned chunk that will be asked about again, and are in no chunk yet."""
        ...

    def reopened_rows(self, origin: int) -> Mapping[int, int]:
        """Rows of a planned chunk that had ended and were asked about again.

        By row: the number below which are the chunks that say how it had ended.
        """
        ...
