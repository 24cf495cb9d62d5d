"""The command until it begins: what it lists, and Ctrl-C while it loads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pingdata_async.__main__ import main
from pingdata_async.cli.main import CommandToLoad, cli
from tests.support.commands import run

# In a call-back, where Python only prints an exception, and goes on. In an import there are many.
INTERRUPTED_WHILE_LOADING = """
import signal, sys, weakref
class Anything: pass
anything = Anything()
called_back = weakref.ref(anything, lambda _: signal.raise_signal(signal.SIGINT))
del anything
sys.exit(77)
"""


@pytest.mark.parametrize("name", cli.commands)
def test_a_command_is_listed_as_it_says_itself(name: str) -> None:
    """The listing has each command's first sentence, without loading it."""
    stand_in = cli.commands[name]
    assert isinstance(stand_in, CommandToLoad)
    command = stand_in.load()
    assert command.name == name
    assert command.get_short_help_str(limit=200) == stand_in.get_short_help_str(limit=200)


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C comes while aiohttp is loaded; if it is ignored, the exit code is 77."""
    (tmp_path / "aiohttp.py").write_text(INTERRUPTED_WHILE_LOADING, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("interrupts")
async def test_ctrl_c_while_it_loads() -> None:
    """Exit 130, at once, and without a traceback."""
    done = await run("enhance", "in.csv", "-o", "out.jsonl", "-s", "PG")
    assert (done.code, done.out, done.err) == (130, "", "")


@pytest.mark.usefixtures("interrupts")
async def test_ctrl_c_is_not_for_what_runs_in_the_background() -> None:
    """Started with SIGINT ignored, as by a shell's `&`, it goes on."""
    done = await run("enhance", "in.csv", "-o", "out.jsonl", "-s", "PG", limit='trap "" INT')
    assert (done.code, done.out, done.err) == (77, "", "")


@pytest.mark.parametrize("chosen", [None, "default"])
def test_arrow_uses_the_allocator_of_the_system(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user has chosen one."""
    name = "ARROW_DEFAULT_MEMORY_POOL"
    monkeypatch.setenv(name, chosen or "")
    if chosen is None:
        monkeypatch.delenv(name)
    monkeypatch.setattr("pingdata_async.cli.main.main", lambda: None)
    before = signal.getsignal(signal.SIGINT)
    try:
        main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.environ[name] == (chosen or "system")
