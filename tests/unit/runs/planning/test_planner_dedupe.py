"""Which rows repeat which, and the chunks that are made of them."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.chunk import Chunk, InvalidRow
from pingdata_async.locations.chunk_builder import LOCATION_OVERHEAD_BYTES
from pingdata_async.runs.planning import dedupe as bucket_file
from pingdata_async.runs.planning import dedupe as duplicate_index
from pingdata_async.runs.planning.dedupe import (
    DUPLICATES_A_LOCATION,
    ROW_BITS,
    DistinctChunks,
    DuplicateFinder,
)
from tests.support.sweeps import examples


def nothing() -> None:
    """Nobody cancels."""


def found(folder: Path, keys: list[bytes], batch: int = 300) -> dict[int, int]:
    """The marks of all rows with these keys."""
    with DuplicateFinder(folder) as finder:
        for begin in range(0, len(keys), batch):
            finder.add(begin, keys[begin : begin + batch])
        rows = finder.find(nothing)
        if rows is None:
            return {}
        try:
            marks: dict[int, int] = {}
            for begin in range(0, len(keys), batch):  # as a plan asks for them
                last = min(begin + batch, len(keys)) - 1
                few = rows.among(begin, last)
                marks |= {row: few[row] for row in range(begin, last + 1) if row in few}
            assert rows.rows == sum(mark >= 0 for mark in marks.values())
            return marks
        finally:
            rows.close()


def plain_marks(keys: list[bytes]) -> dict[int, int]:
    """The definition."""
    first: dict[bytes, int] = {}
    marks: dict[int, int] = {}
    for row, key in enumerate(keys):
        if first.setdefault(key, row) != row:
            marks[row] = first[key]
    for row, duplicate_counts in Counter(marks.values()).items():
        marks[row] = -duplicate_counts
    return marks


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 9), st.integers(1, 20))
def test_all_repeats_are_found(numbers: list[int], batch: int, in_memory: int) -> None:
    """However few of them are in memory at a time."""
    keys = [b"%d" % number for number in numbers]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_file, "FIRST_BLOCK", in_memory)
        assert found(Path(folder), keys, batch) == plain_marks(keys)
        assert list(Path(folder).iterdir()) == []


def test_repeats_far_apart(tmp_path: Path) -> None:
    """Rows of several buckets, and chunks that lie in two of them."""
    rows = (3 << ROW_BITS) + 77
    keys = [b"%d" % (row % (rows // 2 + 5)) for row in range(rows)]
    assert found(tmp_path, keys, 1000) == plain_marks(keys)
    assert found(tmp_path, [b"the same"] * 70_000, 1000) == plain_marks([b"the same"] * 70_000)


@pytest.mark.parametrize("half", [slice(0, 8), slice(8, 16)])
def test_half_a_key_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: slice
) -> None:
    """Where 64 of the 128 bits are those of another row, it is another row all the same."""
    digests_of = duplicate_index.digests_of

    def colliding(keys: list[bytes]) -> list[bytes]:
        made = [bytearray(digest) for digest in digests_of(keys)]
        for digest in made:
            digest[half] = bytes(8)
        return list(map(bytes, made))

    monkeypatch.setattr(duplicate_index, "digests_of", colliding)
    keys = [b"%d" % (row % 900) for row in range(1000)]
    assert found(tmp_path, keys) == plain_marks(keys)


def test_an_input_without_repeats(tmp_path: Path) -> None:
    """Says so, and none at all likewise."""
    assert found(tmp_path, [b"%d" % row for row in range(1000)]) == {}
    assert found(tmp_path, []) == {}


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[Chunk], dict[int, int], int, int]:
    """Chunks as a builder makes them, the marks of their rows, and what a chunk may hold."""
    chunk_size = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.integers(-1, 6), min_size=1, max_size=60))
    keys = [b"%d" % kind for kind in kinds]
    sent = [row for row, kind in enumerate(kinds) if kind >= 0]
    of_sent = plain_marks([keys[row] for row in sent])
    marks = {sent[at]: (sent[mark] if mark >= 0 else mark) for at, mark in of_sent.items()}
    chunks: list[Chunk] = []
    rows = iter(range(len(kinds)))
    while few := list(itertools.islice(rows, draw(st.integers(1, chunk_size)))):
        here = [row for row in few if kinds[row] >= 0]
        chunks.append(
            Chunk(
                len(chunks),
                here,
                [f"r{row}" for row in here],
                [b"%d" % kinds[row] * (kinds[row] + 1) for row in here],
                {place: (f"S{row}",) for place, row in enumerate(here) if row % 3 == 0},
                [InvalidRow(row, None, "no") for row in few if kinds[row] < 0],
                skipped={place: (f"not {row}",) for place, row in enumerate(here) if row % 2},
            )
        )
    max_bytes = draw(st.sampled_from([LOCATION_OVERHEAD_BYTES * 3, 10_000]))
    return chunks, marks, chunk_size, max_bytes


@given(inputs())
@examples(300)
def test_chunks_of_distinct_locations(
    given_input: tuple[list[Chunk], dict[int, int], int, int],
) -> None:
    """Every row once, in stretches of the input; each location once, full, within the limits."""
    chunks, marks, chunk_size, max_bytes = given_input
    numbers = itertools.count()
    distinct = DistinctChunks(
        chunk_size=chunk_size, max_location_bytes=max_bytes, next_index=lambda: next(numbers)
    )
    made = [new for chunk in chunks for new in distinct.add(chunk, marks)]
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
        size = sum(map(len, chunk.locations)) + LOCATION_OVERHEAD_BYTES * len(chunk.rows)
        assert size <= max_bytes
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
        size = sum(map(len, chunk.locations)) + LOCATION_OVERHEAD_BYTES * len(chunk.rows)
        next_one = len(following.locations[0]) if following.rows else 0
        assert (
            len(chunk.rows) == chunk_size
            or len(chunk.invalid) == chunk_size
            or len(chunk.duplicates) == chunk_size * DUPLICATES_A_LOCATION
            or size + next_one + LOCATION_OVERHEAD_BYTES > max_bytes
        )
