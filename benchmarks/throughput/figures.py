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
    """Something that must not grow beyond what was agreed.

    Attributes:
        contender: Of whom.
        base: In CPU against whom; None for the peak memory in MB.
        at_most: How much.
    """

    contender: str
    base: str | None
    at_most: float


@dataclass(frozen=True)
class Verdict:
    """A limit, and what was found."""

    limit: Limit
    found: Spread

    @property
    def holds(self) -> bool:
        """Whether the median is within the limit."""
        return self.found.median <= self.limit.at_most

    def __str__(self) -> str:
        limit, found = self.limit, self.found
        what = f"CPU of {limit.base}" if limit.base else "MB at its peak"
        unit = " x the " if limit.base else " "
        return (
            f"{limit.contender}: {found.median:.3g}{unit}{what} "
            f"({found.min:.3g} to {found.max:.3g}), at most {limit.at_most:.3g} agreed"
        )


def limits_from(budget: Mapping[str, Any]) -> list[Limit]:
    """Those of a budget: `{"cpu": {contender: {base: 3.0}}, "max_rss_mb": {contender: 120}}`."""
    cpu = [
        Limit(contender, base, at_most)
        for contender, by_base in budget["cpu"].items()
        for base, at_most in by_base.items()
    ]
    memory = [
        Limit(contender, None, at_most) for contender, at_most in budget["max_rss_mb"].items()
    ]
    return cpu + memory


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
