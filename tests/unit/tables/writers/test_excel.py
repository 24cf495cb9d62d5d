"""Workbooks that the writer wrote, read again by others."""

from __future__ import annotations

import datetime as dt
import errno
import io
import resource
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.datetime import CALENDAR_MAC_1904, to_excel
from openpyxl.utils.escape import unescape

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.tables.formats import OutputFormat, WriteOptions
from pingdata_async.tables.schema.arrow import columns_of
from pingdata_async.tables.schema.inference import AnswerScan
from pingdata_async.tables.schema.types import Column, ColumnType, text_of_cell
from pingdata_async.tables.writers.base import TableRows, open_table_writer
from pingdata_async.tables.xlsx import (
    MAX_CELL_UNITS,
    MOST_FORMATS,
    Cells,
    Styles,
    WorkbookParts,
)
from tests.support.sweeps import examples
from tests.support.writing import (
    AWKWARD,
    Table,
    read_xlsx,
    write,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def in_xlsx(cell: Any) -> Any:
    """What a workbook gives back."""
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) >= 10**15:
        return str(cell)
    if isinstance(cell, dt.date) and cell.year < 1900:
        return text_of_cell(cell)
    if isinstance(cell, dt.timedelta) and (cell < dt.timedelta() or cell.microseconds % 1000):
        return text_of_cell(cell)
    if isinstance(cell, dt.datetime | dt.time) and cell.microsecond % 1000:
        return text_of_cell(cell)
    return "" if cell is None else cell


def is_same_cell(read: Any, cell: Any) -> bool:
    """Times are kept to the millisecond or so."""
    if isinstance(cell, dt.datetime):
        return isinstance(read, dt.datetime) and abs(read - cell) < dt.timedelta(milliseconds=2)
    if isinstance(cell, dt.time):
        return abs(seconds(read) - seconds(cell)) < 0.002
    if isinstance(cell, dt.timedelta):
        return abs(as_duration(read) - cell) < dt.timedelta(milliseconds=2)
    return bool(read == cell) and isinstance(read, bool) == isinstance(cell, bool)


def seconds(time: Any) -> float:
    if isinstance(time, dt.timedelta):
        return time.total_seconds()
    return float(time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / 1e6)


def as_duration(read: Any) -> dt.timedelta:
    return read if isinstance(read, dt.timedelta) else dt.timedelta(seconds=seconds(read))


def test_xlsx() -> None:
    """Text stays text, numbers keep every digit, dates are dates, and the headers as they are."""
    header, *rows = read_xlsx(write(OutputFormat.XLSX, AWKWARD))
    assert header == [column.name for column in AWKWARD.columns]
    for row, expected in zip(rows, zip(*AWKWARD.values, strict=True), strict=True):
        for read, cell in zip(row, map(in_xlsx, expected), strict=True):
            assert is_same_cell(read, cell), (read, cell)


def test_xlsx_keeps_each_cell() -> None:
    """In columns of mixed kind too, and what Excel would round is a text."""
    cells = [1, "2", None, True, 2.5, dt.time(23, 59, 59, 999_999), dt.date(2020, 1, 2)]
    moments = [dt.datetime.combine(dt.date(2020, 12, 31), dt.time.max)] * 7
    columns = [Column("a", ColumnType.TEXT), Column("b", ColumnType.DATETIME)]
    read = read_xlsx(write(OutputFormat.XLSX, Table(columns, [cells, moments]), part_rows=7))
    shown = [1, "2", "", True, 2.5, "23:59:59.999999", dt.date(2020, 1, 2)]
    assert [row[0] for row in read[1:]] == shown
    assert read[1][1] == "2020-12-31T23:59:59.999999"


def test_xlsx_decimals() -> None:
    """They are numbers with their places, unless Excel would round them."""
    long = Decimal("1." + "1" * 20)
    kinds: dict[str, Any] = {"short": pa.decimal128(12, 2), "long": pa.decimal128(38, 20)}
    values: dict[str, Any] = {
        "short": [Decimal("12.50"), Decimal("-3.00"), None],
        "long": [long] * 3,
    }
    source = pa.table({name: pa.array(values[name], kind) for name, kind in kinds.items()})
    content = write(OutputFormat.XLSX, Table(columns_of(source.schema), list(source.columns)))
    sheet = openpyxl.load_workbook(io.BytesIO(content))["enhanced"]
    read = [(cell.value, cell.number_format) for cell in sheet["A"][1:]]
    assert read == [(12.5, "0.00"), (-3, "0.00"), (None, "General")]
    assert [cell.value for cell in sheet["B"][1:]] == [str(long)] * 3


def test_xlsx_reads_what_json_has_no_form_for() -> None:
    """Dates of answers are dates, and decimals that are declared as numbers are numbers."""
    texts = ["2026-01-31", "2026-01-31T12:30:00", "2026-02-31", "2026-01-31T12:30:00Z", "12.50"]
    scan = AnswerScan(["PG"])
    answers = [msgspec.Raw(b'{"PG":{"of":"%b","value":"%b"}}' % ((t.encode(),) * 2)) for t in texts]
    scan.add(answers)
    columns = scan.columns({"PG": {"of": "string", "value": "decimal"}}, ())
    table = Table(list(columns), [texts, [*texts[:4], "12.50"]])
    read = read_xlsx(write(OutputFormat.XLSX, table, part_rows=5))
    moments = [dt.date(2026, 1, 31), dt.datetime.fromisoformat(texts[1])]
    assert [row[0] for row in read[1:]] == [*moments, *texts[2:]]
    assert [row[1] for row in read[1:]] == [*moments, *texts[2:4], 12.5]


def test_xlsx_as_others_read_it() -> None:
    """The header is frozen and filtered, columns are wide enough, and texts are as they were."""
    texts = ["a & <b>", " padded ", "_x000D_", "line\nbreak\ttab\r", "\x07"]
    content = write(
        OutputFormat.XLSX, Table([Column("Header of a column", ColumnType.TEXT)], [texts])
    )
    sheet = openpyxl.load_workbook(io.BytesIO(content))["enhanced"]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:A6")
    assert sheet.column_dimensions["A"].width == len("Header of a column") + 2
    assert [unescape(str(cell.value)) for cell in sheet["A"][1:]] == texts


@examples(40)
@given(st.lists(TEXTS.filter(lambda text: "_x" not in text), min_size=1, max_size=20))
def test_xlsx_texts(texts: list[str]) -> None:
    """Whatever is in them, unless XML has nothing for it."""
    table = Table(
        [Column("a", ColumnType.TEXT), Column("b", ColumnType.TEXT)], [texts, ["x"] * len(texts)]
    )
    read = [row[0] for row in read_xlsx(write(OutputFormat.XLSX, table))[1:]]
    expected = [t.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff") for t in texts]
    assert read == expected


def test_days_from_1904(tmp_path: Path) -> None:
    """In a workbook that counts its days from 1904 on, new ones are counted likewise."""
    book = openpyxl.Workbook()
    book.epoch = CALENDAR_MAC_1904
    book.save(tmp_path / "in.xlsx")
    with zipfile.ZipFile(tmp_path / "in.xlsx") as archive:
        is_from_1904 = WorkbookParts(archive, "Sheet").is_from_1904
    cells = Cells(lambda _: "", is_from_1904=is_from_1904)
    days = [dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 6)]  # noqa: DTZ001 - a cell has no zone
    *written, too_early = cells.column("A", range(3), [*days, dt.date(1903, 12, 31)])
    values = [float(cell.partition("<v>")[2].partition("<")[0]) for cell in written]
    assert values == [to_excel(day, CALENDAR_MAC_1904) for day in days]
    assert "1903-12-31" in too_early


@pytest.mark.parametrize(
    "formats", [b"<xf/>" * (MOST_FORMATS + 1), b"", b'<xf numFmtId="0">' * 50_000]
)
def test_styles_that_no_workbook_has(formats: bytes) -> None:
    """They are refused at once, be they too many, none, or without an end."""
    content = b"<styleSheet><cellXfs>%b</cellXfs></styleSheet>" % formats
    with pytest.raises(ValueError, match="its styles cannot be made out"):
        Styles(content)


def test_xlsx_cuts_no_text_silently() -> None:
    """A text that is too long for a cell says so at its end, and the writer says how many."""
    texts = ["x" * MAX_CELL_UNITS, "x" * (MAX_CELL_UNITS + 1), "🏠" * 20_000]
    file = io.BytesIO()
    columns = [Column("a", ColumnType.TEXT)]
    with open_table_writer(file, OutputFormat.XLSX, columns, WriteOptions()) as writer:
        assert writer.notes == []
        writer.write(TableRows([texts], len(texts)))
        (note,) = writer.notes
    assert note.startswith("2 cells ")
    _, whole, *cut = (row[0] for row in read_xlsx(file.getvalue()))
    assert whole == texts[0]
    for text, original in zip(cut, texts[1:], strict=True):
        begin, _, end = text.rpartition("...")
        assert end == f" [cut: {len(original):,} characters]"
        assert original.startswith(begin)
        assert MAX_CELL_UNITS - 2 <= len(text.encode("utf-16-le")) // 2 <= MAX_CELL_UNITS


def test_xlsx_numbers_that_are_none() -> None:
    """They are texts, as XLSX has no cell for them."""
    numbers = [float("nan"), float("inf"), float("-inf")]
    rows = read_xlsx(write(OutputFormat.XLSX, Table([Column("a", ColumnType.NUMBER)], [numbers])))
    assert rows == [["a"], ["nan"], ["inf"], ["-inf"]]


def test_xlsx_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither when it is done nor when it is given up."""
    for is_broken in (False, True):
        path = tmp_path / "out.xlsx"
        with path.open("wb") as file:
            try:
                with open_table_writer(
                    file, OutputFormat.XLSX, AWKWARD.columns, WriteOptions()
                ) as writer:
                    writer.write(TableRows(AWKWARD.values, AWKWARD.rows))
                    if is_broken:
                        raise KeyError
            except KeyError:
                pass
        assert {each.name for each in tmp_path.iterdir()} <= {"out.xlsx"}


def test_xlsx_leaves_nothing_behind_on_a_full_disk(tmp_path: Path) -> None:
    """Also where what is still to be written has no room either, when it is closed."""
    columns = [Column(f"c{number}", ColumnType.TEXT) for number in range(50)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room_bytes in range(0, 6_000, 250):  # it depends on where the room ends
        with (tmp_path / "out.xlsx").open("wb") as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
            try:
                with open_table_writer(file, OutputFormat.XLSX, columns, WriteOptions()) as writer:
                    for row in range(100):
                        writer.write(TableRows([[f"text {row}"]] * len(columns), 1))
            except OSError as error:
                assert error.errno == errno.EFBIG  # noqa: PT017 - the limit has to go first
            else:
                pytest.fail("there was room")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert {each.name for each in tmp_path.iterdir()} == {"out.xlsx"}


def test_xlsx_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row too many is refused, not dropped."""
    monkeypatch.setattr("pingdata_async.tables.formats.XLSX_MAX_ROWS", 4)
    table = Table([Column("a", ColumnType.INTEGER)], [[1, 2, 3]])
    assert len(read_xlsx(write(OutputFormat.XLSX, table))) == 4
    table.values[0].append(4)
    with pytest.raises(ConfigurationError, match="4 rows are more than an XLSX sheet holds"):
        write(OutputFormat.XLSX, table)
