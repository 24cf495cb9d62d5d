"""RateLimiter: when each request of a client may leave, and the rate that the API's 429s teach.

All requests to one origin through one client pass one limiter. A 429 stops all of them until the
time that it names, a 503 those of its kind (submit, poll, fetch), and a known or learnt rate spaces
them evenly. Of those that wait, the one with the earliest deadline leaves next: its arrival plus
what its kind can wait. So downloads go first, which free memory and bring in what is paid for;
submissions go before polls, as a later poll finds more jobs done; and none waits for ever.

A request gets its connection before it leaves, while the others wait. If a pause begins meanwhile,
it gives the connection back and waits anew: nothing leaves within a pause, and no connection is
held through one. Hosts of outputs have limiters of their own: what they refuse says nothing of the
API.

The rate (`CubicRate`) is pure. Until the first 429 nothing is held back. That 429 shows a rate that
was too much, and requests then leave evenly spaced, a little below it:

- *The first refusal may have met a burst* that is smaller than what the API takes in a second, so
  it shows too low a rate. Until a refusal comes after a longer while, the rate grows by 15 % in
  each quiet time as long as the pause. That refusal tells the mean rate since the pause.
- *Then the rate follows CUBIC*, as in AWS's adaptive retry mode: it soon comes close to where it
  was refused, stays there for long, and only then probes beyond, ever faster. A limit is met once
  or twice a minute, and one that was lifted is found. AWS's constants would meet it every few
  seconds, and each meeting costs a whole `Retry-After`: the longer that is, the rarer the meetings.
- *A 429 that comes sooner* shows that the estimate was too high. Within a second of a pause, what
  was let through is what the API takes in a second, be it a window or a bucket. Soon after that a
  fifth is cut; later the mean rate since the pause is taken.
- *429s that come whatever the rate* (a proxy in trouble) are not about it: the rate is forgotten
  for a while, and only their `Retry-After` counts. As long as that is not clear, the rate does not
  go below one that is slow anyway. Only a limit that lets through as much each time is believed to
  be lower than that.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.lowlevel

from pingdata_async.api.config import Connection, Origin
from pingdata_async.exceptions import PauseTooLongError
from pingdata_async.models import RequestKind
from pingdata_async.util.loop import loop_time
from pingdata_async.util.text import counted

#: Seconds that a request may wait longer than a download that comes at the same time.
MAX_EXTRA_WAIT_S = {RequestKind.FETCH: 0.0, RequestKind.SUBMIT: 5.0, RequestKind.POLL: 10.0}
EASING_S = 0.03  # between requests at most, at first after a 503: on average half of it
EASING_FOR_S = 1.0
OTHER_ORIGINS = 64  # are remembered, those that were asked last

BELOW_REFUSED = 0.95  # where to begin, as a share of the rate that was refused
BELOW_GUESS = 0.8  # and where that was a guess
PROBE_GROWTH = 0.15  # log of the rate, in the time of a pause
MAX_PROBE_GROWTH = 10.0
BURST_PAUSES = 4.0  # times the pause, until what was let through tells the rate and not a burst
PLATEAU_S = 5.0  # until the refused rate is tried again; each time twice as long
MAX_PLATEAU_S = 30.0
PLATEAU_PAUSES = 8.0  # or this many times the pause that it costs, if that is longer
MAX_PLATEAU_OF_PAUSES_S = 300.0
SLOW_PER_S = 20.0  # by pauses of a second; no slower, unless the API clearly takes no more
CLEAR_FOR_S = 120.0  # by pauses of a second
MIN_SLOW_PER_S = 2.0
SLOWEST_PER_S = 0.1
TIMES_THE_SAME = 3
THE_SAME_WITHIN = 1.3
VAIN_ATTEMPTS = 5
VAIN_WITHIN_S = 1.5
UNRELATED_FOR_S = 60.0  # each time twice as long
MAX_UNRELATED_FOR_S = 3600.0
MAX_LATE_S = 0.02
BUCKETS_PER_S = 10


class RateLimiterClosedError(Exception):
    """Raised for a request that must not wait for a pause to end.

    Attributes:
        opens_in_s: Seconds until the next attempt is worth it.
    """

    def __init__(self, opens_in_s: float) -> None:
        super().__init__(f"closed for {opens_in_s:.3f} s")
        self.opens_in_s = opens_in_s


class RateLimiter:
    """Says when each request of a client may leave."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._rate = CubicRate()
        self._user_limits: Counter[float] = Counter()
        self._waiting: dict[RequestKind, deque[_Waiter]] = {
            kind: deque() for kind in MAX_EXTRA_WAIT_S
        }
        self._leader: _Waiter | None = None
        self._is_leaving = False  # the request whose turn it is gets its connection
        self._closed_until = -math.inf
        self._asked_until = -math.inf  # the same, without jitter and pauses of our own choice
        self._refused_in_a_row = 0
        self._others: OrderedDict[Origin, RateLimiter] = OrderedDict()
        self._kinds = {kind: _Kind() for kind in RequestKind}

    @contextlib.contextmanager
    def limited_to(self, max_requests_per_s: float | None) -> Iterator[None]:
        """Keep within a rate that a run knows; the lowest counts if there are several."""
        limit = math.inf if max_requests_per_s is None else max_requests_per_s
        self._user_limits[limit] += 1
        self._allow(min(self._user_limits))
        try:
            yield
        finally:
            self._user_limits[limit] -= 1
            self._user_limits += Counter()  # without those that are 0
            self._allow(min(self._user_limits, default=math.inf))

    def _allow(self, per_s: float) -> None:
        self._rate.allow(per_s, loop_time())
        self._wake_leader()

    def at(self, origin: Origin | None) -> RateLimiter:
        """The limiter of an origin; None for the API's own, which is this one."""
        if origin is None:
            return self
        rate_limiter = self._others.setdefault(origin, RateLimiter(self._rng))
        self._others.move_to_end(origin)
        if len(self._others) > OTHER_ORIGINS:
            self._others.popitem(last=False)
        return rate_limiter

    def is_open(self, kind: RequestKind) -> bool:
        """Whether no pause holds for requests of this kind."""
        return self.opens_in_s(kind) <= 0.0

    def opens_in_s(self, kind: RequestKind) -> float:
        """Seconds until no pause holds for this kind; 0 if none does now."""
        closed_until = max(self._closed_until, self._kinds[kind].closed_until)
        return max(0.0, closed_until - loop_time())

    def asked_in_s(self, kind: RequestKind) -> float:
        """Seconds left of the pause that the API asked for, without our jitter; 0 for none."""
        asked_until = max(self._asked_until, self._kinds[kind].asked_until)
        return max(0.0, asked_until - loop_time())

    def poll_cost_s(self, jobs_in_flight: int) -> float:
        """What one more poll of these jobs costs, in seconds of its job's lag.

        Where requests are scarce, a poll takes 1/rate of a second from all jobs: so much later may
        each job's end be seen for one poll less.
        """
        return jobs_in_flight / self._rate.per_s(loop_time())

    # -- what the answers say ------------------------------------------------------------

    def on_success(self, kind: RequestKind) -> None:
        """A request of this kind was answered, even if with an error other than 429 and 503."""
        now = loop_time()
        self._rate.note_let_through(now)
        # What was sent before a pause says nothing of what comes after it.
        if now >= self._closed_until:
            self._refused_in_a_row = 0
        state = self._kinds[kind]
        if now >= state.closed_until:
            state.unavailable_in_a_row = 0

    def on_rate_limit(
        self,
        delay_s: Callable[[int], float],
        *,
        asked_s: float = 0.0,
        is_about_rate: bool = True,
    ) -> None:
        """A request was answered 429: nothing is sent for a while.

        Args:
            delay_s: For how long, by the number of refusals in a row.
            asked_s: What the API itself asked for.
            is_about_rate: False where there is too much of something else, such as jobs: what
                the last refusal taught about the rate is taken back.
        """
        now = loop_time()
        is_first = now >= self._closed_until
        self._refused_in_a_row += is_first  # requests already under way are refused as well
        pause_s = delay_s(self._refused_in_a_row)
        self._closed_until = max(self._closed_until, now + pause_s)
        self._asked_until = max(self._asked_until, now + asked_s)
        if not is_about_rate:
            self._rate.forget()
        elif is_first:
            self._rate.note_refused(now, pause_s=pause_s)
        self._rate.pause_until(self._closed_until)
        self._wake_all()

    def note_unavailable(
        self, kind: RequestKind, delay_s: Callable[[int], float], *, asked_s: float = 0.0
    ) -> None:
        """A request was answered 503: none of its kind is sent for a while.

        Arguments as for `on_rate_limit()`.
        """
        now = loop_time()
        self._rate.note_let_through(now)
        state = self._kinds[kind]
        if now >= state.closed_until:
            state.unavailable_in_a_row += 1
        state.closed_until = max(state.closed_until, now + delay_s(state.unavailable_in_a_row))
        state.asked_until = max(state.asked_until, now + asked_s)
        self._wake_all()

    # -- which request leaves next -------------------------------------------------------

    @contextlib.asynccontextmanager
    async def let_out(
        self,
        kind: RequestKind,
        connection: Connection = contextlib.nullcontext,
        *,
        max_wait_s: float = math.inf,
        waits_for_pauses: bool = True,
    ) -> AsyncIterator[None]:
        """Wait until a request may be sent; hold this while it is under way.

        If it is cancelled before this is entered, the request must not be sent.

        Args:
            kind: The kind of the request.
            connection: Opened before the request leaves, and held with it.
            max_wait_s: The longest pause to wait for.
            waits_for_pauses: Whether to wait for pauses at all.

        Raises:
            PauseTooLongError: If the API asked any request of this kind for a longer pause.
            RateLimiterClosedError: If there is a pause, and none is waited for.
        """
        async with contextlib.AsyncExitStack() as stack:
            has_left = False
            while not has_left:
                await self._wait_for_turn(kind, max_wait_s, waits_for_pauses=waits_for_pauses)
                try:
                    await stack.enter_async_context(connection())
                    has_left = self.is_open(kind)
                finally:
                    self._is_leaving = False
                    if has_left:
                        self._note_left(kind)
                    self._let_out()
                    self._wake_leader()
                if not has_left:
                    await stack.aclose()
            yield

    async def _wait_for_turn(
        self, kind: RequestKind, max_wait_s: float, *, waits_for_pauses: bool
    ) -> None:
        """Wait until this request is the one that leaves next; the others then wait for it."""
        await anyio.lowlevel.checkpoint()
        waiter = _Waiter(loop_time() + MAX_EXTRA_WAIT_S[kind])
        self._waiting[kind].append(waiter)
        self._let_out()
        self._wake_leader()  # it may have to look again sooner now
        try:
            while not waiter.may_go:
                self._refuse_to_wait(kind, max_wait_s, waits_for_pauses=waits_for_pauses)
                await self._wait_or_lead(waiter)
        except BaseException:
            if waiter.may_go:
                self._is_leaving = False
                self._let_out()
            raise
        finally:
            if not waiter.may_go:
                self._waiting[kind].remove(waiter)
            # Without a leader, this one may have been appointed and left before it knew.
            if self._leader is None or self._leader is waiter:
                self._leader = None
                self._appoint()

    def _refuse_to_wait(
        self, kind: RequestKind, max_wait_s: float, *, waits_for_pauses: bool
    ) -> None:
        asked_s = self.asked_in_s(kind)
        if asked_s > max_wait_s:
            raise PauseTooLongError(
                f"the API asked for a pause; {counted(round(asked_s), 'second')} left of it"
            )
        if not waits_for_pauses and not self.is_open(kind):
            raise RateLimiterClosedError(self.opens_in_s(kind))

    async def _wait_or_lead(self, waiter: _Waiter) -> None:
        """Wait to be let out; one of the waiting requests, the leader, watches the clock."""
        waiter.woken = anyio.Event()
        if self._leader is None:
            self._leader = waiter
        if self._leader is not waiter:
            await waiter.woken.wait()
            return
        look_again_at = self._let_out()
        if not waiter.may_go:
            with anyio.move_on_at(look_again_at):
                await waiter.woken.wait()

    def _appoint(self) -> None:
        heads = (queue[0] for queue in self._waiting.values() if queue)
        head = min(heads, key=lambda waiter: waiter.deadline, default=None)
        if head is not None:
            head.woken.set()

    def _wake_leader(self) -> None:
        if self._leader is not None:
            self._leader.woken.set()

    def _wake_all(self) -> None:
        """Wake each waiting request, as its wait has become longer."""
        for queue in self._waiting.values():
            for waiter in queue:
                waiter.woken.set()

    def _let_out(self) -> float:
        """Let the next request leave if it may and none is leaving; returns when to look again."""
        if self._is_leaving:
            return math.inf  # the one that leaves looks again when it has
        now = loop_time()
        kind, at = self._next()
        if kind is None or at > now:
            return at
        waiter = self._waiting[kind].popleft()
        waiter.may_go = True
        waiter.woken.set()
        self._is_leaving = True
        return math.inf

    def _note_left(self, kind: RequestKind) -> None:
        now = loop_time()
        self._rate.note_sent(now)
        state = self._kinds[kind]
        if now < max(state.closed_until, self._closed_until) + EASING_FOR_S:
            state.eased_until = now + self._rng.uniform(0.0, EASING_S)

    def _next(self) -> tuple[RequestKind | None, float]:
        """Which kind leaves next, and when; None if none waits."""
        opens_at = max(self._closed_until, self._rate.next_at())
        now = loop_time()
        best, soonest = None, math.inf
        for kind, queue in self._waiting.items():
            if not queue:
                continue
            at = max(opens_at, self._kinds[kind].opens_at)
            is_now, best_is_now = at <= now, soonest <= now
            if best is None or (
                queue[0].deadline < self._waiting[best][0].deadline
                if is_now and best_is_now
                else at < soonest
            ):
                best, soonest = kind, at
        return best, soonest


class _Kind:
    """The pauses of one kind of requests."""

    def __init__(self) -> None:
        self.closed_until = -math.inf
        self.asked_until = -math.inf
        self.eased_until = -math.inf
        self.unavailable_in_a_row = 0

    @property
    def opens_at(self) -> float:
        return max(self.closed_until, self.eased_until)


class _Waiter:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.may_go = False
        self.woken = anyio.Event()


class CubicRate:
    """When requests may leave, evenly spaced if there is a rate (pure); see the module."""

    def __init__(self) -> None:
        self._allowed_per_s = math.inf
        self._left_at = -math.inf  # when the last request should have left
        self._next_at = -math.inf
        self._recent = _Recent()
        self._refused_per_s = math.inf  # the rate that is tried again at the end of a plateau
        self._plateau_s = PLATEAU_S
        self._is_probing = False  # the first refusal was met in a burst: the rate is higher perhaps
        self._pause_s = 1.0  # the last one, or a second if that is longer
        self._open_since = -math.inf
        self._let_through = 0  # since then
        self._let_through_each: deque[int] = deque(maxlen=TIMES_THE_SAME)
        self._slowest_per_s = SLOW_PER_S
        self._clear_until = -math.inf
        self._in_vain = 0
        self._unrelated_for_s = UNRELATED_FOR_S
        self._unrelated_until = -math.inf

    def allow(self, per_s: float, now: float) -> None:
        """Keep within the user's rate, counted from the last request; infinity for no limit."""
        self._allowed_per_s = per_s
        self._next_at = self._left_at + 1.0 / self.per_s(now)

    def per_s(self, now: float) -> float:
        """Requests a second now; infinity if no limit is known."""
        if math.isinf(self._refused_per_s):
            return self._allowed_per_s
        open_for_s = max(0.0, now - self._open_since)
        if self._is_probing:
            quiet = max(0.0, open_for_s / self._pause_s - 1.0)
            growth = math.exp(min(MAX_PROBE_GROWTH, PROBE_GROWTH * quiet))
            return min(self._allowed_per_s, self._refused_per_s * BELOW_REFUSED * growth)
        since = open_for_s / self._plateau_s - 1.0
        learnt_per_s = self._refused_per_s * (1.0 + (1.0 - BELOW_REFUSED) * since**3)
        return min(self._allowed_per_s, learnt_per_s)

    def next_at(self) -> float:
        """When the next request may leave."""
        return self._next_at

    def note_sent(self, now: float) -> None:
        """A request leaves."""
        # Timers fire a little late; without this, their delays would add up.
        late_s = max(0.0, min(now - self._next_at, MAX_LATE_S))
        self._left_at = now - late_s
        self._next_at = self._left_at + 1.0 / self.per_s(now)

    def note_let_through(self, now: float) -> None:
        """A request was not answered 429."""
        self._recent.add(now)
        self._let_through += 1

    def note_refused(self, now: float, *, pause_s: float) -> None:
        """A request was answered 429, the first one since the last pause.

        Args:
            now: The present time.
            pause_s: How long nothing is sent from now on.
        """
        if now > self._clear_until:
            self._slowest_per_s = max(MIN_SLOW_PER_S, SLOW_PER_S / max(1.0, pause_s))
        if now >= self._unrelated_until:
            self._refused_per_s = max(self._learn(now, pause_s), self._slowest_per_s)
        self._pause_s = max(1.0, pause_s)
        pauses_s = min(MAX_PLATEAU_OF_PAUSES_S, PLATEAU_PAUSES * pause_s)
        self._plateau_s = max(self._plateau_s, pauses_s)

    def forget(self) -> None:
        """Forget the rate that refusals taught: they were not about the rate."""
        self._refused_per_s = math.inf
        self._plateau_s = PLATEAU_S
        self._in_vain = 0

    def pause_until(self, open_at: float) -> None:
        """Send nothing before this time, and count what is let through from it."""
        self._open_since = open_at
        self._let_through = 0

    def _learn(self, now: float, pause_s: float) -> float:
        """The rate that was refused; infinity if the refusal was not about the rate."""
        recent_per_s = float(self._recent.within_a_second(now))
        if math.isinf(self._refused_per_s):
            self._is_probing = True
            return recent_per_s
        per_s = self.per_s(now)
        open_for_s = now - self._open_since
        was_probing = self._is_probing
        if open_for_s >= self._pause_s:  # else it may have been the burst again
            self._is_probing = False
        if open_for_s >= self._plateau_s and not was_probing:  # it was right, and was tried again
            longest_s = max(MAX_PLATEAU_S, self._plateau_s)
            self._plateau_s = min(longest_s, 2.0 * self._plateau_s)
            self._in_vain = 0
            return min(per_s, recent_per_s)  # less may have been sent than was allowed
        if not self._let_through:  # the pause was too short: that says nothing of the rate
            return self._refused_per_s
        guess_per_s = min(per_s, self._estimate(open_for_s, min(per_s, recent_per_s), was_probing))
        if self._is_same_each_time():
            self._slowest_per_s = max(SLOWEST_PER_S, guess_per_s)
            self._clear_until = now + CLEAR_FOR_S * max(1.0, pause_s)
            self._in_vain = 0
        elif self._is_in_vain(per_s):
            self._plateau_s = PLATEAU_S
            self._unrelated_until = now + self._unrelated_for_s
            self._unrelated_for_s = min(MAX_UNRELATED_FOR_S, 2.0 * self._unrelated_for_s)
            return math.inf
        return guess_per_s

    def _estimate(self, open_for_s: float, recent_per_s: float, was_probing: bool) -> float:
        """The rate that the API takes, estimated from what was let through since the pause."""
        if open_for_s < 1.0:
            return float(self._let_through)
        if was_probing:  # the whole time tells more than the last second
            return max(self._let_through / open_for_s, BELOW_GUESS * recent_per_s)
        if open_for_s >= BURST_PAUSES * self._pause_s:  # the pause had filled a bucket
            return self._let_through / (open_for_s + self._pause_s)
        return BELOW_GUESS / BELOW_REFUSED * recent_per_s

    def _is_same_each_time(self) -> bool:
        """Whether as much was let through each time: then there is a limit, however low."""
        counts = self._let_through_each
        counts.append(self._let_through)
        return len(counts) == TIMES_THE_SAME and max(counts) <= THE_SAME_WITHIN * min(counts)

    def _is_in_vain(self, per_s: float) -> bool:
        """Whether refusals come whatever the rate."""
        # A limit that is nearly met refuses after seconds at that rate, not at once.
        is_at_once = self._let_through < VAIN_WITHIN_S * per_s
        self._in_vain = self._in_vain + 1 if is_at_once else 0
        if self._in_vain < VAIN_ATTEMPTS:
            return False
        self._in_vain = 0
        return True


class _Recent:
    """Counts events within the last second, in tenths of it."""

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque()

    def add(self, now: float) -> None:
        bucket = math.floor(now * BUCKETS_PER_S)
        if not self._buckets or self._buckets[-1][0] != bucket:
            self._forget(bucket)
            self._buckets.append([bucket, 0])
        self._buckets[-1][1] += 1

    def within_a_second(self, now: float) -> int:
        self._forget(math.floor(now * BUCKETS_PER_S))
        return sum(count for _, count in self._buckets)

    def _forget(self, bucket: int) -> None:
        while self._buckets and self._buckets[0][0] <= bucket - BUCKETS_PER_S:
            self._buckets.popleft()
