"""JSONL and Python objects to batches of rows, as a stream.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import inspect
import io
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import AnyLocation
from pingdata_async.locations.normalize import BATCH_ROWS, Columns
from pingdata_async.locations.postal_codes import restore_leading_zeros_of
from pingdata_async.models import Location
from pingdata_async.tables.formats import FAILURE_NOTES
from pingdata_async.tables.mapping.columns import check_complete, map_more_columns
from pingdata_async.tables.mapping.headers import means_nothing
from pingdata_async.tables.readers.base import (
    BUFFER_BYTES,
    MAX_BATCH_BYTES,
    MAX_LINE_BYTES,
    FileInput,
    HashingStream,
    InputReader,
    MemoryHash,
    PeekableStream,
)
from pingdata_async.tables.readers.csv import MAX_COLUMNS
from pingdata_async.tables.readers.text_encoding import UTF_8, NulError, nul_found, undecodable
from pingdata_async.tables.rows import IN_MEMORY, Batch, JSONRows, ReadOptions

ADDRESS = "address"

_BOM = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode


class _Rows(NamedTuple):
    """Consecutive rows of JSON."""

    numbers: list[int]  # their line or row numbers, from 1
    encoded: list[bytes]  # their JSON text
    values: list[dict[str, Any] | str]  # their values


class JSONReader(InputReader):
    """Reads records that are JSON objects or strings; see `InputReader`."""

    unit = "line"

    def __init__(self, name: str, source: HashingStream | MemoryHash, options: ReadOptions) -> None:
        super().__init__(name, source, options)
        self._keys: dict[str, None] = {}
        self._known: set[str] = set()  # the same keys

    @abstractmethod
    def _some_rows(self) -> Iterator[_Rows]:
        """The rows, some at a time."""

    def _batches(self) -> Iterator[Batch]:
        any_record = any_address = False
        for rows in self._some_rows():
            any_record = True
            any_address = any_address or str in set(map(type, rows.values))
            self._note_keys(rows)
            yield Batch(self._locations(rows.values), JSONRows(rows.encoded))
        if not any_record:
            raise InputError(f"{self.name} is empty")
        check_complete(
            self.name,
            self.mapping,
            self.headers,
            given=self.options.mapping,
            has_addresses=any_address or not self._keys,
        )

    # -- Names to fields -----------------------------------------------------------------

    def _note_keys(self, rows: _Rows) -> None:
        # This looks up the letters of plain addresses as well, which is faster than to ask.
        if self._known.issuperset(chain.from_iterable(rows.values)):
            return
        for number, value in zip(rows.numbers, rows.values, strict=True):
            if isinstance(value, dict) and not self._known.issuperset(value):
                new = [name for name in value if name not in self._known]
                self._keys.update(dict.fromkeys(new))
                self._known.update(new)
                where = f"{self.name}, {self.unit} {number}"
                if len(self._known) > MAX_COLUMNS:
                    raise InputError(f"{where}: more than {MAX_COLUMNS:,} different names")
                if not all(map(self._means_nothing, new)):
                    self._take_up(where)
        if len(self.headers) < len(self._keys):
            unused = tuple(islice(self._keys, len(self.headers), None))
            self.headers = tuple(self._keys)
            self.mapping = msgspec.structs.replace(
                self.mapping, unused=(*self.mapping.unused, *filter(str.strip, unused))
            )

    def _means_nothing(self, name: str) -> bool:
        """Whether a name leaves the mapping as it is; each object may bring new names."""
        return not self.options.mapping and name not in FAILURE_NOTES and means_nothing(name)

    def _take_up(self, where: str) -> None:
        """Map the names seen so far."""
        self.headers = tuple(self._keys)
        self.mapping = map_more_columns(where, self.mapping, self.headers, given=self._given())

    def _given(self) -> Mapping[str, str]:
        """The user's mapping, and "address" as the field of that name.

        In a table, "address" beside a city is the street line. Whoever writes objects knows the
        API's names, and other names may follow.
        """
        given = self.options.mapping
        if ADDRESS not in self._known or ADDRESS in given or ADDRESS in given.values():
            return given
        return {**given, ADDRESS: ADDRESS}

    # -- Rows to locations ---------------------------------------------------------------

    def _locations(self, values: list[dict[str, Any] | str]) -> Columns | Sequence[AnyLocation]:
        if self.mapping.is_as_named:
            self._restore_leading_zeros(values)
            return values
        places = [place for place, value in enumerate(values) if isinstance(value, dict)]
        rows = [value for value in values if isinstance(value, dict)]
        if not rows or not self.mapping.columns:
            # Nothing is sent of objects in which no name means anything.
            return [value if isinstance(value, str) else {} for value in values]
        used = self._used_places()
        located = self._located(
            [
                [row.get(name) for row in rows] if place in used else ()
                for place, name in enumerate(self.headers)
            ],
            are_texts=False,
            places=places,
            unused=lambda place: [row.get(self.headers[place]) for row in rows],
        )
        if len(rows) == len(values):
            return located
        objects = dict(zip(places, range(len(rows)), strict=True))
        return [
            value if isinstance(value, str) else located[objects[place]]
            for place, value in enumerate(values)
        ]

    def _restore_leading_zeros(self, values: list[dict[str, Any] | str]) -> None:
        """Do as `_located()` does in rows whose names are those of the fields."""
        if "postal_code" not in self._known:
            return
        self._note_by_header(restore_leading_zeros_of(values))


class JSONLReader(JSONReader):
    """Reads the records of JSONL, whose text is in UTF-8; see `InputReader`."""

    def __init__(self, file: FileInput, options: ReadOptions) -> None:
        super().__init__(file.name, file.source, options)
        self._bytes = file.content

    def _some_rows(self) -> Iterator[_Rows]:
        text = self._bytes
        stream = io.BufferedReader(text, BUFFER_BYTES)
        number = 0
        rows = _Rows([], [], [])
        numbers, encoded, values = rows
        largest = text.given_bytes + MAX_BATCH_BYTES
        while line := self._line(stream, number):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM) or b"\n"
            if len(line) > MAX_LINE_BYTES:
                raise self._bad(number, f"longer than {MAX_LINE_BYTES} bytes")
            if line.isspace():
                continue
            try:
                value = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self._undecoded(number, line, error) from error
            if type(value) is not dict and type(value) is not str:
                raise self._bad(number, "neither an object nor an address in quotes")
            numbers.append(number)
            encoded.append(line.strip())
            values.append(value)
            if len(values) == BATCH_ROWS or text.given_bytes > largest:
                yield rows
                rows = _Rows([], [], [])
                numbers, encoded, values = rows
                largest = text.given_bytes + MAX_BATCH_BYTES
        if values:
            yield rows

    def _line(self, stream: io.BufferedReader[PeekableStream], number: int) -> bytes:
        """The next line; `number` lines were read before."""
        try:
            return stream.readline(MAX_LINE_BYTES + 1)
        except NulError as error:
            raise nul_found(self.name, number + 1 + error.before.count(b"\n")) from error

    def _undecoded(self, number: int, line: bytes, error: Exception) -> InputError:
        """The error for a line that is not JSON."""
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            return undecodable(f"{self.name}, line {number}", UTF_8, wrong)
        begin = line.strip()
        is_cut = begin.startswith(b"{") and begin.endswith((b"{", b"[", b","))
        if number == 1 and is_cut and "truncated" in str(error):
            return InputError(
                f"{self.name} is JSON over several lines; write one object a line, as jq -c . does"
            )
        return self._bad(number, str(error))

    def _bad(self, number: int, what: str) -> InputError:
        return InputError(f"{self.name}, line {number}: {what}")


class ObjectsReader(JSONReader):
    """Reads locations, mappings and plain addresses from Python; see `InputReader`.

    Values are sent and kept as JSON has them: dates and decimals as strings, NaN as null.
    """

    unit = "row"

    def __init__(self, rows: Iterable[Any], options: ReadOptions) -> None:
        self._memory = MemoryHash()
        super().__init__(IN_MEMORY, self._memory, options)
        self._objects = rows
        self._rows: Iterator[Any] = iter(())

    def _some_rows(self) -> Iterator[_Rows]:
        rows = _Rows([], [], [])
        pending_bytes = 0
        self._rows = iter(self._objects)
        for number, row in enumerate(self._rows, 1):
            encoded = self._encoded(number, row)
            line = encoded + b"\n"
            self._memory.add(line)
            pending_bytes += len(line)
            rows.numbers.append(number)
            rows.encoded.append(encoded)
            rows.values.append(_decode(encoded))
            if len(rows.values) == BATCH_ROWS or pending_bytes > MAX_BATCH_BYTES:
                yield rows
                rows = _Rows([], [], [])
                pending_bytes = 0
        if rows.values:
            yield rows

    def close(self) -> None:
        """Close a generator that was not read to its end."""
        if inspect.isgenerator(self._rows):
            self._rows.close()

    def _encoded(self, number: int, row: Any) -> bytes:
        if isinstance(row, Location):
            fields = msgspec.structs.asdict(row)
            row = {name: value for name, value in fields.items() if value is not None}
        elif isinstance(row, Mapping):
            row = dict(row)
        elif not isinstance(row, str):
            raise InputError(
                f"{self.name}, row {number}: a location is a Location, a mapping or an address, "
                f"not {type(row).__name__}"
            )
        try:
            return _encode(row)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{self.name}, row {number}: cannot be written as JSON: {error}"
            ) from error


def _plain(value: Any) -> Any:
    """A value such as a numpy number as a value that JSON has."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
