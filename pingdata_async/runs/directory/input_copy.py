"""`input`: the input's own rows, all columns, as they came."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from pingdata_async.runs.directory.frame_file import (
    FileKind,
    Footer,
    FrameReader,
    FrameWriter,
    writing,
)
from pingdata_async.tables.rows import CellColumns, InputRows, SheetPlace
from pingdata_async.util.compression import DamagedFrameError
from pingdata_async.util.files import Closing

INPUT_NAME = "input"
FRAME_BYTES = 256 * 1024  # before compression; it shrinks no better in larger ones

_KIND = FileKind("the copy of the input", b"PINGINP", b"1")
_DAYS, _TIMES, _MOMENTS, _SPANS = 1, 2, 3, 4  # MessagePack's extension types, for cells of sheets

_encoder = msgspec.msgpack.Encoder()


class _InputFooter(Footer, frozen=True, kw_only=True):
    headers: tuple[str, ...]
    rows: tuple[int, ...]  # in each frame
    sheet_place: SheetPlace | None = None


_contents = msgspec.msgpack.Decoder(_InputFooter)


class InputCopyWriter:
    """Takes an input's rows; made by `writing_input_copy()`."""

    def __init__(self, frames: FrameWriter) -> None:
        self._frames = frames
        self._batches: list[bytes] = []
        self._batches_bytes = 0
        self._batches_rows = 0
        self._rows: list[int] = []

    def add(self, input_rows: InputRows, rows: int) -> None:
        """Add the next rows; blocks now and then."""
        if isinstance(input_rows, CellColumns):
            input_rows = CellColumns([_packable(column) for column in input_rows.columns])
        batch = _encoder.encode(input_rows)
        self._batches.append(batch)
        self._batches_bytes += len(batch)
        self._batches_rows += rows
        if self._batches_bytes >= FRAME_BYTES:
            self._end_frame()

    def end(self, headers: Sequence[str], sheet_place: SheetPlace | None = None) -> None:
        """After the last row.

        Args:
            headers: Of the columns.
            sheet_place: Where in a workbook the rows stand.
        """
        if self._batches:
            self._end_frame()
        self._frames.end(
            _InputFooter(
                headers=tuple(headers),
                rows=tuple(self._rows),
                sheet_place=sheet_place,
                offsets=self._frames.packed_offsets(),
            )
        )

    def _end_frame(self) -> None:
        self._frames.add(_encoder.encode([msgspec.Raw(batch) for batch in self._batches]))
        self._rows.append(self._batches_rows)
        self._batches.clear()
        self._batches_bytes = self._batches_rows = 0


@contextlib.contextmanager
def writing_input_copy(path: Path) -> Iterator[InputCopyWriter]:
    """Write an input down; it is there under its name only when it is whole. Blocks.

    Raises:
        OSError: When it cannot be written.
    """
    with writing(path, _KIND) as frames:
        yield InputCopyWriter(frames)


class InputCopy(Closing):
    """A copy of an input; read inside its `with` block. Blocks.

    Args:
        path: Where it is.

    Attributes:
        headers: The names of its columns, in order; they may repeat, or be empty.
        rows: How many there are.
        sheet_place: Where they stand in a workbook; None where they came from none.

    Raises:
        RunError: When it is missing, damaged, or of another version of this package.
    """

    def __init__(self, path: Path) -> None:
        self._frames = FrameReader(path, _KIND, _contents)
        self.headers = self._frames.contents.headers
        self.rows = sum(self._frames.contents.rows)
        self.sheet_place = self._frames.contents.sheet_place

    def __enter__(self) -> Self:
        self._frames.__enter__()
        return self

    def close(self) -> None:
        """Close the file; what it says of its columns stays."""
        self._frames.close()

    def __iter__(self) -> Iterator[InputRows]:
        """All rows, in order, some at a time.

        Raises:
            RunError: When it is damaged or cannot be read.
        """
        for index in range(self._frames.frames):
            try:
                yield from _decoder.decode(self._frames.read(index))
            except (DamagedFrameError, msgspec.MsgspecError, ValueError, OverflowError) as error:
                raise self._frames.damaged(f"part {index}: {error}") from error


def _packable(column: Sequence[Any]) -> Sequence[Any]:
    if set(map(type, column)).isdisjoint(_PACKERS):
        return column
    return [_PACKERS[type(value)](value) if type(value) in _PACKERS else value for value in column]


def _iso(code: int) -> Callable[[Any], msgspec.msgpack.Ext]:
    return lambda value: msgspec.msgpack.Ext(code, value.isoformat().encode())


_PACKERS: dict[type, Callable[[Any], msgspec.msgpack.Ext]] = {
    dt.date: _iso(_DAYS),
    dt.time: _iso(_TIMES),
    dt.datetime: _iso(_MOMENTS),
    dt.timedelta: lambda value: msgspec.msgpack.Ext(
        _SPANS, b"%d" % (value // dt.timedelta(microseconds=1))
    ),
}


def _unpacked(code: int, content: memoryview) -> Any:
    text = bytes(content).decode("ascii")
    match code:
        case 1:
            return dt.date.fromisoformat(text)
        case 2:
            return dt.time.fromisoformat(text)
        case 3:
            return dt.datetime.fromisoformat(text)
        case 4:
            return dt.timedelta(microseconds=int(text))
        case _:
            raise ValueError(f"a value of the unknown type {code}")


_decoder = msgspec.msgpack.Decoder(list[InputRows], ext_hook=_unpacked)
