"""Whatever the order of the columns and of the rows, the same locations are sent."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.tables.readers.open import open_input
from tests.support.sweeps import examples

KEY = "Loc ID"
NOTHING = ("", "N/A", "-", "TBD", "nan", "k.A.")
COLUMNS = {
    "Property Address": ("1 Main St", "2-4 Oak Ave", "Main Street", "12", "1 Elm St, Austin, TX"),
    "House No": ("1", "2A", "3-5", "0", "1,200"),
    "Street": ("Main St", "Oak", "12 Elm St", "5th Ave"),
    "St": ("MA", "Ave", "Elm"),
    "Unit": ("2", "Apt 3", "#4"),
    "City": ("Boston", "Z\u00fcrich", "Nan", "None", "Windhoek"),
    "State": ("MA", "TX", "NA", "Texas", "Bayern"),
    "Zip": ("02134", "2134", "8001", "02134-5678", "21345678", "SW1A 1AA"),
    "City, ST ZIP": ("Boston, MA 02134", "Austin, TX", "Boston"),
    "Country": ("US", "USA", "NA", "Switzerland", "DE", "Thailand"),
    "Latitude": ("25.77", "25,77", "0", "40 26 46 N", "91", "\u22125"),
    "Long": ("-80.19", "0", "79.98 W", "-80,19"),
    "Lat/Long": ("25.77, -80.19", "0,0", "25.77"),
    "Year Built": ("1950", "0", "9999", "c. 1950", "1950s", "1987-05-01", "87"),
    "# Stories": ("2", "-1", "2 stories", "2.5", "2.000"),
    "Sq Ft": ("900", "12,500 sf", "12.500", "1200 m2", "0", "2345.6"),
    "Building Limit": ("$1.2M", "1.200", "1,200", "1200,50", "0", "-5"),
    "BI Limit": ("100", "12 months", "1.000.000,00"),
    "BI Months": ("12", "18"),
    "Construction": ("Frame", "4", "Joisted Masonry"),
    "Remarks": ("see file", "total", "1"),
}

Table = tuple[list[str], list[list[str]]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table with an id for each row."""
    headers = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True))
    cells = [st.sampled_from(COLUMNS[header] + NOTHING) for header in headers]
    rows = draw(st.lists(st.tuples(*cells), min_size=1, max_size=6))
    return [KEY, *headers], [[f"loc-{n}", *row] for n, row in enumerate(rows)]


def as_text(table: Table, delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([table[0], *table[1]])
    return text.getvalue()


def as_jsonl(table: Table) -> str:
    return "".join(json.dumps(dict(zip(table[0], row, strict=True))) + "\n" for row in table[1])


def outcome(folder: Path, name: str, text: str) -> Any:
    """What is sent of each row by its id, why the others are not, and what is noted."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    builder = ChunkBuilder(sources=("PG",))
    chunks: list[Chunk | None] = []
    try:
        with open_input(path) as reader:
            for batch in reader:
                chunks += builder.add_batch(reader.rows, batch.locations, batch.errors)
            notes = reader.all_values(builder.values).notes()
    except InputError:
        return "refused"
    chunks.append(builder.rest())
    sent: dict[str | None, bytes] = {}
    for chunk in filter(None, chunks):
        for own_id, location in zip(chunk.ids, chunk.locations, strict=True):
            sent[own_id] = location.partition(b",")[2]  # without the row's number
        sent |= {invalid.id: invalid.error.encode() for invalid in chunk.invalid}
    counts = {(_in_any_order(note.column), note.kind): note.values for note in notes}
    return sent, counts


def _in_any_order(column: str) -> tuple[str, ...]:
    return tuple(sorted(column.split(" + ")))


def shuffled(table: Table, columns: Sequence[int], rows: Sequence[int]) -> Table:
    headers, cells = table
    return [headers[n] for n in columns], [[cells[row][n] for n in columns] for row in rows]


@pytest.mark.parametrize("form", [",", ";", "\t", "jsonl"])
@examples(40)
@given(table=tables(), data=st.data())
def test_the_same_is_sent_in_any_order(form: str, table: Table, data: st.DataObject) -> None:
    """Field by field and byte by byte; and the same values are noted of the same columns."""
    columns = data.draw(st.permutations(range(len(table[0]))))
    rows = data.draw(st.permutations(range(len(table[1]))))
    tables = [table, shuffled(table, columns, rows)]
    name = "in.jsonl" if form == "jsonl" else "in.csv"
    texts = [as_jsonl(each) if form == "jsonl" else as_text(each, form) for each in tables]
    with tempfile.TemporaryDirectory() as folder:
        one, other = (outcome(Path(folder), name, text) for text in texts)
    assert one == other
