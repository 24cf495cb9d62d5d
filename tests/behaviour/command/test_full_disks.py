"""Where nothing can be written or said any more: one line, and the exit code of the work itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, in_shell, lines, run, sandbox

__all__ = ["sandbox"]  # a fixture


@pytest.fixture
def begun(sandbox: SandboxServer, tmp_path: Path) -> list[object]:
    """The words of a run that is not there yet."""
    return ["enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url, "-q"]


async def test_a_summary_that_cannot_be_written(
    sandbox: SandboxServer, begun: list[object]
) -> None:
    """Exit 5: the command that is shown, and the one that was given, write it for nothing."""
    done = await run(*begun, "--summary", "/dev/full")
    assert (done.code, "(/dev/full: No space left on device)" in done.err) == (5, True)
    said, command = done.err.splitlines()
    assert "To write the summary at no cost" in said
    requests = sandbox.stats.requests.total()
    written = await in_shell(command.replace("/dev/full", "/dev/stdout"))
    assert (written.code, written.err) == (0, "")
    assert msgspec.json.decode(written.out)["rows"] == 100
    assert sandbox.stats.requests.total() == requests


async def test_a_summary_that_cannot_be_written_of_a_run_that_is_gone(
    begun: list[object],
) -> None:
    """It is shown, with the run's own exit code: to give the command again would cost again."""
    done = await run(*begun, "--discard-run", "--summary", "/dev/full")
    assert done.code == 0
    _, _, summary = done.err.partition("\n")
    assert msgspec.json.decode(summary)["locations_charged"] == 100


async def test_a_log_file_on_a_full_disk(begun: list[object], tmp_path: Path) -> None:
    """One line, and the run goes on."""
    done = await run(*begun, "--log-file", "/dev/full", "--chunk-size", 5)
    assert (done.code, done.err) == (0, "/dev/full is incomplete: No space left on device\n")
    assert len(lines((tmp_path / "o.jsonl").read_bytes())) == 100


async def test_standard_output_and_error_of_other_commands(tmp_path: Path) -> None:
    """A full disk is a line and exit 5, closed output exit 2, a reader who left no error."""
    plan = tmp_path / "o.jsonl.run"
    words = f'plan "{ADDRESSES}" -o "{tmp_path}/o.jsonl" -s PG --environment sandbox >/dev/null'
    assert (await in_shell(f"pingdata-async {words}")).code == 0
    for command in ('status "$RUN"', 'export "$RUN" -o - --output-format csv'):
        full = await in_shell(f"pingdata-async {command} >/dev/full", RUN=plan)
        assert full.code == 5
        assert full.err == "Error: standard output cannot be written: No space left on device\n"
    closed = await in_shell('pingdata-async status "$RUN" --json >&-', RUN=plan)
    assert (closed.code, closed.err) == (2, "Error: standard output is closed\n")
    # The reader has left before anything is written.
    left = await in_shell('exec 3> >(true); wait $!; pingdata-async status "$RUN" >&3', RUN=plan)
    assert (left.code, left.err) == (0, "")
    unheard = await in_shell('pingdata-async export "$RUN" -o /nowhere/o.csv 2>/dev/full', RUN=plan)
    assert unheard.code == 2
