"""The command `inspect`: how an input is understood, before anything is sent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from pingdata_async.cli.config import profile_option
from pingdata_async.cli.console import Cell, Table, show, show_json, waiting_for
from pingdata_async.cli.help import Argument, command
from pingdata_async.cli.main import ANSWERED, say
from pingdata_async.cli.options import json_option, read_options_of, reading_options
from pingdata_async.exceptions import InputError
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.normalize import NormalizedLocation, normalize
from pingdata_async.tables.mapping.columns import mapping_lines
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import Batch
from pingdata_async.util.text import counted, shown_path
from pingdata_async.value_notes import ValueNote, sentence, to_be_told

SHOWN_ROWS = 5

_ANY_SOURCES = ("any",)  # which ones makes no difference here


class ShownInput(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is understood.

    Attributes:
        headers: Of all columns, in order.
        mapping: By field, the headers of the columns that hold it.
        samples: By field, up to three values as they would be sent.
        unused: Headers of columns that are not sent.
        notes: What else was found, a sentence each.
        total_rows: How many rows there are.
        refused_rows: Of those, rows that cannot be sent.
        value_notes: Values that would not be sent as they stand, by column.
        rows: The first rows as they would be sent; or why one cannot be, under "error".
    """

    headers: tuple[str, ...]
    mapping: dict[str, tuple[str, ...]]
    samples: dict[str, list[str]]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    total_rows: int
    refused_rows: int
    value_notes: tuple[ValueNote, ...]
    rows: list[dict[str, Any]]


@command(
    examples="""
        pingdata-async inspect sov.xlsx
        pingdata-async inspect sov.xlsx --map city="Town" --map id="Loc #"
    """
)
@click.argument(
    "source", cls=Argument, metavar="INPUT",
    help='A CSV, JSONL, Parquet or workbook; "-" is standard input.',
)  # fmt: skip
@reading_options
@profile_option
@json_option("Print the same as JSON.")
def inspect(source: str, as_json: bool, **others: Any) -> int:
    """Show how the columns of INPUT are understood; send nothing.

    Print which column is read as which field, what would not be sent, and the first rows. Correct
    the mapping with --map, here and in `enhance`.
    """
    said = waiting_for(shown_path(source))
    with open_input(source, options=read_options_of(others), on_wait=lambda: say(said)) as reader:
        rows, builder, refused_rows = _read_through(reader)
        found = ShownInput(
            headers=reader.headers,
            mapping={column.field: column.headers for column in reader.mapping.columns},
            samples=builder.samples.by_field,
            unused=reader.unused_columns,
            notes=reader.notes,
            total_rows=reader.rows,
            refused_rows=refused_rows,
            value_notes=reader.all_values(builder.values).notes(),
            rows=rows,
        )
        lines = mapping_lines(reader.mapping, builder.samples.by_field)
    if as_json:
        show_json(found)
        return ANSWERED
    show(*lines, *found.notes, *map(sentence, to_be_told(found.value_notes)), *_shown_rows(found))
    return ANSWERED


def _read_through(reader: InputReader) -> tuple[list[dict[str, Any]], ChunkBuilder, int]:
    """Read all rows: the first ones, the builder that took them, and how many it refused."""
    rows: list[dict[str, Any]] = []
    refused_rows = 0
    builder = ChunkBuilder(sources=_ANY_SOURCES)
    for batch in reader:
        for place in range(min(len(batch.locations), SHOWN_ROWS - len(rows))):
            try:
                normalized = _normalized(batch, place)
            except InputError as error:
                rows.append({"error": str(error)})
                continue
            own_id = {} if normalized.id is None else {"id": normalized.id}
            rows.append(own_id | normalized.fields)
        for chunk in builder.add_batch(reader.rows, batch.locations, batch.errors):
            refused_rows += len(chunk.invalid)
    rest = builder.rest()
    refused_rows += len(rest.invalid) if rest is not None else 0
    return rows, builder, refused_rows


def _normalized(batch: Batch, place: int) -> NormalizedLocation:
    if place in batch.errors:
        raise InputError(batch.errors[place])
    return normalize(batch.locations[place])


def _shown_rows(found: ShownInput) -> list[str | Table]:
    if not found.rows:
        return ["There are no rows."]
    refused = f", {found.refused_rows:,} of which cannot be sent" if found.refused_rows else ""
    return [
        f"{counted(found.total_rows, 'row')}{refused}.",
        "First rows, as they would be sent:",
        _table(found),
    ]


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
