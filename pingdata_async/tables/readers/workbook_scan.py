"""One pass over a workbook's XML, before it is opened: its limits, and what its values do not say.

The library that reads values opens a sheet whole, and returns nothing for a formula without a
stored value or a cell with an error, as if it were empty. Nor does it say which rows are hidden.
So the XML is read first: a workbook that would not fit into memory is refused, and `SheetMarks`
keeps the rest.
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
from operator import itemgetter
from typing import IO
from xml.parsers import expat

from pingdata_async.exceptions import InputError
from pingdata_async.tables.xlsx import column_letters, column_number

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_CONTENT_BYTES = 2 * 1024 * 1024 * 1024  # decompressed
MAX_CELLS = 20_000_000
"""In the rectangle from the first cell of a sheet to its last.

Measured: a cell takes 50 bytes, and another 50 while the sheet is opened, so this is 2 GB.
"""

MAX_EMPTY_CELLS = 1_000_000
"""In that rectangle, besides nine for each cell with a value."""

MAX_TEXT_CHARACTERS = 32 * 1024 * 1024
"""In a sheet, besides 40 for each cell: a text that the file stores once takes memory per cell."""

MAX_RATIO = 100
"""Of the size of a part to its compressed size; sheets of real tables reach 5 to 20."""

RATIO_FROM_BYTES = 4 * 1024 * 1024

MAX_MARKS = 1_000_000
"""In a sheet, including merged cells; measured: a mark takes 100 bytes."""

ADVICE = "save the sheet as CSV, which is read in small parts"

_BLOCK_BYTES = 1024 * 1024
_LONGEST_DIRECTORY_BYTES = 16 * 1024 * 1024  # of all sheets of a workbook
_LONGEST_TAG_BYTES = 4096
_MOST_HIDDEN_ALIKE = 100_000

_WORKBOOK = "xl/workbook.xml"
_LINKS = "xl/_rels/workbook.xml.rels"
_OPENDOCUMENT = "content.xml"
_SHEET_TAG = b"sheetData"

_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,7}):\$?([A-Za-z]{1,3})\$?(\d{1,7})")
_PLACE = re.compile(r"([A-Za-z]{1,9})(\d{1,9})")
_COUNT = re.compile(rb"""\b(?:uniqueC|c)ount=["'](\d+)""")
_REFERENCE = re.compile(
    r"""("[^"]*"|'[^']*')|(\$?)\b([A-Za-z]{1,3})(\$?)([1-9]\d{0,6})\b(?![(!.\w])"""
)
_TRUE = frozenset({"1", "true"})


def scan_workbook(
    name: str, content: bytes, keep_waiting: Callable[[], None]
) -> dict[str, SheetMarks]:
    """Refuse a workbook that would not fit into memory, and find what its values do not say.

    The library reserves memory for the whole rectangle between the first cell and the last, so one
    cell in the last corner of a sheet would take 500 GB, and end the process.

    Args:
        name: The input, for messages.
        content: A workbook that is a zip archive.
        keep_waiting: Called now and then; may raise to stop reading.

    Returns:
        The marks of each sheet by its title, as far as that is found.

    Raises:
        InputError: The workbook is too large, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_directory(name, archive.infolist())
            return _scan_parts(name, archive, keep_waiting)
    except InputError:
        raise
    except TooManyMarksError as error:
        raise InputError(
            f"{name} has a sheet with more than {MAX_MARKS:,} cells that are merged, hold an error "
            "or hold a formula without a stored value; open it in Excel and save it"
        ) from error
    # A password of the archive itself, or an unknown method, is a RuntimeError; a number with
    # more digits than Python reads is a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


# -- Marks --------------------------------------------------------------------------------------


class TooManyMarksError(ValueError):
    """Raised for a sheet with more than `MAX_MARKS`."""


class FormulaText(str):
    """Stands for a cell: its formula, which has no stored value."""

    __slots__ = ()


class ZeroFormulaText(str):
    """Stands for a cell with 0: its formula, whose value may never have been calculated."""

    __slots__ = ()


class ErrorText(str):
    """Stands for a cell: the error that is its value, such as #N/A."""

    __slots__ = ()


MarkedText = FormulaText | ZeroFormulaText | ErrorText
MARKED = frozenset({FormulaText, ZeroFormulaText, ErrorText})

_COLUMNS = 2**32  # more than a sheet has


class SheetMarks:
    """What the values of a sheet do not say; rows and columns count from 0.

    Attributes:
        hidden: The rows that are hidden, by hand or by a filter.
        spans: Cells merged with those below them: first row, last row, first column.
        last_row: The last row with a mark; -1 if there is none.
        last_column: The last column with a mark; -1 if there is none.
        errors: The errors that cells hold, such as #N/A.
    """

    def __init__(self) -> None:
        self.hidden: set[int] = set()
        self.spans: list[tuple[int, int, int]] = []
        self.last_row = self.last_column = -1
        self.errors: set[str] = set()
        self._places = array("Q")
        self._texts: list[MarkedText] = []
        self._is_sorted = True

    def mark(self, row: int, column: int, text: MarkedText) -> None:
        """Mark a cell with the text that stands for it."""
        self._check_count()
        place = row * _COLUMNS + column
        self._is_sorted = self._is_sorted and (not self._places or place > self._places[-1])
        self._places.append(place)
        self._texts.append(text)
        if isinstance(text, ErrorText):
            self.errors.add(str(text))
        self.last_row = max(self.last_row, row)
        self.last_column = max(self.last_column, column)

    def merge(self, first_row: int, last_row: int, column: int) -> None:
        """Note a merged cell."""
        if last_row > first_row:
            self._check_count()
            self.spans.append((first_row, last_row, column))

    def by_row(self) -> Iterator[tuple[int, list[tuple[int, MarkedText]]]]:
        """The rows with marks in order, each with the columns and texts."""
        if not self._is_sorted:  # no program writes such a sheet, but it can be read
            pairs = sorted(zip(self._places, self._texts, strict=True), key=itemgetter(0))
            self._places = array("Q", map(itemgetter(0), pairs))
            self._texts = list(map(itemgetter(1), pairs))
            self._is_sorted = True
        row, cells = -1, list[tuple[int, MarkedText]]()
        for place, text in zip(self._places, self._texts, strict=True):
            if place // _COLUMNS != row:
                if cells:
                    yield row, cells
                row, cells = place // _COLUMNS, []
            cells.append((place % _COLUMNS, text))
        if cells:
            yield row, cells

    def _check_count(self) -> None:
        if len(self._texts) + len(self.spans) == MAX_MARKS:
            raise TooManyMarksError


def moved_formula(formula: str, rows: int, columns: int) -> str:
    """A formula as if copied this many rows down and columns to the right.

    Spreadsheets store a formula that a block of cells shares in the first of them alone.
    """

    def moved(found: re.Match[str]) -> str:
        quoted, fixed_column, letters, fixed_row, number = found.groups()
        if quoted:
            return str(quoted)
        if not fixed_column:
            letters = column_letters(column_number(letters) + columns)
        if not fixed_row:
            number = str(int(number) + rows)
        return f"{fixed_column}{letters}{fixed_row}{number}"

    return _REFERENCE.sub(moved, formula)


# -- Parts of the archive -----------------------------------------------------------------------


def _check_directory(name: str, parts: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a workbook by what the archive says about its parts."""
    if any(_plain_name(part).endswith(("workbook.bin", "workbook.bin.rels")) for part in parts):
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


def _scan_parts(
    name: str, archive: zipfile.ZipFile, keep_waiting: Callable[[], None]
) -> dict[str, SheetMarks]:
    """Read every part to its end: a part that is larger than declared is damage."""
    marks: dict[str, SheetMarks] = {}
    directory = _Directory(archive)
    texts = _SharedTexts()
    # Shared texts first: their lengths tell how much the cells that share them hold.
    for part in sorted(archive.infolist(), key=lambda part: not _is_shared_texts(part)):
        with archive.open(part) as stream:
            blocks = _blocks(name, part, stream, keep_waiting)
            if part.filename == _OPENDOCUMENT:
                _OpenDocument(name, marks).scan(blocks)
            elif _is_shared_texts(part):
                _check_counts(name, texts.scan(blocks))
            else:
                sheet = _Sheet(name, texts.lengths, is_unfinished=directory.is_unfinished)
                _check_counts(name, sheet.scan(blocks))
                title = directory.titles.get(_plain_name(part))
                if title is not None:
                    marks[title] = sheet.marks
    return marks


def _plain_name(part: zipfile.ZipInfo) -> str:
    """The name of a part as the library looks it up; some programs write backslashes."""
    return part.filename.replace("\\", "/").lower()


def _is_shared_texts(part: zipfile.ZipInfo) -> bool:
    return _plain_name(part) == "xl/sharedstrings.xml"


def _blocks(
    name: str, part: zipfile.ZipInfo, stream: IO[bytes], keep_waiting: Callable[[], None]
) -> Iterator[bytes]:
    size_bytes = 0
    while block := stream.read(_BLOCK_BYTES):
        keep_waiting()
        size_bytes += len(block)
        if size_bytes > RATIO_FROM_BYTES and size_bytes > MAX_RATIO * part.compress_size:
            raise InputError(
                f"{name} is not a usual workbook: {part.filename} is more than {MAX_RATIO} times "
                f"its compressed size; {ADVICE}"
            )
        yield block


def _check_counts(name: str, blocks: Iterator[bytes]) -> None:
    """Check declared numbers of texts, for which the library reserves memory."""
    rest = b""
    for block in blocks:
        declared = max(map(int, _COUNT.findall(rest + block)), default=0)
        if declared > MAX_CELLS:
            raise InputError(f"{name} is a damaged workbook: it declares {declared:,} texts")
        rest = block[-_LONGEST_TAG_BYTES:]  # so that no tag is cut


class _XMLScan:
    """Handles the elements of a part."""

    def _parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        return parser

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def _end(self, tag: str) -> None:
        """An element ends."""

    def _add(self, text: str) -> None:
        """Characters of a text."""


class _Directory(_XMLScan):
    """Which part of an Excel workbook holds which sheet.

    Attributes:
        titles: The title of each sheet by the plain name of its part; empty if unreadable.
        is_unfinished: Whether the workbook asks to be calculated when opened, as programs do that
            store 0 as the value of each formula.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.is_unfinished = False
        self._sheets: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        for part in archive.infolist():
            if _plain_name(part) in {_WORKBOOK, _LINKS}:
                with archive.open(part) as stream, contextlib.suppress(expat.ExpatError):
                    self._parser().Parse(stream.read(_LONGEST_DIRECTORY_BYTES))
        self.titles = {
            self._parts[link]: title for link, title in self._sheets.items() if link in self._parts
        }

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag.rpartition(":")[2]:
            case "sheet":
                links = [each for name, each in attributes.items() if name.endswith(":id")]
                if links and "name" in attributes:
                    self._sheets[links[0]] = attributes["name"]
            case "Relationship" if "Id" in attributes:
                target = attributes.get("Target", "").replace("\\", "/").lower()
                is_absolute = target.startswith("/")
                self._parts[attributes["Id"]] = target[1:] if is_absolute else f"xl/{target}"
            case "calcPr":
                self.is_unfinished = attributes.get("fullCalcOnLoad") in _TRUE


class _SharedTexts(_XMLScan):
    """The lengths of the texts that cells share, by number."""

    def __init__(self) -> None:
        self.lengths = array("L")
        self._pending = 0
        self._is_inside = False

    def scan(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Scan the blocks, and pass them on."""
        parser = self._parser()
        try:
            for block in blocks:
                parser.Parse(block)
                yield block
            parser.Parse(b"", True)
        except expat.ExpatError:
            return  # the library reports it, if it matters

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._is_inside = self._is_inside or tag.rpartition(":")[2] == "si"

    def _end(self, tag: str) -> None:
        if tag.rpartition(":")[2] == "si":
            self.lengths.append(self._pending)
            self._pending, self._is_inside = 0, False

    def _add(self, text: str) -> None:
        if self._is_inside:
            self._pending += len(text)


# -- Sheets -------------------------------------------------------------------------------------


class _Sheet(_XMLScan):
    """A part of an Excel workbook, which may be a sheet whatever its name.

    Args:
        name: The input, for messages.
        lengths: The lengths of shared texts, by number.
        is_unfinished: Whether a formula with the value 0 may never have been calculated.

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
        self._text: str | None = None  # while it is read
        self._share: dict[str, str] = {}  # attributes of its formula

    def scan(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Scan the blocks, and pass them on; an InputError if the sheet is too large or damaged."""
        parser = self._parser()
        parser.specified_attributes = True  # the library knows no defaults
        damage: expat.ExpatError | None = None
        before = b""
        for block in chain(blocks, [b""]):
            if damage is None:
                try:
                    parser.Parse(block, not block)
                except expat.ExpatError as error:  # a picture, for instance
                    damage = error
            # The library reads on where a parser must stop.
            if damage is not None and (self._cells or _SHEET_TAG in before + block):
                raise InputError(f"{self._name} is a damaged workbook: {damage}") from damage
            before = block[-len(_SHEET_TAG) :]
            yield block
        _check_extent(self._name, self._rows, self._columns, self._cells)
        check_texts(self._name, self._characters, self._cells)

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
            if attributes.get("hidden") in _TRUE:
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
            cells = _RANGE.fullmatch(attributes.get("ref", ""))
            if cells is not None:
                self.marks.merge(int(cells[2]) - 1, int(cells[4]) - 1, column_number(cells[1]) - 1)

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
        """Mark a cell that holds an error, or a formula without a stored value."""
        row, column = self._row - 1, self._column - 1
        formula = None if self._formula is None else self._whole_formula(row, column)
        if self._kind == "e" and self._value:
            self.marks.mark(row, column, ErrorText(self._value))
        elif formula is None or self._kind == "str":  # the value of a formula may be ""
            pass
        elif not self._value:
            self.marks.mark(row, column, FormulaText(formula))
        elif self._value == "0" and self._kind in {None, "n"} and self._is_unfinished:
            self.marks.mark(row, column, ZeroFormulaText(formula))
        self._kind = self._formula = None

    def _whole_formula(self, row: int, column: int) -> str:
        """The formula of the present cell, perhaps shared with another."""
        number = self._share.get("si")
        text = self._formula or ""
        if self._share.get("t") == "shared" and number is not None:
            if text:
                self._shared[number] = row, column, text
            elif number in self._shared:
                first_row, first_column, first = self._shared[number]
                text = moved_formula(first, row - first_row, column - first_column)
        return f"={text}"


class _OpenDocument(_XMLScan):
    """The sheets of an OpenDocument workbook, in which a number repeats cells and rows.

    `marks` is filled with the marks of each sheet, by its title.
    """

    def __init__(self, name: str, marks: dict[str, SheetMarks]) -> None:
        self._name = name
        self._marks_by_title = marks
        self._marks = SheetMarks()
        self._rows = self._columns = self._cells = self._characters = 0
        self._repeated_rows = self._repeated = self._alike = 0
        self._error: str | None = None  # the text of the present cell, if it is an error

    def scan(self, blocks: Iterator[bytes]) -> None:
        """Scan the document; an InputError if a sheet is too large, or damaged.

        The library never returns if the XML ends too early.
        """
        parser = self._parser()
        try:
            for block in blocks:
                parser.Parse(block)
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise InputError(f"{self._name} is a damaged workbook: {error}") from error

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "table:table":
            self._rows = self._repeated_rows = self._cells = self._characters = 0
            self._marks = SheetMarks()
            self._marks_by_title[attributes.get("table:name", "")] = self._marks
        elif tag == "table:table-row":
            self._rows, self._columns = self._rows + self._repeated_rows, 0
            self._repeated_rows = int(attributes.get("table:number-rows-repeated", 1))
            if attributes.get("table:visibility", "visible") != "visible":
                # A sheet ends with very many empty rows, which may be hidden.
                last = self._rows + min(self._repeated_rows, _MOST_HIDDEN_ALIKE)
                self._marks.hidden.update(range(self._rows, last))
        elif tag in {"table:table-cell", "table:covered-table-cell"}:
            self._start_cell(attributes)

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self._repeated = int(attributes.get("table:number-columns-repeated", 1))
        self._columns += self._repeated
        has_value = "office:value-type" in attributes
        formula = attributes.get("table:formula")
        if has_value or formula is not None:
            self._cells += 1
            self._alike = self._repeated * self._repeated_rows
            rows = self._rows + self._repeated_rows
            _check_extent(self._name, rows, self._columns, self._cells)
            self._add("".join(attributes.values()))
        if not has_value and formula is not None:
            self._mark_alike(FormulaText(formula.removeprefix("of:")))
        elif attributes.get("calcext:value-type") == "error":
            self._error = ""
        if "table:number-rows-spanned" in attributes:
            last = self._rows + int(attributes["table:number-rows-spanned"]) - 1
            self._marks.merge(self._rows, last, self._columns - self._repeated)

    def _add(self, text: str) -> None:
        self._characters += len(text) * self._alike
        check_texts(self._name, self._characters, self._cells)
        if self._error is not None:
            self._error += text

    def _end(self, tag: str) -> None:
        if tag == "table:table-cell":
            self._alike = 0
            if self._error is not None:
                self._mark_alike(ErrorText(self._error.strip() or "#ERROR"))
                self._error = None

    def _mark_alike(self, text: MarkedText) -> None:
        for row in range(self._rows, self._rows + self._repeated_rows):
            for column in range(self._columns - self._repeated, self._columns):
                self._marks.mark(row, column, text)


def _check_extent(name: str, rows: int, columns: int, cells: int) -> None:
    most = min(MAX_CELLS, MAX_EMPTY_CELLS + 10 * cells)
    if rows * columns > most:
        sparse = "" if most == MAX_CELLS else f", most of them empty or alike (all but {cells:,})"
        raise InputError(
            f"{name} has a sheet of {rows:,} rows and {columns:,} columns, more than {most:,} "
            f"cells{sparse}; delete what is far below or beside the table, or {ADVICE}"
        )


def check_texts(name: str, characters: int, cells: int) -> None:
    """Refuse what has that many characters in that many cells."""
    if characters > MAX_TEXT_CHARACTERS + 40 * cells:
        raise InputError(
            f"{name} has a sheet with more than {MAX_TEXT_CHARACTERS:,} characters, as many cells "
            f"hold long texts; {ADVICE}"
        )
