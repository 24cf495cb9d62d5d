"""The commands `resume`, `retry` and `export`."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import is_published
from pingdata_async.cli.base import ANSWERED, NO_ANSWER_FOR_SOME, STOPPED, say
from pingdata_async.cli.console import check_side_files
from pingdata_async.cli.execute import Refusal, carry_out
from pingdata_async.cli.options import (
    Connection,
    api_options,
    budget_of,
    budget_options,
    callback_option,
    check_output_name,
    check_run_dir,
    connection_of,
    discard_option,
    only,
    option,
    output_options,
    overwrite_option,
    persistence_options,
    policy_of,
    reporting_of,
    requests_option,
    rewrite_options_of,
    space_option,
    switch,
    together,
    writing_options,
)
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import EventEmitter
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import RunSummary
from pingdata_async.runs.directory.directory import check_own_place, read_settings
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.export.export import ExportedRun, export_run
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted, quoted_option, shown_url

_run_dir_argument = click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
_going_on_options = together(
    # Not from a variable: one that is meant for `enhance` must not redirect another run.
    click.option(
        "-o", "--output", metavar="FILE",
        help="Write to this file, which must not exist yet.  [default: the run's own output]",
    ),
    overwrite_option,
    option(
        "--max-jobs", type=click.IntRange(min=1), metavar="N",
        help="Keep at most this many jobs in flight.  [default: as before]",
    ),
    requests_option("as before"),
    callback_option,
    writing_options,
    api_options,
    budget_options,
    persistence_options,
)  # fmt: skip


@click.command()
@_run_dir_argument
@_going_on_options
@discard_option
@space_option
@output_options
def resume(run_dir: Path, discard_run: bool, **others: Any) -> int:
    """Resume a run that stopped; its input is not needed.

    Nothing is sent if the run is finished.
    """
    return _go_on(
        run_dir,
        others,
        lambda enhancer, options: enhancer.resume(run_dir, discard_run=discard_run, **options),
    )


@click.command()
@_run_dir_argument
@switch("--all", "all_not_ok", help='Retry every row that is not ok, "no match" included.')
@_going_on_options
@space_option
@output_options
def retry(run_dir: Path, all_not_ok: bool, **others: Any) -> int:
    """Retry the rows of a run that have no answer.

    The output is rewritten. Each row is sent again only to the sources that did not succeed.
    """
    return _go_on(
        run_dir,
        others,
        lambda enhancer, options: enhancer.retry(run_dir, all_not_ok=all_not_ok, **options),
    )


@click.command()
@_run_dir_argument
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help='Write to this file, in any format that `enhance` writes; "-" is standard output.',
)
@overwrite_option
@writing_options
def export(run_dir: Path, output: str, overwrite: bool, **others: Any) -> int:
    """Write a run's output in any format, at no cost.

    The run may be running, stopped or finished. Its input is not needed: all columns were kept.

    If the run is not finished, the rows with an outcome are written, and the number of missing
    rows is printed. The exit code is that of the run: 5 if rows are missing, 3 if rows have no
    answer.
    """
    check_run_dir(run_dir)
    check_output_name(output)
    writing = rewrite_options_of(others, read_settings(run_dir), output)

    async def write() -> ExportedRun:
        return await export_run(run_dir, output, overwrite, writing=writing)

    try:
        written = anyio.run(run_until_signal, write)
    except BrokenPipeError:
        return ANSWERED
    for note in written.notes:
        say(printable(note))
    said = f"{counted(written.rows, 'row')} written"
    if written.rows_left_out:
        said += f"; {counted(written.rows_left_out, 'row')} left out that have no outcome yet"
    say(said + ".")
    if written.rows_left_out:
        return STOPPED
    return NO_ANSWER_FOR_SOME if written.no_answer else ANSWERED


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
        _connection(settings, others),
        reporting_of(others),
        go_on,
        is_begun=True,
        refusal=_refusal(settings, others),
    )


def _checked_settings(run_dir: Path, output: str | None, others: dict[str, Any]) -> RunSettings:
    check_run_dir(run_dir)
    settings = read_settings(run_dir)
    if output is None:
        check_own_place(settings, run_dir)
        output = settings.output
    check_output_name(output)
    files = {"--summary": others["summary_path"], "--log-file": others["log_file"]}
    check_side_files(files, source=None, output=output, run_dir=run_dir)
    return settings


def _connection(settings: RunSettings, others: dict[str, Any]) -> Connection:
    """The API that the options name, or else the run's own."""
    given = connection_of(others)
    if given.environment is not None or given.api_url is not None:
        return given
    return dataclasses.replace(given, environment=settings.environment, api_url=settings.api_url)


def _refusal(settings: RunSettings, others: dict[str, Any]) -> Refusal | None:
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
