"""Jobs: progress by the clock, outputs, both looks of the JSON, retention, the counts."""

import gzip
import json
from datetime import datetime
from typing import Any

import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.sandbox.caller import ADDRESS, Caller, Clock, addresses, calling


async def finished(caller: Caller, clock: Clock, locations: list[dict[str, Any]]) -> Any:
    job_id = await caller.submit(locations, "PG", "PH")
    clock.advance(1000)
    return (await caller.status(job_id))["result"]


async def test_a_job_goes_through_its_states_with_true_counts(clock: Clock) -> None:
    """PENDING, QUEUED, IN_PROGRESS with growing counts, COMPLETE; unknown is null."""
    sandbox = SandboxServer(clock=clock, locations_per_s=10, queue_delay_s=2)
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(100), "PG")
        seen = []
        for step_s in (0, 1, 0.9, 0.1, 5, 4.95, 0.05):
            clock.advance(step_s)
            answer = await caller.status(job_id)
            request = answer["request"]
            seen.append((request["status"], request["num_requested"], request["num_completed"]))
            assert (request["progress_started_at"] is None) == (request["num_completed"] is None)
            assert (request["completed_at"] is None) == (request["status"] != "COMPLETE")
            assert ("result" in answer) == (request["status"] == "COMPLETE")
        assert seen == [
            ("PENDING", None, None),
            ("QUEUED", 100, None),
            ("QUEUED", 100, None),
            ("IN_PROGRESS", 100, 0),
            ("IN_PROGRESS", 100, 50),
            ("IN_PROGRESS", 100, 99),
            ("COMPLETE", 100, 100),
        ]


async def test_dates_tell_when_it_happened(clock: Clock) -> None:
    """The three dates are those of the clock, counted from the wall clock at the start."""
    sandbox = SandboxServer(
        clock=clock, wall_clock=lambda: 1_750_000_000.0, locations_per_s=10, queue_delay_s=2
    )
    async with calling(sandbox) as caller:
        clock.advance(5)
        job_id = await caller.submit(addresses(100), "PG")
        clock.advance(50)
        request = (await caller.status(job_id))["request"]
        names = ("requested_at", "progress_started_at", "completed_at")
        times = [datetime.fromisoformat(request[name]).timestamp() for name in names]
        assert times == pytest.approx([1_750_000_005, 1_750_000_007, 1_750_000_017])


async def test_jobs_wait_for_a_free_worker(clock: Clock) -> None:
    """With two workers the third job is QUEUED until one of them is done."""
    sandbox = SandboxServer(clock=clock, workers=2, locations_per_s=10, queue_delay_s=0)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(number), "PG") for number in (100, 50, 10)]
        clock.advance(4)
        states = [(await caller.status(job))["request"]["status"] for job in jobs]
        assert states == ["IN_PROGRESS", "IN_PROGRESS", "QUEUED"]
        clock.advance(1.5)
        states = [(await caller.status(job))["request"]["status"] for job in jobs]
        assert states == ["IN_PROGRESS", "COMPLETE", "IN_PROGRESS"]


async def test_num_problems_counts_the_locations_that_failed_so_far(clock: Clock) -> None:
    """Where nothing is found, every completed location is a problem, and the tallies say so."""
    sandbox = SandboxServer(clock=clock, no_match_share=1, locations_per_s=10, queue_delay_s=0)
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(10), "PG", "PH")
        clock.advance(0.5)
        assert (await caller.status(job_id))["request"]["num_problems"] == 5
        clock.advance(10)
        answer = await caller.status(job_id)
        assert answer["request"]["num_problems"] == 10
        fails = {tally["source"]: tally["num_fails"] for tally in answer["result"]["sources"]}
        assert fails == {"PG": 10, "PH": 10}


async def test_tallies_agree_with_the_output(clock: Clock) -> None:
    """What the result says of each source is what the output holds."""
    async with calling(SandboxServer(clock=clock, no_match_share=0.2)) as caller:
        result = await finished(caller, clock, addresses(60))
        output = (await caller.get(result["outputs"][0]["url"])).json
        for tally in result["sources"]:
            answers = [sources[tally["source"]] for sources in output.values()]
            durations = [answer["fetch_time"] for answer in answers]
            assert tally["num_fetched"] == 60
            assert tally["num_successes"] == sum(answer["is_success"] for answer in answers)
            assert tally["num_fails"] == 60 - tally["num_successes"] > 0
            assert tally["max_fetch_duration"] == max(durations)
            assert tally["min_fetch_duration"] == min(durations)
            assert tally["total_fetch_duration"] == pytest.approx(sum(durations))
            assert tally["avg_fetch_duration"] == pytest.approx(sum(durations) / 60)


async def test_output_holds_every_location_under_its_id(clock: Clock) -> None:
    """The output has each id once, in order, with the sources asked for and its own address."""
    locations = addresses(50)
    locations[3]["sources"] = ["GG"]
    async with calling(SandboxServer(clock=clock)) as caller:
        result = await finished(caller, clock, locations)
        [output] = result["outputs"]
        assert output["url"].startswith(caller.sandbox.url + "/api/v1/sov/")
        assert output["url"].endswith("/output/" + output["filename"])
        body = (await caller.get(output["url"])).json
        assert list(body) == [location["id"] for location in locations]
        for location in locations:
            expected = location.get("sources", ["PG", "PH"])
            assert list(body[location["id"]]) == expected
            geocoded = body[location["id"]][expected[0]]
            assert geocoded["worker_name"] == "sandbox"
            if geocoded["is_success"]:
                assert location["address"] in geocoded["formatted_address"]


async def test_both_output_paths_need_the_token_and_the_right_name(clock: Clock) -> None:
    """Both documented paths serve the same; a wrong name, a stranger or an early call do not."""
    async with calling(SandboxServer(clock=clock)) as caller:
        job_id = await caller.submit(addresses(3), "PG")
        name = f"bulk_enhance_{job_id}.json"
        paths = [f"/api/v1/{room}/{job_id}/output/{name}" for room in ("sov", "bulk_enhance")]
        assert (await caller.get(paths[0])).status == 404
        clock.advance(100)
        first, second = [await caller.get(path) for path in paths]
        assert first.status == second.status == 200
        assert first.body == second.body
        assert first.headers["Content-Type"] == "application/json"
        for path in paths:
            assert (await caller.get(path + "x")).status == 404
            assert (await caller.get(path, headers={"Authorization": "Bearer x"})).status == 401


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("br", False),
        ("identity", False),
    ],
)
async def test_output_is_compressed_where_that_is_accepted(
    clock: Clock, accepted: str, is_gzip: bool
) -> None:
    """Accept-Encoding decides; the content is the same."""
    async with calling(SandboxServer(clock=clock)) as caller:
        result = await finished(caller, clock, addresses(200))
        url = result["outputs"][0]["url"]
        plain = await caller.get(url, headers={"Accept-Encoding": "identity"})
        async with caller.session.get(
            url, headers={"Accept-Encoding": accepted}, auto_decompress=False
        ) as response:
            body = await response.read()
            assert (response.headers.get("Content-Encoding") == "gzip") == is_gzip
        assert (gzip.decompress(body) if is_gzip else body) == plain.body
        assert len(plain.body) > 5 * len(body) or not is_gzip


async def test_urls_can_be_relative(clock: Clock) -> None:
    """relative_urls leaves scheme and host away."""
    async with calling(SandboxServer(clock=clock, relative_urls=True)) as caller:
        result = await finished(caller, clock, addresses(1))
        url = result["outputs"][0]["url"]
        assert url.startswith("/api/v1/sov/")
        assert (await caller.get(url)).status == 200


async def test_spacing_and_shape_change_nothing_but_the_look(clock: Clock) -> None:
    """Two spacings and two shapes carry the same data."""
    bodies = {}
    results = {}
    for spacing in ("spaced", "compact"):
        for shape in ("list", "object"):
            sandbox = SandboxServer(
                clock=clock,
                wall_clock=lambda: 0.0,
                spacing=spacing,
                shape=shape,
                relative_urls=True,
            )
            async with calling(sandbox) as caller:
                job_id = await caller.submit(addresses(5), "PG")
                clock.advance(100)
                result = (await caller.status(job_id))["result"]
                listed = shape == "list"
                results[spacing, shape] = {
                    name: value[0] if listed and name in {"outputs", "sources"} else value
                    for name, value in result.items()
                    if name != "total_processing_time"
                }
                url = results[spacing, shape]["outputs"]["url"]
                bodies[spacing, shape] = (await caller.get(url)).body
                clock.now_s = 1000.0
    first, *others = results.values()
    assert all(other == first for other in others)
    assert len(set(bodies.values())) == 2
    spaced, compact = bodies["spaced", "list"], bodies["compact", "list"]
    assert json.loads(spaced) == json.loads(compact)
    assert spaced == json.dumps(json.loads(spaced), ensure_ascii=False).encode()
    assert len(compact) < len(spaced)


async def test_jobs_are_forgotten_after_the_retention(clock: Clock) -> None:
    """Status and output answer until retention_s after the end, then 404."""
    sandbox = SandboxServer(clock=clock, retention_s=100, locations_per_s=1, queue_delay_s=0)
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(1), "PG")
        clock.advance(100.5)
        url = (await caller.status(job_id))["result"]["outputs"][0]["url"]
        assert (await caller.get(url)).status == 200
        clock.advance(0.5)
        assert (await caller.get(url)).status == 404
        assert (await caller.get(f"/api/v1/bulk_enhance/{job_id}")).status == 404
        assert (await caller.get("/api/v1/bulk_enhance/never-given")).status == 404


async def test_ids_differ_between_two_starts() -> None:
    """A sandbox started again never gives the id of an earlier job; the seed repeats them."""
    ids = []
    for started_at_s in (1.0, 2.0, 2.0):
        async with calling(SandboxServer(wall_clock=lambda: started_at_s)) as caller:  # noqa: B023 - read at once
            ids.append(await caller.submit(addresses(1)))
    assert ids[0] != ids[1] == ids[2]


async def test_stats_count_what_was_asked(clock: Clock) -> None:
    """Requests, jobs, locations, repetitions, the peak, polls, outputs and refusals."""
    sandbox = SandboxServer(clock=clock, workers=2, locations_per_s=10, queue_delay_s=0)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(number), "PG") for number in (10, 10, 20)]
        changed = [{"id": "row-0", "address": ADDRESS}]
        await caller.submit(changed, "PG")
        await caller.submit(changed, "PH")
        assert sandbox.stats.jobs_in_flight == 5
        clock.advance(100)
        url = (await caller.status(jobs[2]))["result"]["outputs"][0]["url"]
        await caller.get(url)
        await caller.get(url + "x")
        await caller.get("/api/v1/limits")
        await caller.post({"locations": []})
        served = await caller.get("/sandbox/stats", headers={"Authorization": ""})
        assert served.json == sandbox.stats.as_json()
        assert served.json == {
            "seconds": 100,
            "requests": {"submit": 6, "status": 1, "output": 2, "other": 1},
            "refused": {"submit": 0, "status": 0, "output": 0, "other": 0},
            "held_back": {},
            "early": {"submit": 0, "status": 0, "output": 0, "other": 0},
            "longest_lead_s": 0,
            "jobs_accepted": 5,
            "locations_accepted": 42,
            "locations_accepted_more_than_once": 20,
            "jobs_in_flight": 0,
            "peak_jobs_in_flight": 5,
            "jobs_done": 5,
            "last_job_done_s": 3,
            "callbacks": {},
            "polls": 1,
            "outputs_served": 1,
            "refusals": {"404": 1, "400": 1},
            "faults": {},
            "connections": 1,
        }


async def test_peak_counts_jobs_at_once_not_in_all(clock: Clock) -> None:
    """Jobs one after the other have a peak of one."""
    async with calling(SandboxServer(clock=clock)) as caller:
        for _ in range(3):
            await caller.submit(addresses(1))
            clock.advance(100)
        assert caller.sandbox.stats.peak_jobs_in_flight == 1
        assert caller.sandbox.stats.jobs_accepted == 3


async def test_a_snapshot_of_the_stats_stays_as_it_is(clock: Clock) -> None:
    """What is counted later changes neither its numbers nor its sums."""
    async with calling(SandboxServer(clock=clock)) as caller:
        job_id = await caller.submit(addresses(1))
        clock.advance(100)
        before = caller.sandbox.stats
        as_json = before.as_json()
        await caller.status(job_id)
        await caller.get("/api/v1/nowhere")
        assert before.as_json() == as_json != caller.sandbox.stats.as_json()
        assert before.jobs_done == 1


async def test_lost_jobs_are_never_done(clock: Clock) -> None:
    """Who is forgotten before its end is neither in flight nor done."""
    async with calling(SandboxServer(clock=clock, faults=FaultPlan(lost_job=1), seed=1)) as caller:
        jobs = [await caller.submit(addresses(1)) for _ in range(30)]
        clock.advance(100)
        known = [(await caller.get(f"/api/v1/bulk_enhance/{job}")).status for job in jobs]
        stats = caller.sandbox.stats
        assert stats.jobs_done == known.count(200) > 0
        assert (stats.jobs_in_flight, known.count(404)) == (0, 30 - stats.jobs_done)
