"""The fast server in a process of its own, from the side of whoever measures."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass

STATS_PATH = "/bench/stats"
STOP_WITHIN_S = 10.0


@dataclass
class Served:
    """What a server has done so far.

    Attributes:
        locations: Answered about, in outputs that were fetched.
        not_ok: Of those, with a source that did not succeed.
        jobs: Fetched.
        requests: Of all kinds.
        peak_jobs: Accepted, and their output not fetched, at once.
        submitted_bytes: Bodies of submissions, as they came.
        plain_bytes: Outputs, before compression.
        wire_bytes: Outputs, as they were sent.
    """

    locations: int = 0
    not_ok: int = 0
    jobs: int = 0
    requests: int = 0
    peak_jobs: int = 0
    submitted_bytes: int = 0
    plain_bytes: int = 0
    wire_bytes: int = 0


@dataclass(frozen=True)
class ServerOptions:
    """How a server answers; see `FastAPI`."""

    encoding: str = "auto"
    spacing: str = "compact"
    job_s: float = 0.0


@contextlib.contextmanager
def serving(options: ServerOptions) -> Iterator[str]:
    """The url of a server with these options, which ends with the block."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(options).items()]
    command = [sys.executable, "-m", "benchmarks.throughput.server", *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the server did not start")
        yield url
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def served_by(url: str) -> Served:
    """What the server at this url has done so far."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + STATS_PATH, timeout=STOP_WITHIN_S) as answer:
        return Served(**json.load(answer))


def since(before: Served, after: Served) -> Served:
    """What was done between the two; of `peak_jobs` the later value."""
    earlier = asdict(before) | {"peak_jobs": 0}
    return Served(**{name: value - earlier[name] for name, value in asdict(after).items()})
