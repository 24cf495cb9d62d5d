"""Several attempts at a chunk, each of which may stop at any moment and go on at any other."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import anyio
import msgspec
import obstore
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from obstore.store import LocalStore, MemoryStore

from pingdata_async.engine.context import ChunkTakenError, Delivery, FinishedChunk, Known
from pingdata_async.engines.protocol import Record, State, cost_of, digest_of, may_follow
from pingdata_async.engines.spec import BatchSpec, settle
from pingdata_async.engines.store import SharedStore
from pingdata_async.engines.task_store import MOST_HELD, STORED, HandingOver, RecordingStore
from pingdata_async.locations.chunk import Chunk, split
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import validate_output
from pingdata_async.util.encoding import EncodedBody, gzipped
from tests.support.chunks import chunk_of
from tests.support.partitions import partition
from tests.support.sweeps import examples

ROWS = 4
MOST_STEPS = 400  # of one attempt that is alone
ATTEMPTS = 4


async def test_finished_chunks_wait_for_a_slow_consumer() -> None:
    """Their answers would fill the memory; who waits goes on when the first is taken."""
    handed_over: list[Delivery] = []
    store = HandingOver(lambda: 0, lambda _, delivery: handed_over.append(delivery))
    finished = FinishedChunk(chunk_of(range(2)), Tally(rows=2))
    async with anyio.create_task_group() as deliveries:
        for _ in range(MOST_HELD + 2):
            deliveries.start_soon(store.deliver, finished)
        await anyio.wait_all_tasks_blocked()
        assert len(handed_over) == MOST_HELD
        for taken in range(MOST_HELD + 2):
            handed_over[taken].take(2)
            await anyio.wait_all_tasks_blocked()
            assert len(handed_over) == min(MOST_HELD + 1 + taken, MOST_HELD + 2)


async def test_who_loses_a_chunk_neither_splits_nor_submits_it() -> None:
    """Another attempt claimed it after it was refused; what that made of it is followed."""
    shared, chunk = SharedStore(MemoryStore()), chunk_of(range(ROWS))
    first, other = (RecordingStore(lambda: 1, lambda *_: None, shared, SPEC, name) for name in "ab")
    parts = split(chunk, [1, 2], [2, 2], was_charged=False)
    for store in first, other:
        assert await store.look_up(chunk) == Known()
    await first.submitting(chunk, charged_before=False, asked={})
    with pytest.raises(ChunkTakenError):
        await other.submitting(chunk, charged_before=False, asked={})
    await first.refused(chunk)
    assert await other.look_up(chunk) == Known()
    await other.submitting(chunk, charged_before=False, asked={})
    with pytest.raises(ChunkTakenError):
        await first.split(chunk, parts)
    await other.refused(chunk)
    await other.split(chunk, parts)
    assert await first.look_up(chunk) == Known(sizes=(2, 2))
    await first.split(chunk, parts)
    assert [record.state for record in (await shared.log(digest_of_chunk(chunk)))[0]] == [
        State.SUBMITTING, State.REFUSED, State.SUBMITTING, State.REFUSED, State.SPLIT
    ]  # fmt: skip


async def test_a_claim_from_the_future_ends_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it stays young by a clock of the storage that was set back since."""
    monkeypatch.setattr(SharedStore, "_age_s", lambda *_: -1e9)
    shared, chunk = SharedStore(MemoryStore()), chunk_of(range(ROWS))
    spec = dataclasses.replace(SPEC, doubt_margin_s=0.02 - SPEC.submit_timeout_s)
    dead, other = (RecordingStore(lambda: 1, lambda *_: None, shared, spec, name) for name in "ab")
    await dead.look_up(chunk)
    await dead.submitting(chunk, charged_before=False, asked={})
    with anyio.fail_after(10.0):
        while (known := await other.look_up(chunk)) is not None and known.wait_s:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(known.wait_s)
    assert known == Known(in_doubt=1)


def digest_of_chunk(chunk: Chunk) -> str:
    return digest_of(SPEC.settings.api, SPEC.question, chunk)


class API:
    """Counts what is paid for; the outcome of each request is drawn before it is sent."""

    def __init__(self) -> None:
        self.accepted = Counter[int]()  # by row
        self.jobs: dict[str, str] = {}  # to what they come

    def submit(self, chunk: Chunk, outcome: str, end: str) -> str | None:
        """The id of a job; None where its answer is lost."""
        if outcome == "refuse":
            return ""
        self.accepted.update(chunk.rows)
        job_id = f"j{len(self.jobs)}"
        self.jobs[job_id] = end
        return None if outcome == "lose" else job_id


class Attempt:
    """An attempt at a chunk, which stands still before each step until it is told to go on."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.draws: Iterator[Any] = iter(())
        self._gate: asyncio.Future[None] | None = None
        self.is_dead = False
        self.answered = Counter[int]()
        indexes = iter(range(1, 1000))
        self.store = RecordingStore(
            lambda: next(indexes), lambda *_: None, world.shared, world.spec, str(number)
        )
        self.task = world.loop.create_task(self._work(chunk_of(range(ROWS))))
        self.task.set_name(str(number))

    async def gate(self) -> None:
        self._gate = asyncio.get_running_loop().create_future()
        await self._gate

    @property
    def is_waiting(self) -> bool:
        return self._gate is not None

    def step(self) -> None:
        """Go on until the next gate."""
        if self._gate is not None:
            self._gate.set_result(None)
            self._gate = None
        for _ in range(20):
            if self.is_waiting or self.task.done():
                break
            self.world.loop.run_until_complete(asyncio.sleep(0))
        if self.task.done():
            self.task.result()

    async def _work(self, chunk: Chunk) -> None:
        await self.gate()
        store, api = self.store, self.world.api
        while True:
            known = await store.look_up(chunk)
            assert known is not None
            if known.outputs:
                digest = known.outputs[0].url.removeprefix(STORED)
                answer = await self.world.shared.answer(digest)
                return self._done(answer.chunk)
            if known.sizes:
                return await self._split(chunk, known.sizes)
            if known.wait_s:
                await self.gate()
                continue
            job_id = known.job_id
            if not job_id:
                try:
                    await store.submitting(chunk, charged_before=False, asked={})
                except ChunkTakenError:
                    continue
                await self.gate()
                told = api.submit(chunk, self.world.outcome, self.world.end)
                await self.gate()
                if told is None:
                    await store.doubted(chunk, "lost", hold=False)
                    continue
                job_id = told
                if not job_id:
                    await store.refused(chunk)
                    if len(chunk.rows) > 1 and await self._try_split(chunk):
                        return await self._split(chunk, (1, len(chunk.rows) - 1))
                    continue
                await store.submitted(chunk, job_id)
            await self.gate()
            if api.jobs[job_id] == "fail":
                await store.job_lost(chunk, "failed")
                continue
            try:
                return await self._deliver(chunk, job_id)
            except ChunkTakenError:  # its answer is there
                continue

    async def _deliver(self, chunk: Chunk, job_id: str) -> None:
        body = b",".join(b'"%d":{"PG":{"is_success":true}}' % row for row in chunk.rows)
        checked = validate_output(chunk, [EncodedBody(gzipped(b"{%b}" % body), "gzip")], ("PG",), 0)
        await self.store.deliver(
            FinishedChunk(chunk, checked.counts, checked=checked, job_id=job_id)
        )
        self._done(chunk)

    def _done(self, chunk: Chunk) -> None:
        self.answered.update(chunk.rows)

    async def _try_split(self, chunk: Chunk) -> bool:
        try:
            await self.store.split(chunk, self._parts(chunk, (1, len(chunk.rows) - 1)))
        except ChunkTakenError:
            return False
        return True

    async def _split(self, chunk: Chunk, sizes: tuple[int, ...]) -> None:
        for part in self._parts(chunk, sizes):
            await self._work(part)

    def _parts(self, chunk: Chunk, sizes: tuple[int, ...]) -> list[Chunk]:
        indexes = [self.store.next_index() for _ in sizes]
        return split(chunk, indexes, list(sizes), was_charged=False)


class World(RuleBasedStateMachine):
    """Attempts that run, die, stand still and wake up; clocks that say what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.spec = SPEC
        self.shared = SharedStore(self.make_store())
        self.api = API()
        self.attempts: list[Attempt] = []
        self.outcome, self.end, self.is_old, self.is_repeated = "accept", "answer", False, False
        self.seen: dict[tuple[str, int], bytes] = {}
        self.stack = contextlib.ExitStack()
        for name in ("put", "get", "get_range"):
            self.stack.enter_context(mock.patch.object(obstore, f"{name}_async", self._gated(name)))
        # Any age: whatever the clocks say, and however long an attempt stood still.
        age = lambda _: 1e9 if self.is_old else 0.0  # noqa: E731
        self.stack.enter_context(mock.patch.object(self.shared, "_age_s", age))

    def make_store(self) -> Any:
        return MemoryStore()

    def _gated(self, name: str) -> Any:
        act: Any = getattr(obstore, name)

        async def gated(*args: Any, **options: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            await self.attempts[int(task.get_name())].gate()
            found = act(*args, **options)
            if name == "put" and self.is_repeated:  # its answer was lost: the client sends it again
                found = act(*args, **options)
            if name != "get":
                return found
            bytes_async = mock.AsyncMock(return_value=found.bytes())
            return mock.Mock(bytes_async=bytes_async, meta=found.meta)

        return gated

    @property
    def alive(self) -> list[Attempt]:
        return [each for each in self.attempts if not each.is_dead and not each.task.done()]

    @precondition(lambda self: len(self.alive) < ATTEMPTS)
    @rule()
    def begin(self) -> None:
        self.attempts.append(attempt := Attempt(self, len(self.attempts)))
        attempt.step()

    @precondition(lambda self: self.alive)
    @rule(
        data=st.data(),
        steps=st.integers(1, 6),
        outcome=st.sampled_from(["accept", "accept", "refuse", "lose"]),
        end=st.sampled_from(["answer", "answer", "fail"]),
        is_old=st.booleans(),
        is_repeated=st.booleans(),
    )
    def go_on(
        self,
        data: st.DataObject,
        steps: int,
        outcome: str,
        end: str,
        *,
        is_old: bool,
        is_repeated: bool,
    ) -> None:
        attempt = data.draw(st.sampled_from(self.alive))
        self.outcome, self.end, self.is_old = outcome, end, is_old
        self.is_repeated = is_repeated
        for _ in range(steps):
            if not attempt.task.done():
                attempt.step()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive)).is_dead = True

    @invariant()
    def whatever_is_paid_for_twice_stands_in_the_store(self) -> None:
        """A location is paid for again only after a doubt or a job that failed; logs stay true."""
        logs = []
        for digest, (records, _) in self.shared._list().items():
            data = [self._object(digest, number + 1) for number in range(records)]
            log = [msgspec.json.decode(each, type=Record) for each in data]
            for number, record in enumerate(log):
                assert may_follow(log[:number], record.state), log
                assert self.seen.setdefault((digest, number), data[number]) == data[number]
            if log:
                logs.append(log)
        states = Counter(record.state for log in logs for record in log)
        reasons = states[State.DOUBT] + states[State.ABANDONED]
        assert max(self.api.accepted.values(), default=0) <= 1 + reasons
        # Claims that are open may have made a job; all others are counted.
        costs = [cost_of(log) for log in logs]
        counted = sum(cost.charged + cost.in_doubt for cost in costs)
        open_ = sum(log[-1].locations for log in logs if log[-1].state is State.SUBMITTING)
        assert self.api.accepted.total() <= counted + open_

    def _object(self, digest: str, number: int) -> bytes:
        return bytes(obstore.get(self.shared._store, f"chunks/{digest}/{number}").bytes())

    def teardown(self) -> None:
        """Whoever comes last gets every row once; then nothing more is paid."""
        try:
            self.outcome, self.end, self.is_old, self.is_repeated = "accept", "answer", True, False
            for _ in range(2):
                paid = self.api.accepted.total()
                self.begin()
                last = self.attempts[-1]
                for _ in range(MOST_STEPS):
                    if last.task.done():
                        break
                    last.step()
                assert last.answered == dict.fromkeys(range(ROWS), 1)
            assert self.api.accepted.total() == paid
            self.whatever_is_paid_for_twice_stands_in_the_store()
        finally:
            self.stack.close()
            for attempt in self.attempts:
                attempt.task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            self.folder.cleanup()


class OnFiles(World):
    def make_store(self) -> Any:
        return LocalStore(self.folder.name)


def _spec() -> BatchSpec:
    return settle(partition(1), "PG", tasks=1, api_url="http://127.0.0.1:1")


SPEC = _spec()

TestInMemory = World.TestCase
TestInMemory.settings = examples(120, stateful_step_count=30)
TestOnFiles = OnFiles.TestCase
TestOnFiles.settings = examples(30, stateful_step_count=30)
