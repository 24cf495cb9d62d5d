"""What of aiohttp is used that it does not promise: a new version that lacks it is noticed here."""

from __future__ import annotations

import asyncio
import errno
import ssl
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web

from pingdata_async.api.connections import open_session
from tests.support.servers import LocalApi, always, drop


async def test_it_can_be_told_to_send_a_get_once() -> None:
    """`_retry_connection` is there, true by default; false keeps a GET from a second sending."""
    async with LocalApi(drop) as api:
        async with open_session(ssl.create_default_context(), reuse=True) as session:
            assert session._retry_connection is True
        async with open_session(ssl.create_default_context(), reuse=False) as session:
            assert session._retry_connection is False
            with pytest.raises(aiohttp.ClientError):
                await session.get(api.url, trace_request_ctx=SimpleNamespace(began=False))
    assert len(api.seen) == 1


async def test_it_says_when_a_request_begins() -> None:
    """The trace of a request's head is called before the server has all of it."""
    began = asyncio.Event()
    progress = SimpleNamespace(began=False)

    async def answer(_request: web.Request) -> web.StreamResponse:
        assert progress.began
        began.set()
        return web.Response()

    async with (
        LocalApi(answer) as api,
        open_session(ssl.create_default_context(), reuse=False) as session,
        session.get(api.url, trace_request_ctx=progress) as response,
    ):
        assert response.status == 200
    assert began.is_set()


async def test_its_errors_are_of_the_kinds_that_are_told_apart() -> None:
    """A time-out of a connection is one of its own; one of reading is a server's."""
    assert issubclass(aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError)
    assert issubclass(aiohttp.ServerTimeoutError, TimeoutError)
    assert issubclass(aiohttp.ClientHttpProxyError, aiohttp.ClientResponseError)
    async with LocalApi(always({})) as api:
        url = api.url
    async with open_session(ssl.create_default_context(), reuse=False) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(url, trace_request_ctx=SimpleNamespace(began=False))
    assert (caught.value.host, caught.value.os_error.errno) == (
        "127.0.0.1",
        errno.ECONNREFUSED,
    )
