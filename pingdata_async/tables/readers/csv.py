"""Delimited text to batches of rows, as a stream.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS, Columns
from pingdata_async.locations.numbers import QUANTITIES, with_decimal_commas
from pingdata_async.tables.mapping.headers import HeaderRow
from pingdata_async.tables.readers.base import (
    BUFFER_BYTES,
    MAX_BATCH_BYTES,
    MAX_LINE_BYTES,
    HashingStream,
    InputReader,
    PeekableStream,
    TooLongError,
    left_out_note,
)
from pingdata_async.tables.readers.data_rows import DataRows
from pingdata_async.tables.readers.dialect import (
    DELIMITERS,
    Dialect,
    detect_dialect,
    meant_row,
    meant_rows,
)
from pingdata_async.tables.readers.text_encoding import (
    NulError,
    TextStream,
    line_ends,
    nul_found,
    undecodable,
)
from pingdata_async.tables.rows import Batch, ReadOptions, TextColumns
from pingdata_async.util.text import counted
from pingdata_async.value_notes import NotedValue, ValueKind

MAX_COLUMNS = 32_768  # twice as many as the sheet of a workbook has

_SUFFIXES = {".tsv": "\t", ".tab": "\t"}
_SHOWN_SURPLUS = 1_000  # characters of the cells that are too many in a row, kept only there

_BESIDE_DECIMAL_COMMAS = ";"  # what separates cells where numbers have commas
_SEPARATORS = frozenset(".,")

_LINE_END = re.compile("\r\n|\r|\n")


class DelimitedText(NamedTuple):
    """A delimited text that is about to be read.

    Attributes:
        stream: Its bytes, decompressed.
        encoding: The encoding of the bytes.
        sample: Its first characters.
        is_whole: Whether the sample is all of it.
    """

    stream: TextStream
    encoding: str
    sample: str
    is_whole: bool


class DelimitedReader(InputReader):
    """Records of a delimited text; see `InputReader`.

    Args:
        name: The input, for messages.
        suffix: The suffix of its name in lower case, without that of a compression.
        source: The stream that hashes the input.
        text: The text.
        options: How the input is to be understood.
    """

    def __init__(
        self,
        name: str,
        suffix: str,
        source: HashingStream,
        text: DelimitedText,
        options: ReadOptions,
    ) -> None:
        super().__init__(name, source, options)
        self._stream = text.stream
        self._bytes = PeekableStream(text.stream)
        self._encoding = text.encoding
        self._dialect = detect_dialect(
            text.sample, is_whole=text.is_whole, delimiter=_SUFFIXES.get(suffix), options=options
        )
        self._blank_lines = 0
        self._short_rows = 0
        self._ahead: list[list[str]] = []  # rows that were read to see where a cell ends
        self._unclosed: dict[int, int] = {}  # by place in a batch, that of the row with the quote
        self._data: DataRows | None = None

    def _batches(self) -> Iterator[Batch]:
        text = io.TextIOWrapper(
            io.BufferedReader(self._bytes, BUFFER_BYTES), encoding=self._encoding, newline=""
        )
        # The module's own limit of 128 KiB a cell is for the whole process; raised, never lowered.
        # What ends a row that is too long is the stream, whose bytes are counted as they come.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        # strict: a stray quote must not swallow the rows behind it.
        rows = csv.reader(text, delimiter=self._dialect.delimiter, strict=True)
        ended = 0  # the line on which the last batch did
        batch: list[list[str]] = []
        try:
            self._read_header(rows)
            ended = rows.line_num - self._lines_ahead()
            while self._read_rows(rows, batch):
                yield from self._batch(ended + 1, batch)
                ended = rows.line_num - self._lines_ahead()
                batch.clear()
        except (csv.Error, TooLongError) as error:
            begins = ended + 1 + sum(map(_lines_in, batch))
            told = str(error) or f"longer than {MAX_LINE_BYTES} bytes; is a quote not closed?"
            raise InputError(
                f"{self.name}, in the row that begins on line {begins}: {told}"
            ) from error
        except NulError as error:
            line = rows.line_num + 1 + line_ends(error.before)
            raise nul_found(self.name, line) from error
        except UnicodeError as error:
            line = rows.line_num + 1 + _lines_before(error)
            raise undecodable(f"{self.name}, line {line}", self._encoding, error) from error
        finally:
            text.detach()

    def note_encoding(self, encoding: str) -> None:
        """Tell the user that it was found to be no UTF-8."""
        self._notes.append(f"read as {encoding}; --encoding NAME says otherwise")

    def _read_header(self, rows: Iterator[list[str]]) -> None:
        header = self._dialect.header
        self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        if header is None:  # longer than the sample, or there is none
            self.headers = tuple(self._first_row(rows))
        else:
            meant = meant_rows(rows, self._ahead, self._dialect.delimiter)
            for _ in islice(meant, header.place + 1):
                pass
            self.headers = header.headers
        if len(self.headers) > MAX_COLUMNS:
            raise InputError(
                f"{self.name} has {len(self.headers):,} columns, more than {MAX_COLUMNS:,}"
            )
        self._note_dialect(self._dialect)
        self._map_headers(self.headers)
        if header is None:
            header = HeaderRow(0, self.headers, (self.headers,), 0, 0)
        self._data = DataRows(header, self.mapping)

    def _first_row(self, rows: Iterator[list[str]]) -> list[str]:
        """The first one with something in it."""
        for cells in meant_rows(rows, self._ahead, self._dialect.delimiter):
            if any(map(str.strip, cells)):
                return cells
            self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        raise InputError(f"{self.name} is empty")

    def _note_dialect(self, dialect: Dialect) -> None:
        if dialect.is_one_column and dialect.delimiter != ",":
            self._notes.append("one column: commas in a line are part of its text")
        elif dialect.delimiter != ",":
            self._notes.append(f"columns are separated by {DELIMITERS[dialect.delimiter]}")
        above = 0 if dialect.header is None else dialect.header.place + 1 - dialect.header.rows
        if above and dialect.header is not None:
            self._notes.append(
                f"headers are in row {above + 1}; {counted(above, 'row')} above left out"
            )

    def _counted(self) -> list[str]:
        left_out = Counter({"blank line": self._blank_lines})
        notes = []
        if self._data is not None:
            left_out += self._data.left_out
            notes += self._data.notes("line")
        shown = left_out_note(left_out)
        if shown is not None:
            notes.insert(0, shown)
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
        ahead, self._ahead = self._ahead, []
        for cells in islice(chain(ahead, rows) if ahead else rows, BATCH_ROWS):
            batch.append(cells)
            if text.given_bytes > largest:
                break
        self._ahead = ahead[len(batch) :]
        if self._stream.has_blanks_before_quotes:
            self._join_cells(rows, batch)
        return bool(batch)

    def _join_cells(self, rows: Iterator[list[str]], batch: list[list[str]]) -> None:
        """Make of a batch the rows that are meant; what is behind it is read where it has to be."""
        self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        batch += self._ahead
        read = len(batch) - len(self._ahead)
        meant: list[list[str]] = []
        self._unclosed.clear()
        place = 0
        while place < read:
            row = meant_row(batch, place, rows, self._dialect.delimiter, width=len(self.headers))
            first = len(meant)
            meant.append(row.cells)
            if row.unclosed is not None:
                meant += batch[place + 1 : place + row.unclosed]
                self._unclosed |= dict.fromkeys(range(first, len(meant)), first)
            place += row.unclosed or row.rows
        self._ahead = batch[place:]
        batch[:] = meant

    def _lines_ahead(self) -> int:
        return sum(map(_lines_in, self._ahead))

    def _batch(self, line: int, rows: list[list[str]]) -> Iterator[Batch]:
        """A batch of what was read from a line on, unless that was blank."""
        errors = self._unclosed_errors(line, rows)
        lines: list[int] = []
        if set(map(len, rows)) != {len(self.headers)}:
            rows = self._squared(line, rows, errors, lines)
            if not rows:
                return
        columns = tuple(zip(*rows, strict=True))
        if self._data is not None and not self._data.are_all_data(columns):
            lines = lines or list(accumulate(map(_lines_in, rows[:-1]), initial=line))
            kept = self._kept(self._data, rows, lines, errors)
            if not kept:
                return
            if len(kept) < len(rows):
                rows = [rows[place] for place in kept]
                errors = {to: errors[place] for to, place in enumerate(kept) if place in errors}
                columns = tuple(zip(*rows, strict=True))
        yield Batch(
            self._with_own_decimals(self._located(columns, are_texts=True)),
            TextColumns(columns),
            errors,
        )

    def _with_own_decimals(self, located: Columns) -> Columns:
        """Numbers as the table's decimal sign has them."""
        if self._dialect.delimiter != _BESIDE_DECIMAL_COMMAS:
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

    def _kept(
        self,
        data: DataRows,
        rows: Sequence[Sequence[str]],
        lines: Sequence[int],
        errors: Mapping[int, str],
    ) -> list[int]:
        """The places of the rows that are data, and of those that cannot be sent."""
        kept: list[int] = []
        for place, (cells, line) in enumerate(zip(rows, lines, strict=True)):
            if not any(map(str.strip, cells)) and data.has_ended:
                self._blank_lines += 1
                data.note_gap()
            elif place in errors or not any(cells) or data.is_data(cells, line):
                kept.append(place)
        return kept

    def _squared(
        self, line: int, rows: list[list[str]], errors: dict[int, str], lines: list[int]
    ) -> list[list[str]]:
        """The rows without blank lines, all of one width; notes those that cannot be sent.

        Args:
            line: The line that the first begins on.
            rows: The rows.
            errors: Why some cannot be sent, by place; made to fit what is returned.
            lines: Filled with the lines that the rows begin on.
        """
        width = len(self.headers)
        squared: list[list[str]] = []
        unclosed = errors.copy()
        errors.clear()
        for place, cells in enumerate(rows):
            if len(cells) > width and any(map(str.strip, islice(cells, width, None))):
                errors[len(squared)] = self._too_many(line, cells)
            if cells and place in unclosed:
                errors[len(squared)] = unclosed[place]
            if cells:
                self._short_rows += len(cells) < width
                lines.append(line)
                squared.append(cells[:width] + [""] * (width - len(cells)))
            line += _lines_in(cells)
        self._blank_lines += len(rows) - len(squared)
        return squared

    def _unclosed_errors(self, line: int, rows: list[list[str]]) -> dict[int, str]:
        """Why rows cannot be sent in which a quote is not closed, by place."""
        if not self._unclosed:
            return {}
        lines = list(accumulate(map(_lines_in, rows), initial=line))
        errors = {}
        for place, first in self._unclosed.items():
            if place == first:
                told = "a quote behind a blank is not closed, or not at the end of its cell"
            else:
                told = f"may go on from line {lines[first]}, where a quote is not closed"
            errors[place] = f"line {lines[place]}: {told}; close it, or remove it"
        return errors

    def _too_many(self, line: int, cells: list[str]) -> str:
        width = len(self.headers)
        surplus = ", ".join(map(repr, cells[width : width + _SHOWN_SURPLUS]))
        if len(surplus) > _SHOWN_SURPLUS:
            surplus = f"{surplus[:_SHOWN_SURPLUS]}..."
        delimiter = DELIMITERS[self._dialect.delimiter].removesuffix("s")
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
