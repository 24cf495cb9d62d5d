"""Answers of earlier runs serve a new one: nothing is paid for twice, and no row gets another's."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import (
    client_of,
    enhancer,
    lines,
    sandbox_and_client,
    stopped_run,
    write_rows,
)

ROWS = 120


def write_changed(path: Path, rows: list[dict[str, str]], every: int) -> None:
    """The rows in reverse order, one in so many of them with another address."""
    changed = [
        row | ({"address_line_1": f"{n} Changed Street"} if n % every == 0 else {})
        for n, row in enumerate(rows)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(reversed(changed))


def plain(path: Path) -> list[dict[str, Any]]:
    """The rows of an output without their marks, and without when they were fetched."""
    rows = lines(path)
    for row in rows:
        row.pop("reused", None)
        for answer in row["location_data"].values():
            answer.pop("fetch_time", None)
    return rows


@pytest.mark.large
async def test_ten_thousand_rows_and_a_thousand_changes(tmp_path: Path) -> None:
    """By the API's own count, the old source has the changed rows, and the new one all of them."""
    rows = write_rows(tmp_path / "old.csv", 10_000)
    write_changed(tmp_path / "new.csv", rows, every=10)
    async with sandbox_and_client() as (server, client):
        asking = enhancer(client, chunk_size=1000)
        await asking.run(tmp_path / "old.csv", tmp_path / "old.jsonl")
        before = server._api._account.usage({}, server._api._now())["totals"]
        both = enhancer(client, sources=["PG", "PH"], chunk_size=1000)
        await both.run(
            tmp_path / "new.csv", tmp_path / "new.jsonl", reuse=tmp_path / "old.jsonl.run"
        )
        after = server._api._account.usage({}, server._api._now())["totals"]
        await both.run(tmp_path / "new.csv", tmp_path / "full.jsonl", pay_again=True)
    assert (after["PG"] - before["PG"], after["PH"]) == (1_000, 10_000)
    assert plain(tmp_path / "new.jsonl") == plain(tmp_path / "full.jsonl")


async def test_only_what_is_missing_is_paid_for(tmp_path: Path) -> None:
    """A changed file with one more source: what is new of each source is sent, nothing else.

    The earlier run may be gone by then; a run can be reused that has reused others.
    """
    rows = write_rows(tmp_path / "old.csv", ROWS)
    write_changed(tmp_path / "new.csv", rows, every=10)
    old, new, again = (tmp_path / f"{name}.jsonl" for name in ("old", "new", "again"))
    events: list[ping.Event] = []
    async with sandbox_and_client() as (_, client):
        asking = enhancer(client, on_event=events.append)
        await asking.run(tmp_path / "old.csv", old)
        both = enhancer(client, sources=["PG", "PH"], on_event=events.append)
        first = f"{old}.run"
        planned = await both.dry_run(tmp_path / "new.csv", new, reuse=first)
        summary = await both.run(tmp_path / "new.csv", new, reuse=first)
        full = await both.run(tmp_path / "new.csv", tmp_path / "full.jsonl", pay_again=True)
        shutil.rmtree(first)
        free = await both.run(tmp_path / "new.csv", again, reuse=[f"{new}.run"], pay_again=True)
    assert summary.charged_by_source == planned.charged_by_source == {"PG": 12, "PH": ROWS}
    assert full.charged_by_source == {"PG": ROWS, "PH": ROWS}
    assert (free.jobs, free.locations_reused) == (0, ROWS)
    assert summary.reused_by_source == {"PG": ROWS - 12}
    assert plain(new) == plain(again) == plain(tmp_path / "full.jsonl")
    marks = [row.get("reused", {}).keys() for row in lines(new)]
    assert sum(mark == {"PG"} for mark in marks) == ROWS - 12
    first_ids = {row["reused"]["PG"] for row in lines(new) if "reused" in row}
    assert first_ids <= {row["reused"]["PG"] for row in lines(again)}  # where they are really from
    assert [event.locations for event in events if isinstance(event, ping.AnswersReused)] == [
        0,
        ROWS,
    ]


async def test_what_cannot_be_reused_is_asked(tmp_path: Path) -> None:
    """Answers that are too old, with raw responses, or cannot be read: a word, and all is sent."""
    write_rows(tmp_path / "in.csv", 20)
    notes: list[str] = []

    def listen(event: ping.Event) -> None:
        if isinstance(event, ping.RunNotice):
            notes.append(event.message)

    async with sandbox_and_client() as (_, client):
        asking = enhancer(client, on_event=listen)
        await asking.run(tmp_path / "in.csv", tmp_path / "old.jsonl")
        run_dir = tmp_path / "old.jsonl.run"

        async def charged(name: str, asking: ping.BulkEnhancer = asking, **options: Any) -> int:
            output = tmp_path / name / "out.jsonl"
            output.parent.mkdir()
            summary = await asking.run(tmp_path / "in.csv", output, reuse=run_dir, **options)
            return summary.locations_charged

        assert await charged("fresh", max_age=dt.timedelta(days=1)) == 0
        (run_dir / "answers").write_bytes(b"damaged")
        assert await charged("index") == 0
        assert await charged("old", max_age=dt.timedelta(microseconds=1)) == 20
        raw = enhancer(client, include_raw_response=True, on_event=listen)
        assert await charged("raw", raw) == 20
        for segment in (run_dir / "spool").iterdir():
            segment.write_bytes(b"damaged")
        assert await charged("spool") == 20
        (run_dir / "journal.sqlite3").write_bytes(b"damaged")
        assert await charged("journal") == 20
    assert sum("not reused" in note for note in notes) == 2
    assert sum("only in part" in note for note in notes) == 1


async def test_answers_to_another_question_are_not_reused(tmp_path: Path) -> None:
    """Another API, another organisation, or all to be fetched afresh: all is sent, with a word."""
    write_rows(tmp_path / "in.csv", 20)
    notes: list[str] = []

    def listen(event: ping.Event) -> None:
        if isinstance(event, ping.RunNotice):
            notes.append(event.message)

    async with sandbox_and_client() as (_, client), SandboxServer() as elsewhere:
        await enhancer(client).run(tmp_path / "in.csv", tmp_path / "old.jsonl")
        run_dir = tmp_path / "old.jsonl.run"
        async with client_of(elsewhere) as other:
            for name, asking in {
                "api": enhancer(other, on_event=listen),
                "organisation": enhancer(client, delegate_to="acme", on_event=listen),
                "afresh": enhancer(client, check_cache=False, on_event=listen),
            }.items():
                output = tmp_path / name / "out.jsonl"
                output.parent.mkdir()
                summary = await asking.run(tmp_path / "in.csv", output, reuse=run_dir)
                assert (summary.locations_charged, summary.locations_reused) == (20, 0)
    for said in ("it asked http", "for another organisation", "fetched afresh"):
        assert any(said in note for note in notes)


async def test_a_stopped_run_gives_what_it_has(tmp_path: Path) -> None:
    """Its answers are reused in a table too, which says from where; the rest is asked."""
    write_rows(tmp_path / "in.csv", 100)
    old, new = tmp_path / "old.jsonl", tmp_path / "new.csv"
    async with sandbox_and_client() as (_, client):
        await stopped_run(client, old, ping.ChunkFinished, 3, source=tmp_path / "in.csv")
        summary = await enhancer(client).run(
            tmp_path / "in.csv", new, reuse=f"{old}.run", pay_again=True
        )
    assert summary.locations_reused >= 20
    assert summary.locations_charged == 100 - summary.locations_reused
    with new.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["enhance_reused_from"]) for row in rows) == summary.locations_reused
    assert all(bool(row["enhance_reused_from"]) == bool(row["reused_at"]) for row in rows)


async def test_answers_whose_age_is_lost_are_not_reused(tmp_path: Path) -> None:
    """Without its list of reused answers, a run that reused some would make them look younger."""
    write_rows(tmp_path / "in.csv", 20)
    async with sandbox_and_client() as (_, client):
        asking = enhancer(client)
        run_dir: Path | None = None
        for name in ("first", "second", "third"):
            if name == "third":
                (tmp_path / "second.jsonl.run" / "reused").unlink()
            summary = await asking.run(
                tmp_path / "in.csv",
                tmp_path / f"{name}.jsonl",
                reuse=[run_dir] if run_dir else [],
                pay_again=True,
            )
            assert summary.locations_reused == (20 if name == "second" else 0)
            run_dir = tmp_path / f"{name}.jsonl.run"
