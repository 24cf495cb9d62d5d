"""`reused`: which answers of a run are those of earlier runs, and when they were given.

A frame for each planned chunk. The answers themselves are in the spool, as any others; how many
they are, in the journal.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec

from pingdata_async.runs.directory.frame_file import FileKind, Footer, FrameReader
from pingdata_async.util.compression import DamagedFrameError

REUSED_NAME = "reused"
REUSED_KIND = FileKind("the list of reused answers", b"PINGREU", b"1")


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where an answer is from.

    Attributes:
        run_id: Of the run that asked for it.
        answered_at: When it was answered, in Unix seconds.
    """

    run_id: str
    answered_at: int

    def __str__(self) -> str:
        at = dt.datetime.fromtimestamp(self.answered_at, dt.UTC)
        return f"{self.run_id}, {at:%Y-%m-%dT%H:%M:%SZ}"


class ReusedInChunk(msgspec.Struct, frozen=True, array_like=True):
    """The reused answers of a planned chunk.

    Attributes:
        origins: Where they are from.
        by_row: By number of a row and code of a source, which of these.
    """

    origins: list[Origin] = []
    by_row: dict[int, dict[str, int]] = {}

    def origins_of(self, row: int) -> dict[str, Origin]:
        """Where the reused answers of a row are from, by source."""
        return {code: self.origins[number] for code, number in self.by_row.get(row, {}).items()}

    @property
    def marks(self) -> dict[int, dict[str, str]]:
        """The same as results show it: by row and source, the run and the date."""
        shown = list(map(str, self.origins))
        return {
            row: {code: shown[number] for code, number in by_code.items()}
            for row, by_code in self.by_row.items()
        }


encode_reused = msgspec.msgpack.Encoder().encode
_decode_reused = msgspec.msgpack.Decoder(ReusedInChunk).decode
_footers: msgspec.msgpack.Decoder[Footer] = msgspec.msgpack.Decoder(Footer)


class ReusedAnswers:
    """Which answers of a run are reused; of a run without any, none. Blocks.

    Args:
        run_dir: The run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / REUSED_NAME
        self._frames: FrameReader[Footer] | None = None
        self._is_there: bool | None = None

    def __bool__(self) -> bool:
        if self._is_there is None:
            self._is_there = self._path.exists()
        return self._is_there

    def of_chunk(self, index: int) -> ReusedInChunk | None:
        """Those of a planned chunk; None where there are none.

        Raises:
            RunError: When they cannot be read.
        """
        if not self:
            return None
        if self._frames is None:
            self._frames = FrameReader(self._path, REUSED_KIND, _footers)
        with self._frames as frames:
            try:
                found = _decode_reused(frames.read(index))
            except (DamagedFrameError, msgspec.MsgspecError, IndexError) as error:
                raise frames.damaged(f"chunk {index}: {error}") from error
        return found if found.by_row else None
