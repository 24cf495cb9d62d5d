"""The configuration file: what it sets, what it never holds, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pingdata_async.cli.main import run
from pingdata_async.cli.options import connection_of
from pingdata_async.cli.runs import enhance, resume

FILE = """
sources = "PG"
max-jobs = 8
max_locations = 500
columns = ["Loc #", "a,b", 'say "x", y']
verbose = true

[profiles.eu]
environment = "prodeu"
sources = ["pg", "ph"]
budget = {PH = 10, PG = 20}
"""


@pytest.fixture
def file(home: Path) -> Path:
    path = home / ".config" / "pingdata-async" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(FILE, encoding="utf-8")
    return path


def values(*words: str) -> dict[str, Any]:
    return enhance.make_context("enhance", ["in.csv", "-o", "o.csv", *words]).params


def test_option_before_variable_before_profile_before_file_before_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes the place of the next; what the file does not say is as ever."""
    assert file.exists()
    found = values()
    assert (found["sources"], found["max_jobs"], found["chunk_size"]) == ("PG", 8, 1000)
    assert (found["columns"], found["verbose"], found["environment"]) == (
        'Loc #,"a,b","say ""x"", y"',
        True,
        None,
    )
    found = values("--profile", "eu")
    assert (found["sources"], found["max_jobs"], found["environment"]) == ("PG,PH", 8, "prodeu")
    assert (found["budget"], found["max_locations"]) == ({"PH": 10, "PG": 20}, 500)
    monkeypatch.setenv("PINGDATA_ASYNC_MAX_JOBS", "9")
    monkeypatch.setenv("PINGDATA_ASYNC_PROFILE", "eu")
    found = values()
    assert (found["sources"], found["max_jobs"]) == ("PG,PH", 9)
    assert values("--max-jobs", "7", "-s", "LB")["max_jobs"] == 7


def test_an_api_that_is_named_has_the_better_of_that_of_the_file(file: Path) -> None:
    """A URL on the command line is not told to go with the file's environment."""
    assert file.exists()
    words = ["in.csv", "-o", "o.csv", "--profile", "eu", "-u", "https://example.com"]
    with enhance.make_context("enhance", words) as context:
        connection = connection_of(context.params)
    assert (connection.environment, connection.api_url) == (None, "https://example.com")


def test_a_run_keeps_its_own_settings(file: Path) -> None:
    """Of the file, `resume` takes how patient it is, but no API, budget or columns."""
    text = FILE.replace("[profiles.eu]", 'give-up-after = "5m"\n[profiles.eu]')
    file.write_text(text, encoding="utf-8")
    found = resume.make_context("resume", ["o.csv.run", "--profile", "eu"]).params
    assert (found["give_up_after_s"], found["verbose"]) == (300.0, True)
    for name in ("environment", "columns", "max_locations", "budget", "max_jobs"):
        assert found[name] is None


def test_config_shows_where_each_setting_comes_from(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing that is secret; without a file, what may stand in it."""
    monkeypatch.setenv("PINGDATA_ASYNC_MAX_JOBS", "9")
    monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "my-secret")
    monkeypatch.setenv("PINGDATA_ASYNC_API_URL", "https://me:my-secret@example.com/")
    assert run(["config", "--profile", "eu", "--json"]) == 0
    said = capsys.readouterr().out
    assert "my-secret" not in said
    told = msgspec.json.decode(said)
    assert (told["file"], told["profiles"]) == (str(file), ["eu"])
    origins = {each["name"]: (each["value"], each["origin"]) for each in told["settings"]}
    assert origins["max-jobs"] == ("9", "PINGDATA_ASYNC_MAX_JOBS")
    assert origins["sources"] == ("pg,ph", "profile eu")
    assert origins["max-locations"] == ("500", "the file")
    file.unlink()
    assert run(["config"]) == 0
    assert "(there is none)" in capsys.readouterr().out


HOSTILE = {
    b'auth_token = "my-secret"': "auth_token: a token does not belong in this file",
    b'[profiles.x]\nPING_DATA_AUTH_TOKEN = "my-secret"': "PING_DATA_AUTH_TOKEN: a token does not",
    b"max-jobs = 'many'": "max-jobs: 'many' is not a valid integer",
    b"max-jobs = 0": "max-jobs: 0 is not in the range",
    b"max-jobs = true": "max-jobs: give a text, a number",
    b"max-job = 3": "max-job: not a setting of this file",
    b"overwrite = true": "overwrite: not a setting",
    b"output = 'x.csv'": "output: not a setting",
    b"verbose = 'yes'": "verbose: give true or false",
    b"environment = 1979-05-27": "environment: give a text",
    b"budget = {PG = 'many'}": "budget: 'PG=many' is not SOURCE=LOCATIONS",
    b"give-up-after = 'soon'": "give-up-after: 'soon' is not a duration",
    b"ca-bundle = '~nobody-there/x'": "ca-bundle: ~nobody-there/x: there is no such user",
    b'ca-bundle = "a\\u0000b"': "ca-bundle: a text cannot contain a null character",
    b"profiles = 3": "profiles is not tables",
    b"sources = [": "is not TOML",
    b"sources = \xff": "is not TOML",
    b"x = " + b"[" * 50_000: "is not TOML",
    b"x" * 2_000_000: "is larger than",
    b'"a\\n\\u001b[31mb" = 3': "not a setting",
}


@pytest.mark.parametrize("content", HOSTILE)
def test_what_does_not_belong_there_is_one_line(
    content: bytes, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the file and the key, before anything is done; a token is not repeated."""
    file.write_bytes(content)
    assert run(["enhance", "in.csv", "-o", "o.csv", "-s", "PG"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(file) in said
    assert HOSTILE[content] in said
    assert "my-secret" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_a_file_is_read(kind: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe would be waited for."""
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert run(["config"]) == 2
    assert "is not a file" in capsys.readouterr().err
    assert run(["enhance", "--help"]) == 0
