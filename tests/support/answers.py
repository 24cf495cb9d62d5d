"""A journal in memory, and what is answered about planned chunks."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import Reason
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.validation import Failure
from pingdata_async.runs.directory.spool import Spool, packed_output
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import SpoolPlace, pack_chunk, pack_offset_index
from pingdata_async.runs.journal.schema import JOURNAL_NAME, create_tables
from pingdata_async.util.encoding import EncodedBody

FAILURE = Failure(Reason.REJECTED, "the API refused it")


class MemoryJournal(JournalReader):
    """A journal in memory, filled by a test."""

    def __init__(self, spool: Spool) -> None:
        super().__init__(Path(JOURNAL_NAME))
        self._spool = spool
        self._places: dict[int, SpoolPlace] = {}

    def keep(self, index: int, body: EncodedBody) -> SpoolPlace:
        """Keep a chunk's output, for when it is noted as spooled. Blocks."""
        with self._turn:  # as the journal's writer does, one after the other
            self._places[index] = keep_output(self._spool, body)
        return self._places[index]

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            # Python 3.13 warns of one that is left open.
            weakref.finalize(self, self._connection.close)
            create_tables(self._connection)
        return self._connection

    def put(
        self,
        chunk: Chunk,
        state: str,
        body: object = None,
        failure: Failure = FAILURE,
        *,
        offset_index: OffsetIndex | None = None,
        charged_before: bool = False,
    ) -> None:
        """Note a chunk's state; of a spooled one, spool the body. Blocks."""
        failed = msgspec.json.encode(failure).decode() if state == "failed" else None
        content = None if chunk.is_planned else pack_chunk(chunk)
        index = pack_offset_index(offset_index)
        where: tuple[object, ...] = (None, None, None)
        if state == "spooled":
            if body is not None:
                self.keep(chunk.index, EncodedBody(msgspec.json.encode(body)))
            if chunk.index in self._places:
                where = msgspec.structs.astuple(self._places[chunk.index])
        with self._turn:  # not within what another thread reads, and undoes
            self._opened().execute(
                "INSERT OR REPLACE INTO chunks"
                " (idx, state, since, charged_before, failure, segment, segment_begin,"
                " segment_size, content, offset_index) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?)",
                (chunk.index, state, charged_before, failed, *where, content, index),
            )
            for planned in {earlier.planned_chunk for earlier in chunk.earlier}:
                self._opened().execute(
                    "INSERT OR IGNORE INTO planned_chunks VALUES (?, ?)", (planned, chunk.index)
                )

    def wait(self, rows: Mapping[int, int]) -> None:
        """These rows alone wait to be retried, each with its planned chunk. Blocks."""
        self._opened().execute("DELETE FROM retry_rows")
        self._opened().executemany("INSERT INTO retry_rows VALUES (?, ?, '')", rows.items())


def planned_chunks(rows: int, chunk_size: int) -> list[Chunk]:
    """Chunks of that many addresses, as a plan has them."""
    builder = ChunkBuilder(chunk_size=chunk_size, sources=("PG",))
    locations = [{"id": f"r{row}", "address": f"{row} Main St"} for row in range(rows)]
    made = builder.add_batch(0, locations)
    return [chunk for chunk in [*made, builder.rest()] if chunk is not None]


def answered(source: str = "PG", **fields: object) -> dict[str, object]:
    """What one source says of a location."""
    return {source: {"is_success": True, **fields}}


def keep_output(spool: Spool, body: EncodedBody) -> SpoolPlace:
    """Keep an output as a run does; returns where it is. Blocks."""
    place = spool.append(packed_output(body))
    spool.sync()
    return place


def spool_in(folder: Path) -> Spool:
    return Spool(folder / "spool")
