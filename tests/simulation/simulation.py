"""A world is made, run through, and checked: all of it from one number, always the same."""

from __future__ import annotations

import dataclasses

import anyio

from tests.simulation.durable import DurableRun
from tests.simulation.faults import HOSTILE, LayeredFaults, SeededFaults
from tests.simulation.inline import Threads, everything_inline
from tests.simulation.invariants import BrokenInvariantError, Checks, longest_run_s, require
from tests.simulation.records import Records
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.streaming import StreamedRun
from tests.simulation.troubles import SpottyAnswers, Troubles
from tests.simulation.virtual_loop import START_S, VirtualLoop
from tests.simulation.witness import Log
from tests.simulation.worlds import World, draw_world


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of a world.

    Attributes:
        world: It.
        digest: Of all that happened in it, with the times.
        requests: Sent.
        seconds: Simulated.
        error: What went wrong; None where nothing did.
        lines: The log, where it was kept.
    """

    world: World
    digest: str
    requests: int
    seconds: float
    error: Exception | None
    lines: list[str]

    def in_words(self) -> str:
        """What went wrong, in which world, and how to see it again."""
        seed = self.world.seed
        said = f"{type(self.error).__name__}: {self.error}"
        return (
            f"seed {seed}: {said}\nthe world:\n{self.world.in_words()}\n"
            f"see it again: scripts/simulate --seed {seed}"
        )


def simulate(seed: int, *, checks: Checks | None = None, keeps_log: bool = False) -> Report:
    """Run the world of that number."""
    world = draw_world(seed)
    log = Log(keeps=keeps_log)
    records = Records(has_storage=bool(world.storage))
    error: Exception | None = None
    loops: list[VirtualLoop] = []

    def new_loop() -> VirtualLoop:
        loops.append(VirtualLoop())
        return loops[-1]

    with everything_inline() as threads:
        try:
            anyio.run(
                _run,
                *(world, records, threads, log, checks or Checks()),
                backend_options={"loop_factory": new_loop},
            )
        except Exception as caught:  # noqa: BLE001 - told with the world it happened in
            error = caught
    seconds = loops[0].time() - START_S
    return Report(world, log.digest, len(records.requests), seconds, error, log.lines)


async def _run(world: World, records: Records, threads: Threads, log: Log, checks: Checks) -> None:
    api = make_api(world, records)
    kind = DurableRun if world.is_durable else StreamedRun
    with anyio.move_on_after(longest_run_s(world)) as scope:
        await kind(world, api, records, threads, log, checks).run()
    require(not scope.cancelled_caught, "it does not end: nothing goes on but time")


def make_api(world: World, records: Records) -> SimulatedAPI:
    """The API of a world."""
    return SimulatedAPI(
        work=world.work,
        telling=dataclasses.replace(world.telling, origin=world.storage),
        limits=world.limits,
        outages=world.outages,
        latency_s=world.latency_s,
        faults=LayeredFaults(
            SeededFaults(world.seed, world.fault_share),
            SeededFaults(world.seed, world.hostile_share, HOSTILE),
        ),
        troubles=Troubles(
            poisoned=world.poisoned,
            poisoned_for_jobs=world.poisoned_for_jobs,
            max_locations=world.max_locations,
            too_many_status=world.too_many_status,
        ),
        outputs=SpottyAnswers(seed=world.seed, **world.holes),
        retry_after_s=world.retry_after_s,
        retention_s=world.retention_s,
        records=records,
        delivers_anyway=0.5,
        seed=world.seed,
    )


__all__ = ["BrokenInvariantError", "Report", "simulate"]
