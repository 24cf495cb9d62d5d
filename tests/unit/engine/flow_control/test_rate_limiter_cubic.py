"""The rate that 429s teach: found, held, given up where it is none of the kind."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pingdata_async.engine.flow_control.rate_limiter import SLOW_PER_S, CubicRate
from tests.support.sweeps import sampled

LATENCY_S = 0.02
WORKERS = 20

Limit = Callable[[float], bool]


def fixed_window(requests: int, window_s: float = 1.0) -> Limit:
    """So many requests in each second of the clock, refused ones included."""
    seen: dict[int, int] = {}

    def allows(now: float) -> bool:
        window = math.floor(now / window_s)
        seen[window] = seen.get(window, 0) + 1
        return seen[window] <= requests

    return allows


def token_bucket(per_s: float, burst: float) -> Limit:
    """A burst, and then so many a second."""
    tokens, filled_at = burst, 0.0

    def allows(now: float) -> bool:
        nonlocal tokens, filled_at
        tokens, filled_at = min(burst, tokens + (now - filled_at) * per_s), now
        if tokens < 1.0:
            return False
        tokens -= 1.0
        return True

    return allows


def luck(share: float, seed: int = 1) -> Limit:
    """Refusals that have nothing to do with the rate."""
    rng = random.Random(seed)
    return lambda _now: rng.random() >= share


@dataclass
class Seen:
    """What a limit let through and refused, by the second."""

    passed: list[float]
    refused: list[float]

    def per_s(self, from_s: float, until_s: float) -> float:
        return sum(from_s <= at < until_s for at in self.passed) / (until_s - from_s)

    def refused_share(self, from_s: float = 0.0) -> float:
        refused = sum(at >= from_s for at in self.refused)
        return refused / (refused + sum(at >= from_s for at in self.passed))


def send_all_the_time(
    limit: Limit, until_s: float, *, rate: CubicRate | None = None, retry_after_s: float = 1.0
) -> Seen:
    """Send whenever it is allowed, with a few requests on their way at once."""
    rate = rate or CubicRate()
    rng = random.Random(0)
    seen = Seen([], [])
    free = [0.0] * WORKERS
    answers: list[tuple[float, int, bool]] = []
    number, now, closed_until = 0, 0.0, 0.0
    while now < until_s:
        now = max(now, heapq.heappop(free), closed_until, rate.next_at())
        while answers and answers[0][0] <= now:
            at, _, has_passed = heapq.heappop(answers)
            if has_passed:
                rate.note_let_through(at)
                continue
            if at >= closed_until:
                pause_s = retry_after_s + rng.uniform(0.0, 0.2)
                rate.note_refused(at, pause_s=pause_s)
                closed_until = at + pause_s
                rate.pause_until(closed_until)
        if now < max(closed_until, rate.next_at()):
            heapq.heappush(free, now)
            now = max(closed_until, rate.next_at())
            continue
        rate.note_sent(now)
        has_passed = limit(now + LATENCY_S / 2)
        (seen.passed if has_passed else seen.refused).append(now)
        number += 1
        heapq.heappush(answers, (now + LATENCY_S, number, has_passed))
        heapq.heappush(free, now + LATENCY_S)
    return seen


@pytest.mark.parametrize(
    ("limit", "per_s"),
    [
        (fixed_window(30), 30.0),
        (token_bucket(30.0, 30.0), 30.0),
        (token_bucket(30.0, 20.0), 30.0),
        (token_bucket(30.0, 200.0), 30.0),
        (token_bucket(300.0, 300.0), 300.0),
        (token_bucket(5.0, 5.0), 5.0),
    ],
    ids=["window", "bucket", "small bucket", "large bucket", "fast", "slow"],
)
def test_a_limit_is_found_and_held(limit: Limit, per_s: float) -> None:
    """After ten seconds nine tenths of what a limit allows pass, and almost nothing is refused."""
    seen = send_all_the_time(limit, 300.0)
    assert seen.per_s(10.0, 300.0) >= 0.87 * per_s
    assert seen.refused_share(10.0) <= 0.02
    assert seen.refused_share() <= 0.04


@pytest.mark.parametrize("retry_after_s", sampled([30.0, 5.0, 60.0], 1))
@pytest.mark.parametrize("per_s", sampled([5, 30, 200], 2))
@pytest.mark.parametrize(
    "kind", [fixed_window, lambda n: token_bucket(n, n)], ids=["window", "bucket"]
)
def test_long_pauses_are_seldom_run_into(
    kind: Callable[[int], Limit], per_s: int, retry_after_s: float
) -> None:
    """After the first few of them, four fifths of a limit are used also where each takes long."""
    seen = send_all_the_time(kind(per_s), 1800.0, retry_after_s=retry_after_s)
    assert seen.per_s(600.0, 1800.0) >= 0.75 * per_s
    assert seen.refused_share(600.0) <= 0.01


def test_a_limit_by_the_minute_is_used_up_and_no_more() -> None:
    """A window of a minute with long pauses between: what it allows passes, little is refused."""
    seen = send_all_the_time(fixed_window(600, 60.0), 600.0, retry_after_s=30.0)
    assert seen.per_s(60.0, 600.0) >= 0.85 * 10.0
    assert seen.refused_share() <= 0.1


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_refusals_by_luck_do_not_bring_it_to_a_standstill(share: float) -> None:
    """Where slowing down helps nothing, it is not slowed down further and further."""
    seen = send_all_the_time(luck(share), 600.0)
    assert seen.per_s(300.0, 600.0) >= 9.0


def test_a_limit_that_is_lifted_is_found_out() -> None:
    """From thirty a second to a thousand within two minutes of the limit's end."""
    bucket = token_bucket(30.0, 30.0)
    seen = send_all_the_time(lambda now: now >= 60.0 or bucket(now), 240.0)
    assert seen.per_s(30.0, 60.0) <= 31.0
    assert seen.per_s(180.0, 240.0) >= 500.0


def test_a_limit_that_falls_is_found_out() -> None:
    """From a hundred a second to ten, within ten seconds."""
    wide, narrow = token_bucket(100.0, 100.0), token_bucket(10.0, 10.0)
    seen = send_all_the_time(lambda now: wide(now) if now < 60.0 else narrow(now), 180.0)
    assert seen.per_s(20.0, 60.0) >= 85.0
    assert seen.per_s(70.0, 180.0) >= 8.0
    assert seen.refused_share(70.0) <= 0.05


def test_nothing_is_held_back_as_long_as_nothing_is_refused() -> None:
    """Without a refusal, and without a known limit, requests leave at once."""
    rate = CubicRate()
    for n in range(1000):
        rate.note_sent(n / 1e5)
        rate.note_let_through(n / 1e5)
    assert rate.next_at() <= 0.0
    assert math.isinf(rate.per_s(1.0))


def test_a_known_limit_is_never_exceeded() -> None:
    """In no second leave more than the user allows, from the beginning."""
    rate = CubicRate()
    rate.allow(30.0, 0.0)
    seen = send_all_the_time(lambda _now: True, 20.0, rate=rate)
    for start in range(len(seen.passed) - 31):
        assert seen.passed[start + 31] - seen.passed[start] >= 1.0 - 1e-9
    assert seen.per_s(0.0, 20.0) >= 29.5


def test_a_first_refusal_among_few_requests_slows_little_down() -> None:
    """One 429 in a quiet minute, not about the rate, leaves a pace that nobody minds."""
    rate = CubicRate()
    rate.note_let_through(100.0)
    rate.note_refused(100.5, pause_s=1.0)
    assert rate.per_s(101.5) >= 0.9 * SLOW_PER_S
