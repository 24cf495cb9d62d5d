"""Group commit: many callers, one connection, one thread visit and one fsync for all who wait."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

import anyio
import anyio.to_thread

from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal_schema import roll_back, translated

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


class GroupWriter:
    """Carries out operations on a connection, in threads, in the order in which they came.

    Whoever comes while a batch is being written joins the next one; so the busier it is, the
    more operations share an fsync. Where several come at a time, commits begin at
    least 10 ms apart. An operation that raises is undone alone; when the batch
    cannot be committed, each who waits for it gets a RunError.

    Args:
        connection: In autocommit mode; used by nobody else.
        path: Its file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
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
        """Where others keep coming, wait for more of them: a commit costs the same for many."""
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
        """Commit what was noted.

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
                    connection.execute("COMMIT")
            except RunError as error:
                batch.error = error
            finally:
                roll_back(connection)
            for note in batch.notes:
                self._note_error = self._note_error or note.error
            batch.is_written = True

    def finish(self, act: Callable[[sqlite3.Connection], None]) -> None:
        """Do a last thing with the connection and close it; blocks."""
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
