"""Workbooks as people keep them, and those that would do harm."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.tables.readers import workbook_scan
from pingdata_async.tables.readers.base import fingerprint_of
from pingdata_async.value_notes import ValueKind
from tests.support.reading import check_damage_is_one_line, read_all, written

ODS = """<?xml version="1.0"?><office:document-content
xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>
<table:table table:name="SOV">{rows}</table:table>
</office:spreadsheet></office:body></office:document-content>"""

MANIFEST = """<?xml version="1.0"?><manifest:manifest
xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry
manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/>
</manifest:manifest>"""


def workbook(
    folder: Path, fill: Callable[[xlsxwriter.Workbook], None], name: str = "in.xlsx"
) -> Path:
    path = folder / name
    book = xlsxwriter.Workbook(path)
    fill(book)
    book.close()
    return path


def sheet_of(folder: Path, rows: list[list[Any]], name: str = "SOV") -> Path:
    def fill(book: xlsxwriter.Workbook) -> None:
        write(book.add_worksheet(name), rows)

    return workbook(folder, fill)


def write(sheet: Worksheet, rows: list[list[Any]]) -> None:
    for number, row in enumerate(rows):
        sheet.write_row(number, 0, row)


def test_a_statement_of_values(tmp_path: Path) -> None:
    """Two title rows, groups of columns under merged cells, a blank row, and a total row."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet("SOV 2026")
        sheet.merge_range("A1:H1", "ACME Holdings, Inc.")
        sheet.merge_range("A2:H2", "Statement of Values as of 1/1/2026")
        sheet.merge_range("A4:B4", "Location")
        sheet.merge_range("C4:F4", "Address")
        sheet.merge_range("G4:H4", "Values")
        sheet.write_row(
            4,
            0,
            ["Loc #", "Bldg\nName", "Street", "City", "ST", "Zip Code", "Building Value", "Notes"],
        )
        sheet.write_row(5, 0, [1, "Depot", "1 Main St", "Boston", "MA", 2134, 1_000_000, "x"])
        sheet.write_row(7, 0, [2, "Total Wine", "2 Oak Ave", "Reno", "NV", 89501, 2_500_000.5])
        sheet.write_row(8, 0, ["Totals:", "", "", "", "", "", 3_500_000.5])
        book.add_worksheet("Empty")
        hidden = book.add_worksheet("Lists")
        hidden.write_row(0, 0, ["Address", "City", "Zip"])
        hidden.hide()

    path = workbook(tmp_path, fill)
    found = read_all(path)
    assert found.reader.headers[:2] == ("Loc #", "Bldg\nName")
    assert found.rows == [
        [1, "Depot", "1 Main St", "Boston", "MA", 2134, 1_000_000, "x"],
        [2, "Total Wine", "2 Oak Ave", "Reno", "NV", 89501, 2_500_000.5, None],
    ]
    first = found.locations[0]
    assert (first["id"], first["city"], first["state"]) == (1, "Boston", "MA")
    assert (first["address_line_1"], first["postal_code"]) == ("1 Main St", "02134")
    assert found.reader.notes == (
        "sheet 'SOV 2026', headers in row 5; 4 rows above left out",
        "1 empty row and 1 total row left out",
    )
    (note,) = found.reader.values.notes()
    assert (note.column, note.kind, note.values) == ("Zip Code", ValueKind.ZEROS_GIVEN_BACK, 1)
    assert found.reader.fingerprint() == fingerprint_of(path)


def test_headers_in_two_rows(tmp_path: Path) -> None:
    """Where one row alone does not say what the columns hold, both do together."""
    path = sheet_of(
        tmp_path,
        [
            ["Loc", "Street", "City", "Zip", "Year", "Building"],
            ["Number", "Address", "", "Code", "Built", "Limit"],
            [1, "1 Main St", "Boston", "02134", 1990, 5],
        ],
    )
    found = read_all(path)
    assert found.reader.headers == (
        *("Loc Number", "Street Address", "City", "Zip Code", "Year Built", "Building Limit"),
    )
    assert found.locations[0]["const__bldg_year_built"] == 1990
    assert len(found.rows) == 1
    assert "headers in rows 1 and 2" in found.reader.notes[0]


def test_headers_that_only_the_user_understands(tmp_path: Path) -> None:
    """Named by an option, they are found below the titles as well."""
    path = sheet_of(
        tmp_path, [["Report"], ["by me", "x"], ["Wo", "Nr"], ["1 Main St", "A-1"], ["x", "A-2"]]
    )
    found = read_all(path, mapping={"address": "Wo", "id": "nr"})
    assert found.locations == [
        {"address": "1 Main St", "id": "A-1"},
        {"address": "x", "id": "A-2"},
    ]


def test_cells_of_every_kind(tmp_path: Path) -> None:
    """Numbers without a fraction are whole, formulas are what they came to, dates are dates."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["address", "postal_code", "id", *"abcdefg"])
        sheet.write_row(1, 0, ["1 Main St", 33139.0, 17.0, True, 2.5, " x\ny "])
        sheet.write_datetime(
            1, 6, dt.datetime.fromisoformat("2024-01-02"), book.add_format({"num_format": 14})
        )
        sheet.write_formula(1, 7, "=1/0", None, "#DIV/0!")
        sheet.write_formula(1, 8, "=1+1", None, 2)
        sheet.write_formula(1, 9, '="a"', None, "a")
        sheet.write_datetime(
            2, 0, dt.datetime.fromisoformat("2024-01-02T03:04"), book.add_format({"num_format": 22})
        )

    found = read_all(workbook(tmp_path, fill))
    assert found.rows[0] == [
        *("1 Main St", 33139, 17, True, 2.5, " x\ny "),
        *(dt.date(2024, 1, 2), "#DIV/0!", 2, "a"),
    ]
    assert found.locations[0] == {"address": "1 Main St", "postal_code": "33139", "id": 17}
    # An address can be no date, but a workbook may take it for one.
    assert found.rows[1][0] == dt.datetime.fromisoformat("2024-01-02T03:04")
    assert found.locations[1] == {}


def test_which_rows_are_totals(tmp_path: Path) -> None:
    """Only those that say so and have nothing to look up: no location is ever left out."""
    rows: list[list[Any]] = [
        ["Loc #", "Name", "Address", "City", "Zip", "TIV"],
        ["Total", "", "", "", "", 5],
        ["", "Grand Total (3 locations)", "", "", "", 5],
        ["", "", "SUBTOTAL", "", "", 5],
        ["Sum:", "", "", "", "", ""],
        ["Total", "", "1 Main St", "", "", 5],
        ["Total", "", "", "Boston", "", 5],
        ["", "Total", "", "", "02134", 5],
        ["", "Total Wine", "", "", "", 5],
        ["", "Summit Mall", "", "", "", 5],
        [7, "Depot", "", "", "", "Total"],
    ]
    found = read_all(sheet_of(tmp_path, rows))
    assert [row[:2] for row in found.rows] == [
        *(["Total", None], ["Total", None], [None, "Total"], [None, "Total Wine"]),
        *([None, "Summit Mall"], [7, "Depot"]),
    ]
    assert found.reader.notes[1] == "4 total rows left out"


def test_sheets(tmp_path: Path) -> None:
    """The only one with a table is taken; of several one must be named, by name or number."""

    def fill(book: xlsxwriter.Workbook) -> None:
        write(book.add_worksheet("Cover"), [["ACME"], ["made by", "me"]])
        write(book.add_worksheet("East"), [["address"], ["1 Main St"]])
        write(book.add_worksheet("West"), [["address"], ["2 Oak Ave"]])
        hidden = book.add_worksheet("Old")
        write(hidden, [["address"], ["3 Elm St"]])
        hidden.hide()

    path = workbook(tmp_path, fill)
    with pytest.raises(InputError, match=r"several sheets .*--sheet NAME: 'East', 'West'$"):
        read_all(path)
    for sheet, address in (("West", "2 Oak Ave"), ("west", "2 Oak Ave"), ("2", "1 Main St")):
        assert read_all(path, sheet=sheet).locations == [{"address": address}]
    assert read_all(path, sheet="Old").locations == [{"address": "3 Elm St"}]
    with pytest.raises(ConfigurationError, match=r"no sheet '9'; it has 'Cover', 'East'"):
        read_all(path, sheet="9")
    with pytest.raises(InputError, match="no column to look up"):
        read_all(path, sheet="Cover")
    with pytest.raises(ConfigurationError, match="--encoding"):
        read_all(path, encoding="cp1252")


def test_no_table(tmp_path: Path) -> None:
    """Nothing in it, nothing to look up, and a header alone."""
    with pytest.raises(InputError, match="is empty"):
        read_all(sheet_of(tmp_path, []))
    with pytest.raises(InputError, match='Found: "foo", "bar"'):
        read_all(sheet_of(tmp_path, [["foo", "bar"], [1, 2]]))
    assert read_all(sheet_of(tmp_path, [["address", "zip"]])).rows == []


def test_more_rows_than_a_batch(tmp_path: Path) -> None:
    """In their order, all of them."""
    rows: list[list[Any]] = [["address", "n"], *([f"{n} Main St", n] for n in range(1_000))]
    assert read_all(sheet_of(tmp_path, rows)).rows == rows[1:]


CELL = '<table:table-cell office:value-type="string"{}><text:p>{}</text:p></table:table-cell>'
ADDRESSES = f"<table:table-row>{CELL.format('', 'address')}</table:table-row>"


def opendocument(folder: Path, rows: str) -> Path:
    path = folder / "in.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", MANIFEST)
        archive.writestr("content.xml", ODS.format(rows=rows))
    return path


def test_an_opendocument_sheet(tmp_path: Path) -> None:
    """Repeated rows and cells, of which such sheets are full, are no more than they should be."""
    rows = (
        f"<table:table-row>{CELL.format('', 'address')}{CELL.format('', 'zip')}</table:table-row>"
        '<table:table-row table:number-rows-repeated="2"><table:table-cell/></table:table-row>'
        f"<table:table-row>{CELL.format('', '1 Main St')}"
        '<table:table-cell office:value-type="float" office:value="33139"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="1048000">'
        '<table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    )
    found = read_all(opendocument(tmp_path, rows))
    assert found.rows == [["1 Main St", 33139]]
    assert "2 empty rows left out" in found.reader.notes


def test_an_opendocument_sheet_that_would_do_harm(tmp_path: Path) -> None:
    """Cells that are repeated without end, and an end that is missing."""
    many = CELL.format(' table:number-columns-repeated="16384"', "x")
    rows = f'{ADDRESSES}<table:table-row table:number-rows-repeated="1048000">{many}'
    with pytest.raises(InputError, match=r"1,048,001 rows and 16,384 columns"):
        read_all(opendocument(tmp_path, f"{rows}</table:table-row>"))
    with pytest.raises(InputError, match="damaged workbook"):
        read_all(opendocument(tmp_path, f"{ADDRESSES}<table:table-row>"))


def test_a_number_of_texts_that_is_no_such(tmp_path: Path) -> None:
    """The library would reserve 100 GB for them."""
    path = sheet_of(tmp_path, [["address"], ["x"]])
    spoilt = tmp_path / "spoilt.xlsx"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(spoilt, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name).replace(b'uniqueCount="2"', b'uniqueCount="4294967296"')
            archive.writestr(name, content)
    with pytest.raises(InputError, match="declares 4,294,967,296 texts"):
        read_all(spoilt)


def test_a_cell_far_away_does_not_end_the_process(tmp_path: Path) -> None:
    """The library would reserve 500 GB for what lies between."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "address")
        sheet.write_blank(1_048_575, 9, None, book.add_format({"bold": True}))
        sheet.write(1_048_575, 16_383, "x")

    with pytest.raises(InputError, match=r"1,048,576 rows and 16,384 columns, .*save the sheet as"):
        read_all(workbook(tmp_path, fill))


def test_a_format_far_away_is_nothing(tmp_path: Path) -> None:
    """Borders down to the last row make no rows."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        write(sheet, [["address"], ["1 Main St"]])
        sheet.write_blank(1_048_575, 16_383, None, book.add_format({"bold": True}))

    assert read_all(workbook(tmp_path, fill)).rows == [["1 Main St"]]


def test_limits_are_told(tmp_path: Path) -> None:
    """Of bytes in the file, of bytes in what it holds, and of cells."""
    path = sheet_of(tmp_path, [["address", "x"], *([f"{n} Main St", n] for n in range(100))])
    for name, limit in (("MAX_CONTENT_BYTES", 1_000), ("MAX_CELLS", 200)):
        with (
            mock.patch.object(workbook_scan, name, limit),
            pytest.raises(InputError, match="save the sheet as CSV"),
        ):
            read_all(path)
    with (
        mock.patch("pingdata_async.tables.readers.excel.MAX_FILE_BYTES", 1_000),
        pytest.raises(InputError, match="save the sheet as CSV"),
    ):
        read_all(path)


def test_damage_is_one_line(tmp_path: Path) -> None:
    """Cut anywhere and flipped anywhere, it is read or refused in one line."""
    whole = sheet_of(tmp_path, [["address"], *([f"{n} Main St"] for n in range(50))])
    others = [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)]
    check_damage_is_one_line(whole, others, least=60)


def test_a_workbook_with_a_password(tmp_path: Path) -> None:
    """It is said that it has one, not that it is damaged."""
    content = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    content += "EncryptedPackage".encode("utf-16-le") + bytes(600)
    with pytest.raises(InputError, match="locked with a password"):
        read_all(written(tmp_path, "in.xlsx", content))


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    """A folder of files is no workbook."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("in.csv", "address\nx\n")
    with pytest.raises(
        InputError, match=r'is a zip archive without a workbook; unpack it\. It holds "in.csv"$'
    ):
        read_all(written(tmp_path, "in.zip", content.getvalue()))


def test_without_the_package(tmp_path: Path) -> None:
    """The message says what to install."""
    path = sheet_of(tmp_path, [["address"], ["x"]])
    with (
        mock.patch.dict("sys.modules", {"python_calamine": None}),
        pytest.raises(ConfigurationError, match=r'pip install "pingdata-async\[excel\]"'),
    ):
        read_all(path)
