"""What a run has charged, what it has still to send by source, and what it may spend."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Awaitable, Callable

from pingdata_async.engine.flow_control.budget import (
    Amount,
    Budget,
    Caps,
    allowed,
    asked_of,
    caps_needed,
)
from pingdata_async.exceptions import BudgetSpentError, ConfigurationError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.runs.directory.plan import Plan, PlanSummary
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.journal.reader import JournalReader, JournalTotals
from pingdata_async.util.text import counted


def remaining(
    journal: JournalReader,
    planned: Amount,
    read_chunk: Callable[[int], Chunk],
    sources: tuple[str, ...],
) -> Amount:
    """What is to be sent, if all goes well from here on; blocks.

    What the plan has is taken as a whole, and what became of it is taken off: of a chunk that
    was sent, its first submission says what is in it, so that hardly any chunk is read.

    Args:
        journal: Opened.
        planned: What the plan as a whole is.
        read_chunk: Reads a chunk of the plan.
        sources: The run's.
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
    """What was charged, or possibly so."""
    by_source = Counter(totals.charged_by_source)
    by_source.update(totals.possibly_charged_by_source)
    return Amount(
        locations=totals.locations_charged + totals.possibly_charged, by_source=dict(+by_source)
    )


def planned_amount(summary: PlanSummary) -> Amount:
    """What a plan as a whole would send."""
    return Amount(locations=summary.locations, by_source=dict(summary.asked))


class Spending:
    """What a run has spent and may spend when it starts or goes on.

    Args:
        settings: The run's.
        plan: Its plan, inside its `with` block.
        totals: What its journal says.
        read: Reads something in the journal, in a thread.

    Attributes:
        spent: What was charged, or possibly so.
        jobs_in_flight: Jobs that are paid for and whose answers are still to be fetched.
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
        self.spent = spent_so_far(totals)
        self.jobs_in_flight = totals.jobs_in_flight

    def budget(self, *, nothing_more: bool = False) -> Budget:
        """What may be spent from here on.

        Args:
            nothing_more: Whether that is nothing at all.
        """
        caps = Caps(locations=self.spent.locations) if nothing_more else self._caps
        return Budget(caps, self._sources, self.spent)

    async def left(self) -> Amount:
        """What is still to be sent, whatever the budget."""

        def read(journal: JournalReader) -> Amount:
            planned = planned_amount(self._plan.summary)
            return remaining(journal, planned, self._plan.read, self._sources)

        return await self._read(read)

    async def to_come(self) -> Amount:
        """What will be sent within the budget, if all goes well."""
        return allowed(await self.left(), self._caps, self.spent)

    async def explained(self, error: BudgetSpentError, totals: JournalTotals) -> BudgetSpentError:
        """The same error, with what is left to be done and how to go on.

        Args:
            error: That ended the run.
            totals: What the journal says now.
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
    """Refuse a budget for a source that is not asked: it is probably a slip.

    Raises:
        ConfigurationError: When there is one.
    """
    # One of the run's that all locations are kept from is no slip; there is nothing to count.
    named = dict.fromkeys((*settings.sources, *plan.summary.asked))
    for code in settings.caps.by_source:
        if code.casefold() not in map(str.casefold, named):
            raise ConfigurationError(
                f"the budget names {code}, which no location asks "
                f"({', '.join(named) or 'nothing is to be sent'})"
            )


def needed_words(caps: Caps) -> str:
    """Caps as the options that give them."""
    words = [] if caps.locations is None else [f"--max-locations {caps.locations}"]
    if caps.by_source:
        by_source = ",".join(f"{code}={cap}" for code, cap in caps.by_source.items())
        words.append(f"--budget {shlex.quote(by_source)}")
    return " ".join(words)
