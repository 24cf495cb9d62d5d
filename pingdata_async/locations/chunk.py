"""Chunks of locations: their rows, how they are split, and rows to be retried (pure).

Chunks: rows that are sent as one job, and what is known of them (pure).

Chunks made of rows of earlier ones: halves of what is split, and rows asked again (pure).

Rows that wait for others of their kind, to be asked about again together (pure).
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

_encoder = msgspec.json.Encoder()

BLANK_ID = ""
"""In place of an id: this row has none, although others of the input have one."""


def shown_id(row: int, own_id: str | None) -> str | None:
    """The id that a row comes out under, by its number and what a chunk has as its id.

    Where no row has an id of its own that is its number. Among ids it would be taken for another
    row's, so that a blank one stays blank: None.
    """
    return str(row) if own_id is None else own_id or None


class InvalidRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that is not sent, and why.

    Attributes:
        row: Its number.
        id: As in `Chunk.ids`.
        error: A sentence.
        given: The row as it was given, as a JSON object; "{}" where that is not possible.
        reason: Whether there is nothing to look up, or no source that could answer.
    """

    row: int
    id: str | None
    error: str
    given: bytes = b"{}"
    reason: Reason = Reason.INVALID_INPUT


class Duplicate(msgspec.Struct, frozen=True, array_like=True):
    """A row that repeats an earlier one: it is not sent, and ends as that one does.

    Attributes:
        row: Its number.
        id: As in `Chunk.ids`.
        first: The number of the row that is sent, in this chunk or an earlier one.
        location: The location as it would have been sent.
    """

    row: int
    id: str | None
    first: int
    location: bytes

    @property
    def shown_id(self) -> str | None:
        """The id that it comes out under."""
        return shown_id(self.row, self.id)


class RowHistory(msgspec.Struct, frozen=True, array_like=True):
    """What was found out about a row before it came into a later chunk.

    Attributes:
        origin: The planned chunk that the row is from.
        times_asked: Jobs that ended without all of its answers.
        wanted: The sources that it is judged by; None for those of the run.
        data: The answers so far, as the API's object.
        was_charged: Whether a job that held it was, or may have been, accepted.
        duplicate_counts: How many rows repeat it.
        skipped: Why sources that it was meant for are not asked, a few words each.
    """

    origin: int
    times_asked: int = 0
    wanted: tuple[str, ...] | None = None
    data: bytes = b"{}"
    was_charged: bool = False
    duplicate_counts: int = 0
    skipped: tuple[str, ...] = ()


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Rows that are sent as one job.

    Planned chunks come from the input. Later ones are made of their rows: parts of a chunk
    that was split, and rows that are asked about again, together with others of their kind.

    Attributes:
        index: The chunk's number, from 0; later chunks come after the planned ones.
        rows: The numbers of the rows sent, in any order; not always contiguous.
        ids: The user's own id of each; None where the input has none at all, as far as that was
            known, and `BLANK_ID` where only this row has none.
        locations: Each row's location as a JSON object without its id.
        sources: By place in `rows`, the sources asked of locations that have their own.
        invalid: Rows that are not sent; they come out with the others.
        earlier: Of a later chunk, one for each row; empty for a planned one.
        duplicates: Of a planned chunk, rows that repeat others; they come out with these.
        duplicate_counts: Of a planned chunk, by place in `rows`, how many rows repeat that one,
            wherever they are; only where any do.
        skipped: By place in `rows`, why sources that a row was meant for are not asked, a few
            words each; of a later chunk, `earlier` says so.
    """

    index: int
    rows: list[int]
    ids: list[str | None]
    locations: list[bytes]
    sources: dict[int, tuple[str, ...]] = {}
    invalid: list[InvalidRow] = []
    earlier: list[RowHistory] = []
    duplicates: list[Duplicate] = []
    duplicate_counts: dict[int, int] = {}
    skipped: dict[int, tuple[str, ...]] = {}

    @property
    def is_planned(self) -> bool:
        """Whether it is from the input itself."""
        return not self.earlier

    @property
    def total_rows(self) -> int:
        """Rows sent and rows that are not."""
        return len(self.rows) + len(self.invalid) + len(self.duplicates)

    def with_blank_ids(self) -> Chunk:
        """The same as part of an input some of whose rows have ids of their own."""
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
            return {
                self.rows[place]: duplicate_counts
                for place, duplicate_counts in self.duplicate_counts.items()
            }
        return {
            row: earlier.duplicate_counts
            for row, earlier in zip(self.rows, self.earlier, strict=True)
            if earlier.duplicate_counts
        }


def encode_body(chunk: Chunk, options: bytes) -> bytes:
    """The JSON body that submits a chunk; the ids in it are row numbers.

    Args:
        chunk: With at least one row to be sent.
        options: The rest of the body as a JSON object with at least one member.
    """
    # Four pieces a row, put in place all at once: b'%d' for each alone takes as long as this.
    pieces = [b',{"id":"'] * (4 * len(chunk.rows))
    pieces[0] = b'{"locations":[{"id":"'
    pieces[1::4] = _encoder.encode(chunk.rows)[1:-1].split(b",")
    pieces[2::4] = [b'",'] * len(chunk.rows)
    pieces[3::4] = [location[1:] for location in chunk.locations]
    pieces += [b"],", options[1:]]
    return b"".join(pieces)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class RetryRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that will be asked about again, with what is needed for that.

    Attributes:
        row: Its number.
        id: As in `Chunk.ids`.
        location: The location as a JSON object without its id, with the sources to be asked.
        asked: Those sources.
        earlier: What is known of it.
    """

    row: int
    id: str | None
    location: bytes
    asked: tuple[str, ...]
    earlier: RowHistory


def history_of(chunk: Chunk, place: int) -> RowHistory:
    """What was known of a row before its chunk was sent."""
    if chunk.earlier:
        return chunk.earlier[place]
    return RowHistory(
        chunk.index,
        wanted=chunk.sources.get(place),
        duplicate_counts=chunk.duplicate_counts.get(place, 0),
        skipped=chunk.skipped.get(place, ()),
    )


def wanted_sources(chunk: Chunk, place: int, sources: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that a row is judged by, where `sources` are the run's."""
    if chunk.earlier:
        wanted = chunk.earlier[place].wanted
        return sources if wanted is None else wanted
    return chunk.sources.get(place, sources)


def skipped_sources(chunk: Chunk, place: int) -> tuple[str, ...]:
    """Why sources that a row was meant for are not asked, a few words each."""
    return chunk.earlier[place].skipped if chunk.earlier else chunk.skipped.get(place, ())


def retry_row(chunk: Chunk, place: int, asked: tuple[str, ...], data: bytes) -> RetryRow:
    """A row of a chunk, to be asked about again for these sources alone.

    Args:
        chunk: The chunk that was answered.
        place: The row's place in it.
        asked: The sources that did not answer.
        data: All that is known of the row now, as the API's object.
    """
    earlier = history_of(chunk, place)
    return RetryRow(
        chunk.rows[place],
        chunk.ids[place],
        with_sources(chunk.locations[place], asked),
        asked,
        msgspec.structs.replace(
            earlier, times_asked=earlier.times_asked + 1, data=data, was_charged=True
        ),
    )


def with_sources(location: bytes, sources: tuple[str, ...]) -> bytes:
    """An encoded location with other sources of its own."""
    fields = _fields.decode(location)
    fields["sources"] = msgspec.Raw(msgspec.json.encode(sources))
    return msgspec.json.encode(fields)


def batch_rows(index: int, retry_rows: Sequence[RetryRow]) -> Chunk:
    """A chunk of rows that are asked about again."""
    return Chunk(
        index,
        [each.row for each in retry_rows],
        [each.id for each in retry_rows],
        [each.location for each in retry_rows],
        {place: each.asked for place, each in enumerate(retry_rows)},
        [],
        [each.earlier for each in retry_rows],
    )


def equal_parts(rows: int, parts: int) -> list[int]:
    """The sizes of as many parts of about equal size."""
    return [rows * (part + 1) // parts - rows * part // parts for part in range(parts)]


def split(
    chunk: Chunk, indexes: Sequence[int], sizes: Sequence[int], *, was_charged: bool
) -> list[Chunk]:
    """A chunk in parts; the first takes what is never sent.

    Args:
        chunk: What is to be split.
        indexes: The number of each part.
        sizes: The rows in each; together all of them.
        was_charged: Whether a job of the chunk was, or may have been, accepted.
    """
    earlier = [history_of(chunk, place) for place in range(len(chunk.rows))]
    if was_charged:
        earlier = [msgspec.structs.replace(each, was_charged=True) for each in earlier]
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
                chunk.locations[begin:end],
                {p - begin: chunk.sources[p] for p in places if p in chunk.sources},
                chunk.invalid if part == 0 else [],
                earlier[begin:end],
            )
        )
        begin = end
    return parts


class RetryBatcher:
    """Gathers leftovers until there are enough for a chunk, or it has taken too long.

    Args:
        chunk_size: The most rows in a chunk.
    """

    WAIT_S = 30.0  # for others of their kind

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._retry_rows: deque[RetryRow] = deque()
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._retry_rows)

    def add(self, retry_rows: Iterable[RetryRow], now: float) -> None:
        """Put some in, at that time."""
        if not self._retry_rows:
            self._since = now
        self._retry_rows.extend(retry_rows)

    def is_ripe(self, now: float) -> bool:
        """Whether they are worth a job, whatever else there is to do."""
        enough = len(self._retry_rows) >= self._chunk_size
        return enough or (bool(self._retry_rows) and now >= self._since + self.WAIT_S)

    def take(self) -> list[RetryRow]:
        """Take out a chunk's worth; at least one where there is one."""
        batch: list[RetryRow] = []
        size = 0
        while self._retry_rows and len(batch) < self._chunk_size:
            size += len(self._retry_rows[0].location)
            if batch and size > MAX_CHUNK_BYTES:
                break
            batch.append(self._retry_rows.popleft())
        return batch

    def clear(self) -> None:
        """Forget them."""
        self._retry_rows.clear()
