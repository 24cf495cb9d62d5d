"""A workbook in gives the same workbook back, with the answers as new columns."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl
import pytest
from anyio import to_thread
from openpyxl.styles import PatternFill

import pingdata_async as ping
from pingdata_async.events import Event, RunNotice
from pingdata_async.runs.export.export import export_run
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.rows import ReadOptions
from tests.support.broker_workbooks import exported_schedule, habitational_schedule, retail_schedule
from tests.support.given_workbooks import STREETS, WORKBOOKS
from tests.support.reading import parts_of
from tests.support.runs import enhancer
from tests.unit.tables.readers.test_excel import ADDRESSES, CELL, opendocument

pytestmark = pytest.mark.filterwarnings("ignore:.*extension is not supported:UserWarning")


class Form(NamedTuple):
    """Where the table of a workbook is."""

    sheet: str
    header_row: int
    columns: int
    rows: list[int]


FORMS = {
    "statement": Form("SOV 2026", 4, 8, [5, 6, 7, 8, 9, 10]),
    "table": Form("Locations", 1, 6, [2, 3, 4, 5, 6, 7]),
    "schedule": Form("Schedule", 4, 7, [5, 6, 7, 10, 11, 12]),
}


def look(cell: Any) -> tuple[Any, ...]:
    """All that a cell is."""
    styles = (cell.font, cell.fill, cell.border, cell.alignment)
    return (
        cell.value,
        cell.data_type,
        cell.number_format,
        *map(repr, styles),
        cell.hyperlink and cell.hyperlink.target,
        cell.comment and cell.comment.text,
    )


def assert_kept(before: Path, after: Path) -> None:
    """Every cell of every sheet is what it was, and every part that nobody had to change."""
    given = openpyxl.load_workbook(before, rich_text=True)
    written = openpyxl.load_workbook(after, rich_text=True)
    assert written.sheetnames == given.sheetnames
    for sheet in given:
        other = written[sheet.title]
        for row in sheet.iter_rows():
            for cell in row:
                assert look(other[cell.coordinate]) == look(cell), cell
        assert other.merged_cells == sheet.merged_cells
        assert other.sheet_state == sheet.sheet_state
        for letters, column in sheet.column_dimensions.items():
            if openpyxl.utils.column_index_from_string(letters) <= sheet.max_column:
                assert other.column_dimensions[letters].width == column.width
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
        assert sorted(new.namelist()) == sorted(old.namelist())
        changed = {name for name in old.namelist() if new.read(name) != old.read(name)}
    kinds = ("xl/worksheets/", "xl/styles", "xl/workbook.xml", "xl/tables/")
    assert all(name.startswith(kinds) for name in changed)
    assert len([name for name in changed if name.startswith("xl/worksheets/")]) == 1


async def enhanced(
    client: ping.PingDataClient,
    source: Path,
    output: Path,
    make: Callable[[Path], Any] | None = None,
    **options: Any,
) -> list[str]:
    """Notes of a run, on a workbook that is made for it."""
    if make is not None:
        await to_thread.run_sync(make, source)
    events: list[Event] = []
    await enhancer(client, on_event=events.append).run(source, output, **options)
    return [event.message for event in events if isinstance(event, RunNotice)]


@pytest.mark.parametrize("name", WORKBOOKS)
async def test_given_back(client: ping.PingDataClient, tmp_path: Path, name: str) -> None:
    """Nothing in it has changed, and each answer stands beside its own row, in its style."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    form = FORMS[name]
    notes = await enhanced(client, source, output, WORKBOOKS[name])
    assert any(f'of sheet "{form.sheet}"' in note for note in notes)
    await to_thread.run_sync(assert_kept, source, output)
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output))[form.sheet]
    headers = [cell.value for cell in sheet[form.header_row]]
    assert headers[form.columns : form.columns + 2] == ["enhance_status", "enhance_reason"]
    answers = {header: column for column, header in enumerate(headers, 1) if header}
    for row, street in zip(form.rows, STREETS, strict=True):
        assert sheet.cell(row, answers["enhance_status"]).value == "ok"
        assert sheet.cell(row, answers["pg_address_line_1"]).value == street
        latitude = sheet.cell(row, answers["pg_latitude"])
        assert isinstance(latitude.value, float)
        beside = sheet.cell(row, form.columns)
        assert repr(latitude.fill) == repr(beside.fill)
        assert repr(latitude.border) == repr(beside.border)
        assert latitude.number_format == "General"
    for row in set(range(1, sheet.max_row + 1)) - {*form.rows, form.header_row}:
        assert not [cell.value for cell in sheet[row][form.columns :] if cell.value is not None]
    header = sheet.cell(form.header_row, answers["pg_latitude"])
    assert repr(header.font) == repr(sheet.cell(form.header_row, form.columns).font)
    letters = header.column_letter
    assert sheet.column_dimensions[letters].width >= len("pg_latitude")
    assert not sheet.column_dimensions[letters].hidden
    last = openpyxl.utils.get_column_letter(len(headers))
    filtered = {
        "statement": f"A4:{last}10",
        "table": None,
        "schedule": f"A4:{last}12",
    }
    assert sheet.auto_filter.ref == filtered[name]
    assert sheet.freeze_panes == {"statement": "A5", "table": "A2", "schedule": "C5"}[name]
    if name == "table":
        [table] = sheet.tables.values()
        assert (table.ref, table.autoFilter.ref) == (f"A1:{last}7",) * 2
        assert [column.name for column in table.tableColumns] == headers


@pytest.mark.parametrize("make", [retail_schedule, habitational_schedule, exported_schedule])
async def test_brokers_workbooks(
    client: ping.PingDataClient, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """What comes in with merged cells, footnotes, hidden rows and lookups goes out with them."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    reading = ReadOptions(allow_missing_values=True)
    notes = await enhanced(client, source, output, make, reading=reading)
    assert any("The answers are in columns" in note for note in notes)
    await to_thread.run_sync(assert_kept, source, output)


async def test_beside_links(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Answers beside a column of links do not look like links, and all else in them is alike."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    await enhanced(client, source, output, habitational_schedule)
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output))["Schedule"]
    link, answer = sheet["J5"], sheet["K5"]
    assert (link.font.underline, link.style) == ("single", "Hyperlink")
    assert (answer.value, answer.font.underline, answer.style) == ("ok", None, "Normal")
    assert repr(answer.font) == repr(sheet["A5"].font)
    assert repr(answer.border) == repr(link.border)


async def test_exported_again(client: ping.PingDataClient, tmp_path: Path) -> None:
    """The workbook is there for an export, moved with the run, until it changes or is gone."""
    (tmp_path / "first").mkdir()
    source, output = tmp_path / "first" / "in.xlsx", tmp_path / "first" / "out.jsonl"
    await enhanced(client, source, output, WORKBOOKS["statement"])
    (tmp_path / "first").rename(tmp_path / "second")
    source, run = tmp_path / "second" / "in.xlsx", tmp_path / "second" / "out.jsonl.run"
    await export_run(run, tmp_path / "one.xlsx")
    await to_thread.run_sync(assert_kept, source, tmp_path / "one.xlsx")
    for change, says in CHANGES.items():
        await to_thread.run_sync(CHANGES_MADE[change], source)
        exported = await export_run(run, tmp_path / f"{change}.xlsx")
        assert any(f"plain sheet, and not the workbook that was given: {says}" in note
                   for note in exported.notes)  # fmt: skip
        sheet = openpyxl.load_workbook(tmp_path / f"{change}.xlsx").active
        assert sheet is not None
        rows = list(sheet.iter_rows(min_row=2, max_col=5, values_only=True))
        assert [row[1] for row in rows] == STREETS
        # Each cell is what it was, in a column of mixed kind too.
        assert [row[4] for row in rows] == [2134, 2134, "02134-1234", 2134, 2134, 2134]


CHANGES = {"changed": "it has changed since it was read", "gone": "it is not there any more"}
CHANGES_MADE: dict[str, Callable[[Path], Any]] = {
    "changed": WORKBOOKS["table"],
    "gone": Path.unlink,
}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("Address", "pg_*"), "--columns leaves out columns of it"),
        (("pg_latitude", "*"), "--columns leaves out columns of it, or moves them"),
        (("*",), "The answers are in columns I to "),
    ],
)
async def test_chosen_columns(
    client: ping.PingDataClient, tmp_path: Path, columns: tuple[str, ...], says: str
) -> None:
    """The workbook is given back where all of its columns are wanted, as they are."""
    source = tmp_path / "in.xlsx"
    writing = WriteOptions(columns=columns)
    notes = await enhanced(
        client, source, tmp_path / "out.xlsx", WORKBOOKS["statement"], writing=writing
    )
    assert any(says in note for note in notes)


def with_macros(path: Path) -> None:
    """A workbook that is said to have programs in it."""
    WORKBOOKS["table"](path)
    with parts_of(path) as parts:
        types = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
        macros = b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
        content = parts["[Content_Types].xml"].replace(types, macros)
        parts["[Content_Types].xml"] = content.replace(
            b"</Types>",
            b'<Override PartName="/xl/vbaProject.bin" '
            b'ContentType="application/vnd.ms-office.vbaProject"/></Types>',
        )
        relations = "xl/_rels/workbook.xml.rels"
        parts[relations] = parts[relations].replace(
            b"</Relationships>",
            b'<Relationship Id="rId99" Type="http://schemas.microsoft.com/office/2006/relationships/'
            b'vbaProject" Target="vbaProject.bin"/></Relationships>',
        )
        parts["xl/vbaProject.bin"] = b"a program"


def with_prefixes(path: Path) -> None:
    """A workbook whose sheet names its elements as some programs do: <x:row>."""
    WORKBOOKS["schedule"](path)
    with parts_of(path) as parts:
        sheet = parts["xl/worksheets/sheet2.xml"]
        sheet = sheet.replace(b"</", b"</x:").replace(b"<", b"<x:").replace(b"<x:/x:", b"</x:")
        sheet = sheet.replace(b"<x:?xml", b"<?xml").replace(b" xmlns=", b" xmlns:x=")
        parts["xl/worksheets/sheet2.xml"] = sheet


def with_cells_beside(path: Path) -> None:
    """A workbook with cells beside the table that hold nothing, but look like something.

    Such cells are in a row of their own and in the records; the last of the headers
    and a record's last cell are each merged with the two columns beside them.
    """
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    fill = PatternFill("solid", fgColor="FFFF00")
    sheet["B1"] = "Schedule"
    for place in ("L2", "F4", "H5", "I6", "J6"):
        sheet[place].fill = fill
    for row, cells in enumerate([["Address", "City"], ["1 Main St", "Salem"], ["2 Elm St"]], 4):
        for column, cell in enumerate(cells, 2):
            sheet.cell(row, column, cell)
    sheet.merge_cells("B1:M1")
    sheet.merge_cells("C4:D4")
    sheet.merge_cells("C6:E6")
    book.save(path)
    with parts_of(path) as parts:
        name = "xl/worksheets/sheet1.xml"
        parts[name] = parts[name].replace(b"<sheetData>", b"<cols/><sheetData>")


async def test_cells_that_hold_nothing(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Answers stand neither below merged cells, nor do they take others' cells with them."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    notes = await enhanced(client, source, output, with_cells_beside)
    assert any(note.startswith("The answers are in columns F to ") for note in notes)
    await to_thread.run_sync(assert_values_kept, source, output)
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output)).worksheets[0]
    assert [sheet[f"F{row}"].value for row in range(4, 7)] == ["enhance_status", "ok", "ok"]
    assert sheet["L2"].fill.fgColor.rgb == "00FFFF00"
    assert sheet.column_dimensions["F"].width > 10


def assert_values_kept(before: Path, after: Path) -> None:
    """Every value is where it was, and every cell is merged with those with which it was."""
    for sheet, other in zip(
        openpyxl.load_workbook(before), openpyxl.load_workbook(after), strict=True
    ):
        assert sheet.merged_cells == other.merged_cells
        for cell in chain(*sheet.iter_rows()):
            assert cell.value is None or other[cell.coordinate].value == cell.value


def with_entities(path: Path) -> None:
    """A workbook whose sheet defines an entity that is a cell."""
    WORKBOOKS["table"](path)
    with parts_of(path) as parts:
        name = "xl/worksheets/sheet1.xml"
        defined = b"<!DOCTYPE worksheet [<!ENTITY cell '<c r=\"Z2\"/>'>]><worksheet"
        parts[name] = (
            parts[name].replace(b"<worksheet", defined, 1).replace(b"</row>", b"&cell;</row>")
        )


async def test_entities(client: ping.PingDataClient, tmp_path: Path) -> None:
    """A sheet that cannot be edited, as it defines entities, is no traceback at the end."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    notes = await enhanced(client, source, output, with_entities)
    assert any("the sheet defines entities" in note for note in notes)
    assert await to_thread.run_sync(openpyxl.load_workbook, output)


async def test_macros_are_left_out(client: ping.PingDataClient, tmp_path: Path) -> None:
    """An .xlsm becomes an .xlsx that Excel opens, and it is said."""
    source, output = tmp_path / "in.xlsm", tmp_path / "out.xlsx"
    notes = await enhanced(client, source, output, with_macros)
    assert "Its macros are left out: an .xlsx holds none." in notes
    with zipfile.ZipFile(output) as archive:
        named = b"".join(map(archive.read, ["[Content_Types].xml", "xl/_rels/workbook.xml.rels"]))
        assert "xl/vbaProject.bin" not in archive.namelist()
    assert b"vba" not in named
    assert b"macro" not in named
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output))["Locations"]
    assert sheet["G2"].value == "ok"


def with_query(path: Path) -> None:
    """A workbook whose table Power Query fills: each of its columns is a field of the query."""
    WORKBOOKS["table"](path)
    with parts_of(path) as parts:
        name = "xl/tables/table1.xml"
        table = parts[name].replace(b" ref=", b' tableType="queryTable" ref=', 1)
        parts[name] = re.sub(rb'(<tableColumn id="(\d+)")', rb'\1 queryTableFieldId="\2"', table)
        relations = "http://schemas.openxmlformats.org/package/2006/relationships"
        types = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/queryTable"
        parts["xl/tables/_rels/table1.xml.rels"] = (
            f'<Relationships xmlns="{relations}"><Relationship Id="rId1" Type="{types}" '
            'Target="../queryTables/queryTable1.xml"/></Relationships>'
        ).encode()
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        fields = "".join(f'<queryTableField id="{n}" tableColumnId="{n}"/>' for n in range(1, 7))
        parts["xl/queryTables/queryTable1.xml"] = (
            f'<queryTable xmlns="{main}" name="Query"><queryTableRefresh nextId="7">'
            f'<queryTableFields count="6">{fields}</queryTableFields>'
            "</queryTableRefresh></queryTable>"
        ).encode()


async def test_beside_the_table_of_a_query(client: ping.PingDataClient, tmp_path: Path) -> None:
    """A table that a query fills stays as it is, with the answers beside it, and it is said."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    notes = await enhanced(client, source, output, with_query)
    assert any("beside its table and not in it" in note for note in notes)
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(output) as after:
        for name in ("xl/tables/table1.xml", "xl/queryTables/queryTable1.xml"):
            assert after.read(name) == before.read(name)
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output))["Locations"]
    assert [sheet[place].value for place in ("F1", "G1", "G7")] == ["TIV", "enhance_status", "ok"]


async def test_elements_with_a_prefix(client: ping.PingDataClient, tmp_path: Path) -> None:
    """New cells are of the sheet's own namespace, whatever it calls that."""
    source, output = tmp_path / "in.xlsx", tmp_path / "out.xlsx"
    await enhanced(client, source, output, with_prefixes)
    sheet = (await to_thread.run_sync(openpyxl.load_workbook, output))["Schedule"]
    assert [sheet[f"H{row}"].value for row in FORMS["schedule"].rows] == ["ok"] * 6


async def test_other_workbooks(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Of an .ods the output is a plain sheet, and it is said."""
    rows = f"{ADDRESSES}<table:table-row>{CELL.format('', '1 Main St')}</table:table-row>"
    source = await to_thread.run_sync(opendocument, tmp_path, rows)
    notes = await enhanced(client, source, tmp_path / "out.xlsx")
    assert any("it is no .xlsx or .xlsm" in note for note in notes)
