"""Opening, closing and cancelling: nothing is left behind, errors stay what they are."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from aiohttp import web

from pingdata_async import (
    ClientClosedError,
    ConfigurationError,
    JobOutput,
    PingDataClient,
    TransportError,
)
from tests.support.servers import LocalApi, always, client_of, leaves_no_task, never, raw_server

PENDING = {"request": {"status": "PENDING"}}
OUTPUT = JobOutput("/o.json")
Call = Callable[[PingDataClient], Awaitable[object]]

CALLS: dict[str, Call] = {
    "submit": lambda client: client.submit([{"id": "0"}], sources=["PG"]),
    "status": lambda client: client.status("J"),
    "fetch_output": lambda client: client.fetch_output("J", OUTPUT),
    "enhance": lambda client: client.enhance("1 Main St", sources=["PG"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_client_that_is_not_open(call: Call) -> None:
    """Before opening and after closing every call says how to use the client."""
    async with LocalApi(always(PENDING)) as api:
        client = client_of(api.url)
        with pytest.raises(ClientClosedError, match="async with"):
            await call(client)
        async with client:
            await client.status("J")
        with pytest.raises(ClientClosedError, match="async with"):
            await call(client)
        assert len(api.seen) == 1


def test_properties_of_a_client_that_is_not_open() -> None:
    """Nor are its base url and its tasks there before it is opened."""
    client = PingDataClient()
    with pytest.raises(ClientClosedError):
        _ = client.base_url
    with pytest.raises(ClientClosedError):
        _ = client.tasks


async def test_client_can_be_opened_again() -> None:
    """A closed client can be opened again."""
    async with LocalApi(always(PENDING)) as api:
        client = client_of(api.url)
        for _ in range(2):
            async with client:
                await client.status("J")
    assert len(api.seen) == 2


def finished_status() -> dict[str, dict[str, str]]:
    return {"request": {"status": "COMPLETE"}}


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyError("x"), ExceptionGroup("g", [OSError()])]
)
async def test_error_of_the_body_is_itself(error: Exception) -> None:
    """An error in the block comes out as it is, not wrapped in a group."""
    async with LocalApi(always(PENDING)) as api:

        async def fails() -> None:
            async with client_of(api.url) as client:
                await client.status("J")
                raise error

        with pytest.raises(type(error)) as caught:
            await fails()
        assert caught.value is error


async def test_cancelled_body_stays_cancelled() -> None:
    """A cancellation from outside ends the block and nothing more."""
    async with LocalApi(never) as api:
        with leaves_no_task(), anyio.move_on_after(0.1) as scope:
            async with client_of(api.url) as client:
                await client.status("J")
        assert scope.cancelled_caught


async def closed_under(call: Call, server: Any, asked: asyncio.Event, **options: Any) -> None:
    """Close a client under a call that has begun, and expect ClientClosedError of it."""
    caught: list[BaseException] = []

    async def ask(client: PingDataClient) -> None:
        try:
            await call(client)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at below
            caught.append(error)

    with leaves_no_task():
        async with anyio.create_task_group() as tasks:
            async with client_of(server.url, **options) as client:
                for _ in range(3):
                    tasks.start_soon(ask, client)
                await asked.wait()
            with anyio.fail_after(120):
                while len(caught) < 3:
                    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert [type(error) for error in caught] == [ClientClosedError] * 3


@pytest.mark.parametrize("max_connections", [1, 8])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_closing_under_requests(call: Call, max_connections: int) -> None:
    """Requests that await an answer, or their turn, end with ClientClosedError."""
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await never(request)

    async with LocalApi(answer) as api:
        await closed_under(call, api, asked, max_connections=max_connections)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_closing_while_an_answer_is_read(call: Call) -> None:
    """So do those in the middle of an answer."""
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
        await writer.drain()
        asked.set()
        await reader.read()

    async with raw_server(script) as server:
        await closed_under(call, server, asked)


async def test_closing_while_an_error_is_read() -> None:
    """So do those that were told of an error, but not yet which."""
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n{}")
        await writer.drain()
        asked.set()
        await reader.read()

    async with raw_server(script) as server:
        await closed_under(CALLS["status"], server, asked)


async def blocks_of(client: PingDataClient) -> AsyncGenerator[bytes, None]:
    async with client.stream_output("J", OUTPUT) as response:
        async for block in response.iter_blocks():
            yield block


async def megabytes(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(b"x" * (1 << 20))
    return response


async def test_closing_between_two_blocks_of_an_output() -> None:
    """A reader that was busy elsewhere while the client closed hears of it at the next block."""
    async with LocalApi(megabytes) as api:
        async with client_of(api.url) as client:
            blocks = blocks_of(client)
            assert await anext(blocks)
        with pytest.raises(ClientClosedError):
            await anext(blocks)


async def test_output_read_and_left_in_another_task() -> None:
    """A generator over an output may be begun in one task and closed in another."""
    async with LocalApi(megabytes) as api, client_of(api.url, max_connections=1) as client:
        with leaves_no_task():
            for _ in range(2):
                blocks = blocks_of(client)
                assert await asyncio.create_task(anext(blocks))
                await blocks.aclose()
    assert len(api.seen) == 2


async def test_closing_while_tls_is_made() -> None:
    """So do those whose connection is being made."""
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()

    async with raw_server(script) as server:
        server_url = server.url.replace("http:", "https:")

        class Https:
            url = server_url

        await closed_under(CALLS["status"], Https, asked)


async def test_closing_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do those that wait for DNS."""
    asked = asyncio.Event()

    async def getaddrinfo(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    class Unresolved:
        url = "https://slow-dns.example.test"

    await closed_under(CALLS["status"], Unresolved, asked)


async def test_names_that_do_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed look-up leaves nothing running."""

    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with leaves_no_task():
        async with client_of("https://no-dns.example.test") as client:
            with pytest.raises(Exception, match="try again"):
                await client.status("J")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_cancelling_a_request(call: Call) -> None:
    """A cancelled request leaves no task, and its connection and place free for the next."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(PENDING) if request.path.endswith("next") else await never(request)

    async with LocalApi(answer) as api, client_of(api.url, max_connections=1) as client:
        with leaves_no_task():
            with anyio.move_on_after(0.05) as scope:
                await call(client)
            assert scope.cancelled_caught
            await asyncio.sleep(0)
        assert (await client.status("next")).status == "PENDING"


async def test_cancelling_while_waiting_for_a_connection() -> None:
    """A call cancelled in the queue does not take the place it never had."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await release.wait()
        return web.json_response(PENDING)

    async with (
        LocalApi(answer) as api,
        client_of(api.url, max_connections=1) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.status, "first")
        await asked.wait()
        with anyio.move_on_after(0.05):
            await client.status("second")
        release.set()
        await client.status("third")
    assert [seen.path.rpartition("/")[2] for seen in api.seen] == ["first", "third"]


async def test_closing_ends_what_runs_in_its_tasks() -> None:
    """What was started in the client's task group is cancelled when it closes."""
    ended = asyncio.Event()

    async def stream() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            async with client_of(api.url) as client:
                client.tasks.start_soon(stream)
                await anyio.lowlevel.checkpoint()
            assert ended.is_set()


async def test_nothing_is_left_behind() -> None:
    """After closing no task, connection or warning is left, https or not."""
    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            async with client_of(api.url) as client, anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(client.status, str(number))
        gc.collect()
    assert len(api.seen) == 10


async def test_failed_opening_leaves_nothing_behind() -> None:
    """A client that could not be opened has nothing to close."""
    client = PingDataClient(environment="nowhere", auth_token="t")  # type: ignore[arg-type]  # none
    with leaves_no_task(), pytest.raises(ValueError, match="nowhere"):
        await client.__aenter__()
    assert "closed" in repr(client)
    gc.collect()


async def test_open_in_one_task_and_close_in_another() -> None:
    """As fixtures and web frameworks do, and several clients in any order."""
    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            clients = [client_of(api.url) for _ in range(3)]
            for client in clients:
                assert await asyncio.create_task(client.open()) is client
                await client.status("J")
            for client in clients:
                await asyncio.create_task(client.aclose())
                with pytest.raises(ClientClosedError):
                    await client.status("J")


async def test_opened_and_closed_more_than_once() -> None:
    """By several tasks at once too: it is open until it is closed, and no connection is left."""
    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            client = client_of(api.url)
            await client.aclose()
            await asyncio.gather(*(client.open() for _ in range(3)))
            await client.open()
            await client.status("J")
            await asyncio.gather(*(client.aclose() for _ in range(3)))
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await client.status("J")
        gc.collect()


async def test_opened_while_it_closes() -> None:
    """It is open afterwards, by connections of its own."""
    async with LocalApi(always(PENDING)) as api:
        client = await client_of(api.url).open()
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        await client.open()
        await closing
        await client.status("J")
        await client.aclose()


async def test_a_block_closes_only_what_nobody_else_uses() -> None:
    """Of blocks around the same client, the last one to end closes it."""
    async with LocalApi(always(PENDING)) as api, client_of(api.url) as client:
        async with client:
            await client.status("J")
        await client.status("J")
    with pytest.raises(ClientClosedError):
        await client.status("J")


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_block_of_before_closes_nothing_of_others(*, by_hand: bool) -> None:
    """The client was closed under it, and opened again by somebody else, who goes on."""
    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            async with client_of(api.url) as client:
                await client.aclose()
                if by_hand:
                    await client.open()
                else:
                    await client.__aenter__()
            await client.status("J")
            if by_hand:
                await client.aclose()
            else:
                await client.__aexit__()
            with pytest.raises(ClientClosedError):
                await client.status("J")


async def test_opening_that_fails_for_several() -> None:
    """Each of them hears why; a later one can succeed."""
    async with LocalApi(always(PENDING)) as api:
        client = client_of("http://127.0.0.1:0/?query")
        caught = await asyncio.gather(*(client.open() for _ in range(2)), return_exceptions=True)
        assert [type(error) for error in caught] == [ConfigurationError] * 2
        client = client_of(api.url)
        opening = asyncio.create_task(client.open())
        await asyncio.sleep(0)
        with leaves_no_task():
            opening.cancel()
            await asyncio.wait([opening])
        assert opening.cancelled()
        assert "closed" in repr(client)
        async with client:
            await client.status("J")


async def test_cancelled_while_closing() -> None:
    """It is closed all the same."""
    async with LocalApi(always(PENDING)) as api:
        with leaves_no_task():
            client = await client_of(api.url).open()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await client.aclose()
            assert "closed" in repr(client)


async def test_an_error_that_a_task_did_not_handle() -> None:
    """It closes the client, and is raised where that is closed, once."""

    async def fail() -> None:
        raise LookupError("unheard of")

    async with LocalApi(always(PENDING)) as api:
        client = await client_of(api.url).open()
        client.tasks.start_soon(fail)
        with pytest.raises(ClientClosedError):
            await asyncio.gather(*(client.status(str(number)) for number in range(100)))
        with pytest.raises(ExceptionGroup) as caught:
            await client.aclose()
        assert isinstance(caught.value.exceptions[0], LookupError)
        await client.aclose()


def test_another_event_loop() -> None:
    """A client says that it belongs to one event loop, open or closed with that."""

    async def use(client: PingDataClient) -> None:
        with pytest.raises(ClientClosedError, match="another event loop"):
            await client.status("J")
        with pytest.raises(ClientClosedError, match="another event loop"):
            _ = client.tasks
        for again in (client.open, client.aclose):
            with pytest.raises(ClientClosedError, match="another event loop"):
                await again()

    async def open_and_use() -> None:
        client = await client_of("http://127.0.0.1:9").open()
        await anyio.to_thread.run_sync(asyncio.run, use(client))
        assert await anyio.to_thread.run_sync(repr, client) == (
            "<PingDataClient http://127.0.0.1:9 open>"
        )
        await client.aclose()

    asyncio.run(open_and_use())


def test_an_event_loop_that_ends_with_an_open_client() -> None:
    """Its connections are closed; in the next loop, it can be opened anew."""

    async def open_and_ask(client: PingDataClient) -> None:
        async with LocalApi(always(PENDING)):
            await client.open()

    client = client_of("http://127.0.0.1:9")
    for _ in range(2):
        asyncio.run(open_and_ask(client))
        assert "closed" in repr(client)
    gc.collect()


async def test_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started and stopped with the client, and sees no real token; also by a variable."""
    monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "sandbox")
    for client in (PingDataClient(environment="sandbox", auth_token="real"), PingDataClient()):
        with leaves_no_task():
            async with client:
                result = await client.enhance("600 Dexter Avenue, Montgomery, AL", sources=["PG"])
                assert result["PG"].latitude
                assert client.environment == "sandbox"
                url = client.base_url
        async with PingDataClient(api_url=url, auth_token="any") as other:
            with pytest.raises(TransportError):
                await other.limits()
