"""The display of a run and tables on a terminal.

The only module that loads rich: import it where something is about to be drawn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from pingdata_async.cli.console import Cell, Table, fitted, plain_lines, shown_sentence
from pingdata_async.events import Listener
from pingdata_async.progress import RunProgress
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import one_line

BAR_WIDTH = 24


class StatusConsole(Console):
    """Standard error for people; a closed one does not stop the work."""

    def __init__(self) -> None:
        # No markup: a bracket in an error is a bracket.
        super().__init__(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts, made printable: they hold names and errors that others chose."""
        super().print(*map(_printable, objects), **options)

    def on_broken_pipe(self) -> None:
        """Go quiet; rich would end the process."""
        self.quiet = True


def _printable(shown: object) -> object:
    return "\n".join(map(printable, shown.split("\n"))) if isinstance(shown, str) else shown


def show(console: Console) -> contextlib.AbstractContextManager[Listener]:
    """Show a display where it can be drawn, else plain lines."""
    can_draw = console.is_terminal and not console.is_dumb_terminal
    return live(console) if can_draw else plain_lines(console)


@contextlib.contextmanager
def live(console: Console) -> Iterator[Listener]:
    """Three lines that follow a run; what is printed meanwhile goes above them."""
    progress = RunProgress()
    display = Live(
        get_renderable=lambda: draw_progress(progress),
        console=console,
        transient=True,
        refresh_per_second=5,
    )
    with display:
        yield progress


def draw_progress(progress: RunProgress) -> Group:
    """The lines of a run, the first beside a bar."""
    beside_bar, *below = progress.lines()
    share = progress.share
    bar = ProgressBar(
        total=None if share is None else 1.0,
        completed=share or 0.0,
        width=BAR_WIDTH,
        pulse=share is None,
        animation_time=time.monotonic(),
    )
    first = RichTable.grid(padding=(0, 1))
    first.add_row(progress.phase, bar, Text(beside_bar, no_wrap=True, overflow="ellipsis"))
    return Group(first, *(Text(line, no_wrap=True, overflow="ellipsis") for line in below if line))


@contextlib.contextmanager
def notifying(console: Console) -> Iterator[None]:
    """Ring a terminal's bell at the end, and have it notify whoever works elsewhere."""
    ending = "stopped"
    try:
        yield
        ending = "finished"
    finally:
        if console.is_terminal:
            console.file.write(f"\a\x1b]9;pingdata-async has {ending}\a")  # OSC 9
            console.file.flush()


@contextlib.contextmanager
def redrawn(console: Console) -> Iterator[Callable[[str], None]]:
    """Lines on a terminal that can be replaced; the last ones stay."""
    with Live(console=console, auto_refresh=False) as display:
        yield lambda lines: display.update(Text(lines), refresh=True)


def drawn(parts: Iterable[str | Table]) -> str:
    """Sentences and tables as the terminal shows them."""
    # No markup: a bracket in an answer is a bracket.
    console = Console(highlight=False, markup=False)
    with console.capture() as capture:
        for part in parts:
            if isinstance(part, str):
                console.print(*fitted([shown_sentence(part)]), sep="\n")
            else:
                console.print(_drawn_table(part))
    return capture.get().rstrip("\n")


def _drawn_table(table: Table) -> RichTable:
    drawn_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(table.headings):
        is_number = any(isinstance(row[place], int) for row in table.rows)
        drawn_table.add_column(
            Text(one_line(heading)),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in table.rows:
        drawn_table.add_row(*map(_drawn_cell, row))
    return drawn_table


def _drawn_cell(cell: Cell) -> Text:
    if cell is None:
        return Text("")
    return Text(f"{cell:,}" if isinstance(cell, int) else one_line(cell))
