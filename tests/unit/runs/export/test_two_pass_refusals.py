"""What cannot be read or written is refused before anything is sent, and nothing is left behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.exceptions import ConfigurationError, InputError, RunError
from pingdata_async.sandbox import SandboxServer
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.rows import ReadOptions
from tests.support.runs import in_few_chunks, requests
from tests.support.table_forms import INPUTS
from tests.unit.runs.export.test_two_pass import awkward_table

TABLE = awkward_table(duplicate_index=False, columns=12)


class Refused(NamedTuple):
    """Something that cannot be done.

    Attributes:
        form: Of the input.
        output: The name of the output.
        says: A part of what is said.
        reading: How the input is to be read.
        writing: How the output is to be written.
    """

    form: str
    output: str
    says: str
    reading: ReadOptions = ReadOptions()
    writing: WriteOptions = WriteOptions()


async def source_in(folder: Path, form: str = "csv") -> Any:
    return await anyio.to_thread.run_sync(INPUTS[form].make, folder, TABLE)


async def assert_refused(
    sandbox: SandboxServer,
    client: ping.PingDataClient,
    folder: Path,
    source: Any,
    refused: Refused,
) -> None:
    """With one line, without a request and without a trace."""
    before = sorted(folder.iterdir())
    with pytest.raises((ConfigurationError, InputError, RunError)) as caught:
        await in_few_chunks(client).run(
            source, folder / refused.output, reading=refused.reading, writing=refused.writing
        )
    assert refused.says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigurationError | InputError)  # exit code 2
    assert requests(sandbox) == 0
    assert sorted(folder.iterdir()) == before


async def assert_works(client: ping.PingDataClient, folder: Path, source: Any) -> None:
    """The corrected command."""
    summary = await in_few_chunks(client).run(source, folder / "out.parquet")
    assert summary.rows == len(TABLE.rows)


REFUSED = [
    Refused("csv", "out.foo", "use one of the endings .jsonl,"),
    Refused("csv", "out", "its name does not tell the format"),
    Refused("csv", "out.xlsx.gz", "leave out the .gz"),
    Refused("csv", "gone/out.csv", "does not exist"),
    Refused("csv", "in.csv", "is the input itself"),
    Refused("csv", "x" * 250 + ".csv", "File name too long"),
    Refused("csv", "out.csv", "no such field", ReadOptions(mapping={"town": "City"})),
    Refused("csv", "out.csv", 'no column "Town"', ReadOptions(mapping={"city": "Town"})),
    Refused("csv", "out.csv", 'no column "Id"', ReadOptions(mapping={"id": "Id"})),
    Refused("csv", "out.csv", "not utf-16", ReadOptions(encoding="utf-16")),
    Refused("csv", "out.csv", "not an encoding that Python knows", ReadOptions(encoding="utf-9")),
    Refused("csv", "out.csv", "which is not a workbook", ReadOptions(sheet="1")),
    Refused("xlsx", "out.csv", "has no sheet 'SOV'", ReadOptions(sheet="SOV")),
    Refused("xlsx", "out.csv", "which is a workbook", ReadOptions(encoding="cp1252")),
    Refused("parquet", "out.csv", "which is a Parquet file", ReadOptions(sheet="1")),
    Refused("polars", "out.csv", "which is not a file", ReadOptions(encoding="cp1252")),
    Refused("csv", "out.csv", 'no output format "xml"', writing=WriteOptions(format="xml")),
    *(
        Refused("csv", output, 'no column "Zipp"', writing=WriteOptions(columns=("Zipp",)))
        for output in ("out.csv", "out.xlsx", "out.jsonl")
    ),
]


@pytest.mark.parametrize("form", dict.fromkeys(refused.form for refused in REFUSED))
async def test_refused(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, form: str
) -> None:
    """Names, options and places that are no good."""
    source = await source_in(tmp_path, form)
    for refused in REFUSED:
        if refused.form == form:
            await assert_refused(sandbox, client, tmp_path, source, refused)
    await assert_works(client, tmp_path, source)


@pytest.mark.parametrize(
    ("package", "form", "output", "extra"),
    [
        ("pyarrow", "csv", "out.parquet", "parquet"),
        ("pyarrow", "csv", "out.geoparquet", "parquet"),
        ("pyarrow", "parquet", "out.csv", "parquet"),
        ("python_calamine", "xlsx", "out.csv", "excel"),
    ],
)
async def test_without_a_package(
    sandbox: SandboxServer,
    client: ping.PingDataClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    form: str,
    output: str,
    extra: str,
) -> None:
    """It is said exactly what to install; after that it works."""
    source = await source_in(tmp_path, form)
    monkeypatch.setitem(sys.modules, package, None)
    refused = Refused(form, output, f'pip install "pingdata-async[{extra}]"')
    await assert_refused(sandbox, client, tmp_path, source, refused)
    monkeypatch.undo()
    await assert_works(client, tmp_path, source)


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("XLSX_MAX_ROWS", 7, "7 rows are more than an XLSX sheet holds"),
        ("XLSX_MAX_COLUMNS", 14, "15 columns are more than an XLSX sheet holds"),
    ],
)
async def test_more_than_a_sheet_holds(
    sandbox: SandboxServer,
    client: ping.PingDataClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    says: str,
) -> None:
    """Rows are counted before anything is sent, and so are the columns that there are anyhow."""
    source = await source_in(tmp_path)
    monkeypatch.setattr(f"pingdata_async.tables.formats.{limit}", value)
    await assert_refused(sandbox, client, tmp_path, source, Refused("csv", "out.xlsx", says))
    await assert_works(client, tmp_path, source)


async def test_fewer_columns_fit(
    client: ping.PingDataClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more columns than a sheet holds, some can be chosen."""
    monkeypatch.setattr("pingdata_async.tables.formats.XLSX_MAX_COLUMNS", 14)
    chosen = WriteOptions(columns=("Loc #", "enhance_*", "pg_l*itude"))
    source = await source_in(tmp_path)
    summary = await in_few_chunks(client).run(source, tmp_path / "out.xlsx", writing=chosen)
    assert summary.rows == 7


async def test_two_columns_for_one_field(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Both are named, with the option that settles it; and it does."""
    source = tmp_path / "in.csv"
    source.write_text("Loc,Address,Street Address,City\n1,1 Main St,2 Oak Ave,Salem\n")
    with pytest.raises(InputError) as caught:
        await in_few_chunks(client).run(source, tmp_path / "out.csv")
    option = '--map address_line_1="Street Address"'
    assert option in str(caught.value)
    assert requests(sandbox) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    reading = ReadOptions(mapping={"address_line_1": "Street Address"})
    summary = await in_few_chunks(client).run(source, tmp_path / "out.csv", reading=reading)
    assert summary.rows == 1
