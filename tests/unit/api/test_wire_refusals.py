"""Error answers: each status its own error, with what the API said."""

from __future__ import annotations

import json
import pickle
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pingdata_async import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from pingdata_async.api.wire import (
    LONGEST_RETRY_AFTER_S,
    error_message,
    parse_retry_after,
    saying_when,
    status_error,
)
from pingdata_async.util.text import shown_url
from tests.support.servers import LocalApi, always, client_of

KINDS: list[tuple[int, type[APIStatusError]]] = [
    (400, RequestRejectedError),
    (401, AuthenticationError),
    (402, AccessDeniedError),
    (403, AccessDeniedError),
    (404, NotFoundError),
    (405, RequestRejectedError),
    (410, NotFoundError),
    (413, RequestRejectedError),
    (422, RequestRejectedError),
    (429, RateLimitError),
    (500, ServerError),
    (502, ServerError),
    (503, ServerError),
    (504, ServerError),
    (520, ServerError),
]
NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


async def refusal_of(status: int, payload: object = None, **options: object) -> APIStatusError:
    async with (
        LocalApi(always(payload, status=status, **options)) as api,
        client_of(api.url) as client,
    ):
        with pytest.raises(APIStatusError) as by_get:
            await client.status("J")
        with pytest.raises(APIStatusError) as by_post:
            await client.submit([{"id": "0"}], sources=["PG"])
    assert len(api.seen) == 2
    assert type(by_get.value) is type(by_post.value)
    assert str(by_get.value).isprintable()
    return by_get.value


@pytest.mark.parametrize(("status", "kind"), KINDS)
async def test_each_status_is_its_own_error(status: int, kind: type[APIStatusError]) -> None:
    """The error has the status, the request and the API's message in it."""
    error = await refusal_of(status, {"id": "u-1", "message": "as the API says"})
    assert type(error) is kind
    assert error.status_code == status
    assert error.api_message == "as the API says"
    assert f"/api/v1/bulk_enhance/J answered {status}: as the API says" in str(error)


@pytest.mark.parametrize("status", [402, 403])
@pytest.mark.parametrize(
    ("message", "is_quota"),
    [
        ("Daily quota exceeded for PH", True),
        ("monthly limit", True),
        ("out of credits", True),
        ("Limit exceeded", True),
        ("source PH is not on your allowlist", False),
        ("accreditation needed", False),
        ("", False),
    ],
)
async def test_spent_quota(status: int, message: str, is_quota: bool) -> None:
    """A 402 or 403 that names a spent quota is told from one that forbids."""
    error = await refusal_of(status, {"message": message})
    assert isinstance(error, AccessDeniedError)
    assert isinstance(error, QuotaExceededError) is is_quota


@pytest.mark.parametrize(
    ("message", "is_quota"),
    [
        ("Daily quota exceeded", True),
        ("monthly limit reached for PH", True),
        ("You have used your maximum of 10,000 requests per day", True),
        ("limit of 500 locations a month", True),
        ("Request was throttled. Expected available in 1 second.", False),
        ("Rate limit exceeded: 30 requests per second", False),
        ("Quota exceeded for quota metric 'requests per minute'", False),
        ("Limit of 60 requests per minute (10000 per day) exceeded", False),
        ("the day is long", False),
        ("", False),
    ],
)
async def test_a_429_of_a_long_quota_is_told_from_one_to_slow_down(
    message: str, is_quota: bool
) -> None:
    """Only a daily or monthly quota is no reason to try again soon."""
    error = await refusal_of(429, {"message": message})
    assert type(error) is (QuotaExceededError if is_quota else RateLimitError)


@pytest.mark.parametrize(
    ("message", "headers", "at"),
    [
        ("daily quota", {}, datetime(2024, 5, 2, tzinfo=UTC)),
        ("monthly quota", {}, datetime(2024, 6, 1, tzinfo=UTC)),
        ("daily quota", {"Retry-After": "90"}, datetime(2024, 5, 1, 12, 1, 30, tzinfo=UTC)),
        ("out of credits", {}, None),
    ],
)
def test_when_it_can_go_on_is_known(
    message: str, headers: dict[str, str], at: datetime | None
) -> None:
    """By the API's own clock: the time it names, or the end of the quota's day or month."""
    headers = {"Date": format_datetime(NOW, usegmt=True)} | headers
    error = status_error(403, "POST x", message, headers)
    assert error.available_at == at
    said = str(saying_when(error))
    assert said == f"{error}; it can go on at {at:%Y-%m-%d %H:%M} UTC" if at else said == str(error)
    copied = pickle.loads(pickle.dumps(saying_when(error)))
    assert (type(copied), copied.available_at) == (type(error), at)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", ""),
        (b'{"message": "m", "detail": "d"}', "m"),
        (b'{"message": "", "detail": "d"}', "d"),
        (b'{"error": {"code": 7}}', '{"code":7}'),
        (b'{"detail": ["a", "b"]}', '["a","b"]'),
        (b'{"code": 7}', '{"code":7}'),
        (b'"text"', "text"),
        (b"plain text\n", "plain text"),
        (b"<html><style>p{}</style><h1>502</h1>\n<p>Bad\tGateway</html>", "502 Bad Gateway"),
        (b"<script>evil()</script>hello<script>never closed", "hello"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (b'{"message": "\xff"}', '{"message": "\ufffd"}'),
        (b"\x1b[31mred\x1b]0;title\x07 \xe2\x80\xae", "[31mred ]0;title"),
        (b'{"message": "\\u001b[2Jcleared\\r\\nsecond line"}', "[2Jcleared second line"),
    ],
)
def test_what_an_error_body_says(body: bytes, said: str) -> None:
    """JSON, HTML and text give one line, without markup and without control characters."""
    assert error_message(body) == said


async def test_long_error_pages_are_shortened() -> None:
    """A long page gives a few lines at most."""
    page = "<html><body>" + "<p>Service unavailable \x1b[5m</p>" * 10_000
    error = await refusal_of(503, text=page)
    assert error.api_message.startswith("Service unavailable [5m Service")
    assert len(error.api_message) == 300
    assert len(str(error)) < 450


@pytest.mark.parametrize("unit", [b"<", b"<script>", b"<style ", b"</", b"[", b'{"a":'])
def test_hostile_pages_take_no_time(unit: bytes) -> None:
    """No page can hold up the event loop: whatever it repeats, its text is found at once."""
    began = time.thread_time()  # of this thread alone: the machine may be busy
    assert len(error_message(unit * (65536 // len(unit)))) <= 300
    assert time.thread_time() - began < 0.5


@given(body=st.binary(max_size=100) | st.text(max_size=50).map(lambda t: json.dumps(t).encode()))
def test_any_error_body_gives_one_line(body: bytes) -> None:
    """No body of an error makes another error."""
    text = error_message(body)
    assert text.isprintable()
    assert len(text) <= 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("soon", None),
        ("1e9", None),
        ("nan", None),
        ("9" * 400, None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Wed, 01 May 2024 14:01:00 +0200", 60.0),
        ("Wed, 99 May 2024 12:00:00 GMT", None),
        ("Wed, 01 May 2024", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int, value: str | None, seconds: float | None) -> None:
    """Seconds, or a date by the server's own clock; garbage counts as nothing."""
    headers = {"Date": format_datetime(NOW, usegmt=True)}
    if value is not None:
        headers["Retry-After"] = value
    error = await refusal_of(status, {"message": "slow down"}, headers=headers)
    assert error.retry_after_s == seconds


@given(value=st.text(max_size=40), date=st.none() | st.text(max_size=40))
def test_any_retry_after(value: str, date: str | None) -> None:
    """Whatever the headers hold, the answer is None or a time that can be waited."""
    headers = {"Retry-After": value} | ({} if date is None else {"Date": date})
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_S


def test_retry_after_date_without_the_servers_clock() -> None:
    """Where the answer does not say what time it is, our own clock has to do."""
    later = datetime.now(UTC) + timedelta(hours=1)
    seconds = parse_retry_after({"Retry-After": format_datetime(later, usegmt=True)})
    assert seconds is not None
    assert 3_500 < seconds <= 3_600


@pytest.mark.parametrize(
    "value", ["Mon, 01 Jan 2024 00:01:00 +99999999999999", "1 Jan " + "9" * 20, "60;", "-5", "inf"]
)
def test_retry_after_that_means_nothing(value: str) -> None:
    """Whatever a server writes there, no error of Python's own comes of it."""
    assert parse_retry_after({"Retry-After": value}) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5, 5", 5.0),
        ("5,60", 60.0),
        ("5s", 5.0),
        ("5 seconds", 5.0),
        ("Wed, 01 May 2024 12:02:00 GMT", 120.0),
        ("Wednesday, 01-May-24 12:02:00 GMT", 120.0),
        ("Wed May  1 12:02:00 2024", 120.0),
        ("Wed, 01 May 2024 12:02:00 GMT, Wed, 01 May 2024 12:03:00 GMT", 180.0),
        (f"{NOW.timestamp() + 30:.0f}", 30.0),
        (f"{1000 * NOW.timestamp() + 30_000:.0f}", 30.0),
        (f"{NOW.timestamp() - 30:.0f}", 0.0),
        (f"{31 * 86_400}", 31 * 86_400.0),
        ("31536000", None),
        ("9" * 12, None),
        ("9" * 400, None),
        ("Wed, 01 May 2124 12:02:00 GMT", None),
    ],
)
def test_what_servers_write_into_retry_after(value: str, seconds: float | None) -> None:
    """Lists, units, all forms of dates and Unix time are read; years are no time to wait for."""
    headers = {"Date": format_datetime(NOW, usegmt=True), "retry-after": value}
    assert parse_retry_after(headers) == seconds


def test_the_longest_of_several_retry_after_counts() -> None:
    """A gateway may add its own to the server's."""
    headers = CIMultiDict([("Retry-After", "5"), ("Retry-After", "60"), ("Retry-After", "7")])
    assert parse_retry_after(headers) == 60.0


@given(url=st.text(max_size=80))
def test_any_url_can_be_shown(url: str) -> None:
    """A url in a message is one line, whatever it holds."""
    assert shown_url(url).isprintable()


def test_shown_urls() -> None:
    """Neither user nor query is shown, and no endless path."""
    assert shown_url("https://me:pw@host:1/a?sig=x#y") == "https://host:1/a"
    assert len(shown_url("https://host/" + "a" * 1000)) == 200
