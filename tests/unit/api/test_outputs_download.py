"""Outputs that are written to files: whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import anyio
import pytest

from pingdata_async import DecodeError, JobOutput, NotFoundError
from pingdata_async.api.outputs import open_whole
from tests.support.servers import LocalApi, always, client_of

BODY = os.urandom(3 << 20)
OUTPUT = JobOutput("/o.json", "o.json")


async def test_a_download_is_whole_and_alone(tmp_path: Path) -> None:
    """It is decompressed, replaces what was there, and leaves nothing beside it."""
    to = tmp_path / "o.json"
    to.write_bytes(b"before")
    answer = always(body=gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    async with LocalApi(answer) as api, client_of(api.url) as client:
        assert await client.download_output("J", OUTPUT, to=to) == len(BODY)
    assert to.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [to]


async def test_a_link_keeps_leading_to_the_file(tmp_path: Path) -> None:
    """The file behind it is replaced."""
    link, to = tmp_path / "link", tmp_path / "o.json"
    link.symlink_to(to)
    async with LocalApi(always(body=b"new")) as api, client_of(api.url) as client:
        await client.download_output("J", OUTPUT, link)
    assert (link.is_symlink(), to.read_bytes()) == (True, b"new")


async def test_no_place_for_it_is_told_before_it_is_fetched(tmp_path: Path) -> None:
    """A folder that is missing, or that has the name."""
    async with LocalApi(always(body=BODY)) as api, client_of(api.url) as client:
        with pytest.raises(FileNotFoundError):
            await client.download_output("J", OUTPUT, tmp_path / "missing" / "o.json")
        with pytest.raises(IsADirectoryError):
            await client.download_output("J", OUTPUT, tmp_path)
    assert (api.seen, list(tmp_path.iterdir())) == ([], [])


async def test_what_is_refused_or_cut_off_leaves_no_file(tmp_path: Path) -> None:
    """Nor does it touch the one that is there."""
    to = tmp_path / "o.json"
    to.write_bytes(b"before")
    gone = always({}, status=404)
    async with LocalApi(gone) as api, client_of(api.url) as client:
        with pytest.raises(NotFoundError):
            await client.download_output("J", OUTPUT, to)
    damaged = always(body=gzip.compress(BODY)[:-9], headers={"Content-Encoding": "gzip"})
    async with LocalApi(damaged) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError):
            await client.download_output("J", OUTPUT, to)
    assert (list(tmp_path.iterdir()), to.read_bytes()) == ([to], b"before")


@pytest.mark.parametrize("by", ["anyio", "asyncio"])
async def test_a_cancellation_at_any_step_leaves_all_or_nothing(tmp_path: Path, by: str) -> None:
    """However it is cancelled, there is the whole file, or what was there; no temporary name."""
    to = tmp_path / "o.json"

    async def download() -> None:
        async with open_whole(to) as file:
            for _ in range(3):
                await file.write(b"x" * 700_000)

    wholes = 0
    for steps in range(40):
        to.write_bytes(b"before")
        if by == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(download)
                await _after(steps)
                group.cancel_scope.cancel()
        else:
            task = asyncio.create_task(download())
            await _after(steps)
            task.cancel()
            await asyncio.wait([task])
        assert list(tmp_path.iterdir()) == [to]
        is_whole = to.stat().st_size == 2_100_000
        assert is_whole or to.read_bytes() == b"before"
        wholes += is_whole
    assert wholes < 40


async def _after(steps: int) -> None:
    """Some steps of the event loop, some of them with a moment for the thread."""
    for step in range(steps):
        await asyncio.sleep(0.0005 if step % 4 == 3 else 0)
