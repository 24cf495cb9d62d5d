"""From an error answer to the error it means (pure)."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from pingdata_async.byte_order_mark import without_bom
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    UnknownSourceError,
)
from pingdata_async.plurals import counted
from pingdata_async.secrecy import masked

_QUOTA_WORDS = re.compile(
    r"\b(quotas?|credits?|(daily|monthly|usage|plan)\s+limits?|limit\s+(exceeded|reached))\b",
    re.IGNORECASE,
)

# A 429 that says so is no "slow down": of a minute's quota it is.
_PERIOD = re.compile(
    r"\b(?:(?P<day>daily|(?:per|a|this|the|each|every|one|1|24)[- /](?:day|hours)|/day|today)"
    r"|(?P<month>monthly|(?:per|a|this|the|each|every|one|1|30)[- /](?:months?|days)|/month))\b",
    re.IGNORECASE,
)
_SHORT_PERIOD = re.compile(
    r"(\b(per|a|each|every)[- ]|/ ?)(s|sec|seconds?|min|minutes?|h|hours?)\b", re.IGNORECASE
)
_ALLOWANCE = re.compile(r"\b(quotas?|credits?|limits?|limited|allowance|maximum)\b", re.IGNORECASE)

# Within one sentence, in either order.
_UNKNOWN_SOURCE = re.compile(
    r"\b(unknown|invalid|unsupported|unrecogni[sz]ed|no such|not an? (valid|known))\b"
    r"[^.]{0,40}\b(data)?sources?\b"
    r"|\b(data)?sources?\b[^.]{0,40}\b(unknown|invalid|unsupported|unrecogni[sz]ed|"
    r"not (an? )?(valid|known|found|supported|recogni[sz]ed|available)|does not exist)",
    re.IGNORECASE,
)

LONGEST_RETRY_AFTER_S = 31 * 86_400.0  # the longest window of a quota: a month
_NEAR_UNIX_TIME_S = 10 * 365 * 86_400.0  # a number that close to the present moment names one
_NUMBER = re.compile(r"(\d{1,20}(?:\.\d{0,20})?)\s*(?:s|secs?|seconds?)?", re.ASCII | re.IGNORECASE)
# The comma after the day of the week is a part of a date; any other begins another value.
_DATES_AND_NUMBERS = re.compile(r"[a-z]{3,9}\s*,[^,]*|[^,]+", re.IGNORECASE)

# Once begun, neither alternative searches the rest of the page in vain: one of nothing but
# "<" would otherwise hold up the event loop for seconds.
_MARKUP = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL)


def status_error(
    status: int, what: str, api_message: str, headers: Mapping[str, str]
) -> APIStatusError:
    """The error for a status; its message holds what was asked and what the API said."""
    kind: type[APIStatusError]
    if status == 401:  # noqa: PLR2004 - HTTP statuses read best as numbers
        kind = AuthenticationError
    elif status in {402, 403}:
        kind = QuotaExceededError if _QUOTA_WORDS.search(api_message) else AccessDeniedError
    elif status in {404, 410}:
        kind = NotFoundError
    elif status == 429:  # noqa: PLR2004
        kind = QuotaExceededError if _names_quota(api_message) else RateLimitError
    elif status >= 500:  # noqa: PLR2004
        kind = ServerError
    else:
        is_source = _UNKNOWN_SOURCE.search(api_message)
        kind = UnknownSourceError if is_source else RequestRejectedError
    said = f": {api_message}" if api_message else ""
    retry_after_s = parse_retry_after(headers)
    return kind(
        f"{what} answered {status}{said}",
        status_code=status,
        api_message=api_message,
        retry_after_s=retry_after_s,
        available_at=_available_at(api_message, retry_after_s, headers),
    )


def _available_at(
    api_message: str, retry_after_s: float | None, headers: Mapping[str, str]
) -> dt.datetime | None:
    """When the API will take requests again, as far as that can be told."""
    try:
        now = _shown_date(headers) or _now()
        if retry_after_s is not None:
            return now + dt.timedelta(seconds=retry_after_s)
        period = _PERIOD.search(api_message)
        if period is None or not _ALLOWANCE.search(api_message):
            return None
        # By the contract, quotas are of days and months of the calendar, by UTC.
        today = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if period["month"]:
            return (today.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        return today + dt.timedelta(days=1)
    except (ValueError, OverflowError):
        return None


def saying_when(error: PingDataError) -> PingDataError:
    """The same error; its message says when the API will take requests again, if that is known."""
    if not isinstance(error, APIStatusError):
        return error
    if error.available_at is not None:
        when = f"at {error.available_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    elif error.retry_after_s is not None:
        when = f"in {counted(round(error.retry_after_s), 'second')}"
    else:
        return error
    return type(error)(
        f"{error}; it can go on {when}",
        status_code=error.status_code,
        api_message=error.api_message,
        retry_after_s=error.retry_after_s,
        available_at=error.available_at,
    )


def _names_quota(api_message: str) -> bool:
    names_one = _PERIOD.search(api_message) and _ALLOWANCE.search(api_message)
    return bool(names_one and not _SHORT_PERIOD.search(api_message))


def error_message(body: bytes) -> str:
    """What an error body says: its JSON `message`, `detail` or `error`, or its text; one line."""
    body = without_bom(body)
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Masked first: a secret may hold what looks like markup.
        text = _MARKUP.sub(" ", masked(body.decode("utf-8", "replace")))
    else:
        said = decoded
        if isinstance(decoded, dict):
            said = next(
                (decoded[k] for k in ("message", "detail", "error") if decoded.get(k)), decoded
            )
        text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    text = one_line(text)
    return text if len(text) <= 300 else text[:297] + "..."  # noqa: PLR2004 - a line or three


def one_line(text: str) -> str:
    """A text on one line, without secrets, and nothing that would steer the reader's terminal."""
    return masked(" ".join("".join(c if c.isprintable() else " " for c in text).split()))


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After`; the longest where it names several.

    Understood are seconds, a date in any of the three forms of HTTP (reckoned from the answer's
    own `Date`), and a moment in seconds or milliseconds of Unix time. None where there is no such
    time, or it is further away than any window of an API: that is a slip of whoever wrote it.
    """
    now = _shown_date(headers) or _now()
    named = [
        seconds
        for name, value in headers.items()
        if name.lower() == "retry-after"
        for part in _DATES_AND_NUMBERS.findall(value)
        if (seconds := _seconds_named(part.strip(), now)) is not None
    ]
    return max(named, default=None)


def _seconds_named(text: str, now: dt.datetime) -> float | None:
    number = _NUMBER.fullmatch(text)
    try:
        if number is None:
            # The server's clock, not ours, where it shows it: they may disagree by minutes.
            seconds = (_http_date(text) - now).total_seconds()
        else:
            seconds = float(number[1])
            for unix_s in (seconds, seconds / 1000.0):
                if abs(unix_s - now.timestamp()) <= _NEAR_UNIX_TIME_S:
                    seconds = unix_s - now.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if seconds <= LONGEST_RETRY_AFTER_S else None


def _shown_date(headers: Mapping[str, str]) -> dt.datetime | None:
    try:
        return _http_date(headers.get("Date", ""))
    except (ValueError, TypeError, OverflowError):
        return None


def _http_date(value: str) -> dt.datetime:
    date = email.utils.parsedate_to_datetime(value)
    return date if date.tzinfo else date.replace(tzinfo=dt.UTC)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def shown_url(url: str) -> str:
    """A url for people: no user, no query (signed urls carry their key there), not endless."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a url that cannot be read)"
    text = masked(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 200 else text[:197] + "..."  # noqa: PLR2004 - fits a log line
