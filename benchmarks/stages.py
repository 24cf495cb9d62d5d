"""What each stage of a run costs, and the parts of it.

    scripts/bench stages

clocks real runs, ours beside the floor, and then the parts one by one; writes
`results/stages.json`, the tables in `README.md` and `results/stages.svg`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import parts
from benchmarks.throughput.charts import Bar, stacked_bars
from benchmarks.throughput.contend import WORK_DIR
from benchmarks.throughput.figures import Rounds, spread_of
from benchmarks.throughput.machine import machine
from benchmarks.throughput.report import measured_on, replaced, table
from benchmarks.throughput.roster import ROSTER
from benchmarks.throughput.rounds import run_rounds

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
RESULTS, PLOT = HERE / "results" / "stages.json", HERE / "results" / "stages.svg"
CONTENDERS = ("durable-gzip", "durable-identity", "floor-gzip", "floor-identity")
ROUNDS, ROWS = 5, 50_000


def stages_s(rounds: Rounds, name: str) -> dict[str, float]:
    """What each stage of a contender takes for a million rows: medians."""
    millions = rounds[0][name]["rows"] / 1e6
    return {
        stage: spread_of(rounds, name, "stages_s", stage).median / millions
        for stage in rounds[0][name]["stages_s"]
    }


def stages_table(rounds: Rounds) -> str:
    """A row a stage, in seconds a million; of ours also its share of the whole."""
    names = list(rounds[0])
    found = {name: stages_s(rounds, name) for name in names}
    rows = []
    for stage in found[names[0]]:
        rows.append([stage])
        for name in names:
            rows[-1] += _with_share(found[name][stage], sum(found[name].values()), name)
    rows.append(["**together**"])
    for name in names:
        whole = sum(found[name].values())
        rows[-1] += _with_share(whole, whole, name)
    head = ["CPU s a million"]
    for name in names:
        head += [ROSTER[name].title, *(["share"] if _is_ours(name) else [])]
    return table(head, rows)


def parts_table(found: Mapping[str, float]) -> str:
    """A row a part."""
    rows = [[name, f"{each_ms:.2f}"] for name, each_ms in found.items()]
    return table(["alone", "CPU ms for 1,000 rows = s a million"], rows)


def stages_plot(rounds: Rounds) -> str:
    """A bar a contender, of stages."""
    bars = [
        Bar(name, {stage: max(0.0, each) for stage, each in stages_s(rounds, name).items()})
        for name in rounds[0]
    ]
    return stacked_bars("CPU of a million locations, by stage", bars, "s")


def write(rounds: Sequence[dict[str, Any]], found: Mapping[str, float], rows: int) -> None:
    """Results, page and plot."""
    where = machine()
    results = {"machine": where, "rows": rows, "rounds": rounds, "parts_ms": found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PLOT.write_text(stages_plot(rounds), encoding="utf-8")
    text = "\n".join(
        [
            measured_on(where, len(rounds), rows),
            stages_table(rounds),
            "![CPU by stage](results/stages.svg)\n",
            parts_table(found),
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, "stages", text), encoding="utf-8")


def run_stages(work_dir: Path, rounds: int = ROUNDS, rows: int = ROWS) -> None:
    """Measure, write and print."""
    found = run_rounds(CONTENDERS, rounds, rows, work_dir, with_stages=True)
    each_ms = parts.measure(work_dir)
    write(found, each_ms, rows)
    print(stages_table(found))
    print(parts_table(each_ms))


def _with_share(spent_s: float, whole_s: float, name: str) -> list[str]:
    shown = f"{spent_s:.2f}" if spent_s > 0.0 else "-"
    share = f"{spent_s / whole_s:.0%}" if spent_s > 0.0 else "-"
    return [shown, share] if _is_ours(name) else [shown]


def _is_ours(name: str) -> bool:
    return not name.startswith("floor")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="on a real disk")
    given = parser.parse_args()
    run_stages(given.work_dir.resolve(), given.rounds, given.rows)


if __name__ == "__main__":
    main()
