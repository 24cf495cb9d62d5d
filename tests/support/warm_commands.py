"""Runs `pingdata-async` without the half second in which Python imports what a command needs.

A process of each test worker has imported it all, and forks for each command. The fork is as a
process that was started: it has its own pipes, folder and environment, exits by itself and leaves
its exit code. What is about starting up, limits or signals starts a true one instead.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import anyio

from pingdata_async.__main__ import main as run_command_line

#: What commands import when they are run. Not pyarrow: it starts threads, which no fork has.
IMPORTED = (
    "aiofiles.tempfile",
    "aiofiles.threadpool",
    "anyio._backends._asyncio",
    "anyio._core._fileio",
    "anyio._core._signals",
    "encodings.idna",
    "encodings.utf_8_sig",
    "pingdata_async.cli.account",
    "pingdata_async.cli.compare",
    "pingdata_async.cli.inspect",
    "pingdata_async.cli.main",
    "pingdata_async.cli.runs",
    "pingdata_async.cli.screen",
    "pingdata_async.cli.status",
    "pingdata_async.runs.run",
    "pingdata_async.sandbox.server",
    "pingdata_async.tables.writers.csv",
    "pingdata_async.tables.writers.excel",
    "python_calamine",
    "rich._emoji_codes",
    "rich.progress",
)
#: Beginnings of the variables that are heeded only by a Python that starts, and by imports.
HEEDED_AT_START = ("AIOHTTP_", "PYTHON", "LC_", "LANG", "TZ")
ROOT = Path(__file__).parents[2]
MOST_REQUEST_BYTES = 128 * 1024
BLOCK_BYTES = 64 * 1024


# -- on the side of the tests ----------------------------------------------------------------


def can_run(environ: Mapping[str, str]) -> bool:
    """Whether a command with this environment would start as the server did."""
    # Elsewhere a fork is not safe, and the server's kind of socket is not to be had.
    return sys.platform == "linux" and _heeded(environ) == _heeded(_environ_at_start())


async def run(
    words: Sequence[str], environ: Mapping[str, str], stdin: bytes = b"", code: str = ""
) -> tuple[int, bytes, bytes]:
    """Run `pingdata-async` with these words; returns exit code, output and errors.

    Args:
        words: Those after the command's name.
        environ: All of its environment.
        stdin: What it can read.
        code: What is run instead of `pingdata-async`, which the code may start itself.
    """
    output, errors = bytearray(), bytearray()
    with contextlib.ExitStack() as ours:
        ended, given_ended = socket.socketpair()
        pipes = [os.pipe() for _ in range(3)]
        (given_stdin, to_stdin), (from_stdout, given_stdout), (from_stderr, given_stderr) = pipes
        ours.enter_context(ended)
        ours.callback(os.close, from_stdout)
        ours.callback(os.close, from_stderr)
        # JSON, as it can express names of files that are not UTF-8.
        request = json.dumps([words, dict(environ), str(Path.cwd()), code]).encode()
        given = [given_stdin, given_stdout, given_stderr, given_ended.detach()]
        try:
            socket.send_fds(_server(), [request], given)
        finally:
            for descriptor in given:
                os.close(descriptor)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_write, to_stdin, stdin)
            tasks.start_soon(_read, from_stdout, output)
            tasks.start_soon(_read, from_stderr, errors)
            exit_code = await _exit_code(ended)
    return exit_code, bytes(output), bytes(errors)


async def _write(pipe: int, content: bytes) -> None:
    os.set_blocking(pipe, False)
    try:
        while content:
            await anyio.wait_writable(pipe)
            content = content[os.write(pipe, content) :]
    except BrokenPipeError:
        pass  # not every command reads
    finally:
        os.close(pipe)


async def _read(pipe: int, content: bytearray) -> None:
    while True:
        await anyio.wait_readable(pipe)
        if not (block := os.read(pipe, BLOCK_BYTES)):
            return
        content += block


async def _exit_code(ended: socket.socket) -> int:
    """Wait for the command; kill it where the test does not go on."""
    with anyio.CancelScope(shield=True):  # it comes at once
        process_id = await _number(ended)
    try:
        return await _number(ended)
    except BaseException:
        os.kill(process_id, signal.SIGKILL)
        raise


async def _number(ended: socket.socket) -> int:
    await anyio.wait_readable(ended)
    if content := ended.recv(4):
        return int.from_bytes(content, "little", signed=True)
    raise EOFError("the server of commands has ended")


def _bytes(number: int) -> bytes:
    return number.to_bytes(4, "little", signed=True)


def _heeded(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(HEEDED_AT_START)}


@functools.cache
def _environ_at_start() -> dict[str, str]:
    return dict(os.environ)


@functools.cache
def _server() -> socket.socket:
    """Start it; it ends with this end of the socket, and so with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.support.warm_commands", str(theirs.fileno())],
        cwd=ROOT,
        env=_environ_at_start(),
        pass_fds=[theirs.fileno()],
        stdin=subprocess.PIPE,  # pipes, as each command's will be
        stdout=subprocess.PIPE,
    )
    theirs.close()
    atexit.register(process.communicate)
    atexit.register(ours.close)  # which comes first
    return ours


# -- the server ------------------------------------------------------------------------------


def serve(control: socket.socket) -> tuple[list[str], str] | None:
    """Fork for each request; returns in each fork, with the words and the code of its command."""
    for module in IMPORTED:
        importlib.import_module(module)
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "a fork would lack a thread"
    gc.freeze()  # so that forks go on sharing what never changes
    while True:
        request, given, _, _ = socket.recv_fds(control, MOST_REQUEST_BYTES, 4)
        with contextlib.suppress(ChildProcessError):  # where there is none
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if not request:
            return None
        if os.fork() == 0:
            control.close()
            words, environ, folder, code = json.loads(request)
            command = os.fork()
            if command:
                _report(command, given)
            _take_over(given, environ, folder)
            return words, code
        for descriptor in given:
            os.close(descriptor)


def _report(command: int, given: list[int]) -> NoReturn:
    """Say a command's process id, and when it has ended its exit code."""
    *pipes, ended = given
    for pipe in pipes:
        os.close(pipe)
    try:
        os.write(ended, _bytes(command))
        _, status = os.waitpid(command, 0)
        with contextlib.suppress(BrokenPipeError):  # from a test that does not go on
            os.write(ended, _bytes(os.waitstatus_to_exitcode(status)))
    finally:
        os._exit(0)


def _take_over(given: list[int], environ: dict[str, str], folder: str) -> None:
    """Have the pipes, the environment and the folder of a command."""
    for number, pipe in enumerate(given[:3]):
        os.dup2(pipe, number)
    for descriptor in given:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as control:
        command = serve(control)
    if command is None:
        return
    words, code = command
    sys.argv[:] = ["pingdata-async", *words]
    try:
        if code:
            exec(code, {"__name__": "__main__"})
        else:
            run_command_line()
    except SystemExit as ending:
        if isinstance(ending.code, int):
            _exit_at_once(ending.code)
        raise


def _exit_at_once(code: int) -> None:
    """Exit as Python does, but take nothing apart: a fork would copy all that it shares.

    Returns where something cannot be written, which Python is to tell.
    """
    threading._shutdown()  # type: ignore[attr-defined] # private; there is no other way to it
    atexit._run_exitfuncs()
    gc.collect()  # tells of what was not closed
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
