"""What a run in memory sent and was charged, which no journal keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.models import EnhancedLocation, RunSummary
from pingdata_async.plurals import counted
from pingdata_async.value_notes import ValueNotes

NAMED_JOBS = 10  # in an error

logger = logging.getLogger("pingdata_async")


class _Submission(msgspec.Struct):
    """One whose answer has not come yet; see `Ledger.submitting()`."""

    chunk: Chunk
    charged_before: bool
    asked: Mapping[str, int]


class Charges:
    """Counts what is paid for, and warns of what may be paid for twice.

    Args:
        counts: Where it is counted; whoever else knows of the run may count there too.
    """

    def __init__(self, counts: RunSummary | None = None) -> None:
        self._counts = RunSummary() if counts is None else counts
        self._rows = Tally()
        self._under_way: dict[int, _Submission] = {}
        self._jobs: dict[int, str] = {}  # by chunk, those whose answers have not come
        self._clock: Callable[[], float] = lambda: 0.0
        self._began_at = 0.0

    def summary(self) -> RunSummary:
        """All so far; submissions that are under way count as in doubt."""
        summary = msgspec.structs.replace(
            self._counts,
            charged_by_source=dict(self._counts.charged_by_source),
            reasons=dict(self._rows.reasons),
            unfinished_jobs=list(self._jobs.values()),
            rows=self._rows.rows,
            ok=self._rows.ok,
            partial=self._rows.partial,
            failed=self._rows.failed,
            no_answer=self._rows.no_answer,
            seconds=self._clock() - self._began_at,
        )
        for submission in self._under_way.values():
            _add_doubt(summary, submission)
        return summary

    def begin(self) -> None:
        """Take the time, by the event loop's clock."""
        self._clock = asyncio.get_running_loop().time
        self._began_at = self._clock()

    def end(self, values: ValueNotes) -> None:
        """Nothing more comes. What is still under way is in doubt for good.

        Args:
            values: Those that were not sent as they stood, by field.
        """
        ended_at = self._clock()
        self._clock = lambda: ended_at
        self._counts.values_left_out = values.faults()
        self._counts.value_notes = values.notes()
        for submission in self._under_way.values():
            logger.warning(
                "being submitted when the run ended, so perhaps charged: %s",
                _locations(submission.chunk),
            )

    def submitting(self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]) -> None:
        """A chunk is about to be submitted."""
        self._under_way[chunk.index] = _Submission(chunk, charged_before, asked)

    def refused(self, chunk: Chunk) -> None:
        """That made no job."""
        del self._under_way[chunk.index]

    def accepted(self, chunk: Chunk, job_id: str) -> None:
        """That made a job."""
        submission = self._under_way.pop(chunk.index)
        self._jobs[chunk.index] = job_id
        counts, locations = self._counts, len(chunk.rows)
        counts.jobs += 1
        counts.locations_charged += locations
        for code, asked in submission.asked.items():
            counts.charged_by_source[code] = counts.charged_by_source.get(code, 0) + asked
        if submission.charged_before:
            counts.locations_possibly_charged_again += locations
            logger.warning(
                "charged before, or perhaps, and sent again as job %s: %s",
                job_id,
                _locations(chunk),
            )

    def ended(self, chunk: Chunk) -> None:
        """A chunk's job, if it has one, has given its answers, or never will."""
        self._jobs.pop(chunk.index, None)

    def doubted(self, chunk: Chunk, error: str) -> None:
        """That may have made a job."""
        _add_doubt(self._counts, self._under_way.pop(chunk.index))
        logger.warning(
            "the submission of %s is in doubt, and may be charged: %s",
            _locations(chunk),
            error,
        )

    def note_unfinished(self, error: Exception) -> None:
        """Name the jobs in an error that are paid for, and whose answers are lost with it."""
        jobs = list(self._jobs.values())
        if not jobs:
            return
        named = ", ".join(jobs[:NAMED_JOBS]) + (", ..." if len(jobs) > NAMED_JOBS else "")
        error.add_note(
            f"left unfinished: {counted(len(jobs), 'paid job')}: {named} "
            "(all are in `unfinished_jobs` of the summary)"
        )

    def handed_over(self, results: Sequence[EnhancedLocation]) -> None:
        """Whoever wanted results has these."""
        self._rows.add(tally(results))


def _add_doubt(counts: RunSummary, submission: _Submission) -> None:
    locations = len(submission.chunk.rows)
    counts.submissions_in_doubt += 1
    counts.locations_in_doubt += locations
    if submission.charged_before:
        counts.locations_possibly_charged_again += locations


def _locations(chunk: Chunk) -> str:
    first, last = chunk.rows[0], chunk.rows[-1]
    where = f"row {first}" if first == last else f"rows {first} to {last}"
    return f"{counted(len(chunk.rows), 'location')} ({where})"
