"""The bench's plots, as SVG (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.plot import Panel, draw
from benchmarks.throughput.charts import Line, line_chart
from benchmarks.throughput.figures import Rounds, spread_of

OURS = ("durable", "stream")
BESIDE_SCALE = ("vendor-threads", "vendor", "floor-gzip")


def throughput_plot(rounds: Rounds) -> str:
    """Bars for each contender; ours first, floors last."""
    names = sorted(
        rounds[0], key=lambda name: (not name.startswith(OURS), name.startswith("floor"))
    )
    cpu = [spread_of(rounds, name, "cpu_s_per_million").median for name in names]
    memory = [spread_of(rounds, name, "max_rss_mb").median for name in names]
    panel = Panel(
        "What a million locations cost",
        {
            "thousand locations a CPU second": [(1e3 / each, f"{1e3 / each:.1f}") for each in cpu],
            "CPU seconds": [(each, f"{each:.1f}") for each in cpu],
            "peak memory, MB": [(each, f"{each:.0f}") for each in memory],
        },
    )
    return draw(names, [panel], sum(name.startswith(OURS) for name in names))


def memory_plot(runs: Sequence[dict[str, Any]], rounds: Rounds) -> str:
    """Peak memory against the number of rows; of others, where they were measured.

    Args:
        runs: Of ours, of ever more rows.
        rounds: Of contenders side by side; may be none.
    """
    lines = [Line("ours, durable", [(each["rows"], each["max_rss_mb"]) for each in runs])]
    for name in BESIDE_SCALE:
        if rounds and name in rounds[0]:
            mb = spread_of(rounds, name, "max_rss_mb").median
            lines.append(Line(name, [(rounds[0][name]["rows"], mb)]))
    return line_chart("Peak memory in MB against rows", "rows", lines)
