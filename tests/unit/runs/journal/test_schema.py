"""Journals that are damaged, foreign, of another version, or on a disk that is full."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal import schema as journal_schema
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import ChunkState, code_of
from tests.support.journals import copy_as_it_is, counts, left, make_journal, planned


async def _filled(folder: Path) -> Path:
    path = await make_journal(folder, 400)
    async with Journal(path) as journal, anyio.create_task_group() as tasks:
        for index in range(400):
            tasks.start_soon(_answered, journal, index)
    return path


async def _answered(journal: Journal, index: int) -> None:
    await journal.submitting(planned(index), charged_before=False)
    await journal.submitted(planned(index), f"job {index}")
    await journal.completed(planned(index), ())
    await journal.spooled(index, counts(9), [left(index * 10)])


def _open_both_ways(path: Path) -> list[str]:
    """What is said when a run, and when a reader, opens a journal and reads it through."""

    async def write() -> None:
        async with Journal(path):
            pass

    messages = []
    with pytest.raises(RunError) as refusal:
        anyio.run(write)
    messages.append(str(refusal.value))
    try:
        with JournalReader(path) as reader:
            reader.totals()
            reader.in_flight()
    except RunError as error:
        messages.append(str(error))
    return messages


def _zero_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2 // 4096 * 4096
    return content[:middle] + bytes(4096 * 4) + content[middle + 4096 * 4 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _content: b"", id="empty"),
        pytest.param(lambda content: content[:10], id="cut in the head"),
        pytest.param(lambda content: content[:5000], id="cut in the second page"),
        pytest.param(lambda content: content[: len(content) // 2], id="cut in halves"),
        pytest.param(lambda content: content[:-4096], id="without the last page"),
        pytest.param(lambda content: b"\0" * 100 + content[100:], id="without a head"),
        pytest.param(_zero_the_middle, id="zeroes in the middle"),
        pytest.param(lambda content: b"row,address\n" + content, id="no database"),
    ],
)
def test_a_damaged_journal_is_left_as_it_is(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """The message names it and what to do, and not a byte of it is changed."""
    path = anyio.run(_filled, tmp_path)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for message in _open_both_ways(path):
        assert f"the journal {path} is damaged" in message
        assert "nothing was changed" in message
        assert "\n" not in message
    assert path.read_bytes() == damaged
    assert sorted(tmp_path.glob(f"{path.name}*")) == [path]


def test_a_wal_that_was_cut_loses_only_its_end(tmp_path: Path) -> None:
    """What a crash cut off is gone as a whole commit; what was before it is there."""

    async def crash() -> Path:
        path = await make_journal(tmp_path)
        async with Journal(path) as journal:
            await journal.submitting(planned(0), charged_before=False)
            await journal.submitted(planned(0), "job")
            return copy_as_it_is(path, tmp_path / "copy")

    async def states(path: Path) -> bytearray:
        async with Journal(path) as journal:
            return await journal.planned_states()

    path = anyio.run(crash)
    wal = path.with_name(f"{path.name}-wal")
    wal.write_bytes(wal.read_bytes()[:-100])
    assert anyio.run(states, path)[0] == code_of(ChunkState.SUBMITTING)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    """Another program's database is not touched."""
    path = tmp_path / "journal.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    for message in _open_both_ways(path):
        assert "is not a journal of pingdata-async" in message
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "DROP TABLE meta; CREATE VIEW meta AS WITH RECURSIVE endless(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM endless)"
            " SELECT 'k' || n AS key, n AS value FROM endless",
            id="an endless view",
        ),
        pytest.param(
            "CREATE TRIGGER more AFTER INSERT ON submissions BEGIN DELETE FROM chunks; END",
            id="a trigger",
        ),
        pytest.param("CREATE TABLE other (x)", id="another table"),
        pytest.param("DROP INDEX retry_rows_by_planned_chunk", id="no index"),
        pytest.param("CREATE INDEX i ON chunks (abs(idx))", id="an index of an expression"),
        pytest.param("ALTER TABLE chunks ADD COLUMN x AS (abs(idx))", id="a computed column"),
    ],
)
def test_only_the_tables_that_a_run_makes_are_read(tmp_path: Path, statements: str) -> None:
    """Views, triggers and the like are somebody else's SQL, and may never come to an end."""
    path = anyio.run(make_journal, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    before = path.read_bytes()
    messages = _open_both_ways(path)
    assert len(messages) == 2
    for message in messages:
        assert "has other tables than a run makes" in message
    with pytest.raises(RunError, match="other tables"):
        JournalReader(path, at_a_glance=True).__enter__()
    assert path.read_bytes() == before


def test_a_tree_that_leads_back_into_itself_is_damage(tmp_path: Path) -> None:
    """It could be read for ever; where a run is at work, that has looked."""
    path = anyio.run(_filled, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'submissions'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    page = memoryview(content)[(root - 1) * 4096 : root * 4096]
    assert page[0] == 5  # an inner page of a table
    cells = [int.from_bytes(page[place : place + 2]) for place in (12, 14)]
    page[cells[1] : cells[1] + 4] = page[cells[0] : cells[0] + 4]  # both have the same child
    path.write_bytes(content)
    assert ["is damaged" in message for message in _open_both_ways(path)] == [True, True]


def test_a_glance_at_a_journal_comes_to_an_end(tmp_path: Path) -> None:
    """Where tables without number are described, reading them is broken off."""
    path = anyio.run(make_journal, tmp_path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA writable_schema = ON")  # to create so many would take long
        connection.execute(
            "WITH RECURSIVE numbers(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 12000)"
            " INSERT INTO sqlite_schema"
            " SELECT 'table', 't' || n, 't' || n, rootpage, 'CREATE TABLE t' || n || ' (x)'"
            " FROM numbers, sqlite_schema WHERE name = 't'"
        )
    with pytest.raises(RunError, match=r"damaged|other tables"):
        JournalReader(path, at_a_glance=True).__enter__()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chunks SET state = 'lost in space' WHERE idx = 7",
        "UPDATE chunks SET tally = '{' WHERE idx = 7",
        "UPDATE meta SET value = '[' WHERE key = 'planned_chunks'",
    ],
)
def test_values_that_no_run_writes_are_damage(tmp_path: Path, statement: str) -> None:
    """Told in one line, by readers and by a run."""
    path = anyio.run(_filled, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(RunError, match="damaged"), JournalReader(path) as reader:
        reader.totals()


@pytest.mark.parametrize("version", [0, 99])
def test_a_journal_of_another_version_is_refused(tmp_path: Path, version: int) -> None:
    """It is not touched; the message says so."""
    path = anyio.run(make_journal, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    messages = _open_both_ways(path)
    assert len(messages) == 2
    for message in messages:
        assert f"another version of pingdata-async (journal version {version}," in message
    assert path.read_bytes() == before


def test_a_missing_journal_is_never_made_anew(tmp_path: Path) -> None:
    """Without one there is no run: making one would pay for everything again."""
    messages = _open_both_ways(tmp_path / "journal.sqlite3")
    assert len(messages) == 2
    for message in messages:
        assert f"{tmp_path} is not a run directory" in message
    assert not list(tmp_path.glob("journal*"))


def test_a_journal_is_never_made_over_another(tmp_path: Path) -> None:
    """Making one where one is, is refused."""
    path = anyio.run(make_journal, tmp_path)
    before = path.read_bytes()

    with pytest.raises(RunError, match="exists already"):
        anyio.run(make_journal, tmp_path)
    assert path.read_bytes() == before


def test_a_file_system_that_cannot_share_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where WAL is refused, the message says where to put the run."""
    path = anyio.run(make_journal, tmp_path)

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if "journal_mode = WAL" in sql:
                return super().execute("PRAGMA journal_mode = DELETE")
            return super().execute(sql, *args)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *args, **options: connect(*args, factory=Refusing, **options),
    )
    assert "use --run-dir on a local disk" in _open_both_ways(path)[0]


@pytest.mark.parametrize("name", ["SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHMMAP", "SQLITE_PROTOCOL"])
def test_locking_errors_of_network_file_systems(tmp_path: Path, name: str) -> None:
    """They are told from a disk that fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    error.sqlite_errorcode = int(getattr(sqlite3, name))
    with (
        pytest.raises(RunError, match="use --run-dir on a local disk"),
        journal_schema.translated(tmp_path),
    ):
        raise error


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """Each caller of the batch is told; with room again it goes on, and notes are not lost."""
    path = await make_journal(tmp_path, 1000)
    refused: list[str] = []

    async def submit(journal: Journal, index: int) -> None:
        try:
            await journal.submitting(planned(index), charged_before=False)
        except RunError as error:
            refused.append(str(error))

    async with Journal(path) as journal:
        await journal.submitting(planned(0), charged_before=False)
        await journal.submitted(planned(0), "job")
        await journal.completed(planned(0), ())
        assert journal._writer is not None
        connection = journal._writer._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        async with anyio.create_task_group() as tasks:
            for index in range(1, 1000):
                tasks.start_soon(submit, journal, index)
        assert len(refused) > 100
        assert all("the disk is full; make room, then resume" in said for said in refused)
        connection.execute("PRAGMA max_page_count = 1000000")
        await journal.spooled(0, counts(10))
        states = await journal.planned_states()
    assert states[0] == code_of(ChunkState.SPOOLED)
    assert states.count(code_of(ChunkState.SUBMITTING)) == 999 - len(refused)


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
import anyio
from pingdata_async.locations.chunk import Chunk
from pingdata_async.exceptions import RunError
from pingdata_async.runs.journal.journal import Journal
from tests.support.chunks import body_of

async def main():
    async with Journal(Path(sys.argv[1])) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for index in range(400):
            try:
                chunk = Chunk(index, [1], [None], body_of([1]))
                await journal.submitting(chunk, charged_before=False)
            except RunError as error:
                print(index, error)
                return

anyio.run(main)
"""


def test_a_disk_that_fills_up_for_real(tmp_path: Path) -> None:
    """Everything acknowledged before is there afterwards, and the journal is whole."""
    path = anyio.run(make_journal, tmp_path, 400)
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "see whether the disk is full" in done.stdout, done.stderr
    acknowledged = int(done.stdout.split()[0])
    assert acknowledged > 0

    async def resume() -> bytearray:
        async with Journal(path) as journal:
            return await journal.planned_states()

    states = anyio.run(resume)
    assert all(states[index] for index in range(acknowledged))
    assert not any(states[acknowledged + 1 :])


def test_a_journal_cut_off_at_rest_is_put_right(tmp_path: Path) -> None:
    """A crash while it is left as one file leaves a rollback journal; nothing is lost by it."""
    path = anyio.run(_filled, tmp_path)
    duplicate_counts = [tmp_path / "for a reader", tmp_path / "for a run"]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 2")  # so that it writes before it commits
        connection.execute("BEGIN")
        connection.execute("UPDATE submissions SET locations = 0, job_id = hex(randomblob(200))")
        paths = [copy_as_it_is(path, copy) for copy in duplicate_counts]
        connection.execute("ROLLBACK")
    for copy in paths:
        assert copy.with_name(f"{copy.name}-journal").stat().st_size > 0

    with JournalReader(paths[0]) as reader:
        assert reader.totals().locations_charged == 4000

    async def resume() -> int:
        async with Journal(paths[1]) as journal:
            return len(await journal.planned_states())

    assert anyio.run(resume) == 400
    with JournalReader(paths[1]) as reader:
        assert reader.totals().locations_charged == 4000
