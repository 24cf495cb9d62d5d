"""A job by hand, and an output that is at hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from pingdata_async import (
    DecodeError,
    InputError,
    JobFailedError,
    JobTimeoutError,
    Location,
    PingDataClient,
    Reason,
    RowStatus,
    ServerError,
    read_output,
)
from pingdata_async.sandbox import SandboxServer
from tests.support.servers import LocalApi, always, by_path, client_of

LOCATIONS: list[Location | Mapping[str, Any] | str] = [
    {"id": "mine", "address": "600 Dexter Avenue, Montgomery, AL"},
    {"id": "nothing"},
    Location(id="other", city="Boston", state="MA"),
    "1 Main St, Carson City, NV",
]
PG = {"PG": {"is_success": True, "latitude": 1.5}}


@pytest.fixture
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingdata_async.api.job.FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("pingdata_async.api.job.LONGEST_PAUSE_S", 0.01)


@pytest.mark.usefixtures("fast_polls")
async def test_from_submission_to_results() -> None:
    """A result for each location, in order, under the user's own id; charged once."""
    async with (
        SandboxServer(no_match_share=0.0) as sandbox,
        client_of(sandbox.url) as client,
    ):
        job = await client.submit_job(LOCATIONS, sources="PG", check_cache=False)
        assert not (await job.status()).is_failed
        assert (await job.wait(timeout_s=60)).is_finished
        for _ in range(2):
            results = await job.results()
            assert [result.id for result in results] == ["mine", "nothing", "other", None]
            assert [result.row for result in results] == [0, 1, 2, 3]
            failed = results[1]
            assert (failed.status, failed.reason) == (RowStatus.FAILED, Reason.INVALID_INPUT)
            assert results[0]["PG"].latitude
        again = await client.job(job.id).results()
        assert [result.id for result in again] == ["0", "2", "3"]
        assert [result["PG"].latitude for result in again] == [
            result["PG"].latitude for result in results if result.status == "ok"
        ]
        assert sandbox.stats.locations_accepted == 3


async def test_what_cannot_be_one_job() -> None:
    """It is refused before anything is sent."""
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        for locations, sources in (
            ([], "PG"),
            ([{}], "PG"),
            (["1 Main St"], ()),
            ("1 Main St", "PG"),
            (["x" * 90_000] * 1000, "PG"),
        ):
            with pytest.raises(InputError):
                await client.submit_job(locations, sources=sources)
        with pytest.raises(TypeError, match="chek_cache"):
            await client.submit_job(["1 Main St"], sources="PG", chek_cache=False)  # type: ignore[call-arg]  # the test
        assert not api.seen


async def test_slips_that_would_cost_a_worse_answer() -> None:
    """A name that is no field is refused, and a postal code has its leading zero back."""
    bodies: list[Any] = []

    async def submitted(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response({"id": "J"})

    async with LocalApi(submitted) as api, client_of(api.url) as client:
        with pytest.raises(InputError, match="postal_code"):
            await client.submit_job([{"city": "Boston", "zip": "02108"}], sources="PG")
        assert not bodies
        given = {"city": "Boston", "state": "MA", "postal_code": "2108"}
        await client.submit_job(
            [given, Location(city="Boston", state="MA", postal_code="2108")], sources="PG"
        )
    assert [each["postal_code"] for each in bodies[0]["locations"]] == ["02108", "02108"]


@pytest.mark.usefixtures("fast_polls")
async def test_a_job_that_fails() -> None:
    """The API's own words, and the job's id."""
    failed = {
        "request": {"status": "FAILED"},
        "result": {"status": "FAILED", "message": "no such luck"},
    }
    async with LocalApi(always(failed)) as api, client_of(api.url) as client:
        with pytest.raises(JobFailedError, match="job J failed: no such luck") as caught:
            await client.job("J").wait()
        assert caught.value.job_id == "J"


@pytest.mark.usefixtures("fast_polls")
async def test_a_job_that_takes_long() -> None:
    """A time-out leaves it alone, and says so; so does a cancellation."""
    async with (
        LocalApi(always({"request": {"status": "IN_PROGRESS"}})) as api,
        client_of(api.url) as client,
    ):
        with pytest.raises(JobTimeoutError, match="it goes on"):
            await client.job("J").results(timeout_s=0.05)
        with anyio.move_on_after(0.05):
            await client.job("J").wait()
        assert {seen.method for seen in api.seen} == {"GET"}


@pytest.mark.usefixtures("fast_polls")
async def test_questions_that_fail() -> None:
    """A few in a row are asked again; when nothing helps, their error ends the wait."""
    asked = 0

    async def now_and_then(_request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked % 3:
            return web.json_response({}, status=(500, 429)[asked % 2])
        done = {"request": {"status": "COMPLETE"}, "result": {"status": "SUCCESS"}}
        return web.json_response(done if asked > 20 else {"request": {"status": "QUEUED"}})

    async with LocalApi(now_and_then) as api, client_of(api.url) as client:
        assert (await client.job("J").wait()).is_finished
    async with LocalApi(always({}, status=500)) as api, client_of(api.url) as client:
        with pytest.raises(ServerError):
            await client.job("J").wait()
        assert len(api.seen) == 10


@pytest.mark.usefixtures("fast_polls")
async def test_an_output_that_comes_late_or_never() -> None:
    """A job that is complete is asked a few times more."""
    asked = 0

    async def late(_request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        outputs = [{"url": "/o.json"}] if asked > 3 else []
        result = {"status": "SUCCESS", "outputs": outputs}
        return web.json_response({"request": {"status": "COMPLETE"}, "result": result})

    answers = {"/api/v1/bulk_enhance/J": late, "/o.json": always({"x": PG})}
    async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
        assert [result.id for result in await client.job("J").results()] == ["x"]
        asked = -1000
        with pytest.raises(DecodeError, match="job J is complete, but names no output"):
            await client.job("J").results()


async def test_several_outputs_of_another_programs_job() -> None:
    """They are joined, and read under the ids that they were sent with."""
    status = {
        "request": {"status": "COMPLETE"},
        "result": {"status": "SUCCESS", "outputs": [{"url": "/a.json"}, {"url": "/b.json"}]},
    }
    answers = {
        "/api/v1/bulk_enhance/J": always(status),
        "/a.json": always({"x": PG}),
        "/b.json": always({"y": {"PG": {"is_success": False, "error_message": "nothing"}}}),
    }
    async with LocalApi(by_path(answers)) as api, client_of(api.url) as client:
        results = await client.job("J", sources=["PG"]).results()
    assert [(result.id, result.status.value) for result in results] == [
        ("x", "ok"),
        ("y", "failed"),
    ]


def content_of(answers: Any) -> bytes:
    return json.dumps(answers).encode()


def test_an_output_at_hand(tmp_path: Path) -> None:
    """From memory or a file, with ids or the output's own; what it leaves out is a failed row."""
    content = content_of({"b": PG, "a": {"PG": None}, "c": {}})
    path = tmp_path / "output.json"
    path.write_bytes(b"\xef\xbb\xbf" + content)
    for output in (content, path, str(path)):
        results = read_output(output)
        assert [result.id for result in results] == ["b", "a", "c"]
        assert [result.status.value for result in results] == ["ok", "failed", "failed"]
        wanted = read_output(output, ids=["a", "b", "z"], sources="PG")
        assert [(result.id, result.row) for result in wanted] == [("a", 0), ("b", 1), ("z", 2)]
        assert [result.reason for result in wanted][1:] == [None, Reason.MISSING]


def test_an_output_that_holds_a_location_twice() -> None:
    """Nobody knows which answer is right, so neither is believed."""
    content = b'{"a": {"PG": {"is_success": true}}, "a": {"PG": {"is_success": false}}}'
    (result,) = read_output(content)
    assert (result.status, result.reason) == (RowStatus.FAILED, Reason.MISSING)


def test_an_output_with_a_location_that_cannot_be_read() -> None:
    """It alone fails: the other answers are paid for."""
    results = read_output(content_of({"a": PG, "b": [1], "c": "no", "d": None}))
    assert [result.status.value for result in results] == ["ok", "failed", "failed", "failed"]
    assert {result.reason for result in results[1:]} == {Reason.MISSING}


def test_ids_as_one_text() -> None:
    """It is not taken for the ids 1 and 2."""
    with pytest.raises(InputError, match="list of ids"):
        read_output(content_of({"12": PG}), ids="12")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"<html>", b'{"a": 5}', b'{"a"', b'{"a": "\xff"}', gzip.compress(b"{}", mtime=0)],
)
def test_what_is_no_output(content: bytes) -> None:
    """It is a DecodeError."""
    with pytest.raises(DecodeError):
        read_output(content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The system's own error."""
    with pytest.raises(FileNotFoundError):
        read_output(tmp_path / "nothing.json")


async def test_a_job_of_a_closed_client() -> None:
    """It can be made, and asks nothing."""
    job = PingDataClient().job("J")
    assert (job.id, repr(job)) == ("J", "<Job J>")
