"""Locations as chunks hold them."""

from __future__ import annotations

from collections.abc import Iterable

from pingdata_async.locations.chunk import SEPARATOR, Chunk


def body_of(rows: Iterable[int], location: bytes = b'{"address":"x"}') -> bytes:
    """The body of rows that all have this location."""
    return SEPARATOR.join(numbered(row, location) for row in rows)


def numbered(row: int, location: bytes) -> bytes:
    """A location as it is sent."""
    return b'{"id":"%d"%b%b' % (row, b"," if location != b"{}" else b"", location[1:])


def chunk_of(rows: Iterable[int]) -> Chunk:
    """A planned chunk of these rows, without ids."""
    numbers = list(rows)
    return Chunk(0, numbers, [None] * len(numbers), body_of(numbers))
