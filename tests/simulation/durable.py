"""A durable run in a simulated world: one client after the other, until all is done."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.context import ChunkStore, EngineContext
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.adaptive_limit import AdaptiveLimit
from pingdata_async.engine.flow_control.budget import Budget, Caps
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.engine.flow_control.polling import PollPlanner, PollSchedule
from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import CircuitBreaker
from pingdata_async.events import Event, EventEmitter
from pingdata_async.exceptions import BudgetSpentError, PingDataError, RunError
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.directory.settings import RunFlags, RunSettings
from tests.simulation import invariants
from tests.simulation.invariants import SimulatedRun, broken, require
from tests.simulation.memory_run import MemoryDirectory, MemoryRun
from tests.simulation.paced_api import PacedAPI
from tests.simulation.simulated_api import LOCKED_FOR_S
from tests.simulation.witness import Fuse, Killed, WatchedAPI, WatchedStore
from tests.simulation.worlds import PATIENT, Mishap, locations_of

PATIENT_AFTER = 3  # clients that gave up: the next ones never do
MOST_CLIENTS = 18
BUDGETS_AT_MOST = 4  # raised so often by a part; then there is none any more


class DurableRun(SimulatedRun):
    """The clients of one run, and what outlives them."""

    def __post_init__(self) -> None:
        world = self.world
        self._rng = random.Random(f"client/{world.seed}")
        builder = ChunkBuilder(chunk_size=world.chunk_size, sources=world.sources)
        chunks = builder.add_batch(0, locations_of(world))
        planned = [chunk for chunk in (*chunks, builder.rest()) if chunk is not None]
        self.directory = MemoryDirectory(planned, world.sources)
        self._stops = self._budgets_spent = 0
        self.is_gone_on_with = False
        self._is_holding = world.policy.hold_in_doubt
        self.caps = Caps(locations=world.max_locations_spent)

    async def run(self) -> None:
        """Have clients go on with it until it is done, and check each and the whole."""
        mishaps = list(self.world.mishaps)
        try:
            for _ in range(MOST_CLIENTS):
                # A new client stops at its first 401: the next one comes when that is over.
                mishap = mishaps.pop(0) if mishaps else Mishap(pause_s=LOCKED_FOR_S)
                client = _Client(self, mishap)
                if await client.live():
                    break
                self.is_gone_on_with = True  # by `retry`: the API may have lost what was complete
                await anyio.sleep(mishap.pause_s)
                self.records.new_client()
            else:
                broken(f"it does not end: {MOST_CLIENTS} clients have stopped")
            invariants.check_whole_run(self.world, self.api, self.records, self.directory)
        finally:
            self.directory.connection.close()

    def raise_budget(self, error: BudgetSpentError) -> None:
        """Somebody allows for as much as the run said it needs, or else for half as much more."""
        self._budgets_spent += 1
        most = self.caps.locations
        require(most is not None, f"there is no budget to be spent: {error}")
        words = error.needs.split()
        require(words[:1] == ["--max-locations"], f"it does not say how to go on: {error}")
        needed = int(words[1])
        require(needed > (most or 0), f"{needed} are no more than {most}")
        is_small = self._budgets_spent < BUDGETS_AT_MOST
        self.caps = Caps(
            locations=(most or 0) + 1 + (needed - (most or 0)) // 2 if is_small else None
        )


class _Client:
    """One process at work on a run, from its begin to its end."""

    def __init__(self, run: DurableRun, mishap: Mishap) -> None:
        self._run = run
        self._world = run.world
        self._log = run.log
        self._mishap = mishap
        self._scope = anyio.CancelScope()
        self._fuse = Fuse(mishap.at_step, self._kill)
        self._store: WatchedStore | None = None
        self._engine: Engine | None = None
        self._slots = ConcurrencyLimiter(AdaptiveLimit())
        self._rate_limiter = RateLimiter(run._rng)
        self._jobs: dict[int, str] = {}
        self._read_before = self._later = 0
        self._read_ahead: str | None = None

    async def live(self) -> bool:
        """Go on with the run; says whether it is done."""
        self._log.note(f"a client begins: {self._mishap}")
        timer = self._timer()
        self._run.threads.errand = self._errand
        began = anyio.current_time()
        error: Exception | None = None
        try:
            with self._scope:
                await self._work()
        except (PingDataError, Killed) as caught:
            error = caught
        finally:
            if timer is not None:
                timer.cancel()
        self._log.note(f"it ends: {error!r}, killed {self._fuse.is_dead}")
        return await self._has_ended(error, began)

    def _timer(self) -> asyncio.TimerHandle | None:
        if self._mishap.at_s is None:
            return None
        end: Callable[[], None] = self._fuse.blow if self._mishap.is_kill else self._scope.cancel
        loop = asyncio.get_running_loop()
        return loop.call_at(anyio.current_time() + self._mishap.at_s, end)

    async def _work(self) -> None:
        world, directory = self._world, self._run.directory
        await directory.open()
        self._read_before, self._later = directory.plan.rows_read, directory.later_rows()
        settings = RunSettings(
            sources=world.sources,
            options=JobOptions(),
            environment=None,
            api_url=None,
            api="simulated",
            chunk_size=world.chunk_size,
            max_jobs=world.max_jobs,
            source="-",
            output="-",
            caps=self._run.caps,
        )
        run = MemoryRun(
            client=PingDataClient(),  # closed: the run asks it nothing
            settings=settings,
            flags=RunFlags(check_space=False, preflight=False),
            policy=self._policy(),
            make_engine=self._make_engine,
            listeners=[self._hear],
        )
        try:
            await run.execute(directory, may_pay_again=self._run.is_gone_on_with)
        finally:
            if not self._fuse.is_dead:
                await directory.close()

    def _policy(self) -> Any:
        policy = dataclasses.replace(self._world.policy, hold_in_doubt=self._run._is_holding)
        if self._run._stops >= PATIENT_AFTER:
            policy = dataclasses.replace(policy, **PATIENT)
        return policy

    def _make_engine(
        self, store: ChunkStore, emit: EventEmitter, breaker: CircuitBreaker, budget: Budget
    ) -> Engine:
        world = self._world
        self._store = WatchedStore(store, self._log, self._abandoned)
        context = EngineContext(
            api=PacedAPI(WatchedAPI(self._run.api, self._fuse, self._log)),
            store=self._store,
            chunk_size=world.chunk_size,
            job_slots=self._slots.share(world.max_jobs),
            rate_limiter=self._rate_limiter,
            sources=world.sources,
            options=JobOptions().encode(world.sources),
            poll_planner=PollPlanner(PollSchedule()),
            policy=self._policy(),
            emit=emit,
            rng=self._run._rng,
            breaker=breaker,
            budget=budget,
        )
        self._engine = Engine(context)
        return self._engine

    def _hear(self, event: Event) -> None:
        self._log.note(repr(msgspec.structs.replace(event, run_id="")))  # which is random
        self._check_read_ahead()
        job_id = getattr(event, "job_id", None)
        if job_id:
            self._jobs[getattr(event, "chunk")] = job_id  # noqa: B009 - of several kinds of events

    def _check_read_ahead(self) -> None:
        """What was read and has not come out is bounded by the jobs allowed."""
        store, engine, world = self._store, self._engine, self._world
        if store is None or engine is None or self._read_ahead is not None:
            return
        scheduler = engine._scheduler
        # Rows at fault keep out nobody: how many there may be in a row is the policy's.
        at_fault = [task for task, _ in scheduler._awaiting_evidence]
        at_fault += [entry[2][0] for entry in scheduler.unanswered._heap]
        read = self._run.directory.plan.rows_read - self._read_before + store.batched_rows
        ahead = read - store.delivered_rows - sum(each.chunk.total_rows for each in at_fault)
        # A chunk that was split gives its room back with its first part.
        most = (2 * world.max_jobs + 3) * world.chunk_size + self._later
        if ahead > most:  # told afterwards: a listener's errors are only logged
            self._read_ahead = f"{ahead} rows are read and not delivered, {most} at most"

    def _abandoned(self, index: int) -> None:
        self._run.api.leave(self._jobs[index])

    async def _errand(self, work: Callable[[], Any]) -> Any:
        """What a thread would do: a step that takes the disk's time."""
        self._fuse.step()
        await anyio.sleep(self._world.disk_s * self._run._rng.uniform(0.2, 1.8))
        if self._fuse.is_dead:
            raise Killed
        done = work()
        self._fuse.step()
        return done

    def _kill(self) -> None:
        # What waits for answers on their way out must not: a dead client waits for nothing.
        if self._store is not None:
            self._store.is_durable = False
        self._scope.cancel()

    # -- afterwards ----------------------------------------------------------------------

    async def _has_ended(self, error: Exception | None, began: float) -> bool:
        run = self._run
        checks = run.checks
        require(self._read_ahead is None, self._read_ahead or "")
        told = self._store.told if self._store is not None else set()
        invariants.check_budget(run.api, run.caps)
        if self._fuse.is_dead:
            invariants.forget_what_was_lost(run.api, run.records, run.directory, told)
        elif isinstance(error, RunError) and not isinstance(error, BudgetSpentError):
            broken(f"the books refuse something: {error}")
        invariants.check_end_of_client(
            self._world, self._slots, self._engine, is_dead=self._fuse.is_dead
        )
        checks.check_requests(self._world, run.api, run.records, began)
        if self._fuse.is_dead or self._scope.cancelled_caught:
            return False
        if isinstance(error, BudgetSpentError):
            run.raise_budget(error)
            return False
        if error is not None:
            run._stops += 1
            run._is_holding = False
            return False
        return True
