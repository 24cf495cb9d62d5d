"""Answers that never end: each is given up in the end, and it says how little came."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import anyio
import pytest
from aiohttp import client_proto, http_parser

from pingdata_async import (
    DecodeError,
    JobOutput,
    PingDataClient,
    PingDataError,
    ServerError,
    TransportError,
)
from pingdata_async.api.connections import Patience, download_s
from tests.support.raw_api import Write, continue_for_ever, drip, malformed_chunk
from tests.support.servers import Script, client_of, raw_server, read_request

OUTPUT = JobOutput("/api/v1/sov/J/output/o.json")
IMPATIENT = {"read_timeout_s": 0.2, "submit_timeout_s": 0.2, "connect_timeout_s": 0.2}
BODY = b'{"0": {"PG": {"is_success": true}}}'

CALLS: dict[str, Callable[[PingDataClient], Awaitable[object]]] = {
    "submit": lambda client: client.submit([{"id": "0"}], sources=["PG"]),
    "status": lambda client: client.status("J"),
    "limits": lambda client: client.limits(),
    "fetch_output": lambda client: client.fetch_output("J", OUTPUT),
    "fetch_body": lambda client: client.fetch_body("J", OUTPUT),
}


@pytest.fixture(params=["C", "Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes answers apart: aiohttp's C extension, or what it has where there is none."""
    if request.param == "Python":
        monkeypatch.setattr(client_proto, "HttpResponseParser", http_parser.HttpResponseParserPy)


def writes(write: Write) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await write(writer, BODY)

    return script


async def error_of(
    call: Callable[[PingDataClient], Awaitable[object]], write: Write
) -> PingDataError:
    async with raw_server(writes(write)) as server, client_of(server.url, **IMPATIENT) as client:
        with pytest.raises(PingDataError) as caught, anyio.fail_after(120):
            await call(client)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_malformed_chunk(call: Callable[[PingDataClient], Awaitable[object]]) -> None:
    """A body that cannot be taken apart is cut off, though nobody says so."""
    error = await error_of(call, malformed_chunk)
    assert isinstance(error, DecodeError)
    assert "the answer was cut off" in str(error)


@pytest.mark.parametrize("call", [CALLS["submit"], CALLS["status"], CALLS["fetch_body"]])
async def test_a_malformed_chunk_is_not_waited_for(
    call: Callable[[PingDataClient], Awaitable[object]],
) -> None:
    """Whose connection is gone can bring nothing more: that is an error before any time-out."""
    async with raw_server(writes(malformed_chunk)) as server, client_of(server.url) as client:
        with anyio.fail_after(120), pytest.raises(DecodeError, match="could not be taken apart"):
            await call(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_body_that_drips(call: Callable[[PingDataClient], Awaitable[object]]) -> None:
    """A byte now and again is not enough, of a download neither; the error says how much came."""
    error = await error_of(call, drip)
    assert isinstance(error, DecodeError)
    # On a busy machine nothing may come for a while.
    assert re.search("no more than|not a byte came|was not whole within 0.4 s", str(error))


async def test_a_download_that_always_sends_just_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a connection for a limited time; the larger outputs may be, the longer."""
    assert 3 * 3600 < download_s(512 * 1024 * 1024) < 4 * 3600
    assert download_s(1) > 600
    monkeypatch.setattr("pingdata_async.api.connections.WHOLE_AT_LEAST_S", 0.4)

    async def write(writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            writer.write(b" " * 100)
            await writer.drain()
            await asyncio.sleep(0.1)

    async with (
        raw_server(writes(write)) as server,
        client_of(server.url, max_body_bytes=10_000) as client,
    ):
        with anyio.fail_after(120), pytest.raises(DecodeError, match=r"not whole within 0\.6 s"):
            await client.fetch_output("J", OUTPUT)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_100_continue_without_end(
    call: Callable[[PingDataClient], Awaitable[object]],
) -> None:
    """The promise of an answer is none: the request may have been sent."""
    error = await error_of(call, continue_for_ever)
    assert isinstance(error, TransportError)
    assert error.maybe_sent
    assert "no answer in time" in str(error)


async def test_an_error_whose_message_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status counts, and what came of the message; nobody waits long for the rest."""
    monkeypatch.setattr("pingdata_async.api.transport.ERROR_BODY_S", 0.2)

    async def write(writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nthe disk is full")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(writes(write)) as server, client_of(server.url) as client:
        with anyio.fail_after(120), pytest.raises(ServerError, match="500: the disk is full"):
            await client.fetch_output("J", OUTPUT)


def drained(patience: Patience, pieces: list[tuple[int, float]]) -> str:
    """What a body's pieces, of some bytes after some seconds, come to."""
    for size_bytes, waited_s in pieces:
        if waited_s > patience.left_s:
            return str(patience.ended())
        try:
            patience.note(size_bytes, waited_s)
        except TimeoutError as error:
            return str(error)
    return "all came"


@pytest.mark.parametrize(
    ("total_s", "pieces", "says"),
    [
        (10_000.0, [(1, 59.0)] * 3, "no more than 3 bytes in 177.0 s"),
        (10_000.0, [(1, 1.0)] * 1000, "no more than 120 bytes in 120.0 s"),
        (10_000.0, [(999_999, 1.0), (0, 61.0)], "not a byte came for 60.0 s"),
        (10_000.0, [(2_000, 1.0)] * 9_999, "all came"),
        (10_000.0, [(2_000, 1.0)] * 100_000, "it was not whole within 10,000.0 s"),  # two days
        (10_000.0, [(100_000, 59.0)] * 100, "all came"),  # in bursts
        (10_000.0, [(999_999, 1.0)] + [(1, 1.0)] * 1000, "no more than 120 bytes in 120.0 s"),
        (100.0, [(9_999, 30.0)] * 4, "it was not whole within 100.0 s"),
        (100.0, [(9_999, 30.0)] * 3, "all came"),
    ],
)
def test_when_patience_ends(total_s: float, pieces: list[tuple[int, float]], says: str) -> None:
    """Silence, a drip at any place, and too long for all of it; whatever comes well may take on."""
    assert drained(Patience(60.0, total_s), pieces) == says
