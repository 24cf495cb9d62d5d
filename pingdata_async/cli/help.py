"""Help: options in panels, the common ones first, and all of them in `--help-all` and the manual.

cloup draws the pages. It is loaded only for them: a run, or an error, is not kept waiting for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cloup import HelpFormatter

F = TypeVar("F", bound=Callable[..., Any])
Record = tuple[str, str]
"""An option, argument or command as it is written, and what it does."""

MOST_COLUMNS = 100
_ALL = f"{__name__}.all"  # of a context's meta: whether everything is shown

SETTINGS_SENTENCE = (
    "Options can also stand in the configuration file (`pingdata-async config`) or in variables, "
    "such as PINGDATA_ASYNC_MAX_JOBS=32."
)


EXIT_CODES = """
0    the API answered every row ("no match" is an answer too)
1    unexpected error
2    wrong usage or bad input; nothing was sent
3    finished, but some rows have no answer
4    no auth token, or the API refused it
5    stopped early or not started; can be resumed (budget, quota, access, disk)
130  interrupted (Ctrl-C), 143 terminated, 129 hung up; can be resumed
"""
"""Of the commands that work on a run."""


class Panel(StrEnum):
    """What an option is about; pages show the panels in this order."""

    IN = "What goes in"
    OUT = "What comes out"
    ASKED = "What is asked"
    MONEY = "Money"
    RUN = "The run"
    SPEED = "Speed and patience"
    CONNECTION = "Connection"
    MESSAGES = "What is printed"
    OTHER = "Options"


class Option(click.Option):
    """An option that stands in a panel.

    Args:
        words: Its names.
        rare: Whether only `--help-all` shows it.
        attributes: As click takes them.
    """

    panel = Panel.OTHER

    def __init__(self, *words: Any, rare: bool = False, **attributes: Any) -> None:
        super().__init__(*words, **attributes)
        self.rare = rare


class Argument(click.Argument):
    """An argument with a line in a panel."""

    def __init__(self, *words: Any, panel: Panel = Panel.IN, help: str, **attributes: Any) -> None:  # noqa: A002 - click's name
        super().__init__(*words, **attributes)
        self.panel, self.help = panel, help


def in_panel(panel: Panel, *decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """One decorator of several options, which stand in a panel in this order."""

    def decorate(command: F) -> F:
        for each in reversed(decorators):
            command = each(command)
            added = command.__click_params__[-1]  # type: ignore[attr-defined] # click puts it there
            added.panel = panel
        return command

    return decorate


class Command(click.Command):
    """A command with examples, and options in panels.

    Args:
        words: As click takes them.
        examples: What to give it; a line each.
        exit_codes: A line each.
        attributes: As click takes them.
    """

    def __init__(
        self, *words: Any, examples: str = "", exit_codes: str = "", **attributes: Any
    ) -> None:
        super().__init__(*words, **attributes)
        self.examples, self.exit_codes = examples, exit_codes
        self.params.append(help_all_option(hidden=not self._has_rare_options()))

    def _has_rare_options(self) -> bool:
        return any(getattr(each, "rare", False) for each in self.params)

    def get_help(self, ctx: click.Context) -> str:
        """The page: what is common, or all of it."""
        is_all = shows_all(ctx) or not self._has_rare_options()
        page = page_of(ctx)
        said = paragraphs(self)
        for each in said[:2]:
            page.paragraph(each)
        page.examples(self.examples)
        for each in said[2:] if is_all else ():
            page.paragraph(each)
        page.panels(panels_of(ctx, is_all=is_all))
        if is_all:
            page.listing("Exit codes", self.exit_codes)
        if any(each.name == "profile" for each in self.params):
            page.paragraph(SETTINGS_SENTENCE, indent=0)
        return page.text()


def command(*, examples: str = "", exit_codes: str = "") -> Callable[[F], Command]:
    """Make a command of a function; the arguments are those of `Command`."""
    return click.command(cls=Command, examples=examples, exit_codes=exit_codes)


def shows_all(ctx: click.Context) -> bool:
    """Whether everything is asked for."""
    return bool(ctx.meta.get(_ALL))


def help_all_option(
    says: str = "Show every option in full.", *, hidden: bool = False
) -> click.Option:
    """Every command takes it; where the short page has everything, no page names it."""

    def show(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[_ALL] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()

    return click.Option(
        ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=show,
        help=says, hidden=hidden,
    )  # fmt: skip


# -- What a page has ---------------------------------------------------------------------------


def paragraphs(command: click.Command) -> list[str]:
    """What a command says of itself: two paragraphs for everybody, the rest for `--help-all`."""
    return [" ".join(each.split()) for each in (command.help or "").split("\n\n")]


def panels_of(ctx: click.Context, *, is_all: bool) -> dict[str, list[Record]]:
    """Arguments and options by panel; without `is_all` the common ones, in a sentence each."""
    found: dict[Panel, list[Record]] = {}
    for each in ctx.command.get_params(ctx):
        is_of_help = not {"--help", "--help-all"}.isdisjoint(each.opts)
        panel = Panel.MESSAGES if is_of_help else getattr(each, "panel", Panel.OTHER)
        record = _record(each, ctx, is_all=is_all)
        if record is not None:
            found.setdefault(panel, []).append(record)
    if set(found) <= {Panel.OTHER, Panel.MESSAGES, Panel.IN}:  # too few for panels
        found[Panel.OTHER] = [*found.pop(Panel.OTHER, []), *found.pop(Panel.MESSAGES, [])]
    return {panel.value: found[panel] for panel in Panel if panel in found}


def _record(each: click.Parameter, ctx: click.Context, *, is_all: bool) -> Record | None:
    if isinstance(each, click.Argument):
        return each.make_metavar(ctx), getattr(each, "help", None) or ""
    record = each.get_help_record(ctx)
    if record is None or is_all:
        return record
    if getattr(each, "rare", False):
        return None
    names, said = record
    sentence, _, rest = said.partition(". ")
    return names, f"{sentence}." if rest else said.partition("  [")[0]


# -- Drawn -------------------------------------------------------------------------------------


class Page:
    """A page of help for a terminal, made of its parts in order."""

    def __init__(self, formatter: HelpFormatter) -> None:
        self._formatter = formatter

    def paragraph(self, text: str, indent: int = 2) -> None:
        """A paragraph, with a blank line above it."""
        self._formatter.write_paragraph()
        self._formatter.current_indent += indent
        self._formatter.write_text(text)
        self._formatter.current_indent -= indent

    def examples(self, lines: str) -> None:
        """Commands, which are not wrapped: they are copied."""
        self.listing("Examples", lines)

    def listing(self, heading: str, lines: str) -> None:
        """Lines as they are, below a heading; nothing if there are none."""
        if lines:
            self._formatter.write_paragraph()
            self._formatter.write_heading(heading)
            for line in lines.strip().splitlines():
                self._formatter.write(f"  {line.strip()}\n")

    def panels(self, panels: Mapping[str, Sequence[Record]]) -> None:
        """Lists of definitions below their headings, in two columns for all of them."""
        from cloup.formatting import HelpSection  # noqa: PLC0415 - only help needs it

        self._formatter.write_many_sections(
            [HelpSection(heading, records) for heading, records in panels.items()]
        )

    def text(self) -> str:
        """The page so far."""
        return self._formatter.getvalue().rstrip("\n")


def page_of(ctx: click.Context) -> Page:
    """A page that begins with the usage of a command."""
    from cloup import HelpFormatter, HelpTheme, Style  # noqa: PLC0415 - only help needs it

    theme = HelpTheme()
    if is_coloured(sys.stdout):
        theme = HelpTheme(heading=Style(bold=True), col1=Style(fg="cyan"))
    formatter = HelpFormatter(max_width=MOST_COLUMNS, col1_max_width=27, theme=theme)
    formatter.write_usage(ctx.command_path, " ".join(ctx.command.collect_usage_pieces(ctx)))
    return Page(formatter)


def is_coloured(stream: Any) -> bool:
    """Whether a stream is a terminal whose user has nothing against colours."""
    is_terminal = stream is not None and stream.isatty()
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
