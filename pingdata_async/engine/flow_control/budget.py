"""Budget: how many locations a run may send, and whether the next chunk still fits (pure).

Everything that may have been charged counts, each time that it is sent: locations in accepted jobs,
in submissions in doubt, and in submissions under way. For a source, its own locations count.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

import msgspec

from pingdata_async.exceptions import BudgetSpentError, ConfigurationError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.util.validation import check_count


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a run may send.

    Attributes:
        locations: Locations; None for any number.
        by_source: Locations by source, whatever the case of its code; any number for a source that
            is not named.
    """

    locations: int | None = None
    by_source: Mapping[str, int] = {}

    def __bool__(self) -> bool:
        return self.locations is not None or bool(self.by_source)


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Locations that were, or are to be, sent: in all, and to each source."""

    locations: int = 0
    by_source: Mapping[str, int] = {}


class Fit(enum.Enum):
    """Whether a chunk may be sent."""

    NOW = enum.auto()  # yes, and it is counted
    LATER = enum.auto()  # perhaps, once the submissions under way are answered
    NEVER = enum.auto()  # not within this budget


class Budget:
    """Counts what a run sends, and says whether the next chunk may be sent.

    Args:
        caps: The most that the run may send.
        sources: The run's sources; a location's own take precedence.
        spent: What earlier processes sent.
    """

    def __init__(self, caps: Caps, sources: tuple[str, ...], spent: Amount | None = None) -> None:
        spent = spent or Amount()
        self._caps = caps
        self._sources = sources
        self._left = Counter(folded(caps.by_source))
        self._left.subtract(folded(spent.by_source))
        self._locations_left = (caps.locations or 0) - spent.locations
        self._under_way = 0

    def reserve(self, chunk: Chunk) -> Fit:
        """Reserve the locations of a chunk that is about to be submitted, if they fit.

        If it does, `spend()` or `give_back()` must follow.
        """
        if self.fitting_rows(chunk) == len(chunk.rows):
            self._count(chunk, 1)
            self._under_way += 1
            return Fit.NOW
        return Fit.LATER if self._under_way else Fit.NEVER

    def spend(self, _chunk: Chunk) -> None:
        """Note that the submission was, or may have been, accepted."""
        self._under_way -= 1

    def give_back(self, chunk: Chunk) -> None:
        """Note that the submission surely created no job."""
        self._under_way -= 1
        self._count(chunk, -1)

    def count_others(self, chunk: Chunk, times: int) -> None:
        """Count a chunk that other attempts at it have sent so many times."""
        self._count(chunk, times)

    def fitting_rows(self, chunk: Chunk) -> int:
        """How many of the first rows of a chunk fit."""
        most = len(chunk.rows)
        if self._caps.locations is not None:
            most = min(most, max(0, self._locations_left))
        asked = folded(asked_of(chunk, self._sources))
        for code in self._caps_by_source & asked.keys():
            left = max(0, self._left[code])
            if asked[code] > left:
                most = min(most, self._rows_until(chunk, code, left))
        return most

    def error(self) -> BudgetSpentError:
        """The error that says that the budget is spent."""
        caps = self._caps
        parts = []
        if caps.locations is not None:
            parts.append(_of(caps.locations - self._locations_left, caps.locations, "locations"))
        parts += [
            _of(cap - self._left[code.casefold()], cap, f"of {code}")
            for code, cap in caps.by_source.items()
        ]
        return BudgetSpentError(f"the budget is spent ({', '.join(parts)} charged or in doubt)")

    @property
    def _caps_by_source(self) -> frozenset[str]:
        return frozenset(folded(self._caps.by_source))

    def _count(self, chunk: Chunk, sign: int) -> None:
        self._locations_left -= sign * len(chunk.rows)
        for code, locations in folded(asked_of(chunk, self._sources)).items():
            self._left[code] -= sign * locations

    def _rows_until(self, chunk: Chunk, code: str, left: int) -> int:
        """How many of the first rows send at most `left` locations to a source."""
        asked = [
            sum(own.casefold() == code for own in chunk.sources.get(place, self._sources))
            for place in range(len(chunk.rows))
        ]
        return sum(total <= left for total in accumulate(asked))


def checked_caps(max_locations: int | None, budget: Mapping[str, int] | None) -> Caps:
    """The caps that a user gives; raises ConfigurationError when one is no number of locations."""
    if max_locations is not None:
        check_count("max_locations", max_locations)
    _check_codes({} if budget is None else budget)
    named = {code.strip(): cap for code, cap in (budget or {}).items()}
    for code, cap in named.items():
        check_count(f"the budget of {code}", cap)
    if len(folded(named)) < len(named):
        raise ConfigurationError("the budget names a source more than once")
    return Caps(locations=max_locations, by_source=named)


def _check_codes(budget: object) -> None:
    if isinstance(budget, Mapping) and all(
        isinstance(code, str) and code.strip() for code in budget
    ):
        return
    raise ConfigurationError(f"a budget is numbers of locations by source code, not {budget!r}")


def allowed(left: Amount, caps: Caps, spent: Amount) -> Amount:
    """What will be sent before the budget is spent.

    Exact if all locations have the same sources. If not, their order is unknown, and they are taken
    to be mixed evenly.

    Args:
        left: What is left to send.
        caps: The budget.
        spent: What was spent so far.
    """
    most = left.locations
    if caps.locations is not None:
        most = min(most, max(0, caps.locations - spent.locations))
    spent_by, left_by = folded(spent.by_source), folded(left.by_source)
    for code, cap in folded(caps.by_source).items():
        asked = left_by.get(code, 0)
        allows = max(0, cap - spent_by.get(code, 0))
        if asked > allows:  # it stops there
            most = min(most, left.locations * allows // asked)
    share = left.by_source.items() if most else ()
    return Amount(
        locations=most,
        by_source={code: asked * most // left.locations for code, asked in share},
    )


def caps_needed(left: Amount, caps: Caps, spent: Amount) -> Caps:
    """The caps that are too low for what is left, raised so that all of it can be sent."""
    locations = spent.locations + left.locations
    spent_by, left_by = folded(spent.by_source), folded(left.by_source)
    needed = {
        code: spent_by.get(code.casefold(), 0) + left_by.get(code.casefold(), 0)
        for code in caps.by_source
    }
    is_low = caps.locations is not None and caps.locations < locations
    return Caps(
        locations=locations if is_low else None,
        by_source={code: cap for code, cap in needed.items() if cap > caps.by_source[code]},
    )


def asked_of(chunk: Chunk, sources: tuple[str, ...]) -> dict[str, int]:
    """About how many of a chunk's locations are sent to each source, by its code.

    Args:
        chunk: The chunk.
        sources: The run's sources; a location's own take precedence.
    """
    asked = dict.fromkeys(sources, len(chunk.rows) - len(chunk.sources))
    for own in chunk.sources.values():
        for code in own:
            asked[code] = asked.get(code, 0) + 1
    return {code: locations for code, locations in asked.items() if locations}


def folded(by_source: Mapping[str, int]) -> dict[str, int]:
    """The same numbers by case-folded code."""
    together: dict[str, int] = {}
    for code, number in by_source.items():
        together[code.casefold()] = together.get(code.casefold(), 0) + number
    return together


def _of(spent: int, cap: int, what: str) -> str:
    return f"{spent:,} of {cap:,} {what}"
