"""The journal: what has become of each chunk, on disk before anything builds on it."""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.bulk.checking import Failure
from pingdata_async.bulk.chunking import MAX_CHUNK_BYTES
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.later_chunks import Leftover
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally
from pingdata_async.exceptions import RunError
from pingdata_async.models import JobOutput, Reason
from pingdata_async.runs import journal_changes as changes
from pingdata_async.runs.journal_records import (
    PLANNED_CHUNKS,
    RECORD_COLUMNS,
    ChunkRecord,
    SubmissionRecord,
    damage_in,
    read_meta,
    read_record,
    record_of,
    state_named,
)
from pingdata_async.runs.journal_schema import create_journal, open_writer, rest
from pingdata_async.runs.journal_writer import GroupWriter
from pingdata_async.runs.states import code_of

INTERRUPTED = "the run was cut off before the answer came"
NO_SOURCES: Mapping[str, int] = MappingProxyType({})
RECORDS_A_PAGE = 16  # later chunks that are in memory at a time, beside those at work

T = TypeVar("T")


class Journal:
    """Keeps account of every chunk of a run; an async context manager.

    Each method returns when what it was told is on disk, `completed()` alone excepted. None is
    undone by a cancellation. What is not a legal change of state is refused, and changes
    nothing. One process at a time may have it open: hold the run's lock.

    Args:
        path: The journal's file.
        create: Whether to make it, which must not exist then.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        self._create = create
        self._writer: GroupWriter | None = None
        self._next_index = 0
        self.planned_chunks: int | None = None

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            RunError: When it is missing, damaged, made by a newer version, or cannot be used.
        """
        with anyio.CancelScope(shield=True):
            connection = await anyio.to_thread.run_sync(self._open)
            self._writer = GroupWriter(connection, self._path)
            planned_chunks, largest = await self._commit(_extent)
        self.planned_chunks = planned_chunks
        self._next_index = max(planned_chunks or 0, largest + 1)
        return self

    def _open(self) -> sqlite3.Connection:
        if self._create:
            create_journal(self._path)
        return open_writer(self._path)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is still noted, and close it.

        Raises:
            RunError: When that cannot be written, unless another error is on its way.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                await writer.flush()
            except RunError:
                if exc is None:
                    raise
            finally:
                await anyio.to_thread.run_sync(writer.finish, rest)

    async def _commit(self, act: Callable[[sqlite3.Connection], T]) -> T:
        return await self._opened().commit(act)

    def _opened(self) -> GroupWriter:
        if self._writer is None:
            raise RuntimeError("a journal is used inside its `async with` block")
        return self._writer

    # -- the run itself ------------------------------------------------------------------

    async def get_meta(self, key: str) -> Any:
        """A value by name; None where there is none."""
        return await self._commit(lambda connection: read_meta(connection, key))

    async def set_meta(self, key: str, value: object) -> None:
        """Keep a value that JSON can hold under a name."""
        text = msgspec.json.encode(value).decode()
        await self._commit(lambda connection: changes.set_meta(connection, key, text))

    async def set_planned_chunks(self, chunks: int) -> None:
        """Say how many chunks the plan has, once it is whole; nothing can be sent before.

        Raises:
            RunError: When it was said otherwise before, and chunks have been sent since.
        """
        await self._commit(lambda connection: changes.set_planned_chunks(connection, chunks))
        self.planned_chunks = chunks
        self._next_index = max(self._next_index, chunks)

    # -- what happens to a chunk ---------------------------------------------------------

    def next_index(self) -> int:
        """The number for a later chunk; each is given once."""
        index, self._next_index = self._next_index, self._next_index + 1
        return index

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int] = NO_SOURCES
    ) -> None:
        """A chunk is about to be submitted; `asked` of so many locations by each source."""
        submission = changes.Submission(len(chunk.rows), charged_before, asked, time.time())
        index = chunk.index
        await self._commit(lambda connection: changes.submit(connection, index, submission))

    async def refused(self, chunk: Chunk) -> None:
        """That submission surely made no job."""
        index, now = chunk.index, time.time()
        await self._commit(lambda connection: changes.refuse(connection, index, now))

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """That submission made this job."""
        index, now = chunk.index, time.time()
        await self._commit(lambda connection: changes.accept(connection, index, job_id, now))

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """That submission may have made a job; held, it is left to the user what to do now."""
        index, now = chunk.index, time.time()
        await self._commit(lambda connection: changes.doubt(connection, index, error, hold, now))

    async def completed(self, chunk: Chunk, outputs: Sequence[JobOutput]) -> None:
        """The chunk's job is done, and these are its outputs.

        Written with the next commit, whoever makes it: where that is lost, the job is asked
        about once more, which costs nothing.
        """
        index, now = chunk.index, time.time()
        self._opened().note(lambda connection: changes.complete(connection, index, outputs, now))

    async def unreadable(self, chunk: Chunk) -> None:
        """The output of the chunk's job can never be read."""
        index = chunk.index
        await self._commit(lambda connection: changes.note_unreadable(connection, index))

    async def abandoned(self, chunk: Chunk, error: str) -> None:
        """The chunk's job is lost."""
        index, now = chunk.index, time.time()
        await self._commit(lambda connection: changes.abandon(connection, index, error, now))

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """These parts take a chunk's place."""
        index, now = chunk.index, time.time()
        await self._commit(lambda connection: changes.split(connection, index, parts, now))

    async def gathered(self, chunk: Chunk) -> None:
        """Rows that waited to be asked again are a chunk now."""
        now = time.time()
        await self._commit(lambda connection: changes.gathered(connection, chunk, now))

    async def spooled(
        self,
        index: int,
        tally: Tally,
        leftovers: Collection[Leftover] = (),
        layout: Layout | None = None,
    ) -> None:
        """A chunk's answers are on disk.

        Args:
            index: Its number.
            tally: How the rows ended that are settled now.
            leftovers: The others, which wait to be asked again.
            layout: Where in the body each row's answer is; None where it was not found so.
        """
        now = time.time()
        await self._commit(
            lambda connection: changes.spool(
                connection, index, tally, leftovers, now, layout=layout
            )
        )

    async def failed(self, index: int, failure: Failure | None, tally: Tally) -> None:
        """No job answers a chunk, and none will.

        Args:
            index: Its number.
            failure: Why; None where nothing of it had to be sent.
            tally: How its rows ended.
        """
        now = time.time()
        await self._commit(lambda connection: changes.fail(connection, index, failure, tally, now))

    # -- going on where a run stopped ----------------------------------------------------

    async def doubt_interrupted(self, *, hold: bool) -> list[SubmissionRecord]:
        """Count what was being submitted when the run was cut off as in doubt.

        Doing it again counts nothing again.

        Args:
            hold: Whether it is left to the user what to do now. If not, it will be sent again,
                and so will what was held before.

        Returns:
            What was counted.
        """
        now = time.time()
        return await self._commit(
            lambda connection: changes.doubt_interrupted(connection, INTERRUPTED, hold, now)
        )

    async def pack_leftovers(
        self, chunk_size: int, *, max_chunk_bytes: int = MAX_CHUNK_BYTES
    ) -> int:
        """Make chunks of the rows that wait to be asked again; returns how many chunks."""
        chunks = 0
        while await self._commit(_any_leftovers):
            index, now = self.next_index(), time.time()
            await self._commit(
                lambda connection, index=index, now=now: changes.pack(  # type: ignore[misc]
                    connection, index, chunk_size, max_chunk_bytes, now
                )
            )
            chunks += 1
        return chunks

    async def reopen(self, leftovers: Collection[Leftover], tally: Tally) -> int:
        """Have rows that had ended asked again.

        Args:
            leftovers: The rows. Where all of them wait already, nothing changes.
            tally: How they had ended; that counts no more.

        Returns:
            How many rows wait now that did not before.

        Raises:
            RunError: When some of them wait already, and others do not.
        """
        return await self._commit(lambda connection: changes.reopen(connection, leftovers, tally))

    async def fetch_again(self, reason: Reason, *, no_longer: str) -> int:
        """Have the outputs of jobs fetched once more whose chunks failed for that reason.

        Args:
            reason: Which.
            no_longer: The name of a value that is not so any more, if there are any.

        Returns:
            How many rows had ended so; they have no outcome now.
        """
        now = time.time()

        def fetch_again(connection: sqlite3.Connection) -> int:
            rows = changes.fetch_again(connection, reason, now)
            if rows:
                changes.set_meta(connection, no_longer, "null")
            return rows

        return await self._commit(fetch_again)

    async def record(self, index: int) -> ChunkRecord | None:
        """What is known of a chunk; None of a planned one that was not touched yet."""
        return await self._commit(lambda connection: read_record(connection, index))

    async def planned_states(self) -> bytearray:
        """The state of each planned chunk now, by its number, as `states.code_of()` has it."""
        return await self._commit(_planned_states)

    async def unfinished(self) -> AsyncGenerator[ChunkRecord, None]:
        """Chunks that are not at an end, as they are when this is begun.

        Those that have a job come first: they are paid for. Then come later chunks that wait
        to be sent. Planned chunks that wait are not among them: `planned_states()` has those.
        Each is read shortly before it is given; the rest of them is 8 bytes each.
        """
        indexes = await self._commit(_unfinished)
        for begin in range(0, len(indexes), RECORDS_A_PAGE):
            page = list(indexes[begin : begin + RECORDS_A_PAGE])
            for record in await self._commit(
                lambda connection, page=page: _records(connection, page)  # type: ignore[misc]
            ):
                yield record


def _extent(connection: sqlite3.Connection) -> tuple[int | None, int]:
    planned = read_meta(connection, PLANNED_CHUNKS)
    largest = connection.execute("SELECT coalesce(max(idx), -1) FROM chunks").fetchone()[0]
    return planned if isinstance(planned, int) else None, largest


def _any_leftovers(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM leftovers LIMIT 1").fetchone() is not None


def _planned_states(connection: sqlite3.Connection) -> bytearray:
    planned = read_meta(connection, PLANNED_CHUNKS)
    with damage_in(f"its {PLANNED_CHUNKS}"):
        states = bytearray(planned if isinstance(planned, int) else 0)
    touched = connection.execute(
        "SELECT idx, state FROM chunks WHERE idx BETWEEN 0 AND ?", (len(states) - 1,)
    )
    for index, state in touched:
        states[index] = code_of(state_named(state))
    return states


def _unfinished(connection: sqlite3.Connection) -> array[int]:
    with_jobs = connection.execute(
        "SELECT idx FROM chunks WHERE state IN ('submitted', 'complete') ORDER BY idx"
    )
    indexes = array("q", (index for (index,) in with_jobs))
    waiting = connection.execute(
        "SELECT idx FROM chunks WHERE state = 'planned' AND idx >= ? ORDER BY idx",
        (read_meta(connection, PLANNED_CHUNKS) or 0,),
    )
    indexes.extend(index for (index,) in waiting)
    return indexes


def _records(connection: sqlite3.Connection, indexes: list[int]) -> list[ChunkRecord]:
    places = ", ".join("?" * len(indexes))
    found = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM chunks WHERE idx IN ({places})",  # noqa: S608 - no values
        indexes,
    )
    by_index = {record.index: record for record in map(record_of, found)}
    return [by_index[index] for index in indexes]
