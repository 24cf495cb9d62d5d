"""Runs whose output is a table: stopped, resumed, retried and written anew."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event, InputPlanned, OutputProgress, RunNotice
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.export.output import output_spec
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.sandbox import SandboxServer
from pingdata_async.tables.formats import WriteOptions
from tests.support.answers import MemoryJournal, answered, spool_in
from tests.support.exports import export
from tests.support.runs import (
    ADDRESSES,
    Stopper,
    in_few_chunks,
    lines,
    read_addresses,
    requests,
    stopped_run,
    unexpected,
    write_rows,
)
from tests.support.sweeps import sampled
from tests.support.table_forms import OUTPUTS
from tests.unit.runs.test_resume_retry import ASK_ONCE, set_faults

CSV_COLUMNS = list(read_addresses()[0])


async def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of an output, by the last ending of its name."""
    content = await anyio.Path(path).read_bytes()
    read = OUTPUTS[path.name.partition(".")[2]].read(content)
    return [dict(zip(read.headers, row, strict=True)) for row in read.rows]


def own_cells(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of the rows is the user's, with nothing as an empty text."""
    return [{name: row[name] or "" for name in CSV_COLUMNS} for row in rows]


def assert_beside_their_answers(rows: list[dict[str, Any]]) -> None:
    """The answer in each row is that to its own address."""
    answers = [row for row in rows if row["enhance_status"] == "ok"]
    assert len(answers) > len(rows) / 2
    for row in answers:
        assert row["pg_address_line_1"] == row["address_line_1"]


async def test_an_unfinished_run_in_every_form(client: ping.PingDataClient, tmp_path: Path) -> None:
    """The rows that have their outcome, each with its own cells and answer; then all of them."""
    output = tmp_path / "out.parquet"
    await stopped_run(client, output, ChunkFinished, 7, chunk_size=10)
    by_id = {row["id"]: row for row in read_addresses()}
    written: dict[str, list[dict[str, Any]]] = {}
    for ending in OUTPUTS:
        part = tmp_path / f"part.{ending}"
        exported = await export_run(tmp_path / "out.parquet.run", part)
        assert exported.rows_left_out == 100 - exported.rows > 0
        written[ending] = rows = await rows_of(part)
        assert len(rows) == exported.rows
        assert own_cells(rows) == [by_id[row["id"]] for row in rows]
        assert_beside_their_answers(rows)
    assert not output.exists()
    summary = await in_few_chunks(client).resume(tmp_path / "out.parquet.run")
    rows = await rows_of(output)
    assert summary.rows == 100
    assert own_cells(rows) == read_addresses()
    assert_beside_their_answers(rows)


async def test_retried_rows_are_written_anew(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """In the same Parquet file, beside those that were there."""
    output = tmp_path / "out.parquet"
    set_faults(sandbox, missing_location=0.3)
    first = await in_few_chunks(client, retry_policy=ASK_ONCE).run(ADDRESSES, output)
    before = await rows_of(output)
    assert first.failed
    set_faults(sandbox)
    second = await in_few_chunks(client).retry(tmp_path / "out.parquet.run", all_not_ok=True)
    after = await rows_of(output)
    assert second.failed < first.failed
    assert own_cells(before) == own_cells(after) == read_addresses()
    assert_beside_their_answers(after)


async def test_other_columns_cost_nothing(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """The same run with other --columns writes its output anew, and then it is finished again."""
    output = tmp_path / "out.parquet"
    await in_few_chunks(client).run(ADDRESSES, output)
    asked = requests(sandbox)
    chosen = WriteOptions(columns=("pg_l*itude", "id"))
    for _ in range(2):
        await in_few_chunks(client).run(ADDRESSES, output, writing=chosen)
        assert list((await rows_of(output))[0]) == ["pg_latitude", "pg_longitude", "id"]
        before = output.stat().st_mtime_ns
    await in_few_chunks(client).run(ADDRESSES, output, writing=chosen)
    assert output.stat().st_mtime_ns == before
    with pytest.raises(ConfigurationError, match='no column "lattitude" to be written'):
        await in_few_chunks(client).run(
            ADDRESSES, output, writing=WriteOptions(columns=("lattitude",))
        )
    await in_few_chunks(client).run(ADDRESSES, output)
    assert own_cells(await rows_of(output)) == read_addresses()
    of_people = set((await rows_of(output))[0])
    await in_few_chunks(client).run(ADDRESSES, output, writing=WriteOptions(columns=("*",)))
    of_machines = {"pg_worker_name", "pg_persist_for", "pg_raw_response", "pg_fetch_time"}
    assert set((await rows_of(output))[0]) - of_people == of_machines
    assert requests(sandbox) == asked


async def test_the_column_of_plain_addresses(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Rows that are nothing but a text have a column that can be asked for."""
    output = tmp_path / "out.csv"
    chosen = WriteOptions(columns=("address", "enhance_status"))
    await in_few_chunks(client).run(["1 Main St, Boston"], output, writing=chosen)
    assert output.read_text() == 'address,enhance_status\n"1 Main St, Boston",ok\n'


async def test_json_beside_its_answers_is_what_it_was(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Neither an object nor a number becomes a text, although other rows have texts there."""
    rows: list[Any] = [
        {"address": "1 Main St", "a": 1, "b": {"c": [1.10, None]}},
        "2 Oak Ave",
        {"a": "x", "": 7},
        {"a": 12345678901234567890, "address": "3 Elm St", "b": None},
    ]
    output = tmp_path / "out.jsonl"
    chosen = WriteOptions(columns=("b", "a", "addr*", "*"))
    await in_few_chunks(client).run(rows, output, writing=chosen)
    given = [json.loads(line)["input"] for line in output.read_text().splitlines()]
    as_objects = [row if isinstance(row, dict) else {"address": row} for row in rows]
    own = {"b": "b", "a": "a", "address": "address", "column_4": ""}
    assert given == [{name: row.get(own[name]) for name in own} for row in as_objects]


async def test_columns_are_chosen_for_one_form(client: ping.PingDataClient, tmp_path: Path) -> None:
    """Those of the run's own table are not asked for of lines, nor of another form of table."""
    output = tmp_path / "out.csv"
    chosen = WriteOptions(columns=("id", "pg_l*itude"))
    await in_few_chunks(client).run(ADDRESSES, output, writing=chosen)
    other = await ping.export_run(f"{output}.run", tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_text().startswith("id,pg_latitude,pg_longitude\n")
    as_lines = await ping.export_run(f"{output}.run", tmp_path / "out.jsonl")
    assert "input" not in lines(tmp_path / "out.jsonl")[0]
    assert other.notes == as_lines.notes == ()


async def test_who_goes_on_writes_as_was_last_asked_for(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """A run that was taken up with other columns, and stopped again, keeps those."""
    output = tmp_path / "out.csv"
    await stopped_run(client, output, ChunkFinished, 3)
    stopper = Stopper(ChunkFinished, 3)
    with stopper.scope:
        chosen = WriteOptions(columns=("id", "enhance_status"))
        await in_few_chunks(client, on_event=stopper).run(ADDRESSES, output, writing=chosen)
    await in_few_chunks(client).resume(Path(f"{output}.run"))
    assert output.read_text().startswith("id,enhance_status\n")


async def test_a_run_whose_copy_of_the_input_is_gone(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Lines of JSON can be written, and a table is refused before it costs."""
    output = tmp_path / "out.parquet"
    await in_few_chunks(client).plan(ADDRESSES, output)
    run_dir = tmp_path / "out.parquet.run"
    (run_dir / "input").unlink()
    with pytest.raises(RunError, match=r"copy of the input .* cannot be read: No such file"):
        await in_few_chunks(client).resume(run_dir)
    with pytest.raises(RunError, match=r"copy of the input .* cannot be read: No such file"):
        await export_run(run_dir, tmp_path / "out.csv")
    assert not sandbox.stats.jobs_accepted
    await in_few_chunks(client).resume(run_dir, output=tmp_path / "out.jsonl")
    assert [line["row"] for line in lines(tmp_path / "out.jsonl")] == list(range(100))


async def test_begun_anew_and_discarded(client: ping.PingDataClient, tmp_path: Path) -> None:
    """`restart` sets the finished run aside, and `discard_run` leaves the table alone behind."""
    output = tmp_path / "out.parquet"
    await in_few_chunks(client).run(ADDRESSES, output)
    shorter = tmp_path / "shorter.csv"
    await anyio.to_thread.run_sync(write_rows, shorter, 20)
    await in_few_chunks(client).run(shorter, output, restart=True, overwrite=True, discard_run=True)
    assert len(await rows_of(output)) == 20
    assert not (tmp_path / "out.parquet.run").exists()
    assert len(list(tmp_path.glob("out.parquet.run*"))) == 1


@pytest.mark.parametrize("ending", sampled(OUTPUTS, 3))
async def test_a_cancelled_table(client: ping.PingDataClient, tmp_path: Path, ending: str) -> None:
    """Leaves no part behind, and does not touch what was there."""
    output = tmp_path / f"out.{ending}"
    output.write_text("precious")
    stopper = Stopper(OutputProgress, 2)
    with stopper.scope:
        await in_few_chunks(client, on_event=stopper).run(ADDRESSES, output, overwrite=True)
    assert stopper.scope.cancelled_caught
    assert output.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {output.name, f"{output.name}.run"}


# -- What the columns hold -------------------------------------------------------------------


async def test_kinds_come_from_all_rows(tmp_path: Path) -> None:
    """Null at first and text later, an integer that becomes a float, and one that outgrows both."""
    source = tmp_path / "in.csv"
    source.write_text("address\n" + "".join(f"{row} Main St\n" for row in range(900)))
    builder = ChunkBuilder(chunk_size=40, sources=("PG",))
    plan = await write_plan(tmp_path / "plan", source, builder)
    spool = spool_in(tmp_path)
    journal = MemoryJournal(spool)

    def fields(row: int) -> dict[str, Any]:
        return {
            "zone": None if row < 700 else "AE",
            "stories": row if row < 800 else row + 0.5,
            "count": row if row < 850 else 10**20,
        }

    with plan:
        for index in range(plan.chunks):
            chunk = await anyio.to_thread.run_sync(plan.read, index)
            body = {str(row): answered(**fields(row)) for row in chunk.rows}
            await anyio.to_thread.run_sync(journal.put, chunk, "spooled", body)
        for ending in ("parquet", "csv"):
            output = tmp_path / f"out.{ending}"
            form = output_spec(output, WriteOptions(), ("PG",), {"PG": {"zone": "bool"}})
            await export(
                plan, spool, journal, output, form, on_rows=lambda _: None, on_note=unexpected
            )
    table = await anyio.to_thread.run_sync(pq.read_table, tmp_path / "out.parquet")
    types = [pa.string(), pa.float64(), pa.string()]
    assert [table.schema.field(f"pg_{name}").type for name in fields(0)] == types
    expected = [fields(row) | {"count": str(fields(row)["count"])} for row in range(900)]
    read = table.select(["pg_zone", "pg_stories", "pg_count"]).to_pylist()
    assert read == [{f"pg_{name}": value for name, value in row.items()} for row in expected]
    with (tmp_path / "out.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["pg_zone"], last["pg_stories"], last["pg_count"]) == ("AE", "899.5", f"{10**20}")


def statement_of_values() -> bytes:
    """A broker's workbook: titles, headers in two rows of merged cells, a blank row, a total."""
    file = io.BytesIO()
    workbook = xlsxwriter.Workbook(file)
    sheet = workbook.add_worksheet("SOV")
    sheet.merge_range("A1:H1", "Acme Holdings, LLC")
    sheet.merge_range("A2:H2", "Statement of Values as of 01/01/2026")
    for cells, title in (("A4:A5", "Loc #"), ("B4:E4", "Location"), ("F4:G4", "Limits")):
        sheet.merge_range(cells, title)
    sheet.write_row("B5", ["Street Address", "City", "ST", "Zip", "Building", "BPP"])
    sheet.merge_range("H4:H5", "TIV")
    sheet.write_row("A6", [1, "12 Beacon St", "Boston", "MA", 2108, 1_200_000, 50_000.5])
    sheet.write_row("A8", [2, "1 Main St", "Salem", "MA", "01970", 300_000, "incl."])
    sheet.write_formula("H6", "=F6+G6", None, 1_250_000.5)
    sheet.write_formula("H8", "=F8", None, 300_000)
    sheet.write("A9", "Total")
    sheet.write_formula("H9", "=SUM(H6:H8)", None, 1_550_000.5)
    workbook.close()
    return file.getvalue()


STATEMENT = [
    [1, "12 Beacon St", "Boston", "MA", "2108", 1_200_000, "50000.5", 1_250_000.5],
    [2, "1 Main St", "Salem", "MA", "01970", 300_000, "incl.", 300_000],
]


async def test_a_statement_of_values(client: ping.PingDataClient, tmp_path: Path) -> None:
    """To Parquet and back to a workbook: two rows, their cells as they were, answers beside."""
    (tmp_path / "sov.xlsx").write_bytes(statement_of_values())
    events: list[Event] = []
    await in_few_chunks(client, on_event=events.append).run(
        tmp_path / "sov.xlsx", tmp_path / "out.parquet"
    )
    planned = next(event for event in events if isinstance(event, InputPlanned))
    assert [line.partition(" <- ")[0] for line in planned.mapping] == [
        "id", "address_line_1", "city", "state", "postal_code",
        "limits__building_limit", "limits__bpp_limit",
    ]  # fmt: skip
    assert planned.unused_columns == ("TIV",)
    assert any("1 empty row and 1 total row left out" in note for note in planned.notes)
    assert [(note.column, note.kind, note.examples) for note in planned.value_notes] == [
        ("BPP", "unreadable", ("incl.",)), ("Zip", "zeros_given_back", ("2108",)),
    ]  # fmt: skip
    rows = await rows_of(tmp_path / "out.parquet")
    assert [list(row.values())[:8] for row in rows] == STATEMENT
    assert [row["pg_postal_code"] for row in rows] == ["02108", "01970"]
    await in_few_chunks(client).run(tmp_path / "out.parquet", tmp_path / "back.xlsx")
    back = await rows_of(tmp_path / "back.xlsx")
    assert [list(row.values())[:8] for row in back] == STATEMENT
    assert [row["pg_latitude_2"] for row in back] == [row["pg_latitude"] for row in rows]


async def test_a_map_without_a_place(client: ping.PingDataClient, tmp_path: Path) -> None:
    """A source that was not asked has no coordinates; that is said, and no row is missing."""
    events: list[Event] = []
    output = tmp_path / "out.geojsonl"
    await in_few_chunks(client, on_event=events.append).run(
        ADDRESSES, output, writing=WriteOptions(geocode_sources=("GG",))
    )
    assert len(await rows_of(output)) == 100
    notes = [event.message for event in events if isinstance(event, RunNotice)]
    assert "No row has coordinates by --geocode-source GG: none of them is on a map." in notes
