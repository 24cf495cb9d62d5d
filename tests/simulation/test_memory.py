"""Memory does not grow with the input; `scripts/bench large` shows it at full size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("rows", "chunks"), [(1_000, 20), pytest.param(10_000, 60, marks=pytest.mark.large)]
)
def test_memory_is_flat(rows: int, chunks: int) -> None:
    """Ten times the rows, or a first chunk that finishes last, need no more than 10 % more."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.memory", *map(str, (rows, 10 * rows, chunks))],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
