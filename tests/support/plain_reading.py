"""What an input says, record by record: the definition that reading by batches is held against.

Slow, and without a care for memory.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import AnyLocation
from pingdata_async.tables.mapping.columns import map_columns
from pingdata_async.tables.readers.quotes import MeantRow, meant_row, meant_rows
from pingdata_async.tables.readers.table_rows import DataRows, HeaderRow


class Record(NamedTuple):
    """A location, and why it cannot be sent, if so."""

    location: AnyLocation
    error: str | None = None


def is_data(data: DataRows, cells: list[str], width: int, line: int) -> bool:
    """Whether a row is one of the table, not a total or the like."""
    cells = (cells + [""] * width)[:width]
    if not any(map(str.strip, cells)) and data.has_ended:
        data.note_gap()
        return False
    return not any(cells) or data.is_data(cells, line)


def lines_of(cells: list[str]) -> int:
    return 1 + len(re.findall("\r\n|\r|\n", ",".join(cells)))


class PlainReader:
    """Records of an input, and the columns that mean nothing."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.content = content
        self.unused: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        return self.jsonl() if self.name.endswith("jsonl") else self.csv()

    @property
    def unused_columns(self) -> tuple[str, ...]:
        return tuple(self.unused)

    def csv(self) -> Iterator[Record]:
        text = io.StringIO(self.text(), newline="")
        rows = csv.reader(text, strict=True)
        begins = 0
        try:
            ahead: list[list[str]] = []
            meant = meant_rows(rows, ahead, ",")
            header = next((cells for cells in meant if any(map(str.strip, cells))), None)
            if header is None:
                raise InputError(f"{self.name} is empty")
            names = self.csv_names(header)
            top = HeaderRow(0, tuple(header), (tuple(header),), 0, 0)
            data = DataRows(top, map_columns(self.name, header))
            begins = rows.line_num - sum(map(lines_of, ahead))
            read: list[list[str]] = []
            lines: list[int] = []
            for cells in chain(ahead, rows):
                lines.append(begins + 1)
                read.append(cells)
                begins += lines_of(cells)
        except csv.Error as error:
            raise InputError(
                f"{self.name}, in the row that begins on line {begins + 1}: {error}"
            ) from error
        yield from self.csv_records(read, lines, names, data)

    def csv_records(
        self,
        read: list[list[str]],
        lines: list[int],
        names: list[str | None],
        data: DataRows,
    ) -> Iterator[Record]:
        place = unclosed_from = unclosed_to = 0
        while place < len(read):
            row = meant_row(read, place, iter(()), ",", width=len(names))
            told = "a quote behind a blank is not closed, or not at the end of its cell"
            if place < unclosed_to:
                row = MeantRow(read[place])
                told = f"may go on from line {lines[unclosed_from]}, where a quote is not closed"
            elif row.unclosed:
                unclosed_from, unclosed_to = place, place + row.unclosed
            record = self.csv_record(lines[place], row.cells, names)
            if place < unclosed_to:
                error = f"line {lines[place]}: {told}; close it, or remove it"
                record = Record(record.location, error)
            if row.cells and (record.error or is_data(data, row.cells, len(names), lines[place])):
                yield record
            place += row.rows

    def text(self) -> str:
        encoding, shown = "utf-8-sig", "UTF-8"
        content = self.content.rstrip(b"\x1a")
        if not content.startswith(b"\xef\xbb\xbf"):
            text = content.decode(errors="ignore")
            bad, good = len(content) - len(text.encode()), sum(letter > "\x7f" for letter in text)
            if bad >= 10 * good and bad:
                encoding = shown = "cp1252"
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding)
            line = len(re.findall("\r\n|\r|\n", before)) + 1
            byte = error.object[error.start]
            raise InputError(f"{self.name}, line {line}: not {shown} (byte {byte:#04x})") from error

    def csv_names(self, header: list[str]) -> list[str | None]:
        mapping = map_columns(self.name, header)
        self.unused = list(mapping.unused)
        fields = {column.places[0]: column.field for column in mapping.columns}
        return [fields.get(place) for place in range(len(header))]

    def csv_record(self, line: int, cells: list[str], names: list[str | None]) -> Record:
        fields = {name: cell for name, cell in zip(names, cells, strict=False) if name and cell}
        error = None
        if len(cells) > len(names) and any(map(str.strip, cells[len(names) :])):
            error = (
                f"line {line} has {len(cells)} cells, but the header has {len(names)}: "
                "is a comma in it not quoted? Too many: "
            )
            surplus = ", ".join(map(repr, cells[len(names) :]))
            error += surplus if len(surplus) <= 60 else f"{surplus[:60]}..."
        return Record(fields, error)

    def jsonl(self) -> Iterator[Record]:
        if self.content.decode("utf-8-sig", "ignore").lstrip().startswith("["):
            raise InputError(f"{self.name} is a JSON list")
        keys: dict[str, None] = {}
        values: list[Any] = []
        for number, line in enumerate(io.BytesIO(self.content), 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                values.append(self.jsonl_value(number, content))
                keys.update(dict.fromkeys(values[-1]) if isinstance(values[-1], dict) else {})
                yield Record(values[-1])
        if not values:
            raise InputError(f"{self.name} is empty")
        is_incomplete = not keys or any(isinstance(value, str) for value in values)
        mapping = map_columns(self.name, list(keys), is_complete=not is_incomplete)
        self.unused = list(mapping.unused)

    def jsonl_value(self, number: int, line: bytes) -> Any:
        try:
            line.decode()
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise InputError(f"{self.name}, line {number}: not UTF-8 (byte {byte:#04x})") from error
        if number == 1 and line.strip() == b"{":
            raise InputError(f"{self.name} is JSON over several lines")
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{self.name}, line {number}: {error}") from error
        if not isinstance(value, dict | str):
            raise InputError(
                f"{self.name}, line {number}: neither an object nor an address in quotes"
            )
        return value
