"""Concurrent calls of few locations share jobs, and nothing else: in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import anyio
import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.engine.shared_runs import WAITING_CHUNKS
from pingdata_async.events import JobSubmitted
from pingdata_async.exceptions import AuthenticationError, NotFoundError, RequestRejectedError
from tests.simulation.faults import Fault, Moment, ScriptedFaults
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.troubles import SpottyAnswers
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed
from tests.support.sweeps import sampled

TOO_LONG_S = 3600.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def marked(wire_id: str, sources: tuple[str, ...]) -> bytes:
    """An answer from which the location that was sent can be told."""
    told = {code: {"is_success": True, "wire_id": wire_id} for code in sources}
    return msgspec.json.encode(told)


def enhancer_of(client: ping.PingDataClient, seen: Observed, **options: Any) -> ping.BulkEnhancer:
    return ping.BulkEnhancer(client, "PG", on_event=seen.hear, **options)


def three(call: int) -> list[str]:
    return [f"{call} Main St {row}, Boston, MA" for row in range(3)]


def sizes(seen: Observed) -> list[int]:
    return [event.locations for event in seen.of(JobSubmitted)]


async def test_calls_share_a_job() -> None:
    """200 calls of three rows are one job; each has its own rows, in their order, and its charge.

    And few tasks, which are gone afterwards.
    """
    seen, before = Observed(), len(asyncio.all_tasks())
    results: dict[int, ping.EnhancedLocations] = {}
    tasks = 0

    async def call(enhancer: ping.BulkEnhancer, number: int) -> None:
        nonlocal tasks
        results[number] = await enhancer.enhance(three(number))
        tasks = tasks or len(asyncio.all_tasks())

    async with SimulatedClient(SimulatedAPI(answer=marked)) as client:
        enhancer = enhancer_of(client, seen)
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(call, enhancer, number)
        await anyio.sleep(2.0)
        assert len(asyncio.all_tasks()) == before + 1  # the client's
    assert sizes(seen) == [600]
    assert tasks - before - 200 < 50
    wire_ids: set[str] = set()
    for number in range(200):
        assert [(each.row, each.id) for each in results[number]] == [(n, str(n)) for n in range(3)]
        wire_ids.update(each["PG"]["wire_id"] for each in results[number])
        summary = results[number].summary
        assert (summary.rows, summary.ok, summary.jobs) == (3, 3, 1)
        assert (summary.locations_charged, summary.charged_by_source) == (3, {"PG": 3})
        assert 3 <= summary.requests < 10
    assert len(wire_ids) == 600


@pytest.mark.parametrize("seed", sampled(range(60), 3))
async def test_whoever_leaves_harms_no_other(seed: int) -> None:
    """Calls that come, fail and are cancelled at random: each has its rows, and pays for them.

    No row is sent twice, and what is charged is what the summaries say.
    """
    rng = random.Random(seed)
    seen = Observed()
    api = SimulatedAPI(
        answer=marked,
        outputs=None if seed % 2 else SpottyAnswers(seed=seed, left_out=0.1),
        workers=rng.choice((1, 4)),
        locations_per_s=rng.choice((2.0, 50.0)),
    )
    summaries: list[ping.RunSummary] = []
    brought = 0

    async def call(enhancer: ping.BulkEnhancer, number: int) -> None:
        nonlocal brought
        await anyio.sleep(rng.expovariate(1.0))
        own_ids = rng.random() < 0.5
        rows: list[Any] = [
            {"address": f"{number} Main St {row}", **({"id": f"{number}/{row}"} if own_ids else {})}
            if rng.random() < 0.9
            else {"state": "MA"}
            for row in range(rng.randint(0, 9))
        ]
        brought += sum("address" in each for each in rows)
        results: ping.EnhancedLocations | None = None
        with anyio.move_on_after(rng.choice((TOO_LONG_S, TOO_LONG_S, rng.uniform(0.0, 20.0)))):
            try:
                results = await enhancer.enhance(rows, flush_after_s=rng.choice((0.01, 0.5)))
            except asyncio.CancelledError as error:
                summaries.append(vars(error)["results"].summary)
                raise
        if results is None:
            return
        summaries.append(results.summary)
        assert [each.row for each in results] == list(range(len(rows)))
        for row, result in zip(rows, results, strict=True):
            has_ids = any("id" in each for each in rows)
            assert result.id == (row.get("id") if has_ids else str(result.row))
            assert result.is_answered or result.reason in {"invalid_input", "missing"}
        assert results.summary.ok == sum(each.status == "ok" for each in results)

    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, seen, chunk_size=10, max_jobs=rng.choice((1, 4)))
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(call, enhancer, number)
        assert max(sizes(seen), default=0) <= 10
    charged = sum(api.counts.submissions.values())
    known = sum(each.locations_charged for each in summaries)
    assert known <= charged <= known + sum(each.locations_in_doubt for each in summaries)
    if seed % 2:  # nothing is asked again
        assert charged <= brought


async def test_rows_of_who_left_are_not_sent() -> None:
    """Neither those that wait for others, nor those that wait for a job slot."""
    seen = Observed()
    api = SimulatedAPI(delays_s={0: 100.0})
    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, seen, chunk_size=10, max_jobs=1)
        async with anyio.create_task_group() as group:
            group.start_soon(enhancer.enhance, three(0))
            await anyio.sleep(1.0)
            for number in (1, 2):
                with anyio.move_on_after(10.0):  # there is no slot for it
                    async with anyio.create_task_group() as both:
                        both.start_soon(enhancer.enhance, three(number))
                        both.start_soon(enhancer.enhance, three(10 + number))
            with anyio.move_on_after(0.01):  # not even taken
                await enhancer.enhance(three(3))
            assert len(await enhancer.enhance(three(4))) == 3
    assert sizes(seen) == [3, 3]


async def test_rows_of_who_left_while_a_request_waited_for_its_turn_are_not_sent() -> None:
    """Where the rate of requests is limited, too; and nothing is charged beside the summaries."""
    seen = Observed()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = enhancer_of(client, seen, chunk_size=10, max_requests_per_second=0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(enhancer.enhance, three(0))
            await anyio.sleep(1.0)
            group.start_soon(enhancer.enhance, three(1))
            with anyio.move_on_after(20.0):
                await enhancer.enhance(three(2))
    assert sizes(seen) == [3, 3]


async def test_a_call_that_comes_before_the_last_other_one_leaves_has_its_rows() -> None:
    """Nobody waits for the jobs of the run then, but somebody for what it takes next."""
    async with SimulatedClient(SimulatedAPI(delays_s={0: TOO_LONG_S})) as client:
        enhancer = enhancer_of(client, Observed())
        results: list[ping.EnhancedLocations] = []

        async def call() -> None:
            await anyio.sleep(4.99)
            results.append(await enhancer.enhance(three(1)))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            with anyio.move_on_after(5.0):
                await enhancer.enhance(three(0))
    assert [each.status for each in results[0]] == ["ok"] * 3


@pytest.mark.parametrize("turns", range(4))
async def test_calls_that_come_as_the_last_other_one_leaves_have_their_rows(turns: int) -> None:
    """The run that is being ended does not take them, even if there is enough for a job."""
    left = anyio.CancelScope()
    results: list[ping.EnhancedLocations] = []
    async with SimulatedClient(SimulatedAPI(delays_s={0: TOO_LONG_S})) as client:
        enhancer = enhancer_of(client, Observed(), chunk_size=4)

        async def leaving() -> None:
            with left:
                await enhancer.enhance(three(0))

        async def call(number: int) -> None:
            results.append(await enhancer.enhance(three(number)))

        async with anyio.create_task_group() as group:
            group.start_soon(leaving)
            await anyio.sleep(5.0)
            for number in (1, 2):
                group.start_soon(call, number)
            for _ in range(turns):
                await asyncio.sleep(0)
            left.cancel()
    assert [len(each) for each in results] == [3, 3]


async def test_full_chunks_are_sent_at_once() -> None:
    """Calls do not wait when there is enough for a job; none is torn apart."""
    seen = Observed()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = enhancer_of(client, seen, chunk_size=10)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(
                    lambda n: enhancer.enhance(three(n), flush_after_s=TOO_LONG_S / 2), number
                )
    assert sizes(seen) == [9, 3]
    first, second = seen.times(JobSubmitted)
    assert second - first > TOO_LONG_S / 2 - 10.0


async def test_rows_gather_while_there_is_no_slot() -> None:
    """What comes while all slots are taken goes together: chunks are formed as late as can be."""
    seen = Observed()
    async with SimulatedClient(SimulatedAPI(delays_s={0: 100.0})) as client:
        enhancer = enhancer_of(client, seen, max_jobs=1)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(enhancer.enhance, three(number))
                await anyio.sleep(1.0)
    assert sizes(seen)[0] == 3
    assert len(sizes(seen)) <= 3


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ({}, [6]),
        ({"flush_after_s": None}, [3, 3]),
        ({"max_locations": 3}, [3, 3]),
        ({"budget": {"PG": 3}}, [3, 3]),
        ({"on_event": repr}, [3, 3]),
        ({"progress": max}, [3, 3]),
        ({"timeout_s": 100.0}, [6]),
    ],
    ids=["none", "no flush", "max_locations", "budget", "on_event", "progress", "timeout_s"],
)
async def test_calls_with_options_of_their_own_share_nothing(options: Any, jobs: list[int]) -> None:
    """What they ask for would concern others."""
    seen = Observed()
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = enhancer_of(client, seen)
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(lambda n: enhancer.enhance(three(n), **options), number)
    assert sizes(seen) == jobs


class Refusing:
    """Refuses what one wire id is in, or everything."""

    def __init__(self, bad: Iterable[str] = (), error: ping.PingDataError | None = None) -> None:
        self.bad = set(bad)
        self.error = error

    def refusal(self, ids: Any, number: int) -> ping.PingDataError | None:  # noqa: ARG002
        if self.error is not None:
            return self.error
        if self.bad.isdisjoint(ids):
            return None
        return RequestRejectedError("400: bad row", status_code=400)

    def fails(self, ids: Any, number: int) -> bool:  # noqa: ARG002
        return False


async def outcomes_of(api: SimulatedAPI, calls: int, **options: Any) -> list[Any]:
    """What each of some calls at once returned or raised, in their order."""
    outcomes: list[Any] = [None] * calls

    async def call(enhancer: ping.BulkEnhancer, number: int) -> None:
        try:
            outcomes[number] = await enhancer.enhance(three(number))
        except ping.PingDataError as error:
            outcomes[number] = error

    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, Observed(), **options)
        with anyio.fail_after(TOO_LONG_S * 24):
            async with anyio.create_task_group() as group:
                for number in range(calls):
                    group.start_soon(call, enhancer, number)
    return outcomes


async def test_a_bad_row_fails_alone() -> None:
    """The others of its job are answered, in other calls and in its own."""
    api = SimulatedAPI(troubles=Refusing(["4"]))
    outcomes = await outcomes_of(api, 5)
    told = [each.reason for results in outcomes for each in results]
    assert told == [None] * 4 + ["rejected"] + [None] * 10
    assert [each.summary.locations_charged for each in outcomes] == [3, 2, 3, 3, 3]


async def test_a_call_of_bad_rows_alone_ends_no_other() -> None:
    """So much in a row is refused that the run stops; the others go on, and pay once."""
    api = SimulatedAPI(answer=marked, troubles=Refusing(map(str, range(60))))
    results: dict[int, ping.EnhancedLocations] = {}
    errors: list[ping.PingDataError] = []
    seen, before = Observed(), len(asyncio.all_tasks())

    async def call(enhancer: ping.BulkEnhancer, number: int, rows: list[str]) -> None:
        try:
            results[number] = await enhancer.enhance(rows)
        except RequestRejectedError as error:
            errors.append(error)

    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, seen)
        with anyio.fail_after(TOO_LONG_S):
            async with anyio.create_task_group() as group:
                group.start_soon(call, enhancer, 0, [f"{row} Bad St" for row in range(60)])
                for number in range(1, 6):
                    group.start_soon(call, enhancer, number, three(number))
        await anyio.sleep(2.0)
        assert len(asyncio.all_tasks()) == before + 1  # the client's
    [error] = errors
    assert error.summary is not None
    assert error.summary.locations_charged == 0
    wire_ids = [each["PG"]["wire_id"] for found in results.values() for each in found]
    assert len(wire_ids) == len(set(wire_ids)) == 15
    for found in results.values():
        assert [each.row for each in found] == [0, 1, 2]
        assert (found.summary.ok, found.summary.locations_charged) == (3, 3)
    assert sum(sizes(seen)) == 15


async def test_a_call_that_has_been_charged_does_not_go_on_alone() -> None:
    """Its job has failed, and another one is to come as the run stops: it would not be told of."""
    api = SimulatedAPI(
        faults=ScriptedFaults({Moment.JOB: [Fault.FAILED_JOB]}),
        troubles=Refusing(map(str, range(3, 63))),
    )
    patient = ping.RetryPolicy(base_delay_s=1000.0, max_delay_s=1000.0)
    errors: list[ping.PingDataError] = []

    async def call(enhancer: ping.BulkEnhancer, rows: list[str]) -> None:
        with pytest.raises(RequestRejectedError) as caught:
            await enhancer.enhance(rows)
        errors.append(caught.value)

    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, Observed(), retry_policy=patient)
        with anyio.fail_after(TOO_LONG_S):
            async with anyio.create_task_group() as group:
                group.start_soon(call, enhancer, three(0))
                await anyio.sleep(100.0)
                group.start_soon(call, enhancer, [f"{row} Bad St" for row in range(60)])
    assert [api.counts.submissions[str(row)] for row in range(3)] == [1, 1, 1]
    summaries = [error.summary for error in errors if error.summary is not None]
    assert sorted(each.locations_charged for each in summaries) == [0, 3]


async def test_an_error_is_raised_in_each_call() -> None:
    """Each has an error of its own, with its own results."""
    refused = AuthenticationError("401: no", status_code=401)
    outcomes = await outcomes_of(SimulatedAPI(troubles=Refusing(error=refused)), 30, chunk_size=10)
    assert {type(each) for each in outcomes} == {AuthenticationError}
    assert len(set(map(id, outcomes))) == len({id(each.results) for each in outcomes}) == 30
    assert {each.summary.locations_charged for each in outcomes} == {0}


async def test_an_output_out_of_reach_fails_the_calls_of_its_job() -> None:
    """The others go on, also where there is always another one."""
    gone = ScriptedFaults(always={Moment.FETCH: NotFoundError("404: gone", status_code=404)})
    api = SimulatedAPI(faults=gone, retention_s=1.0)
    policy = ping.RetryPolicy(late_after_s=5.0)
    [error] = await outcomes_of(api, 1, retry_policy=policy)
    assert isinstance(error, ping.JobFailedError)
    assert error.summary is not None
    assert (error.summary.locations_charged, len(error.summary.unfinished_jobs)) == (3, 1)


async def test_closing_the_client_ends_all_calls() -> None:
    """Those in a job and those that wait say so; no task is left."""
    before = len(asyncio.all_tasks())
    errors: list[ping.ClientClosedError] = []

    async def call(enhancer: ping.BulkEnhancer, number: int) -> None:
        try:
            await enhancer.enhance(three(number))
        except ping.ClientClosedError as error:
            errors.append(error)

    api = SimulatedAPI(delays_s={0: TOO_LONG_S})
    async with anyio.create_task_group() as group, SimulatedClient(api) as client:
        enhancer = enhancer_of(client, Observed(), chunk_size=10)
        group.start_soon(call, enhancer, 0)
        await anyio.sleep(10.0)
        group.start_soon(call, enhancer, 1)
        await anyio.sleep(0.01)
    assert len(errors) == 2
    assert sorted(error.summary.locations_charged for error in errors if error.summary) == [0, 3]
    assert len(asyncio.all_tasks()) == before


async def test_calls_wait_where_too_many_rows_wait() -> None:
    """Rows that wait to be sent are bounded, and nobody is passed over."""
    api = SimulatedAPI(workers=1, locations_per_s=30.0)
    done: list[int] = []
    most = 0
    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, Observed(), chunk_size=10, max_jobs=1)

        async def call(number: int) -> None:
            nonlocal most
            await enhancer.enhance(three(number))
            done.append(number)
            for batcher in enhancer._batchers._by_sources.values():
                most = max(most, batcher._rows)

        async with anyio.create_task_group() as group:
            for number in range(150):
                group.start_soon(call, number)
    assert len(done) == 150
    assert 0 < most <= WAITING_CHUNKS * 10 + 3
    assert max(abs(place - number) for place, number in enumerate(done)) < 30


async def test_rows_that_were_taken_out_tell_nothing_of_the_size() -> None:
    """Both halves of a refused chunk pass without the bad rows: not because it was too large."""
    seen, bad = Observed(), anyio.CancelScope()

    class RefusingOnce(Refusing):
        def refusal(self, ids: Any, number: int) -> ping.PingDataError | None:
            bad.cancel()
            error = super().refusal(ids, number)
            self.bad.clear()
            return error

    api = SimulatedAPI(troubles=RefusingOnce(["3"]), delays_s={0: 100.0})
    async with SimulatedClient(api) as client:
        enhancer = enhancer_of(client, seen)

        async def cancelled() -> None:
            with bad:
                await enhancer.enhance(three(1)[:2])

        async with anyio.create_task_group() as group:
            group.start_soon(enhancer.enhance, three(0))
            group.start_soon(cancelled)
            group.start_soon(enhancer.enhance, three(2))
            await anyio.sleep(50.0)  # one run for all
            await enhancer.enhance([*three(3), *three(4), *three(5)])
    assert sizes(seen) == [3, 3, 9]


async def test_calls_end_where_a_run_stops_as_the_client_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No other run can be begun then, and those that wait for one are told."""
    errors: list[ping.PingDataError] = []

    class Closing(SimulatedAPI):
        async def submit_body(self, body: bytes) -> str:  # noqa: ARG002
            await anyio.sleep(1.0)
            closing.append(asyncio.ensure_future(client.aclose()))
            await asyncio.sleep(0)
            raise AuthenticationError("401: no", status_code=401)

    closing: list[asyncio.Future[None]] = []
    client = SimulatedClient(Closing())
    await client.open()
    enhancer = enhancer_of(client, Observed())

    async def call(number: int, flush_after_s: float) -> None:
        try:
            await enhancer.enhance([*three(number), {"state": "MA"}], flush_after_s=flush_after_s)
        except ping.PingDataError as error:
            errors.append(error)

    with anyio.fail_after(TOO_LONG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(call, 0, 0.1)
            await anyio.sleep(0.5)
            group.start_soon(call, 1, 100.0)
    await asyncio.gather(*closing)
    await call(2, 0.1)
    assert len(errors) == 3
    for error in errors:
        assert error.summary is not None
        assert error.summary.rows == len(error.results) == 1
    assert "listener failed" not in caplog.text
