"""`plan`: the chunks of a run, a frame each, and what they amount to.

Once there is a plan and the copy of the input beside it, the input itself is not needed any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from pingdata_async.locations.chunk import SEPARATOR, Chunk
from pingdata_async.runs.directory.frame_file import FileKind, Footer, FrameReader
from pingdata_async.tables.rows import Fingerprint
from pingdata_async.util.compression import DamagedFrameError
from pingdata_async.util.files import Closing
from pingdata_async.value_notes import ValueNote

PLAN_KIND = FileKind("the plan", b"PINGPLN", b"1")


class PlanSummary(Footer, frozen=True, kw_only=True):
    """What a plan amounts to; the footer of its file.

    Attributes:
        rows: Data records of the input.
        locations: Rows that are to be sent.
        repeated: Rows that repeat one of these, and are not sent.
        jobs: Chunks with something to be sent.
        chunk_size: Locations in the largest chunk.
        asked: About how many locations each source is asked, by its code.
        skipped: For how many rows each source is not asked, as it would surely fail.
        left_out: Rows that are not sent, by reason.
        has_ids: Whether any row has an id of its own.
        unused_columns: Columns that mean nothing to the API.
        values_left_out: Values that were unreadable, or codes for unknown, and are not sent.
        value_notes: These, and others that are not sent as they stand, by column.
        fingerprint: Which input it was made of.
        notes: What the user should know of how the plan was made, a sentence each.
        mapping: Which column was taken for which field, with samples of what is sent, a line each.
    """

    rows: int
    locations: int
    repeated: int
    jobs: int
    chunk_size: int
    asked: dict[str, int]
    skipped: dict[str, int]
    left_out: dict[str, int]
    has_ids: bool
    unused_columns: tuple[str, ...]
    values_left_out: int
    value_notes: tuple[ValueNote, ...]
    fingerprint: Fingerprint
    notes: tuple[str, ...]
    mapping: tuple[str, ...]


_summary_decoder = msgspec.msgpack.Decoder(PlanSummary)
encode_chunk = msgspec.msgpack.Encoder().encode
decode_chunk = msgspec.msgpack.Decoder(Chunk).decode


class Plan(Closing):
    """A plan on disk; its chunks are read inside its `with` block. Blocks.

    Args:
        path: Where it is.

    Attributes:
        path: Where it is.
        summary: What it amounts to.

    Raises:
        RunError: When it is missing, damaged, or of another version of this package.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames = FrameReader(path, PLAN_KIND, _summary_decoder)
        self.summary = self._frames.contents

    @property
    def chunks(self) -> int:
        """Chunks in the plan."""
        return self._frames.frames

    def __enter__(self) -> Self:
        self._frames.__enter__()
        return self

    def close(self) -> None:
        """Close the file; the summary stays."""
        self._frames.close()

    def read(self, index: int) -> Chunk:
        """One chunk of the plan; blocks, so call it in a thread.

        Raises:
            RunError: When it is damaged or cannot be read.
        """
        try:
            chunk = decode_chunk(self._frames.read(index))
        except (DamagedFrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._frames.damaged(f"chunk {index}: {error}") from error
        locations = chunk.body.count(SEPARATOR) + bool(chunk.body)
        if not len(chunk.rows) == len(chunk.ids) == locations:
            raise self._frames.damaged(f"chunk {index}: its rows are not all there")
        # Chunks are written before it is known that later rows have ids.
        may_lack_ids = None in chunk.ids or chunk.invalid or chunk.duplicates
        return chunk.with_blank_ids() if self.summary.has_ids and may_lack_ids else chunk
