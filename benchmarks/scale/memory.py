"""Does memory grow with the input? Each measurement is a process of its own.

    python -m benchmarks.scale.memory ROWS MORE_ROWS CHUNKS

compares the peak memory of `stream()` over ROWS and MORE_ROWS, and that of `run()` over CHUNKS
chunks when the first one finishes last and when it does not. Exit code 1: one grew by more
than 10 %.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

TOLERANCE = 1.10


def measure(what: str, number: int) -> tuple[float, float]:
    """Seconds and peak MiB of one case in a new process."""
    # This process imports nothing large: on Linux a child's peak begins at its parent's.
    command = [sys.executable, "-m", "benchmarks.scale.memory", what, str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    seconds, peak_mib = json.loads(done.stdout)
    print(f"{what} {number:>9,}: {seconds:7.1f} s, peak {peak_mib:6.1f} MiB", flush=True)
    return seconds, peak_mib


def be_measured(what: str, number: int) -> None:
    """Do one case and say what it took."""
    from tests.simulation.scale import run_chunks, stream_rows  # noqa: PLC0415 - see measure()

    began = time.perf_counter()
    if what == "stream":
        stream_rows(number)
    else:
        run_chunks(number, is_stuck=what == "stuck")
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    print(json.dumps([seconds, peak]))


def compare(rows: int, more_rows: int, chunks: int) -> bool:
    """Whether memory is flat in both respects."""
    growth = {
        f"stream() of {more_rows:,} rows against {rows:,}": (
            measure("stream", rows)[1],
            measure("stream", more_rows)[1],
        ),
        f"run() with the first of {chunks} chunks finishing last": (
            measure("smooth", chunks)[1],
            measure("stuck", chunks)[1],
        ),
    }
    for title, (base, other) in growth.items():
        print(f"{title}: {other / base - 1:+.1%}")
    return all(other <= base * TOLERANCE for base, other in growth.values())


if __name__ == "__main__":
    if sys.argv[1] in {"stream", "smooth", "stuck"}:
        be_measured(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(not compare(*map(int, sys.argv[1:])))
