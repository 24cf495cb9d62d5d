"""The outcome of each row, from all the chunks that it was in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import (
    SEPARATOR,
    Chunk,
    RowHistory,
    batch_rows,
    retry_row,
    split,
)
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.results.validation import validate_output
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export import results as answers_module
from pingdata_async.runs.export.results import ResultReader, RowResults
from pingdata_async.runs.journal.records import SpoolPlace
from pingdata_async.util.encoding import EncodedBody
from tests.support.answers import FAILURE, MemoryJournal, answered, planned_chunks, spool_in

UNFINISHED = ("planned", "submitting", "submitted", "complete")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return spool_in(tmp_path)


@pytest.fixture
def journal(spool: Spool) -> MemoryJournal:
    return MemoryJournal(spool)


def outcomes(spool: Spool, journal: MemoryJournal, chunk: Chunk) -> RowResults:
    return ResultReader(spool, journal, ("PG",)).outcomes(chunk)


def said(results: list[EnhancedLocation]) -> dict[int, object]:
    """What each row ended with: its data, or else the reason."""
    return {
        result.row: msgspec.json.decode(result.data)
        if bytes(result.data) != b"{}"
        else result.reason
        for result in results
    }


def test_a_spooled_chunk_is_judged_as_when_it_came(spool: Spool, journal: MemoryJournal) -> None:
    """The same outcomes as the runner's own check, also for a row that the answer left out."""
    builder = ChunkBuilder(chunk_size=10, sources=("PG",))
    locations: list[Any] = ["1 Main St", "", {"id": "x", "city": "Y", "sources": ["PH"]}, "2 Oak"]
    builder.add_batch(0, locations)
    chunk = builder.rest()
    assert chunk is not None
    body = {"0": answered(), "2": {"PH": {"is_success": False, "error_message": "none"}}}
    journal.put(chunk, "spooled", body)
    found = outcomes(spool, journal, chunk)
    assert (
        found.settled
        == validate_output(chunk, [EncodedBody(msgspec.json.encode(body))], ("PG",), 0).results
    )
    assert [result.status for result in found.settled] == [RowStatus.OK, *["failed"] * 3]
    assert found.unsettled == []


@pytest.mark.parametrize("state", [None, *UNFINISHED])
def test_rows_of_an_unfinished_chunk_are_unsettled(
    spool: Spool, journal: MemoryJournal, state: str | None
) -> None:
    """Only what is never sent has its outcome already."""
    builder = ChunkBuilder(chunk_size=3, sources=("PG",))
    builder.add_batch(0, ["1 Main St", ""])
    chunk = builder.rest()
    assert chunk is not None
    if state is not None:
        journal.put(chunk, state)
    found = outcomes(spool, journal, chunk)
    assert found.unsettled == [0]
    assert [(result.row, result.reason) for result in found.settled] == [(1, Reason.INVALID_INPUT)]


def test_a_chunk_of_nothing_to_send_needs_no_account(spool: Spool, journal: MemoryJournal) -> None:
    """No job was ever needed for it."""
    builder = ChunkBuilder(chunk_size=1, sources=("PG",))
    [chunk] = builder.add_batch(0, [""])
    found = outcomes(spool, journal, chunk)
    assert [result.reason for result in found.settled] == [Reason.INVALID_INPUT]
    assert found.unsettled == []


def test_the_parts_of_a_split_chunk_hold_its_rows(spool: Spool, journal: MemoryJournal) -> None:
    """One part failed, one answered, one is under way: each speaks for its own rows."""
    [chunk] = planned_chunks(6, 6)
    first, second, third = split(chunk, [1, 2, 3], [2, 2, 2], was_charged=False)
    journal.put(chunk, "split")
    journal.put(first, "failed")
    journal.put(second, "spooled", {"2": answered(n=2), "3": answered(n=3)})
    journal.put(third, "submitted")
    found = outcomes(spool, journal, chunk)
    assert said(found.settled) == {
        0: Reason.REJECTED,
        1: Reason.REJECTED,
        2: answered(n=2),
        3: answered(n=3),
    }
    assert found.unsettled == [4, 5]


def test_a_failed_second_question_keeps_the_first_answer(
    spool: Spool, journal: MemoryJournal
) -> None:
    """What was paid for is judged by what is there; a row without any fails for the reason."""
    [chunk] = planned_chunks(2, 2)
    partial = {"PG": {"is_success": False, "status_code": 504, "error_message": "late"}}
    journal.put(chunk, "spooled", {"0": partial})
    asked_again = batch_rows(
        1,
        [
            retry_row(chunk, 0, ("PG",), msgspec.json.encode(partial)),
            retry_row(chunk, 1, ("PG",), b"{}"),
        ],
    )
    journal.put(asked_again, "failed")
    found = outcomes(spool, journal, chunk)
    assert [result.reason for result in found.settled] == [Reason.TIME_OUT, Reason.REJECTED]
    assert found.settled[1].error == FAILURE.error


def test_a_row_waiting_to_be_asked_again_is_unsettled(spool: Spool, journal: MemoryJournal) -> None:
    """Whatever was answered so far: the run will ask again."""
    [chunk] = planned_chunks(2, 2)
    journal.put(chunk, "spooled", {"0": answered(), "1": {}})
    journal.wait({1: 0})
    found = outcomes(spool, journal, chunk)
    assert ([result.row for result in found.settled], found.unsettled) == ([0], [1])


def test_later_rows_are_judged_by_all_their_sources(spool: Spool, journal: MemoryJournal) -> None:
    """The sources asked again are not those that the row is judged by."""
    [chunk] = planned_chunks(1, 1)
    journal.put(chunk, "spooled", {"0": answered("PG")})
    again = batch_rows(1, [retry_row(chunk, 0, ("PH",), msgspec.json.encode(answered("PG")))])
    journal.put(again, "spooled", {"0": answered("PH")})  # had it not been merged
    found = ResultReader(spool, journal, ("PG", "PH")).outcomes(chunk)
    assert [result.status for result in found.settled] == [RowStatus.PARTIAL]


def test_an_answer_that_is_gone_is_an_error(spool: Spool, journal: MemoryJournal) -> None:
    """A row is never reported as unanswered because its file was removed."""
    [chunk] = planned_chunks(1, 1)
    journal.put(chunk, "spooled", {})
    shutil.rmtree(spool.folder)
    with pytest.raises(RunError, match="answers to chunk 0 from byte 0, is missing"):
        outcomes(spool, journal, chunk)


def test_an_answer_of_another_kind_is_an_error(spool: Spool, journal: MemoryJournal) -> None:
    """Whole on disk, but no output."""
    [chunk] = planned_chunks(1, 1)
    journal.put(chunk, "spooled", ["nonsense"])
    with pytest.raises(RunError, match="answers to chunk 0 from byte 0: the output cannot be read"):
        outcomes(spool, journal, chunk)


def test_a_later_body_is_read_once_for_its_neighbours(
    spool: Spool, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand planned chunks with a row each in one later chunk do not read it as often."""
    chunks = planned_chunks(20, 1)
    for chunk in chunks:
        journal.put(chunk, "spooled", {str(chunk.index): {}})
    for index in (20, 21):
        rows = [retry_row(chunk, 0, ("PG",), b"{}") for chunk in chunks]
        journal.put(batch_rows(index, rows), "spooled", {str(row): answered() for row in range(20)})
    read: list[int] = []
    really_read = Spool.read

    def note(self: Spool, index: int, place: SpoolPlace) -> bytes:
        read.append(index)
        return really_read(self, index, place)

    monkeypatch.setattr(Spool, "read", note)
    answers = ResultReader(spool, journal, ("PG",))
    for chunk in chunks:
        assert answers.outcomes(chunk).settled[0].status is RowStatus.OK
    assert [index for index in read if index >= 20] == [20, 21]
    monkeypatch.setattr(answers_module, "KEPT_BYTES", 1)
    answers = ResultReader(spool, journal, ("PG",))
    for chunk in chunks:
        answers.outcomes(chunk)
    assert len(answers._later_bodies._bodies) == answers._later_bodies._bytes == 0


class Model:
    """Rows and what the last chunk that held them said, in plain dictionaries."""

    def __init__(self, rows: int) -> None:
        self.said: dict[int, object] = dict.fromkeys(range(rows))

    def lay(self, rows: list[int], state: str, data: dict[int, Any], body: dict[str, Any]) -> None:
        for row in rows:
            if state == "spooled":
                self.said[row] = body.get(str(row)) or data[row] or Reason.MISSING
            elif state == "failed":
                self.said[row] = data[row] or Reason.REJECTED
            elif state != "split":
                self.said[row] = None


ROWS, CHUNK_SIZE = 12, 4
STATES = st.sampled_from(["spooled", "spooled", "failed", "split", *UNFINISHED])
LAYERS = st.lists(
    st.tuples(
        STATES,
        st.sets(st.integers(0, ROWS - 1), min_size=1),  # the rows it holds
        st.sets(st.integers(0, ROWS - 1)),  # those with an answer in its body
        st.sets(st.integers(0, ROWS - 1)),  # those with earlier data
    ),
    max_size=8,
)


@given(
    planned=st.lists(STATES, min_size=3, max_size=3),
    found=st.sets(st.integers(0, ROWS - 1)),
    layers=LAYERS,
    waiting=st.sets(st.integers(0, ROWS - 1)),
)
def test_the_last_settled_chunk_speaks_for_a_row(
    planned: list[str], found: set[int], layers: list[Any], waiting: set[int]
) -> None:
    """Any layers of chunks over each other end as in a model of plain dictionaries."""
    with tempfile.TemporaryDirectory() as folder:
        spool = spool_in(Path(folder))
        journal, model = MemoryJournal(spool), Model(ROWS)
        chunks = planned_chunks(ROWS, CHUNK_SIZE)
        nothing: dict[int, Any] = dict.fromkeys(range(ROWS))
        for chunk, state in zip(chunks, planned, strict=True):
            body = {str(row): answered(of=chunk.index) for row in found.intersection(chunk.rows)}
            journal.put(chunk, state, body)
            model.lay(chunk.rows, state, nothing, body)
        for index, (state, rows, hits, known) in enumerate(layers, len(chunks)):
            data = nothing | {row: answered(before=index) for row in known}
            body = {str(row): answered(of=index) for row in hits & rows}
            later = later_chunk(index, chunks, sorted(rows), data)
            journal.put(later, state, body)
            model.lay(later.rows, state, data, body)
        journal.wait(
            {row: chunk.index for chunk in chunks for row in waiting.intersection(chunk.rows)}
        )
        answers = ResultReader(spool, journal, ("PG",))
        ends = [answers.outcomes(chunk) for chunk in chunks]
    expected = model.said | dict.fromkeys(waiting)
    for chunk, end in zip(chunks, ends, strict=True):
        settled = {row: expected[row] for row in chunk.rows if expected[row] is not None}
        assert said(end.settled) == settled
        assert [result.row for result in end.settled] == list(settled)
        assert end.unsettled == [row for row in chunk.rows if expected[row] is None]
        assert all(result.id == f"r{result.row}" for result in end.settled)


def later_chunk(index: int, chunks: list[Chunk], rows: list[int], data: dict[int, Any]) -> Chunk:
    earlier = [
        RowHistory(
            row // CHUNK_SIZE,
            1,
            None,
            b"{}" if data[row] is None else msgspec.json.encode(data[row]),
        )
        for row in rows
    ]
    locations = [chunks[row // CHUNK_SIZE].locations[row % CHUNK_SIZE] for row in rows]
    return Chunk(
        index, rows, [f"r{row}" for row in rows], SEPARATOR.join(locations), earlier=earlier
    )
