"""Chunks of locations: how they are split, and rows that are sent again (pure).

Planned chunks come from the input. Later chunks hold rows of planned ones: the parts of a chunk
that was split, or rows that are retried, batched with others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from pingdata_async.models import Reason

MAX_CHUNK_BYTES = 2 * 1024 * 1024
"""The largest body by default, before compression.

The API documents no limit. It looks like a Django application, whose own limit for a
request body is 2.5 MB unless its operators raised it.
"""

SEPARATOR = b",\n"
"""Between the locations in a body. None of them has a line end in it, as JSON escapes these."""

BLANK_ID = ""
"""In place of an id: this row has none, although others of the input have one."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def shown_id(row: int, own_id: str | None) -> str | None:
    """The id under which a row comes out: its own, or its number if no row has one.

    Among ids, a number would be taken for another row's, so a blank id stays blank: None.
    """
    return str(row) if own_id is None else own_id or None


class InvalidRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that is not sent, and why."""

    row: int  # its number
    id: str | None  # as in `Chunk.ids`
    error: str  # a sentence
    # The row as it was given, as a JSON object; "{}" if JSON cannot hold it.
    given: bytes = b"{}"
    # Whether the row is at fault, or no source could answer it.
    reason: Reason = Reason.INVALID_INPUT


class Duplicate(msgspec.Struct, frozen=True, array_like=True):
    """A row that repeats an earlier one: it is not sent, and gets the same outcome."""

    row: int  # its number
    id: str | None  # as in `Chunk.ids`
    first: int  # the number of the row that is sent, in this chunk or an earlier one
    location: bytes  # the location as it would have been sent, by its own number

    @property
    def shown_id(self) -> str | None:
        """The id that the row comes out under."""
        return shown_id(self.row, self.id)


class RowHistory(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a row before its later chunk is sent."""

    planned_chunk: int  # the planned chunk that the row is from
    times_asked: int = 0  # jobs that ended without all of its answers
    # The sources that it is judged by; None for those of the run.
    wanted: tuple[str, ...] | None = None
    data: bytes = b"{}"  # the answers so far, as the API's object
    was_charged: bool = False  # whether a job that held it was, or may have been, accepted
    duplicates: int = 0  # how many rows repeat it
    # Why sources that it was meant for are not asked, a few words each.
    skipped: tuple[str, ...] = ()


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Rows that are sent as one job."""

    index: int  # the chunk's number, from 0; later chunks come after the planned ones
    rows: list[int]  # the numbers of the rows sent, in any order; not always contiguous
    # The user's own id of each; None where the input has none at all, as far as was known then, and
    # `BLANK_ID` where only this row has none.
    ids: list[str | None]
    # The locations as they are sent: JSON objects, each with its row's number as its id, and
    # `SEPARATOR` between them.
    body: bytes
    # By place in `rows`, the sources asked of locations that have their own.
    sources: dict[int, tuple[str, ...]] = {}
    invalid: list[InvalidRow] = []  # rows that are not sent; they come out with the others
    # Of a later chunk, the history of each row; empty for a planned one.
    earlier: list[RowHistory] = []
    # Of a planned chunk, rows that repeat others; they come out with these.
    duplicates: list[Duplicate] = []
    # Of a planned chunk, by place in `rows`, how many rows repeat that one, wherever they are; only
    # where any do.
    duplicate_counts: dict[int, int] = {}
    # Of a planned chunk, by place in `rows`, why sources that a row was meant for are not asked, a
    # few words each.
    skipped: dict[int, tuple[str, ...]] = {}

    @property
    def locations(self) -> list[bytes]:
        """Each row's location as it is sent."""
        return self.body.split(SEPARATOR) if self.rows else []

    @property
    def is_planned(self) -> bool:
        """Whether it comes from the input itself."""
        return not self.earlier

    @property
    def total_rows(self) -> int:
        """Rows sent and rows that are not."""
        return len(self.rows) + len(self.invalid) + len(self.duplicates)

    def with_blank_ids(self) -> Chunk:
        """The same chunk as part of an input in which other rows have ids."""
        return msgspec.structs.replace(
            self,
            ids=[own_id or BLANK_ID for own_id in self.ids],
            invalid=[
                msgspec.structs.replace(each, id=each.id or BLANK_ID) for each in self.invalid
            ],
            duplicates=[
                msgspec.structs.replace(each, id=each.id or BLANK_ID) for each in self.duplicates
            ],
        )

    def duplicate_counts_by_row(self) -> dict[int, int]:
        """By number of a row that is sent, how many rows repeat it; only where any do."""
        if self.is_planned:
            return {self.rows[place]: count for place, count in self.duplicate_counts.items()}
        return {
            row: earlier.duplicates
            for row, earlier in zip(self.rows, self.earlier, strict=True)
            if earlier.duplicates
        }


def encode_body(chunk: Chunk, options: bytes) -> bytes:
    """The JSON body that submits a chunk; `options` is the rest, an object that is not empty."""
    return b"".join((b'{"locations":[', chunk.body, b"],", options[1:]))


# -- Rows of one chunk in another ------------------------------------------------------------


def renumbered(chunk: Chunk, by: int) -> Chunk:
    """A chunk's rows that are sent, each with a number that is so much higher."""
    locations = [
        b'{"id":"%d"' % (row + by) + location[len(b'{"id":"%d"' % row) :]
        for row, location in zip(chunk.rows, chunk.locations, strict=True)
    ]
    return Chunk(
        chunk.index,
        [row + by for row in chunk.rows],
        chunk.ids,
        SEPARATOR.join(locations),
        chunk.sources,
    )


def joined(index: int, chunks: Sequence[Chunk]) -> Chunk:
    """A chunk with the rows that are sent of several planned ones."""
    rows: list[int] = []
    ids: list[str | None] = []
    sources: dict[int, tuple[str, ...]] = {}
    for chunk in chunks:
        sources.update({len(rows) + place: own for place, own in chunk.sources.items()})
        rows += chunk.rows
        ids += chunk.ids
    return Chunk(index, rows, ids, SEPARATOR.join([chunk.body for chunk in chunks]), sources)


def only_rows(chunk: Chunk, places: Sequence[int]) -> Chunk:
    """A chunk with nothing but the rows at some of its places, in their order."""
    locations = chunk.locations
    return Chunk(
        chunk.index,
        [chunk.rows[place] for place in places],
        [chunk.ids[place] for place in places],
        SEPARATOR.join([locations[place] for place in places]),
        {new: chunk.sources[old] for new, old in enumerate(places) if old in chunk.sources},
        [],
        [chunk.earlier[place] for place in places] if chunk.earlier else [],
    )


class RetryRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that is sent again to the sources that did not answer."""

    row: int  # its number
    id: str | None  # as in `Chunk.ids`
    location: bytes  # the location as it is sent, with the sources to ask
    asked: tuple[str, ...]  # those sources
    earlier: RowHistory  # what is known of it


def history_of(chunk: Chunk, place: int) -> RowHistory:
    """The history of a row before its chunk was sent."""
    if chunk.earlier:
        return chunk.earlier[place]
    return RowHistory(
        chunk.index,
        wanted=chunk.sources.get(place),
        duplicates=chunk.duplicate_counts.get(place, 0),
        skipped=chunk.skipped.get(place, ()),
    )


def wanted_sources(chunk: Chunk, place: int, sources: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that a row is judged by; `sources` are those of the run."""
    if chunk.earlier:
        wanted = chunk.earlier[place].wanted
        return sources if wanted is None else wanted
    return chunk.sources.get(place, sources)


def skipped_sources(chunk: Chunk, place: int) -> tuple[str, ...]:
    """Why some of the sources that a row was meant for are not asked, a few words each."""
    return chunk.earlier[place].skipped if chunk.earlier else chunk.skipped.get(place, ())


def retry_row(
    chunk: Chunk,
    place: int,
    asked: tuple[str, ...],
    data: bytes,
    locations: Sequence[bytes] | None = None,
) -> RetryRow:
    """A row of an answered chunk, to be sent again to the sources that did not answer.

    Args:
        chunk: The chunk.
        place: The row's place in it.
        asked: The sources that did not answer.
        data: All answers so far, as the API's object.
        locations: The chunk's locations, if the caller has them already.
    """
    location = (chunk.locations if locations is None else locations)[place]
    earlier = history_of(chunk, place)
    return RetryRow(
        chunk.rows[place],
        chunk.ids[place],
        with_sources(location, asked),
        asked,
        msgspec.structs.replace(
            earlier, times_asked=earlier.times_asked + 1, data=data, was_charged=True
        ),
    )


def with_sources(location: bytes, sources: tuple[str, ...]) -> bytes:
    """An encoded location that asks these sources instead."""
    fields = _fields.decode(location)
    fields["sources"] = msgspec.Raw(msgspec.json.encode(sources))
    return msgspec.json.encode(fields)


def batch_rows(index: int, retry_rows: Sequence[RetryRow]) -> Chunk:
    """A chunk of rows that are sent again."""
    return Chunk(
        index,
        [each.row for each in retry_rows],
        [each.id for each in retry_rows],
        SEPARATOR.join([each.location for each in retry_rows]),
        {place: each.asked for place, each in enumerate(retry_rows)},
        [],
        [each.earlier for each in retry_rows],
    )


def equal_parts(rows: int, parts: int) -> list[int]:
    """The sizes of parts of about equal size."""
    return [rows * (part + 1) // parts - rows * part // parts for part in range(parts)]


def split(
    chunk: Chunk, indexes: Sequence[int], sizes: Sequence[int], *, was_charged: bool
) -> list[Chunk]:
    """Split a chunk into parts of these sizes; the first part takes the rows that are not sent.

    Args:
        chunk: The chunk.
        indexes: The number of each part.
        sizes: The number of rows in each part; all rows together.
        was_charged: Whether a job of the chunk was, or may have been, accepted.
    """
    earlier = [history_of(chunk, place) for place in range(len(chunk.rows))]
    if was_charged:
        earlier = [msgspec.structs.replace(each, was_charged=True) for each in earlier]
    locations = chunk.locations
    parts = []
    begin = 0
    for part, (index, size) in enumerate(zip(indexes, sizes, strict=True)):
        end = begin + size
        places = range(begin, end)
        parts.append(
            Chunk(
                index,
                chunk.rows[begin:end],
                chunk.ids[begin:end],
                SEPARATOR.join(locations[begin:end]),
                {p - begin: chunk.sources[p] for p in places if p in chunk.sources},
                chunk.invalid if part == 0 else [],
                earlier[begin:end],
            )
        )
        begin = end
    return parts


class RetryBatcher:
    """Batches rows that are sent again until they fill a chunk or have lingered long enough."""

    MAX_BATCH_WAIT_S = 30.0

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._retry_rows: deque[RetryRow] = deque()
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._retry_rows)

    def add(self, retry_rows: Iterable[RetryRow], now: float) -> None:
        """Add rows at a time."""
        if not self._retry_rows:
            self._since = now
        self._retry_rows.extend(retry_rows)

    def is_due(self, now: float) -> bool:
        """Whether the rows are worth a job now, whatever else there is to do."""
        is_full = len(self._retry_rows) >= self._chunk_size
        return is_full or (bool(self._retry_rows) and now >= self._since + self.MAX_BATCH_WAIT_S)

    def take(self) -> list[RetryRow]:
        """Take the rows of one chunk; at least one if there are any."""
        batch: list[RetryRow] = []
        size = 0
        while self._retry_rows and len(batch) < self._chunk_size:
            size += len(self._retry_rows[0].location)
            if batch and size > MAX_CHUNK_BYTES:
                break
            batch.append(self._retry_rows.popleft())
        return batch

    def clear(self) -> None:
        """Drop all rows."""
        self._retry_rows.clear()
