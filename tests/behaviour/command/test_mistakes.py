"""Mistakes that people make at first: each works, or is one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, lines, on_a_terminal, run, sandbox

__all__ = ["sandbox"]  # a fixture

TABLE = "address,city,state,zip\n600 Dexter Avenue,Montgomery,AL,36130\n"
LIST = "600 Dexter Avenue, Montgomery, AL 36130\n\n1700 W Washington St, Phoenix, AZ 85007\n"
GEOJSON = '{"type": "FeatureCollection", "features": []}\n'
TEXTS = {"in.csv": TABLE, "list.csv": LIST, "list.txt": LIST, "in.geojson": GEOJSON}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "out.jsonl.run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("enhance in.csv -o o.jsonl", "give --sources, the data sources to ask, such as -s PG,PH"),
        ("enhance in.csv -o o.jsonl -s PQ", "knows no source PQ (did you mean PG or PH or P"),
        ("enhance in.csv -o o.jsonl -s PG,XQXX", "XQXX; `pingdata-async datasources` lists all"),
        ("datasources pq", "knows no source PQ (did you mean P"),
        ("enhance-one Boston -s ph,PGG", "knows no source PGG (did you mean "),
        ("enhance in.csv -s PG", "Missing option '-o' / '--output'. (see pingdata-async enhance"),
        ("enhance -o o.jsonl -s PG", "Missing argument 'INPUT'."),
        ("enhance nowhere.csv -o o.jsonl -s PG", "cannot be read: No such file"),
        ("enhance in.geojson -o o.jsonl -s PG", "jq -c '.features[].properties'"),
        ("enhance list.csv -o o.jsonl -s PG", "If it has no header, add one"),
        ("enhance in.csv -o o.jsonl -s PG --max-job 3", "Did you mean"),
        ("enhance in.csv -o - -s PG --summary -", "--summary - is not possible here"),
        ("enhance in.csv -o o.jsonl -s PG --log-file -", "--log-file - is not possible here"),
        ("enhence in.csv", "Did you mean one of: 'enhance'"),
        ("status out.jsonl", "out.jsonl is not a run directory; did you mean out.jsonl.run?"),
        ("status nowhere.run", "nowhere.run does not exist"),
        ("status in.csv", "in.csv is not a run directory"),
        ("runs nowhere", "Directory 'nowhere' does not exist"),
    ],
)
async def test_a_mistake_is_one_line_that_says_what_to_do(
    words: str, says: str, sandbox: SandboxServer
) -> None:
    """Exit 2, and no location is charged."""
    name, *rest = words.split()
    api = [] if name in {"status", "runs", "enhence"} else ["-u", sandbox.url]
    done = await run(name, *rest, *api)
    assert done.code == 2, done.err
    assert says in done.err.splitlines()[-1]
    assert "env var" not in done.err
    assert "http:" not in done.err
    assert not sandbox.stats.locations_accepted


async def test_no_token_names_the_way_to_try_without_one(folder: Path) -> None:
    """Exit 4."""
    done = await run("enhance", folder / "in.csv", "-o", "o.jsonl", "-s", "PG", token=None)
    assert done.code == 4
    assert "(--environment sandbox)" in done.err


async def test_codes_in_lower_case_are_those_of_the_api(
    folder: Path, sandbox: SandboxServer
) -> None:
    """The answers are where they are looked for; the summary is on standard output alone."""
    done = await run(
        "enhance", "in.csv", "-o", "o.jsonl", "-s", "pg,Ph", "-u", sandbox.url, "--summary", "-"
    )
    assert done.code == 0, done.err
    assert msgspec.json.decode(done.out)["charged_by_source"] == {"PG": 1, "PH": 1}
    assert not (folder / "-").exists()
    [row] = lines((folder / "o.jsonl").read_bytes())
    assert set(row["location_data"]) == {"PG", "PH"}


@pytest.mark.parametrize("source", ["list.txt", "-"])
async def test_a_list_of_addresses_needs_no_header(
    source: str, folder: Path, sandbox: SandboxServer
) -> None:
    """One address a line, which the command says."""
    words = ("-o", "o.jsonl", "-s", "PG", "-u", sandbox.url)
    done = await run("enhance", source, *words, stdin=LIST.encode())
    assert done.code == 0, done.err
    assert "no header: each line is read as an address" in done.err
    assert len(lines((folder / "o.jsonl").read_bytes())) == 2
    assert sandbox.stats.locations_accepted == 2


@pytest.mark.usefixtures("folder")
async def test_one_of_anything_is_not_many(sandbox: SandboxServer) -> None:
    """Of a run of one row nothing is said in the plural."""
    done = await run("enhance", "in.csv", "-o", "o.jsonl", "-s", "PG", "-u", sandbox.url)
    for each in ("1 row:", "1 job,", "1 location charged"):
        assert each in done.err
    assert "retry o.jsonl.run" not in done.err


async def test_a_retry_that_finds_no_row_names_the_option_for_partial_ones(
    folder: Path, sandbox: SandboxServer
) -> None:
    """Rows with an answer, even "no match", are not retried unless asked for."""
    words = ("-s", "PG,PH", "-u", sandbox.url)
    assert (await run("enhance", ADDRESSES, "-o", folder / "p.csv", *words)).code == 0
    done = await run("retry", folder / "p.csv.run", "-u", sandbox.url)
    assert "--all retries those too" in done.err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("no_colour", ["", "1"])
async def test_errors_are_red_on_a_terminal(
    no_colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", no_colour)
    said = await on_a_terminal("status", "out.jsonl", stream="stderr", code=2)
    assert said.startswith("Error:" if no_colour else "\x1b[31m\x1b[1mError:\x1b[0m")
