"""What is known of a chunk, whoever keeps account of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pingdata_async.bulk.checking import Failure, Tally
from pingdata_async.bulk.chunking import Chunk


class ChunkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one chunk.

    Attributes:
        index: The chunk's number.
        state: planned, submitting, submitted, complete, spooled, failed or split.
        failure: Why it failed; None where it did not.
        chunk: The chunk itself, of a later one; None of a planned one, which is in the plan.
        job_id: Its last job; "" where none is known.
        since: When it came into this state, in seconds since the epoch.
        jobs: Jobs that the API accepted for it.
        doubts: Submissions of it that may have made a job.
        charged_before: Whether its rows were, or may have been, charged before.
        held: Whether it is left to the user what to do with it.
        tally: How its rows ended; None where they have not.
    """

    index: int
    state: str
    failure: Failure | None = None
    chunk: Chunk | None = None
    job_id: str = ""
    since: float = 0.0
    jobs: int = 0
    doubts: int = 0
    charged_before: bool = False
    held: bool = False
    tally: Tally | None = None


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
