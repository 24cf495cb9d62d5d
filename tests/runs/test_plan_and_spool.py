"""What a run keeps on disk."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from pingdata_async.bulk.checking import Failure
from pingdata_async.bulk.chunking import ChunkBuilder
from pingdata_async.models import Reason
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.spool import CHUNKS_A_FOLDER, Spool


async def test_a_plan_holds_every_row_of_the_input(tmp_path: Path) -> None:
    """Rows, ids, what is sent and what is not come back, chunk by chunk, without the input."""
    source = tmp_path / "in.csv"
    source.write_text("id,address,latitude,foo\na,1 Main St,,1\nb,,,2\n,3 Oak Ave,x,3\n")
    plan = Plan(tmp_path / "plan")
    await plan.make(source, ChunkBuilder(chunk_size=1, sources=("PG",)))
    source.unlink()
    with plan:
        chunks = [chunk async for chunk in plan.iter_chunks()]
    assert (plan.rows, plan.locations, plan.chunks) == (3, 2, 3)
    assert (plan.unused_columns, plan.values_left_out) == (("foo",), 1)
    assert [row for chunk in chunks for row in chunk.rows] == [0, 2]
    assert [own_id for chunk in chunks for own_id in chunk.ids] == ["a", None]
    assert chunks[0].locations == [b'{"address":"1 Main St"}']
    assert [invalid.row for chunk in chunks for invalid in chunk.invalid] == [1]


async def test_planning_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled run does not go on reading an endless pipe, nor wait for an idle one."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    written = 0

    def write_for_ever() -> None:
        nonlocal written
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as file:
            file.write(b"address\n")
            while True:
                file.write(b"1 Main St\n" * 1_000)
                written += 1_000

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, write_for_ever)
        plan = Plan(tmp_path / "plan")
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as planning:
                planning.start_soon(plan.make, pipe, ChunkBuilder(sources=("PG",)))
                while written < 50_000:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert scope.cancelled_caught
    assert plan.rows > 0


async def test_an_idle_pipe_can_be_left(tmp_path: Path) -> None:
    """Where nobody writes, cancelling ends the waiting all the same."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    with anyio.move_on_after(0.05) as scope:
        await Plan(tmp_path / "plan").make(pipe, ChunkBuilder(sources=("PG",)))
    assert scope.cancelled_caught


async def test_a_spool_gives_back_what_it_kept(tmp_path: Path) -> None:
    """Bodies and failures come back as they were; what was not kept is None."""
    spool = Spool(tmp_path / "spool")
    failure = Failure(Reason.REJECTED, "no")
    await spool.keep(0, b"{}")
    await spool.keep(CHUNKS_A_FOLDER, failure)
    assert await anyio.to_thread.run_sync(spool.read, 0) == b"{}"
    assert await anyio.to_thread.run_sync(spool.read, CHUNKS_A_FOLDER) == failure
    assert await anyio.to_thread.run_sync(spool.read, 1) is None
    assert spool.chunks == 2


async def test_a_spool_is_private(tmp_path: Path) -> None:
    """Addresses and answers are readable by their owner alone."""
    await Spool(tmp_path / "spool").keep(0, b"{}")
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600]


async def test_a_spool_never_holds_half_an_answer(tmp_path: Path) -> None:
    """Where a body cannot be written there is nothing under its name, and no part is left."""
    spool = Spool(tmp_path / "spool")
    await spool.keep(0, b"{}")
    folder = next((tmp_path / "spool").iterdir())
    (folder / "000000001.json").mkdir()  # in the way of the rename
    (folder / "000000001.json" / "x").touch()
    with pytest.raises(OSError, match="directory"):
        await spool.keep(1, b"{}")
    assert sorted(path.name for path in folder.iterdir()) == ["000000000.json", "000000001.json"]


async def test_a_cancelled_spool_finishes_what_it_writes(tmp_path: Path) -> None:
    """An answer that is being written was paid for: it is written whole, and counted."""
    spool = Spool(tmp_path / "spool")
    for index in range(50):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await spool.keep(index, b"x" * 100_000)
    kept = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(kept) == spool.chunks == 50
    assert {path.suffix for path in kept} == {".json"}
