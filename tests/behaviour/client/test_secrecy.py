"""What must never get out: the token, to anyone but the API's own origin."""

from __future__ import annotations

import base64
import contextlib
import logging
import traceback

import pytest

from pingdata_async import (
    AuthenticationError,
    ConfigurationError,
    JobOutput,
    NotFoundError,
    OutputUnavailableError,
    PingDataClient,
    PingDataError,
    TransportError,
)
from tests.support.servers import (
    TOKEN,
    Answer,
    LocalApi,
    always,
    by_path,
    client_of,
    drop,
    raw_server,
    redirect,
    says,
)

OUTPUT_URL = "/api/v1/sov/J/output/o.json"


def shown(error: BaseException) -> str:
    """All that a log or a terminal would get of an error, its causes included."""
    return "".join([repr(error), str(error), *traceback.format_exception(error)])


@pytest.mark.parametrize(
    "answer",
    [
        always({"message": f"the token {TOKEN} is not known"}, status=401),
        always({"message": f"{TOKEN} may not"}, status=403),
        always(text=f"<p>you sent Authorization: Token {TOKEN}</p>", status=500),
        always(text=f"Authorization: Token {TOKEN}"),
        always({"id": None, "echo": TOKEN}),
        redirect("https://example.com/login"),
        drop,
    ],
)
async def test_errors_mask_the_token(answer: Answer) -> None:
    """Whatever goes wrong, no error shows the token, not even where the server echoes it."""
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(PingDataError) as caught:
            await client.status("J")
        assert TOKEN not in shown(caught.value)
        with pytest.raises(PingDataError) as caught:
            await client.submit([{"id": "0"}], sources=["PG"])
        assert TOKEN not in shown(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: Authorization: Token " + TOKEN.encode() + b"\x00\r\n\r\n",
        b"Authorization: Token " + TOKEN.encode() + b"\r\n\r\n",
    ],
)
async def test_answers_that_are_no_http_show_no_token(answer: bytes) -> None:
    """Not even where a broken server sends our own request back as its answer."""
    async with raw_server(says(answer)) as server, client_of(server.url) as client:
        with pytest.raises(PingDataError) as caught:
            await client.status("J")
    assert TOKEN not in shown(caught.value)
    assert TOKEN not in repr(caught.value.__cause__)


async def test_reprs_mask_the_token() -> None:
    """A client's repr names the host and the state, not the token."""
    async with LocalApi(always()) as api:
        client = client_of(api.url)
        assert "closed" in repr(client)
        async with client:
            assert repr(client) == f"<PingDataClient {api.url} open>"
        assert TOKEN not in repr(client)


async def test_logs_mask_the_token(caplog: pytest.LogCaptureFixture) -> None:
    """At level DEBUG, no logger of the process writes the token."""
    caplog.set_level(logging.DEBUG)
    answers = by_path({OUTPUT_URL: always({}), "/api/v1/bulk_enhance": always({"id": "J"})})
    async with LocalApi(answers) as api, client_of(api.url, max_connections=1) as client:
        await client.submit([{"id": "0"}], sources=["PG"])
        await client.fetch_output("J", JobOutput(OUTPUT_URL))
        with pytest.raises(NotFoundError):
            await client.status("unknown")
    assert TOKEN not in caplog.text


async def test_another_port_is_another_origin() -> None:
    """An output on the same host but another port is fetched without the token."""
    async with (
        LocalApi(always({"0": {}})) as other,
        LocalApi(always()) as api,
        client_of(api.url) as client,
    ):
        await client.fetch_output("J", JobOutput(f"{other.url}/o.json"))
    assert [seen.authorization for seen in other.seen] == [None]
    assert api.seen == []


@pytest.mark.parametrize("lookalike", ["localhost", "127.0.0.1.", "user@127.0.0.2"])
async def test_another_name_is_another_origin(lookalike: str) -> None:
    """The same machine under another name is not shown the token."""
    async with LocalApi(by_path({})) as api, client_of(api.url) as client:
        # The name may not work on this machine: then nothing is sent to it at all.
        with contextlib.suppress(TransportError, OutputUnavailableError):
            await client.fetch_output("J", JobOutput(f"http://{lookalike}:{api.port}/bucket/o"))
    shown = {seen.path for seen in api.seen if seen.authorization == f"Token {TOKEN}"}
    assert "/bucket/o" not in shown


async def test_own_origin_written_otherwise_gets_the_token() -> None:
    """Upper case in scheme or host does not make another origin."""
    async with LocalApi(always({})) as api:
        url = api.url.replace("127.0.0.1", "localhost")
        async with client_of(url) as client:
            await client.fetch_output("J", JobOutput(f"HTTP://LOCALHOST:{api.port}{OUTPUT_URL}"))
    assert api.seen[0].authorization == f"Token {TOKEN}"


async def test_redirected_download_leaves_the_token_at_home() -> None:
    """The own origin's redirect to storage is followed without the token, and without cookies."""
    async with LocalApi(always({"0": {}})) as storage:
        target = f"{storage.url}/signed?sig=1"
        async with LocalApi(redirect(target)) as api, client_of(api.url) as client:
            await client.fetch_output("J", JobOutput(OUTPUT_URL))
        assert [seen.authorization for seen in api.seen] == [f"Token {TOKEN}"]
        assert [seen.authorization for seen in storage.seen] == [None]


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1", "http://0.0.0.0:{port}", "http://example.com", "http://10.0.0.1/x"]
)
async def test_plain_http_is_refused_before_anything_is_sent(url: str) -> None:
    """The token never goes over plain http, except to this machine."""
    async with LocalApi(always()) as api:
        with pytest.raises(ConfigurationError, match="plain http"):
            async with client_of(url.format(port=api.port)):
                pass
    assert api.seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_plain_http_to_this_machine_is_taken(host: str) -> None:
    """A sandbox on this machine needs no certificate."""
    async with (
        LocalApi(always({"id": "J"})) as api,
        client_of(f"http://{host}:{api.port}/") as client,
    ):
        assert await client.submit([{"id": "0"}], sources=["PG"]) == "J"


async def test_401_names_the_other_published_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a named environment, a refused token brings up the API's other host."""
    async with LocalApi(always({"id": "u", "message": "no such token"}, status=401)) as api:
        monkeypatch.setattr("pingdata_async.api.config.ENVIRONMENTS", {"prod": (api.url, "PRD")})
        for environment in (None, "prod"):
            async with PingDataClient(environment=environment, auth_token=TOKEN) as client:
                with pytest.raises(AuthenticationError, match="no such token") as caught:
                    await client.status("J")
            assert "--api-url https://api.pingintel.com" in str(caught.value)
            assert caught.value.status_code == 401
            assert caught.value.api_message == "no such token"


async def test_401_of_a_given_url_names_no_other_host() -> None:
    """Whoever gave a url is not sent to another host."""
    async with LocalApi(always({"message": "no"}, status=401)) as api, client_of(api.url) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.status("J")
    assert "pingintel.com" not in str(caught.value)


@pytest.mark.parametrize("answer", [always(status=500, text=""), always(status=404), drop])
async def test_errors_do_not_show_the_query_of_a_signed_url(answer: Answer) -> None:
    """What a signed url carries in its query is in no message."""
    output = JobOutput("/o.json?sig=" + "SIGNATURE")
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(PingDataError) as caught:
            await client.fetch_output("J", output)
    assert "SIGNATURE" not in shown(caught.value)


ESCAPED = "".join(f"\\u{ord(character):04X}" for character in TOKEN)


@pytest.mark.parametrize(
    "answer",
    [
        always(text=f'{{"message": "the token {ESCAPED} is not known"}}', status=401),
        always(text=f'{{"detail": {{"your token": "{ESCAPED}"}}}}', status=422),
        always(text=f'{{"id": "{ESCAPED}"}}'),
        always({"id": f"job-of-{TOKEN}"}),
        always({"request": {"status": TOKEN}, "result": {"message": 3, "status": []}}),
        always({}, headers={"Content-Encoding": TOKEN}),
        always(status=500, text="", reason=f"no {TOKEN}"),
        redirect(f"https://{TOKEN}.example.com/login"),
        redirect(f"https://example.com/{'x' * 165}/{TOKEN}"),
        redirect(f"https://me:{TOKEN}@example.com/"),
    ],
)
async def test_an_echo_in_any_place_is_masked(answer: Answer) -> None:
    """Escaped, in a header, as a job's id, where a text is cut: what is shown is decoded first."""
    async with LocalApi(answer) as api, client_of(api.url) as client:
        for call in (client.status("J"), client.submit([{"id": "0"}], sources=["PG"])):
            with pytest.raises(PingDataError) as caught:
                await call
            assert TOKEN[:8].lower() not in shown(caught.value).lower()
            assert TOKEN[:8].lower() not in repr(caught.value.__cause__).lower()


async def test_what_a_status_says_is_masked() -> None:
    """It goes into events, journals and errors of rows."""
    said = {
        "request": {"status": f"failed {TOKEN}", "requested_at": TOKEN},
        "result": {"status": TOKEN, "message": f"the token {TOKEN} has no credits"},
    }
    async with LocalApi(always(said)) as api, client_of(api.url) as client:
        status = await client.status("J")
    assert status.message == "the token *** has no credits"
    assert TOKEN.lower() not in repr(status).lower()


async def test_what_a_source_says_is_masked_in_the_error() -> None:
    """Its object stays as the API sent it: it is the answer that was paid for."""
    location = {"PG": {"is_success": False, "error_message": f"{TOKEN} is not allowed"}}
    async with LocalApi(always({"location_data": location})) as api, client_of(api.url) as client:
        result = await client.enhance("1 Main St", sources=["PG"])
    assert result.error == "PG: *** is not allowed"
    assert result.location_data == location


async def test_a_proxy_that_speaks_no_http_gives_no_password_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its answer cannot be read as holds the proxy's url, password and all."""
    for answer in (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\nX\x00: 1\r\n\r\n", b""):
        async with raw_server(says(answer)) as server:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:hid%64en-word@127.0.0.1:{server.port}")
            async with client_of("https://api.example.test") as client:
                with pytest.raises(TransportError) as caught:
                    await client.status("J")
        error: BaseException | None = caught.value
        while error is not None:
            said = shown(error) + repr(error)
            assert "hidden-word" not in said
            assert "hid%64en-word" not in said
            error = error.__cause__


async def test_a_proxy_that_echoes_its_credentials_gives_no_password_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither as text, nor as its header holds them."""
    encoded = base64.b64encode(b"me:hidden-word").decode()
    for said in (encoded, "me:hidden-word", "hidden-word"):
        answer = f"HTTP/1.1 407 you sent Basic {said}\r\nContent-Length: 0\r\n\r\n".encode()
        async with raw_server(says(answer)) as server:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:hidden-word@127.0.0.1:{server.port}")
            async with client_of("https://api.example.test") as client:
                with pytest.raises(TransportError, match="refused with 407") as caught:
                    await client.status("J")
        assert "hidden" not in shown(caught.value)
        assert encoded[:-4] not in shown(caught.value)
