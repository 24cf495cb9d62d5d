"""`pingdata-async columns`: how an input is understood, before anything is sent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from pingdata_async.cli.exit_codes import ANSWERED
from pingdata_async.cli.options import switch
from pingdata_async.cli.showing import Cell, Table, show, show_json
from pingdata_async.cli.table_options import read_options_of, reading_options
from pingdata_async.exceptions import InputError
from pingdata_async.locations import prepare
from pingdata_async.tables.columns import mapping_lines
from pingdata_async.tables.input_reader import InputReader
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
    """

    headers: tuple[str, ...]
    mapping: dict[str, tuple[str, ...]]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    rows: list[dict[str, Any]]


@click.command()
@click.argument("source", metavar="INPUT")
@reading_options
@switch("--json", "as_json", help="Print it as JSON.")
def columns(source: str, as_json: bool, **others: Any) -> int:
    """Show which column of INPUT is which field, and its first rows; send nothing.

    Of a long input only the beginning is read. What is shown differently than you mean it can be
    set right with --map and --id-column, here as for `enhance`.
    """
    with open_input(source, options=read_options_of(others)) as reader:
        rows = _first_rows(reader)
        found = ShownInput(
            headers=reader.headers,
            mapping={column.field: column.headers for column in reader.mapping.columns},
            unused=reader.unused_columns,
            notes=reader.notes,
            rows=rows,
        )
        lines = mapping_lines(reader.mapping)
    if as_json:
        show_json(found)
        return ANSWERED
    show(*lines, *found.notes, "First rows, as they would be sent:", _table(found))
    return ANSWERED


def _first_rows(reader: InputReader) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in reader:
        for place in range(min(len(batch.locations), SHOWN_ROWS - len(rows))):
            error = batch.errors.get(place)
            rows.append({"error": error} if error else _as_sent(batch.locations[place]))
        if len(rows) == SHOWN_ROWS:
            break
    return rows


def _as_sent(location: Any) -> dict[str, Any]:
    try:
        prepared = prepare(location)
    except InputError as error:
        return {"error": str(error)}
    own_id = {} if prepared.id is None else {"id": prepared.id}
    return own_id | prepared.fields


def _table(found: ShownInput) -> Table:
    headings = list(dict.fromkeys(name for row in found.rows for name in row))
    return Table(headings, [[_cell(row.get(name)) for name in headings] for row in found.rows])


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
