"""What it costs to start: the CPU time of imports and of commands that do nothing else.

    python -m benchmarks.start_up [RUNS]

starts each of them anew, in turn, as often as given (default: 15), and prints the median of
each, and how much more it is than an import of aiohttp, which nobody who enhances gets around.
Writes `results/start_up.json`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "start_up.json"
RUNS = 15
AIOHTTP = "import aiohttp"
STARTS = {
    "python alone": ["-c", "pass"],
    AIOHTTP: ["-c", AIOHTTP],
    "import pingdata_async": ["-c", "import pingdata_async"],
    "its client": ["-c", "from pingdata_async import PingDataClient"],
    "all of its names": ["-c", "from pingdata_async import *"],
    "--help": ["-m", "pingdata_async", "--help"],
    "--version": ["-m", "pingdata_async", "--version"],
    "enhance --help": ["-m", "pingdata_async", "enhance", "--help"],
    "status --help": ["-m", "pingdata_async", "status", "--help"],
}


def cpu_ms(arguments: list[str]) -> float:
    """CPU milliseconds of a Python of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},  # as where it is installed
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main(runs: int) -> None:
    """Measure, print and write down."""
    seen: dict[str, list[float]] = {name: [] for name in STARTS}
    # In turn, so that a busy moment of the machine is everyone's. The first round only fills
    # caches: Python's of compiled modules, and the system's.
    for is_first in [True] + [False] * runs:
        for name, arguments in STARTS.items():
            spent = cpu_ms(arguments)
            if not is_first:
                seen[name].append(spent)
    medians = {name: statistics.median(each) for name, each in seen.items()}
    for name, median in medians.items():
        print(f"{name:<22} {median:6.1f} ms CPU  ({median - medians[AIOHTTP]:+7.1f})")
    results = {"runs": runs, "cpu_ms": {name: round(each, 1) for name, each in medians.items()}}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else RUNS)
