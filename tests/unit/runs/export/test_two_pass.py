"""Every form of input to every form of output: no cell is lost, changed or moved."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pingdata_async as ping
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.export.export import export_run
from pingdata_async.runs.export.output import output_spec
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.schema.types import unique_names
from tests.support.answers import MemoryJournal, answered, spool_in
from tests.support.exports import export
from tests.support.runs import enhancer, lines, unexpected
from tests.support.sweeps import examples, sampled
from tests.support.table_forms import INPUTS, OUTPUTS, Table, assert_same_cells

STATUS = ["enhance_status", "enhance_reason", "enhance_error"]
LOOKED_UP = ["Loc #", "Street Address", "City", "ZIP"]

AWKWARD_CELLS: dict[str, tuple[Any, list[Any]]] = {
    "Note": (
        pa.string(),
        ["ünï, \"x\"; '日本' 🏠", "a\nb\r\nc\rd\te", " padded ", "", None, "=1+1", "null"],
    ),
    "Policy No": (pa.string(), ["00501", "1e5", "TRUE", "2020-01-02", "-5", None, "9" * 40]),
    "Account": (pa.int64(), [2**63 - 1, -(2**63), 2**53 + 1, None, 10**15, -(10**17), 10**18]),
    "Stories": (pa.int64(), [1, 2, None, 0, -3, 10**15 - 1, 7]),
    "TIV": (pa.float64(), [0.1 + 0.2, 5e-324, -0.5, None, 1.5e300, 1e-7, 2.5]),
    "Sprinklered": (pa.bool_(), [True, False, None, True, False, True, None]),
    "Since": (pa.date32(), [dt.date(2020, 2, 29), dt.date(1999, 12, 31), None, *[dt.date.max] * 4]),
    "Nothing": (pa.string(), [None] * 7),
}

USUAL_FIRST = sorted(INPUTS, key=lambda form: form not in {"csv", "xlsx", "parquet"})


def awkward_table(*, duplicate_index: bool, rows: int = 7, columns: int = 300) -> Table:
    """Cells of every kind, in columns up to that many."""
    headers = [*LOOKED_UP, *AWKWARD_CELLS]
    types = [*[pa.string()] * len(LOOKED_UP), *(kind for kind, _ in AWKWARD_CELLS.values())]
    cells = [
        [f"{row:05d}", f'{row} Main St "{row}", rear', "Ålesund" if row % 2 else "Boston", "02134"]
        + [column[row] for _, column in AWKWARD_CELLS.values()]
        for row in range(rows)
    ]
    for place in range(len(headers), columns):
        headers.append(f"Remark {place % 200 if duplicate_index else place}" if place % 50 else "")
        if not duplicate_index:
            headers[-1] = headers[-1] or f"Other {place}"
        types.append(pa.string())
        for row in cells:
            row.append(f"{row[0]}/{place}")
    return Table(headers, types, cells)


async def written(run_dir: Path, output: Path, own: Path) -> bytes:
    """An output of a run; its own, or one that is exported."""
    if output != own:
        await export_run(run_dir, output)
    return await anyio.Path(output).read_bytes()


@pytest.mark.parametrize("form", sampled(USUAL_FIRST, 2))
async def test_every_form(client: ping.PingDataClient, tmp_path: Path, form: str) -> None:
    """300 columns with cells of every kind come back, in order, before the answers."""
    as_given = INPUTS[form]
    table = awkward_table(duplicate_index=as_given.duplicate_index)
    source = await anyio.to_thread.run_sync(as_given.make, tmp_path, table)
    own = tmp_path / "out.parquet"
    runs = enhancer(client, chunk_size=3)
    summary = await runs.run(source, own, reading=as_given.reading)
    assert (summary.rows, summary.no_answer) == (7, 0)
    for ending, wanted in OUTPUTS.items():
        output = tmp_path / f"out.{ending}"
        read = wanted.read(await written(tmp_path / "out.parquet.run", output, own))
        assert_same_cells(read, table, as_given, wanted)
        headers = table.headers if wanted.duplicate_index else unique_names(table.headers)
        assert read.headers[: len(headers) + 3] == [*headers, *STATUS]
        assert "pg_latitude" in read.headers
    await export_run(tmp_path / "out.parquet.run", tmp_path / "out.jsonl")
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == [row[0] for row in table.rows]


@pytest.mark.parametrize(
    "form", sampled([form for form in USUAL_FIRST if INPUTS[form].has_header], 3)
)
async def test_a_header_only(client: ping.PingDataClient, tmp_path: Path, form: str) -> None:
    """Is a table without rows, and comes out as one."""
    as_given = INPUTS[form]
    table = awkward_table(duplicate_index=as_given.duplicate_index, rows=0, columns=12)
    source = await anyio.to_thread.run_sync(as_given.make, tmp_path, table)
    own = tmp_path / "out.parquet"
    summary = await enhancer(client).run(source, own, reading=as_given.reading)
    assert summary.rows == 0
    for ending, wanted in OUTPUTS.items():
        read = wanted.read(
            await written(tmp_path / "out.parquet.run", tmp_path / f"out.{ending}", own)
        )
        assert read.rows == []
        if ending not in {"geojson", "geojsonl"}:
            headers = table.headers if wanted.duplicate_index else unique_names(table.headers)
            assert read.headers[: len(headers) + 3] == [*headers, *STATUS]
    if form in {"parquet", "polars", "pyarrow"}:
        schema = await anyio.to_thread.run_sync(pq.read_schema, own)
        kinds = [str(kind).removesuffix("_view") for kind in schema.types]
        assert kinds[: len(table.types)] == list(map(str, table.types))


# -- Tables that nobody thought of -----------------------------------------------------------

CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
TEXTS = st.text(CHARACTERS | st.sampled_from("\n\r\t\",;|'"), max_size=8).filter(
    lambda text: "_x" not in text  # how workbooks write what XML has nothing for
)
COLUMNS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.string(), TEXTS),
    (pa.int64(), st.integers(1 - 10**15, 10**15 - 1)),
    (pa.int64(), st.integers(10**15, 2**63 - 1)),  # which workbooks hold as texts
    (pa.float64(), st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x % 1)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(min_value=dt.date(1901, 1, 1))),
]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Some rows and columns of any kind, with nulls among them, beside what is looked up."""
    rows = draw(st.integers(1, 7))
    kinds = draw(st.lists(st.sampled_from(COLUMNS), max_size=4))
    columns = [draw(st.lists(st.none() | kind, min_size=rows, max_size=rows)) for _, kind in kinds]
    looked_up = [[f"{row:05d}", f"{row} Main St", "Boston", "02134"] for row in range(rows)]
    cells = [[*given, *(column[row] for column in columns)] for row, given in enumerate(looked_up)]
    headers = [*LOOKED_UP, *(f"Remark {place}" for place in range(len(kinds)))]
    types = [*[pa.string()] * len(LOOKED_UP), *(kind for kind, _ in kinds)]
    return Table(headers, types, cells)


@examples(25)
@given(table=tables(), form=st.sampled_from(sorted(INPUTS)), chunk_size=st.integers(1, 4))
def test_any_table(
    tmp_path_factory: pytest.TempPathFactory, table: Table, form: str, chunk_size: int
) -> None:
    """Comes out with all of its cells, and each row beside its own answer."""
    anyio.run(_there_and_back, tmp_path_factory.mktemp("run"), table, form, chunk_size)


async def _there_and_back(folder: Path, table: Table, form: str, chunk_size: int) -> None:
    as_given = INPUTS[form]
    source = await anyio.to_thread.run_sync(as_given.make, folder, table)
    builder = ChunkBuilder(chunk_size=chunk_size, sources=("PG",))
    plan = await write_plan(folder / "plan", source, builder, as_given.reading)
    spool = spool_in(folder)
    journal = MemoryJournal(spool)
    with plan:
        for index in range(plan.chunks):
            chunk = await anyio.to_thread.run_sync(plan.read, index)
            body = {str(row): answered(echo=row) for row in chunk.rows}
            await anyio.to_thread.run_sync(journal.put, chunk, "spooled", body)
        for ending, wanted in OUTPUTS.items():
            output = folder / f"out.{ending}"
            await export(
                plan, spool, journal, output,
                output_spec(output, WriteOptions(), ("PG",), {}),
                on_rows=lambda _: None, on_note=_no_surprise,
            )  # fmt: skip
            read = wanted.read(output.read_bytes())
            assert_same_cells(read, table, as_given, wanted)
            echoes = [row[read.headers.index("pg_echo")] for row in read.rows]
            assert [int(echo) for echo in echoes] == list(range(len(table.rows)))


def _no_surprise(note: str) -> None:
    if not note.startswith(("No row has coordinates", "The answers are in columns")):
        unexpected(note)
