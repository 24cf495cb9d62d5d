"""A run directory in memory: plan, journal and spool that outlive a crash of the client.

The journal is the real one, on a database in memory; so what a crash leaves behind, and what
a resumed run makes of it, is decided by the real code.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.runs.directory.directory import RunDirectory
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.journal import schema as journal_schema
from pingdata_async.runs.journal.journal import Journal, OutputLog
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import PackedOutput, SpoolPlace
from pingdata_async.runs.run import Run
from pingdata_async.util.encoding import EncodedBody
from tests.support.plans import summary_of

NOWHERE = Path("in memory")
T = TypeVar("T")


class _MemoryJournal(Journal):
    """The journal of one client, on a database that outlives it."""

    def __init__(self, connection: sqlite3.Connection, outputs: OutputLog) -> None:
        super().__init__(NOWHERE, outputs)
        self._connection = connection

    def _open(self) -> sqlite3.Connection:
        return self._connection

    async def close(self) -> None:
        """Write what is still noted, as when the real one is closed; the database stays."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with anyio.CancelScope(shield=True):
                await writer.flush()


class _MemorySpool(Spool):
    """Outputs in the order in which they came."""

    def __init__(self) -> None:
        super().__init__(NOWHERE)
        self._outputs: list[PackedOutput] = []

    def append(self, output: PackedOutput) -> SpoolPlace:
        self._outputs.append(output)
        return SpoolPlace(f"000000{output.suffix}", len(self._outputs) - 1, len(output.content))

    def _keep_unreadable(self, index: int, bodies: Sequence[EncodedBody]) -> Path:  # noqa: ARG002
        return NOWHERE

    def _read(self, place: SpoolPlace) -> bytes:
        return self._outputs[place.begin].content


class _MemoryPlan(Plan):
    """The planned chunks.

    Attributes:
        rows_read: Rows of chunks that were read.
    """

    def __init__(self, chunks: Sequence[Chunk], sources: tuple[str, ...]) -> None:
        self._planned = chunks
        self.rows_read = 0
        self.summary = summary_of(chunks, sources)

    @property
    def chunks(self) -> int:
        return len(self._planned)

    def read(self, index: int) -> Chunk:
        self.rows_read += self._planned[index].total_rows
        return self._planned[index]


class MemoryDirectory(RunDirectory):
    """What the clients of one run share, one after the other.

    Args:
        chunks: The plan.
        sources: The run's sources.
    """

    def __init__(self, chunks: Sequence[Chunk], sources: tuple[str, ...]) -> None:
        super().__init__(NOWHERE)
        self.planned = chunks
        self.plan: _MemoryPlan = _MemoryPlan(chunks, sources)
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        # Python 3.13 warns of one that is left open.
        weakref.finalize(self, self.connection.close)
        journal_schema.create_tables(self.connection)
        self.spool: _MemorySpool = _MemorySpool()
        self.reader = JournalReader(NOWHERE)
        self.reader._connection = self.connection
        self._sources = sources

    async def open(self) -> None:
        """A client takes the run up."""
        self.journal = _MemoryJournal(self.connection, self.spool)
        await self.journal.__aenter__()
        await self.journal.set_planned_chunks(len(self.planned))

    async def close(self) -> None:
        """It ends in good order."""
        assert isinstance(self.journal, _MemoryJournal)
        await self.journal.close()

    def later_rows(self) -> int:
        """Rows of chunks that are not planned ones, and not at an end."""
        found = self.connection.execute(
            "SELECT idx FROM chunks WHERE idx >= ? AND state IN"
            " ('planned', 'submitting', 'submitted', 'complete')",
            (len(self.planned),),
        ).fetchall()
        return sum(len(self.rows_of(index)) for (index,) in found)

    def answers(self) -> ResultReader:
        """The outcomes of its rows."""
        return ResultReader(self.spool, self.reader, self._sources)

    def rows_of(self, index: int) -> list[int]:
        """The rows of any chunk."""
        if index < len(self.planned):
            return self.planned[index].rows
        record = self.reader.record(index)
        assert record is not None
        assert record.chunk is not None
        return record.chunk.rows


class _NoOutput:
    def expect(self, chunk: Chunk) -> None:
        pass

    async def offer(self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None) -> None:
        pass


class MemoryRun(Run):
    """A run whose directory is in memory; only executed, never exported."""

    async def execute(self, directory: MemoryDirectory, *, may_pay_again: bool) -> None:
        """Go on with what is left to be done, as `resume` or as `retry` would."""
        self._is_retry = may_pay_again
        await self._execute(directory, directory.plan, _NoOutput())

    async def _read(self, directory: RunDirectory, read: Callable[[JournalReader], T]) -> T:
        assert isinstance(directory, MemoryDirectory)
        return await anyio.to_thread.run_sync(read, directory.reader)
