"""Inputs that would take all memory end in one line, by the real command, in little memory."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pingdata_async import InputError
from pingdata_async.locations.normalize import Columns
from pingdata_async.tables.readers import base
from pingdata_async.tables.readers import csv as delimited
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import ReadOptions
from tests.support import warm_commands
from tests.support.probes import PEAK_MB
from tests.support.sweeps import sampled
from tests.unit.tables.readers.test_excel import ADDRESSES, CELL, opendocument

MAX_RSS_MB = 200
ENDLESS_BYTES = 5 * 1024**3
BLOCK = b"x" * 65536

# The command, and then the most memory that it had.
MEASURED = (
    PEAK_MB
    + """
import sys
from pingdata_async.cli.main import run
code = run(sys.argv[1:])
print(peak_mb())
sys.exit(code)
"""
)


def refused(path: Path) -> str:
    """What the command says, once it is sure that it ended as it should."""
    words = [
        "plan", str(path), "-o", str(path.parent / "out.jsonl"),
        "--sources", "PG", "--environment", "sandbox",
    ]  # fmt: skip
    code, out, err = anyio.run(ended, words)
    assert code == 2, err
    assert int(out.split()[-1]) < MAX_RSS_MB
    [line] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in err
    return line


async def ended(words: list[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of the command, in a process of its own."""
    with anyio.fail_after(600):  # of a busy machine
        if warm_commands.can_run(os.environ):
            code, out, err = await warm_commands.run(words, os.environ, code=MEASURED)
        else:
            done = await anyio.run_process([sys.executable, "-c", MEASURED, *words], check=False)
            code, out, err = done.returncode, done.stdout, done.stderr
    return code, out.decode(), err.decode()


@contextlib.contextmanager
def flowing(path: Path, pieces: Iterable[bytes]) -> Iterator[None]:
    """A pipe of that name, through which all of this flows, as long as somebody reads it."""
    os.mkfifo(path)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[pipe.write(rest) :]

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield
    thread.join(600)  # it ends with its reader
    assert not thread.is_alive()


def endless(begin: bytes, again: bytes = BLOCK) -> Iterator[bytes]:
    yield begin
    for _ in range(ENDLESS_BYTES // len(again)):
        yield again


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    yield from map(packer.compress, pieces)


def zstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    yield from map(packer.compress, pieces)


LINES = {
    "a row": ("in.csv", b"address,city\n", BLOCK),
    "a quoted cell": ("in.csv", b'address,city\n1 Main St,"', BLOCK),
    "a quoted cell of many lines": ("in.csv", b'address,city\n1 Main St,"', b"many lines\n" * 6000),
    "quoted cells": ("in.csv", b"address,city\n", b'"a\nb",' * 10_000),
    "no cells": ("in.csv", b"address,city\n", b"," * 65536),
    "headers": ("in.csv", b"address", b",city" * 13_000),
    "JSON": ("in.jsonl", b'{"address":"', BLOCK),
    "blanks between JSON": ("in.jsonl", b'{"address":"1 Main St"}\n', b" " * 65536),
}


SAMPLE = ("a row", "a quoted cell of many lines", "JSON")


@pytest.mark.parametrize(
    ("name", "begin", "again"),
    [
        pytest.param(*line, id=what, marks=[] if what in SAMPLE else [pytest.mark.sweep])
        for what, line in {"no header": ("in.csv", b"", BLOCK), **LINES}.items()
    ],
)
def test_a_row_without_end(name: str, begin: bytes, again: bytes, tmp_path: Path) -> None:
    """Of 5 GB without an end of a row no more than a few MB are read."""
    path = tmp_path / name
    with flowing(path, endless(begin, again)):
        said = refused(path)
    assert "longer than 4194304 bytes" in said or "field larger than field limit" in said
    assert "line 1" in said or "line 2" in said


@pytest.mark.parametrize("packed", [gzipped, zstd])
def test_a_packed_row_without_end(
    packed: Callable[[Iterable[bytes]], Iterator[bytes]], tmp_path: Path
) -> None:
    """Out of a few MB of gzip or zstd it is the same."""
    path = tmp_path / "in.csv.gz"
    with flowing(path, packed(endless(b"address,city\n"))):
        assert "longer than 4194304 bytes" in refused(path)


def test_a_row_without_end_in_a_file_whose_encoding_is_looked_for(tmp_path: Path) -> None:
    """The file is read once more for that, and no line of it is kept meanwhile."""
    path = tmp_path / "in.csv"
    with path.open("wb") as file:
        file.write(b"address,city\n" + "é".encode())
        for _ in range(400):
            file.write(BLOCK)
    assert "longer than 4194304 bytes" in refused(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "gb18030"])
def test_a_row_without_end_in_any_encoding(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is bytes that are counted, and not ends of lines that are looked for."""
    monkeypatch.setattr(delimited, "MAX_LINE_BYTES", 500_000)
    path = tmp_path / "in.csv"
    rows = "address,city\n" + "1 Main St,Rome\n" * 100_000
    path.write_text(rows + "\N{GURMUKHI LETTER A}\N{LATIN CAPITAL LETTER A WITH MACRON}" * 300_000,
                    encoding=encoding)  # fmt: skip
    options = ReadOptions(encoding=encoding)
    with open_input(path, options=options) as reader:
        batches = iter(reader)
        assert len(next(batches).locations) > 0
        with pytest.raises(InputError) as caught:
            list(batches)
    assert "in the row that begins on line 100002: longer than 500000 bytes" in str(caught.value)


def test_a_row_up_to_the_limit_is_read(tmp_path: Path) -> None:
    """Between others, and as the last one."""
    long = "x" * (base.MAX_LINE_BYTES - 300_000)
    path = tmp_path / "in.csv"
    path.write_text(f"address,note\na,{long}\nb,c\nd,{long}\n", encoding="utf-8")
    with open_input(path) as reader:
        assert sum(len(batch.locations) for batch in reader) == 3


def test_columns_without_end_are_refused(tmp_path: Path) -> None:
    """What each of them means would have to be found out."""
    path = tmp_path / "in.csv"
    path.write_text(",".join(f"c{n}" for n in range(100_000)) + "\naddress\n", encoding="utf-8")
    assert "has 100,000 columns, more than 32,768" in refused(path)


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    """Each object of JSONL with a name of its own is no table; it does not take for ever either."""
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(f'{{"address":"x","k{n}":1}}\n' for n in range(40_000)), encoding="utf-8"
    )
    assert "line 32768: more than 32,768 different names" in refused(path)


@pytest.mark.parametrize("value", sampled([b"[]", b'""', b"{}", b"1e9"], 2))
def test_many_values_in_a_line_of_json(value: bytes, tmp_path: Path) -> None:
    """A line up to the limit may become thirty times as much."""
    path = tmp_path / "in.jsonl"
    values = (value + b",") * ((base.MAX_LINE_BYTES - 100) // (len(value) + 1))
    path.write_bytes(b'{"address":"x","a":[' + values + value + b"]}\nnone\n")
    assert "line 2" in refused(path)


# -- Workbooks -------------------------------------------------------------------------------

SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PARTS = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
    'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    f'relationships"><Relationship Id="r1" Type="{RELATIONS}/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook {SHEET} xmlns:r="{RELATIONS}"><sheets>'
    '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/'
    f'package/2006/relationships"><Relationship Id="r1" Type="{RELATIONS}/worksheet" '
    f'Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{RELATIONS}/sharedStrings" '
    f'Target="sharedStrings.xml"/><Relationship Id="r3" Type="{RELATIONS}/styles" '
    'Target="styles.xml"/></Relationships>',
}
HEADER = '<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row>'


def write_workbook(
    path: Path,
    sheet: Iterable[str],
    texts: str = "",
    styles: str = "",
    place: str = "worksheets/sheet1.xml",
) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in PARTS.items():
            archive.writestr(name, content.replace("worksheets/sheet1.xml", place))
        archive.writestr(
            "xl/sharedStrings.xml",
            f"<sst {SHEET}><si><t>address</t></si>{texts or '<si><t>x</t></si>'}</sst>",
        )
        with archive.open(f"xl/{place}", "w") as part:
            part.write(f"<worksheet {SHEET}>".encode())
            for piece in sheet:
                part.write(piece.encode())
            part.write(b"</sheetData></worksheet>")
        archive.writestr(
            "xl/styles.xml", f"<styleSheet {SHEET}><cellXfs>{styles}</cellXfs></styleSheet>"
        )


def column_of(cells: int) -> list[str]:
    rows = (f'<row r="{n}"><c r="A{n}" t="s"><v>1</v></c></row>' for n in range(2, cells + 2))
    return [HEADER, *rows]


def test_a_long_text_that_many_cells_share(tmp_path: Path) -> None:
    """It is in the file once, and would be in memory 60,000 times: 6.6 GB."""
    path = tmp_path / "in.xlsx"
    text = "".join(random.Random(1).choices("abcdef ", k=110_000))
    write_workbook(path, column_of(60_000), f"<si><r><t>{text}</t></r><r><t>x</t></r></si>")
    assert path.stat().st_size < 1_000_000
    assert "more than 33,554,432 characters" in refused(path)


def test_a_long_text_that_cells_without_a_place_share(tmp_path: Path) -> None:
    """Where they are is found out by counting."""
    path = tmp_path / "in.xlsx"
    text = "".join(random.Random(1).choices("abcdef ", k=110_000))
    cells = "<row><c t='s' ><f>x</f><v> 1 </v></c></row>" * 5_000
    write_workbook(path, [HEADER, cells], f"<si><t>{text}</t></si>")
    assert "more than 33,554,432 characters" in refused(path)


def test_texts_of_usual_length_are_read(tmp_path: Path) -> None:
    """One long note among many cells, and a text of some words in each of them, are no bomb."""
    path = tmp_path / "in.xlsx"
    note = "x" * 30_000
    sheet = [*column_of(20_000), '<row r="30000"><c r="A30000" t="s"><v>2</v></c></row>']
    write_workbook(path, sheet, f"<si><t>{'y' * 500}</t></si><si><t>{note}</t></si>")
    with open_input(path) as reader:
        assert sum(len(batch.locations) for batch in reader) == 20_001


SHEETS = {
    "a cell in a corner": [HEADER, '<row r="1200"><c r="XFD1200" t="s"><v>1</v></c></row>'],
    "the last cell of all": [HEADER, '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'],
    "written as few write it": [HEADER, "<row><c\nx='>' r = 'XFD1048576' ><v>1</v></c></row>"],
    "a cell behind others without a place": [
        HEADER, '<row r="1000000"><c><v>1</v></c>', "<c/>" * 16_000, "<c><v>1</v></c></row>",
    ],
    "cells without a place": [HEADER, '<row r="2">', *["<c><v>1</v></c>" * 65536] * 10, "</row>"],
    "a text without end": [
        HEADER, '<row r="2"><c r="A2" t="inlineStr"><is><t>', *["x" * 1_000_000] * 20,
        "</t></is></c></row>",
    ],
    "a tag without end": [HEADER, "<row ", *["a" * 1_000_000] * 20, "></row>"],
}  # fmt: skip


@pytest.mark.parametrize("sheet", sampled(SHEETS.values(), 3), ids=SHEETS)
def test_sheets_that_become_much(sheet: list[str], tmp_path: Path) -> None:
    """A rectangle of nothing, and what is packed beyond all measure."""
    path = tmp_path / "in.xlsx"
    write_workbook(path, sheet)
    said = refused(path)
    assert "cells, most of them empty" in said or "more than 100 times its compressed size" in said


@pytest.mark.parametrize("place", ["evil.xml", "worksheets/x/1.xml", "worksheets/sheet1.bin"])
def test_a_sheet_is_known_by_what_is_in_it(place: str, tmp_path: Path) -> None:
    """What it is called is up to whoever made the workbook."""
    path = tmp_path / "in.xlsx"
    write_workbook(path, SHEETS["the last cell of all"], place=place)
    assert "cells, most of them empty" in refused(path)


def test_a_damaged_sheet_is_not_read_on(tmp_path: Path) -> None:
    """The library reads on behind what ends the check; a picture is no sheet."""
    path = tmp_path / "in.xlsx"
    write_workbook(path, ["<a><b></a>", *SHEETS["the last cell of all"]])
    assert "is a damaged workbook" in refused(path)
    write_workbook(path, column_of(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/media/image1.png", bytes(range(256)) * 20)
        archive.writestr("xl/drawings/vmlDrawing1.vml", "<xml><div>a<br>b</div></xml>")
    with open_input(path) as reader:
        assert sum(len(batch.locations) for batch in reader) == 3


@pytest.mark.parametrize("part", ["xl/workbook.bin", "XL\\_rels\\Workbook.bin.rels"])
def test_binary_workbooks(part: str, tmp_path: Path) -> None:
    """Nobody can look at what they amount to, so none is opened, whatever its name."""
    path = tmp_path / "in.xlsx"
    write_workbook(path, column_of(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(part, b"")
    assert "is a binary workbook (.xlsb)" in refused(path)


@pytest.mark.parametrize("part", ["texts", "styles"])
def test_other_parts_that_become_much(part: str, tmp_path: Path) -> None:
    """Texts that no cell has, and styles."""
    path = tmp_path / "in.xlsx"
    again = {"texts": "<si><t>a</t></si>", "styles": '<xf numFmtId="0"/>'}[part] * 600_000
    write_workbook(path, column_of(3), **{part: again})
    assert "more than 100 times its compressed size" in refused(path)


def test_what_a_sheet_says_of_its_size_is_not_believed(tmp_path: Path) -> None:
    """Some programs name all of the sheet."""
    path = tmp_path / "in.xlsx"
    write_workbook(path, ['<dimension ref="A1:XFD1048576"/>', *column_of(3)])
    with open_input(path) as reader:
        assert sum(len(batch.locations) for batch in reader) == 3


LONG_CELL = CELL.format("", "x" * 100_000)
MANY_CELLS = (
    '<table:table-cell table:number-columns-repeated="16000" office:value-type="float" '
    'office:value="1"/>'
)


@pytest.mark.parametrize(
    ("repeated", "said"),
    [
        (
            f'<table:table-row table:number-rows-repeated="60000">{LONG_CELL}',
            "more than 33,554,432 characters",
        ),
        (
            f'<table:table-row table:number-rows-repeated="1200">{MANY_CELLS}',
            "cells, most of them empty or alike",
        ),
    ],
    ids=["a long text", "a number"],
)
def test_cells_of_an_opendocument_sheet_that_are_repeated(
    repeated: str, said: str, tmp_path: Path
) -> None:
    """A number in the file says how often."""
    path = opendocument(tmp_path, f"{ADDRESSES}{repeated}</table:table-row>")
    assert said in refused(path)


# -- Parquet ---------------------------------------------------------------------------------


def dictionary(texts: list[str], indices: list[int]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), texts)


def long_text(length: int = 110_000) -> str:
    return "".join(random.Random(1).choices("abcdef ", k=length))


PARQUET: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a text in a dictionary": (lambda: dictionary([long_text()], [0] * 60_000), {}),
    "a dictionary of a page": (lambda: pa.array(["x" * 50_000_000, "y"]), {}),
    "a page": (
        lambda: pa.array(["x" * 1_000_000] * 50),
        {"use_dictionary": False, "data_page_size": 2**30},
    ),
    "a text taken from the one before": (
        lambda: pa.array([long_text(55_000)] * 2_000),
        {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
    ),
}


@pytest.mark.parametrize(
    "what",
    [
        "a text in a dictionary",
        pytest.param("a dictionary of a page", marks=pytest.mark.sweep),
        "a page",
        pytest.param("a text taken from the one before", marks=pytest.mark.sweep),
    ],
)
def test_parquet_files_that_become_much(what: str, tmp_path: Path) -> None:
    """What is there many times is neither decompressed nor spread out whole."""
    path = tmp_path / "in.parquet"
    column, options = PARQUET[what]
    pq.write_table(pa.table({"address": column()}), path, compression="zstd", **options)
    assert path.stat().st_size < 100_000
    assert "more than 100 times its size in memory" in refused(path)


@pytest.mark.parametrize(
    "made",
    [
        lambda: pa.array([[0] * 40_000] * 250, pa.list_(pa.int64())),
        lambda: pa.array([[long_text()] * 100] * 4),
        lambda: pa.array([{"text": long_text()}] * 400),
    ],
    ids=["items of lists", "texts in lists", "texts in objects"],
)
def test_nested_values_that_become_much(made: Callable[[], Any], tmp_path: Path) -> None:
    """They are counted as well."""
    column = made()
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"address": ["x"] * len(column), "more": column}), path)
    with (
        open_input(path) as reader,
        pytest.raises(InputError, match="100 times its size in memory"),
    ):
        list(reader)


@pytest.mark.parametrize(
    "made",
    [
        lambda: dictionary([f"{n} {'a' * 30}" for n in range(5)], [n % 5 for n in range(100_000)]),
        lambda: dictionary([long_text(), "x"], [0] * 200 + [1] * 20_000),
        lambda: pa.array([random.Random(n).randbytes(20_000).hex() for n in range(500)]),
    ],
    ids=["short texts in many rows", "a long text in some", "long texts"],
)
def test_columns_of_real_tables_are_read(made: Callable[[], Any], tmp_path: Path) -> None:
    """Shapes of areas, names of counties, a note that some rows have: a few MB at a time."""
    column = made()
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"address": column}), path, store_schema=False)
    texts = column.to_pylist()
    row = 0
    with open_input(path) as reader:
        for batch in reader:
            assert isinstance(batch.locations, Columns)
            found = list(batch.locations.columns[0])
            assert found == texts[row : row + len(found)]
            assert len(found) == 1 or sum(map(len, found)) <= 5_000_000
            row += len(found)
    assert row == len(texts)


def test_a_large_workbook_is_held_once(tmp_path: Path) -> None:
    """What it is refused for is found without a second copy of the file."""
    path = tmp_path / "in.xlsx"
    rows = b'<row r="1"><c r="A1"/></row>' * 300_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", bytes(90_000_000), zipfile.ZIP_STORED)
        archive.writestr("xl/worksheets/sheet1.xml", b"<sheetData>%b</sheetData>" % rows)
    assert "more than 100 times its compressed size" in refused(path)
