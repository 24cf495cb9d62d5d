"""Options that several commands share.

Options that several commands share. Each can also come from a variable.

Options about tables: how an input is understood, and how an output is written.

Options about what the API is asked for, and how; they hold for each of its sources.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pingdata_async.api.config import ENVIRONMENTS
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.directory.directory import journal_path
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.export.output import writing_elsewhere
from pingdata_async.tables.formats import OutputFormat, WriteOptions
from pingdata_async.tables.rows import SEND, SKIP, ReadOptions
from pingdata_async.util.encoding import MAX_BODY_BYTES
from pingdata_async.util.text import shown_path

F = TypeVar("F", bound=Callable[..., Any])

MB = 1024 * 1024
PREFIX = "PINGDATA_ASYNC_"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Which API, and how it is reached.

    Attributes:
        environment: Its name; None for the default, or where there is a url.
        api_url: Its url; None for that of the environment.
        auth_token_file: File with the token; None for the usual places.
        ca_bundle: Certificates to trust; None for the system's.
        max_answer_mb: The largest answer that is taken; None for the client's own limit.
    """

    environment: str | None
    api_url: str | None
    auth_token_file: Path | None
    ca_bundle: Path | None
    max_answer_mb: int | None


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """What is said of a run, and where.

    Attributes:
        verbose: Whether to say what happens to each job.
        quiet: Whether to say nothing but errors.
        log_file: Where every event is appended; None for nowhere.
        summary_path: Where the summary is written as JSON; None for nowhere.
    """

    verbose: bool
    quiet: bool
    log_file: Path | None
    summary_path: Path | None


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A click option that is also read from `PINGDATA_ASYNC_<ITS LONG NAME>`."""
    long_name = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = PREFIX + long_name.removeprefix("--").upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def switch(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A click option that is given with the command or not at all.

    What changes what one call does, and may cost money or a file, must not be left behind in
    an environment.
    """
    return click.option(*names, is_flag=True, **attributes)


def check_run_dir(run_dir: Path) -> None:
    """Refuse what is no run directory.

    Raises:
        ConfigurationError: When it is none.
    """
    try:
        journal_path(run_dir).lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(f"{shown_path(run_dir)} is not a run directory") from None
    except OSError as error:
        raise ConfigurationError(
            f"{shown_path(run_dir)} cannot be read: {error.strerror or error}"
        ) from error


def check_output_name(output: str) -> None:
    """Refuse a name that names no file.

    Raises:
        ConfigurationError: With what is wrong.
    """
    if not Path(output).name:
        raise ConfigurationError(f"--output {output!r} names no file")
    try:
        output.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"--output {shown_path(output)} is not UTF-8; a run could not note it down"
        ) from None


def api_options(command: F) -> F:
    """Where the API is and how to reach it."""
    for decorate in (
        option(
            "--max-answer-mb",
            type=click.IntRange(min=1),
            metavar="MB",
            help="The largest answer that is taken; about twice as much memory is needed.  "
            f"[default: {MAX_BODY_BYTES // MB}]",
        ),
        option(
            "--ca-bundle",
            type=click.Path(exists=True, path_type=Path),
            help="Certificates to trust instead of the system's (PEM file or folder).",
        ),
        option(
            "--auth-token-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File that holds the auth token. Without it: the variables and the ini file "
            "that the vendor's client uses.",
        ),
        option("-u", "--api-url", help="Base url of the API, instead of an environment."),
        option(
            "-e",
            "--environment",
            type=click.Choice([*ENVIRONMENTS, "sandbox"], case_sensitive=False),
            help="Which API (default: prod). The sandbox is an imitation inside this process; "
            "it needs no token and costs nothing.",
        ),
    ):
        command = decorate(command)
    return command


def persistence_options(command: F) -> F:
    """How often things are tried."""
    for decorate in (
        option(
            "--give-up-after",
            "give_up_after_s",
            type=click.FloatRange(min=0, min_open=True),
            default=RetryPolicy().give_up_after_s,
            show_default=True,
            metavar="SECONDS",
            help="Stop when the API gives nothing but errors for so long.",
        ),
        option(
            "--max-wait",
            "max_wait_s",
            type=click.FloatRange(min=0, min_open=True),
            default=RetryPolicy().max_wait_s,
            show_default=True,
            metavar="SECONDS",
            help="Stop when the API asks for a longer pause (Retry-After) than that.",
        ),
        option(
            "--job-timeout",
            "job_timeout_s",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="Give up a job at work that makes no progress for so long; time in the API's "
            "queue does not count. It may be charged all the same.  [default: never]",
        ),
        option(
            "--location-retries",
            type=click.IntRange(min=0),
            default=RetryPolicy().location_retries,
            show_default=True,
            help="How often a location is asked about again that was left out, or whose source "
            "was in trouble.",
        ),
        option(
            "--job-attempts",
            type=click.IntRange(min=1),
            default=RetryPolicy().job_attempts,
            show_default=True,
            help="Jobs that a chunk gets before it is split, if they fail.",
        ),
        option(
            "--in-doubt-retries",
            type=click.IntRange(min=0),
            default=RetryPolicy().in_doubt_retries,
            show_default=True,
            help="How often a chunk is sent again whose submission was in doubt.",
        ),
        option(
            "--in-doubt",
            type=click.Choice(["resubmit", "hold"]),
            default="resubmit",
            show_default=True,
            help="A submission whose answer is lost may have been charged: send it again, or "
            "leave it to you.",
        ),
    ):
        command = decorate(command)
    return command


requests_option = option(
    "--max-requests-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="That your account is allowed.  [default: learnt, if the API refuses any]",
)

callback_option = option(
    "--callback-url",
    metavar="URL",
    help="POSTed to by the API when a job is done, for a receiver of yours.",
)


def _budget(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> dict[str, int] | None:
    """What `PH=1000,PG=5000` says; None where nothing is said."""
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


def budget_options(command: F) -> F:
    """What may be spent."""
    for decorate in (
        switch("--no-preflight", help="Begin without a look at the account's limits."),
        option(
            "--budget", metavar="SOURCE=LOCATIONS,...", callback=_budget,
            help="Stop before a source is asked about more locations than that, in all of the run, "
            "such as PH=1000,PG=5000; counted as --max-locations.",
        ),
        option(
            "--max-locations", type=click.IntRange(min=1),
            help="Stop before more locations are sent, in all of the run; each attempt counts, and "
            "what may have been charged.",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def budget_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `budget_options` give, by the names that Python knows them by."""
    return {
        "max_locations": values["max_locations"],
        "budget": values["budget"],
        "preflight": not values["no_preflight"],
    }


space_option = switch("--no-space-check", help="Begin also where the disk seems too small.")


def policy_of(values: Mapping[str, Any]) -> RetryPolicy:
    """The policy that `persistence_options` give."""
    return RetryPolicy(
        hold_in_doubt=values["in_doubt"] == "hold",
        in_doubt_retries=values["in_doubt_retries"],
        job_attempts=values["job_attempts"],
        location_retries=values["location_retries"],
        give_up_after_s=values["give_up_after_s"],
        max_wait_s=values["max_wait_s"],
        job_timeout_s=values["job_timeout_s"],
    )


def connection_of(values: Mapping[str, Any]) -> Connection:
    """The connection that `api_options` give."""
    return Connection(**{name: values[name] for name in Connection.__dataclass_fields__})


def reporting_of(values: Mapping[str, Any]) -> Reporting:
    """The reporting that `output_options` give."""
    return Reporting(**{name: values[name] for name in Reporting.__dataclass_fields__})


def output_options(command: F) -> F:
    """How much is said, and where."""
    for decorate in (
        option(
            "--summary",
            "summary_path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write the summary to this file as JSON.",
        ),
        option(
            "--log-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Append every event to this file, a line of JSON each.",
        ),
        option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        option("-v", "--verbose", is_flag=True, help="Say what happens to each job."),
    ):
        command = decorate(command)
    return command


def read_token_file(path: Path | None) -> str | None:
    """The token in a file; None for no file.

    Raises:
        ConfigurationError: When it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def reading_options(command: F) -> F:
    """How the input is understood, where that is not found out."""
    for decorate in (
        option(
            "--encoding",
            metavar="NAME",
            help="Of a text file, such as cp1252.  [default: found out]",
        ),
        option(
            "--sheet",
            metavar="NAME",
            help="Of a workbook; or its number, from 1.  [default: the one with a table]",
        ),
        option(
            "--hidden-rows",
            type=click.Choice([SEND, SKIP]),
            default=SEND,
            show_default=True,
            help="Of a workbook: what is done with rows that are hidden, or filtered away.",
        ),
        switch(
            "--allow-missing-values",
            help="Send rows of a workbook also where a formula without a value, or an error, "
            "leaves out a part of the address.",
        ),
        # Not from a variable: those cannot hold several with spaces in them.
        click.option(
            "--map",
            "mapping",
            multiple=True,
            metavar="FIELD=HEADER",
            help='A column for a field, such as --map address="Street Address"; several times. '
            'Columns are joined by "+", as in address_line_1="NUMBER+STREET". '
            "Without a header, nothing is sent for the field.  [default: found out]",
        ),
    ):
        command = decorate(command)
    return command


def writing_options(command: F) -> F:
    """How the output is written."""
    for decorate in (
        option(
            "--geocode-source",
            metavar="CODES",
            help="Of a map's points, such as PG,GG: the first that has a place.  [default: "
            "geocoders first, as in --sources]",
        ),
        switch(
            "--safe-csv",
            help="Put ' before texts in a CSV that a spreadsheet would run as a formula.",
        ),
        option(
            "--columns",
            metavar="NAMES",
            help='Columns of a table, in this order, such as "Loc #,enhance_*,pg_latitude"; a name '
            "with a comma in it is put in double quotes. Of JSONL, those of the input that each "
            'line has under "input".  [default: all of a table but '
            "worker_name, persist_for, raw_response and fetch_time of each source, with '*' these "
            "too; none of JSONL]",
        ),
        option(
            "--output-format",
            type=click.Choice([each.value for each in OutputFormat]),
            help="[default: by the output's name]",
        ),
    ):
        command = decorate(command)
    return command


def read_options_of(values: Mapping[str, Any]) -> ReadOptions:
    """What `reading_options` give.

    Raises:
        ConfigurationError: For a mapping that is none.
    """
    mapping: dict[str, str] = {}
    for text in values["mapping"]:
        field, equals, header = text.partition("=")
        if not equals:
            raise ConfigurationError(f'--map {text}: give a field and a header, as in city="Town"')
        if field.strip() in mapping:
            raise ConfigurationError(f"--map names {field.strip()} twice")
        mapping[field.strip()] = header
    return ReadOptions(
        mapping=mapping,
        encoding=values["encoding"],
        sheet=values["sheet"],
        hidden_rows=values["hidden_rows"],
        allow_missing_values=values["allow_missing_values"],
    )


def write_options_of(values: Mapping[str, Any]) -> WriteOptions:
    """What `writing_options` give."""
    return WriteOptions(
        format=values["output_format"],
        columns=_listed(values["columns"]),
        safe_csv=values["safe_csv"],
        geocode_sources=tuple(code.upper() for code in _listed(values["geocode_source"])),
    )


def rewrite_options_of(
    values: Mapping[str, Any], settings: RunSettings, output: str | None
) -> WriteOptions:
    """What `writing_options` give for a run that was begun with others.

    Args:
        values: The command's options; what is not given is as it was.
        settings: Those of the run.
        output: Another output than the run's; None for that.
    """
    given = write_options_of(values)
    kept = settings.writing
    if output is not None:
        kept = writing_elsewhere(output, given.format, settings)
    return WriteOptions(
        format=given.format or kept.format,
        columns=given.columns or kept.columns,
        safe_csv=given.safe_csv or kept.safe_csv,
        geocode_sources=given.geocode_sources or kept.geocode_sources,
    )


def _listed(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    if '"' not in text:  # line breaks are a part of headers, too
        return tuple(name for part in text.split(",") if (name := part.strip()))
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    return tuple(name for line in lines for part in line if (name := part.strip()))


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
        switch("--no-cache", help="Have everything fetched afresh, whatever the API has kept."),
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
        "check_cache": not values["no_cache"],
        "include_raw_response": values["include_raw_response"],
        "source_timeout_s": values["source_timeout_s"],
    }
