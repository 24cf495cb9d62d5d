"""Pages of help: short, in panels, and whole where all is asked for."""

from __future__ import annotations

import sys

import click
import pytest

from pingdata_async.cli.help import Panel, is_coloured
from pingdata_async.cli.main import cli, run

COMMANDS = cli.loaded()


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def page(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert run([*words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_for_80_columns_and_begins_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most 60 lines where the rest is elsewhere, no variables, each option in one place."""
    lines = page(capsys, name, "--help")
    assert max(map(len, lines)) <= 80
    is_short = any("--help-all" in line for line in lines)
    assert len(lines) <= (60 if is_short else 90)
    assert "env var" not in "\n".join(lines)
    panels = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert panels == [f"{title}:" for title in ("Examples", *Panel) if f"{title}:" in panels]
    options = [line.split()[0] for line in lines if line.startswith("  -")]
    assert len(set(options)) == len(options)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_help_all(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one whose short page shows everything; that one does not name it."""
    everything, short = page(capsys, name, "--help-all"), page(capsys, name, "--help")
    names_it = any("--help-all" in line for line in short)
    assert names_it == any("--help-all" in line for line in everything)
    assert (everything == short) == (not names_it)


def test_everything_is_on_the_page_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option in full, and the exit codes; the short page has those that are common."""
    everything = "\n".join(page(capsys, "enhance", "--help-all"))
    short = "\n".join(page(capsys, "enhance", "--help"))
    names = [name for each in COMMANDS["enhance"].params for name in each.opts if "--" in name]
    assert [name for name in names if f"{name} " not in everything] == []
    assert "130  interrupted" in everything
    assert "--in-doubt" not in short
    assert "PINGDATA_ASYNC_MAX_JOBS" in short


def test_all_of_the_help_has_the_whole_page_of_every_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One below the other, below the list of all."""
    everything = "\n".join(page(capsys, "--help-all"))
    assert everything.startswith("Usage: pingdata-async [OPTIONS] [COMMAND] [ARGS]...")
    for name in COMMANDS:
        assert "\n".join(page(capsys, name, "--help-all")) in everything


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_a_bare_command_shows_all_commands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A line and a whole sentence each, in sections; exit 0."""
    lines = page(capsys, *words)
    assert max(map(len, lines)) <= 80
    for name in cli.commands:
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_options_say_what_they_do(name: str) -> None:
    """Only the fields of a location have names that say it all."""
    silent = [
        each.opts
        for each in COMMANDS[name].params
        if isinstance(each, click.Option) and not each.help
    ]
    assert not silent or name == "enhance-one"


def test_colours_are_for_terminals_whose_user_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NO_COLOR and a dumb terminal are heeded."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert is_coloured(sys.stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_coloured(sys.stdout)
    assert not is_coloured(None)
