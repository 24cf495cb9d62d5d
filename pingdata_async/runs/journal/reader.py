"""JournalReader: the journal as read by other processes, for status, export and summary."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.engine.flow_control.budget import Amount
from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.journal.records import (
    PLANNED_CHUNKS,
    RECORD_COLUMNS,
    REUSED,
    SUBMISSION_COLUMNS,
    ChunkRecord,
    ChunkState,
    ReusedTotals,
    SubmissionRecord,
    asked_of_text,
    damage_in,
    read_meta,
    read_record,
    record_of,
    state_named,
    submission_of,
    tally_of,
    unpack_chunk,
    unpack_retry_row,
)
from pingdata_async.runs.journal.schema import copied, open_reader, roll_back, translated
from pingdata_async.util.files import Closing


@contextlib.asynccontextmanager
async def reading_journal(
    path: Path, *, as_it_is_now: bool = False
) -> AsyncIterator[JournalReader]:
    """A journal opened and closed in a thread; the methods of what is given block all the same.

    Arguments and errors as of `JournalReader`.
    """
    reader = JournalReader(path, as_it_is_now=as_it_is_now)
    try:
        await anyio.to_thread.run_sync(reader.__enter__)
        yield reader
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(reader.close)


class JournalTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a run amounts to so far.

    Attributes:
        planned_chunks: Chunks of the plan; None while it is not whole.
        chunks: How many chunks are in each state; later ones too.
        rows: How the rows ended that are settled.
        rows_waiting: Rows that wait to be retried, and are in no chunk.
        jobs: Jobs accepted.
        locations_charged: Locations in them.
        locations_possibly_charged_again: Locations sent in submissions, those unanswered
            included, that were or may have been charged before.
        submissions_in_doubt: Submissions that may have made a job.
        submissions_held: Those of them that are left to the user.
        submissions_unanswered: Submissions that are on their way; where no process is at work
            on the run, they are in doubt too.
        charged_by_source: Locations in accepted jobs that each source is asked about, by its
            code.
        possibly_charged_by_source: Likewise, of submissions in doubt and unanswered ones.
        possibly_charged: Locations in these.
        reused: What earlier runs had answered.
    """

    planned_chunks: int | None
    chunks: dict[ChunkState, int]
    rows: Tally
    rows_waiting: int
    jobs: int
    locations_charged: int
    locations_possibly_charged_again: int
    submissions_in_doubt: int
    submissions_held: int
    submissions_unanswered: int
    charged_by_source: dict[str, int]
    possibly_charged_by_source: dict[str, int]
    possibly_charged: int
    reused: ReusedTotals

    @property
    def has_sent(self) -> bool:
        """Whether anything was submitted that was not surely refused."""
        return bool(self.jobs or self.submissions_in_doubt or self.submissions_unanswered)

    @property
    def jobs_in_flight(self) -> int:
        """Jobs that are still to be polled or fetched."""
        return self.chunks[ChunkState.SUBMITTED] + self.chunks[ChunkState.COMPLETE]


class SubmissionSpan(msgspec.Struct, frozen=True):
    """When a submission may have been charged, and for what.

    Attributes:
        is_accepted: Whether it surely was; if not, it is in doubt.
        locations: How many were sent.
        asked: About how many locations each source is asked, by its code.
        sent_at: When it was sent, in Unix seconds.
        until: When its chunk, if that was not sent again, changed last.
    """

    is_accepted: bool
    locations: int
    asked: dict[str, int]
    sent_at: float
    until: float


class JournalReader(Closing):
    """Reads a journal, also while a run writes it, and after a crash; a context manager.

    It changes nothing. Every method blocks for a moment, and may be called in any thread; each
    sees the journal as it is at that moment, or all of them as it was when it was opened.

    Args:
        path: The journal's file.
        at_a_glance: Whether only `meta()` and `has_sent()` are read: it is not read through
            first to see that it is whole.
        as_it_is_now: Whether a run that goes on meanwhile is not to be seen. A copy is read then,
            on disk: a long transaction would keep the journal from shrinking, and where no run
            has it open, keep one from beginning.
    """

    def __init__(
        self, path: Path, *, at_a_glance: bool = False, as_it_is_now: bool = False
    ) -> None:
        self._path = path
        self._at_a_glance = at_a_glance
        self._as_it_is_now = as_it_is_now
        self._connection: sqlite3.Connection | None = None
        self._is_held = False
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            RunError: When it is missing, damaged, or made by another version.
        """
        connection = open_reader(self._path, at_a_glance=self._at_a_glance)
        self._connection = copied(connection, self._path) if self._as_it_is_now else connection
        return self

    def close(self) -> None:
        """Close the connection, once nobody reads."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn, translated(self._path):
            connection = self._opened()
            if self._is_held:
                yield connection
                return
            # One moment for all that is read; not for longer, or the journal could not shrink.
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                roll_back(connection)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("a journal is read inside its `with` block")
        return self._connection

    @contextlib.contextmanager
    def one_moment(self) -> Iterator[None]:
        """A context in which all reads see one moment; keep it short."""
        with self._turn, translated(self._path):
            self._opened().execute("BEGIN")
            self._is_held = True
        try:
            yield
        finally:
            with self._turn:
                self._is_held = False
                roll_back(self._opened())

    def meta(self, key: str) -> Any:
        """A value by name; None where there is none."""
        with self._reading() as connection:
            return read_meta(connection, key)

    def has_sent(self) -> bool:
        """Whether anything was submitted that was not surely refused."""
        with self._reading() as connection:
            return bool(_number(connection, "SELECT EXISTS (SELECT 1 FROM submissions)"))

    def record(self, index: int) -> ChunkRecord | None:
        """The record of a chunk; None if it is planned and untouched."""
        with self._reading() as connection:
            return read_record(connection, index)

    def has_ended(self, planned: int) -> bool:
        """Whether all rows of a planned chunk have their outcome, retried ones included.

        Within one process they stay so: only `retry` reopens rows, before it sends any.
        """
        with self._reading() as connection:
            found = connection.execute(_HAS_ENDED, {"planned": planned}).fetchone()
        return bool(found[0])

    def later_chunks_of(self, origin: int) -> list[ChunkRecord]:
        """The later chunks with rows of a planned one, in the order of their numbers."""
        with self._reading() as connection:
            found = connection.execute(
                f"SELECT {RECORD_COLUMNS} FROM chunks WHERE idx IN"  # noqa: S608 - a constant
                " (SELECT idx FROM planned_chunks WHERE planned_chunk = ?) ORDER BY idx",
                (origin,),
            ).fetchall()
        return [record_of(columns) for columns in found]

    def waiting_rows(self, origin: int) -> set[int]:
        """The rows of a planned chunk that wait to be retried, and are in no chunk."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT row FROM retry_rows WHERE planned_chunk = ?", (origin,)
            ).fetchall()
        return {row for (row,) in found}

    def reopened_rows(self, origin: int) -> dict[int, int]:
        """The rows of a planned chunk that had ended and were retried.

        By row: the number below which are the chunks that say how it had ended.
        """
        with self._reading() as connection:
            found = connection.execute(
                "SELECT row, before_idx FROM reopened_rows WHERE planned_chunk = ?", (origin,)
            ).fetchall()
        return dict(found)

    def in_flight(self, limit: int | None = None) -> list[SubmissionRecord]:
        """The jobs that have chunks now, the oldest first."""
        return self._submissions("chunks.state IN ('submitted', 'complete')", limit)

    def in_doubt(self, limit: int | None = None) -> list[SubmissionRecord]:
        """The submissions that may have made a job, the oldest first."""
        return self._submissions("submissions.state = 'in_doubt'", limit)

    def unanswered(self, limit: int | None = None) -> list[SubmissionRecord]:
        """The submissions that are on their way, the oldest first."""
        return self._submissions("submissions.state = 'sent'", limit)

    def _submissions(self, condition: str, limit: int | None) -> list[SubmissionRecord]:
        join = "chunks.idx = submissions.idx"
        if condition.startswith("chunks."):  # of each chunk, the last one
            join = "chunks.submission = submissions.id"
        with self._reading() as connection:
            found = connection.execute(
                f"SELECT {SUBMISSION_COLUMNS} FROM submissions JOIN chunks ON {join}"  # noqa: S608
                f" WHERE {condition} ORDER BY submissions.id LIMIT ?",
                (-1 if limit is None else limit,),
            ).fetchall()
        return [submission_of(columns) for columns in found]

    def planned_chunks_begun(self) -> list[int]:
        """The planned chunks that were sent or are finished, but for those that were carried."""
        with self._reading() as connection:
            planned = read_meta(connection, PLANNED_CHUNKS) or 0
            found = connection.execute(
                "SELECT idx FROM chunks WHERE idx < ? AND state != 'planned'"
                " AND NOT (state = 'spooled' AND submission IS NULL)",
                (planned,),
            ).fetchall()
        return [index for (index,) in found]

    def stamp(self) -> str:
        """What all chunks have come to, in a few letters: others once any of it changes."""
        digest = blake2b(digest_size=16)
        with self._reading() as connection:
            for query in _STATES:
                for columns in connection.execute(query):
                    digest.update(repr(columns).encode())
        return digest.hexdigest()

    def first_submissions(self) -> dict[int, Amount]:
        """The locations of each chunk's first submission."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT idx, locations, asked, min(id) FROM submissions GROUP BY idx"
            ).fetchall()
        return {
            index: Amount(locations=locations, by_source=asked_of_text(asked))
            for index, locations, asked, _ in found
        }

    def submission_spans(self) -> list[SubmissionSpan]:
        """All that was submitted and not surely refused."""
        with self._reading() as connection:
            return [
                SubmissionSpan(state == "accepted", locations, asked_of_text(asked), *times)
                for state, locations, asked, *times in connection.execute(_SUBMISSION_SPANS)
            ]

    def later_chunks_waiting(self) -> Iterator[Chunk]:
        """The later chunks that wait to be sent."""
        with self._reading() as connection:
            planned = read_meta(connection, PLANNED_CHUNKS) or 0
            found = connection.execute(
                "SELECT content FROM chunks WHERE idx >= ? AND state = 'planned'", (planned,)
            )
            for (content,) in found:
                yield unpack_chunk(content)

    def retry_rows_waiting(self) -> Iterator[tuple[str, ...]]:
        """Of each row that waits to be retried, and is in no chunk, the sources."""
        with self._reading() as connection:
            for (content,) in connection.execute("SELECT content FROM retry_rows"):
                yield unpack_retry_row(content).asked

    def totals(self) -> JournalTotals:
        """What the run amounts to so far; a few microseconds for each chunk."""
        with self._reading() as connection:
            planned = read_meta(connection, PLANNED_CHUNKS)
            planned_chunks = planned if isinstance(planned, int) else None
            submissions = connection.execute(_SUBMISSION_TOTALS).fetchone()
            return JournalTotals(
                planned_chunks=planned_chunks,
                chunks=_states(connection, planned_chunks or 0),
                rows=_settled(connection),
                rows_waiting=_number(connection, "SELECT count(*) FROM retry_rows"),
                jobs=submissions[0],
                locations_charged=submissions[1],
                locations_possibly_charged_again=submissions[2],
                submissions_in_doubt=submissions[3],
                submissions_held=_number(connection, "SELECT count(*) FROM chunks WHERE held"),
                submissions_unanswered=submissions[4],
                reused=_reused(connection),
                **_by_source(connection),
            )


_STATES = (
    "SELECT idx, state, since, segment, segment_begin FROM chunks ORDER BY idx",
    "SELECT count(*), min(row), max(row) FROM retry_rows",
)

_HAS_ENDED = """
    SELECT EXISTS (
            SELECT 1 FROM chunks WHERE idx = :planned AND state IN ('spooled', 'failed', 'split')
        )
        AND NOT EXISTS (SELECT 1 FROM retry_rows WHERE planned_chunk = :planned)
        AND NOT EXISTS (
            SELECT 1 FROM planned_chunks JOIN chunks USING (idx)
            WHERE planned_chunk = :planned AND state NOT IN ('spooled', 'failed', 'split')
        )
"""

_SUBMISSION_TOTALS = """
    SELECT
        coalesce(sum(state = 'accepted'), 0),
        coalesce(sum(CASE WHEN state = 'accepted' THEN locations END), 0),
        coalesce(sum(CASE WHEN charged_before THEN locations END), 0),
        coalesce(sum(state = 'in_doubt'), 0),
        coalesce(sum(state = 'sent'), 0)
    FROM submissions
"""


_SUBMISSION_SPANS = """
    SELECT
        submissions.state, submissions.locations, submissions.asked, submissions.sent_at,
        CASE WHEN chunks.submission = submissions.id THEN chunks.since ELSE submissions.sent_at END
    FROM submissions JOIN chunks USING (idx)
"""

_BY_SOURCE = """
    SELECT state = 'accepted', asked, count(*), sum(locations)
    FROM submissions GROUP BY state = 'accepted', asked
"""
"""Chunks are nearly all alike, so these are few rows."""


def _by_source(connection: sqlite3.Connection) -> dict[str, Any]:
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    possibly = 0
    for is_accepted, text, submissions, locations in connection.execute(_BY_SOURCE):
        possibly += 0 if is_accepted else locations
        for code, number in asked_of_text(text).items():
            counts[bool(is_accepted)][code] += number * submissions
    return {
        "charged_by_source": dict(counts[True]),
        "possibly_charged_by_source": dict(counts[False]),
        "possibly_charged": possibly,
    }


def _reused(connection: sqlite3.Connection) -> ReusedTotals:
    kept = read_meta(connection, REUSED)
    with damage_in("what was reused"):
        return ReusedTotals() if kept is None else msgspec.convert(kept, ReusedTotals)


def _number(connection: sqlite3.Connection, query: str) -> int:
    number: int = connection.execute(query).fetchone()[0]
    return number


def _states(connection: sqlite3.Connection, planned_chunks: int) -> dict[ChunkState, int]:
    counts: Counter[ChunkState] = Counter()
    touched = 0
    query = "SELECT state, count(*), sum(idx < ?) FROM chunks GROUP BY state"
    for state, chunks, of_the_plan in connection.execute(query, (planned_chunks,)).fetchall():
        counts[state_named(state)] = chunks
        touched += of_the_plan
    counts[ChunkState.PLANNED] += planned_chunks - touched
    return {state: counts[state] for state in ChunkState}


def _settled(connection: sqlite3.Connection) -> Tally:
    total = Tally()
    tallies = connection.execute("SELECT tally FROM chunks WHERE tally IS NOT NULL")
    for (text,) in tallies:
        total.add(tally_of(text))
    reopened = connection.execute("SELECT tally FROM reopened")
    for (text,) in reopened:
        total.add(tally_of(text), sign=-1)
    return total
