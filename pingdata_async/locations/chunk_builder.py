"""Rows to chunks, bounded in number and bytes (pure)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES, Chunk, InvalidRow, with_sources
from pingdata_async.locations.coverage import Coverage
from pingdata_async.locations.fields import AnyLocation, clean_sources
from pingdata_async.locations.normalize import Columns, NormalizedBatch, normalize_batch
from pingdata_async.models import Location, Reason
from pingdata_async.util.validation import check_count
from pingdata_async.value_notes import ValueNotes

MOST_SAMPLES = 3
MOST_SAMPLE_CHARS = 30
_SAMPLED_ROWS = 2_000  # a field that nearly no row has need not be looked for any longer

_BODY_OVERHEAD_BYTES = len('{"locations":[],}')
LOCATION_OVERHEAD_BYTES = len('{"id":"18446744073709551615",') + 1
"""What the body needs for each location beside itself: the id, and a comma."""

KeySink = Callable[[int, Sequence[bytes]], object]
"""Takes the number of a row, and the keys of the rows that follow each other from there."""

_NO_ERRORS: Mapping[int, str] = MappingProxyType({})
_encoder = msgspec.json.Encoder()


class ChunkBuilder:
    """Takes rows and gives a chunk whenever one is full.

    Args:
        chunk_size: The most locations in a chunk.
        max_chunk_bytes: The most bytes in the body made from it, before compression, without
            the options.
        sources: Sources of locations that have none of their own.

    Attributes:
        chunk_size: As given.
        max_location_bytes: The most bytes of the locations in a chunk, each with its id.
        sources: As given.
        coverage: Which locations a source is not asked about; None to ask about all.
        values: Values so far that are not sent as they stand, by field.
        samples: Values that are sent, of the first rows.
        skipped: By source, how many rows it is not asked about.
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
        self.sources = sources
        self.coverage: Coverage | None = None
        self.values = ValueNotes()
        self.samples = Samples()
        self.skipped = Counter[str]()
        self.has_ids = False
        self.rows_before_ids = 0
        self._key_sink: KeySink | None = None
        self._next_index = 0
        # Of earlier chunks. At first one of 20 to a chunk is assumed: few are read to find out.
        self._rows_so_far, self._bytes_so_far = 1, max(200, self.max_location_bytes // 20)
        self._begin()

    def tell_keys(self, sink: KeySink) -> None:
        """Tell somebody the keys of the rows that are sent, as they come."""
        self._key_sink = sink

    def add_batch(
        self,
        row: int,
        locations: Columns | Sequence[AnyLocation],
        errors: Mapping[int, str] = _NO_ERRORS,
    ) -> list[Chunk]:
        """Take rows that follow each other; gives the chunks that they filled.

        Args:
            row: The number of the first.
            locations: The rows.
            errors: By place in them, why some cannot be sent.
        """
        batch = normalize_batch(locations, with_keys=self._key_sink is not None)
        self.samples.add({"id": batch.ids, **batch.fields})
        for place in sorted(batch.noted.keys() - errors.keys()):
            self.values.add_all(row + place, batch.noted[place])
        left_out = {
            place: (error, Reason.INVALID_INPUT)
            for place, error in (batch.refused | dict(errors)).items()
        }
        skipped = self._narrow(batch, left_out)
        self._leave_out_too_large(batch, left_out)
        chunks: list[Chunk] = []
        begin = 0
        for place in sorted(left_out):
            chunks += self._take(row, batch, begin, place, skipped)
            error, reason = left_out[place]
            given = _as_given(locations[place])
            self._invalid.append(InvalidRow(row + place, batch.ids[place], error, given, reason))
            self.has_ids = self.has_ids or batch.ids[place] is not None
            if len(self._invalid) == self.chunk_size:
                chunks.append(self._finish())
            begin = place + 1
        chunks += self._take(row, batch, begin, len(batch.encoded), skipped)
        return chunks

    def rows_until_full(self) -> int:
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

    def _narrow(
        self, batch: NormalizedBatch, left_out: dict[int, tuple[str, Reason]]
    ) -> dict[int, tuple[str, ...]]:
        """Keep locations from sources that cannot answer them; says from which, by place."""
        skipped: dict[int, tuple[str, ...]] = {}
        if not self.sources:
            error = "no sources: neither the location nor the run names any"
            for place in range(len(batch.encoded)):
                if place not in batch.sources:
                    left_out.setdefault(place, (error, Reason.INVALID_INPUT))
        if self.coverage is None:
            return skipped
        candidates = self.coverage.candidates(batch.fields, len(batch.encoded), self.sources)
        for place in {*candidates, *batch.sources} - left_out.keys():
            wanted = batch.sources.get(place, self.sources)
            exclusions = self.coverage.exclusions(batch.row(place), wanted)
            if not exclusions:
                continue
            self.skipped.update(exclusions.keys())
            rest = tuple(code for code in wanted if code not in exclusions)
            if not rest:
                left_out[place] = "; ".join(exclusions.values()), Reason.SKIPPED
                continue
            batch.sources[place] = rest
            batch.encoded[place] = with_sources(batch.encoded[place], rest)
            skipped[place] = tuple(exclusions.values())
        return skipped

    def _leave_out_too_large(
        self, batch: NormalizedBatch, left_out: dict[int, tuple[str, Reason]]
    ) -> None:
        most_bytes = self.max_location_bytes - LOCATION_OVERHEAD_BYTES
        if max(map(len, batch.encoded), default=0) <= most_bytes:
            return
        for place, encoded in enumerate(batch.encoded):
            if len(encoded) > most_bytes:
                size = len(encoded) + LOCATION_OVERHEAD_BYTES
                error = f"{size} bytes are more than one request may hold"
                left_out.setdefault(place, (error, Reason.INVALID_INPUT))

    def _take(
        self,
        row: int,
        batch: NormalizedBatch,
        begin: int,
        end: int,
        skipped: Mapping[int, tuple[str, ...]],
    ) -> Iterator[Chunk]:
        """Take the rows of a batch between two places, all of which can be sent."""
        while begin < end:
            stop = min(end, begin + self.chunk_size - len(self._rows))
            encoded = batch.encoded[begin:stop]
            size = _size_of(encoded)
            left_bytes = self.max_location_bytes - self._bytes
            if size > left_bytes:
                sizes = accumulate(len(each) + LOCATION_OVERHEAD_BYTES for each in encoded)
                stop = begin + bisect_right(list(sizes), left_bytes)
                encoded = batch.encoded[begin:stop]
                size = _size_of(encoded)
            before = len(self._rows) - begin
            for theirs, own in ((batch.sources, self._sources), (skipped, self._skipped)):
                if theirs:
                    places = filter(theirs.__contains__, range(begin, stop))
                    own.update({before + place: theirs[place] for place in places})
            self._rows += range(row + begin, row + stop)
            self._ids += batch.ids[begin:stop]
            self.has_ids = self.has_ids or any(batch.ids[begin:stop])
            self._locations += encoded
            self._bytes += size
            if self._key_sink is not None and begin < stop:
                # The key of all that the row wants: a row that wanted less ends otherwise.
                self._key_sink(row + begin, batch.keys[begin:stop])
            begin = stop
            if begin < end or len(self._rows) == self.chunk_size:
                yield self._finish()

    def _begin(self) -> None:
        self._bytes = 0
        self._rows: list[int] = []
        self._ids: list[str | None] = []
        self._locations: list[bytes] = []
        self._sources: dict[int, tuple[str, ...]] = {}
        self._invalid: list[InvalidRow] = []
        self._skipped: dict[int, tuple[str, ...]] = {}

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


class Samples:
    """A few values of each field as they are sent, so that people see what is taken for what.

    Attributes:
        by_field: By field, up to three different values in the order of the rows, as texts.
    """

    def __init__(self) -> None:
        self.by_field: dict[str, list[str]] = {}
        self._rows_left = _SAMPLED_ROWS

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at some rows.

        Args:
            columns: By field, what is sent of each row; None where nothing is.
        """
        if self._rows_left <= 0:
            return
        self._rows_left -= max(map(len, columns.values()), default=0)
        for field, values in columns.items():
            samples = self.by_field.setdefault(field, [])
            for value in values:
                if len(samples) == MOST_SAMPLES:
                    break
                if value is not None and (text := _shown(value)) not in samples:
                    samples.append(text)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= MOST_SAMPLE_CHARS else f"{text[: MOST_SAMPLE_CHARS - 3]}..."


def _size_of(encoded: Sequence[bytes]) -> int:
    return sum(map(len, encoded)) + len(encoded) * LOCATION_OVERHEAD_BYTES


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
