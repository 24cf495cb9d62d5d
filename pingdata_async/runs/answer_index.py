"""What an earlier run has answered, found by location: an index beside the run.

A location's key is a hash of the fields that are sent of it. Keys are in buckets by their first
byte, sorted, each with where the location is in the plan, and which sources answered when. Two
inputs are joined bucket by bucket, so that no more of either is ever in memory. A key only
finds candidates: who uses an answer compares the fields.

Only what lasts is in the index: an answer, or the source's word that it knows nothing of the place.
"""

from __future__ import annotations

import contextlib
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import msgspec

from pingdata_async.exceptions import PingDataError, RunError
from pingdata_async.locations.chunk import SEPARATOR, Chunk, wanted_sources
from pingdata_async.locations.normalize import FOLDED_FIELDS, fold, sent_key
from pingdata_async.results.outcomes import PASSING_REASONS, passing_failures
from pingdata_async.runs.directory.directory import (
    ANSWER_INDEX_NAME,
    FINISHED,
    PLAN_NAME,
    SPOOL_NAME,
    journal_path,
    read_settings,
)
from pingdata_async.runs.directory.frame_file import (
    FileKind,
    Footer,
    FrameReader,
    FrameWriter,
    staging,
    writing,
)
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.reused import Origin, ReusedAnswers
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import REUSED, ChunkRecord, ChunkState
from pingdata_async.runs.planning.dedupe import BUCKETS, RecordPartitions
from pingdata_async.util.compression import DamagedFrameError, decompress
from pingdata_async.util.files import Closing, RunLock, is_locked

KEY_BYTES = 16
INDEX_KIND = FileKind("the index of answers", b"PINGIDX", b"1")

RECORD = struct.Struct(f"<{KEY_BYTES}sIII")
"""A location: its key, its chunk in the plan, its place there, and which answers it has."""

_fields = msgspec.json.Decoder(dict[str, Any]).decode
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_OWN_SOURCES = b'"sources":'


def location_keys(chunk: Chunk) -> list[bytes]:
    """The key of each location of a chunk; those of equal locations are equal.

    Without case, so that all of a body can be read at once.
    """
    if not chunk.rows:
        return []
    body = chunk.body
    if body.isascii() and not any(each in body for each in (b"\\", b"  ", _OWN_SOURCES)):
        lines = body.lower().split(SEPARATOR)
        return [blake2b(line.partition(b",")[2], digest_size=KEY_BYTES).digest() for line in lines]
    return [
        blake2b(_folded(location), digest_size=KEY_BYTES).digest() for location in chunk.locations
    ]


def _folded(location: bytes) -> bytes:
    fields = fields_sent(location)
    if not fields.isascii() or b"\\" in fields or b"  " in fields:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):  # a number too large
            values = _fields(fields)
            folded = {name: fold(values[name]) for name in FOLDED_FIELDS & values.keys()}
            fields = _encode(values | folded)
    return fields[1:].lower()


def fields_sent(location: bytes) -> bytes:
    """What is sent of a location, as a JSON object, without the row's number and the sources."""
    fields = b"{" + location.partition(b",")[2]
    if _OWN_SOURCES in fields:
        values = _raw_fields(fields)
        values.pop("sources", None)
        fields = _encode(values)
    return fields


def are_same(one: bytes, other: bytes) -> bool:
    """Whether two locations, as `fields_sent()` has them, are the same."""
    return one == other or sent_key(one) == sent_key(other)


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """Answers that a location has: of which sources, and where they are from."""

    sources: tuple[str, ...]
    origin: Origin


class _IndexFooter(Footer, frozen=True, kw_only=True):
    """The index's table of contents.

    Attributes:
        stamp: What the journal said when it was made.
        answers: The answers that locations have.
    """

    stamp: str
    answers: tuple[Answers, ...]


_footers = msgspec.msgpack.Decoder(_IndexFooter)


class EarlierRun(Closing):
    """A run whose answers may be used again; it is only read. A context manager; all blocks.

    Args:
        path: The run directory.
        scratch: A folder for what is kept meanwhile, under no name.
        check_cancelled: Called now and then; may raise.

    Attributes:
        settings: Those of the run.
        is_finished: Whether it is; if not, it has answers only in part.
        plan: What was planned.
        answers: The answers that its locations have; `RECORD` has their numbers. Known once it is
            entered.

    Raises:
        PingDataError: When it cannot be read; from the constructor or on entering.
    """

    def __init__(self, path: Path, scratch: Path, check_cancelled: Callable[[], None]) -> None:
        self.path = path
        self.settings = read_settings(path)
        self.plan = Plan(path / PLAN_NAME)
        self.answers: tuple[Answers, ...] = ()
        self._scratch = scratch
        self._check_cancelled = check_cancelled
        self._stack = contextlib.ExitStack()
        self._reused = ReusedAnswers(path)
        self._frames: FrameReader[_IndexFooter] | None = None
        self._staged: FrameWriter | None = None
        self.is_finished = False
        self._run_id = path.name

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.plan)
            is_busy = is_locked(self.path)
            journal = JournalReader(journal_path(self.path), as_it_is_now=is_busy)
            self._journal = self._stack.enter_context(journal)
            self.results = ResultReader(
                Spool(self.path / SPOOL_NAME), self._journal, self.settings.sources
            )
            if self._journal.meta(REUSED) and not self._reused:
                raise RunError("its list of reused answers, which says how old they are, is gone")
            finished = self._journal.meta(FINISHED)
            self.is_finished = finished is not None and not is_busy
            if isinstance(finished, dict):
                self._run_id = finished.get("run_id") or self._run_id
            self._find_index()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close its files."""
        self._stack.close()

    def buckets(self) -> Iterator[bytes]:
        """The records of the index, a bucket at a time, in the order of their keys.

        Raises:
            RunError: When the run itself is damaged.
        """
        for bucket in range(BUCKETS):
            if self._frames is not None:
                try:
                    yield self._frames.read(bucket)[1:]
                    continue
                except (RunError, DamagedFrameError):
                    self._make_index()
            yield self._staged_bucket(bucket)

    # -- the index itself ----------------------------------------------------------------

    def _find_index(self) -> None:
        path = self.path / ANSWER_INDEX_NAME
        stamp = self._journal.stamp()
        if self.is_finished:
            with contextlib.suppress(RunError):
                self._open_index(path, stamp)
                return
            # A run that nobody is at work on, and that can be written, keeps it.
            with contextlib.suppress(PingDataError, OSError), RunLock(self.path):
                if self._journal.stamp() == stamp:
                    with writing(path, INDEX_KIND) as frames:
                        self._write_index(frames, stamp)
                    self._open_index(path, stamp)
                    return
        self._make_index()

    def _open_index(self, path: Path, stamp: str) -> None:
        frames = FrameReader(path, INDEX_KIND, _footers)
        if frames.contents.stamp != stamp or frames.frames != BUCKETS:
            raise RunError(f"{path} is of another state of the run")
        self.answers = frames.contents.answers
        self._frames = self._stack.enter_context(frames)

    def _make_index(self) -> None:
        self._frames = None
        self._staged = self._stack.enter_context(staging(self._scratch, INDEX_KIND))
        self._write_index(self._staged, "")

    def _staged_bucket(self, bucket: int) -> bytes:
        assert self._staged is not None  # noqa: S101 - for type checkers
        return decompress(self._staged.read(bucket))[1:]

    def _write_index(self, frames: FrameWriter, stamp: str) -> None:
        numbers: dict[Answers, int] = {}
        with RecordPartitions(self._scratch, BUCKETS) as records:
            for index in range(self.plan.chunks):
                self._check_cancelled()
                chunk = self.plan.read(index)
                keys = location_keys(chunk)
                found = [
                    (keys[place], index, place, numbers.setdefault(answers, len(numbers)))
                    for place, answers in self._lasting(chunk)
                ]
                records.add([key[0] for key, *_ in found], [RECORD.pack(*each) for each in found])
            for bucket in range(BUCKETS):
                self._check_cancelled()
                content = b"".join(records.read(bucket))
                each = range(0, len(content), RECORD.size)
                in_order = sorted([content[at : at + RECORD.size] for at in each])
                frames.add(b"".join([b"\0", *in_order]))  # never empty
        self.answers = tuple(numbers)
        frames.end(_IndexFooter(offsets=frames.packed_offsets(), stamp=stamp, answers=self.answers))

    def _lasting(self, chunk: Chunk) -> Iterator[tuple[int, Answers]]:
        """The answers of a chunk's locations that last, by place."""
        record = self._journal.record(chunk.index)
        if record is None or not chunk.rows:
            return
        later = self._journal.later_chunks_of(chunk.index)
        reused = self._reused.of_chunk(chunk.index)
        dates = _Dates(record, later, self.settings.sources, self._run_id)
        left: Sequence[int] = range(len(chunk.rows))
        if _is_indexed(record, chunk) and not later:
            assert record.offset_index is not None  # noqa: S101 - for type checkers
            passing = {
                each.place for each in record.offset_index.not_ok if each.reason in PASSING_REASONS
            }
            if not reused and not chunk.sources:
                answers = Answers(self.settings.sources, dates.planned)
                yield from ((place, answers) for place in left if place not in passing)
                left = sorted(passing)
                if not left:
                    return
        outcomes = {each.row: each for each in self.results.outcomes(chunk).settled}
        for place in left:
            row = chunk.rows[place]
            if row not in outcomes:
                continue
            wanted = wanted_sources(chunk, place, self.settings.sources)
            without = set(passing_failures(outcomes[row].data, wanted))
            known = reused.origins_of(row) if reused else {}
            by_origin = defaultdict[Origin, list[str]](list)
            for code in wanted:
                if code not in without:
                    by_origin[dates.origin(row, code, known)].append(code)
            for origin, codes in by_origin.items():
                yield place, Answers(tuple(codes), origin)


def _is_indexed(record: ChunkRecord, chunk: Chunk) -> bool:
    return (
        record.state is ChunkState.SPOOLED
        and record.offset_index is not None
        and len(record.offset_index.begins) == len(chunk.rows)
    )


class _Dates:
    """Where the answers to a planned chunk's rows are from.

    Args:
        record: Of the planned chunk.
        later: The later chunks with rows of it, in their order.
        sources: The run's.
        run_id: Of the run itself.
    """

    def __init__(
        self,
        record: ChunkRecord,
        later: Sequence[ChunkRecord],
        sources: tuple[str, ...],
        run_id: str,
    ) -> None:
        self.planned = Origin(run_id, int(record.since))
        self._later: dict[tuple[int, str], Origin] = {}
        for each in later:
            if each.chunk is None or each.state is not ChunkState.SPOOLED:
                continue
            origin = Origin(run_id, int(each.since))
            for place, row in enumerate(each.chunk.rows):
                for code in each.chunk.sources.get(place, sources):
                    self._later[row, code] = origin

    def origin(self, row: int, code: str, reused: dict[str, Origin]) -> Origin:
        """Where the answer of a source is from; `reused` are those of the row's from elsewhere."""
        return self._later.get((row, code)) or reused.get(code) or self.planned
