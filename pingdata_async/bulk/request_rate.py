"""How many requests a second the API takes: what its user knows, and what 429s teach (pure).

As long as nothing was ever refused, nothing is held back. The first 429 shows a rate that was
too much, and from then on requests leave evenly spaced, a little below it. From there the rate
follows the curve of CUBIC, as in AWS's adaptive retry mode: it soon comes close to where it was
refused, stays there for long, and only then probes beyond, ever faster; so a limit is met once
or twice a minute, and one that was lifted is found. AWS's own constants would meet it every few
seconds, and each meeting costs the whole `Retry-After`: the longer that is, the rarer it is.

A 429 that comes sooner shows that the guess was too high. Within the first second after a pause,
what was let through is what the API takes in a second, whether it counts by the second or fills
a bucket; later, the pace is cut by a fifth. But 429s that come whatever the pace are no matter
of the rate (a gateway in trouble): then they are left to their `Retry-After` alone for a while,
and as long as nobody knows, nothing goes below a pace that is slow anyway. Only a limit that
lets through as little each time is believed to be as low as that.
"""

from __future__ import annotations

import math
from collections import deque

BELOW_REFUSED = 0.95  # where to begin, as a share of the rate that was refused
BELOW_GUESS = 0.8  # and where that was a guess
BACK_AFTER_S = 5.0  # until the refused rate is tried again; each time twice as long
BACK_AFTER_S_AT_MOST = 30.0
BACK_AFTER_PAUSES = 8.0  # or so many times the pause that it costs, if that is longer
BACK_AFTER_PAUSES_AT_MOST_S = 300.0
SLOW_PER_S = 20.0  # by pauses of a second; no slower, unless clearly no more is taken
CLEAR_FOR_S = 120.0  # by pauses of a second
SLOW_ANYHOW_PER_S = 2.0
SLOWEST_PER_S = 0.1
TELLING = 5  # requests in a second, before any refusal of theirs says something of a rate
TIMES_THE_SAME = 3
THE_SAME_WITHIN = 1.3
VAIN_ATTEMPTS = 5
VAIN_WITHIN_S = 1.5
UNRELATED_FOR_S = 60.0  # each time twice as long
UNRELATED_FOR_S_AT_MOST = 3600.0
LATE_S = 0.02
_BUCKETS_PER_S = 10


class RequestRate:
    """The times at which requests may leave, evenly spaced where there is a rate."""

    def __init__(self) -> None:
        self._allowed_per_s = math.inf
        self._left_at = -math.inf  # when the last request should have left
        self._next_at = -math.inf
        self._recent = _Recent()
        self._refused_per_s = math.inf  # the rate that is tried again at the end of a plateau
        self._back_after_s = BACK_AFTER_S
        self._open_since = -math.inf
        self._let_through = 0  # since then
        self._told: deque[int] = deque(maxlen=TIMES_THE_SAME)
        self._slowest_per_s = SLOW_PER_S
        self._clear_until = -math.inf
        self._in_vain = 0
        self._unrelated_for_s = UNRELATED_FOR_S
        self._unrelated_until = -math.inf

    def allow(self, per_s: float, now: float) -> None:
        """Keep within what the user says, from the last request on; infinity for nothing."""
        self._allowed_per_s = per_s
        self._next_at = self._left_at + 1.0 / self.per_s(now)

    def per_s(self, now: float) -> float:
        """Requests a second at present; infinity where no limit is known."""
        if math.isinf(self._refused_per_s):
            return self._allowed_per_s
        since = max(0.0, now - self._open_since) / self._back_after_s - 1.0
        learnt_per_s = self._refused_per_s * (1.0 + (1.0 - BELOW_REFUSED) * since**3)
        return min(self._allowed_per_s, learnt_per_s)

    def next_at(self) -> float:
        """When the next request may leave."""
        return self._next_at

    def note_sent(self, now: float) -> None:
        """A request leaves."""
        # A timer is a little late at each; without this that would add up.
        late_s = max(0.0, min(now - self._next_at, LATE_S))
        self._left_at = now - late_s
        self._next_at = self._left_at + 1.0 / self.per_s(now)

    def note_let_through(self, now: float) -> None:
        """A request was not refused for coming too soon."""
        self._recent.add(now)
        self._let_through += 1

    def note_refused(self, now: float, *, pause_s: float) -> None:
        """A request was refused for coming too soon, after a time in which none was.

        Args:
            now: The present time.
            pause_s: How long nothing is sent now.
        """
        if now > self._clear_until:
            self._slowest_per_s = max(SLOW_ANYHOW_PER_S, SLOW_PER_S / max(1.0, pause_s))
        if now >= self._unrelated_until:
            self._refused_per_s = max(self._learn(now, pause_s), self._slowest_per_s)
        pauses_s = min(BACK_AFTER_PAUSES_AT_MOST_S, BACK_AFTER_PAUSES * pause_s)
        self._back_after_s = max(self._back_after_s, pauses_s)

    def forget(self) -> None:
        """Take back what refusals taught: they were about something else."""
        self._refused_per_s = math.inf
        self._back_after_s = BACK_AFTER_S
        self._in_vain = 0

    def pause_until(self, open_at: float) -> None:
        """Nothing is sent before that time: what was before is past."""
        self._open_since = open_at
        self._let_through = 0

    def _learn(self, now: float, pause_s: float) -> float:
        """The rate that is too much; infinity where the rate is not to blame."""
        recent_per_s = float(self._recent.within_a_second(now))
        if math.isinf(self._refused_per_s):
            return recent_per_s if recent_per_s >= TELLING else math.inf
        per_s = self.per_s(now)
        open_for_s = now - self._open_since
        if open_for_s >= self._back_after_s:  # it was, and we tried it again
            longest_s = max(BACK_AFTER_S_AT_MOST, self._back_after_s)
            self._back_after_s = min(longest_s, 2.0 * self._back_after_s)
            self._in_vain = 0
            return min(per_s, recent_per_s)  # less may have been sent than was allowed
        if not self._let_through:  # the pause was too short: of the rate that says nothing
            return self._refused_per_s
        if open_for_s < 1.0:
            guess_per_s = min(per_s, float(self._let_through))
        else:
            guess_per_s = min(per_s, recent_per_s) * BELOW_GUESS / BELOW_REFUSED
        if self._is_always_so():
            self._slowest_per_s = max(SLOWEST_PER_S, guess_per_s)
            self._clear_until = now + CLEAR_FOR_S * max(1.0, pause_s)
            self._in_vain = 0
        elif self._is_in_vain(per_s):
            self._back_after_s = BACK_AFTER_S
            self._unrelated_until = now + self._unrelated_for_s
            self._unrelated_for_s = min(UNRELATED_FOR_S_AT_MOST, 2.0 * self._unrelated_for_s)
            return math.inf
        return guess_per_s

    def _is_always_so(self) -> bool:
        """Whether as much was let through each time: there is a limit, however low."""
        told = self._told
        told.append(self._let_through)
        return len(told) == TIMES_THE_SAME and max(told) <= THE_SAME_WITHIN * min(told)

    def _is_in_vain(self, per_s: float) -> bool:
        """Whether refusals come whatever the pace."""
        # A limit that is nearly met refuses after seconds at that pace, not at once.
        is_at_once = self._let_through < VAIN_WITHIN_S * per_s
        self._in_vain = self._in_vain + 1 if is_at_once else 0
        if self._in_vain < VAIN_ATTEMPTS:
            return False
        self._in_vain = 0
        return True


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
