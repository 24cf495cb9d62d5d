"""What must hold in every simulated world, whatever happens in it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NoReturn

import anyio

from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import Caps
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.runs.journal.records import ChunkState
from tests.simulation.faults import PAID_ONCE, Fault
from tests.simulation.inline import Threads
from tests.simulation.memory_run import MemoryDirectory
from tests.simulation.records import Records, RequestRecord
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.witness import Log
from tests.simulation.worlds import World, user_id_of

LONGEST_RUN_S = 40_000.0  # besides the pauses between clients
MOST_REQUESTS = 30_000


class BrokenInvariantError(AssertionError):
    """Something happened that must not happen in any world."""


def broken(what: str) -> NoReturn:
    """Say what must not be."""
    raise BrokenInvariantError(what)


def require(holds: bool, what: str) -> None:
    """Say what must be."""
    if not holds:
        broken(what)


@dataclasses.dataclass
class Checks:
    """Looks at the requests.

    Attributes:
        seen: Requests looked at so far.
    """

    seen: int = 0

    def check_requests(
        self, world: World, api: SimulatedAPI, records: Records, began: float
    ) -> None:
        """What one client asked, and when."""
        for breach in records.breaches:
            broken(
                f"a {breach.moment.name} was sent at {breach.sent_at:.3f}, though a "
                f"{breach.status_code} delivered at {breach.told_at:.3f} had named "
                f"{breach.until:.3f}"
            )
        peak = api.counts.peak_in_flight
        require(peak <= world.max_jobs, f"{peak} jobs were in flight, {world.max_jobs} allowed")
        now = anyio.current_time()
        require(len(records.requests) <= MOST_REQUESTS, "there is no end of requests")
        longest = longest_stall_s(world)
        fresh = records.requests[self.seen :]
        self.seen = len(records.requests)
        if world.is_durable or not world.consumer.pauses:  # else it may wait for that one
            sent = [each.sent_at for each in fresh]
            _check_gaps([began, *sent, now], longest, "nothing is asked")
            _check_each_job(fresh, longest)


@dataclasses.dataclass
class SimulatedRun:
    """What a run in a simulated world is made of.

    Attributes:
        world: Where it takes place.
        api: The world's.
        records: The API's.
        threads: Where work for threads goes.
        log: Of all that happens.
        checks: What is checked.
    """

    world: World
    api: SimulatedAPI
    records: Records
    threads: Threads
    log: Log
    checks: Checks

    def __post_init__(self) -> None:
        """Prepare it; each kind has its own way."""


def _check_each_job(requests: Iterable[RequestRecord], longest: float) -> None:
    times: dict[str, list[float]] = {}
    for each in requests:
        if each.about:
            times.setdefault(each.about, []).append(each.sent_at)
    for job_id, asked in times.items():
        _check_gaps(asked, longest, f"nobody asks about {job_id}")


def _check_gaps(times: list[float], longest: float, what: str) -> None:
    for before, after in itertools.pairwise(times):
        if after - before > longest:
            broken(f"{what} from {before:.1f} to {after:.1f}; {longest:.0f} s are the most here")


def check_end_of_client(
    world: World, slots: ConcurrencyLimiter, engine: Engine | None, *, is_dead: bool
) -> None:
    """Nothing is left behind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    require(not left, f"tasks are left: {left}")
    require(not slots._in_flight, f"job slots are not given back: {slots.in_flight}")
    require(not slots._waiting, "somebody waits for a job slot after the end")
    if engine is None or is_dead:
        return
    scheduler = engine._scheduler
    permits = scheduler.backpressure.value
    require(permits <= world.max_jobs, f"more permits than there were: {permits}")
    if scheduler.error is None and not scheduler._input_ended:
        return  # cancelled
    queues = ("submissions", "polls", "fetches", "new_retry_chunks", "unanswered")
    left_over = {
        name: len(getattr(scheduler, name)) for name in queues if len(getattr(scheduler, name))
    }
    is_done = scheduler.error is None and scheduler._unfinished == 0
    require(not (is_done and left_over), f"all is done, but there is work left: {left_over}")


def check_budget(api: SimulatedAPI, caps: Caps) -> None:
    """No more was ever accepted than is allowed for."""
    accepted = api.counts.submissions.total()
    most = math.inf if caps.locations is None else caps.locations
    require(accepted <= most, f"{accepted} locations were accepted, {most} allowed")


# -- after a crash -----------------------------------------------------------------------


def forget_what_was_lost(
    api: SimulatedAPI, records: Records, directory: MemoryDirectory, told: Collection[str]
) -> None:
    """A client died: jobs of which the journal does not know are ghosts from now on."""
    known = {job_id for (job_id,) in directory.connection.execute(_JOB_IDS)}
    for job_id in told:
        require(job_id in known, f"the journal had {job_id} and knows it no more")
    for job_id, record in records.jobs.items():
        if job_id not in known and not record.job.is_ghost:
            require(
                not record.polls,
                f"the client asked about {job_id} before the journal knew of it",
            )
            api.make_ghost(job_id)


_JOB_IDS = "SELECT job_id FROM submissions WHERE state = 'accepted'"


# -- of a whole durable run --------------------------------------------------------------


def check_whole_run(
    world: World, api: SimulatedAPI, records: Records, directory: MemoryDirectory
) -> None:
    """It is done: every row once, and all the money accounted for."""
    totals = directory.reader.totals()
    unfinished = {
        state: number
        for state, number in totals.chunks.items()
        if number and state not in {ChunkState.SPOOLED, ChunkState.FAILED, ChunkState.SPLIT}
    }
    require(not unfinished, f"it is done, but there are chunks {unfinished}")
    require(not totals.rows_waiting, f"{totals.rows_waiting} rows wait to be asked again")
    require(not totals.submissions_unanswered, "submissions count as on their way")
    answers = directory.answers()
    results: list[EnhancedLocation] = []
    for chunk in directory.planned:
        outcomes = answers.outcomes(chunk)
        require(not outcomes.unsettled, f"rows {outcomes.unsettled} have no outcome")
        results += outcomes.settled
    require(totals.rows.rows == world.rows, f"{totals.rows.rows} of {world.rows} rows are counted")
    check_results(world, results)
    _check_money(world, api, records, directory)
    check_paid_once(world, records)


def check_results(world: World, results: list[EnhancedLocation], *, is_all: bool = True) -> None:
    """Each row once, under its own answer."""
    counts = Counter(result.row for result in results)
    twice = [row for row, times in counts.items() if times > 1]
    require(not twice, f"rows {twice} came out more than once")
    missing = sorted(set(range(world.rows)) - counts.keys()) if is_all else []
    require(not missing, f"rows {missing} never came out")
    for result in results:
        row = result.row
        # The first one may be on its way before anybody has seen an id.
        is_own = result.id == user_id_of(row) or (row == 0 and result.id == "0")
        require(is_own, f"row {row} came out under the id {result.id!r}")
        for code, answer in result.location_data.items():
            of = answer.get("row", row)
            require(of in {row, -1}, f"row {row} has the answer of row {of} from {code}")
        _check_outcome(world, result)


def _check_outcome(world: World, result: EnhancedLocation) -> None:
    row, is_ok = result.row, result.status is RowStatus.OK
    said = f"row {row} is {result.status}, {result.reason}: {result.error}"
    if row in world.invalid:
        require(result.reason is Reason.INVALID_INPUT, said)
    elif row in world.poisoned:
        require(not is_ok, said)
    elif row not in world.poisoned_for_jobs:
        require(result.reason is not Reason.INVALID_INPUT, said)
        require(is_ok or not world.is_calm, said)


def _check_money(
    world: World, api: SimulatedAPI, records: Records, directory: MemoryDirectory
) -> None:
    """The journal tells of every location that was, or may have been, paid for."""
    accepted, doubted, again = Counter[int](), Counter[int](), Counter[int]()
    ghosts: Counter[frozenset[int]] = Counter()
    lost: Counter[frozenset[int]] = Counter()
    jobs = {job_id: record.job for job_id, record in records.jobs.items()}
    found = directory.connection.execute(_SUBMISSIONS).fetchall()
    for index, state, job_id, locations, charged_before in found:
        rows = directory.rows_of(index)
        require(len(rows) == locations, f"chunk {index} has {len(rows)} rows, not {locations}")
        if state == "accepted":
            require(job_id in jobs, f"the journal made up {job_id}")
            job = jobs.pop(job_id)
            require(not job.is_ghost, f"{job_id} is a ghost, but the journal has it")
            require(set(map(int, job.sources)) == set(rows), f"{job_id} has other rows")
            accepted.update(rows)
        else:
            lost[frozenset(rows)] += 1
            doubted.update(rows)
        if charged_before:
            again.update(rows)
    for job in jobs.values():
        require(job.is_ghost, f"{job.id} was accepted and is not in the journal")
        ghosts[frozenset(map(int, job.sources))] += 1
    for of_ghost, times in ghosts.items():
        said = f"a job of rows {sorted(of_ghost)} is nowhere in the accounts"
        require(times <= lost[of_ghost], said)
    charged = Counter(map(int, api.counts.submissions.elements()))
    haunted = Counter(row for of, times in ghosts.items() for row in [*of] * times)
    for row in range(world.rows):
        _check_row_paid(world, row, charged[row], accepted[row], doubted[row], again[row])
        if world.is_calm and world.retention_s >= LONG_RETENTION_S:
            require(charged[row] <= 1 + haunted[row], f"row {row} was paid {charged[row]} times")


def check_paid_once(world: World, records: Records) -> None:
    """For what the API calls complete, or took back that it has failed, no other job was sent."""
    jobs = [record.job for record in records.jobs.values()]
    has_holes = any(world.holes.values())  # then rows that were answered are asked about again
    for job in jobs:
        is_answered = job.fate is not Fault.UNREADABLE
        if job.fate not in PAID_ONCE or job.is_ghost or (is_answered and has_holes):
            continue
        until = job.ends_at + world.retention_s
        for later in jobs[job.number + 1 :]:
            is_too_much = later.accepted_at < until and not job.sources.keys().isdisjoint(
                later.sources
            )
            require(not is_too_much, f"{later.id} was sent for {job.id}, {job.fate}")


def _check_row_paid(
    world: World, row: int, charged: int, accepted: int, doubted: int, again: int
) -> None:
    said = (
        f"row {row}: charged {charged} times, accepted {accepted}, in doubt {doubted}, "
        f"said to be charged again {again}"
    )
    require(accepted <= charged <= accepted + doubted, said)
    require(charged - 1 <= again, said)
    require(not again or again < accepted + doubted, said)
    if row in world.poisoned or row in world.invalid:
        require(not charged, said)


LONG_RETENTION_S = 3600.0 * 24

_SUBMISSIONS = "SELECT idx, state, job_id, locations, charged_before FROM submissions ORDER BY id"


def longest_run_s(world: World) -> float:
    """How long a world may take."""
    pauses = sum(mishap.pause_s for mishap in world.mishaps)
    return LONGEST_RUN_S + pauses + world.rows * world.consumer.pause_s * world.consumer.pauses * 3


def longest_stall_s(world: World) -> float:
    """For how long nothing may happen in a world, however slow it is."""
    slowest = world.latency_s * 2 + 20.0 + world.disk_s * 40
    outages = sum(each.ends_s - each.begins_s for each in world.outages)
    named = max([world.retry_after_s, 10.0, *(each.retry_after_s or 0 for each in world.outages)])
    throttled = 0.0
    if not math.isinf(world.limits.requests_per_s):
        throttled = 40 * world.max_jobs / world.limits.requests_per_s
    return 300.0 + 10 * slowest + outages + 10 * named + throttled
