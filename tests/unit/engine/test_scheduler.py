"""The queue of what is due: who gets what, and when."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.scheduler import DelayQueue
from tests.simulation.virtual_loop import START_S, VirtualLoop


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def test_items_come_when_they_are_due_and_in_that_order() -> None:
    """Not before their time, the earliest first, equals in the order in which they came."""
    queue = DelayQueue[str]()
    now = anyio.current_time()
    for item, due in (("c", 30.0), ("a", 10.0), ("b1", 20.0), ("b2", 20.0), ("past", -5.0)):
        queue.put(item, now + due)
    assert len(queue) == 5
    got = [(await queue.get(), round(anyio.current_time() - now, 6)) for _ in range(5)]
    assert got == [("past", 0), ("a", 10), ("b1", 20), ("b2", 20), ("c", 30)]


async def test_something_due_sooner_wakes_who_waits_for_something_later() -> None:
    """A worker asleep until tomorrow takes what is due in a second."""
    queue = DelayQueue[str]()
    began = anyio.current_time()
    queue.put("tomorrow", began + 86_400)

    async def add() -> None:
        await anyio.sleep(1)
        queue.put("soon", began + 2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add)
        assert await queue.get() == "soon"
    assert anyio.current_time() == pytest.approx(began + 2)


async def test_whoever_is_cancelled_while_waiting_takes_nothing() -> None:
    """An item goes to somebody else, whichever of the waiting workers is cancelled."""
    for victim in range(3):
        queue = DelayQueue[str]()
        got: list[str] = []
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def work(
            scope: anyio.CancelScope, queue: DelayQueue[str] = queue, got: list[str] = got
        ) -> None:
            with scope:
                got.append(await queue.get())

        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(work, scope)
            await anyio.wait_all_tasks_blocked()
            queue.put("a", anyio.current_time() + 1)
            queue.put("b", anyio.current_time() + 2)
            await anyio.sleep(0.5)
            scopes[victim].cancel()
        assert got == ["a", "b"]


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 5))
def test_every_item_is_given_once(delays: list[float], workers: int) -> None:
    """However many workers wait, each item goes to one of them, at its time."""

    async def main() -> None:
        queue = DelayQueue[int]()
        got: dict[int, float] = {}

        async def work() -> None:
            while True:
                item = await queue.get()
                assert item not in got
                got[item] = anyio.current_time() - START_S

        async with anyio.create_task_group() as tasks:
            for _ in range(workers):
                tasks.start_soon(work)
            for item, delay in enumerate(delays):
                queue.put(item, START_S + delay)
            await anyio.sleep(200)
            tasks.cancel_scope.cancel()
        assert got == {item: pytest.approx(delay) for item, delay in enumerate(delays)}

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})
