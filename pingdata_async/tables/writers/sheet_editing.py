"""A sheet with more columns behind its own; everything else stays byte for byte.

Sheets are read as a stream and copied but for the places that change, so neither their size nor
parts unknown here matter. Rows that are written as usual are found in the bytes (`sheet_rows`); a
parser finds the rest, and all rows if some are unusual. It takes 10 us of CPU a cell more, for the
same bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import IO, Final
from xml.parsers import expat

import msgspec

from pingdata_async.tables.rows import SheetPlace
from pingdata_async.tables.writers.sheet_rows import (
    CellScan,
    SheetBlocks,
    UnusualSheetError,
    rows_in,
    split_cells,
    without_cells,
)
from pingdata_async.tables.xlsx import PANE, column_letters, column_number, column_widths

MOST_FROZEN_ROWS: Final = 12
"""With more of them in sight at all times, little of the rest would be."""

_BLOCK_BYTES: Final = 256 * 1024
_PLACE: Final = re.compile(r"([A-Z]+)(\d+)")
_MERGED: Final = re.compile(r"[A-Z]+(\d+):([A-Z]+)(\d+)")
_TAG: Final = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
_SPANS: Final = re.compile(rb"""\sspans=["'][^"']*["']""")
_OPENED: Final = re.compile(rb"<(?=[^/])")
_CLOSED: Final = re.compile(rb"</")
_CONTENT: Final = frozenset({"v", "f", "is"})  # of a cell that holds something
_VIEWED_FROM: Final = re.compile(rb"""\stopLeftCell=["'][^"']*["']""")
_IN_A_ROW: Final = frozenset({"c", "v", "f", "is", "t"})
_DIGITS: Final = "0123456789"
_PARTS_DEPTH: Final = 2  # of what a sheet has side by side
_BEFORE_FILTER: Final = frozenset(
    {"sheetCalcPr", "sheetProtection", "protectedRanges", "scenarios"}
)


class SheetForm(msgspec.Struct):
    """The properties of a sheet that matter for new columns."""

    # Its last column that holds anything, or is merged with one that does beside the headers and
    # records; 0 if there is none.
    width: int = 0
    header_begin: int = 0  # the first one with a header
    filtered: str = ""  # the range that is filtered; "" for none
    has_panes: bool = False  # whether parts of it are frozen or split
    # Whether its rows are written as usual, and can be found without a parser.
    is_usual: bool = False


class NewColumns(msgspec.Struct, frozen=True, kw_only=True):
    """The columns that a sheet gets behind its own."""

    first: int  # the first of them
    widths: list[int]  # how wide each is, in characters
    # By row, their cells as XML, without a namespace; rows come in order.
    rows: Iterator[tuple[int, bytes]]
    # Puts the styles into the cells of a row, like that of the cell before them.
    style: Callable[[bytes, int], bytes]
    header_row: int  # the row of the headers
    filtered: str  # the range to be filtered; "" for none

    @property
    def last(self) -> int:
        """The last of them."""
        return self.first + len(self.widths) - 1


def scan_sheet(sheet: IO[bytes], place: SheetPlace) -> SheetForm:
    """Scan a sheet for its form.

    Args:
        sheet: The sheet; read twice if it is not written as usual.
        place: Where the headers and records are.

    Raises:
        ValueError: It cannot be edited: it is no XML, in an encoding other than UTF-8, or lacks
            rows.
    """
    try:
        return _scanned_by_rows(sheet, place)
    except UnusualSheetError:
        sheet.seek(0)
    scan = _Scan(place)
    for block in _blocks(sheet):
        scan.feed(block)
    scan.end()
    return scan.form


def edit_sheet(sheet: IO[bytes], out: IO[bytes], form: SheetForm, new: NewColumns) -> None:
    """Copy a sheet of this form, with new columns."""
    editor = _Editor(out, form, new)
    if form.is_usual:
        blocks = SheetBlocks(sheet)
        editor.feed(blocks.head)
        for block in blocks.of_rows():
            editor.take_rows(block)
        rest = blocks.rest()
    else:
        rest = _blocks(sheet)
    for block in rest:
        editor.feed(block)
    editor.end()


def _scanned_by_rows(sheet: IO[bytes], place: SheetPlace) -> SheetForm:
    blocks = SheetBlocks(sheet)
    whole = _Parser()  # tells nothing but whether it is XML, which is quick
    scan = _Scan(place)
    whole.feed(blocks.head)
    scan.feed(blocks.head)
    for block in blocks.of_rows():
        whole.feed(block)
        scan.take_rows(block)
    for block in blocks.rest():
        whole.feed(block)
        scan.feed(block)
    whole.end()
    scan.end()
    scan.form.is_usual = True
    return scan.form


def _blocks(sheet: IO[bytes]) -> Iterator[bytes]:
    block = sheet.read(_BLOCK_BYTES)
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("the sheet is in UTF-16")
    while block:
        yield block
        block = sheet.read(_BLOCK_BYTES)


class _Parser:
    """Parses XML a block at a time."""

    def __init__(self) -> None:
        self.expat = expat.ParserCreate()
        self.expat.XmlDeclHandler = self._check_encoding
        self.expat.StartDoctypeDeclHandler = self._refuse_definitions

    def feed(self, block: bytes) -> None:
        """Parse a block."""
        self._parse(block, is_last=False)

    def end(self) -> None:
        """End the document."""
        self._parse(b"", is_last=True)

    def _parse(self, block: bytes, *, is_last: bool) -> None:
        try:
            self.expat.Parse(block, is_last)
        except expat.ExpatError as error:
            raise ValueError(f"the sheet is no XML: {error}") from error

    @staticmethod
    def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.upper() not in {"UTF-8", "US-ASCII"}:
            raise ValueError(f"the sheet is in {encoding}")

    @staticmethod
    def _refuse_definitions(*_: object) -> None:
        raise ValueError("the sheet defines entities")  # what is parsed is not what stands there


class _Cursor:
    """The place of the next element in the sheet; elements need not name theirs."""

    def __init__(self) -> None:
        self.row = 0
        self.column = 0

    def take_row(self, attributes: Mapping[str, str]) -> None:
        self.row = int(attributes.get("r", self.row + 1))
        self.column = 0

    def take_cell(self, attributes: Mapping[str, str]) -> None:
        place = attributes.get("r")
        self.column = _column_of(place.rstrip(_DIGITS)) if place else self.column + 1


# For each of millions of cells; there are few names, and as many columns as a sheet has.
_column_of: Final = lru_cache(maxsize=16_384)(column_number)


@lru_cache(maxsize=1024)
def _local(name: str) -> str:
    return name.rpartition(":")[2]


class _Scan(_Parser):
    """One pass over a sheet; its `form` is what is known so far."""

    def __init__(self, place: SheetPlace) -> None:
        super().__init__()
        self._place = place
        self.form = SheetForm()
        self._at = _Cursor()
        self._cells = CellScan()
        self._awaited_rows = place.with_headers()
        self._awaited = next(self._awaited_rows, None)
        self._is_behind_rows = False
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end

    def take_rows(self, block: bytes) -> None:
        """Scan a block of whole rows."""
        cells, form = self._cells, self.form
        cells.check(block)
        for row in rows_in(block):
            self._begin_row(row.number)
            cells.add(block, row)
            if row.number == self._place.header_row and not form.header_begin:
                form.header_begin = cells.first(block, row)
        form.width = max(form.width, cells.width)

    def end(self) -> None:
        """End the scan."""
        super().end()
        if self._awaited is not None:
            raise ValueError(f"its sheet has no row {self._awaited} where it was")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        form, at = self.form, self._at
        name = _local(name)
        if name == "autoFilter" and not form.filtered:
            form.filtered = attributes.get("ref", "")
        elif name == "mergeCell":  # what it covers is not seen
            found = _MERGED.fullmatch(attributes.get("ref", ""))
            if found is not None and self._place.is_in(int(found[1]), int(found[3])):
                form.width = max(form.width, column_number(found[2]))
        elif self._is_behind_rows:  # where rows, columns and the like are those of other things
            return
        elif name == "c":
            at.take_cell(attributes)
        elif name in _CONTENT:
            form.width = max(form.width, at.column)
            if at.row == self._place.header_row and not form.header_begin:
                form.header_begin = at.column
        elif name == "row":
            at.take_row(attributes)
            self._begin_row(at.row)
        elif name == "pane":
            form.has_panes = True
        elif name == "col" and not attributes.keys() >= {"min", "max"}:
            raise ValueError("the sheet does not say which columns it speaks of")

    def _end(self, name: str) -> None:
        self._is_behind_rows = self._is_behind_rows or _local(name) == "sheetData"

    def _begin_row(self, number: int) -> None:
        if number == self._awaited:
            self._awaited = next(self._awaited_rows, None)


class _Editor(_Parser):
    """One pass over a sheet, to copy it.

    What was read is written as far as the parser has come, but for what is replaced.
    """

    def __init__(self, out: IO[bytes], form: SheetForm, new: NewColumns) -> None:
        super().__init__()
        self._out = out
        self._form = form
        self._new = new
        self._next = next(new.rows, None)
        self._buffer = b""
        self._buffer_begin = 0  # in the sheet
        self._written = 0  # up to where
        self._depth = 0
        self._dropped_depth = 0  # of an element that is left out; 0 for none
        self._prefix = b""
        self._at = _Cursor()
        self._style = 0  # of the last cell in the row, beside which the new ones stand
        self._gets_cells = self._is_empty_row = False  # the row
        self._has_columns = False
        self._is_frozen = self._has_filter = self._is_behind_rows = False
        self._columns_behind: list[bytes] = []
        self._met: dict[str, Callable[[dict[str, str]], None]] = {
            "c": self._cell,
            "row": self._row,
            "dimension": self._dimension,
            "sheetView": self._view,
            "selection": self._selection,
            "cols": self._own_columns,
            "col": self._column,
            "sheetData": self._rows,
        }
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end

    def feed(self, block: bytes) -> None:
        """Copy a block, as far as it is parsed."""
        self._buffer = self._buffer[self._written - self._buffer_begin :] + block
        self._buffer_begin = self._written
        super().feed(block)
        if self._here > self._written:
            self._copy_to(self._here)

    def take_rows(self, block: bytes) -> None:
        """Copy a block of whole rows; everything before it is parsed."""
        self._copy_to(self._buffer_begin + len(self._buffer))
        pieces: list[bytes] = []
        begin = 0
        for row in rows_in(block):
            if self._next is None:
                break
            if row.number != self._next[0]:
                continue
            place, style = split_cells(block, row, self._new.first)
            pieces += (
                block[begin : row.begin],
                _opened(block[row.begin : row.body]),
                block[row.body : place],
                without_cells(block[place : row.body_end]),
                self._next_cells(style),
                b"</row>",
            )
            begin = row.end
        pieces.append(block[begin:])
        self._out.write(b"".join(pieces))

    def end(self) -> None:
        """Copy the rest."""
        super().end()
        self._copy_to(self._buffer_begin + len(self._buffer))

    # -- Copying -----------------------------------------------------------------------------

    @property
    def _here(self) -> int:
        """The offset of the tag that the parser is at."""
        return self.expat.CurrentByteIndex

    def _copy_to(self, place: int) -> None:
        begin = self._buffer_begin
        if not self._dropped_depth:
            self._out.write(self._buffer[self._written - begin : place - begin])
        self._written = place

    def _tag(self) -> bytes:
        """The tag that the parser is at."""
        found = _TAG.match(self._buffer, self._here - self._buffer_begin)
        if found is None:
            raise ValueError("the sheet cannot be edited")
        return found[0]

    def _replace_tag(self, tag: bytes) -> None:
        """Write another tag instead of the one that the parser is at."""
        end = self._here + len(self._tag())
        self._copy_to(self._here)
        self._out.write(tag)
        self._written = end

    def _insert(self, xml: bytes) -> None:
        """Write elements before the tag that the parser is at."""
        self._copy_to(self._here)
        self._out.write(self._named(xml))

    def _drop(self) -> None:
        """Leave out the element that begins."""
        tag = self._tag()
        self._replace_tag(b"")
        if not tag.endswith(b"/>"):  # else it ends here, and the parser is behind it then
            self._dropped_depth = self._depth

    def _named(self, xml: bytes) -> bytes:
        """Elements with the prefix of the sheet, if it has one."""
        if not self._prefix:
            return xml
        xml = _OPENED.sub(b"<" + self._prefix, xml)
        return _CLOSED.sub(b"</" + self._prefix, xml)

    # -- What is met -------------------------------------------------------------------------

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._dropped_depth:
            return
        local = _local(name)
        if self._depth == 1:
            self._prefix = name.removesuffix(local).encode()
        elif not self._is_behind_rows:
            meet = self._met.get(local)
            if meet is not None:
                meet(attributes)
        elif self._depth == _PARTS_DEPTH and not self._has_filter:
            if local == "autoFilter":
                self._has_filter = True
                if self._new.filtered:
                    self._replace_tag(_with(self._tag(), "ref", self._new.filtered))
            elif local not in _BEFORE_FILTER:
                self._put_filter()

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._dropped_depth:
            if self._dropped_depth == self._depth + 1:
                self._dropped_depth = 0
                self._written = self._here + len(self._tag())
            return
        local = _local(name)
        if local in _IN_A_ROW:
            return
        if local == "row":
            self._end_row()
        elif local == "cols" and self._has_columns:
            self._insert(self._columns())
            self._out.write(b"".join(self._columns_behind))
        elif local == "sheetView":
            self._is_frozen = False
        elif local == "sheetData":
            self._is_behind_rows = True
        elif not self._depth and not self._has_filter:
            self._put_filter()

    def _cell(self, attributes: dict[str, str]) -> None:
        self._at.take_cell(attributes)
        if self._at.column >= self._new.first:  # it has a style at most
            if self._gets_cells:
                self._drop()
        else:
            self._style = int(attributes.get("s", 0))

    def _row(self, attributes: dict[str, str]) -> None:
        self._at.take_row(attributes)
        self._style = int(attributes.get("s", 0))
        self._is_empty_row = False
        self._gets_cells = self._next is not None and self._next[0] == self._at.row
        if not self._gets_cells:
            return
        tag = self._tag()
        self._is_empty_row = tag.endswith(b"/>")
        self._replace_tag(_opened(tag))

    def _end_row(self) -> None:
        if self._next is None or self._next[0] != self._at.row:
            return
        cells = self._next_cells(self._style)
        if self._is_empty_row:
            self._out.write(self._named(cells + b"</row>"))
        else:
            self._insert(cells)

    def _next_cells(self, style: int) -> bytes:
        assert self._next is not None  # noqa: S101 - for type checkers
        cells = self._new.style(self._next[1], style)
        self._next = next(self._new.rows, None)
        return cells

    def _dimension(self, attributes: dict[str, str]) -> None:
        begin, _, end = attributes.get("ref", "").partition(":")
        last = _PLACE.fullmatch(end or begin)
        if last is not None:
            column = column_letters(max(self._new.last, column_number(last[1])))
            self._replace_tag(_with(self._tag(), "ref", f"{begin}:{column}{last[2]}"))

    def _view(self, _: dict[str, str]) -> None:
        rows = self._new.header_row
        if self._form.has_panes or rows > MOST_FROZEN_ROWS:
            return
        self._is_frozen = True
        pane = PANE.format(rows=rows, below=rows + 1).encode()
        tag = _VIEWED_FROM.sub(b"", self._tag())  # the rows above are in sight now
        if tag.endswith(b"/>"):
            self._replace_tag(tag[:-2] + b">" + self._named(pane + b"</sheetView>"))
        else:
            self._replace_tag(tag + self._named(pane))

    def _selection(self, attributes: dict[str, str]) -> None:
        if self._is_frozen and "pane" not in attributes:
            self._replace_tag(_with(self._tag(), "pane", "bottomLeft"))

    def _own_columns(self, _: dict[str, str]) -> None:
        self._has_columns = not self._tag().endswith(b"/>")
        if not self._has_columns:
            self._drop()

    def _column(self, attributes: dict[str, str]) -> None:
        """End columns of the sheet before the new ones, and continue them behind these."""
        first, last = int(attributes["min"]), int(attributes["max"])
        if last > self._new.last:
            begin = str(max(first, self._new.last + 1))
            behind = _with(self._tag(), "min", begin)
            # Closed by itself, also where a tag of its own closed it.
            self._columns_behind.append(behind.removesuffix(b">").removesuffix(b"/") + b"/>")
        if first >= self._new.first:
            self._drop()
        elif last >= self._new.first:
            self._replace_tag(_with(self._tag(), "max", str(self._new.first - 1)))

    def _rows(self, _: dict[str, str]) -> None:
        if not self._has_columns:
            self._insert(b"<cols>" + self._columns() + b"</cols>")

    def _columns(self) -> bytes:
        return column_widths(self._new.widths, self._new.first).encode()

    def _put_filter(self) -> None:
        self._has_filter = True
        if self._new.filtered:
            self._insert(f'<autoFilter ref="{self._new.filtered}"/>'.encode())


def _opened(row: bytes) -> bytes:
    """The tag of a row that gets more cells."""
    if row.endswith(b"/>"):
        row = row[:-2] + b">"
    return _SPANS.sub(b"", row)  # which say how far its cells go


def _with(tag: bytes, attribute: str, value: str) -> bytes:
    """A tag with an attribute set to a value."""
    said = f' {attribute}="{value}"'.encode()
    found = re.search(rb"\s%b\s*=\s*(\"[^\"]*\"|'[^']*')" % attribute.encode(), tag)
    if found is not None:
        return tag[: found.start()] + said + tag[found.end() :]
    end = len(tag) - (2 if tag.endswith(b"/>") else 1)
    return tag[:end] + said + tag[end:]
