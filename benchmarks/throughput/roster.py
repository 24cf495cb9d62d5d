"""Who takes part."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.throughput.contender import Contender
from benchmarks.throughput.serving import ServerOptions

HERE = "benchmarks.throughput"
PLAIN = ServerOptions(encoding="identity")
GZIP = ServerOptions()
BUSY_JOB_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of them.

    Attributes:
        title: Shown.
        kind: Class of the contender; its module is imported only where it competes, so that
            nobody's memory holds another's modules.
        options: For the class.
        server: How the server answers it.
        rows_share: So many of the rows it gets; where it is slow.
        least_rows: But at least so many.
        repeats: Whether three in ten rows are at the address of an earlier one.
    """

    title: str
    kind: tuple[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    server: ServerOptions = GZIP
    rows_share: float = 1.0
    least_rows: int = 0
    repeats: bool = False

    def make(self, url: str) -> Contender:
        """The contender."""
        module, name = self.kind
        kind: Callable[..., Contender] = getattr(importlib.import_module(f"{HERE}.{module}"), name)
        return kind(url, **self.options)

    def rows_of(self, rows: int) -> int:
        """How many it gets where others get `rows`."""
        return max(int(rows * self.rows_share), min(self.least_rows, rows))


FLOOR, OURS = "floor-identity", "durable-identity"
ROSTER = {
    FLOOR: Entry(
        title="floor: bare aiohttp, uncompressed answers",
        kind=("floor", "Floor"),
        options={"encoding": "identity"},
    ),
    "floor-gzip": Entry(
        title="floor: bare aiohttp, gzip", kind=("floor", "Floor"), options={"encoding": "gzip"}
    ),
    OURS: Entry(title="ours, durable, uncompressed", kind=("ours", "Durable"), server=PLAIN),
    "durable-gzip": Entry(title="ours, durable, gzip", kind=("ours", "Durable")),
    "durable-repeats": Entry(
        title="ours, durable, gzip, 30 % of the rows repeat others",
        kind=("ours", "Repeating"),
        repeats=True,
    ),
    "durable-spaced": Entry(
        title="ours, durable, gzip, JSON with spaces",
        kind=("ours", "Durable"),
        server=ServerOptions(spacing="spaced"),
    ),
    "durable-busy": Entry(
        title=f"ours, durable, gzip, jobs of {BUSY_JOB_S:.0f} s",
        kind=("ours", "Durable"),
        server=ServerOptions(job_s=BUSY_JOB_S),
    ),
    "durable-parquet": Entry(
        title="ours, durable, gzip, to Parquet",
        kind=("ours", "DurableTable"),
        options={"ending": ".parquet"},
    ),
    "durable-csv": Entry(
        title="ours, durable, gzip, to CSV",
        kind=("ours", "DurableTable"),
        options={"ending": ".csv"},
    ),
    "stream-identity": Entry(
        title="ours, stream() in memory, uncompressed", kind=("ours", "Stream"), server=PLAIN
    ),
    "stream-gzip": Entry(title="ours, stream() in memory, gzip", kind=("ours", "Stream")),
    "stream-locations": Entry(
        title="ours, stream() of Location objects, gzip", kind=("ours", "StreamOfLocations")
    ),
    "vendor": Entry(title="vendor's client, serial", kind=("vendor", "Vendor"), rows_share=0.2),
    "vendor-lean": Entry(
        title="vendor's client, serial, without its files",
        kind=("vendor", "Vendor"),
        options={"writes_files": False},
        rows_share=0.2,
    ),
    "vendor-threads": Entry(
        title="vendor's client, 64 threads",
        kind=("vendor", "Vendor"),
        options={"threads": 64},
        least_rows=64_000,
        rows_share=0.2,
    ),
}
