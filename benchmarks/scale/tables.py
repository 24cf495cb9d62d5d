"""A run from CSV to Parquet of very many rows, whose fields change late.

    python -m benchmarks.scale.tables [ROWS ...]

enhances each number of rows (default: 100,000 and a million) against a fast server; each run is a
process of its own. PH says a field that is null in the first tenth of the rows and a text after
it, one that is an integer up to seven tenths and no integer after that, and one in the last row
alone. Every value is compared by pyarrow and by DuckDB, and GeoParquet is written of the same run
and compared too. Exit code 1: a value was not as it should be, or the peak memory of the last run
was more than 10 % above that of the first.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TOLERANCE = 1.10
ROWS = (100_000, 1_000_000)
WORK_DIR = Path(__file__).parents[2] / "build"


@contextlib.contextmanager
def serving(rows: int) -> Iterator[str]:
    """The url of a server of so many rows, in a process of its own."""
    command = [sys.executable, "-m", "tests.large.changing_server", str(rows)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def run_and_check(rows: int, folder: Path) -> float:
    """One run, checked; returns its peak memory in MB."""
    # This process imports nothing large: on Linux a child's peak begins at its parent's.
    with serving(rows) as url:
        wall_s, cpu_s, peak_mb = _child("enhance", str(rows), str(folder), url)
    size = Path(folder, "out.parquet").stat().st_size
    print(
        f"{rows:,} rows, CSV to Parquet: {wall_s:.1f} s, {cpu_s / rows * 1e6:.1f} us of CPU a "
        f"row, peak {peak_mb:.0f} MB, {size / rows:.0f} bytes a row",
        flush=True,
    )
    wall_s, cpu_s, geo_peak_mb = _child("export", str(rows), str(folder))
    print(
        f"{rows:,} rows, the export as GeoParquet alone: {wall_s:.1f} s, "
        f"{cpu_s / rows * 1e6:.1f} us of CPU a row, peak {geo_peak_mb:.0f} MB",
        flush=True,
    )
    [columns, points] = _child("check", str(rows), str(folder))
    print(
        f"{rows:,} rows in order, each of {columns:.0f} columns as it should be, by pyarrow and "
        f"by DuckDB; GeoParquet is valid, with {points:,.0f} points where they should be",
        flush=True,
    )
    return peak_mb


def _child(*words: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.scale.tables", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: list[float] = json.loads(done.stdout)
    return figures


# -- what is done in a process of its own ---------------------------------------------------


def enhance(rows: int, folder: Path, url: str) -> list[float]:
    """The run: its seconds, seconds of CPU, and peak memory in MB."""
    import anyio  # noqa: PLC0415 - see run_and_check()

    import pingdata_async as ping  # noqa: PLC0415 - likewise
    from benchmarks.throughput.data import make_input  # noqa: PLC0415 - likewise

    source = make_input("csv", rows, folder)

    async def run() -> None:
        schedule = ping.PollSchedule(min_interval_s=0.001)  # jobs are done at once
        async with ping.PingDataClient(api_url=url, auth_token="any") as client:
            enhancer = ping.BulkEnhancer(
                client, ["PG", "PH"], chunk_size=1000, max_jobs=32, poll_schedule=schedule
            )
            summary = await enhancer.run(source, folder / "out.parquet")
        assert (summary.rows, summary.no_answer) == (rows, 0)

    return _measured(lambda: anyio.run(run))


def export(folder: Path) -> list[float]:
    """The same run as GeoParquet; the same figures."""
    import anyio  # noqa: PLC0415 - see run_and_check()

    from pingdata_async.runs.export.export import export_run  # noqa: PLC0415 - likewise

    return _measured(
        lambda: anyio.run(export_run, folder / "out.parquet.run", folder / "out.geoparquet")
    )


def check(rows: int, folder: Path) -> list[float]:
    """Look at every value of both outputs: how many columns there are, and how many points."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - see run_and_check()

    from benchmarks.throughput.data import make_input  # noqa: PLC0415 - likewise
    from tests.large import checking  # noqa: PLC0415 - likewise
    from tests.large.changing_server import LateChanges  # noqa: PLC0415 - likewise

    output = folder / "out.parquet"
    expected = checking.Expected(make_input("csv", rows, folder), LateChanges(rows))
    checking.check_by_arrow(output, expected)
    checking.check_by_duckdb(output, expected)
    points = checking.check_geoparquet(folder / "out.geoparquet", output)
    return [len(pq.read_schema(output).names), points]


def _measured(work: Callable[[], object]) -> list[float]:
    """Do it: its seconds, seconds of CPU, and the process's peak memory in MB."""
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    work()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return [wall_s, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6]


def main(numbers: list[int]) -> bool:
    """Whether memory is flat; all else ends it."""
    WORK_DIR.mkdir(exist_ok=True)
    peaks_mb = []
    for rows in numbers:
        with tempfile.TemporaryDirectory(dir=WORK_DIR) as folder:
            peaks_mb.append(run_and_check(rows, Path(folder)))
    growth = peaks_mb[-1] / peaks_mb[0]
    print(f"peak memory of {numbers[-1]:,} rows against {numbers[0]:,}: {growth - 1:+.1%}")
    return growth <= TOLERANCE


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["enhance", rows, folder, url]:
            print(json.dumps(enhance(int(rows), Path(folder), url)))
        case ["export", _, folder]:
            print(json.dumps(export(Path(folder))))
        case ["check", rows, folder]:
            print(json.dumps(check(int(rows), Path(folder))))
        case numbers:
            sys.exit(not main([int(rows) for rows in numbers or ROWS]))
