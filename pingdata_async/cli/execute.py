"""Opens a client for a command's options, works on a run, and reports it.

When a run stops, it prints the command that resumes it, ready to be pasted.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click
import msgspec
from click.core import ParameterSource

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.wire import saying_when
from pingdata_async.cli.config import OF_THE_COMMAND
from pingdata_async.cli.console import (
    describe,
    event_log,
    events_unlogged,
    narrate,
    open_side_file,
    show_json,
)
from pingdata_async.cli.main import ANSWERED, STOPPED, exit_code_of, run_until_signal, say
from pingdata_async.cli.options import MB, Connection, Reporting, duration_text, read_token_file
from pingdata_async.events import Event, EventEmitter, Listener, RunStopped
from pingdata_async.exceptions import (
    APIStatusError,
    ClientClosedError,
    ConfigurationError,
    MissingTokenError,
    PingDataError,
    UnknownSourceError,
)
from pingdata_async.locations.fields import clean_sources
from pingdata_async.models import RunSummary
from pingdata_async.runs.export.output import output_option
from pingdata_async.util.encoding import MAX_BODY_BYTES
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import STDOUT, counted, quoted_option, quoted_path, shown_path

if TYPE_CHECKING:
    from rich.console import Console


T = TypeVar("T")


# -- A client --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def open_client(connection: Connection) -> AsyncIterator[PingDataClient]:
    """Open a client for the API that the options name, or for a sandbox that this starts.

    Raises:
        ConfigurationError: When the options do not go together.
        MissingTokenError: When there is no token.
    """
    megabytes = connection.max_answer_mb
    async with PingDataClient(
        environment=connection.environment,
        api_url=connection.api_url,
        auth_token=read_token_file(connection.auth_token_file),
        ca_bundle=connection.ca_bundle,
        max_body_bytes=MAX_BODY_BYTES if megabytes is None else megabytes * MB,
        telemetry=connection.telemetry or False,
    ) as client:
        yield client


async def with_client(connection: Connection, work: Callable[[PingDataClient], Awaitable[T]]) -> T:
    """Do the work with an open client; raises as `open_client()`, and as the work."""
    async with open_client(connection) as client:
        try:
            return await work(client)
        except UnknownSourceError as error:
            codes = click.get_current_context().params.get("sources") or ""
            raise ConfigurationError(await unknown_sources(client, error, codes)) from error


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


async def unknown_sources(client: PingDataClient, error: PingDataError, codes: str) -> str:
    """Which of the codes the API does not know, with near ones that it does."""
    asked = clean_sources(codes.upper())
    known: list[str] = []
    with contextlib.suppress(PingDataError):
        known = list(await client.datasources())
    unknown = [code for code in asked if known and code not in known]
    if not unknown:
        return f"{error}; `pingdata-async datasources` lists all"
    hints = []
    for code in unknown:
        alike = [each for each in known if each[:1] == code[:1]]
        # Of equally near ones the API's first: `get_close_matches` has the alphabet's last.
        near = sorted(alike, key=lambda each: -_likeness(code, each))[:3]
        near = [each for each in near if _likeness(code, each) >= 0.5]  # noqa: PLR2004 - half of it
        hints.append(f"{code} (did you mean {' or '.join(near)}?)" if near else code)
    return f"the API knows no source {', '.join(hints)}; `pingdata-async datasources` lists all"


async def with_client_if_needed(
    connection: Connection, work: Callable[[PingDataClient], Awaitable[T]]
) -> T:
    """Do work that may not need the API: a missing token is an error only if it does.

    Raises:
        PingDataError: As `open_client()`, and as the work.
    """
    try:
        return await with_client(connection, work)
    except MissingTokenError as error:
        missing = error
    return await with_closed_client(connection, missing, work)


async def with_closed_client(
    connection: Connection,
    why: PingDataError,
    work: Callable[[PingDataClient], Awaitable[T]],
) -> T:
    """Do work that may not need the API with a closed client; raises `why` if it does."""
    closed = PingDataClient(environment=connection.environment, api_url=connection.api_url)
    try:
        return await work(closed)
    except ClientClosedError:
        raise why from None


def ask(connection: Connection, question: Callable[[PingDataClient], Awaitable[T]]) -> T:
    """Open a client, ask one question, and return the answer.

    Raises:
        PingDataError: As `open_client()`, and as whatever is asked.
        InterruptedBySignalError: When a signal ended it.
    """
    try:
        return anyio.run(run_until_signal, lambda: with_client(connection, question))
    except APIStatusError as error:
        raise saying_when(error) from error


# -- How to resume ---------------------------------------------------------------------------

# Which API, how it is reached, and whom it calls back: repeated even if they come from a variable.
_ALWAYS = frozenset({"environment", "api_url", "auth_token_file", "ca_bundle", "callback_url"})
# `enhance` stores these with the run; for `resume` and `retry` they hold once.
_OF_A_RUN = frozenset(
    {
        "output",
        "overwrite",
        "output_format",
        "columns",
        "safe_csv",
        "geocode_source",
        "max_jobs",
        "max_requests_per_second",
    }
)


def resume_command(context: click.Context, run_dir: str, needs: str) -> str:
    """The command that resumes what a command left unfinished.

    Args:
        context: Of the command that stopped.
        run_dir: The run directory, as shown to people.
        needs: Command-line options that `resume` needs to get past the error; "" for none.
    """
    values = context.params
    needed = {word.partition("=")[0] for word in needs.split()}
    words = ["pingdata-async resume", quoted_path(_given_run_dir(values, run_dir))]
    is_begun_before = "source" not in values
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        wanted = is_given and (name in OF_THE_COMMAND or (is_begun_before and name in _OF_A_RUN))
        is_needed = not needed.isdisjoint(parameter.opts)  # with another value
        if values.get(name) is not None and (wanted or name in _ALWAYS) and not is_needed:
            words.append(_option(parameter, values[name]))
    return " ".join(words + [needs] * bool(needs))


def _given_run_dir(values: Mapping[str, Any], shown: str) -> str | Path:
    """The run directory itself; if its name is not text, what is shown is another one."""
    given = Path(values.get("run_dir") or f"{values.get('output')}.run")
    try:
        given = given.absolute()
    except OSError:  # the working directory is gone
        return shown
    return given if shown_path(given) == str(Path(shown).absolute()) else shown


def _option(parameter: click.Parameter, value: Any) -> str:
    name = next(name for name in parameter.opts if name.startswith("--"))
    if value is True:
        return name
    if (parameter.name or "").endswith("_s"):
        return f"{name} {duration_text(value)}"
    if isinstance(value, Path) or (parameter.name == "output" and value != STDOUT):
        return f"{name} {quoted_path(value)}"
    return quoted_option(name, str(value))


# -- A run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """Why a command must not contact the API."""

    error: PingDataError  # raised if it would have to
    needs: str  # the options that allow it


def carry_out(
    connection: Connection,
    reporting: Reporting,
    work: Callable[[PingDataClient, EventEmitter], Awaitable[RunSummary]],
    *,
    is_begun: bool = False,
    refusal: Refusal | None = None,
) -> int:
    """Open a client, do the work and report it; returns the exit code.

    Args:
        connection: Which API.
        reporting: What to report.
        work: The work.
        is_begun: Whether the run exists: if nothing is left to send, no token is needed.
        refusal: Why the API must not be contacted; None if it may be.
    """
    # Only now: a plan, a status or a help is not drawn, and rich is slow to load.
    from pingdata_async.cli.screen import StatusConsole, notifying  # noqa: PLC0415

    console = StatusConsole()
    console.quiet = reporting.quiet

    async def run() -> RunSummary:
        async with contextlib.AsyncExitStack() as stack:
            needs = refusal.needs if refusal else ""
            watchers = _watchers(stack, console, reporting, needs)
            way = connection
            if reporting.metrics_port is not None:
                from pingdata_async.cli.metrics import serve_metrics  # noqa: PLC0415 - seldom used

                served = serve_metrics(reporting.metrics_port)
                telemetry, url = await stack.enter_async_context(served)
                way = replace(connection, telemetry=telemetry)
                console.print(f"Metrics: {url}")

            async def told(client: PingDataClient) -> RunSummary:
                return await work(client, EventEmitter(*watchers))

            if refusal is not None:
                return await with_closed_client(connection, refusal.error, told)
            opened = with_client_if_needed if is_begun else with_client
            return await opened(way, told)

    try:
        with notifying(console) if reporting.notify else contextlib.nullcontext():
            summary = anyio.run(run_until_signal, run)
    except BrokenPipeError:
        # The reader of standard output wants no more; click would turn that into an error.
        return ANSWERED
    exit_code = _report(summary, reporting.summary_path, console)
    if reporting.report_path is not None and summary.run_dir is not None:
        from pingdata_async.report.page import write_report  # noqa: PLC0415 - seldom used

        console.print(f"Report: {write_report(summary.run_dir, reporting.report_path)}")
    return exit_code


def _watchers(
    stack: contextlib.ExitStack | contextlib.AsyncExitStack,
    console: Console,
    reporting: Reporting,
    needs: str,
) -> list[Listener | None]:
    """Who hears of the events of a run, as long as the stack is open."""
    from pingdata_async.cli.screen import show  # noqa: PLC0415 - as in `carry_out()`

    stack.enter_context(events_unlogged())
    watchers: list[Listener | None] = [
        stack.enter_context(event_log(reporting.log_file)),
        functools.partial(_say_how_to_resume, click.get_current_context(), needs),
    ]
    if not reporting.quiet:
        watchers.append(stack.enter_context(narrate(console, verbose=reporting.verbose)))
        watchers.append(stack.enter_context(show(console)))
    return watchers


def _say_how_to_resume(context: click.Context, needs: str, event: Event) -> None:
    """Print the command that resumes the run, even if quiet: it is part of the error."""
    if isinstance(event, RunStopped) and not event.is_output_closed:
        said = "Stopped; what is kept cannot be read now. To resume when it can"
        if event.rows_done is not None:
            done = f"{event.rows_done:,} of {counted(event.rows, 'row')} finished"
            said = f"Stopped: {done}; everything paid for is kept. To resume"
        command = resume_command(context, event.run_dir, f"{needs} {event.needs}".strip())
        say(f"{said}:\n  {command}")


def _report(summary: RunSummary, summary_path: Path | None, console: Console) -> int:
    """Print and write the summary; returns the exit code."""
    with contextlib.suppress(OSError):  # nobody may be reading
        for line in describe(summary):
            console.print(line)
        if summary.output != "-":
            console.print(f"Written to {summary.output}")
        if summary.failures is not None:
            console.print(f"Rows without an answer: {summary.failures}")
    exit_code = exit_code_of(summary)
    if summary_path is None:
        return exit_code
    if str(summary_path) == STDOUT:
        show_json(summary)
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
            # No exit code that asks for another run: that would cost the same again.
            say(f"{failed}. It is:\n{encoded.decode()}")
            return exit_code
        command = resume_command(
            click.get_current_context(), summary.run_dir, output_option(summary.output)
        )
        say(f"{failed}; everything else is done. To write the summary at no cost:\n  {command}")
        return STOPPED
    return exit_code
