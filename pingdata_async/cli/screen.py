"""What a run looks like while it goes on: a bar on a terminal, a plain line elsewhere.

The one file that loads rich: to be imported where something is about to be drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

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
from rich.text import Text

from pingdata_async.cli.progress import RunState, plain_lines
from pingdata_async.events import ChunkFinished, Event, InputPlanned, Listener, RunResumed
from pingdata_async.plurals import counted
from pingdata_async.secrecy import printable


class StatusConsole(Console):
    """Standard error for people. That nobody reads it any more is no reason to stop."""

    def __init__(self) -> None:
        # No markup: a bracket in an error is a bracket.
        super().__init__(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; texts hold names and errors that others chose."""
        super().print(*map(_printable, objects), **options)

    def on_broken_pipe(self) -> None:
        """Go on without; rich would end the process."""
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
    """A bar where it can be drawn, else plain lines."""
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
