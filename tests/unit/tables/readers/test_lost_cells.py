"""Cells and rows of a workbook whose values do not say what they are."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from pathlib import Path

import pytest
import xlsxwriter

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.tables.readers import workbook_scan
from pingdata_async.tables.readers.workbook_scan import moved_formula
from tests.support.broker_workbooks import exported_schedule, habitational_schedule, retail_schedule
from tests.support.reading import read_all
from tests.unit.tables.readers.test_excel import opendocument, workbook

HEADERS = ("Loc #", "Street Address", "City", "State", "Zip", "TIV")
TO_BE_CALCULATED = b' fullCalcOnLoad="1"'


def sheet_of_xml(
    folder: Path,
    rows: list[list[str]],
    *,
    target: str = "worksheets/sheet1.xml",
    is_unfinished: bool = False,
) -> Path:
    """A sheet of such cells under `HEADERS`; a cell is its text, or what comes behind `<c r="A1"`.

    Args:
        folder: Where it is put.
        rows: Its cells.
        target: How the workbook names the part that holds it.
        is_unfinished: Whether the workbook asks to be calculated when it is opened.
    """
    lines = []
    for number, row in enumerate([list(HEADERS), *rows], 1):
        cells = [
            f'<c r="{"ABCDEFGH"[place]}{number}"'
            + (cell if cell.startswith((" ", ">")) else f' t="inlineStr"><is><t>{cell}</t></is>')
            + "</c>"
            for place, cell in enumerate(row)
            if cell
        ]
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    data = f"<sheetData>{''.join(lines)}</sheetData>".encode()
    drawn = workbook(folder, lambda book: book.add_worksheet("SOV").write(0, 0, "x"), "drawn.xlsx")
    path = folder / "in.xlsx"
    with zipfile.ZipFile(drawn) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            part = re.sub(rb"<sheetData>.*</sheetData>", lambda _: data, whole.read(name))
            part = part.replace(b"worksheets/sheet1.xml", target.encode())
            if not is_unfinished:
                assert name != "xl/workbook.xml" or TO_BE_CALCULATED in part
                part = part.replace(TO_BE_CALCULATED, b"")
            archive.writestr(name, part)
    return path


ONE = ["1", "1 Main St", "Boston", "MA", "02134", "><v>5</v>"]


@pytest.mark.parametrize(
    "cell",
    [
        "><f>A2&amp;B2</f>",
        "><f>A2&amp;B2</f><v/>",
        ' t="n"><f>A2&amp;B2</f><v></v>',
        ' s="1"><f>A2&amp;B2</f><v> </v>',
        ' t="s"><f>A2&amp;B2</f>',
    ],
)
@pytest.mark.parametrize("target", ["worksheets/sheet1.xml", "/xl/worksheets/Sheet1.xml"])
def test_a_formula_without_a_value_is_no_empty_cell(tmp_path: Path, cell: str, target: str) -> None:
    """Refused in a column of the address, with the place; else kept as its text, and counted."""
    rows = [ONE, ["2", cell, "Reno", "NV", "89501", cell], ["3", cell, "Reno"]]
    path = sheet_of_xml(tmp_path, rows, target=target)
    with pytest.raises(InputError) as caught:
        read_all(path)
    assert '"Street Address" (2, first B3). Open it in Excel' in str(caught.value)
    assert "--allow-missing-values" in str(caught.value)
    found = read_all(path, allow_missing_values=True)
    assert found.rows[1:] == [
        ["2", "=A2&B2", "Reno", "NV", "89501", "=A2&B2"],
        ["3", "=A2&B2", "Reno", None, None, None],
    ]
    assert [each.get("address_line_1") for each in found.locations] == ["1 Main St", None, None]
    assert [each["city"] for each in found.locations] == ["Boston", "Reno", "Reno"]
    assert found.reader.notes[1:3] == (
        "2 rows sent without a part of the address, whose cell has no value",
        (
            'formulas without a stored value in "Street Address" (2, first B3), "TIV" (1, '
            "first F3): not sent, and kept as their text"
        ),
    )


@pytest.mark.parametrize(
    "error",
    [
        *("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!"),
        *("#SPILL!", "#CALC!", "#FIELD!", "#BLOCKED!", "#GETTING_DATA", "#BUSY!"),
    ],
)
def test_an_error_is_no_empty_cell(tmp_path: Path, error: str) -> None:
    """Likewise, also where a formula came to it."""
    plain, of_formula = f' t="e"><v>{error}</v>', f' t="e"><f>A1/0</f><v>{error}</v>'
    path = sheet_of_xml(
        tmp_path, [ONE, ["2", "2 Oak Ave", plain, "NV"], ["3", "3 Elm St", "Reno", of_formula]]
    )
    with pytest.raises(InputError, match=r'error in "City" \(1, first C3\), "State" \(1, first D4'):
        read_all(path)
    found = read_all(path, allow_missing_values=True)
    assert found.rows[1][2] == found.rows[2][3] == error
    assert found.locations[1] == {"id": "2", "address_line_1": "2 Oak Ave", "state": "NV"}
    assert "2 rows sent without a part of the address" in found.reader.notes[1]


def test_an_error_of_a_newer_excel_beside_a_text_like_it(tmp_path: Path) -> None:
    """The text stays one, and so do the other errors and all other cells."""
    spilt, text, other = (
        f' t="{kind}"><v>{value}</v>'
        for kind, value in (("e", "#SPILL!"), ("str", "#SPILL!"), ("e", "#N/A"))
    )
    rows = [[*ONE[:5], spilt], ["2", "2 Oak Ave", text, "", "", other], ["3", "3 Elm St"]]
    found = read_all(sheet_of_xml(tmp_path, rows))
    assert [row[5] for row in found.rows] == ["#SPILL!", "#N/A", None]
    assert found.rows[1][2] == found.locations[1]["city"] == "#SPILL!"
    assert 'cells with an error in "TIV" (2, first F2)' in found.reader.notes[1]


def test_what_is_no_formula_without_a_value(tmp_path: Path) -> None:
    """One that came to an empty text, an empty value, and a value below another formula."""
    empty, text = ' t="str"><f>""</f><v></v>', ' t="str"><f>A1</f><v>x</v>'
    row = ["2", "2 Oak Ave", empty, "><v/>", ' t="n"><v></v>', text]
    found = read_all(sheet_of_xml(tmp_path, [ONE, row]))
    assert found.rows[1] == ["2", "2 Oak Ave", None, None, None, "x"]
    assert found.locations[1] == {"id": "2", "address_line_1": "2 Oak Ave"}
    assert len(found.reader.notes) == 1


def test_columns_that_do_not_matter_refuse_nothing(tmp_path: Path) -> None:
    """An id and a value are left out, and rows below and beside all values are there."""
    formula = ">" + "<f>1+1</f>"
    rows = [ONE, ["", "2 Oak Ave", "Reno"], ["", "", "", "", "", formula, "", formula]]
    found = read_all(sheet_of_xml(tmp_path, rows))
    assert found.rows[2] == [None, None, None, None, None, "=1+1", None, "=1+1"]
    assert found.locations[2] == {}


def test_formulas_that_cells_share(tmp_path: Path) -> None:
    """A spreadsheet writes them once, and so each has its own text."""
    first = '><f t="shared" ref="F2:F3" si="0">A2*$B$2&amp;"A2"</f>'
    second = '><f t="shared" si="0"/>'
    found = read_all(sheet_of_xml(tmp_path, [[*ONE[:5], first], ["2", "x", "y", "", "", second]]))
    assert [row[5] for row in found.rows] == ['=A2*$B$2&"A2"', '=A3*$B$2&"A2"']


@pytest.mark.parametrize(
    ("formula", "moved"),
    [
        ("=A1+$B$2+C$3+$D4", "=B3+$B$2+D$3+$D6"),
        ("=Z9&AZ9&'A1 x'!A1&[1]A1!B2", "=AA11&BA11&'A1 x'!B3&[1]A1!C4"),
        ('=IF(A1="A1",LOG10(A1),A1:B2)', '=IF(B3="A1",LOG10(B3),B3:C4)'),
    ],
)
def test_a_formula_in_another_cell(formula: str, moved: str) -> None:
    """Two rows below and a column beside; texts, names and what is fixed stay."""
    assert moved_formula(formula, 2, 1) == moved


def test_a_zero_that_a_program_wrote_in_place_of_a_value(tmp_path: Path) -> None:
    """No street is 0 where the workbook asks to be calculated. A value may be."""
    formula = ' t="n"><f>A1</f><v>0</v>'
    path = sheet_of_xml(tmp_path, [["1", "1 Main St", "", "", "", formula]], is_unfinished=True)
    assert read_all(path).rows[0][5] == 0
    rows = [["1", formula, "Boston", "", "", formula]]
    with pytest.raises(
        InputError, match=r'stored value in "Street Address" \(1, first B2\)\. Open'
    ):
        read_all(sheet_of_xml(tmp_path, rows, is_unfinished=True))
    # Where it does not ask for that, it is what the formula came to.
    assert read_all(sheet_of_xml(tmp_path, rows)).rows[0][1] == 0


def test_more_marks_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take memory beside the values."""
    monkeypatch.setattr(workbook_scan, "MAX_MARKS", 3)
    with pytest.raises(InputError, match="open it in Excel and save it"):
        read_all(sheet_of_xml(tmp_path, [["1", "x", "", "", "", "><f>A1</f>"]] * 4))


def test_merged_cells_hold_for_all_rows_that_they_cover(tmp_path: Path) -> None:
    """Downwards, below the header, in what is sent; beside, above and in the rows kept, not."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.merge_range("B1:F1", "Schedule")
        sheet.write_row("B3", HEADERS)
        sheet.merge_range("B3:B4", "Loc #")
        for number in (5, 6, 7, 8, 9):
            sheet.write(f"C{number}", f"{number} Main St")
        sheet.merge_range("B5:B6", 17)
        sheet.merge_range("D5:D7", "Boston")
        sheet.merge_range("E5:F8", "MA")
        sheet.merge_range("G5:G9", 1_000)

    found = read_all(workbook(tmp_path, fill))
    assert [row[2] for row in found.rows] == ["Boston", None, None, None, None]
    assert [each.get("id") for each in found.locations] == [17, 17, None, None, None]
    cities = [each.get("city") for each in found.locations]
    assert cities == ["Boston", "Boston", "Boston", None, None]
    assert [each.get("state") for each in found.locations] == [*["MA"] * 4, None]
    assert not any("postal_code" in each for each in found.locations)
    assert found.reader.notes[1].startswith('merged cells in "Loc #" (1, first B6), "City" (2,')


def test_dates_where_none_belong(tmp_path: Path) -> None:
    """Excel's idea of 1-2 and 3/4 is not sent as an address, a postal code or an id."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        day = book.add_format({"num_format": "d-mmm"})
        sheet.write_row("A1", ["Id", "House No", "Street", "City", "Postal Code", "Year Built"])
        sheet.write_row("A2", ["a", 5, "Main St", "Boston", "02134", 1990])
        sheet.write_row("A3", ["b", "", "Oak Ave", "Reno", "89501"])
        for cell in ("A4", "B3", "E4", "F3"):
            sheet.write_datetime(cell, dt.datetime.fromisoformat("2024-01-02"), day)
        sheet.write_row("B4", [7, "Elm St", "Austin"])

    found = read_all(workbook(tmp_path, fill))
    first, second, third = found.locations
    assert first["address_line_1"] == "5 Main St"
    # Without its number it is another street line.
    assert "address_line_1" not in second
    assert second["id"] == "b"
    assert third == {"address_line_1": "7 Elm St", "city": "Austin"}
    assert "2024" not in str([{**each, "const__bldg_year_built": 0} for each in found.locations])
    assert found.reader.notes[1:3] == (
        "2 rows sent without a part of the address, whose cell has no value",
        (
            'dates in "Id" (1, first A4), "House No" (1, first B3), "Postal Code" (1, first E4): '
            "not sent, as spreadsheets turn texts such as 1-2 into dates"
        ),
    )
    assert found.rows[1][1] == dt.date(2024, 1, 2)


def test_hidden_rows(tmp_path: Path) -> None:
    """Sent, and said; or left out, as the user says."""

    def fill(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_column("A1", ["address", *(f"{number} Main St" for number in range(1, 6))])
        sheet.autofilter("A1:A6")
        sheet.set_row(2, None, None, {"hidden": True})
        sheet.set_row(4, None, None, {"hidden": True})

    path = workbook(tmp_path, fill)
    found = read_all(path)
    assert len(found.rows) == 5
    assert (
        "2 hidden rows sent like the others; leave them out with --hidden-rows skip"
        in found.reader.notes[1]
    )
    found = read_all(path, hidden_rows="skip")
    assert [row[0] for row in found.rows] == ["1 Main St", "3 Main St", "5 Main St"]
    assert found.reader.notes[1] == "2 hidden rows left out"
    (tmp_path / "in.csv").write_text("address\n1 Main St\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="-rows does not apply to"):
        read_all(tmp_path / "in.csv", hidden_rows="skip")


def test_an_opendocument_sheet_likewise(tmp_path: Path) -> None:
    """Formulas without a value, errors, merged cells and hidden rows."""

    def row(*cells: str, more: str = "") -> str:
        return f"<table:table-row{more}>{''.join(cells)}</table:table-row>"

    def text(content: str, more: str = "") -> str:
        return (
            f'<table:table-cell office:value-type="string"{more}><text:p>{content}</text:p>'
            "</table:table-cell>"
        )

    error = (
        '<table:table-cell table:formula="of:=NA()" office:value-type="string" '
        'office:string-value="" calcext:value-type="error"><text:p>#N/A</text:p></table:table-cell>'
    )
    formula = '<table:table-cell table:formula="of:=[.A1]"/>'
    rows = [
        row(text("address"), text("city"), text("TIV")),
        row(text("1 Main St"), text("Boston", ' table:number-rows-spanned="2"'), error),
        row(text("2 Main St"), "<table:covered-table-cell/>", formula),
        row(text("3 Main St"), text("Reno"), more=' table:visibility="filter"'),
    ]
    path = opendocument(tmp_path, "".join(rows))
    found = read_all(path, hidden_rows="skip")
    assert found.rows == [["1 Main St", "Boston", "#N/A"], ["2 Main St", None, "=[.A1]"]]
    assert [each["city"] for each in found.locations] == ["Boston", "Boston"]
    assert "1 hidden row left out" in found.reader.notes
    spoilt = opendocument(tmp_path, "".join([*rows[:2], row(error, text("Reno"))]))
    with pytest.raises(InputError, match=r'cells with an error in "address" \(1, first A3\)'):
        read_all(spoilt)


def test_a_retail_schedule(tmp_path: Path) -> None:
    """A cover sheet is no table, and merged cells, totals and footnotes are what they are."""
    found = read_all(retail_schedule(tmp_path / "in.xlsx"))
    assert [each["id"] for each in found.locations] == [1, 2, 3, 4, 5, 6]
    assert [each["city"] for each in found.locations[:4]] == ["Boston", "Boston", "Boston", "Reno"]
    assert found.locations[4]["bldg_name"] == "Total Wine"
    assert "not read: 'Cover', 'Lookups'; choose a sheet with --sheet NAME" in found.reader.notes
    assert "1 empty row, 1 total row and 2 footnotes left out" in found.reader.notes


def test_a_habitational_schedule(tmp_path: Path) -> None:
    """Headers that are repeated, subtotals, and a table below the total are no locations."""
    path = habitational_schedule(tmp_path / "in.xlsx")
    found = read_all(path)
    ids = [each["id"] for each in found.locations]
    assert ids == ["A-1", "A-2", "A-3", "B-1", "B-2", "B-3"]
    assert found.reader.notes[1:] == (
        "1 hidden row sent like the others; leave them out with --hidden-rows skip",
        "1 empty row, 3 total rows, 2 repeated headers and 1 footnote left out",
        (
            "another table begins in row 18 and is left out (3 rows); to send it, put it into a "
            "separate file"
        ),
    )
    assert len(read_all(path, hidden_rows="skip").rows) == 5


def test_an_exported_schedule(tmp_path: Path) -> None:
    """What nothing has calculated is refused, or left out by name."""
    path = exported_schedule(tmp_path / "in.xlsx")
    with pytest.raises(
        InputError, match=r'stored value in "Address" \(2, first B3\); cells with an'
    ):
        read_all(path)
    found = read_all(path, allow_missing_values=True)
    assert found.rows[1][1] == '=Parts!A3&" "&Parts!B3'
    assert [row[7] for row in found.rows] == [f"=F{number}+G{number}" for number in range(2, 6)]
    assert found.rows[0][8] == "#DIV/0!"
    assert found.locations[3] == {
        "id": 104,
        "address_line_1": "9 Pier Rd",
        "state": "FL",
        "postal_code": "33139",
        "limits__building_limit": 75_000,
        "limits__bpp_limit": 1,
    }
    assert found.reader.notes[2].startswith("3 rows sent without a part of the address")
