"""States of a chunk and their legal transitions; rows of the journal's tables as records.

Also how the values in these rows are packed, and what a resumed run does about each state.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import add, sub
from types import MappingProxyType

import msgspec
import zstandard

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk, RetryRow
from pingdata_async.models import JobOutput
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure
from pingdata_async.util.redaction import masked


class ChunkState(enum.StrEnum):
    """How far a chunk of a run is."""

    PLANNED = "planned"  # waits to be sent, for the first time or again
    SUBMITTING = "submitting"  # the intent is on disk; what became of the POST is not known yet
    SUBMITTED = "submitted"  # a job has it, and its id is on disk
    COMPLETE = "complete"  # that job is done, its output not fetched yet
    SPOOLED = "spooled"  # its answers are on disk: an end
    FAILED = "failed"  # it has no answers, and will get none: an end
    SPLIT = "split"  # its parts, which are chunks of their own, took its place: an end


LEGAL_CHANGES: MappingProxyType[ChunkState, frozenset[ChunkState]] = MappingProxyType(
    {
        ChunkState.PLANNED: frozenset({ChunkState.SUBMITTING, ChunkState.SPLIT, ChunkState.FAILED}),
        ChunkState.SUBMITTING: frozenset(
            {
                ChunkState.PLANNED,  # refused, or in doubt and to be sent again
                ChunkState.SUBMITTED,
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.SUBMITTED: frozenset(
            {
                ChunkState.COMPLETE,
                ChunkState.PLANNED,  # the job is lost
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.COMPLETE: frozenset(
            {
                ChunkState.SPOOLED,
                ChunkState.PLANNED,  # the output is lost
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.SPOOLED: frozenset(),
        ChunkState.FAILED: frozenset(),
        ChunkState.SPLIT: frozenset(),
    }
)
"""Which state may follow which. Everything else is a mistake, and is refused.

(By a user's wish alone, a chunk whose output could not be read is taken out of its end. And a
planned one that nobody has touched is spooled at once where earlier runs have its answers.)
"""

UNTOUCHED = 0
"""The code of a planned chunk of which the journal knows nothing yet."""

_BY_CODE = (None, *ChunkState)
_CODES = {state: code for code, state in enumerate(_BY_CODE) if state is not None}


def is_legal(before: ChunkState, after: ChunkState) -> bool:
    """Whether one state may follow the other."""
    return after in LEGAL_CHANGES[before]


def code_of(state: ChunkState) -> int:
    """A state as a number that fits into a byte; never `UNTOUCHED`."""
    return _CODES[state]


def state_of(code: int) -> ChunkState:
    """The state of a code; an untouched chunk is planned."""
    return _BY_CODE[code] or ChunkState.PLANNED


class Resumption(enum.Enum):
    """What a resumed run does about a chunk."""

    SEND = enum.auto()  # submit it
    DOUBT = enum.auto()  # count it as in doubt, then submit it again or leave it to the user
    POLL = enum.auto()  # ask about its job, which is paid for
    NOTHING = enum.auto()  # it is at an end


_RESUMPTIONS = {
    ChunkState.PLANNED: Resumption.SEND,
    ChunkState.SUBMITTING: Resumption.DOUBT,
    ChunkState.SUBMITTED: Resumption.POLL,
    ChunkState.COMPLETE: Resumption.POLL,  # the answer that named its output was not kept
    ChunkState.SPOOLED: Resumption.NOTHING,
    ChunkState.FAILED: Resumption.NOTHING,
    ChunkState.SPLIT: Resumption.NOTHING,
}


def on_resume(state: ChunkState) -> Resumption:
    """What a resumed run does with a chunk in this state."""
    return _RESUMPTIONS[state]


PLANNED_CHUNKS = "planned_chunks"
REUSED = "reused"  # a value in `meta`: `ReusedTotals`
MAX_CONTENT_BYTES = 256 * 1024 * 1024  # many times what a chunk takes

_chunk_encoder = msgspec.msgpack.Encoder()
_chunk_decoder = msgspec.msgpack.Decoder(Chunk)
_retry_row_encoder = msgspec.msgpack.Encoder()
_retry_row_decoder = msgspec.msgpack.Decoder(RetryRow)
_offset_index_encoder = msgspec.msgpack.Encoder()
_offset_index_decoder = msgspec.msgpack.Decoder(OffsetIndex)
_failure_decoder = msgspec.json.Decoder(Failure)
_tally_decoder = msgspec.json.Decoder(Tally)
_outputs_decoder = msgspec.json.Decoder(tuple[JobOutput, ...])
_asked_decoder = msgspec.json.Decoder(dict[str, int])


@contextlib.contextmanager
def damage_in(what: str) -> Iterator[None]:
    """Turn errors of decoding into a RunError: the journal is damaged."""
    try:
        yield
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError, TypeError, MemoryError) as error:
        raise RunError(
            f"the journal is damaged ({what}: {error}); restore it from a copy"
        ) from error


class ReusedTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did not have to ask, as earlier runs had.

    Attributes:
        rows: Rows that have an outcome without anything being sent.
        locations: Locations that are not sent at all.
        by_source: Answers by source, those of locations that are asked others too.
        oldest_at: When the oldest of these was answered (UTC); None if there are none.
        carried_locations: Locations in the planned chunks that have any of them.
        carried_by_source: About how many of these each source would have been asked.
    """

    rows: int = 0
    locations: int = 0
    by_source: dict[str, int] = {}
    oldest_at: dt.datetime | None = None
    carried_locations: int = 0
    carried_by_source: dict[str, int] = {}


class SpoolPlace(msgspec.Struct, frozen=True):
    """Where a chunk's output is kept.

    Attributes:
        segment: The name of a file of the spool.
        begin: Where in it the output begins.
        size: How many bytes it has, as it is kept.
    """

    segment: str
    begin: int
    size: int


class PackedOutput(msgspec.Struct, frozen=True):
    """An output as the spool stores it.

    Attributes:
        suffix: How the name of a file of such outputs ends.
        content: Its bytes.
    """

    suffix: str
    content: bytes


class ChunkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal knows of a chunk.

    Attributes:
        index: Its number.
        state: How far it is.
        since: When it came into that state, in Unix seconds.
        job_id: The job that has it, or answered it; "" where none does.
        jobs: Jobs accepted so far, its own alone.
        doubts: Submissions in doubt so far, its own alone.
        charged_before: Whether its rows were, or may have been, charged as this chunk or as
            the one that it is a part of.
        held: Whether a submission in doubt is left to the user.
        unreadable: Whether its job's output was found to be one that can never be read.
        outputs: What that job made, as far as the API has said; at urls that anybody may have
            written there.
        failure: Why it has no answers, where it failed.
        tally: How the rows that it settled ended, where it is spooled or failed.
        place: Where its output is kept; None where it is not spooled.
        chunk: A later chunk's content; None for a planned one, which the plan has.
        offset_index: Where in its spooled body each row's answer is; None where the body is to be
            read on the slow path, or there is none.
    """

    index: int
    state: ChunkState
    since: float
    job_id: str = ""
    jobs: int = 0
    doubts: int = 0
    charged_before: bool = False
    held: bool = False
    unreadable: bool = False
    outputs: tuple[JobOutput, ...] = ()
    failure: Failure | None = None
    tally: Tally | None = None
    place: SpoolPlace | None = None
    chunk: Chunk | None = None
    offset_index: OffsetIndex | None = None


class SubmissionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal knows of a submission.

    Attributes:
        index: The chunk's number.
        locations: How many were sent.
        since: When, in Unix seconds.
        job_id: The job that it made; "" where none is known.
        charged_before: Whether its rows were, or may have been, charged before.
        held: Whether it is left to the user.
        error: What happened; "" where nothing did.
    """

    index: int
    locations: int
    since: float
    job_id: str = ""
    charged_before: bool = False
    held: bool = False
    error: str = ""


RECORD_COLUMNS = (
    "idx, state, since, job_id, jobs, doubts, charged_before, held, unreadable, outputs, failure,"
    " tally, segment, segment_begin, segment_size, content, offset_index"
)
SUBMISSION_COLUMNS = (
    "submissions.idx, submissions.locations, submissions.sent_at, submissions.job_id,"
    " submissions.charged_before, coalesce(chunks.held AND chunks.submission = submissions.id, 0),"
    " coalesce(submissions.error, '')"
)


def record_of(columns: tuple[object, ...]) -> ChunkRecord:
    """A row of `RECORD_COLUMNS` as a record."""
    *plain, outputs, failure, tally, segment, begin, size, content, offset_index = columns
    with damage_in("a chunk"):
        record = msgspec.convert(
            dict(zip(_PLAIN_COLUMNS, plain, strict=True)), ChunkRecord, strict=False
        )
        return msgspec.structs.replace(
            record,
            outputs=_outputs_decoder.decode(outputs) if isinstance(outputs, str) else (),
            failure=_failure_decoder.decode(failure) if isinstance(failure, str) else None,
            tally=_tally_decoder.decode(tally) if isinstance(tally, str) else None,
            place=None
            if segment is None
            else msgspec.convert({"segment": segment, "begin": begin, "size": size}, SpoolPlace),
            chunk=unpack_chunk(content) if isinstance(content, bytes) else None,
            offset_index=unpack_offset_index(offset_index)
            if isinstance(offset_index, bytes)
            else None,
        )


_PLAIN_COLUMNS = (
    "index",
    "state",
    "since",
    "job_id",
    "jobs",
    "doubts",
    "charged_before",
    "held",
    "unreadable",
)


def submission_of(columns: tuple[object, ...]) -> SubmissionRecord:
    """A row of `SUBMISSION_COLUMNS` as a record."""
    names = SubmissionRecord.__struct_fields__
    with damage_in("a submission"):
        return msgspec.convert(
            dict(zip(names, columns, strict=True)), SubmissionRecord, strict=False
        )


def pack_chunk(chunk: Chunk) -> bytes:
    """A later chunk as the journal keeps it."""
    return zstandard.ZstdCompressor().compress(_chunk_encoder.encode(chunk))


def unpack_chunk(content: bytes) -> Chunk:
    """What `pack_chunk()` packed.

    Raises:
        RunError: When it cannot be read.
    """
    with damage_in("a chunk's content"):
        head = zstandard.get_frame_parameters(content)
        if head.content_size > MAX_CONTENT_BYTES:  # or not said
            raise ValueError("its size is wrong")
        return _chunk_decoder.decode(zstandard.ZstdDecompressor().decompress(content))


def pack_retry_row(retry_row: RetryRow) -> bytes:
    """A row that waits to be retried, as the journal keeps it."""
    return _retry_row_encoder.encode(retry_row)


def unpack_retry_row(content: bytes) -> RetryRow:
    """What `pack_retry_row()` packed.

    Raises:
        RunError: When it cannot be read.
    """
    with damage_in("a row that waits"):
        return _retry_row_decoder.decode(content)


def pack_outputs(outputs: Sequence[JobOutput]) -> str:
    """A job's outputs as the journal keeps them: where to find them, without a secret."""
    places = [JobOutput(masked(output.url), masked(output.filename)) for output in outputs]
    return msgspec.json.encode(places).decode()


def pack_offset_index(offset_index: OffsetIndex | None) -> bytes | None:
    """An offset index as the journal keeps it.

    In the place of where an answer begins there is how far behind the one before: mostly a number
    of one byte, so that it is half as large.
    """
    if offset_index is None:
        return None
    begins, lengths = offset_index.begins, offset_index.lengths
    gaps = list(map(sub, begins, [0, *map(add, begins[:-1], lengths[:-1])]))
    return _offset_index_encoder.encode(OffsetIndex(gaps, lengths, offset_index.not_ok))


def unpack_offset_index(content: bytes) -> OffsetIndex:
    """What `pack_offset_index()` packed.

    Raises:
        RunError: When it cannot be read.
    """
    with damage_in("a chunk's offset index"):
        packed = _offset_index_decoder.decode(content)
        steps = map(add, packed.begins, [0, *packed.lengths[:-1]])
        return OffsetIndex(list(accumulate(steps)), packed.lengths, packed.not_ok)


def read_record(connection: sqlite3.Connection, index: int) -> ChunkRecord | None:
    """What is known of a chunk; None where nothing is."""
    found = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM chunks WHERE idx = ?",  # noqa: S608 - a constant
        (index,),
    ).fetchone()
    return None if found is None else record_of(found)


def read_meta(connection: sqlite3.Connection, key: str) -> object:
    """A value by name; None where there is none.

    Raises:
        RunError: When it cannot be read.
    """
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    with damage_in(f"its {key}"):
        return None if found is None else msgspec.json.decode(found[0])


def state_named(name: str) -> ChunkState:
    """A state as the journal keeps it.

    Raises:
        RunError: When there is none of that name.
    """
    with damage_in("a chunk's state"):
        return ChunkState(name)


def failure_of(text: str) -> Failure:
    """A failure as the journal keeps it."""
    return _failure_decoder.decode(text)


def tally_of(text: str) -> Tally:
    """A tally as the journal keeps it.

    Raises:
        RunError: When it cannot be read.
    """
    with damage_in("how rows ended"):
        return _tally_decoder.decode(text)


def asked_of_text(text: str) -> dict[str, int]:
    """About how many locations each source is asked, as the journal keeps it.

    Raises:
        RunError: When it cannot be read.
    """
    with damage_in("a submission's sources"):
        return _asked_decoder.decode(text)
