"""Measure contenders: each in a process of its own, against a server in another, round after round.

What counts is the *marginal* CPU of a location: two sizes are run, and the difference of their CPU
is divided by the difference of their rows, so that start-up does not count.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.throughput.contenders import SERVER, Contender, ServerOptions
from benchmarks.throughput.data import make_input

WORK_DIR = Path(__file__).parents[2] / "build" / "bench"
REPOSITORY = Path(__file__).parents[2]
LEAST_S, ROWS_PER_S = 180.0, 200.0  # a process slower than that hangs
STATS_PATH = "/bench/stats"
STOP_WITHIN_S = 10.0
PACKAGES = (
    *("aiohttp", "anyio", "isal", "msgspec", "pingdata-async", "pingintel-api", "pyarrow"),
    *("requests", "zstandard"),
)

# -- one process --------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """What a process used, all its threads and awaited children included.

    Attributes:
        cpu_s: User and system time.
        system_s: The part in the kernel.
        wall_s: Elapsed time.
        max_rss_mb: Peak memory, in units of a million bytes.
        minor_faults: Pages that had to be mapped.
        waits: Voluntary context switches.
        preemptions: Involuntary ones: others wanted the core.
    """

    cpu_s: float
    system_s: float
    wall_s: float
    max_rss_mb: float
    minor_faults: int
    waits: int
    preemptions: int

    @classmethod
    def of(cls, used: resource.struct_rusage, wall_s: float) -> Usage:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
        return cls(
            cpu_s=used.ru_utime + used.ru_stime,
            system_s=used.ru_stime,
            wall_s=wall_s,
            max_rss_mb=used.ru_maxrss * unit / 1e6,
            minor_faults=used.ru_minflt,
            waits=used.ru_nvcsw,
            preemptions=used.ru_nivcsw,
        )


def used_here(began_s: float) -> Usage:
    """What this process has used itself; `began_s` is when, by time.monotonic()."""
    return Usage.of(resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began_s)


def run_measured(command: Sequence[str], folder: Path, timeout_s: float) -> tuple[Usage, bytes]:
    """Run a command in a folder: what it used, and what it printed.

    Its peak memory begins at that of this process (on Linux): import nothing large here.

    Raises:
        RuntimeError: It failed or hung; the message holds the end of its stderr.
    """
    printed, said = folder / "stdout", folder / "stderr"
    with printed.open("wb") as out, said.open("wb") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        watchdog = threading.Timer(timeout_s, process.kill)
        watchdog.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = said.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {end}")
    return Usage.of(used, time.monotonic() - began), printed.read_bytes()


def _environment() -> dict[str, str]:
    """This process's own, without options of ours, and with a token."""
    kept = {name: value for name, value in os.environ.items() if "PINGDATA" not in name}
    return kept | {
        "PING_DATA_AUTH_TOKEN": "any",
        "NO_PROXY": "*",  # the vendor's client would ask a proxy for 127.0.0.1
        "PYTHONPATH": str(REPOSITORY),  # it runs in another folder
    }


# -- the server ---------------------------------------------------------------------------


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

    def since(self, before: Served) -> Served:
        """What was done after `before`; `peak_jobs` stays."""
        earlier = asdict(before) | {"peak_jobs": 0}
        return Served(**{name: value - earlier[name] for name, value in asdict(self).items()})


@contextlib.contextmanager
def serving(options: ServerOptions) -> Iterator[str]:
    """The url of a server with these options; it ends with the block."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(options).items()]
    command = [sys.executable, "-m", SERVER, *words]
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


# -- contenders ---------------------------------------------------------------------------

Report = dict[str, Any]


def run_once(contender: Contender, rows: int, url: str, work_dir: Path) -> Report:
    """Run a contender once and check its output; what it used, and what was served.

    Raises:
        RuntimeError: It lost rows, failed or hung.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    source = make_input(contender.input, rows, work_dir)
    with tempfile.TemporaryDirectory(dir=work_dir) as name:
        folder = Path(name)
        output = folder / contender.output
        before = served_by(url)
        command = contender.command_for(source, output, url)
        usage, printed = run_measured(command, folder, LEAST_S + rows / ROWS_PER_S)
        served = served_by(url).since(before)
        said = json.loads(printed) if contender.prints_json else {}
        match contender.check:
            case "bytes":
                is_right = output.stat().st_size == served.plain_bytes and served.locations == rows
            case "counts":
                is_right = (said["seen"], said["not_ok"]) == (rows, served.not_ok)
            case "":
                is_right = True
            case kind:
                is_right = _is_right(kind, output, source, served)
        if not is_right:
            raise RuntimeError(f"{contender.title}: the output is not what was served: {served}")
        return {
            "rows": rows,
            **asdict(usage),
            "served": asdict(served),
            "written_bytes": _written(folder),
            **said,
        }


def _is_right(kind: str, output: Path, source: Path, served: Served) -> bool:
    """Whether `checks.py` finds no fault, in a process of its own: its memory is not this one's."""
    words = [kind, str(output), str(source), json.dumps(asdict(served))]
    command = [sys.executable, "-m", "benchmarks.throughput.checks", *words]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def _written(folder: Path) -> dict[str, int]:
    """The bytes of each file and folder in a folder."""
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).parts[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sizes


def measure(contender: Contender, sizes: Sequence[int], work_dir: Path) -> Report:
    """Run a contender with each number of rows, against one server.

    Returns:
        The runs by size, and the marginal CPU of a location in microseconds.
    """
    with serving(contender.server) as url:
        runs = [run_once(contender, rows, url, work_dir) for rows in sizes]
    spent = {"cpu_us": marginal_us(runs, "cpu_s"), "system_us": marginal_us(runs, "system_s")}
    return {**spent, "runs": runs}


def marginal_us(runs: Sequence[Report], name: str) -> float:
    """What a row more takes, in microseconds; of a single run, what a row takes."""
    small, large = runs[0], runs[-1]
    if small is large:
        small = {"rows": 0, name: 0.0}
    return float(1e6 * (large[name] - small[name]) / (large["rows"] - small["rows"]))


def measure_rounds(
    contenders: Mapping[str, Contender], rounds: int, sizes: tuple[int, ...], work_dir: Path
) -> Iterator[dict[str, Report]]:
    """Measure every contender once a round, each round in another order; yields each round."""
    names = list(contenders)
    for number in range(rounds):
        turn = number % len(names)
        reports: dict[str, Report] = {}
        for name in [*names[turn:], *names[:turn]]:
            each = contenders[name]
            load = os.getloadavg()[0]
            report = measure(each, each.sizes_for(sizes), work_dir) | {"load": load}
            reports[name] = report
            print(
                f"round {number + 1} of {rounds}, load {load:4.1f}: {name:<15} "
                f"{report['cpu_us']:7.2f} us of CPU a location, "
                f"{report['runs'][-1]['max_rss_mb']:4.0f} MB",
                file=sys.stderr,
                flush=True,
            )
        yield {name: reports[name] for name in names}


# -- the machine --------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Processor, system, versions and commit; a version is None where it is not installed."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
