"""The README's words are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from pingintel_api import PingDataAPIClient
from pingintel_api.pingdataapi_cmd import cli as vendors_cli

from pingdata_async.cli.help import EXIT_CODES
from pingdata_async.cli.main import CommandToLoad, cli
from pingdata_async.cli.runs import enhance
from pingdata_async.runs.journal.records import ChunkState, Resumption, on_resume
from pingdata_async.sandbox import SandboxServer
from tests.support.asgi import browsing

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    ("program", "begins", "lines"), [(PYTHON[0], "0 ok ", 10), (PYTHON[1], "34.", 1)]
)
def test_the_python_examples_run_as_written(program: str, begins: str, lines: int) -> None:
    """The first two blocks are programs: an answer and nine rows; a latitude and what it cost."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == lines
    assert done.stdout.startswith(begins)


async def test_the_web_application_runs_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third block serves requests; only where the API is comes from outside."""
    async with SandboxServer(no_match_share=0.0) as sandbox:
        monkeypatch.setenv("PING_DATA_AUTH_TOKEN", "any")
        monkeypatch.setattr(
            "pingdata_async.api.config.ENVIRONMENTS", {"prod": (sandbox.url, "PRD")}
        )
        names: dict[str, Any] = {}
        exec(PYTHON[2], names)
        async with browsing(names["app"]) as browser:
            answer = await browser.post("/geocode", json=["1 Main St, Boston, MA 02108"])
    assert answer.status_code == 200
    assert isinstance(answer.json()[0], float)


def test_every_option_of_enhance_is_in_the_table() -> None:
    """The README forgets no option, and invents none."""
    table = README[README.index("| option |") : README.index("Every option can also")]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    known = {
        option
        for parameter in enhance.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help-all"
    }
    shorthand = {"--verbose": "-v", "--quiet": "-q"}
    assert named | set(shorthand) == known
    assert all(f"`{short}`" in table for short in shorthand.values())


def test_exit_codes_are_the_same_in_help_and_readme() -> None:
    """One truth, told twice."""
    in_help = re.findall(r"^(\d+) +", EXIT_CODES, re.MULTILINE)
    table = README[README.index("| exit code |") : README.index("## Runs that survive")]
    in_readme = re.findall(r"^\| (\d+)", table, re.MULTILINE)
    assert in_help == in_readme


def test_the_table_of_states_is_the_codes() -> None:
    """Each state is in the README's table, with what a resumed run does about it."""
    table = README[README.index("| the journal says |") : README.index("**In doubt.**")]
    rows = dict(re.findall(r"^\| (\w+) \|.*\| (.*?) \|$", table, re.MULTILINE))
    begins = {
        Resumption.SEND: "sends it",
        Resumption.DOUBT: "counts it as in doubt",
        Resumption.POLL: "polls that job",
        Resumption.NOTHING: "nothing",
    }
    assert set(rows) == {state.value for state in ChunkState}
    for state in ChunkState:
        assert rows[state.value].startswith(begins[on_resume(state)])


def test_every_command_is_in_the_readme() -> None:
    """Nothing has to be found out by chance."""
    for name in cli.commands:
        assert f"`{name} " in README or f"pingdata-async {name} " in README


def test_every_call_and_option_of_the_vendors_client_has_its_place() -> None:
    """Whoever comes from it finds all that they used: in tables that invent no option of ours."""
    tables = README[README.index("## Coming from") : README.index("## Runs that survive")]
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
        for stand_in in cli.commands.values()
        if isinstance(stand_in, CommandToLoad)
        for parameter in stand_in.load().params
        for name in parameter.opts
    }
    right = " ".join(re.findall(r"^\| .* \| (.*) \|$", tables, re.MULTILINE))
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", right)) <= ours
