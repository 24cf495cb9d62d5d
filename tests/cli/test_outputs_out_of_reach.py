"""The real command against a server whose outputs cannot be had, or cannot be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.servers import raw_server
from tests.raw_api import RawApi, Write, answer, enhance, well

IMPATIENT = ("--give-up-after", "1", "--chunk-size", "3")
FORBIDDEN = answer(b"<Error>AccessDenied</Error>", status=b"403 Forbidden")


def says(whole: bytes) -> Write:
    """The same bytes each time, whatever was asked."""

    async def write(writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(whole)

    return write


def in_an_unknown_encoding(body: bytes) -> bytes:
    return answer(body, b"Content-Encoding: br")


def as_text(body: bytes) -> bytes:
    return answer(b"oh, " + body)


def only_of_the_first_rows(spoil: Callable[[bytes], bytes]) -> Write:
    """An output is spoilt where it holds row 0."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(spoil(body) if '"0"' in body.decode() else answer(body))

    return write


@pytest.mark.parametrize(
    "refusal",
    [
        FORBIDDEN,
        answer(b"", status=b"401 Unauthorized"),
    ],
    ids=["403", "401 of another origin"],
)
async def test_outputs_that_are_refused(refusal: bytes, tmp_path: Path) -> None:
    """The run stops, says which job it is, and keeps all; given again, it pays for nothing."""
    storage_api = RawApi(write_output=(only_of_the_first_rows(lambda _body: refusal),))
    async with raw_server(storage_api) as storage:
        api = RawApi(
            write_output=(says(answer(b"", status=b"404 Not Found")),),
            output_url=storage.url + "/api/v1/sov/{job}/output/o.json?sig=1",
        )
        storage_api._jobs = api._jobs
        async with raw_server(api) as server:
            done = await enhance(
                server.url, tmp_path, *IMPATIENT,
                policy={"late_after_s": 0.2, "forgotten_after_s": 0.1},
            )  # fmt: skip
            assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
            assert "no way leads to output 'o.json' of job job-" in done.err
            assert "Traceback" not in done.err
            storage_api._writers["output"] = (well,)
            done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/api/v1/sov/{job}/output/o.json",
        "http://user:password@127.0.0.1:1/{job}/output/o.json",
        "http://[",
    ],
)
async def test_urls_that_are_of_no_use(url: str, tmp_path: Path) -> None:
    """The documented paths lead to the output all the same."""
    api = RawApi(output_url=url)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err
    assert {target for target in api.targets if "/output/" in target} == {
        f"/api/v1/sov/job-{number}/output/o.json" for number in range(2)
    }


@pytest.mark.parametrize("spoil", [in_an_unknown_encoding, as_text])
async def test_an_output_that_can_never_be_read(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Its rows fail, with the job and what came; `retry` fetches it again, and pays nothing."""
    api = RawApi(write_output=(only_of_the_first_rows(spoil),))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.statuses) == (3, ["failed"] * 3 + ["ok"] * 3), done.err
        assert [row.get("reason") for row in done.rows[:3]] == ["unreadable"] * 3
        assert "the output of job job-" in done.rows[0]["error"]
        where = Path(done.rows[0]["error"].rpartition("kept in ")[2])
        whole = where.read_bytes()
        assert set(json.loads(whole.removeprefix(b"oh, "))) == {"0", "1", "2"}
        assert api.charged == 6
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, "-u", server.url, command="retry")
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


@pytest.mark.parametrize("spoil", [in_an_unknown_encoding, as_text])
async def test_outputs_none_of_which_can_be_read(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """No row fails: the run stops with the job and what came, and goes on without paying."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(spoil(body))

    api = RawApi(write_output=(write,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
        assert "the output of job job-" in done.err
        assert sorted((tmp_path / "out.jsonl.run" / "spool").rglob("*.unreadable-0"))
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_outputs_none_of_which_can_ever_be_read(tmp_path: Path) -> None:
    """What stopped the run once fails its rows the next time; asking again pays for nothing."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(as_text(body))

    api = RawApi(write_output=(write,))
    async with raw_server(api) as server:
        assert (await enhance(server.url, tmp_path, *IMPATIENT)).code == 5
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.statuses) == (3, ["failed"] * 6), done.err
        assert {row["reason"] for row in done.rows} == {"unreadable"}
        done = await enhance(server.url, tmp_path, "-u", server.url, command="retry")
        assert (done.code, done.statuses, api.charged) == (3, ["failed"] * 6, 6), done.err
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, "-u", server.url, command="retry")
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_a_job_that_the_api_forgets(tmp_path: Path) -> None:
    """Status and output unknown for as long as patience lasts: then it is sent again, once."""
    gone = says(answer(b"{}", status=b"404 Not Found"))
    api = RawApi(write_status=(*[gone] * 3, well))

    async def status(writer: asyncio.StreamWriter, body: bytes) -> None:
        await (gone if b"job-0/" in body else well)(writer, body)

    api._writers["status"] = (status,)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 9), done.err


@pytest.mark.parametrize("count", ["9" * 400, "9" * 5000, "1e400"])
async def test_counts_that_are_none(count: str, tmp_path: Path) -> None:
    """They are not known, and that is all."""

    async def status(writer: asyncio.StreamWriter, body: bytes) -> None:
        says = body.replace(b'"COMPLETE"', f'"COMPLETE","num_completed":{count}'.encode(), 1)
        dates = b'"requested_at":"99999-01-01T00:00:00Z","completed_at":1e400,'
        writer.write(answer(says.replace(b'"status"', dates + b'"status"', 1)))

    api = RawApi(write_status=(status,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_a_portal_in_the_place_of_the_api(tmp_path: Path) -> None:
    """HTML in answer to submissions: each may have been taken, so there are few."""
    portal = says(answer(b"<html><title>Sign in</title></html>", b"Content-Type: text/html"))
    api = RawApi(write_submission=(portal,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", 1, rows=20)
    assert (done.code, api.counts["submission"]) == (5, 3), done.err
    assert "an HTML page" in done.err
