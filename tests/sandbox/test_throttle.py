"""Limits on requests, jobs and locations, and who did not keep to what it was told."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.sandbox.caller import Answer, Caller, Clock, addresses, calling

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)
SUBMISSION = {"locations": addresses(1), "sources": ["PG"]}


async def asked(caller: Caller, number: int) -> list[int]:
    """The status codes of so many status requests."""
    return [(await caller.get("/api/v1/bulk_enhance/unknown")).status for _ in range(number)]


def date_of(answer: Answer, name: str) -> float:
    return parsedate_to_datetime(answer.headers[name]).timestamp()


async def test_whole_seconds_let_in_as_many_as_is_set(clock: Clock) -> None:
    """Each second of the clock has its own number; the refused ones use up nothing."""
    async with calling(SandboxServer(clock=clock, requests_per_s=3)) as caller:
        clock.advance(0.9)
        assert await asked(caller, 5) == [404, 404, 404, 429, 429]
        clock.advance(0.1)
        assert await asked(caller, 4) == [404, 404, 404, 429]
        assert caller.sandbox.stats.held_back == {"requests_per_s": 3}


async def test_a_bucket_is_filled_evenly(clock: Clock) -> None:
    """It holds a second's worth at most, and a fraction of a request is none."""
    sandbox = SandboxServer(clock=clock, requests_per_s=2.5, rate_window="bucket")
    async with calling(sandbox) as caller:
        assert await asked(caller, 3) == [404, 404, 429]
        clock.advance(0.2)
        assert await asked(caller, 2) == [404, 429]
        clock.advance(0.39)
        assert await asked(caller, 1) == [429]
        clock.advance(0.02)
        assert await asked(caller, 2) == [404, 429]
        clock.advance(100)
        assert await asked(caller, 3) == [404, 404, 429]


async def test_less_than_one_request_a_second_is_possible(clock: Clock) -> None:
    """A bucket of 0.1 a second lets one in every ten seconds."""
    sandbox = SandboxServer(clock=clock, requests_per_s=0.1, rate_window="bucket")
    async with calling(sandbox) as caller:
        assert await asked(caller, 2) == [404, 429]
        clock.advance(10.1)
        assert await asked(caller, 2) == [404, 429]


async def test_the_rate_is_of_all_bulk_requests_and_of_no_other(clock: Clock) -> None:
    """Submissions, polls and downloads share it; the account's own endpoints are free."""
    async with calling(SandboxServer(clock=clock, requests_per_s=3)) as caller:
        job_id = await caller.submit(addresses(1))
        clock.advance(10)
        url = (await caller.status(job_id))["result"]["outputs"][0]["url"]
        assert (await caller.get(url)).status == 200
        await caller.status(job_id)
        assert (await caller.get("/api/v1/limits", headers={})).status == 200
        refused = [await caller.post(SUBMISSION), await caller.get(url)]
        assert [answer.status for answer in refused] == [429, 429]
        assert [answer.headers["Retry-After"] for answer in refused] == ["1", "1"]
        assert refused[0].message == "Request was throttled."
        assert (await caller.get("/api/v1/limits")).status == 200
        assert caller.sandbox.stats.refused == {"submit": 1, "output": 1}
        assert caller.sandbox.stats.jobs_accepted == 1


async def test_a_large_submission_gets_its_refusal() -> None:
    """The caller sees a 429, not a broken connection, though much of its body is on the way."""
    data = {"locations": addresses(10_000), "sources": ["PG"]}
    sandbox = SandboxServer(clock=Clock(), requests_per_s=1, max_jobs_in_flight=1)
    async with calling(sandbox) as caller:
        await asked(caller, 1)
        assert (await caller.post(data)).status == 429


@pytest.mark.parametrize("named", [7, None])
async def test_retry_after_names_the_seconds_that_are_set(clock: Clock, named: int | None) -> None:
    """None leaves the header out, and nobody can come too early then."""
    sandbox = SandboxServer(clock=clock, requests_per_s=1, retry_after_s=named)
    async with calling(sandbox) as caller:
        await asked(caller, 1)
        answer = await caller.get("/api/v1/bulk_enhance/unknown")
        assert answer.headers.get("Retry-After") == (None if named is None else "7")
        clock.advance(1)
        await asked(caller, 1)
        assert caller.sandbox.stats.early == ({} if named is None else {"status": 1})


@pytest.mark.parametrize("skew_s", [0.0, 3600.0, -86_400.25])
async def test_retry_after_can_be_a_date_of_a_skewed_clock(clock: Clock, skew_s: float) -> None:
    """Date and Retry-After are of one clock; their distance is never less than was meant."""
    sandbox = SandboxServer(
        clock=clock,
        wall_clock=lambda: NOON.timestamp() + 0.5,
        requests_per_s=1,
        retry_after_s=3,
        retry_after_form="date",
        date_skew_s=skew_s,
    )
    async with calling(sandbox) as caller:
        first, second = [await caller.get("/api/v1/bulk_enhance/unknown") for _ in range(2)]
        assert date_of(first, "Date") == pytest.approx(NOON.timestamp() + skew_s, abs=1)
        assert second.status == 429
        assert 3 <= date_of(second, "Retry-After") - date_of(second, "Date") <= 4
        # By the true clock it is over at the second that was named, not a moment before.
        left_s = date_of(second, "Retry-After") - skew_s - NOON.timestamp() - 0.5
        assert 3 <= left_s < 4
        clock.advance(left_s - 0.001)
        await asked(caller, 1)
        assert caller.sandbox.stats.early == {"status": 1}
        assert caller.sandbox.stats.longest_lead_s == pytest.approx(0.001, abs=1e-5)
        clock.advance(0.0011)
        await asked(caller, 1)
        assert caller.sandbox.stats.early == {"status": 1}


async def test_outputs_have_the_skewed_date_too(clock: Clock) -> None:
    """Every answer has it, and without a setting it is the machine's own."""
    for skew_s in (0.0, 1e6):
        sandbox = SandboxServer(clock=clock, wall_clock=NOON.timestamp, date_skew_s=skew_s)
        async with calling(sandbox) as caller:
            job_id = await caller.submit(addresses(1))
            clock.advance(100)
            url = (await caller.status(job_id))["result"]["outputs"][0]["url"]
            date_s = date_of(await caller.get(url), "Date")
        expected_s = NOON.timestamp() + 1e6 + 100 if skew_s else time.time()
        assert date_s == pytest.approx(expected_s, abs=5)


async def test_who_comes_too_early_is_counted_by_kind(clock: Clock) -> None:
    """A 429 is for all kinds; those on their way do not count; on time is on time."""
    sandbox = SandboxServer(clock=clock, requests_per_s=1, retry_after_s=2)
    async with calling(sandbox) as caller:
        assert await asked(caller, 2) == [404, 429]
        clock.advance(0.04)
        assert await asked(caller, 1) == [429]
        assert not caller.sandbox.stats.early
        clock.advance(0.96)
        await caller.post(SUBMISSION)
        await caller.get("/api/v1/limits")
        assert caller.sandbox.stats.early == {"submit": 1, "other": 1}
        # The second refusal came 0.04 s after the first and holds for as much longer.
        assert caller.sandbox.stats.longest_lead_s == pytest.approx(1.04)
        clock.advance(1.05)
        assert await asked(caller, 1) == [404]
        assert caller.sandbox.stats.early == {"submit": 1, "other": 1}


async def test_injected_refusals_are_watched_as_well(clock: Clock) -> None:
    """What a fault's Retry-After names binds, too."""
    plan = FaultPlan(rate_limit=1, rate_limit_bare=0, retry_after_s=5)
    async with calling(SandboxServer(clock=clock, faults=plan)) as caller:
        await asked(caller, 1)
        clock.advance(4)
        await asked(caller, 1)
        assert caller.sandbox.stats.early == {"status": 1}
        assert caller.sandbox.stats.refused == {"status": 2}
        assert not caller.sandbox.stats.held_back


@pytest.mark.parametrize("status", [429, 503])
async def test_jobs_above_the_limit_are_refused(clock: Clock, status: Any) -> None:
    """Submissions only, until one has ended; a 503 binds submissions, a 429 all requests."""
    sandbox = SandboxServer(clock=clock, max_jobs_in_flight=2, max_jobs_status=status, job_s=10)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(2)]
        answer = await caller.post(SUBMISSION)
        assert (answer.status, answer.headers["Retry-After"]) == (status, "1")
        assert answer.message == "Too many jobs: 2 are in flight"
        clock.advance(0.5)
        await caller.status(jobs[0])
        assert caller.sandbox.stats.early == ({"status": 1} if status == 429 else {})
        clock.advance(20)
        await caller.submit(addresses(1))
        stats = caller.sandbox.stats
        assert stats.held_back == {"max_jobs_in_flight": 1}
        assert (stats.peak_jobs_in_flight, stats.refused) == (2, {"submit": 1})


async def test_submissions_at_once_cannot_slip_past_the_limit(clock: Clock) -> None:
    """Large ones, which are checked in turns, are still counted one by one."""
    data = {"locations": addresses(2000), "sources": ["PG"]}
    async with calling(SandboxServer(clock=clock, max_jobs_in_flight=3)) as caller:
        answers = await asyncio.gather(*[caller.post(data) for _ in range(8)])
        assert sorted(answer.status for answer in answers) == [201] * 3 + [429] * 5
        assert caller.sandbox.stats.peak_jobs_in_flight == 3


@pytest.mark.parametrize(
    ("window", "hours"),
    [("daily", 12), ("monthly", 36)],
)
async def test_a_quota_is_named_and_renewed(clock: Clock, window: Any, hours: int) -> None:
    """A refusal is all or nothing, names the window, and can say when it ends (UTC)."""
    sandbox = SandboxServer(
        clock=clock,
        wall_clock=NOON.timestamp,
        quota=10,
        quota_window=window,
        quota_retry_after=True,
    )
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(8))
        answer = await caller.post({"locations": addresses(3), "sources": ["PG"]})
        assert answer.status == 429
        assert answer.message == (
            f"The {window} quota of 10 locations is exceeded: 3 asked, 2 left"
        )
        assert int(answer.headers["Retry-After"]) == hours * 3600
        await caller.submit(addresses(2))
        clock.advance(1)
        await caller.status(job_id)
        assert caller.sandbox.stats.held_back == {"quota": 1}
        assert set(caller.sandbox.stats.early) <= {"submit"}
        clock.advance(hours * 3600 - 1.5)
        assert (await caller.post(SUBMISSION)).status == 429
        assert caller.sandbox.stats.early == {"submit": 1}
        clock.advance(0.5)
        await caller.submit(addresses(10))


async def test_a_quota_need_not_say_when(clock: Clock) -> None:
    """By default the message alone names it."""
    async with calling(SandboxServer(clock=clock, quota=1)) as caller:
        await caller.submit(addresses(1))
        answer = await caller.post(SUBMISSION)
        assert answer.status == 429
        assert "daily quota of 1 locations" in answer.message
        assert "Retry-After" not in answer.headers


async def test_what_the_account_refuses_uses_no_quota(clock: Clock) -> None:
    """A submission that is refused for another reason is not counted."""
    sandbox = SandboxServer(clock=clock, quota=1, allowed_sources=["GG"])
    async with calling(sandbox) as caller:
        assert (await caller.post(SUBMISSION)).status == 403
        await caller.submit(addresses(1), "GG")
