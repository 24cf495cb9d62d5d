"""Rows to chunks, bounded in number and bytes (pure).

An iterator of locations to an iterator of chunks (pure).

A few values of each field, as they are sent, for people to see what is taken for what (pure).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.batch import Columns, NormalizedBatch, normalize_batch
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES, Chunk, InvalidRow
from pingdata_async.locations.coverage import Coverage
from pingdata_async.locations.normalize import (
    AnyLocation,
    NormalizedLocation,
    clean_sources,
    normalize,
    user_id,
)
from pingdata_async.models import Location, Reason
from pingdata_async.util.validation import check_count
from pingdata_async.value_notes import NotedValue, ValueNotes

MOST_SAMPLES = 3
MOST_SAMPLE_CHARS = 30

_SEARCHED_ROWS = 2_000  # a field that nearly no row has need not be looked for any longer


class Samples:
    """Collects them from the first rows.

    Attributes:
        by_field: By field, up to three different values in the order of the rows, as texts.
    """

    def __init__(self) -> None:
        self.by_field: dict[str, list[str]] = {}
        self._left = _SEARCHED_ROWS

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at some rows.

        Args:
            columns: By field, what is sent of each; None where nothing is.
        """
        if self._left <= 0:
            return
        self._left -= max(map(len, columns.values()), default=0)
        for field, values in columns.items():
            samples = self.by_field.setdefault(field, [])
            for value in values:
                if len(samples) == MOST_SAMPLES:
                    break
                if value is not None and (text := _shown(value)) not in samples:
                    samples.append(text)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= MOST_SAMPLE_CHARS else f"{text[: MOST_SAMPLE_CHARS - 3]}..."


_BODY_OVERHEAD_BYTES = len('{"locations":[],}')
_encoder = msgspec.json.Encoder()
LOCATION_OVERHEAD_BYTES = len('{"id":"18446744073709551615",') + 1
"""What the body needs for each location beside itself: the id, and a comma."""

_NO_ERRORS: Mapping[int, str] = MappingProxyType({})


class KeySink(Protocol):
    """Takes the keys of the rows that are sent."""

    def add(self, row: int, keys: Sequence[bytes]) -> None:
        """The keys of rows that follow each other, and the number of the first of them."""
        ...


class _NoSourceError(InputError):
    """Raised for a location that none of its sources could answer."""


class ChunkBuilder:
    """Takes rows one by one and gives a chunk whenever one is full.

    Args:
        chunk_size: The most locations in a chunk.
        max_chunk_bytes: The most bytes in the body made from it, before compression, without
            the options.
        sources: Sources of locations that have none of their own.

    Attributes:
        chunk_size: As given.
        max_location_bytes: The most bytes of the locations in a chunk, each with its id.
        values: Those so far that are not sent as they stand, by field.
        samples: Some that are, of the first rows.
        sources: Those.
        rules: Which locations a source is not asked about; None for none.
        skipped: By source, rows that it is not asked about.
        has_ids: Whether a row so far has an id of its own.
        rows_before_ids: How many rows were in chunks before the one with the first such row.

    Raises:
        ConfigurationError: For a size that cannot work.
    """

    def __init__(
        self,
        *,
        chunk_size: int = 1000,
        max_chunk_bytes: int = MAX_CHUNK_BYTES,
        sources: tuple[str, ...] = (),
    ) -> None:
        check_count("chunk_size", chunk_size)
        if max_chunk_bytes <= _BODY_OVERHEAD_BYTES:
            raise ConfigurationError("max_chunk_bytes leaves no room for locations")
        self.chunk_size = chunk_size
        self.max_location_bytes = max_chunk_bytes - _BODY_OVERHEAD_BYTES
        self._key_sink: KeySink | None = None
        self.sources = sources
        self.rules: Coverage | None = None
        self.values = ValueNotes()
        self.samples = Samples()
        self.has_ids = False
        self.rows_before_ids = 0
        self.skipped = Counter[str]()
        self._next_index = 0
        # Of earlier chunks. At first one of 20 to a chunk is assumed: few are read to find out.
        self._rows_so_far, self._bytes_so_far = 1, max(200, self.max_location_bytes // 20)
        self._begin()

    def tell_keys(self, sink: KeySink) -> None:
        """Have somebody told the keys of the rows that are sent, as they come."""
        self._key_sink = sink

    def _begin(self) -> None:
        self._bytes = 0
        self._rows: list[int] = []
        self._ids: list[str | None] = []
        self._locations: list[bytes] = []
        self._sources: dict[int, tuple[str, ...]] = {}
        self._invalid: list[InvalidRow] = []
        self._skipped: dict[int, tuple[str, ...]] = {}

    def add(self, row: int, location: AnyLocation) -> Chunk | None:
        """Take a row; gives a chunk when the row filled it, or found no place in it."""
        noted: list[NotedValue] = []
        try:
            normalized = normalize(location, noted)
            if normalized.sources is None and not self.sources:
                raise InputError("no sources: neither the location nor the run names any")
            refusals = self._refusals(normalized)
            wanted = normalized
            if refusals:
                normalized = self._without(normalized, refusals)
            encoded = normalized.encoded()
            size = len(encoded) + LOCATION_OVERHEAD_BYTES
            if size > self.max_location_bytes:
                raise InputError(f"{size} bytes are more than one request may hold")
        except _NoSourceError as error:
            self.values.add_all(row, noted)
            own_id = user_id(location)
            return self._leave_out(row, own_id, str(error), location, Reason.SKIPPED)
        except InputError as error:
            self.values.add_all(row, noted)
            return self.add_invalid(row, user_id(location), str(error), location)
        self.values.add_all(row, noted)
        self.samples.add({name: [value] for name, value in normalized.fields.items()})
        full = self._finish() if self._bytes + size > self.max_location_bytes else None
        if normalized.sources is not None:
            self._sources[len(self._rows)] = normalized.sources
        if refusals:
            self._skipped[len(self._rows)] = tuple(refusals.values())
        self._rows.append(row)
        self._ids.append(normalized.id)
        self.has_ids = self.has_ids or normalized.id is not None
        if self._key_sink is not None:
            # By what it wants: who asks no more than what is left here ends otherwise.
            self._key_sink.add(row, [wanted.key()])
        self._locations.append(encoded)
        self._bytes += size
        if full is None and len(self._rows) == self.chunk_size:
            full = self._finish()
        return full

    def add_invalid(
        self, row: int, user_id: str | None, error: str, given: object = None
    ) -> Chunk | None:
        """Take a row that cannot be sent; gives a chunk as `add()` does."""
        return self._leave_out(row, user_id, error, given, Reason.INVALID_INPUT)

    def _leave_out(
        self, row: int, user_id: str | None, error: str, given: object, reason: Reason
    ) -> Chunk | None:
        self._invalid.append(InvalidRow(row, user_id, error, _as_given(given), reason))
        self.has_ids = self.has_ids or user_id is not None
        return self._finish() if len(self._invalid) == self.chunk_size else None

    def _refusals(self, normalized: NormalizedLocation) -> dict[str, str]:
        """The sources that a location is kept from, and why."""
        if self.rules is None:
            return {}
        sources = self.sources if normalized.sources is None else normalized.sources
        refusals = self.rules.refusals(normalized.fields, sources)
        self.skipped.update(refusals.keys())
        return refusals

    def _without(
        self, normalized: NormalizedLocation, refusals: Mapping[str, str]
    ) -> NormalizedLocation:
        """A location for the other sources alone."""
        sources = self.sources if normalized.sources is None else normalized.sources
        rest = tuple(code for code in sources if code not in refusals)
        if not rest:
            raise _NoSourceError("; ".join(refusals.values()))
        fields = {**normalized.fields, "sources": list(rest)}
        return msgspec.structs.replace(normalized, fields=fields, sources=rest)

    def add_batch(
        self,
        row: int,
        locations: Columns | Sequence[AnyLocation],
        errors: Mapping[int, str] = _NO_ERRORS,
    ) -> list[Chunk]:
        """Take rows that follow each other: the same as `add()` for each, but faster.

        Args:
            row: The number of the first.
            locations: The rows.
            errors: By place in them, why some cannot be sent.
        """
        normalized = None
        if self.sources:
            normalized = normalize_batch(locations, with_keys=self._key_sink is not None)
            if normalized is not None:
                self.samples.add({"id": normalized.ids, **normalized.fields})
        odd = self._odd(normalized, errors) if normalized is not None else []
        ends = [*odd, len(locations)]  # of what can be taken together
        chunks: list[Chunk | None] = []
        place = 0
        while place < len(locations):
            taken = 0
            if normalized is not None:
                taken = self._take(row, normalized, place, ends[bisect_left(ends, place)])
            if taken:
                chunks.append(self._finish() if len(self._rows) == self.chunk_size else None)
                place += taken
                continue
            location = locations[place]
            if place in errors:
                own_id = user_id(location)
                chunks.append(self.add_invalid(row + place, own_id, errors[place], location))
            else:
                chunks.append(self.add(row + place, location))
            place += 1
        return [chunk for chunk in chunks if chunk is not None]

    def _odd(self, normalized: NormalizedBatch, errors: Mapping[int, str]) -> list[int]:
        """The places of rows that have to be looked at one by one."""
        odd = {*errors, *normalized.refused}
        if self.rules is not None:
            odd.update(
                self.rules.suspects(normalized.fields, len(normalized.encoded), self.sources)
            )
        return sorted(odd)

    def _take(self, row: int, normalized: NormalizedBatch, begin: int, end: int) -> int:
        """Take rows of a batch, as many as there is room for; says how many.

        Args:
            row: The number of the batch's first row.
            normalized: The batch.
            begin: Where they begin in it.
            end: Where they end, at the latest.
        """
        end = min(end, begin + self.chunk_size - len(self._rows))
        encoded = normalized.encoded[begin:end]
        size = sum(map(len, encoded)) + len(encoded) * LOCATION_OVERHEAD_BYTES
        room = self.max_location_bytes - self._bytes
        if size > room:
            sizes = accumulate(len(each) + LOCATION_OVERHEAD_BYTES for each in encoded)
            return self._take(row, normalized, begin, begin + bisect_right(list(sizes), room))
        self._rows += range(row + begin, row + end)
        self._ids += normalized.ids[begin:end]
        self.has_ids = self.has_ids or any(normalized.ids[begin:end])
        self._locations += encoded
        if self._key_sink is not None:
            self._key_sink.add(row + begin, normalized.keys[begin:end])
        self._bytes += size
        if normalized.noted:
            for place in range(begin, end):
                self.values.add_all(row + place, normalized.noted.get(place, ()))
        return len(encoded)

    def room(self) -> int:
        """How many rows can be read before the chunk may be full; at least 1.

        Exact as to their number. As to bytes, it stays on the safe side where the rows to
        come are at most twice as large as those so far are on average.
        """
        by_number = self.chunk_size - max(len(self._rows), len(self._invalid))
        bytes_each = (self._bytes_so_far + self._bytes) / (self._rows_so_far + len(self._rows))
        by_bytes = (self.max_location_bytes - self._bytes) / (2 * bytes_each)
        return max(1, min(by_number, int(by_bytes)))

    def rest(self) -> Chunk | None:
        """What is left after the last row; None when nothing is."""
        return self._finish() if self._rows or self._invalid else None

    def next_index(self) -> int:
        """The number of the next chunk, whoever makes it."""
        index, self._next_index = self._next_index, self._next_index + 1
        return index

    def _finish(self) -> Chunk:
        chunk = Chunk(
            self.next_index(),
            self._rows,
            self._ids,
            self._locations,
            self._sources,
            self._invalid,
            skipped=self._skipped,
        )
        self._rows_so_far += len(self._rows)
        self._bytes_so_far += self._bytes
        self._begin()
        if self.has_ids:
            return chunk.with_blank_ids() if None in chunk.ids or chunk.invalid else chunk
        self.rows_before_ids += chunk.total_rows
        return chunk


def _as_given(location: object) -> bytes:
    if isinstance(location, str):
        location = {"address": location}
    if not isinstance(location, Location | Mapping):
        return b"{}"
    try:
        return _encoder.encode(location)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return b"{}"


def checked_sources(sources: object) -> tuple[str, ...]:
    """The sources of a run.

    Raises:
        ConfigurationError: When they are not source codes.
    """
    try:
        return clean_sources(sources)
    except InputError as error:
        raise ConfigurationError(str(error)) from error
