"""`enhance()` and `stream()` over real sockets: what goes in, what comes out, and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event
from pingdata_async.sandbox import SandboxServer
from tests.support.engine_harness import addresses, until
from tests.unit.engine.conftest import make_enhancer

MIXED = [
    ping.Location(id="a", address="1600 Pennsylvania Ave NW, Washington, DC"),
    {"id": "b", "address_line_1": "1 City Hall Square", "city": "Boston", "state": "MA"},
    "1 First Street NE, Washington, DC",
    {"id": "nothing"},
]


async def test_results_come_in_input_order(
    enhancer: ping.BulkEnhancer, sandbox: SandboxServer
) -> None:
    """A list of every row once, in the order given, over many jobs below the cap."""
    results = await enhancer.enhance(addresses(205))
    assert [result.row for result in results] == list(range(205))
    assert [result.id for result in results] == [str(row) for row in range(205)]
    assert sandbox.stats.jobs_accepted == 21
    assert sandbox.stats.peak_jobs_in_flight <= 4
    assert sandbox.stats.locations_accepted_more_than_once == 0


async def test_a_stream_gives_every_row_as_chunks_finish(enhancer: ping.BulkEnhancer) -> None:
    """Each row once; the rows of a chunk together and in order."""
    rows = [result.row async for result in enhancer.stream(addresses(205))]
    assert sorted(rows) == list(range(205))
    for start in range(0, 205, 10):
        at = rows.index(start)
        assert rows[at : at + 10] == list(range(start, min(205, start + 10)))


def generator() -> Iterator[object]:
    yield from MIXED


async def async_generator() -> AsyncIterator[object]:
    for location in MIXED:
        await asyncio.sleep(0)
        yield location


class Asynchronous:
    def __aiter__(self) -> AsyncIterator[object]:
        return async_generator()


@pytest.mark.parametrize(
    "make",
    [lambda: MIXED, lambda: tuple(MIXED), generator, lambda: iter(MIXED), async_generator,
     Asynchronous],
    ids=["list", "tuple", "generator", "iterator", "async generator", "async iterable"],
)  # fmt: skip
async def test_any_iterable_of_any_form_of_location(
    enhancer: ping.BulkEnhancer, make: type
) -> None:
    """`Location`, mapping and text, from whatever can be iterated; a bad row is not sent."""
    results = await enhancer.enhance(make())
    assert [result.id for result in results] == ["a", "b", None, "nothing"]
    assert results[3].reason is ping.Reason.INVALID_INPUT
    assert all("PG" in result for result in results[:3] if result.status is ping.RowStatus.OK)


async def test_a_blank_id_is_no_other_rows_id(enhancer: ping.BulkEnhancer) -> None:
    """Where no location has an id that is its number; among ids, also later ones, it is None."""
    none = [{"address": f"{number} Main St"} for number in range(25)]
    assert [each.id for each in await enhancer.enhance(none)] == [str(row) for row in range(25)]
    results = await enhancer.enhance([*none, {"address": "25 Main St", "id": 3}, "26 Main St"])
    assert [each.id for each in results] == [*[None] * 25, "3", None]


@pytest.mark.parametrize("one", ["1 Main St", {"address": "1 Main St"}, ping.Location(), b"x"])
def test_a_single_location_is_refused(one: object) -> None:
    """Letters of an address are not locations."""
    client = ping.PingDataClient(api_url="http://127.0.0.1:9", auth_token="t")
    with pytest.raises(ping.InputError):
        ping.BulkEnhancer(client, "PG").stream(one)  # type: ignore[arg-type]  # on purpose


async def test_large_outputs_come_through_a_thread(client: ping.PingDataClient) -> None:
    """Outputs of more than 64 KiB are checked outside the event loop, with the same result."""
    big = ping.BulkEnhancer(
        client, "PG,PH", chunk_size=200, poll_schedule=ping.PollSchedule(min_interval_s=0.01)
    )
    results = await big.enhance(addresses(400))
    assert [result.row for result in results] == list(range(400))
    assert sum(len(bytes(result.data)) for result in results) > 2 * 64 * 1024


async def test_an_error_carries_what_was_answered(
    client: ping.PingDataClient, sandbox: SandboxServer
) -> None:
    """What was paid for before an API went away is in `results` of the error."""

    async def until_the_token_expires() -> AsyncIterator[str]:
        for n in range(35):
            yield f"{n} Main Street"
        await until(lambda: sandbox.stats.outputs_served >= 2)
        object.__setattr__(sandbox, "token", "another")
        for n in range(100):
            yield f"{n} Side Street"

    with pytest.raises(ping.AuthenticationError) as caught:
        await make_enhancer(client, late_after_s=0.1).enhance(until_the_token_expires())
    rows = [result.row for result in caught.value.results]
    assert rows == sorted(set(rows))
    assert len(rows) >= 20


@pytest.mark.parametrize("error", [RuntimeError("broken bar"), asyncio.CancelledError()])
async def test_a_listener_that_raises_is_muted(
    client: ping.PingDataClient, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """A broken progress bar is reported once and costs no answer, whatever it raises."""
    heard: list[Event] = []

    def break_down(event: Event) -> None:
        heard.append(event)
        raise error

    enhancer = ping.BulkEnhancer(client, "PG", on_event=break_down, chunk_size=5)
    assert len(await enhancer.enhance(addresses(20))) == 20
    assert len(heard) == 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "an event listener failed and is not called again"
    ]


async def test_events_tell_of_every_row(client: ping.PingDataClient) -> None:
    """The counts of the chunks add up to the input."""
    heard: list[Event] = []
    enhancer = ping.BulkEnhancer(client, "PG", on_event=heard.append, chunk_size=7)
    await enhancer.enhance(addresses(50))
    assert sum(event.rows for event in heard if isinstance(event, ChunkFinished)) == 50


class OwnError(Exception):
    """Of a user's own code."""


def broken(error: Exception) -> Iterator[str]:
    """Two chunks and a half, and then an error."""
    yield from addresses(25)
    raise error


async def in_loop(rows: Iterator[str]) -> AsyncIterator[str]:
    for row in rows:
        yield row


@pytest.mark.parametrize(
    "error",
    [OwnError("mine"), anyio.BrokenResourceError(), anyio.EndOfStream(), anyio.WouldBlock()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_the_input_arrives_as_itself(
    enhancer: ping.BulkEnhancer, error: Exception, *, is_async: bool
) -> None:
    """Not wrapped, not swallowed, not taken for an error of ours; with what was answered."""
    with pytest.raises(type(error)) as caught:
        await enhancer.enhance(broken(error) if is_async else in_loop(broken(error)))
    assert caught.value is error
    results = vars(error)["results"]  # of which jobs there were, is a matter of time
    assert isinstance(results, ping.EnhancedLocations)
    assert results.summary.rows == len(results)
    assert "answered location" in error.__notes__[-1]


async def test_an_error_with_results_of_its_own_is_a_cause(
    enhancer: ping.BulkEnhancer, sandbox: SandboxServer
) -> None:
    """They stay what they are; what was answered is in the error that it causes."""

    class BatchError(Exception):
        results = ("its own",)

    error = BatchError("mine")

    async def late() -> AsyncIterator[str]:
        for row in addresses(20):
            yield row
        await until(lambda: sandbox.stats.jobs_accepted == 2)
        raise error

    with pytest.raises(ping.PingDataError, match="BatchError: mine") as caught:
        await enhancer.enhance(late())
    assert caught.value.__cause__ is error
    assert error.results == ("its own",)
    assert [result.row for result in caught.value.results] == list(range(20))
    assert caught.value.summary is not None
    assert caught.value.summary.locations_charged == 20


async def test_an_error_whose_results_cannot_be_looked_at_is_a_cause(
    enhancer: ping.BulkEnhancer,
) -> None:
    """A property that raises does not take the place of the error, nor of what was answered."""

    class BrokenError(Exception):
        @property
        def results(self) -> object:
            raise LookupError

    def broken() -> Iterator[str]:
        yield from addresses(20)
        raise BrokenError("mine")

    with pytest.raises(ping.PingDataError, match="BrokenError: mine") as caught:
        await enhancer.enhance(broken())
    assert caught.value.summary is not None
    assert len(caught.value.results) == caught.value.summary.rows


async def test_a_cancellation_carries_what_was_answered(client: ping.PingDataClient) -> None:
    """A time-out around `enhance()` does not cost what came before it."""
    heard: list[Event] = []

    async def unending() -> AsyncIterator[str]:
        for address in addresses(20):
            yield address
        await until(lambda: sum(isinstance(event, ChunkFinished) for event in heard) == 2)
        task.cancel()
        await anyio.sleep_forever()

    enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, on_event=heard.append)
    task = asyncio.create_task(enhancer.enhance(unending()))
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert [result.row for result in vars(caught.value)["results"]] == list(range(20))


async def test_an_input_that_is_cancelled_from_inside_is_an_error(
    enhancer: ping.BulkEnhancer,
) -> None:
    """A cancelled task that the input awaits does not look like the end of the input."""

    async def rows() -> AsyncIterator[str]:
        yield "1 Main Street"
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    with anyio.fail_after(120), pytest.raises(ping.InputError, match="cancelled"):
        await enhancer.enhance(rows())


async def test_a_closed_client_says_so(sandbox: SandboxServer) -> None:
    """Using an enhancer before or after its client is open is a clear error."""
    client = ping.PingDataClient(api_url=sandbox.url, auth_token="t")
    enhancer = make_enhancer(client)
    with pytest.raises(ping.ClientClosedError):
        await enhancer.enhance(addresses(5))
    async with client:
        assert len(await enhancer.enhance(addresses(5))) == 5
    with pytest.raises(ping.ClientClosedError):
        await anext(enhancer.stream(addresses(5)))
