"""`pingdata-async enhance`: a file of addresses in, their answers out."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console

from pingdata_async.bulk.chunking import checked_sources
from pingdata_async.cli.connecting import open_client
from pingdata_async.cli.exit_codes import ANSWERED, exit_code_of
from pingdata_async.cli.options import api_options, option, output_options
from pingdata_async.cli.progress import bar, describe, event_log, narrate, plain_lines
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import Event
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import RunSummary


@click.command()
@click.argument("source", metavar="INPUT")
@option("-o", "--output", required=True, help='JSONL file to be made; "-" for standard output.')
@option("-s", "--sources", required=True, help="Source codes, such as PG,PH.")
@api_options
@option(
    "--chunk-size", type=click.IntRange(min=1), default=1000, show_default=True,
    help="Locations a job, at most.",
)  # fmt: skip
@option(
    "--max-jobs", type=click.IntRange(min=1), default=16, show_default=True,
    help="Jobs in flight, at most.",
)  # fmt: skip
@option(
    "--run-dir", type=click.Path(path_type=Path),
    help="Folder for plan and answers while it runs.  [default: OUTPUT.run]",
)  # fmt: skip
@option("--overwrite", is_flag=True, help="Replace an output that exists.")
@option(
    "--summary", "summary_path", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the summary to this file as JSON.",
)  # fmt: skip
@output_options
def enhance(
    source: str,
    output: str,
    sources: str,
    environment: str | None,
    api_url: str | None,
    auth_token_file: Path | None,
    ca_bundle: Path | None,
    chunk_size: int,
    max_jobs: int,
    run_dir: Path | None,
    overwrite: bool,
    summary_path: Path | None,
    verbose: bool,
    quiet: bool,
    log_file: Path | None,
) -> int:
    """Enhance every address of INPUT (CSV or JSONL; "-" for standard input).

    INPUT needs columns named like the API's fields: address, or address_line_1, city, state,
    postal_code, or latitude and longitude, and so on; id is your own. The rows come out in
    their order, a line of JSON each.
    """
    # No markup: a bracket in an error is a bracket.
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if not checked_sources(sources):
        raise ConfigurationError("--sources names no source; try --sources PG,PH")

    async def work() -> RunSummary:
        async with contextlib.AsyncExitStack() as stack:
            watchers = []
            if not quiet:
                shown = bar(console) if console.is_terminal else plain_lines(console)
                watchers += [narrate(console, verbose=verbose), stack.enter_context(shown)]
            log = stack.enter_context(event_log(log_file))
            if log is not None:
                watchers.append(log)

            def watch(event: Event) -> None:
                for watcher in watchers:
                    watcher(event)

            client = await stack.enter_async_context(
                open_client(
                    environment=environment,
                    api_url=api_url,
                    auth_token_file=auth_token_file,
                    ca_bundle=ca_bundle,
                )
            )
            enhancer = BulkEnhancer(
                client, sources, chunk_size=chunk_size, max_jobs=max_jobs, on_event=watch
            )
            return await enhancer.run(source, output, run_dir=run_dir, overwrite=overwrite)

    _check_writable(summary_path, log_file)
    try:
        summary = anyio.run(run_until_signal, work)
    except BrokenPipeError:
        # Whoever read standard output wants no more of it. Handled here, as click would make
        # an error of it; what Python still holds to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ANSWERED
    if summary_path is not None:
        encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        summary_path.write_bytes(encoded + b"\n")
    if not quiet:
        for line in describe(summary):
            console.print(line)
        if output != "-":
            console.print(f"Written to {output}")
    return exit_code_of(summary)


def _check_writable(*paths: Path | None) -> None:
    """Refuse a file that could not be written at the end, before anything is paid for."""
    for path in paths:
        if path is None:
            continue
        try:
            with path.open("ab"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror or error}"
            ) from error
