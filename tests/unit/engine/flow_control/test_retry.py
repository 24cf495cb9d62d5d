"""When things are asked about and tried again: the pure parts, and the queue of what is due."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.engine.flow_control.polling import PollSchedule
from pingdata_async.engine.flow_control.retry import (
    RetryPolicy,
    Verdict,
    judge_question,
    judge_submission,
)
from pingdata_async.engine.scheduler import DelayQueue
from pingdata_async.exceptions import (
    AccessDeniedError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
)
from tests.simulation.virtual_loop import START_S, VirtualLoop


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize(
    "settings",
    [
        {"min_interval_s": 0.0},
        {"min_interval_s": -1.0},
        {"min_interval_s": 2.0, "max_interval_s": 1.0},
        {"max_interval_s": float("nan")},
        {"share_of_age": 0.0},
    ],
    ids=str,
)
def test_a_schedule_that_cannot_work_is_refused(settings: dict[str, float]) -> None:
    """Intervals are positive and in their order."""
    with pytest.raises(ConfigurationError):
        PollSchedule(**settings)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_intervals_grow_with_age_within_their_bounds(age_s: float, older_s: float) -> None:
    """Never below the shortest, never above the longest, never shorter for an older job."""
    schedule = PollSchedule(min_interval_s=0.5, max_interval_s=15.0, share_of_age=0.2)
    younger, older = sorted((age_s, older_s))
    assert 0.5 <= schedule.next_interval_s(younger) <= schedule.next_interval_s(older) <= 15.0


def test_a_long_job_is_asked_about_seldom_and_seen_soon() -> None:
    """Questions grow with the logarithm of its length; the delay is a share of it at most."""
    schedule = PollSchedule(min_interval_s=0.5, max_interval_s=1e9, share_of_age=0.2)
    for length_s in (10.0, 100.0, 1_000.0, 10_000.0):
        age_s, polls = 0.0, 0
        while age_s < length_s:
            age_s += schedule.next_interval_s(age_s)
            polls += 1
        assert age_s <= length_s * 1.2 + 0.5
        assert polls < 60


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e5), st.integers())
def test_a_delay_is_never_below_what_was_asked_for(
    attempt: int, retry_after_s: float | None, seed: int
) -> None:
    """Retry-After wins, and is exceeded by a second at most; otherwise the ceiling holds."""
    delay_s = RetryPolicy().delay_s(attempt, retry_after_s, random.Random(seed))
    if not retry_after_s:  # 0 asks for nothing
        assert 0.25 <= delay_s <= 30.0
    else:
        assert retry_after_s <= delay_s <= retry_after_s + 1.0


V = Verdict
REFUSED = TransportError("", maybe_sent=False)
LOST = TransportError("", maybe_sent=True)


@pytest.mark.parametrize(
    ("error", "after_post", "after_get"),
    [
        (REFUSED, V.RETRY, V.RETRY),
        (LOST, V.IN_DOUBT, V.RETRY),
        (RateLimitError("", status_code=429), V.RETRY, V.RETRY),
        (ServerError("", status_code=503), V.RETRY, V.RETRY),
        (ServerError("", status_code=500), V.IN_DOUBT, V.RETRY),
        (ServerError("", status_code=502), V.IN_DOUBT, V.RETRY),
        (ServerError("", status_code=504), V.IN_DOUBT, V.RETRY),
        (DecodeError(), V.IN_DOUBT, V.RETRY),
        (NotFoundError("", status_code=404), V.STOP, V.UNKNOWN_JOB),
        (RequestRejectedError("", status_code=400), V.REJECTED, V.RETRY),
        (RequestRejectedError("", status_code=408), V.RETRY, V.RETRY),
        (AuthenticationError("", status_code=401), V.NO_ACCESS, V.NO_ACCESS),
        (AccessDeniedError("", status_code=403), V.NO_ACCESS, V.RETRY),
        (QuotaExceededError("", status_code=403), V.STOP, V.RETRY),
        (ClientClosedError(), V.STOP, V.STOP),
    ],
    ids=lambda value: str(getattr(value, "status_code", "")) or type(value).__name__,
)
def test_what_an_error_means_depends_on_what_was_asked(
    error: PingDataError, after_post: Verdict, after_get: Verdict
) -> None:
    """A lost POST is in doubt, a lost GET is not."""
    assert (judge_submission(error), judge_question(error)) == (after_post, after_get)


# -- the queue ---------------------------------------------------------------------------


async def test_items_come_when_they_are_due_and_in_that_order() -> None:
    """Not before their time, the earliest first, equals in the order in which they came."""
    queue = DelayQueue[str]()
    now = anyio.current_time()
    for item, due in (("c", 30.0), ("a", 10.0), ("b1", 20.0), ("b2", 20.0), ("past", -5.0)):
        queue.put(item, now + due)
    assert len(queue) == 5
    got = [(await queue.get(), round(anyio.current_time() - now, 6)) for _ in range(5)]
    assert got == [("past", 0), ("a", 10), ("b1", 20), ("b2", 20), ("c", 30)]


async def test_something_due_sooner_wakes_who_waits_for_something_later() -> None:
    """A worker asleep until tomorrow takes what is due in a second."""
    queue = DelayQueue[str]()
    began = anyio.current_time()
    queue.put("tomorrow", began + 86_400)

    async def add() -> None:
        await anyio.sleep(1)
        queue.put("soon", began + 2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add)
        assert await queue.get() == "soon"
    assert anyio.current_time() == pytest.approx(began + 2)


async def test_whoever_is_cancelled_while_waiting_takes_nothing() -> None:
    """An item goes to somebody else, whichever of the waiting workers is cancelled."""
    for victim in range(3):
        queue = DelayQueue[str]()
        got: list[str] = []
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def work(
            scope: anyio.CancelScope, queue: DelayQueue[str] = queue, got: list[str] = got
        ) -> None:
            with scope:
                got.append(await queue.get())

        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(work, scope)
            await anyio.wait_all_tasks_blocked()
            queue.put("a", anyio.current_time() + 1)
            queue.put("b", anyio.current_time() + 2)
            await anyio.sleep(0.5)
            scopes[victim].cancel()
        assert got == ["a", "b"]


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 5))
def test_every_item_is_given_once(delays: list[float], workers: int) -> None:
    """However many workers wait, each item goes to one of them, at its time."""

    async def main() -> None:
        queue = DelayQueue[int]()
        got: dict[int, float] = {}

        async def work() -> None:
            while True:
                item = await queue.get()
                assert item not in got
                got[item] = anyio.current_time() - START_S

        async with anyio.create_task_group() as tasks:
            for _ in range(workers):
                tasks.start_soon(work)
            for item, delay in enumerate(delays):
                queue.put(item, START_S + delay)
            await anyio.sleep(200)
            tasks.cancel_scope.cancel()
        assert got == {item: pytest.approx(delay) for item, delay in enumerate(delays)}

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})
