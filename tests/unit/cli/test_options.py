"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import click
import pytest
from click.testing import CliRunner

from pingdata_async.cli.options import duration_option, duration_text
from pingdata_async.runs.directory.directory import read_settings
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, run, sandbox

__all__ = ["sandbox"]  # a fixture


async def test_the_pace_and_the_callback_are_kept_for_a_resumed_run(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """A resumed run goes by the pace, and asks to have the callback named again."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url,
        "--chunk-size", 150, "--max-requests-per-second", 50, "--max-jobs", 3,
        "--callback-url", "https://example.com/hook?key=1", "--job-timeout", 900,
        "--max-wait", 30,
    )  # fmt: skip
    assert done.code == 0, done.err
    settings = await anyio.to_thread.run_sync(read_settings, tmp_path / "o.jsonl.run")
    assert (settings.max_jobs, settings.max_requests_per_s) == (3, 50.0)
    assert settings.options.callback_url == "https://example.com/hook?key=1"


@click.command()
@duration_option("--wait", default_s=900.0, help="Wait.")
def waiting(wait_s: float) -> None:
    click.echo(f"{wait_s:g}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400),
     ("1d12h", 129600), ("1.5H", 5400)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    """Seconds, or numbers with units, the largest first."""
    done = CliRunner().invoke(waiting, ["--wait", text])
    assert (done.exit_code, done.output) == (0, f"{seconds:g}\n")


@pytest.mark.parametrize("text", ["0", "0m", "", "m", "-5", "1e3", "inf", "nan", "30m1h", "2 h"])
def test_what_is_no_duration(text: str) -> None:
    """It is refused, with examples of what is one."""
    done = CliRunner().invoke(waiting, ["--wait", text])
    assert done.exit_code == 2
    assert "such as 90 (seconds), 15m, 2h or 1h30m" in " ".join(done.output.split())


def test_a_default_is_shown_as_it_would_be_given() -> None:
    """And taken as if it had been."""
    assert [duration_text(seconds) for seconds in (900.0, 7200.0, 90.0, 0.5, 1e9 + 1)] == [
        "15m", "2h", "90", "0.5", "1000000001",
    ]  # fmt: skip
    assert "default: 15m" in CliRunner().invoke(waiting, ["--help"]).output
    assert CliRunner().invoke(waiting, []).output == "900\n"
