"""Bounds of a workbook, checked before it is opened whole.

The same pass over its XML collects what the library does not tell (`lost_cells.SheetMarks`).
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import IO
from xml.parsers import expat

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.lost_cells import (
    MAX_MARKS,
    ErrorText,
    FormulaText,
    MarkedText,
    SheetMarks,
    TooManyMarksError,
    ZeroFormulaText,
    moved_formula,
)
from pingdata_async.tables.xlsx.cells import column_number

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
_LONGEST_DIRECTORY_BYTES = 16 * 1024 * 1024  # of all sheets of a workbook
_WORKBOOK = "xl/workbook.xml"
_LINKS = "xl/_rels/workbook.xml.rels"
_LONGEST_TAG_BYTES = 4096
_OPENDOCUMENT = "content.xml"
_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,7}):\$?([A-Za-z]{1,3})\$?(\d{1,7})")
_PLACE = re.compile(r"([A-Za-z]{1,9})(\d{1,9})")
_SHEET_TAG = b"sheetData"
_MOST_HIDDEN_ALIKE = 100_000

_COUNT = re.compile(rb"""\b(?:uniqueC|c)ount=["'](\d+)""")


def check_archive(
    name: str, content: bytes, keep_waiting: Callable[[], None]
) -> dict[str, SheetMarks]:
    """Refuse a workbook that would not fit into memory.

    The library reserves memory for the whole rectangle between the first cell and the last, so
    one cell in the last corner of a sheet would need 500 GB, and end the process.

    Args:
        name: The input, for messages.
        content: A workbook that is a zip archive.
        keep_waiting: Called now and then; may raise to end the reading.

    Returns:
        By the title of each sheet, as far as that is found, what its values do not say.

    Raises:
        InputError: When it is too large, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_directory(name, archive.infolist())
            return _check_parts(name, archive, keep_waiting)
    except InputError:
        raise
    except TooManyMarksError as error:
        raise InputError(
            f"{name} has a sheet with more than {MAX_MARKS:,} cells that are merged, hold an error "
            "or a formula that nothing has calculated; open it in Excel and save it"
        ) from error
    # A password of the archive's own or an unknown method is a RuntimeError, a number of more
    # digits than Python reads a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _check_directory(name: str, parts: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a workbook by what the archive says of its parts."""
    if any(map(_is_binary, parts)):
        raise InputError(
            f"{name} is a binary workbook (.xlsb), whose size is not known before it is opened; "
            "save it as .xlsx or CSV"
        )
    size_bytes = sum(part.file_size for part in parts)
    if size_bytes > MAX_CONTENT_BYTES:
        raise InputError(
            f"{name} is too large for a workbook: {size_bytes:,} bytes decompressed, more "
            f"than {MAX_CONTENT_BYTES:,}; {ADVICE}"
        )


def _check_parts(
    name: str, archive: zipfile.ZipFile, keep_waiting: Callable[[], None]
) -> dict[str, SheetMarks]:
    """Read every part to its end: one that holds more than it says makes a damaged archive."""
    marks: dict[str, SheetMarks] = {}
    directory = _Directory.of(archive)
    lengths = _TextLengths()
    # Shared texts come first: their lengths say how much the cells that share them hold.
    for part in sorted(archive.infolist(), key=lambda part: not _is_texts(part)):
        with archive.open(part) as stream:
            blocks = _blocks(name, part, stream, keep_waiting)
            if part.filename == _OPENDOCUMENT:
                _check_opendocument(name, blocks, marks)
            elif _is_texts(part):
                _check_counts(name, lengths.noting(blocks))
            else:
                sheet = _Sheet(name, lengths.of_each, is_unfinished=directory.is_unfinished)
                _check_counts(name, sheet.checking(blocks))
                title = directory.titles.get(_plain_name(part.filename))
                if title is not None:
                    marks[title] = sheet.marks
    return marks


def _is_binary(part: zipfile.ZipInfo) -> bool:
    return _plain_name(part.filename).endswith(("workbook.bin", "workbook.bin.rels"))


def _is_texts(part: zipfile.ZipInfo) -> bool:
    return _plain_name(part.filename) == "xl/sharedstrings.xml"


def _plain_name(name: str) -> str:
    """A part's name as the library finds it; some writers have backslashes there."""
    return name.replace("\\", "/").lower()


class _Directory:
    """Which part of an archive holds which sheet of an Excel workbook.

    Attributes:
        titles: By the part's plain name, the title of its sheet.
        is_unfinished: Whether it asks to be calculated when it is opened, as programs do that
            write formulas with 0 for their values.
    """

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}
        self.is_unfinished = False
        self._sheets: dict[str, str] = {}
        self._parts: dict[str, str] = {}

    @classmethod
    def of(cls, archive: zipfile.ZipFile) -> _Directory:
        """That of an archive; empty where it has none that can be read."""
        found = cls()
        for part in archive.infolist():
            if _plain_name(part.filename) in {_WORKBOOK, _LINKS}:
                parser = expat.ParserCreate()
                parser.StartElementHandler = found._start
                with archive.open(part) as stream, contextlib.suppress(expat.ExpatError):
                    parser.Parse(stream.read(_LONGEST_DIRECTORY_BYTES))
        found.titles = {
            found._parts[link]: title
            for link, title in found._sheets.items()
            if link in found._parts
        }
        return found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag.rpartition(":")[2]:
            case "sheet":
                links = [each for name, each in attributes.items() if name.endswith(":id")]
                if links and "name" in attributes:
                    self._sheets[links[0]] = attributes["name"]
            case "Relationship" if "Id" in attributes:
                target = _plain_name(attributes.get("Target", ""))
                is_absolute = target.startswith("/")
                self._parts[attributes["Id"]] = target[1:] if is_absolute else f"xl/{target}"
            case "calcPr":
                self.is_unfinished = attributes.get("fullCalcOnLoad") in {"1", "true"}


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


class _Sheet:
    """What the cells of a part amount to, whatever its name: the library goes by links to it.

    Args:
        name: The input, for messages.
        lengths: How long the texts are that cells share, each by its number.
        is_unfinished: Whether a 0 that a formula came to may be none.

    Attributes:
        marks: What the values of its cells do not say.
    """

    def __init__(self, name: str, lengths: Sequence[int], *, is_unfinished: bool) -> None:
        self.marks = SheetMarks()
        self._is_unfinished = is_unfinished
        self._shared: dict[str, tuple[int, int, str]] = {}  # formulas, by number
        self._name = name
        self._lengths = lengths
        self._rows = self._columns = self._cells = self._characters = 0
        self._row = self._column = 0  # of the present cell
        self._is_empty = False
        self._kind: str | None = None
        self._formula: str | None = None
        self._value = ""
        self._text: str | None = None  # where it is being read
        self._share: dict[str, str] = {}  # attributes of its formula

    def checking(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks, as they are gone through.

        Raises:
            InputError: When it is a sheet that is too large, or damaged.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.specified_attributes = True  # the library knows no others
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        damage: expat.ExpatError | None = None
        before = b""
        for block in chain(blocks, [b""]):
            if damage is None:
                try:
                    parser.Parse(block, not block)
                except expat.ExpatError as error:  # a picture, for instance
                    damage = error
            # The library reads on where a parser must not.
            if damage is not None and (self._cells or _SHEET_TAG in before + block):
                raise InputError(f"{self._name} is a damaged workbook: {damage}") from damage
            before = block[-len(_SHEET_TAG) :]
            yield block
        _check_extent(self._name, self._rows, self._columns, self._cells)
        _check_texts(self._name, self._characters, self._cells)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "c":
            place = attributes.get("r")
            self._column += 1
            if place is not None:
                found = _PLACE.fullmatch(place)
                if found is None:
                    raise InputError(f"{self._name} is a damaged workbook: no cell is at {place!r}")
                self._column, self._row = column_number(found[1]), int(found[2])
            self._is_empty, self._kind = True, attributes.get("t")
            self._formula, self._value = None, ""
        elif tag == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
            if attributes.get("hidden") in {"1", "true"}:
                self.marks.hidden.add(self._row - 1)
        elif tag in {"v", "is", "f"}:
            if self._is_empty:  # many cells only have a format
                self._is_empty = False
                self._cells += 1
                self._rows = max(self._rows, self._row)
                self._columns = max(self._columns, self._column)
            if tag == "f":
                self._share, self._text = attributes, ""
            elif self._kind in {"s", "e"} or self._formula is not None:
                self._text = ""
        elif tag == "mergeCell":
            self._note_merged(attributes.get("ref", ""))

    def _add(self, text: str) -> None:
        if self._text is not None:
            self._text += text

    def _end(self, tag: str) -> None:
        if self._text is not None:
            text, self._text = self._text, None
            if tag.rpartition(":")[2] == "f":
                self._formula = text
                self._characters += len(text)
            else:
                self._value = text.strip()
                if self._kind == "s":
                    self._count_shared_text()
        elif (self._kind == "e" or self._formula is not None) and tag.rpartition(":")[2] == "c":
            self._end_cell()

    def _count_shared_text(self) -> None:
        if self._value.isdecimal() and int(self._value) < len(self._lengths):
            self._characters += self._lengths[int(self._value)]

    def _end_cell(self) -> None:
        """Note what stands for a cell with an error or a formula, where no value does."""
        row, column = self._row - 1, self._column - 1
        formula = None if self._formula is None else self._whole_formula(row, column)
        if self._kind == "e" and self._value:
            self.marks.mark(row, column, ErrorText(self._value))
        elif formula is None or self._kind == "str":  # a formula may come to an empty text
            pass
        elif not self._value:
            self.marks.mark(row, column, FormulaText(formula))
        elif self._value == "0" and self._kind in {None, "n"} and self._is_unfinished:
            self.marks.mark(row, column, ZeroFormulaText(formula))
        self._kind = self._formula = None

    def _whole_formula(self, row: int, column: int) -> str:
        """The formula of the present cell, which may be that of another one."""
        number = self._share.get("si")
        text = self._formula or ""
        if self._share.get("t") == "shared" and number is not None:
            if text:
                self._shared[number] = row, column, text
            elif number in self._shared:
                first_row, first_column, first = self._shared[number]
                text = moved_formula(first, row - first_row, column - first_column)
        return f"={text}"

    def _note_merged(self, cells: str) -> None:
        found = _RANGE.fullmatch(cells)
        if found is not None:
            self.marks.merge(int(found[2]) - 1, int(found[4]) - 1, column_number(found[1]) - 1)


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


def _check_opendocument(name: str, blocks: Iterator[bytes], marks: dict[str, SheetMarks]) -> None:
    """Cells are repeated by a number; and the library never ends where the XML does too early.

    Args:
        name: The input, for messages.
        blocks: The document.
        marks: Filled with what the values of each sheet do not say.
    """
    sheet = _OpenDocumentSheet(name, marks)
    parser = expat.ParserCreate()
    parser.StartElementHandler = sheet.start
    parser.EndElementHandler = sheet.end
    parser.CharacterDataHandler = sheet.add
    try:
        for block in blocks:
            parser.Parse(block)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


class _OpenDocumentSheet:
    """What the cells of a sheet amount to, and what their values do not say.

    Args:
        name: The input, for messages.
        marks: By the title of each sheet, what is noted of it.
    """

    def __init__(self, name: str, marks: dict[str, SheetMarks]) -> None:
        self._name = name
        self._marks_by_title = marks
        self._marks = SheetMarks()
        self._rows = self._columns = self._cells = self._characters = 0
        self._repeated_rows = self._repeated = self._alike = 0
        self._error: str | None = None  # the text of the present cell, where it is one

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag == "table:table":
            self._rows = self._repeated_rows = self._cells = self._characters = 0
            self._marks = SheetMarks()
            self._marks_by_title[attributes.get("table:name", "")] = self._marks
        elif tag == "table:table-row":
            self._rows, self._columns = self._rows + self._repeated_rows, 0
            self._repeated_rows = int(attributes.get("table:number-rows-repeated", 1))
            if attributes.get("table:visibility", "visible") != "visible":
                # Sheets end with very many rows of nothing, which may be hidden.
                last = self._rows + min(self._repeated_rows, _MOST_HIDDEN_ALIKE)
                self._marks.hidden.update(range(self._rows, last))
        elif tag in {"table:table-cell", "table:covered-table-cell"}:
            self._repeated = int(attributes.get("table:number-columns-repeated", 1))
            self._columns += self._repeated
            has_value = "office:value-type" in attributes
            if has_value or "table:formula" in attributes:
                self._cells += 1
                self._alike = self._repeated * self._repeated_rows
                rows = self._rows + self._repeated_rows
                _check_extent(self._name, rows, self._columns, self._cells)
                self.add("".join(attributes.values()))
            if not has_value and "table:formula" in attributes:
                formula = attributes["table:formula"].removeprefix("of:")
                self._mark_alike(FormulaText(formula))
            elif attributes.get("calcext:value-type") == "error":
                self._error = ""
            if "table:number-rows-spanned" in attributes:
                last = self._rows + int(attributes["table:number-rows-spanned"]) - 1
                self._marks.merge(self._rows, last, self._columns - self._repeated)

    def add(self, text: str) -> None:
        """Characters of a text."""
        self._characters += len(text) * self._alike
        _check_texts(self._name, self._characters, self._cells)
        if self._error is not None:
            self._error += text

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == "table:table-cell":
            self._alike = 0
            if self._error is not None:
                self._mark_alike(ErrorText(self._error.strip() or "#ERROR"))
                self._error = None

    def _mark_alike(self, text: MarkedText) -> None:
        for row in range(self._rows, self._rows + self._repeated_rows):
            for column in range(self._columns - self._repeated, self._columns):
                self._marks.mark(row, column, text)
