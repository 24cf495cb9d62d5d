"""What a run of the engine works with: the API, and everything else that it is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pingdata_async.api.config import Pacer
from pingdata_async.engine.flow_control.budget import Budget
from pingdata_async.engine.flow_control.circuit_breaker import CircuitBreaker
from pingdata_async.engine.flow_control.concurrency import ConcurrencyShare
from pingdata_async.engine.flow_control.polling import PollPlanner
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engine.store import ChunkStore
from pingdata_async.events import Event
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.encoding import EncodedBody


class BulkAPI(Protocol):
    """The bulk endpoints, as `PingDataClient` has them; a simulation can stand in for it.

    Each method raises this package's errors, asks `pacer` right before each request that it
    sends, and sends nothing twice by itself.
    """

    async def submit_body(self, body: bytes, *, pacer: Pacer) -> str:
        """Submit an encoded job; returns its id."""
        ...

    async def status(self, job_id: str, *, pacer: Pacer) -> JobStatus:
        """Ask about a job."""
        ...

    async def fetch_body(
        self, job_id: str, output: JobOutput, *, pacer: Pacer, max_bytes: int | None = None
    ) -> EncodedBody:
        """Fetch a whole output, as it comes over the wire; DecodeError above `max_bytes`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineContext:
    """Everything that one run of the engine is given.

    Attributes:
        api: The endpoints.
        store: Records each step of a chunk, and takes its answers.
        sources: The run's sources.
        options: The rest of each job's body, as `JobOptions.encode()` makes it.
        chunk_size: Rows to be retried that go into one chunk, at most.
        concurrency: The run's share of the client's job slots.
        rate_limiter: Lets the client's requests out.
        max_requests_per_s: What the API is known to take; None where that is not known.
        poll_planner: Decides when a job is polled.
        policy: How often and how long things are tried.
        breaker: Knows whether rows or the API are at fault.
        budget: What the run may spend.
        emit: Called with every event.
        rng: The source of jitter.
    """

    api: BulkAPI
    store: ChunkStore
    sources: tuple[str, ...]
    options: bytes
    chunk_size: int
    concurrency: ConcurrencyShare
    rate_limiter: RateLimiter
    max_requests_per_s: float | None = None
    poll_planner: PollPlanner
    policy: RetryPolicy
    breaker: CircuitBreaker
    budget: Budget
    emit: Callable[[Event], None]
    rng: random.Random
