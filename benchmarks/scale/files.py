"""A large file through the sandbox, which runs in a process of its own.

    python -m benchmarks.scale.files ROWS CHUNK_SIZE MAX_JOBS [ADDRESSES_CSV]

makes ROWS rows of the real addresses in ADDRESSES_CSV (default: those of the tests) by adding
unit numbers, enhances them, and checks that every row comes out once, in order, with the
answer for its own address, and that no more than MAX_JOBS jobs were in flight by the sandbox's
own count. Exit code 1: one of these did not hold.
"""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import anyio

import pingdata_async as ping
from tests.support.probes import LoopLag, loop_lag

DEFAULT_ADDRESSES = Path(__file__).parents[2] / "tests" / "data" / "us-addresses.csv"


def write_input(path: Path, addresses: Path, rows: int) -> None:
    """That many different rows of real addresses."""
    with addresses.open(encoding="utf-8", newline="") as file:
        real = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, real[0])
        writer.writeheader()
        for number in range(rows):
            unit = f"Unit {number // len(real) + 1}" if rows > len(real) else ""
            writer.writerow(real[number % len(real)] | {"id": f"r{number}", "address_line_2": unit})


def check(source: Path, output: Path) -> int:
    """How many rows came out, each in its place and with its own answer.

    Raises:
        AssertionError: When one did not.
    """
    rows = 0
    with source.open(encoding="utf-8", newline="") as given, output.open("rb") as written:
        for row, line in itertools.zip_longest(csv.DictReader(given), written):
            assert row is not None
            assert line is not None
            answer: dict[str, Any] = json.loads(line)
            assert (answer["row"], answer["id"]) == (rows, row["id"])
            if answer["status"] == "ok":
                found = answer["location_data"]["PG"]["formatted_address"]
                assert row["address_line_1"] in found
                assert row["address_line_2"] in found
            rows += 1
    return rows


async def enhance(
    url: str, source: Path, output: Path, chunk_size: int, max_jobs: int
) -> tuple[ping.RunSummary, LoopLag]:
    """One run, with the event loop watched."""
    async with ping.PingDataClient(api_url=url, auth_token="any") as client, loop_lag() as lag:
        enhancer = ping.BulkEnhancer(client, ["PG", "PH"], chunk_size=chunk_size, max_jobs=max_jobs)
        return await enhancer.run(source, output), lag


def main(rows: int, chunk_size: int, max_jobs: int, addresses: Path) -> None:
    """Run it, check it, say what it took."""
    command = [sys.executable, "-m", "pingdata_async", "sandbox", "--port", "0"]
    sandbox = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert sandbox.stdout is not None
        url = next(word for word in sandbox.stdout.readline().split() if word.startswith("http"))
        with tempfile.TemporaryDirectory() as name:
            source, output = Path(name, "in.csv"), Path(name, "out.jsonl")
            write_input(source, addresses, rows)
            summary, lag = anyio.run(enhance, url, source, output, chunk_size, max_jobs)
            assert check(source, output) == summary.rows == rows
        with urllib.request.urlopen(f"{url}/sandbox/stats") as answer:
            stats = json.load(answer)
    finally:
        sandbox.terminate()
        sandbox.wait()
    assert stats["peak_jobs_in_flight"] <= max_jobs
    assert stats["locations_accepted"] == rows
    print(
        f"{rows:,} rows, each once, in order, with its own answer: {summary.ok:,} ok, "
        f"{summary.partial:,} partial, {summary.failed:,} no match; {summary.jobs} jobs, at most "
        f"{stats['peak_jobs_in_flight']} of {max_jobs} in flight; {summary.requests} requests; "
        f"{summary.seconds:.1f} s; event loop at most {lag.worst_s * 1000:.0f} ms late"
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        Path(sys.argv[4]) if len(sys.argv) > 4 else DEFAULT_ADDRESSES,
    )
