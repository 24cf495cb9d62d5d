"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

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
