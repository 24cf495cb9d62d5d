"""Three workbooks as brokers send them, with all that people put around and into a table."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

_NOT_CALCULATED = "not calculated"


def retail_schedule(path: Path) -> Path:
    """A title, merged cells in the data, calculated formulas, totals, footnotes, a second sheet.

    Sheet "SOV 2026": headers in row 5, six locations in rows 6 to 11 of which the first three
    share a city and a state in merged cells, a total row 13, footnotes in rows 14 and 15.
    Sheet "Lookups" holds two lists; "Cover" is no table.
    """
    with xlsxwriter.Workbook(path) as book:
        bold = book.add_format(
            {"bold": True, "bg_color": "#DDEBF7", "border": 1, "text_wrap": True}
        )
        money = book.add_format({"num_format": "$#,##0"})
        zip_code = book.add_format({"num_format": "00000"})
        percent = book.add_format({"num_format": "0.0%"})
        day = book.add_format({"num_format": "mm/dd/yyyy"})
        middle = book.add_format({"valign": "vcenter"})
        cover = book.add_worksheet("Cover")
        _write(cover, [["Named Insured:", "ACME Retail, Inc."], ["Effective", dt.date(2026, 1, 1)]])
        cover.write("A3", "Address:")
        cover.write("B3", "1 Corporate Dr, Stamford, CT")
        sheet = book.add_worksheet("SOV 2026")
        sheet.merge_range("A1:K1", "ACME Retail, Inc.", book.add_format({"font_size": 16}))
        sheet.merge_range("A2:K2", "Statement of Values as of 1/1/2026")
        headers = (
            *("Loc #", "Bldg Name", "Street Address", "City", "State", "Zip", "Yr Built"),
            *("Building Value", "Contents", "TIV", "Appraised"),
        )
        sheet.write_row("A5", headers, bold)
        rows: list[list[Any]] = [
            [1, "Depot", "1 Main St", None, None, 2134, 1990, 1_000_000, 250_000],
            [2, "Annex", "3 Main St", None, None, 2134, 1995, 500_000, 125_000.5],
            [3, "Garage", "5 Main St", None, None, 2134, 2001, 90_000, 0],
            [4, "Reno Store", "2 Oak Ave", "Reno", "NV", 89501, 2010, 2_500_000.5, 800_000],
            [5, "Total Wine", "40 Elm St", "Austin", "TX", 78701, 1988, 750_000, 60_000],
            [6, "Harbor", "7 Pier Rd", "Miami", "FL", 33139, 1975, 3_200_000, 410_000],
        ]
        for place, row in enumerate(rows, 5):
            sheet.write_row(place, 0, row[:5])
            sheet.write(place, 5, row[5], zip_code)
            sheet.write(place, 6, row[6])
            sheet.write_row(place, 7, row[7:], money)
            sheet.write_formula(place, 9, f"=H{place + 1}+I{place + 1}", money, row[7] + row[8])
            sheet.write_datetime(place, 10, dt.datetime(2025, 3, place), day)  # noqa: DTZ001 - a cell has no zone
        sheet.merge_range("D6:D8", "Boston", middle)
        sheet.merge_range("E6:E8", "MA", middle)
        sheet.write("A13", "Totals:", bold)
        for column, total in (("H", 8_040_000.5), ("I", 1_645_000.5), ("J", 9_685_001)):
            sheet.write_formula(f"{column}13", f"=SUM({column}6:{column}11)", money, total)
        sheet.write("A14", "* Values are replacement cost, without land.")
        sheet.merge_range("A15:K15", "Prepared by Sample Brokers, 12 Wall St, New York")
        sheet.set_column("A:A", 6)
        sheet.set_column("B:C", 24)
        sheet.set_column("H:J", 16, money)
        sheet.freeze_panes("A6")
        sheet.autofilter("A5:K11")
        lists = book.add_worksheet("Lookups")
        _write(lists, [["Construction", "Rate"], ["Frame", 0.021], ["Masonry", 0.0135]])
        lists.set_column("B:B", 10, percent)
    return path


def habitational_schedule(path: Path) -> Path:
    """Headers in two rows, a section for each state, subtotals, hidden rows, links, a summary.

    Sheet "Schedule": headers in rows 3 and 4, repeated in rows 9 and 10 as after a page break;
    locations in rows 5 to 7 and 11 to 13, of which row 12 is hidden; subtotals in rows 8 and 14, a
    grand total in row 15; a table of its own ("Summary by State") from row 18 on.
    """
    with xlsxwriter.Workbook(path) as book:
        bold = book.add_format({"bold": True, "bottom": 2})
        money = book.add_format({"num_format": '_("$"* #,##0_);_("$"* (#,##0)'})
        sheet = book.add_worksheet("Schedule")
        sheet.write("A1", "Habitational schedule", bold)
        for first in (2, 8):
            _write_headers(sheet, first, bold)
        rows = [
            ["A-1", "Elm Court", "10 Elm St", "Dallas", "TX", "75201", 24, 4_000_000, 310_000],
            ["A-2", "Elm Court", "12 Elm St", "Dallas", "TX", "75201", 24, 4_000_000, 305_000],
            ["A-3", "Oak Row", "7 Oak Rd", "Waco", "TX", "76701", 12, 1_900_000, 120_000],
            ["B-1", "Pier House", "5 Pier Rd", "Tampa", "FL", "33602", 60, 9_500_000, 900_000],
            ["B-2", "Pier Annex", "9 Pier Rd", "Tampa", "FL", "33602", 8, 700_000, 66_000],
            ["B-3", "Bay Lofts", "21 Bay St", "Miami", "FL", "33131", 40, 7_250_000, 805_000],
        ]
        for place, row in zip((4, 5, 6, 10, 11, 12), rows, strict=True):
            sheet.write_row(place, 0, row[:7])
            sheet.write_row(place, 7, row[7:], money)
            sheet.write_url(place, 9, f"https://example.com/{row[0]}", string="photo")
        sheet.set_row(11, None, None, {"hidden": True})
        for place, title, units, values, rents in (
            (7, "Subtotal TX", 60, 9_900_000, 735_000),
            (13, "Subtotal FL", 108, 17_450_000, 1_771_000),
            (14, "Grand Total", 168, 27_350_000, 2_506_000),
        ):
            sheet.write(place, 0, title, bold)
            sheet.write(place, 6, units, bold)
            sheet.write(place, 7, values, money)
            sheet.write(place, 8, rents, money)
        sheet.write("A17", "Summary by State", bold)
        sheet.write_row("A18", ["State", "Locations", "TIV"], bold)
        sheet.write_row("A19", ["TX", 3, 10_635_000])
        sheet.write_row("A20", ["FL", 3, 19_221_000])
        sheet.set_column("B:D", 20)
    return path


def exported_schedule(path: Path) -> Path:
    """As a program writes it: formulas that nothing has calculated, and errors in cells.

    Sheet "Export": headers in row 1. "Address" is joined by a formula from the sheet "Parts", in
    rows 3 and 4 without a stored value; "City" of row 5 is #N/A, "TIV" is a formula without a value
    in each row, and "Margin" is #DIV/0! in row 2.
    """
    drawn = path.with_suffix(".drawn.xlsx")
    with xlsxwriter.Workbook(drawn) as book:
        money = book.add_format({"num_format": "#,##0.00"})
        sheet = book.add_worksheet("Export")
        headers = (
            *("Location ID", "Address", "City", "State", "Postal Code"),
            *("Building Limit", "BPP", "TIV", "Margin"),
        )
        sheet.write_row("A1", headers)
        parts = book.add_worksheet("Parts")
        rows = [
            [101, 1, "Main St", "Boston", "MA", "02134", 1_000_000, 250_000],
            [102, 22, "Oak Ave", "Reno", "NV", "89501", 500_000, 0],
            [103, 7, "Elm St", "Austin", "TX", "78701", 90_000, 10_000.25],
            [104, 9, "Pier Rd", None, "FL", "33139", 75_000, 1],
        ]
        for number, row in enumerate(rows, 2):
            parts.write_row(number - 1, 0, row[1:3])
            sheet.write(f"A{number}", row[0])
            joined = f'=Parts!A{number}&" "&Parts!B{number}'
            is_known = number not in {3, 4}
            sheet.write_formula(
                f"B{number}", joined, None, f"{row[1]} {row[2]}" if is_known else _NOT_CALCULATED
            )
            sheet.write_row(number - 1, 2, row[3:6])
            sheet.write_row(number - 1, 5, row[6:], money)
            sheet.write_formula(f"H{number}", f"=F{number}+G{number}", money, _NOT_CALCULATED)
            sheet.write(f"I{number}", 0.25)
        sheet.write_formula("C5", "=VLOOKUP(A5,Parts!A:B,2)", None, "#N/A")
        sheet.write_formula("I2", "=F2/0", None, "#DIV/0!")
    without_stored_values(drawn, path)
    drawn.unlink()
    return path


BROKER_WORKBOOKS = (retail_schedule, habitational_schedule, exported_schedule)


def without_stored_values(drawn: Path, path: Path) -> None:
    """Copy a workbook; formulas whose value is "not calculated" have none in the copy."""
    stored = re.compile(rf' t="str"(><f>[^<]*</f>)<v>{_NOT_CALCULATED}</v>'.encode())
    with zipfile.ZipFile(drawn) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, stored.sub(rb"\1", whole.read(name)))


def _write_headers(sheet: Worksheet, first: int, bold: Format) -> None:
    """Headers in two rows, groups of columns above some of them."""
    sheet.write_row(first, 0, ["Loc", "Property", "Site", "", "", "Zip", "", "Building", "Loss of"])
    sheet.write_row(
        first + 1,
        0,
        ["#", "Name", "Address", "City", "ST", "Code", "# Units", "Value", "Rents", "Photo"],
        bold,
    )


def _write(sheet: Worksheet, rows: list[list[Any]]) -> None:
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            if isinstance(value, dt.date):
                sheet.write_datetime(number, column, value)
            else:
                sheet.write(number, column, value)
