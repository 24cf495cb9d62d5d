"""`pingdata-async columns`: how an input is understood, before anything is sent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from pingdata_async.cli.exit_codes import ANSWERED
from pingdata_async.cli.messages import say
from pingdata_async.cli.options import switch
from pingdata_async.cli.progress import waiting_for
from pingdata_async.cli.showing import Cell, Table, show, show_json
from pingdata_async.cli.table_options import read_options_of, reading_options
from pingdata_async.exceptions import InputError
from pingdata_async.locations import PreparedLocation, prepare
from pingdata_async.runs.output_files import shown_path
from pingdata_async.tables.columns import mapping_lines
from pingdata_async.tables.input_reader import InputReader, counted
from pingdata_async.tables.inputs import Batch
from pingdata_async.tables.readers import open_input

SHOWN_ROWS = 5


class ShownInput(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is understood.

    Attributes:
        headers: Of all columns, in order; of JSONL those of the first rows.
        mapping: By field, the headers of the columns that hold it.
        unused: Headers of columns that are not sent.
        notes: What else was found out about it, a sentence each.
        rows: The first rows as they would be sent; or why one cannot be, under "error".
        left_out: Values in these rows that cannot be read, and would not be sent.
    """

    headers: tuple[str, ...]
    mapping: dict[str, tuple[str, ...]]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    rows: list[dict[str, Any]]
    left_out: int


@click.command()
@click.argument("source", metavar="INPUT")
@reading_options
@switch("--json", "as_json", help="Print it as JSON.")
def columns(source: str, as_json: bool, **others: Any) -> int:
    """Show which column of INPUT is which field, and its first rows; send nothing.

    Of a long input only the beginning is read. What is shown differently than you mean it can be
    set right with --map and --id-column, here as for `enhance`.
    """
    said = waiting_for(shown_path(source))
    with open_input(source, options=read_options_of(others), on_wait=lambda: say(said)) as reader:
        rows, left_out = _first_rows(reader)
        found = ShownInput(
            headers=reader.headers,
            mapping={column.field: column.headers for column in reader.mapping.columns},
            unused=reader.unused_columns,
            notes=reader.notes,
            rows=rows,
            left_out=left_out,
        )
        lines = mapping_lines(reader.mapping)
    if as_json:
        show_json(found)
        return ANSWERED
    show(*lines, *found.notes, *_shown_rows(found))
    return ANSWERED


def _first_rows(reader: InputReader) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    left_out = 0
    for batch in reader:
        for place in range(min(len(batch.locations), SHOWN_ROWS - len(rows))):
            try:
                prepared = _prepared(batch, place)
            except InputError as error:
                rows.append({"error": str(error)})
                continue
            own_id = {} if prepared.id is None else {"id": prepared.id}
            rows.append(own_id | prepared.fields)
            left_out += prepared.left_out
        if len(rows) == SHOWN_ROWS:
            break
    return rows, left_out


def _prepared(batch: Batch, place: int) -> PreparedLocation:
    if place in batch.errors:
        raise InputError(batch.errors[place])
    return prepare(batch.locations[place])


def _shown_rows(found: ShownInput) -> list[str | Table]:
    if not found.rows:
        return ["There are no rows."]
    shown: list[str | Table] = ["First rows, as they would be sent:", _table(found)]
    if found.left_out:
        shown.append(f"Left out of them, as unreadable: {counted(found.left_out, 'number')}.")
    return shown


def _table(found: ShownInput) -> Table:
    named = {name for row in found.rows for name in row}
    # Rows that are nothing but a text are addresses without a header.
    in_order = dict.fromkeys((*found.mapping, "address", "error"))
    headings = [name for name in in_order if name in named]
    return Table(headings, [[_cell(row.get(name)) for name in headings] for row in found.rows])


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
