"""The commands that work on a run: `enhance`, `plan`, `resume`, `retry` and `export`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import is_published
from pingdata_async.cli.console import (
    Table,
    check_side_files,
    mapped_lines,
    reused_told,
    show,
    show_json,
    unused_lines,
    waiting_for,
)
from pingdata_async.cli.execute import Refusal, carry_out, with_client_if_needed
from pingdata_async.cli.help import EXIT_CODES, Argument, Option, Panel, command, in_panel
from pingdata_async.cli.main import ANSWERED, NO_ANSWER_FOR_SOME, STOPPED, run_until_signal, say
from pingdata_async.cli.options import (
    Connection,
    api_options,
    asking_of,
    asking_options,
    budget_of,
    budget_options,
    callback_option,
    check_output_name,
    check_run_dir,
    connection_of,
    discard_option,
    duration_option,
    json_option,
    only,
    option,
    output_options,
    overwrite_option,
    persistence_options,
    policy_of,
    read_options_of,
    reading_options,
    reporting_of,
    requests_option,
    rewrite_options_of,
    run_dir_argument,
    run_or_store_argument,
    side_files_of,
    sources_option,
    space_option,
    switch,
    write_options_of,
    writing_options,
)
from pingdata_async.cli.report import check_report
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import Event, EventEmitter, InputAwaited
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import RunSummary
from pingdata_async.progress import duration
from pingdata_async.runs.directory.directory import (
    begun_with,
    check_own_place,
    read_settings,
    run_dir_for,
)
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.export.export import ExportedRun, export_run
from pingdata_async.runs.forecast import Forecast
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import STDOUT, counted, quoted_option, shown_bytes, shown_url
from pingdata_async.value_notes import sentence, to_be_told

F = TypeVar("F", bound=Callable[..., Any])

# -- enhance and plan ------------------------------------------------------------------------


def _input_options(*, is_output_required: bool) -> Callable[[F], F]:
    """What is read, asked and written; in the order in which the panels show it."""

    def decorate(command: F) -> F:
        for each in reversed(
            (
                _source_argument,
                reading_options,
                _output_options(is_output_required),
                writing_options,
                overwrite_option,
                sources_option,
                asking_options,
                callback_option,
                budget_options,
                _spending_options,
                _run_options,
                _pace_options,
                api_options,
            )
        ):
            command = each(command)
        return command

    return decorate


_source_argument = click.argument(
    "source", cls=Argument, metavar="INPUT",
    help='A CSV, JSONL, Parquet or workbook; "-" is standard input.',
)  # fmt: skip


def _output_options(is_required: bool) -> Callable[[F], F]:
    return in_panel(
        Panel.OUT,
        option(
            "-o", "--output", metavar="FILE", required=is_required,
            help="Write to this file; its name tells the format. .jsonl, .csv, .tsv, .parquet, "
            ".xlsx, .geojson (one FeatureCollection), .geojsonl (a feature a line) or "
            '.geoparquet; text also with .gz or .zst appended. "-" is standard output.',
        ),
    )  # fmt: skip


_spending_options = in_panel(
    Panel.MONEY,
    switch(
        "--no-dedupe", rare=True, help="Send, and pay for, rows that repeat an earlier location."
    ),
    switch(
        "--pay-again", rare=True,
        help="Start even if another run beside it has the same input, sources and options.",
    ),
    option(
        "--reuse", multiple=True, metavar="RUN", type=click.Path(exists=True, path_type=Path),
        help="Reuse the answers of this run, or folder of runs.",
    ),
    duration_option(
        "--max-age", rare=True,
        help="With --reuse: use no answer older than this, such as 90d.  "
        "[default: any age]",
    ),
    switch("--no-reuse", rare=True, help="Reuse nothing, whatever the configuration file says."),
)  # fmt: skip
_run_options = in_panel(
    Panel.RUN,
    option(
        "--run-dir", type=click.Path(path_type=Path), metavar="FOLDER",
        help="Keep the run in this folder.  [default: OUTPUT.run]",
    ),
    switch("--restart", help="Set an existing run of this output aside. A new one is started."),
)  # fmt: skip
_pace_options = in_panel(
    Panel.SPEED,
    option(
        "--chunk-size", type=click.IntRange(min=1), metavar="N", default=1000,
        help="Put at most this many locations into a job.",
    ),
    option(
        "--max-jobs", type=click.IntRange(min=1), metavar="N", default=64,
        help="Keep at most this many jobs in flight. Fewer, if the API cannot take more.",
    ),
    requests_option("adapts when the API refuses any"),
)  # fmt: skip


@command(
    examples="""
        pingdata-async enhance sov.xlsx -o enhanced.xlsx -s PG,PH
        pingdata-async enhance sov.xlsx -o trial.xlsx -s PG --environment sandbox
        pingdata-async enhance in.csv -o answers.jsonl -s PG --max-locations 100
    """,
    exit_codes=EXIT_CODES,
)
@_input_options(is_output_required=True)
@persistence_options
@discard_option
@space_option
@output_options
def enhance(
    source: str,
    output: str,
    sources: str,
    discard_run: bool,
    no_space_check: bool,
    **others: Any,
) -> int:
    """Enhance every address in INPUT and write the answers.

    If anything stops the run, give the same command again to resume it.

    INPUT is a CSV or other delimited text, JSONL (both also as .gz or .zst), Parquet, or a
    workbook (.xlsx, .xls, .ods); "-" is standard input. Columns are mapped to fields by their
    headers, and the mapping is printed; `pingdata-async inspect INPUT` shows it without sending
    anything. The output has every row in input order: as JSON lines, or as a table with all
    columns of INPUT followed by the answers.
    """
    enhancer_options, run_options = _checked(source, output, others)
    is_kept = output != STDOUT or others["run_dir"] is not None
    check_report(others["report_path"], discard_run=discard_run or not is_kept)
    policy = policy_of(others)

    async def work(client: PingDataClient, emit: EventEmitter) -> RunSummary:
        enhancer = BulkEnhancer(
            client, sources, retry_policy=policy, on_event=emit, **enhancer_options
        )
        return await enhancer.run(
            source,
            output,
            discard_run=discard_run,
            check_space=not no_space_check,
            **run_options,
        )

    is_begun = not others["restart"] and _is_begun(output, others["run_dir"])
    return carry_out(connection_of(others), reporting_of(others), work, is_begun=is_begun)


def _is_begun(output: str, run_dir: Path | None) -> bool:
    """Whether the run exists; a new one is not even planned without a token."""
    if run_dir is None and output == STDOUT:
        return False
    return begun_with(run_dir_for(output, run_dir)) is not None


@command(
    examples="""
        pingdata-async plan sov.xlsx -s PG,PH
        pingdata-async plan sov.xlsx -s PG,PH -o enhanced.xlsx   # and keep it
    """,
    exit_codes=EXIT_CODES,
)
@_input_options(is_output_required=False)
@json_option("Print it as JSON.")
def plan(source: str, output: str | None, sources: str, as_json: bool, **others: Any) -> int:
    """Show what a run would send and cost; send no job.

    Read all of INPUT. With --output, keep the plan: `enhance` with the same options, or `resume`
    with the run directory, sends it without reading INPUT again. Without --output, delete it.
    """
    enhancer_options, run_options = _checked(source, output or STDOUT, others)
    del run_options["preflight"]  # nothing is refused here

    async def make(client: PingDataClient) -> Forecast:
        enhancer = BulkEnhancer(client, sources, on_event=_say_waiting, **enhancer_options)
        return await enhancer.dry_run(source, output, keep_plan=True, **run_options)

    told = anyio.run(run_until_signal, lambda: with_client_if_needed(connection_of(others), make))
    print_forecast(told, as_json=as_json)
    return ANSWERED


def _say_waiting(event: Event) -> None:
    """What is said at once; the rest stands among the notes."""
    if isinstance(event, InputAwaited):
        say(waiting_for(event.source))


def _checked(
    source: str, output: str, others: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that `enhance` and `plan` share, by the names that Python knows them by.

    Returns:
        Those of the enhancer, and those of its run.

    Raises:
        ConfigurationError: When they cannot be used.
    """
    check_output_name(output)
    files = side_files_of(others)
    check_side_files(files, source=source, output=output, run_dir=others["run_dir"])
    same = ("chunk_size", "max_jobs", "max_requests_per_second", "callback_url")
    of_the_enhancer = only(same, others) | asking_of(others)
    max_age_s = others["max_age_s"]
    of_the_run = only(("run_dir", "overwrite", "restart", "pay_again"), others) | {
        "reuse": () if others["no_reuse"] else others["reuse"],
        "max_age": None if max_age_s is None else dt.timedelta(seconds=max_age_s),
        "dedupe": not others["no_dedupe"],
        "reading": read_options_of(others),
        "writing": write_options_of(others),
    }
    return of_the_enhancer, of_the_run | budget_of(others)


# -- What a plan prints ----------------------------------------------------------------------


def print_forecast(forecast: Forecast, *, as_json: bool) -> None:
    """Print it on standard output; raises RunError when that cannot be written."""
    if as_json:
        show_json(forecast)
    else:
        show(*described(forecast))


def described(forecast: Forecast) -> Iterator[str | Table]:
    """A forecast in lines and tables for people."""
    repeated = f"; {counted(forecast.repeated, 'repeated row')}" if forecast.repeated else ""
    distinct = counted(forecast.distinct - forecast.locations_reused, "distinct location")
    yield f"{counted(forecast.rows, 'row')}, {distinct} to be sent{repeated}"
    if forecast.oldest_reused_at is not None:
        reused = forecast.locations_reused
        yield reused_told(reused, forecast.distinct, forecast.oldest_reused_at)
    if forecast.left_out:
        yield f"not sent: {_counted(forecast.left_out)}"
    yield from mapped_lines(forecast.mapping)
    yield from unused_lines(forecast.unused_columns)
    yield from map(sentence, to_be_told(forecast.value_notes))
    if forecast.skipped_by_source:
        skipped = _counted(forecast.skipped_by_source)
        yield f"rows not sent to a source that cannot answer them: {skipped}"
    charged = _counted(forecast.charged_by_source) or "nothing"
    locations, jobs = counted(forecast.locations, "location"), counted(forecast.jobs, "job")
    yield f"charges: {locations} in {jobs}; {charged}"
    if forecast.left_by_budget:
        left = counted(forecast.left_by_budget, "location")
        yield f"left for later, beyond the budget: {left}"
    yield f"expected duration: {_expected(forecast)}"
    suffices = "" if forecast.disk_suffices else ", more than is free"
    yield f"disk needed: about {shown_bytes(forecast.disk_bytes)}{suffices}"
    if forecast.quotas:
        rows = [
            (
                quota.source,
                quota.window,
                quota.limit,
                quota.left,
                None if quota.resets_at is None else f"{quota.resets_at:%Y-%m-%d %H:%M}",
            )
            for quota in forecast.quotas
        ]
        yield Table(("source", "window", "limit", "left", "resets (UTC)"), rows)
    yield _fits(forecast)
    yield from forecast.notes
    if forecast.run_dir is not None:
        yield f"The plan is kept in {forecast.run_dir}; no job was sent."
    else:
        yield "The plan was deleted; no job was sent."


def _fits(forecast: Forecast) -> str:
    if forecast.fits is None:
        return "Whether it fits the account's limits is unknown."
    if forecast.fits:
        return "It fits the account's limits."
    fits = f" What fits: {counted(forecast.fitting, 'location')}." if forecast.fitting else ""
    return f"It exceeds the account's limits. {'. '.join(forecast.refusals)}.{fits}"


def _expected(forecast: Forecast) -> str:
    if forecast.expected_seconds is None:
        return "unknown"
    at_least = "at least " if forecast.is_at_least else "about "
    return at_least + duration(forecast.expected_seconds)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


# -- resume, retry and export ----------------------------------------------------------------

_own_output_options = in_panel(
    Panel.OUT,
    # Not from a variable: one that is meant for `enhance` must not redirect another run.
    click.option(
        "-o", "--output", cls=Option, metavar="FILE",
        help="Write to this file instead.  [default: the run's own output]",
    ),
)  # fmt: skip
_own_pace_options = in_panel(
    Panel.SPEED,
    option(
        "--max-jobs", type=click.IntRange(min=1), metavar="N",
        help="Keep at most this many jobs in flight.  [default: as before]",
    ),
    requests_option("as before"),
)  # fmt: skip


def _going_on_options(command: F) -> F:
    for each in (
        persistence_options, budget_options, api_options, writing_options, callback_option,
        _own_pace_options, overwrite_option, _own_output_options,
    ):  # fmt: skip
        command = each(command)
    return command


@command(examples="pingdata-async resume enhanced.xlsx.run", exit_codes=EXIT_CODES)
@run_dir_argument
@_going_on_options
@discard_option
@space_option
@output_options
def resume(run_dir: Path, discard_run: bool, **others: Any) -> int:
    """Resume a run that stopped; its input is not needed.

    Nothing is sent if the run is finished.
    """
    check_report(others["report_path"], discard_run=discard_run)
    return _go_on(
        run_dir,
        others,
        lambda enhancer, options: enhancer.resume(run_dir, discard_run=discard_run, **options),
    )


@command(
    examples="""
        pingdata-async retry enhanced.xlsx.run
        pingdata-async retry enhanced.xlsx.run --all   # also partial rows
    """,
    exit_codes=EXIT_CODES,
)
@run_dir_argument
@in_panel(
    Panel.ASKED,
    switch("--all", "all_not_ok", help='Retry every row that is not ok, "no match" included.'),
)
@_going_on_options
@space_option
@output_options
def retry(run_dir: Path, all_not_ok: bool, **others: Any) -> int:
    """Retry the rows of a run that have no answer.

    The output is rewritten. Each row is sent again only to the sources that did not succeed.
    """
    check_report(others["report_path"])
    return _go_on(
        run_dir,
        others,
        lambda enhancer, options: enhancer.retry(run_dir, all_not_ok=all_not_ok, **options),
    )


@command(
    examples="""
        pingdata-async export enhanced.xlsx.run -o enhanced.parquet
        pingdata-async export enhanced.xlsx.run -o map.geojson --columns "Loc #,ph_*"
        pingdata-async export s3://bucket/prefix -o out.csv   # of Spark or Dask
    """,
    exit_codes="""
        0    every row has an answer
        2    wrong usage
        3    written, but some rows have no answer
        5    written, but the run is not finished
    """,
)
@run_or_store_argument
@in_panel(
    Panel.OUT,
    click.option(
        "-o", "--output", cls=Option, required=True, metavar="FILE",
        help='Write to this file. In any format of `enhance`; "-" is standard output.',
    ),
)  # fmt: skip
@overwrite_option
@writing_options
def export(run_dir: Path | str, output: str, overwrite: bool, **others: Any) -> int:
    """Write a run's output in any format, at no cost.

    The run may be running, stopped or finished. Its input is not needed: all columns were kept.

    If the run is not finished, the rows with an outcome are written, and the number of missing
    rows is printed. The exit code is that of the run: 5 if rows are missing, 3 if rows have no
    answer.

    Of a store, the rows come in no order, each with its task and the location as it was sent; how
    many are missing is not known.
    """
    check_output_name(output)
    write = _export_of(run_dir, output, overwrite, others)
    try:
        written = anyio.run(run_until_signal, write)
    except BrokenPipeError:
        return ANSWERED
    for note in written.notes:
        say(printable(note))
    said = f"{counted(written.rows, 'row')} written"
    if written.rows_left_out:
        said += f"; {counted(written.rows_left_out, 'row')} left out, without an outcome yet"
    say(said + ".")
    if written.rows_left_out:
        return STOPPED
    return NO_ANSWER_FOR_SOME if written.no_answer else ANSWERED


def _export_of(
    run_dir: Path | str, output: str, overwrite: bool, others: dict[str, Any]
) -> Callable[[], Awaitable[ExportedRun]]:
    """What writes the rows of a run or a store; raises where their options do not fit."""
    if isinstance(run_dir, str):
        from pingdata_async.engines.overview import export_store  # noqa: PLC0415 - few have one

        writing = write_options_of(others)
        return functools.partial(
            export_store, run_dir, output, overwrite=overwrite, writing=writing
        )
    check_run_dir(run_dir)
    writing = rewrite_options_of(others, read_settings(run_dir), output)
    return functools.partial(export_run, run_dir, output, overwrite, writing=writing)


def _go_on(
    run_dir: Path,
    others: dict[str, Any],
    work: Callable[[BulkEnhancer, dict[str, Any]], Awaitable[RunSummary]],
) -> int:
    """Open the run's API, and work on the run with the options that it takes."""
    output = others["output"]
    settings = _checked_settings(run_dir, output, others)
    options = only(("output", "overwrite"), others) | budget_of(others)
    options["check_space"] = not others["no_space_check"]
    options["writing"] = rewrite_options_of(others, settings, output)

    async def go_on(client: PingDataClient, emit: EventEmitter) -> RunSummary:
        return await work(_enhancer(client, settings, emit, others), options)

    return carry_out(
        connection_to_run(settings, others),
        reporting_of(others),
        go_on,
        is_begun=True,
        refusal=refusal_of(settings, others),
    )


def _checked_settings(run_dir: Path, output: str | None, others: dict[str, Any]) -> RunSettings:
    check_run_dir(run_dir)
    settings = read_settings(run_dir)
    if output is None:
        check_own_place(settings, run_dir)
        output = settings.output
    check_output_name(output)
    files = side_files_of(others)
    check_side_files(files, source=None, output=output, run_dir=run_dir)
    return settings


def connection_to_run(settings: RunSettings, others: dict[str, Any]) -> Connection:
    """The API that the options name, or else the run's own."""
    given = connection_of(others)
    if given.environment is not None or given.api_url is not None:
        return given
    return dataclasses.replace(given, environment=settings.environment, api_url=settings.api_url)


def refusal_of(settings: RunSettings, others: dict[str, Any]) -> Refusal | None:
    """Why the API must not be contacted: it, or a callback, is named by the run directory alone.

    A run directory may come from anybody, and so may the URLs in it.
    """
    given = connection_of(others)
    is_named = given.environment is not None or given.api_url is not None
    said, needs = [], []
    if not is_named and settings.api_url is not None and not is_published(settings.api_url):
        said.append(
            "the run's API is not one of the published ones; if the token may be sent there"
        )
        needs.append(quoted_option("-u", settings.api_url))
    callback_url = settings.options.callback_url
    if callback_url is not None and others["callback_url"] is None:
        said.append(
            f"the run reports each job to {shown_url(callback_url)}; if that receiver is yours "
            "(--callback-url '' is for none)"
        )
        needs.append(quoted_option("--callback-url", callback_url))
    if not needs:
        return None
    words = " ".join(needs)
    return Refusal(ConfigurationError(f"{', and '.join(said)}, name it again: {words}"), words)


def _enhancer(
    client: PingDataClient,
    settings: RunSettings,
    emit: EventEmitter,
    others: dict[str, Any],
) -> BulkEnhancer:
    """An enhancer with the run's own options, except where others are given."""
    options = msgspec.structs.asdict(settings.options) | {"callback_url": others["callback_url"]}
    return BulkEnhancer(
        client,
        settings.sources,
        chunk_size=settings.chunk_size,
        max_jobs=others["max_jobs"] or settings.max_jobs,
        max_requests_per_second=others["max_requests_per_second"] or settings.max_requests_per_s,
        retry_policy=policy_of(others),
        on_event=emit,
        **options,
    )
