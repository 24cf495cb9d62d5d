"""What a run took, counted from its events."""

from __future__ import annotations

from pingdata_async.bulk.retrying import SERVICE_UNAVAILABLE
from pingdata_async.bulk.tally import Tally
from pingdata_async.events import (
    Event,
    RequestRetried,
    RequestSent,
)
from pingdata_async.models import RunSummary
from pingdata_async.runs.journal_reader import JournalTotals

_REFUSALS = frozenset({429, SERVICE_UNAVAILABLE})


class SummaryListener:
    """Counts requests; rows are counted where they are written, and charges in the journal."""

    def __init__(self) -> None:
        self.summary = RunSummary()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        summary = self.summary
        match event:
            case RequestSent():
                summary.requests += 1
                summary.retries += event.attempt > 1
            case RequestRetried():
                summary.refused += event.status_code in _REFUSALS
            case _:
                pass

    def add_rows(self, counts: Tally) -> None:
        """Take over the count of the rows written."""
        summary = self.summary
        summary.rows, summary.ok = counts.rows, counts.ok
        summary.partial, summary.failed = counts.partial, counts.failed
        summary.no_answer, summary.reasons = counts.no_answer, counts.reasons

    def add_totals(self, totals: JournalTotals) -> None:
        """Take over what the journal says of jobs and charges."""
        summary = self.summary
        summary.jobs = totals.jobs
        summary.locations_charged = totals.locations_charged
        summary.charged_by_source = totals.charged_by_source
        summary.locations_in_doubt = totals.possibly_charged
        summary.locations_possibly_charged_again = totals.locations_possibly_charged_again
        summary.submissions_in_doubt = totals.submissions_in_doubt
