"""Contenders in processes of their own, one after another, round after round."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.throughput.contend import WARM_UP_ROWS
from benchmarks.throughput.roster import ROSTER
from benchmarks.throughput.serving import serving

LEAST_S, ROWS_PER_S = 120.0, 500.0  # whoever is slower than that hangs


def run_once(name: str, rows: int, work_dir: Path, *, with_stages: bool = False) -> dict[str, Any]:
    """A contender's report, from a new process against a new server.

    Args:
        name: Whose.
        rows: To be enhanced.
        work_dir: On a real disk.
        with_stages: Whether each stage of it is clocked.

    Raises:
        RuntimeError: When it lost rows, failed or hung; its own words are on stderr.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    # Ours to remove: a process that is ended for hanging leaves everything behind.
    with (
        tempfile.TemporaryDirectory(dir=work_dir) as scratch,
        serving(ROSTER[name].server) as url,
    ):
        words = {
            "url": url,
            "rows": rows,
            "warm-up-rows": WARM_UP_ROWS,
            "work-dir": work_dir,
            "scratch": scratch,
        }
        options = [f"--{option}={value}" for option, value in words.items()]
        options += ["--stages"] if with_stages else []
        command = [sys.executable, "-m", "benchmarks.throughput.contend", name, *options]
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                timeout=LEAST_S + rows / ROWS_PER_S,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"{name} did not come through: {error}") from None
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def run_rounds(
    names: Sequence[str], rounds: int, rows: int, work_dir: Path, *, with_stages: bool = False
) -> list[dict[str, Any]]:
    """In each round every contender once, each time in another order."""
    found: list[dict[str, Any]] = []
    for number in range(rounds):
        turn = number % len(names)
        reports: dict[str, Any] = {}
        for name in [*names[turn:], *names[:turn]]:
            report = run_once(name, ROSTER[name].rows_of(rows), work_dir, with_stages=with_stages)
            reports[name] = report
            print(
                f"round {number + 1} of {rounds}: {name:<17} "
                f"{report['cpu_s_per_million']:7.2f} CPU s a million, "
                f"{report['max_rss_mb']:4.0f} MB",
                file=sys.stderr,
                flush=True,
            )
        found.append({name: reports[name] for name in names})
    return found
