"""What the runner needs of the world, and nothing more."""

from __future__ import annotations

from typing import Protocol

import msgspec

from pingdata_async.bulk.checking import Failure
from pingdata_async.bulk.chunking import Chunk
from pingdata_async.models import EnhancedLocation, JobOutput, JobStatus


class BulkAPI(Protocol):
    """The bulk endpoints, as `PingDataClient` has them; a simulation can stand in for it.

    Each method raises this package's errors, and sends nothing twice by itself.
    """

    async def submit_body(self, body: bytes) -> str:
        """Submit an encoded job; returns its id."""
        ...

    async def status(self, job_id: str) -> JobStatus:
        """Ask about a job."""
        ...

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        """The whole of an output."""
        ...


class FinishedChunk(msgspec.Struct, frozen=True):
    """A chunk all of whose rows have an outcome.

    Attributes:
        chunk: What it was.
        results: The outcome of each row, in the order of the rows; their data are slices of
            `body`.
        body: The API's output; None where there is none.
        failure: Why there is none; None where there is, or nothing had to be sent.
    """

    chunk: Chunk
    results: list[EnhancedLocation]
    body: bytes | None = None
    failure: Failure | None = None


class ChunkSink(Protocol):
    """Where finished chunks go."""

    async def deliver(self, finished: FinishedChunk) -> None:
        """Make a chunk safe.

        Its room is free only when this returns: a sink that is slow, or waits for a slow
        consumer, holds back reading, and so submitting. Its job slot is free already, or
        one slow consumer would keep every other user of the client from submitting.
        """
        ...
