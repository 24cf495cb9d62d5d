"""Where outputs are fetched, and what comes after a refusal."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pingdata_async import (
    AuthenticationError,
    JobOutput,
    OutputUnavailableError,
    PingDataError,
    ServerError,
    TransportError,
)
from pingdata_async.api.config import ClientSettings, download_url
from pingdata_async.api.transport import Transport
from pingdata_async.sandbox import SandboxServer
from pingdata_async.util.redaction import Secret
from tests.support.servers import TOKEN, LocalApi, always, by_path, client_of, redirect

BODY = b'{"0": {}}'
OWN = ("/api/v1/sov/J/output/o.json", "/api/v1/bulk_enhance/J/output/o.json")
STATUS = "/api/v1/bulk_enhance/J"


def finished(*urls: str, filename: str = "o.json") -> dict[str, Any]:
    outputs = [{"url": url, "filename": filename} for url in urls]
    return {
        "request": {"status": "COMPLETE"},
        "result": {"status": "SUCCESS", "outputs": outputs},
    }


async def test_output_of_the_sandbox() -> None:
    """From submission to output against the sandbox, with the url it gives."""
    async with SandboxServer(token=TOKEN) as sandbox, client_of(sandbox.url) as client:
        location = {"id": "7", "address": "1600 Pennsylvania Ave NW, Washington, DC 20500"}
        job_id = await client.submit([location], sources=["PG"])
        while not (status := await client.status(job_id)).is_finished:
            pass
        assert not status.is_failed
        body = await client.fetch_output(job_id, status.outputs[0])
    assert body.startswith(b'{"7"')


@pytest.mark.parametrize(
    ("base", "url", "target"),
    [
        ("", "/api/v1/sov/J/output/o.json", "/api/v1/sov/J/output/o.json"),
        ("", "api/output/o.json", "/api/output/o.json"),
        ("/proxied", "api/output/o.json", "/proxied/api/output/o.json"),
        ("/proxied", "/output/of/o.json", "/output/of/o.json"),
        ("/a", "?x=1", "/a/?x=1"),
    ],
)
async def test_relative_urls(base: str, url: str, target: str) -> None:
    """A relative url is resolved against the base; one of an output gets the token."""
    async with LocalApi(always(body=BODY)) as api, client_of(api.url + base) as client:
        assert await client.fetch_output("J", JobOutput(url)) == BODY
    shown = f"Token {TOKEN}" if "/api/" in target else None
    assert [(seen.target, seen.authorization) for seen in api.seen] == [(target, shown)]


@pytest.mark.parametrize(
    "target",
    [
        "/o.json?sig=a%2Fb%2Bc%3D",
        "/o.json?sig=a%2fb+c%20d&X-Amz-Date=2024%3A01",
        "/o%2Fx/~a%7eb;v=1/o.json?a=1&a=2&=&b",
        "/a//b/../o.json?x=%41%zz%",
        "/o.json?sig='(a)*!'&t=\"",
        "/o.json?sig={a}|^`\\",
    ],
)
async def test_signed_urls_arrive_byte_for_byte(target: str) -> None:
    """Neither path nor query of a url is requoted: that would break its signature."""
    async with (
        LocalApi(always(body=BODY)) as other,
        LocalApi(always()) as api,
        client_of(api.url) as client,
    ):
        await client.fetch_output("J", JobOutput(other.url + target))
    assert [seen.target.replace("%22", '"') for seen in other.seen] == [target]


async def test_urls_with_characters_of_no_url_are_quoted() -> None:
    """Spaces and letters beyond ASCII are quoted, so that they arrive at all."""
    async with LocalApi(always(body=BODY)) as api, client_of(api.url) as client:
        await client.fetch_output("J", JobOutput("/my file \u00e9.json#part"))
    assert api.seen[0].target == "/my%20file%20%C3%A9.json"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("way", [0, 1])
async def test_other_origin_refuses(status: int, way: int) -> None:
    """Where another origin asks for credentials, both own paths are tried with the token."""
    answers = {OWN[way]: always(body=BODY)}
    async with LocalApi(always(status=status, text="")) as other:
        url = f"{other.url}/bucket/o.json?sig=1"
        answers[STATUS] = always(finished(url))
        async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
            assert await client.fetch_output("J", JobOutput(url)) == BODY
        asked = [seen.path for seen in api.seen if seen.path != STATUS]
        assert asked == list(OWN[: way + 1])
        assert {seen.authorization for seen in api.seen} == {f"Token {TOKEN}"}
        assert {seen.authorization for seen in other.seen} == {None}


@pytest.mark.parametrize("filename", ["o.json", "../../etc/passwd", "a b?.json", "", "\u00e9"])
async def test_own_paths_are_quoted(filename: str) -> None:
    """Job id and file name are quoted in the own paths; without a name, the url's is taken."""
    async with (
        LocalApi(always(status=401, text="")) as other,
        LocalApi(always(status=404)) as api,
        client_of(api.url) as client,
    ):
        with pytest.raises(OutputUnavailableError):
            await client.fetch_output("a/b", JobOutput(f"{other.url}/x/o.json?s", filename))
    # A server may undo the quoting before it looks at the dots.
    assert len(api.seen) == (1 if ".." in filename else 3)
    for seen in api.seen[1:]:  # first, its status
        assert seen.target.count("/") == 6
        assert "a%2Fb" in seen.target
        assert filename or seen.target.endswith("/o.json")


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_expired_link_is_asked_for_again(status: int) -> None:
    """A link that expired is renewed through the job's status, before any other way."""
    async with LocalApi(
        by_path({"/old": always(status=status, text=""), "/new": always(body=BODY)})
    ) as storage:
        fresh = finished(f"{storage.url}/other", f"{storage.url}/new?sig=2")
        fresh["result"]["outputs"][0]["filename"] = "other.json"
        async with LocalApi(by_path({STATUS: always(fresh)})) as api:
            async with client_of(api.url) as client:
                output = JobOutput(f"{storage.url}/old?sig=1", "o.json")
                assert await client.fetch_output("J", output) == BODY
            assert [seen.path for seen in api.seen] == [STATUS]
        assert [seen.target for seen in storage.seen] == ["/old?sig=1", "/new?sig=2"]


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_own_paths_come_last(status: int) -> None:
    """Where the fresh link is refused too, the documented paths are tried."""
    async with LocalApi(always(status=status, text="")) as storage:
        answers = {STATUS: always(finished(f"{storage.url}/new")), OWN[1]: always(body=BODY)}
        async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
            output = JobOutput(f"{storage.url}/old", "o.json")
            assert await client.fetch_output("J", output) == BODY
        assert [seen.path for seen in api.seen] == [STATUS, *OWN]
        assert [seen.target for seen in storage.seen] == ["/old", "/new"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_everything_refused(status: int) -> None:
    """When no way leads to the output, it is not found; the first refusal is in the message."""
    async with LocalApi(always({"message": "the first"}, status=status)) as storage:
        url = f"{storage.url}/o.json"
        answers = {STATUS: always(finished(url))}
        async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
            with pytest.raises(OutputUnavailableError, match="the first") as caught:
                await client.fetch_output("J", JobOutput(url, "o.json"))
        assert caught.value.status_code == status
        assert caught.value.job_status is not None
        assert caught.value.job_status.status == "COMPLETE"
        assert not caught.value.is_job_unknown
        assert len(storage.seen) == 1  # the same url again would be refused again


async def test_refused_token_is_not_worked_around() -> None:
    """A 401 of the API's own origin ends it at once: no other path would take the token."""
    async with LocalApi(always({"message": "no"}, status=401)) as api, client_of(api.url) as client:
        with pytest.raises(AuthenticationError):
            await client.fetch_output("J", JobOutput(OWN[0], "o.json"))
    assert len(api.seen) == 1


async def test_forgotten_job() -> None:
    """Where the API no longer knows the job, the output's own error is raised, and says so."""
    async with (
        LocalApi(always({"message": "gone"}, status=410)) as api,
        client_of(api.url, max_connections=1) as client,
    ):
        with pytest.raises(OutputUnavailableError, match=r"o\.json answered 410: gone") as caught:
            await client.fetch_output("J", JobOutput("/o.json", "o.json"))
    assert caught.value.is_job_unknown
    assert [seen.path for seen in api.seen] == ["/o.json", STATUS, *OWN]


async def test_passing_trouble_is_raised_as_it_is() -> None:
    """A 5xx is no refusal: no other way is tried, and it can be asked again."""
    async with LocalApi(always(status=503, text="")) as api, client_of(api.url) as client:
        with pytest.raises(ServerError):
            await client.fetch_output("J", JobOutput("/o.json"))
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/o.json",
        "data:application/json,{}",
        "http://192.0.2.1/o.json",
        "http://0.0.0.0:{port}/bucket/o.json",
        "http://127.0.0.1.example.com/o.json",
        "//0.0.0.0:{port}/bucket/o.json",
        "//user:password@127.0.0.1:{port}/bucket/o.json",
        "http://[/o.json",
        "https://127.0.0.1:x/o.json",
        "https://127.0.0.1:99999/o.json",
        "https:///o.json",
    ],
)
async def test_refused_urls(url: str) -> None:
    """For a url that nobody may be sent to, the documented paths are tried; it is not asked."""
    answers = {STATUS: always({}, status=500), OWN[1]: always(body=BODY)}
    async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
        output = JobOutput(url.replace("{port}", str(api.port)), "o.json")
        answers[STATUS] = always(finished(output.url))
        assert await client.fetch_output("J", output) == BODY
        del answers[OWN[1]]
        with pytest.raises(OutputUnavailableError, match="url") as caught:
            await client.fetch_output("J", output)
    assert caught.value.status_code == 404
    assert [seen.path for seen in api.seen] == [STATUS, *OWN] * 2


@given(url=st.text(max_size=60) | st.from_regex(r"(https?:)?//[ -~\u0080-\u00ff]{0,30}"))
def test_any_url_is_taken_or_refused(url: str) -> None:
    """Whatever the API names as a url: an error of ours, or one that all readers agree on."""
    settings = ClientSettings(base_url="https://api.example.com", token=Secret("t"), ca_bundle=None)
    transport = Transport(settings)
    try:
        parsed = download_url(transport.resolve(url))
    except PingDataError:
        return
    sent = URL(str(parsed), encoded=True)
    if transport.is_own(str(parsed)):
        assert (sent.host, sent.scheme, sent.port) == ("api.example.com", "https", 443)
    assert (urlsplit(str(parsed)).hostname or "").lower() == (sent.raw_host or "").lower()


@pytest.mark.parametrize("is_up", [True, False])
async def test_other_origin_is_out_of_order(is_up: bool) -> None:
    """Where another origin is down, own paths are tried; its own trouble is what is raised."""
    async with contextlib.AsyncExitStack() as stack:
        other = LocalApi(always(status=502, text=""))
        async with LocalApi(always()) as gone:
            url = f"{gone.url}/o.json"
        if is_up:
            url = f"{(await stack.enter_async_context(other)).url}/o.json"
        answers = {STATUS: always(finished(url)), OWN[0]: always(body=BODY)}
        api = await stack.enter_async_context(LocalApi(by_path(answers)))
        client = await stack.enter_async_context(client_of(api.url))
        assert await client.fetch_output("J", JobOutput(url)) == BODY
        del answers[OWN[0]]
        with pytest.raises(ServerError if is_up else TransportError):
            await client.fetch_output("J", JobOutput(url))
    assert [seen.path for seen in api.seen] == [STATUS, OWN[0], STATUS, *OWN]


async def test_401_of_another_origin_after_a_redirect() -> None:
    """A storage that the API redirects to and that refuses us says nothing about our token."""
    async with LocalApi(always(status=401, text="")) as storage:
        answers = {
            "/o.json": redirect(f"{storage.url}/o.json"),
            STATUS: always(finished("/o.json")),
            OWN[1]: always(body=BODY),
        }
        async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
            assert await client.fetch_output("J", JobOutput("/o.json", "o.json")) == BODY
        assert {seen.authorization for seen in storage.seen} == {None}


@pytest.mark.parametrize("status", [400, 403])
async def test_status_that_is_of_no_use(status: int) -> None:
    """Where the status cannot be asked either, the documented paths are tried all the same."""
    answers = {STATUS: always({}, status=status), OWN[1]: always(body=BODY)}
    async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
        assert await client.fetch_output("J", JobOutput("/expired", "o.json")) == BODY
        del answers[OWN[1]]
        with pytest.raises(OutputUnavailableError) as caught:
            await client.fetch_output("J", JobOutput("/expired", "o.json"))
    assert (caught.value.job_status, caught.value.is_job_unknown) == (None, False)


async def test_fresh_link_of_an_only_output_with_another_name() -> None:
    """A job with one output needs no matching name."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            return web.Response(status=404)
        if request.path == STATUS:
            return web.json_response(finished("/new", filename="renamed.json"))
        return web.Response(body=BODY)

    async with LocalApi(answer) as api, client_of(api.url) as client:
        assert await client.fetch_output("J", JobOutput("/old", "o.json")) == BODY
    assert [seen.path for seen in api.seen] == ["/old", STATUS, "/new"]
