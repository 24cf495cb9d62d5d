"""Options that several commands share, and what the library gets of them.

Each family is a decorator (`reading_options`); most have a function that converts their values to
what the library takes (`read_options_of`).
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from pingdata_async.api.config import ENVIRONMENTS, SANDBOX, Environment
from pingdata_async.cli.config import profile_option
from pingdata_async.cli.help import Argument, Option, Panel, in_panel
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.locations.fields import clean_sources
from pingdata_async.runs.directory.directory import journal_path
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.export.output import writing_elsewhere
from pingdata_async.tables.formats import OutputFormat, WriteOptions
from pingdata_async.tables.rows import SEND, SKIP, ReadOptions
from pingdata_async.util.encoding import MAX_BODY_BYTES
from pingdata_async.util.text import shown_path

if TYPE_CHECKING:
    from pingdata_async.telemetry import Telemetry

F = TypeVar("F", bound=Callable[..., Any])

MB = 1024 * 1024
PREFIX = "PINGDATA_ASYNC_"

# -- Kinds of options ------------------------------------------------------------------------


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A click option that can also be set by the variable `PINGDATA_ASYNC_<ITS LONG NAME>`."""
    long_name = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = PREFIX + long_name.removeprefix("--").upper().replace("-", "_")
    has_default = attributes.get("default") is not None
    attributes.setdefault("show_default", has_default)
    return click.option(*names, cls=Option, envvar=variable, **attributes)


def switch(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A flag that only the command line sets.

    A variable left behind in the environment must not cost money, or a file.
    """
    return click.option(*names, cls=Option, is_flag=True, **attributes)


PORTS = 65536
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?"
    r"(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?",
    re.ASCII | re.IGNORECASE,
)
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0)


def _seconds(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Parse `90`, `15m`, `2h` or `1h30m`; None if the option was not given."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    numbers = () if found is None else found.groups(default="0")
    seconds = sum(float(number) * size for number, size in zip(numbers, _UNITS_S, strict=False))
    if not 0 < seconds < math.inf:
        raise click.BadParameter(
            f"{text!r} is not a duration above 0, such as 90 (seconds), 15m, 2h or 1h30m",
            context, parameter,
        )  # fmt: skip
    return seconds


def duration_text(seconds: float) -> str:
    """A duration as options take it: 900 is 15m."""
    for unit, size_s in (("h", 3600), ("m", 60)):
        if seconds >= size_s and seconds % size_s == 0:
            return f"{seconds / size_s:.0f}{unit}"
    return f"{seconds:f}".rstrip("0").rstrip(".")


def duration_option(
    name: str, *, default_s: float | None = None, **attributes: Any
) -> Callable[[F], F]:
    """An option that takes a duration; `--job-timeout` is `job_timeout_s` to Python."""
    return option(
        name,
        name.removeprefix("--").replace("-", "_") + "_s",
        metavar="DURATION",
        callback=_seconds,
        default=None if default_s is None else duration_text(default_s),
        **attributes,
    )


def only(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with these names."""
    return {name: values[name] for name in names}


def _budget(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> dict[str, int] | None:
    """Parse `PH=1000,PG=5000`; None if the option was not given."""
    if text is None:
        return None
    budget: dict[str, int] = {}
    for word in text.split(","):
        code, _, number = (part.strip() for part in word.partition("="))
        if not code or not number.isascii() or not number.isdigit() or code in budget:
            raise click.BadParameter(
                f"{text!r} is not SOURCE=LOCATIONS,..., as in PH=1000,PG=5000", context, parameter
            )
        budget[code] = int(number)
    return budget


# -- The API ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Which API, and how it is reached; None leaves it to `PingDataClient`."""

    environment: Environment | None
    api_url: str | None
    auth_token_file: Path | None
    ca_bundle: Path | None
    max_answer_mb: int | None
    telemetry: Telemetry | None = None  # told of everything that goes over it


api_options = in_panel(
    Panel.CONNECTION,
    option(
        "-e", "--environment", type=click.Choice([*ENVIRONMENTS, SANDBOX], case_sensitive=False),
        metavar="NAME",
        help="prod, prodeu, staging, dev or sandbox. The sandbox is an imitation of the API inside "
        "this process; it needs no token and costs nothing.  [default: prod]",
    ),
    option("-u", "--api-url", metavar="URL", help="Use the API at this base URL instead."),
    profile_option,
    option(
        "--auth-token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read the auth token from this file.  [default: the variables and the ini file that "
        "the vendor's client uses]",
    ),
    option(
        "--ca-bundle", rare=True, type=click.Path(exists=True, path_type=Path),
        help="Trust the certificates in this PEM file or folder instead of the system's.",
    ),
    option(
        "--max-answer-mb", rare=True, type=click.IntRange(min=1), metavar="MB",
        help="Refuse larger answers; reading one takes about twice as much memory.  "
        f"[default: {MAX_BODY_BYTES // MB}]",
    ),
)  # fmt: skip


def connection_of(values: Mapping[str, Any]) -> Connection:
    """The connection that `api_options` describe.

    Of environment and URL, one that was given has the better of one in the configuration file.
    """
    names = (field.name for field in fields(Connection) if field.name in values)
    found = dict(only(names, values))
    context = click.get_current_context()
    from_file = [
        name
        for name in ("environment", "api_url")
        if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
    ]
    if len(from_file) == 1 and None not in (found["environment"], found["api_url"]):
        found[from_file[0]] = None
    return Connection(**found)


def read_token_file(path: Path | None) -> str | None:
    """Read the token from a file; None for no file.

    Raises:
        ConfigurationError: When it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


# -- What the API is asked -------------------------------------------------------------------


def _sources(context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> str:
    """Codes in upper case, as the API has them: `-s pg -s ph` is PG,PH."""
    if not any(map(clean_sources, values)) and not context.resilient_parsing:
        raise click.UsageError(
            "give --sources, the data sources to ask, such as -s PG,PH; "
            "`pingdata-async datasources` lists them",
            context,
        )
    return ",".join(values).upper()


def complete_sources(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Codes for a shell, also behind a comma: those that the sandbox knows, without asking."""
    from pingdata_async.sandbox.answers import SOURCES  # noqa: PLC0415 - only completion needs it

    before, comma, begun = incomplete.rpartition(",")
    given = before.upper().split(",")
    return [
        CompletionItem(f"{before}{comma}{code}", help=name)
        for code, name in SOURCES
        if code.startswith(begun.upper()) and code not in given
    ]


# Repeatable, as in the vendor's command: to take only the last one would be a surprise.
sources_option = in_panel(
    Panel.ASKED,
    option(
        "-s", "--sources", multiple=True, metavar="CODES", callback=_sources,
        shell_complete=complete_sources,
        help="Ask these data sources, such as PG,PH.  [required]",
    ),
)  # fmt: skip
delegate_option = in_panel(
    Panel.ASKED,
    option(
        "-D", "--delegate-to", rare=True, metavar="ORG_SHORT_NAME",
        help="Act for another organisation (requires permission).",
    ),
)  # fmt: skip
asking_options = in_panel(
    Panel.ASKED,
    duration_option(
        "--source-timeout", rare=True,
        help="Have the API wait at most this long for each source.  [default: the API's own]",
    ),
    option(
        "-r", "--include-raw-response", rare=True, is_flag=True, show_default=False,
        help="Include each source's raw response (in tables also needs --columns '*').",
    ),
    switch(
        "--no-cache", rare=True,
        help="Fetch everything afresh instead of using the API's cache.",
    ),
    delegate_option,
)  # fmt: skip


def asking_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `asking_options`, by their names in Python."""
    same = only(("delegate_to", "include_raw_response", "source_timeout_s"), values)
    return same | {"check_cache": not values["no_cache"]}


callback_option = in_panel(
    Panel.ASKED,
    option(
        "--callback-url", rare=True, metavar="URL",
        help="Have the API POST to this URL when a job completes.",
    ),
)  # fmt: skip


def requests_option(default: str) -> Callable[[F], F]:
    """The limit of requests; `default` describes what holds without it."""
    return option(
        "--max-requests-per-second", rare=True, metavar="N",
        type=click.FloatRange(min=0, min_open=True),
        help=f"Send at most this many requests per second.  [default: {default}]",
    )  # fmt: skip


# -- What may be spent, and how persistent a run is ------------------------------------------

budget_options = in_panel(
    Panel.MONEY,
    option(
        "--max-locations", type=click.IntRange(min=1), metavar="N",
        help="Stop before the run sends more locations than this. Every attempt counts, "
        "and so does whatever may have been charged.",
    ),
    option(
        "--budget", metavar="SOURCE=N,...", callback=_budget,
        help="Likewise by source, such as PH=1000,PG=5000. A source is asked about no more "
        "locations than this; they count like those of --max-locations.",
    ),
    switch(
        "--no-preflight", rare=True,
        help="Skip the check of the account's limits before sending.",
    ),
)  # fmt: skip


def budget_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `budget_options`, by their names in Python."""
    return only(("max_locations", "budget"), values) | {"preflight": not values["no_preflight"]}


_DEFAULT = RetryPolicy()
_doubt_options = in_panel(
    Panel.MONEY,
    option(
        "--in-doubt", rare=True, type=click.Choice(["resubmit", "hold"]), default="resubmit",
        help="Resubmit a chunk whose submission got no response and may have been charged, or hold "
        "it for you to decide.",
    ),
    option(
        "--in-doubt-retries", rare=True, type=click.IntRange(min=0), metavar="N",
        default=_DEFAULT.in_doubt_retries,
        help="Resubmit such a chunk at most this many times.",
    ),
)  # fmt: skip
_patience_options = in_panel(
    Panel.SPEED,
    option(
        "--job-attempts", rare=True, type=click.IntRange(min=1), metavar="N",
        default=_DEFAULT.job_attempts,
        help="Split a chunk after this many of its jobs have failed.",
    ),
    option(
        "--location-retries", rare=True, type=click.IntRange(min=0), metavar="N",
        default=_DEFAULT.location_retries,
        help="Retry a location at most this many times if its result is missing or a source "
        "failed temporarily.",
    ),
    duration_option(
        "--job-timeout", rare=True,
        help="Abandon a running job after this long without progress (queue time excluded). It may "
        "still be charged.  [default: never]",
    ),
    duration_option(
        "--max-wait", rare=True, default_s=_DEFAULT.max_wait_s,
        help="Stop when the API asks for a longer pause than this (Retry-After).",
    ),
    duration_option(
        "--give-up-after", default_s=_DEFAULT.give_up_after_s,
        help="Stop after this long with nothing but errors from the API.",
    ),
)  # fmt: skip


def persistence_options(command: F) -> F:
    """How persistent a run is."""
    return _doubt_options(_patience_options(command))


def policy_of(values: Mapping[str, Any]) -> RetryPolicy:
    """The policy that `persistence_options` describe; each but one has the name of its field."""
    known = (field.name for field in fields(RetryPolicy) if field.name in values)
    return RetryPolicy(hold_in_doubt=values["in_doubt"] == "hold", **only(known, values))


space_option = in_panel(
    Panel.RUN,
    switch("--no-space-check", rare=True, help="Start even if the disk looks too small."),
)
discard_option = in_panel(
    Panel.RUN,
    switch("--discard-run", help="Delete the run directory once every row has an answer."),
)
overwrite_option = in_panel(Panel.OUT, switch("--overwrite", help="Replace an existing output."))

# -- Tables ----------------------------------------------------------------------------------

reading_options = in_panel(
    Panel.IN,
    # Not from a variable: it cannot hold several values with spaces in them.
    click.option(
        "--map", "mapping", cls=Option, multiple=True, metavar="FIELD=HEADER",
        help='Read a field from this column, such as city="Town". id=HEADER names the column '
        'with your own ids. Join columns with "+": address_line_1="NUMBER+STREET". Leave '
        "the header empty to send nothing for the field. Repeatable.  [default: detected]",
    ),
    switch(
        "--allow-missing-values", rare=True,
        help="Send rows of a workbook even if a formula without a value, or an error, leaves out "
        "part of the address.",
    ),
    option(
        "--hidden-rows", rare=True, type=click.Choice([SEND, SKIP]), default=SEND,
        help="Send or skip the hidden and filtered rows of a workbook.",
    ),
    option(
        "--sheet", metavar="NAME",
        help="Read this sheet of a workbook. By its name, or number from 1.  [default: the one "
        "with a table]",
    ),
    option(
        "--encoding", rare=True, metavar="NAME",
        help="Decode a text file with this encoding, such as cp1252.  [default: detected]",
    ),
)  # fmt: skip


def read_options_of(values: Mapping[str, Any]) -> ReadOptions:
    """The values of `reading_options`.

    Raises:
        ConfigurationError: When a mapping is not FIELD=HEADER, or names a field twice.
    """
    mapping: dict[str, str] = {}
    for text in values["mapping"]:
        field, equals, header = text.partition("=")
        if not equals:
            raise ConfigurationError(f'--map {text}: give a field and a header, as in city="Town"')
        if field.strip() in mapping:
            raise ConfigurationError(f"--map names {field.strip()} twice")
        mapping[field.strip()] = header
    same = ("encoding", "sheet", "hidden_rows", "allow_missing_values")
    return ReadOptions(mapping=mapping, **only(same, values))


format_option = option(
    "--output-format", rare=True, type=click.Choice([each.value for each in OutputFormat]),
    metavar="FORMAT",
    help=f"Write {', '.join(OutputFormat)}.  [default: by the output's name]",
)  # fmt: skip
safe_csv_option = switch(
    "--safe-csv", rare=True,
    help="Put a ' before CSV texts that a spreadsheet would run as a formula.",
)  # fmt: skip
writing_options = in_panel(
    Panel.OUT,
    format_option,
    option(
        "--columns", metavar="NAMES",
        help='Write these columns of a table, in this order. Such as "Loc #,enhance_*,'
        'pg_latitude"; quote a name that contains a comma. For JSONL: copy these columns of INPUT '
        'into each line under "input".  [default: all columns of a table except worker_name, '
        "persist_for, raw_response and fetch_time of each source, which '*' includes; none of "
        "JSONL]",
    ),
    safe_csv_option,
    option(
        "--geocode-source", rare=True, metavar="CODES",
        help="For maps (GeoJSON, GeoParquet): take each point from the first of these sources "
        "that has one, such as PG,GG.  [default: geocoders first, as in --sources]",
    ),
)  # fmt: skip


def write_options_of(values: Mapping[str, Any]) -> WriteOptions:
    """The values of `writing_options`."""
    return WriteOptions(
        format=values["output_format"],
        columns=listed(values["columns"]),
        safe_csv=values["safe_csv"],
        geocode_sources=tuple(code.upper() for code in listed(values["geocode_source"])),
    )


def rewrite_options_of(
    values: Mapping[str, Any], settings: RunSettings, output: str | None
) -> WriteOptions:
    """The values of `writing_options` for an existing run.

    Args:
        values: The command's options; what is not given stays as it was.
        settings: The run's settings.
        output: The output to write; None for the run's own.
    """
    given = write_options_of(values)
    kept = settings.writing
    if output is not None:
        kept = writing_elsewhere(output, given.format, settings)
    return WriteOptions(
        **{name: getattr(given, name) or getattr(kept, name) for name in given.__struct_fields__}
    )


def listed(text: str | None) -> tuple[str, ...]:
    """Names between commas; quotes hold what contains one."""
    if text is None:
        return ()
    if '"' not in text:  # line breaks are a part of headers, too
        return tuple(name for part in text.split(",") if (name := part.strip()))
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    return tuple(name for line in lines for part in line if (name := part.strip()))


# -- What is reported ------------------------------------------------------------------------


def json_option(help: str) -> Callable[[F], F]:  # noqa: A002 - click's name
    """The switch for those who read the output by a program."""
    return in_panel(Panel.MESSAGES, switch("--json", "as_json", help=help))


class _RunOrStore(click.Path):
    """The folder of a run, or the url of a store; a path would lose one of its slashes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        is_store = isinstance(value, str) and "://" in value
        return value if is_store else super().convert(value, param, ctx)


def _found_run_dir(
    _context: click.Context, _parameter: click.Parameter, given: Path | str
) -> Path | str:
    """The run directory, also where the output beside it was named; a store as it is."""
    if isinstance(given, str):
        return given
    beside = Path(f"{given}.run")
    is_output = not os.path.lexists(journal_path(given)) and os.path.lexists(journal_path(beside))
    return beside if is_output else given


def run_argument(
    name: str,
    help: str,  # noqa: A002 - click's name
    *,
    type_: click.Path | None = None,
) -> Callable[[F], F]:
    """An argument that names a run."""
    return click.argument(
        name, cls=Argument, metavar=name.upper(), type=type_ or click.Path(path_type=Path),
        callback=_found_run_dir, help=help,
    )  # fmt: skip


run_dir_argument = run_argument(
    "run_dir", "The folder of a run, such as enhanced.xlsx.run, or the output beside it."
)
run_or_store_argument = run_argument(
    "run_dir",
    "The folder of a run, such as enhanced.xlsx.run, or the output beside it; or the store of a "
    "distributed engine, such as s3://bucket/prefix.",
    type_=_RunOrStore(path_type=Path),
)


def _address(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse what is neither a port nor a host and a port."""
    port = (text or "0").rpartition(":")[2]
    if not (port.isascii() and port.isdigit() and float(port) < PORTS):
        raise click.BadParameter(f"{text!r} is neither a port nor HOST:PORT", context, parameter)
    return text


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """What is reported of a run, and where; None for nowhere."""

    verbose: bool  # what happens to each job, too
    quiet: bool  # errors only
    log_file: Path | None
    summary_path: Path | None
    report_path: Path | None
    notify: bool  # the terminal, at the end
    metrics_port: str | None  # where metrics are served


output_options = in_panel(
    Panel.MESSAGES,
    option(
        "-v", "--verbose", is_flag=True, show_default=False,
        help="Print what happens to each job.",
    ),
    option("-q", "--quiet", is_flag=True, show_default=False, help="Print errors only."),
    option(
        "--log-file", type=click.Path(dir_okay=False, path_type=Path),
        help="Append every event to this file. One JSON object per line.",
    ),
    option(
        "--summary", "summary_path", type=click.Path(dir_okay=False, path_type=Path),
        help='Write the summary to this file as JSON. "-" is standard output.',
    ),
    option(
        "--report", "report_path", type=click.Path(dir_okay=False, path_type=Path),
        help="Write a report to this HTML file at the end: map, match quality, costs. `report` "
        "does the same later.",
    ),
    option(
        "--notify", is_flag=True, show_default=False, rare=True,
        help="At the end, ring the terminal's bell and show a desktop notification (OSC 9), "
        "where it can.",
    ),
    option(
        "--metrics-port", metavar="[HOST:]PORT", rare=True, callback=_address,
        help="Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics, or on another host, "
        "while the run goes on.",
    ),
)  # fmt: skip


def reporting_of(values: Mapping[str, Any]) -> Reporting:
    """The reporting that `output_options` describe."""
    return Reporting(**only((field.name for field in fields(Reporting)), values))


def side_files_of(values: Mapping[str, Any]) -> dict[str, Path | None]:
    """The files that `output_options` name, by option."""
    names = {"--summary": "summary_path", "--log-file": "log_file", "--report": "report_path"}
    return {option: values.get(name) for option, name in names.items()}


# -- Checks ----------------------------------------------------------------------------------


def check_run_dir(run_dir: Path) -> None:
    """Refuse a path that is no run directory.

    Raises:
        ConfigurationError: When it is none, or cannot be read.
    """
    try:
        journal_path(run_dir).lstat()
    except (FileNotFoundError, NotADirectoryError):
        beside = run_dir.with_name(f"{run_dir.name}.run") if run_dir.name else run_dir
        hint = f"; did you mean {shown_path(beside)}?" if beside.is_dir() else ""
        said = "does not exist" if not (hint or run_dir.exists()) else "is not a run directory"
        raise ConfigurationError(f"{shown_path(run_dir)} {said}{hint}") from None
    except OSError as error:
        raise ConfigurationError(
            f"{shown_path(run_dir)} cannot be read: {error.strerror or error}"
        ) from error


def check_output_name(output: str) -> None:
    """Refuse an output that names no file; raises ConfigurationError with what is wrong."""
    if not Path(output).name:
        raise ConfigurationError(f"--output {output!r} names no file")
    try:
        output.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"--output {shown_path(output)} is not UTF-8, so a run cannot store its name"
        ) from None
