"""What tests of whole runs have in common."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

import pingdata_async as ping
from pingdata_async.events import Event
from pingdata_async.sandbox import SandboxServer
from tests.conftest import DATA

FAST_POLLS = ping.PollSchedule(min_interval_s=0.01, max_interval_s=0.1)
ADDRESSES = DATA / "few-us-addresses.csv"


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def read_addresses() -> list[dict[str, str]]:
    """The 100 addresses, by column."""
    with ADDRESSES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: int) -> list[dict[str, str]]:
    """A file of that many different real addresses, made with unit numbers."""
    real = read_addresses()
    made = [
        real[n % len(real)] | {"id": f"r{n}", "address_line_2": f"Unit {n // len(real) + 1}"}
        for n in range(rows)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, made[0])
        writer.writeheader()
        writer.writerows(made)
    return made


def enhancer(client: ping.PingDataClient, **changes: Any) -> ping.BulkEnhancer:
    """One that is quick, and makes 10 chunks of the 100 addresses."""
    usual: dict[str, Any] = {
        "sources": ["PG"],
        "chunk_size": 10,
        "max_jobs": 4,
        "poll_schedule": FAST_POLLS,
    }
    return ping.BulkEnhancer(client, **(usual | changes))


def in_few_chunks(client: ping.PingDataClient, **changes: Any) -> ping.BulkEnhancer:
    """One that makes 3 chunks of them, for where it does not matter how many they are."""
    return enhancer(client, **({"chunk_size": 40} | changes))


@asynccontextmanager
async def sandbox_and_client(
    **settings: Any,
) -> AsyncIterator[tuple[SandboxServer, ping.PingDataClient]]:
    """A sandbox of its own, which works at once unless told otherwise."""
    usual: dict[str, Any] = {"locations_per_s": math.inf, "queue_delay_s": 0.0}
    async with SandboxServer(**(usual | settings)) as server, client_of(server) as client:
        yield server, client


def client_of(server: SandboxServer) -> ping.PingDataClient:
    return ping.PingDataClient(api_url=server.url, auth_token="t")


class Stopper:
    """Cancels a scope at the n-th event of a kind, and keeps all events."""

    def __init__(self, kind: type[Event], count: int = 1) -> None:
        self.kind = kind
        self.left = count
        self.scope = anyio.CancelScope()
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, self.kind):
            self.left -= 1
            if not self.left:
                self.scope.cancel()


async def stopped_run(
    client: ping.PingDataClient,
    output: Path,
    kind: type[Event],
    count: int = 1,
    *,
    source: Path = ADDRESSES,
    **changes: Any,
) -> Stopper:
    """A run that was cancelled at the n-th event of a kind."""
    stopper = Stopper(kind, count)
    with stopper.scope:
        await enhancer(client, on_event=stopper, **changes).run(source, output)
    assert stopper.scope.cancelled_caught
    return stopper


def unexpected(note: str) -> None:
    """Takes notes where there should be none."""
    raise AssertionError(note)


def requests(server: SandboxServer) -> int:
    """How many it has had that are about jobs."""
    counts = server.stats.requests
    return counts.total() - counts["other"]


def hashes(folder: Path, ignore: Callable[[Path], bool] = lambda _: False) -> dict[str, str]:
    """Every file below a folder, by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock" and not ignore(path)
    }


def is_journal(path: Path) -> bool:
    return path.name.startswith("journal")


def assert_all_there(output: Path, rows: int = 100) -> None:
    """Each row exactly once, in order."""
    assert [line["row"] for line in lines(output)] == list(range(rows))
