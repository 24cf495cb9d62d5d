"""Requests to bytes, answers to models, error answers to exceptions (pure).

Every documented reading of an answer is accepted.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict
from urllib.parse import urlsplit

import msgspec

from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    UnknownSourceError,
)
from pingdata_async.locations.fields import clean_sources
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.redaction import holds_secret, masked
from pingdata_async.util.text import counted, excerpt, is_page, one_line, without_bom
from pingdata_async.util.validation import check_amount, check_flag

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
        return resets_at("monthly" if period["month"] else "daily", now)
    except (ValueError, OverflowError):
        return None


def resets_at(window: str, now: dt.datetime) -> dt.datetime | None:
    """When a window of a quota begins anew, in UTC; None for one neither daily nor monthly."""
    today = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match window.casefold():
        case "daily":
            return today + dt.timedelta(days=1)
        case "monthly":
            return (today.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        case _:
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
    return error.reworded(f"{error}; it can go on {when}")


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


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After`; the longest where it names several.

    Understood are seconds, a date in any of the three forms of HTTP (reckoned from the answer's
    own `Date`), and a moment in seconds or milliseconds of Unix time. None where there is no such
    time, or it is further away than any window of an API: such a value is a mistake.
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


MAX_JOB_ID_CHARACTERS = 512  # they are opaque, but the API's are 36 long
MAX_STATUS_CHARACTERS = 100  # it is shown, and kept in logs
MAX_NUMBER = 2**53  # above it, readers of JSON disagree about a number; no count is as large


class _Submission(msgspec.Struct):
    id: str | int | None = None


_NOTHING = msgspec.Raw(b"null")


class _Request(msgspec.Struct):
    """Only the status is needed: nonsense elsewhere is read as nothing, each on its own."""

    status: str
    requested_at: msgspec.Raw = _NOTHING
    progress_started_at: msgspec.Raw = _NOTHING
    completed_at: msgspec.Raw = _NOTHING
    num_requested: msgspec.Raw = _NOTHING
    num_completed: msgspec.Raw = _NOTHING
    num_problems: msgspec.Raw = _NOTHING
    num_canceled: msgspec.Raw = _NOTHING


class _Result(msgspec.Struct):
    status: str | None = None
    message: msgspec.Raw = _NOTHING
    total_processing_time: msgspec.Raw = _NOTHING
    outputs: msgspec.Raw = _NOTHING
    sources: msgspec.Raw = _NOTHING


class _Status(msgspec.Struct):
    request: _Request
    result: _Result | None = None


class _Enhanced(msgspec.Struct):
    location_data: msgspec.Raw
    id: Any = None


_submission = msgspec.json.Decoder(_Submission)
_status = msgspec.json.Decoder(_Status)
_enhanced = msgspec.json.Decoder(_Enhanced)
_any_object = msgspec.json.Decoder(dict[str, Any])


class JobKeywords(TypedDict, total=False):
    """The options below as keyword arguments."""

    include_raw_response: bool
    source_timeout_s: float | None
    check_cache: bool
    delegate_to: str | None
    callback_url: str | None


class JobOptions(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"source_timeout_s": "timeout"},
):
    """The API's own options of a request, by the API's names when encoded.

    Attributes:
        include_raw_response: Whether answers hold what the source itself said.
        source_timeout_s: For each fetch from a source; None for the API's default.
        check_cache: False to have everything fetched afresh.
        delegate_to: Short name of the organisation to act for, which needs a permission; None for
            your own.
        callback_url: POSTed to by the API when a job is done; None for nobody.

    Raises:
        ConfigurationError: For an option that cannot be, or a text that is not Unicode.
    """

    include_raw_response: bool = False
    source_timeout_s: float | None = None
    check_cache: bool = True
    delegate_to: str | None = None
    callback_url: str | None = None

    def __post_init__(self) -> None:
        check_flag("include_raw_response", self.include_raw_response)
        check_flag("check_cache", self.check_cache)
        if self.source_timeout_s is not None:
            check_amount("source_timeout_s", self.source_timeout_s)
            msgspec.structs.force_setattr(self, "source_timeout_s", float(self.source_timeout_s))
        for name in ("delegate_to", "callback_url"):
            text = getattr(self, name) or None  # an empty text names nobody
            msgspec.structs.force_setattr(self, name, text)
            if text is not None:
                check_unicode(name, text)
        if self.callback_url is not None:
            _check_callback(self.callback_url)

    def given(self) -> dict[str, Any]:
        """Every option that is not left to the API's default, and both flags."""
        options: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in options.items() if value is not None}

    def encode(self, sources: Sequence[str]) -> bytes:
        """The part of a job's body beside its locations, as a JSON object.

        Raises:
            ConfigurationError: When a source's code is not Unicode.
        """
        codes = clean_sources(sources)
        for code in codes:
            check_unicode("sources", code)
        return msgspec.json.encode({"sources": codes, **self.given()})

    def query(self, fields: Mapping[str, Any], sources: Sequence[str]) -> list[tuple[str, str]]:
        """The query of the synchronous endpoint: a location's fields, and these options.

        The location's own `sources` are passed over for those given.

        Raises:
            ConfigurationError: When a text is not Unicode.
        """
        query = [(name, _query_text(value)) for name, value in fields.items() if name != "sources"]
        query += [("sources", code) for code in sources]
        options = self.given()
        if self.check_cache:  # the default of this endpoint
            del options["check_cache"]
        query += [(name, _query_text(value)) for name, value in options.items()]
        return checked_query(query)


def checked_query(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A query as it is; raises ConfigurationError when a text in it is not Unicode."""
    for name, text in query:
        check_unicode(name, text)
    return query


def check_unicode(name: str, text: str) -> None:
    """Refuse what no request can hold, such as bytes of a command that are not UTF-8.

    Raises:
        ConfigurationError: With the name.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{name} {text!r} holds what is not Unicode") from error


def _query_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _check_callback(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError("callback_url must be an http or https url with a host")


def decode_submission(body: bytes, what: str) -> str:
    """The job id in the answer to a submission.

    Raises:
        DecodeError: When there is none: a job was probably made all the same.
    """
    job_id = _decode(_submission, body, what).id
    job_id = "" if job_id is None else str(job_id)
    # It is written into urls, messages and files: what cannot be shown is none.
    if (
        not job_id.strip()
        or not job_id.isprintable()
        or len(job_id) > MAX_JOB_ID_CHARACTERS
        or holds_secret(job_id)
    ):
        raise DecodeError(f"{what}: the answer holds no job id: {excerpt(body)}")
    return job_id


def decode_status(body: bytes, what: str) -> JobStatus:
    """What the API says about a job; raises DecodeError when it is not a job's status."""
    decoded = _decode(_status, body, what)
    request, result = decoded.request, decoded.result or _Result()
    return JobStatus(
        status=_word(request.status),
        num_requested=_count(request.num_requested),
        num_completed=_count(request.num_completed),
        num_problems=_count(request.num_problems),
        num_canceled=_count(request.num_canceled),
        requested_at=_text(request.requested_at),
        progress_started_at=_text(request.progress_started_at),
        completed_at=_text(request.completed_at),
        result_status=None if result.status is None else _word(result.status),
        message=_text(result.message) or "",
        total_processing_time=_seconds(result.total_processing_time),
        outputs=tuple(_output(item) for item in _items(result.outputs, "url") if item.get("url")),
        sources=tuple(_items(result.sources, "source")),
    )


def decode_enhance(body: bytes, what: str) -> msgspec.Raw:
    """The `location_data` in the answer of the synchronous endpoint.

    Raises:
        DecodeError: When there is none.
    """
    enhanced: _Enhanced = _decode(_enhanced, body, what)
    try:
        str(enhanced.location_data, "utf-8")  # which `Raw` takes on trust
    except UnicodeDecodeError as error:
        raise DecodeError(f"{what}: the answer is not UTF-8 ({error})") from error
    return enhanced.location_data.copy()


def decode_object(body: bytes, what: str) -> dict[str, Any]:
    """Any JSON object; raises DecodeError when it is none."""
    decoded: dict[str, Any] = _decode(_any_object, body, what)
    return decoded


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes, what: str) -> Any:
    body = without_bom(body)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        kind = "an HTML page" if is_page(body) else excerpt(body)
        raise DecodeError(
            f"{what}: the answer is not what the API gives ({error}), but {kind}; "
            "is something between here and the API answering in its place?",
            is_page=is_page(body),
        ) from error


def _items(raw: msgspec.Raw, key: str) -> list[Mapping[str, Any]]:
    """Objects from a list of them, from one of them, or from an object of them."""
    value = _value(raw)
    if isinstance(value, Mapping):
        value = [value] if key in value else list(value.values())
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _output(item: Mapping[str, Any]) -> JobOutput:
    return JobOutput(
        url=str(item["url"]),
        filename=str(item.get("filename") or ""),
        description=str(item.get("description") or ""),
    )


def _count(raw: msgspec.Raw) -> int | None:
    """A number of locations; None for what is none, such as one below 0 or with 400 digits."""
    number = _seconds(raw)
    return None if number is None else int(number)


def _seconds(raw: msgspec.Raw) -> float | None:
    """A number from 0; None for what is none."""
    value = _value(raw)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= MAX_NUMBER else None


def _word(value: str) -> str:
    return one_line(masked(value))[:MAX_STATUS_CHARACTERS].upper()


def _text(raw: msgspec.Raw) -> str | None:
    value = _value(raw)
    return None if value is None else masked(str(value))


def _value(raw: msgspec.Raw) -> Any:
    """What it is, as JSON; None where no reader could tell, as of a number of 5,000 digits."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
