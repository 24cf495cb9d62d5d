"""The gate before the API: who may go out, and when."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from anyio.abc import TaskGroup

from pingdata_async.engine.flow_control.rate_limiter import OTHER_ORIGINS, RateLimiter
from pingdata_async.exceptions import PauseTooLongError
from pingdata_async.models import RequestKind
from tests.simulation.virtual_loop import START_S, VirtualLoop
from tests.support.sweeps import sampled


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture
def rate_limiter() -> RateLimiter:
    return RateLimiter(random.Random(0))


class Passed:
    """Who went through the gate, and how many seconds after the start."""

    def __init__(self, rate_limiter: RateLimiter, tasks: TaskGroup) -> None:
        self._rate_limiter = rate_limiter
        self._tasks = tasks
        self.at: list[tuple[str, float]] = []

    def send(self, kind: RequestKind, times: int = 1) -> None:
        for _ in range(times):
            self._tasks.start_soon(self._pass, kind)

    async def later(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self.send(RequestKind.POLL)

    async def _pass(self, kind: RequestKind) -> None:
        async with self._rate_limiter.let_out(kind):
            self.at.append((kind, anyio.current_time() - START_S))

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.at]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.at]


def named(delay_s: float) -> Callable[[int], float]:
    return lambda _times: delay_s


@pytest.mark.anyio
async def test_an_open_gate_holds_nobody(rate_limiter: RateLimiter) -> None:
    """A hundred requests leave at the time at which they come."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        passed.send(RequestKind.POLL, 50)
        passed.send(RequestKind.SUBMIT, 50)
    assert passed.times == [0.0] * 100


@pytest.mark.anyio
@pytest.mark.parametrize("kind", list(RequestKind))
async def test_a_429_holds_back_every_kind_until_its_time(
    rate_limiter: RateLimiter, kind: RequestKind
) -> None:
    """Nothing leaves before the time named, and then not all at once."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        rate_limiter.on_rate_limit(named(7.0))
        assert not rate_limiter.is_open(kind)
        passed.send(kind, 20)
    assert min(passed.times) == pytest.approx(7.0)
    assert len(set(passed.times)) > 15


@pytest.mark.anyio
async def test_a_longer_pause_wins_also_over_those_who_wait_already(
    rate_limiter: RateLimiter,
) -> None:
    """The last word of several is the longest, whenever it comes."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        rate_limiter.on_rate_limit(named(5.0))
        passed.send(RequestKind.POLL, 3)
        await anyio.sleep(2.0)
        rate_limiter.on_rate_limit(named(10.0))
        rate_limiter.on_rate_limit(named(1.0))
    assert min(passed.times) == pytest.approx(12.0)


@pytest.mark.anyio
async def test_a_503_holds_back_its_kind_alone(rate_limiter: RateLimiter) -> None:
    """Polls go on while submissions wait, and those come back one by one."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        rate_limiter.note_unavailable(RequestKind.SUBMIT, named(30.0))
        assert rate_limiter.is_open(RequestKind.POLL)
        passed.send(RequestKind.SUBMIT, 10)
        passed.send(RequestKind.POLL, 10)
        passed.send(RequestKind.FETCH, 10)
    by_kind = {kind: [at for k, at in passed.at if k == kind] for kind in passed.kinds}
    assert by_kind[RequestKind.POLL] == by_kind[RequestKind.FETCH] == [0.0] * 10
    assert min(by_kind[RequestKind.SUBMIT]) == pytest.approx(30.0)
    assert len(set(by_kind[RequestKind.SUBMIT])) == 10


@pytest.mark.anyio
async def test_pauses_of_our_own_choice_grow_in_a_row_and_not_with_the_crowd(
    rate_limiter: RateLimiter,
) -> None:
    """Refusals of requests that were on their way together are one refusal."""
    asked: list[int] = []

    def delay_s(times: int) -> float:
        asked.append(times)
        return 1.0

    for _ in range(3):
        for _ in range(5):
            rate_limiter.note_unavailable(RequestKind.POLL, delay_s)
            rate_limiter.on_rate_limit(delay_s)
        await anyio.sleep(1.5)
    assert sorted(asked) == [1] * 10 + [2] * 10 + [3] * 10
    rate_limiter.on_success(RequestKind.POLL)
    asked.clear()
    rate_limiter.note_unavailable(RequestKind.POLL, delay_s)
    rate_limiter.on_rate_limit(delay_s)
    assert asked == [1, 1]


@pytest.mark.anyio
async def test_where_requests_are_scarce_downloads_go_first_and_nothing_starves(
    rate_limiter: RateLimiter,
) -> None:
    """Under a flood of submissions, downloads leave at once and polls within their patience."""
    with rate_limiter.limited_to(10.0):
        async with anyio.create_task_group() as tasks:
            passed = Passed(rate_limiter, tasks)
            passed.send(RequestKind.POLL, 3)
            for _ in range(400):  # more than the limit takes, for forty seconds
                passed.send(RequestKind.SUBMIT, 2)
                await anyio.sleep(0.1)
                if len(passed.at) == 30:
                    passed.send(RequestKind.FETCH)
    assert passed.kinds.index(RequestKind.FETCH) <= 33
    last_poll = max(at for kind, at in passed.at if kind == RequestKind.POLL)
    assert 5.0 <= last_poll <= 20.0
    assert max(passed.times) == pytest.approx(len(passed.at) / 10.0, rel=0.05)


@pytest.mark.anyio
async def test_whoever_is_cancelled_while_waiting_leaves_the_others_their_turn(
    rate_limiter: RateLimiter,
) -> None:
    """The head of the queue goes away, and the rest leave when they may."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        rate_limiter.on_rate_limit(named(5.0))
        with anyio.move_on_after(1.0):
            async with rate_limiter.let_out(RequestKind.POLL):
                pass
        passed.send(RequestKind.POLL, 3)
        with anyio.move_on_after(1.0):
            async with rate_limiter.let_out(RequestKind.FETCH):
                pass
    assert passed.kinds == [RequestKind.POLL] * 3
    assert min(passed.times) >= 5.0


@pytest.mark.anyio
async def test_a_newcomer_does_not_wait_for_those_who_are_held_back(
    rate_limiter: RateLimiter,
) -> None:
    """With polls closed for long, a submission leaves as soon as the rate allows."""
    with rate_limiter.limited_to(1.0):
        async with anyio.create_task_group() as tasks:
            passed = Passed(rate_limiter, tasks)
            rate_limiter.note_unavailable(RequestKind.POLL, named(1000.0))
            passed.send(RequestKind.POLL)
            passed.send(RequestKind.SUBMIT)
            await anyio.sleep(0.5)
            passed.send(RequestKind.SUBMIT)
    assert [at for kind, at in passed.at if kind == RequestKind.SUBMIT] == pytest.approx(
        [0.0, 1.0], abs=0.1
    )


@pytest.mark.anyio
async def test_a_later_and_shorter_pause_shortens_none(rate_limiter: RateLimiter) -> None:
    """What was named once holds, of all requests and of one kind."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        rate_limiter.note_unavailable(RequestKind.POLL, named(30.0))
        rate_limiter.note_unavailable(RequestKind.POLL, named(1.0))
        rate_limiter.on_rate_limit(named(20.0))
        rate_limiter.on_rate_limit(named(1.0))
        passed.send(RequestKind.POLL)
        passed.send(RequestKind.SUBMIT)
    assert sorted(passed.times) == pytest.approx([20.0, 30.0])


@pytest.mark.anyio
async def test_nobody_waits_for_longer_than_he_said(rate_limiter: RateLimiter) -> None:
    """Whoever comes later, or waits already, learns of a pause that is too long at once."""
    refused: list[float] = []

    async def come() -> None:
        with pytest.raises(PauseTooLongError, match="seconds left of it"):
            async with rate_limiter.let_out(RequestKind.POLL, max_wait_s=600.0):
                pass
        refused.append(anyio.current_time() - START_S)

    async with anyio.create_task_group() as tasks:
        rate_limiter.on_rate_limit(named(30.0))
        tasks.start_soon(come)
        await anyio.sleep(5.0)
        rate_limiter.on_rate_limit(named(3600.0), asked_s=3600.0)
        tasks.start_soon(come)
    assert refused == pytest.approx([5.0, 5.0])


@pytest.mark.anyio
@pytest.mark.parametrize("seed", sampled(range(30), 6))
async def test_nobody_is_forgotten_whoever_leaves(rate_limiter: RateLimiter, seed: int) -> None:
    """Waiters of all kinds come, leave and are let out at random: all who stay get through."""
    rng = random.Random(seed)
    through: list[int] = []

    async def come(number: int, patience_s: float) -> None:
        with anyio.move_on_after(patience_s):
            async with rate_limiter.let_out(rng.choice(list(RequestKind))):
                through.append(number)

    with rate_limiter.limited_to(rng.choice([5.0, 50.0, None])), anyio.fail_after(10_000.0):
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                stays = number % 3 == 0
                tasks.start_soon(come, number, 9_000.0 if stays else rng.uniform(0.0, 2.0))
                if rng.random() < 0.1:
                    rate_limiter.note_unavailable(
                        rng.choice([RequestKind.SUBMIT, RequestKind.POLL]), named(rng.random() * 3)
                    )
                if rng.random() < 0.05:
                    rate_limiter.on_rate_limit(named(rng.random() * 3))
                if rng.random() < 0.3:
                    await anyio.sleep(rng.choice([0.0, 0.01, 1.0]))
    assert set(range(0, 200, 3)) <= set(through)


@pytest.mark.anyio
async def test_the_lowest_of_several_known_limits_counts_while_its_user_is_there(
    rate_limiter: RateLimiter,
) -> None:
    """Two runs on a client: the more careful one speaks for both, until it ends."""
    with rate_limiter.limited_to(100.0):
        with rate_limiter.limited_to(2.0), rate_limiter.limited_to(2.0):
            assert rate_limiter.poll_cost_s(10) == pytest.approx(5.0)
        assert rate_limiter.poll_cost_s(10) == pytest.approx(0.1)
    assert rate_limiter.poll_cost_s(10) == 0.0


@pytest.mark.anyio
async def test_a_pause_that_begins_while_a_connection_is_waited_for_is_kept(
    rate_limiter: RateLimiter,
) -> None:
    """Permission is asked for last: the connection is given back, and the pause waited for."""
    held: list[tuple[str, float]] = []

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[None]:
        await anyio.sleep(1.0)  # until one is free
        held.append(("taken", anyio.current_time() - START_S))
        yield
        held.append(("given back", anyio.current_time() - START_S))

    async with anyio.create_task_group() as tasks:

        async def pause() -> None:
            await anyio.sleep(0.5)
            rate_limiter.on_rate_limit(named(30.0))

        tasks.start_soon(pause)
        async with rate_limiter.let_out(RequestKind.SUBMIT, connection):
            assert anyio.current_time() - START_S == pytest.approx(31.5)
    assert held == [
        ("taken", 1.0),
        ("given back", 1.0),
        ("taken", pytest.approx(31.5)),
        ("given back", pytest.approx(31.5)),
    ]


@pytest.mark.anyio
async def test_who_gives_up_while_waiting_for_a_connection_lets_the_others_go(
    rate_limiter: RateLimiter,
) -> None:
    """Whose turn it is keeps the others waiting only as long as it is there."""

    @contextlib.asynccontextmanager
    async def never() -> AsyncIterator[None]:
        await anyio.sleep_forever()
        yield

    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        with anyio.move_on_after(2.0):
            async with anyio.create_task_group() as others:
                others.start_soon(passed.later, 1.0)
                async with rate_limiter.let_out(RequestKind.SUBMIT, never):
                    pass
    assert passed.times == [2.0]


@pytest.mark.anyio
async def test_each_origin_has_a_gate_of_its_own(rate_limiter: RateLimiter) -> None:
    """What one host refuses holds back nothing that goes to another."""
    storage = rate_limiter.at(("https", "storage.example", 443))
    storage.on_rate_limit(named(60.0), asked_s=60.0)
    assert rate_limiter.is_open(RequestKind.FETCH)
    assert rate_limiter.at(("https", "other.example", 443)).is_open(RequestKind.FETCH)
    assert rate_limiter.at(("https", "storage.example", 443)) is storage
    assert rate_limiter.at(None) is rate_limiter
    with pytest.raises(PauseTooLongError):
        async with storage.let_out(RequestKind.FETCH, max_wait_s=59.0):
            pass


@pytest.mark.anyio
async def test_of_many_origins_the_last_ones_are_remembered(rate_limiter: RateLimiter) -> None:
    """A server that names a new host in every url costs no memory."""
    for number in range(1_000):
        rate_limiter.at(("https", f"{number}.example", 443))
    assert len(rate_limiter._others) == OTHER_ORIGINS


@pytest.mark.anyio
async def test_the_limit_of_a_run_that_has_ended_delays_nobody(rate_limiter: RateLimiter) -> None:
    """One request in 1,000 seconds, and the next run on the client goes at its own pace."""
    with rate_limiter.limited_to(0.001):
        async with rate_limiter.let_out(RequestKind.SUBMIT):
            pass
    async with rate_limiter.let_out(RequestKind.SUBMIT):
        assert anyio.current_time() == START_S
    with rate_limiter.limited_to(0.1):
        async with rate_limiter.let_out(RequestKind.SUBMIT):
            assert anyio.current_time() - START_S == pytest.approx(10.0, abs=0.1)


@pytest.mark.anyio
async def test_a_limit_that_ends_lets_go_who_waits_for_it(rate_limiter: RateLimiter) -> None:
    """Another run's, which ends while this one waits."""
    async with anyio.create_task_group() as tasks:
        passed = Passed(rate_limiter, tasks)
        with rate_limiter.limited_to(0.001):
            passed.send(RequestKind.SUBMIT, 2)
            await anyio.sleep(5.0)
    assert passed.times == [0.0, 5.0]


@pytest.mark.anyio
async def test_a_pause_as_long_as_is_waited_for_is_waited_for(rate_limiter: RateLimiter) -> None:
    """What the API named is compared, not what we add so that not all come at once."""
    rate_limiter.note_unavailable(RequestKind.SUBMIT, named(600.7), asked_s=600.0)
    async with rate_limiter.let_out(RequestKind.SUBMIT, max_wait_s=600.0):
        assert anyio.current_time() - START_S == pytest.approx(600.7)
