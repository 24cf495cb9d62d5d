"""Durable runs of very many rows, as a record: memory and CPU a location stay the same.

    python -m benchmarks.scale.rows [ROWS ...]

runs `enhance` once with each number of rows (default: 100,000, 1 million and 10 million), from CSV
to JSONL, checks every line, and writes `results/scale.json` and `.svg`, and the table in
`README.md`. Ten million rows need about 45 GB on the disk meanwhile.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.charts import Line, line_chart
from benchmarks.throughput.contenders import EVERYBODY
from benchmarks.throughput.data import input_path
from benchmarks.throughput.measure import WORK_DIR, machine, measure
from benchmarks.throughput.report import replaced, table

HERE = Path(__file__).parents[1]
PAGE = HERE / "README.md"
RESULTS, PLOT = HERE / "results" / "scale.json", HERE / "results" / "scale.svg"
ROWS = (100_000, 1_000_000, 10_000_000)


def record(rows: int, work_dir: Path) -> dict[str, Any]:
    """One run, and what it was measured on."""
    try:
        [run] = measure(EVERYBODY["jsonl"], (rows,), work_dir)["runs"]
    finally:
        input_path("csv", rows, work_dir).unlink(missing_ok=True)
    return {**run, "machine": machine()}


def scale_table(runs: list[dict[str, Any]]) -> str:
    """A row a run."""
    head = [
        "rows",
        "CPU us a location",
        "wall s",
        "peak MB",
        "output GB",
        "run directory GB",
        "commit",
    ]
    return table(
        head,
        [
            [
                f"{run['rows']:,}",
                f"{run['cpu_s'] / run['rows'] * 1e6:.2f}",
                f"{run['wall_s']:.0f}",
                f"{run['max_rss_mb']:.0f}",
                f"{run['written_bytes']['out.jsonl'] / 1e9:.2f}",
                f"{run['written_bytes']['out.jsonl.run'] / 1e9:.2f}",
                run["machine"]["commit"] or "-",
            ]
            for run in runs
        ],
    )


def memory_plot(runs: list[dict[str, Any]]) -> str:
    """Peak memory against the number of rows."""
    line = Line("`enhance`, CSV to JSONL", [(each["rows"], each["max_rss_mb"]) for each in runs])
    return line_chart("Peak memory in MB against rows", "rows", [line])


def write(runs: list[dict[str, Any]]) -> None:
    """Results, page and plot; runs of other numbers of rows stay."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    by_rows = {run["rows"]: run for run in [*known, *runs]}
    every = [by_rows[rows] for rows in sorted(by_rows)]
    RESULTS.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    PLOT.write_text(memory_plot(every), encoding="utf-8")
    text = f"{scale_table(every)}\n![Memory against rows](results/scale.svg)\n"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, "scale", text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=int, nargs="*", default=list(ROWS))
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="on a real disk")
    given = parser.parse_args()
    for rows in given.rows:
        run = record(rows, given.work_dir.resolve())
        write([run])
        print(scale_table([run]), flush=True)


if __name__ == "__main__":
    main()
