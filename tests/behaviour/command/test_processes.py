"""Each command in a process that starts; most other tests fork one that has started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from pingdata_async.cli.main import cli
from pingdata_async.sandbox import SandboxServer
from tests.support import warm_commands
from tests.support.commands import ADDRESSES, run, sandbox

__all__ = ["sandbox"]  # a fixture


@pytest.mark.sweep  # other tests start the usual ones
async def test_each_command_starts(sandbox: SandboxServer, tmp_path: Path) -> None:
    """One after the other on one run, and each imports all that it needs."""
    output, api = tmp_path / "out.csv", ["-u", sandbox.url]
    run_dir = tmp_path / "out.csv.run"
    started = []
    for words in (
        ["inspect", ADDRESSES],
        ["datasources", *api],
        ["datasources", "PG", *api],
        ["limits", *api],
        ["usage", *api],
        ["enhance-one", "1 Main St, Boston, MA", "-s", "PG", *api],
        ["plan", ADDRESSES, "-o", output, "-s", "PG", *api],
        ["enhance", ADDRESSES, "-o", output, "-s", "PG", *api],
        ["status", run_dir],
        ["runs", tmp_path],
        ["config"],
        ["completion", "bash"],
        ["man"],
        ["resume", run_dir, *api],
        ["retry", run_dir, *api],
        ["export", run_dir, "-o", tmp_path / "again.jsonl"],
        ["diff", run_dir, run_dir, "-o", tmp_path / "changes.csv"],
        ["report", run_dir, "-o", tmp_path / "report.html"],
        ["reconcile", run_dir, *api],
    ):
        done = await run(*words, is_warm=False)
        assert done.code == 0, f"{words}: {done.err}"
        started.append(words[0])
    # Of the sandbox, tests/unit/cli/test_sandbox.py.
    assert {*started, "sandbox"} == set(cli.commands)


@pytest.mark.parametrize(
    "words",
    [
        ["enhance", "missing.csv", "-o", "out.csv", "-s", "PG", "-e", "sandbox"],
        ["enhance-one", "1 Main St, Boston, MA", "-s", "PG", "-e", "sandbox"],
    ],
)
async def test_a_fork_does_what_a_process_that_starts_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """In the folder of the test, with its own exit code, output and errors."""
    assert warm_commands.can_run(os.environ) == (sys.platform == "linux")
    monkeypatch.chdir(tmp_path)
    forked, started = await run(*words), await run(*words, is_warm=False)
    assert (forked.code, forked.out, forked.err) == (started.code, started.out, started.err)


#: Says on standard error what a command imports that had not been imported before.
IMPORTS = """
import sys
from pingdata_async.cli.main import run
before = set(sys.modules)
code = run(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="commands are started there")
async def test_a_fork_has_imported_it_all(tmp_path: Path) -> None:
    """Else each of thousands would import it anew."""
    words = ["enhance", ADDRESSES, "-o", tmp_path / "out.csv", "-s", "PG", "-e", "sandbox"]
    code, _, err = await warm_commands.run([*map(str, words)], os.environ, code=IMPORTS)
    assert code == 0
    imported = err.decode().splitlines()[-1].split()
    assert [name for name in imported if name.startswith(("aio", "pingdata_async"))] == []
    assert len(imported) < 5, imported


async def test_a_fork_ends_with_its_test(tmp_path: Path) -> None:
    """A test that is over before its command leaves no process."""
    pipe, output = tmp_path / "pipe", tmp_path / "out.csv"
    os.mkfifo(pipe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "enhance", pipe, "-o", output, "-s", "PG", "-e", "sandbox")
        writer = await anyio.to_thread.run_sync(os.open, pipe, os.O_WRONLY)  # once it reads
        tasks.cancel_scope.cancel()
    with pytest.raises(BrokenPipeError):  # as nobody has it open any more
        await anyio.to_thread.run_sync(_write_for_ever, writer)
    os.close(writer)


def _write_for_ever(pipe: int) -> None:
    while True:
        os.write(pipe, b"1 Main St\n")
