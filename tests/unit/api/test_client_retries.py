"""Questions that cost nothing are asked again; what may be paid for is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

import pingdata_async as ping
from pingdata_async.api import connections
from tests.support.servers import Answer, LocalApi, always, client_of, drop, redirect

Question = Callable[[ping.PingDataClient], Awaitable[object]]

GOOD = {
    "status": always({"request": {"status": "PENDING"}}),
    "limits": always({"allowlist": []}),
    "datasources": always({"configs": []}),
}
QUESTIONS: dict[str, Question] = {
    "status": lambda client: client.status("J"),
    "limits": lambda client: client.limits(),
    "datasources": lambda client: client.datasources(),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_PAUSE_S", 0.001)


def in_turn(*answers: Answer) -> Answer:
    """One after the other; the last one to all that follow."""
    left = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer


@pytest.mark.parametrize("what", QUESTIONS)
async def test_a_question_is_asked_again(what: str) -> None:
    """After an error of the server, a 429 and a connection that was cut."""
    answers = in_turn(always(status=502, text=""), always(status=429, text=""), drop, GOOD[what])
    async with LocalApi(answers) as api, client_of(api.url, max_retries=3) as client:
        await QUESTIONS[what](client)
    assert len(api.seen) >= 4  # aiohttp asks again by itself after a cut


@pytest.mark.parametrize(
    ("answer", "error", "requests"),
    [
        (always(status=500, text=""), ping.ServerError, 3),
        (always(status=401, text=""), ping.AuthenticationError, 1),
        (always(status=404, text=""), ping.NotFoundError, 1),
        (always(status=429, text="daily quota"), ping.PingDataError, None),
        (always(status=503, text="", headers={"Retry-After": "60"}), ping.ServerError, 1),
        (redirect("https://example.com/"), ping.UnexpectedRedirectError, 1),
        (always(text="[1"), ping.DecodeError, 1),
    ],
)
async def test_an_error_that_stays(
    answer: Answer, error: type[Exception], requests: int | None
) -> None:
    """It is raised at once where asking again is of no use, else after two more tries."""
    async with LocalApi(answer) as api, client_of(api.url, max_retries=2) as client:
        with pytest.raises(error):
            await client.status("J")
    assert requests in {None, len(api.seen)}


async def test_a_named_pause_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sooner than the API says."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("pingdata_async.api.connections.anyio.sleep", sleep)
    refused = always(status=429, text="", headers={"Retry-After": "7"})
    answers = in_turn(refused, always(status=500, text=""), GOOD["limits"])
    async with LocalApi(answers) as api, client_of(api.url, max_retries=2) as client:
        await client.limits()
    assert 7 <= pauses[0] < 8
    assert pauses[1] < 1


async def test_what_is_paid_for_is_sent_once() -> None:
    """A submission, and the synchronous endpoint."""
    answer = always(status=503, text="")
    async with LocalApi(answer) as api, client_of(api.url, max_retries=2) as client:
        for call in (
            client.submit([{"id": "0"}], sources=["PG"]),
            client.enhance("x", sources="PG"),
        ):
            with pytest.raises(ping.ServerError):
                await call
    assert len(api.seen) == 2


def test_a_number_of_retries_that_cannot_be() -> None:
    """It is refused at once."""
    with pytest.raises(ping.ConfigurationError, match="max_retries"):
        client_of("https://127.0.0.1:1", max_retries=-1)
