"""Whose time is counted as what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from benchmarks.throughput.stage_clocks import BESIDE, LOOP, STAGES, StageClocks
from pingdata_async.runs.directory.plan import Plan

OUTER, INNER = list(STAGES)[:2]
LEAST_S = 0.02


def busy() -> None:
    """Use the CPU."""
    until = time.thread_time() + LEAST_S
    while time.thread_time() < until:
        pass


def within(clocks: StageClocks) -> Callable[[], None]:
    """A stage of which half belongs to another one."""

    def outer() -> None:
        busy()
        clocks.timed(INNER, busy)()

    return clocks.timed(OUTER, outer)


def test_stages_and_the_rest_are_the_whole() -> None:
    """A stage within another counts once; the main thread's rest is the loop's."""
    clocks = StageClocks()
    work = within(clocks)
    began = time.process_time()
    with clocks.running():
        work()
        busy()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    cpu_s = time.process_time() - began
    found = clocks.all_s(cpu_s)
    assert abs(sum(found.values()) - cpu_s) < 1e-6
    assert found[OUTER] >= 2 * LEAST_S
    assert found[INNER] >= 2 * LEAST_S
    assert found[LOOP] >= LEAST_S
    assert found[BESIDE] >= 0
    assert found[OUTER] + found[INNER] <= cpu_s - LEAST_S


def test_every_stage_is_where_it_is_looked_for() -> None:
    """And is itself again afterwards."""
    itself = Plan.read
    with StageClocks().running():
        assert Plan.read is not itself
    assert Plan.read is itself
