"""Tables that are written while the run is under way."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.results.offset_index import OffsetIndex, index_output
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.input_copy import InputCopy
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.export import output as output_files
from pingdata_async.runs.export import two_pass
from pingdata_async.runs.export.export import open_export
from pingdata_async.runs.export.output import output_spec
from pingdata_async.runs.export.results import ResultReader, SettledChunk
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.rows import InputRows
from pingdata_async.util import compression
from tests.support.answers import MemoryJournal, spool_in
from tests.support.exports import export
from tests.support.runs import unexpected
from tests.support.sweeps import sampled

ROWS, CHUNK_SIZE = 96, 8
CHUNKS = ROWS // CHUNK_SIZE
OPTIONS = {
    "csv": WriteOptions(),
    "csv.gz": WriteOptions(),
    "parquet": WriteOptions(),
    "geojsonl": WriteOptions(),
    "xlsx": WriteOptions(),
    "jsonl": WriteOptions(columns=("address",)),
}


class Run:
    """A run whose chunks are answered when a test says so.

    Args:
        folder: For its files.
        grows_at: The chunks in which a field has something that it had not before.
    """

    def __init__(self, folder: Path, grows_at: set[int]) -> None:
        self._folder = folder
        self._grows_at = grows_at
        self._spool = spool_in(folder)
        self.journal = MemoryJournal(self._spool)
        self.answers = ResultReader(self._spool, self.journal, ("PG",))

    async def planned(self, source: Path | None = None) -> Plan:
        if source is None:
            source = self._folder / "in.csv"
            lines = [f"{row},{row} Main St" for row in range(ROWS)]
            source.write_text("\n".join(["id,address", *lines]), "utf-8")
        builder = ChunkBuilder(chunk_size=CHUNK_SIZE, sources=("PG",))
        return await write_plan(self._folder / "plan", source, builder)

    def answer(self, chunk: Chunk) -> tuple[OffsetIndex, bytes]:
        """Note a chunk as answered. Blocks."""
        body = {str(row): self._answered(row, chunk.index) for row in chunk.rows}
        content = msgspec.json.encode(body)
        index = index_output(chunk, content, ("PG",))
        assert index is not None
        self.journal.put(chunk, "spooled", body, offset_index=index)
        return index, content

    def _answered(self, row: int, index: int) -> dict[str, object]:
        fields: dict[str, object] = {
            "n": row,
            "near": [row, "x"],
            "latitude": row / 7,
            "longitude": 1.5,
        }
        if row % 3 == 0:
            fields["flood"] = {"zone": "X"}
        if index in self._grows_at:
            fields |= {f"new_{index}": 1.5, "n": row + 0.5}
        return {"PG": {"is_success": True, **fields}}

    async def exported(self, plan: Plan, output: Path) -> bytes:
        """What comes out when nothing is written early, nor before all is known."""
        spec = output_spec(output, OPTIONS[output.name.partition(".")[2]], ("PG",), {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(two_pass, "LEARN_ROWS", ROWS + 1)
            await export(plan, self._spool, self.journal, output, spec, on_note=unexpected)
        return output.read_bytes()


@pytest.mark.parametrize("rewritten_part", sampled([4, 1], 1))
@pytest.mark.parametrize("grows_at", sampled([{1, 6, 11}, set(), {2}], 2))
@pytest.mark.parametrize("ending", OPTIONS)
async def test_it_is_the_same_as_one_that_is_written_at_the_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    grows_at: set[int],
    rewritten_part: int,
) -> None:
    """Whatever order chunks end in, and wherever answers make other columns."""
    monkeypatch.setattr(two_pass, "LEARN_ROWS", CHUNK_SIZE)
    monkeypatch.setattr(two_pass, "MAX_REWRITTEN_PART", rewritten_part)
    run, output = Run(tmp_path, grows_at), tmp_path / f"out.{ending}"
    order = list(range(CHUNKS))
    random.Random(len(grows_at)).shuffle(order)
    told: list[int] = []
    with await run.planned() as plan:
        spec = output_spec(output, OPTIONS[ending], ("PG",), {})
        async with open_export(output, spec, on_note=unexpected) as sink:
            sink.begin(plan, run.answers)
            for index in order:
                chunk = plan.read(index)
                await sink.offer(chunk, await anyio.to_thread.run_sync(run.answer, chunk))
            early = sink.counts.rows
            await sink.write_rest(plan, run.answers, on_rows=told.append)
            assert sink.counts.ok == ROWS
        written = output.read_bytes()
        assert written == await run.exported(plan, tmp_path / f"then.{ending}")
    assert sum(told) == ROWS
    assert told[0] == early
    if ending != "xlsx" and not grows_at:
        assert early == ROWS  # nothing was left for the end


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
async def test_a_chunk_that_comes_while_all_is_taken_back_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """What could not be written is begun again, whatever else ends in that moment."""
    monkeypatch.setattr(two_pass, "LEARN_ROWS", CHUNK_SIZE)
    write = two_pass.TwoPassExport._write
    is_full = False

    def fails_once(self: two_pass.TwoPassExport, settled: SettledChunk, *to: Any) -> Tally:
        nonlocal is_full
        if settled.chunk.index == CHUNKS // 2 and not is_full:
            is_full = True
            raise RunError("the disk is full")
        return write(self, settled, *to)

    monkeypatch.setattr(two_pass.TwoPassExport, "_write", fails_once)
    run, output = Run(tmp_path, set()), tmp_path / f"out.{ending}"
    with await run.planned() as plan:
        spec = output_spec(output, OPTIONS[ending], ("PG",), {})
        async with open_export(output, spec, on_note=unexpected) as sink:
            sink.begin(plan, run.answers)

            async def offer(index: int) -> None:
                chunk = plan.read(index)
                await sink.offer(chunk, await anyio.to_thread.run_sync(run.answer, chunk))

            for index in range(CHUNKS // 2):
                await offer(index)
            chunk = plan.read(CHUNKS // 2 + 1)
            found = await anyio.to_thread.run_sync(run.answer, chunk)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(offer, CHUNKS // 2)
                while not is_full or sink._order._is_giving:
                    await anyio.lowlevel.checkpoint()
                await sink.offer(chunk, found)
            for index in range(CHUNKS // 2 + 2, CHUNKS):
                await offer(index)
            await sink.write_rest(plan, run.answers, on_rows=lambda _rows: None)
            assert sink.counts.ok == ROWS
        assert output.read_bytes() == await run.exported(plan, tmp_path / f"then.{ending}")


async def test_an_input_that_was_not_read_to_its_end_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its later columns would be missing."""
    monkeypatch.setattr(two_pass, "LEARN_ROWS", CHUNK_SIZE)
    batches = InputCopy.__iter__
    is_failing = True

    def failing(self: InputCopy) -> Iterator[InputRows]:
        nonlocal is_failing
        if is_failing:
            is_failing = False
            raise RunError("the disk is out of reach")
        return batches(self)

    monkeypatch.setattr(InputCopy, "__iter__", failing)
    run, source, output = Run(tmp_path, set()), tmp_path / "in.jsonl", tmp_path / "out.csv"
    lines = [{"address": f"{row} Main St"} for row in range(ROWS)]
    lines[-1]["note"] = "precious"
    source.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    with await run.planned(source) as plan:
        spec = output_spec(output, WriteOptions(), ("PG",), {})
        async with open_export(output, spec, on_note=unexpected) as sink:
            sink.begin(plan, run.answers)
            for index in range(CHUNKS):
                chunk = plan.read(index)
                await sink.offer(chunk, await anyio.to_thread.run_sync(run.answer, chunk))
            await sink.write_rest(plan, run.answers, on_rows=lambda _rows: None)
    assert b"precious" in output.read_bytes()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
async def test_a_cancellation_is_noticed_between_two_chunks(tmp_path: Path, ending: str) -> None:
    """All the rest would take as long as the input is large, and is thrown away."""
    run, output = Run(tmp_path, set()), tmp_path / f"out.{ending}"
    told: list[int] = []
    with await run.planned() as plan, anyio.CancelScope() as scope:
        for index in range(CHUNKS):
            await anyio.to_thread.run_sync(run.answer, plan.read(index))

        def tell(rows: int) -> None:
            told.append(rows)
            if rows:
                scope.cancel()

        spec = output_spec(output, WriteOptions(), ("PG",), {})
        async with open_export(output, spec, on_note=unexpected) as sink:
            await sink.write_rest(plan, run.answers, on_rows=tell)
    assert scope.cancelled_caught
    assert told == [0, CHUNK_SIZE]
    assert not output.exists()


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
async def test_rows_out_of_their_order_are_never_an_output(tmp_path: Path, ending: str) -> None:
    """Whatever gives chunks in a wrong order: their number alone would be right."""
    run, output = Run(tmp_path, set()), tmp_path / f"out.{ending}"
    with await run.planned() as plan:
        for index in range(CHUNKS):
            await anyio.to_thread.run_sync(run.answer, plan.read(index))
        read = plan.read
        plan.read = lambda index: read(index ^ 1)  # type: ignore[method-assign]  # in pairs
        spec = output_spec(output, WriteOptions(), ("PG",), {})
        with pytest.raises(RunError, match="was written out of its turn"):
            async with open_export(output, spec, on_note=unexpected) as sink:
                await sink.write_rest(plan, run.answers, on_rows=lambda _rows: None)
    assert not output.exists()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "geojsonl", "jsonl", "jsonl.gz"])
async def test_a_disk_that_is_full_for_a_while_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """The answers need not be there; at the end the output is written from its beginning."""
    monkeypatch.setattr(two_pass, "LEARN_ROWS", CHUNK_SIZE)
    monkeypatch.setattr(compression, "_WRITE_BYTES", 16)
    monkeypatch.setattr(output_files, "WRITE_BUFFER_BYTES", 16)
    write, packed = output_files._Guarded.write, compression._CompressingStream.write
    is_full = True

    def full(self: output_files._Guarded, block: bytes) -> int:
        if is_full and self.is_wanted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, block)

    def packed_full(self: compression._CompressingStream, block: bytes) -> int:
        if is_full and not self.is_abandoned:  # else it would hold back what is so short
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return packed(self, block)

    monkeypatch.setattr(output_files._Guarded, "write", full)
    monkeypatch.setattr(compression._CompressingStream, "write", packed_full)
    run, output = Run(tmp_path, set()), tmp_path / f"out.{ending}"
    with await run.planned() as plan:
        spec = output_spec(output, OPTIONS.get(ending, WriteOptions()), ("PG",), {})
        async with open_export(output, spec, on_note=unexpected) as sink:
            sink.begin(plan, run.answers)
            for index in range(CHUNKS):
                chunk = plan.read(index)
                await sink.offer(chunk, await anyio.to_thread.run_sync(run.answer, chunk))
            is_full = False
            await sink.write_rest(plan, run.answers, on_rows=lambda _rows: None)
            assert sink.counts.ok == ROWS
        is_full = True
        with pytest.raises(RunError, match=r"out\..* cannot be written: No space left"):
            async with open_export(output, spec, on_note=unexpected) as sink:
                await sink.write_rest(plan, run.answers, on_rows=lambda _rows: None)
