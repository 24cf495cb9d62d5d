"""Values that are not sent as they stand in the input, counted by column, with examples (pure).

Code that leaves a value out, or changes it, notes it in one line:

- Where one value is read (`locations/fields.py`):
  `raise UnreadableError(ValueKind.CODE_FOR_UNKNOWN)`.
- Where locations are normalized, by field and place in the batch:
  `noted.add(place, NotedValue("latitude", ValueKind.NO_COORDINATES, value))`.
- Where an input is read (`InputReader`), by header:
  `self.values.add(self.rows + place, NotedValue(header, ValueKind.UNREADABLE, value))`.

The plan counts these values by the header of their column, or by field for locations in memory.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

MOST_EXAMPLES = 3
MOST_EXAMPLE_CHARS = 40


class ValueKind(enum.StrEnum):
    """Why a value is not sent as it stands."""

    UNREADABLE = "unreadable"  # not what its column claims to hold: left out
    NO_VALUE = "no_value"  # of a workbook's cell, such as #N/A: left out
    CODE_FOR_UNKNOWN = "code_for_unknown"  # such as 9999 for a year: left out
    NO_COORDINATES = "no_coordinates"  # such as 0,0 beside an address: left out
    HALF_OF_A_PAIR = "half_of_a_pair"  # a coordinate without the other one: left out
    PART_OF_A_STREET = "part_of_a_street"  # such as a house number, without a street: left out
    SAYS_NOTHING = "says_nothing"  # such as "N/A": empty, and no fault
    ZEROS_GIVEN_BACK = "zeros_given_back"  # to a postal code: sent with them
    SHORT_POSTAL_CODE = "short_postal_code"  # if in the United States: sent as it stands


FAULTS = frozenset(
    {
        *(ValueKind.UNREADABLE, ValueKind.NO_VALUE, ValueKind.CODE_FOR_UNKNOWN),
        *(ValueKind.NO_COORDINATES, ValueKind.HALF_OF_A_PAIR, ValueKind.PART_OF_A_STREET),
    }
)
"""Values that say something, and are left out."""

_ORDER = {kind: place for place, kind in enumerate(ValueKind)}


class NotedValue(NamedTuple):
    """A value that is not sent as it stands."""

    column: str  # the header of its column, or its field
    kind: ValueKind  # why it is not sent as it stands
    value: Any  # the value as it came


class ValueNote(msgspec.Struct, frozen=True, kw_only=True):
    """Values of one column that are not sent as they stand, for one reason.

    Attributes:
        column: The header of the column; the field where there is no header.
        kind: Why they are not sent as they stand.
        values: How many there are, over all rows.
        examples: Up to three different ones, in the order of the rows.
        row: The data record of the first, from 0.
    """

    column: str
    kind: ValueKind
    values: int
    examples: tuple[str, ...]
    row: int


class NotedBatch(dict[int, list[NotedValue]]):
    """Values of a batch of locations that are not sent as they stand, by place."""

    def add(self, place: int, value: NotedValue) -> None:
        """Note a value."""
        self.setdefault(place, []).append(value)


class _Count(msgspec.Struct):
    values: int
    examples: list[str]
    row: int


class ValueNotes:
    """Counts values by column and kind, in memory that does not grow with the input."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ValueKind], _Count] = {}

    def add(self, row: int, value: NotedValue) -> None:
        """Count a value of a data record, from 0. The rows of a column come in order."""
        count = self._counts.get(value[:2])
        if count is None:
            count = self._counts[value[:2]] = _Count(0, [], row)
        count.values += 1
        if len(count.examples) < MOST_EXAMPLES:
            example = _example(value.value)
            if example not in count.examples:
                count.examples.append(example)

    def faults(self) -> int:
        """The number of values that said something, and were left out."""
        return sum(count.values for (_, kind), count in self._counts.items() if kind in FAULTS)

    def take_over(self, others: ValueNotes, headers: Mapping[str, str]) -> None:
        """Add values that were counted by field, under the headers of the fields' columns."""
        for (name, kind), other in others._counts.items():
            key = headers.get(name, name), kind
            count = self._counts.get(key)
            if count is None:
                self._counts[key] = _Count(other.values, list(other.examples), other.row)
                continue
            first, second = sorted((count, other), key=lambda each: each.row)
            examples = list(dict.fromkeys([*first.examples, *second.examples]))
            self._counts[key] = _Count(
                count.values + other.values, examples[:MOST_EXAMPLES], first.row
            )

    def notes(self) -> tuple[ValueNote, ...]:
        """All notes: by kind, the column with the most values first."""
        notes = [
            ValueNote(
                column=column,
                kind=kind,
                values=count.values,
                examples=tuple(count.examples),
                row=count.row,
            )
            for (column, kind), count in self._counts.items()
        ]
        return tuple(sorted(notes, key=lambda note: (_ORDER[note.kind], -note.values, note.column)))


def _example(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= MOST_EXAMPLE_CHARS else f"{text[:MOST_EXAMPLE_CHARS]}..."


def sentence(note: ValueNote) -> str:
    """A note for people, such as `12 values of "Yr Built" left out as unreadable: "TBD" (row 4)`.

    Rows count from 1 here, the first one below the headers.
    """
    one = note.values == 1
    many = f'{note.values:,} value{"" if one else "s"} of "{note.column}" '
    what = {
        ValueKind.UNREADABLE: "left out as unreadable",
        ValueKind.NO_VALUE: "left out, no value that can be sent",
        ValueKind.CODE_FOR_UNKNOWN: "left out, a code for unknown"
        if one
        else "left out, codes for unknown",
        ValueKind.NO_COORDINATES: "left out, no coordinates",
        ValueKind.HALF_OF_A_PAIR: "left out, without the other coordinate",
        ValueKind.PART_OF_A_STREET: "left out, without a street",
        ValueKind.SAYS_NOTHING: "says nothing" if one else "say nothing",
        ValueKind.ZEROS_GIVEN_BACK: ("gets" if one else "get")
        + " back the leading zeros that a spreadsheet took",
        ValueKind.SHORT_POSTAL_CODE: "sent as "
        + ("it stands" if one else "they stand")
        + ", too short if in the United States",
    }[note.kind]
    first, *others = [f'"{example}"' for example in note.examples]
    examples = ", ".join([f"{first} (row {note.row + 1:,})", *others])
    such_as = "" if note.values == len(note.examples) else ", such as"
    return f"{many}{what}{such_as or ':'} {examples}"


def to_be_told(notes: Iterable[ValueNote]) -> list[ValueNote]:
    """All notes but those of cells, which the reader reports with their places in the sheet."""
    return [note for note in notes if note.kind is not ValueKind.NO_VALUE]
