"""What a run has spent, may spend, and would have to spend."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable

from pingdata_async.bulk.budget import Amount, Budget, Caps, allowed, caps_needed
from pingdata_async.exceptions import BudgetSpentError, ConfigurationError
from pingdata_async.plurals import counted
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.journal_reader import JournalReader, JournalTotals
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.work_left import planned_amount, spent_so_far, work_left


class Spending:
    """The money of a run, as it is when it is begun or gone on with.

    Args:
        settings: The run's.
        plan: Its plan, inside its `with` block.
        totals: What its journal says.
        read: Reads something in the journal, in a thread.

    Attributes:
        spent: What was charged, or possibly so.
        jobs_in_flight: Jobs that are paid for and not brought home.
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
        self.spent = spent_so_far(totals, settings.sources)
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
            return work_left(journal, self._planned(), self._plan.read, self._sources)

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
        needed = caps_needed(left, self._caps, spent_so_far(totals, self._sources))
        explained = BudgetSpentError(
            f"{error}; still to be sent: {counted(left.locations, 'location')}. Resume with "
            f"{needed_words(needed)} to send all"
        )
        explained.needs = needed_words(needed)
        return explained

    def _planned(self) -> Amount:
        return planned_amount(self._plan.locations, self._plan.asked, self._sources)


def check_budget(settings: RunSettings, plan: Plan) -> None:
    """Refuse a budget of a source that nobody names: another one would be meant.

    Raises:
        ConfigurationError: When there is one.
    """
    # One of the run's that all locations are kept from is no slip; there is nothing to count.
    asked = planned_amount(plan.locations, plan.asked, settings.sources).by_source
    named = dict.fromkeys((*settings.sources, *asked))
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
