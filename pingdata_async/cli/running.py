"""What all commands have in common that work on a run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
import msgspec

from pingdata_async.cli.connecting import (
    with_client,
    with_client_if_needed,
    with_closed_client,
)
from pingdata_async.cli.exit_codes import ANSWERED, STOPPED, exit_code_of
from pingdata_async.cli.going_on import resume_command
from pingdata_async.cli.messages import say
from pingdata_async.cli.options import Connection, Reporting
from pingdata_async.cli.progress import describe, event_log, narrate
from pingdata_async.cli.side_files import open_side_file
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.client import PingDataClient
from pingdata_async.events import Announcer, Event, Listener, RunStopped
from pingdata_async.exceptions import ConfigurationError, PingDataError
from pingdata_async.models import RunSummary
from pingdata_async.plurals import counted
from pingdata_async.runs.output_files import shown_path
from pingdata_async.runs.output_form import output_option
from pingdata_async.secrecy import printable

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Refusal:
    """Why the API is asked nothing, where it would have to be.

    Attributes:
        error: What is raised then.
        needs: The options with which it is asked.
    """

    error: PingDataError
    needs: str


def carry_out(
    connection: Connection,
    reporting: Reporting,
    work: Callable[[PingDataClient, Announcer], Awaitable[RunSummary]],
    *,
    is_begun: bool = False,
    refusal: Refusal | None = None,
) -> int:
    """Open a client, do the work, and report; the exit code.

    Args:
        connection: To which API.
        reporting: What is said.
        work: What to do.
        is_begun: Whether there may be nothing left to be asked: then no token is needed.
        refusal: Why the API is asked nothing; None if it may be.
    """
    # Only now: a plan, a status or a help is not drawn, and rich takes a while to load.
    from pingdata_async.cli.screen import StatusConsole, show  # noqa: PLC0415

    console = StatusConsole()
    console.quiet = reporting.quiet

    async def run() -> RunSummary:
        async with contextlib.AsyncExitStack() as stack:
            watchers: list[Listener | None] = [
                stack.enter_context(event_log(reporting.log_file)),
                functools.partial(
                    _say_how_to_go_on, click.get_current_context(), refusal.needs if refusal else ""
                ),
            ]
            if not reporting.quiet:
                watchers.append(narrate(console, verbose=reporting.verbose))
                watchers.append(stack.enter_context(show(console)))

            async def told(client: PingDataClient) -> RunSummary:
                return await work(client, Announcer(*watchers))

            if refusal is not None:
                return await with_closed_client(connection, refusal.error, told)
            opened = with_client_if_needed if is_begun else with_client
            return await opened(connection, told)

    try:
        summary = anyio.run(run_until_signal, run)
    except BrokenPipeError:
        # Whoever read standard output wants no more of it. Handled here, as click would make
        # an error of it.
        return ANSWERED
    return _report(summary, reporting.summary_path, console)


def _say_how_to_go_on(context: click.Context, needs: str, event: Event) -> None:
    """Said also where nothing else is: it is a part of the error."""
    if isinstance(event, RunStopped) and not event.is_output_closed:
        rows = counted(event.rows, "row")
        done = rows
        if event.rows_done is not None:
            done = f"{event.rows_done:,} of {rows} with an outcome"
        command = resume_command(context, event.run_dir, f"{needs} {event.needs}".strip())
        say(f"Stopped: {done}; all that was paid for is kept. To go on:\n  {command}")


def _report(summary: RunSummary, summary_path: Path | None, console: Console) -> int:
    """Say what the run took; the exit code."""
    with contextlib.suppress(OSError):  # nobody may be reading any more
        for line in describe(summary):
            console.print(line)
        if summary.output != "-":
            console.print(f"Written to {summary.output}")
        if summary.failures is not None:
            console.print(f"Rows without an answer: {summary.failures}")
    exit_code = exit_code_of(summary)
    if summary_path is None:
        return exit_code
    encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    try:
        with open_side_file(summary_path) as file:
            file.write(encoded + b"\n")
    except (OSError, ConfigurationError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        failed = printable(
            f"Error: the summary cannot be written ({shown_path(summary_path)}: {why})"
        )
        if summary.run_dir is None or summary.output is None:
            # To give the command again would cost the same again: no code that asks for that.
            say(f"{failed}. It is:\n{encoded.decode()}")
            return exit_code
        command = resume_command(
            click.get_current_context(), summary.run_dir, output_option(summary.output)
        )
        say(f"{failed}; all else is done. To write it, for nothing:\n  {command}")
        return STOPPED
    return exit_code
