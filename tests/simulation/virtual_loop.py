"""An event loop whose clock jumps: hours of waiting pass in milliseconds, always the same way.

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})

When nothing is ready, time jumps to the next timer. Sockets and threads work, but take no
time: a timer that is due before a thread is done overtakes it, so what runs here should use
neither (the engine checks outputs of 64 KiB and more in a thread: keep bodies below that).
"""

from __future__ import annotations

import asyncio
import math
import selectors

START_S = 1_000.0  # not 0, which would hide a time that was forgotten
STUCK_AFTER_S = 10.0  # of real time: a thread may be about to wake the loop
MOST_TURNS_AT_ONCE = math.inf  # of the loop, with no simulated time between them


class StuckError(RuntimeError):
    """Raised when nothing is ready or scheduled, and no thread wakes the loop; or time stands."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns += 1
        if self._turns > MOST_TURNS_AT_ONCE:
            self._turns = 0  # for who cleans up
            raise StuckError("the tasks are busy, and time does not pass")
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None:
            self.now_s += timeout
            self._turns = 0
            return []
        ready = super().select(STUCK_AFTER_S)
        if not ready:
            raise StuckError("every task waits, and for nothing that will happen")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in simulated time; `time()` starts at `START_S`."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """The simulated time in seconds."""
        return self._clock.now_s
