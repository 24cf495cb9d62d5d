"""The rows of a sheet, found in its bytes (pure).

Parsers hand millions of cells to Python one by one, which takes ten times as long as looking for
the few places that matter. Sheets that are not written as spreadsheets write them are left to a
parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import lt
from typing import IO, Final, NamedTuple

from pingdata_async.tables.xlsx import column_number

_BLOCK_BYTES: Final = 256 * 1024
_MOST_BYTES: Final = 4 * 1024 * 1024  # of a row, or of what is before the rows

_SPACE: Final = b" \t\r\n"
_BEGIN: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:<\?xml[^<>]*\?>)?\s*<worksheet[\s>]")
_MARKUP: Final = re.compile(rb"<[!?]")  # comments and the like
_ROWS_BEGIN: Final = re.compile(rb"<sheetData(?:\s[^<>]*)?(?<!/)>")
_ROWS_END: Final = b"</sheetData"
_ROW_END: Final = b"</row>"
_CELL_BEGIN: Final = b"<c "

# Comments, cells without a place, and all that is called by a prefix.
_UNUSUAL: Final = re.compile(rb"<(?:[!?]|c[^ \w]|/?[^\s<>/:]*:)")
_ROW: Final = re.compile(rb'<row((?: [\w:.]+="[^"<>]*")*) ?(/?)>')
_ROW_NUMBER: Final = re.compile(rb' r="(\d{1,7})"')
_STYLE: Final = re.compile(rb' s="(\d{1,7})"')
_CELL: Final = re.compile(rb'<c (?:r="([A-Z]{1,3})\d{1,7}"(?: [a-z]{1,2}="\w*")* ?/?>)?')
_EMPTY_CELL: Final = re.compile(rb"<c [^<>]*(?:/>|(?<!/)></c>)")
_CONTENT: Final = re.compile(rb"<(?:v|f|is)[\s/>]")


class UnusualSheetError(Exception):
    """Raised for a sheet that is not written as spreadsheets write it."""


class Row(NamedTuple):
    """The place of a row in a block."""

    number: int  # which one it is, from 1
    style: int  # that of the row, as far as its cells have none
    begin: int  # where its tag begins
    body: int  # where that tag ends
    body_end: int  # where its end tag begins; for a row without one, where the row ends
    end: int  # where it ends


class SheetBlocks:
    """A sheet in three parts: `head`, all up to its rows; blocks of whole rows; the rest.

    Raises an UnusualSheetError if it has to be parsed.
    """

    def __init__(self, sheet: IO[bytes]) -> None:
        self._sheet = sheet
        content = b""
        while (found := _ROWS_BEGIN.search(content)) is None:
            content = self._longer(content)
        self.head = content[: found.end()]
        self._ahead = content[found.end() :]
        begin = _BEGIN.match(self.head)
        if begin is None or _MARKUP.search(self.head, begin.end()):
            raise UnusualSheetError

    def of_rows(self) -> Iterator[bytes]:
        """Blocks of whole rows; read before `rest()`."""
        content = self._ahead
        while (end := content.find(_ROWS_END)) < 0:
            whole = content.rfind(_ROW_END) + len(_ROW_END)
            if whole >= len(_ROW_END):
                yield content[:whole]
                content = content[whole:]
            content = self._longer(content)
        self._ahead = content[end:]
        yield content[:end]

    def rest(self) -> Iterator[bytes]:
        """Blocks of everything behind the rows."""
        yield self._ahead
        while block := self._sheet.read(_BLOCK_BYTES):
            yield block

    def _longer(self, content: bytes) -> bytes:
        block = self._sheet.read(_BLOCK_BYTES)
        if not block or len(content) > _MOST_BYTES:
            raise UnusualSheetError
        return content + block


def rows_in(block: bytes) -> Iterator[Row]:
    """The rows of a block; an UnusualSheetError if it holds anything else."""
    tags = list(_ROW.finditer(block))
    behind = [*(tag.start() for tag in tags[1:]), len(block)]
    if block.count(b"<row") != len(tags) or block[: tags[0].start() if tags else None].strip():
        raise UnusualSheetError
    for tag, next_begin in zip(tags, behind, strict=True):
        number = _ROW_NUMBER.search(tag[1])
        style = _STYLE.search(tag[1])
        body = body_end = end = tag.end()
        if not tag[2]:
            body_end = block.rfind(_ROW_END, body, next_begin)
            end = body_end + len(_ROW_END)
        if number is None or body_end < 0 or block[end:next_begin].strip(_SPACE):
            raise UnusualSheetError
        yield Row(int(number[1]), int(style[1]) if style else 0, tag.start(), body, body_end, end)


class CellScan:
    """Finds the last column with content: `width`, from 1; 0 for none."""

    def __init__(self) -> None:
        self.width = 0
        self._letters: list[bytes] = []
        self._columns: list[int] = []

    @staticmethod
    def check(block: bytes) -> None:
        """Raise an UnusualSheetError if a parser might find other cells in a block of rows."""
        if _UNUSUAL.search(block):
            raise UnusualSheetError

    def add(self, block: bytes, row: Row) -> None:
        """Scan a row; an UnusualSheetError if its cells are not written as usual."""
        letters = _CELL.findall(block, row.body, row.body_end)
        if letters != self._letters:  # most rows are like the one before
            self._columns = self._numbers(letters)
            self._letters = letters
        end = row.body_end
        for column in reversed(self._columns):
            if column <= self.width:
                break
            begin = block.rfind(_CELL_BEGIN, row.body, end)
            if _CONTENT.search(block, begin, end):
                self.width = column
                break
            empty = _EMPTY_CELL.match(block, begin, end)
            if empty is None or block[empty.end() : end].strip(_SPACE):
                raise UnusualSheetError
            end = begin

    def first(self, block: bytes, row: Row) -> int:
        """The first column with content in the row scanned last; 0 for none."""
        found = _CONTENT.search(block, row.body, row.body_end)
        if found is None:
            return 0
        cells = block.count(_CELL_BEGIN, row.body, found.start())
        if not cells:
            raise UnusualSheetError
        return self._columns[cells - 1]

    @staticmethod
    def _numbers(letters: list[bytes]) -> list[int]:
        if not all(letters):
            raise UnusualSheetError
        columns = [column_number(each.decode()) for each in letters]
        if not all(map(lt, columns, columns[1:])):
            raise UnusualSheetError
        return columns


def split_cells(block: bytes, row: Row, first: int) -> tuple[int, int]:
    """Where the cells from a column on begin in a scanned row, and the style of the cell before."""
    place = row.body_end
    while (begin := block.rfind(_CELL_BEGIN, row.body, place)) >= 0:
        tag = _CELL.match(block, begin)
        assert tag is not None  # noqa: S101 - it was found before
        if column_number(tag[1].decode()) < first:
            style = _STYLE.search(tag[0])
            return place, int(style[1]) if style else 0
        place = begin
    return place, row.style


def without_cells(content: bytes) -> bytes:
    """The end of a row without its cells, which are empty."""
    return _EMPTY_CELL.sub(b"", content) if content else content
