"""Requests to bytes, and bytes of answers to what they say (pure).

Of answers every documented reading is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pingdata_async.byte_order_mark import without_bom
from pingdata_async.checked_settings import check_amount, check_flag
from pingdata_async.exceptions import ConfigurationError, DecodeError
from pingdata_async.locations import clean_sources
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.refusals import one_line
from pingdata_async.secrecy import holds_secret, masked

MAX_JOB_ID_CHARACTERS = 512  # they are opaque, but the API's are 36 long
EXCERPT_FROM_BYTES = 64 * 1024
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


def encode_options(
    *,
    sources: Sequence[str],
    source_timeout_s: float | None = None,
    include_raw_response: bool = False,
    check_cache: bool = True,
    delegate_to: str | None = None,
    callback_url: str | None = None,
) -> bytes:
    """The part of a job's body beside its locations, as a JSON object.

    Raises:
        ConfigurationError: For an option that cannot be, or a text that is not Unicode.
    """
    check_flag("include_raw_response", include_raw_response)
    check_flag("check_cache", check_cache)
    options: dict[str, Any] = {
        "sources": list(clean_sources(sources)),
        "include_raw_response": include_raw_response,
        "check_cache": check_cache,
    }
    if source_timeout_s is not None:
        check_amount("source_timeout_s", source_timeout_s)
        options["timeout"] = float(source_timeout_s)
    if delegate_to:
        options["delegate_to"] = delegate_to
    if callback_url:
        options["callback_url"] = _checked_callback(callback_url)
    for name, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_unicode(name, text)
    return msgspec.json.encode(options)


def encode_query(
    fields: Mapping[str, Any],
    *,
    sources: Sequence[str],
    source_timeout_s: float | None = None,
    include_raw_response: bool = False,
    check_cache: bool = True,
    delegate_to: str | None = None,
) -> list[tuple[str, str]]:
    """The query of the synchronous endpoint: a location's fields, and options as of a job.

    The location's own `sources` are passed over for those given.

    Raises:
        ConfigurationError: For an option that cannot be, or a text that is not Unicode.
    """
    check_flag("include_raw_response", include_raw_response)
    check_flag("check_cache", check_cache)
    query = [(name, _query_text(value)) for name, value in fields.items() if name != "sources"]
    query += [("sources", code) for code in sources]
    query.append(("include_raw_response", _query_text(include_raw_response)))
    if source_timeout_s is not None:
        check_amount("source_timeout_s", source_timeout_s)
        query.append(("timeout", _query_text(float(source_timeout_s))))
    if not check_cache:
        query.append(("check_cache", "false"))
    if delegate_to:
        query.append(("delegate_to", delegate_to))
    return checked_query(query)


def checked_query(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A query as it is.

    Raises:
        ConfigurationError: When a text in it is not Unicode.
    """
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


def _checked_callback(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError("callback_url must be an http or https url with a host")
    return url


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
    """What the API says about a job.

    Raises:
        DecodeError: When it is not a job's status.
    """
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
    """Any JSON object.

    Raises:
        DecodeError: When it is none.
    """
    decoded: dict[str, Any] = _decode(_any_object, body, what)
    return decoded


def is_page(body: bytes) -> bool:
    """Whether it looks like HTML or XML."""
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<", body))


def excerpt(body: bytes) -> str:
    """The beginning of a body, fit to be shown on one line."""
    if not body:
        return "nothing at all"
    # Secrets are taken out before it is cut: half of one is too much.
    text = masked(" ".join(body[:EXCERPT_FROM_BYTES].decode("utf-8", "replace").split()))
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return repr(shown[:100] + ("..." if len(shown) > 100 or len(body) > EXCERPT_FROM_BYTES else ""))  # noqa: PLR2004 - one line


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
