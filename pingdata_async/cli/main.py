"""Runs a command, and turns every error into one line and an exit code.

What every command needs is here too: exit codes, messages on standard error, and a clean stop on a
signal. The README and `--help` document the exit codes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, TextIO, TypeVar

import click

from pingdata_async._version import __version__
from pingdata_async.cli.help import help_all_option, is_coloured, shows_all
from pingdata_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    MissingTokenError,
    PingDataError,
    UnknownSourceError,
)
from pingdata_async.util.redaction import masked, printable

if TYPE_CHECKING:
    from pingdata_async.models import RunSummary

T = TypeVar("T")

# -- What every command needs ----------------------------------------------------------------

ANSWERED = 0
UNFORESEEN = 1
BAD_INPUT = 2
NO_ANSWER_FOR_SOME = 3
NO_ACCESS = 4
STOPPED = 5
INTERRUPTED = 130


class InterruptedBySignalError(Exception):
    """Raised when a signal ended the work; carries the exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def exit_code_for(error: PingDataError) -> int:
    """The exit code of a command that an error ended."""
    if isinstance(error, InputError | ConfigurationError | UnknownSourceError):
        return BAD_INPUT
    if isinstance(error, MissingTokenError | AuthenticationError):
        return NO_ACCESS
    return STOPPED


def exit_code_of(summary: RunSummary) -> int:
    """The exit code of a finished run."""
    return NO_ANSWER_FOR_SOME if summary.no_answer else ANSWERED


def say(message: str) -> None:
    """Print a message on standard error; if that is closed, the exit code stays the same."""
    if sys.stderr is not None:
        # Not by click, which writes past the display that is drawn there.
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr)  # noqa: T201 - for people


def say_error(message: str) -> None:
    """Print what went wrong on standard error, in a line."""
    word = "Error:"
    if is_coloured(sys.stderr):
        word = click.style(word, fg="red", bold=True)
    say(f"{word} {printable(message)}")


def _stop_signals() -> list[signal.Signals]:
    """The signals that end a command, except those it was started to ignore (nohup)."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one is not everywhere
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


async def run_until_signal(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; SIGINT, SIGTERM or SIGHUP cancels it, a second one ends the process at once.

    Raises:
        InterruptedBySignalError: When a signal ended it.
    """
    # Only now: `--help` and `--version` need no event loop.
    import anyio  # noqa: PLC0415

    received: list[int] = []
    results: list[T] = []
    errors: list[Exception] = []
    with anyio.open_signal_receiver(*_stop_signals()) as signals:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                async for number in signals:
                    if received:
                        os._exit(128 + number)
                    received.append(number)
                    say("Stopping; press Ctrl-C again to stop at once.")
                    work_scope.cancel()

            with anyio.CancelScope() as work_scope:
                tasks.start_soon(watch)
                try:
                    results.append(await work())
                except Exception as error:  # noqa: BLE001 - the group would wrap it
                    errors.append(error)
            tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if results:
        return results[0]
    raise InterruptedBySignalError(received[0])


# -- The command line ------------------------------------------------------------------------


class CommandToLoad(click.Command):
    """The name and summary of a command whose module is loaded only when it is run.

    Args:
        name: Its name, and that of the function in the module.
        module: Its module in this package.
        summary: The first sentence of its help.
    """

    def __init__(self, name: str, module: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._module = module

    def load(self) -> click.Command:
        """The command itself."""
        module = import_module(f"pingdata_async.cli.{self._module}")
        command: click.Command = getattr(module, str(self.name).replace("-", "_"))
        return command


class Commands(click.Group):
    """Loads only the command that is run, and lists all in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """In the order of their use."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name, and the arguments after it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, CommandToLoad) else command, rest

    def get_help(self, ctx: click.Context) -> str:
        """Examples, then the commands in sections; if all is asked for, the page of each too."""
        # Only now: what draws pages takes a while to load.
        from pingdata_async.cli.help import page_of, panels_of  # noqa: PLC0415

        page = page_of(ctx)
        page.paragraph(str(self.help))
        page.examples(EXAMPLES)
        sections = {
            title: [(name, str(self.commands[name].help)) for name in commands]
            for title, commands in SECTIONS.items()
        }
        page.panels(sections | panels_of(ctx, is_all=True))
        if not shows_all(ctx):
            page.paragraph("`pingdata-async COMMAND --help` tells more of each.", indent=0)
            return page.text()
        pages = [page.text()]
        for name, command in self.loaded().items():
            with click.Context(command, parent=ctx, info_name=name) as of_command:
                pages.append(command.get_help(of_command))
        return "\n\n\n".join(pages)

    def loaded(self) -> dict[str, click.Command]:
        """Every command by its name, in the order of their use."""
        return {
            name: each.load()
            for name, each in self.commands.items()
            if isinstance(each, CommandToLoad)
        }


EXAMPLES = """
    pingdata-async inspect sov.xlsx
    pingdata-async enhance sov.xlsx -o trial.xlsx -s PG,PH --environment sandbox
    pingdata-async enhance sov.xlsx -o enhanced.xlsx -s PG,PH
"""


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[help_all_option("Show every option of every command.")],
)
@click.version_option(__version__, prog_name="pingdata-async")
@click.pass_context
def cli(context: click.Context) -> None:
    """Enhance millions of property addresses through the Ping.Data bulk API."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# By name, in the order of their use: the module of each, and the first sentence of its help.
_COMMANDS = {
    "Before anything is sent": {
        "inspect": ("inspect", "Show how the columns of INPUT are understood; send nothing."),
        "plan": ("runs", "Show what a run would send and cost; send no job."),
    },
    "Runs": {
        "enhance": ("runs", "Enhance every address in INPUT and write the answers."),
        "status": ("status", "Show the progress of a run, at any time."),
        "runs": ("status", "List the runs in a folder: state, age, rows, charges and size."),
        "resume": ("runs", "Resume a run that stopped; its input is not needed."),
        "retry": ("runs", "Retry the rows of a run that have no answer."),
        "export": ("runs", "Write a run's output in any format, at no cost."),
        "diff": ("compare", "Write which answers changed between two runs, at no cost."),
        "report": ("report", "Write a run's report: one HTML file to look at."),
    },
    "One location, and the account": {
        "enhance-one": ("account", "Enhance one location at once."),
        "datasources": ("account", "List the data sources you may use, or describe one."),
        "limits": ("account", "Show what is left of the account's limits, by source."),
        "usage": ("account", "Show the credits used, by time and source."),
        "reconcile": ("compare", "Set a run's charges beside the account's usage."),
    },
    "The command itself": {
        "config": ("config", "Show the configuration file, and where each setting comes from."),
        "completion": ("manual", "Print what makes a shell complete commands, options and values."),
        "man": ("manual", "Print the manual page, with every option of every command."),
        "sandbox": ("sandbox", "Serve an imitation of the API, with made-up answers."),
    },
}
SECTIONS = {title: tuple(commands) for title, commands in _COMMANDS.items()}
for commands in _COMMANDS.values():
    for name, (module, summary) in commands.items():
        cli.add_command(CommandToLoad(name, module, summary))


def main() -> None:
    """Run the command line and exit."""
    exit_code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        _flush_or_forget(stream)
    sys.exit(exit_code)


def _flush_or_forget(stream: TextIO | None) -> None:
    """Python would flush at exit too, and let a failure of that change the exit code."""
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
        say_error(f"{error.format_message()}{hint}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.Abort as error:
        # click takes any EOFError for the end of typed input; nothing here ever reads any.
        return _unforeseen(error) if isinstance(error.__cause__, EOFError) else INTERRUPTED
    except InterruptedBySignalError as error:
        return error.exit_code
    except PingDataError as error:
        say_error(str(error))
        return exit_code_for(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _unforeseen(error)
    return result if isinstance(result, int) else 0


def _unforeseen(error: Exception) -> int:
    say(masked("".join(traceback.format_exception(error))).rstrip())
    say("This is a bug; please report it with the lines above.")
    return UNFORESEEN
