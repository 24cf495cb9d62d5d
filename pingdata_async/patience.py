"""How long an answer is waited for (pure): a silence has an end, and so has a drip.

The HTTP library's own time-outs end neither a body that it stumbled over nor one that comes a byte
a second.
"""

from __future__ import annotations

MIN_BYTES_PER_S = 1000  # a fifth of what a telephone modem brings
SILENCES_PER_WINDOW = 2

# Whoever always sends just enough to go on with would hold a connection for days.
WHOLE_BYTES_PER_S = 50_000  # on average, of the largest body that is taken
WHOLE_AT_LEAST_S = 600.0


def download_s(max_bytes: int) -> float:
    """How long a download may be waited for in all, of no more than so many bytes."""
    return WHOLE_AT_LEAST_S + max_bytes / WHOLE_BYTES_PER_S


class Patience:
    """What one answer may still take.

    Only the time is counted in which the network was waited for: whoever reads slowly is charged
    for nothing.

    Args:
        silence_s: Without a byte of it.
        total_s: For all of it; meanwhile it has to come at `MIN_BYTES_PER_S`.
    """

    def __init__(self, silence_s: float, total_s: float) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self._window_s = SILENCES_PER_WINDOW * silence_s
        self._waited_s = 0.0
        self._began_s = 0.0  # the present window, in seconds waited
        self._in_window_bytes = 0

    @property
    def left_s(self) -> float:
        """How long the next piece may be waited for."""
        return max(0.0, min(self._silence_s, self._total_s - self._waited_s))

    def note(self, size_bytes: int, waited_s: float) -> None:
        """Take in that a piece has come.

        Args:
            size_bytes: Its size.
            waited_s: How long it was waited for.

        Raises:
            TimeoutError: When too little comes to go on with; it says how little.
        """
        self._waited_s += waited_s
        self._in_window_bytes += size_bytes
        seconds = self._waited_s - self._began_s
        if seconds < self._window_s:
            return
        if self._in_window_bytes < MIN_BYTES_PER_S * seconds:
            raise TimeoutError(f"no more than {self._in_window_bytes} bytes in {seconds:,.1f} s")
        self._began_s, self._in_window_bytes = self._waited_s, 0

    def ended(self) -> TimeoutError:
        """The error where `left_s` have passed without a byte; it says so."""
        if self._total_s - self._waited_s < self._silence_s:
            return TimeoutError(f"it was not whole within {self._total_s:,.1f} s")
        return TimeoutError(f"not a byte came for {self._silence_s:,.1f} s")
