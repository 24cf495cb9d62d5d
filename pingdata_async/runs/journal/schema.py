"""The SQLite file: created, opened, checked."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pingdata_async.exceptions import RunError
from pingdata_async.util.files import is_locked, open_private, open_regular, sync_file, sync_folder

JOURNAL_NAME = "journal.sqlite3"
APPLICATION_ID = 0x50444A4C  # "PDJL": tells a journal from any other SQLite file
BUSY_TIMEOUT_MS = 10_000
MAX_VALUE_BYTES = 256 * 1024 * 1024  # many times what a chunk takes
# Of SQLite's own: to read a journal's tables takes some hundreds, and to find a value as well.
LOOK_AT_MOST = 100_000
_MAGIC = b"SQLite format 3\0"
_BESIDE = ("-journal", "-wal", "-shm")  # files of SQLite's own

VERSION = 1
"""Of the tables; a journal of another version is refused, not misread."""

_SCHEMA = """
    BEGIN;
    -- What the run is: JSON by name.
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    -- A planned chunk has a row once it has left `planned` for the first time; a later chunk
    -- always, with its content. The large values come last, so that a scan does not read them.
    CREATE TABLE chunks (
        idx INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        since REAL NOT NULL,                        -- Unix seconds of the last change of state
        job_id TEXT NOT NULL DEFAULT '',            -- the present job's
        submission INTEGER,                         -- the last one in `submissions`
        jobs INTEGER NOT NULL DEFAULT 0,            -- accepted so far
        doubts INTEGER NOT NULL DEFAULT 0,          -- submissions in doubt so far
        charged_before INTEGER NOT NULL DEFAULT 0,  -- its rows were, or may have been, charged
        held INTEGER NOT NULL DEFAULT 0,            -- in doubt, and left to the user
        unreadable INTEGER NOT NULL DEFAULT 0,      -- the present job's output can never be read
        outputs TEXT,                               -- what the present job made: JSON
        failure TEXT,                               -- why it has no answers: JSON
        tally TEXT,                                 -- how its rows ended: JSON
        segment TEXT,                               -- the file of the spool that has its output
        segment_begin INTEGER,                      -- where in that, in bytes
        segment_size INTEGER,                       -- and how many
        content BLOB,                               -- a later chunk: MessagePack in zstd
        offset_index BLOB                           -- of its spooled body: `pack_offset_index()`
    );
    -- The planned chunks that a later chunk's rows are from.
    CREATE TABLE planned_chunks (
        planned_chunk INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (planned_chunk, idx)
    ) WITHOUT ROWID;
    -- Rows that wait to be retried, and are in no later chunk yet.
    CREATE TABLE retry_rows (
        row INTEGER PRIMARY KEY,
        planned_chunk INTEGER NOT NULL,
        content BLOB NOT NULL                       -- MessagePack
    );
    CREATE INDEX retry_rows_by_planned_chunk ON retry_rows (planned_chunk);
    -- All that may have cost money. What was surely refused is removed again.
    CREATE TABLE submissions (
        id INTEGER PRIMARY KEY,
        idx INTEGER NOT NULL,
        locations INTEGER NOT NULL,
        state TEXT NOT NULL,                        -- sent, accepted, in_doubt
        job_id TEXT NOT NULL DEFAULT '',
        charged_before INTEGER NOT NULL,
        asked TEXT NOT NULL,                        -- about how many locations by source: JSON
        sent_at REAL NOT NULL,                      -- Unix seconds
        error TEXT,
        outcome TEXT                                -- of the job: done, lost; NULL: not ended
    );
    -- How rows had ended that were reopened by `retry`: JSON, taken off the tallies.
    CREATE TABLE reopened (tally TEXT NOT NULL);
    -- Which rows these were. What the chunks below `before_idx` say of one is how it had ended.
    CREATE TABLE reopened_rows (
        row INTEGER PRIMARY KEY,
        planned_chunk INTEGER NOT NULL,
        before_idx INTEGER NOT NULL
    );
    CREATE INDEX reopened_rows_by_planned_chunk ON reopened_rows (planned_chunk);
    COMMIT;
"""


def create_journal(path: Path) -> None:
    """Make an empty journal; blocks.

    Made under another name and moved: a journal that is there is whole, so that an empty or
    cut file is known to be damaged and never taken for a new one.

    Raises:
        RunError: When there is one already, or it cannot be made.
    """
    part = path.with_name(f"{path.name}.part")
    with translated(path):
        if path.exists():
            raise RunError(f"{path} exists already; resume that run, or use another --run-dir")
        for left in ("", *_BESIDE):  # by a process that was killed while it did the same
            part.with_name(part.name + left).unlink(missing_ok=True)
        file = open_private(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
                create_tables(connection)
            sync_file(file)
        finally:
            os.close(file)
        part.replace(path)
        sync_folder(path.parent)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty database a journal."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.executescript(_SCHEMA)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open a journal to write in it, checked whole; blocks.

    Raises:
        RunError: When it is missing, damaged, made by another version, or cannot be used.
    """
    with translated(path):
        with contextlib.closing(open_reader(path, at_a_glance=True)) as reader:
            reader.set_progress_handler(None, 0)
            _check_whole(reader, path)  # before anything is changed
        connection = _connect(path, "rw")
        try:
            _set_up(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    # Readers in other processes (`status`, the sqlite3 shell) neither wait nor make us wait,
    # and a commit is one write and one fsync instead of several.
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise RunError(
            f"{path}: its file system cannot hold a journal (WAL was refused, got {mode}); "
            "use --run-dir on a local disk"
        )
    # An fsync with each commit. With NORMAL a power cut could take back the last commits: a
    # POST would have been sent whose intent is gone, and its job would silently be paid again.
    connection.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        # There fsync() stops at the drive's own cache, so the same power cut would undo it.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
    # SQLite sorts in memory then: a temporary file would hold addresses outside the run.
    connection.execute("PRAGMA temp_store = MEMORY")


def rest(connection: sqlite3.Connection) -> None:
    """Leave a journal as one plain file, where nobody else has it open; blocks.

    In WAL mode even a reader would have to make files beside it.
    """
    with contextlib.suppress(sqlite3.OperationalError):  # somebody reads: it stays in WAL
        connection.execute("PRAGMA busy_timeout = 0")  # closing must not wait for a reader
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()


def open_reader(path: Path, *, at_a_glance: bool = False) -> sqlite3.Connection:
    """Open a journal to read in it, while it is written or after a crash; blocks.

    Args:
        path: The journal.
        at_a_glance: Whether to read single values alone: what takes longer is broken off, and the
            journal is not read through to see that it is whole.

    Raises:
        RunError: When it is missing, damaged, or made by another version.
    """
    with translated(path):
        _check_head(path)
        try:
            connection = _connect_checked(path, "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_CANTOPEN,
            }:
                raise
            # Cut off in the one moment where only writing can put it right.
            connection = _connect_checked(path, "rw")
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise RunError(f"{path} is not a journal of pingdata-async; nothing was changed")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise RunError(
                    f"{path} was made by another version of pingdata-async (journal version "
                    f"{version}, this one knows {VERSION}); use that one"
                )
            if _tables(connection) != _expected_tables():
                raise RunError(
                    f"{path} has other tables than a run makes; nothing was changed. Was it made "
                    "by pingdata-async?"
                )
            if not at_a_glance:
                connection.set_progress_handler(None, 0)
                if not is_locked(path.parent):  # whoever is at work on it has checked it
                    _check_whole(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file once: about a second a gigabyte.

    Otherwise it could be a tree that leads back into itself, and be read for ever.
    """
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """What there is in a database: tables, indexes, views, triggers."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


@functools.cache
def _expected_tables() -> frozenset[tuple[str, ...]]:
    """What there is in a journal.

    Anything else would be somebody else's SQL, which runs whenever a table is read.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_tables(connection)
        return _tables(connection)


def copied(reader: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """What a reader sees now, in a database of its own; the reader is closed. Blocks.

    It is on disk, in a file without a name where SQLite has its temporary files. It takes about
    a second a gigabyte.

    Raises:
        RunError: When the journal cannot be read, or there is no room for the copy.
    """
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        with translated(path), contextlib.closing(reader):
            reader.backup(copy)  # all at once, so that it is of one moment
    except BaseException as error:
        copy.close()
        if getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_FULL":
            raise RunError(
                f"{path} is copied to be read, and the disk of temporary files (TMPDIR) is full"
            ) from error
        raise
    return copy


def _check_head(path: Path) -> None:
    """Refuse a file that is no database before SQLite opens it."""
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            head = file.read(len(_MAGIC))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent} is not a run directory (it has no {path.name}); name another"
        ) from None
    if head != _MAGIC:
        raise _damaged(path, "not a database" if head else "empty")


def _connect_checked(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode)
    try:
        connection.set_progress_handler(lambda: True, LOOK_AT_MOST)
        # The first look at the content: what cannot be opened shows here.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # By threads one after the other: whoever holds the connection sees to that.
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    # It may come from anywhere: SQLite is to believe nothing of what it finds.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    # A sqlite3 shell, or a backup, may hold it for a moment; that must not end the run.
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the present transaction, if SQLite has not done so itself."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


_NO_LOCKS = frozenset({"SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK", "SQLITE_IOERR_UNLOCK"})
_NO_ROOM_TO_SHARE = "SQLITE_IOERR_SHMSIZE"  # the -shm beside it could not be made so large
_NO_SHARING = "SQLITE_IOERR_SHM"  # SHMOPEN, SHMMAP, SHMLOCK


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and the system into RunError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _said_plainly(path, error) from error
    except OSError as error:
        raise RunError(f"{path} cannot be used: {error.strerror or error}") from error


def _said_plainly(path: Path, error: sqlite3.Error) -> RunError:
    name = getattr(error, "sqlite_errorname", "") or ""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_INTERRUPT:
        return _damaged(path, "a glance at it takes too long")
    if code == sqlite3.SQLITE_FULL or name == _NO_ROOM_TO_SHARE:
        return RunError(f"{path} cannot be written: the disk is full; make room, then resume")
    if name in _NO_LOCKS or name.startswith(_NO_SHARING) or code == sqlite3.SQLITE_PROTOCOL:
        return RunError(
            f"{path}: its file system cannot share a journal safely ({error}); "
            "use --run-dir on a local disk"
        )
    if code == sqlite3.SQLITE_IOERR:
        return RunError(
            f"{path} cannot be read or written ({error}); "
            "see whether the disk is full or failing, then resume"
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return RunError(
            f"{path} is held by another program ({error}); close it (a sqlite3 shell?), then resume"
        )
    if not code and isinstance(error, sqlite3.OperationalError):  # text that is no text
        return _damaged(path, str(error))
    return RunError(f"{path} cannot be used: {error}")


def _damaged(path: Path, said: str) -> RunError:
    return RunError(
        f"the journal {path} is damaged ({said.strip().splitlines()[-1]}); nothing was changed: "
        "restore it from a copy, or start anew with --restart"
    )
