"""Rows of an iterable become chunks: the same as one by one, and nothing is read too early."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async import Location
from pingdata_async.engine.stream import ChunkSource
from pingdata_async.exceptions import InputError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.normalize import BATCH_ROWS


class BrokenError(Exception):
    """Of whatever gives the rows."""


class Rows:
    """Rows that know how many of them were taken, and may end in an error."""

    def __init__(self, rows: Sequence[Any], *, is_broken: bool = False) -> None:
        self.rows = rows
        self.is_broken = is_broken
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for row in self.rows:
            self.read += 1
            yield row
        if self.is_broken:
            raise BrokenError


class AsyncRows:
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in self.rows:
            yield row


Given = list[tuple[Chunk, int]]  # each chunk, and how many rows had been read by then


def one_by_one(rows: Rows, builder: ChunkBuilder) -> tuple[Given, bool]:
    given: Given = []
    try:
        for row, location in enumerate(rows):
            given += [(chunk, rows.read) for chunk in builder.add_batch(row, [location])]
    except BrokenError:
        return given, True
    rest = builder.rest()
    return given + ([] if rest is None else [(rest, rows.read)]), False


async def all_of(rows: Rows, builder: ChunkBuilder, *, is_async: bool) -> tuple[Given, bool]:
    given: Given = []
    try:
        async for task in ChunkSource(AsyncRows(rows) if is_async else rows, builder):
            given.append((task.chunk, rows.read))
    except BrokenError:
        return given, True
    return given, False


LOCATIONS = st.one_of(
    st.sampled_from(("1 Main St", "2 Oak Ave", "", "x" * 90, "x" * 500)),
    st.sampled_from((Location(city="x"), Location(city="x", sources=["PH"]), Location())),
    st.sampled_from(
        (
            {"id": 1, "city": "x"},
            {"id": "a", "city": ["x"]},
            {"city": "x", "sources": ["PH"]},
            {"city": "x", "datasource_config": "{"},
            OrderedDict(city="x"),
            None,
        )
    ),
)


@given(
    rows=st.lists(LOCATIONS, max_size=30),
    chunk_size=st.sampled_from((1, 4, 10)),
    max_chunk_bytes=st.sampled_from((150, 400, 10_000)),
    is_broken=st.booleans(),
    is_async=st.booleans(),
)
def test_chunks_are_those_of_row_by_row(
    rows: list[Any], chunk_size: int, max_chunk_bytes: int, is_broken: bool, is_async: bool
) -> None:
    """Whatever the rows are; an error comes after what was read before it."""
    settings: dict[str, Any] = {
        "chunk_size": chunk_size, "max_chunk_bytes": max_chunk_bytes, "sources": ("PG",),
    }  # fmt: skip
    expected, is_error = one_by_one(Rows(rows, is_broken=is_broken), ChunkBuilder(**settings))
    given, was_error = anyio.run(
        lambda: all_of(Rows(rows, is_broken=is_broken), ChunkBuilder(**settings), is_async=is_async)
    )
    assert [chunk for chunk, _ in given] == [chunk for chunk, _ in expected]
    assert was_error == is_error
    if max_chunk_bytes == 10_000:  # full by their number of rows
        assert [read for _, read in given] == [read for _, read in expected]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("chunk_size", [3, 999, 10_000])
async def test_no_more_is_read_than_a_chunk_takes(chunk_size: int, is_async: bool) -> None:
    """By number, and by bytes where the rows are of about one size."""
    sizes = [80, 100, 120, 100]
    rows = [{"address": "x" * sizes[n % 4]} for n in range(3_000)]
    settings: dict[str, Any] = {
        "chunk_size": chunk_size, "max_chunk_bytes": 100_000, "sources": ("PG",),
    }  # fmt: skip
    expected, _ = one_by_one(Rows(rows), ChunkBuilder(**settings))
    given, _ = await all_of(Rows(rows), ChunkBuilder(**settings), is_async=is_async)
    assert given == expected
    assert len(given) >= 3


async def test_large_rows_that_come_unexpectedly_are_all_sent() -> None:
    """Some are read before it is seen that they do not fit; they wait for their turn."""
    rows = ["1 Main St"] * BATCH_ROWS + ["x" * 9_000] * BATCH_ROWS
    settings: dict[str, Any] = {"max_chunk_bytes": 20_000, "sources": ("PG",)}
    expected, _ = one_by_one(Rows(rows), ChunkBuilder(**settings))
    given, _ = await all_of(Rows(rows), ChunkBuilder(**settings), is_async=False)
    assert [chunk for chunk, _ in given] == [chunk for chunk, _ in expected]


@pytest.mark.parametrize("name", ["address", "sources", "datasource_config"])
async def test_an_object_may_be_given_again_with_other_content(name: str) -> None:
    """What is sent is what a row was when it was given."""

    def reused() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"city": "x", "sources": [], "datasource_config": {}}
        if name == "address":
            row = {}
        for n in range(10):
            if name == "address":
                row["address"] = f"{n} Main St"
            elif name == "sources":
                row["sources"][:] = [f"S{n}"]
            else:
                row["datasource_config"]["x"] = n
            yield row

    builder = ChunkBuilder(sources=("PG",))
    (task,) = [task async for task in ChunkSource(reused(), builder)]
    sent = {location.partition(b",")[2] for location in task.chunk.locations}
    assert len(sent) == 10


async def test_a_full_chunk_does_not_wait_for_rows_that_are_late() -> None:
    """Nor do the rows before an endless pause wait for more than their chunk."""

    async def rows() -> AsyncIterator[str]:
        for n in range(250):
            yield f"{n} Main St"
        await anyio.sleep_forever()

    source = ChunkSource(rows(), ChunkBuilder(chunk_size=125, sources=("PG",)))
    with anyio.fail_after(120):
        assert (await anext(source)).chunk.rows == list(range(125))
        assert (await anext(source)).chunk.rows == list(range(125, 250))
    with anyio.move_on_after(0.01) as scope:
        await anext(source)
    assert scope.cancelled_caught
    await source.aclose()


async def test_rows_read_when_the_reading_is_cancelled_are_not_lost() -> None:
    """Whoever goes on with it gets them."""
    is_late = True

    class Late:
        def __init__(self) -> None:
            self.next = 0

        def __aiter__(self) -> Late:
            return self

        async def __anext__(self) -> str:
            if self.next == 5 and is_late:
                await anyio.sleep_forever()
            if self.next == 10:
                raise StopAsyncIteration
            self.next += 1
            return "1 Main St"

    source = ChunkSource(Late(), ChunkBuilder(sources=("PG",)))
    with anyio.move_on_after(0.01):
        await anext(source)
    is_late = False
    assert (await anext(source)).chunk.rows == list(range(10))


async def test_an_iterable_that_is_cancelled_inside_keeps_its_reason() -> None:
    """What came before it is given out first."""

    async def rows() -> AsyncIterator[str]:
        for _ in range(3):
            yield "1 Main St"
        raise anyio.get_cancelled_exc_class()

    source = ChunkSource(rows(), ChunkBuilder(chunk_size=2, sources=("PG",)))
    assert (await anext(source)).chunk.rows == [0, 1]
    with pytest.raises(InputError, match="was cancelled") as caught:
        await anext(source)
    assert isinstance(caught.value.__cause__, anyio.get_cancelled_exc_class())
