"""The contenders: the commands and programs that are measured, as their users run them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

SERVER = "benchmarks.throughput.server"
PROGRAMS = "benchmarks.throughput"
CHUNK_SIZE = 1000
SOURCES = ("PG", "PH")
BUSY_JOB_S = 1.0


@dataclass(frozen=True)
class ServerOptions:
    """How the server answers.

    Attributes:
        encoding: "auto" to compress where a client asks for it, "identity" never to.
        spacing: "compact" or "spaced" JSON.
        job_s: Seconds until a job is complete.
    """

    encoding: str = "auto"
    spacing: str = "compact"
    job_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of them.

    Attributes:
        title: Shown.
        command: Its words; {input}, {output} and {url} are filled in.
        input: "csv", "repeating" (three in ten rows repeat an earlier one), or "bodies" (encoded
            submissions).
        output: The name of its output.
        check: How its output is checked: "lines", "repeating" or "table" by `checks.py`; "bytes"
            by its size; "counts" by the counts it prints; "" not at all.
        prints_json: Whether it prints an object that belongs to the report.
        sizes: Numbers of rows of its own; None for everybody's.
        times: It gets so many times the larger number: it is so cheap that its start-up would
            hide what a location costs.
        server: How the server answers it.
    """

    title: str
    command: tuple[str, ...]
    input: str = "csv"
    output: str = "out.jsonl"
    check: str = "lines"
    prints_json: bool = False
    sizes: tuple[int, ...] | None = None
    times: int = 1
    server: ServerOptions = field(default_factory=ServerOptions)

    def command_for(self, source: Path, output: Path, url: str) -> list[str]:
        """The command for this input, output and server."""
        words = {"input": str(source), "output": str(output), "url": url}
        return [word.format(**words) for word in self.command]

    def sizes_for(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The numbers of rows it gets where others get `sizes`."""
        return self.sizes or (*sizes[:-1], sizes[-1] * self.times)


def program(name: str, *words: str) -> tuple[str, ...]:
    """A program of this folder, by the same Python."""
    return (sys.executable, "-m", f"{PROGRAMS}.{name}", *words)


def _enhance(command: Path) -> tuple[str, ...]:
    """The command with its default settings."""
    return (
        *(str(command), "enhance", "{input}", "-o", "{output}"),
        *("--sources", ",".join(SOURCES), "--api-url", "{url}"),
    )


ENHANCE = _enhance(Path(sys.executable).with_name("pingdata-async"))
JSONL = Contender(title="`enhance`, CSV to JSONL", command=ENHANCE)

# What every full round measures, in the order of the tables.
CONTENDERS = {
    "floor": Contender(
        title="floor: bare aiohttp",
        command=program("floor", "{input}", "{output}", "{url}"),
        input="bodies",
        check="bytes",
        times=3,
    ),
    "jsonl": JSONL,
    "parquet": replace(
        JSONL, title="`enhance`, CSV to Parquet", output="out.parquet", check="table"
    ),
    "csv": replace(JSONL, title="`enhance`, CSV to CSV", output="out.csv", check="table"),
    "stream": Contender(
        title="`stream()` in an application",
        command=program("ours", "stream", "{input}", "{url}"),
        check="counts",
        prints_json=True,
    ),
    "run": Contender(
        title="`run()` in an application, polled without a pause",
        command=program("ours", "run", "{input}", "{url}", "{output}"),
        prints_json=True,
    ),
    "vendor": Contender(
        title="vendor's client, serial",
        command=program("vendor", "{input}", "{output}", "{url}"),
        sizes=(1_000, 11_000),
    ),
    "vendor-threads": Contender(
        title="vendor's client, 64 threads",
        command=program("vendor", "{input}", "{output}", "{url}", "64"),
        sizes=(1_000, 64_000),
    ),
}

TASK = Contender(
    title="a task of a distributed engine",
    command=program("ours", "task", "{input}", "{url}"),
    check="counts",
    prints_json=True,
)

# Beside these, only where they are named.
VARIATIONS = {
    "task": TASK,
    "task-store": replace(
        TASK, title=f"{TASK.title}, with a store", command=(*TASK.command, "{output}")
    ),
    "jsonl-plain": replace(
        JSONL, title=f"{JSONL.title}, uncompressed answers", server=ServerOptions("identity")
    ),
    "jsonl-repeats": replace(
        JSONL, title=f"{JSONL.title}, 30 % repeat", input="repeating", check="repeating"
    ),
    "jsonl-spaced": replace(
        JSONL, title=f"{JSONL.title}, JSON with spaces", server=ServerOptions(spacing="spaced")
    ),
    "jsonl-busy": replace(
        JSONL,
        title=f"{JSONL.title}, jobs of {BUSY_JOB_S:g} s",
        server=ServerOptions(job_s=BUSY_JOB_S),
    ),
}
EVERYBODY = CONTENDERS | VARIATIONS


def of_another_checkout(folder: Path) -> Contender:
    """The command of another checkout, prepared like this one."""
    return replace(
        JSONL,
        title=f"{JSONL.title}, of {folder.name}",
        command=_enhance(folder.resolve() / ".venv" / "bin" / "pingdata-async"),
    )
