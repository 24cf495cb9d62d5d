"""How many requests a second the API takes: what its user knows, and what 429s teach (pure).

As long as nothing was ever refused, nothing is held back. The first 429 shows a rate that was
too much, and from then on requests leave evenly spaced, a little below it. From there the rate
follows the curve of CUBIC, as in AWS's adaptive retry mode: it soon comes close to where it was
refused, stays there for long, and only then probes beyond, ever faster; so a limit is met once
or twice a minute, and one that was lifted is found. AWS's own constants would meet it every few
seconds, and each meeting costs the whole `Retry-After`.

A second 429 that comes too early shows that the first guess was a burst or a window, not a
rate. But what is let through from one 429 to the next, the time of waiting included, is just
what such a limit lets through in the long run, and it is the same each time. Where it is not,
and 429s keep coming although the pace is no faster than what was let through before, they are
no matter of the rate (a gateway in trouble): then they are left to their `Retry-After` alone
for a while. As long as nobody knows, nothing goes below a pace that is slow anyway.
"""

from __future__ import annotations

import math
from collections import deque

BELOW_REFUSED = 0.95  # where to begin, as a share of the rate that was refused
BACK_AFTER_S = 5.0  # until the refused rate is tried again; each time twice as long
BACK_AFTER_S_AT_MOST = 30.0
SLOW_PER_S = 20.0  # no slower, unless it is clear that the API takes no more
CLEAR_FOR_S = 120.0
SLOWEST_PER_S = 0.1
TELLING = 0.8  # a pace is far too fast if less than this share of it was let through
TIMES_THE_SAME = 3
THE_SAME_WITHIN = 1.3
VAIN_ATTEMPTS = 5
VAIN_WITHIN_S = 1.5
UNRELATED_FOR_S = 60.0  # each time twice as long
UNRELATED_FOR_S_AT_MOST = 3600.0
_BUCKETS_PER_S = 10


class RequestRate:
    """The times at which requests may leave, evenly spaced where there is a rate.

    Attributes:
        allowed_per_s: What the user says; infinity for nothing.
    """

    def __init__(self) -> None:
        self.allowed_per_s = math.inf
        self._next_at = -math.inf
        self._recent = _Recent()
        self._refused_per_s = math.inf  # the rate that is tried again at the end of a plateau
        self._back_after_s = BACK_AFTER_S
        self._refused_at = -math.inf
        self._let_through = 0  # since then
        self._told_per_s: deque[float] = deque(maxlen=TIMES_THE_SAME)
        self._slowest_per_s = SLOW_PER_S
        self._clear_until = -math.inf
        self._in_vain = 0
        self._unrelated_for_s = UNRELATED_FOR_S
        self._unrelated_until = -math.inf

    def per_s(self, now: float) -> float:
        """Requests a second at present; infinity where no limit is known."""
        if math.isinf(self._refused_per_s):
            return self.allowed_per_s
        since = (now - self._refused_at) / self._back_after_s - 1.0
        learnt_per_s = self._refused_per_s * (1.0 + (1.0 - BELOW_REFUSED) * since**3)
        return min(self.allowed_per_s, learnt_per_s)

    def next_at(self) -> float:
        """When the next request may leave."""
        return self._next_at

    def note_sent(self, now: float) -> None:
        """A request leaves."""
        per_s = self.per_s(now)
        if not math.isinf(per_s):
            # A timer is a little late at each; without this that would add up.
            self._next_at = max(self._next_at, now - 1.0 / per_s) + 1.0 / per_s

    def note_let_through(self, now: float) -> None:
        """A request was not refused for coming too soon."""
        self._recent.add(now)
        self._let_through += 1

    def note_refused(self, now: float, *, open_since: float) -> None:
        """A request was refused for coming too soon, after a time in which none was.

        Args:
            now: The present time.
            open_since: When the last pause was over.
        """
        if now > self._clear_until:
            self._slowest_per_s = SLOW_PER_S
        if now >= self._unrelated_until:
            self._refused_per_s = max(self._learn(now, open_since), self._slowest_per_s)
        self._refused_at = now
        self._let_through = 0

    def _learn(self, now: float, open_since: float) -> float:
        """The rate that is too much; infinity where the rate is not to blame."""
        recent_per_s = float(self._recent.within_a_second(now))
        if math.isinf(self._refused_per_s):
            return recent_per_s
        per_s = self.per_s(now)
        was_open_for_long = now - open_since >= 1.0
        if was_open_for_long:  # less may have been sent than was allowed
            per_s = min(per_s, recent_per_s)
        if now - self._refused_at >= self._back_after_s:  # it was, and we tried it again
            self._back_after_s = min(BACK_AFTER_S_AT_MOST, 2.0 * self._back_after_s)
            self._in_vain = 0
            return per_s
        # A limit that is nearly met refuses after seconds at that pace, not at once.
        is_in_vain = self._let_through < VAIN_WITHIN_S * per_s
        self._in_vain = self._in_vain + 1 if is_in_vain else 0
        let_through_per_s = self._let_through / max(1e-3, now - self._refused_at)
        is_far_too_fast = not was_open_for_long and let_through_per_s < TELLING * per_s
        if is_far_too_fast and self._is_always(let_through_per_s):
            self._slowest_per_s = sum(self._told_per_s) / TIMES_THE_SAME
            self._clear_until = now + CLEAR_FOR_S
            self._back_after_s = BACK_AFTER_S  # of a window less is let through than it allows
            self._in_vain = 0
            return self._slowest_per_s
        if self._in_vain < VAIN_ATTEMPTS:
            return per_s
        self._in_vain = 0
        self._back_after_s = BACK_AFTER_S
        self._unrelated_until = now + self._unrelated_for_s
        self._unrelated_for_s = min(UNRELATED_FOR_S_AT_MOST, 2.0 * self._unrelated_for_s)
        return math.inf

    def _is_always(self, let_through_per_s: float) -> bool:
        told = self._told_per_s
        told.append(max(SLOWEST_PER_S, let_through_per_s))
        return len(told) == TIMES_THE_SAME and max(told) <= THE_SAME_WITHIN * min(told)


class _Recent:
    """Counts what happened within the last second."""

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque()

    def add(self, now: float) -> None:
        bucket = math.floor(now * _BUCKETS_PER_S)
        if not self._buckets or self._buckets[-1][0] != bucket:
            self._forget(bucket)
            self._buckets.append([bucket, 0])
        self._buckets[-1][1] += 1

    def within_a_second(self, now: float) -> int:
        self._forget(math.floor(now * _BUCKETS_PER_S))
        return sum(count for _, count in self._buckets)

    def _forget(self, bucket: int) -> None:
        while self._buckets and self._buckets[0][0] <= bucket - _BUCKETS_PER_S:
            self._buckets.popleft()
