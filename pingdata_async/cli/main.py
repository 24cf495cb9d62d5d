"""Runs a command, and turns whatever comes of it into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import TextIO

import click

from pingdata_async._version import __version__
from pingdata_async.cli.base import (
    INTERRUPTED,
    UNFORESEEN,
    InterruptedBySignalError,
    exit_code_for,
    say,
)
from pingdata_async.exceptions import PingDataError
from pingdata_async.util.redaction import masked, printable

EPILOG = """\b
Exit codes:
  0    every row was answered by the API (also where the answer is "no match")
  1    something unforeseen
  2    bad usage or bad input; nothing was sent
  3    finished, but some rows have no answer
  4    no auth token, or the API refused it
  5    stopped before the end, or not begun, and can be resumed (budget, quota, access, API down,
       disk full)
  130  interrupted (Ctrl-C), 143 terminated, 129 hung up; can be resumed
"""


class CommandToLoad(click.Command):
    """Stands for a command where all are listed: to load the command itself takes a while.

    Args:
        name: Its name, and that of the object in the module.
        module: The one of this folder that has it.
        says: The first sentence of its help.
    """

    def __init__(self, name: str, module: str, says: str) -> None:
        super().__init__(name, help=says)
        self._module = module

    def load(self) -> click.Command:
        """The command itself."""
        module = import_module(f"pingdata_async.cli.{self._module}")
        command: click.Command = getattr(module, str(self.name).replace("-", "_"))
        return command


class Commands(click.Group):
    """Loads the one command that is given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words name, and those after it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, CommandToLoad) else command, rest


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="pingdata-async")
def cli() -> None:
    """Enhance millions of property addresses through the Ping.Data bulk API."""


for stand_in in (
    CommandToLoad(
        "enhance", "enhance",
        "Enhance every address of INPUT, and write it with the answers beside it.",
    ),
    CommandToLoad(
        "inspect", "inspect",
        "Show which column of INPUT is which field, and its first rows; send nothing.",
    ),
    CommandToLoad(
        "plan", "enhance",
        "Read INPUT, write down what would be sent, and say what that would cost; send no job.",
    ),
    CommandToLoad(
        "resume", "runs",
        "Go on with a run where it stopped, whatever stopped it; its input is not needed.",
    ),
    CommandToLoad(
        "retry", "runs",
        "Ask once more about the rows of a run that have no answer, and write its output anew.",
    ),
    CommandToLoad(
        "status", "status", "Say how far a run is: also while it goes on, and after a crash."
    ),
    CommandToLoad(
        "export", "runs",
        "Write a run's output, now and for nothing: also while it goes on, or after it failed.",
    ),
    CommandToLoad(
        "enhance-one", "account",
        "Enhance one location at once: an address, coordinates, or any of its fields.",
    ),
    CommandToLoad(
        "datasources", "account",
        "List the data sources your account may use, or describe one.",
    ),
    CommandToLoad(
        "limits", "account",
        "Say what the account may still ask, by source, and when its days and months begin anew.",
    ),
    CommandToLoad("usage", "account", "Say which credits were used, by time and source."),
    CommandToLoad(
        "sandbox", "sandbox",
        "Serve an imitation of the API on this machine; its answers are made up.",
    ),
):  # fmt: skip
    cli.add_command(stand_in)


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
        say(f"Error: {printable(error.format_message())}{hint}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.Abort as error:
        # click takes any EOFError for the end of what is typed; nothing is ever asked for here.
        return _unforeseen(error) if isinstance(error.__cause__, EOFError) else INTERRUPTED
    except InterruptedBySignalError as error:
        return error.exit_code
    except PingDataError as error:
        say(f"Error: {printable(str(error))}")
        return exit_code_for(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _unforeseen(error)
    return result if isinstance(result, int) else 0


def _unforeseen(error: Exception) -> int:
    say(masked("".join(traceback.format_exception(error))).rstrip())
    say("This should not happen; please report it with the lines above.")
    return UNFORESEEN
