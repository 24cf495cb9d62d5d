"""A chunk's part of the output: by its layout, or row by row, it is the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.checking import check_output
from pingdata_async.bulk.chunks import Chunk, Earlier, InvalidRow, Twin
from pingdata_async.bulk.later_chunks import gather, leftover
from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.models import Reason, RowStatus
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswer, CarriedAnswers
from pingdata_async.runs.rendering import Rendered, render
from pingdata_async.runs.spool import Spool
from pingdata_async.tables.jsonl import RowNote
from tests.bulk.test_layout import SOURCES, chunk_of, outputs, usual
from tests.runs.accounts import MemoryAccount

BEFORE = msgspec.structs.replace(chunk_of([1000, 1001]), copies={0: 2, 1: 1})
EARLIER_ANSWERS = {
    1000: CarriedAnswer(b'{"PG":{"is_success":true}}'),
    1001: CarriedAnswer(b"{}", RowNote(RowStatus.FAILED, Reason.MISSING, "left out")),
}
"""Of a chunk before, so that rows can repeat these."""


def rendered(folder: Path, chunk: Chunk, content: bytes, *, with_layout: bool) -> Rendered:
    """What becomes of an output that was checked and kept."""
    spool = Spool(folder / f"spool-{with_layout}")
    account = MemoryAccount(spool)
    checked = check_output(chunk, [OutputBody(content)], SOURCES, 0)
    spool._keep(chunk.index, checked.body)
    account.put(chunk, "spooled")
    layout = checked.layout if with_layout else None
    record = account.records[chunk.index]
    account.records[chunk.index] = msgspec.structs.replace(record, layout=layout)
    with CarriedAnswers(folder) as carried:
        carried.twins_of(BEFORE, EARLIER_ANSWERS)
        return render(chunk, Answers(spool, account, SOURCES), carried, finished_only=False)


@given(outputs(), st.lists(st.sampled_from([1000, 1001, 0, 1, 2]), max_size=5))
def test_both_ways_write_the_same(output: tuple[Chunk, bytes], repeated: list[int]) -> None:
    """Lines, failures and counts, with rows in between that were never sent."""
    chunk, content = output
    never = [InvalidRow(row, None, "no") for row in range(0, 33, 5) if row not in chunk.rows]
    free = (row for row in range(1, 99, 5) if row not in chunk.rows)
    firsts = [first if first >= 1000 else chunk.rows[first % len(chunk.rows)] for first in repeated]
    twins = [Twin(row, None, first, b"{}") for row, first in zip(free, firsts, strict=False)]
    here = Counter(twin.first for twin in twins)
    chunk = msgspec.structs.replace(
        chunk,
        invalid=never[:3],
        twins=twins,
        copies={place: here[row] for place, row in enumerate(chunk.rows) if here[row]},
    )
    with TemporaryDirectory() as folder:
        try:
            quick = rendered(Path(folder), chunk, content, with_layout=True)
        except DecodeError:
            return
        slow = rendered(Path(folder), chunk, content, with_layout=False)
    assert b"".join(quick.lines) == b"".join(slow.lines)
    assert quick.failures == slow.failures
    assert quick.counts == slow.counts
    written = [msgspec.json.decode(line) for line in b"".join(quick.lines).splitlines()]
    there = sorted([*chunk.rows, *(t.row for t in twins), *(i.row for i in chunk.invalid)])
    assert [line["row"] for line in written] == there
    said = {line["row"]: line for line in written}
    for twin in twins:
        line = said[twin.row]
        if twin.first == 1000:
            assert (line["status"], line["location_data"]) == ("ok", {"PG": {"is_success": True}})
        elif twin.first == 1001:
            assert (line["reason"], line["error"]) == ("missing", "left out")
        else:
            changes = {"id": str(twin.row), "row": twin.row}
            assert line == said[twin.first] | changes


def test_a_row_that_is_asked_again_is_taken_from_the_later_chunk(tmp_path: Path) -> None:
    """The layout says where the first answer is; what holds is the last one."""
    chunk, content = chunk_of([1, 2, 3]), usual([1, 2, 3])
    spool = Spool(tmp_path / "spool")
    account = MemoryAccount(spool)
    checked = check_output(chunk, [OutputBody(content)], SOURCES, 0)
    spool._keep(0, checked.body)
    account.put(chunk, "spooled")
    record = account.records[0]
    account.records[0] = msgspec.structs.replace(record, layout=checked.layout)
    answers = Answers(spool, account, SOURCES)
    assert answers.laid_out(chunk) is not None

    account.waiting[0] = {2}
    assert answers.laid_out(chunk) is None
    account.waiting.clear()
    again = gather(1, [leftover(chunk, 1, ("PG",), b"{}")])
    account.put(again, "spooled", {"2": {"PG": {"is_success": True, "late": 1}}})
    assert answers.laid_out(chunk) is None
    assert again.earlier == [Earlier(0, 1, None, b"{}", was_charged=True)]
    lines = b"".join(
        render(chunk, answers, CarriedAnswers(None), finished_only=False).lines
    ).splitlines()
    assert b'"late":1' in lines[1]


@pytest.mark.parametrize("rows", [[1, 2], [1, 2, 3, 4]])
def test_a_layout_of_another_body_is_not_believed(tmp_path: Path, rows: list[int]) -> None:
    """A spool and a journal that were mixed up: the body itself says what is in it."""
    chunk, spool = chunk_of([1, 2, 3]), Spool(tmp_path / "spool")
    account = MemoryAccount(spool)
    spool._keep(0, OutputBody(usual([1, 2, 3], name="x" * 30)))
    account.put(chunk, "spooled")
    other = check_output(chunk_of(rows), [OutputBody(usual(rows))], SOURCES, 0).layout
    account.records[0] = msgspec.structs.replace(account.records[0], layout=other)
    lines = b"".join(
        render(
            chunk, Answers(spool, account, SOURCES), CarriedAnswers(None), finished_only=False
        ).lines
    ).splitlines()
    assert [msgspec.json.decode(line)["row"] for line in lines] == [1, 2, 3]


def test_a_twin_of_a_row_without_an_outcome(tmp_path: Path) -> None:
    """Is left out of what is written meanwhile, and refused where all should be there."""
    chunk = msgspec.structs.replace(chunk_of([1, 2]), twins=[Twin(3, None, 0, b"{}")])
    spool = Spool(tmp_path / "spool")
    account = MemoryAccount(spool)
    checked = check_output(chunk, [OutputBody(usual([1, 2]))], SOURCES, 0)
    spool._keep(0, checked.body)
    account.put(chunk, "spooled")
    answers = Answers(spool, account, SOURCES)
    for layout in (checked.layout, None):
        account.records[0] = msgspec.structs.replace(account.records[0], layout=layout)
        with CarriedAnswers(tmp_path) as carried:
            part = render(chunk, answers, carried, finished_only=True)
            assert part.counts.rows == b"".join(part.lines).count(b"\n") == 2
            with pytest.raises(RunError, match=r"row 3 \(chunk 0\) has no outcome"):
                render(chunk, answers, carried, finished_only=False)


def test_answers_are_carried_where_the_run_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the system's temporary files; and where there is no room at all, that is told."""
    later = msgspec.structs.replace(chunk_of([]), twins=[Twin(2000, None, 1000, b"{}")])
    with CarriedAnswers(tmp_path / "nowhere") as carried:
        assert carried.twins_of(BEFORE, EARLIER_ANSWERS) == {}
        assert carried.twins_of(later, {}) == {0: EARLIER_ANSWERS[1000]}
        carried.begin_again()
        assert carried.twins_of(later, {}) == {}
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    with (
        CarriedAnswers(tmp_path / "nowhere") as carried,
        pytest.raises(RunError, match="answers that are wanted again cannot be kept"),
    ):
        carried.twins_of(BEFORE, EARLIER_ANSWERS)
