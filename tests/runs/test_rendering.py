"""A chunk's part of the output: by its layout, or row by row, it is the same."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.checking import check_output
from pingdata_async.bulk.chunking import Chunk, Earlier, InvalidRow
from pingdata_async.bulk.later_chunks import gather, leftover
from pingdata_async.exceptions import DecodeError
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswers
from pingdata_async.runs.rendering import Rendered, render
from pingdata_async.runs.spool import Spool
from tests.bulk.test_layout import SOURCES, chunk_of, outputs, usual
from tests.runs.accounts import MemoryAccount


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
    return render(
        chunk, Answers(spool, account, SOURCES), CarriedAnswers(None), finished_only=False
    )


@given(outputs())
def test_both_ways_write_the_same(output: tuple[Chunk, bytes]) -> None:
    """Lines, failures and counts, with rows in between that were never sent."""
    chunk, content = output
    never = [InvalidRow(row, None, "no") for row in range(0, 33, 5) if row not in chunk.rows]
    chunk = msgspec.structs.replace(chunk, invalid=never[:3])
    with TemporaryDirectory() as folder:
        try:
            quick = rendered(Path(folder), chunk, content, with_layout=True)
        except DecodeError:
            return
        slow = rendered(Path(folder), chunk, content, with_layout=False)
    assert b"".join(quick.lines) == b"".join(slow.lines)
    assert quick.failures == slow.failures
    assert quick.counts == slow.counts


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
