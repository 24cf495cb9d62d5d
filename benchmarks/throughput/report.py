"""Reports as figures, verdicts and Markdown (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.charts import Panel, draw
from benchmarks.throughput.contenders import EVERYBODY

Report = Mapping[str, Any]  # of one contender in one round, as `measure()` makes it
Round = Mapping[str, Report]  # of every contender, by name

MARKERS = ("<!-- made by scripts/bench: {} -->", "<!-- end of {} -->")
FLOOR, OURS = "floor", "jsonl"
HOUR_S = 3600
HOURS_OF = ("jsonl", "stream", "vendor", "vendor-threads")
HOURS_AT_PER_S = (100, 1000, 10_000)

# -- figures ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """What a figure was over several rounds."""

    median: float
    min: float
    max: float

    def shown(self, digits: int = 2) -> str:
        """Median, and in brackets the least and the most."""
        return f"{self.median:.{digits}f} ({self.min:.{digits}f} to {self.max:.{digits}f})"


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    known = list(values)
    return Spread(median(known), min(known), max(known))


@dataclass(frozen=True)
class Figure:
    """One row of what the bench has to show.

    Attributes:
        title: Shown.
        needs: The contenders it is made of: the CPU of the first by that of the second; of a single
            one its `what`.
        what: "cpu", "lag" (ms, of the event loop, p99), "memory" (MB, the peak of the large run) or
            "growth" (the peak of the large run by that of the small one).
        at_least: Whether more is better.
    """

    title: str
    needs: tuple[str, ...]
    what: str = "cpu"
    at_least: bool = False

    def of_round(self, each: Round) -> float:
        """Its value in one round: both sides were measured within minutes."""
        first = each[self.needs[0]]
        small, large = first["runs"][0], first["runs"][-1]
        match self.what:
            case "cpu":
                return float(first["cpu_us"] / each[self.needs[1]]["cpu_us"])
            case "lag":
                return float(large["loop_lag_ms"]["p99"])
            case "memory":
                return float(large["max_rss_mb"])
            case _:
                return float(large["max_rss_mb"] / small["max_rss_mb"])


FIGURES = {
    "jsonl/floor": Figure("durable CSV -> JSONL against the lean floor", ("jsonl", "floor")),
    "vendor/jsonl": Figure("vendor's client, serial / ours", ("vendor", "jsonl"), at_least=True),
    "threads/jsonl": Figure(
        "vendor's client, 64 threads / ours", ("vendor-threads", "jsonl"), at_least=True
    ),
    "parquet/jsonl": Figure("durable CSV -> Parquet / CSV -> JSONL", ("parquet", "jsonl")),
    "csv/jsonl": Figure("durable CSV -> CSV / CSV -> JSONL", ("csv", "jsonl")),
    "stream/jsonl": Figure("`stream()` / durable", ("stream", "jsonl")),
    "lag": Figure("loop lag p99 at full speed, ms", ("run",), "lag"),
    "growth": Figure("peak RSS of the large run against the small one", ("jsonl",), "growth"),
    "memory": Figure("peak RSS, durable CSV -> JSONL, MB", ("jsonl",), "memory"),
    "memory of stream": Figure("peak RSS, `stream()`, MB", ("stream",), "memory"),
    "of another checkout": Figure("JSONL here / of the other checkout", ("jsonl", "other")),
}


@dataclass(frozen=True)
class Verdict:
    """A figure, what was found, and what it may be.

    Attributes:
        name: Of the figure.
        found: Over the rounds.
        limits: "today", "target", "stretch" and "budget", as far as each was agreed on.
    """

    name: str
    found: Spread
    limits: Mapping[str, float]

    @property
    def figure(self) -> Figure:
        return FIGURES[self.name]

    def meets(self, limit: str) -> bool:
        """Whether the median is within this limit, if there is one."""
        at = self.limits.get(limit)
        if at is None:
            return True
        return self.found.median >= at if self.figure.at_least else self.found.median <= at

    def __str__(self) -> str:
        known = ", ".join(f"{name} {at:g}" for name, at in self.limits.items())
        return f"{self.figure.title}: {self.found.shown()}; {known or 'no limit'}"


def judge(rounds: Sequence[Round], limits: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    """Every figure of those who took part."""
    return [
        Verdict(name, spread(map(figure.of_round, rounds)), limits.get(name, {}))
        for name, figure in FIGURES.items()
        if set(figure.needs) <= set(rounds[0])
    ]


def cpu_us(rounds: Sequence[Round], name: str) -> Spread:
    """The CPU of a location."""
    return spread(each[name]["cpu_us"] for each in rounds)


# -- Markdown -----------------------------------------------------------------------------


def replaced(page: str, name: str, text: str) -> str:
    """A page with the text between the markers of this name in place of what was there.

    Raises:
        ValueError: When it has no such markers.
    """
    begin, end = (marker.format(name) for marker in MARKERS)
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of which the first column is text, the others numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def verdicts_table(
    records: Mapping[str, Sequence[Round]], limits: Mapping[str, Mapping[str, float]]
) -> str:
    """What was wanted and what was found, a column for each record.

    Args:
        records: Rounds by what they are called, such as "before".
        limits: By figure.
    """
    by_label = {
        label: {verdict.name: verdict for verdict in judge(rounds, limits)}
        for label, rounds in records.items()
    }
    rows = []
    for name, figure in FIGURES.items():
        if not any(name in found for found in by_label.values()):
            continue
        known, sign = limits.get(name, {}), "≥ " if figure.at_least else ""
        cells = [f"{sign}{known[each]:g}" if each in known else "-" for each in LIMITS]
        cells += [_judged(each[name]) if name in each else "-" for each in by_label.values()]
        rows.append([figure.title, *cells])
    return table(["", *LIMITS.values(), *by_label], rows)


LIMITS = {"target": "wanted", "stretch": "stretch", "budget": "budget"}


def _judged(verdict: Verdict) -> str:
    missed = "" if verdict.meets("target") else ", **missed**"
    return f"{verdict.found.shown()}{missed}"


def costs(rounds: Sequence[Round]) -> str:
    """What each took: medians."""
    head = [
        *("", "rows", "CPU us a location", "in the kernel", "x the floor"),
        *("peak MB", "small run", "KB sent", "KB received", "requests for 1,000"),
    ]
    rows = []
    for name in rounds[0]:
        of_floor = "-"
        if FLOOR in rounds[0]:
            ratio = Figure("", (name, FLOOR)).of_round
            of_floor = f"{spread(map(ratio, rounds)).median:.2f}"
        [small, large] = [[each[name]["runs"][place] for each in rounds] for place in (0, -1)]
        count = large[0]["rows"]
        served = large[0]["served"]
        rows.append(
            [
                title_of(name),
                f"{small[0]['rows'] // 1000}k, {count // 1000}k",
                cpu_us(rounds, name).shown(),
                f"{median(each[name]['system_us'] for each in rounds):.2f}",
                of_floor,
                f"{median(run['max_rss_mb'] for run in large):.0f}",
                f"{median(run['max_rss_mb'] for run in small):.0f}",
                f"{served['submitted_bytes'] / count:.2f}",
                f"{served['wire_bytes'] / count / 1e3:.2f}",
                f"{served['requests'] / count * 1e3:.1f}",
            ]
        )
    return table(head, rows)


def title_of(name: str) -> str:
    """A contender's title; that of one that is not on the roster is its name."""
    return EVERYBODY[name].title if name in EVERYBODY else name


def hours(rounds: Sequence[Round]) -> str:
    """What an hour of the API costs each, by how fast the API is."""
    head = ["CPU s for an hour of the API", *(f"{each:,} locations/s" for each in HOURS_AT_PER_S)]
    rows = [
        [
            title_of(name),
            *(f"{cpu_us(rounds, name).median / 1e6 * at * HOUR_S:,.0f}" for at in HOURS_AT_PER_S),
        ]
        for name in HOURS_OF
        if name in rounds[0]
    ]
    return table(head, rows)


def measured_on(machine: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """A sentence."""
    loads = [report["load"] for each in rounds for report in each.values()]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"Medians of {len(rounds)} interleaved rounds at commit {machine['commit']}; load "
        f"{min(loads):.0f} to {max(loads):.0f} on {machine['cores']} cores "
        f"({machine['processor']}, {machine['system']}); Python {machine['python']}, "
        f"{versions.replace(' None', ' (not installed)')}.\n"
    )


def throughput_plot(rounds: Sequence[Round]) -> str:
    """Bars for each contender as SVG; ours first."""
    ours = [name for name in rounds[0] if name != FLOOR and not name.startswith("vendor")]
    names = [*ours, *(name for name in rounds[0] if name not in ours)]
    cpu = [cpu_us(rounds, name).median for name in names]
    memory = [median(each[name]["runs"][-1]["max_rss_mb"] for each in rounds) for name in names]
    panel = Panel(
        "What a location costs",
        {
            "thousand locations a CPU second": [(1e3 / each, f"{1e3 / each:.1f}") for each in cpu],
            "CPU, microseconds": [(each, f"{each:.1f}") for each in cpu],
            "peak memory, MB": [(each, f"{each:.0f}") for each in memory],
        },
    )
    return draw(names, [panel], len(ours))
