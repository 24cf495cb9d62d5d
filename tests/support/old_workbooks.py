"""Workbooks of before 2007, record by record."""

from __future__ import annotations

import struct
from collections.abc import Iterable

SECTOR_BYTES, SMALL_SECTOR_BYTES = 512, 64
FREE, LAST, OF_TABLE, OF_PLACES = 0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFD, 0xFFFF_FFFC
PLACES_IN_HEAD, PLACES_IN_SECTOR = 109, 127
NO_ENTRY = 0xFFFF_FFFF


def record(kind: int, content: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def begin(kind: int) -> bytes:
    """Of a part: 5 of all, 0x10 of a sheet."""
    return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 0, 0, 0))


END = record(0x000A)


def number(row: int, column: int, value: float = 1.0) -> bytes:
    return record(0x0203, struct.pack("<HHHd", row, column, 0, value))


def shared_text(row: int, column: int, index: int) -> bytes:
    return record(0x00FD, struct.pack("<HHHI", row, column, 0, index))


def dimensions(rows: int, columns: int) -> bytes:
    """As far as the file says so."""
    return record(0x0200, struct.pack("<IIHHH", 0, rows, 0, columns, 0))


def texts(*given: str, part_bytes: int = 8000) -> bytes:
    """The shared texts; where there are many, the record goes on in others, also within a text."""
    whole, parts = struct.pack("<II", len(given), len(given)), []
    for text in given:
        whole += struct.pack("<HB", len(text), 0)
        left = text.encode("latin-1")
        while len(whole) + len(left) > part_bytes:
            room = max(0, part_bytes - len(whole))
            parts.append(whole + left[:room])
            left, whole = left[room:], b"\0"
        whole += left
    first, *others = [*parts, whole]
    return record(0x00FC, first) + b"".join(record(0x003C, other) for other in others)


def workbook(*sheets: Iterable[bytes], shared: bytes = b"", at: int | None = None) -> bytes:
    """The stream of records of a workbook; `at`: where all its sheets are said to begin."""
    entry_bytes = 4 + 8 + 2
    place = len(begin(5)) + len(shared) + entry_bytes * len(sheets) + len(END)
    entries, parts = b"", b""
    for index, records in enumerate(sheets):
        begins = place + len(parts) if at is None else at
        entries += record(0x0085, struct.pack("<IBBBB2s", begins, 0, 0, 2, 0, b"S%d" % index))
        parts += begin(0x10) + b"".join(records) + END
    return begin(5) + shared + entries + END + parts


def _padded(content: bytes, size: int) -> bytes:
    return content + bytes(-len(content) % size)


def _chain(first: int, count: int) -> list[int]:
    """What the table of sectors says of that many in a row."""
    return [*range(first + 1, first + count), LAST] if count else []


def _entry(name: str, kind: int, child: int, first: int, size: int) -> bytes:
    title = name.encode("utf-16-le")
    return struct.pack(
        "<64sHBBIII36xIQ", title, len(title) + 2, kind, 1, NO_ENTRY, NO_ENTRY, child, first, size
    )


def container(stream: bytes) -> bytes:
    """A file that holds a stream of records; a short one in small sectors, as the rules have it."""
    is_small = len(stream) < 4096
    content = _padded(stream, SECTOR_BYTES)
    count = len(content) // SECTOR_BYTES
    small_table = _chain(0, -(-len(stream) // SMALL_SECTOR_BYTES)) if is_small else []
    small = _padded(struct.pack(f"<{len(small_table)}I", *small_table), SECTOR_BYTES)
    others = count + 1 + len(small) // SECTOR_BYTES + count // SECTOR_BYTES
    tables = -(-others // (SECTOR_BYTES // 4 - 1))
    # The tables, the directory, the table of small sectors, and the content.
    directory, small_at = tables, tables + 1
    content_at = small_at + len(small) // SECTOR_BYTES
    table = [OF_TABLE] * tables + [LAST] + _chain(small_at, content_at - small_at)
    table += _chain(content_at, count)
    # The head has room for the places of so many tables; those of others come last.
    more = list(range(PLACES_IN_HEAD, tables))
    more_at = [content_at + count + n for n in range(-(-len(more) // PLACES_IN_SECTOR))]
    table += [OF_PLACES] * len(more_at)
    table += [FREE] * (tables * SECTOR_BYTES // 4 - len(table))
    rest = b""
    for number, following in enumerate([*more_at[1:], LAST][: len(more_at)]):
        some = more[number * PLACES_IN_SECTOR :][:PLACES_IN_SECTOR]
        some += [FREE] * (PLACES_IN_SECTOR - len(some))
        rest += struct.pack("<128I", *some, following)
    head = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6,
        0, tables, directory, 0, 4096, small_at if is_small else LAST, int(is_small),
        *([more_at[0], len(more_at)] if more_at else [LAST, 0]),
    )  # fmt: skip
    places = [*range(min(tables, PLACES_IN_HEAD)), *[FREE] * (PLACES_IN_HEAD - tables)]
    root = _entry("Root Entry", 5, 1, content_at if is_small else LAST, len(content) * is_small)
    entries = root + _entry("Workbook", 2, NO_ENTRY, 0 if is_small else content_at, len(stream))
    return b"".join([
        head, struct.pack("<109I", *places), struct.pack(f"<{len(table)}I", *table),
        _padded(entries, SECTOR_BYTES), small, content, rest,
    ])  # fmt: skip
