"""A proxy, a TLS context, further headers and hooks, given to a client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import trustme

from pingdata_async import ConfigurationError, HTTPOptions, JobOutput, TransportError
from tests.support.servers import (
    TOKEN,
    ConnectProxy,
    LocalApi,
    always,
    by_path,
    client_of,
    raw_server,
    redirect,
    server_tls,
)

HOST = "api.example.test"  # resolves nowhere: only a proxy leads there
PENDING = {"request": {"status": "PENDING"}}
OUTPUT = JobOutput("/api/v1/sov/J/output/o.json")


async def test_a_given_proxy_and_tls_context(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold for the API and for outputs elsewhere; the variables are not looked at."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    context = ssl.create_default_context(cafile=str(ca_file))
    async with LocalApi(always(PENDING), server_tls(authority, HOST, "other.test")) as api:
        proxy = ConnectProxy(api.port, "me:hidden-word")
        async with raw_server(proxy) as server:
            http = HTTPOptions(
                proxy=f"http://me:hidden-word@127.0.0.1:{server.port}", ssl_context=context
            )
            async with client_of(f"https://{HOST}", http=http) as client:
                await client.status("J")
                await client.fetch_output("J", JobOutput("https://other.test/o.json"))
    assert proxy.targets == [f"{HOST}:443", "other.test:443"]
    assert [seen.authorization for seen in api.seen] == [f"Token {TOKEN}", None]
    assert "hidden-word" not in f"{http!r}{client!r}"


async def test_a_proxy_that_refuses_gives_no_password_away() -> None:
    """Nor does one that nobody can use."""
    async with raw_server(ConnectProxy(0, "me:right")) as server:
        http = HTTPOptions(proxy=f"http://me:hidden-word@127.0.0.1:{server.port}")
        async with client_of(f"https://{HOST}", http=http) as client:
            with pytest.raises(TransportError, match="refused with 407") as caught:
                await client.status("J")
    assert "hidden" not in f"{caught.value!r}{caught.value.__cause__!r}"
    unusable_urls: list[Any] = [
        "socks5://me:hidden-word@127.0.0.1:1080",
        "http://me:hidden/word@127.0.0.1:1",
        "ftp://me:hidden-word@127.0.0.1:1",
        1080,
    ]
    for url in unusable_urls:
        with pytest.raises(ConfigurationError, match="proxy") as unusable:
            HTTPOptions(proxy=url)
        assert "hidden" not in f"{unusable.value!r}"


async def test_headers_go_to_the_api_alone() -> None:
    """With every request to it; to no other host, and to none once another had a say."""
    async with LocalApi(always({})) as other:
        answers = {
            OUTPUT.url: redirect(f"{other.url}/elsewhere"),
            "/api/v1/bulk_enhance": always({"id": "J"}),
        }
        async with LocalApi(by_path(answers)) as api:
            back = JobOutput(f"{other.url}/back")
            other.answer = by_path(
                {"/elsewhere": always({}), "/back": redirect(f"{api.url}{OUTPUT.url}")}
            )
            http = HTTPOptions(headers={"X-Gateway-Key": "hidden-word", "User-Agent": "mine"})
            async with client_of(api.url, http=http) as client:
                await client.submit([{"id": "0"}], sources=["PG"])
                await client.fetch_output("J", OUTPUT)
                await client.fetch_output("J", back)
    sent = [(seen.headers.get("X-Gateway-Key"), seen.authorization) for seen in api.seen]
    assert sent == [("hidden-word", f"Token {TOKEN}")] * 2 + [(None, None)]
    assert api.seen[0].headers.getall("User-Agent") == ["mine"]  # type: ignore[attr-defined]  # it is a multidict
    assert {seen.headers.get("X-Gateway-Key") for seen in other.seen} == {None}
    assert "hidden-word" not in repr(http)


async def test_a_gateway_that_echoes_its_key_is_masked() -> None:
    """As the token is."""
    http = HTTPOptions(headers={"X-Api-Key": "hidden-word"})
    answer = always({"message": "hidden-word is not known"}, status=403)
    async with LocalApi(answer) as api, client_of(api.url, http=http) as client:
        with pytest.raises(Exception, match=r"\*\*\* is not known"):
            await client.status("J")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Token x"},
        {"host": "x"},
        {"Accept-Encoding": "br"},
        {"Content-Length": "1"},
        {"Proxy-Authorization": "x"},
        {"X Y": "x"},
        {"X": "a\r\nB: c"},
        {"X": "é"},
        {"X": 1},
        {1: "x"},
    ],
)
def test_headers_that_cannot_be_set(headers: Any) -> None:
    """What the client sets itself, and what would be another header."""
    with pytest.raises(ConfigurationError, match="header"):
        HTTPOptions(headers=headers)


async def test_two_ways_to_say_whom_to_trust(ca_file: Path) -> None:
    """They are refused before anything is opened."""
    http = HTTPOptions(ssl_context=ssl.create_default_context())
    with pytest.raises(ConfigurationError, match="not both"):
        client_of("https://127.0.0.1:1", ca_bundle=ca_file, http=http)


def hooks_on(*names: str, hook: Callable[..., Any]) -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig(trace_config_ctx_factory=SimpleNamespace)
    for name in names:
        getattr(config, name).append(hook)
    return config


async def test_hooks_hear_of_requests_and_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Of all sessions, also after the client was opened again; one that fails costs nothing."""
    heard: list[str] = []

    async def hear(_session: Any, context: Any, params: Any) -> None:
        context.seen = True
        heard.append(f"{params.method} {params.url.path} {params.response.status}")

    async def fail(*_: Any) -> None:
        raise ValueError("broken")

    async def await_cancelled(*_: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    every = [name for name in dir(aiohttp.TraceConfig) if name.startswith("on_")]
    broken = [hooks_on(*every, hook=hook) for hook in (fail, await_cancelled)]
    traces = [*broken, hooks_on("on_request_end", hook=hear)]
    client_hooks = HTTPOptions(trace_configs=traces)
    async with LocalApi(always({"id": "J", **PENDING})) as api:
        client = client_of(api.url, http=client_hooks)
        async with client:
            await client.submit([{"id": "0"}], sources=["PG"])
        async with client:
            await client.status("J")
    assert heard == ["POST /api/v1/bulk_enhance 200", "GET /api/v1/bulk_enhance/J 200"]
    assert {record.getMessage() for record in caplog.records} == {
        "a hook of trace_configs failed",
        "a hook of trace_configs was cancelled",
    }
