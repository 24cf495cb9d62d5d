"""`pingdata-async datasources`, `datasource`, `limits` and `usage`: what the account has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec

from pingdata_async.account import TOTAL, Limits, Usage, resets_at
from pingdata_async.cli.asking import delegate_option
from pingdata_async.cli.connecting import ask
from pingdata_async.cli.exit_codes import ANSWERED
from pingdata_async.cli.options import api_options, connection_of, switch
from pingdata_async.cli.showing import Cell, Table, show, show_json
from pingdata_async.client import PingDataClient
from pingdata_async.data_sources import DataSource
from pingdata_async.exceptions import ConfigurationError, NotFoundError, RequestRejectedError

T = TypeVar("T")

MOST_COLUMNS = 8
"""Sources side by side, at most; more are listed one below the other."""

EPILOG = """\b
Exit codes:
  0    the API answered
  2    bad usage, or a source that the API does not know
  4    no auth token, or the API refused it
  5    the API cannot be asked: not allowed, not served, or down
"""

_json_switch = switch("--json", "as_json", help="Print all that the API said as JSON.")


@click.command(epilog=EPILOG)
@delegate_option
@api_options
@_json_switch
def datasources(delegate_to: str | None, as_json: bool, **others: Any) -> int:
    """List the sources that the account may ask, and what each needs."""
    found = _asked(others, lambda client: client.datasources(delegate_to=delegate_to))
    if as_json:
        show_json({"configs": {code: source.as_sent for code, source in found.items()}})
    else:
        show(Table(("code", "name", "required", "countries"), list(map(_row, found.values()))))
    return ANSWERED


@click.command(epilog=EPILOG)
@click.argument("code", metavar="CODE")
@delegate_option
@api_options
@_json_switch
def datasource(code: str, delegate_to: str | None, as_json: bool, **others: Any) -> int:
    """Say what the source CODE takes, where it knows of places, and what it answers."""
    try:
        source = _asked(others, lambda client: client.datasource(code, delegate_to=delegate_to))
    except NotFoundError as error:
        raise ConfigurationError(f"{error}; `pingdata-async datasources` lists all") from error
    if as_json:
        show_json({"config": source.as_sent})
    else:
        show(*_described(source))
    return ANSWERED


@click.command(epilog=EPILOG)
@api_options
@_json_switch
def limits(as_json: bool, **others: Any) -> int:
    """Say what the account may still ask, by source, and when its days and months begin anew."""
    found = _asked(others, lambda client: client.limits())
    if as_json:
        show_json(found.as_sent)
    else:
        show(*_limits_described(found, dt.datetime.now(dt.UTC)))
    return ANSWERED


@click.command(epilog=EPILOG)
@click.option("--start", metavar="TIME", help="-5m, -1h, -30d, or ISO 8601 (UTC).  [default: -30d]")
@click.option("--end", metavar="TIME", help="Likewise.  [default: now]")
@click.option("--username", help="Of another user; for staff only.")
@click.option("--org-short-name", help="Of an organisation, instead of a user; for staff only.")
@delegate_option
@api_options
@_json_switch
def usage(
    start: str | None,
    end: str | None,
    username: str | None,
    org_short_name: str | None,
    delegate_to: str | None,
    as_json: bool,
    **others: Any,
) -> int:
    """Say which credits were used, by time and source."""
    found = _asked(
        others,
        lambda client: client.usage(
            start=start,
            end=end,
            username=username,
            org_short_name=org_short_name,
            delegate_to=delegate_to,
        ),
    )
    if as_json:
        show_json(_usage_as_documented(found))
    else:
        show(*_usage_described(found))
    return ANSWERED


def _asked(options: Mapping[str, Any], question: Callable[[PingDataClient], Awaitable[T]]) -> T:
    """The API's answer; a question that it takes for a wrong one is a wrong option."""
    try:
        return ask(connection_of(options), question)
    except RequestRejectedError as error:
        if error.status_code not in {400, 422}:
            raise
        raise ConfigurationError(str(error)) from error


def _row(source: DataSource) -> Sequence[Cell]:
    countries = source.supported_countries
    where = "all" if countries is None else ", ".join(countries)
    return source.code, source.name, ", ".join(source.required_attrs), where


def _described(source: DataSource) -> Iterator[str | Table]:
    yield f"{source.name} ({source.code})" if source.name else source.code
    credentials = source.requires_credentials
    said: dict[str, Any] = {
        "required": source.required_attrs or None,
        "optional": source.optional_attrs or None,
        "needs credentials of its own": credentials and "yes",
        "countries": source.supported_countries,
        "US states": source.supported_us_states,
        "not in the US states": source.excluded_us_states,
        "does not take": source.non_supported_input_values or None,
        "needs a geocode of confidence": source.geocode_confidence_required,
        "needs a geocode of precision": source.geocode_precision_required,
    }
    for name, value in said.items():
        if value is not None and value is not False:
            yield f"{name}: {_shown(value)}"
    fields = list(_fields(source))
    if fields:
        yield Table(("field", "type", "description"), fields)


def _fields(source: DataSource) -> Iterator[tuple[str, str, str]]:
    """Each field of its answers; those within a field behind it."""
    for group in ("output_fields", "base_output_fields"):
        sent = source.as_sent.get(group)
        for name, field in sent.items() if isinstance(sent, Mapping) else ():
            yield name, source.output_fields.get(name, ""), _description(field)
            inner = field.get("fields") if isinstance(field, Mapping) else None
            for below, each in inner.items() if isinstance(inner, Mapping) else ():
                kind = each.get("type") if isinstance(each, Mapping) else each
                yield f"{name}.{below}", str(kind or ""), _description(each)


def _description(field: Any) -> str:
    return str(field.get("description") or "") if isinstance(field, Mapping) else ""


def _limits_described(found: Limits, now: dt.datetime) -> Iterator[str | Table]:
    whose = " ".join(word for word in (found.scope, found.subject) if word)
    if whose:
        yield f"Limits of the {whose}" if found.scope else f"Limits of {whose}"
    if found.is_restricted:
        yield f"Only these sources may be asked: {', '.join(found.allowed_sources or ()) or 'none'}"
    if not found.sources:
        yield "No source is capped."
        return
    rows: list[Sequence[Cell]] = []
    for code, source in found.sources.items():
        for window in source.windows:
            anew = resets_at(window, now)
            rows.append(
                (
                    code,
                    window,
                    source.limits.get(window),
                    source.usage.get(window),
                    source.remaining.get(window),
                    None if anew is None else f"{anew:%Y-%m-%d %H:%M}",
                )
            )
    yield Table(("source", "window", "limit", "used", "left", "begins anew (UTC)"), rows)


def _usage_described(found: Usage) -> Iterator[str | Table]:
    by = f", by {found.granularity}" if found.granularity else ""
    yield f"Credits used from {found.start or '?'} to {found.end or '?'}{by}"
    sources = sorted(found.totals, key=lambda code: -found.totals[code])
    buckets = [bucket for bucket in found.buckets if bucket.total]
    rows: list[Sequence[Cell]] = []
    if len(sources) <= MOST_COLUMNS:
        rows += (
            (each.bucket, *(each.counts.get(code, 0) for code in sources), each.total)
            for each in buckets
        )
        rows.append((TOTAL, *(found.totals[code] for code in sources), found.total))
        yield Table(("from", *(code or "?" for code in sources), TOTAL), rows)
        return
    for each in buckets:
        rows += ((each.bucket, code or "?", number) for code, number in each.counts.items())
    rows += ((TOTAL, code or "?", found.totals[code]) for code in sources)
    yield Table(("from", "source", "credits"), [*rows, (TOTAL, None, found.total)])


def _usage_as_documented(found: Usage) -> dict[str, Any]:
    """All that the API sent; its buckets and totals always in the one form."""
    return {
        **found.as_sent,
        "buckets": [
            {"bucket": each.bucket, "counts": {**each.counts, TOTAL: each.total}}
            for each in found.buckets
        ],
        "totals": {**found.totals, TOTAL: found.total},
    }


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
