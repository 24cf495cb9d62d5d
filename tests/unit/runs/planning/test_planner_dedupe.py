"""Which rows repeat which, and the chunks that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.locations.chunk import SEPARATOR, Chunk
from pingdata_async.locations.normalize import normalize_batch
from pingdata_async.runs.planning import dedupe
from pingdata_async.runs.planning.dedupe import DuplicateFinder


def nothing() -> None:
    """Nobody cancels."""


def found(folder: Path, addresses: Sequence[str], batch: int = 300) -> dict[int, int]:
    """The marks of all rows with these addresses."""

    def chunks() -> Iterator[Chunk]:
        for begin in range(0, len(addresses), batch):
            few = normalize_batch(addresses[begin : begin + batch], first_row=begin)
            rows = list(range(begin, begin + len(few.encoded)))
            yield Chunk(0, rows, [None] * len(rows), SEPARATOR.join(few.encoded))

    with DuplicateFinder(folder) as finder:
        for begin in range(0, len(addresses), batch):
            few = normalize_batch(addresses[begin : begin + batch], with_keys=True)
            finder.add(range(begin, begin + len(few.keys)), few.keys)
        repeats = finder.find(chunks, nothing)
        if repeats is None:
            return {}
        with repeats:
            marks: dict[int, int] = {}
            for chunk in chunks():  # as a plan asks for them
                few_marks = repeats.of(chunk)
                marks |= {row: few_marks[row] for row in chunk.rows if row in few_marks}
            assert repeats.rows == sum(mark >= 0 for mark in marks.values())
            return marks


def plain_marks(addresses: Sequence[str]) -> dict[int, int]:
    """The definition."""
    first: dict[str, int] = {}
    marks: dict[int, int] = {}
    for row, address in enumerate(map(str.casefold, addresses)):
        if first.setdefault(address, row) != row:
            marks[row] = first[address]
    for row, number in Counter(marks.values()).items():
        marks[row] = -number
    return marks


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 9), st.integers(1, 20))
def test_all_repeats_are_found(numbers: list[int], batch: int, in_memory: int) -> None:
    """However few of them are in memory at a time."""
    addresses = [f"{number // 2} {'Elm' if number % 2 else 'ELM'} St" for number in numbers]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedupe, "FIRST_BLOCK", in_memory)
        assert found(Path(folder), addresses, batch) == plain_marks(addresses)
        assert list(Path(folder).iterdir()) == []


def test_repeats_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several buckets, and chunks that lie in two of them."""
    monkeypatch.setattr(dedupe, "ROW_BITS", 8)
    monkeypatch.setattr(dedupe, "FIRST_BLOCK", 100)
    rows = (3 << 8) + 77
    addresses = [f"{row % (rows // 2 + 5)} Elm St" for row in range(rows)]
    assert found(tmp_path, addresses, 100) == plain_marks(addresses)
    assert found(tmp_path, ["the same"] * rows, 100) == plain_marks(["the same"] * rows)


@pytest.mark.parametrize("different", [1, 7])
def test_a_hash_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, different: int
) -> None:
    """Where the hash of a row is that of another one, it is another row all the same."""
    monkeypatch.setattr(dedupe, "hash", lambda key: len(key) % different, raising=False)
    addresses = [f"{row % 900} Elm St" for row in range(1000)]
    assert found(tmp_path, addresses) == plain_marks(addresses)
    assert found(tmp_path, addresses[:900]) == {}


def test_an_input_without_repeats(tmp_path: Path) -> None:
    """Says so, and none at all likewise."""
    assert found(tmp_path, [f"{row} Elm St" for row in range(1000)]) == {}
    assert found(tmp_path, []) == {}
