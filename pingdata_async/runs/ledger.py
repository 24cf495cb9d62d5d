"""The account of a durable run: journal, spool and output as the runner sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.protocols import FinishedChunk
from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal import Journal
from pingdata_async.runs.output_files import shown_path
from pingdata_async.runs.spool import Spool


class EarlyOutput(Protocol):
    """Takes answers that are safe, to be written before the end of the run."""

    async def offer(self, chunk: Chunk, layout: Layout, content: bytes) -> None:
        """A planned or later chunk is answered, and where its answers are in what came."""
        ...


class DurableLedger:
    """Tells the journal of every step, and keeps answers in the spool.

    Raises:
        RunError: By every method, when it cannot be written; the run can be gone on with.
    """

    is_durable = True

    def __init__(self, journal: Journal, spool: Spool, output: EarlyOutput) -> None:
        self._journal = journal
        self._spool = spool
        self._output = output
        self.next_index = journal.next_index
        self.submitting = journal.submitting
        self.refused = journal.refused
        self.submitted = journal.submitted
        self.doubted = journal.doubted
        self.completed = journal.completed
        self.abandoned = journal.abandoned
        self.split = journal.split
        self.gathered = journal.gathered

    async def unreadable(self, chunk: Chunk, bodies: Sequence[OutputBody]) -> str | None:
        """Note that, and keep what came for a person to look at; returns where."""
        await self._journal.unreadable(chunk)
        if not bodies:
            return None
        try:
            path = await self._spool.keep_unreadable(chunk.index, bodies)
        except OSError as error:
            raise RunError(
                f"what came for chunk {chunk.index} cannot be kept: {error.strerror or error}"
            ) from error
        return shown_path(path)

    async def deliver(self, finished: FinishedChunk) -> None:
        """Keep a chunk's answers, then the note that they are kept; then they may be written."""
        index, checked = finished.chunk.index, finished.checked
        if checked is None:
            await self._journal.failed(index, finished.failure, finished.counts)
            return
        try:
            await self._spool.keep(index, checked.body)
        except OSError as error:
            raise RunError(
                f"the answer to chunk {index} cannot be kept: {error.strerror or error}"
            ) from error
        await self._journal.spooled(index, finished.counts, checked.leftovers, checked.layout)
        if checked.layout is not None and checked.content is not None:
            await self._output.offer(finished.chunk, checked.layout, checked.content)
