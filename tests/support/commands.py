"""The command under test: started anew, or forked from a process that has imported all of it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from pingdata_async.sandbox import SandboxServer
from tests.conftest import DATA
from tests.support import warm_commands

ADDRESSES = DATA / "us-addresses.csv"
COMMAND = [sys.executable, "-W", "error", "-m", "pingdata_async"]


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0, token="right") as server:
        yield server


class Command:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


async def run(
    *arguments: object,
    token: str | None = "right",
    stdin: bytes = b"",
    limit: str = "",
    is_warm: bool = True,
) -> Command:
    """Run it to its end.

    Args:
        arguments: Its words.
        token: In its environment.
        stdin: What it can read.
        limit: What the shell that starts it does before, as `ulimit -f 40`.
        is_warm: Fork a process that has imported all of it, where that comes to the same.
    """
    # Not in development mode: asyncio would say of a busy machine how long its steps take.
    environ = dict(os.environ)
    if token is not None:
        environ["PING_DATA_AUTH_TOKEN"] = token
    words = [str(argument) for argument in arguments]
    if is_warm and not limit and warm_commands.can_run(environ):
        code, out, err = await warm_commands.run(words, environ, stdin)
        return Command(code, out.decode(), err.decode())
    command = [*COMMAND, *words]
    if limit:
        command = ["bash", "-c", f'{limit}; exec "$@"', "bash", *command]
    process = await anyio.run_process(command, check=False, env=environ, input=stdin)
    return Command(process.returncode, process.stdout.decode(), process.stderr.decode())


def lines(text: bytes | str) -> list[Any]:
    return [msgspec.json.decode(line) for line in text.splitlines()]
