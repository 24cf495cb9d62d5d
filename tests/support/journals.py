"""Chunks for the tests of the journal."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import anyio.to_thread

from pingdata_async.locations.chunk import Chunk, RetryRow, RowHistory, batch_rows
from pingdata_async.models import Reason
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader, JournalTotals
from pingdata_async.runs.journal.records import UNTOUCHED, ChunkState, state_of
from pingdata_async.runs.journal.schema import JOURNAL_NAME
from tests.support.chunks import body_of

FAILURE = Failure(Reason.REJECTED, "it was refused")
ROWS_A_CHUNK = 10


def planned(index: int, size: int = ROWS_A_CHUNK) -> Chunk:
    """A planned chunk; its rows follow from its number."""
    rows = list(range(index * size, (index + 1) * size))
    return Chunk(index, rows, [f"id {row}" for row in rows], body_of(rows))


def left(row: int, origin: int | None = None, times_asked: int = 1) -> RetryRow:
    """A row that is to be asked again."""
    origin = row // ROWS_A_CHUNK if origin is None else origin
    location = b'{"address":"x","sources":["PG"]}'
    return RetryRow(row, f"id {row}", location, ("PG",), RowHistory(origin, times_asked))


def later(index: int, *rows: int) -> Chunk:
    """A chunk of rows that are asked again."""
    return batch_rows(index, [left(row) for row in rows])


def counts(rows: int, failed: int = 0) -> Tally:
    """A tally."""
    reasons = {"no_match": failed} if failed else {}
    return Tally(rows=rows, ok=rows - failed, failed=failed, no_answer=failed, reasons=reasons)


async def make_journal(folder: Path, chunks: int = 10) -> Path:
    """An empty journal of a run of this many planned chunks."""
    path = folder / JOURNAL_NAME
    async with Journal(path, create=True) as journal:
        await journal.set_planned_chunks(chunks)
    return path


def copy_as_it_is(path: Path, folder: Path) -> Path:
    """What a crash now would leave of a journal, in another folder."""
    folder.mkdir()
    for file in path.parent.iterdir():
        if file.name.startswith(path.name) and not file.name.endswith("-shm"):
            shutil.copyfile(file, folder / file.name)
    return folder / path.name


def connection_of(journal: Journal) -> sqlite3.Connection:
    """What a journal writes through."""
    assert journal._writer is not None
    return journal._writer._connection


async def totals_of(path: Path) -> JournalTotals:
    """What a reader says of a journal."""

    def read() -> JournalTotals:
        with JournalReader(path) as reader:
            return reader.totals()

    return await anyio.to_thread.run_sync(read)


async def states_of(journal: Journal) -> dict[int, ChunkState]:
    """The states of the planned chunks that were touched."""
    codes = await journal.planned_states()
    return {index: state_of(code) for index, code in enumerate(codes) if code != UNTOUCHED}


async def submit(journal: Journal, *indexes: int) -> None:
    """Have these planned chunks accepted as jobs."""
    for index in indexes:
        await journal.submitting(planned(index), charged_before=False)
        await journal.submitted(planned(index), f"job {index}")
