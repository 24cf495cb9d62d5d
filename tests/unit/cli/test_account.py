"""The commands about the account, as a user runs them."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pingdata_async.api.account import decode_datasource, decode_usage
from pingdata_async.cli.account import _read, _split, _usage_described
from pingdata_async.cli.account import _source_described as _described
from pingdata_async.cli.console import Table
from pingdata_async.exceptions import InputError
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, in_shell, lines, on_a_terminal, run
from tests.support.servers import LocalApi, always, by_path, drop


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(
        locations_per_s=math.inf,
        queue_delay_s=0.0,
        token="right",
        limits={"PH": {"daily": 500, "monthly": 10_000}},
        allowed_sources=["PG", "PH"],
        no_match_share=0.0,
    ) as server:
        yield server


def cells(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


async def test_the_vendors_ini_file_is_all_that_is_needed(
    sandbox: SandboxServer, tmp_path: Path, home: Path
) -> None:
    """With nothing but that file in the home folder, usage and enhance work."""
    (home / ".pingintel.ini").write_text(
        "[pingdata]\nPING_DATA_AUTH_TOKEN_PRD = right\n", encoding="utf-8"
    )
    output = tmp_path / "out.jsonl"
    done = await run(
        "enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url, "-q", token=None
    )
    assert (done.code, done.err) == (0, "")
    done = await run("usage", "-u", sandbox.url, token=None)
    assert (done.code, done.err) == (0, "")
    assert cells(done.out)[-1] == ["total", "100", "100"]


async def test_no_token_is_exit_4(sandbox: SandboxServer) -> None:
    """In one line, with every place that was looked in."""
    done = await run("usage", "-u", sandbox.url, token=None)
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "~/.pingintel.ini" in done.err


async def test_limits_and_usage_in_a_pipe(sandbox: SandboxServer) -> None:
    """Sentences, and tables with a tab between two cells."""
    assert (await run("enhance-one", "1 Main St", "-s", "PG,PH", "-u", sandbox.url)).code == 0
    done = await run("limits", "-u", sandbox.url)
    assert (done.code, done.err) == (0, "")
    whose, allowed, head, daily, monthly = cells(done.out)
    assert whose == ["Limits of the user sandbox"]
    assert allowed == ["Allowed sources: PG, PH"]
    assert head == ["source", "window", "limit", "used", "left", "resets (UTC)"]
    assert daily[:5] == ["PH", "daily", "500", "1", "499"]
    assert monthly[:5] == ["PH", "monthly", "10000", "1", "9999"]
    assert daily[5].endswith(" 00:00")
    done = await run("usage", "--start", "-1h", "--username", "ann", "-u", sandbox.url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Credits used from 20")
    assert cells(done.out)[1] == ["from", "PG", "PH", "total"]
    assert cells(done.out)[-1] == ["total", "1", "1", "2"]


async def test_everything_as_json(sandbox: SandboxServer) -> None:
    """What the API said, whole, also where the answer comes in the vendor's other form."""
    found = {}
    for words in (["limits"], ["usage"], ["datasources"], ["datasources", "ph"]):
        done = await run(*words, "--json", "-u", sandbox.url)
        assert (done.code, done.err) == (0, "")
        found[" ".join(words)] = msgspec.json.decode(done.out)
    assert found["limits"]["sources"]["PH"]["remaining"] == {"daily": 500, "monthly": 10_000}
    assert found["limits"]["allowlist"]["source"] == "user"
    assert found["usage"]["totals"] == {"total": 0}
    assert found["datasources ph"]["config"] == found["datasources"]["configs"]["PH"]
    assert found["datasources ph"]["config"]["output_fields"]["elevation"]["description"]
    rows = [
        {"bucket_time": "t", "source": "PG", "count": 2},
        {"bucket_time": "t", "source": "PH", "count": 1},
    ]
    async with LocalApi(always({"buckets": rows, "more": 1})) as api:
        done = await run("usage", "--json", "-u", api.url)
    assert msgspec.json.decode(done.out) == {
        "buckets": [{"bucket": "t", "counts": {"PG": 2, "PH": 1, "total": 3}}],
        "more": 1,
        "totals": {"PG": 2, "PH": 1, "total": 3},
    }


async def test_sources_in_a_pipe(sandbox: SandboxServer) -> None:
    """A row a source; and of one source, what it takes and answers."""
    done = await run("datasources", "-u", sandbox.url)
    assert (done.code, done.err) == (0, "")
    assert ["PH", "Ping Hazard", "latitude, longitude", "US"] in cells(done.out)
    done = await run("datasources", "ph", "-u", sandbox.url)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == ["Ping Hazard (PH)", "required: latitude, longitude"]
    assert ["elevation", "float", "elevation"] in cells(done.out)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["datasources", "nope"], 2, "knows no source NOPE (did you mean NOOP?)"),
        (["usage", "--start", "yesterday"], 2, "start must be an offset"),
        (["usage", "--username", "a", "--org-short-name", "b"], 2, "not both"),
        (["enhance-one", "-s", "PG"], 2, "nothing to look up"),
        (["enhance-one", "x", "-s", ","], 2, "give --sources"),
        (["enhance", "-", "-o", "-", "-s", ","], 2, "give --sources"),
        (["enhance-one", "x", "-s", "ZZ"], 2, "knows no source ZZ"),
        (["enhance-one", "x", "--source-timeout", "inf", "-s", "PG"], 2, "is not a duration"),
        (["enhance-one", "x", "-s", "GG"], 5, "do not have access to the source GG"),
    ],
)
async def test_what_goes_wrong_is_one_line(
    sandbox: SandboxServer, words: list[str], code: int, says: str
) -> None:
    """With the exit code that `--help` names."""
    done = await run(*words, "-u", sandbox.url)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (200, {"location_data": {"PG": {"is_success": False, "error_message": "nothing"}}}, 0),
        (200, {"location_data": {}}, 3),
        (200, {"location_data": {"PG": {"is_success": False, "status_code": 504}}}, 3),
        (400, {"message": "the address is odd"}, 3),
        (401, {"message": "Invalid token."}, 4),
        (500, {"message": "oops"}, 5),
    ],
)
async def test_exit_codes_of_enhance_one(status: int, answer: dict[str, Any], code: int) -> None:
    """0 where it is answered, 3 where it is not, asked once in any case."""
    async with LocalApi(always(answer, status=status)) as api:
        done = await run("enhance-one", "1 Main St", "-s", "PG", "-u", api.url)
    assert done.code == code
    assert len(api.seen) == 1
    assert done.err.count("\n") == (status != 200)
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["city"], "--field 'city' is not NAME=VALUE"),
        (["sources=PG"], "give --sources"),
        (["id=mine"], "--field id: no such field"),
        (["const_code_rms=C"], "no such field; there is const__code_rms"),
        (["zzz=1"], "there is address, address_line_1"),
        (["city=Boston", "city=Austin"], "city is given twice"),
        (["latitude=100"], "latitude '100' cannot be read"),
        (["latitude=38.9", "city=Boston"], "latitude 38.9 is no place; give both coordinates"),
        (["latitude=0", "longitude=0", "city=Boston"], "latitude 0 and longitude 0 is no place"),
        (["const__num_stories=2.5"], "const__num_stories '2.5' cannot be read"),
        (["datasource_config=["], "datasource_config is not JSON"),
    ],
)
def test_fields_that_cannot_be_taken(given: list[str], says: str) -> None:
    """Somebody is there who can be told: nothing is left out in silence, as it is of a file."""
    with pytest.raises(InputError, match=re.escape(says)):
        _read(map(_split, given))


async def test_a_spent_quota_says_until_when() -> None:
    """By the API's own day, in the same line."""
    async with SandboxServer(limits={"PG": {"daily": 0}}) as server:
        done = await run("enhance-one", "1 Main St", "-s", "PG", "-u", server.url)
    assert done.code == 5
    assert re.search(r"daily limit of PG .*; it can go on at 20.* 00:00 UTC$", done.err)
    assert done.err.count("\n") == 1


async def test_an_answer_that_is_lost_may_have_been_charged() -> None:
    """Which is said, but not where the request surely never arrived."""
    async with LocalApi(drop) as api:
        url = api.url
        lost = await run("enhance-one", "1 Main St", "-s", "PG", "-u", url)
    refused = await run("enhance-one", "1 Main St", "-s", "PG", "-u", url)
    assert (lost.code, refused.code) == (5, 5)
    assert lost.err.endswith("; it may have been charged\n")
    assert "charged" not in refused.err


async def test_every_way_to_name_a_location() -> None:
    """An argument, options, fields, settings of sources; and how it is to be asked about."""
    async with LocalApi(always({"location_data": {"PG": {"is_success": True}}})) as api:
        done = await run(
            "enhance-one", "1 Main St", "--city", "Boston", "-c", "US",
            "--longitude", "71\u00b003' W", "--latitude", "42.36", "-x", "const__num_stories=3",
            "--datasource-config", '{"PH": {"x": 1}}',
            "-s", "PG", "-s", "PH", "-D", "acme", "--no-cache", "-r", "--source-timeout", "5",
            "--json", "-u", api.url,
        )  # fmt: skip
    assert msgspec.json.decode(done.out)["status"] == "partial"
    (seen,) = api.seen
    assert seen.target.partition("?")[2].split("&") == [
        "address=1+Main+St", "city=Boston", "country=US", "latitude=42.36", "longitude=-71.05",
        "const__num_stories=3", "datasource_config=%7B%22PH%22:%7B%22x%22:1%7D%7D",
        "sources=PG", "sources=PH", "include_raw_response=true", "timeout=5.0",
        "check_cache=false", "delegate_to=acme",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["enhance", "plan"])
async def test_how_to_ask_is_kept_for_a_resumed_run(tmp_path: Path, command: str) -> None:
    """What goes along with each location goes along again; with something else it is no such run.

    Locations have sources and settings of their own.
    """
    (tmp_path / "in.csv").write_text(
        "address,sources,datasource_config\n"
        '1 Main St,"PG,LB","{""LB"": {""depth"": 2}}"\n2 Main St,,\n'
    )
    refusing = by_path({"/api/v1/bulk_enhance": always({"message": "quota"}, status=402)})
    words: list[object] = [
        tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-s", "PG", "-s", "PH", "-D", "acme",
        "-r", "--source-timeout", "7",
    ]  # fmt: skip
    async with LocalApi(refusing) as api:
        done = await run(command, *words, "--no-cache", "-u", api.url)
        assert done.code == (0 if command == "plan" else 5), done.err
        assert (await run("resume", tmp_path / "o.jsonl.run", "-u", api.url)).code == 5
        assert (await run("enhance", *words, "--no-cache", "-u", api.url)).code == 5
        other = await run("enhance", *words, "-u", api.url)
    assert other.code == 2
    assert "check_cache false instead of true" in other.err
    submissions = [seen for seen in api.seen if seen.body]
    assert submissions
    for seen in submissions:
        assert msgspec.json.decode(seen.body) == {
            "locations": [
                {
                    "id": "0",
                    "address": "1 Main St",
                    "sources": ["PG", "LB"],
                    "datasource_config": {"LB": {"depth": 2}},
                },
                {"id": "1", "address": "2 Main St"},
            ],
            "sources": ["PG", "PH"],
            "include_raw_response": True,
            "check_cache": False,
            "timeout": 7.0,
            "delegate_to": "acme",
        }


async def test_sources_given_one_by_one(sandbox: SandboxServer, tmp_path: Path) -> None:
    """As the vendor's command takes them: none is forgotten. Names of APIs, in any case."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-s", "PH", "-u", sandbox.url
    )
    assert done.code == 0
    first = lines((tmp_path / "o.jsonl").read_bytes())[0]
    assert set(first["location_data"]) == {"PG", "PH"}
    assert (await run("limits", "-e", "SandBox", token=None)).code == 0


async def test_a_table_on_a_terminal(sandbox: SandboxServer) -> None:
    """With rules and thousands; nothing that a server says steers the terminal."""
    said = await on_a_terminal("limits", "-u", sandbox.url)
    assert "─────" in said
    assert " 10,000 " in said
    assert "\t" not in said
    hostile = {"source_code": "X\x1b[2J", "output_fields": {"[red]a\nb": {"type": "\x07"}}}
    async with LocalApi(always({"config": hostile})) as api:
        said = await on_a_terminal("datasources", "x", "-u", api.url)
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    assert "[red]a b" in said


@pytest.mark.parametrize(("end", "code"), [("| head -c 1 >/dev/null", 0), (">/dev/full", 5)])
async def test_standard_output_that_ends(sandbox: SandboxServer, end: str, code: int) -> None:
    """Whoever wants no more is no error; a full disk is one, in a line."""
    words = f"pingdata-async datasources --json -u {sandbox.url} {end}"
    done = await in_shell(f"{words}; exit ${{PIPESTATUS[0]}}")
    assert (done.code, done.err.count("\n")) == (code, code != 0)


def test_many_sources_stand_below_each_other() -> None:
    """A table of sixty columns is none: from nine on, each has a row of its own."""
    counts = {f"S{number}": number for number in range(1, 10)}
    sent = {"buckets": [{"bucket": "t", "counts": counts}, {"bucket": "u", "counts": {}}]}
    said, table = _usage_described(decode_usage(msgspec.json.encode(sent), "GET x"))
    assert said == "Credits used from ? to ?"
    assert isinstance(table, Table)
    assert table.headings == ("from", "source", "credits")
    assert table.rows[0] == ("t", "S1", 1)
    assert table.rows[9] == ("total", "S9", 9)
    assert table.rows[-1] == ("total", None, 45)


def test_all_that_is_said_of_a_source() -> None:
    """What is not said has no line; fields within a field stand behind it."""
    config = {
        "source_code": "X",
        "requires_credentials": True,
        "supported_us_states": ["TX", "FL"],
        "excluded_us_states": [],
        "non_supported_input_values": {"country": ["CA"]},
        "geocode_confidence_required": 0,
        "output_fields": {
            "roof": {"type": "object", "fields": {"age": {"type": "int", "description": "Years"}}},
            "odd": None,
        },
    }
    body = msgspec.json.encode({"config": config})
    *said, table = _described(decode_datasource(body, "GET x"))
    assert said == [
        "X",
        "needs its own credentials: yes",
        "US states: TX, FL",
        "not in the US states: none",
        'does not take: {"country":["CA"]}',
        "needs a geocode of confidence: 0",
    ]
    assert isinstance(table, Table)
    assert table.rows == [("roof", "object", ""), ("roof.age", "int", "Years"), ("odd", "", "")]
