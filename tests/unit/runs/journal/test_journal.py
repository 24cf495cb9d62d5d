"""The journal, as a run writes it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.records import ChunkState
from tests.support.journals import (
    FAILURE,
    counts,
    later,
    left,
    make_journal,
    planned,
    states_of,
    submit,
    totals_of,
)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return await make_journal(tmp_path)


async def test_a_chunks_life_outlives_the_process(path: Path) -> None:
    """Each step is there when the journal is opened again, and nothing else is."""
    async with Journal(path) as journal:
        await journal.submitting(planned(1), charged_before=False)
    async with Journal(path) as journal:
        assert await states_of(journal) == {1: ChunkState.SUBMITTING}
        await journal.submitted(planned(1), "job 1")
    async with Journal(path) as journal:
        record = await journal.record(1)
        assert record is not None
        assert (record.state, record.job_id, record.jobs) == (ChunkState.SUBMITTED, "job 1", 1)
        assert record.charged_before
        await journal.completed(planned(1), ())
    async with Journal(path) as journal:
        assert await states_of(journal) == {1: ChunkState.COMPLETE}
        await journal.completed(planned(1), ())  # after a restart it is told again
        await journal.spooled(1, counts(10, failed=2))
    async with Journal(path) as journal:
        record = await journal.record(1)
        assert record is not None
        assert (record.state, record.tally) == (ChunkState.SPOOLED, counts(10, failed=2))
        assert await journal.record(2) is None
    totals = await totals_of(path)
    assert (totals.jobs, totals.locations_charged, totals.submissions_unanswered) == (1, 10, 0)


async def test_a_refused_submission_costs_nothing(path: Path) -> None:
    """It is removed from the account, and the chunk waits again."""
    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=True)
        await journal.refused(planned(0))
        assert await states_of(journal) == {0: ChunkState.PLANNED}
    totals = await totals_of(path)
    assert totals.locations_possibly_charged_again == 0
    assert (totals.submissions_in_doubt, totals.submissions_unanswered, totals.jobs) == (0, 0, 0)


async def test_a_doubt_is_counted_for_ever(path: Path) -> None:
    """Sent again after a doubt, its locations may have been charged twice."""
    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=False)
        await journal.doubted(planned(0), "connection lost", hold=False)
        record = await journal.record(0)
        assert record is not None
        assert (record.state, record.doubts, record.charged_before) == ("planned", 1, True)
        await journal.submitting(planned(0), charged_before=True)
        await journal.submitted(planned(0), "job")
    totals = await totals_of(path)
    assert (totals.submissions_in_doubt, totals.jobs, totals.locations_charged) == (1, 1, 10)
    assert totals.locations_possibly_charged_again == 10


async def test_a_held_doubt_stays_until_it_is_let_go(path: Path) -> None:
    """Held, it is not sent again; let go, it is planned; it is counted once."""
    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=False)
        await journal.doubted(planned(0), "connection lost", hold=True)
    for hold, state in ((True, ChunkState.SUBMITTING), (False, ChunkState.PLANNED)):
        async with Journal(path) as journal:
            assert await journal.doubt_interrupted(hold=hold) == []
            record = await journal.record(0)
            assert record is not None
            assert (record.state, record.held, record.doubts) == (state, hold, 1)
    assert (await totals_of(path)).submissions_in_doubt == 1


@pytest.mark.parametrize("hold", [True, False])
async def test_what_was_being_sent_is_in_doubt_after_a_crash(path: Path, hold: bool) -> None:
    """It is counted once, however often it is said; what has a job is left alone."""
    async with Journal(path) as journal:
        await journal.submitting(planned(3), charged_before=True)
        await submit(journal, 4)
    for times in range(2):
        async with Journal(path) as journal:
            doubts = await journal.doubt_interrupted(hold=hold)
            assert [(d.index, d.locations, d.charged_before) for d in doubts] == (
                [(3, 10, True)] if times == 0 else []
            )
            states = await states_of(journal)
    assert states == {
        3: ChunkState.SUBMITTING if hold else ChunkState.PLANNED,
        4: ChunkState.SUBMITTED,
    }
    totals = await totals_of(path)
    assert (totals.submissions_in_doubt, totals.submissions_held) == (1, int(hold))
    assert totals.submissions_unanswered == 0


async def test_a_lost_job_stays_on_the_bill(path: Path) -> None:
    """The chunk waits again, and the job that was lost is still counted."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        await journal.job_lost(planned(0), "unknown job")
        record = await journal.record(0)
        assert record is not None
        assert (record.state, record.job_id, record.jobs) == (ChunkState.PLANNED, "", 1)
        await submit(journal, 0)
        await journal.job_lost(planned(0), "unknown job")
        await journal.failed(0, FAILURE, counts(10, failed=10))
        record = await journal.record(0)
        assert record is not None
        assert (record.state, record.failure, record.jobs) == (ChunkState.FAILED, FAILURE, 2)
    totals = await totals_of(path)
    assert (totals.jobs, totals.locations_charged, totals.rows.no_answer) == (2, 20, 10)


async def test_parts_take_a_chunks_place(path: Path) -> None:
    """They are there with their content, and know that their rows were charged."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        parts = [later(journal.next_index(), 0, 1), later(journal.next_index(), 2, 3)]
        assert [part.index for part in parts] == [10, 11]
        await journal.split(planned(0), parts)
    async with Journal(path) as journal:
        assert await states_of(journal) == {0: ChunkState.SPLIT}
        records = [record async for record in journal.unfinished()]
        assert [record.chunk for record in records] == parts
        assert all(record.charged_before and not record.jobs for record in records)
        assert journal.next_index() == 12


async def test_rows_wait_and_become_a_chunk(path: Path) -> None:
    """Rows without an outcome are in exactly one place: waiting, or in a later chunk."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        await journal.completed(planned(0), ())
        await journal.spooled(0, counts(8), [left(3), left(7)])
        assert (await totals_of(path)).rows_waiting == 2
        await journal.batched(later(journal.next_index(), 3, 7))
        assert (await totals_of(path)).rows_waiting == 0
        with pytest.raises(RunError, match="2 rows, of which 0 were waiting"):
            await journal.batched(later(journal.next_index(), 3, 7))
        records = [record async for record in journal.unfinished()]
        assert [record.index for record in records] == [10]
        assert not records[0].charged_before


async def test_waiting_rows_are_packed_after_a_crash(path: Path) -> None:
    """All of them come into chunks of the size asked for, by number and by bytes."""
    async with Journal(path) as journal:
        await submit(journal, 0, 1)
        await journal.completed(planned(0), ())
        await journal.completed(planned(1), ())
        await journal.spooled(0, counts(5), [left(row) for row in range(5)])
        await journal.spooled(1, counts(5), [left(row) for row in range(10, 15)])
    async with Journal(path) as journal:
        assert await journal.pack_retry_rows(4) == 3
        assert await journal.pack_retry_rows(4) == 0
        chunks = [record.chunk async for record in journal.unfinished()]
        assert [chunk.rows for chunk in chunks if chunk is not None] == [
            [0, 1, 2, 3],
            [4, 10, 11, 12],
            [13, 14],
        ]
        assert await journal.reopen([left(20), left(21)], counts(2, failed=2)) == 2
        assert await journal.pack_retry_rows(4, max_chunk_bytes=1) == 2  # one each, at least


async def test_a_retry_takes_rows_back_from_the_counts(path: Path) -> None:
    """They count as if they had never ended; said again, that changes nothing."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        await journal.completed(planned(0), ())
        await journal.spooled(0, counts(10, failed=3))
        for fresh in (2, 0):
            assert await journal.reopen([left(1), left(2)], counts(2, failed=2)) == fresh
        assert (await totals_of(path)).rows == counts(8, failed=1)
        with pytest.raises(RunError, match="1 rows wait already"):
            await journal.reopen([left(2), left(3)], counts(2, failed=2))
        totals = await totals_of(path)
        assert (totals.rows, totals.rows_waiting) == (counts(8, failed=1), 2)


async def test_unfinished_chunks_come_paid_ones_first(path: Path) -> None:
    """First those with jobs, then later ones; what begins meanwhile does not come."""
    async with Journal(path) as journal:
        await submit(journal, 0, 5)
        await journal.completed(planned(5), ())
        await journal.split(planned(1), [later(journal.next_index(), row) for row in range(40)])
        await submit(journal, 2)
        seen: list[int] = []
        async for record in journal.unfinished():
            if not seen:
                await submit(journal, 8)
                await journal.split(planned(9), [later(journal.next_index(), 90)])
                await journal.job_lost(planned(2), "lost")
            seen.append(record.index)
    assert seen == [0, 2, 5, *range(10, 50)]


@pytest.mark.parametrize("state", ["spooled", "failed", "split"])
async def test_an_end_is_an_end(path: Path, state: str) -> None:
    """Nothing can happen to a chunk at an end, and trying changes nothing."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        await journal.completed(planned(0), ())
        if state == "spooled":
            await journal.spooled(0, counts(10))
        elif state == "failed":
            await journal.failed(0, FAILURE, counts(10, failed=10))
        else:
            await journal.split(planned(0), [later(journal.next_index(), 0)])
        before = await journal.record(0), await totals_of(path)
        for call in (
            journal.submitting(planned(0), charged_before=False),
            journal.refused(planned(0)),
            journal.submitted(planned(0), "other"),
            journal.doubted(planned(0), "", hold=False),
            journal.job_lost(planned(0), ""),
            journal.split(planned(0), [later(99, 0)]),
            journal.spooled(0, counts(10), [left(1)]),
            journal.failed(0, FAILURE, counts(10)),
        ):
            with pytest.raises(RunError, match="chunk 0 is"):
                await call
        assert (await journal.record(0), await totals_of(path)) == before


async def test_wrong_calls_before_an_answer(path: Path) -> None:
    """A doubt or a refusal needs a submission on its way, and a lost job needs a job."""
    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=False)
        with pytest.raises(RunError, match="no job to be lost"):
            await journal.job_lost(planned(0), "")
        await journal.doubted(planned(0), "lost", hold=True)
        with pytest.raises(RunError, match="in doubt already"):
            await journal.doubted(planned(0), "lost", hold=True)
        with pytest.raises(RunError, match="in doubt already"):
            await journal.refused(planned(0))
        await submit(journal, 1)
        with pytest.raises(RunError, match="not being submitted"):
            await journal.refused(planned(1))
        with pytest.raises(RunError, match="not being submitted"):
            await journal.doubted(planned(1), "lost", hold=False)
        with pytest.raises(RunError, match="knows no chunk 10"):
            await journal.submitting(planned(10), charged_before=False)


async def test_values_by_name(path: Path) -> None:
    """Whatever JSON can hold is kept under a name."""
    async with Journal(path) as journal:
        await journal.set_meta("identity", {"sources": ["PG"], "size": 1})
        await journal.set_meta("identity", {"sources": ["PH"]})
        assert await journal.get_meta("nothing") is None
    async with Journal(path) as journal:
        assert await journal.get_meta("identity") == {"sources": ["PH"]}


async def test_the_plan_cannot_change_under_a_run(path: Path) -> None:
    """The number of planned chunks is fixed once one of them was sent."""
    async with Journal(path) as journal:
        await journal.set_planned_chunks(12)
        assert journal.next_index() == 12
        await journal.submitting(planned(0), charged_before=False)
        await journal.set_planned_chunks(12)
        with pytest.raises(RunError, match="13 chunks, but 12"):
            await journal.set_planned_chunks(13)


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """The journal and all that SQLite puts beside it are for the owner alone."""
    before = os.umask(0)
    try:
        path = await make_journal(tmp_path)
        async with Journal(path) as journal:
            await submit(journal, 0)
            files = sorted(tmp_path.glob(f"{path.name}*"))
            assert [file.name[len(path.name) :] for file in files] == ["", "-shm", "-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)
    assert sorted(tmp_path.glob(f"{path.name}*")) == [path]  # at rest it is one file


async def test_a_journal_is_used_inside_its_block(path: Path) -> None:
    """Outside, that is a mistake, and it is said."""
    with pytest.raises(RuntimeError, match="async with"):
        await Journal(path).get_meta("x")
