"""How the journal's callers share commits, and what a kill or a cancellation leaves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal import schema as journal_schema
from pingdata_async.runs.journal.journal import BUSY_COMMIT_EVERY_S, GroupWriter, Journal
from pingdata_async.runs.journal.records import ChunkState, code_of
from tests.support.journals import (
    connection_of,
    copy_as_it_is,
    counts,
    later,
    make_journal,
    planned,
    states_of,
    submit,
    totals_of,
)
from tests.support.sweeps import sampled


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return await make_journal(tmp_path)


async def test_an_intent_is_on_disk_when_it_is_acknowledged(path: Path, tmp_path: Path) -> None:
    """What a crash right after each call would leave has what the call said."""
    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=False)
        first = copy_as_it_is(path, tmp_path / "first")
        await journal.submitted(planned(0), "job 0")
        second = copy_as_it_is(path, tmp_path / "second")
    async with Journal(first) as journal:
        assert await states_of(journal) == {0: ChunkState.SUBMITTING}
    async with Journal(second) as journal:
        assert await states_of(journal) == {0: ChunkState.SUBMITTED}


async def test_one_wrong_operation_spoils_no_other(path: Path) -> None:
    """In a batch, only the caller that was wrong gets an error."""
    errors: list[int] = []

    async def try_to_submit(journal: Journal, index: int) -> None:
        try:
            await journal.submitting(planned(index), charged_before=False)
        except RunError:
            errors.append(index)

    async with Journal(path) as journal:
        await journal.submitting(planned(4), charged_before=False)
        async with anyio.create_task_group() as tasks:
            for index in range(8):
                tasks.start_soon(try_to_submit, journal, index)
        assert set(await states_of(journal)) == set(range(8))
    assert errors == [4]


async def test_a_part_that_is_there_already_undoes_the_split(path: Path) -> None:
    """All of a split happens, or nothing of it."""
    async with Journal(path) as journal:
        await journal.split(planned(0), [later(10, 0)])
        with pytest.raises(RunError, match="refused an entry"):
            await journal.split(planned(1), [later(11, 10), later(10, 11)])
        with pytest.raises(RunError, match="does not know where it is from"):
            await journal.split(planned(1), [planned(12)])
        assert await states_of(journal) == {0: ChunkState.SPLIT}
        assert await journal.record(11) is None


async def test_only_many_callers_wait_for_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, none is held up; side by side, there are few commits."""
    pauses: list[float] = []
    batches: list[int] = []
    sleep, write = anyio.sleep, GroupWriter._write

    async def noted_sleep(delay_s: float) -> None:
        pauses.append(delay_s)
        await sleep(delay_s)

    async def noted_write(writer: GroupWriter, batch: Any) -> None:
        batches.append(len(batch.operations))
        await write(writer, batch)

    monkeypatch.setattr(GroupWriter, "_write", noted_write)
    async with Journal(path) as journal:
        monkeypatch.setattr("pingdata_async.runs.journal.journal.anyio.sleep", noted_sleep)
        for index in range(5):
            await submit(journal, index)
        assert not pauses
        assert set(batches) == {1}
        batches.clear()
        async with anyio.create_task_group() as tasks:
            for index in range(5, 10):
                tasks.start_soon(submit, journal, index)
        assert sum(batches) == 2 * 5
        assert len(batches) < 5
        assert all(0.0 < pause_s <= BUSY_COMMIT_EVERY_S for pause_s in pauses)


async def test_many_callers_share_a_commit(path: Path) -> None:
    """Sixteen tasks need a fraction of the commits that one after the other would."""
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    async def live(journal: Journal, index: int) -> None:
        await submit(journal, index)
        await journal.completed(planned(index), ())
        await journal.spooled(index, counts(10))

    async with Journal(path) as journal:
        await journal.set_planned_chunks(160)
        connection_of(journal).set_trace_callback(count)
        for begin in range(0, 160, 16):
            async with anyio.create_task_group() as tasks:
                for index in range(begin, begin + 16):
                    tasks.start_soon(live, journal, index)
        connection_of(journal).set_trace_callback(None)
    assert commits <= 160 * 3 / 5
    assert (await totals_of(path)).chunks[ChunkState.SPOOLED] == 160


async def test_a_note_makes_no_commit_of_its_own(path: Path) -> None:
    """That a job is done is written with the next commit."""
    async with Journal(path) as journal:
        await submit(journal, 0)
        changes = connection_of(journal).total_changes
        await journal.completed(planned(0), ())
        assert connection_of(journal).total_changes == changes
        await journal.submitting(planned(1), charged_before=False)
        assert (await states_of(journal))[0] is ChunkState.COMPLETE


async def test_a_wrong_note_is_told_when_the_journal_closes(path: Path) -> None:
    """A note that is no legal change spoils nothing, and is not lost."""
    journal = await Journal(path).__aenter__()
    await journal.completed(planned(0), ())
    await submit(journal, 1)
    with pytest.raises(RunError, match="chunk 0 is planned and cannot become complete"):
        await journal.__aexit__(None, None, None)
    assert (await totals_of(path)).jobs == 1


async def test_a_cancelled_caller_leaves_no_half(path: Path) -> None:
    """What was begun is committed, whether its caller is cancelled before or while it waits."""
    async with Journal(path) as journal:
        async with anyio.create_task_group() as tasks:
            for index in range(5):
                tasks.start_soon(submit, journal, index)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        states = await states_of(journal)
        assert set(states) == set(range(5))
        await submit(journal, 9)
        assert (await states_of(journal))[9] is ChunkState.SUBMITTED


async def test_a_task_that_asyncio_cancels_leaves_no_half(path: Path) -> None:
    """Also where no shield helps, a commit ends before the next begins."""
    async with Journal(path) as journal:
        tasks = [asyncio.create_task(submit(journal, index)) for index in range(5)]
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await submit(journal, 9)
        states = await states_of(journal)
    assert {1, 2, 4, 9} <= {i for i, state in states.items() if state is ChunkState.SUBMITTED}


WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
import anyio
from pingdata_async.locations.chunk import Chunk
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.journal import BUSY_COMMIT_EVERY_S, GroupWriter
from tests.support.chunks import body_of

async def write(journal, begin):
    for index in range(begin, 100_000, 4):
        chunk = Chunk(index, [index], [None], body_of([index]))
        await journal.submitting(chunk, charged_before=False)
        print("submitting", index, flush=True)
        await journal.submitted(chunk, "job")
        print("submitted", index, flush=True)

async def main():
    async with Journal(Path(sys.argv[1])) as journal:
        async with anyio.create_task_group() as tasks:
            for begin in range(4):
                tasks.start_soon(write, journal, begin)

anyio.run(main)
"""


@pytest.mark.parametrize("lines", sampled([2, 50, 1, 333], 2))
def test_a_killed_process_has_kept_its_word(tmp_path: Path, lines: int) -> None:
    """After kill -9, whatever was acknowledged is in the journal."""
    path = anyio.run(make_journal, tmp_path, 100_000)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()

    async def states() -> bytearray:
        async with Journal(path) as journal:
            return await journal.planned_states()

    found = anyio.run(states)
    assert len(said) >= lines
    for line in said:
        if line.endswith(b"\n"):
            state, index = line.split()
            assert found[int(index)] >= code_of(ChunkState(state.decode()))
    assert sum(map(bool, found)) <= len(said) + 4


async def test_each_commit_is_on_the_disk_itself(tmp_path: Path) -> None:
    """A power cut takes nothing back: SQLite syncs at every commit of a write-ahead log."""
    path = await make_journal(tmp_path, 1)

    def settings() -> tuple[str, int]:
        connection = journal_schema.open_writer(path)
        try:
            [mode] = connection.execute("PRAGMA journal_mode").fetchone()
            [synchronous] = connection.execute("PRAGMA synchronous").fetchone()
        finally:
            connection.close()
        return mode, synchronous

    full = 2  # as SQLite numbers FULL
    assert await anyio.to_thread.run_sync(settings) == ("wal", full)
