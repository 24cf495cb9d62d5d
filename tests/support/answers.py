"""An account of chunks in memory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import Reason
from pingdata_async.results.validation import Failure
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.journal.records import ChunkRecord, ChunkState
from pingdata_async.util.encoding import EncodedBody

FAILURE = Failure(Reason.REJECTED, "the API refused it")


class MemoryAccount:
    """What an export asks for, told by a test."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.records: dict[int, ChunkRecord] = {}
        self.waiting: dict[int, set[int]] = {}
        self.reopened: dict[int, dict[int, int]] = {}

    def put(
        self, chunk: Chunk, state: str, body: object = None, failure: Failure = FAILURE
    ) -> None:
        """Note a chunk's state; of a spooled one, spool the body. Blocks."""
        self.records[chunk.index] = ChunkRecord(
            index=chunk.index,
            state=ChunkState(state),
            since=0.0,
            failure=failure if state == "failed" else None,
            chunk=None if chunk.is_planned else chunk,
        )
        if state == "spooled" and body is not None:
            self._spool._keep(chunk.index, EncodedBody(msgspec.json.encode(body)))

    def record(self, index: int) -> ChunkRecord | None:
        return self.records.get(index)

    def later_chunks_of(self, origin: int) -> list[ChunkRecord]:
        return [
            record
            for _, record in sorted(self.records.items())
            if record.chunk
            and any(earlier.planned_chunk == origin for earlier in record.chunk.earlier)
        ]

    def waiting_rows(self, origin: int) -> set[int]:
        return self.waiting.get(origin, set())

    def reopened_rows(self, origin: int) -> dict[int, int]:
        return self.reopened.get(origin, {})


def planned_chunks(rows: int, chunk_size: int) -> list[Chunk]:
    """Chunks of that many addresses, as a plan has them."""
    builder = ChunkBuilder(chunk_size=chunk_size, sources=("PG",))
    locations = [{"id": f"r{row}", "address": f"{row} Main St"} for row in range(rows)]
    made = builder.add_batch(0, locations)
    return [chunk for chunk in [*made, builder.rest()] if chunk is not None]


def answered(source: str = "PG", **fields: object) -> dict[str, object]:
    """What one source says of a location."""
    return {source: {"is_success": True, **fields}}


def spool_in(folder: Path) -> Spool:
    return Spool(folder / "spool")
