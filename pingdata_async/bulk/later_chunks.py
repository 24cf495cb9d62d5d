"""Chunks made of rows of earlier ones: halves of what is split, and rows asked again (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pingdata_async.bulk.chunks import Chunk, Earlier

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Leftover(msgspec.Struct, frozen=True, array_like=True):
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
    earlier: Earlier


def earlier_of(chunk: Chunk, place: int) -> Earlier:
    """What was known of a row before its chunk was sent."""
    if chunk.earlier:
        return chunk.earlier[place]
    return Earlier(
        chunk.index,
        wanted=chunk.sources.get(place),
        copies=chunk.copies.get(place, 0),
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


def leftover(chunk: Chunk, place: int, asked: tuple[str, ...], data: bytes) -> Leftover:
    """A row of a chunk, to be asked about again for these sources alone.

    Args:
        chunk: The chunk that was answered.
        place: The row's place in it.
        asked: The sources that did not answer.
        data: All that is known of the row now, as the API's object.
    """
    earlier = earlier_of(chunk, place)
    return Leftover(
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


def gather(index: int, leftovers: Sequence[Leftover]) -> Chunk:
    """A chunk of rows that are asked about again."""
    return Chunk(
        index,
        [each.row for each in leftovers],
        [each.id for each in leftovers],
        [each.location for each in leftovers],
        {place: each.asked for place, each in enumerate(leftovers)},
        [],
        [each.earlier for each in leftovers],
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
    earlier = [earlier_of(chunk, place) for place in range(len(chunk.rows))]
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
