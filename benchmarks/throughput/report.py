"""Results as Markdown, between the markers of a page (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.throughput.figures import (
    Limit,
    Rounds,
    Verdict,
    judge,
    ratio,
    shown,
    spread_of,
)
from benchmarks.throughput.roster import FLOOR, ROSTER

MARKERS = ("<!-- made by scripts/bench: {} -->", "<!-- end of {} -->")
API_LOCATIONS_PER_S = 1000
HOUR_S = 3600
HOURS_OF = ("durable-gzip", "stream-gzip", "vendor", "vendor-threads")
HOURS_AT_PER_S = (100, 1000, 10_000)


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


def costs(rounds: Rounds) -> str:
    """What each took."""
    head = [
        "",
        "CPU s a million",
        "min to max",
        "x the floor",
        "CPU s an hour of the API",
        "wall s a million",
        "peak MB",
    ]
    rows = []
    for name in rounds[0]:
        cpu = spread_of(rounds, name, "cpu_s_per_million")
        an_hour_s = _hour_s(cpu.median, API_LOCATIONS_PER_S)
        rows.append(
            [
                ROSTER[name].title,
                f"{cpu.median:.2f}",
                f"{cpu.min:.2f} to {cpu.max:.2f}",
                f"{ratio(rounds, name, FLOOR).median:.2f}",
                f"{an_hour_s:.0f}",
                f"{spread_of(rounds, name, 'wall_s_per_million').median:.1f}",
                f"{spread_of(rounds, name, 'max_rss_mb').median:.0f}",
            ]
        )
    return table(head, rows)


def hours(rounds: Rounds) -> str:
    """What an hour of the API costs each, by how fast the API is."""
    head = ["CPU s for an hour of the API", *(f"{each:,} locations/s" for each in HOURS_AT_PER_S)]
    rows = []
    for name in HOURS_OF:
        if name in rounds[0]:
            cpu = spread_of(rounds, name, "cpu_s_per_million").median
            rows.append(
                [ROSTER[name].title, *(f"{_hour_s(cpu, each):,.0f}" for each in HOURS_AT_PER_S)]
            )
    return table(head, rows)


def _hour_s(cpu_s_per_million: float, locations_per_s: float) -> float:
    return cpu_s_per_million / 1e6 * locations_per_s * HOUR_S


def details(rounds: Rounds) -> str:
    """What else was seen: medians, but for the event loop's lateness for 1,000 locations each."""
    head = [
        "",
        "in the kernel",
        "KB sent",
        "KB received",
        "requests",
        "page faults",
        "waits",
        "preempted",
        "loop late p50",
        "p99",
        "worst",
    ]
    return table(head, [_details_of(rounds, name) for name in rounds[0]])


def _details_of(rounds: Rounds, name: str) -> list[str]:
    thousands: float = rounds[0][name]["rows"] / 1000

    def each(*path: str) -> float:
        return spread_of(rounds, name, *path).median / thousands

    lags = ["-"] * 3
    if rounds[0][name]["loop_lag_ms"] is not None:
        lags = [
            f"{spread_of(rounds, name, 'loop_lag_ms', share).median:.1f} ms"
            for share in ("p50", "p99", "max")
        ]
    return [
        ROSTER[name].title,
        f"{1000 * each('usage', 'system_s'):.1f} ms",
        f"{each('served', 'submitted_bytes') / 1e3:.0f}",
        f"{each('served', 'wire_bytes') / 1e3:.0f}",
        f"{each('served', 'requests'):.1f}",
        f"{each('usage', 'minor_faults'):.0f}",
        f"{each('usage', 'waits'):.0f}",
        f"{each('usage', 'preemptions'):.0f}",
        *lags,
    ]


def targets(rounds: Rounds, limits: Sequence[Limit]) -> str:
    """What was agreed, what may not be exceeded any more, and what was found."""
    rows = []
    for verdict in judge(rounds, limits):
        limit, found = verdict.limit, verdict.found
        of_base = f", CPU against {ROSTER[limit.base].title}" if limit.base else ", peak MB"
        rows.append(
            [
                ROSTER[limit.contender].title + of_base,
                shown(limit.target),
                shown(limit.budget),
                f"{found.median:.3g} ({found.min:.3g} to {found.max:.3g})",
                _judged(verdict),
            ]
        )
    return table(["at most", "target", "budget", "found", ""], rows)


def _judged(verdict: Verdict) -> str:
    if not verdict.holds:
        return "**over the budget**"
    if verdict.limit.target is None:
        return "within the budget"
    return "target met" if verdict.is_on_target else "**target missed**"


def measured_on(machine: Mapping[str, Any], rounds: int, rows: int) -> str:
    """A sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"Medians of {rounds} rounds, {rows:,} rows each (slow ones get fewer). "
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, {versions.replace(' None', ' (not installed)')}.\n"
    )
