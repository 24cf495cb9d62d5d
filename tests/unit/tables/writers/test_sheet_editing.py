"""New columns in a sheet: what is found in its bytes is what a parser finds."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pingdata_async.tables.rows import SheetPlace
from pingdata_async.tables.writers.sheet_editing import (
    NewColumns,
    SheetForm,
    edit_sheet,
    scan_sheet,
)
from tests.support.broker_workbooks import BROKER_WORKBOOKS
from tests.support.given_workbooks import WORKBOOKS

_COMMENT = b"<!--parsed-->"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<worksheet xmlns="{_MAIN}">'


def edited(sheet: bytes, rows: list[int]) -> tuple[SheetForm, bytes]:
    """What a sheet has, and the sheet with two columns more in some rows, the first the header."""
    place = SheetPlace("Sheet", rows[0], 1, [(row, 1) for row in rows[1:]])
    form = scan_sheet(io.BytesIO(sheet), place)
    new = NewColumns(
        first=form.width + 1,
        widths=[9, 12],
        rows=iter([(row, b'<c r="ZZ%d"/>' % row) for row in rows]),
        style=lambda cells, style: cells.replace(b"/>", b' s="%d"/>' % style),
        header_row=rows[0],
        filtered="",
    )
    out = io.BytesIO()
    edit_sheet(io.BytesIO(sheet), out, form, new)
    return form, out.getvalue()


def outcome(sheet: bytes, rows: list[int]) -> Any:
    """What becomes of a sheet, and whether its rows were found without a parser."""
    try:
        form, content = edited(sheet, rows)
    except ValueError:
        return None, False
    is_usual, form.is_usual = form.is_usual, False
    return (form, content.replace(_COMMENT, b"")), is_usual


def parsed(sheet: bytes) -> bytes:
    """The same sheet, with a comment for which its rows are parsed."""
    rows, rest = sheet.rsplit(b"</sheetData", 1)
    return rows + _COMMENT + b"</sheetData" + rest


_OFTEN = {
    "cell": ['<c r="{}"{}><v>1</v></c>', '<c r="{}"{} t="s"><v>7</v></c>', '<c r="{}"{}/>',
             '<c r="{}"{}></c>', '<c r="{}"{} t="inlineStr"><is><t>a &lt;row&gt; > b</t></is></c>',
             '<c r="{}"{}><f>A1&amp;"x"</f><v/></c>'],
    "row": ['<row r="{}"{}>', '<row r="{}" spans="1:5"{} ht="15.5" x14ac:dyDescent="0.25">'],
}  # fmt: skip
_SELDOM = {
    "cell": ["<c{1}><v>1</v></c>", "<c r='{}'{}><v>1</v></c>", '<c{1} r="{0}"><v>1</v></c>',
             '<c\nr="{}"{}><v>1</v></c>', '<c r = "{}"{} ></c >', '<x:c r="{}"{}><v>1</v></x:c>',
             '<c r="{}"{}><x:v>1</x:v></c>', '<c r="{}"{}><is><color/></is></c>',
             '<c r="{}"{}><![CDATA[</row><row r="9">]]><v>1</v></c>', "<v>1</v>",
             '<c r="{}"{} x=">"/>', '<c r="{}"{}><y/></c>', '<c r="{}"{}><c r="H1"/></c>', "text",
             '<c r="A1"{1}/>', '<!-- </sheetData> --><c r="{}"{}/>', '<?go </row>?>', "<extLst/>"],
    "row": ["<row{1}>", "<row r='{}'{}>", '<row\tr="{}"{}>', '<row r="{}" x="a>b" {}>',
            '<rowX r="9"/><row r="{}"{}>', '<x:row r="{}"{}>', '<row r="0{}"{} >'],
}  # fmt: skip
_TAILS = [
    *("", "<mergeCells><mergeCell ref='B2:D3'/></mergeCells>", '<autoFilter ref="A1:B3"/>'),
    *("<extLst><ext><xm:f>A1</xm:f><x:v/></ext></extLst>", "<!-- end -->", "<pane/>"),
    "<controls><anchor><xdr:col>9</xdr:col><xdr:row>2</xdr:row></anchor></controls>",
]
_HEADS = [
    *("", '<dimension ref="A1:B2"/>', '<cols><col min="1" max="9"/></cols>'),
    '<sheetViews><sheetView><selection activeCell="A1"/></sheetView></sheetViews>',
]


def drawn_sheet(draw: random.Random) -> bytes:
    """A sheet as spreadsheets write it, most often with one thing in it that they do not write."""
    seldom = draw.randrange(25)
    met = 0

    def form(kind: str) -> str:
        nonlocal met
        met += 1
        return draw.choice((_SELDOM if met == seldom else _OFTEN)[kind])

    content = ""
    for row in sorted(draw.sample(range(1, 7), draw.randrange(7))):
        tag = form("row").format(row, draw.choice(["", ' s="3"', ' s="12" customFormat="1"']))
        if not draw.randrange(6):
            content += tag.removesuffix(">") + draw.choice(["/>", " />"])
            continue
        letters = draw.sample("ABCDEF", draw.randrange(5))
        if draw.randrange(10):
            letters.sort()
        cells = [
            form("cell").format(f"{each}{row}", draw.choice(["", ' s="5"', ' s="61"']))
            for each in letters
        ]
        between = draw.choice(["", "", "\n  "])
        prefix = "x:" if "<x:row" in tag else ""
        content += f"{tag}{between.join(cells)}</{prefix}row>{between}"
    head, tail = draw.choice(_HEADS), draw.choice(_TAILS)
    return f"{_HEAD}{head}<sheetData>{content}</sheetData>{tail}</worksheet>".encode()


def test_found_as_parsed() -> None:
    """A sheet becomes the same, byte for byte, whether its rows are found or parsed."""
    draw = random.Random(1507)
    usual = 0
    for _ in range(1200):
        sheet = drawn_sheet(draw)
        there = sorted(set(map(int, re.findall(rb"<row[^>]* r=.(\d+)", sheet)))) or [1]
        rows = sorted(draw.sample(there, draw.randint(1, len(there))))
        expected, was_usual = outcome(parsed(sheet), rows)
        found, is_usual = outcome(sheet, rows)
        assert found == expected, sheet
        assert not was_usual
        usual += is_usual
    assert usual > 400


@pytest.mark.parametrize("make", [*WORKBOOKS.values(), *BROKER_WORKBOOKS])
def test_workbooks_are_usual(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """Each sheet that libraries write is gone through without a parser, and becomes the same."""
    make(tmp_path / "in.xlsx")
    with zipfile.ZipFile(tmp_path / "in.xlsx") as archive:
        contents = map(archive.read, archive.namelist())
        sheets = [each for each in contents if b"<row" in each]
    assert sheets
    for sheet in sheets:
        rows = list(map(int, re.findall(rb'<row[^>]* r="(\d+)"', sheet)))
        found, is_usual = outcome(sheet, rows)
        assert is_usual
        assert found == outcome(parsed(sheet), rows)[0]


def test_rows_longer_than_a_block() -> None:
    """A sheet of many blocks, with rows over their ends, becomes what it becomes when parsed."""
    text = "x" * 1500
    rows = "".join(
        f'<row r="{row}">'
        + "".join(
            f'<c r="{letter}{row}" t="inlineStr"><is><t>{text}</t></is></c>' for letter in "ABCDEFG"
        )
        + '<c r="H1" s="4"/></row>'
        for row in range(1, 100)
    )
    sheet = f"{_HEAD}<sheetData>{rows}</sheetData></worksheet>".encode()
    found, is_usual = outcome(sheet, [1, *range(3, 99)])
    assert is_usual
    assert found == outcome(parsed(sheet), [1, *range(3, 99)])[0]


@pytest.mark.parametrize("before", [b"", _COMMENT])
def test_what_is_behind_the_rows(before: bytes) -> None:
    """Formulas, rows and columns of buttons and sparklines are not those of the sheet."""
    tail = (
        b"<controls><anchor><xdr:col>9</xdr:col><xdr:row>2</xdr:row></anchor></controls>"
        b"<extLst><ext><xm:f>A1</xm:f></ext></extLst></worksheet>"
    )
    row = b'<row r="1"><c r="A1"><v>1</v></c><c r="D1" s="1"/></row>'
    sheet = _HEAD.encode() + b"<sheetData>" + row + before + b"</sheetData>" + tail
    form, content = edited(sheet, [1])
    assert form.width == 1
    assert b'<v>1</v></c><c r="ZZ1" s="0"/></row>' in content


@pytest.mark.parametrize(
    "sheet",
    [
        b'<worksheet><sheetData><row r="1"><c r="A1"><v>1</w></c></row></sheetData></worksheet>',
        b'<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row></sheetData>',
        b'<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row>',
        '\ufeff<worksheet><sheetData><row r="1"/></sheetData></worksheet>'.encode("utf-16-le"),
    ],
)
def test_malformed(sheet: bytes) -> None:
    """A sheet that is no XML, or not in UTF-8, is known as such before anything is written."""
    with pytest.raises(ValueError, match="the sheet is"):
        scan_sheet(io.BytesIO(sheet), SheetPlace("Sheet", 1))
