"""Contenders against the fast server, and what the checks are for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from benchmarks.throughput.checks import check_output, check_table
from benchmarks.throughput.contender import Contender, Part
from benchmarks.throughput.data import csv_of, locations_in
from benchmarks.throughput.ours import Durable, DurableTable, Repeating, Stream, StreamOfLocations
from benchmarks.throughput.server import FastAPI
from tests.support.sweeps import sampled

ROWS = 2000


@contextlib.asynccontextmanager
async def served(api: FastAPI) -> AsyncIterator[str]:
    """Its url, within this process."""
    runner = web.AppRunner(api.make_app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
def part(tmp_path: Path) -> Part:
    folder = tmp_path / "part"
    folder.mkdir()
    return Part(csv_of(ROWS, tmp_path), ROWS, folder)


@pytest.mark.parametrize(
    "kind",
    [
        Durable,
        Stream,
        StreamOfLocations,
        partial(DurableTable, ending=".parquet"),
        partial(DurableTable, ending=".csv"),
    ],
    ids=["jsonl", "stream", "locations", "parquet", "csv"],
)
@pytest.mark.parametrize(
    "options",
    sampled([{"spacing": "spaced"}, {"encoding": "identity"}, {"job_s": 0.05}], 1),
    ids=["gzip and spaced", "plain", "slow jobs"],
)
async def test_ours_accepts_what_the_fast_server_answers(
    options: dict[str, Any], kind: Callable[[str], Contender], part: Part
) -> None:
    """Every row comes out once, with the status that the server's answer means."""
    api = FastAPI(**options)
    async with served(api) as url, kind(url) as contender:
        contender.prepare(part)
        await contender.run(part)
    contender.check(part, api.served)
    assert api.served.not_ok > 0
    assert (api.served.wire_bytes == api.served.plain_bytes) is (api.encoding == "identity")


async def test_ours_is_charged_once_for_what_repeats(tmp_path: Path) -> None:
    """And gives every row the answer of its address."""
    folder = tmp_path / "part"
    folder.mkdir()
    part = Part(csv_of(ROWS, tmp_path, repeats=True), ROWS, folder)
    api = FastAPI()
    async with served(api) as url, Repeating(url) as contender:
        await contender.run(part)
    contender.check(part, api.served)
    assert api.served.locations == locations_in(ROWS) < ROWS * 0.71


@pytest.mark.parametrize(
    "name", sampled(["floor-gzip", "vendor", "floor-identity", "vendor-lean", "vendor-threads"], 1)
)
def test_the_others_do_the_same_work(name: str, tmp_path: Path) -> None:
    """In a process of their own, as in the bench; each is checked there, and says what it took."""
    options = ["--rows", str(ROWS), "--warm-up-rows", "1000", "--cold", "--work-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.throughput.contend", name, *options],
        capture_output=True,
        check=True,
        timeout=120,
    )
    report = json.loads(done.stdout)
    assert report["served"]["locations"] == ROWS
    assert report["cpu_s_per_million"] > 0
    kept = {path.name for path in tmp_path.iterdir() if path.name.startswith("rows-")}
    assert kept == {"rows-1000.csv", f"rows-{ROWS}.csv"}


@pytest.mark.parametrize("damage", sampled(["swapped", "lost", "twice", "status"], 1))
async def test_who_loses_rows_is_found(damage: str, part: Part) -> None:
    """A line that is missing, out of order, doubled or wrong ends the bench."""
    api = FastAPI()
    async with served(api) as url, Durable(url) as contender:
        await contender.run(part)
    contender.check(part, api.served)
    lines = part.output.read_bytes().splitlines(keepends=True)
    if damage == "lost":
        del lines[-1]
    elif damage == "swapped":
        lines[0], lines[1] = lines[1], lines[0]
    elif damage == "twice":
        lines.append(lines[-1])
    else:
        lines[0] = lines[0].replace(b'"status":"ok"', b'"status":"partial"')
        assert b"partial" in lines[0]
    part.output.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"line|rows|argument"):
        check_output(part.output, part.source, api.served)


@pytest.mark.parametrize("damage", sampled(["cell", "lost", "swapped", "status"], 1))
async def test_a_table_that_lost_something_is_found(damage: str, part: Part) -> None:
    """A row that is missing or out of order, a wrong status, a changed cell."""
    api = FastAPI()
    output = part.output.with_suffix(".csv")
    async with served(api) as url, DurableTable(url, ".csv") as contender:
        await contender.run(part)
    contender.check(part, api.served)
    lines = output.read_bytes().splitlines(keepends=True)
    if damage == "lost":
        del lines[-1]
    elif damage == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif damage == "status":
        lines[1] = lines[1].replace(b",ok,", b",partial,")
    else:
        lines[1] = lines[1].replace(b"loc-00000000", b"loc-0000000")
    output.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"row|argument"):
        check_table(output, part.source, api.served)
