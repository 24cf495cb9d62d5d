"""Faults that cost money or try the reader: lost jobs and answers, gaps, poison, hostile bodies."""

import gzip
import json
import zlib
from collections import Counter
from typing import Any

import aiohttp
import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.sandbox.answers import NO_MATCH
from pingdata_async.sandbox.downloads import BOMB_BYTES, DEPTH, bomb_body
from tests.sandbox.caller import Answer, Caller, Clock, addresses, calling


def faulty(
    clock: Clock, seed: int = 0, locations_per_s: float = 500.0, **faults: Any
) -> SandboxServer:
    return SandboxServer(
        clock=clock,
        seed=seed,
        locations_per_s=locations_per_s,
        no_match_share=0.0,
        faults=FaultPlan(**faults),
    )


async def post(caller: Caller, locations: list[dict[str, Any]]) -> Answer:
    return await caller.post({"locations": locations, "sources": ["PG", "PH"]})


async def output_of(caller: Caller, clock: Clock, number: int = 50) -> tuple[str, bytes]:
    url = await caller.finished_url(clock, number)
    return url, (await caller.get(url)).body


async def test_lost_answers_are_charged(clock: Clock) -> None:
    """The job is made and counted, though its caller sees no id, in five ways."""
    async with calling(faulty(clock, lost_answer=1)) as caller:
        ways: Counter[str] = Counter()
        for _ in range(60):
            try:
                answer = await post(caller, addresses(3))
            except aiohttp.ClientConnectionError:
                ways["closed"] += 1
                continue
            ways[str(answer.status)] += 1
            if answer.status < 300:
                assert not answer.body or not answer.json.get("id")
        assert set(ways) == {"closed", "500", "502", "504", "201"}
        stats = caller.sandbox.stats
        assert stats.faults == {"lost_answer": 60}
        assert (stats.jobs_accepted, stats.locations_accepted) == (60, 180)
        assert stats.locations_accepted_more_than_once == 177


async def test_lost_jobs_are_forgotten(clock: Clock) -> None:
    """Some at once, some on their way, some when done or told; of those the output stays."""
    async with calling(faulty(clock, lost_job=1, locations_per_s=5)) as caller:
        seen: set[tuple[str, ...]] = set()
        for _ in range(60):
            job_id = await caller.submit(addresses(10))
            steps = []
            for _ in range(8):
                answer = await caller.get(f"/api/v1/bulk_enhance/{job_id}")
                known = answer.status == 200
                steps.append(answer.json["request"]["status"] if known else "404")
                clock.advance(0.5)
            path = f"/api/v1/sov/{job_id}/output/bulk_enhance_{job_id}.json"
            has_output = "COMPLETE" in steps
            assert (await caller.get(path)).status == (200 if has_output else 404)
            assert steps[-1] == "404"
            seen.add(tuple(dict.fromkeys(steps)))
        assert ("404",) in seen
        assert ("PENDING", "IN_PROGRESS", "404") in seen
        assert ("PENDING", "IN_PROGRESS", "COMPLETE", "404") in seen
        stats = caller.sandbox.stats
        assert stats.faults == {"lost_job": 60}
        assert stats.jobs_accepted == 60
        assert stats.jobs_in_flight == 0


async def test_missing_locations_mostly_stay_missing(clock: Clock) -> None:
    """Each download of a job lacks about the same ones; those of another job are others."""
    async with calling(faulty(clock, missing_location=0.4)) as caller:
        url, first = await output_of(caller, clock, 200)
        second = (await caller.get(url)).body
        _, other = await output_of(caller, clock, 200)
        a, b, c = (set(json.loads(body)) for body in (first, second, other))
        assert all(100 < len(ids) < 150 for ids in (a, b, c))
        assert 0 < len(a ^ b) < 60 < len(a ^ c)
        assert caller.sandbox.stats.faults["missing_location"] > 60


async def test_gaps_of_sources_stay_within_a_job(clock: Clock) -> None:
    """What a source lacks or failed at is the same at each download, other in another job."""
    async with calling(faulty(clock, missing_source=0.2, source_trouble=0.3)) as caller:
        url, first = await output_of(caller, clock, 100)
        assert (await caller.get(url)).body == first
        _, other = await output_of(caller, clock, 100)
        assert other != first
        output = json.loads(first)
        assert len(output) == 100
        kinds = Counter(len(answers) for answers in output.values())
        assert set(kinds) == {0, 1, 2}


async def test_source_trouble_looks_passing_and_adds_up(clock: Clock) -> None:
    """Failures of 429, 500, 503 and 504, never of "no match"; the job's counts know of them."""
    async with calling(faulty(clock, source_trouble=0.3, missing_source=0.1)) as caller:
        status = await caller.finished(clock, 200)
        url = status["result"]["outputs"][0]["url"]
        output = (await caller.get(url)).json
        answers = [answer for location in output.values() for answer in location.values()]
        failed = [answer for answer in answers if not answer["is_success"]]
        assert {answer["status_code"] for answer in failed} == {429, 500, 503, 504}
        assert NO_MATCH not in {answer["error_message"] for answer in failed}
        assert all(answer["latitude"] is None for answer in failed)
        missing = 400 - len(answers)
        faults = caller.sandbox.stats.faults
        assert faults == {"source_trouble": len(failed), "missing_source": missing}
        assert sum(s["num_fails"] for s in status["result"]["sources"]) == len(failed) + missing
        whole = sum(
            len(location) == 2 and all(answer["is_success"] for answer in location.values())
            for location in output.values()
        )
        assert status["request"]["num_problems"] == 200 - whole


@pytest.mark.parametrize("number", [1, 2, 50])
async def test_wrong_ids(clock: Clock, number: int) -> None:
    """An id too many, one in place of another, one twice with other data."""
    ids = [place["id"] for place in addresses(number)]
    async with calling(faulty(clock, wrong_ids=1)) as caller:
        url, _ = await output_of(caller, clock, number)
        ways = set()
        for _ in range(30):
            pairs = json.loads((await caller.get(url)).body, object_pairs_hook=list)
            got = [key for key, _ in pairs]
            unsent = [key for key in got if key not in ids]
            repeated = [key for key, times in Counter(got).items() if times > 1]
            ways.add((len(got) - number, len(unsent), len(repeated)))
            for key in repeated:
                first, second = (value for name, value in pairs if name == key)
                assert first != second
        assert ways == {(1, 1, 0), (0, 1, 0), (1, 0, 1)}


@pytest.mark.parametrize("number", [1, 50])
async def test_hostile_texts(clock: Clock, number: int) -> None:
    """A text that is no UTF-8, a list too deep for any reader; both as whole HTTP answers."""
    async with calling(faulty(clock, invalid_utf8=1)) as caller:
        _, body = await output_of(caller, clock, number)
        assert len(json.loads(body.decode("latin-1"))) == number
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    async with calling(faulty(clock, deep_nesting=1)) as caller:
        _, body = await output_of(caller, clock, number)
        deep = b"[" * DEPTH + b"]" * DEPTH
        assert deep in body
        assert len(json.loads(body.replace(deep, b"1"))) == number


async def test_odd_filenames_have_working_urls(clock: Clock) -> None:
    """The name of the output is a trap; its url is not."""
    async with calling(faulty(clock, odd_filename=1)) as caller:
        names = set()
        for _ in range(20):
            output = (await caller.finished(clock, 1))["result"]["outputs"][0]
            names.add(output["filename"])
            assert len((await caller.get(output["url"])).json) == 1
        assert "../../../../etc/passwd" in names
        assert len(names) > 3


async def test_bombs_are_small_on_the_wire(clock: Clock) -> None:
    """A few MB of gzip, whatever the client accepts."""
    async with calling(faulty(clock, bomb=1)) as caller:
        url = await caller.finished_url(clock)
        headers = {"Accept-Encoding": "identity"}
        answer = await caller.get(url, headers=headers, auto_decompress=False)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.body) < 4_000_000
        assert b"".join(bomb_body()) == answer.body
        start = zlib.decompressobj(31).decompress(answer.body, 1000)
        assert start == b"{" + b" " * 999
        assert caller.sandbox.stats.faults == {"bomb": 1}


def test_bombs_are_sound_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is refused for its size, not for a mistake: checksum and length are right."""
    monkeypatch.setattr("pingdata_async.sandbox.downloads.BOMB_BYTES", 3 << 20)
    assert json.loads(gzip.decompress(b"".join(bomb_body()))) == {}
    assert BOMB_BYTES == 2 << 30


async def test_endless_outputs(clock: Clock) -> None:
    """An output goes on after what there is to say, and the server survives being left."""
    async with calling(faulty(clock, endless=1)) as caller:
        url = await caller.finished_url(clock, 1)
        async with caller.session.get(url) as response:
            assert "Content-Encoding" not in response.headers
            body = await response.content.readexactly(8 << 20)
        assert list(json.loads(body + b"}")) == ["row-0"]
        assert (await caller.get("/api/v1/limits")).status == 200


async def test_poison_refuses_the_whole_request(clock: Clock) -> None:
    """One poisoned location and nothing is accepted or charged; the message names nothing."""
    places = addresses(10)
    places[3]["address"] = "3 POISON Street, Springfield, IL 62701"
    places[4] = {"id": "line", "address_line_1": "4 POISON Street", "city": "Springfield"}
    async with calling(faulty(clock, poison="POISON")) as caller:
        for some in (places, places[3:4], places[4:5]):
            answer = await post(caller, some)
            assert (answer.status, answer.json) == (400, {"message": "invalid location in request"})
        assert (await post(caller, places[:3] + places[5:])).status == 201
        assert caller.sandbox.stats.faults == {"poison": 3}
        assert caller.sandbox.stats.locations_accepted == 8


async def test_poisoned_jobs_always_fail(clock: Clock) -> None:
    """A request with such a location is accepted; its job ends FAILED, the others do not."""
    places = addresses(4)
    places[2]["address"] = "3 JOBPOISON Street, Springfield, IL 62701"
    async with calling(faulty(clock, poison_job="JOBPOISON")) as caller:
        for some, fails in ((places, True), (places[:2], False), (places[2:3], True)) * 3:
            job_id = await caller.submit(some)
            clock.advance(100)
            answer = await caller.status(job_id)
            ends = {answer["request"]["status"], answer.get("result", {}).get("status")}
            assert ("FAILED" in ends) is fails
        assert caller.sandbox.stats.faults == {"poison_job": 6}


@pytest.mark.parametrize("status", [413, 400])
async def test_more_locations_than_are_taken(clock: Clock, status: int) -> None:
    """One above the limit is refused, with the status of choice."""
    plan = {"max_locations": 5, "max_locations_status": status}
    async with calling(faulty(clock, **plan)) as caller:
        assert (await post(caller, addresses(6))).status == status
        assert (await post(caller, addresses(5))).status == 201
        assert caller.sandbox.stats.faults == {"max_locations": 1}


async def test_everything_rejected(clock: Clock) -> None:
    """A share of submissions is refused with the message of choice; nothing is charged."""
    plan: dict[str, Any] = {"reject_all": 0.5, "reject_message": "source XX is closed"}
    async with calling(faulty(clock, **plan)) as caller:
        answers = [await post(caller, addresses(1)) for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 400]
        assert {answer.message for answer in refused} == {"source XX is closed"}
        assert 5 < len(refused) < 35
        assert caller.sandbox.stats.faults == {"reject_all": len(refused)}
        assert caller.sandbox.stats.jobs_accepted == 40 - len(refused)


async def test_the_same_seed_leaves_the_same_gaps(clock: Clock) -> None:
    """A failure that depends on gaps can be repeated."""

    async def body(seed: int) -> bytes:
        plan = {"missing_location": 0.2, "source_trouble": 0.2}
        async with calling(faulty(clock, seed, **plan)) as caller:
            return (await output_of(caller, clock, 30))[1]

    assert await body(1) == await body(1)
    assert await body(1) != await body(2)
