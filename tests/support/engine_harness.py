"""Runs chunks through a simulated API and shows what came of it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.context import ChunkStore, EngineContext, FinishedChunk
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit
from pingdata_async.engine.flow_control.budget import Budget, Caps
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter, ConcurrencyShare
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import CircuitBreaker, RetryPolicy
from pingdata_async.engine.stream import ChunkSource, Locations
from pingdata_async.engine.task import ChunkTask
from pingdata_async.events import ChunkFinished, Event, JobSubmitted, SubmissionInDoubt
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import EnhancedLocation, JobOutput
from pingdata_async.util.encoding import EncodedBody
from tests.simulation.paced_api import Endpoints, PacedAPI
from tests.simulation.simulated_api import SimulatedAPI

E = TypeVar("E", bound=Event)


SIMULATED_HOURS = 3600.0 * 24 * 30  # more than any run takes: a hang becomes an error


def addresses(rows: int) -> list[str]:
    return [f"{row} Main Street" for row in range(rows)]


class IllegalStepError(AssertionError):
    """A store was told something that cannot be."""


#: What a store is told of a chunk: in which states it may be, and which one follows.
STEPS = {
    "submitting": ({"planned"}, "submitting"),
    "refused": ({"submitting"}, "planned"),
    "doubted": ({"submitting"}, "planned"),
    "held": ({"submitting"}, "held"),
    "submitted": ({"submitting"}, "submitted"),
    "completed": ({"submitted"}, "complete"),
    "job_lost": ({"submitted", "complete"}, "planned"),
    "split": ({"planned"}, "split"),
    "batched": ({"new"}, "planned"),
    "part": ({"new"}, "planned"),
    "deliver": ({"submitted", "complete"}, "delivered"),
    "deliver without a job": ({"planned"}, "delivered"),
}


@dataclasses.dataclass
class Observed(ChunkStore):
    """What a run did: its deliveries and its events, each with its time.

    As a store it checks that what it is told is legal: the order of steps, one at a time for
    each chunk; parts and batches hold the rows that they should, each once.
    """

    chunks: list[tuple[float, FinishedChunk]] = dataclasses.field(default_factory=list)
    events: list[tuple[float, Event]] = dataclasses.field(default_factory=list)

    #: What the store was told, by name, with the chunk's number.
    told: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    is_durable: bool = False
    #: The rows of every chunk seen.
    rows_of: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    states: dict[int, str] = dataclasses.field(default_factory=dict)
    new_indexes: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(1_000))
    #: What came for a chunk and could not be read.
    kept_unreadable: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)
    _made: set[int] = dataclasses.field(default_factory=set)
    _busy: set[int] = dataclasses.field(default_factory=set)
    _waiting: set[int] = dataclasses.field(default_factory=set)
    _done: set[int] = dataclasses.field(default_factory=set)

    async def deliver(self, finished: FinishedChunk) -> None:
        chunk = finished.chunk
        done = [result.row for result in finished.results]
        again = [retry_row.row for retry_row in finished.retry_rows]
        expected = sorted([*chunk.rows, *(invalid.row for invalid in chunk.invalid)])
        _legal(sorted(done + again) == expected, "rows are lost or doubled", chunk)
        _legal(self._done.isdisjoint(done), "rows are delivered twice", chunk)
        self._done.update(done)
        self._waiting.update(again)
        await self._note("deliver" if finished.job_id else "deliver without a job", chunk)
        self.chunks.append((anyio.current_time(), finished))

    def next_index(self) -> int:
        index = next(self.new_indexes)
        self._made.add(index)
        return index

    async def submitting(
        self,
        chunk: Chunk,
        *,
        charged_before: bool,  # noqa: ARG002
        asked: Mapping[str, int],  # noqa: ARG002
    ) -> None:
        await self._note("submitting", chunk)

    async def refused(self, chunk: Chunk) -> None:
        await self._note("refused", chunk)

    async def submitted(self, chunk: Chunk, job_id: str) -> None:  # noqa: ARG002
        await self._note("submitted", chunk)

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:  # noqa: ARG002
        await self._note("held" if hold else "doubted", chunk)

    async def completed(
        self,
        chunk: Chunk,
        outputs: Sequence[JobOutput],  # noqa: ARG002
    ) -> None:
        await self._note("completed", chunk)

    async def job_lost(self, chunk: Chunk, error: str) -> None:  # noqa: ARG002
        await self._note("job_lost", chunk)

    async def unreadable(self, chunk: Chunk, bodies: Sequence[EncodedBody]) -> str | None:
        if not bodies:
            return None
        self.kept_unreadable[chunk.index] = [body.raw for body in bodies]
        return f"the hand of whoever watches chunk {chunk.index}"

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        whole = [row for part in parts for row in part.rows]
        _legal(whole == chunk.rows and all(part.rows for part in parts), "not its parts", chunk)
        _legal([i for part in parts for i in part.invalid] == chunk.invalid, "not its parts", chunk)
        await self._note("split", chunk)
        for part in parts:
            self._step("part", part)

    async def batched(self, chunk: Chunk) -> None:
        _legal(self._waiting.issuperset(chunk.rows), "nobody said these are left", chunk)
        self._waiting.difference_update(chunk.rows)
        await self._note("batched", chunk)

    async def _note(self, what: str, chunk: Chunk) -> None:
        _legal(chunk.index not in self._busy, "two things are told of it at once", chunk)
        self._busy.add(chunk.index)
        self._step(what, chunk)
        # As any store must: what it is told is not undone by a cancellation.
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        self._busy.discard(chunk.index)
        self.told.append((what.partition(" ")[0], chunk.index))

    def _step(self, what: str, chunk: Chunk) -> None:
        index = chunk.index
        state = self.states.get(index, "new" if index in self._made else "planned")
        before, after = STEPS[what]
        is_last_word = what == "deliver without a job" and state == "held" and not self.is_durable
        _legal(state in before or is_last_word, f"{what}, but it is {state}", chunk)
        self.states[index] = after
        self.rows_of[index] = list(chunk.rows)

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


def _legal(is_so: bool, why_not: str, chunk: Chunk) -> None:
    if not is_so:
        raise IllegalStepError(f"chunk {chunk.index}: {why_not}")


def make_runner(
    api: Endpoints,
    observed: Observed,
    *,
    max_jobs: int = 4,
    chunk_size: int = 10,
    slots: ConcurrencyShare | None = None,
    sources: tuple[str, ...] = ("PG",),
    policy: RetryPolicy | None = None,
    rate_limiter: RateLimiter | None = None,
    max_requests_per_s: float | None = None,
    seed: int = 0,
    budget: Budget | None = None,
) -> Engine:
    policy = policy or RetryPolicy()
    context = EngineContext(
        api=PacedAPI(api),
        store=observed,
        chunk_size=chunk_size,
        job_slots=slots or ConcurrencyLimiter(AdaptiveLimit()).share(max_jobs),
        rate_limiter=rate_limiter or RateLimiter(random.Random(seed)),
        max_requests_per_s=max_requests_per_s,
        sources=sources,
        options=JobOptions().encode(sources),
        poll_planner=PollPlanner(PollSchedule()),
        policy=policy,
        emit=observed.hear,
        rng=random.Random(seed),
        breaker=CircuitBreaker(policy),
        budget=budget or Budget(Caps(), sources),
    )
    return Engine(context)


async def run(
    api: Endpoints,
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
        await make_runner(api, observed, sources=sources, chunk_size=chunk_size, **settings).run(
            ChunkSource(locations, builder)
        )
    return observed


def check_bookkeeping(seen: Observed, api: SimulatedAPI, rows: int | None = None) -> None:
    """The events tell of every location that was, or may have been, paid for.

    Args:
        seen: A run.
        api: That it ran through.
        rows: How many came out; None where the run stopped.
    """
    accepted, lost, again = Counter[str](), Counter[str](), Counter[str]()
    submissions: list[JobSubmitted | SubmissionInDoubt] = [*seen.of(JobSubmitted)]
    submissions += seen.of(SubmissionInDoubt)
    for event in submissions:
        ids = [str(row) for row in seen.rows_of[event.chunk]]
        assert len(ids) == event.locations
        (accepted if isinstance(event, JobSubmitted) else lost).update(ids)
        if event.charged_before:
            again.update(ids)
    for wire_id, times in api.counts.submissions.items():
        assert accepted[wire_id] <= times <= accepted[wire_id] + lost[wire_id]
        # Who adds up what was charged before knows of every job too many.
        assert times - 1 <= again[wire_id]
    # And of no more than there were, where nothing was in doubt.
    for wire_id, times in again.items():
        assert times < accepted[wire_id] + lost[wire_id]
    assert len(seen.of(JobSubmitted)) == api.counts.jobs - api.counts.ghosts
    finished = sum(event.rows for event in seen.of(ChunkFinished))
    assert finished == len(seen.rows) == len(set(seen.rows))
    if rows is not None:
        assert seen.rows == list(range(rows))
        assert set(seen.states.values()) <= {"delivered", "split"}


async def chunks_of(chunks: Iterable[Chunk]) -> AsyncIterator[ChunkTask]:
    for chunk in chunks:
        yield ChunkTask(chunk)


async def until(is_true: Callable[[], bool]) -> None:
    """Let others go on until something is so, without guessing how long that takes."""
    with anyio.fail_after(120):
        while not is_true():
            await anyio.lowlevel.checkpoint()
