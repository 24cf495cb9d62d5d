"""The words of the README and of the documentation are true."""

from __future__ import annotations

import configparser
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import click
import pytest
from pingintel_api import PingDataAPIClient
from pingintel_api.pingdataapi_cmd import cli as vendors_cli

from pingdata_async.cli.help import EXIT_CODES
from pingdata_async.cli.main import cli
from pingdata_async.cli.runs import enhance
from pingdata_async.runs.journal.records import ChunkState, Resumption, on_resume
from pingdata_async.sandbox import SandboxServer
from tests.support.asgi import browsing

ROOT = Path(__file__).parent.parent
PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
}
LONGEST_README = 150


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def table(page: str, heading: str) -> str:
    """A table of a page, by the first cell of its heading."""
    return PAGES[page][PAGES[page].index(f"| {heading} |") :].partition("\n\n")[0]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, id=f"{page}-{number}")
        for page in sorted(PAGES)
        if page not in {"engines", "web-applications"}  # of the first, `tests/lake` runs them
        for number, program in enumerate(blocks(page, "python"))
    ],
)
def test_the_python_examples_run_as_written(program: str, tmp_path: Path) -> None:
    """Each is a program of its own that ends without a word of warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PING_DATA_AUTH_TOKEN": "any"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == ("print(" in program and "TraceConfig" not in program)


async def test_the_web_application_runs_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves requests; only where the API is comes from outside."""
    async with SandboxServer(no_match_share=0.0) as sandbox:
        monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "any")
        monkeypatch.setattr(
            "pingdata_async.api.config.ENVIRONMENTS", {"prod": (sandbox.url, "PRD")}
        )
        names: dict[str, Any] = {}
        exec(blocks("web-applications", "python")[0], names)
        async with browsing(names["app"]) as browser:
            answer = await browser.post("/geocode", json=["1 Main St, Boston, MA 02108"])
    assert answer.status_code == 200
    assert isinstance(answer.json()[0], float)


async def test_the_nightly_script_runs_as_written(tmp_path: Path) -> None:
    """Twice: the second night finds nothing to do, and both end well."""
    script = tmp_path / "nightly.sh"
    script.write_text(blocks("operating", "bash")[0])
    schedules = tmp_path / "schedules"
    schedules.mkdir()
    for number, name in enumerate(("a.csv", "b.csv")):
        (schedules / name).write_text(f"id,address\n1,{number} Main Street Boston MA\n")
    async with SandboxServer() as sandbox:
        for _night in range(2):
            await _run_shell(["sh", str(script), str(schedules)], sandbox.url, tmp_path)
        assert sandbox.stats.jobs_accepted == 2
    assert len((schedules / "a.enhanced.jsonl").read_text().splitlines()) == 1


async def test_the_unit_of_systemd_runs_as_written(tmp_path: Path) -> None:
    """Its command, and its exit codes are those that a run can end with."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # as its documentation says
    unit.read_string(blocks("operating", "ini")[0])
    service = unit["Service"]
    (tmp_path / "portfolio.csv").write_text("id,address\n1,1 Main St Boston MA\n")
    async with SandboxServer() as sandbox:
        await _run_shell(shlex.split(service["ExecStart"]), sandbox.url, tmp_path)
    assert len((tmp_path / "portfolio.enhanced.jsonl").read_text().splitlines()) == 1
    assert set(service["RestartPreventExitStatus"].split()) <= set(
        re.findall(r"^(\d+) +", EXIT_CODES, re.MULTILINE)
    )


async def _run_shell(words: list[str], api_url: str, folder: Path) -> None:
    """A program, with the command on its path and the API of a variable; it must end well."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PING_DATA_AUTH_TOKEN": "any",
        "PINGDATA_ASYNC_API_URL": api_url,
    }
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.large
def test_the_notebook_shows_what_running_it_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`python docs/notebook.py` keeps its outputs; nothing of a machine or a moment is in them."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    names = runpy.run_path(str(ROOT / "docs" / "notebook.py"))
    assert names["executed"]() == names["NOTEBOOK"].read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    """What takes longer to tell is in the documentation."""
    assert len(PAGES["README"].splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", ["README", "CONTRIBUTING"])
def test_links_lead_to_files(page: str) -> None:
    """Those between pages of the documentation are checked as it is built."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_option_of_enhance_is_in_the_table() -> None:
    """The page forgets no option, and invents none."""
    named = set(re.findall(r"`(--[a-z-]+)", table("command", "option")))
    known = {
        option
        for parameter in enhance.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help-all"
    }
    shorthand = {"--verbose": "-v", "--quiet": "-q"}
    assert named | set(shorthand) == known
    assert all(f"`{short}`" in table("command", "option") for short in shorthand.values())


def test_exit_codes_are_the_same_in_help_and_documentation() -> None:
    """One truth, told twice."""
    in_help = re.findall(r"^(\d+) +", EXIT_CODES, re.MULTILINE)
    assert in_help == re.findall(r"^\| (\d+)", table("command", "exit code"), re.MULTILINE)


def test_the_table_of_states_is_the_codes() -> None:
    """Each state is in the table, with what a resumed run does about it."""
    states = table("runs", "the journal says")
    rows = dict(re.findall(r"^\| (\w+) \|.*\| (.*?) \|$", states, re.MULTILINE))
    begins = {
        Resumption.SEND: "sends it",
        Resumption.DOUBT: "counts it as in doubt",
        Resumption.POLL: "polls that job",
        Resumption.NOTHING: "nothing",
    }
    assert set(rows) == {state.value for state in ChunkState}
    for state in ChunkState:
        assert rows[state.value].startswith(begins[on_resume(state)])


def test_every_command_is_in_the_documentation() -> None:
    """Nothing has to be found out by chance."""
    words = "\n".join(PAGES.values())
    for name in cli.commands:
        assert f"`{name} " in words or f"pingdata-async {name} " in words


def test_every_call_and_option_of_the_vendors_client_has_its_place() -> None:
    """Whoever comes from it finds all that they used: in tables that invent no option of ours."""
    tables = PAGES["migration"]
    calls = {name for name in vars(PingDataAPIClient) if callable(getattr(PingDataAPIClient, name))}
    assert {name for name in calls if f"`{name}(" not in tables} == set()
    options = [parameter for parameter in vendors_cli.params if parameter.name != "help"]
    for name, command in vendors_cli.commands.items():
        assert f"`{name} " in tables or f"`{name}`" in tables
        options += [each for each in command.params if isinstance(each, click.Option)]
    forgotten = [
        each.opts
        for each in options
        if not any(re.search(f"[` ]{name}[` ]", tables) for name in each.opts)
    ]
    assert forgotten == []
    ours = {
        name
        for command in cli.loaded().values()
        for parameter in command.params
        for name in parameter.opts
    }
    right = " ".join(re.findall(r"^\| .* \| (.*) \|$", tables, re.MULTILINE))
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", right)) <= ours
