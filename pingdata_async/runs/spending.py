"""What a run has done and spent, what it still has to send, and what it may spend."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from pingdata_async.engine.flow_control.budget import (
    Amount,
    Budget,
    Caps,
    allowed,
    asked_of,
    caps_needed,
)
from pingdata_async.engine.flow_control.retry import SERVICE_UNAVAILABLE
from pingdata_async.events import Event, RequestRetried, RequestSent, new_run_id
from pingdata_async.exceptions import BudgetSpentError, ConfigurationError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import RunSummary
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.plan import Plan, PlanSummary
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.journal.reader import JournalReader, JournalTotals
from pingdata_async.runs.journal.records import ReusedTotals
from pingdata_async.util.text import counted

REFUSALS = frozenset({429, SERVICE_UNAVAILABLE})


class SummaryListener:
    """Counts requests; rows are counted where they are written, and charges in the journal."""

    def __init__(self, environment: str | None) -> None:
        self.run_id = new_run_id()
        self.summary = RunSummary(environment=environment, run_id=self.run_id)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        summary = self.summary
        summary.run_id = event.run_id or summary.run_id  # calls that share jobs share a run's
        match event:
            case RequestSent():
                summary.requests += 1
                summary.retries += event.attempt > 1
            case RequestRetried():
                summary.refused += event.status_code in REFUSALS
            case _:
                pass

    def add_planned(self, planned: PlanSummary) -> None:
        """Add what the plan tells."""
        self.summary.locations_saved = planned.repeated
        self.summary.values_left_out = planned.values_left_out
        self.summary.value_notes = planned.value_notes
        self.summary.skipped_by_source = planned.skipped

    def add_rows(self, counts: Tally) -> None:
        """Add the counts of the rows that are done."""
        self.summary = msgspec.structs.replace(self.summary, **msgspec.structs.asdict(counts))

    def add_totals(self, totals: JournalTotals) -> None:
        """Add the journal's totals of jobs and charges."""
        summary = self.summary
        summary.jobs = totals.jobs
        summary.locations_charged = totals.locations_charged
        summary.charged_by_source = totals.charged_by_source
        summary.locations_reused = totals.reused.locations
        summary.reused_by_source = totals.reused.by_source
        summary.oldest_reused_at = totals.reused.oldest_at
        summary.locations_in_doubt = totals.possibly_charged
        summary.locations_possibly_charged_again = totals.locations_possibly_charged_again
        summary.submissions_in_doubt = totals.submissions_in_doubt + totals.submissions_unanswered


def remaining(
    journal: JournalReader,
    planned: Amount,
    read_chunk: Callable[[int], Chunk],
    sources: tuple[str, ...],
) -> Amount:
    """What is still to be sent if all goes well; blocks.

    Takes the plan as a whole and subtracts what was sent. The first submission of a chunk says what
    is in it, so that hardly any chunk has to be read.

    Args:
        journal: The opened journal.
        planned: What the whole plan would send.
        read_chunk: Reads a chunk of the plan.
        sources: The run's sources.
    """
    locations = planned.locations
    asked = Counter(planned.by_source)
    first = journal.first_submissions()
    for index in journal.planned_chunks_begun():
        sent = first.get(index)
        if sent is None:  # split or failed before it was accepted
            chunk = read_chunk(index)
            sent = Amount(locations=len(chunk.rows), by_source=asked_of(chunk, sources))
        locations -= sent.locations
        asked.subtract(sent.by_source)
    for chunk in journal.later_chunks_waiting():
        locations += len(chunk.rows)
        asked.update(asked_of(chunk, sources))
    for codes in journal.retry_rows_waiting():
        locations += 1
        asked.update(codes)
    return Amount(locations=locations, by_source=dict(+asked))


def spent_so_far(totals: JournalTotals) -> Amount:
    """What was, or may have been, charged."""
    by_source = Counter(totals.charged_by_source)
    by_source.update(totals.possibly_charged_by_source)
    return Amount(
        locations=totals.locations_charged + totals.possibly_charged, by_source=dict(+by_source)
    )


def planned_amount(summary: PlanSummary, reused: ReusedTotals) -> Amount:
    """What the whole plan would send, but for the chunks that earlier runs answered in part."""
    asked = Counter(summary.asked)
    asked.subtract(reused.carried_by_source)
    return Amount(locations=summary.locations - reused.carried_locations, by_source=dict(+asked))


class Spending:
    """What a run has spent and may spend when it starts or is resumed.

    Args:
        settings: The run's settings.
        plan: Its plan, inside its `with` block.
        totals: The totals of its journal.
        read: Reads from the journal in a thread.
    """

    def __init__(
        self,
        settings: RunSettings,
        plan: Plan,
        totals: JournalTotals,
        read: Callable[[Callable[[JournalReader], Amount]], Awaitable[Amount]],
    ) -> None:
        self._caps = settings.caps
        self._sources = settings.sources
        self._plan = plan
        self._read = read
        self._reused = totals.reused
        self.spent = spent_so_far(totals)
        self.jobs_in_flight = totals.jobs_in_flight

    def budget(self, *, nothing_more: bool = False) -> Budget:
        """The budget from here on.

        Args:
            nothing_more: Allow for nothing at all.
        """
        caps = Caps(locations=self.spent.locations) if nothing_more else self._caps
        return Budget(caps, self._sources, self.spent)

    async def left(self) -> Amount:
        """What is still to be sent, whatever the budget."""

        def read(journal: JournalReader) -> Amount:
            planned = planned_amount(self._plan.summary, self._reused)
            return remaining(journal, planned, self._plan.read, self._sources)

        return await self._read(read)

    async def to_come(self) -> Amount:
        """What will be sent within the budget, if all goes well."""
        return allowed(await self.left(), self._caps, self.spent)

    async def explained(self, error: BudgetSpentError, totals: JournalTotals) -> BudgetSpentError:
        """The error of a spent budget, with what is left to send and how to resume.

        Args:
            error: The error that ended the run.
            totals: The present totals of the journal.
        """
        left = await self.left()
        needed = caps_needed(left, self._caps, spent_so_far(totals))
        explained = BudgetSpentError(
            f"{error}; still to be sent: {counted(left.locations, 'location')}. Resume with "
            f"{needed_words(needed)} to send all"
        )
        explained.needs = needed_words(needed)
        return explained


def check_budget(settings: RunSettings, plan: Plan) -> None:
    """Refuse a budget for a source that no location asks: it is probably a slip.

    Raises:
        ConfigurationError: With the sources that are asked.
    """
    # One of the run's sources that cannot answer any location is no slip.
    named = dict.fromkeys((*settings.sources, *plan.summary.asked))
    for code in settings.caps.by_source:
        if code.casefold() not in map(str.casefold, named):
            asked = f"the locations ask {', '.join(named)}" if named else "nothing is to be sent"
            raise ConfigurationError(f"the budget names {code}, but {asked}")


def needed_words(caps: Caps) -> str:
    """Caps as command-line options."""
    words = [] if caps.locations is None else [f"--max-locations {caps.locations}"]
    if caps.by_source:
        by_source = ",".join(f"{code}={cap}" for code, cap in caps.by_source.items())
        words.append(f"--budget {shlex.quote(by_source)}")
    return " ".join(words)
