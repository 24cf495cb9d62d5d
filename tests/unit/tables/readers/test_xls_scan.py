"""What is refused of an .xls before it takes all memory, and what is read as before."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pingdata_async import InputError
from tests.support.old_workbooks import (
    container,
    dimensions,
    number,
    record,
    shared_text,
    texts,
    workbook,
)
from tests.support.reading import read_all
from tests.unit.tables.readers.test_workbook_scan import refused

HEADERS = ("address_line_1", "city", "floor")
ROWS = 900


def table(rows: int, pictures: int = 0) -> bytes:
    """A sheet of addresses, with so many records of pictures."""
    shared = texts(*HEADERS, "Boston", *(f"{row} Main Street" for row in range(rows)))
    cells = [shared_text(0, column, column) for column in range(len(HEADERS))]
    for row in range(rows):
        cells += [shared_text(row + 1, 0, 4 + row), shared_text(row + 1, 1, 3)]
        cells += [number(row + 1, 2, row)]
    others = [record(0x00EC, bytes(8000))] * pictures
    return workbook([dimensions(rows + 1, 3), *cells, *others], shared=shared)


@pytest.mark.parametrize(
    ("rows", "pictures"),
    [(3, 0), (ROWS, 0), (ROWS, 1500)],
    ids=["small sectors", "large sectors", "many sectors"],
)
def test_a_table_is_read(tmp_path: Path, rows: int, pictures: int) -> None:
    """Whichever way it is stored, and however its texts are cut."""
    (tmp_path / "in.xls").write_bytes(container(table(rows, pictures)))
    found = read_all(tmp_path / "in.xls").locations
    assert [(each["address_line_1"], each["city"]) for each in found] == [
        (f"{row} Main Street", "Boston") for row in range(rows)
    ]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "cells in far corners": (
        lambda: workbook([number(0, 0), number(65_535, 65_535)]),
        "more than 4,294,967,296 cells, 2 of them with a value; delete what is far below",
    ),
    "in far corners of many sheets": (
        lambda: workbook(*[[number(0, 0), number(3_000, 255)]] * 200),
        "cells, 4 of them with a value",
    ),
    "several numbers at once": (
        lambda: workbook(
            [number(60_000, 0), record(0x00BD, struct.pack("<HH6s6sH", 0, 253, b"", b"", 254))]
        ),
        "more than 15,300,255 cells, 3 of them",
    ),
    "said to be large": (
        lambda: workbook([dimensions(2**32 - 1, 60_000), number(0, 0)]),
        "cells, 1 of them with a value",
    ),
    "a long text in many cells": (
        lambda: workbook(
            [shared_text(row, 0, 1) for row in range(60_000)], shared=texts("x", "x" * 32_000)
        ),
        "characters, as many cells hold long texts",
    ),
    "a sheet that is said to be many": (
        lambda: workbook([number(row, 0) for row in range(500)], *[[]] * 199, at=20 + 200 * 14 + 4),
        "is a damaged workbook: its sheets overlap",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused(tmp_path: Path, kind: str) -> None:
    """By the real command, in one line, in little memory."""
    make, told = BOMBS[kind]
    (tmp_path / "in.xls").write_bytes(container(make()))
    assert told in refused(tmp_path / "in.xls")


def test_sectors_that_go_round_in_circles(tmp_path: Path) -> None:
    """The library would follow them until memory is full."""
    content = bytearray(container(table(ROWS)))
    [directory] = struct.unpack_from("<I", content, 48)
    struct.pack_into("<I", content, 512 + 4 * directory, directory)
    (tmp_path / "in.xls").write_bytes(content)
    assert "damaged workbook: its sectors go round in circles" in refused(tmp_path / "in.xls")


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_one_line(tmp_path: Path, seed: int) -> None:
    """Wherever the file is cut, or a byte of its head is another."""
    content = bytearray(container(table(ROWS)))
    del content[seed * len(content) // 20 :]
    content[24 + 3 * seed : 25 + 3 * seed] = b"\xff"
    (tmp_path / "in.xls").write_bytes(b"\xd0\xcf\x11\xe0" + content[4:])
    with contextlib.suppress(InputError):
        read_all(tmp_path / "in.xls")
