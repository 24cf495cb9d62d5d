"""What this process uses: CPU, memory, faults, and how late its event loop is."""

from __future__ import annotations

import array
import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

LOOK_EVERY_S = 0.005


@dataclass
class Usage:
    """What was used between two moments, all threads and awaited children included.

    Attributes:
        cpu_s: User and system time.
        system_s: The part in the kernel.
        wall_s: Time.
        minor_faults: Pages that had to be mapped.
        waits: Voluntary context switches.
        preemptions: Involuntary ones: others wanted the core.
    """

    cpu_s: float = 0.0
    system_s: float = 0.0
    wall_s: float = 0.0
    minor_faults: int = 0
    waits: int = 0
    preemptions: int = 0


def _used() -> Usage:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    system_s = own.ru_stime + children.ru_stime
    return Usage(
        cpu_s=own.ru_utime + children.ru_utime + system_s,
        system_s=system_s,
        wall_s=time.monotonic(),
        minor_faults=own.ru_minflt + children.ru_minflt,
        waits=own.ru_nvcsw + children.ru_nvcsw,
        preemptions=own.ru_nivcsw + children.ru_nivcsw,
    )


@contextlib.contextmanager
def measured() -> Iterator[Usage]:
    """What the block uses; filled in when it ends."""
    usage = Usage()
    before = _used()
    yield usage
    after = _used()
    for name, value in vars(after).items():
        setattr(usage, name, value - getattr(before, name))


def max_rss_mb() -> float:
    """The most memory that this whole process ever had, in units of a million bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass
class LoopLag:
    """How late the event loop woke a sleeper, looked at every 5 ms.

    Attributes:
        late_s: Each time.
    """

    late_s: array.array[float] = field(default_factory=lambda: array.array("f"))

    def milliseconds(self) -> dict[str, float] | None:
        """The median, what one in a hundred exceeded, and the worst; None if never looked."""
        if not self.late_s:
            return None
        ordered = sorted(self.late_s)
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        last = len(ordered) - 1
        return {name: round(1000 * ordered[int(share * last)], 2) for name, share in shares.items()}


@contextlib.asynccontextmanager
async def loop_watched() -> AsyncIterator[LoopLag]:
    """Watch the event loop during the block."""
    lag = LoopLag()
    task = asyncio.create_task(_watch(lag))
    try:
        yield lag
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _watch(lag: LoopLag) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
        lag.late_s.append(time.monotonic() - began - LOOK_EVERY_S)
