"""The server itself: starting, stopping, the token, https, settings."""

import asyncio
import gc
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.sandbox.caller import Clock, addresses, calling
from tests.support.ports import free_port


async def test_url_exists_only_while_it_runs() -> None:
    """A free port is taken; the url has no slash at its end; outside there is none."""
    sandbox = SandboxServer()
    with pytest.raises(RuntimeError, match="only while it runs"):
        _ = sandbox.url
    async with sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert not sandbox.url.endswith(("/", ":0"))
        with pytest.raises(RuntimeError, match="running already"):
            await sandbox.__aenter__()
    with pytest.raises(RuntimeError, match="only while it runs"):
        _ = sandbox.url


async def test_a_stopped_sandbox_can_be_started_again() -> None:
    """Its jobs and counts are still there: an outage can be imitated."""
    sandbox = SandboxServer()
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(1))
    assert sandbox.stats.jobs_accepted == 1
    async with calling(sandbox) as caller:
        assert (await caller.status(job_id))["request"]["num_problems"] in {None, 0}


@pytest.mark.parametrize("rounds", range(6))
def test_a_connection_made_as_it_stops_is_closed(rounds: int) -> None:
    """However far asyncio is with accepting it: a socket left open warns as it is collected."""

    async def stop_while_accepting() -> None:
        with socket.socket() as caller:
            async with SandboxServer() as sandbox:
                address = urlsplit(sandbox.url)
                caller.setblocking(False)
                with pytest.raises(BlockingIOError):
                    caller.connect((address.hostname, address.port))
                for _ in range(rounds):
                    await asyncio.sleep(0)

    asyncio.run(stop_while_accepting())
    gc.collect()


async def test_a_taken_port_is_an_error_and_leaves_nothing() -> None:
    """The second server on a port raises OSError, and can be tried again later."""
    port = free_port()
    async with SandboxServer(port=port):
        second = SandboxServer(port=port)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()
    async with second:
        assert second.url == f"http://127.0.0.1:{port}"


async def test_stopping_does_not_wait_for_open_connections() -> None:
    """Idle, slow and half-read connections are closed at once; no task is left."""
    before = asyncio.all_tasks()
    sleeping = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await asyncio.get_running_loop().create_future()

    async with aiohttp.ClientSession(headers={"Authorization": "Token x"}) as session:
        slow = SandboxServer(faults=FaultPlan(slow_answer=1), sleep=sleep)
        idle = SandboxServer(locations_per_s=float("inf"), queue_delay_s=0)
        async with asyncio.timeout(30), slow, idle:
            waiting = asyncio.ensure_future(session.get(slow.url + "/api/v1/limits"))
            await sleeping.wait()
            data = {"locations": addresses(3000), "sources": ["PG", "PH"]}
            async with session.post(idle.url + "/api/v1/bulk_enhance", json=data) as response:
                job_id = (await response.json())["id"]
            path = f"/api/v1/sov/{job_id}/output/bulk_enhance_{job_id}.json"
            half_read = await session.get(idle.url + path, headers={"Accept-Encoding": "identity"})
            await half_read.content.readany()
        with pytest.raises(aiohttp.ClientError):
            await waiting
        half_read.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("header", ["", "Token", "Token ", "Bearer right", "right", "token right"])
async def test_requests_without_a_token_are_refused(header: str) -> None:
    """No token, or one with another prefix, is 401 on every endpoint."""
    async with calling(SandboxServer(), token=None) as caller:
        headers = {"Authorization": header}
        answers = [
            await caller.post({}, headers=headers),
            *[
                await caller.get(f"/api/v1/{path}", headers=headers)
                for path in ("bulk_enhance/x", "sov/x/output/y", "enhance", "limits", "usage")
            ],
        ]
        assert [answer.status for answer in answers] == [401] * 6
        assert answers[0].message == "Authentication credentials were not provided."
        assert caller.sandbox.stats.refusals == {401: 6}


async def test_only_the_set_token_is_accepted() -> None:
    """With a token set, another one is refused; the repr does not show it."""
    sandbox = SandboxServer(token="right-one")
    async with calling(sandbox, token="wrong") as caller:
        answer = await caller.get("/api/v1/limits")
        assert (answer.status, answer.message) == (401, "Invalid token.")
        right = {"Authorization": "Token right-one"}
        assert (await caller.get("/api/v1/limits", headers=right)).status == 200
    assert "right-one" not in repr(sandbox)


async def test_unknown_paths_and_methods_are_answered_in_json() -> None:
    """404 and 405 carry a message."""
    async with calling(SandboxServer()) as caller:
        answer = await caller.get("/api/v1/nothing")
        assert (answer.status, answer.message) == (404, "Not Found")
        answer = await caller.get("/api/v1/bulk_enhance")
        assert (answer.status, answer.message) == (405, "Method Not Allowed")


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server on 127.0.0.1, and of a client that trusts it."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return serving, trusting


async def test_https(clock: Clock, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """With an ssl context the sandbox and its output urls are https."""
    context, trusting = contexts
    async with calling(SandboxServer(ssl_context=context, clock=clock)) as caller:
        assert caller.sandbox.url.startswith("https://127.0.0.1:")
        data = {"locations": addresses(1), "sources": ["PG"]}
        answer = await caller.post(data, ssl=trusting)
        clock.advance(100)
        path = f"/api/v1/bulk_enhance/{answer.json['id']}"
        status = (await caller.get(path, ssl=trusting)).json
        url = status["result"]["outputs"][0]["url"]
        assert url.startswith(caller.sandbox.url)
        assert (await caller.get(url, ssl=trusting)).status == 200


async def test_an_ipv6_url_has_brackets() -> None:
    """The url of an IPv6 address can be used as it is."""
    async with calling(SandboxServer(host="::1")) as caller:
        assert caller.sandbox.url.startswith("http://[::1]:")
        assert (await caller.get("/sandbox/stats")).status == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"max_body_bytes": 0}, "max_body_bytes must be at least 1"),
        ({"locations_per_s": 0}, "locations_per_s must be positive"),
        ({"locations_per_s": float("nan")}, "locations_per_s must be positive"),
        ({"queue_delay_s": -1}, "queue_delay_s must be 0 or more"),
        ({"queue_delay_s": float("inf")}, "queue_delay_s must be 0 or more"),
        ({"retention_s": -1}, "retention_s must be 0 or more"),
        ({"no_match_share": 1.5}, "no_match_share must be from 0 to 1"),
        ({"spacing": "wide"}, "spacing must be"),
        ({"shape": "round"}, "shape must be"),
        ({"token": ""}, "token must not be empty"),
        ({"limits": {"PG": {"hourly": 1}}}, "no such window: hourly"),
        ({"limits": {"PG": {"daily": float("nan")}}}, "daily limit of PG must be a whole number"),
        ({"workers": 2.5}, "workers must be a whole number, not 2.5"),
        ({"workers": None}, "workers must be a whole number, not None"),
        ({"quota": True}, "quota must be a whole number, not True"),
        ({"retry_after_s": 0.5}, "retry_after_s must be a whole number, not 0.5"),
        ({"requests_per_s": 0}, "requests_per_s must be positive"),
        ({"requests_per_s": float("nan")}, "requests_per_s must be positive"),
        ({"requests_per_s": 2.5}, "2.5 requests_per_s need rate_window='bucket'"),
        ({"rate_window": "minute"}, "rate_window must be one of 'second', 'bucket'"),
        ({"max_jobs_in_flight": 0}, "max_jobs_in_flight must be at least 1"),
        ({"max_jobs_status": 500}, "max_jobs_status must be one of 429, 503"),
        ({"retry_after_s": -1}, "retry_after_s must be at least 0"),
        ({"retry_after_form": "words"}, "retry_after_form must be one of"),
        ({"date_skew_s": float("inf")}, "date_skew_s must be a number of seconds"),
        ({"quota": 0}, "quota must be at least 1"),
        ({"quota_window": "hourly"}, "quota_window must be one of"),
        ({"job_s": -1}, "job_s must be 0 or more"),
        ({"job_spread": float("nan")}, "job_spread must be 0 or more"),
        ({"progress": "random"}, "progress must be one of 'even', 'uneven'"),
        ({"worker_schedule": [(5, 1), (4, 1)]}, "ascending"),
        ({"worker_schedule": [(-1, 1)]}, "times of 0 or more"),
        ({"worker_schedule": [(1, 0)]}, "workers in worker_schedule must be at least 1"),
        ({"worker_schedule": [(1, 1.5)]}, "worker_schedule must be a whole number, not 1.5"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    """A value out of its range is refused when the sandbox is made."""
    with pytest.raises(ValueError, match=message):
        SandboxServer(**settings)
