"""Checks over all rows that no house number is lost, and that house numbers are such (pure).

A street without numbers is one location for all of its houses, and gets one answer. So if hardly
any street has a number, and an unused column looks like house numbers, the user has to settle it
before anything is sent; likewise if the number column contradicts the street, or counts the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.coordinates import COORDINATES
from pingdata_async.locations.fields import id_text
from pingdata_async.tables.mapping.candidates import MappedColumn
from pingdata_async.tables.mapping.columns import JOINED_BY, ColumnMapping, choices
from pingdata_async.tables.mapping.headers import (
    key_of,
    map_option,
    meaning_of,
    shown_header,
    shown_parts,
    words_of,
)
from pingdata_async.tables.mapping.street_lines import leads_with_another_number
from pingdata_async.tables.mapping.synonyms import (
    NEVER_HOUSE_NUMBERS,
    NUMBERS_OF_ANYTHING,
    WORDS_FOR_NUMBERS,
    Part,
)

ColumnReader = Callable[[int], Sequence[Any]]
"""Returns the cells of a column by its place; none if they are neither text nor numbers."""

_LINES = ("address_line_1", "address")
_FEWEST_ROWS = 2  # a single row shows no pattern
_MOST_EXAMPLES = 3
_NEARLY_NONE = 0.1  # of the rows
_NEARLY_ALL = 0.8
_SCHEDULE_ROWS = 5  # consecutive numbers in so many rows are a list
_CLASSES_ROWS = 20  # numbers up to 20 only in so many rows are classes
_LARGEST_CLASS = 20
_YEARS = range(1700, 2101)

_BEHIND_DIGITS = chr(ord("9") + 1)  # any text from here on begins with no digit

_DIGIT = re.compile(r"\d", re.ASCII)
_FEW_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_HOUSE_NUMBER = re.compile(
    r"0*([1-9]\d{0,4})(?:\.0)?(?:[a-z]|[-/ ]\d{1,4}[a-z]?| \d/\d)?", re.IGNORECASE | re.ASCII
)


class _Suspect(msgspec.Struct):
    """The cells of an unused column beside streets without a number."""

    header: str
    like: int = 0
    years: int = 0
    smallest: int = 10**6
    largest: int = 0
    total: int = 0
    examples: list[str] = []


class _Count(msgspec.Struct):
    """Numbers that may just count the rows."""

    may_count_rows: bool = True
    largest: int = 0
    total: int = 0
    rows: int = 0
    street: str = ""
    is_one_street: bool = True

    def add(self, numbers: Sequence[str], streets: Sequence[str]) -> None:
        """Add rows."""
        self.street = self.street or streets[0]
        self.is_one_street = self.is_one_street and set(streets) == {self.street}
        self.may_count_rows = self.may_count_rows and all(map(_FEW_DIGITS.fullmatch, numbers))
        if self.may_count_rows:
            values = list(map(int, numbers))
            self.largest = max(self.largest, *values)
            self.total += sum(values)
            self.rows += len(values)

    def counts_rows(self) -> bool:
        """Whether they are 1, 2, 3 and so on, in any order, beside several streets."""
        return (
            self.may_count_rows
            and not self.is_one_street
            and self.rows >= _SCHEDULE_ROWS
            and self.largest == self.rows
            and self.total * 2 == self.rows * (self.rows + 1)
        )


class LostNumbers:
    """Checks the house numbers of an input."""

    def __init__(self) -> None:
        self._mapping: ColumnMapping | None = None
        self._street: int | None = None
        self._number: int | None = None
        self._line: MappedColumn | None = None
        self._suspects: dict[int, _Suspect] = {}
        self._streets = 0
        self._without = 0
        self._others = 0
        self._example = ("", "")
        self._count_of_rows: _Count | None = None

    def take_up(
        self, mapping: ColumnMapping, headers: Sequence[str], given: Mapping[str, str]
    ) -> None:
        """Choose the columns to check again if the mapping has changed."""
        if mapping is not self._mapping:
            self._mapping = mapping
            self._find_suspects(mapping, headers, given)

    def _find_suspects(
        self, mapping: ColumnMapping, headers: Sequence[str], given: Mapping[str, str]
    ) -> None:
        by_field = {column.field: column for column in mapping.columns}
        line = next((by_field[field] for field in _LINES if field in by_field), None)
        self._line = self._street = self._number = None
        if line is None or not choices(given).keys().isdisjoint(_LINES):
            return  # there is no street, or the user has mapped it
        self._line = line
        parts = dict(zip(line.parts, line.places, strict=False))
        self._street = parts.get(Part.STREET, parts.get(Part.LINE, line.places[0]))
        if Part.HOUSE_NUMBER in parts:
            self._number = parts[Part.HOUSE_NUMBER] if Part.STREET in parts else None
            if key_of(headers[parts[Part.HOUSE_NUMBER]]) in NUMBERS_OF_ANYTHING:
                self._count_of_rows = self._count_of_rows or _Count()
            return
        if by_field.keys() >= set(COORDINATES):
            return  # which tell the houses apart
        used = {place for column in mapping.columns for place in column.places}
        beside = frozenset(map(key_of, headers))
        for place, header in enumerate(headers):
            if place not in used and place not in self._suspects and _may_be(header, beside):
                self._suspects[place] = _Suspect(header)

    def add(self, columns: Sequence[Sequence[Any]], unused: ColumnReader) -> None:
        """Add rows: all columns of the input, of which those that are not mapped may be empty.

        `unused` returns a column that is not mapped.
        """
        if self._street is None:
            return
        streets = columns[self._street]
        if self._number is not None:
            self._compare(columns[self._number], streets)
        elif self._suspects:
            self._count(streets, unused)

    def _compare(self, numbers: Sequence[Any], streets: Sequence[Any]) -> None:
        names = _texts(streets)
        self._streets += sum(map(bool, names))
        if self._count_of_rows is not None and names:
            self._count_of_rows.add(_texts(numbers), names)
        if min(names, default="") >= _BEHIND_DIGITS or not any(
            name[:1].isdigit() for name in names
        ):
            return
        for number, street in zip(_texts(numbers), names, strict=True):
            if number and street[:1].isdigit() and leads_with_another_number(number, street):
                self._others += 1
                self._example = self._example if self._example[0] else (number, street)

    def _count(self, streets: Sequence[Any], unused: ColumnReader) -> None:
        texts = _texts(streets)
        self._streets += sum(map(bool, texts))
        if all(text[:1].isdigit() for text in texts):
            return
        without = [place for place, text in enumerate(texts) if text and not _DIGIT.search(text)]
        if not without:
            return
        self._without += len(without)
        for place, suspect in self._suspects.items():
            cells = unused(place)
            for row in without if cells else ():
                _look_at(suspect, _text(cells[row]))

    def check(self, name: str) -> None:
        """Refuse the input, now that all rows are known, if the user has to settle it."""
        line = self._line
        if line is None:
            return
        if self._others * 2 > self._streets:
            beside, begin = self._example
            raise _not_house_numbers(
                f"contradicts the number that the street begins with in {self._others:,} of "
                f"{self._streets:,} rows, such as {begin!r} beside {beside}",
                name,
                line,
            )
        count = self._count_of_rows
        if count is not None and count.counts_rows():
            counts = f"counts the rows from 1 to {count.rows:,}, which house numbers would not"
            raise _not_house_numbers(counts, name, line)
        numbered = self._streets - self._without
        if self._without < _FEWEST_ROWS or numbered > self._streets * _NEARLY_NONE:
            return
        found = [each for each in self._suspects.values() if _is_likely(each, self._without)]
        if not found:
            return
        looks = "; ".join(
            f"{shown_header(each.header)} looks like house numbers ({', '.join(each.examples)}): "
            f"join them with "
            f"{map_option(line.field, JOINED_BY.join((each.header, *line.headers)))}"
            for each in found[:_MOST_EXAMPLES]
        )
        raise InputError(
            f"{name}: {self._without:,} of {self._streets:,} rows have no house number in "
            f"{shown_parts(line.headers)}. {looks}, or send the streets alone with "
            f"{map_option(line.field, JOINED_BY.join(line.headers))}"
        )


def _not_house_numbers(what: str, name: str, line: MappedColumn) -> InputError:
    """The error for a column of numbers that cannot be house numbers, with what it does instead."""
    parts = dict(zip(line.parts, line.headers, strict=True))
    street, number = parts[Part.STREET], parts[Part.HOUSE_NUMBER]
    return InputError(
        f"{name}: {shown_header(number)} beside {shown_header(street)} {what}; settle it with "
        f"{map_option(line.field, street)} or {map_option(line.field, number + JOINED_BY + street)}"
    )


def _texts(column: Sequence[Any]) -> list[str]:
    are_texts = set(map(type, column)) == {str}
    return list(map(str.strip if are_texts else _text, column))


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else id_text(value) or ""


def _may_be(header: str, beside: frozenset[str]) -> bool:
    """Whether an unused column may hold house numbers, by its header."""
    words = words_of(header)
    if not words or not NEVER_HOUSE_NUMBERS.isdisjoint(words):
        return False
    meaning = meaning_of(header, beside)
    return meaning is None or meaning.name == Part.HOUSE_NUMBER


def _look_at(suspect: _Suspect, text: str) -> None:
    number = _HOUSE_NUMBER.fullmatch(text)
    if number is None:
        return
    value = int(number[1])
    suspect.like += 1
    suspect.years += value in _YEARS
    suspect.total += value
    suspect.smallest = min(suspect.smallest, value)
    suspect.largest = max(suspect.largest, value)
    if len(suspect.examples) < _MOST_EXAMPLES and text not in suspect.examples:
        suspect.examples.append(text)


def _is_likely(suspect: _Suspect, rows: int) -> bool:
    """Whether its numbers look like house numbers: not a list, nor years, nor classes."""
    if suspect.like < rows * _NEARLY_ALL or suspect.smallest == suspect.largest:
        return False
    is_said = not WORDS_FOR_NUMBERS.isdisjoint(words_of(suspect.header))
    if suspect.years >= suspect.like * (1 - _NEARLY_NONE) and not is_said:
        return False
    if rows >= _CLASSES_ROWS and suspect.largest <= _LARGEST_CLASS:
        return False
    numbers = suspect.largest - suspect.smallest + 1
    follow_each_other = numbers == suspect.like and (
        suspect.total * 2 == numbers * (suspect.smallest + suspect.largest)
    )
    return not follow_each_other or (rows < _SCHEDULE_ROWS and suspect.smallest > 1)
