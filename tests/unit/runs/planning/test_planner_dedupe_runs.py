"""What is the same is sent, and paid for, once a run; and every row has its answer."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished, Event, InputPlanned, JobSubmitted
from pingdata_async.runs.export.export import export_run
from pingdata_async.sandbox import FaultPlan
from tests.support.runs import (
    Stopper,
    enhancer,
    lines,
    read_addresses,
    requests,
    sandbox_and_client,
    stopped_run,
)
from tests.support.sweeps import sampled
from tests.unit.runs.test_resume_retry import ASK_ONCE, Sent, assert_consistent, set_faults

Row = dict[str, str]


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def repeating(rows: int, distinct: int, *, respelt: bool = False) -> list[Row]:
    """Rows of which each has its own id and a cell of its own; every location comes in turn.

    Args:
        rows: How many.
        distinct: Of so many locations.
        respelt: Whether they are spelt otherwise after the first time.
    """
    real = read_addresses()
    made = []
    for n in range(rows):
        kind = n * 7 % distinct
        row = real[kind % len(real)] | {"address_line_2": f"Unit {kind // len(real) + 1}"}
        if respelt and n >= distinct:
            row["address_line_1"] = row["address_line_1"].upper().replace(" ", "  ")
            row["city"] = row["city"].lower()
        made.append(row | {"id": f"r{n}", "note": f"of {n}"})
    return made


def first_of(rows: list[Row]) -> list[int]:
    """For each row, the first one that is the same, where nothing is respelt."""
    first: dict[tuple[str, ...], int] = {}
    own = {"id", "note"}
    keys = [tuple(value for name, value in row.items() if name not in own) for row in rows]
    return [first.setdefault(key, n) for n, key in enumerate(keys)]


def check_twins(written: list[dict[str, Any]], firsts: list[int]) -> None:
    """Each row of an output says the same as the first one like it."""
    by_row = {line["row"]: line for line in written}
    own = {"id", "row", "input"}
    for row, line in by_row.items():
        assert line["id"] == f"r{row}"
        same = by_row[firsts[row]]
        assert {k: line[k] for k in line if k not in own} == {
            k: same[k] for k in same if k not in own
        }


@pytest.mark.parametrize("each", [1000, pytest.param(3000, marks=pytest.mark.large)])
async def test_rows_that_come_three_times(tmp_path: Path, each: int) -> None:
    """Foretold without a request, charged once by the server's count, and all rows come out."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = repeating(3 * each, each, respelt=True)
    write(source, rows)
    events: list[Event] = []
    async with sandbox_and_client() as (server, client):
        bulk = enhancer(client, chunk_size=500, on_event=events.append)
        status = await bulk.plan(source, output)
        assert (status.rows, status.locations, status.repeated) == (3 * each, each, 2 * each)
        assert requests(server) == 0
        summary = await bulk.run(source, output)
        assert server.stats.locations_accepted == each
        assert server.stats.jobs_accepted == each // 500
    charged = (summary.rows, summary.locations_charged, summary.locations_saved)
    assert charged == (3 * each, each, 2 * each)
    assert summary.ok + summary.partial + summary.failed == 3 * each
    [planned] = [event for event in events if isinstance(event, InputPlanned)]
    assert (planned.rows, planned.locations) == (3 * each, each)
    assert (planned.repeated, planned.jobs) == (2 * each, each // 500)
    written = lines(output)
    assert [line["row"] for line in written] == list(range(3 * each))
    check_twins(written, [n % each for n in range(3 * each)])
    assert sum(e.rows for e in events if isinstance(e, ChunkFinished)) == 3 * each
    await assert_consistent(output, summary)
    # The first spelling is what was sent, and each row keeps its own columns.
    table = tmp_path / "out.csv"
    await export_run(f"{output}.run", table)
    with table.open(encoding="utf-8", newline="") as file:
        for row, line in zip(rows, csv.DictReader(file), strict=True):
            assert {name: line[name] for name in row} == row


@pytest.mark.parametrize(
    "name",
    sampled(["out.jsonl", "out.csv", "out.parquet", "out.jsonl.gz", "out.geojsonl", "out.xlsx"], 2),
)
@pytest.mark.parametrize("columns", sampled([((),), (("note",),)], 1))
async def test_every_form_is_as_if_all_had_been_sent(
    tmp_path: Path, name: str, columns: tuple[str, ...]
) -> None:
    """Byte for byte, what comes of a run that pays for every row."""
    source = tmp_path / "in.csv"
    write(source, repeating(150, 40))
    made = []
    async with sandbox_and_client() as (server, client):
        for dedupe, folder in ((True, tmp_path / "once"), (False, tmp_path / "each")):
            folder.mkdir()
            accepted = server.stats.locations_accepted
            summary = await enhancer(client, sources=["PG", "PH"], chunk_size=30).run(
                source,
                folder / name,
                dedupe=dedupe,
                writing=ping.WriteOptions(columns=columns) if columns else None,
            )
            sent = server.stats.locations_accepted - accepted
            assert sent == summary.locations_charged == (40 if dedupe else 150)
            assert summary.locations_saved == (110 if dedupe else 0)
            content = (folder / name).read_bytes()
            made.append(gzip.decompress(content) if name.endswith(".gz") else content)
    if name.endswith(("parquet", "xlsx")):  # these say when they were made
        assert abs(len(made[0]) - len(made[1])) < 100
    else:
        assert made[0] == made[1]


@pytest.mark.parametrize("kind", [InputPlanned, JobSubmitted, ChunkFinished])
async def test_stopped_in_the_middle(tmp_path: Path, kind: type[Event]) -> None:
    """What has ended can be written at any time; gone on with, nothing is paid for twice."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = repeating(300, 100)
    write(source, rows)
    firsts = first_of(rows)
    async with sandbox_and_client() as (server, client):
        await stopped_run(client, output, kind, 3 if kind is not InputPlanned else 1, source=source)
        part = tmp_path / "part.jsonl"
        done = await export_run(f"{output}.run", part)
        written = lines(part)
        assert done.rows + done.rows_left_out == 300
        assert len(written) == done.rows
        check_twins(written, firsts)
        there = {line["row"] for line in written}
        assert all((row in there) == (firsts[row] in there) for row in range(300))
        # Whatever is said about it now: it goes on as it was planned.
        summary = await enhancer(client).run(source, output, dedupe=False)
        assert server.stats.locations_accepted_more_than_once == 0
        assert server.stats.locations_accepted == 100
    assert summary.locations_saved == 200
    await assert_consistent(output, summary)
    check_twins(lines(output), firsts)


FAULTS = {
    "missing": FaultPlan(missing_location=0.3),
    "partial": FaultPlan(source_trouble=0.2, missing_source=0.1),
    "rejected": FaultPlan(poison="Refused"),
    "failed": FaultPlan(poison_job="Refused"),
}


@pytest.mark.parametrize("faults", sampled(FAULTS, 2))
async def test_rows_end_as_the_first_one_and_are_asked_again_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str
) -> None:
    """Whatever becomes of it; and every account says the same, before and after a retry."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = repeating(1000, 400)
    for n, row in enumerate(rows):
        row["address_line_1"] += " Refused" * (n * 7 % 400 % 50 == 0)
    write(source, rows)
    firsts = first_of(rows)
    distinct = len(set(firsts))
    async with sandbox_and_client(faults=FAULTS[faults]) as (server, client):
        bulk = enhancer(client, sources=["PG", "PH"], retry_policy=ASK_ONCE, chunk_size=50)
        first = await bulk.run(source, output)
        await assert_consistent(output, first)
        before = lines(output)
        check_twins(before, firsts)
        not_ok = {line["row"] for line in before if line["status"] != "ok"}
        assert 20 < len(not_ok) < 900
        for line in lines(Path(f"{output}.failures.jsonl")) if first.no_answer else []:
            texts = ("id", "address_line_1", "address_line_2", "city", "state", "postal_code")
            assert [line.get(name, "") for name in texts] == [
                rows[line["row"]][name] for name in texts
            ]
        set_faults(server)
        sent = Sent(client, monkeypatch)
        second = await bulk.retry(f"{output}.run", all_not_ok=True)
        await assert_consistent(output, second)
    assert {int(each["id"]) for each in sent.locations} == {firsts[row] for row in not_ok}
    assert len(sent.locations) == len({firsts[row] for row in not_ok})
    assert second.no_answer == 0
    assert second.locations_saved == 1000 - distinct
    check_twins(lines(output), firsts)


async def test_rows_that_are_left_over_are_asked_again_once(tmp_path: Path) -> None:
    """Within the run, with default patience: in the end all have the answer of the first."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = repeating(600, 200)
    write(source, rows)
    faults = FaultPlan(missing_location=0.2, source_trouble=0.1, failed_job=0.1)
    events: list[Event] = []
    async with sandbox_and_client(faults=faults) as (_server, client):
        policy = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.02, location_retries=20)
        bulk = enhancer(client, retry_policy=policy, chunk_size=20, on_event=events.append)
        summary = await bulk.run(source, output)
    assert summary.no_answer == 0
    await assert_consistent(output, summary)
    check_twins(lines(output), first_of(rows))
    assert sum(e.rows for e in events if isinstance(e, ChunkFinished)) == 600


async def test_invalid_rows_between(tmp_path: Path) -> None:
    """They are nobody's twins: each comes out for itself, in its place."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    rows = repeating(90, 30)
    for n in range(0, 90, 4):
        rows[n] = dict.fromkeys(rows[n], "") | {"id": f"r{n}"}
    write(source, rows)
    async with sandbox_and_client() as (server, client):
        summary = await enhancer(client).run(source, output)
        await assert_consistent(output, summary)
        sent = {first for n, first in enumerate(first_of(rows)) if n % 4}
        assert server.stats.locations_accepted == len(sent)
    assert summary.reasons["invalid_input"] == 23
    assert summary.locations_saved == 90 - 23 - len(sent)


async def test_sources_and_settings_of_its_own_make_a_location_another(tmp_path: Path) -> None:
    """And where these are the same as well, it is the same."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    address = {"address": "1 Main St, Salem, MA 01970"}
    kinds: list[dict[str, Any]] = [
        {},
        {"sources": ["PH"]},
        {"sources": ["PG", "PH"]},
        {"datasource_config": {"PG": {"x": 1}}},
        {"datasource_config": {"PG": {"x": 2}}},
        {"state": "MA"},
        {"state": "ma"},
        {"lightbox_parcel_id": "a"},
        {"lightbox_parcel_id": "A"},
    ]
    rows = [address | kind | {"id": f"r{n}"} for n, kind in enumerate(kinds * 3)]
    source.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    async with sandbox_and_client() as (server, client):
        summary = await enhancer(client, chunk_size=4).run(source, output)
        assert server.stats.locations_accepted == len(kinds)
    written = lines(output)
    assert summary.locations_saved == 2 * len(kinds)
    check_twins(written, [n % len(kinds) for n in range(len(rows))])
    assert written[10]["location_data"].keys() == {"PH"}
    assert written[20]["location_data"].keys() == {"PG", "PH"}


async def test_one_location_over_and_over(tmp_path: Path) -> None:
    """One job; chunks that hold nothing to be sent are finished without one."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    write(source, repeating(500, 1))
    async with sandbox_and_client() as (server, client):
        summary = await enhancer(client).run(source, output)
        assert server.stats.locations_accepted == server.stats.jobs_accepted == 1
    await assert_consistent(output, summary)
    check_twins(lines(output), [0] * 500)


async def test_answers_come_early_although_rows_recur(tmp_path: Path) -> None:
    """While the run goes on, the output is written with the twins in it."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    write(source, repeating(300, 250))
    async with sandbox_and_client() as (_server, client):
        stopper = Stopper(ChunkFinished, 20)
        bulk = enhancer(client, on_event=stopper, max_jobs=1)
        with stopper.scope:
            await bulk.run(source, output)
        assert (await bulk.run(source, output)).rows == 300
    check_twins(lines(output), first_of(repeating(300, 250)))
