"""What a million locations cost: every contender, round after round.

    python -m benchmarks.throughput [--rounds N] [--rows N] [--only NAME,...]

writes `results/throughput.json` and `.svg` and the tables in `README.md`, and after that what each
stage costs (`benchmarks/stages.py`). With --quick less is done, and nothing written; with --gate
only what `budget.json` limits against the floor, and the exit code is 1 where it is exceeded.
What is aimed at is in `targets.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.stages import run_stages
from benchmarks.throughput.contend import WORK_DIR
from benchmarks.throughput.figures import Limit, judge, limits_from
from benchmarks.throughput.machine import machine
from benchmarks.throughput.plots import throughput_plot
from benchmarks.throughput.report import costs, details, hours, measured_on, replaced, targets
from benchmarks.throughput.roster import FLOOR, OURS, ROSTER
from benchmarks.throughput.rounds import run_rounds

HERE = Path(__file__).parents[1]
# What is aimed at, and what may not be exceeded meanwhile.
TARGETS, BUDGET = HERE / "targets.json", HERE / "budget.json"
PAGE = HERE / "README.md"
RESULTS, PLOT = HERE / "results" / "throughput.json", HERE / "results" / "throughput.svg"
ROUNDS, ROWS = 5, 100_000
QUICK_ROUNDS, QUICK_ROWS = 2, 20_000
GATE_ROWS = 50_000
GATED = (FLOOR, OURS, "durable-gzip")


def write(rounds: list[dict[str, Any]], rows: int, limits: Sequence[Limit]) -> None:
    """Results, page and plot."""
    where = machine()
    results = {"machine": where, "rows": rows, "rounds": rounds}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PLOT.write_text(throughput_plot(rounds), encoding="utf-8")
    text = "\n".join(
        [
            measured_on(where, len(rounds), rows),
            costs(rounds),
            "![CPU and memory of each](results/throughput.svg)\n",
            targets(rounds, limits),
            details(rounds),
        ]
    )
    page = replaced(PAGE.read_text(encoding="utf-8"), "throughput", text)
    PAGE.write_text(replaced(page, "hours", hours(rounds)), encoding="utf-8")


def gate(rounds: list[dict[str, Any]], limits: Sequence[Limit]) -> int:
    """The exit code: 1 where a budget is exceeded, with a line about each limit."""
    verdicts = judge(rounds, limits)
    for verdict in verdicts:
        off = "" if verdict.is_on_target else " (off the target)"
        print(f"{'within' if verdict.holds else 'OVER'} the budget{off}: {verdict}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--rows", type=int, help=f"default: {ROWS}")
    parser.add_argument("--only", help=f"some of {', '.join(ROSTER)}; nothing is written then")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="on a real disk")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="a first impression; nothing is written")
    how.add_argument("--gate", action="store_true", help="exit code 1 where it is over the budget")
    given = parser.parse_args()
    if given.only and given.gate:
        parser.error("the gate has its own contenders")
    given.names = given.only.split(",") if given.only else list(GATED if given.gate else ROSTER)
    unknown = set(given.names) - set(ROSTER)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return given


def main() -> int:
    given = arguments()
    work_dir = given.work_dir.resolve()
    usual_rows = QUICK_ROWS if given.quick else GATE_ROWS if given.gate else ROWS
    rows = given.rows or usual_rows
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    limits = limits_from(
        *(json.loads(path.read_text(encoding="utf-8")) for path in (BUDGET, TARGETS))
    )
    found = run_rounds(given.names, rounds, rows, work_dir)
    if given.gate:
        return gate(found, limits)
    if not (given.quick or given.only):
        write(found, rows, limits)
    if FLOOR in given.names:
        print(costs(found))
        print(targets(found, limits))
    print(details(found))
    if not (given.quick or given.only):
        run_stages(work_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
