"""Many runs to few figures (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Report = Mapping[str, Any]  # of one run of one contender, as `contend.py` makes it
Rounds = Sequence[Mapping[str, Report]]  # each with every contender, by name


@dataclass(frozen=True)
class Spread:
    """What a figure was over several runs."""

    median: float
    min: float
    max: float


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    known = list(values)
    return Spread(median(known), min(known), max(known))


def spread_of(rounds: Rounds, name: str, *path: str) -> Spread:
    """Of a contender's figure over the rounds, such as "usage", "cpu_s"."""
    return spread(_value(each[name], path) for each in rounds)


def ratio(rounds: Rounds, name: str, base: str) -> Spread:
    """How many times the CPU of another it takes.

    Reckoned round by round, so that a machine that is slow for a while is so for both.
    """
    return spread(
        each[name]["cpu_s_per_million"] / each[base]["cpu_s_per_million"] for each in rounds
    )


def _value(report: Report, path: Sequence[str]) -> float:
    value: Any = report
    for name in path:
        value = value[name]
    return float(value)


@dataclass(frozen=True)
class Limit:
    """Something that must not grow.

    Attributes:
        contender: Of whom.
        base: In CPU against whom; None for the peak memory in MB.
        budget: What it may not exceed any more; None where it may be anything.
        target: What it is to be some day; None where nothing was agreed.
    """

    contender: str
    base: str | None
    budget: float | None = None
    target: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A limit, and what was found."""

    limit: Limit
    found: Spread

    @property
    def holds(self) -> bool:
        """Whether the median is within the budget, if there is one."""
        return self.limit.budget is None or self.found.median <= self.limit.budget

    @property
    def is_on_target(self) -> bool:
        """Whether the median is what was agreed, if anything was."""
        return self.limit.target is None or self.found.median <= self.limit.target

    def __str__(self) -> str:
        limit, found = self.limit, self.found
        what = f"CPU of {limit.base}" if limit.base else "MB at its peak"
        unit = " x the " if limit.base else " "
        return (
            f"{limit.contender}: {found.median:.3g}{unit}{what} "
            f"({found.min:.3g} to {found.max:.3g}), "
            f"budget {shown(limit.budget)}, target {shown(limit.target)}"
        )


def shown(figure: float | None) -> str:
    """To three digits; "-" for none."""
    return "-" if figure is None else f"{figure:.3g}"


def limits_from(budget: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Limit]:
    """What two files say: `{"cpu": {contender: {base: 3.0}}, "max_rss_mb": {contender: 120}}`."""
    at_most, aimed_at = _by_what(budget), _by_what(targets)
    return [
        Limit(*what, at_most.get(what), aimed_at.get(what))
        for what in dict.fromkeys([*aimed_at, *at_most])
    ]


def _by_what(known: Mapping[str, Any]) -> dict[tuple[str, str | None], float]:
    """How much, by contender and base; without a base it is memory."""
    cpu: dict[tuple[str, str | None], float] = {
        (contender, base): figure
        for contender, by_base in known["cpu"].items()
        for base, figure in by_base.items()
    }
    return cpu | {(contender, None): mb for contender, mb in known["max_rss_mb"].items()}


def judge(rounds: Rounds, limits: Iterable[Limit]) -> list[Verdict]:
    """What became of the limits on those who took part."""
    present = set(rounds[0])
    return [
        Verdict(limit, _found(rounds, limit))
        for limit in limits
        if limit.contender in present and (limit.base is None or limit.base in present)
    ]


def _found(rounds: Rounds, limit: Limit) -> Spread:
    if limit.base is None:
        return spread_of(rounds, limit.contender, "max_rss_mb")
    return ratio(rounds, limit.contender, limit.base)
