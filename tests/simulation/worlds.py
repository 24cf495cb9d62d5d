"""A world for one run, drawn from one number: the API, the input, the client, its mishaps."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

from pingdata_async.engine.flow_control.retry import RetryPolicy
from tests.simulation.limits import EVERY_MOMENT, Limits, Outage
from tests.simulation.profiles import Progress, Telling
from tests.simulation.queueing import Work

PATIENCE_S = 3600.0 * 24 * 7
PATIENT: dict[str, Any] = {
    # Nothing is wrong with this API as such, however it looks.
    "give_up_after_s": PATIENCE_S,
    "first_contact_s": PATIENCE_S,
    "max_doubts_in_a_row": 1_000,
    "max_failed_jobs_in_a_row": 1_000,
    "max_lost_chunks_in_a_row": 1_000,
    "max_refusals_in_a_row": 1_000,
}
STORAGE = "https://storage.test"
HOLES = ("left_out", "source_left_out", "passing", "twice", "foreign")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mishap:
    """How one client of a durable run ends before its work does.

    Attributes:
        at_step: Killed just before or after that many steps (requests, their answers, things
            done by threads); None if not by steps.
        at_s: Ended so long after it began; None if not by time.
        is_kill: Whether it is a `kill -9`; if not, a Ctrl-C.
        pause_s: Until the next client takes the run up.
    """

    at_step: int | None = None
    at_s: float | None = None
    is_kill: bool = True
    pause_s: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consumer:
    """Who takes the results of a stream.

    Attributes:
        pause_s: After a share of the rows.
        pauses: That share.
        time_out_s: After which it stops waiting for a row, and then waits again; None for never.
        leaves_after: Rows after which it has had enough; None if it wants all.
    """

    pause_s: float = 0.0
    pauses: float = 0.0
    time_out_s: float | None = None
    leaves_after: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Everything about one run; see the classes of its parts."""

    seed: int
    is_durable: bool
    rows: int
    chunk_size: int
    max_jobs: int
    sources: tuple[str, ...]
    invalid: frozenset[int]
    with_own_sources: frozenset[int]
    policy: RetryPolicy
    latency_s: float
    disk_s: float
    work: Work
    telling: Telling
    limits: Limits
    outages: Sequence[Outage]
    fault_share: float
    retry_after_s: float
    retention_s: float
    poisoned: frozenset[int]
    poisoned_for_jobs: frozenset[int]
    max_locations: int | None
    too_many_status: int
    holes: Mapping[str, Any]  # shares, by the names that `SpottyAnswers` has for them
    mishaps: Sequence[Mishap]
    consumer: Consumer
    streams: int = 1
    hostile_share: float = 0.0
    storage: str = ""
    max_locations_spent: int | None = None  # by a durable run, before somebody allows for more

    @property
    def is_calm(self) -> bool:
        """Whether each row must come out ok."""
        has_holes = any(self.holes.values())
        is_faulty = self.fault_share or self.hostile_share
        return not (is_faulty or self.poisoned or self.poisoned_for_jobs or has_holes)

    @property
    def is_patient(self) -> bool:
        """Whether the client is never to give up."""
        return self.policy.give_up_after_s == PATIENCE_S

    def in_words(self) -> str:
        """A line for each part."""
        parts = (f"  {f.name}: {getattr(self, f.name)}" for f in dataclasses.fields(self))
        return "\n".join(parts)


def draw_world(seed: int) -> World:
    """The world of that number, always the same."""
    rng = random.Random(f"world/{seed}")
    chunk_size = rng.choice((1, 5, 20, 64))
    rows = rng.choice((0, 1, rng.randint(2, 40), *[rng.randint(40, 300)] * 5))
    rows = min(rows, chunk_size * 24)
    max_jobs = rng.choice((1, 2, 3, 5, 12, 40))
    is_durable = rng.random() < 0.65
    is_simple = rng.random() < 0.15
    # The first row is sound: where none is, a run rightly takes the API to be at fault.
    others = range(1, rows)

    def some(*counts: int) -> frozenset[int]:
        count = 0 if is_simple else rng.choice(counts)
        return frozenset(rng.sample(others, min(len(others), count)))

    return World(
        seed=seed,
        is_durable=is_durable,
        rows=rows,
        chunk_size=chunk_size,
        max_jobs=max_jobs,
        sources=rng.choice((("PG",), ("PG", "PH"))),
        invalid=some(0, 0, 2),
        with_own_sources=some(0, 0, 5),
        policy=_policy(rng, is_durable),
        latency_s=rng.choice((0.0, 0.05, 0.05, 0.3, 2.0)),
        disk_s=rng.choice((0.0, 0.0, 0.01, 0.5)),
        work=_work(rng, is_simple),
        telling=Telling(
            waiting=rng.choice(("PENDING", "QUEUED", "IN_PROGRESS")),
            progress=rng.choice(list(Progress)),
            dates=rng.random() < 0.5,
            clock_s=1_800_000_000.0 + rng.choice((0, 0, -90.5, 3600)),
        ),
        limits=Limits() if is_simple else _limits(rng),
        outages=[] if is_simple else [_outage(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))],
        fault_share=0.0 if is_simple else rng.choice((0.0, 0.0, 0.01, 0.03, 0.06)),
        retry_after_s=rng.choice((0.5, 1.0, 5.0, 30.0)),
        retention_s=rng.choice((600.0, 3600.0, 3600.0 * 24)),
        poisoned=some(0, 0, 0, 1, 8),
        poisoned_for_jobs=some(0, 0, 0, 0, 1, 3),
        max_locations=None if is_simple else rng.choice((None, None, None, 7, 15)),
        too_many_status=rng.choice((400, 413)),
        holes={k: 0.0 if is_simple else rng.choice((0.0, 0.0, 0.0, 0.05)) for k in HOLES},
        mishaps=[_mishap(rng) for _ in range(rng.choice((0, 1, 1, 2, 4)))] if is_durable else [],
        consumer=_consumer(rng, rows),
        streams=1 if is_durable else rng.choice((1, 1, 1, 2)),
        hostile_share=0.0 if is_simple else _hostile_share(seed),
        storage="" if is_simple else random.Random(f"storage/{seed}").choice(("", STORAGE)),
        max_locations_spent=_budget(seed, rows) if is_durable and not is_simple else None,
    )


def _hostile_share(seed: int) -> float:
    # Of dice of its own: the worlds are the same otherwise.
    return random.Random(f"hostile/{seed}").choice((0.0, 0.0, 0.02, 0.06))


def _budget(seed: int, rows: int) -> int | None:
    # Of dice of its own: the worlds are the same otherwise.
    rng = random.Random(f"budget/{seed}")
    return rng.choice((None, None, 1 + rng.randrange(rows + 5), rows + 1 + rng.randrange(20)))


def _policy(rng: random.Random, is_durable: bool) -> RetryPolicy:
    settings: dict[str, Any] = dict(PATIENT) if rng.random() < 0.8 else {}
    return RetryPolicy(
        hold_in_doubt=is_durable and rng.random() < 0.1,
        linger_s=rng.choice((0.0, 5.0, 30.0)),
        **settings,
    )


def _work(rng: random.Random, is_simple: bool) -> Work:
    workers = rng.choice((1, 2, 4, 16))
    changes = []
    if not is_simple and rng.random() < 0.3:
        drop_s = rng.uniform(0, 120)
        fewer = rng.choice((0, max(1, workers // 4)))  # 0: nothing moves for a while
        changes = [(drop_s, fewer), (drop_s + rng.uniform(10, 400), workers)]
    return Work(
        workers=workers,
        locations_per_s=rng.choice((2.0, 20.0, 500.0)),
        overhead_s=rng.choice((0.0, 0.0, 1.0, 10.0)),
        sigma=rng.choice((0.0, 0.3, 1.0)),
        changes=changes,
    )


def _limits(rng: random.Random) -> Limits:
    is_limited = rng.random() < 0.3
    return Limits(
        requests_per_s=rng.choice((1.0, 5.0, 30.0)) if is_limited else float("inf"),
        window_s=rng.choice((0.0, 1.0, 10.0)),
        retry_after_s=rng.choice((None, 1.0, 1.0, 10.0)),
        max_in_flight=rng.choice((None, None, None, 1, 3, 10)),
        too_many_status=rng.choice((429, 503)),
        too_many_retry_after_s=rng.choice((None, 1.0, 5.0)),
    )


def _outage(rng: random.Random) -> Outage:
    begins_s = rng.choice((0.0, rng.uniform(0, 30), rng.uniform(0, 300)))
    return Outage(
        begins_s=begins_s,
        ends_s=begins_s + rng.uniform(1, rng.choice((10, 100, 600))),
        has_connection=rng.random() < 0.7,
        retry_after_s=rng.choice((None, None, 3.0, 30.0)),
        moments=rng.choice((EVERY_MOMENT, EVERY_MOMENT, (rng.choice(EVERY_MOMENT),))),
    )


def _mishap(rng: random.Random) -> Mishap:
    pause_s = rng.choice((0.0, 1.0, 60.0, 5000.0))
    if rng.random() < 0.7:
        return Mishap(at_step=int(rng.lognormvariate(4.0, 1.2)), pause_s=pause_s)
    return Mishap(at_s=rng.lognormvariate(2.0, 1.5), is_kill=rng.random() < 0.4, pause_s=pause_s)


def _consumer(rng: random.Random, rows: int) -> Consumer:
    return Consumer(
        pause_s=rng.choice((0.1, 5.0, 60.0)),
        pauses=rng.choice((0.0, 0.0, 0.02, 0.2)),
        time_out_s=rng.choice((None, None, None, 1.0, 10.0)),
        leaves_after=rng.choice((None, None, None, rng.randint(0, rows))),
    )


def locations_of(world: World) -> list[Any]:
    """The rows of a world's input; each tells its number."""
    locations: list[Any] = []
    for row in range(world.rows):
        location: dict[str, Any] = {"address": f"{row} Main Street"}
        if row % 3:
            location["id"] = user_id_of(row)
        if row in world.invalid:
            location.pop("address")
        if row in world.with_own_sources:
            location["sources"] = ["PG"]
        locations.append(location)
    return locations


def user_id_of(row: int) -> str | None:
    """The user's own id of a row; None where it has none."""
    return f"id {row}" if row % 3 else None
