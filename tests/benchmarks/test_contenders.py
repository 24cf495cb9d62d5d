"""Contenders against the fast server, and what the checks are for."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import pingdata_async as ping
from benchmarks.throughput.checks import check_output, check_table
from benchmarks.throughput.contenders import EVERYBODY, ServerOptions, of_another_checkout
from benchmarks.throughput.data import locations_in, make_input
from benchmarks.throughput.measure import marginal_us, measure, run_measured
from benchmarks.throughput.ours import WITHOUT_PAUSE
from benchmarks.throughput.server import FastAPI
from tests.benchmarks.support import served
from tests.support.sweeps import sampled

ROWS = 2000


@pytest.mark.parametrize("name", sampled(list(EVERYBODY), 1))
def test_every_contender_does_the_work(name: str, tmp_path: Path) -> None:
    """Each in a process of its own, as in the bench; its output is checked there."""
    contender = EVERYBODY[name]
    [run] = measure(contender, (ROWS,), tmp_path)["runs"]
    expected = locations_in(ROWS) if contender.input == "repeating" else ROWS
    assert run["served"]["locations"] == expected
    assert {path.suffix for path in tmp_path.iterdir()} <= {".csv", ".bodies"}


@pytest.mark.sweep
def test_a_contender_that_loses_rows_ends_the_bench(tmp_path: Path) -> None:
    """No figure comes of it."""
    floor = EVERYBODY["floor"]
    script = "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2])"
    cheat = replace(floor, command=(floor.command[0], "-c", script, "{input}", "{output}"))
    with pytest.raises(RuntimeError, match="not what was served"):
        measure(cheat, (1000,), tmp_path)


def test_a_contender_that_fails_ends_the_bench(tmp_path: Path) -> None:
    """With its exit code, and its own last words."""
    with pytest.raises(RuntimeError, match="ended with 1: no such thing"):
        run_measured([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path, 60)


def test_a_location_costs_what_more_rows_cost() -> None:
    """Start-up does not count, unless there is one size alone."""
    small, large = (
        {"rows": rows, "cpu_s": 0.5 + rows / 1e5, "system_s": 0.0} for rows in (10_000, 30_000)
    )
    assert marginal_us([small, large], "cpu_s") == pytest.approx(10.0)
    assert marginal_us([small], "cpu_s") == pytest.approx(60.0)
    assert EVERYBODY["floor"].sizes_for((1000, 2000)) == (1000, 6000)


def test_another_checkout_runs_its_own_command(tmp_path: Path) -> None:
    """The command is that of its environment, with the same words behind it."""
    here, there = EVERYBODY["jsonl"].command, of_another_checkout(tmp_path).command
    assert there[0] == str(tmp_path / ".venv" / "bin" / "pingdata-async")
    assert there[1:] == here[1:]


async def enhanced(folder: Path, ending: str) -> tuple[Path, Path, FastAPI]:
    """Input and output of a run, and what served it."""
    source, output = make_input("csv", ROWS, folder), folder / f"out{ending}"
    api = FastAPI(**vars(ServerOptions()))
    async with served(api) as url, ping.PingDataClient(api_url=url, auth_token="any") as client:
        enhancer = ping.BulkEnhancer(client, ["PG", "PH"], poll_schedule=WITHOUT_PAUSE)
        await enhancer.run(source, output)
    return source, output, api


@pytest.mark.parametrize("damage", sampled(["swapped", "lost", "twice", "status"], 1))
async def test_who_loses_rows_is_found(damage: str, tmp_path: Path) -> None:
    """A line that is missing, out of order, doubled or wrong ends the bench."""
    source, output, api = await enhanced(tmp_path, ".jsonl")
    check_output(output, source, api.served)
    lines = output.read_bytes().splitlines(keepends=True)
    if damage == "lost":
        del lines[-1]
    elif damage == "swapped":
        lines[0], lines[1] = lines[1], lines[0]
    elif damage == "twice":
        lines.append(lines[-1])
    else:
        lines[0] = lines[0].replace(b'"status":"ok"', b'"status":"partial"')
        assert b"partial" in lines[0]
    output.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"line|rows|argument"):
        check_output(output, source, api.served)


@pytest.mark.parametrize("damage", sampled(["cell", "lost", "swapped", "status"], 1))
async def test_a_table_that_lost_something_is_found(damage: str, tmp_path: Path) -> None:
    """A row that is missing or out of order, a wrong status, a changed cell."""
    source, output, api = await enhanced(tmp_path, ".csv")
    check_table(output, source, api.served)
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
        check_table(output, source, api.served)
