"""The account of a durable run: journal and spool as the runner sees them."""

from __future__ import annotations

from pingdata_async.bulk.protocols import FinishedChunk
from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal import Journal
from pingdata_async.runs.spool import Spool


class DurableLedger:
    """Tells the journal of every step, and keeps answers in the spool.

    Raises:
        RunError: By every method, when it cannot be written; the run can be gone on with.
    """

    is_durable = True

    def __init__(self, journal: Journal, spool: Spool) -> None:
        self._journal = journal
        self._spool = spool
        self.next_index = journal.next_index
        self.submitting = journal.submitting
        self.refused = journal.refused
        self.submitted = journal.submitted
        self.doubted = journal.doubted
        self.completed = journal.completed
        self.abandoned = journal.abandoned
        self.split = journal.split
        self.gathered = journal.gathered

    async def deliver(self, finished: FinishedChunk) -> None:
        """Keep a chunk's answers, and then the note that they are kept."""
        index = finished.chunk.index
        if finished.body is None:
            await self._journal.failed(index, finished.failure, finished.counts)
            return
        try:
            await self._spool.keep(index, finished.body)
        except OSError as error:
            raise RunError(
                f"the answer to chunk {index} cannot be kept: {error.strerror or error}"
            ) from error
        await self._journal.spooled(index, finished.counts, finished.leftovers)
