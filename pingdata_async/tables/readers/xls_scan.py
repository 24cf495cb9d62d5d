"""The limits of a workbook of before 2007 (.xls), before it is opened.

The library opens all of its sheets at once, each as the whole rectangle between the first cell
and the last, with a copy of a shared text for each cell that holds it. So the records of the file
are gone through first. They lie in a stream within a container, as described in [MS-XLS] and
[MS-CFB]; where a file breaks the rules, it is read as the library reads it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from struct import Struct

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.workbook_scan import (
    ADVICE,
    MAX_CELLS,
    MAX_EMPTY_CELLS,
    check_texts,
)

_BEGIN, _END, _CONTINUE, _SHEET = 0x0809, 0x000A, 0x003C, 0x0085
_DIMENSIONS, _TEXTS, _TEXT_CELL, _SEVERAL_NUMBERS = 0x0200, 0x00FC, 0x00FD, 0x00BD
_CELLS = frozenset({0x0006, 0x0203, 0x0204, 0x0205, 0x027E, 0x00D6, _TEXT_CELL, _SEVERAL_NUMBERS})
_WHOLE_SHEET = 65_536 * 256
_EXTENT, _OLD_EXTENT, _TEXT_HEAD = Struct("<IIHH"), Struct("<HHHH"), Struct("<HB")

_NAMES = ("Workbook", "Book", "WORKBOOK", "BOOK")
_PLACES = {9: Struct("<II"), 12: Struct("<IQ")}  # a stream's, by the size of sectors
_LAST_SECTOR = 0xFFFF_FFFE
_NO_SECTOR = 0xFFFF_FFFA  # or more
_SMALL_BYTES = 4096  # a stream of less lies in small sectors
_WAIT_EVERY = 50_000


def check_xls(name: str, content: bytes, keep_waiting: Callable[[], None]) -> None:
    """Refuse an .xls that would not fit into memory.

    Args:
        name: The input, for messages.
        content: The file.
        keep_waiting: Called now and then; may raise to stop reading.

    Raises:
        InputError: It is too large, or damaged.
    """
    try:
        stream = memoryview(_stream_of(content))
        sheets, texts = _sheets_and_texts(stream)
        _check_sheets(name, stream, sheets, texts, keep_waiting)
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"{name} is a damaged workbook: {error}") from error


def _check_sheets(
    name: str,
    stream: memoryview,
    sheets: Sequence[int],
    texts: Sequence[int],
    keep_waiting: Callable[[], None],
) -> None:
    area = cells = characters = seen = 0
    for sheet in sheets:
        top = left = 0xFFFF
        bottom = right = reserved = 0
        for kind, record in _records(stream, sheet):
            seen += 1
            if not seen % _WAIT_EVERY:
                keep_waiting()
                if seen * 4 > len(stream):
                    raise ValueError("its sheets overlap")
            if kind in _CELLS:
                row, column = struct.unpack_from("<HH", record)
                last = column
                if kind == _SEVERAL_NUMBERS:
                    last += max(0, (len(record) - 6) // 6 - 1)
                elif kind == _TEXT_CELL:
                    number = int.from_bytes(record[6:10], "little")
                    characters += texts[number] if number < len(texts) else 0
                cells += last - column + 1
                top, bottom = min(top, row), max(bottom, row)
                left, right = min(left, column), max(right, last)
            elif kind == _DIMENSIONS:
                reserved = max(reserved, _reserved(record))
        area += max(0, bottom - top + 1) * max(0, right - left + 1)
        area += reserved if reserved > _WHOLE_SHEET else 0
        if area > min(MAX_CELLS, MAX_EMPTY_CELLS + 10 * cells):
            raise InputError(
                f"{name} has sheets of more than {area:,} cells, {cells:,} of them with a value; "
                f"delete what is far below or beside the tables, or {ADVICE}"
            )
        check_texts(name, characters, cells)


def _reserved(record: memoryview) -> int:
    """For how many cells the library reserves memory, because the file says so."""
    form = _EXTENT if len(record) >= _EXTENT.size else _OLD_EXTENT
    first_row, end_row, first_column, end_column = form.unpack_from(record)
    if not end_row or not end_column:
        return 1
    return int((end_row - first_row) % 2**32 * ((end_column - first_column) % 2**32))


def _sheets_and_texts(stream: memoryview) -> tuple[list[int], list[int]]:
    """Where the sheets begin, and how many characters each of the shared texts has."""
    sheets: list[int] = []
    parts: list[memoryview] = []  # of the texts
    is_of_texts = False
    for kind, record in _records(stream, 0):
        is_of_texts = kind == _TEXTS or (is_of_texts and kind == _CONTINUE)
        if is_of_texts:
            parts.append(record if parts and kind == _CONTINUE else record[8:])
        elif kind == _SHEET:
            sheets.append(*struct.unpack_from("<I", record))
    return sheets, [*_lengths(parts)]


def _records(stream: memoryview, place: int) -> Iterator[tuple[int, memoryview]]:
    """The kind and the content of each record, from a place to the end of its part."""
    depth = -1  # parts hold others, such as charts
    while place + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, place)
        place += 4 + size
        if kind == _BEGIN:
            depth += 1
        elif kind == _END:
            depth -= 1
            if depth < 0:
                return
        yield kind, stream[place - size : place]


def _lengths(parts: Sequence[memoryview]) -> Iterator[int]:
    """How many characters each of the shared texts has, as far as they can be read."""
    rest = iter(parts)
    part = next(rest, memoryview(b""))
    while part or (part := next(rest, part)):
        if len(part) < _TEXT_HEAD.size:
            return
        length, flags = _TEXT_HEAD.unpack_from(part)
        part, left, behind = part[_TEXT_HEAD.size :], length, 0
        if flags & 8:  # formats within it
            behind += 4 * struct.unpack_from("<H", part)[0]
            part = part[2:]
        if flags & 4:  # how it is spoken
            behind += struct.unpack_from("<I", part)[0]
            part = part[4:]
        while left:
            width = 1 + (flags & 1)
            taken = min(left, len(part) // width)
            part, left = part[taken * width :], left - taken
            if left:
                part = next(rest, memoryview(b""))
                if not part:
                    return
                flags, part = part[0], part[1:]
        while behind > len(part):
            behind -= len(part)
            part = next(rest, memoryview(b""))
            if not part:
                return
        part = part[behind:]
        yield length


# -- The container ----------------------------------------------------------------------------


def _stream_of(content: bytes) -> bytes:
    """The stream of records; empty where there is none, of which the library tells."""
    [shift] = struct.unpack_from("<H", content, 30)
    if shift not in _PLACES:
        return b""
    size = 1 << shift
    directory_at, small_at, small_sectors, table_at = struct.unpack_from("<I8xIII", content, 48)
    most = len(content) // size
    if max(small_sectors, *struct.unpack_from("<I", content, 44)) > most:
        raise ValueError("it has more sectors than there are bytes")

    def sector(number: int) -> bytes:
        return content[(number + 1) * size : (number + 2) * size]

    places = [*struct.unpack_from("<109I", content, 76)]
    while table_at < _NO_SECTOR:
        places += array("I", sector(table_at))
        table_at = places.pop()
        if len(places) > most + 1024:
            raise ValueError("its sectors go round in circles")
    table = array("I", b"".join(sector(place) for place in places if place < _NO_SECTOR))
    directory = b"".join(_chain(sector, table, directory_at))
    entries: dict[str, tuple[int, int]] = {}
    for begin in range(0, len(directory) - 127, 128):
        title = directory[begin : begin + 64].decode("utf-16-le", "replace").partition("\0")[0]
        entries.setdefault(title, _PLACES[shift].unpack_from(directory, begin + 116))
    found = next((entries[title] for title in _NAMES if title in entries), None)
    if found is None:
        return b""
    first, length = found
    if length >= _SMALL_BYTES:
        return b"".join(_chain(sector, table, first))[:length]
    root, *_ = struct.unpack_from("<I", directory, 116)
    small = b"".join(_chain(sector, table, root))
    small_table = array("I", b"".join(_chain(sector, table, small_at)))
    parts = _chain(lambda number: small[number * 64 : number * 64 + 64], small_table, first)
    return b"".join(parts)[:length]


def _chain(sector: Callable[[int], bytes], table: array[int], number: int) -> Iterator[bytes]:
    """The sectors from one on, each of which the table names after the one before."""
    for _ in range(len(table) + 1):
        if number == _LAST_SECTOR:
            return
        yield sector(number)
        number = table[number]
    raise ValueError("its sectors go round in circles")
