"""What a workbook may amount to: it is opened whole, so it must be bounded before that."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import IO
from xml.parsers import expat

from pingdata_async.exceptions import InputError

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_CONTENT_BYTES = 2 * 1024 * 1024 * 1024  # decompressed
MAX_CELLS = 20_000_000
"""From the first cell of a sheet to its last one.

Measured: a cell needs 50 bytes, and another 50 while the sheet is opened, so this is 2 GB.
"""

MAX_EMPTY_CELLS = 1_000_000
"""Between the first cell and the last, beside nine for each that holds something."""

MAX_TEXT_CHARACTERS = 32 * 1024 * 1024
"""Of a sheet, beside 40 for each cell. What the file has once, memory has for each cell."""

MAX_RATIO = 100
"""Of a part decompressed to the same compressed; sheets of real tables are 5 to 20."""

RATIO_FROM_BYTES = 4 * 1024 * 1024

ADVICE = "save the sheet as CSV, which is read a part at a time"

_BLOCK_BYTES = 1024 * 1024
_LONGEST_TAG_BYTES = 4096
_OPENDOCUMENT = "content.xml"
_WORKSHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
# A cell with something in it; one that only has a format ends with "/>".
_CELL = re.compile(rb"""<(?:\w+:)?c\s(?:[^>]*?\s)?r=["']([A-Za-z]+)(\d+)["'](?:[^>]*[^>/])?>""")
# A cell that shares its text with others, by the number of that.
_SHARED = re.compile(rb"""<(?:\w+:)?c\s[^>]*?\bt=["']s["'][^>]*>\s*<(?:\w+:)?v>\s*(\d{1,9})\s*<""")

_COUNT = re.compile(rb"""\b(?:uniqueC|c)ount=["'](\d+)""")


def check_archive(name: str, content: bytes, keep_waiting: Callable[[], None]) -> None:
    """Refuse a workbook that would not fit into memory.

    The library reserves memory for the whole rectangle between the first cell and the last, so
    one cell in the last corner of a sheet would need 500 GB, and end the process.

    Args:
        name: The input, for messages.
        content: A workbook that is a zip archive.
        keep_waiting: Called now and then; may raise to end the reading.

    Raises:
        InputError: When it is too large, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            size_bytes = sum(part.file_size for part in parts)
            if size_bytes > MAX_CONTENT_BYTES:
                raise InputError(
                    f"{name} is too large for a workbook: {size_bytes:,} bytes decompressed, more "
                    f"than {MAX_CONTENT_BYTES:,}; {ADVICE}"
                )
            lengths = _TextLengths()
            # The texts first: how long they are says what cells that share them amount to.
            for part in sorted(parts, key=lambda part: not _is_texts(part)):
                # Read to its end: what says less than it holds is a damaged archive.
                with archive.open(part) as stream:
                    blocks = _blocks(name, part, stream, keep_waiting)
                    if _WORKSHEET.fullmatch(part.filename):
                        cells = _check_sheet(name, blocks)
                        if cells * max(lengths.of_each, default=0) > _most_characters(cells):
                            with archive.open(part) as again:
                                blocks = _blocks(name, part, again, keep_waiting)
                                _check_texts(name, lengths.of_cells(blocks), cells)
                    elif part.filename == _OPENDOCUMENT:
                        _check_opendocument(name, blocks)
                    else:
                        _check_counts(name, lengths.noting(blocks) if _is_texts(part) else blocks)
    except InputError:
        raise
    # A password of the archive's own or an unknown method is a RuntimeError, a number of more
    # digits than Python reads a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _is_texts(part: zipfile.ZipInfo) -> bool:
    return part.filename.lower() == "xl/sharedstrings.xml"


def _blocks(
    name: str, part: zipfile.ZipInfo, stream: IO[bytes], keep_waiting: Callable[[], None]
) -> Iterator[bytes]:
    size_bytes = 0
    while block := stream.read(_BLOCK_BYTES):
        keep_waiting()
        size_bytes += len(block)
        if size_bytes > RATIO_FROM_BYTES and size_bytes > MAX_RATIO * part.compress_size:
            raise InputError(
                f"{name} is no usual workbook: {part.filename} becomes more than {MAX_RATIO} times "
                f"as large as it is compressed; {ADVICE}"
            )
        yield block


class _TextLengths:
    """How long the texts are that cells share, each known by its number."""

    def __init__(self) -> None:
        self.of_each = array("L")
        self._pending = 0
        self._is_inside = False

    def noting(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks, as they are gone through."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        try:
            for block in blocks:
                parser.Parse(block)
                yield block
            parser.Parse(b"", True)
        except expat.ExpatError:
            return  # the library says what is wrong with it, if it minds

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._is_inside = self._is_inside or tag.rpartition(":")[2] == "si"

    def _end(self, tag: str) -> None:
        if tag.rpartition(":")[2] == "si":
            self.of_each.append(self._pending)
            self._pending, self._is_inside = 0, False

    def _add(self, text: str) -> None:
        if self._is_inside:
            self._pending += len(text)

    def of_cells(self, blocks: Iterator[bytes]) -> int:
        """How long all texts of a sheet's cells are together."""
        return sum(
            self.of_each[number]
            for block in _overlapping(blocks)
            for number in map(int, _SHARED.findall(block))
            if number < len(self.of_each)
        )


def _overlapping(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks that begin with the end of the one before, so that no tag is cut."""
    rest = b""
    for block in blocks:
        yield rest + block
        rest = block[-_LONGEST_TAG_BYTES:]


def _check_counts(name: str, blocks: Iterator[bytes]) -> None:
    """Memory is reserved for as many texts as there are said to be."""
    for block in _overlapping(blocks):
        said = max(map(int, _COUNT.findall(block)), default=0)
        if said > MAX_CELLS:
            raise InputError(f"{name} is a damaged workbook: it says that it has {said:,} texts")


def _check_sheet(name: str, blocks: Iterator[bytes]) -> int:
    """Returns how many cells with something in them there are, about."""
    columns: set[bytes] = set()
    last_row = cells = 0
    for block in _overlapping(blocks):
        found = _CELL.findall(block)
        if found:
            cells += len(found)
            columns.update({column for column, _ in found})
            last_row = max(last_row, *map(int, {row for _, row in found}))
    _check_extent(name, last_row, max(map(_column_number, columns), default=0), cells)
    return cells


def _most_characters(cells: int) -> int:
    return MAX_TEXT_CHARACTERS + 40 * cells


def _check_texts(name: str, characters: int, cells: int) -> None:
    if characters > _most_characters(cells):
        raise InputError(
            f"{name} has a sheet of more than {MAX_TEXT_CHARACTERS:,} characters, as long texts "
            f"are in many cells; {ADVICE}"
        )


def _check_extent(name: str, rows: int, columns: int, cells: int) -> None:
    most = min(MAX_CELLS, MAX_EMPTY_CELLS + 10 * cells)
    if rows * columns > most:
        is_sparse = "" if most == MAX_CELLS else f", most of them empty or alike: of {cells:,}"
        raise InputError(
            f"{name} has a sheet of {rows:,} rows and {columns:,} columns, more than "
            f"{most:,} cells{is_sparse}; delete what is far below or beside the table, or {ADVICE}"
        )


def _check_opendocument(name: str, blocks: Iterator[bytes]) -> None:
    """Cells are repeated by a number; and the library never ends where the XML does too early."""
    rows = columns = repeated_rows = cells = alike = characters = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal rows, columns, repeated_rows, cells, alike, characters
        if tag == "table:table":
            rows = repeated_rows = cells = characters = 0
        elif tag == "table:table-row":
            rows, columns = rows + repeated_rows, 0
            repeated_rows = int(attributes.get("table:number-rows-repeated", 1))
        elif tag in {"table:table-cell", "table:covered-table-cell"}:
            repeated = int(attributes.get("table:number-columns-repeated", 1))
            columns += repeated
            if "office:value-type" in attributes:
                cells += 1
                alike = repeated * repeated_rows
                _check_extent(name, rows + repeated_rows, columns, cells)
                add("".join(attributes.values()))

    def add(text: str) -> None:
        nonlocal characters
        characters += len(text) * alike
        _check_texts(name, characters, cells)

    def end(tag: str) -> None:
        nonlocal alike
        if tag == "table:table-cell":
            alike = 0

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = add
    try:
        for block in blocks:
            parser.Parse(block)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - ord("A") + 1
    return number
