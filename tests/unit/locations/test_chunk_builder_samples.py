"""Samples of what is sent."""

from __future__ import annotations

from pingdata_async.locations.chunk_builder import ChunkBuilder, Samples


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
