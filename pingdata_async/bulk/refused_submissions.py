"""Whether 429s are about the rate of requests or about the number of jobs (pure)."""

from __future__ import annotations

import math


class SubmissionsRefused:
    """Watches submissions that are refused by a 429.

    One says nothing of what it is that there is too much of. But where submissions are refused
    again after the pause that it named, and none was accepted in between, it is the jobs: a
    rate would have allowed the first requests after it, or refused other kinds as well.

    Attributes:
        closed_until: Until when the last 429 holds back all requests.
    """

    def __init__(self) -> None:
        self.closed_until = -math.inf
        self._is_refused = False

    def note_refused(self, kind: str, now: float) -> bool:
        """A request was refused; says whether it is because there are too many jobs."""
        if now < self.closed_until:  # it was on its way when the pause began
            return False
        if kind != "submit":  # the rate, then, or not only the jobs
            self._is_refused = False
            return False
        was_refused, self._is_refused = self._is_refused, True
        return was_refused

    def note_answered(self, kind: str) -> None:
        """A request was answered well."""
        if kind == "submit":
            self._is_refused = False
