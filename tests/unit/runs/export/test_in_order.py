"""Planned chunks at their turn, while a run goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.locations.chunk import Chunk, batch_rows, retry_row, split
from pingdata_async.results.offset_index import OffsetIndex
from pingdata_async.results.validation import validate_output
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export import in_order
from pingdata_async.runs.export.in_order import InputOrder
from pingdata_async.runs.export.results import ResultReader, SettledChunk
from pingdata_async.runs.journal.records import SpoolPlace
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.loop import SingleThreadExecutor
from tests.support.answers import MemoryJournal, planned_chunks
from tests.unit.results.test_offset_index import SOURCES, usual

CHUNKS, CHUNK_SIZE = 12, 4
ROOM_BYTES = 5 * len(usual(list(range(CHUNK_SIZE)))) // 2  # for two contents

Found = tuple[OffsetIndex, bytes]


class _Plan(Plan):
    """Chunks in memory."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks

    @property
    def chunks(self) -> int:
        return len(self._chunks)

    def read(self, index: int) -> Chunk:
        return self._chunks[index]


class Setting:
    """A run of some chunks, whose outputs come when a test says so."""

    def __init__(self, folder: Path, thread: SingleThreadExecutor) -> None:
        self.chunks = planned_chunks(CHUNKS * CHUNK_SIZE, CHUNK_SIZE)
        self.spool = _CountingSpool(folder / "spool")
        self.journal = MemoryJournal(self.spool)
        self.taken: list[SettledChunk] = []
        self.order = InputOrder(thread, self.take)
        self.plan = _Plan(self.chunks)
        self.answers = ResultReader(self.spool, self.journal, SOURCES)
        self.order.begin(self.plan, self.answers)

    async def take(self, settled: SettledChunk) -> bool:
        await anyio.lowlevel.checkpoint()  # others come meanwhile
        self.taken.append(settled)
        return True

    async def end(self, chunk: Chunk, *, is_usual: bool = True) -> None:
        """A chunk's answers are kept."""
        found = await anyio.to_thread.run_sync(self._keep, chunk)
        await self.order.offer(chunk, found if is_usual else None)

    def _keep(self, chunk: Chunk) -> Found:
        body = EncodedBody(usual(chunk.rows))
        self.journal.keep(chunk.index, body)
        checked = validate_output(chunk, [body], SOURCES, 0, with_results=False)
        self.journal.put(chunk, "spooled", offset_index=checked.offset_index)
        return checked.offset_index or OffsetIndex([], []), body.raw

    async def note(self, chunk: Chunk, state: str) -> None:
        await anyio.to_thread.run_sync(self.journal.put, chunk, state)

    def check(self, chunks: int) -> None:
        """So many were taken, in order, with the answers to all of their rows."""
        assert [settled.chunk.index for settled in self.taken] == list(range(chunks))
        for settled in self.taken:
            results = settled.outcomes()
            assert not results.unsettled
            assert [result.row for result in results.settled] == settled.chunk.rows
            for result in results.settled:
                assert b'"is_success":true' in bytes(result.data)


class _CountingSpool(Spool):
    reads = 0

    def read(self, index: int, place: SpoolPlace) -> bytes:
        self.reads += 1
        return super().read(index, place)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with SingleThreadExecutor("export") as thread:
        yield Setting(tmp_path, thread)


async def test_what_comes_in_order_is_never_read_back(setting: Setting) -> None:
    """Each is taken at once, with the content at hand."""
    for number, chunk in enumerate(setting.chunks, 1):
        await setting.end(chunk)
        setting.check(number)
    assert setting.spool.reads == 0


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_order_all_are_taken_before_the_end(
    setting: Setting, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two contents: the others are read back, and nothing waits for the end."""
    monkeypatch.setattr(in_order, "MAX_WAITING_BYTES", ROOM_BYTES)
    monkeypatch.setattr(in_order, "READ_BACK_AT_ONCE", CHUNKS)
    rng = random.Random(seed)
    async with anyio.create_task_group() as tasks:
        for chunk in sorted(setting.chunks, key=lambda chunk: chunk.index + rng.uniform(0, 8)):
            tasks.start_soon(setting.end, chunk)
    setting.check(CHUNKS)


@pytest.mark.parametrize(("bound", "most"), [("MAX_WAITING_BYTES", ROOM_BYTES), ("MAX_WAITING", 2)])
async def test_memory_holds_few_contents_and_rather_the_next_ones(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """All but the first come, the last ones first: two are kept, and the others read back."""
    monkeypatch.setattr(in_order, bound, most)
    for chunk in reversed(setting.chunks[1:]):
        await setting.end(chunk)
        assert len(setting.order._waiting) <= 2
    assert sorted(setting.order._waiting) == [1, 2]
    await setting.end(setting.chunks[0])
    assert setting.spool.reads == in_order.READ_BACK_AT_ONCE
    setting.check(3 + in_order.READ_BACK_AT_ONCE)


async def test_a_slow_consumer_holds_back_whoever_offers(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chunk is being taken, two contents fit, and the next one waits: none is read back."""
    monkeypatch.setattr(in_order, "MAX_WAITING_BYTES", ROOM_BYTES)
    found = [await anyio.to_thread.run_sync(setting._keep, chunk) for chunk in setting.chunks]
    offered: list[int] = []
    gate = anyio.Event()

    async def slow(settled: SettledChunk) -> bool:
        await gate.wait()
        return await setting.take(settled)

    async def offer_rest() -> None:
        for chunk in setting.chunks[1:]:
            await setting.order.offer(chunk, found[chunk.index])
            offered.append(chunk.index)

    monkeypatch.setattr(setting.order, "_take", slow)
    async with anyio.create_task_group() as tasks:
        for chunk in setting.chunks:
            setting.order.expect(chunk)
        tasks.start_soon(setting.order.offer, setting.chunks[0], found[0])
        tasks.start_soon(offer_rest)
        await anyio.wait_all_tasks_blocked()
        assert offered == [1, 2]
        gate.set()
    setting.check(CHUNKS)
    assert setting.spool.reads == 0


async def test_what_is_about_to_be_offered_is_not_read_back(setting: Setting) -> None:
    """One commit notes two chunks, and the second is offered first."""
    first, second = setting.chunks[:2]
    for chunk in (first, second):
        setting.order.expect(chunk)
    found = await anyio.to_thread.run_sync(setting._keep, first)
    await setting.end(second)
    setting.check(0)
    await setting.order.offer(first, found)
    setting.check(2)
    assert setting.spool.reads == 0


async def test_chunks_of_an_earlier_process_are_read_back(setting: Setting) -> None:
    """A few for each chunk that ends now, so that none waits long for them."""
    for chunk in setting.chunks[:8]:
        await anyio.to_thread.run_sync(setting._keep, chunk)
    await setting.end(setting.chunks[10])
    setting.check(4)
    await setting.end(setting.chunks[9])
    setting.check(8)
    await setting.end(setting.chunks[8])
    setting.check(11)
    assert setting.spool.reads == 8


async def test_a_chunk_that_was_split_is_taken_with_its_last_part(setting: Setting) -> None:
    """The chunks behind it wait, and follow at once."""
    first = setting.chunks[0]
    for chunk in setting.chunks[2:4]:
        await setting.end(chunk)
    parts = split(first, [100, 101], [1, 3], was_charged=True)
    await setting.note(first, "split")
    for part in parts:
        await setting.note(part, "submitted")
    await setting.end(setting.chunks[1])
    await setting.end(parts[1])
    setting.check(0)
    await setting.end(parts[0])
    setting.check(4)


async def test_rows_that_are_retried_are_waited_for(setting: Setting) -> None:
    """First as rows that wait, then in a later chunk with those of another planned one."""
    first, second = setting.chunks[:2]
    await setting.end(first, is_usual=False)
    setting.check(1)  # an unusual one, of which nothing is retried
    await setting.end(second, is_usual=False)
    setting.taken.clear()
    setting.order.start_over()
    setting.order.begin(setting.plan, setting.answers)
    waiting = {first.rows[1]: 0, second.rows[2]: 1}
    await anyio.to_thread.run_sync(setting.journal.wait, waiting)
    await setting.end(setting.chunks[2])
    setting.check(0)
    retried = [retry_row(first, 1, SOURCES, b"{}"), retry_row(second, 2, SOURCES, b"{}")]
    later = batch_rows(100, retried)
    await anyio.to_thread.run_sync(setting.journal.wait, {})
    await setting.note(later, "planned")
    await setting.end(setting.chunks[3])
    setting.check(0)
    await setting.end(later)
    setting.check(4)


async def test_a_chunk_that_ends_while_the_journal_is_asked_is_not_missed(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offer finds somebody asking, who heard too early that it has not ended."""
    asked = setting.answers.read_if_ended
    late: list[anyio.Event] = []

    def read_if_ended(index: int, plan: Plan) -> SettledChunk | None:
        found = asked(index, plan)
        if not late:
            late.append(anyio.Event())
            anyio.from_thread.run_sync(late[0].set)
            anyio.from_thread.run(end_meanwhile)
        return found

    async def end_meanwhile() -> None:
        await setting.end(setting.chunks[0], is_usual=False)

    async def run(work: object) -> object:
        return await anyio.to_thread.run_sync(work)  # type: ignore[arg-type]  # any callable

    monkeypatch.setattr(setting.answers, "read_if_ended", read_if_ended)
    monkeypatch.setattr(setting.order._thread, "run", run)
    await setting.end(setting.chunks[1])
    setting.check(2)


async def test_what_was_not_taken_is_offered_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that fails has not taken the chunk: the next one to come finds its turn."""
    taken = setting.take

    async def fail(_settled: SettledChunk) -> None:
        raise RunError("no")

    monkeypatch.setattr(setting.order, "_take", fail)
    with pytest.raises(RunError, match="no"):
        await setting.end(setting.chunks[0])
    monkeypatch.setattr(setting.order, "_take", taken)
    await setting.end(setting.chunks[1])
    setting.check(2)


async def test_the_end_gives_what_has_not_ended_too(setting: Setting) -> None:
    """Whoever exports a run that goes on wants what there is."""
    await setting.end(setting.chunks[0])
    await setting.end(setting.chunks[3])
    await setting.order.finish(setting.plan, setting.answers)
    indexes = [settled.chunk.index for settled in setting.taken]
    assert indexes == list(range(CHUNKS))
    unsettled = [len(settled.outcomes().unsettled) for settled in setting.taken]
    assert unsettled == [0, 4, 4, 0, *[4] * 8]
    assert msgspec.json.decode(bytes(setting.taken[3].outcomes().settled[0].data))
