"""An event loop whose clock jumps: hours of waiting pass in milliseconds, always the same way.

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})

When nothing is ready, time jumps to the next timer. Sockets and threads work, but take no
time: a timer that is due before a thread is done overtakes it, so what runs here should use
neither (the runner checks outputs of 64 KiB and more in a thread: keep bodies below that).
"""

from __future__ import annotations

import asyncio
import selectors

START_S = 1_000.0  # not 0, which would hide a time that was forgotten
STUCK_AFTER_S = 10.0  # of real time: a thread may be about to wake the loop


class StuckError(RuntimeError):
    """Raised when nothing is ready, nothing is scheduled, and no thread wakes the loop."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None:
            self.now_s += timeout
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
