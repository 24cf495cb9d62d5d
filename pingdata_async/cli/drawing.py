"""Tables for people. Loads rich: to be imported where something is about to be drawn."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pingdata_async.cli.showing import Cell, Table
from pingdata_async.refusals import one_line


def drawn(parts: Iterable[str | Table]) -> str:
    """Sentences and tables as the terminal shows them."""
    # No markup: a bracket in an answer is a bracket.
    console = Console(highlight=False, markup=False)
    with console.capture() as capture:
        for part in parts:
            console.print(one_line(part) if isinstance(part, str) else _drawn_table(part))
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
