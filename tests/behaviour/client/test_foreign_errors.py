"""Whatever comes out of the HTTP library, or from below it, is one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import aiohttp
import pytest
from aiohttp import http_exceptions, streams

from pingdata_async import DecodeError, JobOutput, PingDataClient, ServerError, TransportError
from tests.support.servers import TOKEN, client_of, raw_server, says

OUTPUT = JobOutput("/api/v1/sov/J/output/o.json")

CALLS: dict[str, Callable[[PingDataClient], Awaitable[object]]] = {
    "submit": lambda client: client.submit([{"id": "0"}], sources=["PG"]),
    "status": lambda client: client.status("J"),
    "fetch_output": lambda client: client.fetch_output("J", OUTPUT),
    "fetch_body": lambda client: client.fetch_body("J", OUTPUT),
}
FOREIGN: dict[str, Callable[[], Exception]] = {
    "uvloop": lambda: RuntimeError("unable to perform operation; the handler is closed"),
    "parser": lambda: http_exceptions.TransferEncodingError("zz"),
    "value": lambda: ValueError(f"Invalid header: Token {TOKEN}"),
    "reader": lambda: asyncio.IncompleteReadError(b"", 9),
    "limit": lambda: asyncio.LimitOverrunError("too much", 9),
    "bug": AssertionError,
}


def raises(make: Callable[[], Exception]) -> Callable[..., Awaitable[NoReturn]]:
    async def fails(*_args: object, **_options: object) -> NoReturn:
        raise make()

    return fails


def raises_at_once(make: Callable[[], Exception]) -> Callable[..., NoReturn]:
    def fails(*_args: object) -> NoReturn:
        raise make()

    return fails


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
async def test_before_the_head(
    call: Callable[[PingDataClient], Awaitable[object]],
    make: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of a request is a TransportError of one line, without the token."""
    monkeypatch.setattr(aiohttp.ClientSession, "request", raises(make))
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(TransportError) as caught:
            await call(client)
    assert str(caught.value).isprintable()
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
async def test_within_the_body(
    call: Callable[[PingDataClient], Awaitable[object]],
    make: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of reading a body is a DecodeError; of the body of an error, its status counts."""
    statuses: list[tuple[int, type[Exception]]] = [(200, DecodeError), (500, ServerError)]
    for status, error in statuses:
        answer = b"HTTP/1.1 %d -\r\nContent-Length: 2\r\n\r\n{}" % status
        async with raw_server(says(answer)) as server, client_of(server.url) as client:
            with monkeypatch.context() as patch:
                for name in ("read", "readany"):
                    patch.setattr(streams.StreamReader, name, raises(make))
                patch.setattr(streams.StreamReader, "read_nowait", raises_at_once(make))
                with pytest.raises(error) as caught:
                    await call(client)
        assert str(caught.value).isprintable()
        assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"
