"""`pingdata-async enhance`: a file of addresses in, their answers out."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio
import click
import msgspec

from pingdata_async.bulk.chunking import checked_sources
from pingdata_async.cli.connecting import open_client
from pingdata_async.cli.exit_codes import ANSWERED, UNFORESEEN, exit_code_of
from pingdata_async.cli.options import api_options, option, output_options
from pingdata_async.cli.progress import (
    StatusConsole,
    describe,
    event_log,
    narrate,
    show,
)
from pingdata_async.cli.side_files import check_side_files
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import Announcer, Listener
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
    if not checked_sources(sources):
        raise ConfigurationError("--sources names no source; try --sources PG,PH")
    check_side_files({"--summary": summary_path, "--log-file": log_file}, source, output)
    console = StatusConsole()
    console.quiet = quiet

    async def work() -> RunSummary:
        async with contextlib.AsyncExitStack() as stack:
            log = stack.enter_context(event_log(log_file))
            watchers: list[Listener | None] = [log]
            if not quiet:
                watchers += [narrate(console, verbose=verbose), stack.enter_context(show(console))]
            client = await stack.enter_async_context(
                open_client(
                    environment=environment,
                    api_url=api_url,
                    auth_token_file=auth_token_file,
                    ca_bundle=ca_bundle,
                )
            )
            enhancer = BulkEnhancer(
                client,
                sources,
                chunk_size=chunk_size,
                max_jobs=max_jobs,
                on_event=Announcer(*watchers),
            )
            return await enhancer.run(source, output, run_dir=run_dir, overwrite=overwrite)

    try:
        summary = anyio.run(run_until_signal, work)
    except BrokenPipeError:
        # Whoever read standard output wants no more of it. Handled here, as click would make
        # an error of it.
        return ANSWERED
    return _report(summary, summary_path, console)


def _report(summary: RunSummary, summary_path: Path | None, console: StatusConsole) -> int:
    """Say what the run took; the exit code."""
    with contextlib.suppress(OSError):  # nobody may be reading any more
        for line in describe(summary):
            console.print(line)
        if summary.output != "-":
            console.print(f"Written to {summary.output}")
    if summary_path is not None:
        encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        try:
            summary_path.write_bytes(encoded + b"\n")
        except OSError as error:
            click.echo(f"Error: {summary_path} cannot be written: {error.strerror}", err=True)
            return UNFORESEEN
    return exit_code_of(summary)
