"""What a location costs: every contender as its user runs it, round after round.

    scripts/bench [--rounds N] [--rows N] [--record LABEL] [--against CHECKOUT] [--only NAME,...]

measures all, and prints the tables; with --record they are written into `README.md` and
`results/`, under a label such as "before". --quick is two minutes for who changes the hot path:
JSONL and the floor, three rounds. --gate does the same with tables, and its exit code is 1 where
a budget of `limits.json` is exceeded. --against also runs the command of another checkout, within
the same rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.throughput.contenders import CONTENDERS, EVERYBODY, of_another_checkout
from benchmarks.throughput.measure import WORK_DIR, machine, measure_rounds
from benchmarks.throughput.report import (
    Round,
    costs,
    hours,
    judge,
    measured_on,
    replaced,
    throughput_plot,
    verdicts_table,
)

HERE = Path(__file__).parents[1]
LIMITS, PAGE, RESULTS = HERE / "limits.json", HERE / "README.md", HERE / "results"
ROUNDS, ROWS = 5, 120_000
QUICK_ROUNDS, QUICK_ROWS = 3, 60_000
SMALL = 20_000  # the other size, in rows; less where there are fewer
QUICK, GATED = ("floor", "jsonl"), ("floor", "jsonl", "parquet", "csv")


def read_limits() -> dict[str, dict[str, float]]:
    """What each figure may be."""
    limits: dict[str, dict[str, float]] = json.loads(LIMITS.read_text(encoding="utf-8"))
    return limits


def write(label: str, rounds: Sequence[Round]) -> None:
    """Record rounds under a label, and make the page of all that are recorded."""
    where = machine()
    recorded = {"recorded_s": time.time(), "machine": where, "rounds": rounds}
    path = RESULTS / f"throughput-{label}.json"
    path.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
    (RESULTS / "throughput.svg").write_text(throughput_plot(rounds), encoding="utf-8")
    page = replaced(PAGE.read_text(encoding="utf-8"), "throughput", _text(_records()))
    PAGE.write_text(replaced(page, "hours", hours(rounds)), encoding="utf-8")


def _records() -> dict[str, dict[str, Any]]:
    """All that is recorded, by label; the earliest first."""
    records = {
        path.stem.removeprefix("throughput-"): json.loads(path.read_text(encoding="utf-8"))
        for path in RESULTS.glob("throughput-*.json")
    }
    return dict(sorted(records.items(), key=lambda record: record[1]["recorded_s"]))


def _text(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables of all records."""
    parts = [
        verdicts_table({label: each["rounds"] for label, each in records.items()}, read_limits())
    ]
    for label, each in reversed(list(records.items())):
        said = measured_on(each["machine"], each["rounds"])
        parts += [f"**{label.capitalize()}.** {said}", costs(each["rounds"])]
    return "\n".join([*parts, "![CPU and memory of each](results/throughput.svg)"])


def gate(rounds: Sequence[Round], limits: Mapping[str, Mapping[str, float]]) -> int:
    """The exit code: 1 where a budget is exceeded; prints a line about each figure."""
    verdicts = judge(rounds, limits)
    for verdict in verdicts:
        off = "" if verdict.meets("target") else " (off the target)"
        print(f"{'within' if verdict.meets('budget') else 'OVER'} the budget{off}: {verdict}")
    return 0 if all(verdict.meets("budget") for verdict in verdicts) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--rows", type=int, help=f"of the larger run; default: {ROWS}")
    parser.add_argument("--only", help=f"some of {', '.join(EVERYBODY)}")
    parser.add_argument("--against", type=Path, help="a checkout whose command takes part as well")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="on a real disk")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--record", metavar="LABEL", help="write results and page")
    how.add_argument("--quick", action="store_true", help="JSONL and the floor in two minutes")
    how.add_argument("--gate", action="store_true", help="exit code 1 where it is over the budget")
    given = parser.parse_args()
    names = QUICK if given.quick else GATED if given.gate else tuple(CONTENDERS)
    if given.only:
        names = tuple(given.only.split(","))
    if unknown := set(names) - set(EVERYBODY):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    given.contenders = {name: EVERYBODY[name] for name in names}
    if given.against:
        given.contenders["other"] = of_another_checkout(given.against)
    return given


def main() -> int:
    given = arguments()
    is_short = given.quick or given.gate
    rows = given.rows or (QUICK_ROWS if is_short else ROWS)
    rounds: list[Round] = []
    for each in measure_rounds(
        given.contenders,
        given.rounds or (QUICK_ROUNDS if is_short else ROUNDS),
        (min(SMALL, rows // 2), rows),
        given.work_dir.resolve(),
    ):
        rounds.append(each)
        if given.record:  # already: the next round may be interrupted
            write(given.record, rounds)
    limits = read_limits()
    print(costs(rounds))
    if given.gate:
        return gate(rounds, limits)
    print(verdicts_table({"found": rounds}, limits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
