"""Commands that ask the API a single question: datasources, limits, usage, enhance-one."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec

from pingdata_async.api.account import TOTAL, Limits, Usage
from pingdata_async.api.client import PingDataClient
from pingdata_async.api.wire import resets_at
from pingdata_async.cli.console import Cell, Table, check_standard_output, show, show_json
from pingdata_async.cli.execute import ask, unknown_sources
from pingdata_async.cli.help import Argument, Panel, command, in_panel
from pingdata_async.cli.main import ANSWERED, NO_ANSWER_FOR_SOME, say_error
from pingdata_async.cli.options import (
    api_options,
    asking_of,
    asking_options,
    complete_sources,
    connection_of,
    delegate_option,
    json_option,
    sources_option,
)
from pingdata_async.exceptions import (
    ConfigurationError,
    InputError,
    NotFoundError,
    RequestRejectedError,
    TransportError,
    UnknownSourceError,
)
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import ADDRESS_FIELDS, FIELDS, UnreadableError, read_field
from pingdata_async.locations.normalize import fault_of_pair
from pingdata_async.models import DataSource, EnhancedLocation

T = TypeVar("T")

MOST_COLUMNS = 8
"""Sources side by side, at most; more are listed one below the other."""

EXIT_CODES = """
0    the API answered
2    wrong usage, or a source that the API does not know
4    no auth token, or the API refused it
5    the API gave no answer: access denied, endpoint missing, or API down
"""

_json_option = json_option("Print the API's whole answer as JSON.")


@command(
    examples="""
        pingdata-async datasources
        pingdata-async datasources PH
    """,
    exit_codes=EXIT_CODES,
)
@click.argument(
    "code",
    cls=Argument,
    metavar="[CODE]",
    required=False,
    help="The source to describe, as PH.",
    shell_complete=complete_sources,
)
@delegate_option
@api_options
@_json_option
def datasources(code: str | None, delegate_to: str | None, as_json: bool, **others: Any) -> int:
    """List the data sources you may use, or describe one.

    With CODE, show what that source needs, where it has data, and which fields it returns.
    """
    if code is None:
        found = _asked(others, lambda client: client.datasources(delegate_to=delegate_to))
        if as_json:
            show_json({"configs": {key: each.as_sent for key, each in found.items()}})
        else:
            show(Table(("code", "name", "required", "countries"), list(map(_row, found.values()))))
        return ANSWERED

    async def describe(client: PingDataClient) -> DataSource:
        try:
            return await client.datasource(code, delegate_to=delegate_to)
        except NotFoundError as error:
            raise ConfigurationError(await unknown_sources(client, error, code)) from error

    source = _asked(others, describe)
    if as_json:
        show_json({"config": source.as_sent})
    else:
        show(*_source_described(source))
    return ANSWERED


@command(exit_codes=EXIT_CODES)
@api_options
@_json_option
def limits(as_json: bool, **others: Any) -> int:
    """Show what is left of the account's limits, by source.

    The table says when each limit resets.
    """
    found = _asked(others, lambda client: client.limits())
    if as_json:
        show_json(found.as_sent)
    else:
        show(*_limits_described(found, dt.datetime.now(dt.UTC)))
    return ANSWERED


@command(examples="pingdata-async usage --start -7d", exit_codes=EXIT_CODES)
@in_panel(
    Panel.ASKED,
    click.option(
        "--start", metavar="TIME",
        help="Start at this time: -5m, -1h, -30d, or ISO 8601 (UTC).  [default: -30d]",
    ),
    click.option(
        "--end", metavar="TIME", help="End at this time, in the same form.  [default: now]"
    ),
    click.option("--username", help="Show another user's credits (staff only)."),
    click.option("--org-short-name", help="Show an organisation's credits (staff only)."),
)  # fmt: skip
@delegate_option
@api_options
@_json_option
def usage(
    start: str | None,
    end: str | None,
    username: str | None,
    org_short_name: str | None,
    delegate_to: str | None,
    as_json: bool,
    **others: Any,
) -> int:
    """Show the credits used, by time and source."""
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
    """The API's answer; a question that it rejects is a wrong option."""
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


def _source_described(source: DataSource) -> Iterator[str | Table]:
    yield f"{source.name} ({source.code})" if source.name else source.code
    credentials = source.requires_credentials
    said: dict[str, Any] = {
        "required": source.required_attrs or None,
        "optional": source.optional_attrs or None,
        "needs its own credentials": credentials and "yes",
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
    """Each field of its answers, followed by the fields inside it."""
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
        yield f"Allowed sources: {', '.join(found.allowed_sources or ()) or 'none'}"
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
    yield Table(("source", "window", "limit", "used", "left", "resets (UTC)"), rows)


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
    """The API's answer, with its buckets and totals always in the same form."""
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


ONE_EXIT_CODES = """
0    the API answered (also where the answer is "no match")
2    wrong usage, or nothing to look up; nothing was sent
3    no answer: the API refused the location, or its sources failed
4    no auth token, or the API refused it
5    the API gave no answer: quota spent, access denied, or API down
"""

NAMED_FIELDS = (
    "address_line_1",
    "address_line_2",
    "city",
    "state",
    "postal_code",
    "county",
    "country",
    "latitude",
    "longitude",
)
"""Fields with an option of their own, beside the address; all others go by --field."""

SHORT_NAMES = {"country": ["-c"]}


# Not from variables: a location is meant for one call.
_location_options = in_panel(
    Panel.IN,
    click.argument(
        "address", cls=Argument, required=False, help="The address in one line, if there is one."
    ),
    click.option(
        "-a", "--address", "named_address", metavar="TEXT", help="The same as ADDRESS."
    ),
    *(
        click.option(*SHORT_NAMES.get(name, ()), f"--{name.replace('_', '-')}", name)
        for name in NAMED_FIELDS
    ),
    click.option(
        "-x", "--field", "extra", multiple=True, metavar="NAME=VALUE",
        help="Set any field of the location, such as const__num_stories=3. Repeatable.",
    ),
    click.option(
        "--datasource-config", metavar="JSON", help="Pass settings to sources, as a JSON object."
    ),
)  # fmt: skip


@command(
    examples="""
        pingdata-async enhance-one "600 Dexter Avenue, Montgomery, AL 36130" -s PG,PH
        pingdata-async enhance-one --latitude 32.377 --longitude -86.3 -s PH
    """,
    exit_codes=ONE_EXIT_CODES,
)
@_location_options
@sources_option
@asking_options
@api_options
@json_option("Print the status and the API's whole answer as JSON.")
def enhance_one(
    address: str | None,
    sources: str,
    extra: tuple[str, ...],
    as_json: bool,
    **others: Any,
) -> int:
    """Enhance one location at once.

    Give an address, coordinates or any other field. The location is charged like one in a job.
    """
    check_standard_output()  # before it is paid for
    options = asking_of(others)
    named = ("named_address", *NAMED_FIELDS, "datasource_config")
    given = [("address", address), *((name, others[name]) for name in named)]
    fields = _read([*given, *map(_split, extra)])
    try:
        result = ask(
            connection_of(others),
            lambda client: client.enhance(fields, sources=sources, **options),
        )
    except RequestRejectedError as error:
        if isinstance(error, UnknownSourceError):
            raise
        say_error(str(error))
        return NO_ANSWER_FOR_SOME
    except TransportError as error:
        if not error.maybe_sent:
            raise
        raise TransportError(f"{error}; it may have been charged", maybe_sent=True) from error
    if as_json:
        show_json(_as_json(result))
    else:
        show(*_answer_described(result))
    return ANSWERED if result.is_answered else NO_ANSWER_FOR_SOME


def _split(text: str) -> tuple[str, str]:
    """NAME=VALUE, taken apart; raises InputError when it is none, or there is no such field."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals:
        raise InputError(f"--field {text!r} is not NAME=VALUE, as in const__num_stories=3")
    if name == "sources":
        raise InputError("--field sources: give --sources")
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=3) or sorted(FIELDS - {"sources"})
        raise InputError(f"--field {name}: no such field; there is {', '.join(near)}")
    return name, value


def _read(given: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """The location that the words make.

    Raises:
        InputError: When a field is given twice, or cannot be read.
    """
    fields: dict[str, Any] = {}
    for option, text in given:
        if text is None:
            continue
        name = option.removeprefix("named_")
        if name in fields:
            raise InputError(f"{name} is given twice")
        try:
            read = read_field(name, text)
        except UnreadableError:
            # In a file it would be left out; here somebody can be told.
            raise InputError(f"{name} {text!r} cannot be read") from None
        if read is not None:
            fields[name] = read
    degrees = [f"{name} {fields[name]:g}" for name in COORDINATES if name in fields]
    has_address = any(name in fields for name in ADDRESS_FIELDS)
    if fault_of_pair(*map(fields.get, COORDINATES), has_address=has_address) is not None:
        raise InputError(f"{' and '.join(degrees)} is no place; give both coordinates of one")
    return fields


def _as_json(result: EnhancedLocation) -> dict[str, Any]:
    """As in a line of an output, without what tells rows apart."""
    said = {"status": result.status, "reason": result.reason, "error": result.error}
    return {name: value for name, value in said.items() if value is not None} | {
        "location_data": result.data
    }


def _answer_described(result: EnhancedLocation) -> Iterator[str | Table]:
    yield f"{result.status}: {result.error}" if result.error else str(result.status)
    rows = [
        (code, name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for code, source in result.location_data.items()
        for name, value in source.items()
        if value is not None
    ]
    if rows:
        yield Table(("source", "field", "value"), rows)
