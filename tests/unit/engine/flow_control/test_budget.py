"""What may be spent: the arithmetic, and a runner that keeps to it whatever the API does."""

from __future__ import annotations

import pickle
import random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.flow_control.budget import (
    Amount,
    Budget,
    Caps,
    Fit,
    allowed,
    asked_of,
    caps_needed,
    checked_caps,
    folded,
)
from pingdata_async.engine.stream import ChunkSource
from pingdata_async.exceptions import BudgetSpentError, ConfigurationError, PingDataError
from pingdata_async.locations.chunk import SEPARATOR, Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from tests.simulation.faults import SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.chunks import body_of
from tests.support.engine_harness import Observed, addresses, check_bookkeeping, make_runner
from tests.support.sweeps import sampled

CODES = st.sampled_from(["PG", "ph", "PH", "LB"])
OWN = st.lists(CODES, min_size=1, max_size=3, unique=True).map(tuple)
AMOUNTS = st.dictionaries(st.sampled_from(["PG", "PH", "LB"]), st.integers(0, 30))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    rows = draw(st.integers(1, 8))
    own = draw(st.dictionaries(st.integers(0, rows - 1), OWN))
    return Chunk(0, list(range(rows)), [None] * rows, body_of(range(rows)), own)


def caps_of(locations: int | None, by_source: dict[str, int]) -> Caps:
    return Caps(locations=locations, by_source=by_source)


@given(
    chunks=st.lists(st.tuples(chunks(), st.sampled_from(["spend", "give_back", "wait"]))),
    locations=st.none() | st.integers(1, 40),
    by_source=AMOUNTS,
    sources=OWN,
)
def test_what_is_out_is_never_beyond_the_budget(
    chunks: list[tuple[Chunk, str]],
    locations: int | None,
    by_source: dict[str, int],
    sources: tuple[str, ...],
) -> None:
    """Whatever is accepted, refused or on its way; and what is refused can be spent again."""
    caps = caps_of(locations, by_source)
    budget = Budget(caps, sources)
    out: list[Chunk] = []
    under_way = 0
    for chunk, then in chunks:
        fits = is_within(caps, sources, [*out, chunk])
        fit = budget.reserve(chunk)
        assert (fit is Fit.NOW) == fits
        assert fits or fit is (Fit.LATER if under_way else Fit.NEVER)
        if not fits:
            continue
        out.append(chunk)
        if then == "give_back":
            budget.give_back(chunk)
            out.pop()
        elif then == "spend":
            budget.spend(chunk)
        else:
            under_way += 1


def is_within(caps: Caps, sources: tuple[str, ...], chunks: list[Chunk]) -> bool:
    """Counted one by one."""
    if caps.locations is not None and sum(len(each.rows) for each in chunks) > caps.locations:
        return False
    asked: dict[str, int] = {}
    for chunk in chunks:
        for place in range(len(chunk.rows)):
            for code in chunk.sources.get(place, sources):
                asked[code.casefold()] = asked.get(code.casefold(), 0) + 1
    limits = folded(caps.by_source)
    return all(asked.get(code, 0) <= limit for code, limit in limits.items())


@given(chunk=chunks(), locations=st.none() | st.integers(1, 10), by=AMOUNTS, sources=OWN)
def test_as_many_of_the_first_rows_as_fit(
    chunk: Chunk, locations: int | None, by: dict[str, int], sources: tuple[str, ...]
) -> None:
    """So many fit, and one more would not."""
    caps = caps_of(locations, by)
    rows = Budget(caps, sources).fitting_rows(chunk)
    for number in range(len(chunk.rows) + 1):
        part = Chunk(
            0,
            chunk.rows[:number],
            chunk.ids[:number],
            SEPARATOR.join(chunk.locations[:number]),
            {place: own for place, own in chunk.sources.items() if place < number},
        )
        assert is_within(caps, sources, [part]) == (number <= rows)


@given(
    left=st.integers(0, 50),
    spent=st.integers(0, 50),
    locations=st.integers(1, 60),
    cap=st.integers(1, 60),
)
def test_what_is_to_come_fits_and_what_is_needed_suffices(
    left: int, spent: int, locations: int, cap: int
) -> None:
    """Where all locations ask the same, to the location."""
    caps = caps_of(locations, {"ph": cap})
    todo = Amount(locations=left, by_source={"PG": left, "PH": left})
    done = Amount(locations=spent, by_source={"PG": spent, "PH": spent})
    most = max(0, min(left, locations - spent, cap - spent))
    to_come = allowed(todo, caps, done)
    assert to_come.locations == most
    assert set(to_come.by_source.values()) <= {most}
    needed = caps_needed(todo, caps, done)
    raised = caps_of(needed.locations or locations, {"ph": needed.by_source.get("ph", cap)})
    assert allowed(todo, raised, done) == Amount(
        locations=left, by_source=dict.fromkeys(("PG", "PH"), left) if left else {}
    )
    assert bool(needed) == (spent + left > min(locations, cap))


def test_what_each_source_is_asked() -> None:
    """The run's sources, but for locations with their own."""
    chunk = Chunk(0, [0, 1, 2], [None] * 3, body_of(range(3)), {1: ("LB", "PG")})
    assert asked_of(chunk, ("PG", "PH")) == {"PG": 3, "PH": 2, "LB": 1}
    assert asked_of(Chunk(0, [], [], b""), ("PG",)) == {}


@pytest.mark.parametrize(
    ("locations", "budget"),
    [(0, None), (-1, None), (None, {"PH": 0}), (None, {"PH": 1, "ph": 2}), (None, {" ": 3})],
)
def test_budgets_that_are_none_are_refused(locations: int | None, budget: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"budget|max_locations"):
        checked_caps(locations, budget)


def test_how_to_go_on_crosses_process_borders() -> None:
    error = BudgetSpentError("spent")
    error.needs = "--max-locations 5"
    assert pickle.loads(pickle.dumps(error)).needs == "--max-locations 5"


async def run_within(
    api: SimulatedAPI, rows: int, caps: Caps, sources: tuple[str, ...] = ("PG",), **settings: Any
) -> tuple[Observed, Exception | None]:
    observed = Observed(is_durable=True)
    budget = Budget(caps, sources)
    builder = ChunkBuilder(chunk_size=10, sources=sources)
    source = ChunkSource(addresses(rows), builder)
    runner = make_runner(api, observed, sources=sources, budget=budget, **settings)
    try:
        with anyio.fail_after(3600.0 * 24):
            await runner.run(source)
    except PingDataError as error:
        return observed, error
    return observed, None


@pytest.mark.parametrize("most", [1, 7, 30, 99, 100, 101])
async def test_a_run_stops_at_its_budget(most: int) -> None:
    """All of it is used, jobs in flight are brought home, and enough is no stop."""
    api = SimulatedAPI()
    seen, error = await run_within(api, 100, Caps(locations=most))
    accepted = api.counts.submissions.total()
    assert accepted == min(most, 100)
    assert len(seen.rows) == accepted
    assert isinstance(error, BudgetSpentError) == (most < 100)


@pytest.mark.parametrize("seed", sampled(range(25), 6))
async def test_never_beyond_it_whatever_goes_wrong(seed: int) -> None:
    """Refused, lost and failed submissions included, with many on their way at once."""
    rng = random.Random(seed)
    api = SimulatedAPI(faults=SeededFaults(seed, rng.choice((0.05, 0.2, 0.4))), seed=seed)
    most = rng.randint(1, 150)
    seen, error = await run_within(
        api, 120, Caps(locations=most), max_jobs=rng.choice((1, 3, 12)), seed=seed
    )
    assert api.counts.submissions.total() <= most
    if error is None:
        check_bookkeeping(seen, api, 120)


async def test_by_source() -> None:
    """The one that has a budget is asked no more; with it, the run stops."""
    api = SimulatedAPI()
    seen, error = await run_within(api, 100, Caps(by_source={"ph": 25}), ("PG", "PH"))
    assert api.counts.submissions.total() == 25 == len(seen.rows)
    assert "25 of 25 of ph" in str(error)
