"""What the runner needs of the world, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.checking import Checked, Failure
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.later_chunks import Leftover
from pingdata_async.bulk.tally import Tally
from pingdata_async.models import EnhancedLocation, JobOutput, JobStatus
from pingdata_async.pacer import Pacer


class BulkAPI(Protocol):
    """The bulk endpoints, as `PingDataClient` has them; a simulation can stand in for it.

    Each method raises this package's errors, asks `pacer` right before each request that it
    sends, and sends nothing twice by itself.
    """

    async def submit_body(self, body: bytes, *, pacer: Pacer) -> str:
        """Submit an encoded job; returns its id."""
        ...

    async def status(self, job_id: str, *, pacer: Pacer) -> JobStatus:
        """Ask about a job."""
        ...

    async def fetch_body(
        self, job_id: str, output: JobOutput, *, pacer: Pacer, max_bytes: int | None = None
    ) -> OutputBody:
        """The whole of an output, as it comes over the wire; DecodeError above `max_bytes`."""
        ...


class FinishedChunk(msgspec.Struct, frozen=True):
    """A chunk that no job is needed for any more.

    Attributes:
        chunk: What it was.
        counts: How the rows ended that have their outcome now.
        checked: The answers; None where there are none.
        failure: Why there are none; None where there are, or nothing had to be sent.
        without_answer: The outcome of each row, where there are none.
        job_id: The job that answered; "" where none did.
    """

    chunk: Chunk
    counts: Tally
    checked: Checked | None = None
    failure: Failure | None = None
    without_answer: list[EnhancedLocation] = []
    job_id: str = ""

    @property
    def results(self) -> list[EnhancedLocation]:
        """The outcome of each row that has one, in the order of the rows; made when asked for."""
        return self.without_answer if self.checked is None else self.checked.results

    @property
    def leftovers(self) -> Sequence[Leftover]:
        """Rows without an outcome yet: they will be asked about again."""
        return () if self.checked is None else self.checked.leftovers


class Ledger(Protocol):
    """Keeps account of what happens to each chunk, and takes its answers.

    Each method returns when what it was told is safe; the runner goes on only then. None of
    them may be undone by a cancellation.

    Attributes:
        is_durable: Whether it outlives the run, so that what has begun can be gone on with
            another time.
    """

    is_durable: bool

    def next_index(self) -> int:
        """The number for a later chunk."""
        ...

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]
    ) -> None:
        """A chunk is about to be submitted.

        Args:
            chunk: The chunk.
            charged_before: Whether a job with any of its rows was, or may have been, accepted.
            asked: About how many of its locations each source is asked, by its code.
        """
        ...

    async def refused(self, chunk: Chunk) -> None:
        """That submission surely made no job."""
        ...

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """That submission made this job."""
        ...

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """That submission may have made a job.

        Args:
            chunk: The chunk.
            error: What happened.
            hold: Whether it is left to the user what to do now; else it will be submitted
                again, split or failed.
        """
        ...

    async def completed(self, chunk: Chunk, outputs: Sequence[JobOutput]) -> None:
        """The chunk's job is done, these outputs of it not fetched yet."""
        ...

    async def abandoned(self, chunk: Chunk, error: str) -> None:
        """The chunk's job is lost; it will be submitted again, split or failed."""
        ...

    async def unreadable(self, chunk: Chunk, bodies: Sequence[OutputBody]) -> str | None:
        """The output of the chunk's job can never be read; it will fail, or be left as it is.

        Args:
            chunk: The chunk.
            bodies: What came; nothing where nothing did, or too much.

        Returns:
            Where that is kept; None for nowhere.
        """
        ...

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """These parts take a chunk's place."""
        ...

    async def gathered(self, chunk: Chunk) -> None:
        """Leftovers are a chunk now."""
        ...

    async def deliver(self, finished: FinishedChunk) -> None:
        """Make a chunk's answers safe.

        Its room is free only when this returns: a ledger that is slow, or waits for a slow
        consumer, holds back reading, and so submitting. Its job slot is free already, or
        one slow consumer would keep every other user of the client from submitting.
        """
        ...
