"""`pingdata-async enhance-one`: one location, answered at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from pingdata_async.cli.asking import asking_of, asking_options, sources_option
from pingdata_async.cli.connecting import ask
from pingdata_async.cli.exit_codes import ANSWERED, NO_ANSWER_FOR_SOME
from pingdata_async.cli.messages import say
from pingdata_async.cli.options import api_options, connection_of, switch
from pingdata_async.cli.showing import Table, check_standard_output, show, show_json
from pingdata_async.coordinates import COORDINATES
from pingdata_async.exceptions import (
    InputError,
    RequestRejectedError,
    TransportError,
    UnknownSourceError,
)
from pingdata_async.locations import FIELDS, UnreadableError, leave_out_half_pair, read_field
from pingdata_async.models import EnhancedLocation
from pingdata_async.secrecy import printable

EPILOG = """\b
Exit codes:
  0    the API answered (also where the answer is "no match")
  2    bad usage, or nothing to look up; nothing was sent
  3    no answer: the API refused the location, or its sources failed
  4    no auth token, or the API refused it
  5    the API cannot be asked: quota, not allowed, or down
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


def _location_options(command: Any) -> Any:
    """What is looked up. Not from variables: a place is meant for one call."""
    decorators = [
        click.argument("address", required=False),
        click.option("-a", "--address", "named_address", help="The same as ADDRESS."),
        *(
            click.option(*SHORT_NAMES.get(name, ()), f"--{name.replace('_', '-')}", name)
            for name in NAMED_FIELDS
        ),
        click.option(
            "-x", "--field", "extra", multiple=True, metavar="NAME=VALUE",
            help="Any field of a location, such as const__num_stories=3; several times.",
        ),
        click.option(
            "--datasource-config", metavar="JSON", help="Settings of sources, as an object."
        ),
    ]  # fmt: skip
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@click.command(epilog=EPILOG)
@_location_options
@sources_option
@asking_options
@api_options
@switch("--json", "as_json", help="Print it as JSON: all that the API said, and how it went.")
def enhance_one(
    address: str | None,
    sources: str,
    extra: tuple[str, ...],
    as_json: bool,
    **others: Any,
) -> int:
    """Enhance one location at once: an address, coordinates, or any of its fields.

    It is charged like a location of a job.
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
        say(f"Error: {printable(str(error))}")
        return NO_ANSWER_FOR_SOME
    except TransportError as error:
        if not error.maybe_sent:
            raise
        raise TransportError(f"{error}; it may have been charged", maybe_sent=True) from error
    if as_json:
        show_json(_as_json(result))
    else:
        show(*_described(result))
    return ANSWERED if result.is_answered else NO_ANSWER_FOR_SOME


def _split(text: str) -> tuple[str, str]:
    """NAME=VALUE, taken apart.

    Raises:
        InputError: When it is none, or there is no such field.
    """
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
    left_out, _ = leave_out_half_pair(fields)
    if left_out:
        raise InputError(f"{' and '.join(degrees)} is no place; give both coordinates of one")
    return fields


def _as_json(result: EnhancedLocation) -> dict[str, Any]:
    """As in a line of an output, without what tells rows apart."""
    said = {"status": result.status, "reason": result.reason, "error": result.error}
    return {name: value for name, value in said.items() if value is not None} | {
        "location_data": result.data
    }


def _described(result: EnhancedLocation) -> Iterator[str | Table]:
    yield f"{result.status}: {result.error}" if result.error else str(result.status)
    rows = [
        (code, name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for code, source in result.location_data.items()
        for name, value in source.items()
        if value is not None
    ]
    if rows:
        yield Table(("source", "field", "value"), rows)
