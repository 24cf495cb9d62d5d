"""Delimited text to batches of rows, as a stream.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import NamedTuple

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS, Columns
from pingdata_async.locations.numbers import QUANTITIES, with_decimal_commas
from pingdata_async.tables.readers.base import (
    BUFFER_BYTES,
    MAX_LINE_BYTES,
    FileInput,
    InputReader,
    PeekableStream,
    TooLongError,
)
from pingdata_async.tables.readers.quotes import meant_row, meant_rows
from pingdata_async.tables.readers.table_rows import (
    SEARCHED_ROWS,
    DataRows,
    HeaderRow,
    find_header,
    left_out_notes,
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
_TABLES = frozenset({".csv", *_SUFFIXES})  # names that promise a header
_NO_HEADER = HeaderRow(-1, ("address",), (("address",),), 0, 1)
_LONGEST_ADDRESS = 200  # characters
_SHOWN_SURPLUS = 1_000  # characters of surplus cells, which only the error shows

_BESIDE_DECIMAL_COMMAS = ";"  # the delimiter of tables with decimal commas
_SEPARATORS = frozenset(".,")

_LINE_END = re.compile("\r\n|\r|\n")
_FEWEST_BYTES = 4 * 1024  # of a block
_BLOCK_ROWS = BATCH_ROWS * 19 // 20  # aimed at, so that a block is seldom two batches


class DelimitedText(NamedTuple):
    """A delimited text that is about to be read."""

    stream: TextStream  # its bytes, decompressed
    encoding: str  # the encoding of the bytes
    sample: str  # its first characters
    is_whole: bool  # whether the sample is all of it
    suffix: str  # the suffix of its name in lower case, without that of a compression


class DelimitedReader(InputReader):
    """Reads the records of a delimited text; see `InputReader`."""

    def __init__(self, file: FileInput, text: DelimitedText, options: ReadOptions) -> None:
        super().__init__(file.name, file.source, options)
        self._stream = text.stream
        self._bytes = PeekableStream(text.stream)
        self._encoding = text.encoding
        self._dialect = detect_dialect(
            text.sample,
            is_whole=text.is_whole,
            delimiter=_SUFFIXES.get(text.suffix),
            options=options,
        )
        is_open = text.suffix not in _TABLES and not options.mapping
        self._is_list = is_open and are_addresses(
            text.sample, self._dialect, is_whole=text.is_whole
        )
        if self._is_list:
            self._dialect = Dialect("\t", _NO_HEADER)
            self._notes.append("no header: each line is read as an address")
        self._text = _LineBlocks(self._bytes, text.encoding)
        # Strict, so that a stray quote does not swallow the rows behind it.
        self._rows = csv.reader(
            chain.from_iterable(self._text), delimiter=self._dialect.delimiter, strict=True
        )
        self._plain_lines = 0  # read without it
        self._blank_lines = 0
        self._short_rows = 0
        self._ahead: list[list[str]] = []  # rows that were read to see where a cell ends
        self._unclosed: dict[int, int] = {}  # by place in a batch, that of the row with the quote
        self._data: DataRows | None = None

    def _batches(self) -> Iterator[Batch]:
        # The module limits a cell to 128 KiB, for the whole process: raise it, never lower it. The
        # stream, which counts its bytes, ends rows that are too long.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        ended = 0  # the line on which the last batch did
        batch: list[list[str]] = []
        try:
            self._read_header()
            while True:
                ended = self._plain_lines + self._rows.line_num - sum(map(_lines_in, self._ahead))
                batch.clear()
                self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
                block = self._text.take()
                if not block and not self._ahead:
                    break
                if _is_plain(block) and not self._ahead:
                    yield from self._plain_batches(ended + 1, block)
                else:
                    self._read_rows(block, batch)
                    yield from self._batch_of_rows(ended + 1, batch)
        except (csv.Error, TooLongError) as error:
            begins = ended + 1 + sum(map(_lines_in, batch))
            told = str(error) or f"longer than {MAX_LINE_BYTES} bytes; is a quote not closed?"
            raise InputError(
                f"{self.name}, in the row that begins on line {begins}: {told}"
            ) from error
        except NulError as error:
            line = self._lines_read() + 1 + line_ends(error.before)
            raise nul_found(self.name, line) from error
        except UnicodeError as error:
            line = self._lines_read() + 1 + _lines_before(error)
            raise undecodable(f"{self.name}, line {line}", self._encoding, error) from error

    def note_encoding(self, encoding: str) -> None:
        """Tell the user that it was found to be no UTF-8."""
        self._notes.append(f"read as {encoding}; --encoding NAME says otherwise")

    def _read_header(self) -> None:
        header = self._dialect.header
        self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        if header is None:  # longer than the sample, or there is none
            self.headers = tuple(self._first_row())
        else:
            meant = meant_rows(self._rows, self._ahead, self._dialect.delimiter)
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

    def _first_row(self) -> list[str]:
        """The first one with something in it."""
        for cells in meant_rows(self._rows, self._ahead, self._dialect.delimiter):
            if any(map(str.strip, cells)):
                return cells
            self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        raise InputError(f"{self.name} is empty")

    def _note_dialect(self, dialect: Dialect) -> None:
        if self._is_list:
            return
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
        notes = left_out_notes(Counter({"blank line": self._blank_lines}), self._data, "line")
        if self._short_rows:
            # Each may be half of a row with an unquoted line break in a cell.
            rows = counted(self._short_rows, "row")
            notes.append(f"fewer cells than headers in {rows}; the others are taken for empty")
        return notes

    def _plain_batches(self, line: int, block: str) -> Iterator[Batch]:
        """The rows of a block without quotes that begins on this line.

        Its cells become columns without being rows in between, which is far cheaper.
        """
        delimiter, width = self._dialect.delimiter, len(self.headers)
        text = block.replace("\r\n", "\n") if "\r" in block else block
        if not text.endswith("\n"):
            text += "\n"
        ends = text.count("\n")
        self._plain_lines += ends
        self._text.fit(len(block) // ends)
        # Each line end is a cell of its own: where each stands tells how wide the lines are.
        cells = text.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
        if len(cells) == ends * (width + 1) + 1 and cells[width :: width + 1].count("\n") == ends:
            for begin in range(0, ends, BATCH_ROWS):
                end = min(begin + BATCH_ROWS, ends)
                cut = [
                    cells[begin * (width + 1) + place : end * (width + 1) : width + 1]
                    for place in range(width)
                ]
                yield from self._batch(cut, range(line + begin, line + end).__iter__, {})
            return
        rows = [row.split(delimiter) if row else [] for row in text.split("\n")]
        rows.pop()
        for begin in range(0, ends, BATCH_ROWS):
            yield from self._batch_of_rows(line + begin, rows[begin : begin + BATCH_ROWS])

    def _read_rows(self, block: str, batch: list[list[str]]) -> None:
        """Fill a batch from what was read ahead, then from a block; as far as an error, if any."""
        reader = self._rows
        ends = reader.line_num + _lines_of(block)
        self._text.put_back(block)
        batch += self._ahead[:BATCH_ROWS]
        self._ahead = self._ahead[BATCH_ROWS:]
        for cells in islice(reader, BATCH_ROWS - len(batch)) if block else ():
            batch.append(cells)
            if reader.line_num >= ends:
                break
        if self._stream.has_blanks_before_quotes:
            self._join_cells(batch)

    def _join_cells(self, batch: list[list[str]]) -> None:
        """Make the rows that are meant of a batch, reading on if necessary."""
        self._bytes.most_bytes = self._bytes.given_bytes + MAX_LINE_BYTES
        batch += self._ahead
        read = len(batch) - len(self._ahead)
        meant: list[list[str]] = []
        self._unclosed.clear()
        place = 0
        while place < read:
            row = meant_row(
                batch, place, self._rows, self._dialect.delimiter, width=len(self.headers)
            )
            first = len(meant)
            meant.append(row.cells)
            if row.unclosed is not None:
                meant += batch[place + 1 : place + row.unclosed]
                self._unclosed |= dict.fromkeys(range(first, len(meant)), first)
            place += row.unclosed or row.rows
        self._ahead = batch[place:]
        batch[:] = meant

    def _lines_read(self) -> int:
        """The number of lines read to their end, once nothing is left of a block."""
        return self._plain_lines + self._rows.line_num + _line_ends(self._text.rest)

    def _batch_of_rows(self, line: int, rows: list[list[str]]) -> Iterator[Batch]:
        """A batch of the rows that begin on a line, unless they are blank."""
        errors = self._unclosed_errors(line, rows)
        lines: list[int] = []
        if set(map(len, rows)) != {len(self.headers)}:
            rows, lines = self._squared(line, rows, errors)
            if not rows:
                return
        yield from self._batch(
            tuple(zip(*rows, strict=True)),
            lambda: lines or accumulate(map(_lines_in, rows[:-1]), initial=line),
            errors,
        )

    def _batch(
        self,
        columns: Sequence[Sequence[str]],
        lines: Callable[[], Iterable[int]],
        errors: dict[int, str],
    ) -> Iterator[Batch]:
        """A batch of those rows that are data.

        Args:
            columns: The rows, by column.
            lines: Returns the lines on which they begin.
            errors: Why some cannot be sent, by place.
        """
        has_gaps = self._is_list and not all(map(str.strip, columns[0]))
        if self._data is not None and (has_gaps or not self._data.are_all_data(columns)):
            rows = list(zip(*columns, strict=True))
            kept = self._kept(self._data, rows, lines(), errors)
            if not kept:
                return
            if len(kept) < len(rows):
                errors = {to: errors[place] for to, place in enumerate(kept) if place in errors}
                columns = [[column[place] for place in kept] for column in columns]
        yield Batch(
            self._with_own_decimals(self._located(columns, are_texts=True)),
            TextColumns(columns),
            errors,
        )

    def _with_own_decimals(self, located: Columns) -> Columns:
        """Numbers with the decimal sign of the table."""
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
        lines: Iterable[int],
        errors: Mapping[int, str],
    ) -> list[int]:
        """The places of the rows that are data, or cannot be sent."""
        kept: list[int] = []
        for place, (cells, line) in enumerate(zip(rows, lines, strict=True)):
            if not any(map(str.strip, cells)) and (self._is_list or data.has_ended):
                self._blank_lines += 1
                data.note_gap()
            elif place in errors or not any(cells) or data.is_data(cells, line):
                kept.append(place)
        return kept

    def _squared(
        self, line: int, rows: list[list[str]], errors: dict[int, str]
    ) -> tuple[list[list[str]], list[int]]:
        """The rows but blank lines, all of one width, and the lines on which they begin.

        `errors`, by place, are made to fit what is returned.
        """
        width = len(self.headers)
        squared: list[list[str]] = []
        lines: list[int] = []
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
        return squared, lines

    def _unclosed_errors(self, line: int, rows: list[list[str]]) -> dict[int, str]:
        """Why rows with a quote that is not closed cannot be sent, by place."""
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


class _LineBlocks:
    """A text as blocks of whole lines, of about a batch each.

    Iterating it yields the lines of the blocks that `take()` left.

    Attributes:
        rest: What was read behind the last block: the beginning of a line.
    """

    def __init__(self, raw: io.RawIOBase, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._is_at_end = False
        self._block_bytes = BUFFER_BYTES // 2
        self._opened = io.StringIO()
        self._put_back = ""
        self.rest = ""

    def __iter__(self) -> Iterator[io.StringIO]:
        while block := self.take():
            self._opened = io.StringIO(block, newline="")
            yield self._opened

    def take(self) -> str:
        """The rest of the present block, or else the next one; "" at the end."""
        block, self._put_back = self._put_back, ""
        return block or self._opened.read() or self._next()

    def put_back(self, block: str) -> None:
        """Make a block the next one."""
        self._put_back = block

    def fit(self, line_chars: int) -> None:
        """Make further blocks as large as a batch of lines of this length."""
        wanted = _BLOCK_ROWS * line_chars
        self._block_bytes = min(max(_FEWEST_BYTES, wanted), BUFFER_BYTES)

    def _next(self) -> str:
        while not self._is_at_end and (
            len(self.rest) < self._block_bytes or not _end_of_lines(self.rest)
        ):
            data = self._raw.read(self._block_bytes)
            self._is_at_end = not data
            self.rest += self._decoder.decode(data, final=not data)
        end = len(self.rest) if self._is_at_end else _end_of_lines(self.rest)
        block, self.rest = self.rest[:end], self.rest[end:]
        return block


def _is_plain(block: str) -> bool:
    """Whether cells are what is between delimiters, and rows what is between line ends."""
    return '"' not in block and ("\r" not in block or block.count("\r") == block.count("\r\n"))


def _end_of_lines(text: str) -> int:
    """The end of the last line that is certainly complete."""
    return max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1


def _line_ends(text: str) -> int:
    others = text.count("\r") - text.count("\r\n") if "\r" in text else 0
    return text.count("\n") + others


def _lines_of(block: str) -> int:
    """The number of lines in a block, whose last line may lack its end."""
    return _line_ends(block) + bool(block and not block.endswith(("\n", "\r")))


def _lines_before(error: UnicodeError) -> int:
    """The number of line ends in the block that could not be decoded, before what is wrong."""
    if not isinstance(error, UnicodeDecodeError):
        return 0
    decoded = error.object[: error.start].decode(error.encoding, "ignore")
    return len(_LINE_END.findall(decoded))


def _lines_in(cells: list[str]) -> int:
    """The number of lines of the file that a row takes: one, and one for each line end in it."""
    return 1 + len(_LINE_END.findall(",".join(cells)))


# -- The dialect --------------------------------------------------------------------------------

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
"""The delimiters that are tried, the likeliest first, with their names."""


class Dialect(msgspec.Struct, frozen=True):
    """The delimiter and the headers of a text."""

    delimiter: str  # the delimiter
    header: HeaderRow | None  # its headers; None if they are not among the first rows

    @property
    def is_one_column(self) -> bool:
        """Whether there is only one header."""
        return self.header is not None and len(self.header.headers) == 1


def detect_dialect(
    sample: str, *, is_whole: bool, delimiter: str | None, options: ReadOptions
) -> Dialect:
    """Detect the dialect of a text.

    The best delimiter is the one by which the most headers are understood, then the most rows are
    as wide as the header, then there are the most columns.

    Args:
        sample: The beginning of the text.
        is_whole: Whether that is all of it.
        delimiter: The delimiter, if known.
        options: Names the user's headers.
    """
    tried: list[tuple[tuple[float, ...], Dialect]] = []
    for each in [delimiter] if delimiter else DELIMITERS:
        rows = sample_rows(sample, each, is_whole=is_whole)
        header = find_header(rows, options)
        tried.append((_likelihood(rows, header), Dialect(each, header)))
    best = max(tried, key=lambda pair: pair[0])[1]  # the first of equals
    if delimiter is None and best.is_one_column:
        return _one_column(sample, is_whole, best)
    return best


def are_addresses(sample: str, dialect: Dialect, *, is_whole: bool) -> bool:
    """Whether a text is a list of addresses, one a line, rather than a table.

    No header is understood, and each of the first lines may be an address.
    """
    if dialect.header is not None and dialect.header.known:
        return False
    lines = sample.splitlines()[: SEARCHED_ROWS + 1]
    if not is_whole or len(lines) > SEARCHED_ROWS:
        lines.pop()
    lines = [line.strip().strip('"') for line in lines if line.strip()]
    return bool(lines) and all(map(_may_be_address, lines))


def _may_be_address(line: str) -> bool:
    """A number and a street, or parts with commas between them: no columns of a table."""
    parts = [part.strip() for part in line.split(",")]
    return (
        len(line) <= _LONGEST_ADDRESS
        and (line[0].isdigit() or len(parts) > 1)
        and re.search(r"\d", line) is not None
        and re.search(r"[^\W\d_]{2}", line) is not None
        and " " in parts[0]
        and sum(part.isdigit() for part in parts) <= 1
        and not any(delimiter in line for delimiter in DELIMITERS if delimiter not in ", ")
    )


def sample_rows(sample: str, delimiter: str, *, is_whole: bool) -> list[list[str]]:
    """The first rows of a text, up to where it is cut off or malformed."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(islice(meant_rows(reader, [], delimiter), SEARCHED_ROWS))
    except csv.Error:
        return rows
    if not is_whole and len(rows) < SEARCHED_ROWS:
        return rows[:-1]
    return rows


def _likelihood(rows: Sequence[Sequence[str]], header: HeaderRow | None) -> tuple[float, ...]:
    if header is None or len(header.headers) == 1:
        return (0, 0, 0, 0)
    width = len(header.headers)
    behind = [row for row in rows[header.place + 1 :] if row]
    alike = sum(len(row) == width for row in behind) / len(behind) if behind else 1
    return header.named, header.known, alike, width


def _one_column(sample: str, is_whole: bool, dialect: Dialect) -> Dialect:
    """Keep commas in a single column as part of the address, if it can be read that way."""
    rows = sample_rows(sample, ",", is_whole=is_whole)
    if all(len(row) <= 1 for row in rows):
        return dialect
    by_tabs = sample_rows(sample, "\t", is_whole=is_whole)
    is_readable = len(by_tabs) == len(rows) and all(len(row) <= 1 for row in by_tabs)
    return Dialect("\t", dialect.header) if is_readable else dialect
