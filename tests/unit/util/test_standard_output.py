"""Standard output that nobody reads, for a while or for ever."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from pingdata_async.util.standard_output import StandardOutput, open_standard_output

MUCH = bytes(range(256)) * 4096  # many times what a pipe holds


@asynccontextmanager
async def piped() -> AsyncIterator[tuple[StandardOutput, int]]:
    """One that writes into a pipe, and the end to read from."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as stream:
            async with open_standard_output(stream) as output:
                yield output, reader
    finally:
        os.close(reader)


def read_all(reader: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += os.read(reader, 10_000)
    return content


async def test_a_slow_reader_gets_all_of_it() -> None:
    """In order, whatever fits into the pipe at a time."""
    async with piped() as (output, reader), anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, output.write, MUCH)
        assert await anyio.to_thread.run_sync(read_all, reader, len(MUCH)) == MUCH


async def test_a_cancellation_does_not_wait_for_a_reader() -> None:
    """Nor for one who never comes; what is raised is the cancellation alone."""
    with anyio.CancelScope() as scope:
        async with piped() as (output, reader), anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, output.write, MUCH)
            await anyio.to_thread.run_sync(os.read, reader, 1)  # it has begun
            scope.cancel()
    assert scope.cancelled_caught


async def test_errors_are_raised_as_they_are() -> None:
    """A reader who left, and the block's own."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream, pytest.raises(BrokenPipeError):
        async with open_standard_output(stream) as output:
            await anyio.to_thread.run_sync(output.write, MUCH)
    with pytest.raises(ZeroDivisionError):
        async with open_standard_output(io.BytesIO()):
            raise ZeroDivisionError


async def test_anything_can_stand_in_for_it() -> None:
    """A stream that is no file at all."""
    stand_in = io.BytesIO()
    async with open_standard_output(stand_in) as output:
        assert output.write(MUCH) == len(MUCH)
        output.flush()
    assert stand_in.getvalue() == MUCH


def test_it_is_given_up_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where what it writes to can no longer be flushed, of which Python 3.13 would tell."""
    stand_in = io.BytesIO()
    output = StandardOutput(stand_in)
    stand_in.close()
    del output
    gc.collect()
    assert capsys.readouterr().err == ""
