"""What a run took, counted from its events."""

from __future__ import annotations

from pingdata_async.bulk.checking import Tally
from pingdata_async.bulk.retrying import SERVICE_UNAVAILABLE
from pingdata_async.events import (
    Event,
    InputPlanned,
    JobSubmitted,
    RequestRetried,
    RequestSent,
    SubmissionInDoubt,
)
from pingdata_async.models import RunSummary

_REFUSALS = frozenset({429, SERVICE_UNAVAILABLE})


class SummaryListener:
    """Counts requests, jobs and charges; the rows are counted where they are written."""

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
            case JobSubmitted():
                summary.jobs += 1
                summary.locations_charged += event.locations
                if event.charged_before:
                    summary.locations_possibly_charged_again += event.locations
            case SubmissionInDoubt():
                summary.submissions_in_doubt += 1
                if event.charged_before:
                    summary.locations_possibly_charged_again += event.locations
            case InputPlanned():
                summary.values_left_out = event.values_left_out
            case _:
                pass

    def add_rows(self, counts: Tally) -> None:
        """Take over the count of the rows written."""
        summary = self.summary
        summary.rows, summary.ok = counts.rows, counts.ok
        summary.partial, summary.failed = counts.partial, counts.failed
        summary.no_answer, summary.reasons = counts.no_answer, counts.reasons
