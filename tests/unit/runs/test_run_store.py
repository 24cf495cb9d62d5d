"""The order in which an answer becomes safe."""

from __future__ import annotations

from pathlib import Path

from pingdata_async.engine.context import FinishedChunk
from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.validation import validate_output
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.records import ChunkState
from pingdata_async.runs.run import DurableStore
from pingdata_async.runs.timeline import Timeline
from pingdata_async.util.encoding import EncodedBody
from tests.support.journals import make_journal, planned, submit
from tests.unit.results.test_offset_index import SOURCES, usual


async def test_an_answer_is_written_only_when_it_is_noted(tmp_path: Path) -> None:
    """First the spool, then the journal, then the output: a crash in between loses nothing."""
    chunk, spool = planned(0), Spool(tmp_path / "spool")
    body = EncodedBody(usual(chunk.rows))
    seen: list[tuple[ChunkState | None, int]] = []
    expected: list[tuple[int, int]] = []

    class Output:
        def expect(self, chunk: Chunk) -> None:
            expected.append((chunk.index, len(spool._segments)))

        async def offer(self, chunk: Chunk, found: tuple[OffsetIndex, bytes] | None) -> None:
            assert found is not None
            assert found[1] == body.raw
            record = await journal.record(chunk.index)
            seen.append((None if record is None else record.state, len(spool._segments)))

    async with Journal(await make_journal(tmp_path), spool) as journal:
        await submit(journal, 0)
        await journal.completed(chunk, ())
        checked = validate_output(chunk, [body], SOURCES, 0, with_results=False)
        finished = FinishedChunk(chunk, checked.counts, checked=checked, job_id="job 0")
        await DurableStore(journal, spool, Output(), Timeline()).deliver(finished)
    assert expected == [(0, 0)]
    assert seen == [(ChunkState.SPOOLED, 1)]
