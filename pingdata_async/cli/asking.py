"""Options about what the API is asked for, and how; they hold for each of its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from pingdata_async.cli.options import option, switch

F = TypeVar("F", bound=Callable[..., Any])

# Several times too, as the vendor's command takes them: the last one alone would be a surprise.
sources_option = option(
    "-s", "--sources", required=True, multiple=True, metavar="CODES",
    callback=lambda _context, _option, values: ",".join(values),
    help="Source codes, such as PG,PH.",
)  # fmt: skip
delegate_option = option(
    "-D", "--delegate-to", metavar="ORG_SHORT_NAME",
    help="Act for another organisation; needs a permission.",
)  # fmt: skip


def asking_options(command: F) -> F:
    """What goes along with each location."""
    for decorate in (
        delegate_option,
        switch("--nocache", help="Have everything fetched afresh, whatever the API has kept."),
        option(
            "-r", "--include-raw-response", is_flag=True,
            help="Have answers hold what the source itself said; of a table, with --columns '*'.",
        ),
        option(
            "--source-timeout", "source_timeout_s", metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            help="That the API waits for a source, at most.  [default: its own]",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def asking_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `asking_options` give, by the names that Python knows them by."""
    return {
        "delegate_to": values["delegate_to"],
        "check_cache": not values["nocache"],
        "include_raw_response": values["include_raw_response"],
        "source_timeout_s": values["source_timeout_s"],
    }
