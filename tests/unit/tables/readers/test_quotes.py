"""Cells quoted behind a blank are read as their author meant them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from pingdata_async.tables.readers.quotes import _joined
from tests.support.reading import read_all, written


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('1, "5 Main St, Unit 4", "Boston"', ["1", "5 Main St, Unit 4", "Boston"]),
        ('1,\t"5 Main St",  "a ""b"", c" , d', ["1", "5 Main St", 'a "b", c', " d"]),
        ('1, "", "a"', ["1", "", "a"]),
        ('1, ", Unit 4", x', ["1", ", Unit 4", " x"]),
        ('1,"x", "y,z"', ["1", "x", "y,z"]),
        # These are no quoted cells, and stay as they are.
        ('1, "The Loft" bldg, Boston', ["1", ' "The Loft" bldg', " Boston"]),
        ('1, "A" or "B", x', ["1", ' "A" or "B"', " x"]),
        ('1, "open, x', ["1", ' "open', " x"]),
        ('1, 5 Main St, 6" pipe', ["1", " 5 Main St", ' 6" pipe']),
    ],
)
def test_cells_quoted_behind_a_blank(line: str, cells: list[str]) -> None:
    """They are what stands between the quotes, with the delimiters in it."""
    (row,) = csv.reader([line], strict=True)
    assert _joined(row, ",").cells == cells


def test_many_cells_that_are_never_closed() -> None:
    """They take no time that grows with their square."""
    cells = [' "x'] * 100_000 + ['y"']
    assert _joined(cells[:-1], ",").cells == cells[:-1]


@pytest.mark.parametrize(
    "header", ['id, "address", "city"', "id, address, city", "id,address,city"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("late", [0, 3_000])
def test_a_file_with_blanks_before_quotes(
    tmp_path: Path, header: str, delimiter: str, late: int
) -> None:
    """Whatever its header looks like, and wherever they begin."""
    rows = [f"{number},{number} Elm St,Reno" for number in range(late)]
    rows += ['1, "5 Sample St, Unit 4", "Boston"', '2, "6 Sample St", "Boston"']
    swapped = str.maketrans({",": delimiter, delimiter: ","})
    content = "\n".join([header, *rows]).translate(swapped).encode()
    found = read_all(written(tmp_path, "in.csv", content))
    assert [each.strip() for each in found.reader.headers] == ["id", "address", "city"]
    assert found.rows[-2:] == [
        ["1", f"5 Sample St{delimiter} Unit 4", "Boston"],
        ["2", "6 Sample St", "Boston"],
    ]
    assert not found.errors


ADDRESS = "2 Main St\n Floor 2"


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('B, "2 Main St\n Floor 2", Reno', ["B", ADDRESS, " Reno"]),
        ('B, "2 Main St\n Floor 2", "Reno"', ["B", ADDRESS, "Reno"]),
        (
            'B, "2 Main St, 4\r\n\r\nFloor 2, 5" , Reno',
            ["B", "2 Main St, 4\n\nFloor 2, 5", " Reno"],
        ),
        (
            'B, "2 Main ""St""\n ""Floor"" 2","Reno, NV"',
            ["B", '2 Main "St"\n "Floor" 2', "Reno, NV"],
        ),
        ('B, 2 Main St, "Reno\nNV"', ["B", " 2 Main St", "Reno\nNV"]),
        (' "B\nC", "2 Main St\n Floor 2", Reno', ["B\nC", ADDRESS, " Reno"]),
    ],
)
@pytest.mark.parametrize("header", ["id, address, city", 'id, "street\naddress", city'])
@pytest.mark.parametrize("late", [0, 297, 298, 299, 300])
def test_a_cell_quoted_behind_a_blank_over_lines(
    tmp_path: Path, header: str, text: str, row: list[str], late: int
) -> None:
    """It is one cell of one row, wherever a batch ends; what comes behind keeps its line."""
    rows = [f"{number},{number} Elm St,Reno" for number in range(late)]
    content = "\n".join([header, *rows, text, "C,3 Elm St,Reno,x", text])
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    assert found.rows[late:] == [row, ["C", "3 Elm St", "Reno"], row]
    assert len(found.reader.headers) == 3
    line = len(re.findall("\r\n|\n", "\n".join([header, *rows, text]))) + 2
    assert list(found.errors) == [late + 1]
    assert found.errors[late + 1].startswith(f"line {line} has 4 cells")


@pytest.mark.parametrize(
    "text",
    [
        'B, "2 Main St\n Floor 2, Reno',
        'B, "2 Main St\n Floor 2\n Rear, Reno',
        'B, "2 Main St\n the 6" pipe", Reno',
        'B, "2 Main St\n Floor 2" x, Reno',
        'B, "2 Main St\n Floor 1, 2, 3\n Rear", Reno',
        'B, "2 Main St, Reno',
    ],
)
@pytest.mark.parametrize("late", [0, 297, 298, 299])
def test_a_quote_behind_a_blank_that_is_not_closed(tmp_path: Path, text: str, late: int) -> None:
    """Its row is not sent, nor is what may go on with it; the rows around it are."""
    rows = [f'{number}, "{number} Elm St", Reno' for number in range(late)]
    content = "\n".join(
        ["id, address, city", *rows, text, 'C, "3 Elm St", Reno', "D,4 Elm St,Reno"]
    )
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    lines = range(late + 2, late + 2 + len(text.splitlines()))
    assert list(found.errors) == [line - 2 for line in lines]
    first, *others = found.errors.values()
    assert first.startswith(f"line {late + 2}: a quote behind a blank is not closed")
    for line, error in zip(lines[1:], others, strict=True):
        assert error.startswith(f"line {line}: may go on from line {late + 2}")
    assert found.rows[-2:] == [["C", "3 Elm St", " Reno"], ["D", "4 Elm St", "Reno"]]
    assert len(found.rows) == late + len(lines) + 2


def test_many_quotes_behind_blanks_that_are_never_closed(tmp_path: Path) -> None:
    """Each row fails by itself, whatever is read ahead for it, in time that grows with them."""
    content = "id, address, city\n" + 'B, "2 Main St, Reno\n' * 5_000
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    assert len(found.errors) == len(found.rows) == 5_000
