"""The command under test: started anew, or forked from a process that has imported all of it."""

from __future__ import annotations

import contextlib
import math
import os
import pty
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from pingdata_async.sandbox import SandboxServer
from tests.conftest import DATA
from tests.support import warm_commands

ADDRESSES = DATA / "few-us-addresses.csv"
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


async def in_shell(
    words: str, environ: Mapping[str, str] | None = None, **variables: object
) -> Command:
    """Words of bash, in which `pingdata-async` is a command that is started.

    Args:
        words: These.
        environ: Their environment; None where the token is in it.
        variables: What else is in it.
    """
    environ = environ or {**os.environ, "PING_DATA_AUTH_TOKEN": "right"}
    given = {"PYTHON": sys.executable} | {name: str(value) for name, value in variables.items()}
    script = f'pingdata-async() {{ "$PYTHON" -W error -m pingdata_async "$@"; }}; {words}'
    done = await anyio.run_process(["bash", "-c", script], env={**environ, **given}, check=False)
    return Command(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode())


async def on_a_terminal(
    *arguments: object, stream: str = "stdout", columns: int = 80, code: int = 0
) -> str:
    """What a terminal gets of the standard output or error of a command that ends with a code."""
    controller, terminal = pty.openpty()
    size = {"TERM": "xterm", "COLUMNS": str(columns)}
    process = await anyio.open_process(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, "PING_DATA_AUTH_TOKEN": "right", **size},
        **{stream: terminal},  # type: ignore[arg-type] # mypy takes it for any argument
    )
    os.close(terminal)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
        while block := await anyio.to_thread.run_sync(os.read, controller, 65536):
            said += block
    os.close(controller)
    async with process:
        assert await process.wait() == code
    return said.decode()


def lines(text: bytes | str) -> list[Any]:
    return [msgspec.json.decode(line) for line in text.splitlines()]
