"""Chunks made once more of rows of which it is known which repeat others."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.chunk import (
    MAX_CHUNK_BYTES,
    SEPARATOR,
    Chunk,
    InvalidRow,
    encode_body,
)
from pingdata_async.locations.chunk_builder import DUPLICATES_A_LOCATION, ChunkBuilder
from tests.support.chunks import numbered
from tests.support.sweeps import examples


def marks_of(kinds: dict[int, int]) -> dict[int, int]:
    """By row, the first one of its kind; or, less than zero, how many are of its kind."""
    first: dict[int, int] = {}
    marks = {row: first[kind] for row, kind in kinds.items() if first.setdefault(kind, row) != row}
    return marks | {row: -number for row, number in Counter(marks.values()).items()}


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[Chunk], dict[int, int], int, int]:
    """Chunks as a builder makes them, the marks of their rows, and what a chunk may hold."""
    chunk_size = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.integers(-1, 6), min_size=1, max_size=60))
    marks = marks_of({row: kind for row, kind in enumerate(kinds) if kind >= 0})
    chunks: list[Chunk] = []
    rows = iter(range(len(kinds)))
    while few := list(itertools.islice(rows, draw(st.integers(1, chunk_size)))):
        here = [row for row in few if kinds[row] >= 0]
        chunks.append(
            Chunk(
                len(chunks),
                here,
                [f"r{row}" for row in here],
                SEPARATOR.join(
                    numbered(row, b'{"city":"%b"}' % (b"x" * kinds[row])) for row in here
                ),
                {place: (f"S{row}",) for place, row in enumerate(here) if row % 3 == 0},
                [InvalidRow(row, None, "no") for row in few if kinds[row] < 0],
                skipped={place: (f"not {row}",) for place, row in enumerate(here) if row % 2},
            )
        )
    max_bytes = draw(st.sampled_from([120, MAX_CHUNK_BYTES]))
    return chunks, marks, chunk_size, max_bytes


@given(inputs())
@examples(300)
def test_chunks_of_distinct_locations(
    given_input: tuple[list[Chunk], dict[int, int], int, int],
) -> None:
    """Every row once, in stretches of the input; each location once, full, within the limits."""
    chunks, marks, chunk_size, max_bytes = given_input
    distinct = ChunkBuilder(chunk_size=chunk_size, max_chunk_bytes=max_bytes)
    made = [new for chunk in chunks for new in distinct.add_distinct(chunk, marks)]
    rest = distinct.rest()
    made += [rest] if rest is not None else []
    assert [chunk.index for chunk in made] == list(range(len(made)))
    everything: list[int] = []
    for chunk in made:
        here = [
            *chunk.rows,
            *(duplicate.row for duplicate in chunk.duplicates),
            *(i.row for i in chunk.invalid),
        ]
        everything += sorted(here)
        assert chunk.total_rows == len(here)
        assert chunk.total_rows > 0
        assert len(chunk.rows) <= chunk_size
        assert len(chunk.invalid) <= chunk_size
        assert len(chunk.duplicates) <= chunk_size * DUPLICATES_A_LOCATION
        assert len(encode_body(chunk, b"{}")) <= max_bytes
        assert chunk.rows == sorted(chunk.rows)
        assert chunk.duplicate_counts == {
            place: -marks[row] for place, row in enumerate(chunk.rows) if row in marks
        }
        assert chunk.ids == [f"r{row}" for row in chunk.rows]
        assert chunk.sources == {
            place: (f"S{row}",) for place, row in enumerate(chunk.rows) if row % 3 == 0
        }
        assert chunk.skipped == {
            place: (f"not {row}",) for place, row in enumerate(chunk.rows) if row % 2
        }
    assert everything == list(range(sum(chunk.total_rows for chunk in chunks)))
    location = {row: each for c in chunks for row, each in zip(c.rows, c.locations, strict=True)}
    for chunk in made:
        assert chunk.locations == [location[row] for row in chunk.rows]
        for duplicate in chunk.duplicates:
            assert (duplicate.first, duplicate.id) == (marks[duplicate.row], f"r{duplicate.row}")
            assert duplicate.location == location[duplicate.row]
    assert [row for chunk in made for row in chunk.rows] == [
        row for row in sorted(location) if marks.get(row, -1) < 0
    ]
    for chunk, following in itertools.pairwise(made):
        next_one = len(following.locations[0]) if following.rows else 0
        assert (
            len(chunk.rows) == chunk_size
            or len(chunk.invalid) == chunk_size
            or len(chunk.duplicates) == chunk_size * DUPLICATES_A_LOCATION
            or len(encode_body(chunk, b"{}")) + next_one + len(SEPARATOR) > max_bytes - len("]}")
        )
