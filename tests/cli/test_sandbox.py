"""`pingdata-async sandbox`, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import sys

import anyio
import pytest

import pingdata_async as ping

COMMAND = [sys.executable, "-W", "error", "-m", "pingdata_async", "sandbox"]


async def test_it_serves_until_it_is_told_to_stop() -> None:
    """It says where it is, answers there, and ends with the signal's exit code."""
    process = await anyio.open_process([*COMMAND, "--port", "0", "--fault", "rate-limit=0"])
    async with process:
        assert process.stdout is not None
        said = (await process.stdout.receive()).decode()
        found = re.search(r"http://\S+", said)
        assert found is not None
        async with ping.PingDataClient(api_url=found[0], auth_token="any") as client:
            answer = await client.enhance(address="1 Main St, Boston, MA", sources=["PG"])
        assert answer["PG"].worker_name == "sandbox"
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert process.returncode == 130


@pytest.mark.parametrize(
    "options", [["--fault", "nope=1"], ["--fault", "drop=2"], ["--workers", "0"]]
)
async def test_options_that_cannot_work_are_exit_2(options: list[str]) -> None:
    """One clear line, no traceback."""
    process = await anyio.run_process([*COMMAND, *options], check=False, env=os.environ)
    assert process.returncode == 2
    assert b"Traceback" not in process.stderr
