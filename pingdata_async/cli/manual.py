"""The commands `completion` and `man`: what shells and `man` show of the command.

Both are made from the commands themselves, like the pages of help.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import get_completion_class

from pingdata_async._version import __version__
from pingdata_async.cli.config import EXAMPLE
from pingdata_async.cli.console import show_lines
from pingdata_async.cli.help import Argument, Command, Panel, command, panels_of, paragraphs
from pingdata_async.cli.main import ANSWERED, EXAMPLES, SECTIONS, cli

NAME = "pingdata-async"
COMPLETION_VARIABLE = "_PINGDATA_ASYNC_COMPLETE"


@command(
    examples="""
        eval "$(pingdata-async completion bash)"   # in ~/.bashrc
        eval "$(pingdata-async completion zsh)"    # in ~/.zshrc
        pingdata-async completion fish | source     # in config.fish
    """
)
@click.argument(
    "shell", cls=Argument, panel=Panel.OTHER, type=click.Choice(["bash", "zsh", "fish"]),
    metavar="SHELL", help="bash, zsh or fish.",
)  # fmt: skip
def completion(shell: str) -> int:
    """Print what makes a shell complete commands, options and values.

    Values are codes of sources, environments, formats and profiles.
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all three
    show_lines([made(cli, {}, NAME, COMPLETION_VARIABLE).source()])
    return ANSWERED


@command(
    examples="""
        pingdata-async man > /tmp/pingdata-async.1 && man /tmp/pingdata-async.1
        pingdata-async man > ~/.local/share/man/man1/pingdata-async.1
    """
)
def man() -> int:
    """Print the manual page, with every option of every command."""
    show_lines(_page())
    return ANSWERED


def _page() -> Iterator[str]:
    commands = cli.loaded()
    with click.Context(cli, info_name=NAME) as context:
        yield f'.TH "{NAME.upper()}" "1" "" "{NAME} {__version__}" "User Commands"'
        yield from (".SH NAME", rf"{_escaped(NAME)} \- {_escaped(str(cli.help))}")
        yield from (".SH SYNOPSIS", rf"\fB{_escaped(NAME)}\fR COMMAND [OPTIONS] [ARGUMENTS]")
        yield from (".SH EXAMPLES", *_as_they_are(EXAMPLES))
        for title, names in SECTIONS.items():
            yield f".SH {_escaped(title.upper())}"
            for name in names:
                yield from _of(commands[name], context)
        yield from (".SH FILES", ".TP", r"\fI~/.config/pingdata\-async/config.toml\fR")
        yield from ("Settings and profiles, for example:", *_as_they_are(EXAMPLE))
        yield from (".SH ENVIRONMENT", ".TP", r"\fBPINGDATA_ASYNC_\fR\fIOPTION\fR")
        yield "What an option would say, such as PINGDATA_ASYNC_MAX_JOBS=32. Switches have none."


def _of(told: click.Command, parent: click.Context) -> Iterator[str]:
    with click.Context(told, info_name=told.name, parent=parent) as context:
        yield f".SS {_escaped(str(told.name))}"
        usage = " ".join(told.collect_usage_pieces(context))
        yield rf"\fB{_escaped(context.command_path)}\fR {_escaped(usage)}"
        for each in paragraphs(told):
            yield from (".PP", _escaped(each))
        for title, records in panels_of(context, is_all=True).items():
            yield from (".PP", rf"\fI{_escaped(title)}\fR")
            for names, said in records:
                yield from (".TP", rf"\fB{_escaped(names)}\fR", _escaped(said))
        if isinstance(told, Command):
            for title, text in (("Examples", told.examples), ("Exit codes", told.exit_codes)):
                if text:
                    yield from (".PP", rf"\fI{title}\fR", *_as_they_are(text))


def _as_they_are(lines: str) -> Iterator[str]:
    yield from (".PP", ".nf", ".RS")
    yield from (_escaped(line.strip()) for line in lines.strip().splitlines())
    yield from (".RE", ".fi")


def _escaped(text: str) -> str:
    r"""Text as roff takes it: "-" would be a hyphen, and a dot in front a command."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
