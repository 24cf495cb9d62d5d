"""Delimited text to batches of records, streaming.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import BATCH_ROWS, Columns
from pingdata_async.tables.columns import map_columns
from pingdata_async.tables.delimiters import DELIMITERS, Layout, find_layout
from pingdata_async.tables.input_reader import InputReader, counted
from pingdata_async.tables.inputs import Batch, ReadOptions, TextColumns
from pingdata_async.tables.sources import (
    Fingerprint,
    HashingStream,
    PeekableStream,
    TooLongError,
)
from pingdata_async.tables.text_encoding import undecodable
from pingdata_async.value_notes import NotedValue, ValueKind
from pingdata_async.written_numbers import QUANTITIES, with_decimal_commas

BUFFER_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Of one row. Read with all that is made of it, it takes up to thirty times that."""

MAX_COLUMNS = 32_768  # twice as many as the sheet of a workbook has
MAX_BATCH_BYTES = 256 * 1024  # rows that are larger than most must not pile up in memory

_SUFFIXES = {".tsv": "\t", ".tab": "\t"}
_SHOWN_SURPLUS = 1_000  # characters of the cells that are too many in a row, kept only there

_BESIDE_DECIMAL_COMMAS = ";"  # what separates cells where numbers have commas
_SEPARATORS = frozenset(".,")

_LINE_END = re.compile("\r\n|\r|\n")


class DelimitedReader(InputReader):
    """Records of a delimited text; see `InputReader`.

    Args:
        name: The input, for messages.
        suffix: That of its name, in lower case, without that of a compression.
        source: What is hashed.
        text: Its bytes, decompressed.
        sample: Its first characters.
        is_whole: Whether these are all of it.
        encoding: What it is in.
        options: How it is to be understood.
    """

    def __init__(
        self,
        name: str,
        suffix: str,
        source: HashingStream,
        text: PeekableStream,
        *,
        sample: str,
        is_whole: bool,
        encoding: str,
        options: ReadOptions,
    ) -> None:
        super().__init__(name, options)
        self._source = source
        self._bytes = text
        self._encoding = encoding
        self._layout = find_layout(
            sample, is_whole=is_whole, delimiter=_SUFFIXES.get(suffix), options=options
        )
        self._blank_lines = 0
        self._short_rows = 0

    def fingerprint(self) -> Fingerprint:
        """Of what has been read; that of the whole input once it was iterated to its end."""
        return self._source.fingerprint()

    def _batches(self) -> Iterator[Batch]:
        text = io.TextIOWrapper(
            io.BufferedReader(self._bytes, BUFFER_BYTES), encoding=self._encoding, newline=""
        )
        # The module's own limit of 128 KiB a cell is for the whole process; raised, never lowered.
        # What ends a row that is too long is the stream, whose bytes are counted as they come.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        # strict: a stray quote must not swallow the rows behind it.
        rows = csv.reader(text, delimiter=self._layout.delimiter, strict=True)
        ended = 0  # the line on which the last batch did
        batch: list[list[str]] = []
        try:
            self._read_header(rows)
            ended = rows.line_num
            while self._read_rows(rows, batch):
                yield from self._batch(ended + 1, batch)
                ended = rows.line_num
                batch.clear()
        except (csv.Error, TooLongError) as error:
            begins = ended + 1 + sum(map(_lines_in, batch))
            told = str(error) or f"longer than {MAX_LINE_BYTES} bytes; is a quote not closed?"
            raise InputError(
                f"{self.name}, in the row that begins on line {begins}: {told}"
            ) from error
        except UnicodeError as error:
            line = rows.line_num + 1 + _lines_before(error)
            raise undecodable(f"{self.name}, line {line}", self._encoding, error) from error
        finally:
            text.detach()

    def note_encoding(self, encoding: str) -> None:
        """Tell the user that it was found to be no UTF-8."""
        self._notes.append(f"read as {encoding}; --encoding NAME says otherwise")

    def _read_header(self, rows: Iterator[list[str]]) -> None:
        header = self._layout.header
        self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        if header is None:  # longer than the sample, or there is none
            self.headers = tuple(self._first_row(rows))
        else:
            for _ in islice(rows, header.place + 1):
                pass
            self.headers = header.headers
        if len(self.headers) > MAX_COLUMNS:
            raise InputError(
                f"{self.name} has {len(self.headers):,} columns, more than {MAX_COLUMNS:,}"
            )
        self._note_layout(self._layout)
        self.mapping = map_columns(
            self.name,
            self.headers,
            given=self.options.mapping,
            id_column=self.options.id_column,
        )

    def _first_row(self, rows: Iterator[list[str]]) -> list[str]:
        """The first one with something in it."""
        for cells in rows:
            if any(map(str.strip, cells)):
                return cells
            self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        raise InputError(f"{self.name} is empty")

    def _note_layout(self, layout: Layout) -> None:
        if layout.is_one_column and layout.delimiter != ",":
            self._notes.append("one column: commas in a line are part of its text")
        elif layout.delimiter != ",":
            self._notes.append(f"columns are separated by {DELIMITERS[layout.delimiter]}")
        above = 0 if layout.header is None else layout.header.place + 1 - layout.header.rows
        if above and layout.header is not None:
            self._notes.append(
                f"headers are in row {above + 1}; {counted(above, 'row')} above left out"
            )

    def _counted(self) -> list[str]:
        notes = []
        if self._blank_lines:
            notes.append(f"{counted(self._blank_lines, 'blank line')} left out")
        if self._short_rows:
            # Each may be the half of a row whose cell had a line break without quotes.
            rows = counted(self._short_rows, "row")
            notes.append(f"fewer cells than headers in {rows}; the others are taken for empty")
        return notes

    def _read_rows(self, rows: Iterator[list[str]], batch: list[list[str]]) -> bool:
        """Fill a batch; says whether there was anything. After an error it is as far as that."""
        text = self._bytes
        largest = text.given_bytes + MAX_BATCH_BYTES
        # What comes behind that is of one row.
        text.most_bytes = largest + MAX_LINE_BYTES
        for cells in islice(rows, BATCH_ROWS):
            batch.append(cells)
            if text.given_bytes > largest:
                break
        return bool(batch)

    def _batch(self, line: int, rows: list[list[str]]) -> Iterator[Batch]:
        """A batch of what was read from a line on, unless that was blank."""
        errors: dict[int, str] = {}
        if set(map(len, rows)) != {len(self.headers)}:
            rows = self._squared(line, rows, errors)
            if not rows:
                return
        columns = tuple(zip(*rows, strict=True))
        yield Batch(
            self._with_own_decimals(self._located(columns, are_texts=True)),
            TextColumns(columns),
            errors,
        )

    def _with_own_decimals(self, located: Columns) -> Columns:
        """Numbers as the table's decimal sign has them."""
        if self._layout.delimiter != _BESIDE_DECIMAL_COMMAS:
            return located
        return msgspec.structs.replace(
            located, columns=list(map(self._numbers, located.names, located.columns))
        )

    def _numbers(self, field: str, column: Sequence[str]) -> Sequence[str]:
        if field not in QUANTITIES or _SEPARATORS.isdisjoint("".join(column)):
            return column
        read = []
        for place, text in enumerate(column):
            number = with_decimal_commas(field, text)
            if number is None:
                noted = NotedValue(self._headers_by_field()[field], ValueKind.UNREADABLE, text)
                self.values.add(self.rows + place, noted)
            read.append(number or "")
        return read

    def _squared(self, line: int, rows: list[list[str]], errors: dict[int, str]) -> list[list[str]]:
        """The rows without blank lines, all of one width; notes those that cannot be sent."""
        width = len(self.headers)
        squared: list[list[str]] = []
        for cells in rows:
            if len(cells) > width and any(map(str.strip, islice(cells, width, None))):
                errors[len(squared)] = self._too_many(line, cells)
            if cells:
                self._short_rows += len(cells) < width
                squared.append(cells[:width] + [""] * (width - len(cells)))
            line += _lines_in(cells)
        self._blank_lines += len(rows) - len(squared)
        return squared

    def _too_many(self, line: int, cells: list[str]) -> str:
        width = len(self.headers)
        surplus = ", ".join(map(repr, cells[width : width + _SHOWN_SURPLUS]))
        if len(surplus) > _SHOWN_SURPLUS:
            surplus = f"{surplus[:_SHOWN_SURPLUS]}..."
        delimiter = DELIMITERS[self._layout.delimiter].removesuffix("s")
        return (
            f"line {line} has {len(cells)} cells, but the header has {width}: "
            f"is a {delimiter} in it not quoted? Too many: {surplus}"
        )


def _lines_before(error: UnicodeError) -> int:
    """How many lines end in the block of bytes that could not be decoded, before what is wrong."""
    if not isinstance(error, UnicodeDecodeError):
        return 0
    decoded = error.object[: error.start].decode(error.encoding, "ignore")
    return len(_LINE_END.findall(decoded))


def _lines_in(cells: list[str]) -> int:
    """How many lines of the file a row is on: one, and one more for each end of a line in it."""
    return 1 + len(_LINE_END.findall(",".join(cells)))
