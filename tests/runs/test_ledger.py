"""The order in which an answer becomes safe."""

from __future__ import annotations

from pathlib import Path

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.checking import check_output
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.protocols import FinishedChunk
from pingdata_async.runs.journal import Journal
from pingdata_async.runs.ledger import DurableLedger
from pingdata_async.runs.spool import Spool
from pingdata_async.runs.states import ChunkState
from tests.bulk.test_layout import SOURCES, usual
from tests.runs.journal_help import make_journal, planned, submit


async def test_an_answer_is_written_only_when_it_is_noted(tmp_path: Path) -> None:
    """First the spool, then the journal, then the output: a crash in between loses nothing."""
    chunk, spool = planned(0), Spool(tmp_path / "spool")
    body = OutputBody(usual(chunk.rows))
    seen: list[tuple[ChunkState | None, int]] = []

    class Output:
        async def offer(self, chunk: Chunk, layout: Layout, content: bytes) -> None:
            del layout
            assert content == body.wire
            record = await journal.record(chunk.index)
            seen.append((None if record is None else record.state, spool.chunks))

    async with Journal(await make_journal(tmp_path)) as journal:
        await submit(journal, 0)
        await journal.completed(chunk, ())
        checked = check_output(chunk, [body], SOURCES, 0, with_results=False)
        finished = FinishedChunk(chunk, checked.counts, checked=checked, job_id="job 0")
        await DurableLedger(journal, spool, Output()).deliver(finished)
    assert seen == [(ChunkState.SPOOLED, 1)]
