"""Each transition of a chunk, as statements on the journal's tables.

Each function runs inside a savepoint, and raises RunError to have all that it did undone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk, RetryRow, batch_rows
from pingdata_async.models import JobOutput, Reason
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure
from pingdata_async.runs.journal.records import (
    PLANNED_CHUNKS,
    SUBMISSION_COLUMNS,
    ChunkState,
    SpoolPlace,
    SubmissionRecord,
    failure_of,
    is_legal,
    pack_chunk,
    pack_offset_index,
    pack_outputs,
    pack_retry_row,
    read_meta,
    read_record,
    state_named,
    submission_of,
    tally_of,
    unpack_retry_row,
)


class _Present(msgspec.Struct, frozen=True):
    """A chunk before it changes."""

    state: ChunkState
    submission: int | None = None
    charged_before: bool = False


def _present(connection: sqlite3.Connection, index: int) -> _Present:
    found = connection.execute(
        "SELECT state, submission, charged_before FROM chunks WHERE idx = ?", (index,)
    ).fetchone()
    if found is not None:
        state, submission, charged_before = found
        return _Present(state_named(state), submission, bool(charged_before))
    planned = read_meta(connection, PLANNED_CHUNKS)
    if not isinstance(planned, int) or not 0 <= index < planned:
        raise RunError(f"the journal knows no chunk {index}; please report this")
    return _Present(ChunkState.PLANNED)


def _before(connection: sqlite3.Connection, index: int, after: ChunkState) -> _Present:
    """The chunk that is about to change; refuses an illegal change.

    Raises:
        RunError: When it may not.
    """
    present = _present(connection, index)
    if not is_legal(present.state, after):
        raise RunError(
            f"chunk {index} is {present.state} and cannot become {after}; please report this"
        )
    return present


class Submission(NamedTuple):
    """What is about to be sent.

    Attributes:
        locations: How many.
        charged_before: Whether any of them was, or may have been, charged before.
        asked: About how many of them each source is asked, by its code.
        now: Unix seconds.
    """

    locations: int
    charged_before: bool
    asked: Mapping[str, int]
    now: float


class SpooledChunk(NamedTuple):
    """The outcomes of an answered chunk.

    Attributes:
        tally: The outcomes of the rows that have one now.
        retry_rows: The others, which wait to be retried.
        offset_index: Where in the output each row's answer is; None if it has none.
        now: Unix seconds.
    """

    tally: Tally
    retry_rows: Collection[RetryRow]
    offset_index: OffsetIndex | None
    now: float


def submit(connection: sqlite3.Connection, index: int, submission: Submission) -> None:
    """A chunk is about to be submitted."""
    _before(connection, index, ChunkState.SUBMITTING)
    now = submission.now
    asked = msgspec.json.encode(dict(submission.asked), order="sorted").decode()
    number = connection.execute(
        "INSERT INTO submissions (idx, locations, state, charged_before, asked, sent_at)"
        " VALUES (?, ?, 'sent', ?, ?, ?)",
        (index, submission.locations, submission.charged_before, asked, now),
    ).lastrowid
    connection.execute(
        "INSERT INTO chunks (idx, state, since, submission) VALUES (?, 'submitting', ?, ?)"
        " ON CONFLICT (idx) DO UPDATE SET state = excluded.state, since = excluded.since,"
        " submission = excluded.submission, job_id = '', unreadable = 0, outputs = NULL",
        (index, now, number),
    )


def refuse(connection: sqlite3.Connection, index: int, now: float) -> None:
    """Its submission surely made no job."""
    present = _before(connection, index, ChunkState.PLANNED)
    if present.state is not ChunkState.SUBMITTING:
        raise RunError(f"chunk {index} is {present.state}, not being submitted; please report this")
    gone = connection.execute(
        "DELETE FROM submissions WHERE id = ? AND state = 'sent'", (present.submission,)
    )
    if not gone.rowcount:
        raise RunError(f"the submission of chunk {index} is in doubt already; please report this")
    connection.execute(
        "UPDATE chunks SET state = 'planned', since = ?, submission = NULL WHERE idx = ?",
        (now, index),
    )


def accept(connection: sqlite3.Connection, index: int, job_id: str, now: float) -> None:
    """Its submission made a job."""
    present = _before(connection, index, ChunkState.SUBMITTED)
    connection.execute(
        "UPDATE chunks SET state = 'submitted', since = ?, job_id = ?, jobs = jobs + 1,"
        " charged_before = 1 WHERE idx = ?",
        (now, job_id, index),
    )
    changed = connection.execute(
        "UPDATE submissions SET state = 'accepted', job_id = ? WHERE id = ? AND state = 'sent'",
        (job_id, present.submission),
    )
    if not changed.rowcount:
        raise RunError(f"the submission of chunk {index} is in doubt already; please report this")


def doubt(connection: sqlite3.Connection, index: int, error: str, hold: bool, now: float) -> None:
    """Its submission may have made a job."""
    present = _before(connection, index, ChunkState.PLANNED)
    if present.state is not ChunkState.SUBMITTING:
        raise RunError(f"chunk {index} is {present.state}, not being submitted; please report this")
    changed = connection.execute(
        "UPDATE submissions SET state = 'in_doubt', error = ? WHERE id = ? AND state = 'sent'",
        (error, present.submission),
    )
    if not changed.rowcount:
        raise RunError(f"the submission of chunk {index} is in doubt already; please report this")
    connection.execute(
        "UPDATE chunks SET state = ?, since = ?, doubts = doubts + 1, charged_before = 1, held = ?"
        " WHERE idx = ?",
        (ChunkState.SUBMITTING if hold else ChunkState.PLANNED, now, hold, index),
    )


def complete(
    connection: sqlite3.Connection, index: int, outputs: Sequence[JobOutput], now: float
) -> None:
    """Its job is done; told again after a restart, its outputs may be elsewhere."""
    connection.execute(
        "UPDATE chunks SET outputs = ? WHERE idx = ?", (pack_outputs(outputs), index)
    )
    if _present(connection, index).state is ChunkState.COMPLETE:
        return
    _before(connection, index, ChunkState.COMPLETE)
    connection.execute(
        "UPDATE chunks SET state = 'complete', since = ? WHERE idx = ?", (now, index)
    )


def note_unreadable(connection: sqlite3.Connection, index: int) -> None:
    """The output of its job can never be read."""
    connection.execute("UPDATE chunks SET unreadable = 1 WHERE idx = ?", (index,))


def lose_job(connection: sqlite3.Connection, index: int, error: str, now: float) -> None:
    """Its job is lost."""
    present = _before(connection, index, ChunkState.PLANNED)
    if present.state is ChunkState.SUBMITTING:
        raise RunError(f"chunk {index} has no job to be lost; please report this")
    connection.execute(
        "UPDATE chunks SET state = 'planned', since = ?, job_id = '' WHERE idx = ?", (now, index)
    )
    _end_submission(connection, present, "lost", error)


def _end_submission(
    connection: sqlite3.Connection, present: _Present, outcome: str, error: str | None = None
) -> None:
    if present.state in {ChunkState.SUBMITTED, ChunkState.COMPLETE}:
        connection.execute(
            "UPDATE submissions SET outcome = ?, error = coalesce(?, error) WHERE id = ?",
            (outcome, error, present.submission),
        )
    elif present.state is ChunkState.SUBMITTING:  # its answer will never be known
        connection.execute(
            "UPDATE submissions SET state = 'in_doubt' WHERE id = ? AND state = 'sent'",
            (present.submission,),
        )


def split(connection: sqlite3.Connection, index: int, parts: Sequence[Chunk], now: float) -> None:
    """Parts take a chunk's place."""
    present = _before(connection, index, ChunkState.SPLIT)
    _end(connection, index, ChunkState.SPLIT, now)
    _end_submission(connection, present, "lost")
    charged = present.charged_before or present.state is ChunkState.SUBMITTING
    for part in parts:
        _insert_later(connection, part, charged, now)


def _end(
    connection: sqlite3.Connection,
    index: int,
    state: ChunkState,
    now: float,
    *,
    tally: Tally | None = None,
    failure: Failure | None = None,
    place: SpoolPlace | None = None,
    offset_index: OffsetIndex | None = None,
) -> None:
    where = (None, None, None) if place is None else (place.segment, place.begin, place.size)
    packed = pack_offset_index(offset_index)
    connection.execute(
        "INSERT INTO chunks (idx, state, since, tally, failure, segment, segment_begin,"
        " segment_size, offset_index) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (idx) DO UPDATE SET state = excluded.state, since = excluded.since,"
        " tally = excluded.tally, failure = excluded.failure, segment = excluded.segment,"
        " segment_begin = excluded.segment_begin, segment_size = excluded.segment_size,"
        " offset_index = excluded.offset_index, held = 0",
        (index, state, now, _as_json(tally), _as_json(failure), *where, packed),
    )


def _as_json(value: Tally | Failure | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _insert_later(
    connection: sqlite3.Connection, chunk: Chunk, charged_before: bool, now: float
) -> None:
    if chunk.is_planned:
        raise RunError(f"chunk {chunk.index} does not know where it is from; please report this")
    connection.execute(
        "INSERT INTO chunks (idx, state, since, charged_before, content)"
        " VALUES (?, 'planned', ?, ?, ?)",
        (chunk.index, now, charged_before, pack_chunk(chunk)),
    )
    connection.executemany(
        "INSERT INTO planned_chunks (planned_chunk, idx) VALUES (?, ?)",
        [(planned, chunk.index) for planned in {each.planned_chunk for each in chunk.earlier}],
    )


def batched(connection: sqlite3.Connection, chunk: Chunk, now: float) -> None:
    """Insert a chunk of rows that waited to be retried."""
    _insert_later(connection, chunk, False, now)
    taken = connection.executemany(
        "DELETE FROM retry_rows WHERE row = ?", [(row,) for row in chunk.rows]
    ).rowcount
    if taken != len(chunk.rows):
        raise RunError(
            f"chunk {chunk.index} has {len(chunk.rows)} rows, of which {taken} were waiting; "
            "please report this"
        )


def forget_plan(connection: sqlite3.Connection) -> None:
    """A plan that was cut off is made anew: forget what was carried for it."""
    if connection.execute("SELECT 1 FROM submissions LIMIT 1").fetchone() is not None:
        raise RunError("chunks of this plan were sent already; please report this")
    for table in ("chunks", "planned_chunks", "retry_rows"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants


def spool(
    connection: sqlite3.Connection,
    index: int,
    ended: SpooledChunk,
    keep: Callable[[], SpoolPlace | None],
) -> None:
    """A chunk's answers are kept; `keep` appends them, where they may be."""
    present = _before(connection, index, ChunkState.SPOOLED)
    _spool(connection, index, ended, keep)
    _end_submission(connection, present, "done")


def carry(
    connection: sqlite3.Connection,
    index: int,
    ended: SpooledChunk,
    keep: Callable[[], SpoolPlace | None],
) -> None:
    """Likewise the answers that earlier runs have for a planned chunk that nobody has touched."""
    state = _present(connection, index).state
    if state is not ChunkState.PLANNED or read_record(connection, index) is not None:
        raise RunError(f"chunk {index} is not untouched any more; please report this")
    _spool(connection, index, ended, keep)


def _spool(
    connection: sqlite3.Connection,
    index: int,
    ended: SpooledChunk,
    keep: Callable[[], SpoolPlace | None],
) -> None:
    _end(
        connection,
        index,
        ChunkState.SPOOLED,
        ended.now,
        tally=ended.tally,
        place=keep(),
        offset_index=ended.offset_index,
    )
    _wait(connection, ended.retry_rows)


def fail(
    connection: sqlite3.Connection, index: int, failure: Failure | None, tally: Tally, now: float
) -> None:
    """A chunk has no answers, and will get none."""
    present = _before(connection, index, ChunkState.FAILED)
    _end(connection, index, ChunkState.FAILED, now, tally=tally, failure=failure)
    _end_submission(connection, present, "lost")


def _wait(connection: sqlite3.Connection, retry_rows: Collection[RetryRow]) -> None:
    if retry_rows:
        connection.executemany(
            "INSERT INTO retry_rows (row, planned_chunk, content) VALUES (?, ?, ?)",
            [(each.row, each.earlier.planned_chunk, pack_retry_row(each)) for each in retry_rows],
        )


def reopen(connection: sqlite3.Connection, retry_rows: Collection[RetryRow], tally: Tally) -> int:
    """Make rows with an outcome wait to be retried; returns how many did not wait already."""
    waiting = "SELECT 1 FROM retry_rows WHERE row = ?"
    fresh = [
        each for each in retry_rows if connection.execute(waiting, (each.row,)).fetchone() is None
    ]
    if fresh and len(fresh) != len(retry_rows):
        raise RunError(
            f"{len(retry_rows) - len(fresh)} rows wait already to be retried, others do not; "
            "please report this"
        )
    if fresh:
        _wait(connection, fresh)
        connection.execute("INSERT INTO reopened (tally) VALUES (?)", (_as_json(tally),))
        planned = read_meta(connection, PLANNED_CHUNKS)
        connection.executemany(
            "INSERT OR REPLACE INTO reopened_rows (row, planned_chunk, before_idx)"
            " SELECT ?, ?, max(?, coalesce(max(idx) + 1, 0)) FROM chunks",
            [(each.row, each.earlier.planned_chunk, planned or 0) for each in fresh],
        )
    return len(fresh)


def fetch_again(connection: sqlite3.Connection, reason: Reason, now: float) -> int:
    """Chunks that failed for that reason and have a job wait for its output once more.

    Returns:
        How many rows had ended so.
    """
    failed = connection.execute(
        "SELECT idx, failure, tally FROM chunks WHERE state = 'failed' AND job_id != ''"
        " AND failure IS NOT NULL"
    ).fetchall()
    rows = 0
    for index, failure, tally in failed:
        if failure_of(failure).reason is not reason:
            continue
        connection.execute(
            "UPDATE chunks SET state = 'submitted', since = ?, failure = NULL, tally = NULL"
            " WHERE idx = ?",
            (now, index),
        )
        rows += tally_of(tally).rows
    return rows


def pack(
    connection: sqlite3.Connection, index: int, chunk_size: int, max_chunk_bytes: int, now: float
) -> int:
    """Make a later chunk of waiting rows; returns how many."""
    retry_rows: list[RetryRow] = []
    size = 0
    found = connection.execute(
        "SELECT content FROM retry_rows ORDER BY row LIMIT ?", (chunk_size,)
    ).fetchall()
    for (content,) in found:
        retry_row = unpack_retry_row(content)
        size += len(retry_row.location) + _LOCATION_OVERHEAD_BYTES
        if retry_rows and size > max_chunk_bytes:
            break
        retry_rows.append(retry_row)
    if retry_rows:
        batched(connection, batch_rows(index, retry_rows), now)
    return len(retry_rows)


_LOCATION_OVERHEAD_BYTES = 32  # the id, and a comma


def doubt_interrupted(
    connection: sqlite3.Connection, error: str, hold: bool, now: float
) -> list[SubmissionRecord]:
    """Count what was being submitted when a run was cut off as in doubt; returns that.

    What is held already is not counted again, only let go where nothing is to be held.
    """
    sent = connection.execute(
        f"SELECT {SUBMISSION_COLUMNS} FROM submissions"  # noqa: S608 - a constant
        " JOIN chunks ON chunks.submission = submissions.id"
        " WHERE submissions.state = 'sent' AND chunks.state = 'submitting' ORDER BY chunks.idx"
    ).fetchall()
    records = [submission_of(columns) for columns in sent]
    for record in records:
        doubt(connection, record.index, error, hold, now)
    if not hold:
        connection.execute(
            "UPDATE chunks SET state = 'planned', since = ?, held = 0"
            " WHERE state = 'submitting' AND held",
            (now,),
        )
    return records


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Keep a value under a name."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def set_planned_chunks(connection: sqlite3.Connection, chunks: int) -> None:
    """Set the number of planned chunks; it cannot change once a chunk was touched."""
    known = read_meta(connection, PLANNED_CHUNKS)
    if known == chunks:
        return
    if connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone() is not None:
        raise RunError(
            f"the plan has {chunks} chunks, but {known} when the run began; please report this"
        )
    set_meta(connection, PLANNED_CHUNKS, str(chunks))
