"""The journal of a run: what has become of each chunk, on disk before anything builds on it.

Many callers share one connection, and those who wait at the same time one visit to a thread and
one fsync (group commit).
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import (
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
)

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES, Chunk, RetryRow
from pingdata_async.models import JobOutput, Reason
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure
from pingdata_async.runs.journal import transitions
from pingdata_async.runs.journal.records import (
    PLANNED_CHUNKS,
    RECORD_COLUMNS,
    ChunkRecord,
    PackedOutput,
    SpoolPlace,
    SubmissionRecord,
    code_of,
    damage_in,
    read_meta,
    read_record,
    record_of,
    state_named,
)
from pingdata_async.runs.journal.schema import (
    create_journal,
    open_writer,
    rest,
    roll_back,
    translated,
)

P = ParamSpec("P")
T = TypeVar("T")

BUSY_COMMIT_EVERY_S = 0.01  # next to nothing beside what a job takes, and a third of the commits

_OF_ONE_OPERATION = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)


class _Operation(Generic[T]):
    __slots__ = ("act", "error", "result")

    def __init__(self, act: Callable[[sqlite3.Connection], T]) -> None:
        self.act = act
        self.result: T | None = None
        self.error: Exception | None = None


class _Batch:
    """Operations that are committed together.

    Attributes:
        operations: Those, in the order in which they came.
        notes: Those of them for which nobody waits.
        is_written: Whether they are committed, or were refused.
        error: Why none of them is.
    """

    def __init__(self) -> None:
        self.operations: list[_Operation[object]] = []
        self.notes: list[_Operation[object]] = []
        self.is_written = False
        self.error: RunError | None = None


class OutputLog(Protocol):
    """Keeps outputs for the journal, as `Spool` does; all of it blocks."""

    def append(self, output: PackedOutput) -> SpoolPlace:
        """Append an output; raises OSError."""
        ...

    def sync(self) -> None:
        """Sync appended outputs to disk; raises RunError."""
        ...

    def undo(self) -> None:
        """Remove what was appended since `sync()`."""
        ...


class GroupWriter:
    """Carries out operations on a connection in threads, in the order in which they came.

    Whoever comes while a batch is being written joins the next one; so the busier it is, the
    more operations share an fsync. Where several come at a time, commits begin at
    least 10 ms apart. An operation that raises is undone alone; when the batch
    cannot be committed, each who waits for it gets a RunError.

    Args:
        connection: In autocommit mode; used by nobody else.
        path: Its file, for messages.
        outputs: What operations append to; on the disk before they are committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, outputs: OutputLog | None = None
    ) -> None:
        self._connection = connection
        self._path = path
        self._outputs = outputs
        self._pending = _Batch()
        self._turn = anyio.Lock(fast_acquire=True)
        # Its own: other threads' work must not keep a commit waiting.
        self._limiter = anyio.CapacityLimiter(1)
        # A task cancelled by asyncio itself leaves its thread at work: the next one waits here.
        self._at_work = threading.Lock()
        self._note_error: Exception | None = None
        self._is_busy = False
        self._begun_at = -math.inf

    async def commit(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out an operation; returns when it is on disk.

        Being cancelled does not undo it: what is begun here is committed.

        Raises:
            RunError: When it cannot be written, or what the operation raised.
        """
        operation = _Operation(act)
        batch = self._pending
        batch.operations.append(cast("_Operation[object]", operation))
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if not batch.is_written:
                    await self._let_others_join()
                    await self._write(batch)
        if batch.error is not None:
            raise RunError(str(batch.error)) from batch.error
        if operation.error is not None:
            raise operation.error
        return cast("T", operation.result)

    async def _let_others_join(self) -> None:
        """While operations keep coming, wait for more: one commit costs the same for many."""
        now = asyncio.get_running_loop().time()
        if self._is_busy and now < self._begun_at + BUSY_COMMIT_EVERY_S:
            await anyio.sleep(self._begun_at + BUSY_COMMIT_EVERY_S - now)

    def note(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """Carry out an operation with the next commit, at the latest with `flush()`.

        What it raises is raised by `flush()`.
        """
        operation: _Operation[object] = _Operation(act)
        self._pending.operations.append(operation)
        self._pending.notes.append(operation)

    async def flush(self) -> None:
        """Commit the waiting operations.

        Raises:
            RunError: When it cannot be written, or what a note raised.
        """
        if self._pending.operations:
            await self.commit(_nothing)
        if self._note_error is not None:
            raise self._note_error

    async def _write(self, batch: _Batch) -> None:
        if self._pending is batch:
            self._pending = _Batch()
        self._begun_at = asyncio.get_running_loop().time()
        # One after the other, each waiting for its own commit, are not made to wait longer.
        self._is_busy = len(batch.operations) - len(batch.notes) > 1
        await anyio.to_thread.run_sync(self._write_once, batch, limiter=self._limiter)
        if batch.error is not None and batch.notes:
            # Nobody waits for them, and what comes later builds on them.
            self._pending.operations[:0] = batch.notes
            self._pending.notes[:0] = batch.notes
            batch.notes = []

    def _write_once(self, batch: _Batch) -> None:
        with self._at_work:
            if batch.is_written:
                return
            connection = self._connection
            try:
                with translated(self._path):
                    # At once for writing: a reader's lock taken up later could be refused.
                    connection.execute("BEGIN IMMEDIATE")
                    for operation in batch.operations:
                        _carry_out(connection, operation)
                    if self._outputs is not None:
                        self._outputs.sync()  # one for all of them, as of the journal itself
                    # One that fails may be found made after a crash: what it speaks of stays.
                    connection.execute("COMMIT")
            except RunError as error:
                batch.error = error
            finally:
                if self._outputs is not None:
                    self._outputs.undo()  # nothing, if all went well
                roll_back(connection)
            for note in batch.notes:
                self._note_error = self._note_error or note.error
            batch.is_written = True

    def finish(self, act: Callable[[sqlite3.Connection], None]) -> None:
        """Do one more thing with the connection, then close it; blocks."""
        with self._at_work:
            try:
                with translated(self._path):
                    act(self._connection)
            finally:
                self._connection.close()


def _carry_out(connection: sqlite3.Connection, operation: _Operation[object]) -> None:
    operation.error = None  # of an earlier try
    connection.execute("SAVEPOINT operation")
    try:
        operation.result = operation.act(connection)
    except sqlite3.DatabaseError as error:
        if not isinstance(error, _OF_ONE_OPERATION):
            raise  # the file or the disk is at fault: nothing of the batch can be kept
        operation.error = RunError(f"the journal refused an entry ({error}); please report this")
        operation.error.__cause__ = error
    except Exception as error:  # noqa: BLE001 - raised again to whoever asked for it
        operation.error = error
    if operation.error is not None:
        connection.execute("ROLLBACK TO operation")
    connection.execute("RELEASE operation")


def _nothing(_connection: sqlite3.Connection) -> None:
    pass


INTERRUPTED = "the run was cut off before the answer came"
NO_SOURCES: Mapping[str, int] = MappingProxyType({})
RECORDS_A_PAGE = 16  # later chunks that are in memory at a time, beside those at work


class CarriedChunk(NamedTuple):
    """A planned chunk of whose rows earlier runs have answers; attributes as of `spooled()`."""

    number: int
    tally: Tally
    retry_rows: Collection[RetryRow]
    offset_index: OffsetIndex | None
    output: PackedOutput


class Journal:
    """Records what becomes of every chunk of a run; an async context manager.

    Each method returns when what it was told is on disk, except `completed()`. A cancellation
    undoes nothing. An illegal change of state is refused, and changes nothing. Only one process at
    a time may have it open: hold the run's lock.

    Args:
        path: The journal's file.
        outputs: Keeps the outputs of chunks; None where none is kept.
        create: Whether to create it; it must not exist then.
    """

    def __init__(
        self, path: Path, outputs: OutputLog | None = None, *, create: bool = False
    ) -> None:
        self._path = path
        self._outputs = outputs
        self._create = create
        self._writer: GroupWriter | None = None
        self._next_index = 0
        self.planned_chunks: int | None = None

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            RunError: When it is missing, damaged, made by another version, or cannot be used.
        """
        with anyio.CancelScope(shield=True):
            connection = await anyio.to_thread.run_sync(self._open)
            self._writer = GroupWriter(connection, self._path, self._outputs)
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
        """Commit the waiting operations, and close the journal.

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

    async def _commit(
        self,
        act: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **options: P.kwargs,
    ) -> T:
        return await self._opened().commit(lambda connection: act(connection, *args, **options))

    def _opened(self) -> GroupWriter:
        if self._writer is None:
            raise RuntimeError("a journal is used inside its `async with` block")
        return self._writer

    # -- the run itself ------------------------------------------------------------------

    async def get_meta(self, key: str) -> Any:
        """A value by name; None where there is none."""
        return await self._commit(read_meta, key)

    async def set_meta(self, key: str, value: object) -> None:
        """Store a JSON value under a name."""
        text = msgspec.json.encode(value).decode()
        await self._commit(transitions.set_meta, key, text)

    async def set_planned_chunks(self, chunks: int) -> None:
        """Note how many chunks the plan has, once it is whole; nothing can be sent before.

        Raises:
            RunError: When another number was set before, and chunks have been sent since.
        """
        await self._commit(transitions.set_planned_chunks, chunks)
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
        submission = transitions.Submission(len(chunk.rows), charged_before, asked, time.time())
        await self._commit(transitions.submit, chunk.index, submission)

    async def refused(self, chunk: Chunk) -> None:
        """That submission surely made no job."""
        await self._commit(transitions.refuse, chunk.index, time.time())

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """That submission made this job."""
        await self._commit(transitions.accept, chunk.index, job_id, time.time())

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:
        """The submission may have made a job; if held, the user decides what follows."""
        await self._commit(transitions.doubt, chunk.index, error, hold, time.time())

    async def completed(self, chunk: Chunk, outputs: Sequence[JobOutput]) -> None:
        """The chunk's job is done; these are its outputs.

        Written with the next commit, whoever makes it: where that is lost, the job is asked
        about once more, which costs nothing.
        """
        index, now = chunk.index, time.time()
        self._opened().note(
            lambda connection: transitions.complete(connection, index, outputs, now)
        )

    async def unreadable(self, chunk: Chunk) -> None:
        """The output of the chunk's job can never be read."""
        await self._commit(transitions.note_unreadable, chunk.index)

    async def job_lost(self, chunk: Chunk, error: str) -> None:
        """The chunk's job is lost."""
        await self._commit(transitions.lose_job, chunk.index, error, time.time())

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """These parts take a chunk's place."""
        await self._commit(transitions.split, chunk.index, parts, time.time())

    async def batched(self, chunk: Chunk) -> None:
        """Record a new chunk of rows that waited to be retried."""
        await self._commit(transitions.batched, chunk, time.time())

    async def spooled(
        self,
        index: int,
        tally: Tally,
        retry_rows: Collection[RetryRow] = (),
        offset_index: OffsetIndex | None = None,
        output: PackedOutput | None = None,
    ) -> None:
        """A chunk is answered: store its output, and record that.

        Args:
            index: Its number.
            tally: How the rows ended that are settled now.
            retry_rows: The others, which wait to be retried.
            offset_index: Where in the output each row's answer is; None where it was not found so.
            output: What is kept.

        Raises:
            RunError: When it cannot be kept.
        """
        ended = transitions.SpooledChunk(tally, retry_rows, offset_index, time.time())
        await self._commit(transitions.spool, index, ended, self._keeping(index, output))

    def _keeping(self, index: int, output: PackedOutput | None) -> Callable[[], SpoolPlace | None]:
        def keep() -> SpoolPlace | None:
            if output is None or self._outputs is None:
                return None
            try:
                return self._outputs.append(output)
            except OSError as error:
                raise RunError(
                    f"the answer to chunk {index} cannot be kept: {error.strerror or error}"
                ) from error

        return keep

    async def carried(self, chunks: Sequence[CarriedChunk]) -> None:
        """Answers of earlier runs become those of planned chunks, before any of them is sent.

        Raises:
            RunError: When they cannot be kept.
        """
        now = time.time()

        def spool_all(connection: sqlite3.Connection) -> None:
            for number, counts, retry_rows, offset_index, output in chunks:
                spooled = transitions.SpooledChunk(counts, retry_rows, offset_index, now)
                transitions.carry(connection, number, spooled, self._keeping(number, output))

        await self._commit(spool_all)

    async def forget_plan(self) -> None:
        """Forget a plan that was cut off, and what was carried for it; nothing was sent."""
        await self._commit(transitions.forget_plan)

    async def failed(self, index: int, failure: Failure | None, tally: Tally) -> None:
        """No job answers a chunk, and none will.

        Args:
            index: Its number.
            failure: Why; None where nothing of it had to be sent.
            tally: How its rows ended.
        """
        await self._commit(transitions.fail, index, failure, tally, time.time())

    # -- going on where a run stopped ----------------------------------------------------

    async def doubt_interrupted(self, *, hold: bool) -> list[SubmissionRecord]:
        """Count submissions that were under way when the run was cut off as in doubt.

        Doing it again counts nothing again.

        Args:
            hold: Whether it is left to the user what to do now. If not, it will be sent again,
                and so will what was held before.

        Returns:
            What was counted.
        """
        return await self._commit(transitions.doubt_interrupted, INTERRUPTED, hold, time.time())

    async def pack_retry_rows(
        self, chunk_size: int, *, max_chunk_bytes: int = MAX_CHUNK_BYTES
    ) -> int:
        """Make chunks of the rows that wait to be retried; returns how many chunks."""
        chunks = 0
        while await self._commit(_any_retry_rows):
            index = self.next_index()
            await self._commit(transitions.pack, index, chunk_size, max_chunk_bytes, time.time())
            chunks += 1
        return chunks

    async def reopen(self, retry_rows: Collection[RetryRow], tally: Tally) -> int:
        """Retry rows that had an outcome.

        Args:
            retry_rows: The rows. Where all of them wait already, nothing changes.
            tally: How they had ended; that counts no more.

        Returns:
            How many rows wait now that did not before.

        Raises:
            RunError: When some of them wait already, and others do not.
        """
        return await self._commit(transitions.reopen, retry_rows, tally)

    async def fetch_again(self, reason: Reason, *, no_longer: str) -> int:
        """Fetch once more the outputs of chunks that failed for this reason.

        Args:
            reason: Which.
            no_longer: The name of a value that is not so any more, if there are any.

        Returns:
            How many rows had ended so; they have no outcome now.
        """
        now = time.time()

        def fetch_again(connection: sqlite3.Connection) -> int:
            rows = transitions.fetch_again(connection, reason, now)
            if rows:
                transitions.set_meta(connection, no_longer, "null")
            return rows

        return await self._commit(fetch_again)

    async def record(self, index: int) -> ChunkRecord | None:
        """The record of a chunk; None if it is planned and untouched."""
        return await self._commit(read_record, index)

    async def planned_states(self) -> bytearray:
        """The state of each planned chunk now, by its number, as `records.code_of()` has it."""
        return await self._commit(_planned_states)

    async def unfinished(self) -> AsyncGenerator[ChunkRecord, None]:
        """The unfinished chunks, as of the first call.

        Those that have a job come first: they are paid for. Then come later chunks that wait
        to be sent. Planned chunks that wait are not among them: `planned_states()` has those.
        Each is read shortly before it is given; the rest of them is 8 bytes each.
        """
        indexes = await self._commit(_unfinished)
        for begin in range(0, len(indexes), RECORDS_A_PAGE):
            page = list(indexes[begin : begin + RECORDS_A_PAGE])
            for record in await self._commit(_records, page):
                yield record


def _extent(connection: sqlite3.Connection) -> tuple[int | None, int]:
    planned = read_meta(connection, PLANNED_CHUNKS)
    largest = connection.execute("SELECT coalesce(max(idx), -1) FROM chunks").fetchone()[0]
    return planned if isinstance(planned, int) else None, largest


def _any_retry_rows(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM retry_rows LIMIT 1").fetchone() is not None


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
