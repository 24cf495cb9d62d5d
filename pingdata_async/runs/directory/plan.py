"""`plan`: the chunks of a run, a frame each.

One file with a frame for each chunk, in MessagePack, and beside it the input's own rows as they
came (`kept_input.py`). From here on the input is not needed any more.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import anyio.to_thread
import msgspec
from anyio import from_thread
from anyio.from_thread import check_cancelled

from pingdata_async.engine.flow_control.budget import asked_of
from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.coverage import Coverage
from pingdata_async.runs.directory.dedupe import DistinctChunks, DuplicateFinder, DuplicateIndex
from pingdata_async.runs.directory.frame_file import (
    FileKind,
    Footer,
    FrameReader,
    FrameWriter,
    staging,
    writing,
)
from pingdata_async.runs.directory.input_copy import INPUT_NAME, InputCopyWriter, writing_input_copy
from pingdata_async.tables.mapping.columns import ColumnMapping, mapping_lines
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import AnyInput, open_input
from pingdata_async.tables.rows import Fingerprint, ReadOptions
from pingdata_async.util.compression import DamagedFrameError, decompress
from pingdata_async.util.files import Closing
from pingdata_async.value_notes import ValueNote

AskCoverage = Callable[[], Coroutine[Any, Any, Coverage | str]]
"""Asks what the sources cannot answer; where that is not known, a sentence says so."""

# The earlier one knew of no twins; a program that does not would leave them out.
_KIND = FileKind("the plan", b"PINGPLN", b"2", (b"1",))

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


class _Totals(Footer, frozen=True, kw_only=True):
    """The table of contents; what has a default came with a later version."""

    rows: int
    locations: int
    chunk_size: int
    body_bytes: int
    unused_columns: tuple[str, ...]
    values_left_out: int
    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()
    mapping: tuple[str, ...] = ()
    repeated: int = 0
    jobs: int | None = None
    asked: dict[str, int] | None = None
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    value_notes: tuple[ValueNote, ...] = ()
    has_ids: bool = False


_totals = msgspec.msgpack.Decoder(_Totals)


class Plan(Closing):
    """A plan on disk, and what it amounts to; `make()` or `open()` tell that.

    Attributes:
        path: Where it is.
        rows: Data records of the input.
        locations: Rows that are to be sent.
        repeated: Rows that repeat one of these, and are not sent.
        jobs: Chunks with something to be sent.
        chunk_size: Locations in the largest chunk.
        body_bytes: All locations as they will be sent, without their ids.
        unused_columns: Columns that mean nothing to the API.
        values_left_out: Values that were unreadable, or codes for unknown, and are not sent.
        value_notes: These, and others that are not sent as they stand, by column.
        fingerprint: Which input it was made of; None before it is made or opened.
        notes: What the user should know of how the plan was made, a sentence each.
        mapping: Which column was taken for which field, with samples of what is sent, a line each.
        asked: About how many locations each source is asked, by its code; None where a plan of
            an earlier version does not say.
        skipped: For how many rows each source is not asked, as it would surely fail.
        left_out: Rows that are not sent, by reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: FrameReader[_Totals] | None = None
        self._chunks = 0
        self._has_ids = False
        self.rows = 0
        self.locations = 0
        self.repeated = 0
        self.jobs = 0
        self.chunk_size = 0
        self.body_bytes = 0
        self.unused_columns: tuple[str, ...] = ()
        self.values_left_out = 0
        self.value_notes: tuple[ValueNote, ...] = ()
        self.fingerprint: Fingerprint | None = None
        self.notes: tuple[str, ...] = ()
        self.mapping: tuple[str, ...] = ()
        self.asked: dict[str, int] | None = None
        self.skipped: dict[str, int] = {}
        self.left_out: dict[str, int] = {}

    @property
    def chunks(self) -> int:
        """Chunks in the plan."""
        return self._chunks

    def exists(self) -> bool:
        """Whether a plan is there; under its name there is only ever a whole one. Blocks."""
        return self.path.exists()

    async def make(
        self,
        source: AnyInput,
        builder: ChunkBuilder,
        options: ReadOptions | None = None,
        ask_coverage: AskCoverage | None = None,
        *,
        dedupe: bool = True,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the input through and write the plan. Cancelled, it stops at once.

        It is there under its name only when it is whole and on the disk. Use a new object
        after a failure.

        Args:
            source: The input.
            builder: Makes the chunks.
            options: How the input is to be understood; None to find out.
            ask_coverage: Asks what the sources cannot answer, once there are rows; None for nobody.
            dedupe: Whether what is the same location is sent once.
            on_wait: Called in the event loop where nobody writes into a named pipe yet.

        Raises:
            ConfigurationError: When the options do not fit the input.
            InputError: When the input cannot be used.
            RunError: When there is a plan already.
            OSError: When the plan cannot be written.
        """
        options = options or ReadOptions()
        await anyio.to_thread.run_sync(
            lambda: self._make(source, builder, options, ask_coverage, on_wait, dedupe=dedupe)
        )

    def _make(
        self,
        source: AnyInput,
        builder: ChunkBuilder,
        options: ReadOptions,
        ask_coverage: AskCoverage | None,
        on_wait: Callable[[], None],
        *,
        dedupe: bool,
    ) -> None:
        tell = functools.partial(from_thread.run_sync, on_wait)
        if self.exists():
            raise RunError(f"{self.path} exists already")  # answers may belong to it
        with (
            open_input(source, check_cancelled, options, tell) as reader,
            writing(self.path, _KIND) as frames,  # gets its name last: all is there then
            writing_input_copy(self.path.with_name(INPUT_NAME)) as keeper,
        ):
            notes: list[str] = []
            staged = _chunks(reader, builder, keeper, ask_coverage, notes)
            if dedupe:
                self._write_distinct(frames, staged, builder)
            else:
                self._write(frames, staged, builder.sources)
            self._end(frames, reader, builder, notes)
            keeper.end(reader.headers, reader.sheet_place)
        self._reader = FrameReader(self.path, _KIND, _totals)

    def _write_distinct(
        self, frames: FrameWriter, chunks: Iterator[Chunk], builder: ChunkBuilder
    ) -> None:
        """Write the chunks so that each location is in them once."""
        folder = self.path.parent
        with DuplicateFinder(folder) as finder, staging(folder, _KIND) as staged:
            builder.tell_keys(finder.add)
            self._write(staged, chunks, builder.sources)
            duplicate_index = finder.find(check_cancelled)
            if duplicate_index is None:
                for frame in staged.written():
                    frames.add_frame(frame)
                return
            self.rows = self.locations = self.jobs = self.chunk_size = self.body_bytes = 0
            with contextlib.closing(duplicate_index):
                self._write(
                    frames, _distinct(staged.written(), duplicate_index, builder), builder.sources
                )

    def _write(
        self, frames: FrameWriter, chunks: Iterator[Chunk], sources: tuple[str, ...]
    ) -> None:
        asked, left_out = Counter[str](), Counter[str]()
        for chunk in chunks:
            asked.update(asked_of(chunk, sources))
            left_out.update(invalid.reason.value for invalid in chunk.invalid)
            self.rows += chunk.total_rows
            self.locations += len(chunk.rows)
            self.repeated += len(chunk.duplicates)
            self.jobs += bool(chunk.rows)
            self.chunk_size = max(self.chunk_size, len(chunk.rows))
            self.body_bytes += sum(map(len, chunk.locations))
            frames.add(_encoder.encode(chunk))
        self.asked, self.left_out = dict(asked), dict(left_out)

    def _end(
        self,
        frames: FrameWriter,
        reader: InputReader,
        builder: ChunkBuilder,
        notes: Sequence[str],
    ) -> None:
        self._chunks = frames.frames
        self.unused_columns = reader.unused_columns
        values = reader.all_values(builder.values)
        self.values_left_out, self.value_notes = values.faults(), values.notes()
        self.skipped = dict(builder.skipped)
        self._has_ids = builder.has_ids
        self.fingerprint = reader.fingerprint()
        self.notes = (*reader.notes, *notes)
        self.mapping = tuple(
            mapping_lines(ColumnMapping(reader.mapping.columns, ()), builder.samples.by_field)
        )
        frames.end(
            _Totals(
                rows=self.rows,
                locations=self.locations,
                chunk_size=self.chunk_size,
                body_bytes=self.body_bytes,
                unused_columns=self.unused_columns,
                values_left_out=self.values_left_out,
                value_notes=self.value_notes,
                fingerprint=self.fingerprint,
                notes=self.notes,
                mapping=self.mapping,
                repeated=self.repeated,
                jobs=self.jobs,
                asked=self.asked,
                skipped=self.skipped,
                left_out=self.left_out,
                has_ids=self._has_ids,
                offsets=frames.packed_offsets(),
            )
        )

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take up a plan that was made before, without its input. Blocks.

        Raises:
            RunError: When it is missing, damaged, or of another version of this package.
        """
        plan = cls(path)
        plan._reader = FrameReader(path, _KIND, _totals)
        plan._chunks = plan._reader.frames
        contents = plan._reader.contents
        plan.rows, plan.locations = contents.rows, contents.locations
        plan.repeated = contents.repeated
        plan.jobs = plan._chunks if contents.jobs is None else contents.jobs
        plan.chunk_size, plan.body_bytes = contents.chunk_size, contents.body_bytes
        plan.unused_columns = contents.unused_columns
        plan.values_left_out = contents.values_left_out
        plan.value_notes = contents.value_notes
        plan.fingerprint = contents.fingerprint
        plan.notes, plan.mapping = contents.notes, contents.mapping
        plan.asked, plan.skipped = contents.asked, contents.skipped
        plan.left_out = contents.left_out
        plan._has_ids = contents.has_ids
        return plan

    def __enter__(self) -> Self:
        if self._reader is None:
            raise RuntimeError("a plan is made or opened before it is read")
        self._reader.__enter__()
        return self

    def close(self) -> None:
        """Close the file; what it amounts to stays."""
        if self._reader is not None:
            self._reader.close()

    def read(self, index: int) -> Chunk:
        """One chunk of the plan; blocks, so call it in a thread.

        Raises:
            RunError: When it is damaged or cannot be read.
        """
        if self._reader is None:
            raise RuntimeError("a plan is read inside its `with` block")
        try:
            chunk = _decoder.decode(self._reader.read(index))
        except (DamagedFrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._reader.damaged(f"chunk {index}: {error}") from error
        if not len(chunk.rows) == len(chunk.ids) == len(chunk.locations):
            raise self._reader.damaged(f"chunk {index}: its rows are not all there")
        # Written before it was known that rows to come have ids.
        is_blank = self._has_ids and (None in chunk.ids or chunk.invalid or chunk.duplicates)
        return chunk.with_blank_ids() if is_blank else chunk


def _chunks(
    reader: InputReader,
    builder: ChunkBuilder,
    keeper: InputCopyWriter,
    ask_coverage: AskCoverage | None,
    notes: list[str],
) -> Iterator[Chunk]:
    row = 0
    for batch in reader:
        check_cancelled()
        if not row and ask_coverage is not None:  # not sooner: the input may be unusable
            rules = from_thread.run(ask_coverage)
            if isinstance(rules, str):
                notes.append(rules)
            else:
                builder.coverage = rules
        keeper.add(batch.input_rows, len(batch.locations))
        yield from builder.add_batch(row, batch.locations, batch.errors)
        row += len(batch.locations)
    rest = builder.rest()
    if rest is not None:
        yield rest


def _distinct(
    frames: Iterator[bytes], duplicate_index: DuplicateIndex, builder: ChunkBuilder
) -> Iterator[Chunk]:
    indexes = itertools.count()
    distinct = DistinctChunks(
        chunk_size=builder.chunk_size,
        max_location_bytes=builder.max_location_bytes,
        next_index=lambda: next(indexes),
    )
    for frame in frames:
        check_cancelled()
        chunk = _decoder.decode(decompress(frame))
        ends = [*chunk.rows[:1], *chunk.rows[-1:]]
        marks = duplicate_index.among(ends[0], ends[-1]) if ends else {}
        yield from distinct.add(chunk, marks)
    rest = distinct.rest()
    if rest is not None:
        yield rest
