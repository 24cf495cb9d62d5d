"""The manual page, and what shells complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from pingdata_async.cli.main import cli, run


def completed(*words: str) -> list[str]:
    *before, begun = words
    shell = ShellComplete(cli, {}, "pingdata-async", "_PINGDATA_ASYNC_COMPLETE")
    return [each.value for each in shell.get_completions(before, begun)]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["enh"], ["enhance", "enhance-one"]),
        (["enhance", "--max-r"], ["--max-requests-per-second"]),  # one that is rare
        (["enhance", "-s", "pff"], ["PFF"]),
        (["enhance", "in.csv", "-s", "PG,pFf"], ["PG,PFF"]),
        (["plan", "-e", "prod"], ["prod", "prodeu"]),
        (["export", "--output-format", "par"], ["parquet"]),
        (["datasources", "PH"], ["PH"]),
        (["limits", "--profile", "e"], ["eu"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_commands_options_and_values_are_completed(
    words: list[str], values: list[str], home: Path
) -> None:
    """Without asking the API, and whatever else is missing on the line."""
    file = home / ".config" / "pingdata-async" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[profiles.eu]\n[profiles.us]\n", encoding="utf-8")
    assert completed(*words) == values


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_the_command_itself(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the command answers it."""
    assert run(["completion", shell]) == 0
    assert f"_PINGDATA_ASYNC_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_shell_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By variables, as the script gives them."""
    monkeypatch.setenv("_PINGDATA_ASYNC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pingdata-async enhance -s PFP")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit) as ended:
        run([])
    assert (ended.value.code, capsys.readouterr().out) == (0, "plain,PFPC\n")


def test_the_manual_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """And groff has nothing against it."""
    assert run(["man"]) == 0
    page = capsys.readouterr().out
    plain = page.replace(r"\-", "-")
    for name, command in cli.loaded().items():
        assert f".SS {name}\n" in plain
        for each in command.params:
            assert each.opts[-1] in plain or (each.metavar or "") in plain
    assert "130  interrupted" in plain
    if shutil.which("groff"):
        words = ["groff", "-man", "-Tutf8", "-ww", "-z"]
        done = subprocess.run(words, input=page, text=True, capture_output=True, check=True)
        assert done.stderr == ""
