"""Errors of newer Excels, such as #SPILL!, as others that the library knows.

It refuses a whole sheet for one of them. What they were is known from elsewhere: of a cell with an
error it gives nothing anyway.
"""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Final

KNOWN_ERRORS: Final = frozenset(
    {"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"}
)

_KNOWN: Final = frozenset(error.encode() for error in KNOWN_ERRORS)
_ANY: Final = b"#VALUE!"
_SHEETS: Final = "xl/worksheets/"
_BLOCK_BYTES: Final = 1024 * 1024
_MOST_BYTES: Final = 16 * 1024 * 1024  # of a row
_LEVEL: Final = 1
_ROW_END: Final = b"row>"
_ERROR_CELL: Final = re.compile(
    rb"""(<(?:\w+:)?c\s[^<>]*\bt=["']e["'][^<>]*>\s*"""
    rb"""(?:<(?:\w+:)?f\b[^<>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*)?<(?:\w+:)?v\b[^<>]*>)([^<]+)"""
)


def with_known_errors(content: bytes, keep_waiting: Callable[[], None]) -> bytes:
    """A workbook all of whose errors the library knows.

    Args:
        content: A workbook that is a zip archive, and may be held in memory.
        keep_waiting: Called now and then; may raise to end the reading.
    """
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as given,
        zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for about in given.infolist():
            with given.open(about) as part, archive.open(about.filename, "w") as out:
                if about.filename.replace("\\", "/").lower().startswith(_SHEETS):
                    for rows in _rows(part):
                        keep_waiting()
                        out.write(_ERROR_CELL.sub(_known, rows))
                else:
                    shutil.copyfileobj(part, out)
    return changed.getvalue()


def _rows(part: IO[bytes]) -> Iterator[bytes]:
    """Blocks of a sheet that end between two cells, but where a row is very long."""
    rest = b""
    while block := part.read(_BLOCK_BYTES):
        rest += block
        last = rest.rfind(_ROW_END)
        if last >= 0 or len(rest) > _MOST_BYTES:
            end = len(rest) if last < 0 else last + len(_ROW_END)
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _known(cell: re.Match[bytes]) -> bytes:
    return cell[0] if cell[2].strip() in _KNOWN else cell[1] + _ANY
