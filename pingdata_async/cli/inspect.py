"""The command `inspect`: how an input is understood, before anything is sent."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from pingdata_async.cli.config import profile_option
from pingdata_async.cli.console import mapped_lines, show_json, show_lines, waiting_for, wrapped
from pingdata_async.cli.help import Argument, command
from pingdata_async.cli.main import ANSWERED, say
from pingdata_async.cli.options import json_option, read_options_of, reading_options
from pingdata_async.exceptions import InputError
from pingdata_async.locations.chunk import InvalidRow
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.normalize import Columns, NormalizedLocation, normalize
from pingdata_async.tables.mapping.columns import ColumnMapping, mapping_lines, why_unused
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import Batch
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted, one_line, shown_path
from pingdata_async.value_notes import FAULTS, ValueNote, sentence, to_be_told

SHOWN_ROWS = 5
MOST_REASONS = 10

_ANY_SOURCES = ("any",)  # which ones makes no difference here
_DIGIT = re.compile(r"\d")
_STREETS = ("address_line_1", "address")


class RefusedRows(msgspec.Struct):
    """Rows that cannot be sent, for one reason.

    Attributes:
        error: The reason, a sentence.
        rows: How many there are.
        row: The data record of the first, from 0.
    """

    error: str
    rows: int
    row: int


class ShownInput(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is understood.

    Attributes:
        headers: Of all columns, in order.
        mapping: By field, the headers of the columns that hold it.
        samples: By field, up to three values as they would be sent.
        unused: Headers of columns that are not sent.
        unused_because: Why, by header.
        notes: What else was found, a sentence each.
        total_rows: How many rows there are.
        refused_rows: Of those, rows that cannot be sent.
        refused: Why they cannot, the most frequent reason first.
        without_house_number: Rows with a street that has no number, and without coordinates.
        street_without_number: The first of these streets.
        value_notes: Values that would not be sent as they stand, by column.
        rows: The first rows as they would be sent; or why one cannot be, under "error".
    """

    headers: tuple[str, ...]
    mapping: dict[str, tuple[str, ...]]
    samples: dict[str, list[str]]
    unused: tuple[str, ...]
    unused_because: dict[str, str]
    notes: tuple[str, ...]
    total_rows: int
    refused_rows: int
    refused: list[RefusedRows]
    without_house_number: int
    street_without_number: str
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

    Read all of INPUT. Print which column is read as which field, what is not sent and why, and what
    cannot be read. Correct the mapping with --map, here and in `enhance`.
    """
    said = waiting_for(shown_path(source))
    options = read_options_of(others)
    with open_input(source, options=options, on_wait=lambda: say(said)) as reader:
        seen = _Seen()
        seen.read(reader)
        samples = seen.builder.samples.by_field
        found = ShownInput(
            headers=reader.headers,
            mapping={column.field: column.headers for column in reader.mapping.columns},
            samples=samples,
            unused=reader.unused_columns,
            unused_because=why_unused(reader.mapping, reader.headers, options.mapping),
            notes=reader.notes,
            total_rows=reader.rows,
            refused_rows=sum(each.rows for each in seen.refused.values()),
            refused=sorted(seen.refused.values(), key=lambda each: -each.rows),
            without_house_number=seen.without_house_number,
            street_without_number=seen.street,
            value_notes=reader.all_values(seen.builder.values).notes(),
            rows=seen.rows,
        )
        lines = mapping_lines(ColumnMapping(reader.mapping.columns, ()), samples)
        lines += _of_no_column(found)
    if as_json:
        show_json(found)
    else:
        show_lines(map(printable, [*mapped_lines(lines), *_described(found)]))
    return ANSWERED


def _of_no_column(found: ShownInput) -> list[str]:
    """Rows that are nothing but an address have no column."""
    return [
        f"{field} <- (rows without columns): {' | '.join(some)}"
        for field, some in found.samples.items()
        if field not in found.mapping
    ]


class _Seen:
    """What a look through all rows finds."""

    def __init__(self) -> None:
        self.builder = ChunkBuilder(sources=_ANY_SOURCES)
        self.rows: list[dict[str, Any]] = []  # the first ones
        self.refused: dict[str, RefusedRows] = {}
        self.without_house_number = 0
        self.street = ""  # the first of them

    def read(self, reader: InputReader) -> None:
        """Read all rows."""
        for batch in reader:
            for place in range(min(len(batch.locations), SHOWN_ROWS - len(self.rows))):
                self.rows.append(_as_sent(batch, place))
            self._look_for_house_numbers(batch.locations)
            for chunk in self.builder.add_batch(reader.rows, batch.locations, batch.errors):
                self._refuse(chunk.invalid)
        rest = self.builder.rest()
        self._refuse(rest.invalid if rest is not None else [])

    def _look_for_house_numbers(self, locations: Any) -> None:
        if not isinstance(locations, Columns):
            return
        fields = dict(zip(locations.names, locations.columns, strict=True))
        places = [fields[name] for name in COORDINATES if name in fields]
        for name in _STREETS:
            for place, text in enumerate(fields.get(name, ())):
                if not text or _DIGIT.search(str(text)):
                    continue
                if len(places) < len(COORDINATES) or not all(each[place] for each in places):
                    self.without_house_number += 1
                    self.street = self.street or str(text)

    def _refuse(self, rows: list[InvalidRow]) -> None:
        for each in rows:
            kind = self.refused.setdefault(each.error, RefusedRows(each.error, 0, each.row))
            kind.rows += 1


def _as_sent(batch: Batch, place: int) -> dict[str, Any]:
    try:
        normalized = _normalized(batch, place)
    except InputError as error:
        return {"error": str(error)}
    own_id = {} if normalized.id is None else {"id": normalized.id}
    return own_id | normalized.fields


def _normalized(batch: Batch, place: int) -> NormalizedLocation:
    if place in batch.errors:
        raise InputError(batch.errors[place])
    return normalize(batch.locations[place])


# -- For people --------------------------------------------------------------------------------

_NOT_SENT = "Values that are not sent:"
_LOOKED_AT = "Values that are sent otherwise, or read as empty:"


def _described(found: ShownInput) -> list[str]:
    """What is not used, not read and left out, in lines."""
    lines = []
    if found.unused:
        lines.append("Columns not used:")
        reasons = dict.fromkeys(found.unused_because.values())
        for reason in reasons:
            headers = [each for each in found.unused if found.unused_because[each] == reason]
            lines += wrapped(f"{shown_headers(headers, len(headers))}: {reason}")
    notes = to_be_told(found.value_notes)
    for heading, are_faults in ((_NOT_SENT, True), (_LOOKED_AT, False)):
        told = [sentence(note) for note in notes if (note.kind in FAULTS) is are_faults]
        lines += [heading] * bool(told) + [line for each in told for line in wrapped(each)]
    if found.notes:
        lines.append("What else was found:")
        lines += [line for note in found.notes for line in wrapped(note)]
    if not found.total_rows:
        return [*lines, "There are no rows."]
    refused = f", {found.refused_rows:,} of which cannot be sent" if found.refused_rows else ""
    lines.append(f"{counted(found.total_rows, 'row')}{refused}.")
    for each in found.refused[:MOST_REASONS]:
        first = f"{'' if each.rows == 1 else 'the first is '}row {each.row + 1:,}"
        lines += wrapped(f"{counted(each.rows, 'row')} ({first}): {each.error}")
    if len(found.refused) > MOST_REASONS:
        lines.append(f"  and {len(found.refused) - MOST_REASONS:,} more reasons; --json has all")
    if found.without_house_number:
        rows = counted(found.without_house_number, "row")
        such_as = f"such as {one_line(found.street_without_number)!r}"
        lines += wrapped(f"{rows} with a street that has no house number, {such_as}.", indent="")
    return lines
