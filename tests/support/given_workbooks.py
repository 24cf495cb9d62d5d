"""Workbooks as brokers send them: titles, merged cells, formulas, totals, footnotes, formats."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import openpyxl
import xlsxwriter
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.worksheet.table import Table, TableStyleInfo

STREETS = ["1 Main St", "22 Oak Ave", "333 Elm Rd", "4 Pine Ct", "55 High St", "6 Low Ln"]


def statement(path: Path) -> None:
    """A statement of values below titles, with formulas, a total, a footnote and a chart."""
    book = xlsxwriter.Workbook(path)
    look: dict[str, dict[str, Any]] = {
        "title": {"bold": True, "font_size": 16, "font_color": "#1F3864"},
        "header": {
            "bold": True, "bg_color": "#1F3864", "font_color": "white", "border": 1,
            "text_wrap": True, "valign": "top",
        },
        "text": {"border": 1, "bg_color": "#F2F2F2"},
        "zip": {"border": 1, "num_format": "00000"},
        "money": {"border": 1, "num_format": '"$"#,##0.00', "align": "right"},
        "date": {"border": 1, "num_format": "d-mmm-yy"},
        "share": {"border": 1, "num_format": "0.0%", "bg_color": "#E2EFDA"},
        "total": {"bold": True, "top": 6, "num_format": '"$"#,##0'},
        "note": {"italic": True, "font_size": 9},
    }  # fmt: skip
    formats = {name: book.add_format(each) for name, each in look.items()}
    sheet = book.add_worksheet("SOV 2026")
    sheet.merge_range("A1:H1", "Statement of Values", formats["title"])
    sheet.write_rich_string("A2", "as of ", formats["note"], "1 January", " 2026")
    headers = ["Loc #", "Address", "City", "State", "Zip", "Building Value", "Renewal", "Share"]
    sheet.set_row(3, 32)
    for column, header in enumerate(headers):
        sheet.write(3, column, header, formats["header"])
    for number, street in enumerate(STREETS):
        row = number + 4
        sheet.write_number(row, 0, number + 1, formats["text"])
        sheet.write_url(row, 1, f"https://example.com/{number}", formats["text"], street)
        sheet.write_string(row, 2, "Boston", formats["text"])
        sheet.write_string(row, 3, "MA", formats["text"])
        if number == 2:  # a text among numbers
            sheet.write_string(row, 4, "02134-1234", formats["zip"])
        else:
            sheet.write_number(row, 4, 2134, formats["zip"])
        value = 1_250_000.5 * (number + 1)
        sheet.write_formula(row, 5, f"=1250000.5*{number + 1}", formats["money"], value)
        sheet.write_datetime(row, 6, dt.datetime(2026, 3, number + 1), formats["date"])  # noqa: DTZ001
        sheet.write_formula(row, 7, f"=F{row + 1}/$F$11", formats["share"], (number + 1) / 21)
    sheet.write_string(10, 0, "Total", formats["total"])
    sheet.write_formula(10, 5, "=SUM(F5:F10)", formats["total"], 26_250_010.5)
    sheet.write_string(12, 0, "* Values as reported by the insured.", formats["note"])
    sheet.set_column("A:A", 7)
    sheet.set_column("B:B", 31)
    sheet.set_column("F:F", 18)
    sheet.conditional_format("F5:F10", {"type": "data_bar"})
    sheet.data_validation("D5:D10", {"validate": "list", "source": ["MA", "NH"]})
    sheet.write_comment("B5", "Seen by the surveyor")
    sheet.add_sparkline("J2", {"range": "'SOV 2026'!F5:F10"})
    sheet.set_landscape()
    other = book.add_worksheet("Notes")
    other.write_formula("B2", "='SOV 2026'!F11", formats["money"], 26_250_010.5)
    chart: Any = book.add_chart({"type": "column"})
    chart.add_series({"values": "='SOV 2026'!$F$5:$F$10"})
    other.insert_chart("D4", chart)
    book.define_name("Values", "='SOV 2026'!$F$5:$F$10")
    book.close()


def table(path: Path) -> None:
    """One of Excel's own tables, with a filter and stripes."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Locations"
    sheet.append(["ID", "Street", "City", "State", "Zip", "TIV"])
    for number, street in enumerate(STREETS):
        sheet.append([f"L{number}", street, "Salem", "MA", "01970", 1000 * number])
    listed = Table(displayName="Locations", ref="A1:F7")
    listed.tableStyleInfo = TableStyleInfo(name="TableStyleMedium2", showRowStripes=True)
    sheet.add_table(listed)
    sheet.column_dimensions["B"].width = 25
    book.create_sheet("Empty")
    book.save(path)


def schedule(path: Path) -> None:
    """A header in two rows, groups with totals between them, a filter, and panes of its own."""
    book = openpyxl.Workbook()
    lists = book.active
    assert lists is not None
    lists.title = "Lists & Codes"
    lists["A1"] = "Frame"
    lists.sheet_state = "hidden"
    sheet = book.create_sheet("Schedule")
    book.active = 1
    side = Side("thin", color="999999")
    box = Border(left=side, right=side, top=side, bottom=side)
    fill = PatternFill("solid", fgColor="FFD966")
    sheet["A1"] = "Property schedule"
    upper = ["Location", None, None, None, None, "Values", None]
    lower = ["No", "Address", "City", "State", "Zip Code", "Building", "Contents"]
    for row, texts in ((3, upper), (4, lower)):
        for column, text in enumerate(texts, 1):
            cell = sheet.cell(row, column, text)
            cell.fill, cell.border, cell.font = fill, box, Font(bold=True)
            cell.alignment = Alignment(horizontal="center", wrap_text=True)
    sheet.merge_cells("A3:E3")
    sheet.merge_cells("F3:G3")
    row = 5
    for group in range(2):
        for number, street in enumerate(STREETS[group * 3 : group * 3 + 3]):
            cells: list[Any] = [
                number + group * 3 + 1,
                street,
                "Lowell",
                "MA",
                "01850",
                5e5,
                1.25e5,
            ]
            for column, value in enumerate(cells, 1):
                cell = sheet.cell(row, column, value)
                cell.border = box
                if column > 5:
                    cell.number_format = "#,##0;[Red](#,##0)"
                if number % 2:
                    cell.fill = PatternFill("solid", fgColor="DDEBF7")
            row += 1
        sheet.cell(row, 1, "Subtotal").font = Font(bold=True)
        sheet.cell(row, 6, f"=SUM(F{row - 3}:F{row - 1})")
        row += 2
    sheet.freeze_panes = "C5"
    sheet.auto_filter.ref = "A4:G12"
    sheet.column_dimensions["B"].width = 22
    for letters in ("I", "J"):  # and all behind them, as Excel hides what is not used
        sheet.column_dimensions[letters].hidden = True
    book.save(path)


WORKBOOKS = {"statement": statement, "table": table, "schedule": schedule}
