"""The bench's plots, as SVG (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.plot import Panel, draw
from benchmarks.throughput.charts import Line, line_chart
from benchmarks.throughput.figures import Rounds, spread_of


def throughput_plot(rounds: Rounds) -> str:
    """Bars for each contender; ours first."""
    names = sorted(rounds[0], key=lambda name: not name.startswith("durable"))
    cpu = [spread_of(rounds, name, "cpu_s_per_million").median for name in names]
    memory = [spread_of(rounds, name, "max_rss_mb").median for name in names]
    panel = Panel(
        "What a million locations cost",
        {
            "CPU seconds": [(each, f"{each:.1f}") for each in cpu],
            "thousand locations a CPU second": [(1e3 / each, f"{1e3 / each:.1f}") for each in cpu],
            "peak memory, MB": [(each, f"{each:.0f}") for each in memory],
        },
    )
    return draw(names, [panel])


def scale_plot(runs: Sequence[dict[str, Any]]) -> str:
    """Memory and CPU against the number of rows."""
    lines = [
        Line("peak memory, MB", [(each["rows"], each["max_rss_mb"]) for each in runs]),
        Line("CPU s a million", [(each["rows"], each["cpu_s_per_million"]) for each in runs]),
    ]
    return line_chart("A durable run against its number of rows", "rows", lines)
