"""Values that are not sent as they stand, counted by column with examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.tables.readers.open import open_input
from pingdata_async.value_notes import NotedValue, ValueKind, ValueNote, ValueNotes, sentence

UNREADABLE = ValueKind.UNREADABLE


def notes_of(source: Path) -> tuple[ValueNote, ...]:
    """What a plan of an input says."""
    builder = ChunkBuilder(sources=("PG",))
    with open_input(source) as reader:
        for batch in reader:
            builder.add_batch(reader.rows, batch.locations, batch.errors)
        return reader.all_values(builder.values).notes()


def test_values_are_counted_over_all_rows_by_the_column_of_the_input(tmp_path: Path) -> None:
    """With three different examples, the row of the first, and those far from the beginning."""
    source = tmp_path / "in.csv"
    rows = [f"{row} Main St,{'built?' if row == 3 else 1950}" for row in range(2_000)]
    rows += ["1 Oak Ave,old", "2 Oak Ave,old", "3 Oak Ave,older", ",oldest"]
    source.write_text("\n".join(["address,Yr Built", *rows]))
    assert notes_of(source) == (
        ValueNote(
            column="Yr Built",
            kind=UNREADABLE,
            values=5,
            examples=("built?", "old", "older"),
            row=3,
        ),
    )


def test_notes_of_the_reader_and_of_what_is_prepared_come_together() -> None:
    """Under the header, the first example first whoever found it."""
    of_reader, of_fields = ValueNotes(), ValueNotes()
    of_reader.add(7, NotedValue("Zip", UNREADABLE, "2024-01-02"))
    of_fields.add(5, NotedValue("postal_code", UNREADABLE, "x"))
    of_fields.add(6, NotedValue("city", ValueKind.SAYS_NOTHING, "N/A"))
    of_reader.take_over(of_fields, {"postal_code": "Zip"})
    assert [(n.column, n.values, n.examples, n.row) for n in of_reader.notes()] == [
        ("Zip", 2, ("x", "2024-01-02"), 5),
        ("city", 1, ("N/A",), 6),
    ]
    assert of_reader.faults() == 2  # what says nothing is none


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (UNREADABLE, 1, '1 value of "Yr" left out as unreadable: "x" (row 4)'),
        (UNREADABLE, 1200, '1,200 values of "Yr" left out as unreadable, such as "x" (row 4)'),
        (ValueKind.SAYS_NOTHING, 2, '2 values of "Yr" say nothing, such as "x" (row 4)'),
        (
            ValueKind.CODE_FOR_UNKNOWN,
            1,
            '1 value of "Yr" left out, a code for unknown: "x" (row 4)',
        ),
        (
            ValueKind.ZEROS_GIVEN_BACK,
            1,
            '1 value of "Yr" gets back the leading zeros that a spreadsheet took: "x" (row 4)',
        ),
    ],
)
def test_a_note_is_one_sentence(kind: ValueKind, values: int, said: str) -> None:
    """How many, of which column, what is the matter, and which."""
    note = ValueNote(column="Yr", kind=kind, values=values, examples=("x",), row=3)
    assert sentence(note) == said


def test_examples_are_short_and_on_one_line() -> None:
    """Whatever is in a cell."""
    notes = ValueNotes()
    notes.add(0, NotedValue("Yr", UNREADABLE, "a\n" * 500))
    assert notes.notes()[0].examples == ("a " * 20 + "...",)
