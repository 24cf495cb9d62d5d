"""Runs chunks through a simulated API and shows what came of it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from pingdata_async.bulk.chunking import Chunk, ChunkBuilder
from pingdata_async.bulk.pacing import JobSlots, SlotShare
from pingdata_async.bulk.polling import PollSchedule
from pingdata_async.bulk.protocols import BulkAPI, FinishedChunk
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.runner import BulkRunner
from pingdata_async.bulk.stream import ChunkSource, Locations
from pingdata_async.events import Event
from pingdata_async.models import EnhancedLocation
from pingdata_async.wire import encode_options

E = TypeVar("E", bound=Event)


SIMULATED_HOURS = 3600.0 * 24 * 30  # more than any run takes: a hang becomes an error


def addresses(rows: int) -> list[str]:
    return [f"{row} Main Street" for row in range(rows)]


@dataclasses.dataclass
class Observed:
    """What a run did: its deliveries and its events, each with its time."""

    chunks: list[tuple[float, FinishedChunk]] = dataclasses.field(default_factory=list)
    events: list[tuple[float, Event]] = dataclasses.field(default_factory=list)

    async def deliver(self, finished: FinishedChunk) -> None:
        await anyio.lowlevel.checkpoint()
        self.chunks.append((anyio.current_time(), finished))

    def hear(self, event: Event) -> None:
        self.events.append((anyio.current_time(), event))

    def of(self, kind: type[E]) -> list[E]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def times(self, kind: type[Event], /, **fields: Any) -> list[float]:
        return [
            at
            for at, event in self.events
            if isinstance(event, kind)
            and all(getattr(event, name) == value for name, value in fields.items())
        ]

    @property
    def results(self) -> list[EnhancedLocation]:
        every = [result for _, finished in self.chunks for result in finished.results]
        return sorted(every, key=lambda result: result.row)

    @property
    def rows(self) -> list[int]:
        return [result.row for result in self.results]


def make_runner(
    api: BulkAPI,
    observed: Observed,
    *,
    max_jobs: int = 4,
    slots: SlotShare | None = None,
    sources: tuple[str, ...] = ("PG",),
    policy: RetryPolicy | None = None,
    seed: int = 0,
) -> BulkRunner:
    return BulkRunner(
        api=api,
        sink=observed,
        slots=slots or JobSlots().share(max_jobs),
        sources=sources,
        options=encode_options(sources=sources),
        schedule=PollSchedule(),
        policy=policy or RetryPolicy(),
        announce=observed.hear,
        rng=random.Random(seed),
    )


async def run(
    api: BulkAPI,
    locations: Locations | int,
    *,
    chunk_size: int = 10,
    observed: Observed | None = None,
    sources: tuple[str, ...] = ("PG",),
    **settings: Any,
) -> Observed:
    """Run locations, or that many addresses, to their end."""
    observed = observed or Observed()
    if isinstance(locations, int):
        locations = addresses(locations)
    builder = ChunkBuilder(chunk_size=chunk_size, sources=sources)
    with anyio.fail_after(SIMULATED_HOURS):
        await make_runner(api, observed, sources=sources, **settings).run(
            ChunkSource(locations, builder)
        )
    return observed


async def chunks_of(chunks: Iterable[Chunk]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk


async def until(is_true: Callable[[], bool]) -> None:
    """Let others go on until something is so, without guessing how long that takes."""
    with anyio.fail_after(10):
        while not is_true():
            await anyio.lowlevel.checkpoint()
