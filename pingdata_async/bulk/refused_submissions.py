"""Whether 429s are about the rate of requests or about the number of jobs (pure)."""

from __future__ import annotations

import math


class SubmissionsRefused:
    """Watches submissions that are refused by a 429.

    One says nothing of what it is that there is too much of. But where, after the pause that
    it named, other requests pass and submissions are refused again, it is the jobs.

    Attributes:
        closed_until: Until when the last 429 holds back all requests.
    """

    def __init__(self) -> None:
        self.closed_until = -math.inf
        self._is_refused = False
        self._others_pass = False

    def note_refused(self, now: float) -> bool:
        """A submission was refused; says whether it is because there are too many jobs."""
        if now < self.closed_until:  # it was on its way when the pause began
            return False
        is_too_many = self._is_refused and self._others_pass
        self._is_refused, self._others_pass = True, False
        return is_too_many

    def note_answered(self, kind: str, now: float) -> None:
        """A request (submit, poll, fetch) was answered well."""
        if kind == "submit":
            self._is_refused = False
        elif now >= self.closed_until:
            self._others_pass = True
