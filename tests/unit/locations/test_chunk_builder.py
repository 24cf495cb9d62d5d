"""From locations to chunks: nothing lost, in order, within every limit."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.api.wire import JobOptions
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.locations.chunk import Chunk, encode_body
from pingdata_async.locations.chunk_builder import ChunkBuilder, Samples, checked_sources
from pingdata_async.models import Location

TEXTS = st.text(max_size=60)
LOCATIONS = st.one_of(
    TEXTS,
    st.builds(Location, id=st.none() | TEXTS, address=st.none() | TEXTS),
    st.fixed_dictionaries(
        {},
        optional={
            "id": TEXTS | st.integers() | st.none(),
            "address": TEXTS,
            "city": TEXTS | st.integers() | st.booleans(),
            "latitude": TEXTS | st.floats(),
            "longitude": TEXTS | st.floats(),
            "sources": TEXTS | st.lists(TEXTS, max_size=3),
            "const__num_stories": TEXTS | st.integers(),
            "unknown": TEXTS,
        },
    ),
    st.none() | st.integers(),  # what no type checker would let through
)
ALIKE = st.fixed_dictionaries(
    {
        "id": st.sampled_from(("a", "b")),
        "address": TEXTS,
        "latitude": st.sampled_from(("1.5", "", "n/a")),
    }
)


def build(builder: ChunkBuilder, locations: list[Any]) -> list[Chunk]:
    chunks = [*builder.add_batch(0, locations), builder.rest()]
    return [chunk for chunk in chunks if chunk is not None]


@given(st.lists(LOCATIONS, max_size=60), st.integers(1, 7), st.integers(100, 1_000))
def test_every_row_is_in_one_chunk_within_the_limits(
    locations: list[Any], chunk_size: int, max_chunk_bytes: int
) -> None:
    """Sent or invalid, once, in order; each chunk full or the last, its body small enough."""
    builder = ChunkBuilder(
        chunk_size=chunk_size, max_chunk_bytes=max_chunk_bytes, sources=("PG", "PH")
    )
    chunks = build(builder, locations)
    rows = sorted(row for chunk in chunks for row in chunk.rows)
    invalid = sorted(each.row for chunk in chunks for each in chunk.invalid)
    assert sorted(rows + invalid) == list(range(len(locations)))
    assert [row for chunk in chunks for row in chunk.rows] == rows
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert sum(chunk.total_rows for chunk in chunks) == len(locations)
    options = JobOptions().encode(("PG", "PH"))
    for chunk in chunks:
        assert len(chunk.rows) <= chunk_size
        assert len(chunk.invalid) <= chunk_size
        assert len(chunk.rows) == len(chunk.ids) == len(chunk.locations)
        if chunk.rows:
            body = encode_body(chunk, options)
            assert len(body) <= max_chunk_bytes + len(options)
            sent = msgspec.json.decode(body)
            assert [location["id"] for location in sent["locations"]] == list(map(str, chunk.rows))
            assert sent["sources"] == ["PG", "PH"]


@given(st.lists(LOCATIONS, max_size=20))
def test_what_is_sent_is_what_was_given(locations: list[Any]) -> None:
    """The user's id stays here; the sources of a location travel with it."""
    for chunk in build(ChunkBuilder(sources=("PG",)), locations):
        sent = [msgspec.json.decode(location) for location in chunk.locations]
        for place, (row, fields) in enumerate(zip(chunk.rows, sent, strict=True)):
            given_one = locations[row]
            assert fields.pop("id") == str(row)
            assert "unknown" not in fields
            if isinstance(given_one, str):
                assert fields == {"address": given_one.strip()}
            assert chunk.sources.get(place) == (
                tuple(fields["sources"]) if "sources" in fields else None
            )


@given(
    st.lists(st.one_of(LOCATIONS, *[ALIKE] * 3), max_size=40),
    st.sampled_from((1, 3, 7, 1000)),
    st.sampled_from((100, 300, 700, 10_000)),
    st.lists(st.integers(1, 25), min_size=1),
    st.dictionaries(st.integers(0, 39), st.just("refused"), max_size=3),
    st.sampled_from(((), ("PG",))),
)
def test_batches_are_the_same_as_row_by_row(
    locations: list[Any],
    chunk_size: int,
    max_chunk_bytes: int,
    sizes: list[int],
    errors: dict[int, str],
    sources: tuple[str, ...],
) -> None:
    """However they are cut: the same chunks, each given out as soon as it is full."""
    settings: dict[str, Any] = {
        "chunk_size": chunk_size, "max_chunk_bytes": max_chunk_bytes, "sources": sources,
    }  # fmt: skip
    plain, by_batch = ChunkBuilder(**settings), ChunkBuilder(**settings)
    begin = 0
    for size in itertools.cycle(sizes):
        end = min(len(locations), begin + size)
        expected = []
        for row in range(begin, end):
            error = {0: errors[row]} if row in errors else {}
            expected += plain.add_batch(row, [locations[row]], error)
        own_errors = {row - begin: error for row, error in errors.items() if begin <= row < end}
        assert by_batch.add_batch(begin, locations[begin:end], own_errors) == expected
        begin = end
        if begin == len(locations):
            break
    assert by_batch.rest() == plain.rest()
    assert by_batch.values.notes() == plain.values.notes()


def test_chunks_end_where_count_or_bytes_say() -> None:
    """Full chunks are handed out as soon as they are full, by count or by bytes."""
    builder = ChunkBuilder(chunk_size=3, sources=("PG",))
    assert [len(builder.add_batch(row, ["1 Main St"])) for row in range(6)] == [0, 0, 1, 0, 0, 1]
    assert builder.rest() is None
    builder = ChunkBuilder(max_chunk_bytes=17 + 300, sources=("PG",))
    sizes = [len(chunk.rows) for chunk in build(builder, ["x" * 90] * 5)]
    assert sizes == [2, 2, 1]


def test_a_row_too_large_for_any_request_is_invalid() -> None:
    """It comes out with a reason instead of making a request that must fail."""
    builder = ChunkBuilder(max_chunk_bytes=200, sources=("PG",))
    (chunk,) = build(builder, ["x" * 1_000, "1 Main St"])
    assert chunk.rows == [1]
    assert "more than one request may hold" in chunk.invalid[0].error


def test_a_location_without_sources_is_invalid_where_the_run_has_none() -> None:
    """Its own sources are enough, and no sources at all are refused locally."""
    rows: list[Any] = ["1 Main St", {"id": "a", "address": "2 Main St", "sources": "PH, LB"}]
    (chunk,) = build(ChunkBuilder(), rows)
    assert chunk.rows == [1]
    assert chunk.ids == ["a"]
    assert chunk.sources == {0: ("PH", "LB")}
    assert chunk.invalid[0].error.startswith("no sources")


def test_unreadable_optional_numbers_are_left_out_and_counted() -> None:
    """Over all rows, those that are refused as well."""
    builder = ChunkBuilder(sources=("PG",))
    build(
        builder,
        [
            {"address": "1 Main St", "latitude": "north", "longitude": ""},
            {"const__num_stories": "many"},
        ],
    )
    assert [(note.column, note.values, note.row) for note in builder.values.notes()] == [
        ("const__num_stories", 1, 1), ("latitude", 1, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [{"chunk_size": 0}, {"max_chunk_bytes": 17}], ids=str)
def test_sizes_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigurationError):
        ChunkBuilder(**settings)


def test_sources_are_codes() -> None:
    """A text or a list; each once, in order; anything else is refused."""
    assert checked_sources("PG, PH PG") == ("PG", "PH")
    with pytest.raises(ConfigurationError):
        checked_sources([1])


def test_three_different_samples_of_each_field() -> None:
    """In the order of the rows, short and on one line."""
    builder = ChunkBuilder(sources=("PG",))
    builder.add_batch(0, [{"city": "N/A"}, {"city": "Boston"}, {"city": "Boston"}])
    quincy = {"id": "x", "city": "Quincy\nMA", "latitude": 42.5, "longitude": "-71"}
    builder.add_batch(3, [quincy])
    builder.add_batch(4, [{"city": "x" * 99}, {"city": "Austin"}])
    assert builder.samples.by_field["city"] == ["Boston", "Quincy MA", "x" * 27 + "..."]
    assert builder.samples.by_field["latitude"] == ["42.5"]


def test_a_rare_field_is_not_looked_for_for_ever() -> None:
    """Millions of rows that have none cost nothing."""
    samples = Samples()
    for _ in range(100):
        samples.add({"city": [None] * 100})
    samples.add({"city": ["Boston"]})
    assert samples.by_field == {"city": []}
