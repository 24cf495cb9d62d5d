"""The input, read once, becomes `plan` and `input` in the run directory."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from anyio import from_thread
from anyio.from_thread import check_cancelled

from pingdata_async.engine.flow_control.budget import asked_of
from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.coverage import Coverage
from pingdata_async.runs.directory.frame_file import FrameWriter, staging, writing
from pingdata_async.runs.directory.input_copy import INPUT_NAME, InputCopyWriter, writing_input_copy
from pingdata_async.runs.directory.plan import (
    PLAN_KIND,
    Plan,
    PlanSummary,
    decode_chunk,
    encode_chunk,
)
from pingdata_async.runs.planning.dedupe import DuplicateFinder, DuplicateIndex
from pingdata_async.tables.mapping.columns import ColumnMapping, mapping_lines
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import AnyInput, open_input
from pingdata_async.tables.rows import Batch, ReadOptions
from pingdata_async.util.compression import decompress

TELL_INTERVAL_S = 0.2

AskCoverage = Callable[[], Coroutine[Any, Any, Coverage | str]]
"""Asks what the sources cannot answer; a sentence if that is not known."""


async def write_plan(
    path: Path,
    source: AnyInput,
    builder: ChunkBuilder,
    options: ReadOptions | None = None,
    ask_coverage: AskCoverage | None = None,
    *,
    dedupe: bool = True,
    on_wait: Callable[[], None] = lambda: None,
    on_read: Callable[[int, float | None], None] = lambda _rows, _share: None,
) -> Plan:
    """Read the input through and write the plan. Cancelled, it stops at once.

    The plan gets its name only once it is whole and on disk.

    Args:
        path: Where the plan will be; the copy of the input is made beside it.
        source: The input.
        builder: Makes the chunks.
        options: How to read the input.
        ask_coverage: Asks what the sources cannot answer, once there are rows; None not to ask.
        dedupe: Whether equal locations are sent once.
        on_wait: Called in the event loop if nobody writes into a named pipe yet.
        on_read: Called in the event loop now and then, with the rows read so far and the part of
            the file that they are, if that is known.

    Raises:
        ConfigurationError: The options do not fit the input.
        InputError: The input cannot be used.
        RunError: There is a plan already.
        OSError: The plan cannot be written.
    """
    return await anyio.to_thread.run_sync(
        lambda: _write_plan(
            path,
            source,
            builder,
            options or ReadOptions(),
            ask_coverage,
            dedupe=dedupe,
            on_wait=functools.partial(from_thread.run_sync, on_wait),
            on_read=lambda rows, share: from_thread.run_sync(on_read, rows, share),
        )
    )


def _write_plan(
    path: Path,
    source: AnyInput,
    builder: ChunkBuilder,
    options: ReadOptions,
    ask_coverage: AskCoverage | None,
    *,
    dedupe: bool,
    on_wait: Callable[[], None],
    on_read: Callable[[int, float | None], None],
) -> Plan:
    if path.exists():
        raise RunError(f"{path} exists already")  # answers may belong to it
    with (
        open_input(source, check_cancelled, options, on_wait) as reader,
        writing(path, PLAN_KIND) as frames,  # gets its name last: all is there then
        writing_input_copy(path.with_name(INPUT_NAME)) as keeper,
    ):
        notes: list[str] = []
        chunks = _chunks(_told_of(reader, on_read), builder, keeper, ask_coverage, notes)
        if dedupe:
            counts = _write_distinct(frames, chunks, builder, path.parent)
        else:
            counts = _write(frames, chunks, builder.sources)
        frames.end(_summary(counts, frames, reader, builder, notes))
        keeper.end(reader.headers, reader.sheet_place)
    return Plan(path)


class _Counts(msgspec.Struct):
    """The totals of a plan's chunks; attributes as in `PlanSummary`."""

    rows: int = 0
    locations: int = 0
    repeated: int = 0
    jobs: int = 0
    chunk_size: int = 0
    asked: Counter[str] = msgspec.field(default_factory=Counter[str])
    left_out: Counter[str] = msgspec.field(default_factory=Counter[str])

    def add(self, chunk: Chunk, sources: tuple[str, ...]) -> None:
        self.rows += chunk.total_rows
        self.locations += len(chunk.rows)
        self.repeated += len(chunk.duplicates)
        self.jobs += bool(chunk.rows)
        self.chunk_size = max(self.chunk_size, len(chunk.rows))
        self.asked.update(asked_of(chunk, sources))
        self.left_out.update(invalid.reason.value for invalid in chunk.invalid)


def _summary(
    counts: _Counts,
    frames: FrameWriter,
    reader: InputReader,
    builder: ChunkBuilder,
    notes: Sequence[str],
) -> PlanSummary:
    values = reader.all_values(builder.values)
    columns = ColumnMapping(reader.mapping.columns, ())
    return PlanSummary(
        **msgspec.structs.asdict(counts),
        skipped=dict(builder.skipped),
        has_ids=builder.has_ids,
        unused_columns=reader.unused_columns,
        values_left_out=values.faults(),
        value_notes=values.notes(),
        fingerprint=reader.fingerprint(),
        notes=(*reader.notes, *notes),
        mapping=tuple(mapping_lines(columns, builder.samples.by_field)),
        offsets=frames.packed_offsets(),
    )


def _write(frames: FrameWriter, chunks: Iterator[Chunk], sources: tuple[str, ...]) -> _Counts:
    counts = _Counts()
    for chunk in chunks:
        counts.add(chunk, sources)
        frames.add(encode_chunk(chunk))
    return counts


def _write_distinct(
    frames: FrameWriter, chunks: Iterator[Chunk], builder: ChunkBuilder, folder: Path
) -> _Counts:
    """Write the chunks so that each location is in them once."""
    with DuplicateFinder(folder) as finder, staging(folder, PLAN_KIND) as staged:
        builder.tell_keys(finder.add)
        counts = _write(staged, chunks, builder.sources)
        duplicates = finder.find(lambda: _chunks_of(staged), check_cancelled)
        if duplicates is None:
            for frame in staged.written():
                frames.add_frame(frame)
            return counts
        with duplicates:
            distinct = _distinct(_chunks_of(staged), duplicates, builder.renewed())
            return _write(frames, distinct, builder.sources)


def _chunks_of(staged: FrameWriter) -> Iterator[Chunk]:
    return (decode_chunk(decompress(frame)) for frame in staged.written())


def _told_of(reader: InputReader, on_read: Callable[[int, float | None], None]) -> Iterator[Batch]:
    """The batches of an input; tells now and then how many rows have been read."""
    told_at = time.monotonic()
    for batch in reader:
        yield batch
        if time.monotonic() - told_at >= TELL_INTERVAL_S:
            on_read(reader.rows + len(batch.locations), reader.share_read)
            told_at = time.monotonic()


def _chunks(
    batches: Iterator[Batch],
    builder: ChunkBuilder,
    keeper: InputCopyWriter,
    ask_coverage: AskCoverage | None,
    notes: list[str],
) -> Iterator[Chunk]:
    row = 0
    for batch in batches:
        check_cancelled()
        if not row and ask_coverage is not None:  # not sooner: the input may be unusable
            coverage = from_thread.run(ask_coverage)
            if isinstance(coverage, str):
                notes.append(coverage)
            else:
                builder.coverage = coverage
        keeper.add(batch.input_rows, len(batch.locations))
        yield from builder.add_batch(row, batch.locations, batch.errors)
        row += len(batch.locations)
    rest = builder.rest()
    if rest is not None:
        yield rest


def _distinct(
    chunks: Iterator[Chunk], duplicates: DuplicateIndex, builder: ChunkBuilder
) -> Iterator[Chunk]:
    for chunk in chunks:
        check_cancelled()
        yield from builder.add_distinct(chunk, duplicates.of(chunk))
    rest = builder.rest()
    if rest is not None:
        yield rest
