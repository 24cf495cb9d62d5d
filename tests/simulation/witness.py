"""Sees all that happens in a simulated run, and can end it at any step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import anyio

from pingdata_async.engine.context import ChunkStore, FinishedChunk
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.encoding import EncodedBody
from tests.simulation.paced_api import Endpoints

T = TypeVar("T")


class Killed(Exception):  # noqa: N818 - it is no error, but the end
    """Raised out of every step that a dead client would take."""


class Log:
    """Everything that happened, with its time.

    Attributes:
        lines: The last of it, where it is kept.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._digest = hashlib.sha256()
        self._keeps = keeps
        self.lines: list[str] = []

    def note(self, what: str) -> None:
        """Write down that something happens now."""
        line = f"{anyio.current_time()!r} {what}"
        self._digest.update(line.encode())
        if self._keeps:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """The same for the same events at the same times."""
        return self._digest.hexdigest()


class Fuse:
    """Ends a client after a number of steps, or when told to.

    Args:
        at_step: The step; None for never.
        blow: Ends it.
    """

    def __init__(self, at_step: int | None, blow: Callable[[], None]) -> None:
        self._left = at_step
        self._blow = blow
        self.is_dead = False

    def blow(self) -> None:
        """The client is no more."""
        self.is_dead = True
        self._blow()

    def step(self) -> None:
        """A step is about to be taken, or was just taken.

        Raises:
            Killed: When the client does not live to see what comes next.
        """
        if self._left is not None and not self.is_dead:
            self._left -= 1
            if self._left <= 0:
                self.blow()
        if self.is_dead:
            raise Killed


class WatchedAPI:
    """An API, each of whose requests is a step that may be a client's last."""

    def __init__(self, api: Endpoints, fuse: Fuse, log: Log) -> None:
        self._api = api
        self._fuse = fuse
        self._log = log

    async def submit_body(self, body: bytes) -> str:
        self._begin("submit", str(len(body)))
        return self._end(await self._api.submit_body(body))

    async def status(self, job_id: str) -> JobStatus:
        self._begin("poll", job_id)
        return self._end(await self._api.status(job_id))

    async def fetch_body(self, job_id: str, output: JobOutput) -> EncodedBody:
        self._begin("fetch", job_id)
        return self._end(await self._api.fetch_body(job_id, output))

    def _begin(self, kind: str, about: str) -> None:
        self._fuse.step()
        self._log.note(f"{kind} {about}")

    def _end(self, answer: T) -> T:
        self._log.note(f"answered {answer!r}")
        self._fuse.step()
        return answer


class WatchedStore(ChunkStore):
    """A store whose calls are logged.

    Args:
        store: The real one.
        log: Of all that happens.
        on_abandoned: Told of each chunk whose job is given up, before the store is.

    Attributes:
        told: Jobs that it has said are safe.
        batched_rows: Rows that came back, to be asked again.
        delivered_rows: Rows that have an outcome now, wait to be asked again, or are held.
    """

    def __init__(self, store: ChunkStore, log: Log, on_abandoned: Callable[[int], None]) -> None:
        super().__init__(store.next_index)
        self._store = store
        self._log = log
        self._on_abandoned = on_abandoned
        self.is_durable = store.is_durable
        self.told: set[str] = set()
        self.batched_rows = self.delivered_rows = 0

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]
    ) -> None:
        self._log.note(f"store: submitting {chunk.index} {charged_before}")
        await self._store.submitting(chunk, charged_before=charged_before, asked=asked)

    async def refused(self, chunk: Chunk) -> None:
        self._log.note(f"store: refused {chunk.index}")
        await self._store.refused(chunk)

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        self._log.note(f"store: submitted {chunk.index} {job_id}")
        await self._store.submitted(chunk, job_id)
        self.told.add(job_id)

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        self._log.note(f"store: doubted {chunk.index} {hold}")
        await self._store.doubted(chunk, error, hold=hold)
        self.delivered_rows += chunk.total_rows * hold

    async def completed(self, chunk: Chunk, outputs: Sequence[JobOutput]) -> None:
        self._log.note(f"store: completed {chunk.index}")
        await self._store.completed(chunk, outputs)

    async def job_lost(self, chunk: Chunk, error: str) -> None:
        self._log.note(f"store: job_lost {chunk.index} {error}")
        self._on_abandoned(chunk.index)
        await self._store.job_lost(chunk, error)

    async def unreadable(self, chunk: Chunk, bodies: Sequence[EncodedBody]) -> str | None:
        self._log.note(f"store: unreadable {chunk.index}")
        return await self._store.unreadable(chunk, bodies)

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        self._log.note(f"store: split {chunk.index} {[part.index for part in parts]}")
        await self._store.split(chunk, parts)

    async def batched(self, chunk: Chunk) -> None:
        self._log.note(f"store: batched {chunk.index} {chunk.rows}")
        self.batched_rows += len(chunk.rows)
        await self._store.batched(chunk)

    async def deliver(self, finished: FinishedChunk) -> None:
        index, retry_rows = finished.chunk.index, len(finished.retry_rows)
        self._log.note(f"store: deliver {index} {finished.counts.rows} + {retry_rows}")
        await self._store.deliver(finished)
        self.delivered_rows += finished.counts.rows + retry_rows
