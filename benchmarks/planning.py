"""What it costs to bring rows into chunks, and chunks into requests, in CPU time.

    python -m benchmarks.planning [ROWS]
    python -m benchmarks.planning --memory ROWS ...

makes inputs of 200,000 rows, brings them through, and prints microseconds a row (1 us a row
is 1 s for a million), the median of five. What making the rows costs a caller is not counted.

With --memory it plans one input of each size, in which three in ten rows repeat others, each in
a process of its own, and prints what that took and the peak of its memory.
"""

from __future__ import annotations

import csv
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from benchmarks.throughput.data import make_input
from benchmarks.throughput.measure import used_here
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.stream import ChunkSource
from pingdata_async.locations.chunk import Chunk, encode_body
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import Location
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.planning.plan_writer import write_plan

ROWS = 200_000
TIMES = 5
BODIES = 100
SOURCES = ("PG", "PH")
ADDRESSES = Path(__file__).parent.parent / "tests" / "data" / "us-addresses.csv"
PARTS = 10  # in which rows are handed over, so that making them can be left out


def rows(number: int) -> Iterator[dict[str, str]]:
    """Rows of real addresses, each with an id, a house number and a place of its own."""
    with ADDRESSES.open(encoding="utf-8", newline="") as file:
        addresses = list(csv.DictReader(file))
    for n, row in enumerate(itertools.islice(itertools.cycle(addresses), number)):
        street = row["address_line_1"].partition(" ")[2]
        yield row | {
            "id": f"us-{n:07}",
            "address_line_1": f"{n % 9_000 + 1} {street}",
            "latitude": f"{float(row['latitude']) + n * 1e-7:.7f}",
            "longitude": f"{float(row['longitude']) - n * 1e-7:.7f}",
        }


def given(row: dict[str, str]) -> dict[str, Any]:
    """A row as a program would give it: numbers as numbers, nothing empty."""
    return {
        name: float(value) if name in {"latitude", "longitude"} else value
        for name, value in row.items()
        if value
    }


def write_inputs(folder: Path, number: int) -> list[Path]:
    table, lines = folder / "in.csv", folder / "in.jsonl"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(next(rows(1))))
        writer.writeheader()
        writer.writerows(rows(number))
    lines.write_bytes(msgspec.json.Encoder().encode_lines(map(given, rows(number))))
    return [table, lines]


def median_s(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU time."""
    seconds = []
    for _ in range(TIMES):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def plan(source: Path, *, dedupe: bool = True) -> Plan:
    """A plan of it, beside it."""
    path = source.with_suffix(".plan")
    path.unlink(missing_ok=True)
    builder = ChunkBuilder(sources=SOURCES)
    return anyio.run(lambda: write_plan(path, source, builder, dedupe=dedupe))


def read_table(source: Path) -> None:
    """What Python itself needs to read a table: no plan can be cheaper."""
    with source.open(encoding="utf-8", newline="") as file:
        for _ in csv.reader(file):
            pass


async def drain(locations: list[Any]) -> None:
    """As `stream()` reads them."""
    async for _ in ChunkSource(locations, ChunkBuilder(sources=SOURCES)):
        pass


def us_a_row(form: Callable[[dict[str, str]], Any], number: int) -> float:
    """What locations of one form cost, a part of them at a time: no list of them all."""
    seconds = 0.0
    inputs = rows(number)
    while part := list(map(form, itertools.islice(inputs, -(-number // PARTS)))):
        seconds += median_s(partial(anyio.run, drain, part))
    return seconds / number * 1e6


def read_chunks(plan: Plan) -> None:
    for index in range(plan.chunks):
        plan.read(index)


def encode_bodies(chunk: Chunk) -> None:
    options = JobOptions().encode(SOURCES)
    for _ in range(BODIES):
        encode_body(chunk, options)


def main(number: int = ROWS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table, lines = write_inputs(Path(folder), number)
        print(
            f"csv.reader alone      {median_s(partial(read_table, table)) / number * 1e6:5.2f} us"
        )
        for name, source in (("CSV", table), ("JSONL", lines)):
            for how, dedupe in (("", True), (", all sent", False)):
                seconds = median_s(partial(plan, source, dedupe=dedupe))
                print(f"{name + ' to a plan' + how:26} {seconds / number * 1e6:5.2f} us")
        repeating = make_input("repeating", number, Path(folder))
        seconds = median_s(partial(plan, repeating))
        print(f"CSV to a plan, 30 % repeat {seconds / number * 1e6:5.2f} us")
        for name, form in (
            ("mappings of texts", dict),
            ("mappings, ragged", given),
            ("Locations", lambda row: Location(**given(row))),
            ("addresses", lambda row: f"{row['address_line_1']}, {row['city']}, {row['state']}"),
        ):
            print(f"{name:21} {us_a_row(form, number):5.2f} us")
        with plan(table) as made:
            a_chunk = median_s(partial(read_chunks, made)) / made.chunks
            chunk = made.read(0)
        bodies = median_s(partial(encode_bodies, chunk)) / BODIES
    print(f"reading a chunk       {a_chunk * 1e3:5.2f} ms of {len(chunk.rows)} rows")
    print(f"encoding its body     {bodies * 1e3:5.2f} ms")


def measure_memory(sizes: list[int]) -> None:
    """Each in a process of its own, as a peak is that of a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            source = make_input("repeating", size, Path(folder))
            command = [sys.executable, "-m", "benchmarks.planning", "--one", str(source)]
            print(f"{size:>12,} rows: ", end="", flush=True)
            subprocess.run(command, check=True)
            source.unlink()


def be_measured(source: Path) -> None:
    """Plan one input, and say what it took."""
    began_s, before_s = time.monotonic(), time.process_time()
    made = plan(source)
    usage = used_here(began_s)
    planned = made.summary
    print(
        f"{planned.repeated:,} repeat others; "
        f"{(usage.cpu_s - before_s) / planned.rows * 1e6:.2f} us a row, "
        f"{usage.wall_s:.0f} s, peak {usage.max_rss_mb:.0f} MB"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(list(map(int, sys.argv[2:])))
    elif sys.argv[1:2] == ["--one"]:
        be_measured(Path(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
