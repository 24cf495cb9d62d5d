"""Have the machine's free memory at hand while something is measured.

    python -m benchmarks.throughput.warm_memory BYTES

touches so much memory, gives most of it back at once, and the rest little by little. On many
virtual machines the host takes back what has been free for some seconds; such a page costs
several times as much, when it is first used again, as writing it does. Whoever is measured
first, or longest, would pay for that.
"""

from __future__ import annotations

import contextlib
import mmap
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROW_BYTES = 6_000  # input, plan, spool and output of a row
# Given back at once: for the processes themselves, and because the system does not hand out
# first what it was given back last.
AT_ONCE_BYTES = 3 * 1024**3
MOST_BYTES = 12 * 1024**3
MOST_SHARE = 0.5  # of what is available
SLICE_BYTES = 64 * 1024**2
SLICE_EVERY_S = 0.25  # somewhat faster than any contender writes


@contextlib.contextmanager
def warm_memory(rows: int) -> Iterator[None]:
    """Have about as much at hand, during the block, as work on so many rows will use."""
    at_most = min(MOST_BYTES, int(MOST_SHARE * _available_bytes()))
    size_bytes = min(AT_ONCE_BYTES + rows * ROW_BYTES, at_most)
    command = [sys.executable, "-m", "benchmarks.throughput.warm_memory", str(size_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def hold(size_bytes: int) -> None:
    """Touch so many bytes, say so, and let go of them."""
    slices = [_touched() for _ in range(size_bytes // SLICE_BYTES)]
    del slices[: AT_ONCE_BYTES // SLICE_BYTES]
    print("touched", flush=True)
    while slices:
        time.sleep(SLICE_EVERY_S)
        del slices[-1]


def _touched() -> mmap.mmap:
    memory = mmap.mmap(-1, SLICE_BYTES)
    memory[:: mmap.PAGESIZE] = bytes(SLICE_BYTES // mmap.PAGESIZE)
    return memory


def _available_bytes() -> int:
    """What can be used without taking it from anybody; where nobody says, enough."""
    told = Path("/proc/meminfo")
    if told.exists():
        for line in told.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    return MOST_BYTES


if __name__ == "__main__":
    hold(int(sys.argv[1]))
