"""The command `diff`: what changed between two runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.commands import ADDRESSES, in_shell, lines, run
from tests.support.runs import in_few_chunks, sandbox_and_client


@pytest.fixture
async def runs(tmp_path: Path) -> tuple[Path, Path]:
    """The outputs of two runs in two editions of the data; the newer one has one row less."""
    outputs = tmp_path / "old.csv", tmp_path / "new.jsonl"
    less = tmp_path / "less.csv"
    less.write_text("".join(ADDRESSES.read_text().splitlines(keepends=True)[:-1]))
    for edition, (source, output) in enumerate(zip((ADDRESSES, less), outputs, strict=True)):
        async with sandbox_and_client(edition=edition) as (_, client):
            await in_few_chunks(client, sources=["PH"]).run(source, output)
    return outputs


async def test_what_changed_is_written_and_counted(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """In the same number of lines in each format; the runs are found by their outputs."""
    old, new = runs
    done = await run("diff", old, f"{new}.run", "-o", tmp_path / "all.jsonl", "--json", token=None)
    assert (done.code, done.err) == (0, "")
    told = msgspec.json.decode(done.out)
    assert (told["rows_in_both"], told["only_in_old"], told["only_in_new"]) == (99, 1, 0)
    assert 0 < told["rows_changed"] < 40
    changes = lines((tmp_path / "all.jsonl").read_bytes())
    assert len(changes) == 1 + sum(
        sum(counts.values()) for counts in told["changes"]["PH"].values()
    )
    assert changes[-1]["kind"] == "only_in_old"
    assert {each["location"]["country"] for each in changes if "country" in each["location"]} <= {
        "US"
    }
    for name in ("c.csv.gz", "c.xlsx", "c.geojsonl", "c.geoparquet"):
        words = ["-o", tmp_path / name, "--fields", "elevation, flood.*"]
        assert (await run("diff", old, new, *words, is_warm=name != "c.geoparquet")).code == 0
    features = lines((tmp_path / "c.geojsonl").read_bytes())
    assert all(len(each["geometry"]["coordinates"]) == 2 for each in features)
    fields = {each["properties"]["field"] for each in features}
    assert "elevation" in fields
    assert any(field and field.startswith("flood.") for field in fields)


async def test_a_pipe_gets_the_changes_and_a_person_the_counts(runs: tuple[Path, Path]) -> None:
    """On standard output and standard error; what can be of no use is said."""
    words = ["--fields", "elevation,elvation", "--output-format", "csv"]
    done = await run("diff", *runs, "-o", "-", *words)
    assert done.code == 0
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [row["kind"] for row in rows][-1] == "only_in_old"
    assert f"  PH elevation: {len(rows) - 1} changed\n" in done.err
    assert 'note: no answer has a field "elvation"\n' in done.err
    assert "99 rows in both runs" in done.err
    far = await run("diff", *runs, "-o", "-", *words, "--tolerance", 1e9)
    assert len(far.out.splitlines()) == 2
    shut = await in_shell(
        'pingdata-async diff "$OLD" "$NEW" -o - | head -1', OLD=runs[0], NEW=runs[1]
    )
    assert len(shut.out.splitlines()) == 1
    assert "Traceback" not in shut.err


async def test_what_cannot_be(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """One line, the exit code, and no output; a run that is only planned is compared so far."""
    old, new = runs
    planned = tmp_path / "planned.jsonl"
    words = ["-o", planned, "-s", "PH", "-u", "http://127.0.0.1:9"]
    assert (await run("plan", ADDRESSES, *words, token=None)).code == 0
    output = tmp_path / "x.csv"
    done = await run("diff", old, planned, "-o", output)
    assert done.code == 5
    assert "the newer run is not finished: 100 rows without an outcome\n" in done.err
    assert len(output.read_text().splitlines()) == 1
    plan = Path(f"{planned}.run") / "plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    there = sorted(tmp_path.iterdir())
    refused: list[tuple[list[Any], int, str]] = [
        ([old, new, "-o", output], 2, "exists already"),
        ([old, new, "-o", Path(f"{new}.run") / "x.csv"], 2, "is in the run directory"),
        ([old, new, "-o", tmp_path / "x.doc"], 2, "does not tell the format"),
        ([old, new, "-o", "-", "--json"], 2, "both be on standard output"),
        ([old, new, "-o", "-", "--tolerance", "-1"], 2, "--tolerance"),
        ([old, tmp_path / "nowhere", "-o", "-"], 2, "does not exist"),
        ([old, planned, "-o", tmp_path / "y.csv"], 5, "is damaged"),
    ]
    for words, code, said in refused:
        done = await run("diff", *words)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1
        assert sorted(tmp_path.iterdir()) == there
