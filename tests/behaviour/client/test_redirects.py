"""Redirects: of an API call an error, of a download followed a few hops."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin

import pytest
from aiohttp import web

from pingdata_async import (
    APIStatusError,
    JobOutput,
    OutputUnavailableError,
    PingDataClient,
    PingDataError,
    UnexpectedRedirectError,
)
from tests.support.servers import TOKEN, LocalApi, always, by_path, client_of, redirect

CALLS: dict[str, Callable[[PingDataClient], Awaitable[object]]] = {
    "submit": lambda client: client.submit([{"id": "0"}], sources=["PG"]),
    "status": lambda client: client.status("J"),
    "enhance": lambda client: client.enhance("1 Main St", sources=["PG"]),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_api_calls_do_not_follow(
    call: Callable[[PingDataClient], Awaitable[object]], status: int
) -> None:
    """A redirected API call is an error that names its target; the target hears nothing."""
    async with LocalApi(always({"id": "J"})) as target:
        answer = redirect(f"{target.url}/login?next=SECRET", status)
        async with LocalApi(answer) as api, client_of(api.url) as client:
            with pytest.raises(UnexpectedRedirectError) as caught:
                await call(client)
            assert f"{target.url}/login" in str(caught.value)
            assert str(status) in str(caught.value)
            assert "SECRET" not in str(caught.value)
            assert caught.value.maybe_sent is False
            assert len(api.seen) == 1
        assert target.seen == []


@pytest.mark.parametrize("target", ["http://[", "//[::1", "https://h:port/", ""])
async def test_redirect_of_an_api_call_to_nonsense(target: str) -> None:
    """A target that is no url is an error of ours too."""
    async with LocalApi(redirect(target)) as api, client_of(api.url) as client:
        with pytest.raises(UnexpectedRedirectError):
            await client.status("J")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_downloads_follow(status: int) -> None:
    """Every kind of redirect is followed with a GET, relative targets included."""
    below = "/api/v1/sov/J/output/"
    answers = by_path({below + "a": redirect("b?x=1", status), below + "b": always({"0": {}})})
    async with LocalApi(answers) as api, client_of(api.url) as client:
        assert await client.fetch_output("J", JobOutput(below + "a")) == b'{"0": {}}'
    asked = [(seen.method, seen.target) for seen in api.seen]
    assert asked == [("GET", below + "a"), ("GET", below + "b?x=1")]
    assert {seen.authorization for seen in api.seen} == {f"Token {TOKEN}"}


async def hops(request: web.Request) -> web.StreamResponse:
    if request.path.startswith("/api/"):
        return web.json_response({}, status=404)
    left = int(request.path.strip("/"))
    if left == 0:
        return web.json_response({})
    return web.Response(status=302, headers={"Location": f"/{left - 1}"})


async def test_five_hops_are_followed_and_no_more() -> None:
    """Five redirects lead to the file, a sixth is an error."""
    async with LocalApi(hops) as api, client_of(api.url) as client:
        assert await client.fetch_output("J", JobOutput("/5")) == b"{}"
        assert len(api.seen) == 6
        with pytest.raises(OutputUnavailableError, match="more than 5 redirects"):
            await client.fetch_output("J", JobOutput("/6"))
        hops_seen = [seen.path for seen in api.seen if not seen.path.startswith("/api/")]
        assert len(hops_seen) == 12


async def test_a_loop_of_redirects_ends() -> None:
    """A redirect to itself does not go on forever."""
    answer = by_path({"/again": redirect("/again")})
    async with LocalApi(answer) as api, client_of(api.url, max_connections=1) as client:
        with pytest.raises(OutputUnavailableError, match="redirects"):
            await client.fetch_output("J", JobOutput("/again"))
    assert [seen.path for seen in api.seen].count("/again") == 6


@pytest.mark.parametrize(
    "target",
    [
        "http://192.0.2.1/o.json",
        "file:///etc/passwd",
        "ftp://127.0.0.1/o",
        "http://0.0.0.0:{port}/",
    ],
)
async def test_downloads_do_not_follow_off_https(target: str) -> None:
    """A download redirected to plain http or to another scheme is not followed."""
    async with LocalApi(always({})) as other:
        to = target.format(port=other.port)
        answer = by_path({"/o.json": redirect(to)})
        async with LocalApi(answer) as api, client_of(api.url) as client:
            with pytest.raises(OutputUnavailableError, match="neither https nor on this machine"):
                await client.fetch_output("J", JobOutput("/o.json"))
        assert other.seen == []


@pytest.mark.parametrize("target", ["http://[", "https://h:port/", "https://", "http://:80/"])
async def test_downloads_redirected_to_nonsense(target: str) -> None:
    """A target that cannot be a url is an error of ours, and nothing of it is sent."""
    answer = by_path({"/o.json": redirect(target)})
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(OutputUnavailableError):
            await client.fetch_output("J", JobOutput("/o.json"))


async def test_redirect_without_a_target() -> None:
    """A redirect that names no target is an error, of a download too."""
    async with LocalApi(always(status=302, text="")) as api, client_of(api.url) as client:
        with pytest.raises(UnexpectedRedirectError):
            await client.fetch_output("J", JobOutput("/o.json"))


@pytest.mark.parametrize("status", [300, 304, 305])
async def test_other_3xx_are_refusals(status: int) -> None:
    """A 3xx that is no redirect is not taken for a success."""
    async with LocalApi(always(status=status, text="")) as api, client_of(api.url) as client:
        with pytest.raises(APIStatusError, match=str(status)):
            await client.status("J")


PAID = "/api/v1/enhance?address=1+Main+St&sources=PG"
DISGUISED = [
    PAID,
    "//{host}" + PAID,
    "/api/v1/%65nhance?address=1",
    "/api/v1/%2565nhance?address=1",
    "/API/v1/Enhance/?address=1",
    "/api//v1//enhance?address=1",
    "/api/v1/enhance;/output/x?address=1",
    "/api/v1/enhance/output/x?address=1",
    "/api/v1/sov/J/output/../../../enhance?address=1",
    "/api/v1/sov/J/output/..%2f..%2F..%2Fenhance?address=1",
    "/api/v1/sov/J/output/%252e%252e/%252e%252e/%252e%252e/enhance?address=1",
    "/api/v1/sov/J/output/..;/..;/..;/enhance?address=1",
    "/api/v1/sov/J/output/..\\..\\..\\enhance?address=1",
    "/x/../api/v1/enhance?address=1",
    "/prefix/api/v1/enhance?address=1",
    "/api/v1/limits",
    "/api/v1/enhance%00/output/x?address=1",
    "/api/v1/sov/J/output/%u002e%u002e/%u002e%u002e/%u002e%u002e/enhance?address=1",
    "/api/v1/sov/J/output/%2525252e%2525252e/%2525252e%2525252e/enhance?address=1",
]


@pytest.mark.parametrize("way", ["url", "own redirect", "foreign redirect", "fresh url"])
async def test_no_output_url_leads_to_a_paid_endpoint(way: str) -> None:
    """However it is written, whoever names it: only outputs and the job's status are asked for."""
    answers = {"/api/v1/sov/J/output/gone.json": always(status=404, text="")}
    async with (
        LocalApi(by_path(answers)) as api,
        LocalApi(by_path({})) as other,
        client_of(api.url) as client,
    ):
        for target in DISGUISED:
            paid = target.format(host=f"127.0.0.1:{api.port}")
            answers["/api/v1/sov/J/output/moved.json"] = redirect(paid)
            fresh = {"outputs": [{"url": paid, "filename": "o.json"}], "status": "SUCCESS"}
            answers["/api/v1/bulk_enhance/J"] = always(
                {"request": {"status": "COMPLETE"}, "result": fresh if way == "fresh url" else None}
            )
            other.answer = redirect(urljoin(api.url, paid))
            url = {
                "url": paid,
                "own redirect": "/api/v1/sov/J/output/moved.json",
                "foreign redirect": f"{other.url}/o.json",
                "fresh url": "/api/v1/sov/J/output/gone.json",
            }[way]
            with pytest.raises(PingDataError):
                await client.fetch_output("J", JobOutput(url, "o.json"))
    asked = {seen.target for seen in api.seen}
    assert asked <= {
        "/api/v1/bulk_enhance/J",
        "/api/v1/sov/J/output/o.json",
        "/api/v1/bulk_enhance/J/output/o.json",
        "/api/v1/sov/J/output/gone.json",
        "/api/v1/sov/J/output/moved.json",
    }


async def test_no_token_after_a_foreign_hop() -> None:
    """Where another host has had a say, the way back to the API is gone without the token."""
    below = "/api/v1/sov/J/output/"
    answers = by_path({below + "b.json": always({"0": {}})})
    async with LocalApi(answers) as api, LocalApi(redirect(f"{api.url}{below}b.json")) as other:
        api_answers = {
            below + "a.json": redirect(f"{other.url}/x"),
            below + "b.json": always({"0": {}}),
        }
        api.answer = by_path(api_answers)
        async with client_of(api.url) as client:
            await client.fetch_output("J", JobOutput(below + "a.json"))
    shown = [(seen.path.rpartition("/")[2], seen.authorization) for seen in api.seen]
    assert shown == [("a.json", f"Token {TOKEN}"), ("b.json", None)]
    assert [seen.authorization for seen in other.seen] == [None]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/sov/J/output/o.json", True),
        ("/api/v1/bulk_enhance/J/output/o.json?x=1", True),
        ("/prefix/api/v1/bulk_enhance/J/output/bulk_enhance_J.json", True),
        ("/api/v2/jobs/J/outputs/1/a%20b.json", True),
        ("/api/v1/sov/J/output/enhanced.json", True),
        ("/api/v1/sov/J/output/100%25.json", True),
        ("/api/v1/sov/J/output/100%.json", True),
        ("/api/v1/sov/J/output/50%2520off%2525%25.json", True),
        ("/media/o.json?signature=1", False),
        ("/output/", False),
        ("/output", False),
    ],
)
async def test_which_own_paths_are_shown_the_token(path: str, shown: bool) -> None:
    """Those of outputs; any other is fetched as a stranger, as it may be signed."""
    async with LocalApi(always({})) as api, client_of(api.url) as client:
        await client.fetch_output("J", JobOutput(path))
    assert [seen.authorization for seen in api.seen] == [f"Token {TOKEN}" if shown else None]


@pytest.mark.parametrize("filename", ["100%.json", "100%25.json", "50%20off %zz.json"])
async def test_a_percent_sign_in_a_name_is_one(filename: str) -> None:
    """Also by the documented path, where the url itself is gone."""
    path = f"/api/v1/sov/J/output/{filename}"
    async with LocalApi(by_path({path: always({"0": {}})})) as api, client_of(api.url) as client:
        await client.fetch_output("J", JobOutput("/gone.json", filename))
    assert api.seen[-1].authorization == f"Token {TOKEN}"


async def test_words_of_the_base_url_say_nothing_of_what_is_asked_for() -> None:
    """A gateway may call itself as a paid endpoint is called, or as outputs are."""
    paid = "/output/of/us/api/v1/enhance?address=1"
    for base, url in (("/enhance/v1", "api/v1/sov/J/output/o.json"), ("/output/of/us", paid)):
        async with LocalApi(always({})) as api, client_of(api.url + base) as client:
            with contextlib.suppress(PingDataError):
                await client.fetch_output("J", JobOutput(url, "o.json"))
        assert [seen.path for seen in api.seen if "/enhance" in seen.path.removeprefix(base)] == []
        assert api.seen[-1].authorization == f"Token {TOKEN}"
