"""Entry point: runs a command, and turns whatever comes of it into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TextIO

import click

from pingdata_async._version import __version__
from pingdata_async.cli.enhance import enhance, plan
from pingdata_async.cli.exit_codes import INTERRUPTED, UNFORESEEN, exit_code_for
from pingdata_async.cli.runs import export, resume, retry
from pingdata_async.cli.sandbox import sandbox
from pingdata_async.cli.signals import InterruptedBySignalError
from pingdata_async.cli.status import status
from pingdata_async.exceptions import PingDataError

EPILOG = """\b
Exit codes:
  0    every row was answered by the API (also where the answer is "no match")
  1    something unforeseen
  2    bad usage or bad input; nothing was sent
  3    finished, but some rows have no answer
  4    no auth token, or the API refused it
  5    stopped before the end, and can be resumed (quota, access, API down, disk full)
  130  interrupted (Ctrl-C), 143 terminated, 129 hung up; can be resumed
"""


@click.group(
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="pingdata-async")
def cli() -> None:
    """Enhance millions of property addresses through the Ping.Data bulk API."""


for command in (enhance, plan, resume, retry, status, export, sandbox):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    exit_code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        _flush_or_forget(stream)
    sys.exit(exit_code)


def _flush_or_forget(stream: TextIO | None) -> None:
    """Python would flush at its end too, and make a failure of that the exit code."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    try:
        result = cli.main(arguments, prog_name="pingdata-async", standalone_mode=False)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f" (see {context.command_path} --help)" if context else ""
        click.echo(f"Error: {error.format_message()}{hint}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except InterruptedBySignalError as error:
        return error.exit_code
    except PingDataError as error:
        click.echo(f"Error: {error}", err=True)
        return exit_code_for(error)
    except Exception:  # noqa: BLE001 - the last line of defence
        traceback.print_exc()
        click.echo("This should not happen; please report it with the lines above.", err=True)
        return UNFORESEEN
    return result if isinstance(result, int) else 0
