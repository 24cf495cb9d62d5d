"""The benchmarks, by name: `scripts/bench NAME ...`; the words after the name go to it.

Without a name, or with options alone, it is `throughput`.
"""

from __future__ import annotations

import runpy
import sys

NAMES = {
    "throughput": ("benchmarks.throughput", "what a location costs; --quick, --gate, --against"),
    "stages": ("benchmarks.stages", "what each stage costs"),
    "planning": ("benchmarks.planning", "what planning costs"),
    "policies": ("benchmarks.policies", "ways to pace and to poll, in simulated time; --seeds N"),
    "scale": ("benchmarks.scale.rows", "durable runs of 100,000 to 10 million rows"),
    "large": ("benchmarks.scale", "what is too long for the suite, at full size"),
    "start-up": ("benchmarks.start_up", "what the start of a command costs"),
    "in-flight": ("benchmarks.in_flight", "what a thousand jobs in flight cost"),
    "web": ("benchmarks.web", "a web application under load; --requests N, --seconds S"),
    "day": ("benchmarks.day", "a day of an API with trouble, in simulated time"),
}


def main() -> int:
    """Run what is named; an unknown name lists them."""
    words = sys.argv[1:]
    is_unknown = bool(words) and words[0] not in NAMES and not words[0].startswith("-")
    if is_unknown or words[:1] in (["--help"], ["-h"]):
        print(__doc__)
        for name, (_, says) in NAMES.items():
            print(f"  {name:<11} {says}")
        return 2 if is_unknown else 0
    name = words.pop(0) if words and words[0] in NAMES else "throughput"
    module, _ = NAMES[name]
    sys.argv[1:] = words
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
