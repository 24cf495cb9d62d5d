"""What a workbook may amount to: it is opened whole, so it must be bounded before that."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import IO

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
_WORKSHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
# A cell with something in it; one that only has a format ends with "/>".
_CELL = re.compile(
    rb"""<(?:\w+:)?c\s(?:[^>]*?\s)?r=["']([A-Z]{1,3})(\d{1,7})["'](?:[^>]*[^>/])?>"""
)


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
                    is_sheet = _WORKSHEET.fullmatch(part.filename) is not None
                    _check_part(name, stream, is_sheet=is_sheet, keep_waiting=keep_waiting)
    # A password of the archive's own is a RuntimeError, an unknown method the other one.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _check_part(
    name: str, stream: IO[bytes], *, is_sheet: bool, keep_waiting: Callable[[], None]
) -> None:
    columns: set[bytes] = set()
    last_row = 0
    rest = b""
    while block := stream.read(_BLOCK_BYTES):
        keep_waiting()
        if not is_sheet:
            continue
        content = rest + block
        found = _CELL.findall(content)
        if found:
            columns.update({column for column, _ in found})
            last_row = max(last_row, *map(int, {row for _, row in found}))
        rest = content[-_LONGEST_TAG_BYTES:]
    width = max(map(_column_number, columns), default=0)
    if width * last_row > MAX_CELLS:
        last = max(columns, key=_column_number).decode()
        raise InputError(
            f"{name} has a sheet of {last_row:,} rows and {width:,} columns (to {last}), more than "
            f"{MAX_CELLS:,} cells; delete what is far below or beside the table, or {ADVICE}"
        )


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number
