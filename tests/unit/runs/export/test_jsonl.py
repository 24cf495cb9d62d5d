"""The output in the making: early where chunks come in order, and whole in any case."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import SEPARATOR, Chunk, InvalidRow
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.results.validation import ValidatedOutput, validate_output
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.export import open_export
from pingdata_async.runs.export.in_order import Export
from pingdata_async.runs.export.output import OutputSpec
from pingdata_async.runs.export.results import ResultReader
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.files import write_pieces
from tests.support.answers import MemoryJournal
from tests.support.runs import unexpected
from tests.support.sweeps import sampled
from tests.unit.results.test_offset_index import SOURCES, usual

ROWS, CHUNK_SIZE = 60, 5
CHUNKS = ROWS // CHUNK_SIZE


class Setting:
    """A plan whose every chunk is answered, and spooled.

    Args:
        folder: For all of it.
        back: From row `back` on, every fourth row is the same as the one that far before.
    """

    def __init__(self, folder: Path, back: int = ROWS) -> None:
        self.back = back
        self.output = folder / "out.jsonl"
        self.plan: Plan
        self.spool = Spool(folder / "spool")
        self.journal = MemoryJournal(self.spool)
        self.answers = ResultReader(self.spool, self.journal, SOURCES)
        self.checked: list[tuple[Chunk, ValidatedOutput]] = []
        self.rendered_late = 0

    async def prepare(self, folder: Path) -> None:
        source = folder / "in.csv"
        numbers = [row - self.back * self.is_repeated(row) for row in range(ROWS)]
        source.write_text("address\n" + "".join(f"{number} Main St\n" for number in numbers))
        builder = ChunkBuilder(chunk_size=CHUNK_SIZE, sources=SOURCES)
        self.plan = await write_plan(folder / "plan", source, builder)
        with self.plan:
            await anyio.to_thread.run_sync(self._answer)

    def is_repeated(self, row: int) -> bool:
        return row >= self.back and row % 4 == 3

    def _answer(self) -> None:
        for index in range(self.plan.chunks):
            chunk = self.plan.read(index)
            body = EncodedBody(usual(chunk.rows, n=index))
            self.checked.append(
                (chunk, validate_output(chunk, [body], SOURCES, 0, with_results=False))
            )
            self.journal.keep(index, body)

    @contextlib.asynccontextmanager
    async def writer(
        self, output: Path | str | None = None, failures: Path | None = None
    ) -> AsyncIterator[Export]:
        """An output that is written while chunks end."""
        output = output or self.output
        with self.plan:
            async with open_export(
                output, OutputSpec(), on_note=unexpected, failures=failures
            ) as writer:
                writer.begin(self.plan, self.answers)
                yield writer

    async def note(self, index: int) -> None:
        """A planned chunk is answered, by the journal."""
        await anyio.to_thread.run_sync(self.journal.put, self.checked[index][0], "spooled")

    async def offer(self, writer: Export, index: int) -> None:
        await self.note(index)
        chunk, checked = self.checked[index]
        assert checked.offset_index is not None
        assert checked.content is not None
        await writer.offer(chunk, (checked.offset_index, checked.content))

    async def write_rest(self, writer: Export) -> list[int]:
        """Returns what is said of rows, for all that was early, and then for each chunk."""
        told: list[int] = []
        for index in range(self.plan.chunks):
            await self.note(index)
        await writer.write_rest(self.plan, self.answers, on_rows=told.append)
        return told

    def check(self) -> None:
        lines = self.output.read_bytes().splitlines()
        answers = [line.partition(b'"location_data":')[2] for line in lines]
        for row in filter(self.is_repeated, range(ROWS)):
            assert answers[row] == answers[row - self.back]
        assert [int(line.partition(b'"row":')[2].partition(b",")[0]) for line in lines] == list(
            range(ROWS)
        )


@pytest.fixture
async def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    await setting.prepare(tmp_path)
    return setting


@pytest.mark.parametrize("back", [ROWS, 30, 14])
async def test_chunks_that_come_in_order_are_written_at_once(tmp_path: Path, back: int) -> None:
    """Nothing is left for the end, and the file has its name only then; also where rows recur."""
    setting = Setting(tmp_path, back)
    await setting.prepare(tmp_path)
    written = 0
    async with setting.writer() as writer:
        for index in range(setting.plan.chunks):
            await setting.offer(writer, index)
            written += setting.checked[index][0].total_rows
            assert writer.counts.rows == written
        assert not setting.output.exists()
        assert await setting.write_rest(writer) == [ROWS]
    assert (writer.counts.rows, writer.counts.ok) == (ROWS, ROWS)
    setting.check()


@pytest.mark.parametrize("back", [ROWS, 30, 14])
@pytest.mark.parametrize("seed", sampled([1, 4, 7, 0, 2, 3, 5, 6], 3))
async def test_whatever_the_order_each_row_is_written_once(
    tmp_path: Path, seed: int, back: int
) -> None:
    """A little out of order, far out of order, or never offered; also where rows recur."""
    setting = Setting(tmp_path, back)
    await setting.prepare(tmp_path)
    chunks = setting.plan.chunks
    assert setting.plan.summary.repeated == sum(map(setting.is_repeated, range(ROWS)))
    rng = random.Random(seed)
    order = sorted(range(chunks), key=lambda index: index + rng.uniform(0, seed))
    skipped = set(rng.sample(range(chunks), seed // 3))
    async with setting.writer() as writer:
        async with anyio.create_task_group() as tasks:
            for index in order:
                if index not in skipped:
                    tasks.start_soon(setting.offer, writer, index)
        early = writer.counts.rows
        told = await setting.write_rest(writer)
    assert told[0] == early
    assert sum(told) == ROWS
    setting.check()


async def test_whatever_waits_for_the_first_chunk_is_written_behind_it(setting: Setting) -> None:
    """It is late: few are kept in memory, and once it is there nothing is left for the end."""
    async with setting.writer() as writer:
        for index in range(1, CHUNKS):
            await setting.offer(writer, index)
            assert writer.counts.rows == 0
        await setting.offer(writer, 0)
        assert writer.counts.rows == ROWS
        assert await setting.write_rest(writer) == [ROWS]
    setting.check()


async def test_a_disk_that_is_full_for_a_while_stops_no_run(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cut off is taken back, and all is written anew at the end."""
    calls = itertools.count()

    def full_at_first(file: int, pieces: Sequence[bytes | memoryview]) -> None:
        if next(calls) == 2:
            write_pieces(file, pieces[:1])
            raise OSError(28, "No space left on device")
        write_pieces(file, pieces)

    monkeypatch.setattr("pingdata_async.runs.export.output.write_pieces", full_at_first)
    async with setting.writer() as writer:
        for index in range(CHUNKS):
            await setting.offer(writer, index)
            assert writer.counts.rows == (index + 1) * CHUNK_SIZE * (index < 2)
        [part] = setting.output.parent.glob(".out.jsonl.*.part")
        assert part.stat().st_size == 0  # the answers need the disk more
        assert await setting.write_rest(writer) == [0, *[CHUNK_SIZE] * CHUNKS]
    setting.check()


async def test_failures_that_were_taken_back_are_written_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have a file of their own, which is begun again with the output."""
    for index, (chunk, _) in enumerate(setting.checked):
        without = msgspec.structs.replace(
            chunk,
            rows=chunk.rows[1:],
            ids=chunk.ids[1:],
            body=SEPARATOR.join(chunk.locations[1:]),
            invalid=[InvalidRow(chunk.rows[0], None, "no")],
        )
        body = EncodedBody(usual(without.rows))
        setting.checked[index] = (
            without,
            validate_output(without, [body], SOURCES, 0, with_results=False),
        )
    calls = itertools.count()

    def full_at_first(file: int, pieces: Sequence[bytes | memoryview]) -> None:
        if next(calls) == 4:
            raise OSError(28, "No space left on device")
        write_pieces(file, pieces)

    monkeypatch.setattr("pingdata_async.runs.export.output.write_pieces", full_at_first)
    failures = setting.output.with_name("failures.jsonl")
    async with setting.writer(failures=failures) as writer:
        for index in range(CHUNKS):
            await setting.offer(writer, index)
        await setting.write_rest(writer)  # by the plan, which has no such rows
    assert not failures.exists()
    setting.check()


async def test_a_disk_that_stays_full_is_told_at_the_end(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error that names the file, which is not there then."""

    def full(_file: int, _pieces: Sequence[bytes | memoryview]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pingdata_async.runs.export.output.write_pieces", full)

    async def write() -> None:
        async with setting.writer() as writer:
            await setting.offer(writer, 0)
            await setting.write_rest(writer)

    with pytest.raises(RunError, match=r"out\.jsonl cannot be written: No space"):
        await write()
    assert [path.name for path in setting.output.parent.glob("*out*")] == []


async def test_nothing_goes_to_standard_output_early(
    setting: Setting, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A run that stops must not have written half of it."""
    async with setting.writer("-") as writer:
        await setting.offer(writer, 0)
        assert writer.counts.rows == 0
        assert capfdbinary.readouterr().out == b""
        await setting.write_rest(writer)
    assert capfdbinary.readouterr().out.count(b"\n") == ROWS
