"""What a workbook may amount to: it is opened whole, so it must be bounded before that."""

from __future__ import annotations

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
_PLACE = re.compile(r"([A-Za-z]{1,9})(\d{1,9})")
_SHEET_TAG = b"sheetData"

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
            if any(map(_is_binary, parts)):
                raise InputError(
                    f"{name} is a binary workbook (.xlsb), of which nobody can say how large it is "
                    "before it is opened; save it as .xlsx or CSV"
                )
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
                    if part.filename == _OPENDOCUMENT:
                        _check_opendocument(name, blocks)
                    elif _is_texts(part):
                        _check_counts(name, lengths.noting(blocks))
                    else:
                        sheet = _Sheet(name, lengths.of_each)
                        _check_counts(name, sheet.checking(blocks))
    except InputError:
        raise
    # A password of the archive's own or an unknown method is a RuntimeError, a number of more
    # digits than Python reads a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _is_binary(part: zipfile.ZipInfo) -> bool:
    return part.filename.replace("\\", "/").lower().endswith(("workbook.bin", "workbook.bin.rels"))


def _is_texts(part: zipfile.ZipInfo) -> bool:
    # As the library finds it; some writers have backslashes there.
    return part.filename.replace("\\", "/").lower() == "xl/sharedstrings.xml"


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
    """

    def __init__(self, name: str, lengths: Sequence[int]) -> None:
        self._name = name
        self._lengths = lengths
        self._rows = self._columns = self._cells = self._characters = 0
        self._row = self._column = 0  # of the present cell
        self._is_empty = self._is_shared = False
        self._number: str | None = None  # of its text, where that is being read

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
                self._column, self._row = _column_number(found[1]), int(found[2])
            self._is_empty, self._is_shared = True, attributes.get("t") == "s"
        elif tag == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
        elif tag in {"v", "is"}:
            if self._is_empty:  # many cells only have a format
                self._is_empty = False
                self._cells += 1
                self._rows = max(self._rows, self._row)
                self._columns = max(self._columns, self._column)
            if self._is_shared:
                self._number = ""

    def _add(self, text: str) -> None:
        if self._number is not None:
            self._number += text

    def _end(self, _tag: str) -> None:
        if self._number is not None:
            number, self._number = self._number.strip(), None
            if number.isdecimal() and int(number) < len(self._lengths):
                self._characters += self._lengths[int(number)]


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


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
