"""What each stage of a run costs, and the parts of it.

    scripts/bench stages

clocks the stages of real runs, and then their parts one by one; writes
`results/stages.json`, the tables in `README.md` and `results/stages.svg`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import parts
from benchmarks.charts import Bar, stacked_bars
from benchmarks.throughput.contenders import Contender, ServerOptions, program
from benchmarks.throughput.data import make_input
from benchmarks.throughput.measure import WORK_DIR, machine, measure_rounds
from benchmarks.throughput.report import Round, measured_on, replaced, spread, table

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
RESULTS, PLOT = HERE / "results" / "stages.json", HERE / "results" / "stages.svg"
ROUNDS, ROWS, WARM_UP_ROWS = 5, 50_000, 8_000


def contenders(rows: int, work_dir: Path) -> dict[str, Contender]:
    """`run()` with default settings, warmed up, its stages clocked."""
    warm_up = make_input("csv", WARM_UP_ROWS, work_dir)
    command = program("ours", "run", "{input}", "{url}", "{output}", str(warm_up))
    return {
        name: Contender(
            title=f"ours, {name}",
            command=command,
            prints_json=True,
            check="",
            sizes=(rows,),
            server=ServerOptions(encoding),
        )
        for name, encoding in (("gzip", "auto"), ("uncompressed", "identity"))
    }


def stages_us(rounds: Sequence[Round], name: str) -> dict[str, float]:
    """What each stage of a contender takes for a location: medians, in microseconds."""
    runs = [each[name]["runs"][0] for each in rounds]
    return {
        stage: 1e6 * spread(run["stages_s"][stage] / run["rows"] for run in runs).median
        for stage in runs[0]["stages_s"]
    }


def stages_table(rounds: Sequence[Round]) -> str:
    """A row a stage, in microseconds a location, with its share of the whole."""
    found = {name: stages_us(rounds, name) for name in rounds[0]}
    whole = {name: sum(each.values()) for name, each in found.items()}
    first = next(iter(found.values()))
    rows = [
        [stage, *(cell for name in found for cell in _with_share(found[name][stage], whole[name]))]
        for stage in first
    ]
    together = [cell for name in found for cell in _with_share(whole[name], whole[name])]
    rows.append(["**together**", *together])
    head = ["CPU us a location", *(cell for name in found for cell in (f"ours, {name}", "share"))]
    return table(head, rows)


def parts_table(found: Mapping[str, float]) -> str:
    """A row a part."""
    rows = [[name, f"{each_ms:.2f}"] for name, each_ms in found.items()]
    return table(["alone", "CPU us a location"], rows)


def stages_plot(rounds: Sequence[Round]) -> str:
    """A bar a contender, of stages."""
    bars = [
        Bar(name, {stage: max(0.0, each) for stage, each in stages_us(rounds, name).items()})
        for name in rounds[0]
    ]
    return stacked_bars("CPU of a location, by stage", bars, "us")


def write(rounds: Sequence[Round], found: Mapping[str, float]) -> None:
    """Results, page and plot."""
    where = machine()
    results = {"machine": where, "rounds": rounds, "parts_ms": found}
    RESULTS.write_text(json.dumps(results) + "\n", encoding="utf-8")
    PLOT.write_text(stages_plot(rounds), encoding="utf-8")
    text = "\n".join(
        [
            measured_on(where, rounds),
            stages_table(rounds),
            "![CPU by stage](results/stages.svg)\n",
            parts_table(found),
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, "stages", text), encoding="utf-8")


def run_stages(work_dir: Path, rounds: int = ROUNDS, rows: int = ROWS) -> None:
    """Measure, write and print."""
    work_dir.mkdir(parents=True, exist_ok=True)
    found = list(measure_rounds(contenders(rows, work_dir), rounds, (rows,), work_dir))
    each_ms = parts.measure(work_dir)
    write(found, each_ms)
    print(stages_table(found))
    print(parts_table(each_ms))


def _with_share(spent_us: float, whole_us: float) -> list[str]:
    return [f"{spent_us:.2f}", f"{spent_us / whole_us:.0%}"] if spent_us > 0.0 else ["-", "-"]


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
