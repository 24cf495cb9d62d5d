"""The plan: the input, read once and written down."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import stat
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from pingdata_async.exceptions import InputError, RunError
from pingdata_async.locations.chunk import BLANK_ID, Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.tables.readers.base import fingerprint_of
from pingdata_async.util.compression import DamagedFrameError, compress, decompress
from tests.support.probes import disk_steps

INPUT = "id,address,latitude,foo\na,1 Main St,,1\nb,,,2\n,3 Oak Ave,x,3\n"


async def made(folder: Path, text: str = INPUT, chunk_size: int = 1) -> Plan:
    source = folder / "in.csv"
    source.write_text(text)
    builder = ChunkBuilder(chunk_size=chunk_size, sources=("PG",))
    return await write_plan(folder / "plan", source, builder)


async def taken_up(path: Path) -> Plan:
    return await anyio.to_thread.run_sync(Plan, path)


async def all_chunks(plan: Plan) -> list[Chunk]:
    with plan:
        indexes = range(plan.chunks)
        return [await anyio.to_thread.run_sync(plan.read, index) for index in indexes]


async def test_a_plan_holds_every_row_of_the_input(tmp_path: Path) -> None:
    """Rows, ids, what is sent and what is not come back, chunk by chunk, without the input."""
    plan = await made(tmp_path)
    (tmp_path / "in.csv").unlink()
    chunks = await all_chunks(plan)
    assert (plan.summary.rows, plan.summary.locations, plan.chunks) == (3, 2, 3)
    assert (plan.summary.unused_columns, plan.summary.values_left_out) == (("foo",), 1)
    assert [row for chunk in chunks for row in chunk.rows] == [0, 2]
    assert [own_id for chunk in chunks for own_id in chunk.ids] == ["a", BLANK_ID]
    assert chunks[0].body == b'{"id":"0","address":"1 Main St"}'
    assert [invalid.row for chunk in chunks for invalid in chunk.invalid] == [1]


async def test_a_plan_can_be_taken_up_without_its_input(tmp_path: Path) -> None:
    """What it amounts to and every chunk are read from it alone."""
    plan = await made(tmp_path)
    (tmp_path / "in.csv").unlink()
    again = await taken_up(plan.path)
    assert again.summary == plan.summary
    assert again.chunks == plan.chunks == 3
    assert again.summary.values_left_out == 1
    assert again.summary.value_notes != ()
    assert again.summary.chunk_size == 1
    assert await all_chunks(again) == await all_chunks(plan)


async def test_an_input_of_no_rows_is_a_plan_too(tmp_path: Path) -> None:
    """A header alone: no chunks, and taken up all the same."""
    await made(tmp_path, "address\n")
    again = await taken_up(tmp_path / "plan")
    assert (again.summary.rows, again.chunks, again.summary.chunk_size) == (0, 0, 0)


async def test_a_plan_is_private_and_leaves_no_part(tmp_path: Path) -> None:
    """Addresses are for their owner alone; what a killed process left half-written is gone."""
    (tmp_path / "plan.part").touch(0o600)
    (tmp_path / "plan.part").write_bytes(b"x" * 1_000_000)
    plan = await made(tmp_path)
    assert stat.S_IMODE(plan.path.stat().st_mode) == 0o600
    assert plan.path.stat().st_size < 10_000
    assert not (tmp_path / "plan.part").exists()


async def test_a_plan_is_never_replaced(tmp_path: Path) -> None:
    """Answers may belong to the one that is there."""
    await made(tmp_path)
    before = (tmp_path / "plan").read_bytes()
    with pytest.raises(RunError, match="exists already"):
        await made(tmp_path, "address\nanother\n")
    assert (tmp_path / "plan").read_bytes() == before


async def test_an_input_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """A plan is there whole or not at all."""
    source = tmp_path / "in.csv"
    source.write_bytes(b"address\n" + b"1 Main St\n" * 5_000 + b"\x81\n")
    with pytest.raises(InputError, match="not cp1252"):
        await write_plan(tmp_path / "plan", source, ChunkBuilder(sources=("PG",)))
    assert [path.name for path in tmp_path.glob("plan*")] == []


async def test_any_damage_is_told_and_none_is_a_traceback(tmp_path: Path) -> None:
    """Each byte flipped, and each length cut to: a RunError that names the plan.

    But for the few bits of a compressed frame that change nothing of what is in it.
    """
    plan = await made(tmp_path, chunk_size=2)
    whole = plan.path.read_bytes()
    damaged = tmp_path / "damaged"

    def read_all(path: Path) -> tuple[object, ...]:
        with Plan(path) as opened:
            chunks = [opened.read(index) for index in range(opened.chunks)]
            return chunks, opened.summary

    sound = await anyio.to_thread.run_sync(read_all, plan.path)

    def is_told(content: bytes) -> bool:
        damaged.write_bytes(content)
        says = f"the plan {damaged} is (damaged|of another version)"
        told = ""
        try:
            assert read_all(damaged) == sound
        except RunError as error:
            told = str(error)
        assert not told or re.match(says, told)
        return bool(told)

    def check_all() -> None:
        assert all(is_told(whole[:place]) for place in range(len(whole)))
        flipped = [
            is_told(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            for place in range(len(whole))
        ]
        assert flipped.count(False) <= 2

    await anyio.to_thread.run_sync(check_all)


async def test_a_plan_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content, name, folder, of the kept input first: a power cut leaves both whole or no plan."""
    steps = disk_steps(monkeypatch)
    await made(tmp_path)
    assert steps == ["content", "name", "folder"] * 2


def test_no_flipped_byte_of_a_frame_goes_unnoticed() -> None:
    """Whatever is in it: also where the head no longer asks for the checksum."""
    chance = random.Random(1)
    for _ in range(300):
        frame = compress(chance.randbytes(chance.randint(1, 60)) * chance.randint(1, 8))
        for place in range(len(frame)):
            for bits in (0x55, 0xFF, 1 << chance.randrange(8)):
                flipped = bytes([frame[place] ^ bits])
                with contextlib.suppress(DamagedFrameError):
                    same = decompress(frame[:place] + flipped + frame[place + 1 :])
                    assert same == decompress(frame)


async def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    """The others can still be read."""
    plan = await made(tmp_path)
    with await taken_up(plan.path) as whole:
        offsets = whole._frames._offsets
    content = bytearray(plan.path.read_bytes())
    content[offsets[2] - 1] ^= 1  # the end of the checksum of chunk 1
    plan.path.write_bytes(content)
    with await taken_up(plan.path) as again:
        assert (await anyio.to_thread.run_sync(again.read, 0)).rows == [0]
        with pytest.raises(RunError, match=r"chunk 1: .*checksum"):
            await anyio.to_thread.run_sync(again.read, 1)


async def test_a_missing_plan_is_told(tmp_path: Path) -> None:
    """As any other that cannot be read."""
    with pytest.raises(RunError, match="No such file"):
        await taken_up(tmp_path / "plan")


async def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    """What was hashed while planning is what `sha256sum` says, and reading anew gives the same."""
    plan = await made(tmp_path, "\ufeffaddress\r\n" + "1 Main St\r\n" * 20_000, chunk_size=1000)
    source = tmp_path / "in.csv"
    found = plan.summary.fingerprint
    assert found.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (found.size_bytes, found.path) == (source.stat().st_size, str(source))
    assert await anyio.to_thread.run_sync(fingerprint_of, source) == found


async def test_planning_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled run does not go on reading an endless pipe, and leaves no half of a plan."""
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
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as planning:
                builder = ChunkBuilder(sources=("PG",))
                planning.start_soon(write_plan, tmp_path / "plan", pipe, builder)
                while written < 50_000:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert scope.cancelled_caught
    assert list(tmp_path.glob("plan*")) == []


async def test_an_idle_pipe_can_be_left(tmp_path: Path) -> None:
    """Where nobody writes, cancelling ends the waiting all the same."""
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    with anyio.move_on_after(0.05) as scope:
        await write_plan(tmp_path / "plan", pipe, ChunkBuilder(sources=("PG",)))
    assert scope.cancelled_caught
