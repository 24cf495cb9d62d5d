"""What is too long for the suite, at full size, one part after the other.

    python -m benchmarks.scale [ADDRESSES_CSV]

Large files and tables, memory that does not grow, and runs that survive faults, kills and rows at
fault. A CSV of addresses is used instead of the tests' own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(addresses: Path | None = None) -> int:
    """Run each part in a process of its own; returns 1 where one failed."""
    given = [str(addresses)] if addresses else []
    parts = [
        ["files", "20000", "500", "8", *given],
        ["memory", "100000", "1000000", "200"],
        ["tables", "100000", "1000000"],
        ["survival"],
    ]
    if addresses:
        with addresses.open("rb") as file:
            rows = sum(1 for _ in file) - 1
        parts.insert(0, ["files", str(rows), "200", "8", *given])
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.scale.{name}", *words], check=False)
        for name, *words in parts
    ]
    return int(any(done.returncode for done in codes))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else None))
