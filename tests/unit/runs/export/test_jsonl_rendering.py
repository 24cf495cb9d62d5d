"""A chunk's part of the output: by its offset index, or row by row, it is the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.locations.chunk import (
    Chunk,
    Duplicate,
    InvalidRow,
    RowHistory,
    batch_rows,
    retry_row,
)
from pingdata_async.models import Reason, RowStatus
from pingdata_async.results.validation import validate_output
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.jsonl import Rendered, render
from pingdata_async.runs.export.results import DuplicateAnswer, DuplicateAnswers, ResultReader
from pingdata_async.tables.writers.json import RowNote
from pingdata_async.util.encoding import EncodedBody
from tests.support.answers import MemoryJournal
from tests.unit.results.test_offset_index import SOURCES, chunk_of, outputs, usual

BEFORE = msgspec.structs.replace(chunk_of([1000, 1001]), duplicate_counts={0: 2, 1: 1})
EARLIER_ANSWERS = {
    1000: DuplicateAnswer(b'{"PG":{"is_success":true}}'),
    1001: DuplicateAnswer(b"{}", RowNote(RowStatus.FAILED, Reason.MISSING, "left out")),
}
"""Of a chunk before, so that rows can repeat these."""


def rendered(folder: Path, chunk: Chunk, content: bytes, *, with_index: bool) -> Rendered:
    """What becomes of an output that was checked and kept."""
    spool = Spool(folder / f"spool-{with_index}")
    journal = MemoryJournal(spool)
    checked = validate_output(chunk, [EncodedBody(content)], SOURCES, 0)
    journal.keep(chunk.index, checked.body)
    journal.put(chunk, "spooled", offset_index=checked.offset_index if with_index else None)
    with DuplicateAnswers(folder) as duplicate_answers:
        duplicate_answers.duplicates_of(BEFORE, EARLIER_ANSWERS)
        settled = ResultReader(spool, journal, SOURCES).settled(chunk)
        return render(settled, duplicate_answers)


@given(outputs(), st.lists(st.sampled_from([1000, 1001, 0, 1, 2]), max_size=5))
def test_both_ways_write_the_same(output: tuple[Chunk, bytes], repeated: list[int]) -> None:
    """Lines, failures and counts, with rows in between that were never sent."""
    chunk, content = output
    never = [InvalidRow(row, None, "no") for row in range(0, 33, 5) if row not in chunk.rows]
    free = (row for row in range(1, 99, 5) if row not in chunk.rows)
    firsts = [first if first >= 1000 else chunk.rows[first % len(chunk.rows)] for first in repeated]
    duplicates = [
        Duplicate(row, None, first, b"{}") for row, first in zip(free, firsts, strict=False)
    ]
    here = Counter(duplicate.first for duplicate in duplicates)
    chunk = msgspec.structs.replace(
        chunk,
        invalid=never[:3],
        duplicates=duplicates,
        duplicate_counts={place: here[row] for place, row in enumerate(chunk.rows) if here[row]},
    )
    with TemporaryDirectory() as folder:
        try:
            quick = rendered(Path(folder), chunk, content, with_index=True)
        except DecodeError:
            return
        slow = rendered(Path(folder), chunk, content, with_index=False)
    assert b"".join(quick.lines) == b"".join(slow.lines)
    assert quick.failures == slow.failures
    assert quick.counts == slow.counts
    written = [msgspec.json.decode(line) for line in b"".join(quick.lines).splitlines()]
    there = sorted([*chunk.rows, *(t.row for t in duplicates), *(i.row for i in chunk.invalid)])
    assert [line["row"] for line in written] == there
    said = {line["row"]: line for line in written}
    for duplicate in duplicates:
        line = said[duplicate.row]
        if duplicate.first == 1000:
            assert (line["status"], line["location_data"]) == ("ok", {"PG": {"is_success": True}})
        elif duplicate.first == 1001:
            assert (line["reason"], line["error"]) == ("missing", "left out")
        else:
            changes = {"id": str(duplicate.row), "row": duplicate.row}
            assert line == said[duplicate.first] | changes


def test_a_row_that_is_asked_again_is_taken_from_the_later_chunk(tmp_path: Path) -> None:
    """The offset index says where the first answer is; what holds is the last one."""
    chunk, content = chunk_of([1, 2, 3]), usual([1, 2, 3])
    spool = Spool(tmp_path / "spool")
    journal = MemoryJournal(spool)
    checked = validate_output(chunk, [EncodedBody(content)], SOURCES, 0)
    journal.keep(0, checked.body)
    journal.put(chunk, "spooled", offset_index=checked.offset_index)
    answers = ResultReader(spool, journal, SOURCES)
    assert answers.indexed(chunk) is not None

    journal.wait({2: 0})
    assert answers.indexed(chunk) is None
    journal.wait({})
    again = batch_rows(1, [retry_row(chunk, 1, ("PG",), b"{}")])
    journal.put(again, "spooled", {"2": {"PG": {"is_success": True, "late": 1}}})
    assert answers.indexed(chunk) is None
    assert again.earlier == [RowHistory(0, 1, None, b"{}", was_charged=True)]
    lines = b"".join(render(answers.settled(chunk), DuplicateAnswers(None)).lines).splitlines()
    assert b'"late":1' in lines[1]


@pytest.mark.parametrize("rows", [[1, 2], [1, 2, 3, 4]])
def test_an_offset_index_of_another_body_is_not_believed(tmp_path: Path, rows: list[int]) -> None:
    """A spool and a journal that were mixed up: the body itself says what is in it."""
    chunk, spool = chunk_of([1, 2, 3]), Spool(tmp_path / "spool")
    journal = MemoryJournal(spool)
    journal.keep(0, EncodedBody(usual([1, 2, 3], name="x" * 30)))
    other = validate_output(chunk_of(rows), [EncodedBody(usual(rows))], SOURCES, 0).offset_index
    journal.put(chunk, "spooled", offset_index=other)
    lines = b"".join(
        render(ResultReader(spool, journal, SOURCES).settled(chunk), DuplicateAnswers(None)).lines
    ).splitlines()
    assert [msgspec.json.decode(line)["row"] for line in lines] == [1, 2, 3]


def test_a_twin_of_a_row_without_an_outcome(tmp_path: Path) -> None:
    """Is left out of what is written meanwhile, and refused where all should be there."""
    chunk = msgspec.structs.replace(chunk_of([1, 2]), duplicates=[Duplicate(3, None, 0, b"{}")])
    spool = Spool(tmp_path / "spool")
    journal = MemoryJournal(spool)
    checked = validate_output(chunk, [EncodedBody(usual([1, 2]))], SOURCES, 0)
    journal.keep(0, checked.body)
    answers = ResultReader(spool, journal, SOURCES)
    for offset_index in (checked.offset_index, None):
        journal.put(chunk, "spooled", offset_index=offset_index)
        with DuplicateAnswers(tmp_path) as duplicate_answers:
            part = render(answers.settled(chunk), duplicate_answers, finished_only=True)
            assert part.counts.rows == b"".join(part.lines).count(b"\n") == 2
            with pytest.raises(RunError, match=r"row 3 \(chunk 0\) has no outcome"):
                render(answers.settled(chunk), duplicate_answers)


def test_answers_are_carried_where_the_run_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the system's temporary files; and where there is no room at all, that is told."""
    later = msgspec.structs.replace(chunk_of([]), duplicates=[Duplicate(2000, None, 1000, b"{}")])
    with DuplicateAnswers(tmp_path / "nowhere") as duplicate_answers:
        assert duplicate_answers.duplicates_of(BEFORE, EARLIER_ANSWERS) == {}
        assert duplicate_answers.duplicates_of(later, {}) == {0: EARLIER_ANSWERS[1000]}
        duplicate_answers.clear()
        assert duplicate_answers.duplicates_of(later, {}) == {}
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    with (
        DuplicateAnswers(tmp_path / "nowhere") as duplicate_answers,
        pytest.raises(RunError, match="answers that are wanted again cannot be kept"),
    ):
        duplicate_answers.duplicates_of(BEFORE, EARLIER_ANSWERS)
