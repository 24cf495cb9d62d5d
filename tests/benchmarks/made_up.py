"""Reports that nobody measured."""

from __future__ import annotations

from typing import Any

LAG = {"p50": 1.0, "p99": 2.0, "max": 3.0}


def report(cpu_s_per_million: float, max_rss_mb: float = 50.0) -> dict[str, Any]:
    """Of one run."""
    return {
        "rows": 1000,
        "cpu_s_per_million": cpu_s_per_million,
        "wall_s_per_million": 2 * cpu_s_per_million,
        "max_rss_mb": max_rss_mb,
        "usage": {"system_s": 0.1, "minor_faults": 10, "waits": 5, "preemptions": 1},
        "loop_lag_ms": LAG,
        "stages_s": {"first": 0.002, "second": 0.001, "none": 0.0},
        "served": {"submitted_bytes": 40_000, "wire_bytes": 700_000, "requests": 3},
    }
