"""What can be known of an output is checked before anything is paid for; the rest stops a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pingdata_async as ping
from pingdata_async.cli.main import exit_code_for
from pingdata_async.events import Event, RunNotice, RunStopped
from pingdata_async.exceptions import ConfigurationError, RunError, ServerError, UnknownSourceError
from pingdata_async.runs.run import Run
from pingdata_async.sandbox import SandboxServer
from pingdata_async.tables import formats as outputs
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.schema.output_table import undeclared_columns
from tests.support.runs import ADDRESSES, enhancer, lines, requests
from tests.unit.runs.export.test_two_pass_runs import rows_of


@pytest.fixture
def secretive(client: ping.PingDataClient, monkeypatch: pytest.MonkeyPatch) -> ping.PingDataClient:
    """A client of an API that does not tell of its sources."""

    async def datasources(**_options: object) -> None:
        raise ServerError("503", status_code=503)

    monkeypatch.setattr(client, "datasources", datasources)
    return client


def test_what_the_api_tells_of() -> None:
    """The input's columns, how rows ended, fields, what is within them, and patterns of them."""
    declared = {"PG": {"latitude": "number", "box": "object"}, "PH": {"zone": "string"}}
    fine = ["Loc #", "address", "enhance_status", "pg_latitude", "pg_box_n", "ph_*", "*"]
    fine += ["pg_latitude_2", "pg_box_*"]
    slips = ["loc #", "pg_lattitude", "gg_latitude", "ph_zones", "x*"]
    assert undeclared_columns(["Loc #"], declared, fine + slips) == slips


async def test_a_package_that_cannot_be_loaded_is_no_surprise_at_the_end(
    sandbox: SandboxServer,
    client: ping.PingDataClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is there, but broken: that shows before anything is sent."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('a part of it is missing')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="a part of it is missing"):
        await enhancer(client).run(ADDRESSES, tmp_path / "out.parquet")
    assert sandbox.stats.requests["submit"] == 0


async def test_columns_that_no_source_has_are_refused_before_it_costs(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """All of them unknown: nothing would be written. One among others is said to be."""
    output = tmp_path / "out.csv"
    wrong = WriteOptions(columns=("pg_lattitude", "pg_nope*"))
    with pytest.raises(ConfigurationError, match=r"declares no field .*pg_lattitude.*--columns"):
        await enhancer(client).run(ADDRESSES, output, writing=wrong)
    assert sandbox.stats.requests["submit"] == 0
    events: list[Event] = []
    bulk = enhancer(client, chunk_size=100, on_event=events.append)
    some = WriteOptions(columns=("id", "pg_lattitude"))
    await bulk.run(ADDRESSES, output, writing=some)
    assert list((await rows_of(output))[0]) == ["id"]
    said = [event.message for event in events if isinstance(event, RunNotice)]
    assert any(message.startswith("The API declares no field") for message in said)


async def test_columns_that_turn_out_not_to_be_there_stop_a_run(
    secretive: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It was paid for, so it is no mere slip: exit 5, and what is needed to go on, which works."""
    output, events = tmp_path / "out.csv", list[Event]()
    bulk = enhancer(secretive, chunk_size=100, on_event=events.append)
    wrong = WriteOptions(columns=("pg_lattitude",))
    with pytest.raises(RunError, match='no column "pg_lattitude"') as caught:
        await bulk.run(ADDRESSES, output, writing=wrong)
    assert exit_code_for(caught.value) == 5
    (stopped,) = [event for event in events if isinstance(event, RunStopped)]
    assert (stopped.needs, stopped.rows_done) == ("--columns '*'", 100)
    sent = requests(sandbox)
    await bulk.resume(f"{output}.run", writing=WriteOptions(columns=("*",)))
    assert len(await rows_of(output)) == 100
    assert requests(sandbox) == sent


async def test_more_columns_than_a_sheet_holds_stop_a_run(
    client: ping.PingDataClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the answers tell how many there are; another format is the way on, wherever it is."""
    monkeypatch.setattr(outputs, "XLSX_MAX_COLUMNS", 20)
    output, events = tmp_path / "out.xlsx", list[Event]()
    bulk = enhancer(client, chunk_size=100, on_event=events.append)
    with pytest.raises(RunError, match="more than an XLSX sheet holds"):
        await bulk.run(ADDRESSES, output, run_dir=tmp_path / "elsewhere")
    (stopped,) = [event for event in events if isinstance(event, RunStopped)]
    assert stopped.needs == f"--output={tmp_path}/out.parquet"


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("an option"),
        ping.InputError("a location"),
        UnknownSourceError("400", status_code=400, api_message="Unknown source: PG"),
    ],
)
async def test_nothing_that_was_paid_for_ends_as_if_nothing_was_sent(
    client: ping.PingDataClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: ping.PingDataError,
) -> None:
    """Whatever comes after the first submission: exit 5, and the run can be gone on with."""
    output, events = tmp_path / "out.jsonl", list[Event]()

    async def finish(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_summarize", finish)
        with pytest.raises(RunError) as caught:
            await enhancer(client, chunk_size=100, on_event=events.append).run(ADDRESSES, output)
    assert (caught.value.__cause__, exit_code_for(caught.value)) == (error, 5)
    assert [event for event in events if isinstance(event, RunStopped)]
    await enhancer(client, chunk_size=100).resume(f"{output}.run")
    assert len(lines(output)) == 100


async def test_a_budget_that_is_refused_is_not_kept(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Else it would be refused again, whoever goes on with the run."""
    output = tmp_path / "out.jsonl"
    await enhancer(client).plan(ADDRESSES, output)
    bulk = enhancer(client, chunk_size=100)
    for call in (bulk.resume, bulk.retry):
        with pytest.raises(ConfigurationError, match="the budget names ZZ"):
            await call(f"{output}.run", budget={"ZZ": 5})
    assert (await bulk.resume(f"{output}.run")).rows == 100
