"""What goes over the wire: connections, headers, compression, and each POST only once."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import random
from typing import Any

import anyio
import pandas as pd
import polars as pl
import pytest
import trustme
from aiohttp import web

from pingdata_async import (
    DecodeError,
    InputError,
    PingDataError,
    ServerError,
    TransportError,
    __version__,
)
from pingdata_async.api.client import GZIP_FROM_BYTES
from pingdata_async.api.wire import JobOptions
from tests.support.servers import (
    Answer,
    ConnectProxy,
    LocalApi,
    always,
    client_of,
    drop,
    never,
    raw_server,
    read_request,
    server_tls,
)

PENDING = {"request": {"status": "PENDING"}}
ONE = [{"id": "0", "address": "1 Main St"}]


async def test_status_calls_share_a_connection() -> None:
    """One connection serves one status call after the other."""
    async with LocalApi(always(PENDING)) as api, client_of(api.url) as client:
        for _ in range(5):
            await client.status("J")
    assert len(api.seen) == 5
    assert api.connections == 1


async def test_submissions_take_fresh_connections() -> None:
    """No submission goes out on a connection that was used before, by itself or by polls."""
    both = always({"id": "J", **PENDING})
    async with LocalApi(both) as api, client_of(api.url) as client:
        for _ in range(4):
            await client.submit(ONE, sources=["PG"])
            await client.status("J")
    used = [seen.connection for seen in api.seen if seen.method == "POST"]
    polled = {seen.connection for seen in api.seen if seen.method == "GET"}
    assert len(set(used)) == 4
    assert not polled & set(used)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (drop, TransportError),
        (never, TransportError),
        (always(status=500, text=""), ServerError),
        (always(status=502, text="<html>bad gateway"), ServerError),
        (always(status=503, text="", headers={"Retry-After": "0"}), ServerError),
        (always(status=504, text=""), ServerError),
        (always(status=429, text=""), PingDataError),
        (always(status=408, text=""), PingDataError),
        (always(text=""), PingDataError),
    ],
)
async def test_a_post_is_sent_once(answer: Answer, error: type[Exception]) -> None:
    """Whatever happens to a submission, the client itself never repeats it."""
    timeout_s = 1.0 if answer is never else 60.0
    async with LocalApi(answer) as api, client_of(api.url, submit_timeout_s=timeout_s) as client:
        with pytest.raises(error):
            await client.submit(ONE, sources=["PG"])
        assert [seen.method for seen in api.seen] == ["POST"]


async def test_a_paid_get_is_sent_once() -> None:
    """The single enhance is a GET, but paid for: no layer sends it again by itself."""
    async with LocalApi(drop) as api, client_of(api.url) as client:
        with pytest.raises(TransportError):
            await client.enhance(address="1 Main St", sources=["PG"])
    assert len(api.seen) == 1


async def test_an_answer_that_drips_ends() -> None:
    """A byte now and then is no answer: there is a limit for all of it."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1_000):
                await response.write(b" ")
                await asyncio.sleep(0.02)
        return response

    async with LocalApi(drip) as api, client_of(api.url, read_timeout_s=0.1) as client:
        with anyio.fail_after(120), pytest.raises(DecodeError, match="cut off"):
            await client.status("J")


async def test_nothing_is_asked_without_a_source() -> None:
    """An answer about nothing would pass as ok."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        with pytest.raises(InputError, match="no sources"):
            await client.enhance(address="1 Main St", sources=[])
    assert not api.seen


async def test_a_post_cut_off_while_sent_is_not_repeated() -> None:
    """A server that hangs up in the middle of the upload is not tried again."""

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    body = random.Random(0).randbytes(1 << 20)
    async with raw_server(script) as server, client_of(server.url) as client:
        with pytest.raises(TransportError) as caught:
            await client.submit_body(body)
        assert caught.value.maybe_sent is True
        assert server.connections == 1


async def submit_error(url: str, **options: Any) -> TransportError:
    async with client_of(url, **options) as client:
        with pytest.raises(TransportError) as caught, anyio.fail_after(120):
            await client.submit(ONE, sources=["PG"])
    assert "\n" not in str(caught.value)
    return caught.value


async def test_refused_connection_was_not_sent() -> None:
    """Where nobody listens, nothing was sent."""
    async with LocalApi(always()) as api:
        url = api.url
    assert (await submit_error(url)).maybe_sent is False


async def test_unknown_host_was_not_sent() -> None:
    """Where a name does not resolve, nothing was sent."""
    error = await submit_error("https://no-such-host.invalid", connect_timeout_s=5)
    assert error.maybe_sent is False
    assert "no-such-host.invalid" in str(error)


@pytest.mark.parametrize("answer", [drop, never])
async def test_lost_answers_may_have_been_sent(answer: Answer) -> None:
    """Where the request was read but no answer came, a job may have been made."""
    async with LocalApi(answer) as api:
        timeout_s = 1.0 if answer is never else 60.0
        assert (await submit_error(api.url, submit_timeout_s=timeout_s)).maybe_sent is True


async def test_refusing_proxy_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the proxy refuses to connect, the API heard nothing."""
    async with raw_server(ConnectProxy(0, refuses_with="403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hidden@127.0.0.1:{proxy.port}")
        error = await submit_error("https://api.example.test")
    assert error.maybe_sent is False
    assert "proxy" in str(error)
    assert "403" in str(error)
    assert "hidden" not in str(error)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hangs_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def test_silent_proxy_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that accepts but says nothing counts as a connection that was not made in time."""
    async with raw_server(silent) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await submit_error("https://api.example.test", connect_timeout_s=0.2)
    assert error.maybe_sent is False


async def test_proxy_that_hangs_up_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that hangs up on CONNECT passed nothing on."""
    async with raw_server(hangs_up) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await submit_error("https://api.example.test")
    assert error.maybe_sent is False


@pytest.mark.parametrize("script", [silent, hangs_up])
async def test_failed_tls_was_not_sent(script: Any) -> None:
    """Where TLS does not come about, nothing was sent."""
    async with raw_server(script) as server:
        url = server.url.replace("http:", "https:")
        assert (await submit_error(url, connect_timeout_s=0.2)).maybe_sent is False


async def test_untrusted_certificate_was_not_sent(authority: trustme.CA) -> None:
    """Where the certificate is not trusted, the API heard nothing."""
    async with LocalApi(always({"id": "J"}), server_tls(authority, "127.0.0.1")) as api:
        assert (await submit_error(api.url)).maybe_sent is False
        assert api.seen == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x1b[31m\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length",
        b"HTTP/1.1 200 OK\r\n" + b"X: y" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_broken_http_is_an_error_of_ours(garbage: bytes) -> None:
    """What is no HTTP at all is one line that leaves the submission in doubt."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(garbage)
        await writer.drain()

    async with raw_server(script) as server:
        error = await submit_error(server.url)
        assert error.maybe_sent is True
        assert str(error).isprintable()
        assert server.connections == 1


@pytest.mark.parametrize("count", [1, 200, 5000])
async def test_large_bodies_are_gzipped(count: int) -> None:
    """From the threshold on a body is compressed, and arrives as what it was."""
    locations = [{"id": str(n), "address": f"{n} Main St, Springfield"} for n in range(count)]
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        await client.submit(locations, sources=["PG", "PH"], source_timeout_s=9)
    (seen,) = api.seen
    body = seen.body
    plain = gzip.decompress(body) if seen.headers.get("Content-Encoding") == "gzip" else body
    assert (len(plain) >= GZIP_FROM_BYTES) == ("Content-Encoding" in seen.headers)
    assert len(body) == int(seen.headers["Content-Length"])
    assert seen.headers["Content-Type"] == "application/json"
    assert json.loads(plain) == {
        "locations": locations,
        "sources": ["PG", "PH"],
        "include_raw_response": False,
        "check_cache": True,
        "timeout": 9.0,
    }


async def test_bodies_of_megabytes_are_sent_without_warning() -> None:
    """A body that stays large when compressed is sent whole."""
    body = random.Random(1).randbytes(3 << 20)
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        await client.submit_body(body)
    assert gzip.GzipFile(fileobj=io.BytesIO(api.seen[0].body)).read() == body


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("1 Main St", "str"),
        (["1 Main St"], "str"),
        (pd.DataFrame({"address": ["1 Main St"]}), "str"),
        (pl.DataFrame({"address": ["1 Main St"]}), "Series"),
        (ONE[0], "str"),
        ([ONE], "list"),
        (b"1 Main St", "int"),
    ],
    ids=["text", "addresses", "pandas", "polars", "mapping", "list in a list", "bytes"],
)
async def test_letters_and_names_of_columns_are_not_submitted(given: Any, kind: str) -> None:
    """Whatever gives something else than locations is refused, and nothing is sent."""
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        with pytest.raises(InputError, match=f"^location 0 is of type {kind}: give a list"):
            await client.submit(given, sources=["PG"])
    assert not api.seen


def test_all_options_of_a_submission() -> None:
    """Options that were not given are left out, the others go by the API's names."""
    options = JobOptions(
        source_timeout_s=2,
        include_raw_response=True,
        check_cache=False,
        delegate_to="acme",
        callback_url="https://example.com/done",
    )
    everything = options.encode(("PG",))
    assert json.loads(everything) == {
        "sources": ["PG"],
        "timeout": 2.0,
        "include_raw_response": True,
        "check_cache": False,
        "delegate_to": "acme",
        "callback_url": "https://example.com/done",
    }


async def test_headers_say_who_asks() -> None:
    """The User-Agent has name and version, and gzip is the only compression asked for."""
    async with LocalApi(always({"id": "J", **PENDING})) as api, client_of(api.url) as client:
        await client.submit(ONE, sources=["PG"])
        await client.status("J")
    for seen in api.seen:
        assert seen.headers["User-Agent"].startswith(f"pingdata-async/{__version__}")
        assert seen.headers["Accept-Encoding"] == "gzip, deflate"


async def test_cookies_are_not_kept() -> None:
    """A cookie that the server sets is not sent back."""
    answer = always(PENDING, headers={"Set-Cookie": "session=1; Path=/"})
    async with LocalApi(answer) as api, client_of(api.url) as client:
        for _ in range(3):
            await client.status("J")
    assert all("Cookie" not in seen.headers for seen in api.seen)


async def test_connection_cap_holds_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Six calls over two connections: never more than two at once, all answered, and it says so."""
    rate_limiter = asyncio.Event()
    caplog.set_level("INFO", "pingdata_async")

    async def answer(_request: web.Request) -> web.StreamResponse:
        if api.at_once == 2:
            rate_limiter.set()
        await rate_limiter.wait()
        await asyncio.sleep(0)
        return web.json_response(PENDING)

    # Waiting for a connection is not charged to the time-outs.
    async with (
        LocalApi(answer) as api,
        client_of(api.url, max_connections=2, connect_timeout_s=5) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(6):
            tasks.start_soon(client.status, "J")
    assert len(api.seen) == 6
    assert api.peak == 2
    assert api.connections <= 2
    assert "all 2 connections are busy" in caplog.text


async def test_waiting_for_a_connection_is_not_timed() -> None:
    """A call that waits long for its turn is answered all the same."""
    slow = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("first"):
            asyncio.get_running_loop().call_later(0.4, slow.set)
            await slow.wait()
        return web.json_response(PENDING)

    async with LocalApi(answer) as api:
        options: dict[str, Any] = {"max_connections": 1, "connect_timeout_s": 0.2}
        async with client_of(api.url, **options) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.status, "first")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(client.status, "second")
    assert [seen.path.rpartition("/")[2] for seen in api.seen] == ["first", "second"]
