"""Faults on demand: each alone, all together, and the words of the command line."""

import json
import re
from collections import Counter
from typing import Any

import aiohttp
import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.sandbox.faults import PROBABILITIES, SET_ALONE
from tests.sandbox.caller import Clock, addresses, calling


async def test_rate_limit_with_and_without_retry_after() -> None:
    """429, some of which name the seconds to wait."""
    plan = FaultPlan(rate_limit=1, rate_limit_bare=0.5, retry_after_s=7)
    async with calling(SandboxServer(faults=plan)) as caller:
        answers = [await caller.post({}) for _ in range(40)]
        assert {answer.status for answer in answers} == {429}
        assert {answer.headers.get("Retry-After") for answer in answers} == {"7", None}
        assert caller.sandbox.stats.faults == {"rate_limit": 40}
        assert caller.sandbox.stats.refusals == {429: 40}


async def test_server_errors_of_every_kind() -> None:
    """500, 502, 503 and 504, with JSON and with nothing; no job is accepted."""
    async with calling(SandboxServer(faults=FaultPlan(server_error=1))) as caller:
        data = {"locations": addresses(1), "sources": ["PG"]}
        answers = [await caller.post(data) for _ in range(60)]
        assert {answer.status for answer in answers} == {500, 502, 503, 504}
        assert {bool(answer.body) for answer in answers} == {True, False}
        assert all(answer.message for answer in answers if answer.body)
        assert caller.sandbox.stats.jobs_accepted == 0


async def test_html_error_pages() -> None:
    """502 and 503 with a page that is no JSON."""
    async with calling(SandboxServer(faults=FaultPlan(html_error=1))) as caller:
        answers = [await caller.get("/api/v1/limits") for _ in range(20)]
        assert {answer.status for answer in answers} == {502, 503}
        for answer in answers:
            assert answer.headers["Content-Type"].startswith("text/html")
            assert answer.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("number", [1, 5000])
async def test_drop_closes_the_connection_without_an_answer(number: int) -> None:
    """Small and large submissions end in a connection error; no job is accepted."""
    data = {"locations": addresses(number), "sources": ["PG"]}
    async with calling(SandboxServer(faults=FaultPlan(drop=1))) as caller:
        for _ in range(10):
            with pytest.raises(aiohttp.ClientConnectionError):
                await caller.post(data)
        assert caller.sandbox.stats.faults == {"drop": 10}
        assert caller.sandbox.stats.jobs_accepted == 0
        assert caller.sandbox.stats.connections == 10
        assert not caller.sandbox.stats.refusals


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize("number", [1, 500])
async def test_cut_output_breaks_in_the_middle(clock: Clock, coding: str, number: int) -> None:
    """The download starts well and ends in an error, small or large, compressed or not."""
    async with calling(SandboxServer(clock=clock, faults=FaultPlan(cut_output=1))) as caller:
        url = await caller.finished_url(clock, number)
        got = bytearray()

        async def read_all() -> None:
            async for piece in response.content.iter_any():
                got.extend(piece)

        async with caller.session.get(url, headers={"Accept-Encoding": coding}) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await read_all()
        assert got.startswith(b'{"row-0": {')
        assert caller.sandbox.stats.faults == {"cut_output": 1}
        assert caller.sandbox.stats.outputs_served == 0


@pytest.mark.parametrize("number", [1, 2, 100])
async def test_corrupt_output_is_complete_but_broken(clock: Clock, number: int) -> None:
    """The HTTP answer ends as it should; its JSON is broken, by a hole or by its end."""
    plan = FaultPlan(corrupt_output=1)
    async with calling(SandboxServer(clock=clock, faults=plan)) as caller:
        url = await caller.finished_url(clock, number)
        ends = set()
        for _ in range(20):
            answer = await caller.get(url)
            assert answer.status == 200
            with pytest.raises(json.JSONDecodeError):
                json.loads(answer.body)
            ends.add(answer.body[-1:] == b"}")
        assert ends == {True, False}
        assert caller.sandbox.stats.faults == {"corrupt_output": 20}


async def test_failed_jobs_fail_in_two_ways(clock: Clock) -> None:
    """Some by the status of the request, half-way; some by that of the result. No output."""
    async with calling(SandboxServer(clock=clock, faults=FaultPlan(failed_job=1))) as caller:
        jobs = [await caller.submit(addresses(10)) for _ in range(20)]
        clock.advance(100)
        ways = set()
        for job_id in jobs:
            answer = await caller.status(job_id)
            result = answer.get("result", {})
            done = answer["request"]["num_completed"]
            ways.add((answer["request"]["status"], done, result.get("status")))
            assert "outputs" not in result
            path = f"/api/v1/sov/{job_id}/output/bulk_enhance_{job_id}.json"
            assert (await caller.get(path)).status == 404
        assert ways == {("FAILED", 5, None), ("COMPLETE", 10, "FAILED")}
        assert caller.sandbox.stats.faults == {"failed_job": 20}


async def test_slow_answers_wait_first() -> None:
    """A slow answer waits for slow_answer_s and is then an ordinary one."""
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    plan = FaultPlan(slow_answer=1, slow_answer_s=12.5)
    async with calling(SandboxServer(faults=plan, sleep=sleep)) as caller:
        assert (await caller.get("/api/v1/limits")).status == 200
        assert waits == [12.5]
        assert caller.sandbox.stats.faults == {"slow_answer": 1}


async def test_the_statistics_have_no_faults() -> None:
    """What a test looks at is always served, and not counted."""
    async with calling(SandboxServer(faults=FaultPlan.all(1))) as caller:
        answer = await caller.get("/sandbox/stats")
        assert answer.json["requests"] == {"submit": 0, "status": 0, "output": 0, "other": 0}
        assert answer.json["faults"] == {}


async def outcomes(seed: int) -> list[int]:
    plan = FaultPlan(rate_limit=0.2, server_error=0.2, html_error=0.2)
    async with calling(SandboxServer(faults=plan, seed=seed)) as caller:
        return [(await caller.get("/api/v1/limits")).status for _ in range(60)]


async def test_the_seed_repeats_the_faults() -> None:
    """The same seed gives the same faults, another one others; trying again can succeed."""
    first = await outcomes(1)
    assert first == await outcomes(1)
    assert first != await outcomes(2)
    assert 10 < first.count(200) < 50


async def test_all_faults_at_once_are_survived_by_trying_again(clock: Clock) -> None:
    """With every fault at 10 % a stubborn caller gets everything in the end."""

    async def sleep(_seconds: float) -> None:
        pass

    sandbox = SandboxServer(clock=clock, faults=FaultPlan.all(0.1), seed=3, sleep=sleep)
    async with calling(sandbox) as caller:

        async def stubborn(method: str, path: str, **options: Any) -> Any:
            """What is answered in the end; None for what is not there."""
            while True:
                try:
                    answer = await caller._ask(method, path, **options)
                    if answer.status < 400:
                        return answer.json
                    if answer.status == 404:
                        return None
                except (aiohttp.ClientError, ValueError, RecursionError):
                    pass

        data = json.dumps({"locations": addresses(5), "sources": ["PG"]}).encode()
        whole = 0
        while whole < 20 or set(sandbox.stats.faults) != set(PROBABILITIES):
            job = await stubborn("POST", "/api/v1/bulk_enhance", data=data)
            if not job.get("id"):
                continue
            clock.advance(100)
            status = await stubborn("GET", f"/api/v1/bulk_enhance/{job['id']}")
            if status and status.get("result", {}).get("status") == "SUCCESS":
                body = await stubborn("GET", status["result"]["outputs"][0]["url"]) or {}
                is_whole = list(body) == [place["id"] for place in addresses(5)]
                whole += is_whole and all(place.get("PG") for place in body.values())
        assert isinstance(sandbox.stats.faults, Counter)


def test_all_sets_every_probability() -> None:
    """all() sets the faults that can be overcome; shares, seconds and the others stay."""
    plan = FaultPlan.all(0.05)
    assert {getattr(plan, name) for name in SET_ALONE} == {0}
    assert {getattr(plan, name) for name in PROBABILITIES} == {0.05}
    assert plan.rate_limit_bare == FaultPlan().rate_limit_bare
    assert plan.slow_answer_s == FaultPlan().slow_answer_s


def test_parse_reads_the_words_of_the_command_line() -> None:
    """What is named keeps its own value, wherever ``all`` stands; dashes do as well."""
    words = ["rate-limit=0.5", "all=0.02", "retry_after_s=3", "slow_answer_s=0.5"]
    words += ["poison=Bad Street=1", "poison-job=JOB", "max_locations=7", "bomb=0.1"]
    expected = FaultPlan.parse([*reversed(words)])
    plan = FaultPlan.parse(words)
    assert plan == expected
    assert (plan.rate_limit, plan.drop, plan.failed_job) == (0.5, 0.02, 0.02)
    assert (plan.retry_after_s, plan.slow_answer_s) == (3, 0.5)
    assert (plan.poison, plan.poison_job, plan.max_locations) == ("Bad Street=1", "JOB", 7)
    assert plan.bomb == 0.1
    assert FaultPlan.parse([]) == FaultPlan()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rate=0.5", "there is no fault called 'rate'; there are: rate_limit, rate_limit_bare,"),
        ("", "there is no fault called ''"),
        ("drop", "drop needs a number, as in drop=1, not nothing"),
        ("drop=often", "drop needs a number, as in drop=1, not 'often'"),
        ("retry_after_s=0.5", "retry_after_s needs a whole number"),
        ("max_locations=2.5", "max_locations needs a whole number, as in max_locations=1"),
        ("poison=", "poison needs a text, as in poison=WORD, not ''"),
        ("poison", "poison needs a text, as in poison=WORD, not nothing"),
        ("all=", "all needs a number, as in all=1, not ''"),
        ("endless=2", "endless is a probability from 0 to 1, not 2.0"),
        ("max_locations=-1", "max_locations must be at least 0, not -1"),
        ("max_locations_status=500", "max_locations_status must be 400 or 413, not 500"),
        ("drop=1.5", "drop is a probability from 0 to 1, not 1.5"),
        ("all=-1", "rate_limit is a probability from 0 to 1, not -1.0"),
        ("drop=nan", "drop is a probability from 0 to 1, not nan"),
        ("slow_answer_s=inf", "slow_answer_s is a time in seconds and cannot be inf"),
        ("retry_after_s=-1", "retry_after_s must be at least 0, not -1"),
    ],
)
def test_parse_says_what_is_wrong(word: str, message: str) -> None:
    """A word that cannot be read is a ValueError that names it."""
    with pytest.raises(ValueError, match=re.escape(message)):
        FaultPlan.parse([word])
