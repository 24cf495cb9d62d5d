"""What an input says, record by record: the definition that reading by batches is held against.

Slow, and without a care for memory.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations import COORDINATES, FIELDS, LOOKUP_FIELDS, AnyLocation
from pingdata_async.tables.jsonl import FAILURE_NOTES


class Record(NamedTuple):
    """A location, and why it cannot be sent, if so."""

    location: AnyLocation
    error: str | None = None


class PlainReader:
    """Records of an input, and the columns that mean nothing."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.content = content
        self.unused: dict[str, None] = {}

    def __iter__(self) -> Iterator[Record]:
        return self.jsonl() if self.name.endswith("jsonl") else self.csv()

    @property
    def unused_columns(self) -> tuple[str, ...]:
        if self.unused.keys() >= FAILURE_NOTES:
            return tuple(name for name in self.unused if name not in FAILURE_NOTES)
        return tuple(self.unused)

    def csv(self) -> Iterator[Record]:
        text = io.StringIO(self.text(), newline="")
        rows = csv.reader(text, strict=True)
        begins = 0
        try:
            header = next((cells for cells in rows if any(map(str.strip, cells))), None)
            if header is None:
                raise InputError(f"{self.name} is empty")
            names = self.csv_names(header)
            begins = rows.line_num
            for cells in rows:
                line, begins = begins + 1, rows.line_num
                if cells:
                    yield self.csv_record(line, cells, names)
        except csv.Error as error:
            raise InputError(
                f"{self.name}, in the row that begins on line {begins + 1}: {error}"
            ) from error

    def text(self) -> str:
        encoding, shown = "utf-8-sig", "UTF-8"
        if not self.content.startswith(b"\xef\xbb\xbf"):
            try:
                return self.content.decode()
            except UnicodeDecodeError:
                encoding = shown = "cp1252"
        try:
            return self.content.decode(encoding)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding)
            line = len(re.findall("\r\n|\r|\n", before)) + 1
            byte = error.object[error.start]
            raise InputError(
                f"{self.name}, line {line}: not {shown} (byte {byte:#04x}); "
            ) from error

    def csv_names(self, header: list[str]) -> list[str | None]:
        names: list[str | None] = []
        for title in header:
            name = title.strip().lower()
            if name == "id" or name in FIELDS:
                if name in names:
                    raise InputError(f'{self.name} has two columns "{name}"; rename one of them')
                names.append(name)
            else:
                names.append(None)
                self.unused[title.strip()] = None
        if not can_look_up([name for name in names if name]):
            raise InputError(f"{self.name} has no column to look up")
        return names

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
        any_record = any_usable = False
        seen: dict[str, None] = {}
        for number, line in enumerate(io.BytesIO(self.content), 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not content.strip():
                continue
            value = self.jsonl_value(number, content)
            any_record = True
            if isinstance(value, str):
                any_usable = True
            else:
                if not any_usable:
                    seen.update(dict.fromkeys(value))
                    any_usable = can_look_up(list(value))
                unused = [name for name in value if name not in FIELDS and name != "id"]
                self.unused.update(dict.fromkeys(unused))
            yield Record(value)
        if not any_record:
            raise InputError(f"{self.name} is empty")
        if seen and not any_usable and not seen.keys() >= FAILURE_NOTES:
            raise InputError(f"{self.name} has no column to look up")

    def jsonl_value(self, number: int, line: bytes) -> Any:
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{self.name}, line {number}: {error}") from error
        if not isinstance(value, dict | str):
            raise InputError(
                f"{self.name}, line {number}: neither an object nor an address in quotes"
            )
        return value


def can_look_up(names: list[str]) -> bool:
    return not {*LOOKUP_FIELDS}.isdisjoint(names) or {*COORDINATES} <= {*names}
