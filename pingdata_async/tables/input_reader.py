"""What all readers of inputs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pingdata_async.location_batches import Columns
from pingdata_async.plurals import counted
from pingdata_async.tables.columns import ColumnMapping
from pingdata_async.tables.headers import key_of
from pingdata_async.tables.inputs import Batch, ReadOptions
from pingdata_async.tables.lost_numbers import ColumnReader, LostNumbers
from pingdata_async.tables.postal_codes import POSTAL_CODE, mended_columns
from pingdata_async.tables.sheet_place import SheetPlace
from pingdata_async.tables.sources import Fingerprint
from pingdata_async.value_notes import NotedBatch, NotedValue, ValueKind, ValueNotes
from pingdata_async.words_for_nothing import all_say_something, says_nothing

_PLUS_4 = ("4", "four")
"""What the key of a header such as "ZIP+4" ends with."""


class InputReader(ABC):
    """Records of an input, in order, as batches; iterate it once.

    Args:
        name: The input, for messages.
        options: How it is to be understood.

    Attributes:
        name: The input, for messages.
        options: How it is to be understood.
        headers: Of its columns in order, as they stand there, empty and repeated ones as well;
            for JSON the names of all fields, as they came first. Known with the first batch; of
            JSON, complete at the end.
        mapping: Which of them hold what; known when `headers` are.
        rows: Data records before the batch that is being read.
        sheet_place: Where in a workbook they stand, up to now; None for other inputs.
        values: Those that the reader itself changed or left out, by the header of their column.

    Raises:
        InputError: While iterated, naming the line or row, when the input cannot be read on;
            nothing usable in it is an error too.
    """

    def __init__(self, name: str, options: ReadOptions) -> None:
        self.name = name
        self.options = options
        self.headers: tuple[str, ...] = ()
        self.mapping = ColumnMapping((), ())
        self.rows = 0
        self.sheet_place: SheetPlace | None = None
        self.values = ValueNotes()
        self._notes: list[str] = []
        self._lost_numbers = LostNumbers()
        self._notes_at_end: list[Callable[[], str | None]] = []

    def __iter__(self) -> Iterator[Batch]:
        """The records."""
        for batch in self._batches():
            yield batch
            self.rows += len(batch.locations)
        self._lost_numbers.check(self.name)

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """The same."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Of what has been read; that of the whole input once it was iterated to its end."""

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """Columns seen so far that mean nothing to the API, in their order."""
        return self.mapping.unused

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the input was understood, a sentence each.

        Complete once it was iterated to its end.
        """
        at_end = [note for tell in self._notes_at_end if (note := tell()) is not None]
        return (*self._notes, *at_end, *self._counted())

    def all_values(self, prepared: ValueNotes) -> ValueNotes:
        """Values that are not sent as they stand, by column, once all was read.

        Args:
            prepared: What was noted of them by field, when they were prepared.
        """
        all_values = ValueNotes()
        all_values.take_over(self.values, {})
        all_values.take_over(prepared, self._headers_by_field())
        return all_values

    def note_at_end(self, tell: Callable[[], str | None]) -> None:
        """Have somebody asked for a note once all was read."""
        self._notes_at_end.append(tell)

    def _counted(self) -> list[str]:
        """Notes that are only known at the end."""
        return []

    def _located(
        self,
        columns: Sequence[Sequence[Any]],
        *,
        are_texts: bool,
        places: Sequence[int] | None = None,
        unused: ColumnReader | None = None,
    ) -> Columns:
        """Rows as locations; columns that are not mapped may be empty.

        Args:
            columns: All columns of the input.
            are_texts: Whether all their cells are texts.
            places: Those of the rows in the batch that is being read; None where they are all.
            unused: Gives a column that is not mapped; None where `columns` has all of them.
        """
        self._lost_numbers.take_up(self.mapping, self.headers, self.options.mapping)
        self._lost_numbers.add(columns, unused or columns.__getitem__)
        parts = self._parts_that_say_something(columns, places, are_texts=are_texts)
        noted = NotedBatch()
        located = self.mapping.located(parts, are_texts=are_texts, noted=noted)
        self._note_by_header(noted, places)
        header = self._headers_by_field().get(POSTAL_CODE, "")
        located, noted = mended_columns(located, may_be_plus_4=key_of(header).endswith(_PLUS_4))
        self._note_by_header(noted, places)
        return located

    def _used_places(self) -> frozenset[int]:
        """The columns that are mapped."""
        return frozenset(place for column in self.mapping.columns for place in column.places)

    def _parts_that_say_something(
        self,
        columns: Sequence[Sequence[Any]],
        places: Sequence[int] | None,
        *,
        are_texts: bool,
    ) -> Sequence[Sequence[Any]]:
        """The columns without words for nothing in those of which several are joined.

        Joined with others they are no words for nothing any more: "N/A Main St".
        """
        found = list(columns)
        for mapped in self.mapping.columns:
            is_joined = len(mapped.places) > 1 and mapped.field != "id"
            for place in mapped.places if is_joined else ():
                texts = columns[place]
                if not are_texts:
                    texts = [cell if isinstance(cell, str) else "" for cell in texts]
                if not all_say_something(texts):
                    found[place] = cells = list(columns[place])
                    for row, text in enumerate(texts):
                        if says_nothing(text.strip()):
                            header = self.headers[place]
                            noted = NotedValue(header, ValueKind.SAYS_NOTHING, cells[row])
                            self.values.add(self._row(row, places), noted)
                            cells[row] = ""
        return found

    def _row(self, place: int, places: Sequence[int] | None) -> int:
        """The number of a row of the batch that is being read."""
        return self.rows + (place if places is None else places[place])

    def _note_by_header(self, noted: NotedBatch, places: Sequence[int] | None = None) -> None:
        """Count values of the batch that is being read, by the header of their column."""
        if not noted:
            return
        headers = self._headers_by_field()
        for place, values in noted.items():
            for value in values:
                self.values.add(
                    self._row(place, places), value._replace(column=headers[value.column])
                )

    def _headers_by_field(self) -> dict[str, str]:
        return {each.field: " + ".join(each.headers) for each in self.mapping.columns}


def left_out_note(rows: Mapping[str, int]) -> str | None:
    """Such as "2 empty rows, 1 total row and 1 footnote left out"; None where there are none.

    Args:
        rows: How many are left out, by what one is called.
    """
    shown = [counted(number, what) for what, number in rows.items() if number]
    if not shown:
        return None
    *first, last = shown
    return f"{', '.join(first)}{' and ' if first else ''}{last} left out"
