"""The clock that jumps."""

from __future__ import annotations

import asyncio
import time

import anyio
import anyio.to_thread
import pytest

from tests.simulation import virtual_loop
from tests.simulation.virtual_loop import START_S, StuckError, VirtualLoop


def test_an_hour_passes_at_once() -> None:
    """Sleeping takes simulated time alone, and to the second."""

    async def main() -> float:
        await anyio.sleep(3600)
        return anyio.current_time()

    began = time.monotonic()
    assert anyio.run(main, backend_options={"loop_factory": VirtualLoop}) == START_S + 3600
    assert time.monotonic() - began < 600


def test_timers_fire_in_their_order() -> None:
    """What is due first happens first, whatever was scheduled first."""
    woken: list[int] = []

    async def wake(after_s: int) -> None:
        await anyio.sleep(after_s)
        woken.append(after_s)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for after_s in (30, 10, 20):
                tasks.start_soon(wake, after_s)

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})
    assert woken == [10, 20, 30]


def test_a_thread_wakes_the_loop() -> None:
    """Opening a client, say, uses a thread; the loop waits for it."""

    async def main() -> str:
        return await anyio.to_thread.run_sync(lambda: "done")

    assert anyio.run(main, backend_options={"loop_factory": VirtualLoop}) == "done"


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that wait for nothing end the simulation instead of hanging it."""
    monkeypatch.setattr(virtual_loop, "STUCK_AFTER_S", 0.01)
    loop = VirtualLoop()
    never = loop.create_future()

    async def main() -> None:
        await asyncio.wait([never])

    task = loop.create_task(main())
    with pytest.raises(StuckError):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
