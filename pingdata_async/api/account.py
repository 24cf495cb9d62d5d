"""Limits, usage and data sources of an account (pure).

From the API's published reference and the vendor's client. A field that is missing, null or of
an undocumented type counts as missing; unknown windows and fields are kept.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pingdata_async.api.wire import checked_query, decode_object, resets_at
from pingdata_async.exceptions import ConfigurationError, DecodeError
from pingdata_async.models import DataSource
from pingdata_async.util.text import counted

Moment = str | dt.datetime | dt.date | dt.timedelta
"""A time as `usage()` takes it."""

MINUTES_OF_UNITS = (("d", 24 * 60), ("h", 60), ("m", 1))
TOTAL = "total"


class SourceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a source may be asked; each by window, such as "daily" and "monthly".

    Windows are calendar days and months, by UTC; those that the API does not report are missing.

    Attributes:
        limits: Locations that a whole window allows.
        usage: Locations asked for so far.
        remaining: Locations that are left; the API decides by these.
    """

    limits: Mapping[str, int] = {}
    usage: Mapping[str, int] = {}
    remaining: Mapping[str, int] = {}

    @property
    def windows(self) -> tuple[str, ...]:
        """Every window that the API reports a number for."""
        return tuple({**self.limits, **self.usage, **self.remaining})


class LimitRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why the API would refuse to ask a source; as text, a sentence.

    Attributes:
        source: Its code.
        wanted: Locations that it was to be asked about.
        window: The window that has fewer left; None if the account may not ask the source at all.
        remaining: Locations that are left in the window; None without a window.
        limit: Locations that the whole window allows; None if the API does not report it.
        resets_at: When the window begins anew (UTC); None if unknown.
        allowed_sources: The sources that the account may ask, if this one is not among them.
    """

    source: str
    wanted: int
    window: str | None = None
    remaining: int | None = None
    limit: int | None = None
    resets_at: dt.datetime | None = None
    allowed_sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.remaining is None:
            others = ", ".join(self.allowed_sources) or "none at all"
            return f"{self.source}: not among the sources that this account may ask ({others})"
        of_all = "" if self.limit is None else f" of {self.limit:,}"
        text = (
            f"{self.source}: {counted(self.wanted, 'location')}, but "
            f"{self.remaining:,}{of_all} are left ({self.window})"
        )
        if self.resets_at is not None:
            text += f"; it resets at {self.resets_at:%Y-%m-%d %H:%M} UTC"
        if self.limit is not None and self.limit < self.wanted:
            text += ", and allows too few for all of them even then"
        return text


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The account's limits, as `GET /api/v1/limits` reports them.

    Attributes:
        scope: Whose limits they are, such as "user"; "" if the API does not report it.
        subject: The name of that user or the like; "" likewise.
        mode: "restricted" if only some sources may be asked; "" likewise.
        allowed_sources: Those sources; None likewise.
        sources: By code, the sources that are capped; all others are not.
        as_sent: All of it, as the API sent it.
    """

    scope: str = ""
    subject: str = ""
    mode: str = ""
    allowed_sources: tuple[str, ...] | None = None
    sources: Mapping[str, SourceLimits] = {}
    as_sent: Mapping[str, Any] = {}

    @property
    def is_restricted(self) -> bool:
        """Whether only `allowed_sources` may be asked, as far as the API says."""
        return self.mode.casefold() == "restricted" and self.allowed_sources is not None

    def refusals(self, wanted: Mapping[str, int], now: dt.datetime) -> tuple[LimitRefusal, ...]:
        """Why the API would refuse; empty if all of it fits.

        Best effort: limits that the API does not report cannot be checked.

        Args:
            wanted: By source code, how many locations it is to be asked about. Upper and lower
                case are the same.
            now: The time, with its zone.
        """
        allowed = self.allowed_sources or ()
        folded = {code.casefold() for code in allowed}
        caps = {code.casefold(): each for code, each in self.sources.items()}
        found: list[LimitRefusal] = []
        for source, number in _together(wanted):
            if self.is_restricted and source.casefold() not in folded:
                found.append(
                    LimitRefusal(source=source, wanted=number, allowed_sources=tuple(allowed))
                )
                continue
            cap = caps.get(source.casefold(), SourceLimits())
            found += (
                LimitRefusal(
                    source=source,
                    wanted=number,
                    window=window,
                    remaining=left,
                    limit=cap.limits.get(window),
                    resets_at=resets_at(window, now),
                )
                for window, left in cap.remaining.items()
                if left < number
            )
        return tuple(found)


class UsageBucket(msgspec.Struct, frozen=True, kw_only=True):
    """The credits used within one interval.

    Attributes:
        bucket: When it begins, as the API wrote it.
        counts: By source code, the credits used; "" for credits that the API assigns to no source.
        total: All of them.
    """

    bucket: str
    counts: Mapping[str, int]
    total: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The credits used, as `GET /api/v1/usage` reports them.

    Attributes:
        granularity: How long a bucket is: 5m, 1h or 1d; "" if the API does not report it.
        start: When the time asked about begins, as the API wrote it; "" likewise.
        end: The end of that time, in the same form.
        buckets: The intervals, as the API orders them.
        totals: By source code, the credits used; summed over the buckets if the API reports none.
        total: All of them.
        as_sent: All of it, as the API sent it.
    """

    granularity: str = ""
    start: str = ""
    end: str = ""
    buckets: tuple[UsageBucket, ...] = ()
    totals: Mapping[str, int] = {}
    total: int = 0
    as_sent: Mapping[str, Any] = {}


def decode_limits(body: bytes, what: str) -> Limits:
    """The limits in an answer of `/limits`; raises DecodeError when there are none in it."""
    sent = _holding(body, what, "sources", "allowlist")
    allowlist = _object(sent.get("allowlist"))
    allowed = allowlist.get("sources")
    return Limits(
        scope=_text(sent.get("scope")),
        subject=_text(sent.get("subject")),
        mode=_text(allowlist.get("mode")),
        allowed_sources=tuple(code for code in allowed if isinstance(code, str))
        if isinstance(allowed, list)
        else None,
        sources={
            code: SourceLimits(
                limits=_counts(source.get("limits")),
                usage=_counts(source.get("usage")),
                remaining=_counts(source.get("remaining")),
            )
            for code, source in _object(sent.get("sources")).items()
            if isinstance(source, Mapping)
        },
        as_sent=sent,
    )


def decode_usage(body: bytes, what: str) -> Usage:
    """The usage in an answer of `/usage`; raises DecodeError when there is none in it."""
    sent = _holding(body, what, "buckets", "totals")
    buckets = tuple(_buckets(sent.get("buckets")))
    totals = _counts(sent.get("totals"))
    total = totals.pop(TOTAL, None)
    if not totals:
        totals = _added(each.counts for each in buckets)
    return Usage(
        granularity=_text(sent.get("granularity")),
        start=_text(sent.get("start")),
        end=_text(sent.get("end")),
        buckets=buckets,
        totals=totals,
        total=sum(totals.values()) if total is None else total,
        as_sent=sent,
    )


def _holding(body: bytes, what: str, one: str, other: str) -> dict[str, Any]:
    """A JSON object with one of two members; raises DecodeError when it has neither."""
    sent = decode_object(body, what)
    if one not in sent and other not in sent:
        raise DecodeError(f'{what}: the answer holds neither "{one}" nor "{other}"')
    return sent


def encode_usage_query(
    *,
    start: Moment | None,
    end: Moment | None,
    username: str | None,
    org_short_name: str | None,
    delegate_to: str | None,
) -> list[tuple[str, str]]:
    """The query of `/usage`; what is None or empty is left to the API.

    Raises:
        ConfigurationError: For a time that is none, a user and an organisation at once, or a text
            that is not Unicode.
    """
    if username and org_short_name:
        raise ConfigurationError("give a username or an org_short_name, not both")
    named = {
        "start": _moment("start", start, dt.time.min),
        # The day that is named last is one of those asked about.
        "end": _moment("end", end, dt.time(23, 59, 59)),
        "username": username,
        "org_short_name": org_short_name,
        "delegate_to": delegate_to,
    }
    return checked_query([(name, value) for name, value in named.items() if value])


def _moment(name: str, moment: Moment | None, time_of_day: dt.time) -> str | None:
    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, dt.timedelta):
        minutes = math.ceil(abs(moment) / dt.timedelta(minutes=1))
        if not minutes:
            raise ConfigurationError(f"{name}: a time span of nothing; None means the API's own")
        unit, length = next(each for each in MINUTES_OF_UNITS if minutes % each[1] == 0)
        return f"-{minutes // length}{unit}"
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, time_of_day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _together(wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Each source once, whatever the case of its code."""
    together: dict[str, tuple[str, int]] = {}
    for code, number in wanted.items():
        spelling, before = together.get(code.casefold(), (code, 0))
        together[code.casefold()] = (spelling, before + number)
    return [(code, number) for code, number in together.values() if number > 0]


def _buckets(value: Any) -> Iterator[UsageBucket]:
    """Buckets that hold their counts, or rows of a time, a source and a count, put together."""
    by_time: dict[str, dict[str, int]] = {}
    for each in value if isinstance(value, list) else ():
        if not isinstance(each, Mapping):
            continue
        said = each.get("bucket", each.get("bucket_time"))
        counts = each.get("counts")
        if not isinstance(counts, Mapping):
            counts = {_text(each.get("source")): each.get("count")}
        bucket = by_time.setdefault(_text(said), {})
        for source, count in _counts(counts).items():
            bucket[source] = bucket.get(source, 0) + count
    for said, bucket in by_time.items():
        total = bucket.pop(TOTAL, None)
        # A row without a source is that of all sources, or of what has none.
        if bucket.get("") in {0, sum(bucket.values()) - bucket.get("", 0)}:
            del bucket[""]
        yield UsageBucket(
            bucket=said, counts=bucket, total=sum(bucket.values()) if total is None else total
        )


def _added(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for each in counts:
        for source, count in each.items():
            added[source] = added.get(source, 0) + count
    return added


def _counts(value: Any) -> dict[str, int]:
    """What is a number in it; a null is no limit, and not one of zero."""
    return {
        name: int(number)
        for name, number in _object(value).items()
        if isinstance(number, int | float) and not isinstance(number, bool)
    }


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def decode_datasources(body: bytes, what: str) -> dict[str, DataSource]:
    """The sources in an answer of `/datasources`, by code.

    Raises:
        DecodeError: When there are none in it.
    """
    configs = decode_object(body, what).get("configs")
    if isinstance(configs, list):
        configs = {
            str(each["source_code"]): each
            for each in configs
            if isinstance(each, Mapping) and each.get("source_code")
        }
    if not isinstance(configs, Mapping):
        raise DecodeError(f'{what}: the answer holds no "configs"')
    return {
        code: _data_source(code, config)
        for code, config in configs.items()
        if isinstance(config, Mapping)
    }


def decode_datasource(body: bytes, what: str) -> DataSource:
    """The source in an answer of `/datasources/{code}`.

    Raises:
        DecodeError: When there is none in it.
    """
    config = decode_object(body, what).get("config")
    if not isinstance(config, Mapping):
        raise DecodeError(f'{what}: the answer holds no "config"')
    return _data_source("", config)


def _data_source(code: str, config: Mapping[str, Any]) -> DataSource:
    credentials = config.get("requires_credentials")
    return DataSource(
        code=str(config.get("source_code") or code),
        name=str(config.get("source_name") or ""),
        required_attrs=_texts(config.get("required_attrs")) or (),
        optional_attrs=_texts(config.get("optional_attrs")) or (),
        requires_credentials=credentials if isinstance(credentials, bool) else None,
        non_supported_input_values=config.get("non_supported_input_values"),
        supported_countries=_texts(config.get("supported_countries")),
        supported_us_states=_texts(config.get("supported_us_states")),
        excluded_us_states=_texts(config.get("excluded_us_states")),
        geocode_confidence_required=config.get("geocode_confidence_required"),
        geocode_precision_required=config.get("geocode_precision_required"),
        output_fields=_fields(config.get("base_output_fields"))
        | _fields(config.get("output_fields")),
        as_sent=config,
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        return None
    return tuple(each for each in value if isinstance(each, str))


def _fields(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        value = {each.get("name") if isinstance(each, dict) else each: each for each in value}
    if not isinstance(value, dict):
        return {}
    return {name: _type_of(field) for name, field in value.items() if isinstance(name, str)}


def _type_of(field: Any) -> str:
    said = field.get("type") if isinstance(field, dict) else field
    return said if isinstance(said, str) else ""
