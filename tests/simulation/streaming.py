"""Streams in a simulated world: a consumer that is slow, impatient, or leaves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import anyio
import msgspec

from pingdata_async.engine.stream import ResultStream
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import (
    ChunkFinished,
    Event,
    JobAbandoned,
    JobSubmitted,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import PingDataError
from pingdata_async.models import EnhancedLocation
from tests.simulation import invariants
from tests.simulation.inline import at_once
from tests.simulation.invariants import SimulatedRun, require
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.worlds import locations_of


class StreamedRun(SimulatedRun):
    """One or two streams on one client."""

    def __post_init__(self) -> None:
        self._rng = random.Random(f"consumer/{self.world.seed}")
        self.threads.errand = at_once
        self._events: list[Event] = []
        self._jobs: list[list[str]] = [[] for _ in range(self.world.streams)]

    async def run(self) -> None:
        """Stream to the end, or until the consumer leaves, and check all of it."""
        began = anyio.current_time()
        try:
            await self._stream()
        except ExceptionGroup as group:  # of one, mostly, and then what it holds says more
            raise group.exceptions[0] from group
        self.checks.check_requests(self.world, self.api, self.records, began)
        self._check_money()
        if self.world.streams == 1:
            invariants.check_paid_once(self.world, self.records)

    async def _stream(self) -> None:
        async with SimulatedClient(self.api) as client:
            enhancers = [self._enhancer(client, n) for n in range(self.world.streams)]
            slots = enhancers[0]._share.limiter
            async with anyio.create_task_group() as tasks:
                for number, enhancer in enumerate(enhancers):
                    tasks.start_soon(self._consume, enhancer, number)
            require(not slots._in_flight, f"job slots are not given back: {slots.in_flight}")
        invariants.check_end_of_client(self.world, slots, None, is_dead=False)

    def _enhancer(self, client: SimulatedClient, number: int) -> BulkEnhancer:
        world = self.world
        return BulkEnhancer(
            client,
            world.sources,
            chunk_size=world.chunk_size,
            max_jobs=world.max_jobs,
            retry_policy=world.policy,
            on_event=lambda event: self._hear(event, number),
            rng=random.Random(f"client/{world.seed}/{number}"),
        )

    def _hear(self, event: Event, number: int) -> None:
        told = msgspec.structs.replace(event, run_id="")  # which is random
        self.log.note(f"{number}: {told!r}")
        self._events.append(event)
        if isinstance(event, JobSubmitted):
            self._jobs[number].append(event.job_id)
        if isinstance(event, JobAbandoned):
            self.api.leave(event.job_id)

    async def _consume(self, enhancer: BulkEnhancer, number: int) -> None:
        world = self.world
        results: list[EnhancedLocation] = []
        read = 0

        def locations() -> Iterator[Any]:
            nonlocal read
            for location in locations_of(world):
                read += 1
                ahead = read - len(results)
                # A chunk that was split gives its room back with its first part.
                most = (2 * world.max_jobs + 2) * world.chunk_size
                # Rows at fault keep out nobody: how many there may be is the policy's.
                most += len(world.poisoned | world.poisoned_for_jobs)
                require(ahead <= most, f"{ahead} rows were read ahead, {most} at most")
                yield location

        error: PingDataError | None = None
        async with enhancer.stream(locations()) as stream:
            try:
                while len(results) != world.consumer.leaves_after:
                    result = await self._next(stream)
                    if result is None:
                        break
                    results.append(result)
                    if self._rng.random() < world.consumer.pauses:
                        await anyio.sleep(world.consumer.pause_s)
            except PingDataError as caught:
                error = caught
            # There is no way to cancel jobs: those of who leaves go on, and count no more.
            for job_id in self._jobs[number]:
                self.api.leave(job_id)
        self.log.note(f"stream {number} ends with {len(results)} rows: {error!r}")
        is_left = len(results) == world.consumer.leaves_after
        is_faulty = world.fault_share or world.hostile_share
        gave_up = error is not None and world.is_patient and not is_faulty
        require(not gave_up, f"it gives up: {error!r}")
        invariants.check_results(world, results, is_all=error is None and not is_left)

    async def _next(self, stream: ResultStream) -> EnhancedLocation | None:
        """The next row; None after the last."""
        time_out_s = self.world.consumer.time_out_s
        while True:
            with anyio.move_on_after(time_out_s):
                return await anext(stream, None)
            # It was too slow for us; the same call again must lose nothing.

    def _check_money(self) -> None:
        events, counts = self._events, self.api.counts
        submitted = [each for each in events if isinstance(each, JobSubmitted)]
        in_doubt = [each for each in events if isinstance(each, SubmissionInDoubt)]
        told = len(submitted)
        require(
            told == counts.jobs - counts.ghosts,
            f"{told} jobs were told of, {counts.jobs} accepted, {counts.ghosts} of them unknown",
        )
        require(
            counts.ghosts <= len(in_doubt),
            f"{counts.ghosts} jobs got lost, {len(in_doubt)} are said to be in doubt",
        )
        charged = sum(counts.submissions.values())
        known = sum(each.locations for each in submitted)
        possible = known + sum(each.locations for each in in_doubt)
        require(
            known <= charged <= possible,
            f"{charged} locations were charged, {known} to {possible} are told of",
        )
        again = sum(e.locations for e in submitted if e.charged_before)
        again += sum(e.locations for e in in_doubt if e.charged_before)
        once = self.world.streams  # each stream has all the rows
        too_often = sum(max(0, times - once) for times in counts.submissions.values())
        require(too_often <= again, f"{too_often} locations charged again, {again} told of")
        finished = sum(each.rows for each in events if isinstance(each, ChunkFinished))
        require(finished <= once * self.world.rows, f"{finished} rows are said to be finished")
