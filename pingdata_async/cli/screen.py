"""The progress bar and tables on a terminal.

The only module that loads rich: import it where something is about to be drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable
from rich.text import Text

from pingdata_async.cli.console import Cell, RunState, Table, plain_lines, shown_sentence
from pingdata_async.events import ChunkFinished, Event, InputPlanned, Listener, RunResumed
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted, one_line


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


class _RateColumn(ProgressColumn):
    def __init__(self, state: RunState) -> None:
        super().__init__()
        self._state = state

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the column's interface
        return Text(f"{self._state.rows_per_s:,.0f} rows/s")


class _JobsColumn(ProgressColumn):
    def __init__(self, state: RunState) -> None:
        super().__init__()
        self._state = state

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the column's interface
        jobs = self._state.in_flight
        text = Text(counted(jobs, "job"))
        if self._state.problems:
            text.append(f", {counted(self._state.problems, 'problem')}", style="yellow")
        return text


def show(console: Console) -> contextlib.AbstractContextManager[Listener]:
    """Show a bar where it can be drawn, else plain lines."""
    can_draw = console.is_terminal and not console.is_dumb_terminal
    return bar(console) if can_draw else plain_lines(console)


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Listener]:
    """A live progress bar."""
    state = RunState()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _RateColumn(state),
        _JobsColumn(state),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as progress:
        task = progress.add_task("reading", total=None)

        def watch(event: Event) -> None:
            state(event)
            match event:
                case InputPlanned():
                    progress.update(task, description="enhancing", total=event.rows)
                case RunResumed() | ChunkFinished():
                    progress.update(task, completed=state.rows_done)
                    if state.rows_done == state.rows_total:
                        progress.update(task, description="writing")
                case _:
                    pass

        yield watch


def drawn(parts: Iterable[str | Table]) -> str:
    """Sentences and tables as the terminal shows them."""
    # No markup: a bracket in an answer is a bracket.
    console = Console(highlight=False, markup=False)
    with console.capture() as capture:
        for part in parts:
            console.print(shown_sentence(part) if isinstance(part, str) else _drawn_table(part))
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
