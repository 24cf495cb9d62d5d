"""What changed between two runs, against what their outputs say."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished
from pingdata_async.runs import diff
from pingdata_async.runs.diff import DiffSummary, write_diff
from pingdata_async.sandbox import FaultPlan
from tests.support.runs import enhancer, lines, read_addresses, sandbox_and_client, stopped_run
from tests.support.sweeps import sampled

ASK_ONCE = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.02, location_retries=0)
UNTOLD = {"fetch_time", "is_cache_hit", "worker_name", "persist_for", "raw_response"}
Row = dict[str, str]


def write(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".jsonl":
        path.write_bytes(msgspec.json.Encoder().encode_lines(rows))
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


async def run(
    source: Path, *, edition: int = 0, faults: FaultPlan | None = None, **changes: Any
) -> Path:
    """The output of a run."""
    output = source.with_name(f"{source.name}.out.jsonl")
    options = {"sources": ["PG", "PH"], "retry_policy": ASK_ONCE} | changes
    given = {"faults": faults} if faults else {}
    async with sandbox_and_client(edition=edition, no_match_share=0.1, **given) as (_, client):
        await enhancer(client, **options).run(source, output)
    return output


def run_dir(output: Path) -> Path:
    return Path(f"{output}.run")


async def diffed(old: Path, new: Path, **options: Any) -> tuple[list[dict[str, Any]], DiffSummary]:
    """The changes as lines, and the counts."""
    output = new.with_name("changes.jsonl")
    done = await write_diff(run_dir(old), run_dir(new), output, overwrite=True, **options)
    return lines(output), done


# -- The same, said plainly --------------------------------------------------------------------


def expected(old: tuple[list[Row], Path], new: tuple[list[Row], Path]) -> Iterator[dict[str, Any]]:
    """What should be found in the outputs of two runs, where ids do not repeat."""
    by_place: dict[str, dict[str, Any]] = {}
    for row, line in zip(old[0], lines(old[1]), strict=True):
        by_place.setdefault(place_of(row), {})[row["id"]] = line
    here = set()
    for row, line in zip(new[0], lines(new[1]), strict=True):
        place = place_of(row)
        here.add(place)
        rows = by_place.get(place)
        if rows is None:
            yield {"kind": "only_in_new", "new_row": line["row"]}
            continue
        before = rows.get(row["id"]) or next(iter(rows.values()))
        for code in ("PG", "PH"):
            was, now = (fields_of(each["location_data"].get(code)) for each in (before, line))
            if was is None or now is None:
                continue
            for field in was.keys() | now.keys():
                if was.get(field) != now.get(field):
                    matches = was["is_success"], now["is_success"]
                    kind = (
                        {(False, True): "matched", (True, False): "unmatched"}.get(matches)
                        or (field not in was and "appeared")
                        or (field not in now and "disappeared")
                        or "changed"
                    )
                    found: dict[str, Any] = {"kind": kind, "source": code, "field": field}
                    found |= {"old": was.get(field), "new": now.get(field)}
                    found |= {"old_row": before["row"], "new_row": line["row"]}
                    yield {name: value for name, value in found.items() if value is not None}
    for place, rows in by_place.items():
        if place not in here:
            for line in rows.values():
                yield {"kind": "only_in_old", "old_row": line["row"]}


def place_of(row: Row) -> str:
    return "|".join(" ".join(value.split()).lower() for name, value in row.items() if name != "id")


def fields_of(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    if answer is None or not (answer["is_success"] or answer["status_code"] == 404):
        return None
    flat: dict[str, Any] = {}
    left = [(name, value) for name, value in answer.items() if name not in UNTOLD]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += ((f"{name}.{inner}", each) for inner, each in value.items())
        elif value is not None:
            flat[name] = value
    return flat


@pytest.mark.parametrize("seed", sampled(range(8), 2))
async def test_any_two_runs(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order, repeats, spelling, format, chunks, sources and faults of both."""
    rng = random.Random(seed)
    monkeypatch.setattr(diff, "ROWS_A_BUCKET", rng.choice([5, 4096]))
    monkeypatch.setattr(diff, "BLOCK_BYTES", rng.choice([5_000, 16 * 1024 * 1024]))
    real = [{"id": "", **row} for row in read_addresses()[:30]]
    runs = []
    for name, edition in (("old", 0), ("new", rng.randrange(1, 9))):
        rows = [dict(row) for row in rng.choices(real, k=rng.choice([25, 60]))]
        for n, row in enumerate(rows):
            row["id"] = f"r{n}"
            if rng.random() < 0.2:
                row["city"] = row["city"].upper() + " "
        source = write(tmp_path / f"{name}.{rng.choice(['csv', 'jsonl'])}", rows)
        faults = FaultPlan(missing_source=0.05, source_trouble=0.1, missing_location=0.05)
        options: dict[str, Any] = {}
        options |= {"chunk_size": rng.choice([7, 100]), "include_raw_response": rng.random() < 0.5}
        options["sources"] = rng.choice([["PG", "PH"], ["PH", "PG"], ["PH"]])
        runs.append((rows, await run(source, edition=edition, faults=faults, **options)))
    found, summary = await diffed(runs[0][1], runs[1][1])
    names = ("kind", "source", "field", "old", "new", "old_row", "new_row")
    told = [{name: each[name] for name in names if name in each} for each in found]
    wanted = list(expected(*runs))
    assert sorted(map(_sortable, told)) == sorted(map(_sortable, wanted))
    order = [each.get("new_row", 1000 + each.get("old_row", 0)) for each in found]
    assert order == sorted(order)
    kinds = Counter(each["kind"] for each in wanted)
    assert (summary.only_in_old, summary.only_in_new) == (
        kinds["only_in_old"],
        kinds["only_in_new"],
    )
    assert summary.rows_changed == len({each["new_row"] for each in wanted if "field" in each})
    counts = Counter(
        kind
        for of_source in summary.changes.values()
        for counts in of_source.values()
        for kind in counts.elements()
    )
    assert counts == Counter({k: n for k, n in kinds.items() if not k.startswith("only")})


def _sortable(change: dict[str, Any]) -> str:
    return repr(sorted(change.items()))


async def pair(tmp_path: Path, old: list[Row], new: list[Row], **options: Any) -> list[Path]:
    """The outputs of two runs; the newer one asks another edition of the data."""
    edition = options.pop("edition", 1)
    sources = [write(tmp_path / f"{name}.csv", rows) for name, rows in (("a", old), ("b", new))]
    return [
        await run(source, edition=number, **options)
        for source, number in zip(sources, (0, edition), strict=True)
    ]


def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each edition of the sandbox's data all answers are others."""
    monkeypatch.setattr(
        "pingdata_async.sandbox.answers._in_edition",
        lambda edition, digest: bytes((each + edition) % 256 for each in digest),
    )


async def test_ids_of_both_runs_stand_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a location is there often, that of the same id, or else the first."""
    everything(monkeypatch)
    here, there = read_addresses()[:2]
    old = [here | {"id": "a"}, here | {"id": "b"}, there | {"id": "c"}]
    new = [here | {"id": each} for each in ("b", "x", "a")]
    outputs = await pair(tmp_path, old, new, sources=["PH"])
    found, _ = await diffed(*outputs, fields=["elevation"])
    assert [(each["kind"], each.get("old_id"), each.get("new_id")) for each in found] == [
        ("changed", "b", "b"),
        ("changed", "a", "x"),
        ("changed", "a", "a"),
        ("only_in_old", "c", None),
    ]
    assert found[-1]["location"]["city"] == there["city"]
    assert {type(each["new"]) for each in found[:-1]} == {float}


async def test_a_source_that_one_run_asked_is_said(tmp_path: Path) -> None:
    """It is not compared; a location is the same whichever sources its row asks."""
    rows = [row | {"sources": "PG"} for row in read_addresses()[:5]]
    source = write(tmp_path / "a.csv", rows)
    other = write(tmp_path / "b.csv", read_addresses()[:5])
    found, done = await diffed(await run(source), await run(other, sources=["PH", "PG"]))
    assert (found, done.rows_in_both) == ([], 5)
    assert done.not_compared == {"PH": {"old": 5}}


async def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    """What it has is compared, and what it has not is neither new nor gone."""
    source = write(tmp_path / "a.csv", read_addresses())
    whole = await run(source, sources=["PG"])
    part = tmp_path / "part.jsonl"
    async with sandbox_and_client(no_match_share=0.1) as (_, client):
        await stopped_run(client, part, ChunkFinished, source=source)
    for runs, name in (((whole, part), "new"), ((part, whole), "old")):
        found, done = await diffed(*runs)
        assert (found, done.rows_in_both) == ([], 100)
        assert 0 < done.unfinished[name] < 100
        assert done.not_compared == {"PG": {name: done.unfinished[name]}}


async def test_a_damaged_run_is_said_and_nothing_written(tmp_path: Path) -> None:
    """Whichever of its files it is; the other run is not touched."""
    source = write(tmp_path / "a.csv", read_addresses()[:5])
    outputs = [await run(source), await run(source.rename(tmp_path / "b.csv"))]
    output = tmp_path / "changes.csv"
    for damaged in ("plan", "journal.sqlite3", "spool/000000.json.gz"):
        path = next(iter(run_dir(outputs[0]).glob(damaged.replace("json.gz", "*"))))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        for runs in (outputs, outputs[::-1]):
            with pytest.raises(ping.RunError, match=r"damaged|cannot be"):
                await write_diff(run_dir(runs[0]), run_dir(runs[1]), output)
        path.write_bytes(content)
    assert not list(tmp_path.glob("*changes*"))
    await write_diff(run_dir(outputs[0]), run_dir(outputs[1]), output)


async def test_python_gets_the_changes_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As structs, and nothing is left behind where it does not want all."""
    everything(monkeypatch)
    rows = read_addresses()[:3]
    old, new = await pair(tmp_path, rows, rows, sources=["PH"])

    def read() -> tuple[ping.Change, list[ping.Change]]:
        changes = ping.diff_runs(run_dir(old), str(run_dir(new)), fields=["ph.elev*"])
        first = next(changes)
        changes.close()  # type: ignore[attr-defined] # an iterator that is a generator
        return first, list(ping.diff_runs(run_dir(old), run_dir(new), tolerance=1e9))

    first, far = await anyio.to_thread.run_sync(read)
    assert (first.kind, first.source, first.field) == ("changed", "PH", "elevation")
    assert first.old != first.new
    assert not any(isinstance(each.new, int | float) for each in far if each.kind == "changed")
    with pytest.raises(ping.ConfigurationError, match="tolerance"):
        next(ping.diff_runs(run_dir(old), run_dir(new), tolerance=-1.0))


async def test_a_cancelled_comparison_leaves_nothing(tmp_path: Path) -> None:
    """It stops before its end."""
    rows = read_addresses()[:3]
    old, new = await pair(tmp_path, rows, rows)
    before = sorted(tmp_path.iterdir())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await write_diff(run_dir(old), run_dir(new), tmp_path / "changes.csv")
    assert scope.cancelled_caught
    assert sorted(tmp_path.iterdir()) == before
