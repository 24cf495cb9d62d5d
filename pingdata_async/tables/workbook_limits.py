"""What a workbook may amount to: it is opened whole, so it must be bounded before that."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
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

ADVICE = "save the sheet as CSV, which is read a part at a time"

_BLOCK_BYTES = 1024 * 1024
_LONGEST_TAG_BYTES = 4096
_OPENDOCUMENT = "content.xml"
_WORKSHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
# A cell with something in it; one that only has a format ends with "/>".
_CELL = re.compile(rb"""<(?:\w+:)?c\s(?:[^>]*?\s)?r=["']([A-Za-z]+)(\d+)["'](?:[^>]*[^>/])?>""")

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
            for part in parts:
                # Read to its end: what says less than it holds is a damaged archive.
                with archive.open(part) as stream:
                    check = _check_counts
                    if _WORKSHEET.fullmatch(part.filename):
                        check = _check_sheet
                    elif part.filename == _OPENDOCUMENT:
                        check = _check_opendocument
                    check(name, _blocks(stream, keep_waiting))
    except InputError:
        raise
    # A password of the archive's own or an unknown method is a RuntimeError, a number of more
    # digits than Python reads a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _blocks(stream: IO[bytes], keep_waiting: Callable[[], None]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        keep_waiting()
        yield block


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


def _check_sheet(name: str, blocks: Iterator[bytes]) -> None:
    columns: set[bytes] = set()
    last_row = 0
    for block in _overlapping(blocks):
        found = _CELL.findall(block)
        if found:
            columns.update({column for column, _ in found})
            last_row = max(last_row, *map(int, {row for _, row in found}))
    _check_extent(name, last_row, max(map(_column_number, columns), default=0))


def _check_extent(name: str, rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        raise InputError(
            f"{name} has a sheet of {rows:,} rows and {columns:,} columns, more than "
            f"{MAX_CELLS:,} cells; delete what is far below or beside the table, or {ADVICE}"
        )


def _check_opendocument(name: str, blocks: Iterator[bytes]) -> None:
    """Cells are repeated by a number; and the library never ends where the XML does too early."""
    rows = columns = repeated_rows = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal rows, columns, repeated_rows
        if tag == "table:table":
            rows = repeated_rows = 0
        elif tag == "table:table-row":
            rows, columns = rows + repeated_rows, 0
            repeated_rows = int(attributes.get("table:number-rows-repeated", 1))
        elif tag in {"table:table-cell", "table:covered-table-cell"}:
            columns += int(attributes.get("table:number-columns-repeated", 1))
            if "office:value-type" in attributes:
                _check_extent(name, rows + repeated_rows, columns)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
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
