"""The journal, as those read it who have no part in the run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import ChunkState
from tests.support.journals import (
    FAILURE,
    copy_as_it_is,
    counts,
    later,
    left,
    make_journal,
    planned,
)


async def _live_a_little(journal: Journal) -> None:
    """One chunk in each state, and some later ones."""
    for index in (1, 2, 3, 4, 5):
        await journal.submitting(planned(index), charged_before=index == 2)
    for index in (2, 3, 4):
        await journal.submitted(planned(index), f"job {index}")
    await journal.completed(planned(3), ())
    await journal.completed(planned(4), ())
    await journal.spooled(4, counts(7, failed=1), [left(40), left(41), left(42)])
    await journal.batched(later(journal.next_index(), 40, 42))
    await journal.doubted(planned(5), "lost", hold=True)
    await journal.failed(6, FAILURE, counts(10, failed=10))
    await journal.split(planned(7), [later(journal.next_index(), row) for row in (70, 71)])


def _with_journal(folder: Path, work: Callable[[Journal], Awaitable[None]]) -> Path:
    async def main() -> Path:
        path = await make_journal(folder)
        async with Journal(path) as journal:
            await work(journal)
            (folder / "crash").mkdir()
            return copy_as_it_is(path, folder / "crash" / "run")

    return anyio.run(main)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return _with_journal(tmp_path, _live_a_little)


def test_what_a_run_amounts_to(path: Path) -> None:
    """After a crash, every number of the account can be read."""
    with JournalReader(path) as reader:
        totals = reader.totals()
    assert totals.planned_chunks == 10
    assert totals.chunks == {
        ChunkState.PLANNED: 3 + 3,  # untouched, and later ones
        ChunkState.SUBMITTING: 2,
        ChunkState.SUBMITTED: 1,
        ChunkState.COMPLETE: 1,
        ChunkState.SPOOLED: 1,
        ChunkState.FAILED: 1,
        ChunkState.SPLIT: 1,
    }
    assert totals.rows == Tally(rows=17, ok=6, failed=11, no_answer=11, reasons={"no_match": 11})
    assert totals.rows_waiting == 1
    assert (totals.jobs, totals.locations_charged) == (3, 30)
    assert totals.locations_possibly_charged_again == 10
    assert (totals.submissions_in_doubt, totals.submissions_held) == (1, 1)
    assert totals.submissions_unanswered == 1


def test_what_is_on_its_way(path: Path) -> None:
    """Jobs, doubts and submissions without an answer are listed, the oldest first."""
    with JournalReader(path) as reader:
        flying = reader.in_flight()
        assert [(job.index, job.job_id, job.locations) for job in flying] == [
            (2, "job 2", 10),
            (3, "job 3", 10),
        ]
        assert flying[0].charged_before
        assert reader.in_flight(1) == flying[:1]
        (doubt,) = reader.in_doubt()
        assert (doubt.index, doubt.error, doubt.held) == (5, "lost", True)
        assert [sent.index for sent in reader.unanswered()] == [1]


def test_what_became_of_a_chunk(path: Path) -> None:
    """An export finds a planned chunk's answer, later chunks and waiting rows."""
    with JournalReader(path) as reader:
        assert reader.record(0) is None
        failed = reader.record(6)
        assert failed is not None
        assert failed.failure == FAILURE
        assert [record.chunk for record in reader.later_chunks_of(4)] == [later(10, 40, 42)]
        assert [record.index for record in reader.later_chunks_of(7)] == [11, 12]
        assert reader.later_chunks_of(1) == []
        assert reader.waiting_rows(4) == {41}
        assert reader.waiting_rows(7) == set()
        assert reader.meta("planned_chunks") == 10
        assert reader.meta("nothing") is None


def test_reading_changes_nothing(path: Path) -> None:
    """Neither after a crash nor at rest does a reader change or add a file of the run's own."""

    def files() -> dict[str, bytes]:
        return {
            file.name: file.read_bytes()
            for file in path.parent.iterdir()
            if not file.name.endswith("-shm")  # SQLite's index of the WAL
        }

    def read() -> None:
        with JournalReader(path) as reader:
            reader.totals()
            reader.later_chunks_of(4)

    async def resume() -> None:
        async with Journal(path):
            pass

    before = files()
    assert len(before) == 2
    read()
    assert files() == before
    anyio.run(resume)
    before = files()
    read()
    assert files() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


READ_IT = """
import sys
from pathlib import Path
from pingdata_async.runs.journal.reader import JournalReader
with JournalReader(Path(sys.argv[1])) as reader:
    print(reader.totals().jobs)
"""


async def test_another_process_reads_while_a_run_writes(tmp_path: Path) -> None:
    """It sees what is committed, and neither waits for the other."""
    path = await make_journal(tmp_path)
    async with Journal(path) as journal:
        for index in range(3):
            await journal.submitting(planned(index), charged_before=False)
            await journal.submitted(planned(index), f"job {index}")
            done = await anyio.run_process([sys.executable, "-c", READ_IT, str(path)])
            assert int(done.stdout) == index + 1


def test_a_reader_outlives_the_writer(tmp_path: Path) -> None:
    """One that is open while a run ends reads on, and a later one finds all of it."""

    async def main() -> JournalReader:
        path = await make_journal(tmp_path)
        async with Journal(path) as journal:
            reader = await anyio.to_thread.run_sync(JournalReader(path).__enter__)
            await _live_a_little(journal)
        return reader

    reader = anyio.run(main)
    assert reader.totals().jobs == 3
    reader.__exit__(None, None, None)
    with JournalReader(tmp_path / "journal.sqlite3") as another:
        assert another.totals().jobs == 3


def test_threads_share_a_reader(path: Path) -> None:
    """Many threads may ask one reader at once."""
    with JournalReader(path) as reader, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: reader.totals().jobs, range(50)))
    assert found == [3] * 50


def test_no_run_directory(tmp_path: Path) -> None:
    """A folder without a journal is no run directory, and stays as it was."""
    with pytest.raises(RunError, match="is not a run directory"):
        JournalReader(tmp_path / "nowhere" / "journal.sqlite3").__enter__()
    assert not (tmp_path / "nowhere").exists()


def test_a_reader_is_used_inside_its_block(path: Path) -> None:
    """Outside, that is a mistake, and it is said."""
    with pytest.raises(RuntimeError, match="`with` block"):
        JournalReader(path).totals()


def test_the_shell_reads_it(path: Path) -> None:
    """Anybody's SQLite opens it: nothing in the schema needs this package."""
    code = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1])"
        ".execute('SELECT count(*) FROM submissions').fetchone()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, check=True, timeout=600
    )
    assert int(done.stdout) == 5
