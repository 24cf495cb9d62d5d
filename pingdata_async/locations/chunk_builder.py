"""Rows to chunks, bounded in number and bytes (pure)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self, TypeVar

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.chunk import (
    MAX_CHUNK_BYTES,
    SEPARATOR,
    Chunk,
    Duplicate,
    InvalidRow,
    with_sources,
)
from pingdata_async.locations.coverage import Coverage
from pingdata_async.locations.fields import AnyLocation, clean_sources
from pingdata_async.locations.normalize import Columns, NormalizedBatch, normalize_batch
from pingdata_async.models import Location, Reason
from pingdata_async.util.validation import check_count
from pingdata_async.value_notes import ValueNotes

MOST_SAMPLES = 3
MOST_SAMPLE_CHARS = 30
_SAMPLED_ROWS = 2_000  # a field that nearly no row has need not be looked for any longer

DUPLICATES_A_LOCATION = 4
"""The largest number of duplicates in a chunk, for each location that it may hold.

A chunk is in memory as a whole. More would fill jobs even if over four in five rows are duplicates.
"""

_BODY_OVERHEAD_BYTES = len('{"locations":[],}')

KeySink = Callable[[Sequence[int], Sequence[bytes]], object]
"""Takes the numbers of rows that are sent, in order, and their keys."""

T = TypeVar("T")

_NO_ERRORS: Mapping[int, str] = MappingProxyType({})
_encoder = msgspec.json.Encoder()
_row = attrgetter("row")


class _Rows(msgspec.Struct):
    """Rows that are in no chunk yet: the attributes of `Chunk`, without a body."""

    rows: list[int] = []
    ids: list[str | None] = []
    locations: list[bytes] = []
    sources: dict[int, tuple[str, ...]] = {}
    skipped: dict[int, tuple[str, ...]] = {}
    invalid: list[InvalidRow] = []
    duplicates: list[Duplicate] = []
    duplicate_counts: dict[int, int] = {}

    @classmethod
    def of_distinct(cls, chunk: Chunk, marks: Mapping[int, int]) -> Self:
        """The rows of a chunk; `marks` as in `ChunkBuilder.add_distinct()`."""
        rows, locations = chunk.rows, chunk.locations
        if marks.keys().isdisjoint(rows):
            return cls(rows, chunk.ids, locations, chunk.sources, chunk.skipped, chunk.invalid)
        places = [place for place, row in enumerate(rows) if marks.get(row, -1) < 0]
        sent = [rows[place] for place in places]
        return cls(
            sent,
            [chunk.ids[place] for place in places],
            [locations[place] for place in places],
            _renumbered(chunk.sources, places),
            _renumbered(chunk.skipped, places),
            chunk.invalid,
            [
                Duplicate(row, chunk.ids[place], marks[row], locations[place])
                for place, row in enumerate(rows)
                if marks.get(row, -1) >= 0
            ],
            {place: -marks[row] for place, row in enumerate(sent) if row in marks},
        )

    def cut(self, end: int) -> tuple[Self, Self]:
        """The rows before a row number, and the others."""
        sent = bisect_left(self.rows, end)
        duplicates = bisect_left(self.duplicates, end, key=_row)
        invalid = bisect_left(self.invalid, end, key=_row)
        everything = len(self.rows), len(self.invalid), len(self.duplicates)
        ends = sent, invalid, duplicates
        return self._part((0, 0, 0), ends), self._part(ends, everything)

    def _part(self, begins: tuple[int, int, int], ends: tuple[int, int, int]) -> Self:
        sent, invalid, duplicates = map(slice, begins, ends)
        places = range(begins[0], ends[0])
        return type(self)(
            self.rows[sent],
            self.ids[sent],
            self.locations[sent],
            _renumbered(self.sources, places),
            _renumbered(self.skipped, places),
            self.invalid[invalid],
            self.duplicates[duplicates],
            _renumbered(self.duplicate_counts, places),
        )

    def extend(self, more: Self) -> None:
        """Add the rows that follow."""
        before = len(self.rows)
        self.rows += more.rows
        self.ids += more.ids
        self.locations += more.locations
        self.invalid += more.invalid
        self.duplicates += more.duplicates
        for own, others in (
            (self.sources, more.sources),
            (self.skipped, more.skipped),
            (self.duplicate_counts, more.duplicate_counts),
        ):
            by_place: dict[int, Any] = own
            by_place.update({before + place: each for place, each in others.items()})


def _renumbered(by_place: Mapping[int, T], places: Sequence[int]) -> dict[int, T]:
    """Entries by place, for the places that are left."""
    if not by_place:
        return {}
    return {new: by_place[place] for new, place in enumerate(places) if place in by_place}


class ChunkBuilder:
    """Takes rows, and returns a chunk whenever one is full.

    Args:
        chunk_size: The largest number of locations in a chunk.
        max_chunk_bytes: The largest body of a chunk, before compression and without the options.
        sources: The sources of locations that have none of their own.

    Attributes:
        max_location_bytes: The largest size of the locations in a chunk, each with its id.
        coverage: Which locations a source is not asked about; None to ask about all.
        values: The values so far that are not sent as they stand, by field.
        samples: Values that are sent, from the first rows.
        skipped: The number of rows that a source is not asked about, by source.
        has_ids: Whether any row so far has an id of its own.
        rows_before_ids: The number of rows in chunks before the one with the first such row.

    Raises:
        ConfigurationError: A size cannot work.
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
        self._open, self._bytes = _Rows(), 0

    def renewed(self) -> ChunkBuilder:
        """A builder of the same kind of chunks that has no rows yet."""
        return ChunkBuilder(
            chunk_size=self.chunk_size,
            max_chunk_bytes=self.max_location_bytes + _BODY_OVERHEAD_BYTES,
            sources=self.sources,
        )

    def tell_keys(self, sink: KeySink) -> None:
        """Pass the keys of the rows that are sent to a function, as they come."""
        self._key_sink = sink

    def add_batch(
        self,
        row: int,
        locations: Columns | Sequence[AnyLocation],
        errors: Mapping[int, str] = _NO_ERRORS,
    ) -> list[Chunk]:
        """Add consecutive rows; returns the chunks that they filled.

        Args:
            row: The number of the first row.
            locations: The rows.
            errors: Why some cannot be sent, by place among them.
        """
        batch = normalize_batch(locations, first_row=row, with_keys=self._key_sink is not None)
        self.samples.add({"id": batch.ids, **batch.fields})
        for place in sorted(batch.noted.keys() - errors.keys()):
            for value in batch.noted[place]:
                self.values.add(row + place, value)
        left_out = {
            place: (error, Reason.INVALID_INPUT)
            for place, error in (batch.refused | dict(errors)).items()
        }
        skipped = self._narrow(batch, left_out)
        self._leave_out_too_large(batch, left_out)
        numbers = list(range(row, row + len(batch.encoded)))
        rows = _Rows(numbers, batch.ids, batch.encoded, batch.sources, skipped)
        keys = batch.keys
        if left_out:
            places = [place for place in range(len(numbers)) if place not in left_out]
            rows = _Rows(
                [numbers[place] for place in places],
                [batch.ids[place] for place in places],
                [batch.encoded[place] for place in places],
                _renumbered(batch.sources, places),
                _renumbered(skipped, places),
                [
                    InvalidRow(
                        numbers[place],
                        batch.ids[place],
                        error,
                        _as_given(locations[place]),
                        reason,
                    )
                    for place, (error, reason) in sorted(left_out.items())
                ],
            )
            keys = [keys[place] for place in places] if keys else keys
        if self._key_sink is not None:
            # The key of all that the row wants: a row that wanted less ends otherwise.
            self._key_sink(rows.rows, keys)
        return list(self._add(rows))

    def add_distinct(self, chunk: Chunk, marks: Mapping[int, int]) -> list[Chunk]:
        """Add the rows of a chunk again, now that duplicates are known; returns the filled chunks.

        Each of these covers a stretch of the input: duplicates come with the rows that are sent.

        Args:
            chunk: The chunk; it follows the one before.
            marks: The number of the row that a row repeats, by row; or, if negative, how many rows
                repeat it.
        """
        return list(self._add(_Rows.of_distinct(chunk, marks)))

    def rows_until_full(self) -> int:
        """How many rows can be read before the chunk may be full; at least 1.

        The number of rows is exact. The number of bytes is an estimate that holds unless the next
        rows are more than twice as large as those so far.
        """
        rows = len(self._open.rows)
        by_number = self.chunk_size - max(rows, len(self._open.invalid))
        bytes_each = (self._bytes_so_far + self._bytes) / (self._rows_so_far + rows)
        by_bytes = (self.max_location_bytes - self._bytes) / (2 * bytes_each)
        return max(1, min(by_number, int(by_bytes)))

    @property
    def has_rest(self) -> bool:
        """Whether rows wait for others to fill their chunk."""
        rows = self._open
        return bool(rows.rows or rows.invalid or rows.duplicates)

    def rest(self) -> Chunk | None:
        """These rows as a chunk; None if there are none."""
        return self._finish() if self.has_rest else None

    def next_index(self) -> int:
        """The number of the next chunk, whoever makes it."""
        index, self._next_index = self._next_index, self._next_index + 1
        return index

    def _narrow(
        self, batch: NormalizedBatch, left_out: dict[int, tuple[str, Reason]]
    ) -> dict[int, tuple[str, ...]]:
        """Keep locations from sources that cannot answer them; returns the reasons by place."""
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
        most_bytes = self.max_location_bytes - len(SEPARATOR)
        if max(map(len, batch.encoded), default=0) <= most_bytes:
            return
        for place, encoded in enumerate(batch.encoded):
            if len(encoded) > most_bytes:
                error = f"{len(encoded)} bytes are more than one request may hold"
                left_out.setdefault(place, (error, Reason.INVALID_INPUT))

    def _add(self, rows: _Rows) -> Iterator[Chunk]:
        """Add rows; yields each chunk as soon as it is full."""
        while (end := self._end(rows)) is not None:
            taken, rows = rows.cut(end)
            self._take(taken)
            yield self._finish()
        self._take(rows)

    def _end(self, rows: _Rows) -> int | None:
        """The row number before which the present chunk ends; None if all rows fit into it."""
        ends: list[int] = []
        room = self.chunk_size - len(self._open.rows)
        if len(rows.rows) >= room:
            ends.append(rows.rows[room - 1] + 1)
        room = self.chunk_size - len(self._open.invalid)
        if len(rows.invalid) >= room:
            ends.append(rows.invalid[room - 1].row + 1)
        room = DUPLICATES_A_LOCATION * self.chunk_size - len(self._open.duplicates)
        if len(rows.duplicates) >= room:
            ends.append(rows.duplicates[room - 1].row + 1)
        left_bytes = self.max_location_bytes - self._bytes
        if _size_of(rows.locations) > left_bytes:
            sizes = accumulate(len(each) + len(SEPARATOR) for each in rows.locations)
            ends.append(rows.rows[bisect_right(list(sizes), left_bytes)])
        return min(ends, default=None)

    def _take(self, rows: _Rows) -> None:
        self._open.extend(rows)
        self._bytes += _size_of(rows.locations)
        self.has_ids = (
            self.has_ids or any(rows.ids) or any(each.id is not None for each in rows.invalid)
        )

    def _finish(self) -> Chunk:
        rows = self._open
        chunk = Chunk(
            self.next_index(),
            rows.rows,
            rows.ids,
            SEPARATOR.join(rows.locations),
            rows.sources,
            rows.invalid,
            duplicates=rows.duplicates,
            duplicate_counts=rows.duplicate_counts,
            skipped=rows.skipped,
        )
        self._rows_so_far += len(rows.rows)
        self._bytes_so_far += self._bytes
        self._open, self._bytes = _Rows(), 0
        if self.has_ids:
            may_lack_ids = None in chunk.ids or chunk.invalid or chunk.duplicates
            return chunk.with_blank_ids() if may_lack_ids else chunk
        self.rows_before_ids += chunk.total_rows
        return chunk


class Samples:
    """A few values of each field as they are sent, to show how the input was understood.

    Attributes:
        by_field: Up to three different values of each field, in the order of the rows, as texts.
    """

    def __init__(self) -> None:
        self.by_field: dict[str, list[str]] = {}
        self._rows_left = _SAMPLED_ROWS

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at the values that are sent of some rows, by field; None for no value."""
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
    return sum(map(len, encoded)) + len(encoded) * len(SEPARATOR)


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
    """The sources of a run; raises a ConfigurationError if they are not source codes."""
    try:
        return clean_sources(sources)
    except InputError as error:
        raise ConfigurationError(str(error)) from error
