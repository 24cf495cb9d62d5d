"""The time that a run goes by: that of the event loop, which a simulation can make its own."""

from __future__ import annotations

from asyncio import get_running_loop


def now() -> float:
    """The present time in seconds; as `anyio.current_time()`, at a tenth of its cost."""
    return get_running_loop().time()
